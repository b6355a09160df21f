"""The SQL, as prose: one constant a question or a change."""

from __future__ import annotations

AS_A_WRITER = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON")

LOG_LIMIT = "PRAGMA journal_size_limit = {}"

EMPTY_LOG = "PRAGMA wal_checkpoint(TRUNCATE)"

DO_NOT_WAIT = "PRAGMA busy_timeout = 0"

VERSION = "PRAGMA user_version"

QUICK_CHECK = "PRAGMA quick_check(1)"

COPY = "VACUUM INTO ?"

LAST_RUN = """
SELECT state, exit_code FROM runs ORDER BY id DESC LIMIT 1
"""

BEGIN_RUN = """
INSERT INTO runs (started_at, state, source, model, settings) VALUES (?, 'running', ?, ?, ?)
"""

END_RUN = """
UPDATE runs SET state = ?, exit_code = ?, ended_at = ?, counts = ? WHERE id = ?
"""

END_ITEMS = """
UPDATE items SET reason = coalesce(reason, :reason)
WHERE id > :after AND id <= :last AND +run_id = :run_id AND ended_at IS NULL
"""
"""`+run_id`: the items of a run stand one after the other, and are gone through in their order, a few at a time."""

LAST_ITEM = """
SELECT coalesce(max(id), 0) FROM items
"""

ADD_PAGE = """
INSERT INTO pages (url, key, host, state, reason, detail, added_at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET state = excluded.state, reason = excluded.reason, detail = excluded.detail
WHERE excluded.reason IS NOT NULL
"""

ADD_SOURCE = """
INSERT INTO sources (page_id, list, origin, tags) VALUES (?, ?, ?, ?)
ON CONFLICT (page_id, list, origin) DO UPDATE SET tags = excluded.tags
"""

ADD_ITEM = """
INSERT INTO items (run_id, page_id, host, outcome, last_attempt) VALUES (
    :run_id, :page_id, :host, 'waiting', coalesce((SELECT max(id) FROM attempts WHERE page_id = :page_id), 0)
)
ON CONFLICT (run_id, page_id) DO NOTHING
"""

ADD_CHOSEN_ITEM = """
INSERT INTO items (run_id, page_id, host, outcome, last_attempt)
SELECT
    :run_id, id, iif(:fetched, host, 'text ' || (id % 64)), 'waiting',
    coalesce((SELECT max(id) FROM attempts WHERE page_id = pages.id), 0)
FROM pages WHERE id = :page_id
ON CONFLICT (run_id, page_id) DO NOTHING
"""
"""Where no site is asked, `host` spreads the pages over 64 queues: of each, one page is worked on at a time."""

ADD_BAD_ITEM = """
INSERT INTO items (run_id, page_id, host, outcome, reason, started_at, ended_at)
VALUES (?, ?, '', ?, ?, ?, ?)
ON CONFLICT (run_id, page_id) DO NOTHING
"""

PAGE_FETCHED_VALUES = (
    *("page_id", "text_hash", "title", "author", "site", "language", "published"),
    *("final_url", "status", "etag", "last_modified", "time"),
    *("hidden_characters", "canonical", "marks"),
)

PAGE_FETCHED = """
UPDATE pages SET
    state = iif(state = 'summarized' AND text_hash IS :text_hash, state, 'fetched'),
    reason = NULL, detail = '', not_before = NULL, failures = 0,
    title = :title, author = :author, site = :site, language = :language, published = :published,
    hidden_characters = :hidden_characters, canonical = :canonical, marks = :marks,
    final_url = :final_url, http_status = :status, etag = :etag, last_modified = :last_modified,
    fetched_at = :time, changed_at = iif(text_hash IS :text_hash, changed_at, :time), text_hash = :text_hash
WHERE id = :page_id
"""

PAGE_UNCHANGED = """
UPDATE pages SET
    state = iif(:summarized, 'summarized', 'fetched'), reason = iif(:summarized, NULL, 'fetch_only'),
    detail = '', not_before = NULL, failures = 0,
    hidden_characters = coalesce(:hidden_characters, hidden_characters),
    canonical = coalesce(:canonical, canonical), marks = coalesce(:marks, marks),
    etag = coalesce(:etag, etag), last_modified = coalesce(:last_modified, last_modified), fetched_at = :time
WHERE id = :page_id
"""
"""A text that has no summary yet is found unchanged only by who wants no more of it."""

PAGE_SUMMARIZED = """
UPDATE pages SET state = 'summarized', reason = NULL, detail = '', not_before = NULL, failures = 0
WHERE id = ?
"""

PAGE_NOT_DONE = """
UPDATE pages SET
    state = coalesce(:state, state), reason = :reason, detail = :detail,
    http_status = coalesce(:http_status, http_status), not_before = :not_before, failures = :failures,
    marks = coalesce(:marks, marks)
WHERE id = :page_id AND NOT (:by_model AND state = 'summarized')
"""
"""A page that stands as summarized has a summary of its present text: if no other one can be made, it keeps that."""

ADD_CHUNK_SUMMARY = """
INSERT OR IGNORE INTO chunk_summaries VALUES (
    :hash, :recipe, :summary, :tool_calls, :tool_errors, :primed, :prompt_tokens, :output_tokens, :seconds
)
"""

ADD_REDUCE_SUMMARY = """
INSERT OR IGNORE INTO reduce_summaries VALUES (
    :hash, :recipe, :summary, :prompt_tokens, :output_tokens, :seconds
)
"""

ADD_SUMMARY = """
INSERT INTO summaries (
    page_id, text_hash, recipe, summary, key_points, language, method, coverage, flags, chunks,
    prompt_tokens, output_tokens, seconds, created_at
) VALUES (
    :page_id, :text_hash, :recipe, :summary, :key_points, :language, :method, :coverage, :flags, :chunks,
    :prompt_tokens, :output_tokens, :seconds, :created_at
)
"""

ADD_SUMMARY_CHUNK = """
INSERT INTO summary_chunks (summary_id, number, chunk_hash) VALUES (?, ?, ?)
"""

LEAVE_OUT = """
UPDATE summary_chunks SET left_out = ? WHERE summary_id = ? AND number = ?
"""

SINGLE_ANSWER_VALUES = (
    *("recipe", "summary", "tool_calls", "tool_errors", "primed"),
    *("prompt_tokens", "output_tokens", "seconds"),
)

ADD_SINGLE_ANSWER = """
INSERT OR IGNORE INTO chunk_summaries VALUES (
    :hash, :recipe, :summary, :tool_calls, :tool_errors, :primed, :prompt_tokens, :output_tokens, :seconds
)
"""

ADD_RATIO = """
INSERT INTO ratios (model, kind, prompts, highest) VALUES (?, ?, ?, ?)
ON CONFLICT (model, kind) DO UPDATE SET prompts = excluded.prompts, highest = excluded.highest
"""

RATIOS = """
SELECT kind, prompts, highest FROM ratios WHERE model = ?
"""

LAST_CALLS = """
SELECT primed FROM chunk_summaries WHERE recipe = ? AND (tool_errors OR tool_calls) ORDER BY rowid DESC LIMIT ?
"""

HOST_SEEN = """
INSERT INTO hosts VALUES (
    :origin, :host, :robots, :robots_status, :robots_at, :not_before, :pauses, :failures, :reason, :seen_at
)
ON CONFLICT (origin) DO UPDATE SET
    robots = coalesce(excluded.robots, robots), robots_status = coalesce(excluded.robots_status, robots_status),
    robots_at = coalesce(excluded.robots_at, robots_at),
    not_before = excluded.not_before, pauses = excluded.pauses, failures = excluded.failures,
    reason = excluded.reason, seen_at = excluded.seen_at
"""

HOST = """
SELECT * FROM hosts WHERE host = ?
"""

LEFT_ALONE = """
SELECT host, max(not_before) AS not_before, max(failures) AS failures, max(reason) AS reason
FROM hosts WHERE not_before > ? OR failures >= ? GROUP BY host ORDER BY host LIMIT ?
"""

ADD_ATTEMPT = """
INSERT INTO attempts (run_id, page_id, stage, code, detail, started_at, ended_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

END_ITEM = """
UPDATE items SET outcome = ?, reason = ?, started_at = ?, ended_at = ? WHERE run_id = ? AND page_id = ?
"""

KILLED_BEFORE = """
SELECT coalesce(min(id), :run_id) FROM runs
WHERE id < :run_id AND id > coalesce((
    SELECT max(id) FROM runs
    WHERE id < :run_id AND NOT (
        exit_code IS NULL AND source = :source AND json_remove(settings, '$.since') = json_remove(:settings, '$.since')
    )
), 0)
"""
"""The first of the runs right before this one that had its errand and its settings, and were killed all of them."""

_HAD_ITS_TURN = """
    FROM items AS killed
    WHERE killed.page_id = items.page_id AND run_id >= :first AND run_id < :run_id
        AND ended_at > :since AND ended_at <= :time AND (
        outcome IN ('failed', 'deferred', 'skipped') AND reason IS NOT 'list' AND killed.started_at IS NOT NULL
        OR :force AND outcome IN ('summarized', 'unchanged')
    )
"""

TAKE_OVER = f"""
UPDATE items SET (outcome, reason, started_at, ended_at) = (
    SELECT
        iif(outcome IN ('summarized', 'unchanged'), 'unchanged', outcome),
        iif(outcome IN ('summarized', 'unchanged'), :done, reason),
        iif(outcome IN ('summarized', 'unchanged'), NULL, started_at),
        ended_at
    {_HAD_ITS_TURN}
    ORDER BY run_id DESC LIMIT 1
)
WHERE id > :after AND id <= :last AND +run_id = :run_id AND ended_at IS NULL AND EXISTS (SELECT 1 {_HAD_ITS_TURN})
"""  # noqa: S608 - both are here
"""`ended_at` stays what it was: a night that is killed again and again does not put its pages off for ever.

A page that is a list is read again: its entries are no pages of this run yet.
"""

SETTLE_FRESH = """
UPDATE items SET outcome = 'unchanged', reason = 'fresh', ended_at = :time
WHERE id > :after AND id <= :last AND +run_id = :run_id AND ended_at IS NULL AND EXISTS (
    SELECT 1 FROM pages
    WHERE pages.id = page_id AND fetched_at > :fresh AND fetched_at <= :time
        AND (state = 'summarized' OR state = 'fetched' AND :texts_only)
)
"""
"""What is to come was written by a clock that was wrong: it would be fresh for years."""

SETTLE_NOT_DUE = """
UPDATE items SET
    outcome = (SELECT state FROM pages WHERE pages.id = page_id), ended_at = :time,
    reason = (SELECT reason FROM pages WHERE pages.id = page_id)
WHERE id > :after AND id <= :last AND +run_id = :run_id AND ended_at IS NULL AND EXISTS (
    SELECT 1 FROM pages
    WHERE pages.id = page_id AND state IN ('failed', 'deferred')
        AND (not_before > :time AND not_before <= :latest OR reason = 'gave_up')
)
"""
"""No pause ends after `:latest`: one that does was written by a clock that was wrong."""

SET_ASIDE = """
UPDATE items SET outcome = 'waiting', reason = 'bug', ended_at = :time
WHERE id > :after AND id <= :last AND +run_id = :run_id AND ended_at IS NULL
    AND (SELECT code FROM attempts WHERE id = last_attempt) = 'bug'
"""
"""A page at which a run ended by a bug may end this one too: it comes when all others are done (`WAKE`)."""

WAITING = """
SELECT count(*) FROM items WHERE run_id = ? AND outcome = 'waiting' AND reason = ?
"""

WAKE = """
UPDATE items SET reason = NULL, ended_at = NULL WHERE run_id = ? AND outcome = 'waiting' AND reason = ?
"""

COUNT_ITEMS = """
SELECT
    CASE
        WHEN reason IS 'fetch_only' THEN 'fetched'
        WHEN started_at IS NULL AND outcome IN ('failed', 'deferred') THEN 'not asked'
        ELSE outcome
    END,
    count(*)
FROM items WHERE run_id = ? GROUP BY 1
"""
"""What failed in an earlier run, and was not to be asked in this one, was not begun in it."""

_IS_A_FAULT = """(
    items.outcome IN ('waiting', 'skipped')
    OR items.outcome IN ('failed', 'deferred') AND items.started_at IS NOT NULL
)"""

FAULT_COUNTS = f"""
SELECT outcome, reason, count(*) FROM items
WHERE run_id = ? AND {_IS_A_FAULT} AND reason NOT IN ('list', 'fetch_only')
GROUP BY outcome, reason
"""  # noqa: S608

FAULTS = f"""
SELECT items.outcome, items.reason, pages.url, pages.detail
FROM items CROSS JOIN pages ON pages.id = items.page_id
WHERE
    items.id > :after AND +items.run_id = :run_id
    AND {_IS_A_FAULT}
    AND items.reason IN (SELECT value FROM json_each(:reasons))
ORDER BY items.id LIMIT :most
"""  # noqa: S608

TO_DO = """
SELECT count(*) FROM items INDEXED BY items_to_do WHERE run_id = ? AND ended_at IS NULL
"""

HOSTS_BETWEEN = """
SELECT DISTINCT host FROM items
WHERE run_id = ? AND ended_at IS NULL AND host > ? AND host < ? ORDER BY host LIMIT ?
"""

LONGEST_WAITING_HOST = """
SELECT host FROM items INDEXED BY items_to_do
WHERE run_id = ? AND ended_at IS NULL ORDER BY last_attempt, host LIMIT 1
"""

TASKS_AFTER = """
SELECT
    items.id AS item_id, pages.id AS page_id, url, pages.host, state, etag, last_modified, text_hash,
    title, author, site, language, published, marks, texts.text,
    EXISTS (
        SELECT 1 FROM summaries
        WHERE summaries.page_id = pages.id AND summaries.text_hash = pages.text_hash
    ) AS summarized,
    (
        SELECT iif(summaries.text_hash = pages.text_hash AND flags NOT LIKE '%"extractive"%', summaries.recipe, '')
        FROM summaries
        WHERE summaries.page_id = pages.id ORDER BY summaries.id DESC LIMIT 1
    ) AS recipe,
    (
        SELECT text_hash FROM summaries WHERE summaries.page_id = pages.id ORDER BY summaries.id DESC LIMIT 1
    ) AS summarized_hash,
    (SELECT json_group_array(json(tags)) FROM sources WHERE sources.page_id = pages.id) AS tags,
    coalesce((SELECT min(list GLOB 'http*://*') FROM sources WHERE sources.page_id = pages.id), 0) AS found
FROM items
JOIN pages ON pages.id = items.page_id
LEFT JOIN texts ON texts.hash = pages.text_hash
WHERE
    items.run_id = :run_id AND items.ended_at IS NULL AND items.host = :host
    AND (items.last_attempt, items.id) > (
        coalesce((SELECT last_attempt FROM items AS last WHERE last.id = :position), -1), :position
    )
ORDER BY items.last_attempt, items.id LIMIT :most
"""
"""A URL is the list only of what was found in a page; one on the command line has another (`command line`, `list:…`).

What has waited longest goes first: pages that were never tried, then those whose last try is the oldest."""

RECALL_MAP = """
SELECT summary, tool_calls, tool_errors, primed, prompt_tokens, output_tokens, seconds
FROM chunk_summaries WHERE chunk_hash = ? AND recipe = ?
"""

RECALL_REDUCE = """
SELECT summary, prompt_tokens, output_tokens, seconds
FROM reduce_summaries WHERE input_hash = ? AND recipe = ?
"""

RECALL_FINAL = """
SELECT summary, key_points, flags FROM summaries
WHERE text_hash = ? AND recipe = ? AND coverage = 1 AND flags NOT LIKE '%"extractive"%' ORDER BY id DESC LIMIT 1
"""

OTHER_RECIPES = """
SELECT count(*) FROM items JOIN pages ON pages.id = items.page_id
WHERE items.run_id = ? AND pages.state = 'summarized' AND NOT EXISTS (
    SELECT 1 FROM summaries
    WHERE summaries.page_id = pages.id AND summaries.text_hash = pages.text_hash
        AND summaries.recipe IN (SELECT value FROM json_each(?))
)
"""

SETTLED_AFTER = """
SELECT id, page_id FROM items
WHERE id > ? AND +run_id = ? AND ended_at IS NOT NULL AND reason IS NOT 'bug' ORDER BY id LIMIT ?
"""
"""Those that are set aside are not settled: their turn is to come."""

RESULT = """
SELECT
    pages.url, pages.state, pages.reason, pages.detail, items.outcome, pages.title, pages.site, pages.final_url,
    pages.fetched_at, summaries.summary, summaries.key_points, summaries.language, summaries.method,
    summaries.coverage, summaries.flags, recipes.model, summaries.created_at AS summarized_at
FROM pages
LEFT JOIN summaries ON summaries.id = (
    SELECT max(id) FROM summaries AS versions WHERE versions.page_id = pages.id
)
LEFT JOIN recipes ON recipes.hash = summaries.recipe
LEFT JOIN items ON items.run_id = ? AND items.page_id = pages.id
WHERE pages.id = ?
"""

LIST = """
SELECT
    pages.url, pages.state, pages.reason, pages.title, summaries.summary
FROM pages
LEFT JOIN summaries ON summaries.id = (
    SELECT max(id) FROM summaries AS versions WHERE versions.page_id = pages.id
)
WHERE :states = '[]' OR pages.state IN (SELECT value FROM json_each(:states))
ORDER BY pages.id
"""

PAGE_OF_KEY = """
SELECT id, url, state, text_hash, (SELECT max(run_id) FROM items WHERE page_id = pages.id) AS run_id
FROM pages WHERE key = ?
"""

FIND_PAGE = """
SELECT id, url, state, text_hash, (SELECT max(run_id) FROM items WHERE page_id = pages.id) AS run_id
FROM pages WHERE url = ? OR final_url = ? ORDER BY id LIMIT 1
"""

REDIRECTED = """
SELECT id, url, state, text_hash, (SELECT max(run_id) FROM items WHERE page_id = pages.id) AS run_id, final_url
FROM pages WHERE final_url <> url ORDER BY id
"""

LETTER = """
SELECT letter FROM search_letters
"""

SEARCH = """
SELECT
    pages.url, pages.state, pages.reason, pages.title, pages.site, pages.fetched_at,
    summaries.summary, summaries.key_points, summaries.language, summaries.created_at AS summarized_at,
    -search.rank AS score,
    highlight(search, 2, char(2), char(3)) AS in_summary,
    highlight(search, 1, char(2), char(3)) AS in_key_points,
    highlight(search, 3, char(2), char(3)) AS in_text
FROM search
JOIN pages ON pages.id = search.rowid
LEFT JOIN summaries ON summaries.id = (
    SELECT max(id) FROM summaries AS versions WHERE versions.page_id = pages.id
)
WHERE search MATCH :query
ORDER BY search.rank
LIMIT :limit
"""

KNOWN = """
SELECT state, reason, fetched_at, not_before FROM pages WHERE key = ?
"""

ABILITY = """
SELECT
    recipes.model,
    count(*) AS answers,
    sum(tool_calls > 0 AND tool_errors = 0) AS right_at_once,
    sum(tool_errors > 0 AND NOT primed) AS after_an_error,
    sum(primed) AS primed
FROM chunk_summaries JOIN recipes ON recipes.hash = chunk_summaries.recipe
GROUP BY recipes.model ORDER BY recipes.model
"""

ALL_RATIOS = """
SELECT coalesce((SELECT recipes.model FROM recipes WHERE recipes.digest = ratios.model), ratios.model) AS model,
    kind, prompts, highest
FROM ratios ORDER BY model, kind
"""

RUNS = """
SELECT id, started_at, ended_at, state, exit_code, source, model, counts FROM runs ORDER BY id DESC LIMIT ?
"""

UNWELL = """
WITH unwell AS (
    SELECT
        pages.url,
        CASE WHEN pages.state IN ('failed', 'deferred') THEN pages.state ELSE 'waiting' END AS state,
        coalesce(
            pages.reason, (SELECT reason FROM items WHERE page_id = pages.id ORDER BY run_id DESC LIMIT 1), ''
        ) AS reason,
        pages.detail,
        coalesce(
            (
                SELECT started_at FROM attempts
                WHERE page_id = pages.id AND id > coalesce(
                    (
                        SELECT max(id) FROM attempts
                        WHERE page_id = pages.id AND code IN ('ok', 'not_modified', 'same_text')
                    ),
                    0
                )
                ORDER BY id LIMIT 1
            ),
            pages.fetched_at,
            pages.added_at
        ) AS since,
        pages.failures,
        pages.not_before,
        (SELECT started_at FROM attempts WHERE page_id = pages.id ORDER BY id DESC LIMIT 1) AS tried_at
    FROM pages
    WHERE pages.state IN ('failed', 'deferred', 'queued', 'fetched') AND pages.reason IS NOT 'fetch_only'
)
SELECT * FROM unwell
WHERE :reasons = '[]' OR reason IN (SELECT value FROM json_each(:reasons))
ORDER BY state, reason, url
"""
"""`since` is the first attempt that was not well after the last one that was."""

ATTEMPTS = """
SELECT started_at, ended_at, run_id, stage, code, detail FROM attempts WHERE page_id = ? ORDER BY id
"""

VERSIONS = """
SELECT
    row_number() OVER (ORDER BY summaries.id) AS version,
    summaries.created_at, recipes.model, summaries.recipe, summaries.text_hash, summaries.method,
    summaries.coverage, summaries.language, summaries.flags, summaries.summary, summaries.key_points
FROM summaries JOIN recipes ON recipes.hash = summaries.recipe
WHERE summaries.page_id = ? ORDER BY summaries.id
"""

EXPORT = """
SELECT
    pages.url, pages.state, pages.reason, pages.detail, pages.title, pages.author, pages.site, pages.published,
    pages.final_url, pages.fetched_at, summaries.summary, summaries.key_points, summaries.language,
    summaries.coverage, summaries.flags, summaries.method, recipes.model, summaries.created_at AS summarized_at
FROM pages
LEFT JOIN summaries ON summaries.id = (
    SELECT max(id) FROM summaries AS versions WHERE versions.page_id = pages.id
)
LEFT JOIN recipes ON recipes.hash = summaries.recipe
WHERE :states = '[]' OR pages.state IN (SELECT value FROM json_each(:states))
ORDER BY pages.id
"""

NEWS = """
SELECT
    pages.url, pages.state, pages.reason, pages.detail, pages.title, summaries.summary, summaries.key_points,
    summaries.created_at AS summarized_at
FROM summaries JOIN pages ON pages.id = summaries.page_id
WHERE summaries.created_at >= :since AND summaries.created_at <= :now AND NOT EXISTS (
    SELECT 1 FROM summaries AS later WHERE later.page_id = summaries.page_id AND later.id > summaries.id
)
ORDER BY summaries.id DESC
"""
"""What a clock that was wrong has dated years ahead would be news until then."""

IS_PAGE = """
SELECT host <> '' AND key NOT LIKE 'list:%' FROM pages WHERE id = ?
"""

TO_RETRY = """
SELECT id FROM pages
WHERE id > :after AND host <> '' AND key NOT LIKE 'list:%' AND iif(
    :reasons = '[]', state IN ('failed', 'deferred'), reason IN (SELECT value FROM json_each(:reasons))
)
ORDER BY id LIMIT :most
"""

WITH_TEXT = """
WITH candidates AS (
    SELECT
        pages.id, pages.state, lower(pages.site) AS site, substr(host, 1, instr(host || ':', ':') - 1) AS host,
        (
            SELECT recipes.model FROM summaries JOIN recipes ON recipes.hash = summaries.recipe
            WHERE summaries.page_id = pages.id ORDER BY summaries.id DESC LIMIT 1
        ) AS model
    FROM pages WHERE pages.text_hash IS NOT NULL
)
SELECT id FROM candidates
WHERE id > :after AND (:states = '[]' OR state IN (SELECT value FROM json_each(:states)))
    AND (:models = '[]' OR model IN (SELECT value FROM json_each(:models)))
    AND (:tags = '[]' OR EXISTS (
        SELECT 1 FROM sources, json_each(sources.tags) AS tag
        WHERE sources.page_id = candidates.id AND tag.value IN (SELECT value FROM json_each(:tags))
    ))
    AND (:sites = '[]' OR EXISTS (
        SELECT 1 FROM json_each(:sites) AS wanted
        WHERE wanted.value IN (site, host) OR substr(host, -length(wanted.value) - 1) = '.' || wanted.value
    ))
ORDER BY id LIMIT :most
"""

JSON_EACH = "SELECT 1 FROM json_each('[]')"
"""Makes `json_each` known to a connection: it declares a table at its first use, and a condition may not do that."""

WHERE = """
SELECT id FROM pages WHERE {}
LIMIT 0
"""
"""Whether a condition is one, by itself: one with a bracket too many is not."""

AND_WHERE = """
SELECT id FROM pages WHERE id BETWEEN :first AND :last AND ({}
)
"""

SNAPSHOT = "BEGIN"

INTEGRITY = "PRAGMA integrity_check"

FOREIGN_KEYS = "PRAGMA foreign_key_check"

PROMISES = {
    "items that a run did not come to, and does not say why": """
        SELECT count(*), min(items.id) FROM items JOIN runs ON runs.id = items.run_id
        WHERE runs.state = 'finished' AND items.outcome = 'waiting' AND items.reason IS NULL
    """,
    "items with an outcome that have not ended": """
        SELECT count(*), min(id) FROM items WHERE outcome <> 'waiting' AND ended_at IS NULL
    """,
    "pages that stand as summarized without a summary of a text that is there": """
        SELECT count(*), min(url) FROM pages
        WHERE state = 'summarized' AND NOT EXISTS (
            SELECT 1 FROM summaries JOIN texts ON texts.hash = summaries.text_hash
            WHERE summaries.page_id = pages.id
        )
    """,
    "pages that stand as fetched without a text": """
        SELECT count(*), min(url) FROM pages WHERE state = 'fetched' AND text_hash IS NULL
    """,
    "summaries whose coverage is not that of their chunks": """
        SELECT count(*), min(id) FROM summaries
        WHERE method <> 'verbatim' AND (
            chunks <> (SELECT count(*) FROM summary_chunks WHERE summary_id = summaries.id)
            OR (coverage < 1) <> EXISTS (
                SELECT 1 FROM summary_chunks WHERE summary_id = summaries.id AND left_out IS NOT NULL
            )
        )
    """,
    "pages that the full-text search does not have as they are": """
        SELECT count(*), min(page_id) FROM (
            SELECT page_id FROM search_current WHERE page_id NOT IN (SELECT id FROM search_docsize)
            UNION ALL
            SELECT id FROM search_docsize WHERE id NOT IN (SELECT page_id FROM search_current)
        )
    """,
}
"""Promise broken → how many rows break it, and one of them."""

REASONS = """
SELECT reason FROM pages WHERE reason IS NOT NULL
UNION SELECT reason FROM items WHERE reason IS NOT NULL
UNION SELECT reason FROM hosts WHERE reason IS NOT NULL
"""

RUNNING = """
SELECT id, started_at, id = (SELECT max(id) FROM runs) AS is_last FROM runs WHERE state = 'running' ORDER BY id
"""

LAST_ENDED_RUN = """
SELECT ended_at, exit_code FROM runs WHERE exit_code IS NOT NULL ORDER BY id DESC LIMIT 1
"""

LAST_GOOD_RUN = """
SELECT ended_at FROM runs
WHERE state = 'finished' AND exit_code IN (0, 3) AND model <> '' ORDER BY id DESC LIMIT 1
"""
"""A run that only fetches has no model: it is no night. The last one, whatever the clock said."""

COUNT_OLD_ITEMS = """
SELECT count(*) FROM items WHERE run_id IN (
    SELECT id FROM runs WHERE state <> 'running' AND coalesce(ended_at, started_at) < ?
)
"""

COUNT_OLD_ATTEMPTS = """
SELECT count(*) FROM attempts WHERE ended_at < ?
"""

COUNT_LOOSE_TEXTS = """
SELECT count(*) FROM texts
WHERE NOT EXISTS (SELECT 1 FROM pages WHERE pages.text_hash = texts.hash)
    AND NOT EXISTS (SELECT 1 FROM summaries WHERE summaries.text_hash = texts.hash)
"""

PRUNE_ITEMS = """
DELETE FROM items WHERE id IN (
    SELECT items.id FROM items WHERE run_id IN (
        SELECT id FROM runs WHERE state <> 'running' AND coalesce(ended_at, started_at) < :before
    ) LIMIT :most
)
"""

PRUNE_ATTEMPTS = """
DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE ended_at < :before ORDER BY id LIMIT :most)
"""

_LOOSE_TEXTS = """
    SELECT hash FROM texts
    WHERE NOT EXISTS (SELECT 1 FROM pages WHERE pages.text_hash = texts.hash)
        AND NOT EXISTS (SELECT 1 FROM summaries WHERE summaries.text_hash = texts.hash)
    ORDER BY hash LIMIT :most
"""

PRUNE_CHUNKS = f"DELETE FROM chunks WHERE text_hash IN ({_LOOSE_TEXTS})"  # noqa: S608 - both are here

PRUNE_TEXTS = f"DELETE FROM texts WHERE hash IN ({_LOOSE_TEXTS})"  # noqa: S608

PRUNE_HOSTS = """
DELETE FROM hosts WHERE origin IN (
    SELECT origin FROM hosts WHERE seen_at < :before AND coalesce(not_before, '') < :before LIMIT :most
)
"""

FORGET = (
    """
    DELETE FROM reduce_summaries WHERE EXISTS (
        SELECT 1 FROM summaries WHERE page_id = :page_id AND method = 'map_reduce'
    )
    """,  # they do not say of which page they are; to lose those of others costs a few answers at their next change
    """
    CREATE TEMP TABLE forgotten_chunks AS
    SELECT chunk_hash AS hash FROM summary_chunks JOIN summaries ON summaries.id = summary_id WHERE page_id = :page_id
    UNION
    SELECT chunks.hash FROM chunks JOIN pages ON pages.text_hash = chunks.text_hash WHERE pages.id = :page_id
    UNION
    SELECT chunks.hash FROM chunks JOIN summaries ON summaries.text_hash = chunks.text_hash WHERE page_id = :page_id
    """,
    "DELETE FROM evidence WHERE summary_id IN (SELECT id FROM summaries WHERE page_id = :page_id)",
    "DELETE FROM summary_chunks WHERE summary_id IN (SELECT id FROM summaries WHERE page_id = :page_id)",
    "DELETE FROM summaries WHERE page_id = :page_id",
    "DELETE FROM attempts WHERE page_id = :page_id",
    "DELETE FROM items WHERE page_id = :page_id",
    "DELETE FROM sources WHERE page_id = :page_id",
    "DELETE FROM redirects WHERE page_id = :page_id",
    """
    DELETE FROM hosts
    WHERE host = (SELECT host FROM pages WHERE id = :page_id)
        AND NOT EXISTS (SELECT 1 FROM pages WHERE pages.host = hosts.host AND pages.id <> :page_id)
    """,
    "DELETE FROM pages WHERE id = :page_id",
    """
    DELETE FROM chunks
    WHERE NOT EXISTS (SELECT 1 FROM pages WHERE pages.text_hash = chunks.text_hash)
        AND NOT EXISTS (SELECT 1 FROM summaries WHERE summaries.text_hash = chunks.text_hash)
    """,
    """
    DELETE FROM texts
    WHERE NOT EXISTS (SELECT 1 FROM pages WHERE pages.text_hash = texts.hash)
        AND NOT EXISTS (SELECT 1 FROM summaries WHERE summaries.text_hash = texts.hash)
    """,
    """
    DELETE FROM chunk_summaries
    WHERE chunk_hash IN (
        SELECT hash FROM forgotten_chunks EXCEPT SELECT hash FROM chunks EXCEPT SELECT chunk_hash FROM summary_chunks
    )
    """,
    "DROP TABLE forgotten_chunks",
    "UPDATE runs SET source = replace(source, :url, '(forgotten)') WHERE instr(source, :url)",
)

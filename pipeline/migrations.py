"""The schema, as the steps that lead to it. What the columns mean stands in `docs/database.md`."""

from __future__ import annotations

import secrets

from sqlite_utils import Database, Migrations

APPLICATION_ID = 0x53426174
"""`SBat`: how a file tells that it is ours (SQLite, `PRAGMA application_id`)."""

APART = "\u001f"
"""Stands in `search` between two letters of a script without blanks: to FTS5 each is a word then."""

END_OF_RUN = "\u2060"
"""A word of its own in `search`, at the end of a run of such letters: 한 지역 is not 한지역. It has no width."""

migrations = Migrations("summarize-batch")


def schema_version() -> int:
    """The number of steps, and so the `user_version` of a database that has taken them all."""
    return len(migrations._migrations)


@migrations()
def first_tables(db: Database) -> None:
    """Runs, pages, texts, chunks, answers, summaries, attempts, and the view `latest_summaries`."""
    for statement in _FIRST_TABLES.split(";\n\n"):
        db.execute(statement)
    db.execute("INSERT INTO meta (name, value) VALUES ('secret', ?)", [secrets.token_hex(32)])


@migrations()
def ratios_of_models(db: Database) -> None:
    """How many tokens each model makes of each kind of script."""
    db.execute(_RATIOS)


@migrations()
def full_text_search(db: Database) -> None:
    """The index `search`, kept in step by triggers, and filled with what is here already. See `docs/search.md`."""
    for statement in _FULL_TEXT_SEARCH.split(";\n\n"):
        db.execute(statement)


@migrations()
def books_of_runs(db: Database) -> None:
    """What has waited longest goes first; a run keeps its counts; the items of a page are found."""
    for statement in _BOOKS_OF_RUNS.split(";\n\n"):
        db.execute(statement)


@migrations()
def what_pages_say_of_themselves(db: Database) -> None:
    """How much of a page is hidden from its reader, where it says that it lies, what it asks of machines."""
    for statement in _WHAT_PAGES_SAY.split(";\n\n"):
        db.execute(statement)


_WHAT_PAGES_SAY = """
ALTER TABLE pages ADD COLUMN hidden_characters INTEGER NOT NULL DEFAULT 0;

ALTER TABLE pages ADD COLUMN canonical TEXT NOT NULL DEFAULT '';

ALTER TABLE pages ADD COLUMN marks TEXT NOT NULL DEFAULT '[]'
"""


@migrations()
def hosts_as_they_were_last(db: Database) -> None:
    """What is known of each site: its robots.txt, until when it wants to be left alone, whether it answers."""
    for statement in _HOSTS.split(";\n\n"):
        db.execute(statement)


_HOSTS = """
CREATE TABLE hosts (
    origin TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    robots TEXT,
    robots_status INTEGER,
    robots_at TEXT,
    not_before TEXT,
    pauses INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    reason TEXT,
    seen_at TEXT NOT NULL
);

CREATE INDEX hosts_of_host ON hosts (host)
"""

_BOOKS_OF_RUNS = """
ALTER TABLE runs ADD COLUMN counts TEXT;

ALTER TABLE items ADD COLUMN last_attempt INTEGER NOT NULL DEFAULT 0;

DROP INDEX items_to_do;

CREATE INDEX items_to_do ON items (run_id, host, last_attempt, id) WHERE ended_at IS NULL;

CREATE INDEX items_of_page ON items (page_id, run_id)
"""

_RATIOS = """
CREATE TABLE ratios (
    model TEXT NOT NULL,
    kind TEXT NOT NULL,
    prompts INTEGER NOT NULL,
    highest REAL NOT NULL,
    PRIMARY KEY (model, kind)
) WITHOUT ROWID
"""

_FIRST_TABLES = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'interrupted', 'failed')),
    exit_code INTEGER,
    source TEXT NOT NULL,
    model TEXT NOT NULL,
    settings TEXT NOT NULL
);

CREATE TABLE pages (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'fetched', 'summarized', 'skipped', 'failed', 'deferred')),
    reason TEXT,
    detail TEXT NOT NULL DEFAULT '',
    title TEXT NOT NULL DEFAULT '',
    author TEXT NOT NULL DEFAULT '',
    site TEXT NOT NULL DEFAULT '',
    language TEXT NOT NULL DEFAULT '',
    published TEXT NOT NULL DEFAULT '',
    final_url TEXT,
    http_status INTEGER,
    etag TEXT NOT NULL DEFAULT '',
    last_modified TEXT NOT NULL DEFAULT '',
    added_at TEXT NOT NULL,
    fetched_at TEXT,
    changed_at TEXT,
    not_before TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    text_hash TEXT REFERENCES texts (hash)
);

CREATE TABLE redirects (
    page_id INTEGER NOT NULL REFERENCES pages (id),
    number INTEGER NOT NULL,
    url TEXT NOT NULL,
    PRIMARY KEY (page_id, number)
) WITHOUT ROWID;

CREATE TABLE sources (
    page_id INTEGER NOT NULL REFERENCES pages (id),
    list TEXT NOT NULL,
    origin TEXT NOT NULL,
    tags TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (page_id, list, origin)
) WITHOUT ROWID;

CREATE TABLE items (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    page_id INTEGER NOT NULL REFERENCES pages (id),
    host TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (
        outcome IN ('summarized', 'unchanged', 'skipped', 'failed', 'deferred', 'waiting')
    ),
    reason TEXT,
    started_at TEXT,
    ended_at TEXT,
    UNIQUE (run_id, page_id)
);

CREATE INDEX items_to_do ON items (run_id, host, id) WHERE ended_at IS NULL;

CREATE TABLE texts (
    hash TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    characters INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE chunks (
    text_hash TEXT NOT NULL REFERENCES texts (hash),
    number INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (text_hash, number)
) WITHOUT ROWID;

CREATE TABLE recipes (
    hash TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    digest TEXT NOT NULL,
    num_ctx INTEGER NOT NULL,
    options TEXT NOT NULL,
    prompts TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE chunk_summaries (
    chunk_hash TEXT NOT NULL,
    recipe TEXT NOT NULL REFERENCES recipes (hash),
    summary TEXT NOT NULL,
    tool_calls INTEGER NOT NULL,
    tool_errors INTEGER NOT NULL,
    primed INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (chunk_hash, recipe)
);

CREATE INDEX chunk_summaries_of_recipe ON chunk_summaries (recipe);

CREATE TABLE reduce_summaries (
    input_hash TEXT NOT NULL,
    recipe TEXT NOT NULL REFERENCES recipes (hash),
    summary TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (input_hash, recipe)
) WITHOUT ROWID;

CREATE TABLE summaries (
    id INTEGER PRIMARY KEY,
    page_id INTEGER NOT NULL REFERENCES pages (id),
    text_hash TEXT NOT NULL REFERENCES texts (hash),
    recipe TEXT NOT NULL REFERENCES recipes (hash),
    summary TEXT NOT NULL,
    key_points TEXT NOT NULL,
    language TEXT NOT NULL,
    method TEXT NOT NULL CHECK (method IN ('verbatim', 'single', 'map_reduce')),
    coverage REAL NOT NULL CHECK (coverage BETWEEN 0 AND 1),
    flags TEXT NOT NULL,
    chunks INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    created_at TEXT NOT NULL
);

CREATE INDEX summaries_of_page ON summaries (page_id, id);

CREATE INDEX summaries_of_text ON summaries (text_hash, recipe);

CREATE TABLE summary_chunks (
    summary_id INTEGER NOT NULL REFERENCES summaries (id),
    number INTEGER NOT NULL,
    chunk_hash TEXT NOT NULL,
    left_out TEXT,
    PRIMARY KEY (summary_id, number)
) WITHOUT ROWID;

CREATE TABLE evidence (
    summary_id INTEGER NOT NULL REFERENCES summaries (id),
    number INTEGER NOT NULL,
    sentence TEXT NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    score REAL NOT NULL,
    PRIMARY KEY (summary_id, number)
) WITHOUT ROWID;

CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    page_id INTEGER NOT NULL REFERENCES pages (id),
    stage TEXT NOT NULL CHECK (stage IN ('fetch', 'extract', 'map', 'reduce')),
    code TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    started_at TEXT NOT NULL,
    ended_at TEXT NOT NULL
);

CREATE INDEX attempts_of_page ON attempts (page_id, id);

CREATE VIEW latest_summaries AS
SELECT
    pages.url, pages.title, pages.site, summaries.summary, summaries.key_points, summaries.language,
    summaries.coverage, summaries.flags, recipes.model, pages.state, pages.fetched_at,
    summaries.created_at AS summarized_at
FROM pages
JOIN summaries ON summaries.id = (
    SELECT max(id) FROM summaries AS versions WHERE versions.page_id = pages.id
)
JOIN recipes ON recipes.hash = summaries.recipe
"""

# FTS5 takes what stands between two blanks for one word, and Chinese, Japanese and Thai have no blanks. So the view
# `search_spaced` sets each letter apart, and 東京 is asked for as the phrase "東 京". It halves a text until a part
# has 32 letters, or none that is to be set apart: `substr` counts from the beginning of its text, and one a letter
# took 34 seconds for 80,000 letters and 114 for 160,000 (halving: under one for 333,000).
#
# The index has no text of its own. To take a page out of it, FTS5 must be given the very words that went in, or it
# is damaged. So `search_pages` has what went in, a text by its hash, and the index follows that table alone:
# whatever another program does to the others, with `OR REPLACE` and `OR IGNORE`, can at worst leave a page out.
#
# `INSERT INTO search_again VALUES (an id)` indexes a page anew: it is how a procedure is written in SQLite.
_FULL_TEXT_SEARCH = """
CREATE TABLE search_pages (
    page_id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    key_points TEXT NOT NULL,
    summary TEXT NOT NULL,
    text_hash TEXT
);

CREATE VIEW search_current AS
SELECT
    pages.id AS page_id,
    pages.title,
    coalesce(CASE
        WHEN json_valid(summaries.key_points)
        THEN (SELECT group_concat(point.value, char(10)) FROM json_each(summaries.key_points) AS point)
        ELSE summaries.key_points
    END, '') AS key_points,
    coalesce(summaries.summary, '') AS summary,
    texts.hash AS text_hash
FROM pages
LEFT JOIN texts ON texts.hash = pages.text_hash
LEFT JOIN summaries ON summaries.id = (
    SELECT max(id) FROM summaries AS versions WHERE versions.page_id = pages.id
)
WHERE pages.title <> '' OR texts.hash IS NOT NULL OR summaries.id IS NOT NULL;

CREATE VIEW search_letters AS
SELECT '[ก-႟ᄀ-ᇿក-៹々-〇ぁ-鿿가-ퟻ豈-龎ｦ-ￜ𛀀-𛅯𠀀-𲎯]' AS letter;

CREATE VIEW search_spaced AS
SELECT page_id, field, (
    WITH RECURSIVE
    number (n) AS (
        SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 32
    ),
    part (start, text, size, after, is_run) AS (
        SELECT 1 AS start, value, length(value), '', value GLOB '*' || letter || '*' FROM search_letters
        UNION ALL
        SELECT
            start + half * (size / 2),
            substr(text, 1 + half * (size / 2), (size + half) / 2),
            (size + half) / 2,
            CASE half WHEN 0 THEN substr(text, 1 + size / 2, 1) ELSE after END,
            substr(text, 1 + half * (size / 2), (size + half) / 2) GLOB '*' || letter || '*'
        FROM part, search_letters, (SELECT 0 AS half UNION ALL SELECT 1)
        WHERE is_run AND size > 32
        ORDER BY start
    ),
    piece (text, after) AS (
        SELECT
            CASE WHEN is_run THEN substr(text, n, 1) ELSE text END,
            CASE WHEN is_run THEN substr(text || after, n + 1, 1) ELSE after END
        FROM part CROSS JOIN number ON n <= CASE WHEN is_run THEN size ELSE 1 END
        WHERE size <= 32 OR NOT is_run
    )
    SELECT group_concat(
        text || CASE
            WHEN after GLOB letter THEN char(31)
            WHEN after <> '' AND text GLOB letter THEN char(31, 8288, 31)
            ELSE ''
        END, ''
    )
    FROM piece, search_letters
) AS spaced
FROM (
    SELECT page_id, 'title' AS field, title AS value FROM search_pages
    UNION ALL
    SELECT page_id, 'key_points', key_points FROM search_pages
    UNION ALL
    SELECT page_id, 'summary', summary FROM search_pages
    UNION ALL
    SELECT page_id, 'text', texts.text FROM search_pages JOIN texts ON texts.hash = search_pages.text_hash
);

CREATE VIEW search_columns AS
SELECT
    page_id,
    (SELECT spaced FROM search_spaced AS s WHERE s.page_id = p.page_id AND field = 'title') AS title,
    (SELECT spaced FROM search_spaced AS s WHERE s.page_id = p.page_id AND field = 'key_points') AS key_points,
    (SELECT spaced FROM search_spaced AS s WHERE s.page_id = p.page_id AND field = 'summary') AS summary,
    (SELECT spaced FROM search_spaced AS s WHERE s.page_id = p.page_id AND field = 'text') AS text
FROM search_pages AS p;

CREATE VIRTUAL TABLE search USING fts5 (
    title, key_points, summary, text,
    content = "search_columns", content_rowid = "page_id",
    tokenize = "unicode61 remove_diacritics 2 categories 'L* M* N*' tokenchars '\u2060'"
);

INSERT INTO search (search, rank) VALUES ('rank', 'bm25(10.0, 5.0, 3.0, 1.0)');

CREATE TRIGGER search_pages_in AFTER INSERT ON search_pages BEGIN
    INSERT INTO search (rowid, title, key_points, summary, text)
    SELECT page_id, title, key_points, summary, text FROM search_columns WHERE page_id = new.page_id;
END;

CREATE TRIGGER search_pages_out BEFORE DELETE ON search_pages
WHEN EXISTS (SELECT 1 FROM search_docsize WHERE id = old.page_id) BEGIN
    INSERT INTO search (search, rowid, title, key_points, summary, text)
    SELECT 'delete', page_id, title, key_points, summary, text FROM search_columns WHERE page_id = old.page_id;
END;

CREATE VIEW search_again AS SELECT id AS page_id FROM pages;

CREATE TRIGGER search_page_again INSTEAD OF INSERT ON search_again BEGIN
    DELETE FROM search_pages WHERE page_id = new.page_id;
    INSERT INTO search_pages SELECT * FROM search_current WHERE page_id = new.page_id;
END;

CREATE INDEX pages_of_text ON pages (text_hash) WHERE text_hash IS NOT NULL;

CREATE TRIGGER search_page_added AFTER INSERT ON pages
WHEN new.title <> '' OR new.text_hash IS NOT NULL
    OR EXISTS (SELECT 1 FROM search_pages WHERE page_id = new.id)
    OR EXISTS (SELECT 1 FROM summaries WHERE page_id = new.id)
BEGIN
    INSERT INTO search_again VALUES (new.id);
END;

CREATE TRIGGER search_page_changed AFTER UPDATE OF id, title, text_hash ON pages
WHEN old.id <> new.id OR old.title <> new.title OR old.text_hash IS NOT new.text_hash BEGIN
    INSERT INTO search_again SELECT old.id UNION SELECT new.id;
END;

CREATE TRIGGER search_page_gone AFTER DELETE ON pages BEGIN
    DELETE FROM search_pages WHERE page_id = old.id;
END;

CREATE TRIGGER search_summary_added AFTER INSERT ON summaries
WHEN new.id = (SELECT max(id) FROM summaries WHERE page_id = new.page_id) BEGIN
    INSERT INTO search_again VALUES (new.page_id);
END;

CREATE TRIGGER search_summary_changed AFTER UPDATE OF id, page_id, summary, key_points ON summaries BEGIN
    INSERT INTO search_again SELECT old.page_id UNION SELECT new.page_id;
END;

CREATE TRIGGER search_summary_gone AFTER DELETE ON summaries
WHEN NOT EXISTS (SELECT 1 FROM summaries WHERE page_id = old.page_id AND id > old.id) BEGIN
    INSERT INTO search_again VALUES (old.page_id);
END;

CREATE TRIGGER search_text_replaced BEFORE INSERT ON texts
WHEN EXISTS (SELECT 1 FROM texts WHERE hash = new.hash AND text <> new.text) BEGIN
    DELETE FROM search_pages WHERE page_id IN (SELECT id FROM pages WHERE text_hash = new.hash);
END;

CREATE TRIGGER search_text_added AFTER INSERT ON texts BEGIN
    INSERT INTO search_again SELECT id FROM pages WHERE text_hash = new.hash;
END;

CREATE TRIGGER search_text_changes BEFORE UPDATE OF hash, text ON texts BEGIN
    DELETE FROM search_pages WHERE page_id IN (SELECT id FROM pages WHERE text_hash IN (old.hash, new.hash));
END;

CREATE TRIGGER search_text_changed AFTER UPDATE OF hash, text ON texts BEGIN
    INSERT INTO search_again SELECT id FROM pages WHERE text_hash IN (old.hash, new.hash);
END;

CREATE TRIGGER search_text_goes BEFORE DELETE ON texts BEGIN
    DELETE FROM search_pages WHERE page_id IN (SELECT id FROM pages WHERE text_hash = old.hash);
END;

CREATE TRIGGER search_text_gone AFTER DELETE ON texts BEGIN
    INSERT INTO search_again SELECT id FROM pages WHERE text_hash = old.hash;
END;

INSERT INTO search_again SELECT page_id FROM search_again
"""

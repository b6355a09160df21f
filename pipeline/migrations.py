"""The schema, as the steps that lead to it. What the columns mean stands in `docs/database.md`."""

from __future__ import annotations

import secrets

from sqlite_utils import Database, Migrations

APPLICATION_ID = 0x53426174
"""`SBat`: how a file tells that it is ours (SQLite, `PRAGMA application_id`)."""

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
def books_of_runs(db: Database) -> None:
    """What has waited longest goes first; a run keeps its counts; the items of a page are found."""
    for statement in _BOOKS_OF_RUNS.split(";\n\n"):
        db.execute(statement)


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

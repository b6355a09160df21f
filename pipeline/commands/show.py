"""`show URL`: one page with its newest summary."""

from __future__ import annotations

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline import queries
from pipeline.errors import UsageError
from pipeline.store import connect, translated
from pipeline.urls import normal_form


def page(db: Path, url: str) -> sqlite3.Row:
    """The page of a URL, in any of its spellings, or of the URL that it redirects to.

    Raises `UsageError` when the database does not have it, `DatabaseUnusable`.
    """
    key = _key(url)
    with closing(connect(db, write=False)) as connection, translated(db):
        found = connection.execute(queries.FIND_PAGE, [key, url, url, key]).fetchone() or next(
            (row for row in connection.execute(queries.REDIRECTED) if _key(row["final_url"]) == key), None
        )
        if found is None:
            raise UsageError(f"{url} is not in {db}: summarize-batch list --db {shlex.quote(str(db))} shows what is")
        row: sqlite3.Row = connection.execute(queries.RESULT, [found["run_id"], found["id"]]).fetchone()
        return row


def _key(url: str) -> str:
    try:
        return normal_form(url)
    except ValueError:  # a bad line is a row too
        return url

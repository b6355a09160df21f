"""`show URL`: one page with its newest summary, the attempts at it, its versions and what changed between two."""

from __future__ import annotations

import difflib
import json
import re
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from pipeline import queries
from pipeline.errors import UsageError
from pipeline.store import connect, storable, translated
from pipeline.urls import normal_form, shown


def page(db: Path, url: str) -> sqlite3.Row:
    """The page of a URL, in any of its spellings, or of the URL that it redirects to.

    Raises `UsageError` when the database does not have it, `DatabaseUnusable`.
    """
    with closing(connect(db, write=False)) as connection, translated(db):
        found = find(connection, db, url)
        row: sqlite3.Row = connection.execute(queries.RESULT, [found["run_id"], found["id"]]).fetchone()
        return row


def attempts(db: Path, url: str) -> list[sqlite3.Row]:
    """Every try at the page, the first one first. Raises as `page` does."""
    return _of_page(db, url, queries.ATTEMPTS)


def versions(db: Path, url: str) -> list[sqlite3.Row]:
    """The summaries of the page, from version 1 on. Raises as `page` does."""
    return _of_page(db, url, queries.VERSIONS)


def diff(db: Path, url: str, numbers: Sequence[int]) -> Iterator[str]:
    """What changed from one version to another, a sentence a line, in the form of `diff -u`.

    `numbers` are the two versions; if there are none, the last two. Raises as `page` does, and `UsageError` for a
    version that is not there.
    """
    found = {row["version"]: row for row in versions(db, url)}
    chosen = tuple(numbers) or tuple(found)[-2:]
    if len(chosen) != 2 or not found.keys() >= set(chosen):
        have = f"versions 1 to {len(found)}" if len(found) > 1 else f"{len(found) or 'no'} version"
        raise UsageError(f"{url} has {have} of its summary: give two of them, as in `--diff 1 2`")
    before, after = (found[number] for number in chosen)
    yield from difflib.unified_diff(
        _sentences(before), _sentences(after), _named(before), _named(after), n=100, lineterm=""
    )


def find(connection: sqlite3.Connection, db: Path, url: str, *, redirected: bool = True) -> sqlite3.Row:
    """`id`, `url`, `state` and last `run_id` of the page of a URL, or of one that it redirects to.

    Raises `UsageError` when the database does not have it.
    """
    key, url = _key(url), storable(url)
    found: sqlite3.Row | None = connection.execute(queries.PAGE_OF_KEY, [key]).fetchone()
    if found is None:
        found = connection.execute(queries.FIND_PAGE, [url, url if redirected else None]).fetchone()
    if found is None and redirected:
        found = next((row for row in connection.execute(queries.REDIRECTED) if _key(row["final_url"]) == key), None)
    if found is None:
        raise UsageError(f"{shown(url)} is not in {db}: summarize-batch list --db {shlex.quote(str(db))} shows what is")
    return found


def _of_page(db: Path, url: str, query: str) -> list[sqlite3.Row]:
    with closing(connect(db, write=False)) as connection, translated(db):
        return connection.execute(query, [find(connection, db, url)["id"]]).fetchall()


def _named(row: sqlite3.Row) -> str:
    return f"version {row['version']} ({row['created_at']}, {row['model']})"


def _sentences(row: sqlite3.Row) -> list[str]:
    """A summary and its key points in lines, so that a change of one sentence is one line."""
    lines = [part for line in row["summary"].splitlines() for part in re.split(r"(?<=[.!?。！？])\s+", line)]
    return [*lines, *(f"- {point}" for point in json.loads(row["key_points"]))]


def _key(url: str) -> str:
    try:
        return normal_form(url)
    except ValueError:  # a bad line is a row too
        return storable(url)

"""`digest`: what is new since a time, and what has failed since."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from pipeline import queries
from pipeline.commands.failures import Failure, failures
from pipeline.store import connect, iso, now, translated


def news(db: Path, since: datetime) -> Iterator[sqlite3.Row]:
    """The pages that were summarized since then, each with its newest summary; the newest first.

    Raises `DatabaseUnusable`.
    """
    with closing(connect(db, write=False)) as connection, translated(db):
        yield from connection.execute(queries.NEWS, {"since": iso(since), "now": iso(now())})


def failed(db: Path, since: datetime) -> Iterator[Failure]:
    """The pages that were tried since then, and are not well. Raises `DatabaseUnusable`."""
    return (found for found in failures(db, ()) if found.tried_at and found.tried_at >= iso(since))


def digest(
    pages: Iterator[sqlite3.Row],
    unwell: Iterator[Failure],
    told: Callable[[sqlite3.Row], Iterator[str]],
    told_failure: Callable[[Failure], str],
    most: int,
) -> Iterator[str]:
    """Both in at most so many lines: a page is told whole or not at all, and the last line counts the rest."""
    room, left_out = most - 1, {"more summaries": 0, "more that failed": 0}
    for page in pages:
        lines = [*told(page), ""]
        if left_out["more summaries"] or len(lines) > room:
            left_out["more summaries"] += 1
            continue
        yield from lines
        room -= len(lines)
    for failure in unwell:
        if left_out["more summaries"] or not room:
            left_out["more that failed"] += 1
            continue
        yield told_failure(failure)
        room -= 1
    if rest := ", ".join(f"{count} {what}" for what, count in left_out.items() if count):
        yield f"... {rest}"

"""`check`: whether the database is whole and keeps its promises, and whether the nights are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pipeline import queries
from pipeline.errors import DatabaseUnusable
from pipeline.records import Reason
from pipeline.store import connect, is_held, iso, now, translated

DAMAGED = DatabaseUnusable.exit_code
UNWELL = 3
ENDED_WELL = (0, 3)
"""Exit codes of a run that did what it could: that some pages failed is no fault of the night."""
STOPPED = (130, 143)
KNOWN_REASONS = frozenset(reason.value for reason in Reason)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    what: str
    said: str
    exit_code: int


def findings(db: Path, expect_every: timedelta | None) -> Iterator[Finding]:
    """All that is wrong, the worst first. Raises `DatabaseUnusable` when it cannot even be read."""
    held = is_held(db)
    with closing(connect(db, write=False)) as connection, translated(db):
        connection.execute(queries.SNAPSHOT)
        yield from _damages(connection)
        yield from _broken_promises(connection)
        yield from _runs(connection, held, expect_every)


def _damages(connection: sqlite3.Connection) -> Iterator[Finding]:
    for (said,) in connection.execute(queries.INTEGRITY):
        if said != "ok":
            yield Finding("integrity", said, DAMAGED)
    for table, row, parent, _ in connection.execute(queries.FOREIGN_KEYS):
        yield Finding("foreign key", f"row {row} of {table} points to no row of {parent}", DAMAGED)


def _broken_promises(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Each question gives the rows that break a promise of the store's; of these the first is told."""
    for said, question in queries.PROMISES.items():
        count, example = connection.execute(question).fetchone()
        if count:
            yield Finding("promise", f"{said}: {count}, such as {example}", DAMAGED)
    for (word,) in connection.execute(queries.REASONS):
        if word not in KNOWN_REASONS:
            yield Finding("promise", f"a reason that is none: {word}", DAMAGED)


def _runs(connection: sqlite3.Connection, held: bool, expect_every: timedelta | None) -> Iterator[Finding]:
    last = None
    for run in connection.execute(queries.RUNNING):
        if not (held and run["is_last"]):
            said = f"run {run['id']}, begun at {run['started_at']}, was killed; the next run goes on where it was"
            yield Finding("run", said, UNWELL)
    last = connection.execute(queries.LAST_ENDED_RUN).fetchone()
    if last and last["exit_code"] not in (*ENDED_WELL, *STOPPED):
        yield Finding("run", f"the last run, at {last['ended_at']}, ended with exit code {last['exit_code']}", UNWELL)
    if expect_every is None:
        return
    (good,) = connection.execute(queries.LAST_GOOD_RUN).fetchone() or [None]
    time = now()
    if good is None or not iso(time - expect_every) <= good <= iso(time):
        wrong = ": by a clock that was wrong" if good and good > iso(time) else ""
        said = f"the last good run ended at {good}{wrong}" if good else "no run has ever ended well"
        yield Finding("run", said, UNWELL)

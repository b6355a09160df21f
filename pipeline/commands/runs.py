"""`runs`: the history, the newest run first."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline import queries
from pipeline.store import connect, translated


@dataclass(frozen=True, slots=True)
class Run:
    """One start of the program, as `runs` has it."""

    id: int
    started_at: str
    ended_at: str | None
    state: str
    exit_code: int | None
    source: str
    model: str
    outcomes: dict[str, int]
    """How many of its items have which outcome."""


def runs(db: Path, most: int | None) -> Iterator[Run]:
    """The last runs, at most so many. Raises `DatabaseUnusable`."""
    with closing(connect(db, write=False)) as connection, translated(db):
        for row in connection.execute(queries.RUNS, [-1 if most is None else most]):
            yield _run(row, connection)


def _run(row: sqlite3.Row, connection: sqlite3.Connection) -> Run:
    """A run that has ended keeps its counts, also when its items are pruned; of others the items are counted."""
    values = dict(row)
    kept = values.pop("counts")
    counted = json.loads(kept) if kept else dict(map(tuple, connection.execute(queries.COUNT_ITEMS, [row["id"]])))
    return Run(**values, outcomes=counted)

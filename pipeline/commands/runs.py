"""`runs`: the history, the newest run first."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline import queries
from pipeline.store import connect, is_held, translated


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
    asked = [-1 if most is None else most]
    with closing(connect(db, write=False)) as connection, translated(db):
        rows = connection.execute(queries.RUNS, asked).fetchall()
        is_at_work = any(row["state"] == "running" for row in rows) and is_held(db)
        if not is_at_work:  # what stood as running may have ended since; what still does was killed
            rows = connection.execute(queries.RUNS, asked).fetchall()
        for place, row in enumerate(rows):
            yield _run(row, connection, is_at_work and place == 0)


def _run(row: sqlite3.Row, connection: sqlite3.Connection, is_at_work: bool) -> Run:
    """A run that has ended keeps its counts, also when its items are pruned; of others the items are counted.

    One that was killed still stands as running, until the next one finds it.
    """
    values = dict(row)
    if row["state"] == "running" and not is_at_work:
        values["state"] = "interrupted"
    kept = values.pop("counts")
    counted = json.loads(kept) if kept else dict(map(tuple, connection.execute(queries.COUNT_ITEMS, [row["id"]])))
    return Run(**values, outcomes=counted)

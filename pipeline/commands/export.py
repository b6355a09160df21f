"""`export`: every page with its newest summary, row by row."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from pipeline import queries
from pipeline.store import connect, translated


def pages(db: Path, states: Sequence[str]) -> Iterator[sqlite3.Row]:
    """The pages of these states, or all if none is named, in the order in which they were added.

    Raises `DatabaseUnusable`.
    """
    with closing(connect(db, write=False)) as connection, translated(db):
        yield from connection.execute(queries.EXPORT, {"states": json.dumps(states)})

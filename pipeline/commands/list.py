"""`list`: the pages, with how each stands."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pipeline import queries
from pipeline.store import connect, translated


def pages(db: Path, state: str | None) -> Iterator[sqlite3.Row]:
    """All pages, or those of one state, in the order in which they were added.

    Raises `DatabaseUnusable`.
    """
    with closing(connect(db, write=False)) as connection, translated(db):
        yield from connection.execute(queries.LIST, {"state": state})

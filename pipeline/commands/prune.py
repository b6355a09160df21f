"""`prune` and `forget`: what is taken out of the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pipeline import queries
from pipeline.commands.show import find
from pipeline.store import Store, connect, iso, lock, now, translated

ROWS_A_TRANSACTION = 5_000


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows are gone, or would be."""

    items: int
    attempts: int
    texts: int


def prunable(db: Path, keep: timedelta) -> Pruned:
    """What `prune` would take out. Raises `DatabaseUnusable`."""
    before = iso(now() - keep)
    with closing(connect(db, write=False)) as connection, translated(db):
        return Pruned(
            connection.execute(queries.COUNT_OLD_ITEMS, [before]).fetchone()[0],
            connection.execute(queries.COUNT_OLD_ATTEMPTS, [before]).fetchone()[0],
            connection.execute(queries.COUNT_LOOSE_TEXTS).fetchone()[0],
        )


def prune(db: Path, keep: timedelta) -> Pruned:
    """Takes out items and attempts that are older, and texts that no page and no summary is of; never a summary.

    With them goes what is known of hosts that were not asked since.

    A few rows a transaction, so that readers are not held up and the log stays small. Raises `LockHeld` while a run
    works, `DatabaseUnusable`.
    """
    connect(db, write=False).close()
    before = iso(now() - keep)
    with lock(db), Store.open(db) as store:
        _all_of(store, [queries.PRUNE_HOSTS], before)
        return Pruned(
            _all_of(store, [queries.PRUNE_ITEMS], before),
            _all_of(store, [queries.PRUNE_ATTEMPTS], before),
            _all_of(store, [queries.PRUNE_CHUNKS, queries.PRUNE_TEXTS], before),
        )


def _all_of(store: Store, statements: Sequence[str], before: str) -> int:
    """How many rows the last of the statements deletes in all, when they are done again until nothing is left."""
    gone = 0
    while True:
        with store.transaction("prune") as db:
            for statement in statements:
                count = db.execute(statement, {"before": before, "most": ROWS_A_TRANSACTION}).rowcount
        if not count:
            return gone
        gone += count


def known(db: Path, url: str) -> sqlite3.Row:
    """The page that `forget` would take out. Raises `UsageError` for one that is not there, `DatabaseUnusable`."""
    with closing(connect(db, write=False)) as connection, translated(db):
        # Of this URL itself: what another page now leads to is not what was named.
        return find(connection, db, url, redirected=False)


def forget(db: Path, page: sqlite3.Row) -> None:
    """Takes out all that is known of a page, but what other pages have too.

    Raises `LockHeld` while a run works, `DatabaseUnusable`.
    """
    names = {"page_id": page["id"], "url": page["url"]}
    with lock(db), Store.open(db) as store, store.transaction("forget") as connection:
        for statement in queries.FORGET:
            connection.execute(statement, {name: names[name] for name in names if f":{name}" in statement})

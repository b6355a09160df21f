"""`retry` and `resummarize`: which of the known pages a run is to work on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

from pipeline import queries
from pipeline.commands.show import find
from pipeline.errors import UsageError
from pipeline.records import Chosen
from pipeline.store import connect, translated

PAGES_A_TRANSACTION = 1_000


def pages(db: Path, urls: Sequence[str]) -> list[sqlite3.Row]:
    """`id`, `url` and `state` of these pages.

    Raises `UsageError` for one that the database does not have, and for a line of a list that is no page.
    """
    with closing(connect(db, write=False)) as connection, translated(db):
        found = [find(connection, db, url) for url in urls]
        for page in found:
            if not connection.execute(queries.IS_PAGE, [page["id"]]).fetchone()[0]:
                raise UsageError(f"{page['url']} is no page, and there is nothing to work on; mend the list")
        return found


def to_retry(db: Path, reasons: Sequence[str]) -> Iterator[Chosen]:
    """The pages that failed or were deferred; with reasons, those that have one of them. Raises `DatabaseUnusable`."""
    return _found(db, queries.TO_RETRY, {"reasons": json.dumps(reasons)}, fetched=True)


def with_text(
    db: Path,
    *,
    states: Sequence[str],
    sites: Sequence[str],
    tags: Sequence[str],
    models: Sequence[str],
    where: str | None = None,
) -> Iterator[Chosen]:
    """The pages of which a text is stored, and that are one of each, of those that are named.

    A site is a host, or one above it, or the name that the site gives itself; the model is that of the newest summary.
    `where` is a condition in SQL on `pages` that they fulfil too. Raises `DatabaseUnusable`, `UsageError` for one that
    is none.
    """
    values = {
        "states": json.dumps(states),
        "sites": json.dumps([site.lower() for site in sites]),
        "tags": json.dumps(tags),
        "models": json.dumps(models),
    }
    found = _found(db, queries.WITH_TEXT, values, fetched=False)
    return found if where is None else _that_fulfil(db, found, where)


def _that_fulfil(db: Path, found: Iterator[Chosen], where: str) -> Iterator[Chosen]:
    with _judge(db) as judge:
        # Only made ready: what has no end is to have none in the run, which can be stopped.
        judge(f"EXPLAIN {queries.WHERE.format(where)}", {})
        judge(f"EXPLAIN {queries.AND_WHERE.format(where)}", {"first": 0, "last": 0})

    def those() -> Iterator[Chosen]:
        with _judge(db) as judge:
            for batch in found:
                between = {"first": batch.page_ids[0], "last": batch.page_ids[-1]}
                fulfil = set(judge(queries.AND_WHERE.format(where), between))
                yield replace(batch, page_ids=tuple(page_id for page_id in batch.page_ids if page_id in fulfil))

    return those()


@contextmanager
def _judge(db: Path) -> Iterator[Callable[[str, Mapping[str, int]], list[int]]]:
    """Asks what somebody else has written in SQL: it may read what is stored of pages, and do nothing else at all."""
    with closing(connect(db, write=False)) as connection, translated(db):
        connection.execute(queries.JSON_EACH)

        def judge(question: str, values: Mapping[str, int]) -> list[int]:
            connection.set_authorizer(_may_be_done)
            try:
                return [row[0] for row in connection.execute(question, values)]
            except (sqlite3.DatabaseError, sqlite3.Warning) as error:
                if getattr(error, "sqlite_errorname", "") not in _FAULTS_OF_SQL:
                    raise
                raise UsageError(f"--where is no condition on `pages` (docs/database.md): {error}") from error
            finally:
                connection.set_authorizer(None)

        yield judge


_FAULTS_OF_SQL = ("", "SQLITE_ERROR", "SQLITE_AUTH", "SQLITE_MISMATCH", "SQLITE_TOOBIG", "SQLITE_RANGE")
_MAY_BE_DONE = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)


def _may_be_done(action: int, table: str | None, *_: str | None) -> int:
    reads = action == sqlite3.SQLITE_READ and table != "meta"  # it has the secret
    return sqlite3.SQLITE_OK if reads or action in _MAY_BE_DONE else sqlite3.SQLITE_DENY


def chosen(page_ids: Iterable[int], *, fetched: bool) -> Iterator[Chosen]:
    """These pages, in batches."""
    rest = iter(page_ids)
    while batch := tuple(islice(rest, PAGES_A_TRANSACTION)):
        yield Chosen(batch, fetched)


def _found(db: Path, query: str, values: Mapping[str, str], *, fetched: bool) -> Iterator[Chosen]:
    # A few at a time: SQLite would keep all that is written while one SELECT is read to its end.
    after = 0
    with closing(connect(db, write=False)) as connection, translated(db):
        while rows := connection.execute(query, {**values, "after": after, "most": PAGES_A_TRANSACTION}).fetchall():
            after = rows[-1]["id"]
            yield Chosen(tuple(row["id"] for row in rows), fetched)

"""`retry` and `resummarize`: which of the known pages a run is to work on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
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
    db: Path, *, states: Sequence[str], sites: Sequence[str], tags: Sequence[str], models: Sequence[str]
) -> Iterator[Chosen]:
    """The pages of which a text is stored, and that are one of each, of those that are named.

    A site is a host, or one above it, or the name that the site gives itself; the model is that of the newest summary.
    Raises `DatabaseUnusable`.
    """
    values = {
        "states": json.dumps(states),
        "sites": json.dumps([site.lower() for site in sites]),
        "tags": json.dumps(tags),
        "models": json.dumps(models),
    }
    return _found(db, queries.WITH_TEXT, values, fetched=False)


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

"""`search WORDS`: the pages whose title or summary has all the words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from pipeline import queries
from pipeline.store import connect, translated


def pages(db: Path, words: Sequence[str]) -> Iterator[sqlite3.Row]:
    """The pages with all the words somewhere in title, summary or key points, in any case, in any script.

    Raises `DatabaseUnusable`.
    """
    wanted = [word.casefold() for word in words]
    with closing(connect(db, write=False)) as connection, translated(db):
        for row in connection.execute(queries.SEARCH):
            text = f"{row['title']}\n{row['summary']}\n{row['key_points']}".casefold()
            if all(word in text for word in wanted):
                yield row

"""`failures`: what is not well now, since when, and what can be done about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline import queries
from pipeline.records import Reason
from pipeline.store import connect, translated

NOT_YET = "its turn has not come yet"
"""Of a page that waits and was not tried."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One page that is not well; the reason is empty for one that only waits for its turn."""

    url: str
    state: str
    """`failed`, `deferred` or `waiting`."""
    reason: str
    detail: str
    since: str
    """When it was first tried without success, after the last success."""
    failures: int
    """How many times in a row."""
    not_before: str | None
    tried_at: str | None
    """When it was last tried."""
    what: str
    advice: str


def failures(db: Path, reasons: Sequence[str]) -> Iterator[Failure]:
    """The pages that are not well for one of these reasons, or for any, by state and reason.

    Raises `DatabaseUnusable`.
    """
    with closing(connect(db, write=False)) as connection, translated(db):
        for row in connection.execute(queries.UNWELL, {"reasons": json.dumps(reasons)}):
            what, advice = _meaning(row["reason"])
            yield Failure(**dict(row), what=what, advice=advice)


def _meaning(reason: str) -> tuple[str, str]:
    if not reason:
        return NOT_YET, "nothing to do: the next run goes on"
    meaning = Reason(reason).meaning
    return meaning.what, meaning.advice

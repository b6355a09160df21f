"""`--dry-run`: what a run would do, without a request and without writing anything."""

from __future__ import annotations

import secrets
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

from pipeline import queries
from pipeline.patience import LONGEST
from pipeline.records import Line, Reason, State
from pipeline.store import connect, is_there, iso, now, translated

NEW, AGAIN, MODEL, FRESH, NOT_YET, BAD, REPEATED = (
    "new",
    "to be asked whether changed",
    "waiting for the model only",
    "fresh",
    "not to be asked yet",
    "no URL",
    "repeated",
)


def plan(
    db: Path, lines: Callable[[bytes], Iterable[Line]], max_age: timedelta, force: bool, texts_only: bool = False
) -> Counter[str]:
    """How many of the lines are of which kind; with `texts_only` nobody waits for the model.

    Raises `UsageError`, `DatabaseUnusable`.
    """
    fresh_after = None if force else iso(now() - max_age)
    seen: set[int] = set()
    """Hashes: a million of them have half the size of a million keys."""
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        stack.enter_context(translated(db))
        connection = stack.enter_context(closing(connect(db, write=False))) if is_there(db) else None
        for line in lines(secrets.token_bytes(32)):
            key = hash(line.key)
            counts[REPEATED if key in seen else _kind(line, connection, fresh_after, texts_only)] += 1
            seen.add(key)
    return counts


def _kind(line: Line, connection: sqlite3.Connection | None, fresh_after: str | None, texts_only: bool) -> str:
    if line.reason:
        return BAD
    row = connection.execute(queries.KNOWN, [line.key]).fetchone() if connection else None
    if row is None or row["state"] == State.QUEUED.value:
        return NEW
    waits_for_model = row["state"] == State.FETCHED.value
    if waits_for_model and not texts_only:
        return MODEL
    if fresh_after is not None:
        if (waits_for_model or row["state"] == State.SUMMARIZED.value) and fresh_after < row["fetched_at"] <= iso(
            now()
        ):
            return FRESH
        if row["state"] in (State.FAILED.value, State.DEFERRED.value) and _is_not_due(row):
            return NOT_YET
    return AGAIN


def _is_not_due(row: sqlite3.Row) -> bool:
    time = now()
    return iso(time) < (row["not_before"] or "") <= iso(time + LONGEST) or row["reason"] == Reason.GAVE_UP.value

"""Dates as lists write them (W3C note on date and time formats, a profile of ISO 8601)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

FIRST_YEAR = 1990
"""Of the web. A year before it (0001, 1970) is what a program writes that knows no date."""

_DAYS = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)


def last_moment(text: str) -> datetime | None:
    """The last moment that a date can mean: of `2026-11` the end of November. `None` for what is no date.

    What names no zone is read as UTC.
    """
    try:
        if days := _DAYS.fullmatch(text):
            return believable(_end_of(int(days[1]), int(days[2] or 0), int(days[3] or 0)))
        found = datetime.fromisoformat(text)
        return believable(found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def believable(moment: datetime) -> datetime | None:
    """`moment`, unless nothing can have been on the web then."""
    return moment if moment.year >= FIRST_YEAR else None


def _end_of(year: int, month: int, day: int) -> datetime:
    if day:
        return datetime(year, month, day, tzinfo=UTC) + timedelta(days=1)
    return datetime(year + 1, 1, 1, tzinfo=UTC) if month in (0, 12) else datetime(year, month + 1, 1, tzinfo=UTC)

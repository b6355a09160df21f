"""How long a page that failed is left alone, and when it is given up."""

from __future__ import annotations

from datetime import timedelta

DAYS = (0, 1, 2, 4, 8, 14, 14)
"""After the first failure, the second, and so on. After the first any later run asks: the fault may have been here."""
MOST_FAILURES = len(DAYS) + 1
"""In a row; then only `retry` and `--force` ask again. By then six weeks have passed."""
LONGEST = timedelta(days=max(DAYS))
"""No page is left alone for longer, by its site's wish or by ours."""
EARLIER = timedelta(hours=4)
"""So much less than whole days: a night that begins a little earlier than the last one does ask."""


def pause(failures: int) -> timedelta | None:
    """How long nobody asks after so many failures in a row, 1 or more; `None`: for ever."""
    if failures >= MOST_FAILURES:
        return None
    days = DAYS[failures - 1]
    return timedelta(days=days) - EARLIER if days else timedelta(0)

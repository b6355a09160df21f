"""RSS and Atom feeds, also broken ones: the one module that knows feedparser.

feedparser gets bytes and never an address, so it loads nothing; and never a document type, so there is nothing to
expand. Its time is not bounded by the size of a feed: what comes from elsewhere is read with it in a process `apart`.
"""

from __future__ import annotations

import calendar
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from pipeline.urls.dates import believable, last_moment
from pipeline.urls.items import MOST_ENTRIES, MOST_URL_CHARACTERS, Entry, Item, LeftOut, Unreadable, absolute, place_of
from pipeline.urls.kinds import root_of

MOST_CHARACTERS = 10_000_000
"""It is read as a whole."""
FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What its parser for broken feeds raises on some of them, such as `&#99999999999;` (6.0.14)."""


def entries(text: TextIO, base: str) -> Iterator[Item]:
    """The pages of a feed; their place is its title.

    Links are relative to `xml:base`, to the feed's own address (`base`), or to what it names as its address.
    Raises `Unreadable` if not even a part of it can be understood.
    """
    # Imported here: it takes a fifth of a second, and most lists are no feeds.
    import feedparser  # noqa: PLC0415

    source = text.read(MOST_CHARACTERS + 1)
    if len(source) > MOST_CHARACTERS:
        raise Unreadable(f"a feed of more than {MOST_CHARACTERS:,} characters")
    data = source[root_of(source)[0] :].encode("utf-8", "replace")
    headers = {"content-type": "application/xml; charset=utf-8"} | ({"content-location": base} if base else {})
    try:
        feed = feedparser.parse(
            io.BytesIO(data), response_headers=headers, sanitize_html=False, resolve_relative_uris=False
        )
    except FAULTS as error:
        raise Unreadable(f"feedparser cannot read it ({type(error).__name__}: {error})") from error
    if not feed["entries"] and (feed["bozo"] or not feed.get("version")):
        raise Unreadable(_why(feed))
    about = feed["feed"]
    place = place_of([str(about.get("title", ""))])
    base = base or next((link["href"] for link in about.get("links", ()) if link.get("rel") == "self"), "")
    base = base or str(about.get("link", ""))
    for number, entry in enumerate(feed["entries"]):
        if number == MOST_ENTRIES:
            raise Unreadable(f"more than {MOST_ENTRIES:,} entries")
        link = str(entry.get("link", ""))[:MOST_URL_CHARACTERS].strip()
        yield Entry(absolute(link, base), place, dated=_dated(entry)) if link else LeftOut("entries without a link")


def _why(feed: Mapping[str, Any]) -> str:
    fault = feed.get("bozo_exception")
    message = getattr(fault, "getMessage", lambda: str(fault))()
    line = getattr(fault, "getLineNumber", lambda: None)()
    return f"no feed that can be read{f' ({message} at line {line})' if fault else ''}"


def _dated(entry: dict[str, Any]) -> datetime | None:
    """When it was changed last. `dict.get`: feedparser's own `get` gives the other date, with a warning."""
    moments = [_moment(entry, name) for name in ("updated", "published", "created")]
    return max((moment for moment in moments if moment), default=None)


def _moment(entry: dict[str, Any], name: str) -> datetime | None:
    text, parsed = dict.get(entry, name), dict.get(entry, f"{name}_parsed")
    if isinstance(text, str) and (moment := last_moment(text.strip())):
        return moment
    try:
        return believable(datetime.fromtimestamp(calendar.timegm(parsed), UTC)) if parsed else None
    except (ValueError, OverflowError, OSError):
        return None

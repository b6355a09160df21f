"""A list of any kind into its entries."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

from pipeline.urls import apart, bookmarks, feeds, markdown, outlines, plain, sitemaps
from pipeline.urls.items import Entry, Item, Unreadable
from pipeline.urls.kinds import NO_LISTS, Kind
from pipeline.urls.streams import Source, decoded

READERS: dict[Kind, Callable[[TextIO, str], Iterator[Item]]] = {
    Kind.TEXT: lambda text, base: plain.entries(text),
    Kind.MARKDOWN: markdown.entries,
    Kind.BOOKMARKS: bookmarks.entries,
    Kind.FEED: feeds.entries,
    Kind.SITEMAP: sitemaps.entries,
    Kind.OUTLINE: outlines.entries,
}


@dataclass(frozen=True, slots=True)
class Listing:
    """All that a list says."""

    kind: Kind
    items: tuple[Item, ...]
    fault: str
    """Why the rest of it, or all of it, cannot be read; empty if it can."""


def items(source: Source, base: str = "") -> Iterator[Item]:
    """The items of an open list, as they are read; those of a feed once all of it is read. Raises `Unreadable`."""
    if source.kind is not Kind.FEED:
        yield from _reader(source.kind)(source.text, base)
        return
    found = apart.call(_listing, source.kind, source.text.read(feeds.MOST_CHARACTERS + 1), base)
    yield from found.items
    if found.fault:
        raise Unreadable(found.fault)


def listing(body: bytes, base_url: str, charset: str = "") -> Listing:
    """What a list from the web says. It is read in a process of its own: whatever it is, it ends within half a minute.

    `base_url` is where it came from, `charset` what the site said it is written in. Raises `Unreadable` when nothing
    can be read.
    """
    found = apart.call(_listing_of_bytes, body, base_url, charset)
    if found.fault and not found.items:
        raise Unreadable(found.fault)
    return found


def entries(body: bytes, base_url: str, charset: str = "") -> tuple[Entry, ...]:
    """The entries of a list from the web, such as a feed that was given as a page. Raises `Unreadable`."""
    return tuple(item for item in listing(body, base_url, charset).items if isinstance(item, Entry))


def is_list(body: bytes) -> bool:
    """Whether a page that was fetched is a feed, a sitemap or an OPML outline, packed or not, by how it begins."""
    try:
        with decoded(io.BytesIO(body)) as source:
            return source.kind in (Kind.FEED, Kind.SITEMAP, Kind.OUTLINE)
    except Unreadable:
        return False


def _listing_of_bytes(body: bytes, base: str, charset: str) -> Listing:
    with decoded(io.BytesIO(body), charset) as source:
        return _listing(source.kind, source.text, base)


def _listing(kind: Kind, text: TextIO | str, base: str) -> Listing:
    found: list[Item] = []
    fault = ""
    try:
        found.extend(_reader(kind)(io.StringIO(text) if isinstance(text, str) else text, base))
    except Unreadable as error:
        fault = str(error)
    return Listing(kind, tuple(found), fault)


def _reader(kind: Kind) -> Callable[[TextIO, str], Iterator[Item]]:
    if kind in NO_LISTS:
        raise Unreadable(f"it is {kind.value}, not a list of URLs")
    return READERS[kind]

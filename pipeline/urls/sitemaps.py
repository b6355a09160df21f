"""Sitemaps and indexes of sitemaps (sitemaps.org), one `<url>` or `<sitemap>` at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from pipeline.urls.dates import last_moment
from pipeline.urls.elements import Start, elements
from pipeline.urls.items import MOST_ENTRIES, MOST_URL_CHARACTERS, Entry, Item, LeftOut, Unreadable, absolute

MOST_BYTES = 52_428_800
"""Unpacked: the bound of the protocol, as is `MOST_ENTRIES`."""
ENTRIES = {"urlset": "url", "sitemapindex": "sitemap"}


def entries(text: TextIO, base: str) -> Iterator[Item]:
    """The pages of a sitemap, or the sitemaps of an index; `lastmod` is when they are dated."""
    found = 0
    prefix = wanted = ""
    fields: dict[str, str] = {}
    for tag in elements(text, MOST_BYTES):
        if isinstance(tag, Start):
            if tag.depth == 1:
                prefix, wanted = _names(tag.name)
            elif tag.depth == 2:
                fields = {}
        elif tag.depth == 3:
            # The protocol's own names only: images and videos have a `loc` as well.
            fields.setdefault(tag.name, tag.text.strip())
        elif tag.depth == 2 and tag.name == prefix + wanted:
            found += 1
            if found > MOST_ENTRIES:
                raise Unreadable(f"more than {MOST_ENTRIES:,} entries")
            yield _entry(fields, prefix, base, wanted == "sitemap")


def _names(root: str) -> tuple[str, str]:
    """The prefix of all names, with its colon, and the name of an entry."""
    prefix, colon, name = root.rpartition(":")
    if name not in ENTRIES:
        raise Unreadable(f"<{root[:50]}> is not the root of a sitemap")
    return prefix + colon, ENTRIES[name]


def _entry(fields: dict[str, str], prefix: str, base: str, is_list: bool) -> Item:
    url = fields.get(f"{prefix}loc", "")[:MOST_URL_CHARACTERS]
    if not url:
        return LeftOut("entries without a URL")
    return Entry(absolute(url, base), dated=last_moment(fields.get(f"{prefix}lastmod", "")), is_list=is_list)

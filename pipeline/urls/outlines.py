"""OPML (opml.org): outlines of feeds and links, as feed readers export their subscriptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from pipeline.urls.elements import End, elements
from pipeline.urls.items import MOST_URL_CHARACTERS, Entry, Item, LeftOut, absolute, place_of, tags_of

COMMENTED_OUT = "outlines that are commented out"


def entries(text: TextIO, base: str) -> Iterator[Item]:
    """The feeds and links; their place is the path of outlines, their categories are tags.

    An outline that has a feed and the page of that feed is its feed.
    """
    names: list[str] = []
    hidden_at: int | None = None
    for tag in elements(text):
        if tag.name.lower() != "outline":
            continue
        if isinstance(tag, End):
            names.pop()
            if hidden_at is not None and len(names) <= hidden_at:
                hidden_at = None
            continue
        fields = {name.lower(): value.strip() for name, value in tag.attributes.items()}
        if hidden_at is None and fields.get("iscomment") == "true":
            hidden_at = len(names)
        names.append(fields.get("text") or fields.get("title") or "")
        if url := fields.get("xmlurl") or fields.get("url") or fields.get("htmlurl"):
            yield (
                LeftOut(COMMENTED_OUT)
                if hidden_at is not None
                else Entry(
                    absolute(url[:MOST_URL_CHARACTERS], base), place_of(names), tags_of(fields.get("category", ""))
                )
            )

"""A browser's bookmarks in the Netscape format, as Firefox, Chrome, Safari and Edge export them.

Read by lxml as a stream of tags. (`html.parser` takes 44 seconds for 250 kB of `<!--` in Python 3.11, as it looks
at an unfinished tag again with every piece; lxml a hundredth of a second.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TextIO

from lxml.etree import HTMLParser, LxmlError

from pipeline.urls.items import (
    MOST_DEPTH,
    MOST_NAME_CHARACTERS,
    MOST_URL_CHARACTERS,
    PIECE_CHARACTERS,
    Entry,
    Item,
    LeftOut,
    Unreadable,
    absolute,
    place_of,
    tags_of,
)

BROWSERS_OWN = ("javascript", "place", "file", "data", "about", "chrome", "edge", "brave", "opera", "vivaldi", "blob")
BROWSERS_OWN_ENDS = ("-extension", "-search", "-source")
THE_BROWSERS = "bookmarks of the browser itself (javascript:, place:, file: and the like)"


def entries(text: TextIO, base: str) -> Iterator[Item]:
    """The bookmarks; their place is the path of folders, and the tags that Firefox writes are tags.

    Small programs, queries and files are left out: they are the browser's, not the user's reading.
    """
    seen = _Seen()
    # The text is decoded already; what its `<meta>` says of that no longer counts for lxml.
    parser = HTMLParser(target=seen)
    try:
        while piece := text.read(PIECE_CHARACTERS):
            parser.feed(piece)
            yield from seen.items(base)
        parser.close()
    except LxmlError as error:
        raise Unreadable(f"no HTML that can be read: {error}") from error
    yield from seen.items(base)


def _is_the_browsers(url: str) -> bool:
    scheme, colon, _ = url.partition(":")
    return bool(colon) and (scheme.lower() in BROWSERS_OWN or scheme.lower().endswith(BROWSERS_OWN_ENDS))


class _Seen:
    """The bookmarks since the last piece, each with the folders that it is in: an `<h3>` names the `<dl>` after it."""

    def __init__(self) -> None:
        self._folders: list[str] = []
        self._name = ""
        self._in_name = False
        self._bookmarks: list[tuple[str, str, str]] = []

    def items(self, base: str) -> Iterator[Item]:
        bookmarks, self._bookmarks = self._bookmarks, []
        for url, place, tags in bookmarks:
            if not url:
                yield LeftOut("bookmarks without a URL")
            elif _is_the_browsers(url):
                yield LeftOut(THE_BROWSERS)
            else:
                yield Entry(absolute(url, base), place, tags_of(tags))

    # What lxml calls

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "h3":
            self._name, self._in_name = "", True
        elif tag == "dl":
            if len(self._folders) >= MOST_DEPTH:
                raise Unreadable(f"folders more than {MOST_DEPTH} deep")
            self._folders.append(self._name)
            self._name = ""
        elif tag == "a":
            url = attributes.get("href", "").strip()[:MOST_URL_CHARACTERS]
            self._bookmarks.append((url, place_of(self._folders), attributes.get("tags", "")))

    def end(self, tag: str) -> None:
        if tag == "h3":
            self._in_name = False
        elif tag == "dl" and self._folders:
            self._folders.pop()

    def data(self, text: str) -> None:
        if self._in_name:
            self._name = (self._name + text)[:MOST_NAME_CHARACTERS]

    def close(self) -> None:
        """Nothing is kept."""

"""A text list: one URL a line.

`#` starts a comment, at the start of a line or after white space; `#word` after a URL is a tag. Blank lines are
passed over. Every other line is an entry, also one that is no URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

from pipeline.urls.items import Entry

MAX_LINE_CHARACTERS = 65_536
"""What is read of a line."""


def entries(text: TextIO) -> Iterator[Entry]:
    """The entries, never more than one line in memory."""
    for line in _bounded(text):
        if wanted := without_comment(line):
            yield entry_of(wanted)


def entry_of(text: str) -> Entry:
    """A line without its comment; if more than tags stand behind the URL, all of it is taken for the URL."""
    url, *rest = text.split()
    if not rest:
        return Entry(url)
    tags = tuple(word[1:] for word in rest if word.startswith("#"))
    return Entry(url, tags=tags, text=text) if len(tags) == len(rest) else Entry(text)


def without_comment(line: str) -> str:
    """The entry of a line. A `#` is a comment's start where white space or nothing comes before and after it."""
    entry = line.strip(" \t\r\n\ufeff")
    if "#" not in entry:
        return entry.strip()
    if entry.startswith("#"):
        return ""
    return re.split(r"[ \t]#(?=[ \t]|$)", entry, maxsplit=1)[0].strip()


def _bounded(lines: TextIO) -> Iterator[str]:
    """The lines of a stream; of a line that never ends only the beginning is kept."""
    while text := lines.readline(MAX_LINE_CHARACTERS):
        yield text
        while not text.endswith("\n") and len(text) == MAX_LINE_CHARACTERS:
            text = lines.readline(MAX_LINE_CHARACTERS)

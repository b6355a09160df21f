"""What the formats give: the entries of a list as they stand in it, before anything is asked about their URLs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urljoin

MOST_ENTRIES = 50_000
"""Of one feed or sitemap: the bound of the sitemap protocol (sitemaps.org)."""
MOST_URL_CHARACTERS = 8_192
"""What is kept of a URL; the longest that is fetched has 2,083."""
MOST_NAME_CHARACTERS = 200
MOST_DEPTH = 100
"""Of folders in folders."""
PIECE_CHARACTERS = 32_768
"""What is read at a time of a list that is read by tags."""
MOST_TAGS = 50


class Unreadable(Exception):
    """The list, or the rest of it, cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One URL that a list names."""

    url: str
    """Absolute, if the list says what a relative one is relative to; nobody has judged it yet."""
    place: str = ""
    """Where in the list it stands (folders, headings, the feed's title), outermost first; empty without such."""
    tags: tuple[str, ...] = ()
    dated: datetime | None = None
    """The last moment at which it can have been published or changed (UTC)."""
    is_list: bool = False
    """Whether it is not a page but another list, as a sitemap in an index is."""
    text: str = ""
    """The line as it stands, where it says more than the URL."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in a list that is no entry of it, on purpose; `what` names its kind in the plural, for people."""

    what: str


Item = Entry | LeftOut


def place_of(names: Iterable[str]) -> str:
    """Names of folders as one line, outermost first."""
    return " / ".join(cleaned for name in names if (cleaned := " ".join(name.split())[:MOST_NAME_CHARACTERS]))


def tags_of(text: str) -> tuple[str, ...]:
    """The tags of a list that separates them by commas."""
    words = (" ".join(word.split()).strip("/")[:MOST_NAME_CHARACTERS] for word in text.split(","))
    return tuple(dict.fromkeys(word for word in words if word))[:MOST_TAGS]


def absolute(url: str, base: str) -> str:
    """`url`, read relative to `base` if there is one; what cannot be joined stays as it is, to be refused later."""
    try:
        return urljoin(base, url) if base else url
    except ValueError:
        return url

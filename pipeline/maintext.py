"""The tree of a page into its main text, and into what it says of itself: the one module that knows trafilatura. Pure.

What it would find and nobody here asks for (categories, tags, licence, pictures) took it a tenth of the time of a page,
so its readers of metadata are called one by one.
"""

from __future__ import annotations

import html
import importlib
import re
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pipeline.visible import Seen, may_name_an_author

_BEFORE_THE_NAME = re.compile(r"^(?:www|w\d+)\.")


@dataclass(frozen=True, slots=True)
class Said:
    """What a page says of itself; empty where it says nothing. May hold anything that a page can."""

    title: str
    author: str
    site: str
    published: str
    """`YYYY-MM-DD`."""


def load() -> None:
    """Loads what all pages need: it takes a second, and more on a busy machine."""
    for module in ("trafilatura", "trafilatura.metadata"):
        importlib.import_module(module)


def forget() -> None:
    """Gives up the texts of pages in trafilatura's caches."""
    importlib.import_module("trafilatura.meta").reset_caches()


def main_text(seen: Seen, url: str, *, comments: bool) -> str:
    """What trafilatura takes for the page's own text, as Markdown, and after it what readers have written under it."""
    import trafilatura  # noqa: PLC0415 - it takes a second, and only workers need it

    options = copy(_options(comments))
    options.url = options.source = url
    found = trafilatura.bare_extraction(seen.tree, options=options)
    if found is None or isinstance(found, dict):  # a dictionary only if asked for
        return ""
    return "\n\n".join(part for part in (found.text, found.comments) if part)


def said(seen: Seen, url: str) -> Said:
    """What the page at a URL says of itself: in its head, to search engines, and where a reader sees it."""
    from htmldate import find_date  # noqa: PLC0415 - they take a second, and only workers need them
    from trafilatura import metadata  # noqa: PLC0415

    tree = seen.tree
    known = metadata.examine_meta(tree)
    if " " not in (known.author or " "):
        known.author = None  # the name of an account
    # Data of search engines can be of any shape, and those parts that come before a surprise are kept.
    with suppress(AttributeError, LookupError, RecursionError, TypeError, ValueError):
        metadata.extract_meta_json(tree, known)
    title = known.title or metadata.extract_title(tree)
    author = known.author or (metadata.extract_author(tree) if may_name_an_author(tree) else None)
    own_url = known.url or metadata.extract_url(tree, url)
    # No date that is only guessed from a text: minutes of June were dated to the first of January.
    published = find_date(tree, url=own_url, original_date=True, extensive_search=False)
    site = known.sitename or metadata.extract_sitename(tree)
    return Said(_plain(title), _plain(author), _plain(_site(site, own_url)), published or "")


def _site(name: str | None, url: str | None) -> str:
    """A name with a capital letter, unless it is that of a host; without a name that of the host."""
    if not name:
        return _BEFORE_THE_NAME.sub("", urlsplit(url or "").netloc)
    name = name.lstrip("@")
    return name if "." in name or name[:1].isupper() else name.title()


def _plain(text: object) -> str:
    return html.unescape(str(text or ""))


@cache
def _options(comments: bool) -> Any:
    """Made once: it reads a configuration each time, which took as long as to parse a page."""
    from trafilatura.settings import Extractor  # noqa: PLC0415

    return Extractor(output_format="python", comments=comments, links=False, formatting=True)

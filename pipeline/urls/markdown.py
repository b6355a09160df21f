"""Markdown with links: the one module that knows markdown-it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

from pipeline.urls.items import MOST_URL_CHARACTERS, Entry, Item, LeftOut, Unreadable, absolute, place_of

if TYPE_CHECKING:
    from markdown_it.token import Token

MOST_CHARACTERS = 5_000_000
"""It is read as a whole: a link may be defined at the end. markdown-it takes 65 times its size."""
NO_PAGES = "links to no web page (mailto:, a place in the text, a file beside it)"

_BARE = re.compile(r"https?://[^\s<>|\"`\\^{}。、，！？；：（）「」『』【】《》〈〉]{1,8192}", re.IGNORECASE)
_ANCHOR = re.compile(r"<a\s[^<>]*?\bhref\s*=\s*(?:\"([^\">]*)\"|'([^'>]*)'|([^\s\"'>]+))", re.IGNORECASE)
_ENDS_A_SENTENCE = "?!.,:;*_~'\""
_OPENS = {")": "(", "]": "["}


def entries(text: TextIO, base: str) -> Iterator[Item]:
    """The links: inline, by reference, in `<>`, as HTML, and bare. Nothing in code, no pictures.

    Their place is the headings above them.
    """
    # Imported here: most lists are no Markdown, and the program starts without it.
    from markdown_it import MarkdownIt  # noqa: PLC0415

    source = text.read(MOST_CHARACTERS + 1)
    if len(source) > MOST_CHARACTERS:
        raise Unreadable(f"Markdown of more than {MOST_CHARACTERS:,} characters")
    # Without emphasis, a bare `https://a.example/__init__` is one piece of text.
    reader = MarkdownIt("commonmark").disable("emphasis")
    reader.normalizeLink = _as_it_is  # type: ignore[method-assign]
    reader.validateLink = _any  # type: ignore[method-assign]
    environment: dict[str, dict[str, dict[str, str]]] = {}
    pictures: set[str] = set()
    named: set[str] = set()
    for url, place in _links(reader.parse(source, environment), pictures):
        named.add(url)
        yield _item(url, place, base)
    # A list of definitions that no text refers to is a list of links all the same.
    for definition in environment.get("references", {}).values():
        if (url := definition["href"]) not in named | pictures:
            yield _item(url, "", base)


def _as_it_is(url: str) -> str:
    return url


def _any(url: str) -> bool:
    return True


def _item(url: str, place: str, base: str) -> Item:
    whole = absolute(url.strip()[:MOST_URL_CHARACTERS], base if url and not url.startswith("#") else "")
    return Entry(whole, place) if whole.lower().startswith(("http://", "https://")) else LeftOut(NO_PAGES)


def _links(tokens: Iterable[Token], pictures: set[str]) -> Iterator[tuple[str, str]]:
    """Each link with its headings; notes what is a picture."""
    headings: dict[int, str] = {}
    level = 0
    for token in tokens:
        if token.type == "heading_open":
            level = int(token.tag[1:])
        elif token.type == "heading_close":
            level = 0
        elif token.type == "inline" and level:
            headings = {above: name for above, name in headings.items() if above < level}
            headings[level] = _words(token)
        yield from ((url, place_of(headings.values())) for url in _block(token, pictures))


def _block(token: Token, pictures: set[str]) -> Iterator[str]:
    if token.type == "inline":
        yield from _inline(token.children or (), pictures)
    elif token.type == "html_block":
        yield from _anchors(token.content)


def _anchors(markup: str) -> Iterator[str]:
    """The links of HTML, but not those in comments."""
    first, *rest = markup.split("<!--")
    for found in _ANCHOR.finditer(first + "".join(part.partition("-->")[2] for part in rest)):
        yield html.unescape(found[1] or found[2] or found[3] or "")


def _words(heading: Token) -> str:
    return "".join(child.content for child in heading.children or () if child.type in ("text", "code_inline"))


def _inline(tokens: Iterable[Token], pictures: set[str]) -> Iterator[str]:
    in_link = False
    for token in tokens:
        if token.type == "link_open":
            in_link = True
            yield str(token.attrs.get("href", ""))
        elif token.type == "link_close":
            in_link = False
        elif token.type == "image":
            pictures.add(str(token.attrs.get("src", "")))
        elif token.type == "html_inline":
            yield from _anchors(token.content)
        elif token.type == "text" and not in_link:
            yield from bare_urls(token.content)


def bare_urls(text: str) -> Iterator[str]:
    """The URLs that stand in a text without any mark, as GitHub finds them (GFM, 6.9): what ends a sentence, or
    closes a bracket that the URL has not opened, is no part of it."""
    for found in _BARE.finditer(text):
        url = found[0]
        too_many = {closing: url.count(closing) - url.count(opening) for closing, opening in _OPENS.items()}
        end = len(url)
        while url[end - 1] in _ENDS_A_SENTENCE or too_many.get(url[end - 1], 0) > 0:
            too_many[url[end - 1]] = too_many.get(url[end - 1], 0) - 1
            end -= 1
        if not url[:end].endswith("/") or url[:end].count("/") > 2:
            yield url[:end]

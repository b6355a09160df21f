"""What kind of list a text is, by how it begins; its name does not count."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

from pipeline.urls.plain import without_comment


class Kind(Enum):
    """What a list can be; the values name it for people."""

    TEXT = "a text list"
    MARKDOWN = "Markdown"
    BOOKMARKS = "bookmarks"
    FEED = "a feed"
    SITEMAP = "a sitemap"
    OUTLINE = "an OPML outline"
    WEB_PAGE = "a web page"
    OTHER_XML = "XML of another kind"


NO_LISTS = frozenset({Kind.WEB_PAGE, Kind.OTHER_XML})
ROOTS = {
    "rss": Kind.FEED,
    "rdf": Kind.FEED,
    "feed": Kind.FEED,
    "urlset": Kind.SITEMAP,
    "sitemapindex": Kind.SITEMAP,
    "opml": Kind.OUTLINE,
    "html": Kind.WEB_PAGE,
}
"""Names of roots, in lower case and without a prefix."""

_ROOT = re.compile(r"<(?:[\w.-]{1,50}:)?([\w.-]{1,50})[\s/>]")
_DOCTYPE = re.compile(r"<!DOCTYPE\s+([^\s>\[]{1,50})[^>\[]*", re.IGNORECASE)
_END_OF_DECLARATIONS = re.compile(r"\]\s*>")
_URL_LINE = re.compile(r"https?://\S+(?:\s+#\S+)*", re.IGNORECASE)
_LINK_LINE = re.compile(
    r"\]\(\s*<?https?://"  # [text](url), ![text](url)
    r"|^\s{0,3}\[[^\]]{1,1000}\]:\s*<?https?://"  # [name]: url
    r"|<https?://[^\s<>]{1,2100}>"
    r"|^\s*(?:[-*+>|]|\d{1,9}[.)])\s.*https?://",  # an item, a quotation, a row
    re.IGNORECASE,
)


def kind_of(head: str, whole: bool = True) -> Kind:
    """The kind of the list that begins with `head`; unless it is the `whole` list, its last line may be cut.

    A text list may say anything in its comments and have any bad lines, and must not lose them: so a list is taken
    for Markdown only if more of the lines of `head` are links as Markdown writes them than are plain URLs. Lines of
    prose and headings count for neither. A line that begins with one `#` is a comment.
    """
    start, doctype = root_of(head)
    if doctype.lower().startswith("netscape-bookmark-file"):
        return Kind.BOOKMARKS
    root = _ROOT.match(head, start)
    kind = ROOTS.get(root[1].lower()) if root else None
    if kind is None and doctype.lower() == "html":
        kind = Kind.WEB_PAGE
    if kind is None and (doctype or head.lstrip("\ufeff \t\r\n").startswith("<?xml")):
        kind = Kind.OTHER_XML
    return kind or (Kind.MARKDOWN if _is_markdown(head.splitlines()[: None if whole else -1]) else Kind.TEXT)


def root_of(text: str) -> tuple[int, str]:
    """Where the root element of a document would begin, and what its document type is called (or empty)."""
    at, doctype = 0, ""
    while True:
        while at < len(text) and text[at] in "\ufeff \t\r\n":
            at += 1
        if text.startswith("<?", at):
            end = text.find("?>", at)
        elif text.startswith("<!--", at):
            end = text.find("-->", at) + 1
        elif found := _DOCTYPE.match(text, at):
            doctype = found[1]
            end = _end_of_doctype(text, found.end()) - 1
        else:
            return at, doctype
        if end <= 0:
            return len(text), doctype
        at = end + 2


def _end_of_doctype(text: str, at: int) -> int:
    """Where its `>` is, or nowhere (-1)."""
    if not text.startswith("[", at):
        return text.find(">", at)
    found = _END_OF_DECLARATIONS.search(text, at)
    return found.end() - 1 if found else -1


def _is_markdown(lines: Iterable[str]) -> bool:
    urls = links = 0
    for line in lines:
        if _URL_LINE.fullmatch(without_comment(line)):
            urls += 1
        elif not re.match(r"\s*#(?!#)", line) and _LINK_LINE.search(line):
            links += 1
    return links > urls

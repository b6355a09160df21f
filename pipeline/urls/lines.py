"""What stands in a list into a `Line`: a page with its key, or a line that is none, with the reason."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from pipeline.records import Line, Reason, Refusal
from pipeline.urls.items import Entry
from pipeline.urls.keys import host_of, normal_form
from pipeline.urls.plain import entry_of

SHOWN_CHARACTERS = 200

_PASSWORD = re.compile(r"(?<=//)[^/?#\s]*@")
_PERHAPS_PASSWORD = re.compile(r"(?<=//)[^/@\s]*:.*@")
"""Of a line that is no URL: a password may have a slash or a space in it."""
_OF_THE_LINE = (Reason.BAD_URL, Reason.BLOCKED_SCHEME, Reason.BLOCKED_CREDENTIALS)
"""What cannot change until the line does; all else is judged when the page is asked for."""

Check = Callable[[str], Refusal | None]
"""Judges a URL before any look-up."""


def parse(text: str, origin: str, check: Check, secret: bytes) -> Line:
    """One line of a text list: a URL, and tags behind it (`#word`)."""
    return line_of(entry_of(text), origin, check, secret)


def line_of(entry: Entry, origin: str, check: Check, secret: bytes) -> Line:
    """The line of an entry. `secret` keys the hash by which a bad one is known without its text being told."""
    text = entry.text or entry.url
    if len(entry.url.split()) > 1:
        return bad_line(text, origin, secret, Refusal(Reason.BAD_URL, "white space inside"))
    refused = check(entry.url)
    if refused and refused.reason in _OF_THE_LINE:
        return bad_line(text, origin, secret, refused)
    try:
        key = normal_form(entry.url)
        return Line(entry.url, key, host_of(urlsplit(key)), origin, entry.tags)
    except ValueError as error:
        return bad_line(text, origin, secret, Refusal(Reason.BAD_URL, str(error)))


def bad_line(text: str, origin: str, secret: bytes, refused: Refusal) -> Line:
    """The row of what cannot be fetched; the same text is the same row tomorrow."""
    name = hmac.new(secret, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:32]
    return Line(
        shown(_PERHAPS_PASSWORD.sub("***@", text)),
        f"line:{name}",
        "",
        origin,
        reason=refused.reason,
        detail=shown(refused.detail),
    )


def masked(text: str) -> str:
    """A text without the credentials of the URLs in it."""
    return _PASSWORD.sub("***@", text)


def shown(text: str) -> str:
    """What may be shown of a text from outside: escaped, without credentials, at most 200 characters."""
    whole = masked(text[: 4 * SHOWN_CHARACTERS])
    safe = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in whole)
    return safe if len(safe) <= SHOWN_CHARACTERS else safe[: SHOWN_CHARACTERS - 1] + "…"

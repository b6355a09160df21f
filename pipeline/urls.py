"""Lists of URLs into lines, lazily: `urls.txt`, standard input, or a URL on the command line.

A list has one URL a line. `#` starts a comment, at the start of a line or after white space; `#word` after a
URL is a tag. Blank lines are passed over. A line that is no URL becomes a `Line` with a reason, so that it is
accounted for like every other.
"""

from __future__ import annotations

import codecs
import hmac
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast
from urllib.parse import SplitResult, urlsplit, urlunsplit

from w3lib.url import safe_url_string, url_query_cleaner

from pipeline.errors import UsageError
from pipeline.records import Line, Reason, Refusal

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_LINE_CHARACTERS = 65_536
"""What is read of a line; the longest URL that is fetched has 2,083."""
SHOWN_CHARACTERS = 200

TRACKING_PARAMETERS = (
    *("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id", "utm_name", "utm_cid"),
    *("utm_reader", "utm_social", "utm_source_platform", "utm_creative_format", "utm_marketing_tactic"),
    *("gclid", "gclsrc", "dclid", "gbraid", "wbraid", "srsltid", "_ga", "_gl", "fbclid", "igshid", "msclkid"),
    *("twclid", "ttclid", "yclid", "ysclid", "li_fat_id", "mc_cid", "mc_eid", "mkt_tok", "vero_id", "vero_conv"),
    *("_hsenc", "_hsmi", "__hssc", "__hstc", "__hsfp", "oly_anon_id", "oly_enc_id", "wickedid", "ml_subscriber"),
)
"""Parameters that say where a reader came from, never what is read. The list is fixed: it is a part of every key."""

_UNRESERVED = re.compile(r"%(4[1-9a-f]|5[0-9a]|6[1-9a-f]|7[0-9a]|3[0-9]|2d|2e|5f|7e)", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]")
_PASSWORD = re.compile(r"(?<=//)[^/@\s]*@")

Check = Callable[[str], Refusal | None]


def normal_form(url: str) -> str:
    """The key of a page: the RFC 3986 (6.2.2, 6.2.3) normal form of its URL.

    Scheme and host in lower case, the host in its IDNA form, the default port off, dot segments resolved,
    unreserved characters unescaped and other escapes in upper case, an empty path as `/`, no fragment, and no
    `TRACKING_PARAMETERS`. The order of the query is kept: it may matter to the site. (w3lib quotes, encodes
    the host and cleans the query here; its `canonicalize_url` sorts the query, and courlan's `clean_url` drops
    parameters such as `ref` and `source` that some sites need.)

    Raises `ValueError` for what is no URL.
    """
    parts = urlsplit(safe_url_string(url))
    if not parts.hostname:
        raise ValueError("no host")
    path = _without_dots(_normal_escapes(parts.path) or "/")
    bare = urlunsplit((parts.scheme.lower(), host_of(parts), path, _normal_escapes(parts.query), ""))
    return url_query_cleaner(bare, TRACKING_PARAMETERS, remove=True, unique=False) if parts.query else bare


def _without_dots(path: str) -> str:
    """RFC 3986 (5.2.4); `urllib.parse.urljoin` would take a path that begins with two slashes for a host."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _normal_escapes(text: str) -> str:
    unescaped = _UNRESERVED.sub(lambda match: chr(int(match[1], 16)), text)
    return _ESCAPE.sub(lambda match: match[0].upper(), unescaped)


def host_of(parts: SplitResult) -> str:
    """Whom politeness is owed: the host in lower case, with its port unless that is the scheme's own."""
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    if parts.port is None or parts.port == DEFAULT_PORTS.get(parts.scheme.lower()):
        return host
    return f"{host}:{parts.port}"


def read(sources: Iterable[str], check: Check, secret: bytes) -> Iterator[Line]:
    """The lines of all sources, one after the other, never more than one in memory.

    A source is the path of a list, `-` for standard input, or an http(s) URL. `check` judges a URL before any
    look-up; `secret` keys the hash by which a bad line is known without its text being told.
    Raises `UsageError` for a source that cannot be read.
    """
    for source in sources:
        if _is_url(source):
            yield parse(source, "command line", check, secret)
            continue
        with _opened(source) as lines:
            for text in _bounded(lines):
                entry = _without_comment(text)
                if entry:
                    yield parse(entry, source, check, secret)


def check_sources(sources: Iterable[str]) -> None:
    """Raises `UsageError` for a source that is not there, before anything is made for the sake of its lines."""
    for source in sources:
        if source == "-":
            _standard_input()
        elif not _is_url(source):
            _check_file(source)


def _check_file(source: str) -> None:
    # What is read of a pipe is gone, also of the one that a shell makes for `<(…)`.
    if os.access(source, os.R_OK) and not (os.path.isfile(source) or os.path.isdir(source)):
        return
    with _opened(source):
        pass


def _is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def parse(entry: str, origin: str, check: Check, secret: bytes) -> Line:
    """One entry of a list: a URL, and tags behind it (`#word`)."""
    url, *rest = entry.split()
    tags = tuple(word[1:] for word in rest if word.startswith("#"))
    if len(tags) < len(rest):
        return _bad_line(entry, origin, secret, Refusal(Reason.BAD_URL, "white space inside"))
    refused = check(url)
    if refused and refused.reason in (Reason.BAD_URL, Reason.BLOCKED_SCHEME, Reason.BLOCKED_CREDENTIALS):
        return _bad_line(entry, origin, secret, refused)
    try:
        key = normal_form(url)
        return Line(url, key, host_of(urlsplit(key)), origin, tags)
    except ValueError as error:
        return _bad_line(entry, origin, secret, Refusal(Reason.BAD_URL, str(error)))


def _bad_line(entry: str, origin: str, secret: bytes, refused: Refusal) -> Line:
    name = hmac.new(secret, entry.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:32]
    return Line(shown(entry), f"line:{name}", "", origin, reason=refused.reason, detail=shown(refused.detail))


def shown(text: str) -> str:
    """What may be shown of a text from outside: escaped, without credentials, at most 200 characters."""
    masked = _PASSWORD.sub("***@", text[: 4 * SHOWN_CHARACTERS])
    safe = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in masked)
    return safe if len(safe) <= SHOWN_CHARACTERS else safe[: SHOWN_CHARACTERS - 1] + "…"


def _without_comment(text: str) -> str:
    """The entry of a line. A `#` is a comment's start where white space or nothing comes before and after it."""
    entry = text.strip(" \t\r\n\ufeff")
    if entry.startswith("#"):
        return ""
    return re.split(r"[ \t]#(?=[ \t]|$)", entry, maxsplit=1)[0].strip()


@contextmanager
def _opened(source: str) -> Iterator[TextIO]:
    try:
        stream = _standard_input() if source == "-" else Path(source).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"cannot read {shown(source)}: {error.strerror}") from error
    with stream:
        head = stream.peek(2)[:2]
        encoding = "utf-16" if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        with io.TextIOWrapper(stream, encoding, errors="replace", newline=None) as lines:
            yield lines


def _standard_input() -> io.BufferedReader:
    if sys.stdin is None:
        raise UsageError("cannot read standard input: it is closed")
    return cast(io.BufferedReader, sys.stdin.buffer)


def _bounded(lines: TextIO) -> Iterator[str]:
    """The lines of a stream; of a line that never ends only the beginning is kept."""
    while text := lines.readline(MAX_LINE_CHARACTERS):
        yield text
        while not text.endswith("\n") and len(text) == MAX_LINE_CHARACTERS:
            text = lines.readline(MAX_LINE_CHARACTERS)

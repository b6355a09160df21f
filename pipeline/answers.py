"""What a site's answer says, once it is here: status, pauses, types, redirects, and the body unpacked within a bound.

Pure: headers and bytes in, values out; what makes an answer useless is raised as `PageFailed`.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urljoin

from pipeline.addresses import shown
from pipeline.charsets import codec_of
from pipeline.errors import PageFailed
from pipeline.pdf import is_pdf
from pipeline.records import Reason, Refusal

TEXT_TYPES = frozenset({"text/html", "application/xhtml+xml", "text/plain", "text/markdown", "application/pdf"})
LIST_TYPES = frozenset(
    f"{kind}/{name}"
    for kind in ("application", "text")
    for name in ("rss+xml", "atom+xml", "rdf+xml", "xml", "x-opml", "x-opml+xml", "opml+xml", "gzip", "x-gzip")
)
"""What feeds, sitemaps (packed, too) and outlines are labelled as; other things are too."""
NO_LABEL = "application/octet-stream"
"""What many servers say of a file whose ending they do not know, such as a packed sitemap."""
GZIP = b"\x1f\x8b"
MAGIC = {
    b"%PDF-": "application/pdf",
    b"%!PS": "application/postscript",
    b"PK\x03\x04": "application/zip",
    GZIP: "application/gzip",
    b"\x89PNG\r\n": "image/png",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"\xff\xd8\xff": "image/jpeg",
    b"\x7fELF": "a program",
    b"\xd0\xcf\x11\xe0": "application/msword",
}
"""How bodies begin that are no text, whatever their label says."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
STATUSES = {
    206: Reason.PROTOCOL_ERROR,
    304: Reason.PROTOCOL_ERROR,
    401: Reason.HTTP_401,
    403: Reason.HTTP_403,
    404: Reason.HTTP_404,
    407: Reason.CONNECT_ERROR,
    408: Reason.TIMEOUT,
    410: Reason.HTTP_410,
    425: Reason.RATE_LIMITED,
    429: Reason.RATE_LIMITED,
    451: Reason.HTTP_451,
}
"""206 and 304 answer what was not asked; 407 is what a proxy says to us, and not the site."""
STATUS_CLASSES = {2: Reason.NO_CONTENT, 3: Reason.BAD_REDIRECT, 4: Reason.HTTP_4XX, 5: Reason.HTTP_5XX}
WITH_PAUSE = frozenset({408, 425, 429, 503})
LONGEST_PAUSE = timedelta(days=7)
MOST_MEMBERS = 64
"""gzip streams in one body (RFC 1952, 2.2): a hundred thousand empty ones would cost nothing but our time."""

_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([\w.:+-]{1,40})", re.IGNORECASE | re.ASCII)
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
"""The binary data bytes of the WHATWG MIME sniffing standard."""
_LINK = re.compile(r"<([^<>]*+)>((?:[^<>\",]++|\"[^\"]*+\")*+)")
_PARAMETER = re.compile(r";\s*+([\w!#$&+.^`|~*-]++)\s*+(?:=\s*+(?:\"([^\"]*+)\"|([^\s;,\"]*+)))?")
_PLAIN_VALUE = re.compile(r"[\x20-\x7e]{1,1000}")


def refusal_for_status(status: int, retry_after: str, now: datetime) -> Refusal | None:
    """Why there is no page behind this status; `None` if there is one."""
    if status in (200, 203):
        return None
    pause = pause_until(retry_after, now) if status in WITH_PAUSE else None
    reason = STATUSES.get(status) or STATUS_CLASSES.get(status // 100, Reason.PROTOCOL_ERROR)
    if status == 503 and pause:
        reason = Reason.RATE_LIMITED
    return Refusal(reason, f"HTTP {status}", status, pause)


def pause_until(retry_after: str, now: datetime) -> datetime | None:
    """When the site may be asked again (RFC 9110, 10.2.3), at most in 7 days; `None` if it does not say, or now."""
    text = retry_after.strip()
    if re.fullmatch(r"[0-9]+", text):
        later = now + min(timedelta(seconds=int(text[:9])) if len(text) < 10 else LONGEST_PAUSE, LONGEST_PAUSE)
    else:
        try:
            later = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
        later = min(later if later.tzinfo else later.replace(tzinfo=UTC), now + LONGEST_PAUSE).astimezone(UTC)
    return later if later > now else None


def redirected(base: str, location: str, status: int) -> str:
    """The URL that a redirect leads to. Spaces and bytes that are not UTF-8 are escaped, as browsers do."""
    text = "".join(
        quote(char, errors="surrogateescape") if char == " " or "\ud800" <= char <= "\udfff" else char
        for char in location.strip(" \t")
    )
    if not text:
        raise PageFailed(Reason.BAD_REDIRECT, f"HTTP {status} without a Location")
    try:
        return urljoin(base, text)
    except ValueError as error:
        raise PageFailed(Reason.BAD_REDIRECT, f"HTTP {status} to what is no URL") from error


def after_redirects(refused: Refusal, chain: Sequence[str], stands_for: Mapping[Reason, Reason]) -> Refusal:
    """A refusal at the end of a chain of redirects, with the way there in its detail."""
    reason = Reason.BAD_REDIRECT if refused.reason is Reason.BAD_URL else refused.reason
    # Neither queries nor credentials: they may be secret.
    way = " -> ".join(shown(re.sub(r"(?<=//)[^/]*@", "***@", re.split("[?#]", url)[0])) for url in chain)
    detail = f"{refused.detail} (redirect {len(chain) - 1}: {way})"
    return Refusal(stands_for.get(reason, reason), detail[:500], refused.status, refused.not_before)


def validator(value: str) -> str:
    """An `ETag` or `Last-Modified` as it may be stored and sent; empty if it has characters of no header."""
    return value if _PLAIN_VALUE.fullmatch(value) else ""


def canonical_link(links: Iterable[str]) -> str:
    """Where the values of `Link` say that a page really lies (RFC 8288, 6596), as they say it; empty if they do not."""
    for target, parameters in (link for value in links for link in _LINK.findall(value)):
        said: dict[str, str] = {}
        for name, quoted, bare in _PARAMETER.findall(parameters):
            said.setdefault(name.lower(), (quoted or bare).lower())
        # One with an anchor is said of something else.
        if "canonical" in said.get("rel", "").split() and "anchor" not in said:
            return str(target).strip()
    return ""


def media_type(content_type: str) -> str:
    """The media type of a `Content-Type`, without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def charset_of(content_type: str) -> str:
    """The charset of a `Content-Type`, if it is one that a text can be read in; else empty."""
    found = _CHARSET.search(content_type)
    return found[1].lower() if found and codec_of(found[1]) else ""


def is_no_text(media: str, body: bytes) -> str:
    """What a body is that is no text, for people; empty if it may be one."""
    if is_pdf(media, body):
        return ""
    if media == "application/pdf":
        return "no PDF, labelled application/pdf"
    head = body[:1_500].lstrip(b" \t\r\n\xef\xbb\xbf")
    for magic, name in MAGIC.items():
        if head.startswith(magic):
            return f"{name}, labelled {media or 'with no type'}"
    if not media and not body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and _BINARY.search(head):
        return "binary, without a type"
    return ""


def coding_of(content_encodings: Iterable[str]) -> str:
    """How a body is packed: `gzip`, `deflate` or not (empty). One layer at most, and only what was asked for."""
    named = [word.strip().lower() for value in content_encodings for word in value.split(",")]
    codings = [word.removeprefix("x-") for word in named if word not in ("", "identity")]
    if len(codings) > 1 or not {"gzip", "deflate"}.issuperset(codings):
        raise PageFailed(Reason.BAD_ENCODING, f"packed as {', '.join(codings)[:100]!a}")
    return codings[0] if codings else ""


class Body:
    """The bytes of one body, unpacked as they come; never more than `most`, packed or unpacked.

    One that does not begin with `begins` is of no type that is read.
    """

    def __init__(self, coding: str, most: int, begins: bytes = b"") -> None:
        self._coding = coding
        self._begins = begins
        self._most = most
        self._parts: list[bytes] = []
        self._packed_bytes = 0
        self._stream: zlib._Decompress | None = None
        self._members = 0
        self.room = most
        """Bytes that may still come out."""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the wire. Raises `PageFailed`: `too_large`, `bad_encoding`, `truncated_body` …"""
        self._packed_bytes += len(data)
        if not self._coding:
            self._keep(data)
            return
        if self._packed_bytes > self._most:
            raise PageFailed(Reason.TOO_LARGE, f"more than {self._most:,} bytes on the wire")
        try:
            self._unpack(data)
        except zlib.error as error:
            # The sums at a stream's end: what came is not what was sent.
            if re.search("incorrect (data|length) check", str(error)):
                raise PageFailed(Reason.TRUNCATED_BODY, f"{self._coding}: {error}") from error
            raise PageFailed(Reason.BAD_ENCODING, f"{self._coding}: {error}") from error

    def whole(self) -> bytes:
        """All of it. Raises `PageFailed` if a packed stream has not come to its end."""
        if self._stream is not None:
            raise PageFailed(Reason.TRUNCATED_BODY, f"{self._coding} stream without an end")
        return b"".join(self._parts)

    def _unpack(self, data: bytes) -> None:
        while data:
            if self._stream is None:
                data = data.lstrip(b"\0") if self._members else data  # padding (RFC 1952 knows it from tapes)
                if not data:
                    return
                self._stream = self._next_stream(data[0])
            self._keep(self._stream.decompress(data, self.room + 1))
            data = self._stream.unused_data
            if self._stream.eof:
                self._stream = None

    def _next_stream(self, first_byte: int) -> zlib._Decompress:
        self._members += 1
        if self._members > (MOST_MEMBERS if self._coding == "gzip" else 1):
            raise PageFailed(Reason.BAD_ENCODING, f"{self._coding}: more than {self._members - 1} streams")
        if self._coding == "gzip":
            return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        # Some servers send a bare deflate stream (RFC 1951) where HTTP means the zlib format (RFC 1950).
        return zlib.decompressobj(wbits=zlib.MAX_WBITS if first_byte & 0x0F == 8 else -zlib.MAX_WBITS)

    def _keep(self, data: bytes) -> None:
        if not data.startswith(self._begins[: len(data)]):
            raise PageFailed(Reason.UNSUPPORTED_TYPE, NO_LABEL)
        self._begins = self._begins[len(data) :]
        self.room -= len(data)
        if self.room < 0:
            raise PageFailed(Reason.TOO_LARGE, f"more than {self._most:,} bytes{' unpacked' * bool(self._coding)}")
        self._parts.append(data)

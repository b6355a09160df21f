"""What the soak serves: good pages, each with a sentence of its own, and hostile ones of every kind that can be played.

A kind is served by a site of its own, so that what is said of that site is said of that kind. What may come of a page
is a set of reasons, and `summarized` where the text is to be found all the same.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fake_site import DRIP, HANG, PAUSE, RESET, Says, http, moved

from pipeline.records import Reason

SUMMARIZED = "summarized"
LATER = frozenset({Reason.HOST_DOWN.value, Reason.RATE_LIMITED.value})
"""What any page of a site may meet that has failed for others."""
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
PLACES = ("lock", "mill", "quarry", "ferry", "orchard", "kiln", "viaduct", "granary")
SENTENCES = (
    "The {place} numbered {n} was measured on day {k} of the year and stood at {h} centimetres.",
    "Its keeper, the {k}th since the books begin, wrote that the {place} had cost {h} crowns to repair.",
    "Whoever comes to the {place} from the north passes {k} gates, of which {h} can be opened by hand.",
    "{n}번째 {place}은 {k}년에 지어졌고 높이가 {h}센티미터이다.",
)


def sentence(number: int) -> str:
    """By which the text of a good page is known again."""
    return f"This is written on the page with the number {number} and on no other one."


def good(number: int) -> bytes:
    """A page of two to eighty sentences among a menu, a script and a footer; some in other charsets or packed."""
    place = PLACES[number % len(PLACES)]
    lines = [
        SENTENCES[k % (3 + (number % 4 == 0))].format(place=place, n=number, k=k, h=(number * 7 + k * 13) % 997)
        for k in range(2 + number * 11 % 79)
    ]
    paragraphs = "".join(f"<p>{line}</p>" for line in lines)
    menu = "".join(f"<li><a href='/{item}'>Section {item}</a></li>" for item in range(30))
    text = (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>The {place} {number}</title>"
        f"<script>var a = 1</script></head><body><nav><ul>{menu}</ul></nav>"
        f"<article><h1>The {place} {number}</h1><p>{sentence(number)}</p>"
        f"{paragraphs}</article><footer>All rights reserved.</footer></body></html>"
    )
    if number % 5 == 1:
        return http(body=text.replace("utf-8", "euc-kr").encode("euc-kr"), content_type="text/html; charset=euc-kr")
    if number % 5 == 2:
        return http(body=gzip.compress(text.encode()), content_encoding="gzip")
    return http(body=text.encode())


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be hostile."""

    says: Callable[[int], bytes | Says | str]
    """(number) → what is said; a string is a URL that stands in the list, and nobody is asked."""
    reasons: frozenset[str]
    is_slow: bool = False
    """Whether it ends at a limit of time only, or needs all of a processor for a while."""


def _kind(says: Callable[[int], bytes | Says | str], *reasons: Reason | str, is_slow: bool = False) -> Kind:
    return Kind(says, frozenset(str(getattr(reason, "value", reason)) for reason in reasons), is_slow)


def page(body: str, head: str = "") -> bytes:
    return http(body=f"<html><head><title>A page</title>{head}</head><body>{body}</body></html>".encode())


TEXT = "<p>A good deal is written here about the boats in the harbour and about who owns them.</p>" * 8


def _flood(flood: str) -> bytes:
    return page(f"<article>{TEXT}{flood}<p>The end.</p></article>")


def _endless(start: bytes, piece: bytes) -> Iterator[bytes]:
    yield start
    yield from itertools.repeat(piece)


def _drip() -> Says:
    return itertools.chain([http(content_length="1000000")], itertools.cycle([b"<p>x", DRIP]))


def _bomb(coding: str) -> bytes:
    compress = gzip.compress if coding == "gzip" else zlib.compress
    return http(body=compress(bytes(60_000_000)), content_encoding=coding)


TAKEN = (SUMMARIZED,)
NO_TEXT = (Reason.NO_TEXT, Reason.UNSUPPORTED_TYPE)
MISCOUNTED = (Reason.LLM_CONTEXT,)
"""The soak's model makes one token of four bytes: of noise that is fewer than any real one makes."""
KILLED = (SUMMARIZED, Reason.NO_TEXT, Reason.EXTRACT_TIMEOUT, Reason.EXTRACT_MEMORY, Reason.EXTRACT_CRASH)

HOSTILE: dict[str, Kind] = {
    # A: where it leads
    "private address": _kind(lambda n: f"http://10.0.{n % 200}.1/{n}", Reason.BLOCKED_ADDRESS, Reason.BLOCKED_PORT),
    "metadata address": _kind(lambda n: f"http://169.254.169.254/latest/{n}", Reason.BLOCKED_ADDRESS),
    "mapped address": _kind(lambda n: f"http://[::ffff:10.0.0.1]/{n}", Reason.BLOCKED_ADDRESS),
    "other spelling of an address": _kind(lambda n: f"http://0x7f.{n % 200}/{n}", Reason.BAD_URL),
    "another port": _kind(lambda n: f"http://127.0.0.1:22/{n}", Reason.BLOCKED_PORT),
    "another scheme": _kind(lambda n: f"file:///etc/passwd{n}", Reason.BLOCKED_SCHEME),
    "credentials": _kind(lambda n: f"http://me:hunter2@127.0.0.1/{n}", Reason.BLOCKED_CREDENTIALS),
    "redirect into the house": _kind(lambda n: moved(f"http://10.0.0.1/{n}"), Reason.BLOCKED_ADDRESS),
    "redirect to a file": _kind(lambda n: moved("file:///etc/passwd"), Reason.BLOCKED_SCHEME),
    "redirect to nowhere": _kind(lambda n: http(302, b""), Reason.BAD_REDIRECT),
    "redirect loop": _kind(lambda n: moved("?again"), Reason.TOO_MANY_REDIRECTS),
    # B: what is sent
    "no answer": _kind(lambda n: [HANG], Reason.TIMEOUT, is_slow=True),
    "half an answer": _kind(lambda n: [OK, HANG], Reason.TIMEOUT, is_slow=True),
    "silence in the middle": _kind(lambda n: [http(content_length="900"), HANG], Reason.TIMEOUT, is_slow=True),
    "slow headers": _kind(
        lambda n: itertools.chain([OK], itertools.cycle([b"X: y\r\n", DRIP])),
        Reason.TIMEOUT,
        Reason.PROTOCOL_ERROR,
        is_slow=True,
    ),
    "drip": _kind(lambda n: _drip(), Reason.TIMEOUT, is_slow=True),
    "hints without an end": _kind(
        lambda n: _endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9), Reason.TIMEOUT, is_slow=True
    ),
    "endless body": _kind(lambda n: _endless(CHUNKED, b"10000\r\n" + bytes(65_536) + b"\r\n"), Reason.TOO_LARGE),
    "endless header": _kind(lambda n: _endless(OK + b"X: ", b"y" * 1_000), Reason.PROTOCOL_ERROR),
    "endless headers": _kind(lambda n: _endless(OK, b"X: y\r\n" * 50), Reason.PROTOCOL_ERROR),
    "gzip bomb": _kind(lambda n: _bomb("gzip"), Reason.TOO_LARGE),
    "deflate bomb": _kind(lambda n: _bomb("deflate"), Reason.TOO_LARGE),
    "empty gzip members": _kind(
        lambda n: http(body=gzip.compress(b"") * 20_000, content_encoding="gzip"), Reason.BAD_ENCODING
    ),
    "brotli, unasked": _kind(lambda n: http(body=b"\x0b\x02\x80abc\x03", content_encoding="br"), Reason.BAD_ENCODING),
    "gzip cut off": _kind(
        lambda n: http(body=gzip.compress(TEXT.encode())[:-12], content_encoding="gzip"), Reason.TRUNCATED_BODY
    ),
    "fewer bytes than announced": _kind(lambda n: http(content_length="900"), Reason.TRUNCATED_BODY),
    "a length of 6 GiB": _kind(lambda n: [http(content_length=str(6 << 30)), HANG], Reason.TOO_LARGE),
    "two lengths": _kind(lambda n: http(raw=b"Content-Length: 6\r\n"), Reason.PROTOCOL_ERROR),
    "chunks that are none": _kind(lambda n: [CHUNKED, b"5\r\nhello\r\nZZ\r\n"], Reason.PROTOCOL_ERROR),
    "reset in the middle": _kind(lambda n: [http(content_length="900"), PAUSE, RESET], Reason.TRUNCATED_BODY),
    "reset at once": _kind(lambda n: [RESET], Reason.CONNECT_ERROR),
    "closed at once": _kind(lambda n: [], Reason.CONNECT_ERROR),
    "random bytes": _kind(lambda n: bytes(range(256)) * 4, Reason.PROTOCOL_ERROR),
    # C: manners
    "not there": _kind(lambda n: http(404, b""), Reason.HTTP_404),
    "gone": _kind(lambda n: http(410, b""), Reason.HTTP_410),
    "forbidden": _kind(lambda n: http(403, b""), Reason.HTTP_403),
    "broken server": _kind(lambda n: http(500, b""), Reason.HTTP_5XX),
    "wants a pause": _kind(lambda n: http(429, b"", retry_after="7200"), Reason.RATE_LIMITED),
    "unasked 206": _kind(lambda n: http(206), Reason.PROTOCOL_ERROR),
    # D: what stands in it
    "deep": _kind(lambda n: _flood("<div>" * 10_000 + "x" + "</div>" * 10_000), *TAKEN),
    "attributes": _kind(lambda n: _flood("<p " + " ".join(f"a{k}=x" for k in range(50_000)) + ">Boats."), *KILLED),
    "a huge attribute": _kind(lambda n: _flood(f"<p title='{'x' * 3_000_000}'>Boats.</p>"), *KILLED),
    "spans": _kind(lambda n: _flood("<p>" + "<span>boats</span> " * 15_000 + "</p>"), *KILLED),
    "links that are not closed": _kind(lambda n: _flood("<a href=x>boats " * 15_000), *KILLED),
    "one word": _kind(lambda n: _flood("a" * 1_000_000), *KILLED),
    "spaces": _kind(lambda n: _flood(" " * 2_000_000), *KILLED),
    "brackets": _kind(lambda n: _flood("<" * 200_000), *KILLED, *MISCOUNTED),
    "entities": _kind(
        lambda n: http(
            body=b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c SYSTEM '
            b'"file:///etc/passwd">]><html><body><p>&b;&c;' + TEXT.encode()
        ),
        *KILLED,
    ),
    "rules": _kind(lambda n: page(TEXT, "<style>" + ".a{display:none}" * 20_000 + "{" * 20_000 + "</style>"), *TAKEN),
    "all of it hidden": _kind(lambda n: page(f"<div style='display:none'>{TEXT * 4}</div><p>OK"), *KILLED),
    "a wrong charset": _kind(lambda n: http(body=TEXT.encode(), content_type="text/html; charset=utf-16"), *KILLED),
    "an unknown charset": _kind(lambda n: http(body=TEXT.encode(), content_type="text/html; charset=bogus"), *TAKEN),
    "half characters": _kind(
        lambda n: page("<p>" + "\ud800".encode("utf-8", "surrogatepass").decode("latin-1") + TEXT), *TAKEN
    ),
    "an image as a page": _kind(lambda n: http(body=b"\x89PNG\r\n\x1a\n" + bytes(5_000)), Reason.UNSUPPORTED_TYPE),
    "a program as a page": _kind(lambda n: http(body=b"\x7fELF" + bytes(5_000)), Reason.UNSUPPORTED_TYPE),
    "noise as a page": _kind(
        lambda n: http(body=bytes(k * (n + 7) % 251 for k in range(20_000))), *KILLED, *NO_TEXT, *MISCOUNTED
    ),
    "a broken PDF": _kind(
        lambda n: http(body=b"%PDF-1.7\n" + b"1 0 obj<</Length 9>>stream" * 200, content_type="application/pdf"),
        *KILLED,
    ),
    "video": _kind(
        lambda n: itertools.chain(
            [http(content_type="video/mp4", content_length="1000000000")], itertools.repeat(bytes(65_536))
        ),
        Reason.UNSUPPORTED_TYPE,
    ),
    "nothing": _kind(lambda n: http(body=b""), Reason.NO_TEXT),
    "a shell of JavaScript": _kind(lambda n: page("<div id=root></div><script>app()</script>"), Reason.JS_SHELL),
    "a login": _kind(
        lambda n: http(body=b"<title>Sign in</title><h1>Sign in</h1><form><input name=u><input type=password></form>"),
        Reason.LOGIN,
    ),
    "no such page": _kind(
        lambda n: http(body=b"<title>404</title><h1>Page not found</h1><p>It is not here."), Reason.SOFT_404
    ),
    "a packed list of nothing": _kind(
        lambda n: http(body=gzip.compress(b"") * 20_000, content_type="application/gzip"), Reason.UNSUPPORTED_TYPE
    ),
    "a list without an end": _kind(
        lambda n: http(body=b"<urlset>" + b"<url><lastmod>x</lastmod></url>" * 40_000), Reason.LIST, Reason.BAD_LIST
    ),
}


def kinds(slow: bool) -> list[str]:
    """The names of the kinds, with those that are slow or without."""
    return [name for name, kind in HOSTILE.items() if slow or not kind.is_slow]

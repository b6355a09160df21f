"""What a site's answer says: statuses, pauses, types, redirects, bodies unpacked within a bound."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import answers
from pipeline.answers import Body, charset_of, coding_of, is_no_text, media_type, pause_until, redirected, validator
from pipeline.charsets import codec_of
from pipeline.errors import PageFailed
from pipeline.records import Outcome, Reason, Refusal

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
TEXT = b"<!doctype html><p>" + b"Some words. " * 50


def fed(coding: str, packed: bytes, most: int = 10_000, step: int = 7) -> bytes:
    """A body that comes in pieces of `step` bytes."""
    body = Body(coding, most)
    for start in range(0, len(packed), step):
        body.feed(packed[start : start + step])
    return body.whole()


def reason_of(coding: str, packed: bytes, most: int = 10_000, step: int = 7) -> Reason:
    with pytest.raises(PageFailed) as caught:
        fed(coding, packed, most, step)
    return caught.value.reason


STATUSES = {
    **dict.fromkeys((100, 101, 103, 199, 206, 304, 600, 999), Reason.PROTOCOL_ERROR),
    **dict.fromkeys((201, 202, 204, 205, 226), Reason.NO_CONTENT),
    **dict.fromkeys((300, 305, 306), Reason.BAD_REDIRECT),
    **{401: Reason.HTTP_401, 403: Reason.HTTP_403, 404: Reason.HTTP_404, 410: Reason.HTTP_410, 451: Reason.HTTP_451},
    **dict.fromkeys((400, 402, 405, 406, 409, 418, 421, 426, 499), Reason.HTTP_4XX),
    **dict.fromkeys((500, 501, 502, 503, 504, 520, 599), Reason.HTTP_5XX),
    **{407: Reason.CONNECT_ERROR, 408: Reason.TIMEOUT, 425: Reason.RATE_LIMITED, 429: Reason.RATE_LIMITED},
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_has_its_reason_and_keeps_its_number(status: int) -> None:
    assert answers.refusal_for_status(status, "", NOW) == Refusal(STATUSES[status], f"HTTP {status}", status)


@pytest.mark.parametrize("status", [200, 203])
def test_there_is_a_page_behind_success(status: int) -> None:
    assert answers.refusal_for_status(status, "10", NOW) is None


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_that_is_asked_for_is_kept(status: int) -> None:
    refused = answers.refusal_for_status(status, "120", NOW)
    assert refused == Refusal(Reason.RATE_LIMITED, f"HTTP {status}", status, NOW + timedelta(seconds=120))
    assert refused.reason.meaning.outcome is Outcome.DEFERRED


WEEK = timedelta(days=7)
PAUSES = {
    "2": timedelta(seconds=2),
    " 86400 ": timedelta(days=1),
    "604800": WEEK,
    "604801": WEEK,
    "1000000000000": WEEK,
    "9" * 5000: WEEK,
    "Tue, 24 Nov 2026 03:00:30 GMT": timedelta(seconds=30),
    "Tue, 24 Nov 2026 03:00:30 -0000": timedelta(seconds=30),
    "Tue, 24 Nov 2026 05:00:30 +0200": timedelta(seconds=30),
    "Tuesday, 24-Nov-26 03:01:00 GMT": timedelta(seconds=60),
    "Fri, 01 Jan 2100 00:00:00 GMT": WEEK,
    "Fri, 01 Jan 9999 00:00:00 -2359": WEEK,
    "Tue, 24 Nov 2020 03:00:30 GMT": None,
    **dict.fromkeys(
        ("", "0", "-1", "1.5", "1e12", "soon", "٣", "Tue, 99 Nov 2026 03:00:30 GMT", "12, 13", "\x00"), None
    ),
}


@pytest.mark.parametrize("header", PAUSES, ids=lambda header: ascii(header[:40]))
def test_retry_after_in_seconds_or_as_a_date_and_never_more_than_a_week(header: str) -> None:
    pause = PAUSES[header]
    assert pause_until(header, NOW) == (None if pause is None else NOW + pause)


@given(st.text())
def test_any_retry_after_is_borne(header: str) -> None:
    later = pause_until(header, NOW)
    assert later is None or NOW < later <= NOW + WEEK


REDIRECTS = {
    "/b": "http://a.example/b",
    "b": "http://a.example/x/b",
    "?q=1": "http://a.example/x/y?q=1",
    "//b.example/c": "http://b.example/c",
    "https://b.example/": "https://b.example/",
    " /b ": "http://a.example/b",
    "/a b": "http://a.example/a%20b",
    "/caf\udce9": "http://a.example/caf%E9",
    "/café": "http://a.example/café",
    "../../c": "http://a.example/c",
}


@pytest.mark.parametrize("location", REDIRECTS)
def test_a_location_is_resolved(location: str) -> None:
    assert redirected("http://a.example/x/y", location, 302) == REDIRECTS[location]


@pytest.mark.parametrize("location", ["", "  ", "\t", "http://[::1", "//[x]/"])
def test_a_location_that_leads_nowhere(location: str) -> None:
    with pytest.raises(PageFailed) as caught:
        redirected("http://a.example/", location, 302)
    assert caught.value.reason is Reason.BAD_REDIRECT


def test_validators_are_sent_back_only_if_they_can_be_a_header() -> None:
    assert [validator(value) for value in ('"abc"', 'W/"abc"', "abc")] == ['"abc"', 'W/"abc"', "abc"]
    for value in ('"a\r\nX: y"', '"a\nb"', "\x00", "é", "\udce9", "", "a" * 1001):
        assert validator(value) == ""


CONTENT_TYPES = {
    "text/html": ("text/html", ""),
    "Text/HTML; Charset=UTF-8": ("text/html", "utf-8"),
    'text/html;charset="iso-8859-1"; x=y': ("text/html", "iso-8859-1"),
    "text/html; charset=x-sjis": ("text/html", "x-sjis"),
    "text/html; charset=bogus": ("text/html", ""),
    "text/html; charset=base64": ("text/html", ""),
    "text/html; charset=idna": ("text/html", ""),
    "text/html; charset=unicode_escape": ("text/html", ""),
    "text/html; charset=": ("text/html", ""),
    "text/html; charset=\x00": ("text/html", ""),
    "; charset=utf-8": ("", "utf-8"),
    "": ("", ""),
}


@pytest.mark.parametrize("header", CONTENT_TYPES)
def test_a_charset_is_one_that_text_can_be_read_in_or_none(header: str) -> None:
    assert (media_type(header), charset_of(header)) == CONTENT_TYPES[header]


@given(st.text(), st.binary())
def test_whatever_charset_is_named_can_be_used(name: str, body: bytes) -> None:
    body.decode(codec_of(charset_of(f"text/html; charset={name}")) or "utf-8", "replace")


BODIES = [
    ("text/html", b"%PDF-1.7\n<html><p>both", "application/pdf, labelled text/html"),
    ("text/html", b"\xef\xbb\xbf \r\n%PDF-1.7", "application/pdf, labelled text/html"),
    ("text/plain", b"PK\x03\x04x", "application/zip, labelled text/plain"),
    ("text/html", b"\x1f\x8bx", "application/gzip, labelled text/html"),
    ("", b"\x89PNG\r\n\x1a\n", "image/png, labelled with no type"),
    ("", b"\x00\x01\x02", "binary, without a type"),
    ("", b"<html>", ""),
    ("", b"plain words", ""),
    ("", "\ufeffwords".encode("utf-16"), ""),
    ("", b"", ""),
    ("text/html", b"<pre>%PDF-1.7</pre>", ""),
    ("text/html", b"", ""),
]


@pytest.mark.parametrize(("media", "body", "found"), BODIES)
def test_a_body_is_known_by_its_beginning_not_by_its_label(media: str, body: bytes, found: str) -> None:
    assert is_no_text(media, body) == found


@pytest.mark.parametrize(
    ("headers", "coding"),
    [
        ([], ""),
        ([""], ""),
        (["identity"], ""),
        (["GZIP"], "gzip"),
        (["x-gzip"], "gzip"),
        (["deflate"], "deflate"),
        (["identity, gzip"], "gzip"),
    ],
)
def test_one_layer_of_packing_is_read(headers: list[str], coding: str) -> None:
    assert coding_of(headers) == coding


@pytest.mark.parametrize(
    "headers",
    [["gzip, gzip"], ["gzip", "gzip"], ["gzip, gzip, gzip"], ["br"], ["zstd"], ["compress"], ["utf-8"], ["\udce9"]],
)
def test_other_packing_is_refused(headers: list[str]) -> None:
    with pytest.raises(PageFailed) as caught:
        coding_of(headers)
    assert caught.value.reason is Reason.BAD_ENCODING
    assert caught.value.detail.isprintable()


def bare(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


@given(st.binary(max_size=3000), st.integers(1, 200))
def test_what_is_packed_comes_out_whole_however_it_is_cut(text: bytes, step: int) -> None:
    half = len(text) // 2
    assert fed("", text, step=step) == text
    assert fed("gzip", gzip.compress(text), step=step) == text
    assert fed("gzip", gzip.compress(text[:half]) + gzip.compress(text[half:]) + bytes(9), step=step) == text
    assert fed("deflate", zlib.compress(text), step=step) == text
    assert fed("deflate", bare(text), step=step) == text


@given(st.binary(), st.integers(1, 50))
def test_no_bytes_do_anything_but_come_out_or_be_refused(packed: bytes, step: int) -> None:
    for coding in ("gzip", "deflate"):
        with suppress(PageFailed):
            assert len(fed(coding, packed, 500, step)) <= 500


@pytest.mark.parametrize("packed", [gzip.compress(TEXT, mtime=0), zlib.compress(TEXT), bare(TEXT)])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_the_limit_is_exact(packed: bytes, step: int) -> None:
    """Also when the end of the stream comes after the last byte that is allowed."""
    coding = "gzip" if packed.startswith(b"\x1f\x8b") else "deflate"
    assert fed(coding, packed, len(TEXT), step) == TEXT
    assert reason_of(coding, packed, len(TEXT) - 1, step) is Reason.TOO_LARGE
    assert fed("", TEXT, len(TEXT), step) == TEXT
    assert reason_of("", TEXT, len(TEXT) - 1, step) is Reason.TOO_LARGE


def test_a_bomb_is_unpacked_no_further_than_the_limit() -> None:
    body = Body("gzip", 1_000_000)
    with pytest.raises(PageFailed) as caught:
        body.feed(gzip.compress(bytes(50_000_000)))
    assert caught.value.reason is Reason.TOO_LARGE
    assert caught.value.detail == "more than 1,000,000 bytes unpacked"
    assert body.room == -1


def test_what_is_packed_larger_than_the_limit_is_refused_too() -> None:
    assert reason_of("gzip", gzip.compress(bytes(range(50)), 0), 50, step=1) is Reason.TOO_LARGE


@pytest.mark.parametrize("end", [1, 8, 9, 20])
def test_a_stream_without_its_end_is_cut_off(end: int) -> None:
    """A length that fits does not help: the site has packed half a page."""
    assert reason_of("gzip", gzip.compress(TEXT)[:-end]) is Reason.TRUNCATED_BODY
    assert reason_of("deflate", zlib.compress(TEXT)[:-end]) is Reason.TRUNCATED_BODY


def test_a_wrong_sum_is_a_damaged_body_and_a_wrong_beginning_is_none() -> None:
    packed = gzip.compress(TEXT)
    assert reason_of("gzip", packed[:-8] + b"\0\0\0\0" + packed[-4:]) is Reason.TRUNCATED_BODY
    assert reason_of("gzip", packed[:-4] + b"\1\0\0\0") is Reason.TRUNCATED_BODY
    assert reason_of("deflate", zlib.compress(TEXT)[:-4] + b"\1\1\1\1") is Reason.TRUNCATED_BODY
    assert reason_of("gzip", TEXT) is Reason.BAD_ENCODING
    assert reason_of("gzip", zlib.compress(TEXT)) is Reason.BAD_ENCODING


def test_padding_after_a_stream_is_borne_and_garbage_is_not() -> None:
    packed = gzip.compress(TEXT)
    assert fed("gzip", packed + bytes(600)) == TEXT
    assert reason_of("gzip", packed + b"garbage") is Reason.BAD_ENCODING
    assert reason_of("gzip", packed + bytes(3) + b"garbage") is Reason.BAD_ENCODING
    assert reason_of("deflate", zlib.compress(TEXT) + zlib.compress(TEXT)) is Reason.BAD_ENCODING


def test_the_number_of_streams_is_bounded() -> None:
    empty = gzip.compress(b"")
    assert fed("gzip", empty * answers.MOST_MEMBERS) == b""
    assert reason_of("gzip", empty * 400, step=100_000) is Reason.BAD_ENCODING


def test_nothing_at_all_is_an_empty_body() -> None:
    assert fed("gzip", b"") == fed("deflate", b"") == fed("", b"") == b""


def test_the_way_of_a_redirect_is_told_without_secrets() -> None:
    chain = ["http://a.example/x?token=hunter2", "http://u:hunter2@b.example/#hunter2", "http://c.example/\n"]
    told = answers.after_redirects(Refusal(Reason.BAD_URL, "why", 404, NOW), chain, {})
    way = "http://a.example/x -> http://***@b.example/ -> http://c.example/\\n"
    assert told == Refusal(Reason.BAD_REDIRECT, f"why (redirect 2: {way})", 404, NOW)
    assert len(answers.after_redirects(Refusal(Reason.TIMEOUT, "x" * 500), chain * 9, {}).detail) == 500

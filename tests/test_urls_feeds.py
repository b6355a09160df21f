"""Feeds, whole and broken; what is left out by date; and how long a feed may take."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lists import (
    ATOM,
    CHECK,
    INDEX,
    RDF,
    RSS,
    SECRET,
    SITEMAP,
    apart_crashes,
    apart_limit,
    apart_sleeps,
    apart_takes_memory,
    entries,
    found,
    read,
    urls_in,
)

from pipeline import urls
from pipeline.records import Page, Reason, Refusal
from pipeline.urls import apart, feeds
from pipeline.urls.items import Entry, Item, LeftOut, Unreadable

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="no other kernel bounds the memory of a process")
NOVEMBER = datetime(2026, 11, 2, 10, tzinfo=UTC)


def here(text: str, base: str = "") -> list[Item]:
    """The items of a feed, read in this process."""
    return list(feeds.entries(io.StringIO(text), base))


def links(text: str, base: str = "") -> list[str]:
    return [item.url for item in here(text, base) if isinstance(item, Entry)]


def rss(items: str, channel: str = "") -> str:
    return f"<rss version='2.0'><channel><title>T</title>{channel}{items}</channel></rss>"


def test_a_feed_names_its_entries_with_its_title_and_their_dates() -> None:
    assert entries(RSS) == [
        Entry("http://a.example/2?a=1&b=2", "Notes from the reservoir", dated=NOVEMBER),
        Entry("http://a.example/1?a=1&b=2", "Notes from the reservoir"),
    ]


def test_links_are_relative_to_the_base_of_their_entry() -> None:
    first, second = here(ATOM)
    assert first == Entry("http://b.example/blog/one.html", "A blog", dated=NOVEMBER)
    assert second == Entry("http://b.example/other/two.html", "A blog", dated=datetime(2026, 10, 3, tzinfo=UTC))


def test_an_rdf_feed_is_a_feed() -> None:
    assert entries(RDF) == [Entry("http://c.example/1", "Old news")]


@pytest.mark.parametrize(
    ("channel", "base", "url"),
    [
        ("", "http://d.example/x/feed.xml", "http://d.example/x/1"),
        ("<link>http://e.example/y/</link>", "", "http://e.example/y/1"),
        ("<link>http://e.example/y/</link>", "http://d.example/x/feed.xml", "http://d.example/x/1"),
        ("", "", "1"),
    ],
)
def test_a_link_that_has_no_base_is_relative_to_the_feed(channel: str, base: str, url: str) -> None:
    assert links(rss("<item><link>1</link></item>", channel), base) == [url]


def test_an_entry_is_dated_by_the_newest_of_its_dates() -> None:
    text = """<feed xmlns="http://www.w3.org/2005/Atom"><entry><link href="http://a.example/"/>
    <published>2020-01-01T00:00:00Z</published><updated>2026-11-02T10:00:00Z</updated></entry></feed>"""
    assert here(text) == [Entry("http://a.example/", dated=NOVEMBER)]


@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "0001-01-01T00:00:00", "soon", ""])
def test_a_date_that_is_none_is_none(date: str) -> None:
    assert here(rss(f"<item><link>http://a.example/</link><pubDate>{date}</pubDate></item>")) == [
        Entry("http://a.example/", "T")
    ]


def test_an_address_that_serves_as_identity_is_a_link_and_an_entry_without_one_is_counted() -> None:
    text = rss(
        "<item><guid>http://a.example/1</guid></item><item><guid isPermaLink='false'>x</guid></item>"
        "<item><enclosure url='http://a.example/sound.mp3' type='audio/mpeg' length='1'/></item>"
    )
    assert here(text) == [Entry("http://a.example/1", "T"), *[LeftOut("entries without a link")] * 2]


@pytest.mark.parametrize(
    "text",
    [
        rss("<item><link>http://a.example/1</link><title>A & B &nbsp; <b>bold</title></item>"),
        rss("<item><link>http://a.example/1</link></item>").replace("</channel></rss>", ""),
        rss("<item><link>http://a.example/1</link>").replace("</channel></rss>", "<desc"),
        rss("<item><x:y>undeclared</x:y><link>http://a.example/1</link></item>"),
        rss("<item><link>http://a.example/1</link><title>\x0b\x01</title></item>"),
        f"\n \n<?xml version='1.0'?>{rss('<item><link>http://a.example/1</link></item>')}<!-- junk --> junk",
        '<!DOCTYPE rss [<!ENTITY % HTML PUBLIC "x" "http://127.0.0.1/x.ent"> %HTML;]>'
        + rss("<item><link>http://a.example/1</link><title>&eacute;</title></item>"),
    ],
)
def test_a_broken_feed_is_read_as_far_as_it_can_be(text: str) -> None:
    assert links(text) == ["http://a.example/1"]


def test_the_entities_of_a_feed_are_never_expanded() -> None:
    laughs = "".join(f"<!ENTITY l{n + 1} '{f'&l{n};' * 10}'>" for n in range(9))
    text = f"<?xml version='1.0'?><!DOCTYPE rss [<!ENTITY l0 'ha'>{laughs}]>" + rss(
        "<item><link>http://a.example/</link><title>&l9;</title></item>", "<title>&l9;</title>"
    )
    (entry,) = here(text)
    assert "ha" not in getattr(entry, "place", "ha")


def test_one_entity_that_is_large_and_often_named_costs_nothing() -> None:
    text = f'<!DOCTYPE rss [\n<!ENTITY a "{"x" * 100_000}">\n]>' + rss(
        f"<item><link>http://a.example/</link><title>{'&a;' * 100_000}</title></item>"
    )
    assert links(text) == ["http://a.example/"]


def test_nothing_that_a_feed_names_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        text = f'<?xml version="1.0"?><!DOCTYPE rss SYSTEM "{address}" [<!ENTITY x SYSTEM "{address}">]>' + rss(
            f"<item><link>{address}</link><description>&x;<img src='{address}'/></description></item>"
        )
        assert links(text, address) == [address]
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_feed_is_no_address_and_no_path(tmp_path: Path) -> None:
    """feedparser opens a text that looks like either."""
    path = tmp_path / "feed.xml"
    path.write_text(RSS)
    for text in (str(path), path.as_uri(), "http://127.0.0.1:9/feed"):
        with pytest.raises(Unreadable, match="no feed that can be read"):
            here(text)


@pytest.mark.parametrize("text", ["", "<rss>", "<feed", "<html><p>x</p></html>", "<rss><channel><title>&#9999999999;"])
def test_what_is_no_feed_at_all_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable, match=r"no feed that can be read|feedparser cannot read it"):
        here(text)


def test_an_empty_feed_is_a_feed() -> None:
    assert here(rss("")) == []


def test_a_feed_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MOST_ENTRIES", 2)
    seen: list[Item] = []
    with pytest.raises(Unreadable, match="more than 2 entries"):
        seen.extend(feeds.entries(io.StringIO(rss("<item><link>http://a.example/</link></item>" * 3)), ""))
    monkeypatch.setattr(feeds, "MOST_CHARACTERS", 100)
    with pytest.raises(Unreadable, match="a feed of more than 100 characters"):
        here(RSS)


def test_a_base_that_is_long_does_not_multiply() -> None:
    entry = "<entry><link href='y'/></entry>"
    text = f"<feed xml:base='http://a.example/{'x' * 100_000}/'>{entry * 100}</feed>"
    assert {len(url) for url in links(text)} == {8_192}


PIECES = (
    *("<item>", "</item>", "<link>", "</link>", "http://a.example/", "&", "<![CDATA[", "]]>", "&#x110000;"),
    *("<a b='", "<title>", "xmlns:x='y'>", "\x00", "<content type='xhtml'>", "<author>", "a@b.c", "</", "<!ENTITY"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_no_feed_is_more_than_unreadable(pieces: list[str]) -> None:
    with contextlib.suppress(Unreadable):
        here(f"<rss><channel>{''.join(pieces)}")


# By date


def test_since_leaves_out_what_is_dated_before_and_keeps_what_has_no_date(tmp_path: Path) -> None:
    path = tmp_path / "list"
    notes: list[str] = []

    def left(text: str, since: datetime) -> list[str]:
        path.write_text(text)
        return [line.url for line in read(path, since=since, note=notes.append)]

    assert left(RSS, NOVEMBER) == ["http://a.example/2?a=1&b=2", "http://a.example/1?a=1&b=2"]
    assert notes == []
    assert left(RSS, NOVEMBER.replace(hour=11)) == ["http://a.example/1?a=1&b=2"]
    assert notes == [f"{path}: left out 1 entries dated before 2026-11-02 11:00 UTC"]
    # The day of a sitemap has not ended yet.
    assert left(SITEMAP, NOVEMBER.replace(hour=23)) == ["http://a.example/?a=1&b=2", "http://a.example/2"]
    assert left(SITEMAP, NOVEMBER.replace(day=4)) == ["http://a.example/2"]


def test_since_spares_the_lists_of_an_index_that_have_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "index.xml"
    path.write_text(INDEX)
    asked: list[str] = []

    def fetch(url: str) -> Page:
        asked.append(url)
        return Page(url, url, 200, "application/xml", "", SITEMAP.encode())

    read(path, fetch=fetch, since=datetime(2026, 1, 1, tzinfo=UTC))
    assert asked == ["http://a.example/sitemap-1.xml"]


# In a process of its own


def test_a_feed_that_takes_too_long_is_ended_with_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 1.0)
    hostile = f"<rss><channel><item><author>{'a.' * 200_000}@</author>"
    with pytest.raises(Unreadable, match=r"takes (longer than 1 s|too much time)"):
        found(hostile)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (apart_sleeps, "takes longer than 1 s"),
        (apart_crashes, "without an answer"),
        pytest.param(apart_takes_memory, "too much memory", marks=LINUX),
    ],
)
def test_whatever_happens_apart_is_unreadable_here(function: Any, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        apart.within(1.0 if function is apart_sleeps else 60.0, function)


def test_a_process_whose_parent_was_killed_ends_by_itself() -> None:
    assert 60 < apart.within(60.0, apart_limit) < 90


def test_nothing_is_left_of_a_process_apart() -> None:
    with pytest.raises(Unreadable):
        apart.within(0.1, apart_sleeps)
    assert multiprocessing.active_children() == []


# A feed that was given as a page


@pytest.fixture
def page() -> Page:
    return Page(
        "http://a.example/f",
        "http://d.example/x/feed",
        200,
        "application/rss+xml",
        "",
        rss("<item><link>1</link></item>").encode(),
    )


def test_a_page_that_is_a_list_gives_lines_with_its_url_as_their_list(page: Page) -> None:
    assert urls.is_list(page.body)
    (line,), outcome = urls.lines_of_page(page, CHECK, SECRET)
    assert outcome == Refusal(Reason.LIST, "a feed, 1 entries")
    assert (line.url, line.origin, line.source) == (
        "http://d.example/x/1",
        "http://a.example/f: T",
        "http://a.example/f",
    )
    assert urls.entries(page.body, page.final_url) == (Entry("http://d.example/x/1", "T"),)


@pytest.mark.parametrize(
    "body", [b"<!doctype html><p>x", b"http://a.example/", b"# [a](http://a.example/)", b"", b"<svg/>"]
)
def test_a_page_of_text_is_no_list(body: bytes) -> None:
    assert not urls.is_list(body)


def test_the_charset_of_the_answer_counts(page: Page) -> None:
    body = rss("<item><link>http://a.example/물</link></item>").encode("euc-kr")
    assert urls.entries(body, "http://a.example/", "euc-kr")[0].url == "http://a.example/물"


def test_a_page_whose_rest_is_broken_gives_what_came_before() -> None:
    body = SITEMAP.replace("</urlset>", "<").encode()
    assert len(urls.entries(body, "http://a.example/")) == 2
    with pytest.raises(Unreadable, match="not well-formed"):
        urls.entries(b"<urlset><url></urlset>", "http://a.example/")


def test_a_line_of_a_feed_that_is_no_url_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "feed.xml"
    path.write_text(rss("<item><link>javascript:alert(1)</link></item><item><link>http://u:p@a.example/</link></item>"))
    first, second = read(path)
    assert (first.reason, second.reason) == (Reason.BLOCKED_SCHEME, Reason.BLOCKED_CREDENTIALS)
    assert "u:p" not in repr(second)
    assert urls_in(path.read_bytes())[1] == "http://u:p@a.example/"

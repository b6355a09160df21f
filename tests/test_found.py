"""A feed, a sitemap or an outline that is given as a page: its pages are pages of the same night."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import Pages, Said, Shell, article, serving_pages
from fake_site import HANG, PAUSE, Says, get, http, run
from lists import SECRET

from pipeline import addresses, urls
from pipeline.addresses import AddressPolicy
from pipeline.records import Line, Page, Reason, Refusal
from pipeline.urls.sources import MOST_OF_A_PAGE


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    night = {"ALLOW_PRIVATE_NETWORK": "1", "DELAY": "0", "HOST": "http://127.0.0.1:9"}
    variables = {f"SUMMARIZE_BATCH_{name}": value for name, value in night.items()}
    return Shell(tmp_path, {"HOME": str(tmp_path)} | variables)


@pytest.fixture
def site() -> Iterator[Pages]:
    with serving_pages(**{name: article(f"Article {name}") for name in "abc"}) as site:
        yield site


def rows(shell: Shell, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(shell.folder / "summaries.db")) as db:
        return db.execute(query).fetchall()


def sitemap(*locations: str, dated: str = "") -> str:
    last = f"<lastmod>{dated}</lastmod>" if dated else ""
    return f"<urlset>{''.join(f'<url><loc>{location}</loc>{last}</url>' for location in locations)}</urlset>"


def feed(*links: str) -> str:
    items = "".join(f"<item><link>{link}</link></item>" for link in links)
    return f"<rss version='2.0'><channel><title>News</title>{items}</channel></rss>"


def asked(site: Pages) -> list[str]:
    return sorted(path for path in site.asked if path != "/robots.txt")


def test_the_pages_of_a_list_are_fetched_in_the_same_night_and_say_where_they_come_from(
    shell: Shell, site: Pages
) -> None:
    site.pages["/feed"] = feed(f"{site.url}/a", f"{site.url}/b", "javascript:alert(1)")
    said = shell("fetch", "--json", f"{site.url}/feed", f"{site.url}/a")
    assert sorted((row["url"], row["state"], row["reason"]) for row in said.objects) == [
        (f"{site.url}/a", "fetched", "fetch_only"),
        (f"{site.url}/b", "fetched", "fetch_only"),
        (f"{site.url}/feed", "skipped", "list"),
        ("javascript:alert(1)", "failed", "blocked_scheme"),
    ]
    assert said.err.startswith("1 failed, 2 fetched, 1 skipped: ")
    assert rows(shell, "SELECT detail FROM pages WHERE reason = 'list'") == [("a feed, 3 entries",)]
    assert rows(shell, "SELECT list, origin FROM sources JOIN pages ON pages.id = page_id WHERE url LIKE '%/b'") == [
        (f"{site.url}/feed", f"{site.url}/feed: News")
    ]
    assert asked(site) == ["/a", "/b", "/feed"]

    site.pages["/feed"] = feed(f"{site.url}/b", f"{site.url}/c")
    assert shell("fetch", "-q", f"{site.url}/feed") == Said(0, "", "")
    assert asked(site) == ["/a", "/b", "/c", "/feed", "/feed"], "what is fresh is not asked for again"
    assert rows(
        shell,
        "SELECT url, outcome, items.reason FROM items JOIN pages ON pages.id = page_id WHERE run_id = 2 ORDER BY url",
    ) == [
        (f"{site.url}/b", "unchanged", "fresh"),
        (f"{site.url}/c", "waiting", "fetch_only"),
        (f"{site.url}/feed", "skipped", "list"),
    ]


def test_a_list_in_a_list_is_left_at_that(shell: Shell, site: Pages) -> None:
    """Unless it stands in a list of the user's own too."""
    site.pages["/outer"] = sitemap(f"{site.url}/inner", f"{site.url}/outer", f"{site.url}/mine")
    site.pages["/inner"] = sitemap(f"{site.url}/a")
    site.pages["/mine"] = sitemap(f"{site.url}/b")
    assert shell("fetch", "-q", f"{site.url}/outer", f"{site.url}/mine") == Said(0, "", "")
    assert rows(shell, "SELECT state, reason, detail FROM pages WHERE url LIKE '%/inner'") == [
        ("skipped", "list", f"found in another list: give list:{site.url}/inner as a source")
    ]
    assert asked(site) == ["/b", "/inner", "/mine", "/outer"]


def test_since_leaves_out_what_is_dated_before(shell: Shell, site: Pages) -> None:
    site.pages["/map"] = sitemap(f"{site.url}/a", dated="2026-10-01").replace(
        "</urlset>", f"<url><loc>{site.url}/b</loc></url></urlset>"
    )
    assert shell("fetch", "-q", "--since", "2026-11-01", f"{site.url}/map") == Said(0, "", "")
    assert asked(site) == ["/b", "/map"]


# Without the command


def check(url: str) -> Refusal | None:
    return addresses.check_url(url, AddressPolicy(allow_private=True))


def lines(body: str) -> tuple[tuple[Line, ...], Refusal]:
    url = "http://a.example/list"
    return urls.lines_of_page(Page(url, url, 200, "text/xml", "", body.encode()), check, SECRET)


def test_of_a_list_that_is_a_page_a_thousand_entries_are_taken_and_it_says_so() -> None:
    found, outcome = lines(sitemap(*(f"http://a.example/{number}" for number in range(MOST_OF_A_PAGE + 1))))
    assert len(found) == MOST_OF_A_PAGE
    assert outcome == Refusal(
        Reason.LIST,
        "a sitemap, 1,001 entries, of which 1,000 are taken: give list:http://a.example/list as a source to have them",
    )


def test_the_lists_that_an_index_names_are_counted_and_not_read() -> None:
    found, outcome = lines("<sitemapindex><sitemap><loc>http://a.example/1</loc></sitemap></sitemapindex>")
    assert found == ()
    assert "1 of them lists that were not read: give list:http://a.example/list" in outcome.detail


def test_a_list_that_cannot_be_read_says_so() -> None:
    assert lines("<urlset><url></urlset>")[1].reason is Reason.BAD_LIST


@pytest.mark.parametrize("label", ["application/rss+xml", "text/xml; charset=utf-8", "text/html", "text/plain", "-"])
def test_a_list_is_known_by_what_stands_in_it(label: str) -> None:
    body = feed("http://a.example/").encode()
    answer = run(get(http(body=body, content_type=label), is_list=urls.is_list))
    assert isinstance(answer, Page)
    assert urls.is_list(answer.body)


def test_a_packed_sitemap_is_a_list_and_other_packed_things_are_no_pages() -> None:
    body = gzip.compress(sitemap(*(f"http://a.example/{number}" for number in range(5_000))).encode())
    answer = run(get(http(body=body, content_type="application/x-gzip"), is_list=urls.is_list))
    assert isinstance(answer, Page)
    assert len(urls.lines_of_page(answer, check, SECRET)[0]) == MOST_OF_A_PAGE
    unlabelled = run(get(http(body=body, content_type="application/octet-stream"), is_list=urls.is_list))
    assert isinstance(unlabelled, Page)
    assert unlabelled.body == body
    for other in (gzip.compress(b"<!doctype html><p>x"), gzip.compress(gzip.compress(body)), body[:20], b"\x1f\x8b"):
        answer = run(get(http(body=other, content_type="application/x-gzip"), is_list=urls.is_list))
        assert answer == Refusal(Reason.UNSUPPORTED_TYPE, "application/x-gzip")


def test_what_has_no_label_and_is_not_packed_is_left_after_its_first_bytes() -> None:
    """Whatever stands in it, and however slowly it comes."""
    head = http(body=b"", content_type="application/octet-stream", content_length="900")
    for first in (b"<", b"\x1f<", sitemap("http://a.example/").encode()):
        says: Says = [head, PAUSE, first[:1], PAUSE, first[1:], HANG]
        answer = run(get(says, is_list=urls.is_list))
        assert answer == Refusal(Reason.UNSUPPORTED_TYPE, "application/octet-stream")


@pytest.mark.parametrize(
    "body",
    [
        b"<!doctype html><title>RSS</title><p>&lt;rss>",
        b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><body><feed><entry/></feed></body></html>",
        b"<body><rss><channel/></rss></body>",
        b"A feed begins with <rss>.",
    ],
)
def test_a_page_of_html_is_never_a_list(body: bytes) -> None:
    assert not urls.is_list(body)


def test_xml_that_is_no_list_is_no_page() -> None:
    answer = run(get(http(body=b"<?xml version='1.0'?><x/>", content_type="text/xml"), is_list=urls.is_list))
    assert answer == Refusal(Reason.UNSUPPORTED_TYPE, "text/xml")
    assert run(get(http(body=b"<rss/>", content_type="text/xml"))) == answer, "unless somebody can tell"

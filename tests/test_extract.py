"""A page into its text: in processes that end when they should, and only then."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import demo_site
import pytest
from readers import MOST_BYTES, act, page

from pipeline.extract import Extractor, clean, read_page
from pipeline.records import Document, Page, Reason, Refusal

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


def test_a_title_of_a_megabyte_is_cut() -> None:
    found = document(read_page(page(f"<html><head><title>{'Boats ' * 200_000}</title></head><body>{ARTICLE}")))
    assert 0 < len(found.title) <= 300


def test_comments_and_the_posts_of_a_thread_are_kept() -> None:
    comments = "".join(
        f'<div class="comment" id="c{n}"><p>Reply {n}: I saw only ten of them, and the Heron was not there.</p></div>'
        for n in range(3)
    )
    found = text(html(f'<article>{ARTICLE}</article><section id="comments" class="comments">{comments}</section>'))
    assert [f"Reply {n}:" in found for n in range(3)] == [True] * 3


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


# The processes


def test_a_page_is_given_up_at_the_time_limit_and_the_others_are_not_touched() -> None:
    found = extracted(["hang", "pid", "hang", "pid"], seconds=0.2)
    assert reasons(found) == [Reason.EXTRACT_TIMEOUT, None, Reason.EXTRACT_TIMEOUT, None]
    assert found[0] == Refusal(Reason.EXTRACT_TIMEOUT, "longer than 0.2 s")


@pytest.mark.parametrize("way", ["abort", "kill"])
def test_a_worker_that_dies_loses_its_page_only(way: str) -> None:
    found = extracted(["pid", way, "pid", "pid"], processes=2)
    assert reasons(found) == [None, Reason.EXTRACT_CRASH, None, None]


def test_a_worker_that_leaves_without_an_answer_is_not_waited_for_longer_than_the_limit() -> None:
    assert reasons(extracted(["exit", "pid"], seconds=0.2)) == [Reason.EXTRACT_TIMEOUT, None]


def test_a_page_whose_worker_was_killed_is_tried_once_more(tmp_path: Path) -> None:
    assert reasons(extracted([f"kill-once {tmp_path / 'killed'}"])) == [None]


def test_workers_that_die_while_they_are_idle_are_replaced() -> None:
    async def scenario() -> tuple[Document, Document]:
        async with Extractor(2, 60.0, read=act) as extractor:
            first = document(await extractor.extract(page("pid")))
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
            return first, document(await extractor.extract(page("pid")))

    first, second = asyncio.run(scenario())
    assert first.text != second.text


def test_a_page_that_needs_too_much_memory_says_so() -> None:
    found = extracted(["pid", "eat", "pid"], most_bytes=MOST_BYTES)
    assert reasons(found) == [None, Reason.EXTRACT_MEMORY, None]
    assert found[1] == Refusal(Reason.EXTRACT_MEMORY, "more than 1024 MiB")


def test_workers_are_spawned_and_bounded_in_memory_and_processor_time() -> None:
    cpu_seconds, bytes_, method = document(extracted(["limits"], seconds=20.0, most_bytes=MOST_BYTES)[0]).text.split()
    assert method == "spawn"
    assert 20 <= int(cpu_seconds) <= 60
    assert int(bytes_) == (MOST_BYTES if sys.platform == "linux" else int(bytes_))


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


def test_a_real_page_goes_through_a_worker() -> None:
    async def scenario() -> list[Document | Refusal]:
        async with Extractor(1) as extractor:
            pages: list[Page] = [page(html(f"<article>{ARTICLE}</article>")), page(html(""))]
            return [await extractor.extract(one) for one in pages]

    found = asyncio.run(scenario())
    assert SENTENCE in document(found[0]).text
    assert reasons(found) == [None, Reason.NO_TEXT]

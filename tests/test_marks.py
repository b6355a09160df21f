"""What a page says of itself: `noai`, `noindex`, its canonical link, and how much of it is hidden."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_site import get, http, run

from pipeline import marks
from pipeline.extract import read_page
from pipeline.page import Steps, Written, process
from pipeline.records import (
    Added,
    Document,
    Final,
    Line,
    NotModified,
    Page,
    Reason,
    Recipe,
    Task,
)
from pipeline.store import Store, now

URL = "http://a.example/x/page"
TEXT = "The mill at the lower lock grinds twice a week, and its keeper writes down the height of the water. " * 8


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ([], ()),
        (["noai"], ("noai",)),
        (["nofollow, NoIndex", " noai "], ("noai", "noindex")),
        (["none"], ("noindex",)),
        (["noimageai, noarchive, max-snippet: 20"], ()),
        (["Summarize-Batch: noai"], ("noai",)),
        (["*: noindex"], ("noindex",)),
        (["otherbot: noai, noindex"], ()),
        (["otherbot: noindex, summarize-batch: noai"], ("noai",)),
        (["otherbot: noindex", "noai"], ("noai",)),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], ("noai",)),
        ([": , noai:, :noai"], ()),
        (["x," * 5_000 + "noai"], ()),
    ],
)
def test_words_for_everybody_and_for_us_are_noted_those_for_others_are_not(
    headers: list[str], asked: tuple[str, ...]
) -> None:
    assert marks.in_headers(headers) == asked


def html(head: str = "", body: str = "") -> str:
    return f"<html><head><title>T</title>{head}</head><body><article><p>{TEXT}</p>{body}</article></body></html>"


def document(markup: str) -> Document:
    found = read_page(Page(URL, URL, 200, "text/html", "utf-8", markup.encode()))
    assert isinstance(found, Document), found
    return found


@pytest.mark.parametrize(
    ("head", "asked"),
    [
        ('<meta name="robots" content="noindex, noai">', ("noai", "noindex")),
        ('<META NAME=Robots CONTENT="NOAI">', ("noai",)),
        ('<meta name="summarize-batch" content="noai">', ("noai",)),
        ('<meta name="otherbot" content="noai">', ()),
        ('<meta property="robots" content="noai">', ()),
        ('<meta name="robots" content="index, follow">', ()),
        ('<template><meta name="robots" content="noai"></template>', ()),
    ],
)
def test_a_meta_element_asks_as_a_header_does(head: str, asked: tuple[str, ...]) -> None:
    assert document(html(head)).marks == asked


@pytest.mark.parametrize(
    ("href", "noted"),
    [
        ("https://b.example/real?a=1", "https://b.example/real?a=1"),
        ("../real", "http://a.example/real"),
        ("http://169.254.169.254/latest", "http://169.254.169.254/latest"),
        ("http://u:p@b.example/", ""),
        ("javascript:alert(1)", ""),
        ("http://[b.example/", ""),
        ("http://b.example/&#8238;x", ""),
        ("http://b.example/" + "x" * 3_000, ""),
        ("", ""),
    ],
)
def test_the_canonical_link_is_noted_as_a_whole_url_that_tells_no_password(href: str, noted: str) -> None:
    assert document(html(f'<link rel="canonical" href="{href}">')).canonical == noted


@pytest.mark.parametrize(
    ("link", "noted"),
    [
        ('<https://b.example/real>; rel="canonical"', "https://b.example/real"),
        ("</a.css>; rel=preload; as=style, <../real?a=1,2>;REL=Canonical", "http://a.example/real?a=1,2"),
        ('<../real>; title="a, <b>; rel=x"; rel="alternate canonical"', "http://a.example/real"),
        ('<../real>; rel=canonical; anchor="#part"', ""),
        ("<../real>; rel=next", ""),
        ('<../real>; title="; rel=canonical', ""),
        ("../real; rel=canonical", ""),
        ("<http://u:p@b.example/>; rel=canonical", ""),
        ("<javascript:alert(1)>; rel=canonical", ""),
    ],
)
def test_a_canonical_link_may_stand_in_a_header_as_that_of_a_text_or_a_pdf_must(link: str, noted: str) -> None:
    answer = run(get(http(body=TEXT.encode(), content_type="text/plain", link=link)))
    assert isinstance(answer, Page)
    found = read_page(replace(answer, final_url=URL))
    assert isinstance(found, Document)
    assert found.canonical == noted


def test_what_the_page_itself_says_is_canonical_counts_more_than_its_header() -> None:
    of_header = Page(URL, URL, 200, "text/html", "utf-8", html().encode(), canonical="/header")
    found = read_page(of_header), read_page(replace(of_header, body=html("<link rel=canonical href=/page>").encode()))
    assert [document.canonical for document in found if isinstance(document, Document)] == [
        "http://a.example/header",
        "http://a.example/page",
    ]


def test_what_a_header_asks_comes_with_the_page() -> None:
    answer = run(get(http(raw=b"X-Robots-Tag: noindex\r\nX-Robots-Tag: summarize-batch: noai\r\n")))
    assert isinstance(answer, Page)
    assert answer.marks == ("noai", "noindex")


# In the database


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "summaries.db") as store:
        store.begin_run("urls.txt", "m", {})
        store.add_recipe(Recipe("m", "d", 4_096, {}, {}, "r"))
        store.apply(Added((Line(URL, URL, "a.example", "urls.txt"),)))
        yield store


def night(store: Store, answer: Page | NotModified, *, respects: bool = False) -> list[str]:
    """One run over the page; what was summarized."""
    store.begin_run("urls.txt", "m", {})
    store.apply(Added((Line(URL, URL, "a.example", "urls.txt"),)))
    written: list[str] = []

    async def fetch(task: Task) -> Page | NotModified:
        return answer

    async def extract(page: Page) -> Document:
        return document(page.body.decode())

    async def summarize(task: Task, found: Document) -> Written:
        written.append(found.title)
        return Written(Final("A mill.", ()), "r", "en", "verbatim", 0)

    async def emit(event: object) -> None:
        store.apply(event)  # type: ignore[arg-type]

    ((_, task),) = store.tasks_after("a.example", 0, 1)
    asyncio.run(process(task, Steps(fetch, extract, summarize, emit, now, respects)))
    return written


def page(markup: str, *asked: str) -> Page:
    return Page(URL, URL, 200, "text/html", "utf-8", markup.encode(), etag='"1"', marks=asked)


def noted(store: Store) -> tuple[str, str | None, list[str], int, str]:
    row = store._one("SELECT state, reason, marks, hidden_characters, canonical FROM pages")
    return row["state"], row["reason"], json.loads(row["marks"]), row["hidden_characters"], row["canonical"]


HIDDEN = '<p style="display:none">Ignore all of this.</p>'


def test_all_of_it_is_noted_with_the_text(store: Store) -> None:
    head = '<meta name=robots content=noai><link rel=canonical href="http://b.example/">'
    assert night(store, page(html(head, HIDDEN), "noindex")) == ["T"]
    assert noted(store) == ("summarized", None, ["noai", "noindex"], 20, "http://b.example/")
    assert night(store, page(html())) == [], "the text is the same"
    assert noted(store) == ("summarized", None, [], 0, ""), "what is said of it is not"


@pytest.mark.parametrize("answer", [page(html(), "noai"), page(html("<meta name=robots content=noindex>"))])
def test_who_respects_it_neither_stores_nor_summarizes_such_a_page(store: Store, answer: Page) -> None:
    assert night(store, answer, respects=True) == []
    state, reason, asked, *_ = noted(store)
    assert (state, reason) == ("skipped", "noai")
    assert asked == [*answer.marks, *document(answer.body.decode()).marks]
    assert store._rows("SELECT * FROM texts") == []
    assert store.counts() == {"skipped": 1}
    assert Reason.NOAI.meaning.exit_code == 0


def test_a_text_that_was_stored_before_is_not_summarized_either(store: Store) -> None:
    (_, task) = store.tasks_after("a.example", 0, 1)[0]

    async def gather() -> None:
        async def fetch(task: Task) -> Page:
            return page(html(), "noai")

        async def extract(found: Page) -> Document:
            return document(found.body.decode())

        async def emit(event: object) -> None:
            store.apply(event)  # type: ignore[arg-type]

        await process(task, Steps(fetch, extract, None, emit, now))

    asyncio.run(gather())
    assert noted(store)[:3] == ("fetched", "fetch_only", ["noai"])
    assert night(store, NotModified(), respects=True) == []
    assert noted(store)[:3] == ("skipped", "noai", ["noai"])


def test_a_page_that_asks_for_nothing_more_is_summarized(store: Store) -> None:
    assert night(store, page(html(), "noai"), respects=True) == []
    assert night(store, replace(page(html()), etag=""), respects=True) == ["T"]
    assert noted(store)[:3] == ("summarized", None, [])

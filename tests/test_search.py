"""Words into pages: the index, the triggers that keep it in step, and the command that asks it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from pipeline import queries
from pipeline.commands import search
from pipeline.errors import DatabaseUnusable, UsageError
from pipeline.migrations import APART, APPLICATION_ID, END_OF_RUN, migrations
from pipeline.records import Added, Document, Fetched, Final, Line, Page, Recipe, Summarized, Task, Unchanged
from pipeline.records import Reason as Why
from pipeline.store import Store, now

RECIPE = Recipe("m", "d", 4_096, {}, {}, "recipe-hash")
DOCS = Path(__file__).parent.parent / "docs" / "search.md"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "summaries.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        store.add_recipe(RECIPE)
        yield store


@pytest.fixture(scope="module")
def one_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Store, Task]]:
    """A database with one page, whose text the property tests change."""
    path = tmp_path_factory.mktemp("one") / "summaries.db"
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        yield path, store, fetch(store, 1, "nothing yet")


def fetch(store: Store, number: int, text: str, title: str = "") -> Task:
    """A page of this number is in the list, and has this text now."""
    url = f"http://a.example/{number}"
    store.apply(Added((Line(url, url, "a.example", "urls.txt"),)))
    page_id = store._connection.execute("SELECT id FROM pages WHERE url = ?", [url]).fetchone()[0]
    task = Task(page_id, url, "a.example")
    store.apply(Fetched(task, Page(url, url, 200, "text/html", "utf-8", b""), Document(text, title), now(), now()))
    return task


def summarize(store: Store, task: Task, text: str, summary: str, *key_points: str, parts: tuple[str, ...] = ()) -> None:
    final = Final(summary, key_points, prompt_tokens=1, output_tokens=1, seconds=0.1)
    hash_ = Document(text).hash
    store.apply(Summarized(task, hash_, RECIPE.hash, final, "en", "single", 1.0, 1, now(), now(), parts=parts))


def found(path: Path, *words: str) -> list[str]:
    """The last parts of the URLs of the pages with these words, in the order of their numbers."""
    return sorted(hit.url.rsplit("/", 1)[1] for hit in search.pages(path, words, 100))


def plain(path: Path) -> closing[sqlite3.Connection]:
    """The database as any other program opens it: no function of ours, no extension, no pragma."""
    return closing(sqlite3.connect(path, isolation_level=None))


def assert_in_step(path: Path) -> None:
    """The index has the words of `search_pages`, and `search_pages` is what the other tables say now."""
    with plain(path) as db:
        db.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)")
        indexed = db.execute("SELECT * FROM search_pages ORDER BY page_id").fetchall()
        assert indexed == db.execute("SELECT * FROM search_current ORDER BY page_id").fetchall()


def times_indexed(db: sqlite3.Connection) -> int:
    """How often a page was taken into the index since this was first asked on the connection."""
    db.executescript("""
        CREATE TEMP TABLE IF NOT EXISTS taken (page_id);
        CREATE TEMP TRIGGER IF NOT EXISTS take AFTER INSERT ON main.search_pages BEGIN
            INSERT INTO taken VALUES (new.page_id);
        END;
    """)
    return int(db.execute("SELECT count(*) FROM taken").fetchone()[0])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("이 종이는 한지다", "한지"),
        ("한지는 천 년을 간다", "한지"),
        ("전통 한지를 만든다", "한지"),
        ("전통 한지를 만든다", "한지를"),
        ("대한지리학회", "한지"),
        ("한지", "한"),
        ("한지", "\u1112\u1161\u11ab\u110c\u1175"),
        ("東京都庁へ行く", "東京"),
        ("昨日は東京都庁へ行った", "東京"),
        ("昨日は東京都庁へ行った", "京都"),
        ("昨日は東京都庁へ行った", "東京都庁"),
        ("昨日は東京都庁へ行った", "行っ"),
        ("人々のコンピューター", "コンピュ"),
        ("人々のコンピューター", "人々"),
        ("ｶﾀｶﾅ半角", "ﾀｶ"),
        ("我们讨论了人工智能的未来", "人工"),
        ("我们讨论了人工智能的未来", "智能"),
        ("我们讨论了人工智能的未来", "未来"),
        ("我们讨论了人工智能的未来", "人工智能的未来"),
        ("𠮷野家で𠀀字", "𠮷野"),
        ("使用GPT模型", "gpt"),
        ("使用GPT模型", "模型"),
        ("使用 GPT 模型", "使用GPT模型"),
        ("東京2024大会", "2024"),
        ("東京、大阪、京都", "大阪"),
        ("「東京」で", "「東京」"),
        ("ไปเที่ยวประเทศไทยที่นี่", "ไทย"),
        ("ไปเที่ยวประเทศไทยที่นี่", "ที่นี่"),
        ("ພາສາລາວ ភាសាខ្មែរ မြန်မာဘာသာ", "ខ្មែរ"),
        ("Die Müllabfuhr kommt", "müllabfuhr"),
        ("Die Müllabfuhr kommt", "MULLABFUHR"),
        ("Die Müllabfuhr kommt", "mu\u0308llabfuhr"),
        ("Die Straße", "STRASSE"[:4]),
        ("An e-mail arrived", "e-mail"),
        ("An e-mail arrived", "mail"),
        ("Don't panic", "don't"),
        ("Fest 🎉 im Hafen", "Fest🎉"),
        ("Привет, мир", "привет"),
        ("हिन्दी में", "हिन्दी"),
        ("Two kettles were tested", "kettle"),
        ("version 3.40.1", "3.40"),
    ],
)
def test_a_word_is_found_wherever_it_stands(store: Store, path: Path, text: str, word: str) -> None:
    fetch(store, 1, f"# Heading\n\n{text}")
    fetch(store, 2, "# Another\n\nNothing of that.")
    assert found(path, word) == ["1"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("한 지역의 이야기", "한지"),
        ("東、京", "東京"),
        ("東京", "京東"),
        ("東京", "大東京"),
        ("ไปเที่ยว", "เทียว"),
        ("हिन्दी में", "हन्दा"),
        ("a party", "art"),
        ("kettles", "kettleship"),
        ("in 2024", "202"),
        ("an inn", "in"),
        ("restore the drill", '"restore drill"'),
        ("restore drills", '"restore drill"'),
        ("only one of two", "only missing"),
    ],
)
def test_what_does_not_stand_there_is_not_found(store: Store, path: Path, text: str, word: str) -> None:
    fetch(store, 1, text)
    assert found(path, word) == []


def test_all_words_must_occur_but_not_in_one_place(store: Store, path: Path) -> None:
    task = fetch(store, 1, "Das 한지는 im Text", "Titel 東京")
    summarize(store, task, "Das 한지는 im Text", "Die Zusammenfassung.", "Ein Punkt.")
    assert found(path, "東京", "한지", "Zusammenfassung", "Punkt", "text") == ["1"]
    assert found(path, "東京", "한지", "Zusammenfassung", "Punkt", "fehlt") == []


@pytest.mark.parametrize(
    "words",
    [["restore drill"], ['"restore drill"'], ['"restore drill'], ['now "restore drill"'], ["drill", '"now restore"']],
)
def test_several_words_in_quotes_of_the_shell_or_their_own_are_a_phrase(
    store: Store, path: Path, words: list[str]
) -> None:
    fetch(store, 1, "now restore drill")
    fetch(store, 2, "now drill, then restore")
    assert found(path, *words) == ["1"]


@pytest.mark.parametrize("word", ["AND", "OR", "NOT", "NEAR", "title", "rank"])
def test_a_word_of_the_query_language_is_a_word(store: Store, path: Path, word: str) -> None:
    fetch(store, 1, f"the {word.lower()} of it")
    fetch(store, 2, "another")
    assert found(path, word) == ["1"]


@pytest.mark.parametrize(
    "typed",
    ["the*", "^the", "-the", "+the", "(the", "the)", "{the", "text:the", "NEAR(the", "the'", "the\\", "the;", "the\0"],
)
def test_a_sign_of_the_query_language_means_nothing(store: Store, path: Path, typed: str) -> None:
    fetch(store, 1, "near the text: the end")
    assert found(path, typed) == ["1"]
    assert found(path, "nothing", typed) == []


@pytest.mark.parametrize("words", [[""], [" "], ['"'], ['""', "''"], ["—", "…", "* -"], ["🎉"], ["\u0301"]])
def test_a_search_without_a_word_is_refused(store: Store, path: Path, words: list[str]) -> None:
    with pytest.raises(UsageError, match="nothing to search for"):
        search.pages(path, words, 20)


def test_signs_beside_a_word_are_left_out(store: Store, path: Path) -> None:
    fetch(store, 1, "Fest im Hafen")
    assert found(path, "🎉", "—", "Hafen", "") == ["1"]


@given(st.lists(st.text() | st.text("\"*:^()-+{}.' abAND한지東 \x00\x1f\u2060"), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_is_typed_is_an_error_of_sql(one_page: tuple[Path, Store, Task], words: list[str]) -> None:
    try:
        search.pages(one_page[0], words, 20)
    except UsageError:
        assert not any(character.isalnum() for word in words for character in word)


def test_a_thousand_words_are_no_error(one_page: tuple[Path, Store, Task]) -> None:
    assert search.pages(one_page[0], [f"word{number}" for number in range(1_000)], 20) == []


RUNS = st.text("한지는東京a 、", max_size=90)


@given(RUNS, st.text("한지는東京", min_size=1, max_size=3))
def test_a_run_is_found_exactly_where_it_stands(one_page: tuple[Path, Store, Task], text: str, word: str) -> None:
    path, store, _ = one_page
    fetch(store, 1, text)
    assert bool(search.pages(path, [word], 20)) == (word in text)


BLOCKS = st.sampled_from(["한지는 " * 15, "東京都庁" * 15, "a run of Latin letters " * 4, "、", "東", "é"])


@given(
    st.text("한東ก𠀀々a1é -、\n", max_size=300)
    | st.lists(BLOCKS, max_size=8).map("".join)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]))
)
def test_each_letter_of_a_run_is_set_apart_and_nothing_else_is_changed(
    one_page: tuple[Path, Store, Task], text: str
) -> None:
    path, store, _ = one_page
    fetch(store, 1, text)
    with plain(path) as db:
        letter = re.compile(db.execute("SELECT letter FROM search_letters").fetchone()[0])
        stored = db.execute("SELECT text FROM search").fetchone()[0] or ""
    expected = ""
    for character, after in zip(text, (text + " ")[1:], strict=True):
        expected += character
        if letter.match(after):
            expected += APART
        elif letter.match(character):
            expected += APART + END_OF_RUN + APART
    assert stored == expected.removesuffix(APART + END_OF_RUN + APART)


def test_a_megabyte_of_chinese_is_indexed_to_its_last_letter(store: Store, path: Path) -> None:
    """One `substr` a letter would take minutes: the text is halved instead."""
    text = "天地玄黄宇宙洪荒" * 41_666 + "龍門"
    fetch(store, 1, text)
    assert found(path, "龍門") == ["1"]
    (hit,) = search.pages(path, ["天地"], 20)
    assert hit.snippet.startswith("天地玄黄")
    assert len(hit.snippet) < 200


def test_the_better_place_comes_first(store: Store, path: Path) -> None:
    filler = "filler " * 10
    for number, (title, point, summary, text) in enumerate(
        [(" ", " ", " ", "kettle"), (" ", " ", "kettle", " "), (" ", "kettle", " ", " "), ("kettle", " ", " ", " ")]
    ):
        body = f"{text} {number} {filler}"
        task = fetch(store, number, body, f"{title} {filler}")
        summarize(store, task, body, f"{summary} {filler}", f"{point} {filler}")
    hits = search.pages(path, ["kettle"], 20)
    assert [hit.url[-1] for hit in hits] == ["3", "2", "1", "0"]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    with plain(path) as db:
        rows = db.execute("SELECT rowid FROM search WHERE search MATCH 'kettle' ORDER BY rank").fetchall()
    assert [row[0] for row in rows] == [4, 3, 2, 1]


def test_the_word_itself_comes_before_longer_ones(store: Store, path: Path) -> None:
    for number, text in enumerate(["Komposthaufen Komposthaufen", "Kompost", "Kompostwurm Kompostwurm", "nichts"]):
        fetch(store, number, text)
    hits = search.pages(path, ["kompost"], 20)
    assert hits[0].url.endswith("/1")
    assert len(hits) == 3


def test_no_more_pages_than_asked_for(store: Store, path: Path) -> None:
    for number in range(5):
        fetch(store, number, f"the same {number}")
    assert len(search.pages(path, ["same"], 3)) == 3


def test_the_snippet_says_where_the_words_stand(store: Store, path: Path) -> None:
    text = "\n\n".join(
        ["# 東京\n\n**Nothing** here."] * 30 + ["- The `kettle` of 東京都庁, at\nlast."] + ["More."] * 30
    )
    fetch(store, 1, text)
    (hit,) = search.pages(path, ["kettle", "東京"], 20)
    marked = [hit.snippet[start:end] for start, end in hit.marks]
    assert marked[-2:] == ["kettle", "東京"]
    assert len(marked) == hit.snippet.count("東京") + 1
    assert "The kettle of 東京都庁, at last. More. More." in hit.snippet
    assert hit.snippet[0] == hit.snippet[-1] == "…"
    assert len(hit.snippet) <= search.SNIPPET_CHARACTERS + 2


def test_the_snippet_is_from_the_place_with_more_of_the_words(store: Store, path: Path) -> None:
    task = fetch(store, 1, "A kettle and a towel.", "Kettle, towel")
    summarize(store, task, "A kettle and a towel.", "On towels.", "One kettle.")
    (both,) = search.pages(path, ["kettle", "towel"], 20)
    assert both.snippet == "A kettle and a towel."
    (one,) = search.pages(path, ["towel"], 20)
    assert (one.snippet, one.marks) == ("On towels.", ((3, 9),))
    (title_only,) = search.pages(path, ['"kettle towel"'], 20)
    assert (title_only.snippet, title_only.marks) == ("On towels.", ())


def test_a_hit_says_all_that_is_known_of_its_page(store: Store, path: Path) -> None:
    task = fetch(store, 1, "The text.", "A title")
    summarize(store, task, "The text.", "A summary.", "One.", "Two.")
    (hit,) = search.pages(path, ["summary"], 20)
    assert (hit.url, hit.state, hit.reason, hit.title) == ("http://a.example/1", "summarized", None, "A title")
    assert (hit.summary, hit.key_points, hit.language) == ("A summary.", ("One.", "Two."), "en")
    assert hit.fetched_at
    assert hit.summarized_at
    assert hit.score > 0


def test_a_page_without_a_summary_is_found_by_its_text(store: Store, path: Path) -> None:
    fetch(store, 1, "Only a text.")
    (hit,) = search.pages(path, ["text"], 20)
    assert (hit.state, hit.summary, hit.key_points, hit.snippet) == ("fetched", None, (), "Only a text.")


def test_a_newer_summary_and_a_newer_text_take_the_place_of_the_old(store: Store, path: Path) -> None:
    task = fetch(store, 1, "first text", "first title")
    summarize(store, task, "first text", "first summary", "first point")
    fetch(store, 1, "second text", "second title")
    assert found(path, "first summary") == ["1"]
    assert found(path, "first text") == found(path, "first title") == []
    summarize(store, task, "second text", "second summary", "second point")
    assert found(path, "first") == []
    assert found(path, "second text") == found(path, "second summary") == found(path, "second point") == ["1"]
    assert_in_step(path)


def test_two_pages_with_one_text_are_both_found(store: Store, path: Path) -> None:
    fetch(store, 1, "one text")
    fetch(store, 2, "one text")
    assert found(path, "one text") == ["1", "2"]
    fetch(store, 1, "another")
    assert found(path, "one text") == ["2"]


def test_an_unchanged_page_is_not_indexed_again(store: Store) -> None:
    task = fetch(store, 1, "the text")
    assert times_indexed(store._connection) == 0
    store.apply(Unchanged(task, Why.SAME_TEXT, now(), now()))
    fetch(store, 1, "the text")
    assert times_indexed(store._connection) == 0
    fetch(store, 1, "the other text")
    assert times_indexed(store._connection) == 1


def test_an_older_version_of_a_summary_can_go_without_work(store: Store, path: Path) -> None:
    task = fetch(store, 1, "the text")
    summarize(store, task, "the text", "old")
    summarize(store, task, "the text", "new")
    with plain(path) as db:
        assert times_indexed(db) == 0
        db.execute(SUMMARY.format("", 0, 1, "older still", "[]"))
        db.execute("DELETE FROM summaries WHERE summary = 'old'")
        assert times_indexed(db) == 0
        db.execute("DELETE FROM summaries WHERE summary = 'new'")
        assert times_indexed(db) == 1
    assert found(path, "new") == []
    assert_in_step(path)


def test_the_index_takes_no_number_from_the_tables(store: Store, path: Path) -> None:
    """The writer takes the id of a new summary from the connection, and triggers have inserted rows since."""
    for number in range(3):
        task = fetch(store, number, f"text {number}")
    summarize(store, task, "text 2", "A summary.", parts=("c",))
    with plain(path) as db:
        assert db.execute("SELECT summary_id FROM summary_chunks").fetchall() == [(1,)]


SUMMARY = (
    "INSERT {} INTO summaries VALUES ({}, {}, 'h1', 'recipe-hash', '{}', '{}', 'en', 'single', 1, '[]', 1, 1, 1, 1, '')"
)


@pytest.mark.parametrize(
    ("statement", "word", "pages"),
    [
        ("UPDATE pages SET title = '새로운 한지' WHERE id = 1", "한지", ["1"]),
        ("UPDATE pages SET title = '' WHERE id = 1", "title", ["2"]),
        ("UPDATE pages SET text_hash = 'h2' WHERE id = 1", "东西", ["1", "2"]),
        ("UPDATE pages SET text_hash = NULL, title = '' WHERE id = 2", "东西", []),
        ("UPDATE OR IGNORE pages SET id = 2 WHERE id = 1", "first", ["1"]),
        ("UPDATE pages SET id = 77 WHERE id = 1", "first", ["1"]),
        ("DELETE FROM pages WHERE id = 1", "first", []),
        ("DELETE FROM pages", "first", []),
        (
            "INSERT INTO pages (url, key, host, state, added_at, title) VALUES ('u/9', 'k', 'h', 'queued', '', '漢紙')",
            "漢紙",
            ["9"],
        ),
        ("INSERT INTO pages (url, key, host, state, added_at) VALUES ('u/9', 'k9', 'h', 'queued', '')", "first", ["1"]),
        (
            "REPLACE INTO pages (id, url, key, host, state, added_at) VALUES (1, 'u/1', 'k1', 'h', 'queued', '')",
            "title",
            ["2"],
        ),
        (
            "REPLACE INTO pages (id, url, key, host, state, added_at) VALUES (2, 'u/2', 'k2', 'h', 'queued', '')",
            "title",
            ["1"],
        ),
        (
            "INSERT OR IGNORE INTO pages (id, url, key, host, state, added_at) VALUES (1, 'u', 'k', 'h', 'queued', '')",
            "title",
            ["1", "2"],
        ),
        (SUMMARY.format("", 9, 1, "新しい東京", "[]"), "東京", ["1"]),
        (SUMMARY.format("", 9, 1, "later", "[]"), "first summary", []),
        (SUMMARY.format("", 0, 1, "earlier", "[]"), "earlier", []),
        (SUMMARY.format("OR IGNORE", 1, 1, "ignored", "[]"), "first summary", ["1"]),
        (SUMMARY.format("OR REPLACE", 1, 1, "replaced", "[]"), "replaced", ["1"]),
        (SUMMARY.format("", 9, 1, "s", '["\\ud55c\\uc9c0\\ub294", 2]'), "한지", ["1"]),
        (SUMMARY.format("", 9, 1, "s", "no JSON at all"), "no JSON at all", ["1"]),
        (SUMMARY.format("", 9, 1, "s", '"bare"'), "bare", ["1"]),
        ("UPDATE summaries SET summary = '东京' WHERE id = 1", "东京", ["1"]),
        ("UPDATE summaries SET page_id = 2 WHERE id = 1", "first summary", ["2"]),
        ("UPDATE summaries SET page_id = 2 WHERE id = 1", "first point", ["2"]),
        ("DELETE FROM summaries", "first summary", []),
        ("UPDATE texts SET text = '新的文章' WHERE hash = 'h1'", "文章", ["1"]),
        ("UPDATE texts SET text = '新的文章' WHERE hash = 'h1'", "first text", []),
        ("UPDATE texts SET hash = 'h9' WHERE hash = 'h1'", "first text", []),
        ("UPDATE OR REPLACE texts SET hash = 'h2' WHERE hash = 'h1'", "first text", ["2"]),
        ("UPDATE OR REPLACE texts SET hash = 'h2' WHERE hash = 'h1'", "东西", []),
        ("DELETE FROM texts WHERE hash = 'h2'", "东西", []),
        ("REPLACE INTO texts VALUES ('h2', 'replaced', 8)", "replaced", ["2"]),
        ("REPLACE INTO texts VALUES ('h2', 'replaced', 8)", "东西", []),
        ("INSERT OR IGNORE INTO texts VALUES ('h2', '各种东西', 4)", "东西", ["2"]),
        ("INSERT INTO search (search) VALUES ('rebuild')", "东西", ["2"]),
        ("UPDATE pages SET text_hash = 'h3' WHERE id = 1; INSERT INTO texts VALUES ('h3', 'late', 4)", "late", ["1"]),
        ("BEGIN; DELETE FROM pages; ROLLBACK", "first", ["1"]),
    ],
)
@pytest.mark.parametrize("recursive_triggers", [0, 1])
def test_whoever_writes_keeps_the_index_in_step(
    path: Path, statement: str, word: str, pages: list[str], recursive_triggers: int
) -> None:
    with Store.open(path) as store:
        store.add_recipe(RECIPE)
    with plain(path) as db:
        db.executescript(
            """
            INSERT INTO texts VALUES ('h1', 'first text', 10), ('h2', '各种东西', 4);
            INSERT INTO pages (id, url, key, host, state, added_at, title, text_hash) VALUES
                (1, 'u/1', 'k1', 'h', 'summarized', '', 'first title', 'h1'),
                (2, 'u/2', 'k2', 'h', 'fetched', '', 'other title', 'h2'),
                (3, 'u/3', 'k3', 'h', 'queued', '', '', NULL);
            """
            + SUMMARY.format("", 1, 1, "first summary", '["first point"]')
        )
        assert db.execute("SELECT page_id FROM search_pages ORDER BY page_id").fetchall() == [(1,), (2,)]
        assert_in_step(path)
        db.execute(f"PRAGMA recursive_triggers = {recursive_triggers}")
        db.executescript(statement)
    assert_in_step(path)
    assert found(path, word) == pages


def test_an_index_that_someone_emptied_does_not_stop_the_writer(store: Store, path: Path) -> None:
    tasks = [fetch(store, number, f"text {number}") for number in range(3)]
    with plain(path) as db:
        db.execute("INSERT INTO search (search) VALUES ('delete-all')")
    for number, task in enumerate(tasks):
        summarize(store, task, f"text {number}", "A summary.")
    assert found(path, "text") == ["0", "1", "2"]
    assert_in_step(path)


def test_a_page_that_is_forgotten_leaves_nothing_in_the_index(store: Store, path: Path) -> None:
    for number in (1, 2):
        task = fetch(store, number, "one text", "한지는")
        summarize(store, task, "one text", "東京都庁", "kettle")
    with plain(path) as db:
        db.execute("PRAGMA foreign_keys = ON")
        for table in ("items", "attempts", "sources", "redirects", "summaries"):
            db.execute(f"DELETE FROM {table}")
        db.execute("DELETE FROM pages")
        db.execute("DELETE FROM texts")
        db.execute("INSERT INTO search (search) VALUES ('optimize')")
        db.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab (main, search, row)")
        assert db.execute("SELECT term FROM terms").fetchall() == []
    assert_in_step(path)


TABLES = ("pages", "p", "summaries", "texts", "search_pages")


def scans(db: sqlite3.Connection, statement: str, values: Any) -> list[str]:
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    return [step for step in plan if step.startswith("SCAN") and step.split()[1] in TABLES]


def test_no_search_and_no_change_of_one_page_goes_through_all_pages(store: Store, path: Path) -> None:
    with plain(path) as db:
        assert scans(db, "SELECT * FROM pages", []) == ["SCAN pages"]
        assert not scans(db, queries.SEARCH, {"query": "a", "limit": 20})
        assert not scans(db, "SELECT * FROM search_columns WHERE page_id = ?", [1])
        assert not scans(db, "SELECT * FROM search_current WHERE page_id = ?", [1])
        assert not scans(db, "SELECT id FROM pages WHERE text_hash = ?", ["h"])
        assert not scans(db, "SELECT id FROM pages WHERE text_hash IN (?, ?)", ["h", "g"])


# The schema, as it comes and goes


@pytest.fixture
def older(path: Path) -> Path:
    """A database of the schema before there was an index, with two pages in it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrations.apply(Database(db), stop_before="full_text_search")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
        db.executescript(
            """
            INSERT INTO recipes VALUES ('recipe-hash', 'm', 'd', 4096, '{}', '{}');
            INSERT INTO texts VALUES ('h1', '昨日は東京都庁へ行った', 11);
            INSERT INTO pages (id, url, key, host, state, added_at, title, text_hash) VALUES
                (1, 'u/1', 'k1', 'h', 'summarized', '', '한지는', 'h1'), (2, 'u/2', 'k2', 'h', 'queued', '', '', NULL);
            """
            + SUMMARY.format("", 1, 1, "the older summary", "[]")
            + ";"
            + SUMMARY.format("", 2, 1, "the newer summary", '["point"]')
        )
    return path


def schema_of(path: Path) -> tuple[object, ...]:
    with plain(path) as db:
        return (
            db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall(),
            db.execute("SELECT migration_set, name FROM _sqlite_migrations ORDER BY name").fetchall(),
            db.execute("PRAGMA user_version").fetchone(),
        )


def test_an_older_database_gets_an_index_of_what_is_in_it(older: Path) -> None:
    with Store.open(older):
        pass
    assert found(older, "東京") == found(older, "한지") == found(older, "newer", "point") == ["1"]
    assert found(older, "older") == []
    assert_in_step(older)
    with Store.open(older.with_name("new.db")):
        pass
    assert schema_of(older) == schema_of(older.with_name("new.db"))


def test_an_older_database_can_be_opened_again_and_again(older: Path) -> None:
    with Store.open(older):
        pass
    before = schema_of(older)
    with Store.open(older):
        pass
    assert schema_of(older) == before


def test_a_step_that_fails_leaves_the_older_database_as_it_was(older: Path) -> None:
    with plain(older) as db:
        db.execute("CREATE VIEW search_again AS SELECT 1")
    before = schema_of(older)
    with pytest.raises(DatabaseUnusable, match="search_again already exists"), Store.open(older):
        pass
    assert schema_of(older) == before


def test_a_search_in_an_older_database_says_what_to_do(older: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="older version; the next run brings it up to date"):
        search.pages(older, ["東京"], 20)


# The command


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("summarize-batch")
    environment = {"PATH": os.defpath, "HOME": "/nowhere", "PYTHONIOENCODING": "utf-8", **variables}
    return subprocess.run(
        [program, "search", *arguments], capture_output=True, encoding="utf-8", check=False, env=environment
    )


def test_the_command_prints_pages_with_the_words_in_brackets(store: Store, path: Path) -> None:
    task = fetch(store, 1, "Text.", "A title [sic]")
    summarize(store, task, "Text.", "전통 한지를 만든다 [bold]:smile:", "Point.")
    fetch(store, 2, "한지")
    done = command("--db", str(path), "한지", "title")
    assert done.stdout == "A title [sic]\n  http://a.example/1\n  전통 [한지]를 만든다 [bold]:smile:\n"
    assert (done.stderr, done.returncode) == ("", 0)


def test_the_command_prints_the_words_bold_on_a_terminal(store: Store, path: Path) -> None:
    fetch(store, 1, "전통 한지를 만든다", "A title")
    done = command("--db", str(path), "한지", FORCE_COLOR="1", COLUMNS="16")
    assert "  전통 \x1b[1m한지\x1b[0m를" in done.stdout
    assert "\n  만든다" in done.stdout


def test_the_command_prints_one_object_a_page(store: Store, path: Path) -> None:
    for number in (1, 2):
        fetch(store, number, f"Die 한지는 {number}.", "A title")
    lines = command("--db", str(path), "--json", "--limit", "1", "한지").stdout.splitlines()
    (row,) = [json.loads(line) for line in lines]
    assert {"url", "state", "reason", "title", "site", "score", "snippet", "marks", "summary"} <= set(row)
    assert (row["snippet"], row["marks"]) == ("Die 한지는 1.", [[4, 6]])


def test_the_command_without_a_word_is_a_mistake_of_usage(store: Store, path: Path) -> None:
    done = command("--db", str(path), "—")
    assert (done.stdout, done.returncode) == ("", 2)
    assert "no letter and no digit" in done.stderr


# What the documentation says


def examples() -> list[str]:
    """The statements of `docs/search.md`, also those inside of the settings for Datasette."""
    blocks = re.findall(r"```(?:sql|yaml)\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    statements = [block.split("sql: |-\n")[-1].split("\n    #")[0] for block in blocks]
    return [statement.strip().rstrip(";") for block in statements for statement in block.split(";\n\n")]


@pytest.mark.parametrize("statement", examples())
def test_each_example_of_the_documentation_works_without_us(store: Store, path: Path, statement: str) -> None:
    for number, text in enumerate(
        ["전통 한지를 만드는 kettle", "昨日は東京都庁へ行った。 kettle", "한 지역", "kettles"]
    ):
        task = fetch(store, number, text, f"Page {number}")
        summarize(store, task, text, f"Summary {number}.")
    with plain(path) as db:
        rows = db.execute(statement, {"words": "한지 kettle"} if ":words" in statement else {}).fetchall()
        assert rows or not statement.startswith(("SELECT", "WITH"))
        assert not any("Page 2" in row for row in rows)
    assert_in_step(path)

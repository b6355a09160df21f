"""What a page costs does not grow with the database, nor memory with the list. The figures: `scripts/bench scale`."""

from __future__ import annotations

import io
import re
import sqlite3
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from command_line import article, serving_pages
from fake_ollama import FakeOllama, serving
from one_night import settings, whole_night
from test_store import PARTIAL, RECIPE, fetched, line, not_done, summarized

from pipeline import queries, run, store
from pipeline.console import Console
from pipeline.records import Added, Chosen, Chunk, Chunked, ChunkSummarized, Document, Outcome, Reason, Task
from pipeline.records import Event as AnyEvent
from pipeline.run import Errand, lists
from pipeline.store import Store

OF_A_RUN = {
    name: re.sub(r"\s+", " ", getattr(queries, name)).strip()
    for name in (
        *("COUNT_ITEMS", "FAULT_COUNTS", "FAULTS", "LAST_ITEM", "LONGEST_WAITING_HOST", "TO_DO"),
        *("WAITING", "SET_ASIDE", "OTHER_RECIPES", "SETTLE_FRESH", "SETTLE_NOT_DUE", "END_ITEMS", "LAST_RUN"),
    )
}
"""What goes through all items of a run, and is asked a few times a night."""
A_FEW = 4
LARGE = (
    *("pages", "items", "texts", "chunks", "chunk_summaries", "reduce_summaries", "summaries", "summary_chunks"),
    *("evidence", "attempts", "sources", "redirects", "search_pages"),
)
STEP = re.compile(r"(SCAN|SEARCH) (\w+)(?: USING .*?(?:INDEX|KEY)[^(]*\((.*)\))?")
VALUE = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b|\?|:\w+|\bNULL\b|-(?=\?)")


def shape(statement: str) -> str:
    """A statement without its values."""
    return re.sub(r"\s+", " ", VALUE.sub("?", statement)).replace("-?", "?").strip()


def through_many_rows(db: sqlite3.Connection, statement: str) -> list[str]:
    """The steps of a statement that go through a large table, or through all items of a run."""
    aliases = dict(re.findall(r"\b(?:FROM|JOIN) (\w+) AS (\w+)", statement))
    tables = {**{alias: table for table, alias in aliases.items()}, **{table: table for table in LARGE}}
    asked = re.sub(r"\?\d*|\b(new|old)\.\w+", ":value", statement)
    values = dict.fromkeys(["value", *re.findall(r":(\w+)", asked)], 1)
    found = []
    for row in db.execute(f"EXPLAIN QUERY PLAN {asked}", values):
        step = STEP.match(row[3])
        if not step or tables.get(step[2]) not in LARGE:
            continue
        of_run = step[3] in ("run_id=?", "rowid>? AND rowid<?", "rowid>?") and tables[step[2]] == "items"
        if step[1] == "SCAN" or of_run or (step[1] == "SEARCH" and not step[3]):
            found.append(row[3])
    return found


def bodies(trigger: str) -> list[str]:
    """The statements of a trigger."""
    return [text.strip() for text in trigger.partition("BEGIN")[2].rpartition("END")[0].split(";") if text.strip()]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that a run sends to SQLite, with its values."""
    statements: list[str] = []
    usual = store.connect

    def connect(path: Path, *, write: bool) -> sqlite3.Connection:
        connection = usual(path, write=write)
        if write:
            connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(store, "connect", connect)
    return statements


def test_no_statement_of_a_night_goes_through_a_table_for_each_page(tmp_path: Path, traced: list[str]) -> None:
    db = tmp_path / "summaries.db"
    with Store.open(db):
        traced.clear()
    long = " ".join(f"Boat {number} went down the river in its {number}th year." for number in range(9))
    pages = {f"p{number}": article(f"Page {number}", f"Sentence {number} is here.") for number in range(6)}
    with serving_pages(**pages, long=article("Long", long)) as site, serving(FakeOllama()) as fake:
        urls = tmp_path / "urls.txt"
        urls.write_text("".join(f"{site.url}/{name}\n" for name in (*pages, "long", *(f"gone{n}" for n in range(6)))))
        options = ("--host", fake.url, "--model", "fake", "--parallel", "1", "--delay", "0", "--num-ctx", "2048")
        given = replace(settings(db, *options, "--allow-private-network", "--max-age", "0s"), words=50)
        for night in range(2):
            site.pages["/p1"] = article("Page 1", f"Another sentence of night {night}.")
            assert whole_night(given, lists(given, [str(urls)], Console(-1)), Console(-1, as_json=False)) == 3
        again = Errand("resummarize", lambda _store, _fetch: [Chosen(tuple(range(1, 8)), False)], True, False)
        assert whole_night(replace(given, words=60), again, Console(-1)) == 0
    kinds = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
    counts = Counter(shape(text) for text in traced if text.strip().startswith(kinds))
    example = {shape(text): text for text in traced}
    listed = {shape(text) for text in OF_A_RUN.values()}
    with closing(sqlite3.connect(db)) as connection:
        # The trace tells the statement that fired a trigger again, and not what the trigger does (seen with 3.11).
        triggers = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        example |= {shape(text): text for (sql,) in triggers for text in bodies(sql)}
        many = {text: through_many_rows(connection, example[text]) for text in example if text.startswith(kinds)}
    assert len(many) > 60
    assert {text: steps for text, steps in many.items() if steps and text not in listed} == {}
    assert {text: counts[text] for text in listed if counts[text] > 3 * A_FEW} == {}, "three runs"
    assert [text for text in listed if not many.get(text) and counts[text]] in ([], [shape(queries.LAST_RUN)])


def fill(store: Store, pages: int) -> None:
    """Pages of an earlier night, each with a text of its own, its summary and its tries."""
    store.begin_run("urls.txt", "m", {})
    store.add_recipe(RECIPE)
    store.apply(Added(tuple(line(f"old/{number}", f"{number % 50}.example") for number in range(pages))))
    rows = store._rows("SELECT id, url, host FROM pages")
    with store.transaction("fill") as db:
        for row in rows:
            for event in finished(Task(row["id"], row["url"], row["host"]), f"Text of page {row['id']}."):
                store._write(event, db)
    store.end_run("finished", 0, None)


def finished(task: Task, text: str) -> list[AnyEvent]:
    document = Document(text)
    chunk = Chunk(0, 0, len(text), text, 5)
    return [
        fetched(task, document),
        Chunked(document.hash, (chunk,)),
        ChunkSummarized(task, chunk.hash, RECIPE.hash, PARTIAL, task_time, task_time),
        replace(summarized(task, document), parts=(chunk.hash,)),
    ]


task_time = store.now()


def steps_of_a_night(path: Path, pages: int) -> int:
    """How many steps SQLite takes for a night over seven pages, in tens, when so many others are there."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    with Store.open(path) as store:
        fill(store, pages)
        store._connection.set_progress_handler(step, 10)
        store.begin_run("urls.txt", "m", {})
        store.apply(Added(tuple(line(name, "0.example") for name in ("old/0", "old/50", "1", "2", "3", "4", "5"))))
        store.settle(timedelta(0), force=False)
        host = store.hosts_after("", 10)[0]
        found = [task for _, task in store.tasks_after(host, -1, 10)]
        assert len(found) == 7
        for number, task in enumerate(found[:-1]):
            for event in finished(task, f"A new text of page {number}."):
                store.apply(event)
            store.result(task.page_id)
        store.apply(not_done(found[-1], Reason.HTTP_404))
        store.recall_map("chunk", RECIPE.hash)
        store.recall_final("text", RECIPE.hash)
        store.chunks("text")
        store.failures_to_call(RECIPE.hash, 3)
        assert store.to_do() == 0
        assert store.fault_counts() == {(Outcome.FAILED, Reason.HTTP_404): 1}
        store.faults([Reason.HTTP_404], 20)
        store.other_recipes([RECIPE.hash])
        store.settled_after(0, 100)
        store.end_run("finished", 3, None)
        store._connection.set_progress_handler(None, 0)
    return steps


def test_a_night_costs_the_same_however_many_pages_are_in_the_database(tmp_path: Path) -> None:
    few, many = (steps_of_a_night(tmp_path / f"{pages}.db", pages) for pages in (100, 1_000))
    assert few > 100
    assert many < few + 100, "to go through 900 rows takes more"


def test_items_are_settled_and_ended_a_range_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ITEMS_A_TRANSACTION", 3)
    points: list[str] = []
    with Store.open(tmp_path / "summaries.db", points.append) as db:
        fill(db, 10)
        db.begin_run("urls.txt", "m", {})
        lines = [line(f"old/{number}", f"{number}.example") for number in range(10)]
        db.apply(Added((*lines, *(line(f"new/{number}") for number in range(4)))))
        points.clear()
        db.settle(timedelta(hours=12), force=False)
        assert points == 5 * ["settle"]
        assert db.counts() == {"unchanged": 10, "waiting": 4}
        db.end_run("interrupted", 143, "interrupted")
        assert db._rows("SELECT DISTINCT run_id, reason FROM items WHERE outcome = 'waiting'")[0][:] == (
            2,
            "interrupted",
        )
        assert len(db._rows("SELECT 1 FROM items WHERE reason = 'interrupted'")) == 4
        assert [row[0] for row in db.settled_after(0, 100)] == list(range(11, 21)), "of this run only"


class Endless(io.RawIOBase):
    """A list that never ends; counts how much of it was read."""

    def __init__(self) -> None:
        self.lines = 0
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(self._rest) < len(buffer):
            self._rest += f"http://{self.lines % 1_000}.example/{self.lines}\n".encode()
            self.lines += 1
        buffer[:], self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        return len(buffer)


def test_a_list_is_stored_while_it_is_read_and_takes_no_more_memory_the_longer_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = Endless()

    class Stdin:
        buffer: Any = io.BufferedReader(endless)

    monkeypatch.setattr(sys, "stdin", Stdin)
    given = settings(tmp_path / "summaries.db")
    with Store.open(given.db) as store:
        store.begin_run("-", "m", {})
        batches: Iterator[Any] = iter(lists(given, ["-"], Console(-1)).batches(store, lambda url: None))
        tracemalloc.start()
        try:
            stored, peaks = 0, []
            for most in (2, 5):
                tracemalloc.reset_peak()
                for batch in islice(batches, most):
                    store.apply(batch)
                    stored += len(batch.lines)
                    assert endless.lines < stored + 20_000, "what is buffered"
                peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert store.to_do() == stored == 7 * run.LINES_A_TRANSACTION
    assert peaks[1] < peaks[0] + 500_000

"""The installed command on the demo site, with the model that runs inside the program: nights in a row."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import demo_site
import pytest
import recording_proxy
from fake_ollama import FakeOllama, running, serving

from pipeline import embedded

COMMAND = str(Path(sys.executable).with_name("summarize-batch"))
EXPECTED: dict[str, dict[str, Any]] = json.loads((demo_site.FOLDER / "expected.json").read_text("utf-8"))
SALT = "/library/essays/salt/"
THREAD = "/r/pathofexile/comments/1abcde/first_league_start_righteous_fire_or_toxic_rain/"
SOME_FAILED = 3
FAKE = ("--model", "fake", "--num-ctx", "2048", "--language", "en")
SMALL = ("--model", embedded.MODEL, "--num-ctx", str(embedded.DEFAULT_CONTEXT), "--language", "en", "--words", "60")
"""As the demo, but for summaries that are sooner written."""
BEYOND_THE_MODEL = ("output_rejected", "llm_truncated", "reduce_grew")
"""Why the small model may have no summary of a page or two: how many, the books tell."""

FENCED = re.compile(r"(?s)^<<<PAGE \w+>>>\n(.*)\n(<<<END \w+>>>)$")
Chat = dict[str, Any]


@dataclass
class World:
    """A copy of the demo site that may be edited, a model's server, a list and a database."""

    folder: Path
    site: str
    asked: list[demo_site.Asked]
    model_server: str
    chats: list[Chat]

    @property
    def db(self) -> Path:
        return self.folder / "summaries.db"

    def command(self, *options: str, sources: Sequence[str] = ()) -> list[str]:
        given = sources or [str(self.folder / "urls.txt")]
        own = ["--db", str(self.db), "--allow-private-network", "--delay", "0.01", "--parallel", "1"]
        return [COMMAND, *given, *own, "--host", self.model_server, *options]

    def night(self, *options: str, sources: Sequence[str] = ()) -> Night:
        """One run, and what was asked for during it."""
        asked, chats = len(self.asked), len(self.chats)
        command = self.command(*options, sources=sources)
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return Night(done.returncode, done.stdout, done.stderr, self.asked[asked:], self.chats[chats:])

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        with closing(sqlite3.connect(self.db)) as db:
            db.row_factory = sqlite3.Row
            return db.execute(query, values).fetchall()


@dataclass(frozen=True)
class Night:
    code: int
    out: str
    err: str
    asked: list[demo_site.Asked]
    chats: list[Chat]


@contextmanager
def embedded_server() -> Iterator[str]:
    """The embedded model's server, in a thread of its own."""
    ready, stop = Event(), asyncio.Event()
    found: list[Any] = []

    async def serve() -> None:
        found.append(asyncio.get_running_loop())
        async with embedded.serve(embedded.find_model()) as url:
            found.append(url)
            ready.set()
            await stop.wait()

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield found[1]
    finally:
        found[0].call_soon_threadsafe(stop.set)
        thread.join()


@contextmanager
def a_world(folder: Path, model_server: str, chats: list[Chat]) -> Iterator[World]:
    shutil.copytree(demo_site.FOLDER, folder, dirs_exist_ok=True)
    app = demo_site.make_app(folder)
    with running(app) as site:
        (folder / "urls.txt").write_text(demo_site.url_list(folder, site), "utf-8")
        yield World(folder, site, app[demo_site.LOG], model_server, chats)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        proxy = recording_proxy.make_app(stack.enter_context(embedded_server()))
        server = stack.enter_context(running(proxy))
        folder = tmp_path_factory.mktemp("world")
        yield stack.enter_context(a_world(folder, server, proxy[recording_proxy.CHATS]))


@pytest.fixture(scope="module")
def first(world: World) -> Night:
    return world.night(*SMALL)


def state_of(world: World, path: str) -> sqlite3.Row:
    url = path if path.startswith("htp") else world.site + path
    (row,) = world.rows(
        "SELECT pages.*, summaries.summary, summaries.method, summaries.coverage, texts.text"
        " FROM pages LEFT JOIN summaries ON summaries.page_id = pages.id"
        " LEFT JOIN texts ON texts.hash = pages.text_hash WHERE url = ?",
        url,
    )
    return row


def parts_of(world: World, row: sqlite3.Row) -> list[str]:
    """A text as it was cut in the end."""
    chunks = world.rows("SELECT start, end FROM chunks WHERE text_hash = ? ORDER BY number", row["text_hash"])
    return [row["text"][chunk["start"] : chunk["end"]] for chunk in chunks]


def prove(chats: Sequence[Chat], url: str, text: str, parts: Sequence[str]) -> None:
    """Whatever was sent was sent whole: no request may be cut, and the parts of the page are its text."""
    for chat in chats:
        options = chat["options"]
        assert chat["truncate"] is False
        assert chat["think"] is False
        assert options["num_ctx"] % 256 == 0
        assert options["num_predict"] >= 1
        assert "keep_alive" not in chat
        assert not ("tools" in chat and "format" in chat)
    assert len({chat["options"]["num_ctx"] for chat in chats}) == 1
    answered = [chat["messages"] for chat in chats if "tools" not in chat and url in chat["messages"][1]["content"]]
    shown = {found[0] for messages in answered for found in re.findall(FENCED, messages[3]["content"])}
    read = {part.replace("\u2060", "") for part in shown}
    assert "".join(parts) == text
    assert set(parts) <= read


@pytest.mark.parametrize("path", EXPECTED)
def test_every_page_of_the_list_has_the_state_and_the_reason_that_it_deserves(
    world: World, first: Night, path: str
) -> None:
    assert first.code == SOME_FAILED
    row, expected = state_of(world, path), EXPECTED[path]
    if expected["state"] == "summarized" and row["reason"] in BEYOND_THE_MODEL and path != THREAD:
        return
    assert (row["state"], row["reason"]) == (expected["state"], expected.get("reason")), first.err
    if "method" in expected:
        assert row["method"] == expected["method"]
    summary = (row["summary"] or "").lower()
    assert bool(summary) == (expected["state"] == "summarized")
    words = expected.get("any_of", [""]) if path == THREAD else [""]
    assert any(word.lower() in summary for word in words), summary
    assert not any(word.lower() in summary for word in expected.get("none_of", ())), summary


def test_the_books_of_the_night_are_closed(world: World, first: Night) -> None:
    assert [tuple(row) for row in world.rows("SELECT state, exit_code FROM runs WHERE id = 1")] == [("finished", 3)]
    (pages,) = world.rows("SELECT count(*) AS n FROM pages")
    assert pages["n"] == len(EXPECTED)
    counted = {row["outcome"]: row["n"] for row in world.rows("SELECT outcome, count(*) AS n FROM items GROUP BY 1")}
    assert counted["summarized"] >= 9
    assert (sum(counted.values()), counted["skipped"]) == (len(EXPECTED), 1)
    assert world.rows("SELECT 1 FROM items WHERE ended_at IS NULL") == []


def test_the_address_of_the_thread_stands_unmangled(world: World, first: Night) -> None:
    row = state_of(world, THREAD)
    assert row["url"] == row["final_url"] == world.site + THREAD


def test_nothing_that_was_sent_could_be_cut_and_the_parts_of_the_long_page_are_its_text(
    world: World, first: Night
) -> None:
    row = state_of(world, SALT)
    assert row["coverage"] in (1, None)
    parts = parts_of(world, row)
    assert len(parts) >= 8
    prove(first.chats, world.site + SALT, row["text"], parts)
    with pytest.raises(AssertionError):
        prove(first.chats, world.site + THREAD, row["text"], parts)


def test_the_proof_fails_for_requests_that_may_be_cut(world: World, first: Night) -> None:
    careless = [{name: value for name, value in chat.items() if name != "truncate"} for chat in first.chats]
    with pytest.raises(KeyError, match="truncate"):
        prove(careless, world.site + SALT, "", [])


def test_the_next_nights_pay_only_for_what_changed(world: World, first: Night) -> None:
    second = world.night(*SMALL)
    assert second.code == SOME_FAILED
    assert second.chats == []
    done = [path for path in EXPECTED if state_of(world, path)["state"] == "summarized"]
    assert not {asked.path for asked in second.asked} & set(done)

    third = world.night(*SMALL, "--max-age", "0s")
    assert third.chats == []
    conditional = [asked for asked in third.asked if "If-None-Match" in asked.headers]
    assert all(asked.status in (301, 304) for asked in conditional)
    assert sorted(asked.path for asked in conditional if asked.path in done) == sorted(done)

    if SALT not in done:
        pytest.skip("the small model had no summary of the long page")
    page = world.folder / "pages" / SALT.strip("/") / "index.html"
    html = page.read_text("utf-8")
    fact = "somebody once walked from Taoudenni to Timbuktu for it."
    assert html.count(fact) == 1
    page.write_text(html.replace(fact, "somebody once walked from Taoudenni to Djenné for it."), "utf-8")
    fourth = world.night(*SMALL, "--max-age", "0s")
    assert fourth.code == SOME_FAILED
    assert 0 < len({json.dumps(chat) for chat in fourth.chats if "tools" in chat}) <= 2
    assert all(world.site + SALT in json.dumps(chat) for chat in fourth.chats)
    versions = world.rows("SELECT count(*) AS n FROM summaries GROUP BY page_id ORDER BY n")
    assert [row["n"] for row in versions] == [1] * (len(done) - 1) + [2]
    assert [asked.status for asked in fourth.asked if asked.path == SALT] == [200]


def test_a_run_that_is_killed_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    calls = 0
    enough = Event()
    whole = FakeOllama()

    def counted(body: Chat) -> Chat:
        nonlocal calls
        calls += 1
        if calls == 9:
            enough.set()
        return usual(body)

    with serving(whole) as fake, a_world(tmp_path, fake.url, fake.chats) as world:
        usual, fake.behave = fake.behave, counted
        process = subprocess.Popen(world.command(*FAKE), stderr=subprocess.DEVNULL)
        assert enough.wait(60)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        before = len(fake.chats)
        kept = world.rows("SELECT count(*) AS n FROM chunk_summaries")[0]["n"]
        night = world.night(*FAKE)
        assert night.code == SOME_FAILED
        after = len(fake.chats) - before
        assert [tuple(row) for row in world.rows("SELECT state FROM runs ORDER BY id")] == [
            ("interrupted",),
            ("finished",),
        ]
        found = {row["state"]: row["n"] for row in world.rows("SELECT state, count(*) AS n FROM pages GROUP BY 1")}
        assert found == {"summarized": 11, "skipped": 1, "failed": 3}
        assert [row["n"] for row in world.rows("SELECT count(*) AS n FROM summaries GROUP BY page_id")] == [1] * 11

        world.db.unlink()
        needed = len(world.night(*FAKE).chats)
        assert kept > 0
        # No finished answer is paid twice: only the one tool loop that was under way is run again.
        assert before + after <= needed + 2


def test_the_embedded_model_is_asked_for_with_one_word(tmp_path: Path) -> None:
    with a_world(tmp_path, "http://127.0.0.1:9", []) as world:
        path = "/museum/objects/1907-214"
        night = world.night("--embedded", "--json", "--words", "30", sources=[world.site + path])
        assert night.code == 0, night.err
        told = json.loads(night.out)
        assert (told["state"], told["model"], told["method"]) == ("summarized", embedded.MODEL, "single")
        assert told["summary"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_nothing_is_left_running_after_a_kill(tmp_path: Path) -> None:
    with serving(FakeOllama()) as fake, a_world(tmp_path, fake.url, fake.chats) as world:
        began = Event()
        usual = fake.behave

        def told(body: Chat) -> Chat:
            began.set()
            return usual(body)

        fake.behave = told
        process = subprocess.Popen(world.command(*FAKE), stderr=subprocess.DEVNULL)
        assert began.wait(60)
        # A thread's children are its own in this list, and each worker has been started by another.
        threads = Path(f"/proc/{process.pid}/task").glob("*/children")
        children = [int(pid) for thread in threads for pid in thread.read_text().split()]
        assert children
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
            pass
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)

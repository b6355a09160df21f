"""Nights in a row, in this process, with a clock of the test's: what is asked for, and what is stored after each."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import Pages, article, serving_pages
from fake_ollama import FakeOllama, serving
from one_night import settings, whole_night

from pipeline import run
from pipeline.commands import show
from pipeline.console import Console
from pipeline.errors import UsageError
from pipeline.page import Steps, process
from pipeline.records import Task
from pipeline.run import lists
from pipeline.settings import Settings

SUMMARIZED, UNCHANGED = ("summarized", None), ("unchanged", "same_text")
GONE = ("failed", "http_404")
DAY = timedelta(days=1)


class Silent(Console):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.told: list[str] = []

    def warn(self, text: str) -> None:
        self.told.append(text)


@dataclass
class Night:
    """What one night did: its exit code, what was asked for, and what it says."""

    code: int
    asked: list[str]
    chats: int
    told: list[str]
    items: dict[str, tuple[str, str | None]]
    """Page → outcome and reason in this night."""


@dataclass
class World:
    """A site that may be edited, lists, a model's server, a database, and the time."""

    folder: Path
    site: Pages
    fake: FakeOllama
    time: datetime = datetime(2026, 3, 2, 3, 15, tzinfo=UTC)
    given: Settings = field(init=False)

    def __post_init__(self) -> None:
        options = ("--host", self.fake.url, "--model", "fake", "--parallel", "1", "--workers", "1", "--delay", "0")
        self.given = settings(self.folder / "summaries.db", *options, "--allow-private-network", "--model-wait", "0s")

    def write(self, name: str, pages: str) -> str:
        (self.folder / name).write_text("".join(f"{self.site.url}/{page}\n" for page in pages.split()))
        return name

    def night(self, *names: str, after: timedelta = DAY, **options: Any) -> Night:
        """A run over these lists, so long after the one before."""
        self.time += after
        asked, chats, console = len(self.site.asked), len(self.fake.chats), Silent()
        given = replace(self.given, **options)
        code = whole_night(
            given, lists(given, [str(self.folder / name) for name in names], console), console, lambda: self.time
        )
        return Night(
            code,
            [path.removeprefix("/") for path in self.site.asked[asked:] if path != "/robots.txt"],
            len(self.fake.chats) - chats,
            console.told,
            {
                self.name(url): (outcome, reason)
                for url, outcome, reason in self.rows(
                    "SELECT url, outcome, items.reason FROM items JOIN pages ON pages.id = page_id"
                    " WHERE run_id = (SELECT max(id) FROM runs) ORDER BY items.id"
                )
            },
        )

    def pages(self) -> dict[str, tuple[str, str | None, int]]:
        """Page → state, reason, and how many versions its summary has."""
        return {
            self.name(url): (state, reason, versions)
            for url, state, reason, versions in self.rows(
                "SELECT url, state, reason, (SELECT count(*) FROM summaries WHERE page_id = pages.id) FROM pages"
            )
        }

    def sources(self) -> set[tuple[str, str]]:
        """(page, list)."""
        found = self.rows("SELECT url, list FROM sources JOIN pages ON pages.id = page_id")
        return {(self.name(url), Path(name).name) for url, name in found}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.given.db)) as db:
            return db.execute(query).fetchall()

    @staticmethod
    def name(url: str) -> str:
        return url.rpartition("/")[2]


@contextmanager
def world(folder: Path, *names: str) -> Iterator[World]:
    with serving(FakeOllama()) as fake, serving_pages(**{name: page(name) for name in names}) as site:
        yield World(folder, site, fake)


def page(name: str, says: str = "as it was") -> str:
    return article(f"Page {name}", f"What page {name} says is {says}.")


def test_a_week_of_nights_and_what_came_after(tmp_path: Path) -> None:  # noqa: PLR0915 - so long is a week
    with world(tmp_path, "a", "b", "c", "new", "other", "late") as it:
        first = it.night(it.write("one", "a b c gone"))
        assert (first.code, first.asked) == (3, ["a", "b", "c", "gone"])
        assert first.items == {"a": SUMMARIZED, "b": SUMMARIZED, "c": SUMMARIZED, "gone": GONE}
        assert first.chats > 0
        all_well = ("summarized", None, 1)
        pages = {"a": all_well, "b": all_well, "c": all_well, "gone": (*GONE, 0)}
        assert it.pages() == pages
        assert it.sources() == {(name, "one") for name in ("a", "b", "c", "gone")}

        # Reordered, and one more.
        second = it.night(it.write("one", "c new a gone b"))
        assert second.items == dict.fromkeys("cab", UNCHANGED) | {"new": SUMMARIZED, "gone": GONE}
        assert second.asked[0] == "new", "what was never tried goes first, then as long as it waited"
        assert second.asked[1:] == ["a", "b", "c", "gone"]
        assert it.pages() == (pages := pages | {"new": all_well})

        # The same morning by mistake: nothing is asked for, not even robots.txt.
        asked = len(it.site.asked)
        by_mistake = it.night("one", after=timedelta(hours=1))
        assert by_mistake.items == dict.fromkeys(("a", "b", "c", "new"), ("unchanged", "fresh")) | {"gone": GONE}
        assert (len(it.site.asked), by_mistake.chats) == (asked, 0)

        # One page is no more in the list, another has changed.
        it.site.pages["/a"] = page("a", "another thing")
        third = it.night(it.write("one", "a c new gone"))
        assert third.items == {"a": SUMMARIZED, "c": UNCHANGED, "new": UNCHANGED, "gone": GONE}
        assert "b" not in third.asked
        assert it.pages() == (pages := pages | {"a": ("summarized", None, 2)}), "history stays"
        assert ("b", "one") in it.sources()

        # Another list, with a page that is in the first one too.
        fourth = it.night(it.write("two", "other a"))
        assert fourth.items == {"other": SUMMARIZED, "a": UNCHANGED}
        assert sorted(fourth.asked) == ["a", "other"], "only the pages of the list"
        assert it.pages() == (pages := pages | {"other": all_well})
        assert {("a", "one"), ("a", "two"), ("other", "two")} <= it.sources()

        # Both lists: their page is one item. The one that is gone has waited long enough to be asked for again.
        fifth = it.night(it.write("one", "a b c new gone"), "two")
        assert fifth.items == dict.fromkeys(("a", "b", "c", "new", "other"), UNCHANGED) | {"gone": GONE}
        assert sorted(fifth.asked) == ["a", "b", "c", "gone", "new", "other"]
        assert (fifth.chats, it.pages()) == (0, pages)

        # No time at all: each page keeps its state and waits; the one that is gone is not due.
        out_of_time = ("waiting", "out_of_time")
        sixth = it.night("one", "two", max_duration=timedelta(0))
        assert sixth.items == dict.fromkeys(("a", "b", "c", "new", "other"), out_of_time) | {"gone": GONE}
        assert (sixth.asked, it.pages()) == ([], pages)

        # The next night begins with what was never tried, then with what has waited longest.
        seventh = it.night("one", it.write("two", "other a late"), limit=3)
        assert seventh.asked == ["late", *sorted(fifth.asked, key=fifth.asked.index)[:2]]
        waiting = {name: found for name, found in seventh.items.items() if found == ("waiting", "limit")}
        assert len(waiting) == 3
        assert it.pages() == (pages := pages | {"late": all_well})
        assert it.rows("SELECT DISTINCT state FROM runs") == [("finished",)]
        assert [code for (code,) in it.rows("SELECT exit_code FROM runs")] == [3, 3, 0, 3, 0, 3, 0, 0]

        # Weeks later, night after night: less and less often, and then no more; it is told when it was asked for.
        asked = 0
        for _ in range(45):
            night = it.night(it.write("three", "gone"))
            asked += len(night.asked)
            assert (night.code, bool(night.told)) == ((3, True) if night.asked else (0, False))
            if night.told:
                last = night
        assert night.items == {"gone": ("failed", "gave_up")}
        assert it.rows("SELECT counts FROM runs ORDER BY id DESC LIMIT 1") == [('{"not asked": 1}',)]
        assert last.told[1].startswith("  failed gave_up: ")
        assert it.pages()["gone"] == ("failed", "gave_up", 0)
        assert it.rows("SELECT count(*) FROM attempts WHERE code = 'http_404'") == [(8,)]
        assert asked == 4, "four times in the first week"
        assert {name: found for name, found in it.pages().items() if name != "gone"} == {
            name: found for name, found in pages.items() if name != "gone"
        }


def test_a_page_at_which_the_program_fails_comes_last_the_next_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = process

    async def failing(task: Task, steps: Steps) -> bool:
        if task.url.endswith("/bug"):
            await steps.fetch(task)
            raise KeyError("no such key")
        return await usual(task, steps)

    monkeypatch.setattr(run, "process", failing)
    with world(tmp_path, "a", "b", "c") as it, serving_pages(bug=page("bug")) as other:
        bug = f"{other.url}/bug"
        (tmp_path / "one").write_text(f"{bug}\n")
        with pytest.raises(ExceptionGroup):
            it.night("one")
        assert it.pages() == {"bug": ("queued", "bug", 0)}
        assert it.rows("SELECT code, detail LIKE 'KeyError:%' FROM attempts") == [("bug", 1)]
        (tmp_path / "one").write_text(f"{bug}\n" + "".join(f"{it.site.url}/{name}\n" for name in "abc"))
        for night in range(2):
            it.site.pages["/b"] = page("b", f"new for the {night}th time")
            with pytest.raises(ExceptionGroup):
                it.night("one")
            outcomes = it.rows(f"SELECT DISTINCT outcome FROM items WHERE run_id = {night + 2} AND page_id > 1")
            assert {"unchanged", "summarized"} >= {outcome for (outcome,) in outcomes}, "all others"
            assert other.asked.count("/bug") == night + 2
        monkeypatch.setattr(run, "process", usual)
        mended = it.night("one")
        assert (mended.code, mended.items["bug"]) == (0, SUMMARIZED)
        assert list(other.asked).count("/bug") == 4
        assert it.night("one").items["bug"] == UNCHANGED


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file cannot have such a name")
def test_the_name_of_a_list_need_not_be_text(tmp_path: Path) -> None:
    with world(tmp_path, "a", "b") as it:
        prompts = tmp_path / "\udcff"
        prompts.mkdir()
        it.given = replace(it.given, prompts=prompts)
        night = it.night(it.write("l\udcff", "a b"))
        assert (night.code, night.items) == (0, {"a": SUMMARIZED, "b": SUMMARIZED})
        assert it.sources() == {("a", r"l\udcff"), ("b", r"l\udcff")}
        assert it.rows("SELECT source LIKE '%/l\\udcff', json_valid(settings) FROM runs") == [(1, 1)]
        assert len(it.night("l\udcff").items) == 2
        with pytest.raises(UsageError, match=r"l\\udcff is not in "):
            show.page(it.given.db, "l\udcff")


def test_a_night_over_unchanged_pages_asks_for_each_once_and_never_the_model(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(100)]
    with world(tmp_path, *names) as it:
        it.write("one", " ".join(names))
        first = it.night("one")
        assert (first.code, len(first.asked)) == (0, 100)
        assert first.chats >= 100
        paths = len(it.fake.paths)
        second = it.night("one")
        assert (second.code, sorted(second.asked), second.chats) == (0, sorted(names), 0)
        assert set(second.items.values()) == {UNCHANGED}
        asked, paths = len(it.site.asked), len(it.fake.paths)
        third = it.night("one", after=timedelta(hours=1))
        assert set(third.items.values()) == {("unchanged", "fresh")}
        assert (third.code, third.told) == (0, [])
        assert (len(it.site.asked), len(it.fake.paths)) == (asked, paths), "no request at all"

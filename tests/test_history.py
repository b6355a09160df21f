"""What was: `runs`, `failures`, and of one page its attempts, its versions and what changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Said, Shell

from pipeline.records import (
    Added,
    Document,
    Fetched,
    Final,
    Line,
    NotDone,
    Page,
    Reason,
    Recipe,
    Refusal,
    Stage,
    Summarized,
    Task,
)
from pipeline.store import Store, now

WELL, GONE, SLOW, WAITS = (f"http://a.example/{name}" for name in ("well", "gone", "slow", "waits"))
RECIPE = Recipe("small", "d1", 4_096, {}, {}, "recipe-1")
OTHER = Recipe("large", "d2", 4_096, {}, {}, "recipe-2")


def summarize(store: Store, task: Task, text: str, summary: str, recipe: Recipe) -> None:
    document = Document(text, "A title")
    store.apply(Fetched(task, Page(task.url, task.url, 200, "text/html", "", b""), document, now(), now()))
    final = Final(summary, ("One point.",))
    store.apply(Summarized(task, document.hash, recipe.hash, final, "en", "single", 1.0, 1, now(), now()))


def fail(store: Store, task: Task, reason: Reason, stage: Stage = Stage.FETCH) -> None:
    store.apply(NotDone(task, stage, Refusal(reason, "why \x1b[31m"), now(), now()))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights: a page with two versions, one that is gone, one that was slow twice, one that was not reached."""
    path = tmp_path_factory.mktemp("filled") / "summaries.db"
    urls = (WELL, GONE, SLOW, WAITS)
    with Store.open(path) as store:
        for recipe in (RECIPE, OTHER):
            store.begin_run("urls.txt", recipe.model, {})
            store.add_recipe(recipe)
            store.apply(Added(tuple(Line(url, url, "a.example", "urls.txt") for url in urls)))
            well, gone, slow, _ = (Task(number, url, "a.example") for number, url in enumerate(urls, 1))
            text, sentence = (
                ("One.", "It was built in 1920.") if recipe is RECIPE else ("Two.", "It was built in 1930.")
            )
            summarize(store, well, text, f"A dam above the town. {sentence}", recipe)
            fail(store, slow, Reason.TIMEOUT)
            if recipe is OTHER:
                fail(store, gone, Reason.HTTP_404)
                store.end_run("finished", 3, Reason.LIMIT.value)
    return path


@pytest.fixture
def shell(filled: Path, tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"HOME": str(tmp_path), "SUMMARIZE_BATCH_DB": str(filled)})


# runs


def test_runs_tells_how_each_run_ended_the_newest_first(shell: Shell) -> None:
    second, first = shell("runs", "--json").objects
    assert (first["id"], first["state"], first["exit_code"], first["ended_at"] is None) == (
        1,
        "interrupted",
        None,
        False,
    )
    assert first["outcomes"] == {"deferred": 1, "summarized": 1, "waiting": 2}, "a killed run's items are counted"
    assert (second["state"], second["exit_code"], second["model"], second["source"]) == (
        "finished",
        3,
        "large",
        "urls.txt",
    )
    assert second["outcomes"] == {"deferred": 1, "failed": 1, "summarized": 1, "waiting": 1}
    lines = shell("runs", "--limit", "1").out.splitlines()
    assert len(lines) == 1
    assert "finished (3)  1 deferred, 1 failed, 1 summarized, 1 waiting  large  urls.txt" in lines[0]


def test_a_run_keeps_its_counts_without_its_items(shell: Shell, filled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(filled.read_bytes())
    with Store.open(copy) as store, store.transaction("test") as db:
        db.execute("DELETE FROM items")
    second, first = shell("runs", "--json", "--db", copy).objects
    assert first["outcomes"] == {}
    assert second["outcomes"]["summarized"] == 1


# failures


def test_failures_tells_why_since_when_how_often_and_what_to_do(shell: Shell) -> None:
    slow, gone, waits = shell("failures", "--json").objects
    assert (slow["url"], slow["state"], slow["reason"], slow["failures"]) == (SLOW, "deferred", "timeout", 2)
    assert (gone["url"], gone["state"], gone["reason"], gone["failures"]) == (GONE, "failed", "http_404", 1)
    assert (waits["url"], waits["state"], waits["reason"]) == (WAITS, "waiting", "limit")
    assert gone["advice"] == Reason.HTTP_404.meaning.advice
    first = shell("show", SLOW, "--attempts", "--json").objects[0]
    assert slow["since"] == first["started_at"]


def test_failures_has_a_reason_once_over_its_pages(shell: Shell) -> None:
    lines = shell("failures").out.splitlines()
    assert lines[0] == "deferred timeout: the site took too long. To do: nothing to do: a later run asks again."
    assert lines[1] == f"  {SLOW}"
    assert ", 2 in a row" in lines[2]
    assert "why \\x1b[31m" in lines[2]
    assert len(lines) == 9


def test_failures_of_one_reason(shell: Shell) -> None:
    assert [row["url"] for row in shell("failures", "--json", "--reason", "http_404").objects] == [GONE]
    assert shell("failures", "--reason", "robots") == Said(0, "", "every page is well\n")
    assert shell("failures", "-q", "--reason", "robots") == Said(0, "", "")
    assert "'bored' is not one of" in shell("failures", "--reason", "bored").err


def test_since_begins_after_the_last_time_that_the_page_was_well(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        store.add_recipe(RECIPE)
        store.apply(Added((Line(WELL, WELL, "a.example", "urls.txt"),)))
        task = Task(1, WELL, "a.example")
        fail(store, task, Reason.TIMEOUT)
        summarize(store, task, "One.", "A summary.", RECIPE)
        store.begin_run("urls.txt", "m", {})
        store.apply(Added((Line(WELL, WELL, "a.example", "urls.txt"),)))
        fail(store, replace(task, summarized=True), Reason.HTTP_404)
    (row,) = shell("failures", "--db", path, "--json").objects
    tries = shell("show", WELL, "--db", path, "--attempts", "--json").objects
    assert [(each["run_id"], each["code"]) for each in tries] == [(1, "timeout"), (1, "ok"), (1, "ok"), (2, "http_404")]
    assert row["since"] == tries[-1]["started_at"]
    assert row["failures"] == 1, "a success begins the count anew"


# show


def test_show_tells_every_attempt(shell: Shell) -> None:
    lines = shell("show", WELL, "--attempts").out.splitlines()
    told = [line.split()[2:] for line in lines]
    assert told == [["run", run, stage, "ok"] for run in ("1", "2") for stage in ("fetch", "map")]


def test_show_tells_every_version(shell: Shell) -> None:
    first, second = shell("show", WELL, "--versions", "--json").objects
    assert (first["version"], first["model"], first["summary"]) == (
        1,
        "small",
        "A dam above the town. It was built in 1920.",
    )
    assert (second["version"], second["model"], second["key_points"]) == (2, "large", ["One point."])
    assert shell("show", WELL, "--versions").out.splitlines()[1] == "  A dam above the town. It was built in 1920."
    assert shell("show", WAITS, "--versions") == Said(0, "", "")


CHANGE = [" A dam above the town.", "-It was built in 1920.", "+It was built in 1930.", " - One point."]


@pytest.mark.parametrize(("numbers", "change"), [([], CHANGE), (["1", "2"], CHANGE), (["1", "1"], [])])
def test_show_tells_what_changed_between_two_versions(shell: Shell, numbers: list[str], change: list[str]) -> None:
    said = shell("show", WELL, "--diff", *numbers)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[3:] == change
    assert not change or lines[0].startswith("--- version 1 (20")


def test_a_change_is_coloured_on_a_terminal_only(shell: Shell) -> None:
    _, sent = shell.terminal("show", WELL, "--diff")
    assert "\x1b[32m+It was built in 1930.\x1b[0m" in sent
    shell.variables["NO_COLOR"] = "1"
    assert "\x1b" not in shell.terminal("show", WELL, "--diff")[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([WELL, "--diff", "1", "3"], "has versions 1 to 2 of its summary"),
        ([WELL, "--diff", "1"], "give two of them"),
        ([WAITS, "--diff"], "has no version of its summary"),
        ([WELL, "1", "2"], "go with --diff"),
        ([WELL, "--attempts", "--versions"], "one of --attempts"),
    ],
)
def test_versions_that_are_not_there_are_2(shell: Shell, arguments: list[str], told: str) -> None:
    said = shell("show", *arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err

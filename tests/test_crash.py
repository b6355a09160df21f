"""Killed anywhere, the nights end as if nobody had touched them. `scripts/torture` does more of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import machine
import power
import pytest
import torture
from fake_ollama import FakeOllama, serving
from one_night import Witness, night
from torture import EachPoint, Measure, Report, World

from pipeline.records import Added, Document, Fetched, Line, Page
from pipeline.store import Store, now

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, to see what is left running")
SEED, KILLS = 5, 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with torture.a_world(tmp_path_factory.mktemp("torture")) as world:
        yield world


@pytest.fixture(scope="module")
def measure(world: World) -> Measure:
    return torture.undisturbed(world)


def untold(text: str) -> None:
    """Where the kills are told that only people want to hear of."""


def test_killed_at_every_named_commit_and_at_any_moment_the_nights_end_as_if_undisturbed(
    world: World, measure: Measure
) -> None:
    points = EachPoint(measure, once=True)
    named = [point for of_night in points.waiting for point in of_night]
    # What was learned of a vocabulary is news in some nights only: it hangs on which page was read first.
    assert sorted({*named, "Measured"}) == sorted(torture.POINTS)
    at_random = torture.at_random(measure, random.Random(SEED), KILLS)
    report = Report()
    torture.series(world, measure, lambda night: points(night) or at_random(night), report, untold)
    assert report.differences == []
    assert len(named) < report.kills <= len(named) + KILLS


def test_a_text_that_was_fetched_and_not_yet_cut_when_the_run_was_killed_is_cut_as_it_was_before(
    tmp_path: Path,
) -> None:
    url, db = "http://host.example/long", tmp_path / "summaries.db"
    before, after = ("\n\n".join(torture.prose("long", 60, changed)) for changed in (-1, 30))
    with serving(FakeOllama(Witness())) as fake:
        first = night(db, fake, {url: before}, "--num-ctx", "2048")
        assert first.rows("SELECT prompts > 5 AS learned FROM ratios") == [{"learned": 1}], "the next parts are longer"
        with Store.open(db) as store:
            store.begin_run("urls.txt", "fake", {})
            store.apply(Added((Line(url, url, "host", "urls.txt"),)))
            ((_, task),) = store.tasks_after("host", 0, 1)
            page = Page(url, url, 200, "text/markdown", "", b"")
            store.apply(Fetched(task, page, Document(after), now(), now()))
        second = night(db, fake, {url: after}, "--num-ctx", "2048")
    assert len(second.chats) == 3, "one part and the last step"


RECORDERS = power.recorders()
needs_a_recorder = pytest.mark.skipif(
    not RECORDERS, reason="needs strace or cc, to see what is written and synced when"
)


@needs_a_recorder
@pytest.mark.parametrize("recorder", RECORDERS)
def test_whatever_was_said_to_be_done_is_there_after_a_power_cut(world: World, recorder: str) -> None:
    cuts = power.cut_a_first_night(world, random.Random(SEED), recorder)
    assert cuts.faults == []
    assert cuts.syncs > cuts.said > 15


@needs_a_recorder
def test_that_test_finds_what_is_lost_when_a_commit_does_not_wait_for_the_disk(world: World) -> None:
    cuts = power.cut_a_first_night(world, random.Random(SEED), RECORDERS[0], "synchronous:NORMAL")
    assert any("said and lost" in fault for fault in cuts.faults)
    assert not any("integrity" in fault for fault in cuts.faults)


def test_whatever_happens_in_whatever_order_the_database_says_what_a_dict_says(tmp_path: Path) -> None:
    machine.held_against_the_dict(tmp_path, examples=10, steps=10)


def test_killed_right_after_the_model_came_back_the_night_goes_on(tmp_path: Path) -> None:
    with machine.machines(tmp_path) as nights, closing(nights()) as life:
        life.begin()
        life.is_killed_when_the_model_is_back()
        life.the_database_says_what_the_dict_says()
        life.the_database_is_whole_and_keeps_its_promises()
        life.no_answer_is_paid_twice()

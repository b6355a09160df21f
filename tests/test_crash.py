"""Killed anywhere, the nights end as if nobody had touched them. `scripts/torture` does more of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torture
from torture import EachPoint, Measure, Report, World

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
    assert sorted(named) == sorted(torture.POINTS)
    at_random = torture.at_random(measure, random.Random(SEED), KILLS)
    report = Report()
    torture.series(world, measure, lambda night: points(night) or at_random(night), report, untold)
    assert report.differences == []
    assert len(named) < report.kills <= len(named) + KILLS

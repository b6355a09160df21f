"""A guest's manners: how far apart requests are, who is left alone, and for how long."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import hosts
from pipeline.hosts import DOWN_AFTER, HELD_AFTER, LONG_PAUSE, Hosts, NotNow, after, in_another_run, next_delay
from pipeline.records import HostSeen, NotModified, Outcome, Page, Reason, Refusal, RobotsFile

SITE = "https://a.example"
NAME = "a.example"
START = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
PAGE = Page(f"{SITE}/", f"{SITE}/", 200, "text/html", "", b"")
NO_ANSWER = Refusal(Reason.CONNECT_ERROR, "refused")
NOT_THERE = Refusal(Reason.HTTP_404, "HTTP 404", 404)


def pause(seconds: float | None, status: int = 429) -> Refusal:
    until = None if seconds is None else START + timedelta(seconds=seconds)
    return Refusal(Reason.RATE_LIMITED, f"HTTP {status}", status, until)


class Time:
    """It passes only for who sleeps, and then at once."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def clock(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class World(Hosts):
    """Hosts with a time of their own; what they tell of each is kept, as the store does."""

    def __init__(self, delay: float = 1.0, known: tuple[HostSeen, ...] = (), **options: Any) -> None:
        self.time = Time()
        self.told: list[HostSeen] = []
        self.known = {seen.origin: seen for seen in known}

        async def recall(name: str) -> list[HostSeen]:
            return [seen for seen in self.known.values() if seen.host == name]

        async def emit(seen: HostSeen) -> None:
            self.told.append(seen)
            before = self.known.get(seen.origin, seen)
            self.known[seen.origin] = replace(seen, robots=seen.robots or before.robots)

        usual = {"recall": recall, "emit": emit, "now": self.time.now, "sleep": self.time.sleep}
        super().__init__(delay, self.time.clock, **(usual | options))

    async def ask(
        self, answer: object, seconds: float = 0.0, origin: str = SITE, *, tries: int = 1, patient: bool = False
    ) -> float:
        """One request that is answered after so many seconds; gives when it was made."""
        async with self.turn(origin, patient) as turn:
            began = self.time.seconds
            self.time.seconds += seconds
            turn.answers()
            await self.answered(turn, answer, tries)
        return began


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


# How far apart


LIMITS: dict[str, Any] = {"least": 1.0, "most": 30.0, "per_host": 1}


@pytest.mark.parametrize(
    ("delay", "seconds", "well", "then"),
    [
        (1.0, 0.1, True, 1.0),
        (1.0, 3.0, True, 3.0),
        (3.0, 0.1, True, 1.55),
        (1.0, 90.0, True, 30.0),
        (3.0, 0.1, False, 3.0),
        (1.0, 3.0, False, 3.0),
    ],
)
def test_a_host_that_slows_is_asked_less_often_and_more_often_only_when_it_is_well(
    delay: float, seconds: float, well: bool, then: float
) -> None:
    assert next_delay(delay, seconds, **LIMITS, well=well) == pytest.approx(then)


def test_a_host_that_may_be_asked_for_two_things_at_a_time_is_asked_twice_as_often() -> None:
    assert next_delay(1.0, 8.0, least=1.0, most=30.0, per_host=2, well=True) == 4.0


NUMBERS = st.floats(0, 1e6)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.integers(1, 16), st.booleans())
def test_a_delay_is_never_below_the_least_nor_shorter_after_an_error(
    delay: float, seconds: float, least: float, most: float, per_host: int, well: bool
) -> None:
    found = next_delay(delay, seconds, least=least, most=most, per_host=per_host, well=well)
    assert least <= found <= max(least, most)
    assert well or found >= min(delay, max(least, most))


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30))
def test_a_delay_comes_back_when_the_host_is_quick_again(answers: list[tuple[float, bool]]) -> None:
    delay = 1.0
    for seconds, well in [*answers, *[(0.0, True)] * 40]:
        delay = next_delay(delay, seconds, **LIMITS, well=well)
    assert delay == 1.0


def test_requests_are_a_delay_apart_and_further_when_the_answers_take_longer() -> None:
    async def main() -> None:
        world = World()
        times = [await world.ask(PAGE, seconds) for seconds in (0.1, 4.0, 0.1, 0.1)]
        times += [await world.ask(NOT_THERE) for _ in range(3)]
        assert times == [0.0, 1.0, 5.0, 9.0, 11.05, 12.125, pytest.approx(13.2)]

    run(main())


@pytest.mark.parametrize(("asked", "apart"), [(5.0, 5.0), (0.5, 1.0), (None, 1.0)])
def test_the_delay_is_the_longer_one_of_ours_and_the_one_that_robots_txt_asks_for(
    asked: float | None, apart: float
) -> None:
    async def main() -> None:
        world = World()
        await world.ask(PAGE)
        world.asks_for(SITE, asked)
        assert world.spacing(NAME) == apart
        assert [await world.ask(PAGE) for _ in range(3)] == [apart, 2 * apart, 3 * apart]
        assert world.spacing("b.example") == 1.0

    run(main())


def test_without_a_delay_a_slow_host_is_not_slowed_down() -> None:
    async def main() -> None:
        world = World(0.0)
        assert [await world.ask(PAGE, 5.0) for _ in range(3)] == [0.0, 5.0, 10.0]

    run(main())


# Pauses


def test_a_short_pause_is_waited_for_and_by_the_whole_host() -> None:
    async def main() -> None:
        world = World()
        await world.ask(pause(40.0))
        assert await world.refusal(SITE) is None
        assert world.ready_at(NAME) == 40.0
        assert await world.wait("http://a.example") == 40.0, "whatever the scheme"
        assert await world.wait("https://b.example") == 0.0
        with pytest.raises(NotNow):
            await world.ask(PAGE)
        assert world.time.seconds == 0.0, "by its pages, which is the frontier's affair, and not by a worker"
        assert await world.ask(PAGE, patient=True) == 40.0

    run(main())


def test_for_a_long_pause_nobody_waits_and_nobody_asks() -> None:
    async def main() -> None:
        world = World()
        await world.ask(pause(3_600.0))
        for origin in (SITE, "http://a.example"):
            refused = await world.refusal(origin)
            assert refused == Refusal(
                Reason.RATE_LIMITED,
                "a.example wants to be left alone until 2026-11-24 04:00 UTC",
                not_before=START + timedelta(hours=1),
                tried=False,
            )
            with pytest.raises(NotNow):
                await world.ask(PAGE, origin=origin)
            assert world.time.seconds == 0.0, "nobody waits for a turn that he will not get"
        assert await world.wait(SITE) == 0.0
        assert await world.refusal("https://b.example") is None
        world.time.seconds = 3_600.0
        assert await world.refusal(SITE) is None

    run(main())


def test_whatever_the_answer_a_pause_that_it_names_counts() -> None:
    async def main() -> None:
        world = World()
        await world.ask(pause(40.0, 408))
        assert world.ready_at(NAME) == 40.0

    run(main())


def test_a_pause_that_outlasts_the_run_is_not_waited_for() -> None:
    async def main() -> None:
        world = World(time_left=lambda: 39.0)
        await world.ask(pause(40.0))
        assert await world.refusal(SITE)

    run(main())


def test_who_waits_for_a_turn_while_a_pause_comes_up_does_not_ask() -> None:
    async def main() -> None:
        sleeps, may_wake = asyncio.Event(), asyncio.Event()

        async def sleep(seconds: float) -> None:
            sleeps.set()
            await may_wake.wait()
            world.time.seconds += seconds

        world = World(per_host=2, sleep=sleep)
        async with world.turn(SITE) as turn:
            waiting = asyncio.ensure_future(world.ask(PAGE))
            await sleeps.wait()
            await world.answered(turn, pause(3_600.0))
            may_wake.set()
        with pytest.raises(NotNow):
            await waiting

    run(main())


def test_the_answer_of_another_request_does_not_end_a_pause() -> None:
    known = HostSeen(SITE, NAME, START, not_before=START + timedelta(seconds=9), pauses=1)
    for answer in (PAGE, NOT_THERE, pause(None), pause(5.0), NO_ANSWER):
        assert after(known, answer, 1, START).not_before == known.not_before
    assert after(known, pause(10.0), 1, START).not_before == START + timedelta(seconds=10)
    assert after(known, PAGE, 1, START + timedelta(seconds=9)).not_before is None


def test_one_that_wants_pauses_again_and_again_gets_a_long_one() -> None:
    async def main() -> None:
        world = World()
        for number in range(HELD_AFTER):
            assert await world.refusal(SITE) is None
            await world.ask(pause(None, (429, 503)[number % 2]))
        refused = await world.refusal(SITE)
        assert refused
        assert refused.not_before == world.time.now() + LONG_PAUSE

    run(main())


def test_each_such_answer_halves_how_often_a_host_is_asked() -> None:
    async def main() -> None:
        world = World()
        times = [await world.ask(answer) for answer in (pause(None), pause(None), PAGE, PAGE)]
        assert times == [0.0, 2.0, 6.0, 10.0]

    run(main())


def test_an_answer_that_is_well_ends_the_count() -> None:
    async def main() -> None:
        world = World()
        for _ in range(4):
            await world.ask(pause(None))
            await world.ask(pause(None))
            await world.ask(NOT_THERE)
        assert await world.refusal(SITE) is None

    run(main())


# Hosts that do not answer


@pytest.mark.parametrize(
    "reason", [Reason.CONNECT_ERROR, Reason.DNS_ERROR, Reason.DNS_TIMEOUT, Reason.TLS_ERROR, Reason.TIMEOUT]
)
def test_a_host_that_does_not_answer_is_not_asked_again(reason: Reason) -> None:
    async def main() -> None:
        world = World()
        for _ in range(DOWN_AFTER):
            assert await world.refusal(SITE) is None
            await world.ask(Refusal(reason, "why"))
        refused = await world.refusal(SITE)
        assert refused
        assert (refused.reason, refused.tried, refused.not_before) == (Reason.HOST_DOWN, False, None)
        assert refused.reason.meaning.outcome is Outcome.DEFERRED
        assert refused.detail == f"a.example has left 5 requests in a row without an answer, the last: {reason.value}"
        assert await world.refusal("http://a.example") is None, "the fault may be that of its certificate"

    run(main())


@pytest.mark.parametrize(
    "answer", [PAGE, NotModified(), "https://a.example/b", NOT_THERE, Refusal(Reason.TIMEOUT, "HTTP 408", 408)]
)
def test_any_answer_shows_that_a_host_is_there(answer: object) -> None:
    async def main() -> None:
        world = World()
        for _ in range(3):
            for _ in range(DOWN_AFTER - 1):
                await world.ask(NO_ANSWER)
            await world.ask(answer)
        assert await world.refusal(SITE) is None

    run(main())


def test_each_try_counts_and_an_address_that_is_closed_is_none() -> None:
    async def main() -> None:
        world = World()
        for _ in range(20):
            await world.ask(Refusal(Reason.BLOCKED_ADDRESS, "10.0.0.1"))
        assert world.told == []
        await world.ask(NO_ANSWER, tries=3)
        await world.ask(NO_ANSWER, tries=3)
        assert await world.refusal(SITE)

    run(main())


# From night to night


def test_only_news_is_told() -> None:
    async def main() -> None:
        world = World()
        for answer in [PAGE, NOT_THERE, "https://a.example/b"] * 5:
            await world.ask(answer)
        assert world.told == []
        for answer in (NO_ANSWER, PAGE, PAGE, pause(5.0), PAGE):
            await world.ask(answer)
        assert [(seen.failures, seen.pauses) for seen in world.told] == [(1, 0), (0, 0), (0, 1), (0, 0)]
        assert world.told[0].reason is Reason.CONNECT_ERROR

    run(main())


def test_another_run_keeps_to_the_pause_too() -> None:
    async def main() -> None:
        first = World()
        await first.ask(pause(3_600.0))
        second = World(known=tuple(first.told))
        assert await second.refusal("http://a.example")
        with pytest.raises(NotNow):
            await second.ask(PAGE)
        second.time.seconds = 3_600.0
        await second.ask(PAGE)
        assert second.told[-1] == HostSeen(SITE, NAME, second.time.now())

    run(main())


def test_another_run_gives_a_host_one_try_to_be_well_again() -> None:
    async def main() -> None:
        first = World()
        await first.ask(NO_ANSWER, tries=9)
        assert await first.refusal(SITE)
        second = World(known=tuple(first.told))
        assert await second.refusal(SITE) is None
        await second.ask(NO_ANSWER)
        assert await second.refusal(SITE)
        third = World(known=tuple(second.told))
        await third.ask(PAGE)
        assert third.told[-1].failures == 0
        for _ in range(DOWN_AFTER - 1):
            await third.ask(NO_ANSWER)
        assert await third.refusal(SITE) is None

    run(main())


def test_a_pause_by_a_clock_that_was_wrong_does_not_count() -> None:
    known = HostSeen(SITE, NAME, START, not_before=START + timedelta(days=8))
    assert in_another_run(known, START).not_before is None
    assert in_another_run(known, START + timedelta(days=1)).not_before == known.not_before


def test_a_robots_txt_is_kept_with_the_rest() -> None:
    async def main() -> None:
        file = RobotsFile("User-agent: *\nDisallow: /a", 200, START)
        first = World()
        await first.ask(NO_ANSWER)
        await first.keep_robots(SITE, file)
        second = World(known=tuple(first.known.values()))
        assert await second.robots(SITE) == file
        assert await second.robots("http://a.example") is None
        await second.ask(PAGE)
        assert second.known[SITE].robots == file
        assert (first.known[SITE].failures, second.known[SITE].failures) == (1, 0)
        kept = [seen for world in (first, second) for seen in world._hosts[NAME].sites.values()]
        assert [seen.robots for seen in kept] == [None, None], "it may be long, and hosts are many"

    run(main())


# Many


def test_who_is_redirected_to_a_crowded_host_gives_up_in_time_and_who_is_patient_does_not() -> None:
    async def main() -> None:
        world = World(30.0)
        await world.ask(PAGE)
        for _ in range(3):
            world._hosts[NAME].ready_at += 30.0
        with pytest.raises(NotNow) as late:
            await world.ask(PAGE)
        assert (late.value.refusal.reason, late.value.refusal.tried) == (Reason.TIMEOUT, True)
        assert world.told == [], "it is not the host's fault"
        async with world.turn(SITE, patient=True):
            assert world.time.seconds == 120.0

    run(main())


def test_who_waits_behind_one_that_takes_for_ever_gives_up_unless_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "LONGEST_TURN_SECONDS", 0.01)

    async def main() -> None:
        world = World(0.0)

        async def patient() -> str:
            async with world.turn(SITE, patient=True) as turn:
                return turn.origin

        async with world.turn(SITE):
            waiting = asyncio.ensure_future(patient())
            with pytest.raises(NotNow) as late:
                await asyncio.wait_for(world.ask(PAGE), 60.0)
            assert late.value.refusal.reason is Reason.TIMEOUT
            assert not waiting.done()
        assert await waiting == SITE

    run(main())


def test_only_so_many_hosts_are_kept_in_mind_and_none_that_is_asked_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "MOST_HOSTS", 3)

    async def main() -> None:
        world = World()
        async with world.turn("https://busy.example"):
            for number in range(9):
                await world.ask(NO_ANSWER, origin=f"https://{number}.example", tries=DOWN_AFTER)
                world.time.seconds += 60.0
            assert set(world._hosts) == {"busy.example", "7.example", "8.example"}
        assert world.known["https://0.example"].failures == DOWN_AFTER, "what counts is in the database"

    run(main())


def test_a_host_that_nobody_has_asked_is_ready() -> None:
    assert World().ready_at(NAME) == -math.inf

"""A night as a guest: what the sites of a list are asked for, how often, and what is stored of those that are not."""

from __future__ import annotations

import asyncio
import gc
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_site import DRIP, HANG, LOOPBACK, PATIENT, RESET, SHORT, Says, Site, http, moved, run, site
from one_night import settings

from pipeline.commands import doctor, prune
from pipeline.console import Console
from pipeline.fetch import Fetcher, Limits
from pipeline.hosts import DOWN_AFTER, HELD_AFTER, Hosts
from pipeline.records import Added, HostSeen, Line, Reason
from pipeline.run import Night, lists
from pipeline.store import Store, iso, now

NOT_THERE = http(404, b"")
"""What most sites here say of a page: it is an answer, and no text that would have to be read."""
NOBODY = "http://127.0.0.1:9"


@dataclass
class Tonight:
    """A night's own time, which passes for who sleeps in it, and then at once; and its patience with a site."""

    limits: Limits = PATIENT
    seconds: float = 0.0
    begins_at: datetime = field(default_factory=now)

    def clock(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.begins_at + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        await asyncio.sleep(0)
        self.seconds = max(self.seconds, until)


class OneNight(Night):
    """A night of the program, but for what it sleeps by, and its lookup of names."""

    tonight: Tonight

    def _hosts(self) -> Hosts:
        hosts = super()._hosts()
        hosts.clock, hosts.sleep = self.tonight.clock, self.tonight.sleep
        return hosts

    def _fetcher(self, model_hosts: Any, hosts: Hosts) -> Fetcher:
        return Fetcher(
            LOOPBACK,
            user_agent=self._user_agent(),
            hosts=hosts,
            limits=self.tonight.limits,
            respect_robots=not self._settings.ignore_robots,
            resolve=lambda host: ["127.0.0.1"],
            now=self.tonight.now,
        )


@dataclass(frozen=True)
class World:
    """A database and the nights over it."""

    db: Path

    async def night(self, *sources: str, tonight: Tonight | None = None, options: tuple[str, ...] = ()) -> None:
        given = settings(self.db, "--host", NOBODY, "--model-wait", "0s", "--max-age", "0s", *options)
        console = Console(-1)
        tonight = tonight or Tonight()
        with Store.open(self.db, clock=tonight.now) as store, ThreadPoolExecutor(1, "store") as thread:
            night = OneNight(given, store, thread, console, tonight.now)
            night.tonight = tonight
            await night.run(lists(given, sources, console))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.db)) as db:
            found = db.execute(query).fetchall()
            db.commit()
            return found

    def reasons(self) -> dict[str, int]:
        """How many items of the last run have which reason."""
        query = "SELECT reason, count(*) FROM items WHERE run_id = (SELECT max(id) FROM runs) GROUP BY reason"
        return dict(self.rows(query))

    def some_time_passes(self, time: timedelta) -> None:
        """Whatever is kept of hosts and pages is so much older."""
        for table, column in (("hosts", "not_before"), ("hosts", "robots_at"), ("pages", "not_before")):
            for key, value in self.rows(f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL"):
                earlier = iso(datetime.fromisoformat(value) - time)
                self.rows(f"UPDATE {table} SET {column} = '{earlier}' WHERE rowid = {key}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "summaries.db")


def pages(there: Site, count: int, host: str = "127.0.0.1") -> list[str]:
    return [there.url(f"/{number}", host) for number in range(count)]


def answers(robots: bytes, *then: Any) -> Callable[[str], bytes | Says]:
    """A site with this robots.txt whose pages are answered so, one after the other; the last answer stays."""
    left = list(then)

    def says(path: str) -> bytes | Says:
        if path == "/robots.txt":
            return robots
        found: bytes | Says = left.pop(0) if len(left) > 1 else left[0]
        return found

    return says


EMPTY = http(body=b"", content_type="text/plain")


# How far apart


def test_a_site_is_told_who_asks_and_how_to_reach_him(world: World) -> None:
    async def main() -> None:
        async with site(NOT_THERE) as there:
            await world.night(*pages(there, 1), options=("--contact", "https://example.org/me"))
            assert len(there.requests) == 2
            for request in there.requests:
                assert re.search(r"\r\nUser-Agent: summarize-batch/[0-9.]+ \(\+https://example\.org/me\)\r\n", request)

    run(main())


@pytest.mark.parametrize(("asked", "apart"), [(b"7", 7.0), (b"0.1", 1.0), (b"900", 30.0)])
def test_the_crawl_delay_of_a_site_is_kept_to(world: World, asked: bytes, apart: float) -> None:
    async def main() -> None:
        robots = http(body=b"User-agent: *\nCrawl-delay: " + asked, content_type="text/plain")
        tonight, times = Tonight(), []

        def says(path: str) -> bytes:
            times.append(tonight.seconds)
            return robots if path == "/robots.txt" else NOT_THERE

        async with site(says) as there:
            await world.night(*pages(there, 4), tonight=tonight)
        assert times == [number * apart for number in range(5)]
        assert world.reasons() == {"http_404": 4}

    run(main())


def test_no_worker_waits_while_a_site_wants_its_pages_far_apart(world: World) -> None:
    """The only one there is serves another site meanwhile."""

    async def main() -> None:
        asked: list[str] = []

        def says(name: str, robots: bytes) -> Callable[[str], bytes]:
            def say(path: str) -> bytes:
                asked.append(name + path)
                return robots if path == "/robots.txt" else NOT_THERE

            return say

        slow = http(body=b"User-agent: *\nCrawl-delay: 25", content_type="text/plain")
        async with site(says("slow", slow)) as there, site(says("other", EMPTY)) as other:
            await world.night(*pages(there, 2), *pages(other, 3), options=("--workers", "1"))
        assert asked.index("other/2") < asked.index("slow/0") < asked.index("slow/1")
        assert len(asked) == 7

    run(main())


def test_a_site_that_slows_is_asked_less_often_and_not_more_often_for_quick_errors(world: World) -> None:
    async def main() -> None:
        tonight, times = Tonight(), []

        def says(path: str) -> bytes:
            times.append(tonight.seconds)
            tonight.seconds += 4.0 if path == "/1" else 0.0
            return NOT_THERE

        async with site(says) as there:
            await world.night(*pages(there, 6), tonight=tonight)
        assert times == [0.0, 1.0, 2.0, 6.0, 10.0, 14.0, 18.0]

    run(main())


# Pauses


def test_a_site_that_asks_for_a_short_pause_gets_it_and_all_its_pages_are_had_in_the_same_night(world: World) -> None:
    async def main() -> None:
        tonight, times = Tonight(), []
        says = answers(EMPTY, http(429, b"", retry_after="20"), NOT_THERE)

        def noted(path: str) -> bytes | Says:
            times.append(tonight.seconds)
            return says(path)

        async with site(noted) as there, site(NOT_THERE) as other:
            await world.night(*pages(there, 3), *pages(other, 3), tonight=tonight, options=("--workers", "1"))
            assert there.paths == ["/robots.txt", "/0", "/0", "/1", "/2"]
            assert other.paths == ["/robots.txt", "/0", "/1", "/2"]
        asked, again = times[1:3]
        assert again - asked >= 19.9, "to the millisecond the time of day is kept"
        assert world.reasons() == {"http_404": 6}
        codes = world.rows(
            "SELECT code FROM attempts JOIN pages ON page_id = pages.id WHERE url LIKE '%/0' ORDER BY url"
        )
        assert Counter(code for (code,) in codes) == {"http_404": 2, "rate_limited": 1}

    run(main())


def test_a_short_pause_that_robots_txt_is_answered_with_is_waited_for_too(world: World) -> None:
    async def main() -> None:
        left = [http(503, b"", retry_after="20"), EMPTY]

        async with site(lambda path: left.pop(0) if path == "/robots.txt" else NOT_THERE) as there:
            await world.night(*pages(there, 2))
            assert there.paths == ["/robots.txt", "/robots.txt", "/0", "/1"]
        assert world.reasons() == {"http_404": 2}

    run(main())


def test_a_pause_that_does_not_fit_into_the_night_is_not_waited_for(world: World) -> None:
    async def main() -> None:
        async with site(answers(EMPTY, http(429, b"", retry_after="40"), NOT_THERE)) as there:
            await world.night(*pages(there, 3), options=("--max-duration", "30s"))
            assert there.paths == ["/robots.txt", "/0"]
        assert world.reasons() == {"rate_limited": 3}

    run(main())


def test_a_page_that_comes_again_is_one_page_of_the_limit(world: World) -> None:
    async def main() -> None:
        async with site(answers(EMPTY, http(429, b"", retry_after="5"), NOT_THERE)) as there:
            await world.night(*pages(there, 3), options=("--workers", "1", "--limit", "2"))
            assert there.paths == ["/robots.txt", "/0", "/0", "/1"]
        assert world.reasons() == {"http_404": 2, "limit": 1}

    run(main())


@pytest.mark.parametrize(("status", "as_date"), [(429, False), (503, True)])
def test_a_long_pause_puts_off_all_pages_of_the_site_and_later_nights_keep_to_it(
    world: World, status: int, as_date: bool
) -> None:
    async def main() -> None:
        until = now() + timedelta(hours=2)
        wish = f"{until:%a, %d %b %Y %H:%M:%S} GMT" if as_date else "7200"
        async with site(answers(EMPTY, http(status, b"", retry_after=wish))) as there, site(NOT_THERE) as other:
            await world.night(*pages(there, 9), *pages(other, 2))
            assert there.paths == ["/robots.txt", "/0"]
            assert world.reasons() == {"rate_limited": 9, "http_404": 2}
            query = "SELECT state, failures, not_before FROM pages WHERE reason = 'rate_limited' ORDER BY id"
            rows = world.rows(query)
            assert [row[:2] for row in rows] == [("deferred", 1)] + [("deferred", 0)] * 8
            assert all(abs(datetime.fromisoformat(row[2]) - until) < timedelta(minutes=10) for row in rows)
            assert world.rows("SELECT count(*) FROM attempts WHERE code = 'rate_limited'") == [(1,)], "no try, no row"

            world.some_time_passes(timedelta(hours=1))
            there.requests.clear()
            await world.night(*pages(there, 9), there.url("/new"))
            assert there.paths == []
            assert world.reasons() == {"rate_limited": 10}

            there.says = answers(EMPTY, NOT_THERE)
            world.some_time_passes(timedelta(hours=1, minutes=10))
            await world.night(*pages(there, 9))
            assert sorted(there.paths) == [f"/{number}" for number in range(9)]

    run(main())


def test_what_is_forbidden_is_told_as_that_though_its_site_wants_a_pause(world: World) -> None:
    async def main() -> None:
        robots = http(body=b"User-agent: *\nDisallow: /private", content_type="text/plain")
        async with site(answers(robots, http(429, b"", retry_after="7200"))) as there:
            await world.night(there.url("/0"), there.url("/private"))
            assert world.reasons() == {"rate_limited": 1, "robots": 1}

    run(main())


@pytest.mark.parametrize("wish", ["7200", "40"])
def test_a_redirect_to_a_site_that_wants_a_pause_reaches_it_no_more_but_puts_off_no_other_page(
    world: World, wish: str
) -> None:
    async def main() -> None:
        tonight = Tonight()
        async with site(answers(EMPTY, http(429, b"", retry_after=wish))) as held:
            says = {"/0": moved(held.url("/0")), "/1": moved(held.url("/1")), "/2": NOT_THERE}
            async with site(says) as there:
                await world.night(*pages(there, 3), tonight=tonight)
                assert there.paths == ["/robots.txt", "/0", "/1", "/2"]
            assert held.paths == ["/robots.txt", "/0"]
            assert world.reasons() == {"rate_limited": 2, "http_404": 1}
        assert tonight.seconds < 40.0, "nobody has slept on it"

    run(main())


# Sites that do not answer


def test_a_site_that_no_longer_answers_is_not_asked_again_that_night_but_the_next(world: World) -> None:
    async def main() -> None:
        async with site(answers(EMPTY, [RESET])) as there, site(NOT_THERE) as other:
            await world.night(*pages(there, 20), *pages(other, 3))
            # Each page of it is tried three times, as a connection may have been closed by chance.
            assert there.paths == ["/robots.txt", "/0", "/0", "/0", "/1", "/1", "/1"]
            assert world.reasons() == {"connect_error": 2, "host_down": 18, "http_404": 3}
            assert world.rows("SELECT count(*), sum(failures) FROM pages WHERE reason = 'host_down'") == [(18, 0)]
            (detail,) = world.rows("SELECT DISTINCT detail FROM pages WHERE reason = 'host_down'")[0]
            assert detail.endswith("has left 6 requests in a row without an answer, the last: connect_error")

            there.requests.clear()
            await world.night(*pages(there, 20))
            assert there.paths == ["/2"] * 3, "what was not tried comes first"
            assert world.reasons() == {"connect_error": 1, "host_down": 19}

            there.requests.clear()
            there.says = answers(EMPTY, NOT_THERE)
            await world.night(*pages(there, 20))
            assert sorted(there.paths) == sorted(f"/{number}" for number in range(20))
            assert world.rows("SELECT failures, reason FROM hosts WHERE origin = '" + there.url("") + "'") == [
                (0, None)
            ]

    run(main())


BAD: dict[str, tuple[Any, int]] = {
    "wants a pause, and does not say how long": (http(429, b""), HELD_AFTER),
    "always wants a short pause": (http(503, b"", retry_after="1"), HELD_AFTER),
    "wants a long pause": (http(429, b"", retry_after="7200"), 1),
    "hangs up": ([RESET], DOWN_AFTER + 1),
    "speaks no HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n", 30),
    "has a fault of its own": (http(500, b""), 30),
    "redirects without an end": (moved("/x"), 30 * 6),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_host_costs_so_many_requests_a_night_and_no_more(world: World, name: str) -> None:
    says, most = BAD[name]

    async def main() -> None:
        async with site(answers(EMPTY, says)) as there:
            await world.night(*pages(there, 30))
            assert Counter(there.paths)["/robots.txt"] == 1
            assert len(there.paths) - 1 == most
            assert sum(world.reasons().values()) == 30

    run(main())


def test_a_host_that_never_answers_costs_five_waits_a_night(world: World) -> None:
    async def main() -> None:
        async with site(answers(EMPTY, [HANG])) as there:
            await world.night(*pages(there, 30), tonight=Tonight(SHORT))
            assert len(there.paths) - 1 == DOWN_AFTER
            assert world.reasons() == {"timeout": DOWN_AFTER, "host_down": 30 - DOWN_AFTER}

    run(main())


# robots.txt, from night to night


def test_robots_txt_is_kept_for_a_day(world: World) -> None:
    async def main() -> None:
        robots = http(body=b"User-agent: * # all\nDisallow: /1\nCrawl-delay: 3", content_type="text/plain")
        async with site(answers(robots, NOT_THERE)) as there:
            for hours, asked in ((0, 1), (23, 1), (2, 2)):
                world.some_time_passes(timedelta(hours=hours)) if hours else None
                world.rows("UPDATE pages SET not_before = NULL") if hours else None
                await world.night(*pages(there, 2))
                assert Counter(there.paths)["/robots.txt"] == asked
                assert world.reasons() == {"http_404": 1, "robots": 1}
            kept = world.rows("SELECT origin, robots, robots_status FROM hosts")
            assert kept == [(there.url(""), "User-agent: *\nDisallow: /1\nCrawl-delay: 3", 200)]

    run(main())


def test_that_there_is_no_robots_txt_is_kept_too_but_not_that_it_could_not_be_had(world: World) -> None:
    async def main() -> None:
        async with site(answers(http(403, b""), NOT_THERE)) as none, site(http(500, b"")) as broken:
            for _ in range(2):
                await world.night(*pages(none, 1), *pages(broken, 1))
            assert none.paths == ["/robots.txt", "/0", "/0"]
            assert broken.paths == ["/robots.txt"] * 2
            assert world.reasons() == {"http_404": 1, "robots_unreachable": 1}

    run(main())


def test_a_list_and_the_pages_that_it_names_share_robots_txt_and_the_turns_of_their_host(world: World) -> None:
    async def main() -> None:
        tonight, times = Tonight(), []
        robots = http(body=b"User-agent: *\nCrawl-delay: 9", content_type="text/plain")

        def says(path: str) -> bytes:
            times.append(tonight.seconds)
            listed = f"{there.url('/0')}\n{there.url('/1')}\n".encode()
            return {"/robots.txt": robots, "/list": http(body=listed, content_type="text/plain")}.get(path, NOT_THERE)

        async with site(says) as there:
            await world.night(f"list:{there.url('/list')}", tonight=tonight)
            assert there.paths == ["/robots.txt", "/list", "/0", "/1"]
        assert times == [0.0, 9.0, 18.0, 27.0]

    run(main())


# Side by side


def test_a_slow_host_with_all_its_pages_first_in_the_list_holds_nobody_up(world: World) -> None:
    """It does not answer before all others were served, and still is patiently waited for."""
    served: list[str] = []

    def says(path: str) -> Says:
        while path == "/slow/0" and len(served) < 60:
            yield DRIP
        if not path.startswith("/slow"):
            served.append(path)
        yield NOT_THERE

    async def main() -> None:
        async with site(says) as there:
            slow = [there.url(f"/slow/{number}", "slow.test") for number in range(50)]
            others = [there.url(f"/{number}", f"h{number}.test") for number in range(60)]
            await world.night(*slow, *others, options=("--workers", "3", "--ignore-robots"))
            assert sorted(served) == sorted(f"/{number}" for number in range(60))
            assert world.reasons() == {"http_404": 110}

    run(main())


def test_a_host_that_may_be_asked_for_several_pages_at_a_time_is(world: World) -> None:
    """None of its answers comes before three are asked for, and four never are."""
    asked: list[str] = []
    most: list[int] = []
    answered: list[str] = []

    def says(path: str) -> Says:
        asked.append(path)
        most.append(len(asked) - len(answered))
        while len(asked) > 1 and len(asked) < 4 and path != asked[0]:
            yield DRIP
        answered.append(path)
        yield NOT_THERE

    async def main() -> None:
        async with site(says) as there:
            await world.night(*pages(there, 8), options=("--per-host", "3", "--workers", "8", "--ignore-robots"))
        assert max(most) == 3
        assert world.reasons() == {"http_404": 8}

    run(main())


def test_while_pages_are_in_work_nothing_old_is_looked_through_for_garbage(world: World) -> None:
    """Each look through all that is imported held the loop up for 40 to 75 ms."""
    frozen: list[int] = []

    def says(path: str) -> bytes:
        frozen.append(gc.get_freeze_count())
        return NOT_THERE

    async def main() -> None:
        async with site(says) as there:
            await world.night(*pages(there, 1))

    run(main())
    assert min(frozen) > 10_000
    assert gc.get_freeze_count() == 0


# What is known of hosts


def test_doctor_names_the_hosts_that_are_left_alone(world: World) -> None:
    later = now() + timedelta(hours=1)
    with Store.open(world.db) as store:
        store.apply(HostSeen("https://well.example", "well.example", now(), pauses=1, failures=DOWN_AFTER - 1))
        store.apply(HostSeen("https://held.example", "held.example", now(), not_before=later))
        store.apply(HostSeen("http://down.example", "down.example", now(), failures=6, reason=Reason.TIMEOUT))
    assert [found.said for found in doctor.known(world.db) if found.what == "host"] == [
        "down.example has left 6 requests in a row without an answer: timeout",
        f"held.example is left alone until {iso(later)}: it asked for that",
    ]


def test_hosts_go_with_what_is_old_and_with_the_last_page_of_theirs(world: World) -> None:
    old, later = now() - timedelta(days=9), now() + timedelta(days=1)
    with Store.open(world.db) as store:
        store.begin_run("urls.txt", "m", {})
        store.apply(
            Added(
                tuple(Line(url, url, "a.example", "urls.txt") for url in ("http://a.example/1", "http://a.example/2"))
            )
        )
        store.apply(HostSeen("http://a.example", "a.example", now()))
        store.apply(HostSeen("http://old.example", "old.example", old))
        store.apply(HostSeen("http://held.example", "held.example", old, not_before=later))
        store.end_run("finished", 0, "limit")
    names = "SELECT host FROM hosts ORDER BY host"
    prune.prune(world.db, timedelta(days=8))
    assert world.rows(names) == [("a.example",), ("held.example",)]
    prune.forget(world.db, prune.known(world.db, "http://a.example/1"))
    assert world.rows(names) == [("a.example",), ("held.example",)]
    prune.forget(world.db, prune.known(world.db, "http://a.example/2"))
    assert world.rows(names) == [("held.example",)]

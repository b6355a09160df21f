"""Politeness in time, with a clock that only moves when everybody waits."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pipeline import engine
from pipeline.frontier import HOSTS_IN_WINDOW, TASKS_A_HOST, Frontier
from pipeline.hosts import Hosts
from pipeline.records import Reason, Refusal, Task


class Clock:
    """Time that jumps to the next waking as soon as nobody has anything else to do."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waking: list[tuple[float, int, asyncio.Future[None]]] = []

    def time(self) -> float:
        return self.now

    def date(self) -> datetime:
        return datetime(2026, 11, 24, 3, 0, tzinfo=UTC) + timedelta(seconds=self.now)

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waking, (self.now + seconds, id(future), future))
        await future

    async def run(self) -> None:
        while True:
            for _ in range(50):
                await asyncio.sleep(0)
            if self._waking:
                at, _, future = heapq.heappop(self._waking)
                if not future.done():
                    self.now = max(self.now, at)
                    future.set_result(None)


class Queue:
    """Pages by host, as the store hands them out."""

    def __init__(self, pages: dict[str, int]) -> None:
        self._tasks: dict[str, list[tuple[int, Task]]] = {}
        self._number = 0
        self.add(**pages)

    def add(self, **pages: int) -> None:
        for host, count in pages.items():
            for _ in range(count):
                self._number += 1
                task = Task(self._number, f"http://{host}/{self._number}", host)
                self._tasks.setdefault(host, []).append((self._number, task))

    async def hosts_after(self, host: str, most: int) -> Sequence[str]:
        return sorted(name for name in self._tasks if name > host)[:most]

    async def tasks_after(self, host: str, position: int, most: int) -> Sequence[tuple[int, Task]]:
        return [row for row in self._tasks[host] if row[0] > position][:most]


class SlowQueue(Queue):
    """A store that takes its time, in which others get on."""

    async def tasks_after(self, host: str, position: int, most: int) -> Sequence[tuple[int, Task]]:
        for _ in range(5):
            await asyncio.sleep(0)
        return await super().tasks_after(host, position, most)


@dataclass(frozen=True)
class World:
    """What a page may look at while it is in work."""

    frontier: Frontier
    hosts: Hosts
    clock: Clock

    async def turn(self, task: Task) -> None:
        async with self.hosts.turn(f"http://{task.host}"):
            pass


Process = Callable[[World, Task], Awaitable[Task | None]]
"""What is done with a page; a task that it gives is to come again."""


def worked(
    pages: dict[str, int],
    process: Process,
    workers: int = 4,
    delay: float = 1.0,
    kind: type[Queue] = Queue,
    per_host: int = 1,
) -> list[tuple[float, Task]]:
    """Works on all pages and gives when each request was made."""
    clock, queue = Clock(), kind(pages)
    requests: list[tuple[float, Task]] = []

    async def main() -> None:
        hosts = Hosts(delay, clock.time, per_host=per_host, sleep=clock.sleep, now=clock.date)
        frontier = Frontier(
            queue.hosts_after, queue.tasks_after, hosts.ready_at, hosts.spacing, clock.time, clock.sleep, per_host
        )
        world = World(frontier, hosts, clock)

        async def one(task: Task) -> None:
            await world.turn(task)
            requests.append((clock.now, task))
            frontier.done(task, await process(world, task))

        time = asyncio.ensure_future(clock.run())
        await engine.run(frontier.next, one, frontier.done, workers)
        time.cancel()

    asyncio.run(main())
    return requests


async def at_once(world: World, task: Task) -> None:
    """A page that takes no time."""


def test_every_page_is_handed_out_once() -> None:
    requests = worked({"a.example": 20, "b.example": 3, "c.example": 1}, at_once)
    assert sorted(task.page_id for _, task in requests) == list(range(1, 25))


def test_a_host_that_gets_free_while_the_store_is_asked_waits_for_its_tasks() -> None:
    async def some_steps(world: World, task: Task) -> None:
        for _ in range(4 * task.page_id):
            await asyncio.sleep(0)

    assert len(worked({"a.example": 1, "b.example": 1}, some_steps, delay=0.0, kind=SlowQueue)) == 2


def test_two_requests_to_a_host_are_a_delay_apart() -> None:
    requests = worked({"a.example": 5, "b.example": 2}, at_once)
    times = [time for time, task in requests if task.host == "a.example"]
    assert times == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_host_has_one_page_at_a_time() -> None:
    open_pages: list[str] = []

    async def slow(world: World, task: Task) -> None:
        assert task.host not in open_pages
        open_pages.append(task.host)
        await world.clock.sleep(10.0)
        open_pages.remove(task.host)

    assert len(worked({"a.example": 3, "b.example": 3}, slow)) == 6


def test_many_pages_of_a_slow_host_hold_nobody_up() -> None:
    async def slow_for_one(world: World, task: Task) -> None:
        await world.clock.sleep(30.0 if task.host == "a.slow" else 0.1)

    requests = worked({"a.slow": 50, **{f"b{n}.example": 1 for n in range(10)}}, slow_for_one, workers=2)
    others = [time for time, task in requests if task.host != "a.slow"]
    assert max(others) < 30.0


def test_redirects_and_robots_take_turns_too() -> None:
    async def three_requests(world: World, task: Task) -> None:
        await world.turn(task)
        await world.turn(task)

    requests = worked({"a.example": 2}, three_requests)
    assert [time for time, _ in requests] == [0.0, 3.0]


def test_hosts_beyond_the_window_come_later() -> None:
    pages = {f"h{number:05}.example": 1 for number in range(HOSTS_IN_WINDOW * 2 + 10)}
    assert len(worked(pages, at_once, workers=50)) == len(pages)


def test_a_thousand_hosts_go_side_by_side_and_five_hundred_pages_of_a_slow_one_before_them_hold_nobody_up() -> None:
    async def slow_for_one(world: World, task: Task) -> None:
        await world.clock.sleep(60.0 if task.host == "0.slow" else 0.5)

    pages = {"0.slow": 500, **{f"h{number:03}.example": 3 for number in range(999)}}
    requests = worked(pages, slow_for_one, workers=50)
    assert len(requests) == 500 + 3 * 999
    before = [task.host for _, task in requests[: 3 * 999]]
    assert before.count("0.slow") <= 2, "all others are done when it comes to its third page"
    assert len(set(before[:999])) >= 990, "a host has its second page when nearly all have had their first"


def test_however_long_the_list_is_only_so_much_of_it_is_in_memory() -> None:
    hosts_at_once: list[int] = []
    tasks_at_once: list[int] = []

    async def looks(world: World, task: Task) -> None:
        window = world.frontier._window
        hosts_at_once.append(len(window))
        tasks_at_once.append(sum(len(host.tasks) for host in window))

    worked({"0.large": 5_000, **{f"h{number:05}.example": 1 for number in range(3_000)}}, looks, workers=8, delay=0.0)
    assert max(hosts_at_once) < HOSTS_IN_WINDOW * 3 // 2
    assert max(tasks_at_once) <= HOSTS_IN_WINDOW * 3 // 2 + TASKS_A_HOST


def test_nothing_is_handed_out_after_stop() -> None:
    async def stops(world: World, task: Task) -> None:
        world.frontier.stop()

    assert len(worked({"a.example": 5, "b.example": 5}, stops, workers=1)) == 1


def test_a_page_that_comes_again_is_handed_out_when_its_host_is_ready_and_before_the_others_of_it() -> None:
    async def pauses(world: World, task: Task) -> Task | None:
        if task.page_id != 1 or task.pauses:
            return None
        async with world.hosts.turn("http://a.example") as turn:
            until = world.clock.date() + timedelta(seconds=40)
            await world.hosts.answered(turn, Refusal(Reason.RATE_LIMITED, "", 429, until))
        return replace(task, pauses=1)

    requests = worked({"a.example": 3, "b.example": 3}, pauses, workers=1)
    times = [(time, task.page_id) for time, task in requests if task.host == "a.example"]
    assert times == [(0.0, 1), (41.0, 1), (43.0, 2), (45.0, 3)], "a host that wants pauses is asked half as often"
    assert max(time for time, task in requests if task.host == "b.example") < 5.0, "its one worker did not wait there"


def test_the_end_of_a_page_that_came_again_frees_its_host_once() -> None:
    """Said of the page as it was before, it is no news: another worker may have it by now."""

    async def main() -> None:
        queue = Queue({"a.example": 2})
        frontier = Frontier(queue.hosts_after, queue.tasks_after, lambda host: 0.0, lambda host: 0.0, lambda: 0.0)
        first = await frontier.next()
        assert first
        again = replace(first)
        frontier.done(first, again)
        assert await frontier.next() is again
        frontier.done(first)
        waits = asyncio.ensure_future(frontier.next())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not waits.done()
        frontier.done(again)
        assert (await waits) == Task(2, "http://a.example/2", "a.example")

    asyncio.run(main())


def first_requests(most: int | None) -> list[str]:
    """Who is asked when each page needs its host twice, as the first of a host does: robots.txt comes before it."""
    asked: list[str] = []

    async def main() -> None:
        clock, queue = Clock(), Queue({f"h{number:02}.example": 2 for number in range(40)})
        frontier = Frontier(
            queue.hosts_after,
            queue.tasks_after,
            lambda host: -math.inf,
            lambda host: 1.0,
            clock.time,
            clock.sleep,
            most=most,
        )

        async def one(task: Task) -> None:
            asked.append(f"{task.host} {task.pauses}")
            await clock.sleep(0.1)
            if not task.pauses:
                frontier.done(task, replace(task, pauses=1), 1.0)

        time = asyncio.ensure_future(clock.run())
        await engine.run(frontier.next, one, frontier.done, 2)
        time.cancel()

    asyncio.run(main())
    return asked


def test_a_page_that_was_begun_goes_before_one_of_a_host_that_nobody_has_asked() -> None:
    asked = first_requests(None)
    assert len(asked) == 160
    assert asked.index("h00.example 1") < 25, "and not behind the robots.txt of all"


def test_no_more_pages_are_begun_than_may_be_and_all_of_these_are_ended() -> None:
    assert sorted(first_requests(3)) == [f"h0{number}.example {again}" for number in range(3) for again in (0, 1)]
    assert first_requests(0) == []


def test_a_page_comes_again_no_earlier_than_it_said_whatever_its_host_is_called() -> None:
    """`ready_at` may know it by another name than the list: then the page would come again and again at once."""
    handed_out: list[float] = []

    async def main() -> None:
        clock, queue = Clock(), Queue({"a.example": 3})
        frontier = Frontier(
            queue.hosts_after, queue.tasks_after, lambda host: -math.inf, lambda host: 1.0, clock.time, clock.sleep
        )

        async def one(task: Task) -> None:
            handed_out.append(clock.now)
            if task.page_id == 1 and not task.pauses:
                frontier.done(task, replace(task, pauses=1), 7.0)

        time = asyncio.ensure_future(clock.run())
        await engine.run(frontier.next, one, frontier.done, 2)
        time.cancel()

    asyncio.run(main())
    assert handed_out == [0.0, 7.0, 7.0, 7.0]


def test_several_pages_of_a_host_are_in_work_if_so_many_may_be_but_first_one_alone() -> None:
    most: dict[str, int] = {}
    in_work: list[str] = []

    async def slow(world: World, task: Task) -> None:
        in_work.append(task.host)
        most[task.host] = max(most.get(task.host, 0), in_work.count(task.host))
        assert task.page_id != 1 or in_work == ["a.example"], "robots.txt is read by the first"
        await world.clock.sleep(10.0)
        in_work.remove(task.host)

    requests = worked({"a.example": 9}, slow, workers=8, per_host=3)
    assert most == {"a.example": 3}
    assert [time for time, _ in requests[:5]] == [0.0, 10.0, 11.0, 12.0, 20.0]


def test_a_worker_gets_no_page_only_to_wait_for_the_turn_of_another() -> None:
    handed_out: list[float] = []

    async def main() -> None:
        clock, queue = Clock(), Queue({"a.example": 4})
        hosts = Hosts(3.0, clock.time, per_host=4, sleep=clock.sleep, now=clock.date)
        frontier = Frontier(
            queue.hosts_after, queue.tasks_after, hosts.ready_at, hosts.spacing, clock.time, clock.sleep, 4
        )

        async def one(task: Task) -> None:
            handed_out.append(clock.now)
            await clock.sleep(1.0)  # it has something to do before its turn
            await World(frontier, hosts, clock).turn(task)
            await clock.sleep(20.0)

        time = asyncio.ensure_future(clock.run())
        await engine.run(frontier.next, one, frontier.done, 8)
        time.cancel()

    asyncio.run(main())
    assert handed_out == [0.0, 21.0, 25.0, 29.0]


def test_what_is_found_on_the_way_is_handed_out_too_and_nothing_twice() -> None:
    """A page that is worked on still is in the store as one to be done; its host may have more than before."""
    clock, queue = Clock(), Queue({"a.example": 12, "b.example": 1})
    handed_out: list[int] = []

    async def main() -> None:
        ready, spacing = (lambda host: 0.0), (lambda host: 0.0)
        frontier = Frontier(queue.hosts_after, queue.tasks_after, ready, spacing, clock.time, clock.sleep)

        async def work(task: Task) -> None:
            handed_out.append(task.page_id)
            if task.page_id == 13:
                queue.add(**{"a.example": 4, "c.example": 2})
                frontier.look_again()
            frontier.done(task)
            await clock.sleep(10.0)

        time = asyncio.ensure_future(clock.run())
        await engine.run(frontier.next, work, frontier.done, 30)
        time.cancel()

    asyncio.run(main())
    assert sorted(handed_out) == list(range(1, 20))

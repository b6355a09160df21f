"""Politeness in time, with a clock that only moves when everybody waits."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence

from pipeline import engine
from pipeline.frontier import HOSTS_IN_WINDOW, Frontier
from pipeline.records import Task


class Clock:
    """Time that jumps to the next waking as soon as nobody has anything else to do."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waking: list[tuple[float, int, asyncio.Future[None]]] = []

    def time(self) -> float:
        return self.now

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


def worked(
    pages: dict[str, int],
    process: Callable[[Frontier, Clock, Task], Awaitable[None]],
    workers: int = 4,
    delay: float = 1.0,
    kind: type[Queue] = Queue,
) -> list[tuple[float, Task]]:
    """Works on all pages and gives when each request was made."""
    clock, queue = Clock(), kind(pages)
    requests: list[tuple[float, Task]] = []

    async def main() -> None:
        frontier = Frontier(queue.hosts_after, queue.tasks_after, delay, clock.time, clock.sleep)

        async def one(task: Task) -> None:
            await frontier.turn(task.host)
            requests.append((clock.now, task))
            await process(frontier, clock, task)

        time = asyncio.ensure_future(clock.run())
        await engine.run(frontier.next, one, frontier.done, workers)
        time.cancel()

    asyncio.run(main())
    return requests


async def at_once(frontier: Frontier, clock: Clock, task: Task) -> None:
    """A page that takes no time."""


def test_every_page_is_handed_out_once() -> None:
    requests = worked({"a.example": 20, "b.example": 3, "c.example": 1}, at_once)
    assert sorted(task.page_id for _, task in requests) == list(range(1, 25))


def test_a_host_that_gets_free_while_the_store_is_asked_waits_for_its_tasks() -> None:
    async def some_steps(frontier: Frontier, clock: Clock, task: Task) -> None:
        for _ in range(4 * task.page_id):
            await asyncio.sleep(0)

    assert len(worked({"a.example": 1, "b.example": 1}, some_steps, delay=0.0, kind=SlowQueue)) == 2


def test_two_requests_to_a_host_are_a_delay_apart() -> None:
    requests = worked({"a.example": 5, "b.example": 2}, at_once)
    times = [time for time, task in requests if task.host == "a.example"]
    assert times == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_host_has_one_page_at_a_time() -> None:
    open_pages: list[str] = []

    async def slow(frontier: Frontier, clock: Clock, task: Task) -> None:
        assert task.host not in open_pages
        open_pages.append(task.host)
        await clock.sleep(10.0)
        open_pages.remove(task.host)

    assert len(worked({"a.example": 3, "b.example": 3}, slow)) == 6


def test_many_pages_of_a_slow_host_hold_nobody_up() -> None:
    async def slow_for_one(frontier: Frontier, clock: Clock, task: Task) -> None:
        await clock.sleep(30.0 if task.host == "a.slow" else 0.1)

    requests = worked({"a.slow": 50, **{f"b{n}.example": 1 for n in range(10)}}, slow_for_one, workers=2)
    others = [time for time, task in requests if task.host != "a.slow"]
    assert max(others) < 30.0


def test_redirects_and_robots_take_turns_too() -> None:
    async def three_requests(frontier: Frontier, clock: Clock, task: Task) -> None:
        await frontier.turn(task.host)
        await frontier.turn(task.host)

    requests = worked({"a.example": 2}, three_requests)
    assert [time for time, _ in requests] == [0.0, 3.0]


def test_hosts_beyond_the_window_come_later() -> None:
    pages = {f"h{number:05}.example": 1 for number in range(HOSTS_IN_WINDOW * 2 + 10)}
    assert len(worked(pages, at_once, workers=50)) == len(pages)


def test_nothing_is_handed_out_after_stop() -> None:
    async def stops(frontier: Frontier, clock: Clock, task: Task) -> None:
        frontier.stop()

    assert len(worked({"a.example": 5, "b.example": 5}, stops, workers=1)) == 1


def test_of_hosts_that_may_be_asked_again_nothing_is_remembered() -> None:
    clock = Clock()
    queue = Queue({})
    frontier = Frontier(queue.hosts_after, queue.tasks_after, 1.0, clock.time, clock.sleep)

    async def turns() -> None:
        for number in range(5 * HOSTS_IN_WINDOW):
            clock.now = number / 100
            await frontier.turn(f"{number}.example")

    asyncio.run(turns())
    assert len(frontier._ready_at) <= 2 * HOSTS_IN_WINDOW + 1


def test_what_is_found_on_the_way_is_handed_out_too_and_nothing_twice() -> None:
    """A page that is worked on still is in the store as one to be done; its host may have more than before."""
    clock, queue = Clock(), Queue({"a.example": 12, "b.example": 1})
    handed_out: list[int] = []

    async def main() -> None:
        frontier = Frontier(queue.hosts_after, queue.tasks_after, 0.0, clock.time, clock.sleep)

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

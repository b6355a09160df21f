"""Queued pages into the next task whose host may be asked: politeness in time.

A host has `per_host` pages in work at a time, and the next is handed out when `ready_at` says that the host may be
asked. The queue itself lies in the database; in memory are a window of hosts and a few tasks of each, so that neither
a million lines nor five hundred pages of one slow host hold anybody up.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from pipeline.records import Task

HOSTS_IN_WINDOW = 2_000
TASKS_A_HOST = 8

HostsAfter = Callable[[str, int], Awaitable[Sequence[str]]]
"""(last host, most) → the next hosts, in order, that have pages waiting in this run."""
TasksAfter = Callable[[str, int, int], Awaitable[Sequence[tuple[int, Task]]]]
"""(host, last position, most) → the next (position, task) of that host."""


@dataclass(eq=False)
class _Host:
    name: str
    position: int = -1
    tasks: deque[Task] = field(default_factory=deque)
    is_read: bool = False
    """Whether the store has no more tasks of it."""
    in_work: int = 0
    again: int = 0
    """How many of its tasks, the first ones, have been handed out before."""
    is_known: bool = False
    """Whether a page of it has been in work: the first of a host has its robots.txt read, and others would wait."""
    next_at: float = -math.inf


class Frontier:
    """Hands out tasks until none is left or `stop` is called.

    `ready_at` gives the time, by `clock`, when a host may be asked next, `spacing` the seconds between two requests.
    No more than `most` pages are handed out.
    """

    def __init__(
        self,
        hosts_after: HostsAfter,
        tasks_after: TasksAfter,
        ready_at: Callable[[str], float],
        spacing: Callable[[str], float],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        per_host: int = 1,
        most: int | None = None,
    ) -> None:
        self._hosts_after = hosts_after
        self._tasks_after = tasks_after
        self._ready_at = ready_at
        self._spacing = spacing
        self._clock = clock
        self._sleep = sleep
        self._per_host = per_host
        self._most = most
        self._window: dict[_Host, None] = {}
        self._hungry: list[_Host] = []
        """Those of the window whose next tasks are still in the store."""
        self._in_work: dict[int, tuple[Task, _Host]] = {}
        self._last_host = ""
        self._more_hosts = True
        self._handed_out: set[int] = set()
        self._look_again = False
        self._stopped = False
        self._changed = asyncio.Event()
        self._one_asks = asyncio.Lock()

    async def next(self) -> Task | None:
        """The next task; waits until a host is ready; `None` when nothing is left."""
        async with self._one_asks:
            while not self._stopped:
                self._changed.clear()
                await self._fill_window()
                if not self._window:
                    if not self._look_again:
                        return None
                    self._from_the_first_host()
                    continue
                # One that got free while the store was asked comes with the next round: its tasks are not here yet.
                host = self._next_host()
                if self.is_full and not host:
                    return None
                if host and self._ready(host) <= self._clock():
                    return self._hand_out(host)
                await self._until_changed(self._ready(host) - self._clock() if host else None)
            return None

    @property
    def is_full(self) -> bool:
        """Whether all pages are handed out that may be: only those that come again are to come."""
        return self._most is not None and len(self._handed_out) >= self._most

    def done(self, task: Task, again: Task | None = None, seconds: float = 0.0) -> None:
        """The host of this task may be asked for its next page; said twice it counts once.

        `again` is the same page, to be handed out once more when its host is ready, but not before so many seconds.
        """
        found, host = self._in_work.get(task.page_id, (None, None))
        if found is not task or host is None:
            return
        del self._in_work[task.page_id]
        host.in_work -= 1
        host.is_known = True
        if not host.in_work:
            host.next_at = -math.inf
        if again:
            host.tasks.appendleft(again)
            host.again += 1
            host.next_at = self._clock() + seconds
        self._leave(host)
        self._changed.set()

    def begin_again(self) -> None:
        """Looks for tasks from the first host on: some may have become ready anew."""
        self._window.clear()
        self._hungry.clear()
        self._handed_out.clear()
        self._from_the_first_host()

    def look_again(self) -> None:
        """There are new tasks in the store: they are looked for when nothing else is left, and nothing comes twice."""
        self._look_again = True
        self._changed.set()

    def stop(self) -> None:
        """No further task is handed out."""
        self._stopped = True
        self._changed.set()

    def _next_host(self) -> _Host | None:
        """The host whose turn it is, of those that can have one more page in work."""
        # All of the window are asked for each page: when a host is ready can change at any time, in either direction.
        now, is_full = self._clock(), self.is_full
        free = (
            host
            for host in self._window
            if (host.again if is_full else host.tasks) and host.in_work < (self._per_host if host.is_known else 1)
        )
        return min(free, key=lambda host: self._turn(host, now), default=None)

    def _ready(self, host: _Host) -> float:
        return max(self._ready_at(host.name), host.next_at)

    def _turn(self, host: _Host, now: float) -> tuple[bool, bool, float]:
        """What has been begun is ended first: else each host would have its robots.txt read before the first page."""
        ready_at = self._ready(host)
        is_ready = ready_at <= now
        return not is_ready, is_ready and not host.again, ready_at

    def _leave(self, host: _Host) -> None:
        """Takes a host that has nothing more out of the window."""
        if host.is_read and not host.tasks and not host.in_work:
            self._window.pop(host, None)

    def _from_the_first_host(self) -> None:
        self._last_host = ""
        self._more_hosts = True
        self._look_again = False

    def _hand_out(self, host: _Host) -> Task:
        task = host.tasks.popleft()
        host.again = max(0, host.again - 1)
        host.in_work += 1
        # It has not taken its turn yet: the next is not handed out only to wait for it.
        host.next_at = self._clock() + self._spacing(host.name)
        self._in_work[task.page_id] = task, host
        self._handed_out.add(task.page_id)
        if not host.tasks:
            self._hungry.append(host)
        return task

    async def _fill_window(self) -> None:
        while self._hungry:
            host = self._hungry[-1]
            while not host.tasks and not host.is_read:
                rows = await self._tasks_after(host.name, host.position, TASKS_A_HOST)
                # One that is worked on still is here again, after `look_again`.
                host.tasks.extend(task for _, task in rows if task.page_id not in self._handed_out)
                host.is_read = not rows
                host.position = rows[-1][0] if rows else host.position
            self._hungry.pop()
            self._leave(host)
        if self._more_hosts and len(self._window) < HOSTS_IN_WINDOW // 2:
            names = await self._hosts_after(self._last_host, HOSTS_IN_WINDOW)
            self._more_hosts = len(names) == HOSTS_IN_WINDOW
            if names:
                self._last_host = names[-1]
                found = [_Host(name) for name in names]
                self._window.update(dict.fromkeys(found))
                self._hungry += reversed(found)
                await self._fill_window()

    async def _until_changed(self, seconds: float | None) -> None:
        changed = asyncio.ensure_future(self._changed.wait())
        waits = [changed] if seconds is None else [changed, asyncio.ensure_future(self._sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

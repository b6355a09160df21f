"""Queued pages into the next task whose host may be asked: politeness in time.

A host is asked for one page at a time, and for one thing each `delay` seconds (robots.txt and redirects
included: `fetch` awaits `turn` before each request). The queue itself lies in the database; in memory are a
window of hosts and a few tasks of each, so that neither a million lines nor five hundred pages of one slow
host hold anybody up.
"""

from __future__ import annotations

import asyncio
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


@dataclass
class _Host:
    name: str
    position: int = -1
    tasks: deque[Task] = field(default_factory=deque)


class Frontier:
    """Hands out tasks, one a host at a time, until none is left or `stop` is called."""

    def __init__(
        self,
        hosts_after: HostsAfter,
        tasks_after: TasksAfter,
        delay: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._hosts_after = hosts_after
        self._tasks_after = tasks_after
        self._delay = delay
        self._clock = clock
        self._sleep = sleep
        self._idle: deque[_Host] = deque()
        self._busy: dict[int, _Host] = {}
        self._ready_at: dict[str, float] = {}
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
                # One that got free while the store was asked comes with the next round: its tasks are not here yet.
                host = min((idle for idle in self._idle if idle.tasks), key=self._ready, default=None)
                if not self._idle and not self._busy:
                    if not self._look_again:
                        return None
                    self._from_the_first_host()
                    continue
                if host and self._ready(host) <= self._clock():
                    return self._hand_out(host)
                await self._until_changed(self._ready(host) - self._clock() if host else None)
            return None

    def done(self, task: Task) -> None:
        """The host of this task may be asked for its next page; said twice it counts once."""
        host = self._busy.pop(task.page_id, None)
        if host is None:
            return
        self._idle.append(host)
        self._changed.set()

    def begin_again(self) -> None:
        """Looks for tasks from the first host on: some may have become ready anew."""
        self._idle.clear()
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

    async def turn(self, host: str) -> None:
        """Waits until `host` may be sent one more request, and takes that turn."""
        now = self._clock()
        if len(self._ready_at) > 2 * HOSTS_IN_WINDOW:
            # A host that may be asked now is like one that never was: of a million hosts only those are kept that wait.
            self._ready_at = {name: at for name, at in self._ready_at.items() if at > now}
        at = max(now, self._ready_at.get(host, now))
        self._ready_at[host] = at + self._delay
        if at > now:
            await self._sleep(at - now)

    def _ready(self, host: _Host) -> float:
        return self._ready_at.get(host.name, 0.0)

    def _from_the_first_host(self) -> None:
        self._last_host = ""
        self._more_hosts = True
        self._look_again = False

    def _hand_out(self, host: _Host) -> Task:
        task = host.tasks.popleft()
        self._idle.remove(host)
        self._busy[task.page_id] = host
        self._handed_out.add(task.page_id)
        return task

    async def _fill_window(self) -> None:
        for host in [host for host in self._idle if not host.tasks]:
            while not host.tasks:
                rows = await self._tasks_after(host.name, host.position, TASKS_A_HOST)
                if not rows:
                    self._idle.remove(host)
                    break
                # One that is worked on still is here again, after `look_again`.
                host.tasks.extend(task for _, task in rows if task.page_id not in self._handed_out)
                host.position = rows[-1][0]
        if self._more_hosts and len(self._idle) + len(self._busy) < HOSTS_IN_WINDOW // 2:
            names = await self._hosts_after(self._last_host, HOSTS_IN_WINDOW)
            self._more_hosts = len(names) == HOSTS_IN_WINDOW
            if names:
                self._last_host = names[-1]
                self._idle.extend(_Host(name) for name in names)
                await self._fill_window()

    async def _until_changed(self, seconds: float | None) -> None:
        changed = asyncio.ensure_future(self._changed.wait())
        waits = [changed] if seconds is None else [changed, asyncio.ensure_future(self._sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

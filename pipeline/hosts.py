"""Each host into when it may be asked next, or why not in this run: a guest's manners, from night to night.

A host is asked for `per_host` things at a time, and for one each so many seconds: `--delay`, or what its robots.txt
asks for, or more if it is slow to answer. One that wants a pause gets it as a whole; so does one that no longer
answers. What the next run has to know of it is told by `emit` and asked for by `recall`; the clock is handed in.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pipeline.answers import LONGEST_PAUSE
from pipeline.records import HostSeen, NotModified, Page, Reason, Refusal, RobotsFile

DOWN_AFTER = 5
"""Requests in a row without an answer, after which a host is not asked again in this run."""
HELD_AFTER = 3
"""Answers in a row that want a pause, after which it gets a long one, whatever it asks for."""
LONG_PAUSE = timedelta(hours=1)
LONGEST_WAIT_SECONDS = 60.0
"""So long a pause is waited for in the same run, by the pages of that host; for a longer one they are put off."""
LONGEST_TURN_SECONDS = 60.0
"""So long a worker waits behind others at a host that it was redirected to."""
LONGEST_NAP_SECONDS = 0.5
"""So long a worker waits for its page's own host, and for the end of a pause."""
SLOWEST_TIMES = 30
"""How many times `delay` is the longest that a slow host is left between two requests."""
MOST_HOSTS = 5_000
"""That are kept in mind; more than the frontier has at a time."""
NO_ANSWER = frozenset({Reason.DNS_ERROR, Reason.DNS_TIMEOUT, Reason.CONNECT_ERROR, Reason.TLS_ERROR, Reason.TIMEOUT})
"""Faults of a host and not of a page, if no HTTP status came with them."""
WANTS_A_PAUSE = frozenset({429, 503})

Recall = Callable[[str], Awaitable[Sequence[HostSeen]]]
"""A host → what was last known of it, by each scheme."""
Emit = Callable[[HostSeen], Awaitable[None]]


async def _nothing(host: str) -> Sequence[HostSeen]:
    return ()


async def _forgets(event: HostSeen) -> None:
    """What becomes of an event where nothing is kept."""


def next_delay(delay: float, seconds: float, *, least: float, most: float, per_host: int, well: bool) -> float:
    """Seconds between two requests to a host whose last answer took `seconds` to begin.

    A host that needs so long for one answer and may be asked for `per_host` at a time has its hands full at one
    request each `seconds / per_host`: a longer delay is taken over at once, a shorter one by half the way. Only an
    answer that is `well` makes it shorter: errors are often quick. Within `least` and `most`. (After the idea of
    Scrapy's AutoThrottle.)
    """
    aimed = seconds / per_host
    found = max(aimed, (delay + aimed) / 2)
    return min(max(found if well else max(found, delay), least), max(least, most))


def _wants_a_pause(answer: Refusal) -> bool:
    return answer.status in WANTS_A_PAUSE or answer.not_before is not None


def after(known: HostSeen, answer: object, tries: int, time: datetime) -> HostSeen:
    """What is known of a site after an answer, or after so many tries without one."""
    held = known.not_before if known.not_before and known.not_before > time else None
    well = replace(known, seen_at=time, not_before=held, pauses=known.pauses if held else 0, failures=0, reason=None)
    if not isinstance(answer, Refusal):
        return well
    if _wants_a_pause(answer):
        pauses = known.pauses + 1
        wishes = [held, answer.not_before, time + LONG_PAUSE if pauses >= HELD_AFTER else None]
        return replace(well, not_before=max((wish for wish in wishes if wish), default=None), pauses=pauses)
    if answer.status is None and answer.reason in NO_ANSWER:
        return replace(known, seen_at=time, failures=known.failures + tries, reason=answer.reason)
    # If its address is closed, nobody was asked.
    return known if answer.reason is Reason.BLOCKED_ADDRESS else well


def in_another_run(known: HostSeen, time: datetime) -> HostSeen:
    """What the next run makes of it: a host that was down, or was given a long pause, has one try to be well again.

    A pause longer than any is one of a clock that was wrong.
    """
    until = known.not_before if known.not_before and known.not_before <= time + LONGEST_PAUSE else None
    failures, pauses = min(known.failures, DOWN_AFTER - 1), min(known.pauses, HELD_AFTER - 1)
    return replace(known, robots=None, not_before=until, failures=failures, pauses=pauses)


class NotNow(Exception):
    """The host is not asked: `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


@dataclass(slots=True)
class _Host:
    name: str
    delay: float
    slots: asyncio.Semaphore
    least: float
    """`delay` may not be less: `--delay`, or what the robots.txt asks for."""
    asked_at: float = -math.inf
    ready_at: float = -math.inf
    users: int = 0
    """Who waits for a turn, or has one."""
    sites: dict[str, HostSeen] = field(default_factory=dict)


@dataclass(slots=True)
class Turn:
    """One request to a host, from its turn on."""

    origin: str
    began: float
    clock: Callable[[], float]
    seconds: float | None = None
    """Until its answer began."""

    def answers(self) -> None:
        """The head of the answer is here."""
        self.seconds = self.clock() - self.began


class Hosts:
    """What one run knows of its hosts. An `origin` is `scheme://host[:port]`, a `name` the same without its scheme.

    `clock`, `sleep` and `now` are the time of the run, for whoever waits for a host. `time_left` gives the seconds
    until the run ends: no page waits in it for a pause that lasts longer.
    """

    def __init__(
        self,
        delay: float,
        clock: Callable[[], float],
        *,
        per_host: int = 1,
        recall: Recall = _nothing,
        emit: Emit = _forgets,
        time_left: Callable[[], float] = lambda: math.inf,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._delay = delay
        self.clock = clock
        self.per_host = per_host
        self._recall = recall
        self._emit = emit
        self._time_left = time_left
        self.sleep = sleep
        self.now = now
        self._hosts: dict[str, _Host] = {}

    # When

    def ready_at(self, name: str) -> float:
        """When the host may be asked next, by the clock; a time that is over if nothing speaks against it."""
        host = self._hosts.get(name)
        return self._ready_at(host) if host else -math.inf

    def spacing(self, name: str) -> float:
        """Seconds between two requests to the host."""
        host = self._hosts.get(name)
        return host.delay if host else self._delay

    async def wait(self, origin: str) -> float:
        """Seconds until the host may be asked; 0 also if it is not to be asked at all."""
        host = await self._host(origin)
        return 0.0 if self._refusal(host, origin) else max(0.0, self._ready_at(host) - self.clock())

    @asynccontextmanager
    async def turn(self, origin: str, patient: bool = False) -> AsyncIterator[Turn]:
        """Waits until the host may be sent one more request, and is one of its `per_host` for what is inside.

        Raises `NotNow` if the host is not to be asked, if it wants a pause, however short, or if so many are before
        it that its turn is more than a minute off; who is `patient` waits for the last two.
        """
        host = await self._host(origin)
        self._check(host, origin, patient)
        host.users += 1
        try:
            await self._slot(host, patient)
            try:
                await self._until_ready(host)
                self._check(host, origin, patient)
                yield Turn(origin, self.clock(), self.clock)
            finally:
                host.slots.release()
        finally:
            host.users -= 1

    def asks_for(self, origin: str, seconds: float | None) -> None:
        """The host's robots.txt wants so many seconds between two requests (`Crawl-delay`)."""
        host = self._hosts.get(_name(origin))
        if host and seconds is not None and seconds > host.least:
            host.least = seconds
            self._slow_down(host, max(host.delay, seconds))

    # Whether at all

    async def refusal(self, origin: str) -> Refusal | None:
        """Why the host is not asked now: it wants a pause too long to be waited for, or it is down."""
        return self._refusal(await self._host(origin), origin)

    async def answered(self, turn: Turn, answer: object, tries: int = 1) -> None:
        """What came of a request: a `Refusal`, or anything that is well. `tries` counts those that had no answer."""
        host = await self._host(turn.origin)
        seconds = self.clock() - turn.began if turn.seconds is None else turn.seconds
        if isinstance(answer, Refusal) and _wants_a_pause(answer):
            seconds = max(seconds, 2 * host.delay * self.per_host)
        most = max(host.least, SLOWEST_TIMES * self._delay)
        well = isinstance(answer, Page | NotModified)
        limits = {"least": host.least, "most": most}
        self._slow_down(host, next_delay(host.delay, seconds, **limits, per_host=self.per_host, well=well))
        known = self._site(host, turn.origin)
        await self._keep(host, after(known, answer, tries, self.now()))

    # robots.txt

    async def robots(self, origin: str) -> RobotsFile | None:
        """The robots.txt that was last had of a site, however old; it is not kept in mind, for it may be long."""
        return next((seen.robots for seen in await self._recall(_name(origin)) if seen.origin == origin), None)

    async def keep_robots(self, origin: str, file: RobotsFile) -> None:
        """Keeps a robots.txt for the next run."""
        seen = self._site(await self._host(origin), origin)
        await self._emit(replace(seen, robots=file, seen_at=self.now()))

    # What they are made of

    async def _host(self, origin: str) -> _Host:
        name = _name(origin)
        if name not in self._hosts:
            rows = await self._recall(name)
            if name not in self._hosts:
                self._make_room()
                host = _Host(name, self._delay, asyncio.Semaphore(self.per_host), self._delay)
                host.sites = {row.origin: in_another_run(row, self.now()) for row in rows}
                self._hosts[name] = host
        return self._hosts[name]

    def _make_room(self) -> None:
        if len(self._hosts) >= MOST_HOSTS:
            now = self.clock()
            idle = (name for name, host in self._hosts.items() if not host.users and self._ready_at(host) <= now)
            if (name := next(idle, None)) is not None:
                del self._hosts[name]

    def _site(self, host: _Host, origin: str) -> HostSeen:
        return host.sites.get(origin) or HostSeen(origin, host.name, self.now())

    async def _keep(self, host: _Host, seen: HostSeen) -> None:
        before = self._site(host, seen.origin)
        host.sites[seen.origin] = seen
        if replace(before, seen_at=seen.seen_at) != seen:
            await self._emit(seen)

    def _slow_down(self, host: _Host, delay: float) -> None:
        host.delay = delay
        host.ready_at = max(host.ready_at, host.asked_at + delay)

    def _pause_seconds(self, host: _Host) -> float:
        """How long the host is still to be left alone because it said so, by whichever scheme."""
        until = [site.not_before for site in host.sites.values() if site.not_before]
        return (max(until) - self.now()).total_seconds() if until else 0.0

    def _is_short(self, seconds: float) -> bool:
        return seconds <= min(LONGEST_WAIT_SECONDS, self._time_left())

    def _short_pause(self, host: _Host) -> float:
        pause = self._pause_seconds(host)
        return pause if pause > 0 and self._is_short(pause) else 0.0

    def _ready_at(self, host: _Host) -> float:
        pause = self._short_pause(host)
        return max(host.ready_at, self.clock() + pause) if pause else host.ready_at

    def _check(self, host: _Host, origin: str, patient: bool) -> None:
        refused = self._refusal(host, origin)
        if not refused and not patient and self._short_pause(host) > LONGEST_NAP_SECONDS:
            refused = self._paused(host)
        if refused:
            raise NotNow(refused)

    def _paused(self, host: _Host) -> Refusal:
        until = self.now() + timedelta(seconds=self._pause_seconds(host))
        what = f"{host.name} wants to be left alone until {until:%Y-%m-%d %H:%M} UTC"
        return Refusal(Reason.RATE_LIMITED, what, not_before=until, tried=False)

    async def _slot(self, host: _Host, patient: bool) -> None:
        """One of the host's `per_host`."""
        too_late = Refusal(Reason.TIMEOUT, f"too many others wait for their turn at {host.name}")
        most = max(LONGEST_TURN_SECONDS, 2 * host.delay)
        if not patient and host.ready_at - self.clock() > most:
            raise NotNow(too_late)
        try:
            async with asyncio.timeout(None if patient else most):
                await host.slots.acquire()
        except TimeoutError as error:
            raise NotNow(too_late) from error

    async def _until_ready(self, host: _Host) -> None:
        """Takes the next turn of the host, and waits for it; a pause that comes up meanwhile counts too."""
        at = max(self.clock(), host.ready_at)
        host.asked_at, host.ready_at = at, at + host.delay
        while (seconds := max(at, self.clock() + self._short_pause(host)) - self.clock()) > 0:
            await self.sleep(seconds)

    def _refusal(self, host: _Host, origin: str) -> Refusal | None:
        pause = self._pause_seconds(host)
        if pause > 0 and not self._is_short(pause):
            return self._paused(host)
        site = host.sites.get(origin)
        if site and site.failures >= DOWN_AFTER:
            last = site.reason.value if site.reason else ""
            what = f"{host.name} has left {site.failures} requests in a row without an answer, the last: {last}"
            return Refusal(Reason.HOST_DOWN, what, tried=False)
        return None


def _name(origin: str) -> str:
    return origin.partition("://")[2]

"""The composition root of a night: opens everything, hands it down, closes it, and knows the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import ParamSpec, TypeVar

from pipeline import addresses, embedded, engine, names, tokens, urls
from pipeline.console import Console, report
from pipeline.errors import RunLost
from pipeline.extract import Extractor
from pipeline.fetch import Fetcher
from pipeline.frontier import Frontier
from pipeline.page import Steps, process
from pipeline.records import Added, Event, Line, NotModified, Page, Reason, Refusal, Task
from pipeline.settings import Settings
from pipeline.store import Store, lock, now
from pipeline.summarizer import Memory
from pipeline.writers import Books, Writers

LINES_A_TRANSACTION = 1_000
MODEL_PROBE_SECONDS = 5.0
EXTRACTORS = max(1, min(4, (os.cpu_count() or 2) - 1))
PRECEDENCE = (1, 10, 11, 143, 130, 12, 3, 0)
"""Of several exit codes the first of these is told."""

P = ParamSpec("P")
T = TypeVar("T")


def run(settings: Settings, sources: Sequence[str], console: Console) -> int:
    """One night: the pages of all sources into summaries. Gives the exit code; raises `RunLost`."""
    urls.check_sources(sources)
    if settings.vocabulary:
        tokens.load(settings.vocabulary)
    with lock(settings.db), Store.open(settings.db) as store, ThreadPoolExecutor(1, "store") as thread:
        return asyncio.run(Night(settings, store, thread, console).run(sources))


def lines(
    sources: Sequence[str],
    secret: bytes,
    *,
    since: datetime | None,
    note: Callable[[str], None],
    fetch: urls.Fetch | None = None,
) -> Iterator[Line]:
    """The lines of all sources; without `fetch`, none of lists on the web. Raises `UsageError`."""
    # An address or a port is judged when it is asked for: the settings that open it may change from night to night.
    policy = addresses.AddressPolicy(allow_private=True)
    check = partial(addresses.check_url, policy=policy)
    return urls.read(sources, check, secret, since=since, fetch=fetch, note=note)


class Night:
    """What one run owns: the store and its thread, and whether it has been told to stop."""

    def __init__(self, settings: Settings, store: Store, thread: ThreadPoolExecutor, console: Console) -> None:
        self._settings = settings
        self._store = store
        self._thread = thread
        self._console = console
        self._signal: int | None = None
        self._limited = False
        self._stop: Callable[[], object] = lambda: None

    async def run(self, sources: Sequence[str]) -> int:
        """The whole night, from the first line to the exit code."""
        settings = self._settings
        with self._signals():
            await self._stored(self._store.begin_run, " ".join(sources), _model_of(settings), settings.public())
            try:
                await self._gather(sources)
                await self._stored(self._store.settle, settings.max_age, settings.force)
                if self._console.tells_pages:
                    await self._tell_settled()
                if await self._stored(self._store.to_do):
                    await self._work()
            except BaseException as error:
                lost = _lost(error)
                with contextlib.suppress(RunLost):
                    await self._stored(self._store.end_run, "failed", lost.exit_code if lost else 1, None)
                if lost is None:
                    raise
                raise lost from error
            return await self._ended()

    # Phases

    async def _gather(self, sources: Sequence[str]) -> None:
        """Stores the lines of all sources. Lists on the web are fetched as pages are, by the same rules."""
        loop = asyncio.get_running_loop()
        async with self._fetcher(self._settings.hosts, self._frontier()) as fetcher:

            def fetch(url: str) -> Page | Refusal | None:
                # The store's thread waits for it; the loop does not. Nothing is asked for any more after a signal.
                asking = asyncio.run_coroutine_threadsafe(fetcher.fetch_list(url), loop)
                self._stop = asking.cancel
                if self._signal:
                    asking.cancel()
                try:
                    return asking.result()
                except CancelledError:
                    return None

            try:
                await self._stored(self._add, sources, fetch)
            finally:
                self._stop = lambda: None

    def _add(self, sources: Sequence[str], fetch: urls.Fetch) -> None:
        since, note = self._settings.since, self._console.say
        found = lines(sources, self._store.secret(), since=since, note=note, fetch=fetch)
        while not self._signal and (batch := tuple(islice(found, LINES_A_TRANSACTION))):
            self._store.apply(Added(batch))

    async def _tell_settled(self) -> None:
        """The pages that are done before any work: lines that are no URL, fresh pages, those not to be asked yet."""
        last = 0
        while pages := await self._stored(self._store.settled_after, last, LINES_A_TRANSACTION):
            for _, row in pages:
                self._console.page(row)
            last = pages[-1][0]

    async def _work(self) -> None:
        """Fetches what is to be fetched and summarizes what has a text; again, if the model comes back meanwhile."""
        async with AsyncExitStack() as stack:
            writers = await stack.enter_async_context(Writers(self._settings, await self._books(), self._console.warn))
            await writers.get_ready()
            extractor = await stack.enter_async_context(Extractor(EXTRACTORS))
            frontier = self._frontier()
            fetcher = await stack.enter_async_context(self._fetcher(writers.hosts, frontier))

            async def fetch(task: Task) -> Page | NotModified | Refusal:
                # The next page of its host is fetched while this one is read and summarized.
                try:
                    return await fetcher.fetch(task)
                finally:
                    frontier.done(task)

            steps = Steps(fetch, extractor.extract, writers.write, self._emit, now)
            while True:
                await self._until_done(frontier, steps)
                if not await self._model_is_back(writers):
                    return
                await self._stored(self._store.wake)
                frontier.begin_again()
                await writers.get_ready()

    async def _model_is_back(self, writers: Writers) -> bool:
        """Waits for a model that was down, if pages wait for it, as long as `--model-wait` says."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.model_wait.total_seconds()
        while await self._stored(self._store.waiting_for_model) and not (self._signal or self._limited):
            if await writers.are_back():
                return True
            if loop.time() >= until:
                return False
            await asyncio.sleep(min(MODEL_PROBE_SECONDS, max(0.1, until - loop.time())))
        return False

    async def _until_done(self, frontier: Frontier, steps: Steps) -> None:
        """Works until the list is done, the limit is reached, or a signal's grace has run out."""
        taken = 0

        async def next_task() -> Task | None:
            nonlocal taken
            if taken == self._settings.limit:
                self._limited = True
                return None
            taken += 1
            return await frontier.next()

        async def work(task: Task) -> None:
            if task.waits_for_model:
                frontier.done(task)
            await process(task, steps)
            self._console.page(await self._stored(self._store.result, task.page_id))

        grace = self._settings.grace.total_seconds()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as deadline:

                def stop() -> None:
                    """The first time: no new page, and `grace` for the rest. The second time: now."""
                    again = deadline.when() is not None
                    frontier.stop()
                    deadline.reschedule(loop.time() + (0.0 if again else grace))

                self._stop = stop
                if self._signal:
                    stop()
                with self._console.progress(await self._stored(self._store.to_do)):
                    await engine.run(next_task, work, frontier.done, self._settings.workers)
        except TimeoutError:
            if not self._signal:
                raise
        finally:
            self._stop = lambda: None

    async def _ended(self) -> int:
        """Closes the books, tells how it went, and gives the exit code."""
        waiting = Reason.INTERRUPTED if self._signal else Reason.LIMIT if self._limited else None
        counts = await self._stored(self._store.counts)
        faults = await self._stored(self._store.faults)
        codes = {128 + self._signal} if self._signal else {0}
        codes |= {Reason(fault["reason"]).meaning.exit_code for fault in faults}
        code = next(known for known in PRECEDENCE if known in codes)
        state = "interrupted" if self._signal else "finished"
        await self._stored(self._store.end_run, state, code, waiting.value if waiting else None)
        say = self._console.warn if code else self._console.say
        for line in report(counts, faults, str(self._settings.db)):
            say(line)
        return code

    # What the phases are made of

    async def _books(self) -> Books:
        store = self._store
        memory = Memory(
            self._bound(store.chunks),
            self._bound(store.recall_map),
            self._bound(store.recall_reduce),
            self._bound(store.recall_final),
        )
        if self._settings.force:
            memory = Memory(memory.chunks, _nothing, _nothing, _nothing)
        return Books(
            secret=await self._stored(store.secret),
            memory=memory,
            ratios=self._bound(store.ratios),
            failures_to_call=self._bound(store.failures_to_call),
            add_recipe=self._bound(store.add_recipe),
            emit=self._emit,
            now=now,
        )

    def _frontier(self) -> Frontier:
        loop = asyncio.get_running_loop()
        tasks_after = self._bound(self._store.tasks_after)

        async def anew(host: str, position: int, most: int) -> list[tuple[int, Task]]:
            return [(place, task.as_if_new()) for place, task in await tasks_after(host, position, most)]

        tasks = anew if self._settings.force else tasks_after
        return Frontier(self._bound(self._store.hosts_after), tasks, self._settings.delay, loop.time)

    def _fetcher(self, model_hosts: Sequence[str], frontier: Frontier) -> Fetcher:
        return Fetcher(
            self._policy(model_hosts),
            user_agent=self._user_agent(),
            turn=frontier.turn,
            respect_robots=not self._settings.ignore_robots,
        )

    def _policy(self, model_hosts: Sequence[str]) -> addresses.AddressPolicy:
        settings = self._settings
        return addresses.AddressPolicy(
            allow_private=settings.allow_private_network,
            allowed_networks=settings.allow_network,
            blocked_endpoints=frozenset().union(*map(names.endpoints_of, model_hosts)),
        )

    def _user_agent(self) -> str:
        contact = f" (+{self._settings.contact})" if self._settings.contact else ""
        return f"summarize-batch/{version('summarize-batch')}{contact}"

    async def _emit(self, event: Event) -> None:
        await self._stored(self._store.apply, event)

    async def _stored(self, what: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Something done by the store, in its one thread: a commit waits for the disk, the loop does not."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: what(*args, **kwargs))

    def _bound(self, what: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self._stored(what, *args, **kwargs)

        return call

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop the run; the second of them stops it at once."""
        loop = asyncio.get_running_loop()

        def arrived(number: int) -> None:
            first, self._signal = self._signal is None, number
            if first:
                self._console.say("stopping: what is under way may still end; a second signal stops it now")
            self._stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, arrived, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _model_of(settings: Settings) -> str:
    """What the run's model is called, before it is looked for."""
    if not settings.embedded:
        return settings.model
    return embedded.model_name(settings.embedded_model) if settings.embedded_model else embedded.MODEL


async def _nothing(*_: str) -> None:
    """What is remembered when everything is to be asked anew."""


def _lost(error: BaseException) -> RunLost | None:
    """The reason why the run is lost, also out of a group of faults; `None` if there is none but a bug."""
    if isinstance(error, BaseExceptionGroup):
        _, bugs = error.split(RunLost)
        found = next((lost for inner in error.exceptions if (lost := _lost(inner))), None)
        return found if bugs is None or _only_cancelled(bugs) else None
    return error if isinstance(error, RunLost) else None


def _only_cancelled(group: BaseExceptionGroup[BaseException]) -> bool:
    return group.split(asyncio.CancelledError)[1] is None

"""The composition root of a night: opens everything, hands it down, closes it, and knows the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import math
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from pipeline import addresses, engine, names, urls
from pipeline.console import Console, innermost, report
from pipeline.errors import ModelUnusable, PageNotDone, RunLost, out_of_means
from pipeline.extract import Extractor, read_page
from pipeline.fetch import Fetcher, Limits
from pipeline.frontier import Frontier
from pipeline.hosts import Hosts
from pipeline.page import Steps, Written, process
from pipeline.records import (
    Added,
    Chosen,
    Document,
    Event,
    Later,
    Line,
    NotDone,
    NotModified,
    Outcome,
    Page,
    Reason,
    Refusal,
    Stage,
    Task,
)
from pipeline.settings import KEEP, Settings
from pipeline.store import Store, lock, now

if TYPE_CHECKING:  # what works with the model is imported for it: a night with nothing to do ends sooner by 0.2 s
    from pipeline.writers import Books, Writers

LINES_A_TRANSACTION = 1_000
MODEL_PROBE_SECONDS = 5.0
EXTRACTORS = max(1, min(4, (os.cpu_count() or 2) - 1))
PRECEDENCE = (1, 10, 11, 143, 130, 12, 3, 0)
"""Of several exit codes the first of these is told."""

Clock = Callable[[], datetime]
P = ParamSpec("P")
T = TypeVar("T")
Write = Callable[[Task, Document], Awaitable[Written]]


@dataclass(frozen=True, slots=True)
class Errand:
    """What a run is to do: which pages, and whether their sites are asked."""

    source: str
    """As `runs.source` has it."""
    batches: Callable[[Store, urls.Fetch], Iterable[Added | Chosen]]
    """The pages as items of the run, a transaction each; the second argument fetches lists on the web."""
    named: bool = False
    """The pages were asked for by name: none is passed over because it is fresh, or not to be asked yet."""
    fetched: bool = True
    """If not, the texts that are stored are summarized as they are, unless that has been done by the same recipe."""
    summarized: bool = True
    """If not, the texts are stored and wait for a later run: no model is asked, and none need be there."""


def run(settings: Settings, errand: Errand, console: Console, clock: Clock = now) -> int:
    """One night: the pages of an errand into summaries. Gives the exit code; raises `RunLost`.

    `clock` says what time is written down, and which pages are due; nothing waits by it.
    """
    if settings.vocabulary:
        from pipeline import tokens  # noqa: PLC0415

        tokens.load(settings.vocabulary)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may go; the night goes on
    with (
        lock(settings.db, settings.lock_wait, console.say),
        Store.open(settings.db, note=console.say, clock=clock) as store,
        ThreadPoolExecutor(1, "store") as thread,
    ):
        return asyncio.run(Night(settings, store, thread, console, clock).run(errand))


def lists(settings: Settings, sources: Sequence[str], console: Console, *, texts_only: bool = False) -> Errand:
    """The errand of a night, or of a day (`texts_only`): the pages of all sources. Raises `UsageError`."""
    urls.check_sources(sources)

    def batches(store: Store, fetch: urls.Fetch) -> Iterator[Added]:
        found = lines(sources, store.secret(), since=settings.since, note=console.say, fetch=fetch)
        while batch := tuple(islice(found, LINES_A_TRANSACTION)):
            yield Added(batch)

    named = [urls.masked(source) for source in sources]
    return Errand(" ".join(["fetch"] * texts_only + named), batches, summarized=not texts_only)


def lines(
    sources: Sequence[str],
    secret: bytes,
    *,
    since: datetime | None,
    note: Callable[[str], None],
    fetch: urls.Fetch | None = None,
) -> Iterator[Line]:
    """The lines of all sources; without `fetch`, none of lists on the web. Raises `UsageError`."""
    return urls.read(sources, _check(), secret, since=since, fetch=fetch, note=note)


def _check() -> urls.Check:
    """Judges the lines of lists. An address or a port is judged when it is asked for: the settings that open it may
    change from night to night."""
    return partial(addresses.check_url, policy=addresses.AddressPolicy(allow_private=True))


class Night:
    """What one run owns: the store and its thread, and whether it has been told to stop."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        thread: ThreadPoolExecutor,
        console: Console,
        clock: Clock = now,
        *,
        limits: Limits | None = None,
    ) -> None:
        self._now = clock
        self._settings = settings
        self._limits = limits or Limits()
        self._store = store
        self._thread = thread
        self._console = console
        self._signal: int | None = None
        self._reads_no_more = asyncio.Event()
        """The run is to stop, and so is the grace over that a list has to end."""
        self._limited = False
        self._out_of_time = False
        self._ends_at: float | None = None
        """When `--max-duration` is over, by the loop's clock."""
        self._stop: Callable[[bool], object] = _nobody
        self._recipes: tuple[str, ...] = ()
        """By which this run summarizes, once its models have answered."""

    async def run(self, errand: Errand) -> int:
        """The whole night, from the first line to the exit code."""
        settings = self._settings
        with self._signals(), self._bounded():
            await self._stored(self._store.begin_run, errand.source, _model_of(settings, errand), settings.public())
            hosts = self._hosts()
            try:
                await self._gather(errand, hosts)
                await self._stored(self._settle, errand)
                await self._tell_settled()
                if await self._stored(self._store.to_do) or await self._stored(self._store.waits_for, Reason.BUG):
                    await (self._work(errand, hosts) if errand.summarized else self._store_texts(errand, hosts))
            except BaseException as error:
                lost = _lost(error)
                with contextlib.suppress(RunLost):
                    await self._stored(self._store.end_run, "failed", lost.exit_code if lost else 1, None)
                if lost is None:
                    raise
                raise lost from error
            return await self._ended()

    # Phases

    async def _gather(self, errand: Errand, hosts: Hosts) -> None:
        """Stores the pages of the errand. Lists on the web are fetched as pages are, by the same rules."""
        loop = asyncio.get_running_loop()
        async with self._fetcher(self._settings.hosts, hosts) as fetcher:

            def fetch(url: str) -> Page | Refusal | None:
                # Who reads the lists waits for it; the loop does not. Nothing is asked for any more after a signal.
                asking = asyncio.run_coroutine_threadsafe(fetcher.fetch_list(url), loop)
                self._stop = lambda now: asking.cancel()
                if self._is_stopping:
                    asking.cancel()
                try:
                    return asking.result()
                except CancelledError:
                    return None

            # Not in the store's thread: what is learned of a list's host is stored while the list is waited for.
            with ThreadPoolExecutor(1, "lists") as thread:
                batches = iter(errand.batches(self._store, fetch))
                try:
                    while batch := await self._read(loop.run_in_executor(thread, next, batches, None)):
                        # What has been read of the lists is kept; no more is read after a signal.
                        await self._stored(self._store.apply, batch)
                        if self._signal:
                            break
                finally:
                    self._stop = _nobody

    async def _read(self, batch: asyncio.Future[T]) -> T:
        """The next lines of a list. If the run is over before they are there, it ends here, with what is stored."""
        over = asyncio.ensure_future(self._reads_no_more.wait())
        try:
            await asyncio.wait((batch, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        if not batch.done():
            self._console.warn("stopped while a list was read")
            # A list that is a pipe may never end, and nobody can stop who reads it.
            os._exit(await self._ended())
        return await batch

    async def _tell_settled(self) -> None:
        """The pages that are done before any work: lines that are no URL, fresh pages, those not to be asked yet."""
        if not self._console.tells_pages:
            return
        last = 0
        while pages := await self._stored(self._store.settled_after, last, LINES_A_TRANSACTION):
            for _, row in pages:
                self._console.page(row)
            last = pages[-1][0]

    async def _work(self, errand: Errand, hosts: Hosts) -> None:
        """Fetches what is to be fetched and summarizes what has a text; again, if the model comes back meanwhile."""
        # In threads: the client of the model takes 200 ms to import, the vocabulary half a second to read.
        await asyncio.to_thread(importlib.import_module, "pipeline.writers")
        from pipeline import tokens  # noqa: PLC0415
        from pipeline.writers import Writers  # noqa: PLC0415

        await asyncio.to_thread(tokens.count, "")
        async with AsyncExitStack() as stack:
            writers = await stack.enter_async_context(Writers(self._settings, await self._books(), self._console.warn))
            await self._get_ready(writers, errand)
            extractor = await stack.enter_async_context(self._extractor())
            frontier = self._frontier(errand, hosts)
            fetcher = await stack.enter_async_context(self._fetcher(writers.hosts, hosts))

            async def write(task: Task, document: Document) -> Written:
                if not (errand.fetched or self._settings.force) and task.recipe == writers.recipe(task):
                    raise PageNotDone(Reason.SAME_RECIPE)
                return await writers.write(task, document)

            steps = self._steps(errand, frontier, fetcher, extractor, write)
            done = -1
            while True:
                self._recipes = writers.recipes
                await self._until_all_done(frontier, steps)
                # A round that finished no page was for nothing: a page may be what brings the server down.
                before, done = done, (await self._stored(self._store.counts)).get(Outcome.SUMMARIZED.value, 0)
                if done == before or not await self._model_is_back(writers):
                    return
                await self._stored(self._store.wake, Reason.LLM_DOWN)
                frontier.begin_again()
                await writers.get_ready()

    async def _store_texts(self, errand: Errand, hosts: Hosts) -> None:
        """Fetches what is to be fetched, and stores the texts."""
        frontier = self._frontier(errand, hosts)
        async with self._extractor() as extractor, self._fetcher(self._settings.hosts, hosts) as fetcher:
            steps = self._steps(errand, frontier, fetcher, extractor, None)
            await self._until_all_done(frontier, steps)

    async def _get_ready(self, writers: Writers, errand: Errand) -> None:
        """Raises `ModelUnusable` also when the model's server is down and there is nothing to do without it."""
        await writers.get_ready()
        if errand.fetched or await writers.are_back():
            return
        if await self._answers(writers):
            await writers.get_ready()
        elif not self._is_stopping:
            raise ModelUnusable("without its model no text can be summarized anew; nothing has been changed")

    async def _model_is_back(self, writers: Writers) -> bool:
        """Waits for a model that was down, if pages wait for it."""
        waits = not self._limited and await self._stored(self._store.waits_for, Reason.LLM_DOWN)
        return waits and await self._answers(writers)

    async def _answers(self, writers: Writers) -> bool:
        """Whether the model's server answers, within `--model-wait` and before the run is stopped."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.model_wait.total_seconds()
        while not self._is_stopping:
            if await writers.are_back():
                return True
            if loop.time() >= until:
                return False
            await asyncio.sleep(min(MODEL_PROBE_SECONDS, max(0.1, until - loop.time())))
        return False

    async def _until_all_done(self, frontier: Frontier, steps: Steps) -> None:
        """Works until the list is done, and then on the pages at which a run ended by a bug: none waits for them."""
        await self._until_done(frontier, steps)
        if not (self._limited or self._is_stopping) and await self._stored(self._store.waits_for, Reason.BUG):
            await self._stored(self._store.wake, Reason.BUG)
            frontier.begin_again()
            await self._until_done(frontier, steps)

    async def _until_done(self, frontier: Frontier, steps: Steps) -> None:
        """Works until the list is done, the limit is reached, or the grace after a signal or its time has run out."""

        async def next_task() -> Task | None:
            task = await frontier.next()
            self._limited = self._limited or (task is None and frontier.is_full)
            return task

        async def work(task: Task) -> None:
            if task.waits_for_model:
                frontier.done(task)
            if await self._processed(task, steps):
                self._console.page(await self._stored(self._store.result, task.page_id))

        grace = self._settings.grace.total_seconds()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as deadline:

                def stop(now: bool) -> None:
                    """No new page, and `grace` for the rest, or none."""
                    frontier.stop()
                    until = loop.time() + (0.0 if now else grace)
                    deadline.reschedule(min(until, deadline.when() or until))

                self._stop = stop
                if self._is_stopping:
                    stop(False)
                doing = "summarizing" if steps.summarize else "fetching"
                with self._console.progress(doing, await self._stored(self._store.to_do)), _old_objects_left_alone():
                    await engine.run(next_task, work, frontier.done, self._settings.workers)
        except TimeoutError:
            if not self._is_stopping:
                raise
        finally:
            self._stop = _nobody

    async def _ended(self) -> int:
        """Closes the books, tells how it went, and gives the exit code."""
        waiting = (
            Reason.INTERRUPTED
            if self._signal
            else Reason.OUT_OF_TIME
            if self._out_of_time
            else Reason.LIMIT
            if self._limited
            else None
        )
        counts = await self._stored(self._store.counts)
        fault_counts = await self._stored(self._store.fault_counts)
        codes = {128 + self._signal} if self._signal else {0}
        codes |= {reason.meaning.exit_code for _, reason in fault_counts}
        code = next(known for known in PRECEDENCE if known in codes)
        state = "interrupted" if self._signal else "finished"
        await self._stored(self._store.end_run, state, code, waiting.value if waiting else None)
        say = self._console.warn if code else self._console.say
        others = await self._stored(self._store.other_recipes, self._recipes) if self._recipes else 0
        places = (str(self._settings.db), self._store.path)
        lines = partial(report, counts, fault_counts, self._store.faults, *places, others, self._console.lines_left)
        for line in await self._stored(lines):
            say(line)
        return code

    async def _processed(self, task: Task, steps: Steps) -> bool:
        """As `process`; a page at which the run ends by a bug has had its turn (it came early again each night)."""
        started = self._now()
        try:
            return await process(task, steps)
        except Exception as error:
            if _lost(error) is None and out_of_means(error) is None:
                begun = Stage.MAP if task.waits_for_model else Stage.FETCH
                await self._emit(NotDone(task, begun, Refusal(Reason.BUG, innermost(error)), started, self._now()))
            raise

    # What the phases are made of

    def _steps(
        self, errand: Errand, frontier: Frontier, fetcher: Fetcher, extractor: Extractor, write: Write | None
    ) -> Steps:
        async def fetch(task: Task) -> Page | NotModified | Refusal | Later:
            # The next page of its host is fetched while this one is read and summarized.
            try:
                answer = await fetcher.fetch(task)
                if isinstance(answer, Later):
                    again = replace(task, pauses=task.pauses + (answer.refusal is not None))
                    frontier.done(task, again, answer.seconds)
                if isinstance(answer, Page) and await asyncio.to_thread(urls.is_list, answer.body):
                    return await self._listed(task, answer, errand, frontier)
                return answer
            finally:
                frontier.done(task)

        return Steps(fetch, extractor.extract, write, self._emit, self._now, self._settings.respect_noai)

    async def _listed(self, task: Task, page: Page, errand: Errand, frontier: Frontier) -> Refusal:
        """A page that turned out to be a list: its pages are pages of this run. One in such a list is left at that."""
        if task.found:
            return Refusal(Reason.LIST, f"found in another list: give {urls.LIST_PREFIX}{page.url} as a source")
        secret = await self._stored(self._store.secret)
        lines, outcome = await asyncio.to_thread(urls.lines_of_page, page, _check(), secret, since=self._settings.since)
        for row in await self._stored(self._add_found, Added(lines), errand):
            self._console.page(row)
        frontier.look_again()
        return outcome

    def _add_found(self, found: Added, errand: Errand) -> list[sqlite3.Row]:
        """Adds pages to the run while it works; gives those that are done with that."""
        last = self._store.last_item()
        self._store.apply(found)
        self._settle(errand, last)
        return [row for _, row in self._store.settled_after(last, len(found.lines))]

    def _settle(self, errand: Errand, after: int = 0) -> None:
        self._store.settle(
            self._settings.max_age,
            self._settings.force or errand.named,
            done=Reason.FRESH if errand.fetched else Reason.SAME_RECIPE,
            texts_only=not errand.summarized,
            after=after,
        )

    async def _books(self) -> Books:
        from pipeline.summarizer import Memory  # noqa: PLC0415
        from pipeline.writers import Books  # noqa: PLC0415

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
            now=self._now,
        )

    def _frontier(self, errand: Errand, hosts: Hosts) -> Frontier:
        tasks_after = self._bound(partial(self._store.tasks_after, from_text=not errand.fetched))

        def as_asked(task: Task) -> Task:
            if self._settings.force and errand.fetched:
                return task.as_if_new()
            return task if errand.summarized else task.to_be_fetched()

        async def tasks(host: str, position: int, most: int) -> list[tuple[int, Task]]:
            return [(place, as_asked(task)) for place, task in await tasks_after(host, position, most)]

        return Frontier(
            self._bound(self._store.hosts_after),
            tasks,
            hosts.ready_at,
            hosts.spacing,
            hosts.clock,
            hosts.sleep,
            hosts.per_host,
            self._settings.limit,
        )

    def _hosts(self) -> Hosts:
        """How the hosts are to be asked, for lists and pages alike."""
        loop = asyncio.get_running_loop()
        return Hosts(
            self._settings.delay,
            loop.time,
            per_host=self._settings.per_host,
            recall=self._bound(self._store.host),
            emit=self._emit,
            now=self._now,
            time_left=lambda: math.inf if self._ends_at is None else self._ends_at - loop.time(),
        )

    def _fetcher(self, model_hosts: Sequence[str], hosts: Hosts) -> Fetcher:
        return Fetcher(
            self._policy(model_hosts),
            user_agent=self._user_agent(),
            hosts=hosts,
            respect_robots=not self._settings.ignore_robots,
            now=self._now,
            is_list=urls.is_list,
            limits=self._limits,
        )

    def _extractor(self) -> Extractor:
        return Extractor(EXTRACTORS, read=partial(read_page, comments=self._settings.comments == KEEP))

    def _policy(self, model_hosts: Sequence[str]) -> addresses.AddressPolicy:
        settings = self._settings
        return addresses.AddressPolicy(
            allow_private=settings.allow_private_network,
            allowed_networks=settings.allow_network,
            allowed_ports=addresses.WEB_PORTS | set(settings.allow_port),
            proxy=settings.proxy,
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
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def arrived(number: int) -> None:
            first, self._signal = self._signal is None, number
            if first:
                self._console.say("stopping: what is under way may still end; a second signal stops it now")
                loop.call_later(self._settings.grace.total_seconds(), self._reads_no_more.set)
            elif self._stop is _nobody:
                # Before or after the work there is nothing to give up, and what waits may wait for ever. What is stored
                # is safe, and the next run knows that this one did not end.
                os._exit(128 + number)
            self._stop(not first)

        for number in before:
            loop.add_signal_handler(number, arrived, number)
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """After `--max-duration` no page is taken; what is under way has `--grace` to end."""
        if (most := self._settings.max_duration) is None:
            yield
            return

        def over() -> None:
            self._out_of_time = True
            self._console.say("the time is over: what is under way may still end")
            loop.call_later(self._settings.grace.total_seconds(), self._reads_no_more.set)
            self._stop(False)

        loop = asyncio.get_running_loop()
        self._ends_at = loop.time() + most.total_seconds()
        timer = loop.call_at(self._ends_at, over)
        try:
            yield
        finally:
            timer.cancel()

    @property
    def _is_stopping(self) -> bool:
        return self._signal is not None or self._out_of_time


@contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """What is there already is not looked through for garbage again and again.

    That are the modules, 90,000 objects: each look through all of them held everything up for 40 to 75 ms.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _nobody(now: bool) -> None:
    """Who is to stop while nothing is under way."""


def _model_of(settings: Settings, errand: Errand) -> str:
    """What the run's model is called, before it is looked for; empty if none is asked."""
    if not errand.summarized:
        return ""
    if not settings.embedded:
        return settings.model
    from pipeline import embedded  # noqa: PLC0415

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

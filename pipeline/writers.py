"""Settings and profiles into the summarizer of each page: which model writes it, in what words and how long.

There is one client a model for a whole run, and one summarizer a profile; a page is written by the first profile that
its site or one of its tags matches, else by the run's own settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from types import TracebackType
from typing import Self

from pipeline import embedded, prompts, summarize, tokens, toolloop
from pipeline.accept import accepted, kept_point
from pipeline.errors import PageWaits
from pipeline.inflight import InFlight
from pipeline.llm import Model, ModelClient, first_that_answers
from pipeline.page import Emit, Written
from pipeline.records import Document, Recipe, Task
from pipeline.settings import EXTRACTIVE, Profile, Settings
from pipeline.slots import Slots
from pipeline.summarizer import Memory, Summarizer, Vocabulary

DEFAULT_NUM_CTX = 4_096
"""What Ollama itself takes on a CPU and on small graphics cards."""
MOST_NUM_CTX = 16_384
"""Of a context that another program has loaded, what we use: a larger part is not summarized better."""


@dataclass(frozen=True, slots=True)
class Books:
    """What the database knows, and is told, of models and answers."""

    secret: bytes
    memory: Memory
    ratios: Callable[[str], Awaitable[Mapping[str, tuple[int, float]]]]
    failures_to_call: Callable[[str, int], Awaitable[int]]
    add_recipe: Callable[[Recipe], Awaitable[None]]
    emit: Emit
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class _Side:
    """One model, as this run finds it."""

    model: Model
    client: ModelClient
    vocabulary: Vocabulary
    slots: Slots


@dataclass
class Writers:
    """Writes summaries; use it with `async with`. `say` tells people what they may want to know."""

    settings: Settings
    books: Books
    say: Callable[[str], None]
    hosts: Sequence[str] = ()
    """The servers of the run, once it is entered."""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _host: str = ""
    _own_model: str = ""
    _sides: dict[str, _Side] = field(default_factory=dict)
    _writers: list[tuple[Profile, Summarizer]] = field(default_factory=list)
    _contexts: dict[str, int] = field(default_factory=dict)
    """Model → the context that it was loaded with once in this run: another one would load it anew."""

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        self.hosts, self._own_model = self.settings.hosts, self.settings.model
        if self.settings.embedded:
            path = embedded.find_model(self.settings.embedded_model)
            self.hosts = (await self._stack.enter_async_context(embedded.serve(path)),)
            self._own_model = embedded.model_name(path)
        self._host = await first_that_answers(self.hosts)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def get_ready(self) -> None:
        """Asks the server what it has.

        Raises `ModelUnusable` when it lacks a model, `UsageError` when a prompt or the context is no good. When nothing
        answers, each page waits.
        """
        self._sides.clear()
        self._writers = [(profile, await self._writer(profile)) for profile in (*self.settings.profiles, Profile())]

    async def are_back(self) -> bool:
        """Whether the server answers (again)."""
        try:
            for side in self._sides.values():
                await side.client.describe()
        except PageWaits:
            return False
        return True

    async def write(self, task: Task, document: Document) -> Written:
        """The summary of a document, by the first profile that matches. Raises `PageNotDone`."""
        return await self._for(task).write(task, document)

    def recipe(self, task: Task) -> str:
        """By which recipe `write` would do it."""
        return self._for(task).recipe.hash

    @property
    def recipes(self) -> tuple[str, ...]:
        """All recipes of this run; of a model that did not answer it is not known."""
        return tuple(writer.recipe.hash for _, writer in self._writers if writer.recipe.digest)

    def _for(self, task: Task) -> Summarizer:
        return next(writer for profile, writer in self._writers if matches(profile, task))

    async def _writer(self, profile: Profile) -> Summarizer:
        settings, books = profile.over(self.settings), self.books
        side = await self._side(profile.model or self._own_model)
        style = summarize.Style(settings.words, settings.language, settings.style)
        texts = prompts.load(settings.prompts)
        model, client = side.model, side.client
        recipe = summarize.recipe(model.name, model.digest, client.num_ctx, style, texts, client.sampling)
        await books.add_recipe(recipe)
        failures = await books.failures_to_call(recipe.hash, toolloop.TRUSTED_FAILURES)
        writer = Summarizer(
            recipe=recipe,
            style=style,
            prompts=texts,
            chat=client.chat,
            ability=toolloop.Ability(toolloop.Policy(settings.tool_calls), model.tools, failures),
            slots=side.slots,
            secret=books.secret,
            num_ctx=client.num_ctx,
            vocabulary=side.vocabulary,
            accept=lambda written, source, language: accepted(
                written, source, words=style.words, language=language, prompts=tuple(recipe.prompts.values())
            ),
            keep=lambda written, source, language: kept_point(
                written, source, language=language, prompts=tuple(recipe.prompts.values())
            ),
            memory=books.memory,
            emit=books.emit,
            now=books.now,
            allow_partial=settings.allow_partial,
            extractive=settings.fallback == EXTRACTIVE,
            partials=InFlight(),
            finals=InFlight(),
        )
        writer.check()
        return writer

    async def _side(self, name: str) -> _Side:
        if name not in self._sides:
            self._sides[name] = await self._found(name)
        return self._sides[name]

    async def _found(self, name: str) -> _Side:
        settings = self.settings
        seconds = settings.timeout.total_seconds()
        # In a thread: it reads a hundred certificates, also for a server that shows none.
        patience = settings.model_wait.total_seconds()
        new = partial(ModelClient, self._host, name, seconds, dict(settings.option), patience=patience)
        client = await self._stack.enter_async_context(await asyncio.to_thread(new))
        is_down: PageWaits | None = None
        try:
            model = await client.describe()
        except PageWaits as waits:
            self.say(f"{waits.detail} Pages are fetched and wait for it.")
            model, is_down = Model(name, "", tools=False, trained_context=0), waits
        client.num_ctx = self._contexts.get(name) or self._num_ctx(model)
        if not is_down:
            self._contexts[name] = client.num_ctx
        known = model.digest or model.name
        vocabulary = Vocabulary(known, tokens.Ratios(await self.books.ratios(known)))
        client.counted = vocabulary.counted

        async def open_up() -> int:
            if is_down:
                raise PageWaits(is_down.reason, is_down.detail)
            await client.load(client.num_ctx, settings.keep_alive)
            # The embedded model computes one request at a time.
            return settings.parallel or (1 if settings.embedded else await client.slots())

        return _Side(model, client, vocabulary, Slots(open_up))

    def _num_ctx(self, model: Model) -> int:
        """The context of this run, in tokens: a multiple of 256, and no more than the model was trained for."""
        wanted = self.settings.num_ctx or (
            embedded.DEFAULT_CONTEXT
            if self.settings.embedded
            # What is loaded already is taken as it is, if it will do: another context loads the model anew.
            else max(DEFAULT_NUM_CTX, min(model.loaded_context, MOST_NUM_CTX))
        )
        if model.trained_context and wanted > model.trained_context:
            wanted = model.trained_context
            if self.settings.num_ctx:
                self.say(f"{model.name} was trained for {wanted} tokens: more context would be cut in silence")
        return wanted // 256 * 256


def matches(profile: Profile, task: Task) -> bool:
    """Whether a profile is for this page; one that names neither sites nor tags is for every page."""
    host = task.host.rpartition(":")[0] if task.host.rpartition(":")[2].isdigit() else task.host
    by_site = any(fnmatchcase(host, site) or host.endswith(f".{site}") for site in profile.sites)
    named = profile.sites or profile.tags
    return not named or by_site or not profile.tags.isdisjoint(task.tags)

"""How one run summarizes: its model, its recipe and the answers that are kept, behind one `write`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from pipeline import prompts, summarize, tokens, toolloop
from pipeline.chunk import split
from pipeline.inflight import InFlight
from pipeline.page import Emit, Written
from pipeline.records import (
    Chunk,
    Chunked,
    ChunkSummarized,
    Document,
    Final,
    Partial,
    PartsReduced,
    Recipe,
    Task,
)

Ask = Callable[[], Awaitable[Partial]]
Recall = Callable[[str, str], Awaitable[Partial | None]]


@dataclass(frozen=True, slots=True)
class Memory:
    """What was answered before, by (hash, recipe): `None`, or no chunks, for what was not."""

    chunks: Callable[[str], Awaitable[list[Chunk]]]
    map: Recall
    reduce: Recall
    final: Callable[[str, str], Awaitable[Final | None]]


@dataclass(frozen=True, slots=True)
class Summarizer:
    """Writes the summary of a document, asking the model only for what was never answered by this recipe."""

    recipe: Recipe
    style: summarize.Style
    chat: toolloop.Chat
    mode: toolloop.Mode
    secret: bytes
    num_ctx: int
    ratios: tokens.Ratios
    memory: Memory
    emit: Emit
    now: Callable[[], datetime]
    partials: InFlight[Partial]
    finals: InFlight[Written]

    def check(self) -> None:
        """Raises `UsageError` when the context has no room for a page, even one with a long URL."""
        summarize.limit("http://" + "u" * summarize.SPOKEN_CHARACTERS, self.style, self.num_ctx, self._measure)

    async def write(self, task: Task, document: Document) -> Written:
        """The summary of a document. Raises `PageNotDone`; each answer on the way is kept as it comes."""
        if summarize.is_short(document.text, self.style):
            return Written(summarize.verbatim(document.text), self.recipe.hash, "verbatim", 0)
        return await self.finals.once(document.hash, partial(self._written, task, document))

    async def _written(self, task: Task, document: Document) -> Written:
        kit = self._kit(task)
        chunks = await self._chunks(task, document, kit)
        final = await self.memory.final(document.hash, self.recipe.hash)
        if final is None:
            final = await summarize.whole(chunks, kit)
        return Written(final, self.recipe.hash, "single" if len(chunks) == 1 else "map_reduce", len(chunks))

    async def _chunks(self, task: Task, document: Document, kit: summarize.Kit) -> list[Chunk]:
        """How the text is cut: as it was, as far as that still fits."""
        before = await self.memory.chunks(document.hash) or await self.memory.chunks(task.text_hash)
        chunks = split(document.text, kit.limit, kit.measure, [chunk.text for chunk in before])
        if chunks != before:
            await self.emit(Chunked(document.hash, tuple(chunks)))
        return chunks

    def _kit(self, task: Task) -> summarize.Kit:
        async def once_map(key: str, ask: Ask) -> Partial:
            return await self._once(task, "map", key, ask)

        async def once_reduce(key: str, ask: Ask) -> Partial:
            return await self._once(task, "reduce", key, ask)

        return summarize.Kit(
            url=summarize.spoken(task.url),
            chat=self.chat,
            mode=self.mode,
            once_map=once_map,
            once_reduce=once_reduce,
            secret=self.secret,
            style=self.style,
            measure=self._measure,
            limit=summarize.limit(task.url, self.style, self.num_ctx, self._measure),
        )

    def _measure(self, text: str) -> int:
        return tokens.estimate(prompts.defused(text), self.ratios)

    async def _once(self, task: Task, step: str, key: str, ask: Ask) -> Partial:
        """An answer from the database, from another page that asks for it just now, or from the model."""

        async def answered() -> Partial:
            recall = self.memory.map if step == "map" else self.memory.reduce
            known = await recall(key, self.recipe.hash)
            if known is not None:
                return known
            started = self.now()
            answer = await ask()
            event = ChunkSummarized if step == "map" else PartsReduced
            await self.emit(event(task, key, self.recipe.hash, answer, started, self.now()))
            return answer

        return await self.partials.once(f"{step} {key}", answered)

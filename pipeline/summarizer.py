"""How one run summarizes: its model, its recipe and the answers that are kept, behind one `write`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import count

from pipeline import language_names, prompts, summarize, tokens, toolloop
from pipeline.accept import worth
from pipeline.chunk import split
from pipeline.errors import PageFailed, UsageError
from pipeline.evidence import CARRIED, claims
from pipeline.evidence import evidence as found
from pipeline.extractive import extract
from pipeline.inflight import InFlight
from pipeline.languages import language_of, not_in, sample
from pipeline.page import Emit, Written
from pipeline.prompts import Prompts
from pipeline.records import (
    Chunk,
    Chunked,
    ChunkSummarized,
    Document,
    Evidence,
    Final,
    Measured,
    Partial,
    PartsReduced,
    Reason,
    Recipe,
    Task,
)
from pipeline.slots import Slots
from pipeline.verify import flags

Ask = Callable[[], Awaitable[Partial]]
Recall = Callable[[str, str], Awaitable[Partial | None]]


@dataclass(frozen=True, slots=True)
class Memory:
    """What was answered before, by (hash, recipe): `None`, or no chunks, for what was not."""

    chunks: Callable[[str], Awaitable[list[Chunk]]]
    map: Recall
    reduce: Recall
    final: Callable[[str, str], Awaitable[Final | None]]


class Vocabulary:
    """How many tokens this run's model makes of a text, learned from what its server counts.

    What is learned counts from the next run on: how a page is cut does not hang on the pages before it.
    """

    def __init__(self, model: str, ratios: tokens.Ratios) -> None:
        self._model = model
        self._known = ratios
        self._ratios = ratios
        self._saved = ratios

    def measure(self, text: str) -> int:
        """Tokens of a text as a model is shown it, at most."""
        return tokens.estimate(prompts.defused(text), self._known)

    def counted(self, units: Mapping[str, int], real: int) -> None:
        """A prompt of so many `tokens.units` had `real` tokens."""
        self._ratios = tokens.learn(self._ratios, [(units, real)])

    def news(self) -> Measured | None:
        """What has been learned since it was last asked for; `None`: nothing."""
        if self._ratios == self._saved:
            return None
        self._saved = self._ratios
        return Measured(self._model, self._ratios.seen)


@dataclass(frozen=True, slots=True)
class Summarizer:
    """Writes the summary of a document, asking the model only for what was never answered by this recipe."""

    recipe: Recipe
    style: summarize.Style
    prompts: Prompts
    chat: toolloop.Chat
    ability: toolloop.Ability
    slots: Slots
    secret: bytes
    num_ctx: int
    vocabulary: Vocabulary
    accept: Callable[[str, str, str], str]
    """(what the model wrote, what it was shown, the language) → what is kept. Raises `PageFailed`."""
    keep: Callable[[str, str, str], str]
    """The same for a key point; empty if it is none."""
    memory: Memory
    emit: Emit
    now: Callable[[], datetime]
    allow_partial: bool
    extractive: bool
    """Whether a page for which the model has no summary gets sentences of its own text."""
    partials: InFlight[Partial]
    finals: InFlight[Written]
    _ages: Iterator[int] = field(default_factory=count)

    def check(self) -> None:
        """Raises `UsageError` when the context has no room for a page, even one with a long URL."""
        self._limit("http://" + "u" * summarize.SPOKEN_CHARACTERS, self.style.language_for(""))

    async def write(self, task: Task, document: Document) -> Written:
        """The summary of a document. Raises `PageNotDone`; each answer on the way is kept as it comes."""
        if summarize.is_short(document.text, self.style):
            return Written(summarize.verbatim(document.text), self.recipe.hash, document.language, "verbatim", 0)
        try:
            written = await self.finals.once(document.hash, partial(self._written, task, document))
        except PageFailed as failed:
            sentences = await asyncio.to_thread(extract, document.text, self.style.words) if self.extractive else ""
            if not sentences:
                raise
            final = Final(sentences, (), ("extractive", failed.reason.value))
            return Written(final, self.recipe.hash, document.language, "verbatim", 0)
        if news := self.vocabulary.news():
            await self.emit(news)
        return written

    async def _written(self, task: Task, document: Document) -> Written:
        kit = self._kit(task, document)
        chunks = await self._chunks(task, document, kit)
        final = await self.memory.final(document.hash, self.recipe.hash)
        if final is not None:
            whole = summarize.Whole(final, tuple(chunks), {})
        else:
            whole = await summarize.whole(chunks, kit)
        # In a thread: a text of a megabyte is looked through for seconds.
        lacking, evidence = await asyncio.to_thread(_checked, whole.final, document.text)
        partly = ("partial",) if whole.left_out else ()
        named = tuple(dict.fromkeys((*whole.final.flags, *partly, *lacking)))
        return Written(
            final=replace(whole.final, flags=named),
            recipe=self.recipe.hash,
            language=kit.language,
            method="single" if len(whole.chunks) == 1 else "map_reduce",
            chunks=len(whole.chunks),
            coverage=whole.coverage,
            left_out=whole.left_out,
            evidence=evidence,
            parts=tuple(chunk.hash for chunk in whole.chunks),
        )

    async def _chunks(self, task: Task, document: Document, kit: summarize.Kit) -> list[Chunk]:
        """How the text is cut: as it was, as far as that still fits."""
        # A run that was killed, or a model that was down, may have left a fetched text that was never cut.
        before: list[Chunk] = []
        for known in (document.hash, task.text_hash, task.summarized_hash):
            before = before or await self.memory.chunks(known)
        # In a thread: the tokens of a megabyte are counted for a second.
        kept = [chunk.text for chunk in before]
        chunks = await asyncio.to_thread(split, document.text, kit.limit, kit.measure, kept)
        if chunks != before:
            await self.emit(Chunked(document.hash, tuple(chunks)))
        return chunks

    def _kit(self, task: Task, document: Document) -> summarize.Kit:
        declared = language_names.code_of(document.language)
        language = self.style.language_for(language_of(sample(document.text), declared))

        async def once_map(key: str, ask: Ask) -> Partial:
            return await self._once(task, "map", key, ask)

        async def once_reduce(key: str, ask: Ask) -> Partial:
            return await self._once(task, "reduce", key, ask)

        async def recut(chunks: Sequence[Chunk]) -> None:
            await self.emit(Chunked(document.hash, tuple(chunks)))

        return summarize.Kit(
            url=summarize.spoken(task.url),
            title=document.title[: summarize.SPOKEN_CHARACTERS],
            language=language,
            chat=self.chat,
            ability=self.ability,
            place=partial(self.slots.place, next(self._ages)),
            once_map=once_map,
            once_reduce=once_reduce,
            recut=recut,
            secret=self.secret,
            style=self.style,
            prompts=self.prompts,
            measure=self.vocabulary.measure,
            limit=self._limit_of(task, language),
            accept=lambda written, source: self.accept(written, source, language),
            keep=lambda written, source: self.keep(written, source, language),
            worth=worth,
            allow_partial=self.allow_partial,
        )

    def _limit_of(self, task: Task, language: str) -> int:
        """The same, for a page that may need more room than `check` asked for: more tokens a word, or for its URL."""
        try:
            return self._limit(task.url, language)
        except UsageError as error:
            raise PageFailed(Reason.LLM_CONTEXT, str(error)) from error

    def _limit(self, url: str, language: str) -> int:
        """The tokens that a part of a page may have. Raises `UsageError` when the context has no room for any."""
        return summarize.limit(url, self.style, language, self.prompts, self.num_ctx, self.vocabulary.measure)

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


def _checked(final: Final, source: str) -> tuple[tuple[str, ...], tuple[Evidence, ...]]:
    """What in a summary does not stand in its source, as flags; and for each claim the passage that carries it best."""
    # By words: in another language than its source a summary has none of them.
    lacking = flags(final.summary, final.key_points, source)
    if not_in("source", final.summary, source):
        return (*lacking, "unchecked"), ()
    evidence = found(claims(final.summary, final.key_points), source)
    unsupported = ("unsupported",) if any(each.score < CARRIED for each in evidence) else ()
    return (*lacking, *unsupported), evidence

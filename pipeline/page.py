"""One page through all the arrows: fetch, extract, chunk, summarize; each step's event is stored at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pipeline import marks
from pipeline.errors import PageNotDone
from pipeline.records import (
    Document,
    Event,
    Evidence,
    Fetched,
    Final,
    Later,
    NotDone,
    NotModified,
    Page,
    Paused,
    Reason,
    Refusal,
    Stage,
    Summarized,
    Task,
    Unchanged,
)

Emit = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Written:
    """A summary with what the store wants to know of how it came about."""

    final: Final
    recipe: str
    language: str
    method: str
    chunks: int
    coverage: float = 1.0
    left_out: Mapping[int, str] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done with a page; each step is handed in, none is known here."""

    fetch: Callable[[Task], Awaitable[Page | NotModified | Refusal | Later]]
    extract: Callable[[Page], Awaitable[Document | Refusal]]
    summarize: Callable[[Task, Document], Awaitable[Written]] | None
    """Raises `PageNotDone`; stores the partial answers by itself as they come. `None`: only the texts are wanted."""
    emit: Emit
    now: Callable[[], datetime]
    respects_marks: bool = False
    """Whether a page that asks not to be read or indexed is passed over."""


async def process(task: Task, steps: Steps) -> bool:
    """Carries one page as far as it goes, and gives whether it has ended: with exactly one event that closes its item.

    If not, its host is to be asked later, and the page comes again.
    """
    document = task.document if task.waits_for_model else await _read(task, steps)
    if not isinstance(document, Document):
        return document is None
    started = steps.now()
    if await _asks_not_to_be_read(task, document, started, steps):
        return True
    if steps.summarize is None:
        await _not_done(task, None, Refusal(Reason.FETCH_ONLY), started, steps)
        return True
    try:
        written = await steps.summarize(task, document)
    except PageNotDone as fault:
        await _not_done(task, Stage.MAP, Refusal(fault.reason, fault.detail), started, steps)
        return True
    await steps.emit(
        Summarized(
            task,
            document.hash,
            written.recipe,
            written.final,
            written.language,
            written.method,
            written.coverage,
            written.chunks,
            started,
            steps.now(),
            written.left_out,
            written.evidence,
            written.parts,
        )
    )
    return True


async def _read(task: Task, steps: Steps) -> Document | Later | None:
    """The document that is to be summarized; `None` when the page has ended here."""
    started = steps.now()
    page = await steps.fetch(task)
    if isinstance(page, Later | Refusal):
        return await _no_page(task, page, started, steps)
    if isinstance(page, NotModified):
        if task.summarized or task.document is None or steps.summarize is None:
            await steps.emit(Unchanged(task, Reason.NOT_MODIFIED, started, steps.now()))
            return None
        return task.document
    document = await steps.extract(page)
    if isinstance(document, Refusal):
        await _not_done(task, Stage.EXTRACT, document, started, steps)
        return None
    return await _kept(task, page, replace(document, marks=marks.both(page.marks, document.marks)), started, steps)


async def _kept(task: Task, page: Page, document: Document, started: datetime, steps: Steps) -> Document | None:
    """The document, stored, if it is to be summarized; `None` when the page has ended here."""
    if await _asks_not_to_be_read(task, document, started, steps):
        return None
    if document.hash == task.text_hash and task.summarized:
        await steps.emit(Unchanged(task, Reason.SAME_TEXT, started, steps.now(), page, document))
        return None
    await steps.emit(Fetched(task, page, document, started, steps.now()))
    return document


async def _no_page(task: Task, why: Later | Refusal, started: datetime, steps: Steps) -> Later | None:
    if isinstance(why, Refusal):
        await _not_done(task, Stage.FETCH if why.tried else None, why, started, steps)
        return None
    if why.refusal:
        await steps.emit(Paused(task, why.refusal, started, steps.now()))
    return why


async def _asks_not_to_be_read(task: Task, document: Document, started: datetime, steps: Steps) -> bool:
    """Whether the page has ended here, because it says so and that counts."""
    if not (steps.respects_marks and document.marks):
        return False
    refusal = Refusal(Reason.NOAI, f"it says {', '.join(document.marks)}")
    await steps.emit(NotDone(task, Stage.EXTRACT, refusal, started, steps.now(), document.marks))
    return True


async def _not_done(task: Task, stage: Stage | None, refusal: Refusal, started: datetime, steps: Steps) -> None:
    await steps.emit(NotDone(task, stage, refusal, started, steps.now()))

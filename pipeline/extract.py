"""A page into the document in it: the one module that knows trafilatura.

It runs in worker processes that are killed one by one when they take too long: a thread cannot be stopped, and
one broken page must lose nothing but itself. They are started by `spawn`, hold none of our files and end with us.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self

import pebble

from pipeline.records import Document, Page, Reason, Refusal

EXTRACT_SECONDS = 20.0
START_SECONDS = 60.0
"""That a worker may take to start before its pool is given up: it loads trafilatura, on a busy machine too."""
WORKER_BYTES = 2 << 30
"""Of address space for one worker; lxml needs about 20 times the page."""
TRIES = 2
"""A worker may have been killed for another's greed: the page is tried once more, on a fresh one."""
SHELL_CHARACTERS = 400
"""A text shorter than this that asks for JavaScript is the notice of an empty page, not a page."""

_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_WANTS_JAVASCRIPT = re.compile(
    r"\b(enable|turn on|activate|requires?|needs?)\b[^.]{0,40}\bjava ?script\b", re.IGNORECASE
)

Read = Callable[[Page], Document | Refusal]


class Extractor:
    """A pool of worker processes; use it with `async with`.

    `read` is what a worker does with a page; it must be known to a fresh process by its module and name.
    """

    def __init__(
        self,
        processes: int,
        seconds: float = EXTRACT_SECONDS,
        *,
        most_bytes: int = WORKER_BYTES,
        read: Read | None = None,
    ) -> None:
        self._processes = processes
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._read = read or read_page
        self._free = asyncio.Semaphore(processes)
        self._pool = self._new_pool()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(self._pool)

    async def extract(self, page: Page) -> Document | Refusal:
        """The document of a page, or why there is none."""
        # A page is handed over when a worker is free for it, so that its wait has a bound.
        async with self._free:
            for _ in range(TRIES):
                try:
                    return await self._try(page)
                except (pebble.ProcessExpired, BrokenProcessPool) as error:
                    crash = Refusal(Reason.EXTRACT_CRASH, str(error)[:200])
            return crash

    async def _try(self, page: Page) -> Document | Refusal:
        """One try. Raises `ProcessExpired` when its worker died, `BrokenProcessPool` when the pool did."""
        pool = self._pool
        try:
            future = _scheduled(pool, self._read, self._seconds, page)
            async with asyncio.timeout(self._seconds + START_SECONDS) as clock:
                result: Document | Refusal = await asyncio.wrap_future(future)
        except TimeoutError:
            if not clock.expired():
                return Refusal(Reason.EXTRACT_TIMEOUT, f"longer than {self._seconds:g} s")
            await self._replace(pool)
            raise BrokenProcessPool("no worker took the page") from None
        except MemoryError:
            return Refusal(Reason.EXTRACT_MEMORY, f"more than {self._most_bytes >> 20} MiB")
        except BrokenProcessPool:
            await self._replace(pool)
            raise
        return result

    async def _replace(self, broken: pebble.ProcessPool) -> None:
        if self._pool is broken:
            self._pool = self._new_pool()
            await self._end(broken)

    def _new_pool(self) -> pebble.ProcessPool:
        pebble.CONSTS.term_timeout = 0.2
        return pebble.ProcessPool(
            max_workers=self._processes,
            initializer=_start_worker,
            initargs=(os.getpid(), self._most_bytes),
            context=multiprocessing.get_context("spawn"),
        )

    @staticmethod
    async def _end(pool: pebble.ProcessPool) -> None:
        pool.stop()
        await asyncio.to_thread(pool.join)


def _scheduled(pool: pebble.ProcessPool, read: Read, seconds: float, page: Page) -> Future[Document | Refusal]:
    try:
        future: Future[Document | Refusal] = pool.schedule(_bounded, args=(read, seconds, page), timeout=seconds)
    except RuntimeError as error:  # what pebble says when it broke before: an idle worker was killed, say
        raise BrokenProcessPool(str(error)) from error
    return future


def _bounded(read: Read, seconds: float, page: Page) -> Document | Refusal:
    """What a worker runs. The bound on its time is the pool's; this one counts when there is no pool any more."""
    soon = int(time.process_time() + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soon, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    return read(page)


def read_page(page: Page) -> Document | Refusal:
    """The main text of a page as Markdown (plain text loses the headings), cleaned, with its metadata."""
    # Imported here, in the worker: it takes a second, and the program itself never needs it.
    import trafilatura  # noqa: PLC0415

    if page.content_type.startswith("text/") and page.content_type != "text/html":
        return _document(_decoded(page.body, page.charset), page, {})
    found = trafilatura.bare_extraction(
        page.body,
        url=page.final_url,
        output_format="python",
        with_metadata=True,
        include_comments=True,
        include_links=False,
        include_formatting=True,
    )
    if found is None:
        return _no_text(page, "")
    fields = found if isinstance(found, dict) else found.as_dict()
    text = "\n\n".join(part for part in (fields.get("text"), fields.get("comments")) if part)
    return _document(text, page, fields)


def _document(text: str, page: Page, fields: dict[str, object]) -> Document | Refusal:
    cleaned = clean(text)
    if len(cleaned) < SHELL_CHARACTERS and _WANTS_JAVASCRIPT.search(cleaned):
        return Refusal(Reason.JS_SHELL, cleaned[:200])
    if not cleaned:
        return _no_text(page, cleaned)

    def field(name: str, most: int = 300) -> str:
        return " ".join(clean(str(fields.get(name) or "")).split())[:most]

    return Document(
        cleaned, field("title"), field("author"), field("sitename"), field("language", 20), field("date", 40)
    )


def _no_text(page: Page, text: str) -> Refusal:
    head = _decoded(page.body[:200_000], page.charset)
    if _WANTS_JAVASCRIPT.search(re.sub(r"<[^>]*>", " ", head)):
        return Refusal(Reason.JS_SHELL, "the page only asks for JavaScript")
    return Refusal(Reason.NO_TEXT, f"{len(text.split())} words")


def _decoded(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset or "utf-8", "replace")
    except (LookupError, UnicodeError):  # no charset, or one of Python's that is not for texts
        return body.decode("utf-8", "replace")


def clean(text: str) -> str:
    """NFC, without control and invisible characters (bidi marks, tags, variation selectors), stripped at the ends."""
    storable = text.encode("utf-8", "replace").decode("utf-8")
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", storable)).strip()


def _start_worker(parent: int, most_bytes: int) -> None:
    """A worker ends when its parent does, leaves signals of the terminal to it, and is bounded in memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # The signal comes when the thread ends that started the worker: that of the pool, or of the program.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    if os.getppid() != parent:
        os._exit(1)
    # Here, so that no page pays for it: it takes a second, and more on a busy machine.
    importlib.import_module("trafilatura")

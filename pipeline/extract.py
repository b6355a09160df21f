"""A page into the document in it: the one module that knows trafilatura.

It runs in worker processes that are killed one by one when they take too long: a thread cannot be stopped, and
one broken page must lose nothing but itself. They are started by `spawn`, hold none of our files and end with us.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import re
import resource
import signal
import sys
import unicodedata
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Self

import pebble

from pipeline.records import Document, Page, Reason, Refusal

EXTRACT_SECONDS = 20.0
WORKER_BYTES = 2 << 30
"""Of address space for one worker; lxml needs about 20 times the page."""
SHELL_CHARACTERS = 400
"""A text shorter than this that asks for JavaScript is the notice of an empty page, not a page."""

_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_WANTS_JAVASCRIPT = re.compile(
    r"\b(enable|turn on|activate|requires?|needs?)\b[^.]{0,40}\bjava ?script\b", re.IGNORECASE
)


class Extractor:
    """A pool of worker processes; use it with `async with`."""

    def __init__(self, processes: int, seconds: float = EXTRACT_SECONDS) -> None:
        self._seconds = seconds
        self._pool = pebble.ProcessPool(
            max_workers=processes,
            initializer=_start_worker,
            initargs=(os.getpid(), WORKER_BYTES),
            context=multiprocessing.get_context("spawn"),
        )

    async def __aenter__(self) -> Self:
        pebble.CONSTS.term_timeout = 0.2
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.stop()
        await asyncio.to_thread(self._pool.join)

    async def extract(self, page: Page) -> Document | Refusal:
        """The document of a page, or why there is none."""
        future = self._pool.schedule(read, args=(page,), timeout=self._seconds)
        try:
            result: Document | Refusal = await asyncio.wrap_future(future)
        except TimeoutError:
            return Refusal(Reason.EXTRACT_TIMEOUT, f"longer than {self._seconds:g} s")
        except (pebble.ProcessExpired, CancelledError) as error:
            if isinstance(error, CancelledError) and not future.cancelled():
                raise
            return Refusal(Reason.EXTRACT_CRASH, str(error)[:200])
        except MemoryError:
            return Refusal(Reason.EXTRACT_MEMORY, f"more than {WORKER_BYTES >> 20} MiB")
        return result


def read(page: Page) -> Document | Refusal:
    """The main text of a page as Markdown (plain text loses the headings), cleaned, with its metadata."""
    # Imported here, in the worker: it takes a second, and the program itself never needs it.
    import trafilatura  # noqa: PLC0415

    if page.content_type.startswith("text/") and page.content_type != "text/html":
        return _document(page.body.decode(page.charset or "utf-8", "replace"), page, {})
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
    head = page.body[:200_000].decode(page.charset or "utf-8", "replace") if _known(page.charset) else ""
    if _WANTS_JAVASCRIPT.search(re.sub(r"<[^>]*>", " ", head)):
        return Refusal(Reason.JS_SHELL, "the page only asks for JavaScript")
    return Refusal(Reason.NO_TEXT, f"{len(text.split())} words")


def _known(charset: str) -> bool:
    try:
        "".encode(charset or "utf-8")
    except LookupError:
        return False
    return True


def clean(text: str) -> str:
    """NFC, without control and invisible characters (bidi marks, tags, variation selectors), stripped at the ends."""
    storable = text.encode("utf-8", "replace").decode("utf-8")
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", storable)).strip()


def _start_worker(parent: int, most_bytes: int) -> None:
    """A worker ends when its parent does, leaves signals of the terminal to it, and is bounded in memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    if os.getppid() != parent:
        os._exit(1)

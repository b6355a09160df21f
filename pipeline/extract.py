"""A page into the document in it.

It runs in worker processes that are killed one by one when they take too long: one broken page must lose nothing but
itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import re
import sys
import traceback
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

from pipeline import maintext
from pipeline.charsets import decode
from pipeline.pdf import is_pdf, read_pdf
from pipeline.records import Document, Page, Reason, Refusal
from pipeline.visible import asked, canonical, invisible, language, see, signs, without_invisible
from pipeline.walls import FEWEST_CHARACTERS, SHORT_CHARACTERS, wall
from pipeline.worker import BYTES, START_SECONDS, Worker

EXTRACT_SECONDS = 20.0
SPARE_SECONDS = 10.0
"""After which a worker's own limits of time have failed."""
LARGE_BYTES = 1_000_000
"""A page of 2.4 MB left a worker with 101 MB, and with 49 after it had given back what it could."""
MOST_URL_CHARACTERS = 2_083
TRIES = 2
"""A worker may have been killed for another's greed: the page is tried once more, on a fresh one."""

_MARKUP = re.compile(r"<(?:[a-z!/?])", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_HEADING = re.compile(r"^#{1,2}[ \t]+(.{1,500})", re.MULTILINE)
_LINE_END = re.compile("\r\n?|[\u000b\u000c\u0085\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")

Read = Callable[[Page], Document | Refusal]


class Extractor:
    """So many pages at once into their documents, each in a worker; use it with `async with`.

    `read` is what a worker does with a page; it must be known to a fresh process by its module and name.
    """

    def __init__(
        self,
        processes: int,
        seconds: float = EXTRACT_SECONDS,
        *,
        most_bytes: int = BYTES,
        read: Read | None = None,
    ) -> None:
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._read = read or read_page
        self._free = asyncio.Semaphore(processes)
        # A worker ends with the thread that started it: these stay until the end.
        self._threads = ThreadPoolExecutor(processes, "extract")
        self._idle: list[Worker] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        for idle in self._idle:
            idle.end()
        self._threads.shutdown()

    async def extract(self, page: Page) -> Document | Refusal:
        """The document of a page, or why there is none."""
        # A page is handed over when a worker is free for it, so that its wait has a bound.
        async with self._free:
            for number in range(TRIES):
                try:
                    return await self._try(page, fresh=number > 0)
                except TimeoutError as error:
                    return Refusal(Reason.EXTRACT_TIMEOUT, str(error))
                except MemoryError:
                    return Refusal(Reason.EXTRACT_MEMORY, f"more than {self._most_bytes >> 20} MiB")
                except ChildProcessError as error:
                    crash = Refusal(Reason.EXTRACT_CRASH, str(error))
            return crash

    async def _try(self, page: Page, *, fresh: bool) -> Document | Refusal:
        """One try, as a worker's `call`. A page that is no longer waited for is stopped with its worker."""
        loop = asyncio.get_running_loop()
        one = self._idle.pop() if self._idle else None
        if one and fresh:  # whatever has killed the first may have killed all
            await loop.run_in_executor(self._threads, one.end)
            one = None
        one = one or Worker(self._most_bytes, _get_ready)
        call = partial(one.call, self._seconds, _bounded, self._read, page)
        try:
            async with asyncio.timeout(START_SECONDS + self._seconds + SPARE_SECONDS) as clock:
                found = await loop.run_in_executor(self._threads, call)
        except asyncio.CancelledError:
            one.kill()
            raise
        except TimeoutError:
            if not clock.expired():
                raise
            # Seen with too little memory for a thread: it had ended by an error that nobody was told of.
            one.kill()
            raise ChildProcessError("the thread of its process has ended") from None
        if one.is_usable:
            self._idle.append(one)
        return found


def _bounded(read: Read, page: Page) -> Document | Refusal:
    """What a worker runs."""
    try:
        return read(page)
    except MemoryError:
        raise
    except Exception as error:
        # What a page makes a library raise can be anything, and one page must not end the night: it says where.
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(last.filename)}:{last.lineno}"
        return Refusal(Reason.EXTRACT_CRASH, f"{type(error).__name__} in {place}: {' '.join(str(error).split())}"[:200])
    finally:
        if len(page.body) > LARGE_BYTES:
            _forget()


def _forget() -> None:
    """Gives back what a large page leaves behind: texts in trafilatura's caches, and in those of the C library."""
    maintext.forget()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def read_page(page: Page, *, comments: bool = True) -> Document | Refusal:
    """The main text of a page as Markdown (plain text loses the headings), cleaned, with its metadata.

    Without `comments` what readers have written under it is left out, which are also the replies of a thread.
    """
    found = _read(page, comments)
    if isinstance(found, Refusal) or found.canonical:
        return found
    return replace(found, canonical=_canonical(page.canonical, page.final_url))


def _read(page: Page, comments: bool) -> Document | Refusal:
    if is_pdf(page.content_type, page.body):
        return _from_pdf(page.body)
    text = decode(page.body, page.charset)
    is_markup = page.content_type in ("text/html", "application/xhtml+xml") or not page.content_type
    if is_markup and _MARKUP.search(text):
        return _from_markup(text, page, comments)
    return _from_text(text, page.content_type == "text/markdown")


def _from_pdf(body: bytes) -> Document | Refusal:
    found = read_pdf(body)
    if isinstance(found, Refusal):
        return found
    cleaned = clean(found.text)
    if len(cleaned) < FEWEST_CHARACTERS:
        return Refusal(Reason.NO_TEXT, f"{found.pages} pages without a letter")
    return Document(
        cleaned,
        _line(found.title),
        _line(found.author),
        "",
        _line(found.language)[:20],
        found.published,
        invisible(found.text),
    )


def _line(text: object, most: int = 300) -> str:
    return " ".join(clean(str(text or "")).split())[:most]


def _from_text(text: str, is_markdown: bool) -> Document | Refusal:
    # Comments are not shown when Markdown is; all else that stands in it is.
    shown = _COMMENT.sub("", text) if is_markdown else text
    cleaned = clean(shown)
    if len(cleaned) < FEWEST_CHARACTERS:
        return Refusal(Reason.NO_TEXT, f"{len(cleaned.split())} words")
    heading = _HEADING.search(cleaned) if is_markdown else None
    hidden = len(text) - len(shown) + invisible(shown)
    return Document(cleaned, _line(heading[1].rstrip("# \t") if heading else ""), hidden_characters=hidden)


def _from_markup(markup: str, page: Page, comments: bool) -> Document | Refusal:
    seen = see(markup)
    if seen is None:
        return Refusal(Reason.NO_TEXT, "an empty page")
    cleaned = clean(maintext.main_text(seen, page.final_url, comments=comments))
    if len(cleaned) < SHORT_CHARACTERS and (refusal := wall(signs(seen, cleaned))):
        return refusal

    said = maintext.said(seen, page.final_url)
    return Document(
        cleaned,
        _line(said.title),
        _line(said.author),
        _line(said.site),
        language(seen.tree),
        said.published,
        seen.hidden_characters,
        _canonical(canonical(seen.tree), page.final_url),
        asked(seen.tree),
    )


def _canonical(given: str, base: str) -> str:
    """What may be noted of a canonical link: a whole http(s) URL that shows no password, or nothing."""
    try:
        parts = urlsplit(url := urljoin(base, given)) if given else urlsplit("")
    except ValueError:
        return ""
    usable = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    return url if usable and len(url) <= MOST_URL_CHARACTERS and url.isprintable() else ""


def clean(text: str) -> str:
    """NFC, without control and invisible characters (bidi marks, tags, variation selectors), stripped at the ends.

    What ends a line or a page in any system is a line feed; half a surrogate pair, which nothing can store, is U+FFFD.
    """
    lines = _LINE_END.sub("\n", text)
    return unicodedata.normalize("NFC", without_invisible(_SURROGATE.sub("\ufffd", lines))).strip()


def _get_ready() -> None:
    logging.disable(logging.CRITICAL)  # of the libraries: what came of a page is said once, by us
    maintext.load()  # here, so that no page pays for it

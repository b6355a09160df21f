"""What a worker of the extractor is handed in tests: the body of a page says what becomes of the worker."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

from pipeline.extract import Extractor, read_page
from pipeline.records import Document, Page, Refusal

MOST_BYTES = 1 << 30


def page(body: bytes | str, media: str = "text/html", charset: str = "", url: str = "http://site.test/page") -> Page:
    """A page as it comes from a site."""
    return Page(url, url, 200, media, charset, body if isinstance(body, bytes) else body.encode())


def act(page: Page) -> Document | Refusal:  # noqa: C901, PLR0912 - one line for each thing to do
    """Does what the body says."""
    match page.body.decode().split():
        case ["hang", *fifo]:
            _hang(*fifo)
        case ["abort"]:
            os.abort()
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["exit"]:
            os._exit(0)
        case ["eat"]:
            bytearray(MOST_BYTES)
        case ["kill-once", path] if not Path(path).exists():
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case ["raise"]:
            raise IndexError("no such\nelement")
        case ["recurse"]:
            return act(page)
        case ["article", *_]:
            return read_page(page)
        case ["caches"]:
            import trafilatura.utils

            return Document(str(trafilatura.utils.trim.cache_info().currsize))
        case ["limits"]:
            limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS)]
            interrupt = "ignored" if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else "heard"
            return Document(" ".join(map(str, [*limits, multiprocessing.get_start_method(allow_none=True), interrupt])))
    return Document(f"{os.getpid()}")


def _hang(fifo: str = "") -> None:
    if fifo:
        Path(fifo).write_text(str(os.getpid()))
    while True:
        pass


async def _hold(fifo: str) -> None:
    """Two workers: one is idle, one is busy without end."""
    async with Extractor(2, 600.0, read=act) as extractor, asyncio.TaskGroup() as tasks:
        await asyncio.gather(*(extractor.extract(page("pid")) for _ in range(2)))
        tasks.create_task(extractor.extract(page(f"hang {fifo}")))
        await asyncio.sleep(0)
        children = [child.pid for child in multiprocessing.active_children()]
        print(*children, flush=True)


if __name__ == "__main__":
    asyncio.run(_hold(sys.argv[1]))

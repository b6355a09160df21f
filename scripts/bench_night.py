"""Nights over pages that do not change: how long, how many requests and calls of the model, how much the file grows.

The sites are on loopback and answer at once, and the model is played by a function: what is measured is what the
program itself takes, and not what the network and the model would.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests"))

from aiohttp import web
from bench_scale import Took, measured
from command_line import article
from fake_ollama import FakeOllama, running, serving

SITES = 16


def site(asked: Counter[int]) -> web.Application:
    """Any number of pages, each with a text of its own (about 1,800 characters) and an ETag; counts its answers."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/robots.txt":
            return web.Response(status=404)
        etag = f'"{request.path}"'
        status = 304 if request.headers.get("If-None-Match") == etag else 200
        asked[status] += 1
        text = article(f"Page {request.path}", f"A sentence of the page {request.path}.") if status == 200 else None
        return web.Response(status=status, text=text, headers={"ETag": etag}, content_type="text/html")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return app


def bench(folder: Path, pages: int) -> None:
    asked: Counter[int] = Counter()
    with ExitStack() as stack:
        fake = stack.enter_context(serving(FakeOllama()))
        sites = [stack.enter_context(running(site(asked))) for _ in range(SITES)]
        (folder / "urls.txt").write_text("".join(f"{sites[n % SITES]}/articles/{n}\n" for n in range(pages)))
        nights = (
            ("the first night", ()),
            ("the second night, nothing has changed", ("--max-age", "0s")),
            ("the third night, nothing has changed", ("--max-age", "0s")),
            ("once more at once: nothing to do", ()),
        )
        size = 0
        for what, options in nights:
            asked.clear()
            fake.chats.clear()
            took = measured(
                folder, {"SUMMARIZE_BATCH_HOST": fake.url}, "-q", "urls.txt", "--db", "summaries.db", *options
            )
            before, size = size, (folder / "summaries.db").stat().st_size
            _tell(what, took, asked, len(fake.chats), (size - before) / pages)


def _tell(what: str, took: Took, asked: Counter[int], calls: int, bytes_a_page: float) -> None:
    print(
        f"{what:40} {took.seconds:7.2f} s, {took.processor_seconds:6.2f} s of a processor, "
        f"{took.peak_megabytes:4.0f} MB, {asked[200]:5} pages, {asked[304]:5} times 304, "
        f"{calls:6} calls of the model, {bytes_a_page:6.0f} KB a 1,000 pages"
        f"{f'  (exit code {took.code})' if took.code else ''}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=5_000, help="in the list (default: 5,000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-night-") as folder:
        bench(Path(folder), options.pages)
    return 0


if __name__ == "__main__":
    sys.exit(main())

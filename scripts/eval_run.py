"""What `scripts/eval` runs: the command itself over the texts of data/eval, and how many of their facts it keeps.

Beside it the naive way: one request with as much of the text as fits, from its beginning. Between the command and the
model's server stands a proxy that counts; the figures are from it, from the database, and from the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout, web
from rich.console import Console
from rich.table import Table

from pipeline import embedded, prompts, summarize
from pipeline.llm import SAMPLING

FOLDER = Path(__file__).resolve().parent.parent / "data" / "eval"
COMMAND = str(Path(sys.executable).with_name("summarize-batch"))
HOURS = ClientTimeout(total=4 * 3_600)
THIRDS = 3
_SEPARATOR = re.compile(r"(?<=\d)[.,\s\u00a0\u202f](?=\d{3})")


@dataclass(frozen=True, slots=True)
class Fact:
    """One statement of a text, and the word or number by which it is known again."""

    sign: str
    depth: float
    """0 is the beginning of its text, 1 the end."""

    @property
    def third(self) -> int:
        return min(int(self.depth * THIRDS), THIRDS - 1)

    def stands_in(self, text: str) -> bool:
        """Whether a text has the sign: thousands set apart or not, in letters of any case."""
        sign = re.escape(_plain(self.sign))
        return bool(re.search(rf"(?<!\d){sign}(?!\d)" if self.sign[0].isdigit() else sign, _plain(text)))


def _plain(text: str) -> str:
    return _SEPARATOR.sub("", text).casefold()


def by_thirds(facts: Sequence[Fact], text: str = "") -> list[int]:
    """How many facts each third has; with a text, how many of these it keeps."""
    return [
        sum(fact.third == third and (not text or fact.stands_in(text)) for fact in facts) for third in range(THIRDS)
    ]


@dataclass(slots=True)
class Asked:
    """What the model's server was asked for, as the proxy saw it."""

    requests: int = 0
    too_long: int = 0
    """Answered with HTTP 400."""
    prompt_tokens: int = 0
    output_tokens: int = 0

    def count(self, status: int, body: bytes) -> None:
        self.requests += 1
        self.too_long += status == 400
        reply = json.loads(body) if status == 200 else {}
        self.prompt_tokens += reply.get("prompt_eval_count") or 0
        self.output_tokens += reply.get("eval_count") or 0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one text."""

    text: str
    language: str
    state: str
    """Of its page, with the reason of a failure."""
    coverage: float
    """The share of the text that the summary covers; 0 without one."""
    parts: int
    facts: list[int]
    """In the text, by thirds; the next three are how many of these are kept."""
    maps_keep: list[int]
    summary_keeps: list[int]
    naive_keeps: list[int]
    naive_coverage: float
    """The share of the text that the one request had room for."""
    right_at_once: int
    """Maps whose model called rightly; `after_an_error`: told of its error; `primed`: the call was made for it."""
    after_an_error: int
    primed: int
    asked: Asked = field(default_factory=Asked)
    seconds: float = 0.0
    naive_seconds: float = 0.0


class Eval:
    """A model's server behind a proxy that counts, a site with the texts, and a database."""

    def __init__(self, target: str, model: str, num_ctx: int, folder: Path) -> None:
        self.target = target
        self.model = model
        self.num_ctx = num_ctx
        self.db = folder / "summaries.db"
        self.proxy = self.site = ""
        self.asked = Asked()

    async def pass_on(self, request: web.Request) -> web.Response:
        """The proxy's answer: that of the model's server."""
        body = await request.read()
        async with (
            ClientSession(timeout=HOURS) as session,
            session.request(request.method, self.target + request.path_qs, data=body) as got,
        ):
            answer = await got.read()
        if request.path == "/api/chat" and json.loads(body).get("messages"):
            self.asked.count(got.status, answer)
        return web.Response(body=answer, status=got.status, content_type=got.content_type)

    async def summarized(self, name: str) -> float:
        """Runs the command over one text; the seconds that it took."""
        options = ["--host", self.proxy, "--model", self.model, "--num-ctx", str(self.num_ctx), "--timeout", "2h"]
        own = ["--db", str(self.db), "--allow-private-network", "--delay", "0", "--parallel", "1"]
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(COMMAND, f"{self.site}/{name}", *options, *own, "--quiet")
        await process.wait()
        return time.monotonic() - started

    async def naive(self, text: str) -> tuple[str, float, float]:
        """(summary, share of the text, seconds) of one request with the beginning of the text, as much as fits."""
        style = summarize.Style()
        words = prompts.load()
        task = words.filled(
            "final",
            what="the text of a page",
            words=style.words,
            language="the language of the text",
            shape=words.filled(f"style_{style.form}"),
        )
        room = (style.words + summarize.MAX_KEY_POINTS * 20) * 4
        shown, started = text, time.monotonic()
        async with ClientSession(timeout=HOURS) as session:
            while True:
                body = {
                    "model": self.model,
                    "messages": [
                        {"role": "system", "content": words.filled("system")},
                        {"role": "user", "content": f"{prompts.fenced(shown, b'')}\n\n{task}"},
                    ],
                    "format": summarize.schema(style.words),
                    "options": {**SAMPLING, "seed": 0, "num_ctx": self.num_ctx, "num_predict": room},
                    "stream": False,
                    "think": False,
                    "truncate": False,
                }
                async with session.post(f"{self.target}/api/chat", json=body) as got:
                    reply = await got.json()
                used = (reply.get("prompt_eval_count") or 0) + room
                if got.status == 200 and used <= self.num_ctx:
                    break
                if got.status not in (200, 400) or len(shown) < 100:
                    raise RuntimeError(f"the server answers {got.status}: {str(reply)[:300]}")
                shown = shown[: int(len(shown) * 0.85)]
        return reply["message"]["content"], len(shown) / len(text), time.monotonic() - started

    async def result(self, name: str, language: str, facts: Sequence[Fact]) -> Result:
        """What comes of one text, by both ways."""
        text = (FOLDER / name).read_text("utf-8")
        self.asked = Asked()
        seconds = await self.summarized(name)
        page, maps = self._stored(f"{self.site}/{name}")
        written = f"{page['summary'] or ''}\n{page['key_points'] or ''}"
        naive, share, naive_seconds = await self.naive(text)
        return Result(
            text=name,
            language=language,
            state=": ".join(filter(None, (page["state"], page["reason"]))),
            coverage=page["coverage"] or 0.0,
            parts=len(maps),
            facts=by_thirds(facts),
            maps_keep=by_thirds(facts, "\n".join(row["summary"] for row in maps) or "-"),
            summary_keeps=by_thirds(facts, written),
            naive_keeps=by_thirds(facts, naive or "-"),
            naive_coverage=share,
            right_at_once=sum(row["tool_calls"] > 0 and not row["tool_errors"] for row in maps),
            after_an_error=sum(row["tool_errors"] > 0 and not row["primed"] for row in maps),
            primed=sum(row["primed"] for row in maps),
            asked=self.asked,
            seconds=seconds,
            naive_seconds=naive_seconds,
        )

    def _stored(self, url: str) -> tuple[sqlite3.Row, list[sqlite3.Row]]:
        """The page with its summary, and the answers of its maps as far as there are any."""
        with closing(sqlite3.connect(self.db)) as db:
            db.row_factory = sqlite3.Row
            page = db.execute(PAGE, [url]).fetchone()
            return page, db.execute(MAPS, [page["text_hash"]]).fetchall()


PAGE = """
SELECT pages.state, pages.reason, pages.text_hash, summaries.summary, summaries.key_points, summaries.coverage
FROM pages LEFT JOIN summaries ON summaries.page_id = pages.id WHERE url = ?
"""
MAPS = """
SELECT chunk_summaries.* FROM chunks JOIN chunk_summaries ON chunk_hash = hash WHERE text_hash = ? ORDER BY number
"""


@asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[str]:
    """An app of one handler on a free port of 127.0.0.1; gives its URL."""
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def give_text(request: web.Request) -> web.Response:
    """The site's answer: a text of the folder."""
    path = FOLDER / Path(request.path).name
    if path.suffix != ".md" or not path.is_file():
        return web.Response(status=404)
    return web.Response(text=path.read_text("utf-8"), content_type="text/markdown", charset="utf-8")


def load() -> dict[str, tuple[str, list[Fact]]]:
    """Text → (its language, its facts)."""
    known = json.loads((FOLDER / "facts.json").read_text("utf-8"))
    return {
        name: (entry["language"], [Fact(fact["sign"], fact["depth"]) for fact in entry["facts"]])
        for name, entry in known.items()
    }


async def evaluated(options: argparse.Namespace, folder: Path) -> AsyncIterator[Result]:
    """The results, text by text."""
    async with AsyncExitStack() as stack:
        target, model = options.host, options.model
        if not target:
            path = embedded.find_model()
            target, model = await stack.enter_async_context(embedded.serve(path)), embedded.model_name(path)
        num_ctx = options.num_ctx or embedded.DEFAULT_CONTEXT
        this = Eval(target.rstrip("/"), model, num_ctx, folder)
        this.proxy = await stack.enter_async_context(serving(this.pass_on))
        this.site = await stack.enter_async_context(serving(give_text))
        for name, (language, facts) in list(load().items())[: options.texts]:
            yield await this.result(name, language, facts)


def total(results: Sequence[Result]) -> Result:
    """All texts as one; coverage is the mean."""

    def summed(name: str) -> list[int]:
        return [sum(thirds) for thirds in zip(*(getattr(result, name) for result in results), strict=True)]

    done = [result for result in results if result.state == "summarized"]
    asked = [result.asked for result in results]
    return Result(
        text="all",
        language="",
        state=f"{len(done)} of {len(results)} summarized",
        coverage=sum(result.coverage for result in results) / len(results),
        parts=sum(result.parts for result in results),
        facts=summed("facts"),
        maps_keep=summed("maps_keep"),
        summary_keeps=summed("summary_keeps"),
        naive_keeps=summed("naive_keeps"),
        naive_coverage=sum(result.naive_coverage for result in results) / len(results),
        right_at_once=sum(result.right_at_once for result in results),
        after_an_error=sum(result.after_an_error for result in results),
        primed=sum(result.primed for result in results),
        asked=Asked(
            sum(each.requests for each in asked),
            sum(each.too_long for each in asked),
            sum(each.prompt_tokens for each in asked),
            sum(each.output_tokens for each in asked),
        ),
        seconds=sum(result.seconds for result in results),
        naive_seconds=sum(result.naive_seconds for result in results),
    )


def table(results: Sequence[Result]) -> Table:
    """The results, a line a text; facts stand as first + middle + last third."""
    found = Table(box=None, pad_edge=False)
    for heading in ("text", "state", "covered", "parts", "facts", "maps keep", "summary keeps", "first window keeps"):
        found.add_column(heading)
    for heading in ("it has", "calls right/error/primed", "requests", "400s", "tokens in", "out", "seconds"):
        found.add_column(heading, justify="right")

    def thirds(numbers: Sequence[int]) -> str:
        return "+".join(map(str, numbers))

    for result in results:
        found.add_row(
            result.text,
            result.state,
            f"{result.coverage:.0%}",
            str(result.parts),
            thirds(result.facts),
            thirds(result.maps_keep),
            thirds(result.summary_keeps),
            thirds(result.naive_keeps),
            f"{result.naive_coverage:.0%}",
            f"{result.right_at_once}/{result.after_an_error}/{result.primed}",
            str(result.asked.requests),
            str(result.asked.too_long),
            str(result.asked.prompt_tokens),
            str(result.asked.output_tokens),
            f"{result.seconds:.0f}",
        )
    return found


async def main(options: argparse.Namespace) -> None:
    """Evaluates, and prints."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        async for result in evaluated(options, Path(folder)):
            print(f"{result.text}: {result.state}, {result.seconds:.0f} s", file=sys.stderr, flush=True)
            results.append(result)
    results.append(total(results))
    if options.json:
        print(json.dumps([asdict(result) for result in results], ensure_ascii=False, indent=1))
    else:
        # Wider than many a terminal: folded it could not be read at all.
        console = Console(highlight=False, markup=False, width=max(Console().width, 200))
        console.print(table(results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How many facts of long texts survive, by how deep they stand.")
    parser.add_argument("--host", default="", help="an Ollama server (default: the embedded model)")
    parser.add_argument("--model", default="llama3.1", help="its model")
    parser.add_argument("--embedded", action="store_true", help="use the embedded model, which is the default")
    parser.add_argument("--num-ctx", type=int, default=0, help="tokens of context (default: that of --embedded)")
    parser.add_argument("--texts", type=int, default=None, help="only the first so many texts")
    parser.add_argument("--json", action="store_true", help="JSON in place of a table")
    given = parser.parse_args()
    if given.embedded and given.host:
        parser.error("--embedded and --host exclude each other")
    asyncio.run(main(given))

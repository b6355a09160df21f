"""A night without a network: given texts through the run's own summarizer, client and database, in this process."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fake_ollama import Body, Count, FakeOllama, prompt_tokens, right_call, tokens_of

from pipeline.cli import run_command
from pipeline.console import Console
from pipeline.page import Steps, process
from pipeline.records import Added, Document, Line, Page, Task, digest
from pipeline.run import Errand, Night, run
from pipeline.settings import Settings
from pipeline.store import Store, now
from pipeline.writers import Writers

_SHOWN = re.compile(r"<<<PAGE (\w+)>>>\n(.*)\n<<<END \1>>>", re.DOTALL)
_MARK = re.compile(r"\(7\d{7}\)")
_NO_WORDS = re.compile(r"[\[\]{}<>|\":/`#]+")
_LONG_WORD = re.compile(r"(\S{12})(?=\S{8})")
_WORD_JOINER = "\u2060"
_WRITTEN_CHARACTERS = 40


def shown(body: Body) -> str:
    """The text between the boundaries of a request, as the model is given it; empty when they are not both there."""
    found = _SHOWN.search("\n".join(message.get("content") or "" for message in body["messages"]))
    return found[2] if found else ""


class Witness:
    """A model that does all as it should; each answer has a mark, by which it is known what it was written from.

    So the text behind a summary is what the model saw, and not what anybody means to have sent.
    """

    def __init__(self, count: Count = tokens_of, more: str = "") -> None:
        """`more` stands at the end of what it writes of a part of the page."""
        self._count = count
        self._more = more
        self._saw: dict[str, str] = {}

    def __call__(self, body: Body) -> Body:
        if body.get("tools"):
            return {"content": "", "tool_calls": [{"function": right_call(body)}]}
        if body.get("format"):
            return {"content": json.dumps(self.written(body), ensure_ascii=False)}
        return {"content": self.plain(body)}

    def written(self, body: Body) -> dict[str, Any]:
        """The answer that a schema asks for."""
        fields = {"summary": self.plain(body), "key_points": [self._words(body)]}
        return {name: fields[name] for name in body["format"]["properties"]}

    def plain(self, body: Body) -> str:
        """How the text begins, and the mark."""
        # Of the request alone: the same request has the same answer.
        mark = f"(7{int(digest(joined([body])), 16) % 10**7:07})"
        text = f"{self._words(body)} {mark}.{'' if _MARK.search(shown(body)) else self._more}"
        options = body["options"]
        # At the end of the context the server forgets, and says nothing.
        remembers = prompt_tokens(body, self._count) + tokens_of(text) <= options["num_ctx"]
        self._saw[mark] = shown(body) if remembers else ""
        return text

    @staticmethod
    def _words(body: Body) -> str:
        text = shown(body) or body["messages"][-1]["content"]
        words = " ".join(_NO_WORDS.sub(" ", _MARK.sub("", text)).split())[:_WRITTEN_CHARACTERS]
        return _LONG_WORD.sub(r"\1 ", words)

    def text_behind(self, summary: str) -> str:
        """The page's text that a summary was made from, through all the answers between, as it was before defusing."""
        (mark,) = _MARK.findall(summary)
        saw = self._saw[mark]
        if marks := _MARK.findall(saw):
            return "".join(self.text_behind(each) for each in marks)
        return saw.replace(_WORD_JOINER, "")


@dataclass(frozen=True)
class Server:
    """A model's server that is no fake."""

    url: str
    chats: list[Body]


@dataclass(frozen=True)
class Went:
    """How a night went."""

    db: Path
    fake: Any
    chats: list[Body] = field(repr=False)
    """Of this night."""

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.db)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(query, values)]

    def too_long(self, room: int = 0) -> int:
        """How many prompts the context could not hold, by the model's own count, with room for an answer."""
        return sum(
            prompt_tokens(body, self.fake.count) + max(room, 1) > body["options"]["num_ctx"] for body in self.chats
        )


def settings(db: Path, *options: str) -> Settings:
    """The settings of a command line."""
    given = run_command.make_context("run", ["urls.txt", "--db", str(db), *options]).params
    return Settings(**{name: given[name] for name in Settings.__slots__ if name in given})


def whole_night(given: Settings, errand: Errand, console: Console, clock: Callable[[], datetime] = now) -> int:
    """A run as the command does it, with fetching, in this process; gives its exit code."""
    before = signal.getsignal(signal.SIGHUP)
    try:
        return run(given, errand, console, clock)
    finally:
        signal.signal(signal.SIGHUP, before)  # a run ignores it to its end


def night(db: Path, fake: FakeOllama | Server, texts: Mapping[str, str], *options: str) -> Went:
    """One run over pages that have these texts, by URL, one after the other."""
    before = len(fake.chats)
    given = settings(db, "--host", fake.url, "--model", "fake", "--parallel", "1", *options)
    with Store.open(db) as store, ThreadPoolExecutor(1, "store") as thread:
        store.begin_run("urls.txt", "fake", {})
        store.apply(Added(tuple(Line(url, url, "host", "urls.txt") for url in texts)))
        asyncio.run(_worked(Night(given, store, thread, Console(-1)), given, store, texts))
        store.end_run("finished", 0, None)
    return Went(db, fake, fake.chats[before:])


async def _worked(night: Night, given: Settings, store: Store, texts: Mapping[str, str]) -> None:
    async def fetch(task: Task) -> Page:
        return Page(task.url, task.url, 200, "text/markdown", "", b"")

    async def extract(page: Page) -> Document:
        return Document(texts[page.url])

    async with Writers(given, await night._books(), print) as writers:
        await writers.get_ready()
        steps = Steps(fetch, extract, writers.write, night._emit, now)
        while tasks := store.tasks_after("host", 0, 1):
            await process(tasks[0][1], steps)


def joined(chats: Sequence[Body]) -> str:
    """All that was sent, as text."""
    return json.dumps(list(chats), ensure_ascii=False)

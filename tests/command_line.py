"""The installed command as people and scripts have it: in a folder of its own, on a pipe or on a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from fake_ollama import running
from forks import Forks

COMMAND = str(Path(sys.executable).with_name("summarize-batch"))
SECONDS = 120
"""After so long a command hangs."""


_FREE: list[Forks] = []
"""They wait for the next command: one is enough, unless commands are run side by side."""


@contextmanager
def _forks() -> Iterator[Forks]:
    forks = _FREE.pop() if _FREE else Forks()
    yield forks
    _FREE.append(forks)


def end_forks() -> None:
    """Ends those that wait."""
    while _FREE:
        _FREE.pop().close()


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Standard output as lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Shell:
    """Runs the command in `folder`, with these variables and no others."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: object, stdin: str = "", **variables: str) -> Said:
        """The command with these arguments; further variables in `variables`. It has been imported already."""
        given = [str(argument) for argument in arguments]
        with _forks() as forks, ExitStack() as stack:
            ends = [os.pipe() for _ in range(3)]
            (asked, feed), (out, told), (err, warned) = ends
            output = [stack.enter_context(open(end, "rb")) for end in (out, err)]
            with open(feed, "wb") as feeding:
                pid = forks.start(given, self._env(variables), self.folder, (asked, told, warned))
                for end in (asked, told, warned):
                    os.close(end)
                clock = threading.Timer(SECONDS, os.kill, [pid, signal.SIGKILL])
                clock.start()
                with ThreadPoolExecutor(len(output)) as readers:
                    said = [readers.submit(stream.read) for stream in output]
                    with suppress(BrokenPipeError):  # who has not read it all has its reasons
                        feeding.write(stdin.encode())
                        feeding.flush()
                    with suppress(BrokenPipeError):
                        feeding.close()
                    code = forks.ended()
                    clock.cancel()
                    return Said(code, *(stream.result().decode() for stream in said))

    def cold(self, *arguments: object, stdin: str = "", **variables: str) -> Said:
        """The same, started as people start it: for what depends on that."""
        done = subprocess.run(
            [COMMAND, *map(str, arguments)],
            input=stdin.encode(),
            capture_output=True,
            cwd=self.folder,
            env=self._env(variables),
            timeout=SECONDS,
            check=False,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def sh(self, line: str, **variables: str) -> Said:
        """A line of bash in which `$it` is the command; standard input is empty."""
        done = subprocess.run(
            ["bash", "-c", line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.folder,
            env=self._env(variables) | {"it": COMMAND},
            timeout=SECONDS,
            check=False,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        """The command, running; its standard error can be read."""
        return subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self._env({}),
        )

    def terminal(self, *arguments: object, columns: int = 100) -> tuple[int, str]:
        """The command on a terminal of so many columns: its exit code and all that the terminal was sent."""
        ours, theirs = pty.openpty()
        variables = {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color"}
        process = subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=self.folder,
            env=self._env(variables),
        )
        os.close(theirs)
        sent = bytearray()
        try:
            while select.select([ours], [], [], SECONDS)[0] and (piece := os.read(ours, 65_536)):
                sent += piece
        except OSError:
            pass  # how Linux says that the other side has closed its terminal
        finally:
            os.close(ours)
        return process.wait(SECONDS), sent.decode().replace("\r\n", "\n")

    def _env(self, variables: Mapping[str, str]) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], **self.variables, **variables}


def article(title: str, sentence: str = "The reservoir above the town holds water for one dry summer.") -> str:
    """A page with a text long enough to be summarized."""
    return f"<!doctype html><title>{title}</title><article><h1>{title}</h1><p>{f'{sentence} ' * 40}</p></article>"


@dataclass
class Pages:
    """A site on loopback: what it serves by path, what it was asked for, and when it was asked for `/hang`."""

    pages: dict[str, str]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    hangs: threading.Event = field(default_factory=threading.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path == "/hang":
            self.hangs.set()
            await self._over.wait()
        if request.path.startswith("/moved/"):
            return web.Response(status=301, headers={"Location": request.path.removeprefix("/moved")})
        if (page := self.pages.get(request.path)) is None:
            return web.Response(status=404)
        return web.Response(text=page, content_type="text/plain" if request.path == "/robots.txt" else "text/html")

    async def end(self, _: web.Application) -> None:
        self._over.set()


@contextmanager
def serving_pages(**pages: str) -> Iterator[Pages]:
    """A site with these pages, by name; `robots` is its robots.txt."""
    site = Pages({f"/{'robots.txt' if name == 'robots' else name}": text for name, text in pages.items()})
    app = web.Application()
    app.router.add_get("/{path:.*}", site.answer)
    app.on_shutdown.append(site.end)
    with running(app) as site.url:
        yield site

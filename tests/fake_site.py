"""A site on loopback that says, byte for byte, what a test wants it to say; and a fetcher that may ask it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pipeline.addresses import AddressPolicy
from pipeline.fetch import Fetcher, Limits
from pipeline.hosts import Hosts, Turn
from pipeline.records import Later, Task
from pipeline.robots import Answer

CERTIFICATES = Path(__file__).parent / "certificates"
USER_AGENT = "summarize-batch/1.0 (+https://example.org/bot)"
HTML = b"<!doctype html><title>T</title><p>Hello."
LOOPBACK = AddressPolicy(allow_private=True)
SHORT = Limits(dns_seconds=0.2, connect_seconds=0.2, read_seconds=0.2, total_seconds=0.4, crowded_seconds=0.0)
"""For what is to run out of time."""
PATIENT = Limits(dns_seconds=10.0, connect_seconds=10.0, read_seconds=10.0, total_seconds=20.0, crowded_seconds=0.0)
"""For all else, on a machine however busy."""

T = TypeVar("T")


class Do:
    """What a site does instead of sending bytes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


HANG = Do("hang")
"""Says no more until the test is over."""
RESET = Do("reset")
"""Ends the connection as a crash does (TCP RST)."""
PAUSE = Do("pause")
"""Lets the other side read what was sent, so that the rest comes in another piece."""
DRIP = Do("drip")
"""Waits for a moment, much shorter than any limit of a test."""
KEEP = Do("keep")
"""Waits for the next request on the same connection."""

Says = Iterable[bytes | Do]


def http(status: int = 200, body: bytes = HTML, *, raw: bytes = b"", **headers: str) -> bytes:
    """An answer with a length; `content_type="x"` is a header, `"-"` takes one out, `raw` are lines as they are."""
    usual = {"content_type": "text/html; charset=utf-8", "content_length": str(len(body)), "connection": "close"}
    given = usual | headers
    lines = [f"{name.replace('_', '-').title()}: {value}" for name, value in given.items() if value != "-"]
    return (
        f"HTTP/1.1 {status} X\r\n".encode() + "".join(f"{line}\r\n" for line in lines).encode() + raw + b"\r\n" + body
    )


def moved(to: str, status: int = 302) -> bytes:
    return http(status, b"", location=to)


class Site:
    """Answers by what `says` gives for the path of a request; notes who asked for what."""

    def __init__(self, says: Callable[[str], bytes | Says], tls: bool) -> None:
        self.says = says
        self._over = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()
        self.scheme = "https" if tls else "http"
        self.port = 0
        self.connections = 0
        self.requests: list[str] = []
        """The head of each request, as it came."""

    @property
    def paths(self) -> list[str]:
        return [request.split(" ")[1] for request in self.requests]

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side has had enough
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.requests.append(request)
        said = self.says(request.split(" ")[1])
        for part in [said] if isinstance(said, bytes) else said:
            if part is KEEP:
                return True
            if part in (HANG, DRIP):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), 0.02 if part is DRIP else None)
            elif part is RESET:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            elif part is PAUSE:
                for _ in range(50):
                    await asyncio.sleep(0)
            elif isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
        return False

    async def end(self) -> None:
        self._over.set()
        await asyncio.gather(*self._serving)


@asynccontextmanager
async def site(
    says: Callable[[str], bytes | Says] | Mapping[str, bytes | Says] | bytes | Says = b"",
    certificate: str = "",
    address: str = "127.0.0.1",
) -> AsyncIterator[Site]:
    """A site that says the same to everybody, or by path (`robots.txt` is not there unless named)."""
    tls = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(CERTIFICATES / certificate)
    found = Site(_by_path(says), tls is not None)
    server = await asyncio.start_server(found.serve, address, 0, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        await found.end()


def _by_path(says: Callable[[str], bytes | Says] | Mapping[str, bytes | Says] | bytes | Says) -> Any:
    if callable(says):
        return says
    if isinstance(says, Mapping):
        return lambda path: says.get(path, http(404, b""))
    return lambda path: says


class Turns(list[str]):
    """Whose turn was asked for, one request after the other."""


class NotedHosts(Hosts):
    """Lets everybody ask at once, and notes whose turn was asked for."""

    def __init__(self, turns: Turns, **options: Any) -> None:
        super().__init__(0.0, time.monotonic, **options)
        self._turns = turns

    @asynccontextmanager
    async def turn(self, origin: str, patient: bool = False) -> AsyncIterator[Turn]:
        self._turns.append(origin.partition("://")[2])
        async with super().turn(origin, patient) as turn:
            yield turn


def fetcher(policy: AddressPolicy = LOOPBACK, turns: Turns | None = None, **options: Any) -> Fetcher:
    """A fetcher that may ask this machine and does not look for robots.txt, unless told."""
    usual: dict[str, Any] = {"user_agent": USER_AGENT, "limits": PATIENT, "respect_robots": False, "resolve": nobody}
    times = {"now": options["now"]} if "now" in options else {}
    usual["hosts"] = NotedHosts(Turns() if turns is None else turns, **times)
    return Fetcher(policy, **(usual | options))


def nobody(host: str) -> list[str]:
    raise AssertionError(f"{host} was looked up")


def names(**addresses: str) -> Callable[[str], list[str]]:
    """A lookup that knows `site_test="127.0.0.1"` as the one address of `site.test`."""
    known = {name.replace("_", "."): [address] for name, address in addresses.items()}
    return lambda host: known[host]


def task(url: str, **fields: Any) -> Task:
    return Task(1, url, "host", **fields)


async def get(says: Any, path: str = "/", **options: Any) -> Answer | Later:
    """What one fetcher makes of one page of one site."""
    async with site(says) as there, fetcher(**options) as one:
        return await one.fetch(task(there.url(path)))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end; what went wrong unseen in the loop fails the test too."""
    unseen: list[dict[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        return await main

    result = asyncio.run(watched())
    assert not unseen, unseen
    return result

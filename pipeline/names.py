"""A host name into the addresses that may be connected to.

A name is refused as a whole if one of its addresses is closed: whoever connects would try the next one. A lookup that
hangs cannot be stopped, so each has a thread of its own that nobody waits for, neither the next lookup nor the
end of the program.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

from pipeline.addresses import DEFAULT_PORTS, AddressPolicy, BlockedAddress, refusal, shown
from pipeline.errors import PageFailed
from pipeline.records import Reason

MOST_ADDRESSES = 8
LOOKUPS_AT_ONCE = 16
NO_SUCH_NAME = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})

Lookup = Callable[[str], Sequence[str]]
"""The addresses of a host name. It may block, and raises `OSError`."""


class Names:
    """Looks names up, a few at once, each for at most `seconds`."""

    def __init__(self, policy: AddressPolicy, seconds: float, lookup: Lookup | None = None) -> None:
        self._policy = policy
        self._seconds = seconds
        self._lookup = lookup or look_up
        self._at_once = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """At most eight addresses, also of an address. Raises `BlockedAddress`, `PageFailed` (`dns_error`, …)."""
        found = [host] if _is_address(host) else await self._found(host)
        for address in found:
            if blocked := refusal(address, port, self._policy):
                raise BlockedAddress(blocked if address == host else f"{host} is {blocked}")
        return found[:MOST_ADDRESSES]

    async def _found(self, host: str) -> Sequence[str]:
        try:
            async with self._at_once, asyncio.timeout(self._seconds):
                found = await _in_a_thread(partial(self._lookup, host))
        except TimeoutError as error:
            raise PageFailed(Reason.DNS_TIMEOUT, f"no answer for {host}") from error
        except (socket.gaierror, UnicodeError) as error:
            gone = isinstance(error, UnicodeError) or error.errno in NO_SUCH_NAME
            reason = Reason.DNS_ERROR if gone else Reason.DNS_TIMEOUT
            raise PageFailed(reason, f"{host}: {shown(str(error))}") from error
        if not found:
            raise PageFailed(Reason.DNS_ERROR, f"{host} has no address")
        return found


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def look_up(host: str) -> list[str]:
    """The addresses that the system knows for a host name."""
    try:
        found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror:
        socket.socket().close()  # if no file is left for one, that was the reason, and is raised
        raise
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def endpoints_of(server: str) -> frozenset[tuple[str, int]]:
    """(name, port) and each (address, port) of the model's server, for `AddressPolicy.blocked_endpoints`."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    port = parts.port or DEFAULT_PORTS.get(parts.scheme, 80)
    try:
        found = look_up(host)
    except (OSError, UnicodeError):
        found = []
    return frozenset({(host, port), *((address.partition("%")[0], port) for address in found)})


async def _in_a_thread(function: Callable[[], Sequence[str]]) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Sequence[str]] = loop.create_future()

    def settle(end: Callable[[], None]) -> None:
        if not future.done():
            end()

    def work() -> None:
        try:
            end = partial(future.set_result, function())
        except Exception as error:  # whatever it is, it is raised where the answer is awaited
            end = partial(future.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, end)

    threading.Thread(target=work, name="lookup", daemon=True).start()
    return await future

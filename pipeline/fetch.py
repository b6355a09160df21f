"""A URL into a `Page`: the one module that knows aiohttp as a client.

Redirects, unpacking and the lookup of names are done by us and not by aiohttp, because each hop is checked anew,
each byte is counted, and a name is refused as a whole if one of its addresses is closed.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self, TypedDict

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from yarl import URL

from pipeline import answers, marks
from pipeline.addresses import AddressPolicy, BlockedAddress, check_url, shown, socket_factory
from pipeline.errors import PageFailed, RunLost
from pipeline.hosts import LONGEST_NAP_SECONDS, Hosts, NotNow, Turn
from pipeline.names import Lookup, Names
from pipeline.records import Later, NotModified, Page, Reason, Refusal, RobotsFile, Task
from pipeline.robots import MAX_BYTES, OF_THE_HOST, Answer, Robots

FOR_PAGES = {
    "Accept": "text/html,application/xhtml+xml,text/markdown;q=0.9,text/plain;q=0.9,application/pdf;q=0.8,*/*;q=0.1",
    "Accept-Encoding": "gzip, deflate",
}
FOR_LISTS = {
    "Accept": "application/atom+xml,application/rss+xml,application/xml,text/xml,text/x-opml,*/*;q=0.5",
    "Accept-Encoding": "gzip, deflate",
}
FOR_ROBOTS = {"Accept": "text/plain,*/*", "Accept-Encoding": "identity"}
"""Not packed: so a file above the limit can be cut there, and what was read of it obeyed."""
MOST_HINTS = 20
"""Answers with a status of 1xx before the real one."""
MOST_CONNECTIONS = 100
MOST_PAUSES = 2
"""That a site may ask for before a page, in one run; then the page is put off."""
MOST_WAITS_FOR_A_FILE = 240
NO_FILE_LEFT = frozenset({errno.EMFILE, errno.ENFILE})

FAULTS: tuple[tuple[type[BaseException], Reason, str], ...] = (
    (aiohttp.ClientProxyConnectionError, Reason.CONNECT_ERROR, "no connection to the proxy"),
    (aiohttp.ClientHttpProxyError, Reason.CONNECT_ERROR, "the proxy does not connect to the site"),
    (aiohttp.ClientConnectorDNSError, Reason.DNS_TIMEOUT, ""),
    (aiohttp.ClientSSLError, Reason.TLS_ERROR, ""),
    (aiohttp.ServerFingerprintMismatch, Reason.TLS_ERROR, "another certificate"),
    (aiohttp.TooManyRedirects, Reason.TOO_MANY_REDIRECTS, "more than allowed"),
    (aiohttp.RedirectClientError, Reason.BAD_REDIRECT, "to no URL"),
    (aiohttp.NonHttpUrlClientError, Reason.BLOCKED_SCHEME, "another scheme"),
    (aiohttp.InvalidURL, Reason.BAD_URL, "no URL"),
    (aiohttp.ConnectionTimeoutError, Reason.TIMEOUT, "waiting for the connection"),
    (aiohttp.SocketTimeoutError, Reason.TIMEOUT, "waiting for the next byte"),
    (TimeoutError, Reason.TIMEOUT, "waiting for all of it"),
    (aiohttp.ClientPayloadError, Reason.TRUNCATED_BODY, "the connection was closed before the end"),
    # aiohttp gives the errors of its parser the status 400, which no server has sent.
    (aiohttp.ClientResponseError, Reason.PROTOCOL_ERROR, ""),
    (HttpProcessingError, Reason.PROTOCOL_ERROR, ""),
    (aiohttp.ServerDisconnectedError, Reason.CONNECT_ERROR, "the connection was closed without an answer"),
    (aiohttp.ClientConnectionError, Reason.CONNECT_ERROR, ""),
    (OSError, Reason.CONNECT_ERROR, ""),
    (aiohttp.ClientError, Reason.PROTOCOL_ERROR, ""),
)
"""What can be raised by a request, and what it means; the first that fits counts. Words stand where aiohttp's own
may hold the whole URL, which may be secret, or say nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost."""

    body_bytes: int = 10_000_000
    """On the wire, and unpacked."""
    list_bytes: int = 52_428_800
    """Of a list of URLs: what the sitemap protocol allows."""
    robots_bytes: int = MAX_BYTES
    header_bytes: int = 8_190
    """Of one header."""
    headers: int = 128
    dns_seconds: float = 5.0
    connect_seconds: float = 10.0
    """TCP and TLS, for one address."""
    read_seconds: float = 15.0
    """Between two pieces of an answer."""
    total_seconds: float = 60.0
    """From after the lookup to the last byte."""
    idle_seconds: float = 5.0
    """That a connection is kept for the next request to its host, such as the page after its robots.txt."""
    crowded_seconds: float = 0.5
    """Until the next try when this process may open no more files."""
    redirects: int = 5
    retries: int = 2
    """After a connection that was closed before there was an answer."""


@dataclass(frozen=True, slots=True)
class _Errand:
    """What is asked for, through all its redirects. The validators are for its own origin only."""

    url: str
    headers: Mapping[str, str]
    validators: Mapping[str, str]
    for_robots: bool = False
    for_list: bool = False
    pauses: int = 0
    """That its site has asked for before."""

    @property
    def for_page(self) -> bool:
        return not (self.for_robots or self.for_list)


class _ByProxy(TypedDict, total=False):
    """What aiohttp is told of a proxy."""

    proxy: URL
    proxy_headers: Mapping[str, str]


class _HungUp(Exception):
    """The connection was closed before there was an answer; the cause says how."""


class Fetcher:
    """Fetches pages; use it with `async with`. It owns the connections, and what is known of robots.txt.

    `hosts` is asked before each request that goes out, and told of each answer. `is_list` tells of a body that is
    labelled as XML or gzip whether it is a list of URLs, which may be given as a page; without it nothing of the kind
    is one. `resolve` takes the place of the system's lookup of names.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        user_agent: str,
        hosts: Hosts,
        limits: Limits = Limits(),
        respect_robots: bool = True,
        is_list: Callable[[bytes], bool] | None = None,
        resolve: Lookup | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._policy = policy
        self._user_agent = user_agent
        self._hosts = hosts
        self._limits = limits
        self._is_list = is_list
        self._now = now
        self._robots = (
            Robots(self._get_robots, user_agent, now, self._known_robots, self._keep_robots) if respect_robots else None
        )
        peers = policy.of_proxy() if policy.proxy else policy
        looked_up: set[tuple[str, int]] | None = set() if policy.proxy else None
        self._pinned = _Pinned(Names(peers, limits.dns_seconds, resolve), looked_up)
        self._sockets = socket_factory(peers, looked_up)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        limits = self._limits
        # Made here and not taken from aiohttp, which makes its own on import: so SSL_CERT_FILE counts as elsewhere.
        # In a thread: a hundred certificates are read for 100 ms.
        tls = await asyncio.to_thread(ssl.create_default_context)
        tls.set_alpn_protocols(["http/1.1"])
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=tls,
                resolver=self._pinned,
                socket_factory=self._sockets,
                use_dns_cache=False,
                limit=_connections(),
                limit_per_host=self._hosts.per_host,
                keepalive_timeout=limits.idle_seconds,
            ),
            headers={"User-Agent": self._user_agent},
            timeout=aiohttp.ClientTimeout(
                total=limits.total_seconds, sock_connect=limits.connect_seconds, sock_read=limits.read_seconds
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            max_line_size=limits.header_bytes,
            max_field_size=limits.header_bytes,
            max_headers=limits.headers,
            middlewares=(_sent_once,),
            response_class=_Response,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def fetch(self, task: Task) -> Answer | Later:
        """The page of a task, or why there is none, or none yet; no worker waits here for the turn of the page's host.

        Raises `RunLost` when this process may open no more files.
        """
        validators = {"If-None-Match": task.etag, "If-Modified-Since": task.last_modified}
        sendable = {name: value for name, value in validators.items() if answers.validator(value)}
        return await self._follow(_Errand(task.url, FOR_PAGES, sendable, pauses=task.pauses))

    async def fetch_list(self, url: str) -> Page | Refusal:
        """A list of URLs (a feed, a sitemap), of whatever type and as it is packed; else as `fetch`."""
        answer = await self._follow(_Errand(url, FOR_LISTS, {}, for_list=True))
        if not isinstance(answer, Page | Refusal):
            return Refusal(Reason.PROTOCOL_ERROR, "not modified, without being asked")
        return answer

    def crawl_delay(self, url: str) -> float | None:
        """Seconds between two requests that the site has asked for, at most 30; `None` if it has not."""
        return self._robots.delay(url) if self._robots else None

    async def _get_robots(self, url: str) -> Answer:
        answer = await self._follow(_Errand(url, FOR_ROBOTS, {}, for_robots=True))
        assert not isinstance(answer, Later), "only a page comes again"  # noqa: S101
        return answer

    async def _known_robots(self, url: str) -> RobotsFile | None:
        return await self._hosts.robots(_origin(url))

    async def _keep_robots(self, url: str, file: RobotsFile) -> None:
        await self._hosts.keep_robots(_origin(url), file)

    async def _follow(self, errand: _Errand) -> Answer | Later:
        chain = [errand.url]
        while True:
            answer = await self._refused(errand, chain) or await self._ask(errand, chain)
            if isinstance(answer, str) and len(chain) > self._limits.redirects:
                answer = Refusal(Reason.TOO_MANY_REDIRECTS, f"more than {self._limits.redirects}")
            if isinstance(answer, Refusal) and len(chain) > 1:
                # For robots.txt what lies behind a redirect is another host, whose faults are not those of the page.
                others = OF_THE_HOST if errand.for_robots else ()
                return answers.after_redirects(answer, chain, dict.fromkeys(others, Reason.ROBOTS_UNREACHABLE))
            if isinstance(answer, Refusal) and await self._comes_again(errand, answer):
                return Later(await self._hosts.wait(_origin(errand.url)), answer if answer.tried else None)
            if not isinstance(answer, str):
                return answer
            chain.append(answer)

    async def _comes_again(self, errand: _Errand, answer: Refusal) -> bool:
        """Whether the pause that its site asks for is so short that the page can be had in this run."""
        if not (errand.for_page and answer.not_before and errand.pauses < MOST_PAUSES):
            return False
        return await self._hosts.refusal(_origin(errand.url)) is None

    async def _refused(self, errand: _Errand, chain: Sequence[str]) -> Refusal | Later | None:
        """Why the last URL of the chain is not asked for, or not yet."""
        url = chain[-1]
        if refused := check_url(url, self._policy):
            return refused
        if len(chain) > 1 and chain[-2].lower().startswith("https:") and url.lower().startswith("http:"):
            return Refusal(Reason.BAD_REDIRECT, "from https to http")
        try:
            _origin(url)
        except ValueError as error:
            return Refusal(Reason.BAD_URL, shown(str(error)))
        return None if errand.for_robots else await self._not_yet(errand, chain)

    async def _not_yet(self, errand: _Errand, chain: Sequence[str]) -> Refusal | Later | None:
        """What robots.txt has against it, or that its host's turn is too far off for a worker to wait."""
        url = chain[-1]
        if not self._robots:
            return await self._later(errand, chain)
        if later := await self._later(errand, chain):
            return later
        refused = await self._robots.refusal(url)
        self._hosts.asks_for(_origin(url), self._robots.delay(url))
        # Reading robots.txt was a request too, and may have said how far apart they should be.
        return refused or await self._later(errand, chain)

    async def _later(self, errand: _Errand, chain: Sequence[str]) -> Later | None:
        if not errand.for_page or len(chain) > 1:
            return None
        seconds = await self._hosts.wait(_origin(chain[0]))
        return Later(seconds) if seconds > LONGEST_NAP_SECONDS else None

    async def _ask(self, errand: _Errand, chain: Sequence[str]) -> Answer | str:
        """One hop, asked again when the connection turns out to be closed; a string is where it leads next."""
        origin = _origin(chain[-1])
        hung_up = waited = 0
        while True:
            try:
                async with self._hosts.turn(origin, patient=errand.for_list) as turn:
                    answer = await self._tried(errand, chain, turn)
                    if isinstance(answer, _HungUp) and hung_up < self._limits.retries:
                        hung_up += 1
                        continue
                    if not _no_file_left(answer):
                        found = refusal_for(answer) if isinstance(answer, Exception) else answer
                        await self._hosts.answered(turn, found, hung_up + 1)
                        return found
            except NotNow as held:
                return held.refusal
            # Not the page's fault: others will be done and close theirs.
            waited += 1
            if waited > MOST_WAITS_FOR_A_FILE:
                raise RunLost("this process may open no more files: raise `ulimit -n`")
            await asyncio.sleep(self._limits.crowded_seconds)

    async def _tried(self, errand: _Errand, chain: Sequence[str], turn: Turn) -> Answer | str | Exception:
        """What came of one request; an exception as one that is still to be judged."""
        try:
            return await self._request(errand, chain, turn)
        except PageFailed as fault:
            return Refusal(fault.reason, fault.detail)
        except (aiohttp.ClientError, HttpProcessingError, OSError, _HungUp) as error:
            return error

    async def _request(self, errand: _Errand, chain: Sequence[str], turn: Turn) -> Answer | str:
        url = URL(chain[-1])
        validators = errand.validators if url.origin() == URL(errand.url).origin() else {}
        proxy = self._policy.proxy
        peer = URL(proxy.url) if proxy else url
        async with (
            self._pinned.looked_up(peer.raw_host or "", peer.port or 0),
            self._session.get(
                url, headers={**errand.headers, **validators}, allow_redirects=False, **self._by_proxy(peer)
            ) as response,
        ):
            turn.answers()
            status = response.status
            if status in answers.REDIRECTS:
                return answers.redirected(chain[-1], response.headers.get("Location", ""), status)
            if status == 304 and validators:
                return NotModified()
            retry_after = response.headers.get("Retry-After", "")
            refused = answers.refusal_for_status(status, retry_after, self._now())
            return refused or await self._page(response, errand, chain)

    def _by_proxy(self, peer: URL) -> _ByProxy:
        if (proxy := self._policy.proxy) is None:
            return {}
        if not (proxy.user or proxy.password):
            return {"proxy": peer}
        # aiohttp turns it into `Proxy-Authorization`, and keeps it from the site behind a tunnel.
        return {
            "proxy": peer,
            "proxy_headers": {"Authorization": aiohttp.encode_basic_auth(proxy.user, proxy.password, "utf-8")},
        }

    async def _page(self, response: aiohttp.ClientResponse, errand: _Errand, chain: Sequence[str]) -> Page:
        header = response.headers.get("Content-Type", "")
        media = answers.media_type(header)
        may_be_list = self._is_list is not None and media in (*answers.LIST_TYPES, answers.NO_LABEL)
        if media and media not in answers.TEXT_TYPES and errand.for_page and not may_be_list:
            raise PageFailed(Reason.UNSUPPORTED_TYPE, shown(media))
        # Of what has no label, only a packed list can be a page: else it is left after its first bytes.
        begins = answers.GZIP if errand.for_page and media == answers.NO_LABEL else b""
        body = await self._body(response, errand, begins)
        # In a thread: what is packed may be packed to take its time.
        is_list = may_be_list and self._is_list is not None and await asyncio.to_thread(self._is_list, body)
        if errand.for_page and not is_list:
            found = shown(media) if may_be_list else answers.is_no_text(media, body)
            if found:
                raise PageFailed(Reason.UNSUPPORTED_TYPE, found)
        charset = answers.charset_of(header)
        etag, modified = (answers.validator(response.headers.get(name, "")) for name in ("ETag", "Last-Modified"))
        way = tuple(chain[1:])
        asked = marks.in_headers(response.headers.getall("X-Robots-Tag", ()))
        lies_at = answers.canonical_link(response.headers.getall("Link", ()))
        return Page(errand.url, chain[-1], response.status, media, charset, body, etag, modified, way, asked, lies_at)

    async def _body(self, response: aiohttp.ClientResponse, errand: _Errand, begins: bytes) -> bytes:
        most = self._most_bytes(errand)
        coding = answers.coding_of(response.headers.getall("Content-Encoding", ()))
        may_be_cut = errand.for_robots and not coding
        if (response.content_length or 0) > most and not may_be_cut:
            raise PageFailed(Reason.TOO_LARGE, f"{response.content_length:,} bytes announced, {most:,} are allowed")
        body = answers.Body(coding, most, begins)
        while data := await self._piece(response):
            if may_be_cut and len(data) >= body.room:
                body.feed(data[: body.room])
                break
            if coding:
                # In a thread: one piece may become ten megabytes.
                await asyncio.to_thread(body.feed, data)
            else:
                body.feed(data)
        return body.whole()

    def _most_bytes(self, errand: _Errand) -> int:
        if errand.for_robots:
            return self._limits.robots_bytes
        return self._limits.list_bytes if errand.for_list else self._limits.body_bytes

    async def _piece(self, response: aiohttp.ClientResponse) -> bytes:
        """The next bytes of a body. A reader is not told of chunks that break the protocol (aiohttp 3.14.5)."""
        protocol = response.connection.protocol if response.connection else None
        try:
            async with asyncio.timeout(self._limits.read_seconds) as clock:
                return await response.content.readany()
        except RuntimeError as error:
            raise PageFailed(Reason.PROTOCOL_ERROR, "the body does not go on as HTTP does") from error
        except TimeoutError:
            # `is not None`: a protocol is a queue as well, and false while it is empty.
            broken = protocol.exception() if protocol is not None else None
            if broken or clock.expired():
                raise broken or aiohttp.SocketTimeoutError from None
            raise


class _Response(aiohttp.ClientResponse):
    """An answer that comes after a few hints (1xx) at most.

    aiohttp reads hints without an end, as fast as they come: until the time was over the loop was late by 180 ms at
    every other look (3.14.5).
    """

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        protocol, heads = connection.protocol, 0
        if protocol is None:
            return await super().start(connection)
        read = protocol.read

        async def counted() -> tuple[RawResponseMessage, aiohttp.StreamReader]:
            nonlocal heads
            heads += 1
            if heads > MOST_HINTS + 1:
                raise PageFailed(Reason.TIMEOUT, f"{MOST_HINTS} hints and no answer")
            return await read()

        protocol.read = counted  # type: ignore[method-assign]
        try:
            return await super().start(connection)
        finally:
            del protocol.read


class _Pinned(AbstractResolver):
    """Gives aiohttp the addresses that were looked up for the connection that it makes, and no others."""

    def __init__(self, names: Names, looked_up: set[tuple[str, int]] | None = None) -> None:
        self._names = names
        self._looked_up = looked_up
        self._found: dict[tuple[str, int], Sequence[str]] = {}

    @asynccontextmanager
    async def looked_up(self, host: str, port: int) -> AsyncIterator[None]:
        """Looks the name up for what is inside: a request's own clock starts after it."""
        self._found[host, port] = found = await self._names.addresses(host, port)
        if self._looked_up is not None:
            self._looked_up.update((address, port) for address in found)
        try:
            yield
        finally:
            self._found.pop((host, port), None)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = self._found.pop((host, port), None) or await self._names.addresses(host, port)
        flags = socket.AI_NUMERICHOST
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=flags)
            for address in found
        ]

    async def close(self) -> None:
        """There is nothing to close."""


def _connections() -> int:
    """How many sockets may be open at once: a quarter of the files of this process, or 100."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(4, min(MOST_CONNECTIONS, files // 4))


async def _sent_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keeps aiohttp from sending a request again by itself: without its turn, and uncounted."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError) as error:
        raise _HungUp from error


def refusal_for(error: BaseException) -> Refusal:
    """What an exception of a request means for its page; raises it again if it is none of those."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, BlockedAddress):
            return Refusal(Reason.BLOCKED_ADDRESS, cause.what)
        if isinstance(cause, ssl.SSLError):
            return Refusal(Reason.TLS_ERROR, shown(cause.strerror or str(cause)))
    fault = causes[1] if isinstance(error, _HungUp) else error
    for kind, reason, words in FAULTS:
        if isinstance(fault, kind):
            text = words or getattr(fault, "message", "") or getattr(fault, "strerror", "") or fault
            return Refusal(reason, shown(" ".join(str(text).split())))
    raise error


def _no_file_left(answer: object) -> bool:
    """Whether a request failed because this process may open no more files."""
    causes = _causes(answer if isinstance(answer, BaseException) else None)
    return any(isinstance(cause, OSError) and cause.errno in NO_FILE_LEFT for cause in causes)


def _origin(url: str) -> str:
    """`https://a.example:8443`: scheme, host, and the port unless it is the scheme's own. Raises `ValueError`."""
    parsed = URL(url)
    return f"{parsed.scheme}://{parsed.host_port_subcomponent or ''}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__

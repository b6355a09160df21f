"""A URL into a page: what goes out, what comes back, and what each fault is called."""

from __future__ import annotations

import asyncio
import errno
import gzip
import itertools
import os
import resource
import socket
import ssl
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey
from fake_site import (
    CERTIFICATES,
    DRIP,
    HANG,
    HTML,
    KEEP,
    LOOPBACK,
    PATIENT,
    PAUSE,
    RESET,
    SHORT,
    USER_AGENT,
    Says,
    Site,
    Turns,
    fetcher,
    get,
    http,
    moved,
    names,
    run,
    site,
    task,
)
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from pipeline import fetch
from pipeline.addresses import AddressPolicy, BlockedAddress
from pipeline.errors import RunLost
from pipeline.fetch import Limits, refusal_for
from pipeline.names import look_up
from pipeline.records import Later, NotModified, Outcome, Page, Reason, Refusal
from pipeline.robots import Answer

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
SMALL = replace(SHORT, body_bytes=1000)
NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def refused(answer: Answer | Later) -> Refusal:
    assert isinstance(answer, Refusal), answer
    assert answer.detail.isprintable()
    assert len(answer.detail) <= 500
    return answer


def page(answer: Answer | Later) -> Page:
    assert isinstance(answer, Page), answer
    return answer


# What goes out.


def test_a_page_is_fetched_with_what_the_site_says_of_it() -> None:
    headers: dict[str, Any] = {
        "etag": 'W/"1"',
        "last_modified": "Tue, 24 Nov 2026 03:00:00 GMT",
        "content_type": "Text/HTML; charset=Latin1",
    }

    async def main() -> None:
        async with site(http(**headers)) as there, fetcher() as one:
            url = there.url("/a?b=c")
            assert await one.fetch(task(url)) == Page(
                url, url, 200, "text/html", "latin1", HTML, 'W/"1"', "Tue, 24 Nov 2026 03:00:00 GMT"
            )

    run(main())


def headers_of(request: str) -> dict[str, str]:
    lines = request.split("\r\n")[1:-2]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def test_a_request_says_who_asks_and_nothing_that_it_should_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Neither a proxy nor a password of the environment is used for pages, nor a cookie of a site."""
    (tmp_path / ".netrc").write_text("machine site.test login me password hunter2\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    cookies = b"".join(b"Set-Cookie: c%d=%s; Path=/\r\n" % (number, b"x" * 4000) for number in range(120))

    async def main() -> None:
        turns = Turns()
        async with site(http(raw=cookies)) as there, fetcher(turns=turns, resolve=names(site_test="127.0.0.1")) as one:
            for _ in range(2):
                page(await one.fetch(task(there.url("/a", "site.test"))))
            for request in there.requests:
                assert headers_of(request) == {
                    "host": f"site.test:{there.port}",
                    "user-agent": USER_AGENT,
                    "accept": "text/html,application/xhtml+xml,text/markdown;q=0.9,text/plain;q=0.9,"
                    "application/pdf;q=0.8,*/*;q=0.1",
                    "accept-encoding": "gzip, deflate",
                }
            assert turns == [f"site.test:{there.port}"] * 2

    run(main())


def test_a_connection_is_used_again_for_the_next_page_of_a_host() -> None:
    async def main() -> None:
        async with site([http(connection="-"), KEEP]) as there, fetcher() as one:
            for _ in range(3):
                page(await one.fetch(task(there.url())))
            assert (there.connections, len(there.requests)) == (1, 3)

    run(main())


def test_a_host_is_asked_for_one_page_at_a_time() -> None:
    async def main() -> None:
        at_once: list[int] = []

        def says(path: str) -> Says:
            at_once.append(1)
            yield DRIP
            assert len(at_once) == 1
            at_once.pop()
            yield http()

        async with site(says) as there, fetcher() as one:
            answers = await asyncio.gather(*(one.fetch(task(there.url(f"/{number}"))) for number in range(4)))
            assert [page(answer).status for answer in answers] == [200] * 4

    run(main())


# Conditional requests.

VALIDATORS = {"etag": '"1"', "last_modified": "Tue, 24 Nov 2026 03:00:00 GMT"}


def conditions(request: str) -> list[str]:
    headers = headers_of(request)
    return [headers[name] for name in ("if-none-match", "if-modified-since") if name in headers]


def test_a_page_that_has_not_changed_is_not_sent_again() -> None:
    async def main() -> None:
        async with site(b"HTTP/1.1 304 Not Modified\r\n\r\n") as there, fetcher() as one:
            assert await one.fetch(task(there.url(), **VALIDATORS)) == NotModified()
            assert conditions(there.requests[0]) == list(VALIDATORS.values())

    run(main())


@pytest.mark.parametrize("broken", ['"1"\r\nX: y', '"1"\n', "\x00", "é", "\udce9", "x" * 2000])
def test_a_validator_that_is_no_header_is_not_sent(broken: str) -> None:
    async def main() -> None:
        async with site(http(raw=b"ETag: \xe9\r\nLast-Modified: \xc3\xa9\r\n")) as there, fetcher() as one:
            answer = await one.fetch(task(there.url(), etag=broken, last_modified=broken))
            assert conditions(there.requests[0]) == []
            assert (page(answer).etag, page(answer).last_modified) == ("", "")

    run(main())


def test_not_modified_without_being_asked_breaks_the_protocol() -> None:
    assert refused(run(get(b"HTTP/1.1 304 Not Modified\r\n\r\n"))).reason is Reason.PROTOCOL_ERROR


def test_validators_go_to_their_own_origin_only() -> None:
    async def main() -> None:
        async with site(http()) as other, site() as there, fetcher() as one:
            there_says = {"/a": moved("/b"), "/b": moved(other.url())}
            there.says = lambda path: there_says[path]
            page(await one.fetch(task(there.url("/a"), **VALIDATORS)))
            assert [len(conditions(request)) for request in there.requests + other.requests] == [2, 2, 0]

    run(main())


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_and_told(status: int) -> None:
    async def main() -> None:
        turns = Turns()
        async with site({"/a": moved("b?x=1", status), "/b?x=1": moved("//localhost:1/../c"), "/c": http()}) as there:
            there_says = {"/a": moved("b?x=1", status), "/b?x=1": moved(f"//127.0.0.1:{there.port}/c"), "/c": http()}
            there.says = lambda path: there_says[path]
            async with fetcher(turns=turns) as one:
                answer = page(await one.fetch(task(there.url("/a"))))
        assert (answer.url, answer.final_url) == (there.url("/a"), there.url("/c"))
        assert answer.redirects == (there.url("/b?x=1"), there.url("/c"))
        assert turns == [f"127.0.0.1:{there.port}"] * 3

    run(main())


@pytest.mark.parametrize(("hops", "ends"), [(5, None), (6, Reason.TOO_MANY_REDIRECTS)])
def test_five_redirects_are_followed_and_no_sixth(hops: int, ends: Reason | None) -> None:
    async def main() -> None:
        says = {f"/{number}": moved(f"/{number - 1}") for number in range(1, hops + 1)} | {"/0": http()}
        async with site(says) as there, fetcher() as one:
            answer = await one.fetch(task(there.url(f"/{hops}")))
            assert len(there.requests) == 6
            if ends:
                assert refused(answer).reason is ends
                assert "/6 -> " in refused(answer).detail
            else:
                assert len(page(answer).redirects) == 5

    run(main())


def test_a_loop_ends_also_if_a_cookie_would_end_it() -> None:
    async def main() -> None:
        says = {"/a": moved("/b"), "/b": http(302, b"", location="/a", set_cookie="seen=1")}
        async with site(says) as there, fetcher() as one:
            assert refused(await one.fetch(task(there.url("/a")))).reason is Reason.TOO_MANY_REDIRECTS
            assert not [request for request in there.requests if "ookie" in request]

    run(main())


TO_NOWHERE = {
    "": Reason.BAD_REDIRECT,
    "-": Reason.BAD_REDIRECT,
    "http://[::1": Reason.BAD_REDIRECT,
    "http://a b.example/": Reason.BAD_REDIRECT,
    "http://0x7f000001/": Reason.BAD_REDIRECT,
    "http://x\\@127.0.0.1/": Reason.BAD_REDIRECT,
    "http://a.example/" + "a" * 2083: Reason.BAD_REDIRECT,
    "http://10.0.0.1/": Reason.BLOCKED_ADDRESS,
    "//169.254.169.254/latest/meta-data/": Reason.BLOCKED_ADDRESS,
    "http://[::ffff:10.0.0.1]/": Reason.BLOCKED_ADDRESS,
    "http://[::1]:{spy}/": Reason.BLOCKED_ADDRESS,
    "http://127.0.0.2:{spy}/": Reason.BLOCKED_ADDRESS,
    "http://[64:ff9b::7f00:1]:{spy}/": Reason.BLOCKED_ADDRESS,
    "http://127.0.0.1:22/": Reason.BLOCKED_PORT,
    "http://user:hunter2@127.0.0.1:{spy}/": Reason.BLOCKED_CREDENTIALS,
    "ws://127.0.0.1:{spy}/": Reason.BLOCKED_SCHEME,
    "file:///etc/passwd": Reason.BLOCKED_SCHEME,
    "gopher://127.0.0.1:{spy}/_x": Reason.BLOCKED_SCHEME,
    "http+unix://%2Frun%2Fx.sock/": Reason.BLOCKED_SCHEME,
    "data:text/html,x": Reason.BLOCKED_SCHEME,
    "javascript:alert(1)": Reason.BLOCKED_SCHEME,
    "/a\x00b": Reason.PROTOCOL_ERROR,
}


def one_address(*ports: int) -> AddressPolicy:
    """As if 127.0.0.1 were the one public address in the world."""
    return AddressPolicy(allowed_networks=(ip_network("127.0.0.1/32"),), allowed_ports=frozenset({80, 443, *ports}))


@pytest.mark.parametrize("location", TO_NOWHERE, ids=lambda location: ascii(location[:40]))
def test_a_redirect_leads_nowhere_that_a_list_may_not(location: str) -> None:
    async def main() -> None:
        async with site(http(), address="") as spy, site() as there:
            there_says = {"/a": moved("/b"), "/b": moved(location.format(spy=spy.port))}
            there.says = lambda path: there_says[path]
            async with fetcher(one_address(there.port, spy.port)) as one:
                answer = refused(await one.fetch(task(there.url("/a"))))
            assert answer.reason is TO_NOWHERE[location]
            assert "hunter2" not in answer.detail
            assert (
                f"redirect {2 if answer.reason in (Reason.BLOCKED_ADDRESS, Reason.BLOCKED_SCHEME) else ''}"
                in answer.detail
            )
            assert there.paths == ["/a", "/b"]
            assert spy.connections == 0

    run(main())


def test_the_way_to_a_blocked_address_is_told() -> None:
    async def main() -> None:
        async with site() as there:
            there_says = {"/a?token=1": moved("/b"), "/b": moved("/c"), "/c": moved("http://10.0.0.1/")}
            there.says = lambda path: there_says[path]
            async with fetcher(one_address(there.port)) as one:
                answer = await one.fetch(task(there.url("/a?token=1")))
            way = f"{there.url('/a')} -> {there.url('/b')} -> {there.url('/c')} -> http://10.0.0.1/"
            assert answer == Refusal(Reason.BLOCKED_ADDRESS, f"10.0.0.1 (10.0.0.0/8) (redirect 3: {way})")

    run(main())


def test_what_a_page_says_of_elsewhere_is_not_followed() -> None:
    async def main() -> None:
        async with site(http()) as spy:
            elsewhere = spy.url().encode()
            body = b'<meta http-equiv=refresh content="0;url=%s"><base href=%s><link rel=canonical href=%s>' % (
                (elsewhere,) * 3
            )
            answer = page(
                await get(http(body=body, refresh=f"0; url={spy.url()}", link=f"<{spy.url()}>; rel=canonical"))
            )
            assert answer.body == body
            assert spy.connections == 0

    run(main())


# What may be connected to.

LOOPBACK_URLS = [
    *("http://127.0.0.1:{port}/", "http://127.1:{port}/", "http://0x7f000001:{port}/", "http://2130706433:{port}/"),
    *("http://0177.0.0.1:{port}/", "http://127.0.0.1.:{port}/", "http://0.0.0.0:{port}/", "http://0:{port}/"),
    *("http://[::1]:{port}/", "http://[::]:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://[::1%25lo]:{port}/"),
    *(
        "http://localhost:{port}/",
        "http://LOCALHOST.:{port}/",
        "http://a.localhost:{port}/",
        "http://①②⑦.0.0.1:{port}/",
    ),
    *(
        "http://１２７.０.０.１:{port}/",
        "http://127。0。0。1:{port}/",
        "http://ⓁⓄⒸⒶⓁⒽⓄⓈⓉ:{port}/",
        "http://u@127.0.0.1:{port}/",
    ),
    *("http://x\\@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@example.org/", "http://127%2e0%2e0%2e1:{port}/"),
    *(
        "http://ip6-localhost:{port}/",
        "http://127.0.0.2:{port}/",
        "HTTP://127.0.0.1:{port}",
        " http://127.0.0.1:{port}/",
    ),
]


@pytest.mark.parametrize("url", LOOPBACK_URLS)
def test_no_spelling_of_this_machine_reaches_it(url: str) -> None:
    async def main() -> None:
        async with site(http(), address="127.0.0.1") as spy:
            policy = AddressPolicy(allowed_ports=frozenset({80, 443, spy.port}))
            async with fetcher(policy, turns=(turns := Turns())) as one:
                answer = refused(await one.fetch(task(url.format(port=spy.port))))
            assert answer.reason in (Reason.BLOCKED_ADDRESS, Reason.BAD_URL, Reason.BLOCKED_CREDENTIALS)
            assert (spy.connections, turns) == (0, [])

    run(main())


def test_credentials_of_a_url_are_neither_used_nor_told() -> None:
    async def main() -> None:
        async with site(http()) as spy, fetcher() as one:
            answer = refused(await one.fetch(task(f"http://user:hunter2@127.0.0.1:{spy.port}/")))
            assert answer.reason is Reason.BLOCKED_CREDENTIALS
            assert "hunter2" not in repr(answer)
            assert spy.connections == 0

    run(main())


def test_a_name_with_one_closed_address_reaches_none_of_them() -> None:
    """The lookup's check: the socket's own would let the connection to the first address through."""

    async def main() -> None:
        async with site(http()) as there:
            async with fetcher(one_address(there.port), resolve=lambda _: ["127.0.0.1", "10.0.0.5"]) as one:
                answer = await one.fetch(task(there.url(host="site.test")))
            assert answer == Refusal(Reason.BLOCKED_ADDRESS, "site.test is 10.0.0.5 (10.0.0.0/8)")
            assert there.connections == 0

    run(main())


@pytest.mark.parametrize("address", ["10.0.0.5", "127.0.0.2", "::1", "::ffff:169.254.169.254", "fe80::1%eth0"])
def test_a_name_with_a_closed_address_is_blocked(address: str) -> None:
    async def main() -> None:
        async with site(http()) as there, fetcher(one_address(there.port), resolve=lambda _: [address]) as one:
            answer = refused(await one.fetch(task(there.url(host="site.test"))))
            assert answer.reason is Reason.BLOCKED_ADDRESS
            assert answer.detail.startswith("site.test is ")
            assert there.connections == 0

    run(main())


class NoCheck:
    """A lookup of names that lets everything pass."""

    async def addresses(self, host: str, port: int) -> list[str]:
        return ["127.0.0.2"]


def test_the_socket_itself_is_refused_when_the_lookup_checks_nothing() -> None:
    async def main() -> None:
        async with site(http(), address="") as spy:
            async with fetcher(one_address(spy.port)) as one:
                one._pinned._names = NoCheck()  # type: ignore[assignment]
                answer = await one.fetch(task(spy.url(host="site.test")))
            assert answer == Refusal(Reason.BLOCKED_ADDRESS, "127.0.0.2 (127.0.0.0/8)")
            assert spy.connections == 0

    run(main())


def test_an_address_is_refused_when_the_url_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "check_url", lambda url, policy: None)

    async def main() -> None:
        async with site(http(), address="") as spy, fetcher(one_address(spy.port)) as one:
            for host in ("127.0.0.2", "0.0.0.0", "[::1]", "[::ffff:127.0.0.2]"):
                assert refused(await one.fetch(task(spy.url(host=host)))).reason is Reason.BLOCKED_ADDRESS
            assert spy.connections == 0

    run(main())


def test_a_name_that_moves_is_blocked_at_its_next_request() -> None:
    """Also while a connection to its old address is still open."""
    addresses = iter(["127.0.0.1", "10.0.0.5"])

    async def main() -> None:
        async with site([http(connection="-"), KEEP]) as there:
            async with fetcher(one_address(there.port), resolve=lambda _: [next(addresses)]) as one:
                page(await one.fetch(task(there.url(host="site.test"))))
                assert refused(await one.fetch(task(there.url(host="site.test")))).reason is Reason.BLOCKED_ADDRESS
            assert len(there.requests) == 1

    run(main())


def test_a_request_goes_to_the_address_that_was_checked() -> None:
    """One lookup for one connection: a record that moves in between moves nothing."""
    addresses = iter(["127.0.0.1"])

    async def main() -> None:
        async with (
            site(http()) as there,
            fetcher(one_address(there.port), resolve=lambda _: [next(addresses)]) as one,
        ):
            page(await one.fetch(task(there.url(host="site.test"))))

    run(main())
    assert next(addresses, None) is None


def test_a_name_that_has_moved_is_asked_where_it_is_now() -> None:
    """What was looked up for one connection serves no other."""
    addresses = iter(["127.0.0.1", "127.0.0.2"])

    async def main() -> None:
        async with site(http()) as there, fetcher(resolve=lambda _: [next(addresses)]) as one:
            page(await one.fetch(task(there.url(host="site.test"))))
            assert refused(await one.fetch(task(there.url(host="site.test")))).reason is Reason.CONNECT_ERROR

    run(main())


def test_the_model_servers_port_is_closed_by_number_and_by_name() -> None:
    async def main() -> None:
        async with site(http()) as model:
            policy = replace(LOOPBACK, blocked_endpoints=frozenset({("127.0.0.1", model.port)}))
            async with fetcher(policy, resolve=lambda _: ["127.0.0.1"]) as one:
                for host in ("127.0.0.1", "127.0.0.2", "[::1]", "my.name.test"):
                    answer = refused(await one.fetch(task(model.url(host=host))))
                    assert answer.reason is Reason.BLOCKED_ADDRESS
                    assert "the model's own server" in answer.detail
            assert model.connections == 0

    run(main())


# Names.

LOOKUPS = [
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Reason.DNS_ERROR),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), Reason.DNS_TIMEOUT),
    (None, Reason.DNS_ERROR),
]


@pytest.mark.parametrize(("fault", "reason"), LOOKUPS)
@pytest.mark.parametrize("respect_robots", [True, False])
def test_a_name_that_leads_nowhere(fault: Exception | None, reason: Reason, respect_robots: bool) -> None:
    """It is told as such, not as a robots.txt that could not be had."""

    def resolve(host: str) -> list[str]:
        if fault:
            raise fault
        return []

    async def main() -> Answer | Later:
        async with fetcher(resolve=resolve, respect_robots=respect_robots) as one:
            return await one.fetch(task("http://site.test/"))

    assert refused(run(main())).reason is reason


def test_a_name_that_hangs_ends_and_holds_up_nobody() -> None:
    let_go = threading.Event()

    def resolve(host: str) -> list[str]:
        if host.startswith("hang"):
            let_go.wait()
        return ["127.0.0.1"]

    async def main() -> list[Answer | Later]:
        limits = replace(PATIENT, dns_seconds=0.5)
        async with site(http()) as there, fetcher(resolve=resolve, limits=limits) as one:
            hosts = [f"hang{n}.test" for n in range(8)] + [f"good{n}.test" for n in range(10)]
            return await asyncio.gather(*(one.fetch(task(there.url(host=host))) for host in hosts))

    try:
        answers = run(main())
    finally:
        let_go.set()
    assert [refused(answer).reason for answer in answers[:8]] == [Reason.DNS_TIMEOUT] * 8
    assert [page(answer).status for answer in answers[8:]] == [200] * 10


# TLS.


async def over_tls(certificate: str, host: str = "site.test") -> Answer | Later:
    async with site(http(), certificate=certificate) as there, fetcher(resolve=lambda _: ["127.0.0.1"]) as one:
        return await one.fetch(task(there.url(host=host)))


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The one certificate that the system vouches for, as if it were an authority's; the usual list takes its time."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / getattr(request, "param", "expired.pem")))


def trusting(certificate: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("trusted", [certificate], indirect=True, ids=[""])


@trusting("site.test.pem")
def test_a_site_is_known_by_the_certificate_for_its_name() -> None:
    assert page(run(over_tls("site.test.pem"))).body == HTML


@trusting("expired.pem")
def test_a_certificate_that_has_expired_is_refused() -> None:
    answer = refused(run(over_tls("expired.pem")))
    assert answer.reason is Reason.TLS_ERROR
    assert "expired" in answer.detail


@trusting("site.test.pem")
def test_a_certificate_for_another_name_is_refused() -> None:
    answer = refused(run(over_tls("site.test.pem", "other.test")))
    assert answer.reason is Reason.TLS_ERROR
    assert "other.test" in answer.detail


def test_a_certificate_that_nobody_vouches_for_is_refused_and_not_asked_twice() -> None:
    async def main() -> None:
        async with site(http(), certificate="site.test.pem") as there:
            async with fetcher(resolve=names(site_test="127.0.0.1"), turns=(turns := Turns())) as one:
                answer = refused(await one.fetch(task(there.url(host="site.test"))))
            assert answer.reason is Reason.TLS_ERROR
            assert "certificate" in answer.detail
            assert (there.requests, len(turns)) == ([], 1)

    run(main())


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\nplain HTTP on the port of HTTPS", Reason.TLS_ERROR),
        (b"\x15\x03\x01\x00\x02\x02\x46", Reason.TLS_ERROR),  # alert: protocol version
        (b"\x15\x03\x03\x00\x02\x02\x70", Reason.TLS_ERROR),  # alert: unrecognized name
        (None, Reason.TIMEOUT),
    ],
)
def test_what_answers_is_no_tls(says: bytes | None, reason: Reason) -> None:
    async def main() -> Answer | Later:
        over = asyncio.Event()
        limits = replace(PATIENT, connect_seconds=0.2) if says is None else PATIENT

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            if says is None:
                await over.wait()
            writer.write(says or b"")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            async with fetcher(resolve=names(site_test="127.0.0.1"), limits=limits) as one:
                return await one.fetch(task(f"https://site.test:{server.sockets[0].getsockname()[1]}/"))
        finally:
            over.set()
            server.close()
            await asyncio.sleep(0)

    answer = refused(run(main()))
    assert answer.reason is reason
    assert says is not None or answer.detail == "waiting for the connection"


@trusting("site.test.pem")
def test_the_wire_carries_the_name_and_not_the_address() -> None:
    asked_for = []

    async def main() -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / "site.test.pem")
        context.sni_callback = lambda _, name, __: asked_for.append(name)
        there = Site(lambda path: http(), tls=True)
        server = await asyncio.start_server(there.serve, "127.0.0.1", 0, ssl=context)
        there.port = server.sockets[0].getsockname()[1]
        try:
            async with fetcher(resolve=names(site_test="127.0.0.1")) as one:
                page(await one.fetch(task(there.url(host="site.test"))))
        finally:
            server.close()
            await there.end()
        return headers_of(there.requests[0])["host"]

    assert run(main()).partition(":")[0] == "site.test"
    assert asked_for == ["site.test"]


@trusting("site.test.pem")
def test_a_redirect_may_lead_from_http_to_https() -> None:
    async def main() -> None:
        async with (
            site(http(), certificate="site.test.pem") as other,
            site(moved(other.url(host="site.test"))) as there,
            fetcher(resolve=names(site_test="127.0.0.1")) as one,
        ):
            assert page(await one.fetch(task(there.url()))).final_url == other.url(host="site.test")

    run(main())


@trusting("site.test.pem")
def test_no_redirect_leads_from_https_to_http() -> None:
    async def main() -> None:
        async with site(http()) as plain, site(moved(plain.url()), certificate="site.test.pem") as there:
            async with fetcher(resolve=names(site_test="127.0.0.1")) as one:
                answer = refused(await one.fetch(task(there.url(host="site.test"))))
            assert answer.reason is Reason.BAD_REDIRECT
            assert answer.detail.startswith("from https to http")
            assert plain.connections == 0

    run(main())


# What comes back: statuses and types.

STATUSES = [
    *((401, Reason.HTTP_401), (403, Reason.HTTP_403), (404, Reason.HTTP_404), (410, Reason.HTTP_410)),
    *((451, Reason.HTTP_451), (400, Reason.HTTP_4XX), (418, Reason.HTTP_4XX), (500, Reason.HTTP_5XX)),
    *((502, Reason.HTTP_5XX), (503, Reason.HTTP_5XX), (504, Reason.HTTP_5XX), (408, Reason.TIMEOUT)),
    *((425, Reason.RATE_LIMITED), (429, Reason.RATE_LIMITED), (204, Reason.NO_CONTENT), (205, Reason.NO_CONTENT)),
    *((206, Reason.PROTOCOL_ERROR), (300, Reason.BAD_REDIRECT), (999, Reason.PROTOCOL_ERROR)),
]


@pytest.mark.parametrize(("status", "reason"), STATUSES)
def test_a_status_is_asked_for_once_and_has_its_reason(status: int, reason: Reason) -> None:
    async def main() -> None:
        async with site(http(status, b"" if status == 204 else HTML)) as there, fetcher() as one:
            assert await one.fetch(task(there.url())) == Refusal(reason, f"HTTP {status}", status)
            assert len(there.requests) == 1

    run(main())


@pytest.mark.parametrize("status", [429, 503])
def test_a_site_that_asks_for_a_pause_gets_it(status: int) -> None:
    answer = run(get(http(status, retry_after="120"), now=lambda: NOW))
    assert answer == Refusal(Reason.RATE_LIMITED, f"HTTP {status}", status, NOW + timedelta(seconds=120))


@pytest.mark.parametrize(
    "content_type", ["text/html", "TEXT/HTML;x=y", "application/xhtml+xml", "text/plain", "text/markdown", "-"]
)
def test_pages_of_text_are_read(content_type: str) -> None:
    assert page(run(get(http(content_type=content_type)))).body == HTML


@pytest.mark.parametrize(
    ("content_type", "body", "detail"),
    [
        ("application/pdf", HTML, "no PDF, labelled application/pdf"),
        ("image/png; x=y", HTML, "image/png"),
        ("application/octet-stream", HTML, "application/octet-stream"),
        ("application/json", HTML, "application/json"),
        ("x" * 500, HTML, "x" * 119 + "…"),
        ("text/html", b"%PDF-1.7 " + HTML, "application/pdf, labelled text/html"),
        ("-", b"\x89PNG\r\n\x1a\n", "image/png, labelled with no type"),
        ("-", b"\x00\x01", "binary, without a type"),
    ],
)
def test_other_types_are_skipped_and_named(content_type: str, body: bytes, detail: str) -> None:
    answer = run(get(http(body=body, content_type=content_type)))
    assert answer == Refusal(Reason.UNSUPPORTED_TYPE, detail)
    assert answer.reason.meaning.outcome is Outcome.SKIPPED


@pytest.mark.parametrize("content_type", ["application/pdf", "Application/PDF; version=1.7", "-"])
def test_a_pdf_is_read(content_type: str) -> None:
    body = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
    assert page(run(get(http(body=body, content_type=content_type)))).body == body


def test_a_type_that_is_not_read_is_not_downloaded() -> None:
    endless: Says = itertools.chain(
        [http(content_type="video/mp4", content_length="1000000000")], itertools.repeat(bytes(65536))
    )
    assert refused(run(get(endless))).reason is Reason.UNSUPPORTED_TYPE


def test_a_charset_that_nobody_knows_is_left_out() -> None:
    assert page(run(get(http(content_type="text/html; charset=bogus")))).charset == ""


# What comes back: bodies.


def packed(body: bytes, coding: str = "gzip", **headers: Any) -> bytes:
    return http(body=body, content_encoding=coding, **headers)


@pytest.mark.parametrize(
    "says",
    [
        packed(gzip.compress(HTML)),
        packed(gzip.compress(HTML), "X-GZip"),
        packed(gzip.compress(HTML) + bytes(512)),
        packed(gzip.compress(HTML[:9]) + gzip.compress(HTML[9:])),
        packed(zlib.compress(HTML), "deflate"),
        packed(zlib.compress(HTML)[2:-4], "deflate"),
        [packed(gzip.compress(HTML))[:-30], PAUSE, gzip.compress(HTML)[-30:-8], PAUSE, gzip.compress(HTML)[-8:]],
        [CHUNKED, b"%x\r\n%s\r\n" % (len(HTML), HTML), PAUSE, b"0\r\n\r\n"],
        [CHUNKED, *(b"1\r\n%c\r\n" % byte for byte in HTML), b"0\r\nTrailer: x\r\n\r\n"],
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + HTML,
        b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + HTML,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http(),
    ],
)
def test_a_body_arrives_whole_however_it_is_sent(says: bytes | Says) -> None:
    assert page(run(get(says))).body == HTML


ZEROS = gzip.compress(bytes(3_000_000))
BODIES: dict[str, tuple[bytes | Says, Reason | None]] = {
    "as large as allowed": (http(body=b"a" * 1000), None),
    "as large as allowed, unpacked": (packed(gzip.compress(b"a" * 1000)), None),
    "one byte more": (http(body=b"a" * 1001), Reason.TOO_LARGE),
    "one byte more, unpacked": (packed(gzip.compress(b"a" * 1001)), Reason.TOO_LARGE),
    "one byte more, in chunks": ([CHUNKED, b"3e9\r\n" + b"a" * 1001 + b"\r\n0\r\n\r\n"], Reason.TOO_LARGE),
    "a length of 6 GiB": ([http(content_length=str(6 << 30)), HANG], Reason.TOO_LARGE),
    "a bomb": (
        [CHUNKED.replace(b"Trans", b"Content-Encoding: gzip\r\nTrans"), b"%x\r\n%s\r\n" % (len(ZEROS), ZEROS), HANG],
        Reason.TOO_LARGE,
    ),
    "a bomb of deflate": (packed(zlib.compress(bytes(500_000)), "deflate"), Reason.TOO_LARGE),
    "brotli, unasked": (packed(b"\x0b\x02\x80abc\x03", "br"), Reason.BAD_ENCODING),
    "zstandard, unasked": (packed(b"\x28\xb5\x2f\xfd", "zstd"), Reason.BAD_ENCODING),
    "two layers": (packed(gzip.compress(gzip.compress(HTML)), "gzip, gzip"), Reason.BAD_ENCODING),
    "two headers": (packed(gzip.compress(HTML), raw=b"Content-Encoding: gzip\r\n"), Reason.BAD_ENCODING),
    "not packed at all": (packed(HTML), Reason.BAD_ENCODING),
    "garbage after the end": (packed(gzip.compress(HTML) + b"garbage"), Reason.BAD_ENCODING),
    "a wrong sum": (packed(gzip.compress(HTML)[:-8] + bytes(8)), Reason.TRUNCATED_BODY),
    "a stream cut off, with its length": (packed(gzip.compress(HTML)[:-12]), Reason.TRUNCATED_BODY),
    "fewer bytes than announced": (http(content_length="900"), Reason.TRUNCATED_BODY),
    "chunks without an end": ([CHUNKED, b"5\r\nhello\r\n"], Reason.TRUNCATED_BODY),
    "a connection that breaks": ([http(content_length="900"), PAUSE, RESET], Reason.TRUNCATED_BODY),
    "a packed body that breaks": (
        [packed(gzip.compress(HTML)[:20], content_length="900"), PAUSE, RESET],
        Reason.TRUNCATED_BODY,
    ),
    "silence in the middle": ([http(content_length="900"), HANG], Reason.TIMEOUT),
    "chunks that are none": ([CHUNKED, b"5\r\nhello\r\nZZ\r\n"], Reason.PROTOCOL_ERROR),
    "later chunks that are none": (
        [CHUNKED, PAUSE, b"5\r\nhello\r\n", PAUSE, b"ZZ\r\nxx", HANG],
        Reason.PROTOCOL_ERROR,
    ),
    "no body": (http(body=b""), None),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_bounded_and_whole_or_it_is_none(name: str) -> None:
    says, reason = BODIES[name]
    answer = run(get(says, limits=SMALL))
    if reason:
        assert refused(answer).reason is reason
    else:
        page(answer)


def test_a_hundred_thousand_empty_streams_are_none() -> None:
    answer = refused(run(get(packed(gzip.compress(b"") * 100_000))))
    assert answer.reason is Reason.BAD_ENCODING


def test_an_endless_body_is_left_at_the_limit() -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        yield CHUNKED
        while True:
            sent.append(1)
            yield b"10000\r\n" + bytes(65536) + b"\r\n"

    assert refused(run(get(endless()))).reason is Reason.TOO_LARGE
    assert len(sent) < 1000


TWENTY_BOMBS = """
import asyncio, collections, resource, sys
from dataclasses import replace
from fake_site import PATIENT, fetcher, task

async def main():
    async with fetcher(resolve=lambda host: ["127.0.0.1"], limits=replace(PATIENT, body_bytes=1_000_000)) as one:
        urls = [f"http://site{number}.test:{sys.argv[1]}/" for number in range(20)]
        answers = await asyncio.gather(*(one.fetch(task(url)) for url in urls))
    print(dict(collections.Counter(answer.reason.value for answer in answers)))

resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))
asyncio.run(main())
"""


def test_twenty_bombs_at_once_fit_into_one_and_a_half_gigabytes() -> None:
    """Each of them would be 800 MB unpacked."""
    packer = zlib.compressobj(wbits=-15)
    part = packer.compress(bytes(20_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = http(body=part * 40 + packer.flush(), content_encoding="deflate")

    async def main() -> str:
        async with site(bomb) as there:
            command = (sys.executable, "-c", TWENTY_BOMBS, str(there.port))
            here = Path(__file__).parent
            child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=here)
            said, _ = await child.communicate()
            return said.decode().strip()

    assert run(main()) == "{'too_large': 20}"


def test_a_body_of_single_bytes_is_read_or_given_up() -> None:
    answer = run(get([CHUNKED, b"1\r\na\r\n" * 100_000, b"0\r\n\r\n"], limits=Limits()))
    assert len(page(answer).body) == 100_000


# What comes back: faults of the protocol, of time, of the connection.


def endless(start: bytes, piece: bytes) -> Iterator[bytes]:
    yield start
    while True:
        yield piece


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
FAULTS: dict[str, tuple[Any, Reason]] = {
    "random bytes": (lambda: bytes(range(256)) * 4, Reason.PROTOCOL_ERROR),
    "HTTP/0.9": (lambda: HTML, Reason.PROTOCOL_ERROR),
    "HTTP/3.9": (lambda: http().replace(b"1.1", b"3.9"), Reason.PROTOCOL_ERROR),
    "a status of four digits": (lambda: http(1000), Reason.PROTOCOL_ERROR),
    "another protocol": (
        lambda: b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc",
        Reason.PROTOCOL_ERROR,
    ),
    "a negative length": (lambda: http(content_length="-5"), Reason.PROTOCOL_ERROR),
    "two lengths": (lambda: http(raw=b"Content-Length: 6\r\n"), Reason.PROTOCOL_ERROR),
    "two lengths in one": (lambda: http(content_length="5, 6"), Reason.PROTOCOL_ERROR),
    "a length and chunks": (lambda: http(transfer_encoding="chunked"), Reason.PROTOCOL_ERROR),
    "129 headers": (lambda: OK + b"X: y\r\n" * 129 + b"\r\n", Reason.PROTOCOL_ERROR),
    "a header of 9,000 bytes": (lambda: OK + b"X: " + b"y" * 9000 + b"\r\n\r\n", Reason.PROTOCOL_ERROR),
    "a status without an end": (lambda: endless(b"HTTP/1.1 200 ", b"y" * 1000), Reason.PROTOCOL_ERROR),
    "a header without an end": (lambda: endless(OK + b"X: ", b"y" * 1000), Reason.PROTOCOL_ERROR),
    "headers without an end": (lambda: endless(OK, b"X: y\r\n" * 50), Reason.PROTOCOL_ERROR),
    "a trailer without an end": (lambda: endless(CHUNKED + b"0\r\n", b"X: y\r\n" * 50), Reason.PROTOCOL_ERROR),
    "a NUL in a header": (lambda: http(x="a\0b"), Reason.PROTOCOL_ERROR),
    "no answer": (lambda: [HANG], Reason.TIMEOUT),
    "half an answer": (lambda: [OK, HANG], Reason.TIMEOUT),
    "hints without an end": (lambda: endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9), Reason.TIMEOUT),
    "a closed connection": (list, Reason.CONNECT_ERROR),
    "a closed connection in the headers": (lambda: [OK], Reason.CONNECT_ERROR),
    "a reset": (lambda: [RESET], Reason.CONNECT_ERROR),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_reason(name: str) -> None:
    says, reason = FAULTS[name]
    limits = SHORT if reason is Reason.TIMEOUT else PATIENT
    answer = refused(run(get(lambda path: says(), limits=limits)))
    assert answer.reason is reason
    assert "400" not in answer.detail


def test_a_few_hints_may_come_before_an_answer_and_no_more() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"

    def says(path: str) -> Says:
        return [hint * int(path[1:]) + http(connection="keep-alive"), KEEP]

    async def main() -> tuple[Answer | Later, Answer | Later]:
        async with site(says) as there, fetcher() as one:
            few = await one.fetch(task(there.url(f"/{fetch.MOST_HINTS}")))
            return few, await one.fetch(task(there.url(f"/{fetch.MOST_HINTS + 1}")))

    few, many = run(main())
    page(few)
    assert many == Refusal(Reason.TIMEOUT, "20 hints and no answer")


@pytest.mark.parametrize(("start", "piece"), [(CHUNKED, b"1\r\na\r\n"), (OK + b"X: ", b"y")])
def test_a_drip_that_never_pauses_for_long_ends_with_the_whole(start: bytes, piece: bytes) -> None:
    """Each byte comes in time, the last one never: this is what the limit of the whole is for."""

    drip = itertools.chain([start], itertools.cycle([piece, DRIP]))
    answer = run(get(drip, limits=replace(SHORT, read_seconds=5.0)))
    assert answer == Refusal(Reason.TIMEOUT, "waiting for all of it")


@pytest.mark.parametrize("start", [b"", OK, CHUNKED, http(content_length="900")])
def test_a_silence_ends_long_before_the_whole_does(start: bytes) -> None:
    answer = run(get([start, HANG], limits=replace(PATIENT, read_seconds=0.2)))
    assert answer == Refusal(Reason.TIMEOUT, "waiting for the next byte")


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"

        async def main() -> Answer | Later:
            async with fetcher(turns=(turns := Turns())) as one:
                answer = await one.fetch(task(url))
            assert len(turns) == 1
            return answer

        assert refused(run(main())).reason is Reason.CONNECT_ERROR


@pytest.mark.parametrize(("hang_ups", "requests", "ends"), [(1, 2, Page), (2, 3, Page), (3, 3, Refusal)])
@pytest.mark.parametrize("how", [[], [RESET]])
def test_a_connection_that_is_closed_before_an_answer_is_tried_twice_again(
    hang_ups: int, requests: int, ends: type, how: Says
) -> None:
    """And each time in its turn: nothing is sent that was not counted."""

    async def main() -> None:
        says: Iterator[bytes | Says] = iter([*[how] * hang_ups, http()])
        async with site(lambda path: next(says)) as there, fetcher(turns=(turns := Turns())) as one:
            answer = await one.fetch(task(there.url()))
            assert isinstance(answer, ends)
            assert (len(there.requests), len(turns)) == (requests, requests)

    run(main())


def test_a_kept_connection_that_is_closed_meanwhile_is_not_noticed() -> None:
    async def main() -> None:
        async with site(http(connection="-")) as there, fetcher() as one:
            for _ in range(3):
                page(await one.fetch(task(there.url())))

    run(main())


def test_a_timeout_is_not_tried_again() -> None:
    async def main() -> None:
        async with site([HANG]) as there, fetcher(turns=(turns := Turns()), limits=SHORT) as one:
            assert refused(await one.fetch(task(there.url()))).reason is Reason.TIMEOUT
            assert len(turns) == 1

    run(main())


# Exceptions into reasons.


def all_below(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*(all_below(below) for below in kind.__subclasses__()))


REASONS = {
    "BadHttpMessage": Reason.PROTOCOL_ERROR,
    "BadHttpMethod": Reason.PROTOCOL_ERROR,
    "BadStatusLine": Reason.PROTOCOL_ERROR,
    "ClientConnectionError": Reason.CONNECT_ERROR,
    "ClientConnectionResetError": Reason.CONNECT_ERROR,
    "ClientConnectorCertificateError": Reason.TLS_ERROR,
    "ClientConnectorDNSError": Reason.DNS_TIMEOUT,
    "ClientConnectorError": Reason.CONNECT_ERROR,
    "ClientConnectorSSLError": Reason.TLS_ERROR,
    "ClientError": Reason.PROTOCOL_ERROR,
    "ClientHttpProxyError": Reason.CONNECT_ERROR,
    "ClientOSError": Reason.CONNECT_ERROR,
    "ClientPayloadError": Reason.TRUNCATED_BODY,
    "ClientProxyConnectionError": Reason.CONNECT_ERROR,
    "ClientResponseError": Reason.PROTOCOL_ERROR,
    "ClientSSLError": Reason.TLS_ERROR,
    "ConnectionTimeoutError": Reason.TIMEOUT,
    "ContentEncodingError": Reason.PROTOCOL_ERROR,
    "ContentLengthError": Reason.PROTOCOL_ERROR,
    "ContentTypeError": Reason.PROTOCOL_ERROR,
    "DecompressSizeError": Reason.PROTOCOL_ERROR,
    "HttpBadRequest": Reason.PROTOCOL_ERROR,
    "HttpProcessingError": Reason.PROTOCOL_ERROR,
    "InvalidHeader": Reason.PROTOCOL_ERROR,
    "InvalidURL": Reason.BAD_URL,
    "InvalidURLError": Reason.PROTOCOL_ERROR,
    "InvalidUrlClientError": Reason.BAD_URL,
    "InvalidUrlRedirectClientError": Reason.BAD_REDIRECT,
    "LineTooLong": Reason.PROTOCOL_ERROR,
    "NonHttpUrlClientError": Reason.BLOCKED_SCHEME,
    "NonHttpUrlRedirectClientError": Reason.BAD_REDIRECT,
    "PayloadEncodingError": Reason.PROTOCOL_ERROR,
    "RedirectClientError": Reason.BAD_REDIRECT,
    "ServerConnectionError": Reason.CONNECT_ERROR,
    "ServerDisconnectedError": Reason.CONNECT_ERROR,
    "ServerFingerprintMismatch": Reason.TLS_ERROR,
    "ServerTimeoutError": Reason.TIMEOUT,
    "SocketTimeoutError": Reason.TIMEOUT,
    "TooManyRedirects": Reason.TOO_MANY_REDIRECTS,
    "TransferEncodingError": Reason.PROTOCOL_ERROR,
    "UnixClientConnectorError": Reason.CONNECT_ERROR,
    "UploadAbortedError": Reason.PROTOCOL_ERROR,
    "WSServerHandshakeError": Reason.PROTOCOL_ERROR,
}
KINDS = {
    kind.__name__: kind
    for kind in all_below(client_exceptions.ClientError) | all_below(http_exceptions.HttpProcessingError)
    if kind.__module__ in ("aiohttp.client_exceptions", "aiohttp.http_exceptions")
}
KEY = ConnectionKey("site.test", 443, True, True, None, None, None)
BROKEN = OSError(errno.ENETUNREACH, "Network is unreachable")


def example(kind: type[BaseException]) -> BaseException:
    request = aiohttp.RequestInfo(URL("http://site.test/?hunter2"), "GET", CIMultiDictProxy(CIMultiDict()), URL())
    for base, arguments in {
        client_exceptions.UnixClientConnectorError: ("/path", KEY, BROKEN),
        client_exceptions.ClientConnectorError: (KEY, BROKEN),
        client_exceptions.ClientResponseError: (request, ()),
        client_exceptions.ServerFingerprintMismatch: (b"", b"", "site.test", 443),
        http_exceptions.BadHttpMessage: ("text",),
        http_exceptions.HttpProcessingError: (),
        OSError: (errno.EPIPE, "text"),
    }.items():
        if issubclass(kind, base):
            return kind(*arguments)
    return kind("text")


def test_each_exception_of_aiohttp_is_in_the_table() -> None:
    assert KINDS.keys() == REASONS.keys()


@pytest.mark.parametrize("name", REASONS)
def test_each_exception_of_aiohttp_has_its_reason(name: str) -> None:
    answer = refused(refusal_for(example(KINDS[name])))
    assert answer.reason is REASONS[name]
    assert "hunter2" not in answer.detail


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), Reason.CONNECT_ERROR),
        (TimeoutError(), Reason.TIMEOUT),
        (ssl.SSLError(1, "[SSL] bad"), Reason.TLS_ERROR),
        (aiohttp.ClientOSError(1, "x"), Reason.CONNECT_ERROR),
        (BlockedAddress("10.0.0.1 (10.0.0.0/8)"), Reason.BLOCKED_ADDRESS),
    ],
)
def test_other_exceptions_of_the_network_have_theirs(error: Exception, reason: Reason) -> None:
    assert refused(refusal_for(error)).reason is reason


def test_what_lies_behind_an_exception_counts_more() -> None:
    for cause, reason in ((BlockedAddress("x"), Reason.BLOCKED_ADDRESS), (ssl.SSLError(1, "x"), Reason.TLS_ERROR)):
        error = aiohttp.ClientConnectorError(KEY, cause)
        error.__cause__ = cause
        assert refused(refusal_for(error)).reason is reason


def test_a_bug_is_not_a_refusal() -> None:
    with pytest.raises(KeyError):
        refusal_for(KeyError("x"))


def test_a_bug_of_ours_is_raised() -> None:
    def resolve(host: str) -> list[str]:
        raise KeyError(host)

    async def main() -> None:
        async with fetcher(resolve=resolve) as one:
            with pytest.raises(KeyError):
                await one.fetch(task("http://site.test/"))

    run(main())


# Files of this process.


@contextmanager
def no_file_left() -> Iterator[tuple[int, int]]:
    """This process may open no more files, until the limits that are given are set again."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield limits
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class TurnsUntil(Turns):
    """Does something with the turn of a certain number."""

    def __init__(self, number: int, then: Callable[[], None]) -> None:
        super().__init__()
        self._number = number
        self._then = then

    def append(self, host: str) -> None:
        super().append(host)
        if len(self) == self._number:
            self._then()


def test_a_page_does_not_pay_for_our_open_files() -> None:
    async def main() -> None:
        async with site(http()) as there:
            seen = TurnsUntil(4, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits))
            async with fetcher(turns=seen, limits=SHORT) as one:
                with no_file_left() as limits:
                    answer = await one.fetch(task(there.url()))
            page(answer)
            assert (len(seen), len(there.requests)) == (4, 1)

    run(main())


def test_a_lookup_does_not_call_a_name_unknown_when_no_file_is_left() -> None:
    async def main() -> None:
        seen = TurnsUntil(3, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits))
        async with site(http()) as there:
            async with fetcher(turns=seen, limits=SHORT, resolve=look_up) as one:
                with no_file_left() as limits:
                    page(await one.fetch(task(there.url(host="localhost"))))
            assert len(seen) == 3

    run(main())


TWO_HUNDRED_SITES = """
import asyncio, collections, resource, sys
from pipeline.fetch import Limits
from fake_site import fetcher, task

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    limits = Limits(idle_seconds=0.1, crowded_seconds=0.02)
    async with fetcher(resolve=lambda host: ["127.0.0.1"], limits=limits) as one:
        urls = [f"http://site{number}.test:{sys.argv[1]}/" for number in range(200)]
        answers = await asyncio.gather(*(one.fetch(task(url)) for url in urls))
    print(dict(collections.Counter(type(answer).__name__ for answer in answers)))

asyncio.run(main())
"""


def test_two_hundred_sites_can_be_asked_with_sixty_four_files() -> None:
    async def main() -> str:
        async with site([http(connection="-"), KEEP]) as there:
            command = (sys.executable, "-c", TWO_HUNDRED_SITES, str(there.port))
            here = Path(__file__).parent
            child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=here)
            said, _ = await child.communicate()
            return said.decode().strip()

    assert run(main()) == "{'Page': 200}"


def test_a_run_that_may_never_open_a_file_again_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MOST_WAITS_FOR_A_FILE", 3)

    async def main() -> None:
        async with site(http()) as there, fetcher(turns=(turns := Turns())) as one:
            with no_file_left(), pytest.raises(RunLost, match="ulimit"):
                await one.fetch(task(there.url()))
            assert len(turns) == 4

    run(main())


@pytest.mark.parametrize(("files", "connections"), [(8, 4), (64, 16), (1024, 100), (resource.RLIM_INFINITY, 100)])
def test_fewer_files_mean_fewer_connections(monkeypatch: pytest.MonkeyPatch, files: int, connections: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))

    async def main() -> int:
        async with fetcher() as one:
            assert one._session.connector
            return one._session.connector.limit

    assert run(main()) == connections


# robots.txt.

DISALLOW = http(body=b"User-agent: *\nDisallow: /private\n", content_type="text/plain")
FAR_APART = http(body=b"User-agent: *\nDisallow: /private\nCrawl-delay: 25\n", content_type="text/plain")


def test_a_page_that_robots_txt_disallows_is_not_asked_for() -> None:
    async def main() -> None:
        async with site({"/robots.txt": DISALLOW, "/a": http()}) as there, fetcher(respect_robots=True) as one:
            assert refused(await one.fetch(task(there.url("/private/a")))).reason is Reason.ROBOTS
            page(await one.fetch(task(there.url("/a"))))
            assert there.paths == ["/robots.txt", "/a"]

    run(main())


def test_a_page_whose_turn_is_far_off_comes_again_and_its_site_is_not_asked_before() -> None:
    async def main() -> None:
        async with site({"/robots.txt": FAR_APART, "/a": http()}) as there, fetcher(respect_robots=True) as one:
            assert one.crawl_delay(there.url()) is None
            for _ in range(3):
                answer = await one.fetch(task(there.url("/a")))
                assert isinstance(answer, Later)
                assert 0.5 < answer.seconds <= 25.0
                assert answer.refusal is None
                assert refused(await one.fetch(task("http://127.0.0.1:1x/"))).reason is Reason.BAD_URL
            assert there.paths == ["/robots.txt"]
            assert one.crawl_delay(there.url("/x")) == 25.0

    run(main())


@pytest.mark.parametrize(
    ("before", "wish", "again"), [(0, "5", True), (1, "5", True), (2, "5", False), (0, "61", False)]
)
def test_a_page_comes_again_after_a_short_pause_but_not_without_end(before: int, wish: str, again: bool) -> None:
    async def main() -> None:
        async with site(http(429, retry_after=wish)) as there, fetcher() as one:
            answer = await one.fetch(task(there.url(), pauses=before))
            found = answer.refusal if isinstance(answer, Later) else answer
            assert isinstance(answer, Later) == again
            assert isinstance(found, Refusal)
            assert (found.reason, found.status) == (Reason.RATE_LIMITED, 429)

    run(main())


def test_robots_txt_can_be_ignored() -> None:
    async def main() -> None:
        async with site({"/robots.txt": DISALLOW, "/private": http()}) as there, fetcher(respect_robots=False) as one:
            page(await one.fetch(task(there.url("/private"))))
            assert there.paths == ["/private"]
            assert one.crawl_delay(there.url()) is None

    run(main())


def test_robots_txt_is_asked_for_once_in_its_turn_and_unpacked() -> None:
    async def main() -> None:
        says = {"/robots.txt": DISALLOW} | {f"/{number}": http() for number in range(5)}
        async with site(says) as there, fetcher(respect_robots=True, turns=(turns := Turns())) as one:
            answers = await asyncio.gather(*(one.fetch(task(there.url(f"/{number}"))) for number in range(5)))
            assert [page(answer).status for answer in answers] == [200] * 5
            assert there.paths.count("/robots.txt") == 1
            assert turns == [f"127.0.0.1:{there.port}"] * 6
            headers = headers_of(there.requests[0])
            assert (headers["accept-encoding"], headers["user-agent"]) == ("identity", USER_AGENT)

    run(main())


def test_where_a_redirect_leads_robots_txt_counts_too() -> None:
    async def main() -> None:
        async with site({"/robots.txt": DISALLOW, "/private": http()}) as other:
            async with site({"/a": moved(other.url("/private"))}) as there, fetcher(respect_robots=True) as one:
                answer = refused(await one.fetch(task(there.url("/a"))))
            assert answer.reason is Reason.ROBOTS
            assert other.paths == ["/robots.txt"]

    run(main())


LARGE = b"User-agent: *\n" + b"#" * 400_000 + b"\nDisallow: /a\n"
ROBOTS: dict[str, tuple[Any, Reason | None]] = {
    "not there": (http(404, b""), None),
    "gone": (http(410, b""), None),
    "for others": (http(401, b""), None),
    "forbidden": (http(403, b""), None),
    "empty": (http(body=b"", content_type="-"), None),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", None),
    "a page": (http(body=HTML), None),
    "a picture": (http(body=b"\x89PNG\r\n\x1a\n\0\0\0", content_type="image/png"), None),
    "packed though unasked": (packed(gzip.compress(b"User-agent: *\nDisallow: /\n")), Reason.ROBOTS),
    "large, with a rule at its end": (http(body=LARGE), Reason.ROBOTS),
    "10 MB, with a rule at its beginning": (
        http(body=b"User-agent: *\nDisallow: /a\n" + b"#" * 10_000_000),
        Reason.ROBOTS,
    ),
    "10 MB, with a rule at its end": (http(body=b"User-agent: *\n" + b"#" * 10_000_000 + b"\nDisallow: /a\n"), None),
    "without an end": (lambda path: endless(CHUNKED, b"5\r\n#####\r\n" * 999), None),
    "a fault of the site": (http(500), Reason.ROBOTS_UNREACHABLE),
    "not now": (http(503), Reason.ROBOTS_UNREACHABLE),
    "too often": (http(429), Reason.ROBOTS_UNREACHABLE),
    "a bomb": (packed(gzip.compress(bytes(5_000_000))), Reason.ROBOTS_UNREACHABLE),
    "silence": ([HANG], Reason.ROBOTS_UNREACHABLE),
    "silence in the middle": ([http(content_length="900"), HANG], Reason.ROBOTS_UNREACHABLE),
    "broken off": (http(content_length="900"), Reason.ROBOTS_UNREACHABLE),
    "no HTTP": (HTML, Reason.ROBOTS_UNREACHABLE),
    "closed": ([], Reason.ROBOTS_UNREACHABLE),
    "a redirect to nowhere": (moved(""), Reason.ROBOTS_UNREACHABLE),
    "a redirect to a closed address": (moved("http://10.0.0.1/robots.txt"), Reason.ROBOTS_UNREACHABLE),
    "a redirect to no name": (moved("http://nowhere.test/robots.txt"), Reason.ROBOTS_UNREACHABLE),
    "redirects without an end": (moved("/robots.txt"), None),
    "a redirect to what is not there": (moved("/else"), None),
}


@pytest.mark.parametrize("name", ROBOTS)
def test_what_a_robots_txt_means_for_a_page(name: str) -> None:
    says, reason = ROBOTS[name]

    def resolve(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def main() -> None:
        async with site() as there:
            known = {"/a": http(), "/else": http(404)}
            there.says = lambda path: known.get(path) or (says(path) if callable(says) else says)
            policy = one_address(there.port)
            limits = SHORT if "silence" in name else PATIENT
            async with fetcher(policy, respect_robots=True, resolve=resolve, limits=limits) as one:
                answer = await one.fetch(task(there.url("/a")))
            assert ("/a" in there.paths) == (reason is None)
            if reason:
                assert refused(answer).reason is reason
            else:
                page(answer)

    run(main())


def test_five_redirects_lead_to_a_robots_txt_that_is_obeyed() -> None:
    async def main() -> None:
        says = {f"/{number}": moved(f"/{number - 1}") for number in range(1, 5)} | {
            "/robots.txt": moved("/4"),
            "/0": DISALLOW,
        }
        async with site(says) as there, fetcher(respect_robots=True) as one:
            assert refused(await one.fetch(task(there.url("/private")))).reason is Reason.ROBOTS

    run(main())


def test_a_pause_that_robots_txt_is_answered_with_is_kept() -> None:
    async def main() -> Answer | Later:
        async with site(http(503, retry_after="61")) as there, fetcher(respect_robots=True, now=lambda: NOW) as one:
            return await one.fetch(task(there.url()))

    answer = refused(run(main()))
    assert (answer.reason, answer.not_before) == (Reason.ROBOTS_UNREACHABLE, NOW + timedelta(seconds=61))


def test_a_fault_of_tls_is_told_as_one_also_when_robots_txt_meets_it_first() -> None:
    async def main() -> Answer | Later:
        async with (
            site(http(), certificate="site.test.pem") as there,
            fetcher(respect_robots=True, resolve=names(site_test="127.0.0.1")) as one,
        ):
            return await one.fetch(task(there.url(host="site.test")))

    assert refused(run(main())).reason is Reason.TLS_ERROR


def test_a_fetch_that_is_cancelled_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with site([HANG]) as there:
            arrived = asyncio.Event()
            there.says = lambda path: (arrived.set(), [HANG])[1]  # type: ignore[func-returns-value]
            async with fetcher() as one:
                fetching = asyncio.ensure_future(one.fetch(task(there.url())))
                await arrived.wait()
                fetching.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await fetching

    run(main())

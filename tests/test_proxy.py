"""Pages through a proxy, and at other ports: what is connected to, what is not, and that no password is told."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Shell, article, serving_pages
from fake_ollama import entered
from fake_site import CERTIFICATES, LOOPBACK, Site, fetcher, http, moved, names, run, site, task

from pipeline import settings
from pipeline.addresses import AddressPolicy, BlockedAddress, socket_factory
from pipeline.records import Later, Page, Proxy, Reason, Refusal
from pipeline.robots import Answer

PUBLIC = AddressPolicy()


def through(there: Site, policy: AddressPolicy = PUBLIC, user: str = "", password: str = "") -> AddressPolicy:
    return replace(policy, proxy=Proxy(there.url("").rstrip("/"), user, password))


def asked(answer: Any, url: str, policy: AddressPolicy = PUBLIC, **options: Any) -> tuple[Answer | Later, Site]:
    """What comes of a URL through a proxy that answers so, and the proxy."""

    async def main() -> tuple[Answer | Later, Site]:
        async with site(answer) as proxy, fetcher(through(proxy, policy), **options) as one:
            return await one.fetch(task(url)), proxy

    return run(main())


def test_a_page_comes_through_the_proxy_which_alone_looks_its_name_up() -> None:
    answer, proxy = asked({"http://site.test/a?b": http()}, "http://site.test/a?b")
    assert isinstance(answer, Page)
    assert answer.final_url == "http://site.test/a?b"
    assert proxy.requests[0].startswith("GET http://site.test/a?b HTTP/1.1\r\nHost: site.test\r\n")
    assert "proxy-authorization" not in proxy.requests[0].lower()


def test_robots_txt_comes_the_same_way() -> None:
    robots = http(body=b"User-agent: *\nDisallow: /", content_type="text/plain")
    answer, proxy = asked({"http://site.test/robots.txt": robots}, "http://site.test/a", respect_robots=True)
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.ROBOTS
    assert proxy.paths == ["http://site.test/robots.txt"]


CLOSED = [
    "http://127.0.0.1/",
    "http://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://[::1]/",
    "http://0x7f.1/",
    "http://localhost/",
    "http://printer.local/",
    "http://site.test:8080/",
    "http://u:p@site.test/",
]


@pytest.mark.parametrize("url", CLOSED)
def test_a_url_is_judged_before_the_proxy_hears_of_it(url: str) -> None:
    answer, proxy = asked(http(), url)
    assert isinstance(answer, Refusal)
    assert proxy.connections == 0


@pytest.mark.parametrize("url", CLOSED)
def test_a_redirect_too(url: str) -> None:
    answer, proxy = asked(moved(url), "http://site.test/")
    assert isinstance(answer, Refusal)
    assert proxy.connections == 1


@pytest.mark.parametrize("url", ["http://localhost:{}/", "http://x.localhost:{}/", "http://127.0.0.1:{}/"])
def test_the_models_server_is_closed_behind_a_proxy_too(url: str) -> None:
    policy = replace(LOOPBACK, blocked_endpoints=frozenset({("127.0.0.1", 11_434)}))
    answer, proxy = asked(http(), url.format(11_434), policy)
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.BLOCKED_ADDRESS
    assert proxy.connections == 0


def test_the_models_server_is_no_proxy() -> None:
    async def main() -> tuple[Answer | Later, int]:
        async with site(http()) as proxy:
            policy = AddressPolicy(blocked_endpoints=frozenset({("127.0.0.1", proxy.port)}))
            async with fetcher(through(proxy, policy)) as one:
                return await one.fetch(task("http://site.test/")), proxy.connections

    answer, connections = run(main())
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.BLOCKED_ADDRESS
    assert connections == 0


def test_where_there_is_a_proxy_no_other_socket_is_made() -> None:
    make = socket_factory(LOOPBACK, {("127.0.0.1", 3128)})
    for where in [("127.0.0.1", 3129), ("127.0.0.2", 3128), ("93.184.215.14", 80)]:
        with pytest.raises(BlockedAddress, match="not the proxy"):
            make((socket.AF_INET, socket.SOCK_STREAM, 6, "", where))
    make((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 3128))).close()


def test_a_fetcher_with_a_proxy_has_sockets_for_it_alone() -> None:
    """Also when it is asked for another one by whatever way: here a second site on this machine."""

    async def main() -> int:
        async with site(http()) as spy, site(http()) as proxy, fetcher(through(proxy, LOOPBACK)) as one:
            assert isinstance(await one.fetch(task(spy.url("/"))), Page), "through the proxy"
            with pytest.raises(BlockedAddress):
                one._sockets((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", spy.port)))
            return spy.connections

    assert run(main()) == 0


# https


@asynccontextmanager
async def tunnel(to: Site, says: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> AsyncIterator[tuple[list[str], Proxy]]:
    """A proxy that connects everybody to one site; what it was asked."""
    heads: list[str] = []
    pipes: list[asyncio.Task[None]] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(says)
        if b" 200 " not in says:
            writer.close()
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", to.port)
        pipes.append(asyncio.ensure_future(pipe(reader, inner_writer)))
        await pipe(inner_reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield heads, Proxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "me", "hunter2")
    finally:
        server.close()
        await asyncio.gather(*pipes, return_exceptions=True)


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "site.test.pem"))


@pytest.mark.parametrize(("host", "reason"), [("site.test", None), ("other.test", Reason.TLS_ERROR)])
def test_an_https_page_comes_through_a_tunnel_and_its_certificate_is_verified(host: str, reason: Reason | None) -> None:
    async def main() -> tuple[Answer | Later, list[str], Site]:
        async with (
            site(http(), "site.test.pem") as there,
            tunnel(there) as (heads, proxy),
            fetcher(AddressPolicy(proxy=proxy)) as one,
        ):
            return await one.fetch(task(f"https://{host}/")), heads, there

    answer, heads, there = run(main())
    assert heads[0].startswith(f"CONNECT {host}:443 HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:hunter2').decode()}\r\n" in heads[0]
    if reason is None:
        assert isinstance(answer, Page)
        assert "proxy-authorization" not in there.requests[0].lower(), "that is for the proxy alone"
    else:
        assert isinstance(answer, Refusal)
        assert answer.reason is reason


# Faults of the proxy


def test_a_proxy_that_is_not_there_is_no_fault_of_the_page_for_good() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        proxy = Proxy(f"http://127.0.0.1:{taken.getsockname()[1]}", "me", "hunter2")

    async def main() -> Answer | Later:
        async with fetcher(AddressPolicy(proxy=proxy)) as one:
            return await one.fetch(task("http://site.test/"))

    assert run(main()) == Refusal(Reason.CONNECT_ERROR, "no connection to the proxy")


def test_a_proxy_that_wants_a_password_is_told_from_a_site() -> None:
    answer, _ = asked(http(407, b"", proxy_authenticate="Basic"), "http://site.test/")
    assert answer == Refusal(Reason.CONNECT_ERROR, "HTTP 407", 407)

    async def main() -> Answer | Later:
        async with (
            site(http()) as there,
            tunnel(there, b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n") as (_, proxy),
            fetcher(AddressPolicy(proxy=proxy)) as one,
        ):
            return await one.fetch(task("https://site.test/"))

    assert run(main()) == Refusal(Reason.CONNECT_ERROR, "the proxy does not connect to the site")


def test_a_name_of_a_proxy_may_lead_into_the_house_but_not_to_secrets() -> None:
    async def main(address: str) -> Answer | Later:
        async with site(http()) as there:
            policy = AddressPolicy(proxy=Proxy(there.url("", "proxy.test").rstrip("/")))
            async with fetcher(policy, resolve=names(proxy_test=address)) as one:
                return await one.fetch(task("http://site.test/"))

    assert isinstance(run(main("127.0.0.1")), Page)
    answer = run(main("169.254.169.254"))
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.BLOCKED_ADDRESS


# Its address


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("http://proxy.example:3128")),
        ("HTTP://10.0.0.1/", Proxy("http://10.0.0.1:80")),
        ("http://me:a%40b%3Ac@[::1]:3128", Proxy("http://[::1]:3128", "me", "a@b:c")),
    ],
)
def test_a_proxy_is_an_http_address(text: str, proxy: Proxy) -> None:
    assert settings.proxy(text) == proxy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        "socks5://u:hunter2@p.example:1",
        "https://u:hunter2@p.example",
        "http://u:hunter2@p.example/x",
        "http://u:hunter2@p.example:99999",
        "http://u:hunter2@",
        "http://u:hunter2@p.example?x",
        "http://u:hunter2%0a@p",
    ],
)
def test_what_is_none_is_refused_without_being_told(text: str) -> None:
    with pytest.raises(ValueError, match="no address of a proxy") as refused:
        settings.proxy(text)
    assert "hunter2" not in str(refused.value)


def test_a_proxy_is_shown_without_its_password() -> None:
    proxy = Proxy("http://p.example:1", "me", "hunter2")
    assert str(proxy) == "http://***@p.example:1"
    assert "hunter2" not in repr(proxy)
    assert json.dumps({"proxy": proxy}, default=str) == '{"proxy": "http://***@p.example:1"}'


# The command


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    variables = {"HOME": str(tmp_path), "SUMMARIZE_BATCH_DELAY": "0", "SUMMARIZE_BATCH_HOST": "http://127.0.0.1:9"}
    return Shell(tmp_path, variables)


def test_the_password_of_a_proxy_stands_nowhere(shell: Shell) -> None:
    with entered(site({"http://site.test/a": http(body=article("A page").encode())})) as proxy:
        given = f"http://me:hunter2@127.0.0.1:{proxy.port}"
        said = shell("fetch", "-v", "--json", "--proxy", given, "http://site.test/a", "http://site.test/b")
        assert "Basic bWU6aHVudGVyMg==" in proxy.requests[0]
    assert sorted(row["state"] for row in said.objects) == ["failed", "fetched"]
    again = shell("fetch", "-v", "--force", "http://site.test/b", SUMMARIZE_BATCH_PROXY=given)
    wrong = shell("fetch", "http://site.test/", SUMMARIZE_BATCH_PROXY="socks5://me:hunter2@127.0.0.1")
    (shell.folder / "summarize-batch.toml").write_text(f'proxy = ["{given}"]\n')
    listed = shell("fetch", "http://site.test/")
    assert (again.code, wrong.code, listed.code) == (3, 2, 2)
    stored = b"".join(path.read_bytes() for path in shell.folder.glob("summaries.db*"))
    assert b"http://***@127.0.0.1" in stored
    for text in (str(said), str(again), str(wrong), str(listed), stored.decode("latin-1")):
        assert "hunter2" not in text


def test_the_password_of_a_url_on_the_command_line_stands_nowhere_either(shell: Shell) -> None:
    given = "http://me:hunter2@site.test/"
    said = shell("fetch", "-v", given, f"list:{given}feed")
    shown = shell("show", given)
    assert (said.code, shown.code) == (3, 2)
    stored = b"".join(path.read_bytes() for path in shell.folder.glob("summaries.db*"))
    assert b"fetch http://***@site.test/ list:http://***@site.test/feed" in stored
    for text in (str(said), str(shown), stored.decode("latin-1")):
        assert "hunter2" not in text


def test_a_port_is_open_only_if_it_is_named(shell: Shell) -> None:
    with serving_pages(a=article("A page")) as spy:
        port = spy.url.rpartition(":")[2]
        url = f"{spy.url}/a"
        closed = shell("fetch", "-q", "--allow-network", "127.0.0.0/8", url)
        other = shell("fetch", "-q", "--allow-network", "127.0.0.0/8", "--allow-port", "1", url)
        assert (closed.code, other.code) == (3, 3)
        assert f"failed blocked_port: {url}: port {port}" in closed.err
        assert spy.asked == []
        assert shell("fetch", "-q", "--allow-port", port, url).code == 3, "a port is no address"
        assert spy.asked == []
        assert shell("fetch", "-q", "--allow-network", "127.0.0.0/8", "--allow-port", port, url).code == 0
        assert spy.asked == ["/robots.txt", "/a"]


def test_a_port_is_no_way_to_an_address() -> None:
    async def main() -> tuple[Answer | Later, int]:
        async with site(http()) as spy:
            policy = AddressPolicy(allowed_ports=frozenset({80, 443, spy.port}))
            async with fetcher(policy) as one:
                return await one.fetch(task(spy.url("/"))), spy.connections

    answer, connections = run(main())
    assert isinstance(answer, Refusal)
    assert (answer.reason, connections) == (Reason.BLOCKED_ADDRESS, 0)

"""What may be connected to: by URL, by address, by the socket itself."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from pipeline import addresses
from pipeline.addresses import (
    CLOSED,
    NEVER,
    PRIVATE,
    AddressPolicy,
    BlockedAddress,
    Network,
    check_url,
    refusal,
    shown,
    socket_factory,
)
from pipeline.records import Reason

PUBLIC_ONLY = AddressPolicy()
PRIVATE_TOO = AddressPolicy(allow_private=True)
MODEL = AddressPolicy(allow_private=True, blocked_endpoints=frozenset({("127.0.0.1", 11434), ("gpu.lan", 11434)}))

NOT_PUBLIC = {
    "0.0.0.0": "0.0.0.0/8",
    "0.1.2.3": "0.0.0.0/8",
    "10.0.0.1": "10.0.0.0/8",
    "100.64.0.1": "100.64.0.0/10",
    "100.100.100.200": "100.100.100.200/32",
    "127.0.0.1": "127.0.0.0/8",
    "127.255.255.254": "127.0.0.0/8",
    "168.63.129.16": "168.63.129.16/32",
    "169.254.169.254": "169.254.0.0/16",
    "172.16.0.1": "172.16.0.0/12",
    "172.31.255.255": "172.16.0.0/12",
    "192.0.0.8": "192.0.0.0/24",
    "192.0.2.1": "192.0.2.0/24",
    "192.88.99.1": "192.88.99.0/24",
    "192.168.0.1": "192.168.0.0/16",
    "198.18.0.1": "198.18.0.0/15",
    "198.19.255.255": "198.18.0.0/15",
    "198.51.100.1": "198.51.100.0/24",
    "203.0.113.1": "203.0.113.0/24",
    "224.0.0.1": "224.0.0.0/4",
    "239.255.255.250": "224.0.0.0/4",
    "240.0.0.1": "240.0.0.0/4",
    "255.255.255.255": "255.255.255.255/32",
    "::": "::/128",
    "::1": "::1/128",
    "::127.0.0.1": "outside 2000::/3",
    "::ffff:127.0.0.1": "::ffff:0:0/96",
    "::ffff:93.184.215.14": "::ffff:0:0/96",
    "::ffff:0:127.0.0.1": "outside 2000::/3",
    "64:ff9b::127.0.0.1": "outside 2000::/3",
    "64:ff9b::93.184.215.14": "outside 2000::/3",
    "64:ff9b:1::1": "outside 2000::/3",
    "100::1": "outside 2000::/3",
    "2001::1": "2001::/23",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "2001::/23",
    "2001:20::1": "2001::/23",
    "2001:db8::1": "2001:db8::/32",
    "2002:7f00:1::": "2002::/16",
    "2606:4700::5efe:127.0.0.1": "ISATAP",
    "2606:4700::200:5efe:10.0.0.1": "ISATAP",
    "3fff::1": "3fff::/20",
    "4000::1": "outside 2000::/3",
    "5f00::1": "outside 2000::/3",
    "fc00::1": "fc00::/7",
    "fd00:ec2::254": "fd00:ec2::254/128",
    "fdff::1": "fc00::/7",
    "fe80::1": "fe80::/10",
    "fec0::1": "outside 2000::/3",
    "ff02::1": "ff00::/8",
}
IS_PUBLIC = (
    *("93.184.215.14", "1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "192.0.1.1", "223.255.255.254"),
    *("2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2001:200::1", "2003::1", "3ffe::1"),
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused_by_its_network(address: str) -> None:
    why = refusal(address, 80, PUBLIC_ONLY)
    assert why == f"{ip_address(address)} ({NOT_PUBLIC[address]})"


@pytest.mark.parametrize("address", IS_PUBLIC)
def test_public_addresses_are_open(address: str) -> None:
    assert refusal(address, 80, PUBLIC_ONLY) is None


@pytest.mark.parametrize(
    "address", ["fe80::1%eth0", "2606:4700::1%1", "", "localhost", "127.1", "10.0.0.1\n", "1.2.3.4.5"]
)
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    assert refusal(address, 80, PRIVATE_TOO) is not None


EDGES = [address for network in (*NEVER, *PRIVATE, *CLOSED) for address in (network[0], network[-1])]
NEAR_EDGES = st.builds(
    lambda edge, step: type(edge)((int(edge) + step) % 2**edge.max_prefixlen),
    st.sampled_from(EDGES),
    st.integers(-2, 2),
)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), NEAR_EDGES)


@given(ADDRESSES)
def test_nothing_is_open_that_python_does_not_call_global(ip: IPv4Address | IPv6Address) -> None:
    if refusal(str(ip), 80, PUBLIC_ONLY) is None:
        assert ip.is_global
        assert not any((ip.is_multicast, ip.is_private, ip.is_loopback, ip.is_link_local, ip.is_reserved))


@given(st.one_of(st.ip_addresses(v=4), NEAR_EDGES))
def test_every_other_ipv4_address_is_open(ip: IPv4Address | IPv6Address) -> None:
    closed = {ip_network(text) for text in ("168.63.129.16/32", "192.88.99.0/24", "192.0.0.0/24")}
    if ip.version == 4 and ip.is_global and not ip.is_multicast and not any(ip in network for network in closed):
        assert refusal(str(ip), 80, PUBLIC_ONLY) is None


@given(ADDRESSES)
def test_a_private_network_opens_private_addresses_and_no_others(ip: IPv4Address | IPv6Address) -> None:
    opened = refusal(str(ip), 80, PUBLIC_ONLY) is not None and refusal(str(ip), 80, PRIVATE_TOO) is None
    private = any(ip in network for network in PRIVATE) and not any(ip in network for network in NEVER)
    assert not opened or private


@given(ADDRESSES, st.sampled_from([ip_network("0.0.0.0/0"), ip_network("::/0")]))
def test_nothing_opens_what_is_never_open(ip: IPv4Address | IPv6Address, everything: Network) -> None:
    all_open = AddressPolicy(allow_private=True, allowed_networks=(everything, ip_network("0.0.0.0/0")))
    if any(ip in network for network in NEVER):
        assert refusal(str(ip), 80, all_open)


@pytest.mark.parametrize(
    ("address", "is_open"),
    [("192.168.7.5", True), ("192.168.8.5", False), ("169.254.169.254", False), ("10.0.0.1", False), ("8.8.8.8", True)],
)
def test_a_named_network_opens_itself_only(address: str, is_open: bool) -> None:
    policy = AddressPolicy(allowed_networks=(ip_network("192.168.7.0/24"), ip_network("169.254.0.0/16")))
    assert (refusal(address, 80, policy) is None) == is_open


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("64:ff9b::8.8.8.8", None),
        ("64:ff9b::10.0.0.1", "64:ff9b::a00:1 (carries 10.0.0.1, 10.0.0.0/8)"),
        ("64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe (carries 169.254.169.254, 169.254.0.0/16)"),
        ("2002:808:808::1", None),
        ("2002:7f00:1::1", "2002:7f00:1::1 (carries 127.0.0.1, 127.0.0.0/8)"),
        ("2001:0:808:808:8000:63bf:8080:fefe", "2001:0:808:808:8000:63bf:8080:fefe (carries 127.127.1.1, 127.0.0.0/8)"),
        ("2606:4700::5efe:10.0.0.1", "2606:4700::5efe:a00:1 (carries 10.0.0.1, 10.0.0.0/8)"),
    ],
)
def test_what_a_tunnel_carries_is_judged_too(address: str, why: str | None) -> None:
    """An IPv6-only network reaches IPv4 by NAT64: whoever opens such a network does not open what lies behind it."""
    policy = AddressPolicy(
        allowed_networks=tuple(map(ip_network, ("64:ff9b::/96", "2002::/16", "2001::/23", "2606::/16")))
    )
    assert refusal(address, 80, policy) == why


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1"])
def test_the_port_of_a_model_server_on_this_machine_is_closed_at_all_its_addresses(address: str) -> None:
    assert refusal(address, 11434, MODEL) == f"{address} (the model's own server, port 11434)"
    assert refusal(address, 11435, MODEL) is None


def test_a_model_server_elsewhere_is_closed_at_its_address_only() -> None:
    policy = AddressPolicy(allow_private=True, blocked_endpoints=frozenset({("192.0.2.7", 80)}))
    named = AddressPolicy(allowed_networks=(ip_network("192.0.2.0/24"),), blocked_endpoints=policy.blocked_endpoints)
    assert refusal("192.0.2.7", 80, named) == "192.0.2.7 (the model's own server, port 80)"
    assert refusal("192.0.2.8", 80, named) is None
    assert refusal("127.0.0.1", 80, policy) is None


def test_each_address_of_this_machine_counts_as_the_model_servers() -> None:
    """Also the one by which others reach this machine, whatever it is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it asks which address would be used
        except OSError:
            pytest.skip("this machine has loopback only")
        own = probe.getsockname()[0]
    assert "model" in (refusal(own, 11434, MODEL) or "")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1"])
def test_no_socket_is_made_for_a_closed_address(address: str) -> None:
    make = socket_factory(PUBLIC_ONLY)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(BlockedAddress, match=r"\(.*/") as caught:
        make((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 80)))
    assert caught.value.errno == errno.EACCES


def test_a_socket_is_made_for_an_open_address() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("93.184.215.14", 80))
    with socket_factory(PUBLIC_ONLY)(info) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)


LOOPBACK_SPELLINGS = [
    *("127.0.0.1", "127.1", "127.0.1", "127.0.0.1.", "127.000.000.001", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001"),
    *("2130706433", "017700000001", "0x7F.1", "127.0.0.0x1", "0", "0.0.0.0", "1.2.3.4.5", "127.0.0.1.1", "0x"),
    *("１２７.０.０.１", "127。0。0。1", "①②⑦.⓪.⓪.①", "127.0.0.1", "%31%32%37.0.0.1", "127%2e0%2e0%2e1"),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::1%25lo]"),
    *("[::1%lo]", "[::1", "::1]", "[v1.x]", "[127.0.0.1]", "[::1]x", "[::1]:80:80", "x[::1]", "[[::1]]", "[]"),
    *("localhost", "LOCALHOST", "localhost.", "foo.localhost", "ⓁⓄⒸⒶⓁⒽⓄⓈⓉ", "ｌｏｃａｌｈｏｓｔ", "lo\u00adcalhost"),
    *("lo\u200bcalhost", "local\u2060host", "ip6-localhost", "user@127.0.0.1", "evil@localhost", "a:b@127.0.0.1"),
    *("127.0.0.1\\@x", "x\\@127.0.0.1", "127.0.0.1\t", "127.0.0.1 ", "127.0.0.1\r\nX: y", "127.0.0.1\0"),
]


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
def test_no_spelling_of_this_machine_is_a_url_to_be_fetched(host: str) -> None:
    refused = check_url(f"http://{host}/", PUBLIC_ONLY)
    assert refused
    assert refused.reason in (Reason.BLOCKED_ADDRESS, Reason.BAD_URL, Reason.BLOCKED_CREDENTIALS)
    assert refused.detail.isprintable()


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org", "HTTPS://EXAMPLE.org/a?b#c", "http://example.org:80/", "https://example.org:443/"),
        *("http://example.org./", "http://1.1.1.1/", "http://[2606:4700:4700::1111]/", "http://a_b.example.org/"),
        *("http://münchen.de/", "http://аррӏе.com/", "http://xn--mnchen-3ya.de/", "http://example.org/ä?ü=%20"),
        *("http://example.org:/", "http://1and1.com/", "http://0x.example/", "http://例え.jp/", "http://a--b.example/"),
        "http://example.org/" + "a" * (2083 - 19),
        "http://" + ".".join(["a" * 63] * 3 + ["b" * 61]) + "/",
    ],
)
def test_ordinary_urls_may_be_tried(url: str) -> None:
    assert check_url(url, PUBLIC_ONLY) is None


BAD = {
    "http://": Reason.BAD_URL,
    "http:///path": Reason.BAD_URL,
    "http:example.org": Reason.BAD_URL,
    "http://exa mple.org/": Reason.BAD_URL,
    "http://example.org/a b": Reason.BAD_URL,
    "http://example.org/a\tb": Reason.BAD_URL,
    "http://example.org/a\rb": Reason.BAD_URL,
    "http://example.org/a\nb": Reason.BAD_URL,
    "http://example.org/a\0b": Reason.BAD_URL,
    "http://example.org/a\u2028b": Reason.BAD_URL,
    "http://example.org/a\u00a0b": Reason.BAD_URL,
    "http://example.org/a\udce9b": Reason.BAD_URL,
    "http://example.org\\a": Reason.BAD_URL,
    " http://example.org/": Reason.BAD_URL,
    "http://example..org/": Reason.BAD_URL,
    "http://.example.org/": Reason.BAD_URL,
    "http://ex!ample.org/": Reason.BAD_URL,
    "http://exa%6dple.org/": Reason.BAD_URL,
    "http://a℀b.org/": Reason.BAD_URL,
    "http://exa\u00admple.org/": Reason.BAD_URL,
    "http://exa\u200bmple.org/": Reason.BAD_URL,
    "http://[fe80::1%25eth0]/": Reason.BAD_URL,
    "http://[fe80::1/": Reason.BAD_URL,
    "http://[v1.x]/": Reason.BAD_URL,
    "http://example.org:abc/": Reason.BAD_URL,
    "http://example.org:-1/": Reason.BAD_URL,
    "http://example.org:８０/": Reason.BAD_URL,
    "http://example.org:99999/": Reason.BAD_URL,
    "http://example.org:9999999999/": Reason.BAD_URL,
    "http://example.org:0/": Reason.BLOCKED_PORT,
    "http://example.org:22/": Reason.BLOCKED_PORT,
    "http://example.org:25/": Reason.BLOCKED_PORT,
    "http://example.org:11434/": Reason.BLOCKED_PORT,
    "http://" + "a" * 64 + ".org/": Reason.BAD_URL,
    "http://" + ".".join(["a" * 60] * 5) + "/": Reason.BAD_URL,
    "http://" + "ä" * 60 + ".org/": Reason.BAD_URL,
    "http://example.org/" + "a" * 2065: Reason.BAD_URL,
    "http://" + "a" * 1_000_000: Reason.BAD_URL,
    "file:///etc/passwd": Reason.BLOCKED_SCHEME,
    "ftp://example.org/": Reason.BLOCKED_SCHEME,
    "gopher://127.0.0.1:11434/_x": Reason.BLOCKED_SCHEME,
    "data:text/html,x": Reason.BLOCKED_SCHEME,
    "javascript:alert(1)": Reason.BLOCKED_SCHEME,
    "ws://example.org/": Reason.BLOCKED_SCHEME,
    "http+unix://%2Frun%2Fx.sock/": Reason.BLOCKED_SCHEME,
    "blob:http://example.org/x": Reason.BLOCKED_SCHEME,
    "": Reason.BLOCKED_SCHEME,
    "//example.org/": Reason.BLOCKED_SCHEME,
    "example.org/": Reason.BLOCKED_SCHEME,
    "://example.org/": Reason.BLOCKED_SCHEME,
    "http://intranet/": Reason.BLOCKED_ADDRESS,
    "http://printer.local/": Reason.BLOCKED_ADDRESS,
    "http://metadata.google.internal/": Reason.BLOCKED_ADDRESS,
    "http://nas.home.arpa/": Reason.BLOCKED_ADDRESS,
    "http://NAS.Local./": Reason.BLOCKED_ADDRESS,
    "http://127.0.0.1#@x/": Reason.BLOCKED_ADDRESS,
    "http://127.0.0.1?@x/": Reason.BLOCKED_ADDRESS,
    "http://evil@127.0.0.1/": Reason.BLOCKED_CREDENTIALS,
    "http://@example.org/": Reason.BLOCKED_CREDENTIALS,
    "https://user:hunter2@example.org/": Reason.BLOCKED_CREDENTIALS,
    "https://user:hunter2@[::1]:99999/": Reason.BLOCKED_CREDENTIALS,
}


@pytest.mark.parametrize("url", BAD, ids=lambda url: ascii(url[:60]))
def test_a_url_is_refused_for_its_reason(url: str) -> None:
    refused = check_url(url, PUBLIC_ONLY)
    assert refused
    assert refused.reason is BAD[url]
    assert "hunter2" not in refused.detail
    assert len(refused.detail) <= 500
    assert refused.detail.isprintable()


def test_a_private_network_opens_names_and_ports_of_ones_own() -> None:
    for url in ("http://127.0.0.1:8080/", "http://intranet/", "http://nas.local:5000/", "http://[::1]:3000/"):
        assert check_url(url, PUBLIC_ONLY)
        assert check_url(url, PRIVATE_TOO) is None
    for url in ("http://169.254.169.254/", "http://0.0.0.0:8080/", "http://example.org:0/", "http://[fe80::1]/"):
        assert check_url(url, PRIVATE_TOO)


def test_ports_can_be_opened_one_by_one() -> None:
    policy = AddressPolicy(allowed_ports=frozenset({80, 443, 8080}))
    assert check_url("http://example.org:8080/", policy) is None
    assert check_url("http://example.org:8081/", policy)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:11434/", "http://[::1]:11434/", "http://GPU.lan:11434/api", "http://gpu.lan.:11434/"]
)
def test_the_model_server_is_no_page(url: str) -> None:
    refused = check_url(url, MODEL)
    assert refused
    assert refused.reason is Reason.BLOCKED_ADDRESS
    assert check_url(url.replace("11434", "8080"), MODEL) is None


@given(st.text())
def test_any_line_is_judged_and_told_safely(text: str) -> None:
    for url in (text, f"http://{text}/", f"http://example.org/{text}", f"http://u:{text}@example.org"):
        refused = check_url(url, PUBLIC_ONLY)
        if refused:
            assert refused.detail.isprintable()
            assert len(refused.detail) <= 500


HOSTS = st.one_of(
    st.text(min_size=1, max_size=20),
    st.text("aü.-_%@:[]0127f１。ⓛ\u00ad\u200b", min_size=1, max_size=12),
    st.from_regex(r"[a-z0-9.äß-]{1,20}\\.[a-z]{2,5}(:[0-9]{0,3})?", fullmatch=True),
)


@given(HOSTS, st.sampled_from(["/", "", "?q", "#f", "/@x", "?@x"]))
def test_who_was_checked_is_who_is_asked(host: str, rest: str) -> None:
    """aiohttp reads URLs by yarl: it must see the host and the port that were seen here, or none at all."""
    policy = AddressPolicy(allow_private=True)
    url = f"http://{host}{rest}"
    if check_url(url, policy) is None:
        with suppress(ValueError):
            asked = URL(url)
            assert (asked.raw_host, asked.port, asked.user) == (*addresses._authority(addresses._split(url)), None)


@given(st.text())
def test_what_is_shown_is_short_and_printable(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 120

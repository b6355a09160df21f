"""What may be connected to: a URL before any lookup, and an address at the moment its socket is made.

The first gives a good reason early; the second cannot be talked round: it sees what the kernel is about to be given.
IPv4 is judged by what is closed, IPv6 by what is open (`2000::/3`), as most of its space has no meaning yet. Sources:
the IANA special-purpose address registries (RFC 6890), RFC 4291, 5214, 6052, 9637; for names RFC 6761, 6762, 8375.
"""

from __future__ import annotations

import errno
import re
import socket
import unicodedata
from collections.abc import Callable, Container
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, urlsplit

import idna

from pipeline.errors import PageFailed
from pipeline.records import Proxy, Reason, Refusal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
AddrInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""As `socket.getaddrinfo` gives it."""

MAX_URL_CHARACTERS = 2_083
DEFAULT_PORTS = {"http": 80, "https": 443}
WEB_PORTS = frozenset(DEFAULT_PORTS.values())


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


NEVER = _networks(
    *("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
    # Where clouds tell a machine its secrets, when that is not link-local: Alibaba, Azure, Oracle; AWS, Google.
    *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::254/128", "fd20:ce::254/128"),
    *("::/128", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
)
"""No option opens these. An IPv4-mapped address is a second spelling that nobody needs."""
PRIVATE = _networks("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
"""This machine and private ranges: what `allow_private` opens."""
CLOSED = _networks(
    *("100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24"),
    # Inside 2000::/3: IETF protocols (Teredo and ORCHID in it), documentation twice, 6to4.
    *("203.0.113.0/24", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20", "2002::/16"),
)
"""Not public either; only a network that is named in `allowed_networks` opens them."""

PUBLIC_V6 = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")

_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f-\xa0\\\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ud800-\udfff]")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]{0,6}))?")
_NAME = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What a run may connect to; by default public addresses at the ports of the web."""

    allow_private: bool = False
    """Opens loopback and private ranges, names without a dot, and every port."""
    allowed_networks: tuple[Network, ...] = ()
    blocked_endpoints: frozenset[tuple[str, int]] = frozenset()
    """(name or address, port) of the model's server, never opened by anything. If it is on this machine, each of
    the machine's addresses counts, at that port."""
    allowed_ports: frozenset[int] = WEB_PORTS
    proxy: Proxy | None = None
    """If there is one, nothing else is connected to, and it looks up names: what can be judged is the URL alone."""

    def of_proxy(self) -> AddressPolicy:
        """What counts for the proxy: it may stand on this machine or in the house, but is not the model's server."""
        return AddressPolicy(allow_private=True, blocked_endpoints=self.blocked_endpoints)


class BlockedAddress(OSError):
    """The address may not be connected to. An `OSError`, because aiohttp passes on no other from a socket factory."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EACCES, what)
        self.what = what


def refusal(address: str, port: int, policy: AddressPolicy) -> str | None:
    """Why no socket may be opened to `address`, as `10.0.0.1 (10.0.0.0/8)`; `None` if it may."""
    try:
        ip = ip_address(address)
    except ValueError:
        return f"{shown(address)} (not an address)"
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        return f"{shown(address)} (an address with a zone)"
    # What the outer address carries is judged too: a relay would send the packet there.
    for judged in (ip, *_carried(ip)):
        if _is_model_server(judged, port, policy):
            return f"{ip} (the model's own server, port {port})"
        if why := _closed(judged, policy):
            return f"{ip} ({why})" if judged == ip else f"{ip} (carries {judged}, {why})"
    return None


def _closed(ip: Address, policy: AddressPolicy) -> str | None:
    """The closed network that holds the address; `None` if it is open."""
    if found := _in(ip, NEVER):
        return str(found)
    if _in(ip, policy.allowed_networks):
        return None
    if isinstance(ip, IPv6Address) and _is_isatap(ip):
        return "ISATAP"
    if found := _in(ip, PRIVATE):
        return None if policy.allow_private else str(found)
    if found := _in(ip, CLOSED):
        return str(found)
    return f"outside {PUBLIC_V6}" if ip.version == 6 and ip not in PUBLIC_V6 else None


def _in(ip: Address, networks: tuple[Network, ...]) -> Network | None:
    return next((network for network in networks if ip in network), None)


def _carried(ip: Address) -> list[IPv4Address]:
    """The IPv4 addresses inside an IPv6 one: NAT64 (RFC 6052), ISATAP, 6to4, Teredo."""
    if not isinstance(ip, IPv6Address):
        return []
    last = IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 or _is_isatap(ip) else None
    return [found for found in (last, ip.sixtofour, *(ip.teredo or ())) if found is not None]


def _is_isatap(ip: IPv6Address) -> bool:
    """RFC 5214 (6.1): the interface identifier is 0000:5efe or 0200:5efe and an IPv4 address."""
    return int(ip) >> 32 & 0xFDFFFFFF == 0x00005EFE


def _is_model_server(ip: Address, port: int, policy: AddressPolicy) -> bool:
    servers = [address for address, blocked_port in policy.blocked_endpoints if blocked_port == port]
    return str(ip) in servers or (any(map(_is_own, servers)) and _is_own(str(ip)))


def _is_own(address: str) -> bool:
    """Whether the address is one of this machine's: no socket can be bound to another's."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address == "localhost"
    if ip.is_loopback or ip.is_unspecified:
        return True
    try:
        with socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def socket_factory(
    policy: AddressPolicy, only: Container[tuple[str, int]] | None = None
) -> Callable[[AddrInfo], socket.socket]:
    """Makes the sockets of a `TCPConnector`; raises `BlockedAddress` before there is one that may not be.

    If there is an `only`, there are sockets to the (address, port) in it, as far as the policy has them, and no others.
    """

    def make(info: AddrInfo) -> socket.socket:
        family, kind, protocol, _, where = info
        if only is not None and (str(where[0]), int(where[1])) not in only:
            raise BlockedAddress(f"{where[0]} (not the proxy)")
        if blocked := refusal(str(where[0]), int(where[1]), policy):
            raise BlockedAddress(blocked)
        return socket.socket(family, kind, protocol)

    return make


def check_url(url: str, policy: AddressPolicy) -> Refusal | None:
    """Why a URL is not fetched, as far as it can be said without a lookup; `None` if it may be tried."""
    try:
        _check_host(*_authority(_split(url)), policy)
    except PageFailed as fault:
        return Refusal(fault.reason, fault.detail)
    return None


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL_CHARACTERS:
        raise PageFailed(Reason.BAD_URL, f"longer than {MAX_URL_CHARACTERS} characters")
    if found := _NOT_IN_URL.search(url):
        raise PageFailed(Reason.BAD_URL, f"U+{ord(found[0]):04X} inside")
    scheme = _SCHEME.match(url)
    if not scheme or scheme[1].lower() not in DEFAULT_PORTS:
        raise PageFailed(Reason.BLOCKED_SCHEME, f"{scheme[1].lower()}:"[:40] if scheme else "no scheme")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise PageFailed(Reason.BAD_URL, "the host cannot be read") from error
    if "@" in parts.netloc:
        raise PageFailed(Reason.BLOCKED_CREDENTIALS, "before the host")
    return parts


def _authority(parts: SplitResult) -> tuple[str, int]:
    """The host as it is looked up (lower case, IDNA, IPv6 without brackets), and the port."""
    found = _AUTHORITY.fullmatch(parts.netloc)
    if not found:
        raise PageFailed(Reason.BAD_URL, "the host or the port cannot be read")
    port = int(found["port"] or DEFAULT_PORTS[parts.scheme])
    if port > 65_535:
        raise PageFailed(Reason.BAD_URL, f"port {port}")
    if found["v6"] is None:
        return _ascii_name(found["name"]), port
    try:
        return str(IPv6Address(found["v6"])), port
    except ValueError as error:
        raise PageFailed(Reason.BAD_URL, f"{found['v6']} is no IPv6 address") from error


def _ascii_name(given: str) -> str:
    """The A-label form of a host (RFC 5891), or an IPv4 address in its one canonical spelling."""
    try:
        host = given.lower() if given.isascii() else idna.encode(given, uts46=True).decode("ascii")
    except UnicodeError as error:
        raise PageFailed(Reason.BAD_URL, f"{shown(given)} is no host name: {shown(str(error))}") from error
    # What is formatting or a space is dropped by some readers and kept by others: two hosts in one spelling.
    if not _NAME.fullmatch(host) or any(unicodedata.category(char)[0] in "CZ" for char in given):
        raise PageFailed(Reason.BAD_URL, f"{shown(given)} is no host name, or a part of it is too long")
    # As browsers have it: a last label that is a number makes the host an address (WHATWG URL, 3.5).
    if _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) and not _is_canonical(given):
        raise PageFailed(Reason.BAD_URL, f"{shown(given)} is an address in an unusual spelling")
    return host


def _is_canonical(host: str) -> bool:
    try:
        return str(IPv4Address(host)) == host
    except ValueError:
        return False


def _check_host(host: str, port: int, policy: AddressPolicy) -> None:
    if port == 0 or not (policy.allow_private or port in policy.allowed_ports):
        raise PageFailed(Reason.BLOCKED_PORT, f"port {port}")
    if ":" in host or _is_canonical(host):
        if blocked := refusal(host, port, policy):
            raise PageFailed(Reason.BLOCKED_ADDRESS, blocked)
        return
    name = host.removesuffix(".")
    is_own = name == "localhost" or name.endswith(".localhost")
    if is_own and _is_model_server(IPv4Address("127.0.0.1"), port, policy):
        raise PageFailed(Reason.BLOCKED_ADDRESS, f"{name} (the model's own server, port {port})")
    if (name, port) in policy.blocked_endpoints:
        raise PageFailed(Reason.BLOCKED_ADDRESS, f"{name} (the model's own server, port {port})")
    # A named network may have names like these; where they lead is checked when they have been looked up.
    if not (policy.allow_private or policy.allowed_networks) and ("." not in name or name.endswith(PRIVATE_SUFFIXES)):
        raise PageFailed(Reason.BLOCKED_ADDRESS, f"{name} (a name of a private network)")


def shown(text: str) -> str:
    """What may be shown of a text from outside: no control or invisible characters, at most 120 characters."""
    safe = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:120])
    return safe if len(text) <= 120 and len(safe) <= 120 else safe[:119] + "…"

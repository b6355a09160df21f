"""Host names into addresses: refused as a whole, bounded in time and number."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from pipeline import names
from pipeline.addresses import AddressPolicy, BlockedAddress
from pipeline.errors import PageFailed
from pipeline.names import Names, endpoints_of, look_up
from pipeline.records import Outcome, Reason

PUBLIC_ONLY = AddressPolicy()


def found(answer: Sequence[str] | Exception, policy: AddressPolicy = PUBLIC_ONLY) -> Sequence[str]:
    def lookup(host: str) -> Sequence[str]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return asyncio.run(Names(policy, 5.0, lookup).addresses("site.example", 80))


def test_public_addresses_are_given_in_their_order() -> None:
    assert found(["93.184.215.14", "2606:4700::1", "1.1.1.1"]) == ["93.184.215.14", "2606:4700::1", "1.1.1.1"]


@pytest.mark.parametrize(
    "addresses",
    [
        ["10.0.0.5"],
        ["93.184.215.14", "127.0.0.1"],
        ["127.0.0.1", "93.184.215.14"],
        ["2606:4700::1", "::1"],
        ["::ffff:169.254.169.254"],
        ["fe80::1%eth0"],
        [*(["93.184.215.14"] * 20), "10.0.0.5"],
    ],
)
def test_a_name_is_refused_as_a_whole_if_one_of_its_addresses_is_closed(addresses: list[str]) -> None:
    """Else whoever connects would try the next one: which of them is asked first is for the site to say."""
    with pytest.raises(BlockedAddress, match=r"site\.example is .* \("):
        found(addresses)


def test_a_thousand_addresses_are_cut_to_eight() -> None:
    assert found(["93.184.215.14"] * 1000) == ["93.184.215.14"] * 8


FAULTS = [
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Reason.DNS_ERROR),
    (socket.gaierror(socket.EAI_NODATA, "No address"), Reason.DNS_ERROR),
    (UnicodeError("label empty or too long"), Reason.DNS_ERROR),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), Reason.DNS_TIMEOUT),
    (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), Reason.DNS_TIMEOUT),
    ([], Reason.DNS_ERROR),
]


@pytest.mark.parametrize(("answer", "reason"), FAULTS)
def test_a_name_that_is_not_there_is_told_from_one_that_cannot_be_looked_up_now(
    answer: Sequence[str] | Exception, reason: Reason
) -> None:
    with pytest.raises(PageFailed) as caught:
        found(answer)
    assert caught.value.reason is reason
    assert "site.example" in caught.value.detail
    assert reason.meaning.outcome is (Outcome.FAILED if reason is Reason.DNS_ERROR else Outcome.DEFERRED)


def test_a_fault_of_this_machine_is_no_answer() -> None:
    with pytest.raises(OSError, match="files") as caught:
        found(OSError(errno.EMFILE, "Too many open files"))
    assert caught.value.errno == errno.EMFILE


def test_names_that_hang_hold_nobody_up_for_longer_than_their_limit() -> None:
    """More of them than are looked up at once; their threads are still waiting when the loop is closed."""
    let_go = threading.Event()

    def lookup(host: str) -> list[str]:
        if host.startswith("hang"):
            let_go.wait()
        return ["93.184.215.14"]

    async def main() -> list[Sequence[str] | BaseException]:
        those = Names(PUBLIC_ONLY, 0.1, lookup)
        hosts = [f"hang{number}" for number in range(names.LOOKUPS_AT_ONCE + 4)] + [f"good{n}" for n in range(10)]
        return await asyncio.gather(*(those.addresses(host, 80) for host in hosts), return_exceptions=True)

    try:
        answers = asyncio.run(main())
        waiting = [thread for thread in threading.enumerate() if thread.name == "lookup"]
    finally:
        let_go.set()
    assert all(thread.daemon for thread in waiting), "the program does not wait for them either"
    hung, good = answers[:-10], answers[-10:]
    assert good == [["93.184.215.14"]] * 10
    assert {fault.reason for fault in hung if isinstance(fault, PageFailed)} == {Reason.DNS_TIMEOUT}
    assert len(hung) == names.LOOKUPS_AT_ONCE + 4


def test_only_so_many_names_are_looked_up_at_once() -> None:
    all_in = threading.Barrier(names.LOOKUPS_AT_ONCE)
    inside: set[str] = set()
    most: list[int] = []

    def lookup(host: str) -> list[str]:
        inside.add(host)
        most.append(len(inside))
        all_in.wait()
        inside.remove(host)
        return ["93.184.215.14"]

    async def main() -> None:
        those = Names(PUBLIC_ONLY, 60.0, lookup)
        hosts = [f"h{number}" for number in range(2 * names.LOOKUPS_AT_ONCE)]
        await asyncio.gather(*(those.addresses(host, 80) for host in hosts))

    asyncio.run(main())
    assert max(most) == names.LOOKUPS_AT_ONCE


def test_the_systems_own_lookup_knows_this_machine() -> None:
    assert "127.0.0.1" in look_up("localhost")
    policy = AddressPolicy(allowed_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
    assert "127.0.0.1" in asyncio.run(Names(policy, 5.0).addresses("localhost", 80))


def test_the_model_server_is_known_by_name_and_addresses() -> None:
    assert endpoints_of("http://127.0.0.1:11434") == {("127.0.0.1", 11434)}
    assert endpoints_of("https://[::1]") == {("::1", 443)}
    assert {("localhost", 80), ("127.0.0.1", 80)} <= endpoints_of("http://LOCALHOST/api")
    assert endpoints_of("http://no-such-host.invalid:1") == {("no-such-host.invalid", 1)}

"""robots.txt: what its rules say (RFC 9309), and what happens when it cannot be had."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protego import Protego

from pipeline import robots
from pipeline.records import NotModified, Outcome, Page, Reason, Refusal, RobotsFile
from pipeline.robots import Answer, Robots, product_token

USER_AGENT = "summarize-batch/1.0 (+https://example.org/bot; foobot)"
SITE = "https://site.example"
NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def page(body: bytes | str) -> Page:
    text = body.encode() if isinstance(body, str) else body
    return Page(f"{SITE}/robots.txt", f"{SITE}/robots.txt", 200, "text/plain", "", text)


def known(answer: Answer, now: Callable[[], datetime] = lambda: NOW) -> Robots:
    """Robots of a world where each robots.txt is this answer."""

    async def get(url: str) -> Answer:
        assert url.endswith("/robots.txt")
        return answer

    return Robots(get, USER_AGENT, now)


def refusal(answer: Answer, path: str = "/page") -> Refusal | None:
    return asyncio.run(known(answer).refusal(SITE + path))


def allowed(rules: bytes | str, path: str) -> bool:
    refused = refusal(page(rules), path)
    assert refused is None or refused.reason is Reason.ROBOTS
    return refused is None


ALL = "User-agent: *\n"
OURS = "User-agent: summarize-batch\n"
TWICE = f"{OURS}Disallow: /a\nUser-agent: x\nDisallow: /\n{OURS}Disallow: /b\n"
VECTORS = [
    # 2.1: groups; an agent's rules are those of its own group, the rest is for others.
    ("2.1", "User-agent: other\nDisallow: /\n", "/a", True),
    ("2.1", "User-agent: summarize-batch\nDisallow: /a\n", "/a", False),
    ("2.1", "User-agent: other\nUser-agent: summarize-batch\nDisallow: /\n", "/a", False),
    ("2.1", "User-agent: summarize-batch\nUser-agent: other\nDisallow: /\n", "/a", False),
    ("2.1", "Disallow: /\n" + ALL + "Disallow: /b\n", "/a", True),
    # 2.2.1: the product token, in any case, as a whole; `*` only when no group is ours; groups of one name are one.
    ("2.2.1", "User-agent: SUMMARIZE-Batch\nDisallow: /\n", "/a", False),
    ("2.2.1", "User-agent: summarize-batch/2.0\nDisallow: /\n", "/a", False),
    ("2.2.1", "User-agent: summarize\nDisallow: /\n", "/a", True),
    ("2.2.1", "User-agent: batch\nDisallow: /\n", "/a", True),
    ("2.2.1", "User-agent: summarize-batch-two\nDisallow: /\n", "/a", True),
    ("2.2.1", "User-agent: foobot\nDisallow: /\n", "/a", True),
    ("2.2.1", "User-agent: https\nDisallow: /\n", "/a", True),
    ("2.2.1", ALL + "Disallow: /\nUser-agent: summarize-batch\nDisallow: /b\n", "/a", True),
    ("2.2.1", "User-agent: summarize-batch\nDisallow: /b\n" + ALL + "Disallow: /\n", "/a", True),
    ("2.2.1", "User-agent: summarize-batch\nAllow: /\n" + ALL + "Disallow: /\n", "/a", True),
    ("2.2.1", ALL + "Disallow: /\n", "/a", False),
    ("2.2.1", TWICE, "/a", False),
    ("2.2.1", TWICE, "/b", False),
    ("2.2.1", TWICE, "/c", True),
    # 2.2.2: paths from their beginning, in the case they have; the longest match; `Allow` when both are as long.
    ("2.2.2", ALL + "Disallow: /a\n", "/abc", False),
    ("2.2.2", ALL + "Disallow: /a\n", "/b/a", True),
    ("2.2.2", ALL + "Disallow: /A\n", "/a", True),
    ("2.2.2", ALL + "Disallow: /a/\n", "/a", True),
    ("2.2.2", ALL + "Disallow: /\nAllow: /a/b\n", "/a/b/c", True),
    ("2.2.2", ALL + "Allow: /a\nDisallow: /a/b\n", "/a/b/c", False),
    ("2.2.2", ALL + "Disallow: /a\nAllow: /a\n", "/a", True),
    ("2.2.2", ALL + "Allow: /a\nDisallow: /a\n", "/a", True),
    ("2.2.2", ALL + "Disallow:\n", "/a", True),
    ("2.2.2", ALL + "Disallow: /a?x=1\n", "/a?x=1&y=2", False),
    ("2.2.2", ALL + "Disallow: /\n", "/robots.txt", True),
    # 2.2.2: octets outside of ASCII and reserved ones are compared in their percent-encoded form.
    ("2.2.2", ALL + "Disallow: /ツ\n", "/%E3%83%84", False),
    ("2.2.2", ALL + "Disallow: /%E3%83%84\n", "/%e3%83%84", False),
    ("2.2.2", ALL + "Disallow: /%7Ea\n", "/~a", False),
    ("2.2.2", ALL + "Disallow: /~a\n", "/%7ea", False),
    ("2.2.2", ALL + "Disallow: /a%2Fb\n", "/a/b", True),
    # 2.2.3: `#`, `$` and `*`.
    ("2.2.3", ALL + "Disallow: /a # a comment\n", "/a", False),
    ("2.2.3", "User-agent: * # everybody\nDisallow: /a\n", "/a", False),
    ("2.2.3", "# User-agent: *\nDisallow: /a\n", "/a", True),
    ("2.2.3", ALL + "Disallow: /a$\n", "/a", False),
    ("2.2.3", ALL + "Disallow: /a$\n", "/ab", True),
    ("2.2.3", ALL + "Disallow: /*.pdf$\n", "/x/y.pdf", False),
    ("2.2.3", ALL + "Disallow: /*.pdf$\n", "/x/y.pdf?z", True),
    ("2.2.3", ALL + "Disallow: /a*c\n", "/abbbc", False),
    ("2.2.3", ALL + "Disallow: /a*c\n", "/ab", True),
    ("2.2.3", ALL + "Disallow: *\n", "/a", False),
    # 2.2.4: other records are passed over, and end no group.
    ("2.2.4", ALL + "Sitemap: https://site.example/s.xml\nDisallow: /a\n", "/a", False),
    ("2.2.4", ALL + "Crawl-delay: 2\nDisallow: /a\n", "/a", False),
    ("2.2.4", "User-agent: summarize-batch\nSitemap: /s.xml\nUser-agent: other\nDisallow: /a\n", "/a", False),
    # What the grammar leaves open: ends of lines, white space, case, a byte order mark, no last end of line.
    ("2.2", "User-agent: *\rDisallow: /a\r", "/a", False),
    ("2.2", "User-agent: *\r\nDisallow: /a\r\n", "/a", False),
    ("2.2", "\ufeffUser-agent: *\nDisallow: /a\n", "/a", False),
    ("2.2", "  USER-AGENT  :  *  \n\tDISALLOW\t:\t/a", "/a", False),
    ("2.2", ALL + "\n\nDisallow: /a\n", "/a", False),
    ("2.2", "user agent: *\nDisallow: /a\n", "/a", False),
    ("2.2", ALL + "Disalow: /a\n", "/a", False),
    ("2.2", "", "/a", True),
    ("2.2", "<!doctype html><title>404</title><p>User-agent: nobody", "/a", True),
    ("2.2", "\0\1\2\xff" * 1000, "/a", True),
]


@pytest.mark.parametrize(("clause", "rules", "path", "may"), VECTORS)
def test_the_clauses_of_rfc_9309(clause: str, rules: str, path: str, may: bool) -> None:
    assert allowed(rules, path) == may


def test_a_page_that_is_disallowed_is_skipped_and_says_by_what() -> None:
    refused = refusal(page(ALL + "Disallow: /"))
    assert refused == Refusal(Reason.ROBOTS, f"{SITE}/robots.txt disallows it for summarize-batch")
    assert refused.reason.meaning.outcome is Outcome.SKIPPED


@given(st.binary())
def test_no_bytes_raise(body: bytes) -> None:
    allowed(body, "/a")
    allowed(b"User-agent: *\n" + body, "/%zz?ä#")


PIECES = st.sampled_from(
    [
        "User-agent",
        "user agent",
        "Disallow",
        "Allow",
        "Crawl-delay",
        ":",
        " ",
        "*",
        "/",
        "$",
        "%",
        "#",
        "\r",
        "\n",
        "é",
        "\0",
    ]
)


@given(st.lists(PIECES).map("".join))
def test_no_rules_raise(rules: str) -> None:
    allowed(rules, "/a")


def test_rules_count_up_to_512_kib_and_not_beyond() -> None:
    filler = "#" * 1023 + "\n"
    rule = "Disallow: /a\n"
    assert not allowed(ALL + filler * 499 + rule, "/a")
    assert allowed(ALL + filler * 512 + rule, "/a")
    assert allowed(ALL + filler * 10_000 + rule, "/a")


def test_a_line_without_an_end_harms_nothing() -> None:
    assert not allowed(ALL + "Disallow: /a\nDisallow: /" + "b" * 20_000 + "\nDisallow: /c\n", "/c")


def test_half_a_file_of_agents_above_half_a_file_of_rules_is_read_at_once() -> None:
    """Rules are kept once for each agent: of half a megabyte that would be 300 million, more than memory holds."""
    agents = "".join(f"User-agent: bot{number}\n" for number in range(1_000))
    rules = "".join(f"Disallow: /{number}\n" for number in range(1_000))
    lines = robots._for_protego(agents + OURS + rules + ALL + rules, "summarize-batch").splitlines()
    assert {line for line in lines if "ser" in line} == {"User-agent: somebody-else", OURS.strip(), ALL.strip()}
    assert not allowed(agents + OURS + rules, "/999")
    assert allowed(agents + rules, "/1")


def test_rules_are_gone_through_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page of a host costs 40 ms if its file is full of wildcards."""
    threads: list[int] = []

    class Noted(Protego):
        def can_fetch(self, url: str, user_agent: str) -> bool:
            threads.append(threading.get_ident())
            return super().can_fetch(url, user_agent)

    monkeypatch.setattr(robots, "Protego", Noted)
    assert not allowed(ALL + "Disallow: /*a*b$", "/ab")
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("\ufeff# ours\r\nUser-agent: *\r\r\n  Disallow: /a # all of it\n\nx", "User-agent: *\nDisallow: /a\nx"),
        ("User-agent:\x1b[31m *\x07\nDisallow: /\u202ea\u200b\U000e0041", "User-agent:[31m *\nDisallow: /a"),
        ("<!doctype html><p>There is no such page.", ""),
        ("\x89PNG\r\n\x1a\n", ""),
    ],
)
def test_of_a_file_its_rules_are_kept_and_nothing_that_is_not_seen(body: str, kept: str) -> None:
    found = robots.file_of(page(body), NOW)
    assert isinstance(found, RobotsFile)
    assert found.text == kept


NOT_THERE = [400, 401, 403, 404, 405, 408, 410, 418, 425, 451, 499]


@pytest.mark.parametrize("status", NOT_THERE)
def test_without_a_robots_txt_all_is_allowed(status: int) -> None:
    """2.3.1.3: any status of 4xx, 429 alone excepted, which is about us and not about the file."""
    assert refusal(Refusal(Reason.HTTP_4XX, f"HTTP {status}", status)) is None


@pytest.mark.parametrize("answer", [Refusal(Reason.NO_CONTENT, "HTTP 204", 204), Refusal(Reason.TOO_MANY_REDIRECTS)])
def test_an_empty_answer_or_one_redirect_too_many_allows_all(answer: Refusal) -> None:
    """2.3.1.2: after five redirects the file may be taken as not there."""
    assert refusal(answer) is None


LATER = NOW + timedelta(hours=2)
UNREACHABLE = [
    Refusal(Reason.HTTP_5XX, "HTTP 500", 500),
    Refusal(Reason.RATE_LIMITED, "HTTP 503", 503, LATER),
    Refusal(Reason.RATE_LIMITED, "HTTP 429", 429, LATER),
    Refusal(Reason.RATE_LIMITED, "HTTP 429", 429),
    Refusal(Reason.TIMEOUT, "waiting for the next byte"),
    Refusal(Reason.CONNECT_ERROR, "refused"),
    Refusal(Reason.TRUNCATED_BODY, "cut"),
    Refusal(Reason.TOO_LARGE, "a bomb"),
    Refusal(Reason.BAD_ENCODING, "br"),
    Refusal(Reason.PROTOCOL_ERROR, "HTTP 206", 206),
    Refusal(Reason.BAD_REDIRECT, "HTTP 302 without a Location"),
]


@pytest.mark.parametrize("answer", UNREACHABLE)
def test_what_cannot_be_reached_forbids_all_for_now(answer: Refusal) -> None:
    """2.3.1.4: complete disallow; the word behind it and the pause that was asked for are kept."""
    refused = refusal(answer)
    detail = f"{answer.reason.value}: {answer.detail}"
    assert refused == Refusal(Reason.ROBOTS_UNREACHABLE, detail, answer.status, answer.not_before)
    assert refused.reason.meaning.outcome is Outcome.DEFERRED


def test_not_modified_without_being_asked_is_no_answer() -> None:
    refused = refusal(NotModified())
    assert refused
    assert refused.reason is Reason.ROBOTS_UNREACHABLE


@pytest.mark.parametrize("reason", sorted(robots.OF_THE_HOST))
def test_a_fault_of_the_host_is_told_as_what_it_is(reason: Reason) -> None:
    """The page itself would meet it: a name that does not exist is no matter of robots.txt."""
    assert refusal(Refusal(reason, "why")) == Refusal(reason, "why")


def test_a_fault_behind_a_redirect_is_not_told_as_the_hosts() -> None:
    behind = Refusal(Reason.ROBOTS_UNREACHABLE, "10.0.0.1 (10.0.0.0/8) (redirect 1: …)")
    assert refusal(behind) == behind


class Asked:
    """Gives its answers one after the other, each when it is let go; notes what was asked for."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.urls: list[str] = []
        self.may_answer = asyncio.Event()
        self.asked = asyncio.Event()

    async def get(self, url: str) -> Answer:
        self.urls.append(url)
        self.asked.set()
        await self.may_answer.wait()
        return self.answers.pop(0)


def test_many_who_ask_at_once_cost_one_request() -> None:
    async def main() -> None:
        site = Asked(page(ALL + "Disallow: /a"))
        known = Robots(site.get, USER_AGENT)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(known.refusal(f"{SITE}/a{number}")) for number in range(20)]
            await site.asked.wait()
            site.may_answer.set()
        assert site.urls == [f"{SITE}/robots.txt"]
        assert {refused.reason for task in waiting if (refused := task.result())} == {Reason.ROBOTS}

    asyncio.run(main())


def test_one_who_asks_and_is_cancelled_takes_nobody_with_him() -> None:
    async def main() -> None:
        site = Asked(page(ALL + "Disallow: /a"))
        known = Robots(site.get, USER_AGENT)
        first = asyncio.ensure_future(known.refusal(f"{SITE}/a"))
        await site.asked.wait()
        second = asyncio.ensure_future(known.refusal(f"{SITE}/b"))
        first.cancel()
        site.may_answer.set()
        assert await second is None
        assert first.cancelled()
        assert await known.refusal(f"{SITE}/a") is not None

    asyncio.run(main())


def test_each_authority_has_its_own() -> None:
    """2.3: scheme, host and port; the path and the query of a page are no part of it."""

    async def main() -> list[str]:
        site = Asked(*[page("")] * 9)
        site.may_answer.set()
        known = Robots(site.get, USER_AGENT)
        for url in ("/x?q=/y#z", "", "/y", ":443/z"):
            await known.refusal(SITE + url)
        for url in (
            "http://site.example/",
            "https://SITE.example/",
            "https://site.example:8443/x",
            "https://a.site.example/",
        ):
            await known.refusal(url)
        return site.urls

    assert asyncio.run(main()) == [
        "https://site.example/robots.txt",
        "http://site.example/robots.txt",
        "https://site.example:8443/robots.txt",
        "https://a.site.example/robots.txt",
    ]


def test_what_was_read_is_used_for_a_day_and_no_longer() -> None:
    """2.4: not for more than 24 hours."""
    times = [NOW]

    async def main() -> list[int]:
        site = Asked(page(""), page(ALL + "Disallow: /"))
        site.may_answer.set()
        known = Robots(site.get, USER_AGENT, lambda: times[-1])
        asked = []
        for age in (timedelta(0), timedelta(hours=23, minutes=59), timedelta(hours=24, minutes=1)):
            times.append(NOW + age)
            await known.refusal(SITE)
            asked.append(len(site.urls))
        return asked

    assert asyncio.run(main()) == [1, 1, 2]


def test_only_so_many_sites_are_kept_in_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robots, "MOST_SITES", 3)

    async def main() -> list[str]:
        site = Asked(*[page("")] * 9)
        site.may_answer.set()
        known = Robots(site.get, USER_AGENT)
        for host in "abcdda":
            await known.refusal(f"https://{host}.example/")
        return [url[8] for url in site.urls]

    assert asyncio.run(main()) == ["a", "b", "c", "d", "a"]


DELAYS = {
    "2": 2.0,
    "0.5": 0.5,
    "0": 0.0,
    "1e9": 30.0,
    "31": 30.0,
    "２": 2.0,
    **dict.fromkeys(("-1", "abc", "nan", "inf", ""), None),
}


@pytest.mark.parametrize("asked", DELAYS)
def test_a_crawl_delay_is_known_and_bounded(asked: str) -> None:
    known_robots = known(page(f"User-agent: other\nCrawl-delay: 9\nUser-agent: *\nCrawl-delay: {asked}\n"))
    assert known_robots.delay(SITE) is None
    asyncio.run(known_robots.refusal(SITE))
    assert known_robots.delay(f"{SITE}/x") == DELAYS[asked]


def test_without_rules_there_is_no_delay() -> None:
    for answer in (Refusal(Reason.HTTP_404, "", 404), Refusal(Reason.TIMEOUT)):
        known_robots = known(answer)
        asyncio.run(known_robots.refusal(SITE))
        assert known_robots.delay(SITE) is None


@pytest.mark.parametrize(
    ("user_agent", "token"), [(USER_AGENT, "summarize-batch"), ("My_Bot", "my_bot"), ("x2/1", "x"), ("", ""), ("/", "")]
)
def test_the_product_token_is_the_beginning_of_the_user_agent(user_agent: str, token: str) -> None:
    assert product_token(user_agent) == token

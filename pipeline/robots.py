"""The robots.txt of each site that is asked, and what it says of a URL: RFC 9309, with Protego as its reader.

How a file comes here is handed in (`get`). It is asked for once per authority (scheme, host, port), also when many
ask at once, and used for a day at most, also by another run (`recall`, `keep`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin, urlsplit

from protego import Protego

from pipeline.records import NotModified, Page, Reason, Refusal, RobotsFile

Answer = Page | NotModified | Refusal

Get = Callable[[str], Awaitable[Answer]]
Recall = Callable[[str], Awaitable[RobotsFile | None]]
"""A URL → the robots.txt that was last had of its authority."""
Keep = Callable[[str, RobotsFile], Awaitable[None]]

MAX_BYTES = 512 * 1024  # RFC 9309 (2.5) asks for 500 KiB at least
KEPT = timedelta(hours=24)  # RFC 9309 (2.4): not to be used for longer
MOST_SITES = 2_000
MAX_DELAY_SECONDS = 30.0

OF_THE_HOST = frozenset({Reason.BLOCKED_ADDRESS, Reason.DNS_ERROR, Reason.DNS_TIMEOUT, Reason.TLS_ERROR})
"""Faults that each page of the host would meet: they are told as what they are."""

_AGENT_LINE = re.compile(r"(?im)^[^\S\n]*user(?:-|[^\S\n]+)?agent(?:[^\S\n]*:|[^\S\n]|$)(?P<value>.*)$")
_TOKEN = re.compile(r"[a-z_-]+", re.IGNORECASE)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]|[\U000e0000-\U000e01ef]"
)
"""Characters that no rule has and no reader sees."""


async def _nothing(url: str) -> None:
    """What is remembered where nothing is."""


async def _forgets(url: str, file: RobotsFile) -> None:
    """What becomes of a file where nothing is kept."""


@dataclass(slots=True)
class _Site:
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    rules: Protego | Refusal | None = None
    """A refusal: nothing may be asked for now; `None`: everything may."""
    read_at: datetime | None = None

    def is_read(self, time: datetime) -> bool:
        """Whether the rules still count; a site that wants a pause is asked again after it."""
        if self.read_at is None or time - self.read_at >= KEPT:
            return False
        pause = self.rules.not_before if isinstance(self.rules, Refusal) else None
        return pause is None or time < pause


class Robots:
    """The rules of the sites of one run, for the product token in `user_agent`."""

    def __init__(
        self,
        get: Get,
        user_agent: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        recall: Recall = _nothing,
        keep: Keep = _forgets,
    ) -> None:
        self._get = get
        self._token = product_token(user_agent)
        self._now = now
        self._recall = recall
        self._keep = keep
        self._sites: dict[tuple[str, str | None, int], _Site] = {}

    async def refusal(self, url: str) -> Refusal | None:
        """Why `url` may not be asked for: `robots`, `robots_unreachable`, or a fault of its host."""
        site = self._site(url)
        # A lock, not one shared task: if the one who asks is cancelled, the next in line asks anew.
        async with site.asking:
            if not site.is_read(self._now()):
                file = await self._file(url)
                # In a thread: half a megabyte of rules takes up to a second.
                site.rules = file if isinstance(file, Refusal) else await asyncio.to_thread(rules_of, file, self._token)
                site.read_at = self._now() if isinstance(file, Refusal) else file.fetched_at
        rules = site.rules
        if rules is None or isinstance(rules, Refusal):
            return rules
        # In a thread: 25,000 rules with wildcards are gone through for 40 ms, for each page anew.
        if await asyncio.to_thread(rules.can_fetch, url, self._token):
            return None
        return Refusal(Reason.ROBOTS, f"{urljoin(url, '/robots.txt')} disallows it for {self._token}")

    async def _file(self, url: str) -> RobotsFile | Refusal:
        """The robots.txt that counts for a URL: as it was kept, or as it is now."""
        kept = await self._recall(url)
        if kept and timedelta(0) <= self._now() - kept.fetched_at < KEPT:
            return kept
        found = await asyncio.to_thread(file_of, await self._get(urljoin(url, "/robots.txt")), self._now())
        if isinstance(found, RobotsFile):
            await self._keep(url, found)
        return found

    def delay(self, url: str) -> float | None:
        """Seconds between two requests that the site asks for (`Crawl-delay`), at most 30; `None` if not known."""
        site = self._sites.get(_authority(url))
        asked = site.rules.crawl_delay(self._token) if site and isinstance(site.rules, Protego) else None
        return None if asked is None else min(asked, MAX_DELAY_SECONDS)

    def _site(self, url: str) -> _Site:
        authority = _authority(url)
        if authority not in self._sites and len(self._sites) >= MOST_SITES:
            self._sites.pop(next(iter(self._sites)))
        return self._sites.setdefault(authority, _Site())


def _authority(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80}.get(parts.scheme, 443)


def product_token(user_agent: str) -> str:
    """What a group of rules may call us (RFC 9309, 2.2.1): `summarize-batch` of `summarize-batch/1.0 (…)`."""
    found = _TOKEN.match(user_agent)
    return found[0].lower() if found else ""


def file_of(answer: Answer, time: datetime) -> RobotsFile | Refusal:
    """The file in an answer, or that there is none (RFC 9309, 2.3.1.3); a refusal: it could not be had (2.3.1.4)."""
    if isinstance(answer, Page):
        return RobotsFile(_lines_of(answer.body[:MAX_BYTES].decode("utf-8-sig", "replace")), answer.status, time)
    if not isinstance(answer, Refusal):
        return Refusal(Reason.ROBOTS_UNREACHABLE, "not modified, without being asked")
    status = answer.status or 0
    if answer.reason in (Reason.TOO_MANY_REDIRECTS, Reason.NO_CONTENT) or (status // 100 == 4 and status != 429):
        return RobotsFile("", status, time)
    if answer.reason in OF_THE_HOST or not answer.tried:
        return answer
    why = "" if answer.reason is Reason.ROBOTS_UNREACHABLE else f"{answer.reason.value}: "
    return Refusal(Reason.ROBOTS_UNREACHABLE, why + answer.detail, answer.status, answer.not_before)


def _lines_of(text: str) -> str:
    """What of a text may be rules: nothing if it names no agent, as the page of a site that has no robots.txt."""
    lines = (_UNSEEN.sub("", line.partition("#")[0]).strip() for line in text.splitlines())
    found = "\n".join(line for line in lines if line)
    return found if _AGENT_LINE.search(found) else ""


def rules_of(file: RobotsFile, token: str) -> Protego | None:
    """The rules in a file; `None`: there are none."""
    return Protego.parse(_for_protego(file.text, token)) if file.text else None


def _for_protego(text: str, token: str) -> str:
    """The same rules, with every agent that is not us under one name.

    RFC 9309 compares whole product tokens; Protego also takes a group for `summarize` as ours. And it keeps the
    rules of a group once for each agent: half a file of agents above half a file of rules are 300 million.
    """

    def known(line: re.Match[str]) -> str:
        agent = line["value"].partition("#")[0].strip()
        ours = product_token(agent) == token
        return f"User-agent: {'*' if agent.split()[:1] == ['*'] else token if ours else 'somebody-else'}"

    return _AGENT_LINE.sub(known, "\n".join(text.splitlines()))

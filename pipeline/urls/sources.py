"""The sources of a run into lines: files as they are read, lists from the web as they are fetched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import urlsplit

from pipeline.errors import UsageError
from pipeline.records import Line, Page, Reason, Refusal
from pipeline.urls.formats import Listing, items, listing
from pipeline.urls.items import Entry, Item, LeftOut, Unreadable
from pipeline.urls.keys import normal_form
from pipeline.urls.lines import Check, bad_line, line_of, masked, parse, shown
from pipeline.urls.streams import can_be_read_twice, decoded, opened

COMMAND_LINE = "command line"
LIST_PREFIX = "list:"
"""Before a URL on the command line: it is not a page but a list that lies on the web."""
MOST_LISTS = 1_000
"""That are fetched for one source: an index of sitemaps may name 50,000, at one a second."""
MOST_OF_A_PAGE = 1_000
"""Entries of a list that was given as a page: nobody has said that all of 50,000 are wanted."""
MOST_LEVELS = 2
"""Of indexes, one in the other; the protocol allows one."""

Fetch = Callable[[str], Page | Refusal | None]
"""A URL into what lies there, whatever its type; `None` if nothing is to be fetched now."""


def _unheard(text: str) -> None:
    """Where notes go that nobody asked for."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is the same for all lines of one source."""

    source: str
    check: Check
    secret: bytes
    since: datetime | None
    fetch: Fetch | None
    note: Callable[[str], None]
    lists: set[str] = field(default_factory=set)
    """The lists from the web that were read already: none is read twice."""
    unread: set[str] = field(default_factory=set)
    """Those that were not to be fetched now."""


def read(
    sources: Iterable[str],
    check: Check,
    secret: bytes,
    *,
    since: datetime | None = None,
    fetch: Fetch | None = None,
    note: Callable[[str], None] = _unheard,
) -> Iterator[Line]:
    """The lines of all sources, one after the other, as they are read.

    A source is the path of a list, `-` for standard input, an http(s) URL (a page), or `list:` and a URL (a list,
    which is fetched by `fetch`, as are the sitemaps that an index names). `check` judges a URL before any look-up;
    `secret` keys the hash by which a bad line is known without its text being told. What a feed or a sitemap
    dates before `since` is left out. What is left out on purpose is counted and told by `note`.

    Each list that was fetched, or could not be, is a line too, with `list` or why as its reason.
    Raises `UsageError` for a file that cannot be read at all.
    """
    for source in sources:
        url = _list_url(source)
        reading = _Reading(masked(source) if url else source, check, secret, since, fetch, note)
        if _is_url(source):
            yield parse(source, COMMAND_LINE, check, secret)
        elif url:
            yield from _from_web(url, 0, reading)
        else:
            yield from _from_file(reading)
        if reading.unread:
            note(f"{shown(source)}: {len(reading.unread):,} lists on the web were not read")


def check_sources(sources: Iterable[str]) -> None:
    """Raises `UsageError` for a file that is not there or is no list, before anything is made for its lines."""
    for source in sources:
        if not _is_url(source) and not _list_url(source) and can_be_read_twice(source):
            try:
                with opened(source) as stream, decoded(stream) as text:
                    next(items(text), None)
            except Unreadable as fault:
                raise _cannot_read(source, fault) from fault


def lines_of_page(
    page: Page, check: Check, secret: bytes, *, since: datetime | None = None
) -> tuple[tuple[Line, ...], Refusal]:
    """The lines of a page that turned out to be a list (`is_list`), and what becomes of the page itself.

    Lists that it names are not read. It may take half a minute: it belongs into a thread.
    """
    reading = _Reading(page.url, check, secret, since, None, _unheard)
    try:
        found = listing(page.body, page.final_url, page.charset)
    except Unreadable as fault:
        return (), Refusal(Reason.BAD_LIST, str(fault))
    lines = tuple(_lines(found.items, shown(page.url), 0, reading))
    outcome, more = _outcome(found), ""
    if len(lines) > MOST_OF_A_PAGE:
        more += f", of which {MOST_OF_A_PAGE:,} are taken"
    if reading.unread:
        more += f", {len(reading.unread):,} of them lists that were not read"
    if more:
        more += f": give {LIST_PREFIX}{shown(page.url)} as a source to have them"
    return lines[:MOST_OF_A_PAGE], replace(outcome, detail=outcome.detail + more)


def _is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _list_url(source: str) -> str:
    """The URL of a list that lies on the web; empty for other sources."""
    prefix, url = source[: len(LIST_PREFIX)], source[len(LIST_PREFIX) :]
    return url if prefix.lower() == LIST_PREFIX and _is_url(url) else ""


def _cannot_read(source: str, fault: Unreadable) -> UsageError:
    return UsageError(f"cannot read {'standard input' if source == '-' else shown(source)}: {fault}")


def _from_file(reading: _Reading) -> Iterator[Line]:
    any_line = False
    with opened(reading.source) as stream:
        try:
            with decoded(stream) as text:
                for line in _lines(items(text), reading.source, 0, reading):
                    any_line = True
                    yield line
        except Unreadable as fault:
            if not any_line:
                raise _cannot_read(reading.source, fault) from fault
            broken = Refusal(Reason.BAD_LIST, f"the rest was not read: {fault}")
            yield _sourced(bad_line(f"{reading.source}: {fault}", reading.source, reading.secret, broken), reading)


def _from_web(url: str, level: int, reading: _Reading) -> Iterator[Line]:
    reading.lists.add(url)
    answer = reading.fetch(url) if reading.fetch else None
    if answer is None:
        reading.unread.add(url)
    elif isinstance(answer, Refusal):
        yield _list_line(url, answer, reading)
    else:
        try:
            found = listing(answer.body, answer.final_url, answer.charset)
        except Unreadable as fault:
            yield _list_line(url, Refusal(Reason.BAD_LIST, str(fault)), reading)
            return
        yield from _lines(found.items, shown(url), level, reading, answer.final_url)
        yield _list_line(url, _outcome(found), reading)


def _outcome(found: Listing) -> Refusal:
    if found.fault:
        return Refusal(Reason.BAD_LIST, f"the rest was not read: {found.fault}")
    return Refusal(Reason.LIST, f"{found.kind.value}, {sum(isinstance(item, Entry) for item in found.items):,} entries")


def _list_line(url: str, refused: Refusal, reading: _Reading) -> Line:
    """The row of a list from the web; nothing fetches it but a source."""
    given = LIST_PREFIX + url
    line = bad_line(given, reading.source, reading.secret, refused)
    try:
        return replace(line, key=LIST_PREFIX + normal_form(url), source=reading.source)
    except ValueError:
        return _sourced(line, reading)


def _sourced(line: Line, reading: _Reading) -> Line:
    return replace(line, source=reading.source)


def _lines(found: Iterable[Item], name: str, level: int, reading: _Reading, address: str = "") -> Iterator[Line]:
    """The lines of one list, with those of the lists that it names."""
    left_out: Counter[str] = Counter()
    for item in found:
        if isinstance(item, LeftOut):
            left_out[item.what] += 1
        elif reading.since and item.dated and item.dated < reading.since:
            left_out[f"entries dated before {reading.since:%Y-%m-%d %H:%M} UTC"] += 1
        elif item.is_list:
            yield from _named(item.url, level, reading, address)
        else:
            origin = shown(f"{name}: {item.place}") if item.place else name
            yield _sourced(line_of(item, origin, reading.check, reading.secret), reading)
    for what, count in left_out.items():
        reading.note(f"{name}: left out {count:,} {what}")


def _named(url: str, level: int, reading: _Reading, address: str) -> Iterator[Line]:
    """The lines of a list that is named in another, at `address` (empty: a file of the user's own)."""
    if url in reading.lists:
        return
    why = ""
    if level >= MOST_LEVELS:
        why = f"named by lists more than {MOST_LEVELS} deep"
    elif len(reading.lists) >= MOST_LISTS:
        why = f"more than {MOST_LISTS:,} lists"
    elif address and _site(url) != _site(address):
        why = f"on another site than the index that names it: give {LIST_PREFIX}{url} as a source"
    if why:
        yield _list_line(url, Refusal(Reason.BAD_LIST, why), reading)
    else:
        yield from _from_web(url, level + 1, reading)


def _site(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""

"""A text into parts that fit: joined they are the text, and what stood in the last version stays as it was cut.

A cut is made at the best border there is: before a heading, a paragraph, a list item, a line, after a sentence; if
need be inside a table or fenced code, after a word, between characters. What fits is up to the `measure` handed in.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.records import Chunk
from pipeline.sentences import SENTENCE

LEAST_SAMPLED = 200
"""Characters; of a longer piece the half in its middle is measured: it only tells about where to cut."""
VERSION = 1
"""Of the rules below. It is a part of the recipe: another number, and texts are cut and summarized anew."""

_HEADING_LINE = re.compile(r"#{1,6}[ \t]")
_HEADING = re.compile(r"\n(?=#{1,6}[ \t]+\S)")
_PARAGRAPH = re.compile(r"\n[ \t\r]*+\n(?=[ \t]{0,40}\S)")
_ITEM = re.compile(r"\n(?=[ \t]{0,12}(?:[-*+]|\d{1,3}[.)])[ \t])")
_LINE = re.compile(r"\n(?=[ \t]{0,40}\S)")
_WORD = re.compile(r"[\s，、；：](?=\S)")
_WHOLE = (_HEADING, _PARAGRAPH, _ITEM, _LINE, SENTENCE)
_BROKEN = (_PARAGRAPH, _LINE, SENTENCE, _WORD)
_BLOCK = re.compile(r"(?m)^(?: {0,3}(`{3,}|~{3,})([^\n]*+)|\|[^\n]*+(?:\n\|[^\n]*+)+)")
_CLINGS = re.compile(
    # White space, joiners, skin tones, jamo; flags; surrogates. (Marks are known by their category.)
    "(?s).[\\s\u200d\U0001f3fb-\U0001f3ff\u1160-\u11ff\ud7b0-\ud7ff]|\u200d."
    "|[\U0001f1e6-\U0001f1ff]{2}|[\ud800-\udbff][\udc00-\udfff]"
)
_PIECE = re.compile(r"[^\n.!?…。！？।]++[\n.!?…。！？।]*+|[\n.!?…。！？।]++")


@dataclass(frozen=True, slots=True)
class _Part:
    start: int
    end: int
    tokens: int
    fresh: bool
    """Whether it was cut now, and not kept."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What stays the same while one text is cut."""

    text: str
    limit: int
    measure: Callable[[str], int]
    blocks: list[tuple[int, int]]
    """Where fenced code and tables stand, in order."""


def split(text: str, limit: int, measure: Callable[[str], int], previous: Sequence[str] = ()) -> list[Chunk]:
    """The chunks of a text, numbered from 0; offsets in characters, `tokens` as measured, never above `limit`.

    `previous` are the chunks of the page's last version: those that still stand in the text and fit are kept, only
    what lies between is cut. Time is linear: about three times the text is measured. A chunk is white space only
    where a limit's worth of it stands. Raises `ValueError` if one character alone measures more than `limit`.
    """
    job = _Job(text, limit, measure, _blocks(text))
    parts: list[_Part] = []
    last = 0
    for start, end in _standing(text, [chunk for chunk in previous if chunk]):
        kept = _Part(start, end, measure(text[start:end]), fresh=False)
        parts += _cut(job, last, start, fresh=True)
        parts += [kept] if kept.tokens <= limit else _cut(job, start, end, fresh=False)
        last = end
    parts = _settled(job, parts + _cut(job, last, len(text), fresh=True))
    return [Chunk(i, part.start, part.end, text[part.start : part.end], part.tokens) for i, part in enumerate(parts)]


def _standing(text: str, previous: Sequence[str]) -> list[tuple[int, int]]:
    """Where the previous chunks are in the text, in order and without overlap: from the front, the back, between."""
    first, start, head = 0, 0, []
    while first < len(previous) and text.startswith(previous[first], start):
        head.append((start, start := start + len(previous[first])))
        first += 1
    last, end, tail = len(previous), len(text), []
    while last > first and text.endswith(previous[last - 1], start, end):
        tail.append((end - len(previous[last - 1]), end))
        last, end = last - 1, tail[-1][0]
    return head + _between(text, start, end, previous[first:last]) + tail[::-1]


def _between(text: str, start: int, end: int, wanted: Sequence[str]) -> list[tuple[int, int]]:
    """Where chunks stand that are not where they were, each found by the rarest of its sentences or lines.

    So a chunk is tried in a few places only, be the text of a thousand equal paragraphs.
    """
    places: dict[str, list[int]] = {}
    for piece in _PIECE.finditer(text, start, end) if wanted else ():
        places.setdefault(piece.group(), []).append(piece.start())
    taken: list[tuple[int, int]] = []
    cursor = start
    for chunk in wanted:
        for at in _tries(chunk, places, cursor):
            i = bisect_left(taken, (at, at))
            free = (i == 0 or taken[i - 1][1] <= at) and (i == len(taken) or at + len(chunk) <= taken[i][0])
            if start <= at <= end - len(chunk) and free and text.startswith(chunk, at):
                insort(taken, (at, at + len(chunk)))
                cursor = at + len(chunk)
                break
    return taken


def _tries(chunk: str, places: dict[str, list[int]], cursor: int) -> Iterator[int]:
    """Where a chunk may start: after the one before it, then around its rarest piece, forwards first."""
    yield cursor
    known = [piece for piece in _PIECE.finditer(chunk) if piece.group() in places]
    if known:
        rarest = min(known, key=lambda piece: len(places[piece.group()]))
        found = places[rarest.group()]
        i = bisect_left(found, cursor + rarest.start())
        for at in found[i : i + 8] + found[max(0, i - 8) : i]:
            yield at - rarest.start()


def _settled(job: _Job, parts: list[_Part]) -> list[_Part]:
    """New parts joined with a kept neighbour where both fit into one, or where the new one is a crumb.

    It costs no call to the model, or one, and a page of many small changes stays in few parts. From the end, so that
    a new heading goes with what follows it.
    """
    settled: list[_Part] = []
    for i in reversed(range(len(parts))):
        part, right = parts[i], settled[-1] if settled else parts[i]
        unite = part.fresh != right.fresh and _fit(job, part, right)
        if part.fresh != right.fresh and _crumb(job, part if part.fresh else right):
            unite = unite or not (part.fresh and i and _fit(job, parts[i - 1], part))
        if unite:
            settled[-1:] = reversed(_cut(job, part.start, right.end, fresh=True))
        else:
            settled.append(part)
    return settled[::-1]


def _fit(job: _Job, left: _Part, right: _Part) -> bool:
    return left.tokens + right.tokens < job.limit * 0.98  # two parts may measure a little less than both in one


def _crumb(job: _Job, part: _Part) -> bool:
    return part.tokens * 8 < job.limit or job.text[part.start : part.end].isspace()


def _cut(job: _Job, start: int, end: int, fresh: bool) -> list[_Part]:
    """A stretch of the text cut into parts between half the limit and the limit, the last two balanced."""
    if start >= end:
        return []
    at, sums = _measured(job, start, end)
    parts: list[_Part] = []
    while start < end:
        gone = _between_points(at, sums, start)
        rest = sums[-1] - gone
        # The sum over pieces may be above the measure of the whole, which is what counts.
        if rest <= job.limit * 1.25 and (tokens := job.measure(job.text[start:end])) <= job.limit:
            return [*parts, _Part(start, end, tokens, fresh)]
        goal = float(job.limit)
        while True:
            most = min(goal, rest * 0.75)
            least = min(most, max(goal / 2, rest - 0.93 * job.limit if rest < 1.8 * job.limit else 0.0))
            bottom = least / 2 if least == goal / 2 else least
            low, middle, high = (int(_between_points(sums, at, gone + part)) for part in (bottom, least, most))
            border = _border(job, start, low, middle, min(max(high, start + 1), end - 1)) if end - start > 1 else end
            tokens = job.measure(job.text[start:border])
            if tokens <= job.limit:
                break
            if border - start == 1:
                raise ValueError(f"one character has {tokens} tokens, above the limit of {job.limit}")
            goal *= 0.9 * job.limit / tokens
        parts.append(_Part(start, border, tokens, fresh))
        start = border
    return parts


def _measured(job: _Job, start: int, end: int) -> tuple[list[int], list[int]]:
    """Positions about an eighth of the limit apart, and the sum of the measures up to each."""
    at, sums = [start], [0]
    step = max(1, job.limit // 8)
    while at[-1] < end:
        piece = job.text[at[-1] : min(end, at[-1] + step)]
        sample = piece if len(piece) < LEAST_SAMPLED else piece[len(piece) // 4 : len(piece) * 3 // 4]
        tokens = job.measure(sample) * len(piece) // len(sample)
        wanted = max(1, min(step * 2, step * job.limit // (8 * max(1, tokens))))
        if tokens * 2 <= job.limit or step == 1:
            at.append(min(end, at[-1] + step))
            sums.append(sums[-1] + tokens)
        else:
            wanted = min(wanted, step - 1)
        step = wanted
    return at, sums


def _between_points(xs: list[int], ys: list[int], x: float) -> float:
    """The straight line through the points, at `x`."""
    i = min(max(bisect_right(xs, x), 1), len(xs) - 1)
    return ys[i - 1] + (ys[i] - ys[i - 1]) * min(1.0, max(0.0, (x - xs[i - 1]) / max(1, xs[i] - xs[i - 1])))


def _border(job: _Job, start: int, low: int, middle: int, high: int) -> int:
    """The best place for a cut after `start`: whole blocks between `middle` and `high`, or from `low`; else any."""
    first = start + len(job.text[start:high]) - len(job.text[start:high].lstrip())
    if first == high:
        return high
    stages = ((_WHOLE, middle, high, True), (_WHOLE[:-1], low, middle, True), (_BROKEN, middle, high, False))
    for patterns, least, most, whole in stages:
        for pattern in patterns:
            found = [match.end() for match in pattern.finditer(job.text, max(least - 1, first), most + 64)]
            for border in reversed(found):
                if first < border <= most and least <= border and not (whole and _parts(job, start, border)):
                    return border
    return _character(job.text, first, high)


def _parts(job: _Job, start: int, border: int) -> bool:
    """Whether a cut parts what belongs together: a table, a fenced block, a heading and what follows."""
    i = bisect_left(job.blocks, (border, 0)) - 1
    if i >= 0 and border < job.blocks[i][1]:
        return True
    before = job.text[max(start, border - 400) : border].rstrip()
    return _HEADING_LINE.match(before, before.rfind("\n") + 1) is not None


def _character(text: str, first: int, high: int) -> int:
    """Between two characters as readers see them, no white space after it; if there is no such place, at `high`."""
    place = first + len(text[first:high].rstrip()) - 1 if text[high].isspace() else high
    for border in range(place, max(first, place - 64), -1):
        conjunct = unicodedata.combining(text[border - 1]) == 9  # a virama: the next letter is joined to it
        mark = unicodedata.category(text[border])[0] == "M"
        if not (conjunct or mark or _CLINGS.fullmatch(text, border - 1, border + 1)):
            return border
    return place if place > first else high


def _blocks(text: str) -> list[tuple[int, int]]:
    """Where fenced blocks and tables start and end; a fence that is never closed is none."""
    blocks, fence, start = [], "", 0
    for match in _BLOCK.finditer(text):
        mark, rest = match.groups()
        if not fence:
            fence, start = mark or "", match.start()
        if not mark and not fence:
            blocks.append(match.span())
        elif mark and start < match.start() and mark.startswith(fence) and not rest.strip():
            blocks.append((start, match.end()))
            fence = ""
    return blocks

"""`search WORDS`: the pages that have all the words, the best first, each with the place where they stand."""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline import queries
from pipeline.errors import UsageError
from pipeline.migrations import APART, END_OF_RUN
from pipeline.store import connect, translated

SHORTEST_BEGINNING = 3
"""Letters of a word that also finds the longer words which begin with it; "a" would find half of all there are."""
SNIPPET_CHARACTERS = 160
BEFORE_THE_HIT = 40

_PHRASE_OR_WORD = re.compile(r'"([^"]*)"?|([^\s"]+)')
_MARKDOWN = re.compile(r"\*\*|__|`|^[ \t]*(?:#{1,6} |> ?|[-*+] )", re.MULTILINE)
_NOT_SHOWN = re.compile(f"[{APART}{END_OF_RUN}]")


@dataclass(frozen=True, slots=True)
class Hit:
    """A page that was found."""

    url: str
    state: str
    reason: str | None
    title: str
    site: str
    score: float
    """The higher the better; it says something only beside the others of one search."""
    snippet: str
    """From the summary, the key points or the text, whichever has more of the words; without marks of Markdown."""
    marks: tuple[tuple[int, int], ...]
    """Where the words stand in the snippet: start and end, in characters."""
    summary: str | None
    key_points: tuple[str, ...]
    language: str | None
    fetched_at: str | None
    summarized_at: str | None


def pages(db: Path, words: Sequence[str], limit: int) -> list[Hit]:
    """The pages that have all the words, at most `limit`, the best first.

    A word with a blank in it, and what stands in double quotes, is a phrase. Raises `UsageError` when there is no
    word, `DatabaseUnusable`.
    """
    with closing(connect(db, write=False)) as connection, translated(db):
        letter = re.compile(connection.execute(queries.LETTER).fetchone()[0])
        query = expression(words, letter)
        if not query:
            raise UsageError("nothing to search for: the words have no letter and no digit")
        return [_hit(row) for row in connection.execute(queries.SEARCH, {"query": query, "limit": limit})]


def expression(words: Sequence[str], letter: re.Pattern[str]) -> str:
    """What FTS5 is asked: letters, digits and blanks between quotes, so that nothing is syntax. Empty: no word.

    `letter` matches one letter of the scripts that put no blanks between words; each is a word of its own to FTS5.
    """
    return " AND ".join(dict.fromkeys(part for word in words for part in _parts(word, letter)))


def _parts(argument: str, letter: re.Pattern[str]) -> Iterator[str]:
    if '"' not in argument and argument.split() != [argument]:
        argument = f'"{argument}"'
    for phrase, word in _PHRASE_OR_WORD.findall(argument):
        plain = _letters_and_digits(phrase or word)
        quoted = f'"{_apart(plain, letter)}"'
        if plain:
            # The word itself is asked for too: it is rarer than its beginnings, so that pages with it come first.
            yield f"({quoted} OR {quoted} *)" if word and _may_go_on(plain, letter) else quoted


def _letters_and_digits(text: str) -> str:
    """The text with blanks for all that FTS5 does not index either; empty if no letter and no digit is left."""
    kinds = [(character, unicodedata.category(character)[0]) for character in unicodedata.normalize("NFC", text)]
    if not any(kind in "LN" for _, kind in kinds):
        return ""
    return " ".join("".join(character if kind in "LNM" else " " for character, kind in kinds).split())


def _apart(text: str, letter: re.Pattern[str]) -> str:
    """The text as the view `search_spaced` has it, with blanks for U+001F: FTS5 knows no difference."""
    runs = re.sub(rf"({letter.pattern})(?!{letter.pattern}|\Z)", rf"\1 {END_OF_RUN} ", text)
    return letter.sub(r" \g<0> ", runs)


def _may_go_on(word: str, letter: re.Pattern[str]) -> bool:
    last = word.rsplit(maxsplit=1)[-1]
    return len(last) >= SHORTEST_BEGINNING and not last[-1].isdigit() and not letter.match(last[-1])


def _hit(row: sqlite3.Row) -> Hit:
    excerpts = [_excerpt(_read(row[name])) for name in ("in_summary", "in_key_points", "in_text")]
    best = max(excerpts, key=lambda excerpt: (len(excerpt.words), excerpt.text != ""))
    return Hit(
        **{name: row[name] for name in ("url", "state", "reason", "title", "site", "score", "summary")},
        **{name: row[name] for name in ("language", "fetched_at", "summarized_at")},
        key_points=_points(row["key_points"] or "[]"),
        snippet=best.text,
        marks=best.marks,
    )


def _points(stored: str) -> tuple[str, ...]:
    """The key points; what another program may have put there is one point as it stands."""
    try:
        points = json.loads(stored)
    except ValueError:
        points = stored
    return tuple(str(point) for point in points) if isinstance(points, list) else (stored,)


@dataclass(frozen=True, slots=True)
class _Marked:
    text: str
    marks: tuple[tuple[int, int], ...]

    @property
    def words(self) -> set[str]:
        return {self.text[start:end].casefold() for start, end in self.marks}


def _read(column: str | None) -> _Marked:
    """A column as `queries.SEARCH` gives it, with its hits between U+0002 and U+0003, as one line for people."""
    line = " ".join(_MARKDOWN.sub("", _NOT_SHOWN.sub("", column or "")).split())
    parts, marks = [], []
    start = length = 0
    for part in re.split("([\x02\x03])", line):
        if part == "\x02":
            start = length
        elif part == "\x03":
            marks.append((start, length))
        else:
            parts.append(part)
            length += len(part)
    return _Marked("".join(parts), tuple(marks))


def _excerpt(whole: _Marked) -> _Marked:
    """The part with the most different words that were found; the beginning, if there are none."""
    text, start, end = whole.text, 0, SNIPPET_CHARACTERS
    if whole.marks:
        hit_start, hit_end = whole.marks[_densest(whole)]
        start = max(0, hit_start - BEFORE_THE_HIT)
        start = start and (text.find(" ", start, hit_start) + 1 or start)
        end = max(hit_end, start + SNIPPET_CHARACTERS)
    inside = [mark for mark in whole.marks if start <= mark[0] and mark[1] <= end]
    if end < len(text):
        blank = text.rfind(" ", inside[-1][1] if inside else start, end + 1)
        end = blank if blank > start else end
    before, after = "…" if start else "", "…" if end < len(text) else ""
    shift = len(before) - start
    return _Marked(f"{before}{text[start:end]}{after}", tuple((first + shift, last + shift) for first, last in inside))


def _densest(whole: _Marked) -> int:
    """The mark with which the passage begins that has the most different words."""
    seen: Counter[str] = Counter()
    words = [whole.text[start:end].casefold() for start, end in whole.marks]
    width = SNIPPET_CHARACTERS - BEFORE_THE_HIT
    first = best = most = 0
    for number, (_, end) in enumerate(whole.marks):
        seen[words[number]] += 1
        while first < number and (seen[words[first]] > 1 or end - whole.marks[first][0] > width):
            seen[words[first]] -= 1
            seen += Counter()  # drops what is no longer seen
            first += 1
        if len(seen) > most:
            most, best = len(seen), first
    return best

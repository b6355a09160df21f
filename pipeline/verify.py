"""A summary and its source into flags: the facts of the summary that the source lacks, whatever form they are in.

A flag is for the reader; it turns nothing away. One that is wrong does harm to trust alone, but enough of it: in doubt
there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline import dates, facts, languages, numerals
from pipeline.clean import printable
from pipeline.dates import Date
from pipeline.facts import Name
from pipeline.links import URL, urls
from pipeline.numerals import Number

MOST_FLAGS = 20
MOST_FLAG_CHARACTERS = 80
SMALL = 20
"""Numbers up to it are passed over if a source may have them in words of a language that `numerals` does not know."""
NOUNS = 0.18
"""The share of capitals inside of sentences from which on a language writes all nouns so: 0.30 in German texts of tests
and demo, 0.09 at most in all others."""

_FEW_FORMS = frozenset(("en", "fr", "es", "it", "pt", "nl", "sv", "da"))
"""Languages whose names hardly change with their place in the sentence."""

Fact = tuple[str, str]
"""(its kind, its words)"""


def flags(summary: str, key_points: Sequence[str], source: str) -> tuple[str, ...]:
    """The facts of a summary that its source lacks: `number:`, `date:`, `quotation:`, `url:` or `name:` and its words.

    Forms do not count (1,000 and 1.000; 24 and twenty-four; 14 May and 2024-05-14). Quotations and names are looked for
    only if both are of one language, as far as can be told. At most `MOST_FLAGS`, printable, each of
    `MOST_FLAG_CHARACTERS` at most.
    """
    text = "\n".join((summary, *key_points))
    found = [*_counts(text, source), *_links(text, source)]
    if not languages.not_in("source", text, source):
        found += [*_words(text, source)]
    return tuple(dict.fromkeys(_shown(kind, words) for kind, words in found))[:MOST_FLAGS]


def _shown(kind: str, words: str) -> str:
    flag = f"{kind}:{' '.join(printable(words).split())}"
    return flag if len(flag) <= MOST_FLAG_CHARACTERS else f"{flag[: MOST_FLAG_CHARACTERS - 1]}…"


@dataclass(frozen=True, slots=True)
class _Counted:
    """The numbers and dates of a source."""

    plain: set[str]
    """Numbers that have no scale, and parts of what may be several."""
    values: set[str]
    """… and those that have one, with it."""
    known: set[str]
    """… and those without it."""
    days: set[tuple[int, int, int]]
    """(year, month, day), 0 for what is not said."""
    months: set[int]

    def has(self, number: Number) -> bool:
        if number.scaled != number.readings:
            return not (number.scaled.isdisjoint(self.values) and number.readings.isdisjoint(self.plain))
        return not number.readings.isdisjoint(self.known) or (bool(number.pieces) and number.pieces <= self.known)

    def has_date(self, date: Date) -> bool:
        year, month, day = date.year, date.month, date.day
        told = str(year) in self.plain
        if day and not year:
            return any((month, day) == each[1:] for each in self.days)
        if day:
            return (year, month, day) in self.days or (told and (0, month, day) in self.days)
        return any((year, month) == each[:2] for each in self.days) or (told and month in self.months)


def _counted(source: str) -> _Counted:
    plain, scaled, unscaled = numerals.spelled(source), set[str](), set[str]()
    for number in numerals.numbers(source):
        plain |= number.pieces
        scaled |= number.scaled
        unscaled |= number.readings
        if number.scaled == number.readings:
            plain |= number.readings
    days = {(date.year, date.month, date.day) for date in dates.dates(source)}
    return _Counted(plain, plain | scaled, plain | scaled | unscaled, days, dates.months(source))


def _counts(text: str, source: str) -> Iterator[Fact]:
    """The dates and numbers that a source lacks."""
    found: dict[tuple[int, int], list[Date]] = {}
    for date in dates.dates(text):
        found.setdefault((date.start, date.end), []).append(date)
    known = _counted(source)
    rest = list(text)
    for (start, end), meanings in found.items():
        rest[start:end] = "|" * (end - start)
        if not any(known.has_date(date) for date in meanings):
            yield "date", text[start:end]
    least = 0 if _spells(source) else SMALL
    for number in numerals.numbers("".join(rest)):
        small = all(reading.isdigit() and int(reading[:9]) <= least for reading in number.scaled)
        if not (number.in_a_name or small or known.has(number)):
            yield "number", text[number.start : number.end]


def _spells(source: str) -> bool:
    """Whether the words for numbers are known of the language that a source is written in."""
    text = languages.sample(source)
    shares = languages.shares(text)
    return {languages.guess(text), max(shares, key=lambda name: shares[name], default="")} & numerals.SPELLED != set()


def _links(text: str, source: str) -> Iterator[Fact]:
    lacking = urls(text) - urls(source)
    yield from (("url", match[0]) for match in URL.finditer(text) if urls(match[0]) & lacking)


def _words(text: str, source: str) -> Iterator[Fact]:
    """The quotations and names that a source lacks."""
    known = facts.words(source)
    yield from (("quotation", quoted) for quoted in facts.quotations(text) if not facts.stands(quoted, known))
    inflected = languages.guess(languages.sample(source)) not in _FEW_FORMS
    all_nouns = facts.capitalized(source) > NOUNS or facts.capitalized(text) > 2 * NOUNS
    for name in facts.names(text):
        lacking = {word for word in name.words if not facts.is_named(word, known, inflected)}
        if _lacks(name, lacking, all_nouns) and not facts.is_initialed(name, known):
            yield "name", name.text


def _lacks(name: Name, lacking: set[str], all_nouns: bool) -> bool:
    """Whether what is lacking of a name is surely one: where all nouns have capitals, two or more of them in a row."""
    if all_nouns:
        return len(name.sure) > 1 and lacking.issuperset(name.sure) and len(name.words) == len(name.text.split())
    return not lacking.isdisjoint(name.sure)

"""A summary and its source into a judgement: why it is no summary at all, and which of its facts the source lacks.

Structure rejects, facts flag (a flag is for the reader, a wrong one does no harm but to trust). Honest summaries are
never to be turned away, so each test is a coarse one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline import dates, facts, languages, numerals, openings
from pipeline.clean import MARK, URL, printable, urls
from pipeline.dates import Date
from pipeline.facts import Name
from pipeline.numerals import Number
from pipeline.sentences import sentences

FAR_TOO_LONG = 3
"""Times the words that were asked for."""
LEAST_WORDS = 3
ECHO = 40
"""Characters of a prompt in a row that no summary has by chance (FAULTS E17)."""
MOST_FLAGS = 20
MOST_FLAG_CHARACTERS = 80
NOUNS = 0.18
"""The share of capitals inside of sentences from which on a language writes all nouns so: German 0.25 to 0.33, English
0.03 to 0.12, others below."""

_FEW_FORMS = frozenset(("en", "fr", "es", "it", "pt", "nl", "sv", "da"))
_DENSE = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]|[\u3040-\u30ff]|[\u3400-\u4dbf\u4e00-\u9fff]")
_WORDS_OF_DENSE = {"Thai": 0.2, "Kana": 0.35, "Han": 0.6}
_TERM = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_]+")
_STUTTER = re.compile(r"(\S{1,12}?)\1{29}")
_CALL = re.compile(r"\s*(?:```\w*\s*)?[\[{][^{}]{0,80}\"(?:name|function|tool|url)\"\s*:\s*[\"{]|\s*get_page\s*\(")


def rejection(summary: str, source: str, *, words: int, language: str, prompts: Sequence[str]) -> str | None:
    """Why an answer, `cleaned`, is no summary; `None` if it may be one.

    `words` are those asked for; `language` is a tag (`en`) or `source`, others are not judged; `prompts` are what the
    model was told, as it was sent or as it stands in the files, without the page.
    """
    reasons = (
        _length(summary, source, words)
        or _machinery(summary, source, prompts)
        or _refusal(summary, source)
        or _repetition(summary)
        or languages.not_in(language, summary, source)
    )
    return reasons or None


def size(text: str) -> float:
    """The words of a text; of scripts without spaces what an English text of the same content has."""
    dense: Counter[str] = Counter()
    for match in _DENSE.finditer(text):
        dense["Thai" if match[0] < "\u3040" else "Kana" if match[0] < "\u3400" else "Han"] += 1
    spaced = len(re.findall(r"\w+(?:['’.,-]\w+)*", _DENSE.sub(" ", text)))
    return spaced + sum(_WORDS_OF_DENSE[name] * count for name, count in dense.items())


def _length(summary: str, source: str, words: int) -> str:
    if not re.search(r"[^\W_]", summary):
        return "empty"
    found = size(summary)
    if found < LEAST_WORDS and size(source[:10_000]) > 4 * LEAST_WORDS:
        return f"far too short: {found:.0f} words"
    return f"far too long: {found:.0f} words, {words} asked for" if found > FAR_TOO_LONG * words else ""


def _machinery(summary: str, source: str, prompts: Sequence[str]) -> str:
    """What is not about the page but about how the model was asked."""
    if (mark := MARK.search(summary)) and mark[0] not in source:
        return "it has the boundaries of the page in it"
    if _CALL.match(summary) and not _CALL.match(source):
        return "it is the call of a tool"
    echo = next(_echoes(_squeezed(summary), map(_squeezed, prompts)), "")
    return "it repeats what the model was told" if echo and echo not in _squeezed(source) else ""


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split())


def _echoes(summary: str, prompts: Iterable[str]) -> Iterator[str]:
    told = {prompt[i : i + ECHO] for prompt in prompts for i in range(len(prompt) - ECHO + 1)}
    yield from (part for i in range(len(summary) - ECHO + 1) if told and (part := summary[i : i + ECHO]) in told)


def _refusal(summary: str, source: str) -> str:
    said = openings.refusal(summary)
    return "a refusal" if said and facts.plain(said) not in facts.plain(source) else ""


def _repetition(summary: str) -> str:
    if _STUTTER.search(summary):
        return "repetition: the same characters"
    pieces = Counter(facts.plain(summary[start:end]) for start, end in sentences(summary))
    piece, times = pieces.most_common(1)[0]
    if times > 4 and times * len(piece) * 2 > sum(len(each) * count for each, count in pieces.items()):
        return f"repetition: one sentence {times} times"
    terms = [term.casefold() for term in _TERM.findall(summary)]
    triples = list(zip(terms, terms[1:], terms[2:], strict=False))
    return "repetition: the same words" if len(triples) > 24 and len(set(triples)) * 3 < len(triples) else ""


# Facts.

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

    plain: frozenset[str]
    """Numbers that have no scale, and parts of what may be several."""
    scaled: frozenset[str]
    """Numbers with their scale."""
    unscaled: frozenset[str]
    """The same without it."""
    days: frozenset[tuple[int, int, int]]
    """(year, month, day), 0 for what is not said."""
    months: frozenset[int]

    def has(self, number: Number) -> bool:
        if number.scaled != number.readings:
            return bool(number.scaled & (self.scaled | self.plain) or number.readings & self.plain)
        known = self.plain | self.scaled | self.unscaled
        return bool(number.readings & known) or (bool(number.pieces) and number.pieces <= known)

    def has_date(self, date: Date) -> bool:
        year, month, day = date.year, date.month, date.day
        told = str(year) in self.plain
        if day and not year:
            return any((month, day) == each[1:] for each in self.days)
        if day:
            return (year, month, day) in self.days or (told and (0, month, day) in self.days)
        return any((year, month) == each[:2] for each in self.days) or (told and month in self.months)


def _counted(source: str) -> _Counted:
    found = numerals.numbers(source)
    alone = [number for number in found if number.scaled == number.readings]
    return _Counted(
        plain=frozenset(numerals.spelled(source)).union(*(n.readings for n in alone), *(n.pieces for n in found)),
        scaled=frozenset().union(*(n.scaled for n in found)),
        unscaled=frozenset().union(*(n.readings for n in found)),
        days=frozenset((date.year, date.month, date.day) for date in dates.dates(source)),
        months=frozenset(dates.months(source)),
    )


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
    for number in numerals.numbers("".join(rest)):
        if not (number.in_a_name or known.has(number)):
            yield "number", text[number.start : number.end]


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

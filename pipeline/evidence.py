"""The claims of a summary and its source into passages: where the source says it, as far as the words tell.

A passage is one to three sentences that stand together. Its score is how much of the claim's words it has, rare words
counting for more (the weight of BM25's terms, from the source itself). What is said in quite other words has a low
score, and what is denied in the same ones a high one: evidence is where to look, not proof.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from pipeline.records import Evidence
from pipeline.sentences import sentences

CARRIED = 0.2
"""Of 147 honest claims (tests/claims.txt and honest.txt, in 21 languages) 3 % are below it; of 33 invented ones about
the same pages 85 %, of 270 that belong to another page 94 %."""
LEAST_TERMS = 20
"""Of all claims together: with fewer, one other word more or less decides."""
MOST_SENTENCES = 3
LONGEST_SENTENCE = 600
"""Characters; what is longer (a table in one line, a text without full stops) is cut there."""
CANDIDATES = 12
"""Sentences around which passages are tried, those that have most of the claim."""
LENGTH_COST = 0.06
"""What a further sentence must add to the score."""

_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # Korean, kana, Han
)
"""Scripts that join words, or particles to them."""
_TERM = re.compile(rf"([{_DENSE}]+)|(\d+(?:[.,]\d+)*)|[^\W\d_{_DENSE}]+")
_STEM = 5
"""Letters of a word that count: `repairs` and `repaired` are one. With 6 or 8 more invented claims had evidence."""


@dataclass(frozen=True, slots=True)
class _Source:
    spans: Sequence[tuple[int, int]]
    terms: Sequence[Set[str]]
    """Of each sentence."""
    places: Mapping[str, Sequence[int]]
    """Term → the sentences that have it."""

    def weight(self, term: str) -> float:
        """Its inverse document frequency, squared: what tells sentences apart counts, not what all of them have."""
        having = max(0.5, len(self.places.get(term, ())))
        return math.log1p((len(self.spans) - having + 0.5) / (having + 0.5)) ** 2


def claims(summary: str, key_points: Sequence[str]) -> tuple[str, ...]:
    """What is to be found in the source: the sentences of the summary, then the key points."""
    return (*(summary[start:end] for start, end in sentences(summary)), *key_points)


def evidence(claims: Sequence[str], source: str) -> tuple[Evidence, ...]:
    """For each claim the passage of the source that carries it best, in order; nothing for a source without a sentence.

    Time is linear in the source, and in the claims.
    """
    read = _read(source)
    return tuple(_best(number, claim, read) for number, claim in enumerate(claims)) if read.spans else ()


def carried(claims: Sequence[str], source: str) -> float:
    """0–1: the share of the claims that a passage of the source carries; 1 when too little is said to tell."""
    if sum(len(terms(claim)) for claim in claims) < LEAST_TERMS:
        return 1.0
    found = evidence(claims, source)
    return sum(each.score >= CARRIED for each in found) / len(found) if found else 1.0


def _read(source: str) -> _Source:
    spans = [part for start, end in sentences(source) for part in _cut(source, start, end)]
    found = [frozenset(terms(source[start:end])) for start, end in spans]
    places: dict[str, list[int]] = {}
    for number, each in enumerate(found):
        for term in each:
            places.setdefault(term, []).append(number)
    return _Source(spans, found, places)


def _cut(source: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > LONGEST_SENTENCE:
        space = source.rfind(" ", start + 1, start + LONGEST_SENTENCE)
        border = space if space > 0 else start + LONGEST_SENTENCE
        yield start, border
        start = border + (space > 0)
    yield start, end


def terms(text: str) -> list[str]:
    """What two texts may have in common: beginnings of words, numbers, and pairs of letters where words are joined."""
    found: list[str] = []
    for match in _TERM.finditer(text.casefold()):
        if dense := match[1]:
            found += [dense[i : i + 2] for i in range(max(1, len(dense) - 1))]
        else:
            found.append(match[0].replace(",", "").replace(".", "") if match[2] else match[0][:_STEM])
    return found


def _best(number: int, claim: str, source: _Source) -> Evidence:
    weights = {term: source.weight(term) for term in terms(claim)}
    shares: dict[int, float] = {}
    for term, weight in weights.items():
        for place in source.places.get(term, ()):
            shares[place] = shares.get(place, 0.0) + weight
    total = math.fsum(weights.values()) or 1.0
    around = sorted(shares, key=lambda place: (-shares[place], place))[:CANDIDATES] or [0]
    passages = {passage for place in around for passage in _passages(place, len(source.spans))}

    def score(passage: tuple[int, int]) -> float:
        had = weights.keys() & frozenset().union(*source.terms[passage[0] : passage[1]])
        return math.fsum(weights[term] for term in had) / total  # the same in whatever order a set gives them

    first, last = max(passages, key=lambda each: (score(each) - LENGTH_COST * (each[1] - each[0]), -each[0], -each[1]))
    start, end = source.spans[first][0], source.spans[last - 1][1]
    return Evidence(number, claim, start, end, min(1.0, round(score((first, last)), 3)))


def _passages(place: int, count: int) -> Iterator[tuple[int, int]]:
    """(first sentence, the one after the last) of the passages that a sentence is part of."""
    for size in range(1, MOST_SENTENCES + 1):
        for first in range(max(0, place - size + 1), min(place, count - size) + 1):
            yield first, first + size

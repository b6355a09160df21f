"""A text into its own most telling sentences: what stands for a summary when a model has none, and says so. Pure.

Sentences are taken by how frequent their words are in the whole text, each word counting less once it is covered
(SumBasic: Nenkova and Vanderwende, "The impact of frequency on summarization", 2005), and told in their order.
"""

from __future__ import annotations

from collections import Counter

from pipeline.clean import MARKS_OF_MARKDOWN, printable
from pipeline.evidence import terms
from pipeline.rejections import size
from pipeline.sentences import sentences

LEAST_TERMS = 4
"""Of a sentence that says something: headings, bylines and captions have fewer."""
MOST_TERMS = 60
"""Of a sentence that is one, and no table or list."""
MOST_SENTENCES = 2_000
"""That are looked at; those of a longer text are its first."""


def extract(text: str, words: int) -> str:
    """Sentences of a text with about so many words together, at least one; empty for a text without a sentence."""
    spans = [span for span in sentences(text)[:MOST_SENTENCES] if not text.startswith("#", span[0])]
    found = {span: known for span in spans if (known := terms(text[slice(*span)]))}
    telling = {span: each for span, each in found.items() if LEAST_TERMS <= len(each) <= MOST_TERMS} or found
    counts = Counter(term for each in telling.values() for term in set(each))
    weights = {term: count / len(telling) for term, count in counts.items()}
    taken: list[tuple[int, int]] = []
    left = float(words)
    while telling and (not taken or left > 0):
        best = max(telling, key=lambda span: sum(weights[term] for term in set(telling[span])) / len(telling[span]))
        left -= size(text[slice(*best)])
        if taken and left < 0:
            break
        taken.append(best)
        for term in set(telling.pop(best)):
            weights[term] **= 2
    return " ".join(_plain(text[slice(*span)]) for span in sorted(taken))


def _plain(sentence: str) -> str:
    lines = (MARKS_OF_MARKDOWN.sub("", line) for line in sentence.split("\n"))
    return " ".join(printable(" ".join(lines)).split())

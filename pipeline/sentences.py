"""A text into its sentences, in any script; where they end is shared with the chunker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

SENTENCE = re.compile(
    r"[.!?…][\"'”’»)\]*_]{0,3}\s++(?=[^\sa-z])"
    r"|[。！？．｡][\"'”’」』）】]{0,3}\s*+(?=\S)"
    r"|[।॥؟۔።។။]\s*+(?=\S)"
    # Thai, Lao, Khmer and Burmese set a space where others set a full stop.
    r"|(?<=[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]) ++(?=\S)"
)
"""Its matches end where the next sentence begins."""

_LINE_END = re.compile(r"\n\s*+")
_MARKED = re.compile(r"[ \t]*+(?:#{1,6}[ \t]|[-*+•>|]|\d{1,3}[.)][ \t]|```|~~~)")
"""How a line begins that is no prose: headings, items, quoted lines, rows of tables, fences."""
_CLOSED = re.compile(r"[.!?…:;。！？．｡।॥؟۔።។။][\"'”’»」』）)\]*_]{0,3}\s*\Z")
_OPEN = re.compile(
    r"(?:\A|[\s(\"'“„«])(?:[^\W\d_a-z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|No|Nr|Fig|Vol|bzw|ca|Hr|Fr|Mme|Mlle|Sra?|Sig|ул|им|г)"
    r"\.\s*\Z|[^\W\d_]\.[^\W\d_]\.\s*\Z"
)
"""An abbreviation or an initial at the end of a piece: the sentence goes on."""
_ORDINAL = re.compile(r"(?:\A|\D)\d{1,2}\.\s*\Z")
_GERMAN_MONTH = re.compile(r"Jan|Feb|Mär|Apr|Mai|Jun|Jul|Aug|Sep|Okt|Nov|Dez")
_WORD = re.compile(r"[^\W_]")
_LETTER = re.compile(r"[^\W\d_]")
_WRAPPED = 50
"""Characters of a line from which on its end may be one of typing, not of the sentence."""
_PHRASE = 80
"""Characters up to which the phrases of a script without full stops are taken together."""


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence, in characters, without the white space around it; in order, none is empty.

    A heading, an item and the row of a table are sentences too; what has no letter or digit is none. Time is linear.
    """
    found: list[tuple[int, int]] = []
    start = 0
    for border in (*_borders(text), len(text)):
        if border == len(text) or not _goes_on(text, start, border):
            piece = text[start:border]
            left = piece.strip()
            if _WORD.search(left):
                first = start + len(piece) - len(piece.lstrip())
                found.append((first, first + len(left)))
            start = border
    return found


def _borders(text: str) -> Iterator[int]:
    """Where pieces begin, but for the first, in order."""
    lines = [0]
    for match in _LINE_END.finditer(text):
        if _line_ends(text, lines[-1], match):
            lines.append(match.end())
    lines.append(len(text))
    for start, end in pairwise(lines):
        yield from (match.end() for match in SENTENCE.finditer(text, start, end) if match.end() < end)
        if end < len(text):
            yield end


def _line_ends(text: str, paragraph: int, match: re.Match[str]) -> bool:
    """Whether a sentence ends with this line too, and the line was not only full."""
    start = max(text.rfind("\n", paragraph, match.start()) + 1, paragraph)
    return bool(
        match[0].count("\n") > 1
        or match.start() - start < _WRAPPED
        or _MARKED.match(text, match.end())
        or _MARKED.match(text, start)
        or _CLOSED.search(text, max(start, match.start() - 8), match.start())
    )


def _goes_on(text: str, start: int, border: int) -> bool:
    """Whether what begins at the border belongs to the piece before it."""
    if text[border - 1] == "\n" or "\n" in text[max(start, border - 4) : border]:
        return False
    end = text[max(start, border - 12) : border]
    if end.rstrip().endswith("."):
        dated = _ORDINAL.search(end) and _GERMAN_MONTH.match(text, border)
        item = border - start < 8 and not _LETTER.search(text, start, border)  # the number of one
        return bool(dated or item or _OPEN.search(end))
    return "\u0e00" <= end[-2:-1] < "\u1800" and end[-1] == " " and border - start < _PHRASE

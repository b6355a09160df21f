"""An answer into why it is no summary at all: by its structure and language, never by what it says.

Honest summaries are never to be turned away, be they about refusals, in verse, or nothing but numbers, so each test is
a coarse one: what it misses, the flags and the evidence show.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pipeline import facts, languages, openings
from pipeline.clean import MARK, squeezed
from pipeline.sentences import sentences

FAR_TOO_LONG = 3
"""Times the words that were asked for."""
LEAST_WORDS = 3
ECHO = 40
"""Characters of a prompt in a row that no summary has by chance (FAULTS E17)."""
WINDOW = 40
"""Words in a row in which a loop shows."""

_DENSE = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]|[\u3040-\u30ff]|[\u3400-\u4dbf\u4e00-\u9fff]")
_WORDS_OF_DENSE = {"Thai": 0.2, "Kana": 0.35, "Han": 0.6}
_TERM = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_]+")
_PLACEHOLDER = re.compile(r"\s*(?:<[^<>]*>|\[[^\[\]]*\]|\{[^{}]*\})[\s.]*")
"""`< Summary of the text>` in the place of one (seen with SmolLM2, where a schema asked for a string)."""
_ANNOUNCEMENT = re.compile(r"[^.!?。！？\n]*[:：]")
"""`The original text is:` and no more (seen with SmolLM2, for a page in Korean)."""
_BARE_MARK = re.compile(r"(?i)\b(?:(?:PAGE|END) [0-9a-f]{12}|(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{12})\b")
"""What stands in a boundary of ours, without its brackets: a key point of SmolLM2's."""
_DIGIT = re.compile(r"\d")
_STUTTER = re.compile(r"(\S{1,12}?)\1{29}")
_CALL = re.compile(
    r"\s*(?:```\w*\s*)?(?:\[\s*)?\{[^{}]{0,80}\"(?:name|function|tool|url)\"\s*:\s*[\"{]|\s*get_page\s*\("
)


def rejection(summary: str, source: str, *, words: int, language: str, prompts: Sequence[str]) -> str | None:
    """Why an answer, `cleaned`, is no summary; `None` if it may be one.

    `words` are those asked for; `language` is a tag (`en`) or `source`, others are not judged; `prompts` are what the
    model was told, as it was sent or as it stands in the files, without the page.
    """
    return _length(summary, source, words) or unfit(summary, source, language=language, prompts=prompts) or None


def unfit(text: str, source: str, *, language: str, prompts: Sequence[str]) -> str:
    """The same for a key point, which may be of any length; empty if it may be one."""
    return (
        _machinery(text, source, prompts)
        or _refusal(text, source)
        or _repetition(text)
        or languages.not_in(language, text, source)
    )


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
    if any((mark := marks.search(summary)) and mark[0] not in source for marks in (MARK, _BARE_MARK)):
        return "it has the boundaries of the page in it"
    if _CALL.match(summary) and not _CALL.match(source):
        return "it is the call of a tool"
    if _PLACEHOLDER.fullmatch(summary) and summary.strip() not in source:
        return "a placeholder"
    if _ANNOUNCEMENT.fullmatch(summary.strip()) and summary.strip() not in source:
        return "it announces what does not follow"
    echo = next(_echoes(squeezed(summary), map(squeezed, prompts)), "")
    return "it repeats what the model was told" if echo and echo not in squeezed(source) else ""


def _echoes(summary: str, prompts: Iterable[str]) -> Iterator[str]:
    told = {prompt[i : i + ECHO] for prompt in prompts for i in range(len(prompt) - ECHO + 1)}
    yield from (part for i in range(len(summary) - ECHO + 1) if told and (part := summary[i : i + ECHO]) in told)


def _refusal(summary: str, source: str) -> str:
    said = openings.refusal(summary)
    return "a refusal" if said and facts.plain(said).rstrip() not in facts.plain(source) else ""


def _repetition(summary: str) -> str:
    if _STUTTER.search(summary):
        return "repetition: the same characters"
    pieces = Counter(facts.plain(summary[start:end]) for start, end in sentences(summary))
    piece, times = next(iter(pieces.most_common(1)), ("", 0))
    if times > 4 and times * len(piece) * 2 > sum(len(each) * count for each, count in pieces.items()):
        return f"repetition: one sentence {times} times"
    return "repetition: the same words" if _loops(_terms(summary)) or _refrains(summary) else ""


def _terms(text: str) -> list[str]:
    return [term.casefold() for term in _TERM.findall(text)]


def _loops(terms: Sequence[str]) -> bool:
    """Whether some stretch of the text has hardly a word after another that it has not had before."""
    triples = list(zip(terms, terms[1:], terms[2:], strict=False))
    starts = range(0, max(1, len(triples) - WINDOW + 1), WINDOW // 4)
    windows = (triples[start : start + WINDOW] for start in starts)
    return any(len(window) > WINDOW // 2 and len(set(window)) * 5 < len(window) * 2 for window in windows)


def _refrains(summary: str) -> bool:
    """Whether a third of the text is one phrase: `the seventh about the password being deleted` (seen with SmolLM2).

    Sentences with numbers in them do not count: a list of measurements may well be of one pattern.
    """
    lines = (summary[start:end] for start, end in sentences(summary))
    terms = _terms("\n".join(line for line in lines if not _DIGIT.search(line)))
    size = 12 if sum(len(term) == 1 for term in terms) * 2 > len(terms) else 4
    phrases = Counter(tuple(terms[i : i + size]) for i in range(len(terms) - size + 1))
    times = max(phrases.values(), default=0)
    return times > 5 and times * size * 3 > len(_terms(summary))

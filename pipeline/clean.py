"""What a model wrote into what may be kept of it. Whoever wrote the page may have dictated it.

No thinking, no invisible characters, nothing that a terminal, a browser or a viewer of Markdown would act on, no URL
that the page does not have, no words around the summary.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline import links
from pipeline.openings import opening
from pipeline.sentences import sentences


def _each(words: str) -> frozenset[str]:
    return frozenset(words.split())


ROUNDS = 8
"""What is cleaned may give something new to clean (`<b<b>>`). An honest text is at rest after two rounds."""
MARKS_OF_MARKDOWN = re.compile(r"^\s*(?:#{1,6}\s+|>\s?|[-*+]\s+|\d{1,3}\.\s+)|\*\*|__|`")
"""Of headings, quotations, lists, emphasis and code, in one line."""
MOST_MARKS = 8
"""Combining marks on one letter. More are no writing, and NFC takes quadratic time for them (40,000: 5 s)."""

JOINED = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff"
"""Scripts in which (non-)joiners belong to the spelling."""
INVISIBLE = re.compile(
    # Controls, soft hyphen, fillers, zero width, bidi, tags, variation selectors, surrogates, private use.
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
    f"|(?<![{JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{JOINED}])"
)
_ESCAPE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*+[ -/]*+[@-~]"  # CSI (ECMA-48, 5.4)
    # OSC and other strings; none has the beginning of another in it, or what is never closed is read again and again.
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*+(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]*+[0-~]"
)
_NEW_LINE = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")

_THOUGHT = re.compile(
    r"(?i)<(/?)(think|thinking|thoughts?|reasoning|scratchpad|script|style)\b[^<>]*+>"
    r"|\[(/?)(think)\]|◁(/?)(think)▷|<(!)--()|(-)-()>"
)
_CODE = frozenset({"script", "style", ""})
"""Not thoughts: what stands after one that is not closed may be text. (The empty name is that of comments.)"""
_NAMED = re.compile(r"`<(?:/?([A-Za-z][\w:-]{0,30}) ?/?|\|(\w{1,30})\|)>`")
_TOKEN = re.compile(
    r"<\|[^|<>\n]{1,40}\|>(?:(?:system|user|assistant)\n)?|\[/?(?:INST|TOOL_CALLS|AVAILABLE_TOOLS)\]|<</?SYS>>"
)
"""Of chat templates: ChatML, Llama, Mistral. (Those that look like tags go with the tags.)"""
_TAG = re.compile(r"<([/!?]?)([A-Za-z][^\s/<>]*+)([^<>]*+)(>?)|<([/!?])")
MARK = re.compile(r"(?i)<{2,3} ?(?:PAGE|END) [0-9a-f]{6,64} ?>{0,3}")
"""A boundary of ours, as models copy it. Where it stands between words it is left: that text is rejected as a whole."""
_MARK_LINE = re.compile(r"(?m)^[ \t]{0,8}<<<?[^<>\n]{1,160}>{2,3}[^\w\n]{0,8}$")
"""A boundary in a line of its own, or what a small model makes of it: `<<<A page of text>>` (seen with SmolLM2)."""
_BREAKING = _each("br p div li ul ol tr td th hr h1 h2 h3 h4 h5 h6 table section article blockquote pre")
_TAGS = _BREAKING | _each(
    "a abbr address applet area aside audio b base basefont bdi bdo bgsound big blink body button canvas caption "
    "center cite code col colgroup data datalist dd del details dfn dialog dir dl dt em embed fieldset figcaption "
    "figure font footer form frame frameset head header hgroup html i iframe image img input ins isindex kbd "
    "keygen label legend link listing main map mark marquee math menu menuitem meta meter nav nobr noembed "
    "noframes noscript object optgroup option output param picture plaintext portal progress q rb rp rt rtc ruby "
    "s samp script search select slot small source spacer span strike strong style sub summary sup svg tbody "
    "template textarea tfoot thead time title track tt u var video wbr xmp think thinking thought reasoning "
    "tool_call tool_response start_of_turn end_of_turn eos bos"
)

_FENCE = re.compile(r"(`{3,}|~{3,})[\w-]*[ \t]*\n")
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」"}
_COUNTED = re.compile(r"(?i)\n\s*[(\[*_]{0,3}(?:word count:? ?\d{1,5}|\d{1,5} words)[.)\]*_]{0,3}\s*\Z")
_GAP = re.compile(r"(?<=\S) {2,}")
LEAST_ECHO = 24
"""Characters of a prompt from which on a first sentence that stands in it is an echo, and no summary."""


def cleaned(text: str, source: str, prompts: Sequence[str] = ()) -> str:
    """What may be kept of a model's output; only URLs stay that are written out in `source`.

    A first sentence that stands in one of the `prompts` goes too. Cleaned twice is cleaned once. Time is linear; what
    is not at rest after `ROUNDS` is no honest text, and nothing is kept of it.
    """
    told = [squeezed(prompt) for prompt in prompts]
    known: frozenset[str] | None = None
    for _ in range(ROUNDS):
        plain = _without_tags(_without_thoughts(_NAMED.sub(r"`\1\2`", printable(text))))
        if links.MAY_BE_ANY.search(plain):
            known = links.urls(source) if known is None else known
            plain = links.without_links(plain, known)
        after = _bare(_tidy(plain), told)
        if after == text:
            return text
        text = after
    return ""


def printable(text: str) -> str:
    """The text in NFC without escape sequences and invisible characters; of controls only line ends and tabs stay."""
    text = INVISIBLE.sub("", _ESCAPE.sub("", _NEW_LINE.sub("\n", text)))
    return text if text.isascii() else unicodedata.normalize("NFC", "".join(_calm(text)))


def _calm(text: str) -> Iterator[str]:
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= MOST_MARKS:
            yield char


def _without_thoughts(text: str) -> str:
    """Without thinking, scripts and comments. A thought may lack its end, or its beginning: then all is one."""
    marks = [_Mark.of(match) for match in _THOUGHT.finditer(text)]
    last = {mark.name: mark.start for mark in marks if mark.closes}
    kept: list[str] = []
    at, inside = 0, None
    for mark in marks:
        if inside is not None:
            if mark.closes and mark.name == inside:
                at, inside = mark.end, None
        elif mark.closes:
            if mark.name not in _CODE:
                kept, at = [], mark.end
        elif last.get(mark.name, -1) > mark.start:
            kept.append(text[at : mark.start])
            inside = mark.name
        elif mark.name not in _CODE:
            return "".join([*kept, text[at : mark.start]])
    return "".join([*kept, text[at:]])


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where something begins or ends that is no part of the answer."""

    start: int
    end: int
    name: str
    closes: bool

    @classmethod
    def of(cls, match: re.Match[str]) -> _Mark:
        sign, name = next((match[i], match[i + 1]) for i in (1, 3, 5, 7, 9) if match[i] is not None)
        return cls(*match.span(), name.lower(), sign in ("/", "-"))


def _without_tags(text: str) -> str:
    return _TAG.sub(_untagged, _TOKEN.sub("", _MARK_LINE.sub("", text)))


def _untagged(match: re.Match[str]) -> str:
    """Nothing stays of a tag; of an address in angles the address; of what is no tag all, but so that it is none."""
    mark, name, rest, closed, lone = match.groups()
    if lone:
        return f"< {lone}"
    if closed and not mark and (":" in name or "@" in name):
        return f"{name}{rest}"
    tag, known = name.lower(), name.lower() in _TAGS
    if closed and (mark in ("!", "?") or "=" in name + rest or (known and rest.strip(" /") == "")):
        return "\n" if tag in _BREAKING else ""
    ours = any(MARK.match(match.string, max(0, match.start() - before)) for before in (1, 2))
    if ours or (closed and not known and not mark and not rest):
        return match[0]
    return f"< {match[0][1:]}"


def _tidy(text: str) -> str:
    """Without white space at the ends of lines, with single spaces in them, and one empty line at most."""
    lines = [_GAP.sub(" ", line.rstrip()) for line in text.replace("\t", " ").split("\n")]
    kept = [line for number, line in enumerate(lines) if line or (number and lines[number - 1])]
    return "\n".join(kept).strip()


def _bare(text: str, told: Sequence[str]) -> str:
    """The summary without what stands around it: a fence, quotation marks, an introduction, the task, a word count."""
    if (fence := _FENCE.match(text)) and text.find(fence[1], fence.end(), len(text) - len(fence[1])) < 0:
        text = text[fence.end() :].removesuffix(fence[1]).strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and not {text[0], text[-1]} & set(text[1:-1]):
        text = text[1:-1].strip()
    text = text[_echo(text, told) :]
    return _COUNTED.sub("", text[opening(text) :]).strip()


def _echo(text: str, told: Sequence[str]) -> int:
    """Where the first sentence begins that does not stand in a prompt."""
    at = 0
    for start, end in sentences(text[:4_000]) if told else ():
        sentence = squeezed(text[start:end])
        if len(sentence) < LEAST_ECHO or not any(sentence in prompt for prompt in told):
            return start if at else 0
        at = end
    return 0


def squeezed(text: str) -> str:
    """A text by which echoes are known: in lower case, with single spaces."""
    return " ".join(text.casefold().split())

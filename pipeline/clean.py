"""What a model wrote into what may be kept of it. Whoever wrote the page may have dictated it.

No thinking, no invisible characters, nothing that a terminal, a browser or a viewer of Markdown would act on, no URL
that the page does not have, no words around the summary.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.openings import opening
from pipeline.sentences import sentences


def _each(words: str) -> frozenset[str]:
    return frozenset(words.split())


ROUNDS = 8
"""What is cleaned may give something new to clean (`<b<b>>`). An honest text is at rest after two rounds."""
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
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*+(?:\x07|\x1b\\\\|\x9c)"  # OSC and other strings
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
MARK = re.compile(r"<<<(?:PAGE|END) [0-9a-f]{6,64}>>>")
"""A boundary of ours. It is left standing here: a text with one is rejected as a whole."""
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

_URL_CHARACTER = r"[^\s<>\"`\[\]{}|\\^()\0]"
URL = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]{{1,20}}://|(?<![\w.])[wW]{{3}}\.)(?:{_URL_CHARACTER}|\({_URL_CHARACTER}*+\))++"
)
_ACTIVE = re.compile(r"(?i)\b(?:javascript|vbscript|data):\S++")
_ACTS = re.compile(r"(?i)data:[\w.+-]{1,60}/[\w.+-]{1,60}[;,]|\w+:.*[(/%=]")
_AFTER_URL = ".,;:!?'*_~…。、，！？：；」』）】»”’"
_ASCII = re.compile(r"[^\x00-\x7f]")
_MAY_LINK = re.compile(r"[:\]]|(?i:www\.)")
_BRACKET = re.compile(r"!?\[|\]")
_TARGET = re.compile(r"\(((?:[^()]|\([^()]*+\)){0,1000}+)\)")
_LABEL = re.compile(r"\[([^\[\]\n]{0,200})\]")
_DEFINITION = re.compile(
    r"(?m)^[ \t>*+\d.)-]{0,12}\[([^\[\]\n]{1,200})\]:[ \t]{0,12}\n?[ \t]{0,12}"
    r"(?://|<|(?=[^\s:]{0,40}:[^\s\d])|(?=[^\s&\\]{0,40}[&\\]))\S*+[^\n]*+$"
)
_PLAIN_TARGET = re.compile(r"[\w ,-]*")
_TITLE = re.compile(r"\s*<([^<>]*)>|\s*(\S*)")
_GONE = re.compile(r"[ \t]?(?:[(（\[]\0[)）\]]|\0)(?!\w)|\0")

_FENCE = re.compile(r"(`{3,}|~{3,})[\w-]*[ \t]*\n")
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」"}
_COUNTED = re.compile(r"(?i)\n\s*[(\[*_]{0,3}(?:word count:? ?\d{1,5}|\d{1,5} words)[.)\]*_]{0,3}\s*\Z")
_GAP = re.compile(r"(?<=\S) {2,}")
LEAST_ECHO = 24
"""Characters of a prompt from which on a first sentence that stands in it is an echo, and no summary."""


def cleaned(text: str, source: str, prompts: Sequence[str] = ()) -> str:
    """What may be kept of a model's output; only URLs stay that stand in `source`, where `urls` finds them.

    A first sentence that stands in one of the `prompts` goes too. Cleaned twice is cleaned once. Time is linear; what
    is not at rest after `ROUNDS` is no honest text, and nothing is kept of it.
    """
    told = [_squeezed(prompt) for prompt in prompts]
    known: frozenset[str] | None = None
    for _ in range(ROUNDS):
        plain = _without_tags(_without_thoughts(_NAMED.sub(r"`\1\2`", printable(text))))
        if _MAY_LINK.search(plain):
            known = urls(source) if known is None else known
            plain = _without_links(plain, known)
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
    return _TAG.sub(_untagged, _TOKEN.sub("", text))


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
    start = match.start()
    if MARK.match(match.string, max(0, start - 2)) or (closed and not known and not mark and not rest):
        return match[0]
    return f"< {match[0][1:]}"


def urls(text: str) -> frozenset[str]:
    """The URLs that are written out in a text, in the forms in which they may be named."""
    found: set[str] = set()
    for match in URL.finditer(text):
        for form in _forms(match[0]):
            found |= {_key(form), _key(form.partition("://")[2])}
    return frozenset(found) - {""}


def _forms(run: str) -> tuple[str, str]:
    """A URL without the punctuation after it; and up to its first character that is not ASCII: a particle, maybe."""
    narrow = run if run.isascii() else _ASCII.split(run, maxsplit=1)[0]
    return run.rstrip(_AFTER_URL), narrow.rstrip(_AFTER_URL)


def _key(url: str) -> str:
    return url.rstrip("/")


def _without_links(text: str, known: frozenset[str]) -> str:
    labels: set[str] = set()

    def defined(match: re.Match[str]) -> str:
        labels.add(match[1].casefold())
        return ""

    text = _unlinked(_DEFINITION.sub(defined, text), labels, known)
    text = _ACTIVE.sub(lambda match: "\0" if _ACTS.match(match[0]) else match[0], text)
    text = URL.sub(lambda match: _kept(match[0], known), text)
    return _GONE.sub("", text)


def _unlinked(text: str, labels: set[str], known: frozenset[str]) -> str:
    """Links that are not known as their text alone; images not at all."""
    pieces: list[str] = []
    opened: list[int] = []
    at = 0
    for match in _BRACKET.finditer(text):
        if match.start() < at:
            continue
        pieces.append(text[at : match.start()])
        at = match.end()
        if match[0] != "]":
            opened.append(len(pieces))
            pieces.append(match[0])
            continue
        end, keep = _link_end(text, at, labels, known)
        begin = opened.pop() if opened else None
        if end == at or begin is None:
            pieces.append("] " if text[at : at + 1] == "(" and not _plain(text, at) else "]")
        elif pieces[begin] == "![":
            del pieces[begin:]
            at = end
        elif keep:
            pieces.append(text[match.start() : end])
            at = end
        else:
            pieces[begin] = ""
            at = end
    return "".join([*pieces, text[at:]])


def _link_end(text: str, at: int, labels: set[str], known: frozenset[str]) -> tuple[int, bool]:
    """Where a link ends whose text ends at `at` (there, if it is none), and whether it may stay as it is."""
    if target := _TARGET.match(text, at):
        if _plain(text, at):
            return at, True
        title = _TITLE.match(target[1])
        return target.end(), title is not None and _key(title[1] or title[2] or "\0") in known
    label = _LABEL.match(text, at)
    return (label.end(), False) if label and label[1].casefold() in labels else (at, True)


def _plain(text: str, at: int) -> bool:
    """Whether what stands in parentheses leads nowhere: `f[0](x)`."""
    target = _TARGET.match(text, at)
    return target is not None and _PLAIN_TARGET.fullmatch(target[1]) is not None


def _kept(run: str, known: frozenset[str]) -> str:
    """What stays of a bare URL: all if it is known, else the words that cling to it."""
    whole, narrow = _forms(run)
    if _key(whole) in known:
        return run
    if _key(narrow) in known:
        return f"{narrow} {run[len(narrow) :]}"
    return f"\0{run[len(narrow) :]}"


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
        sentence = _squeezed(text[start:end])
        if len(sentence) < LEAST_ECHO or not any(sentence in prompt for prompt in told):
            return start if at else 0
        at = end
    return 0


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split())

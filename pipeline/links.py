"""A text into the URLs that are written out in it, and into itself without links that lead elsewhere.

A link is an order to a reader, and an image one to the reader's browser: whoever wrote a page could have a model write
them, with what it knows in their query.
"""

from __future__ import annotations

import re

_URL_CHARACTER = r"[^\s<>\"`\[\]{}|\\^()\0]"
URL = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]{{1,20}}://|(?<![\w.])[wW]{{3}}\.)(?:{_URL_CHARACTER}|\({_URL_CHARACTER}*+\))++"
)
_ACTIVE = re.compile(r"(?i)\b(?:javascript|vbscript|data):\S++")
_ACTS = re.compile(r"(?i)data:[\w.+-]{1,60}/[\w.+-]{1,60}[;,]|\w+:.*[(/%=]")
_AFTER_URL = ".,;:!?'*_~…。、，！？：；」』）】»”’"
_ASCII = re.compile(r"[^\x00-\x7f]")
MAY_BE_ANY = re.compile(r"[:\]]|(?i:www\.)")
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


def without_links(text: str, known: frozenset[str]) -> str:
    """Of links that are not known their text, of images nothing, of bare URLs only what is known.

    The text has no NUL character. What may run (`javascript:`, `data:`) goes even if it is known.
    """
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

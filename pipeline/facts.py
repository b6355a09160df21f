"""A text into the quotations and proper names in it, and into the words in which these are looked up.

Names are known by their capitals, so there are none in scripts without them; in a language that writes all nouns so
(German) only two or more of them in a row are looked at.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass


def _each(words: str) -> frozenset[str]:
    return frozenset(words.split())


_CASED = "A-Za-z\u00aa-\u024f\u0370-\u052f\u1e00-\u1fff"
"""Letters of the scripts that know capitals: a Korean particle is no part of the name before it."""
_LETTERS = re.compile(f"[{_CASED}]+")
_TERM = re.compile(r"[^\W_]+")
_TARGET = re.compile(r"\]\([^()\s]*\)")
_ACCENTED = re.compile("[\u00c0-\u024f\u1e00-\u1eff]")
_DOTTED = re.compile(r"(?:[^\W\d_]\.){2,8}")
_SHORT = re.compile(r"[A-Z\u00c0-\u00de\u0410-\u042f]{2,8}(?![^\W_])")
_SMALL = frozenset(("of", "the", "and", "for", "de", "des", "du", "del", "und"))

_QUOTED = re.compile(
    "“([^“”]{1,600})”|„([^„“”]{1,600})[“”]|«([^«»]{1,600})»|»([^«»]{1,600})«|「([^「」]{1,600})」|『([^『』]{1,600})』"
    '|"([^"\n]{1,600})"'
)
_SEAM = re.compile(r"\[[^\[\]]{0,80}\]|[.!?…。！？।؟።\n]")
"""Where a quotation may have been cut or joined."""

_NAME = re.compile(f"[{_CASED}]+(?:['’‑-][{_CASED}]+)*")
_PARTICLES = _each("of de da do dos das del della di du des der den van von zu la le el al bin ibn y")
_TITLES = _each("mr mrs ms dr prof st sr jr mme mlle sra hr fr no nr vs")
_BEGINNING = re.compile(r"[.!?…:;。！？\n\"“”„«»‘(\[*_#•–—|/>`]|\s-")
_INSIDE = re.compile(f"[{_CASED}],? ([{_CASED}])")
_POSSESSIVE = re.compile(r"['’][sS]?\Z")
_NO_NAMES = _each(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december french german dutch swiss greek czech american god internet"
)
_DEMONYM = re.compile(r"(?:ish|ese|[ie]ans?)\Z")
_ROOT = 4
"""Letters at the beginning of a word that its forms have in common at least."""


@dataclass(frozen=True, slots=True)
class Words:
    """A text as its words: in small letters, without punctuation."""

    line: str
    """All in order, with a space before and after each."""
    known: frozenset[str]
    """Each once, without accents."""
    roots: dict[str, list[str]]
    """The first `_ROOT` letters of words → the words."""
    initials: str
    """The first letters of all, in order."""
    acronyms: frozenset[str]


def words(text: str) -> Words:
    """The words of a text, for `stands` and `is_named`."""
    line = plain(text)
    order = _LETTERS.findall(bare(line))
    known = frozenset(order)
    roots: dict[str, list[str]] = {}
    for word in known:
        roots.setdefault(word[:_ROOT], []).append(word)
    acronyms = {match.replace(".", "").casefold() for match in (*_DOTTED.findall(text), *_SHORT.findall(text))}
    return Words(line, known, roots, "".join(word[0] for word in order if word not in _SMALL), frozenset(acronyms))


def plain(text: str) -> str:
    """The terms of a text in small letters, a space before and after each; the targets of its links are left out."""
    return f" {' '.join(_TERM.findall(_TARGET.sub(']', text).casefold()))} "


def bare(text: str) -> str:
    """Without the accents of Latin letters: `Muñoz` and `Munoz` are one name."""
    return _ACCENTED.sub(lambda match: unicodedata.normalize("NFD", match[0])[0], text)


# Quotations.


def quotations(text: str) -> Iterator[str]:
    """What stands in quotation marks and is more than a word."""
    for match in _QUOTED.finditer(text):
        quoted = match[match.lastindex or 0]
        if len(_TERM.findall(quoted)) > 1 or sum(char > "\u2e80" for char in quoted) > 5:
            yield quoted


def stands(quoted: str, source: Words) -> bool:
    """Whether each piece of a quotation stands in the source word for word; without spaces, letter for letter."""
    pieces = (plain(piece) for piece in _SEAM.split(quoted))
    return all(
        piece in source.line or (piece[1] > "\u2e80" and piece.strip() in source.line)
        for piece in pieces
        if piece.strip()
    )


# Names.


@dataclass(frozen=True, slots=True)
class Name:
    """Capitalized words in a row."""

    text: str
    words: tuple[str, ...]
    sure: tuple[str, ...]
    """Those of them that do not merely begin a sentence."""


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    end: int
    begins: bool
    """Whether any word would have a capital here: at the start of a sentence, a line, a quotation."""
    follows: bool
    """Whether nothing but a space stands between it and the word before it."""

    @property
    def capital(self) -> bool:
        return self.text[0].isupper()


def names(text: str) -> Iterator[Name]:
    """The proper names of a text, as far as capitals tell."""
    run: list[_Word] = []
    for word in _placed(text):
        linked = bool(run) and word.follows and (word.capital or word.text in _PARTICLES)
        if run and not linked:
            yield _name(text, run)
            run = []
        if linked or word.capital:
            run.append(word)
    if run:
        yield _name(text, run)


def _placed(text: str) -> list[_Word]:
    found: list[_Word] = []
    last, end = "", 0
    for match in _NAME.finditer(text):
        gap = text[end : match.start()]
        short = gap == ". " and (len(last) == 1 or last.casefold() in _TITLES)
        begins = not short and (not found or _BEGINNING.search(gap) is not None)
        found.append(_Word(match[0], *match.span(), begins, short or gap == " "))
        last, end = match[0], match.end()
    return found


def _name(text: str, run: list[_Word]) -> Name:
    last = max(i for i, word in enumerate(run) if word.capital)
    capitals = [word for word in run if word.capital]
    sure = tuple(word.text for word in capitals if not word.begins)
    return Name(text[run[0].start : run[last].end], tuple(word.text for word in capitals), sure)


def capitalized(text: str) -> float:
    """The share (0–1) of capitals among the words inside of sentences; 0 of fewer than 20 words."""
    inside = _INSIDE.findall(text)
    return sum(letter.isupper() for letter in inside) / len(inside) if len(inside) >= 20 else 0.0


def is_named(word: str, source: Words, inflected: bool) -> bool:
    """Whether a word of a name stands in the source, in any of its forms; an `inflected` language has more of them."""
    whole = _POSSESSIVE.sub("", word)
    if whole.isupper() and len(whole) < 9 and _is_acronym(whole.casefold(), source):
        return True
    return all(_is_known(part, source, inflected) for part in _LETTERS.findall(bare(whole.casefold())) if len(part) > 1)


def _is_acronym(letters: str, source: Words) -> bool:
    # Any two letters begin two words somewhere.
    return len(letters) < 3 or letters in source.acronyms or bare(letters) in source.initials


def _is_known(part: str, source: Words, inflected: bool) -> bool:
    if part in source.known or part in _NO_NAMES or part in _TITLES or _DEMONYM.search(part):
        return True
    ending = 3 if inflected else 0
    return any(
        abs(len(word) - len(part)) < 4 and _common(part, word) >= max(_ROOT, min(len(part), len(word)) - ending)
        for word in source.roots.get(part[:_ROOT], ())
    )


def _common(one: str, other: str) -> int:
    """How many letters two words begin with together."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def is_initialed(name: Name, source: Words) -> bool:
    """Whether the source has a name by its first letters alone: `EU`."""
    initials = "".join(word[0] for word in name.words).casefold()
    return len(initials) > 1 and initials in source.acronyms

"""A text into its script and, between languages of Latin script, its language: only when it is beyond doubt.

py3langid would know more languages, but brings numpy (80 MB installed); the stop lists of justext, which is here
anyway, hold English words in most of their hundred languages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set

SAMPLE = 20_000
"""Characters of a text that are looked at, taken from 20 places of it."""
LEAST_LETTERS = 20
LEAST_CHARACTERS = 100
"""Below, no Latin text is told from another."""
SURE = 0.16
"""The share of a text's words that are among the commonest of a language: 0.22 to 0.50 for their own in the texts of
tests/honest.txt, up to 0.33 for a neighbour, which the words that only one of both has tell apart."""

_LETTERS = {
    "Latin": ("A-Za-zªº\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff", 1.0),
    "Cyrillic": ("\u0400-\u052f", 1.0),
    "Greek": ("\u0370-\u03ff\u1f00-\u1fff", 1.0),
    "Arabic": ("\u0600-\u06ff\u0750-\u077f", 1.0),
    "Hebrew": ("\u0590-\u05ff", 1.0),
    "Indic": ("\u0900-\u0dff", 1.0),
    "Thai": ("\u0e00-\u0eff", 1.0),
    "Hangul": ("\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3", 2.0),
    "Kana": ("\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f", 2.0),
    "Han": ("\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff", 3.0),
}
"""Script → its letters, and how many Latin ones say as much as one of them."""
_RUNS = re.compile("|".join(f"(?P<{name}>[{span}]+)" for name, (span, _) in _LETTERS.items()))
_LAO = re.compile("[\u0e80-\u0eff]")
_FENCED = re.compile(r"(?ms)^(```|~~~).*?^\1")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

COMMONEST: Mapping[str, frozenset[str]] = {
    tag: frozenset(words.split())
    for tag, words in {
        "en": "a i the of and to in is that it for was on are as with by at from this be or which not have has "
        "had were but "
        "its they who an",
        "de": "der die und das den von zu mit ist im des nicht ein eine auf dem sich für es auch an wird sind "
        "bei einer "
        "aus nach wurde einem war oder",
        "fr": "le la les de des et du un une est en dans pour que qui sur par au pas plus avec ne ce il sont se "
        "aux ont "
        "été cette",
        "es": "el la los las de del y en que un una es por con para se su al no lo como más pero sus fue son "
        "está ha o "
        "desde sin",
        "it": "il la le di e che in un una per del della è con non si da dei al nel sono alla come ha gli anche "
        "lo più "
        "delle i",
        "pt": "o a os as de do da e que em um uma para com não se dos das no na por mais ao foi como é são pelo ou ser",
        "nl": "de het een van en in is dat op te zijn met voor niet die aan er om ook als bij door naar uit "
        "wordt werd dan "
        "maar nog of",
        "sv": "och i att det som en på är av för med den till inte har ett om de var men från kan så när vid "
        "sig efter "
        "eller under även",
        "da": "og i at det som en på er af for med den til ikke har et om de var men fra kan så når ved sig "
        "efter eller "
        "blev også",
        "pl": "i w na się z do nie to że jest o jak po co ale za od przez jego są był która które tym dla oraz "
        "tego przy "
        "może być",
        "cs": "a v na se je že s z do o to i za pro po jako ale ve by si od jsou byl které která jeho tak při "
        "nebo podle",
        "ro": "și de a în la cu o pe un care nu din că este mai pentru se au prin sau fost dar după cel sunt ca "
        "fi această",
        "fi": "ja on ei se että oli ovat mutta joka kun myös hän niin kuin tai sekä jo vain ole sen mukaan olla "
        "voi mitä "
        "jos tämä sitten",
        "tr": "ve bir bu da de için ile olarak çok daha olan gibi en kadar sonra ise ancak var ne o her göre "
        "değil oldu",
        "id": "yang dan di dari untuk dengan pada ini itu dalam tidak akan adalah oleh ke juga sebagai telah "
        "karena ada "
        "lebih atau mereka dapat",
        "vi": "và của là có trong được cho một với các không người những đã để này từ khi vào đến cũng ra ở như "
        "năm nhưng",
        "hu": "a az és hogy nem is egy ez volt van meg de csak el már mint még ki ha azt vagy sem fel lehet után",
        "ca": "el la els les de i que en un una per amb és del al no es més va són dels ha com aquest seva ser des",
    }.items()
}
"""Language of Latin script → words that hardly any of its texts does without."""
SCRIPTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(COMMONEST, ("Latin",)),
    **dict.fromkeys(("no", "nb", "nn", "et", "lv", "lt", "sk", "sl", "hr", "is", "ga", "sq", "eu", "gl"), ("Latin",)),
    **dict.fromkeys(("ru", "uk", "bg", "be", "mk"), ("Cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("Arabic",)),
    **dict.fromkeys(("hi", "mr", "ne", "bn", "ta", "te", "gu", "kn", "ml", "pa", "si"), ("Indic",)),
    **dict.fromkeys(("th", "lo"), ("Thai",)),
    "el": ("Greek",),
    "he": ("Hebrew",),
    "ko": ("Hangul",),
    "ja": ("Kana", "Han"),
    "zh": ("Han",),
}
"""Language → the scripts that it is written in."""


def sample(text: str) -> str:
    """What is looked at of a text: all of a short one, pieces from all over a long one; no fenced code."""
    text = _FENCED.sub("", text)
    if len(text) <= SAMPLE:
        return text
    return "\n".join(text[start : start + SAMPLE // 20] for start in range(0, len(text), len(text) // 20))


def shares(text: str) -> dict[str, float]:
    """Script → its share (0–1) of what a text says; empty for one of fewer than `LEAST_LETTERS` letters."""
    sums = dict.fromkeys(_LETTERS, 0.0)
    for run in _RUNS.finditer(text):
        if run.lastgroup:
            sums[run.lastgroup] += len(run[0]) * _LETTERS[run.lastgroup][1]
    total = sum(sums.values())
    return {name: part / total for name, part in sums.items() if part} if total >= LEAST_LETTERS else {}


def guess(text: str) -> str:
    """The language of a text of Latin script, if it is beyond doubt; else empty."""
    words = _words(text)
    if len(text) < LEAST_CHARACTERS or len(words) < 12:
        return ""
    ranked = sorted(COMMONEST, key=lambda tag: _share(words, COMMONEST[tag]), reverse=True)
    sure = _share(words, COMMONEST[ranked[0]]) >= SURE and all(_rather(words, ranked[0], tag) for tag in ranked[1:4])
    return ranked[0] if sure else ""


def language_of(text: str, declared: str) -> str:
    """The language of a text: as its page says, unless that cannot be (the `en` of a template above a Korean text).

    `declared` is a tag or empty; the language is empty if it is in doubt. Of a long text a `sample` is enough.
    """
    if declared and not not_in(declared, text, text):
        return declared
    return guess(text) or _of_script(text)


def _of_script(text: str) -> str:
    """The language of a text in a script that only one language has."""
    found = shares(text)
    if found.get("Kana", 0.0) > 0.1 and found["Kana"] + found.get("Han", 0.0) > 0.5:
        return "ja"
    only = {"Hangul": "ko", "Han": "zh" if _is_chinese(found) else "", "Greek": "el", "Hebrew": "he"}
    if not _LAO.search(text):
        only["Thai"] = "th"
    return next((tag for script, tag in only.items() if found.get(script, 0.0) > 0.5), "")


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _share(words: Sequence[str], known: Set[str]) -> float:
    return sum(word in known for word in words) / len(words)


def _rather(words: Sequence[str], one: str, other: str) -> bool:
    """Whether words that only one of two languages has are far more frequent than those that only the other has."""
    ours, theirs = COMMONEST[one] - COMMONEST[other], COMMONEST[other] - COMMONEST[one]
    return _share(words, ours) > max(2 * _share(words, theirs), 0.08)


def not_in(language: str, text: str, source: str) -> str:
    """Why a text is not written in a language; empty if it is, or if nobody can tell.

    `language` is a tag (`en`, `pt-BR`), or `source`: that of the source. Of what is not in `SCRIPTS` nothing is said.
    """
    tag = re.split("[-_]", language.strip().casefold())[0] if language != "source" else ""
    if tag and tag not in SCRIPTS:
        return ""
    source = sample(source)
    return _wrong_script(tag, shares(text), shares(source)) or _wrong_language(tag or guess(source), text)


def _wrong_script(tag: str, found: Mapping[str, float], source: Mapping[str, float]) -> str:
    if not found:
        return ""
    main = max(found, key=lambda name: found[name])
    if tag:
        wrong = sum(found.get(name, 0.0) for name in SCRIPTS[tag]) < 0.15
        # Chinese has no kana, Japanese is never without it.
        wrong = wrong or (tag == "zh" and found.get("Kana", 0.0) > 0.2) or (tag == "ja" and _is_chinese(found))
        return f"written in {main} script, not in {tag}" if wrong else ""
    first = max(source, key=lambda name: source[name], default=main)
    if main == "Latin":
        # Latin words stand in texts of all scripts; a page of another script is one that is mostly of it.
        wrong = found[main] > 0.85 and bool(source) and source.get(main, 0.0) < 0.4
    else:
        wrong = found[main] > 0.5 and bool(source) and _own(main, source) < 0.05
        wrong = wrong or (source.get("Kana", 0.0) > 0.2 and _is_chinese(found))
        wrong = wrong or (_is_chinese(source) and found.get("Kana", 0.0) > 0.2)
    return f"written in {main} script, the text in {first}" if wrong else ""


def _own(script: str, source: Mapping[str, float]) -> float:
    """How much of a source is of a script, Han and kana taken for one unless there is no kana at all."""
    kana = source.get("Kana", 0.0)
    return source.get("Han", 0.0) + kana if script == "Han" else source.get(script, 0.0)


def _is_chinese(found: Mapping[str, float]) -> bool:
    return found.get("Han", 0.0) > 0.8 and found.get("Kana", 0.0) < 0.01


def _wrong_language(tag: str, text: str) -> str:
    if tag not in COMMONEST or shares(text).get("Latin", 0.0) < 0.8:
        return ""
    other = guess(text)
    return f"written in {other}, not in {tag}" if other not in ("", tag) else ""

"""A text into its numbers, in digits or in words.

A number is a string of digits in one normal form (`1.000`, `1 000` and `1,000` may all be `1000`), so one of any length
costs no more than its characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

_SCALES = {
    3: r"thousands?|k|tausend|tsd\.?|mille|mila|mil|duizend|tusen|tys\.?|tysi[ąęe]c\w*|тыс\.?|тысяч\w*|천|千|พัน|ألف"
    r"|آلاف|हज़ार|हजार",
    2: r"hundred|백|百",
    4: r"만|万|萬|หมื่น",
    5: r"lakhs?|แสน|लाख",
    6: r"millions?|mio\.?|mn|m|millionen|milli[oó]n(?:es)?|millones|milion[eiy]?|milion[aóo]w?|milhões|milhão"
    r"|miljoe?n(?:er)?|mln\.?|млн\.?|миллион\w*|백만|百万|百萬|ล้าน|مليون|ملايين|दस लाख",
    7: r"crores?|천만|千万|千萬|करोड़",
    8: r"억|億|亿",
    9: r"billions?|bn|milliarden?|mrd\.?|milliards?|miliard[iyaów]*|mil millones|bilhões|bilhão|miljarde?r?|млрд\.?"
    r"|миллиард\w*|십억|مليار",
    12: r"trillions?|billionen|bill[oó]n(?:es)?|조|兆|万亿|萬億",
}
_SCALE = "|".join(f"(?P<e{power}>{words})" for power, words in sorted(_SCALES.items(), reverse=True))
_AFTER = re.compile(rf"(?i)[ \u00a0\u202f-]?(?:{_SCALE})(?![A-Za-z\u00c0-\u024f])")
_NUMBER = re.compile(r"\d(?:\d{0,2}(?:[ \u00a0\u2009\u202f'’]\d{3})+(?!\d)(?:[.,]\d+)?|\d*(?:[.,]\d+)*)")
_IN_A_NAME = re.compile(r"(?<=[A-Za-z_\u00c0-\u024f])|(?<=[A-Z][-/])")
_ITEM = re.compile(r"(?m)^[ \t]*[(\[]?\d{1,3}[.)\]][ \t]")
LONGEST_SPELLED = 20
"""Words that are taken for one number. Python refuses to write out one of 4,300 digits: `hundred hundred …`."""
MOST_SUMS = 16
"""Readings of a number up to which it is added to the one after it: honest ones have few, but where numbers with two
readings stand in a row each doubles them (400 of `1.234千`: 22 s)."""
_SEVERAL = re.compile(r"[\d.,]*[^\d.,].*|\d+[.,]\d+[.,].*|(?:[01]?\d|2[0-4])[.,][0-5]\d")


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it stands in a text; `start` and `end` with its scale."""

    start: int
    end: int
    readings: frozenset[str]
    """What it may be as it is written, without its scale."""
    scaled: frozenset[str]
    """What it may be with its scale; the readings, if it has none."""
    pieces: frozenset[str]
    """Its parts, if it may be several: `12 500`, `3.11.2`, `14.30`."""
    in_a_name: bool
    """It says nothing by itself: letters stand before it (`A4`), or it numbers an item of a list."""


def numbers(text: str) -> list[Number]:
    """Every number that is written in digits, of any script, in order."""
    items = {match.end() - 2 for match in _ITEM.finditer(text)}
    found: list[Number] = []
    for match in _NUMBER.finditer(text):
        number = _number(text, match, items)
        before = found[-1] if found else number
        follows = before.end <= number.start <= before.end + 1 and before.scaled != before.readings
        if follows and len(before.scaled) <= MOST_SUMS:
            sums = _sums(before.scaled, number.scaled)  # 1億 2000万
            found[-1] = replace(before, scaled=before.scaled | sums)
            number = replace(number, scaled=number.scaled | sums)
        found.append(number)
    return found


def _number(text: str, match: re.Match[str], items: set[int]) -> Number:
    written = _in_ascii(match[0])
    readings = scaled = _readings(written)
    if scale := _AFTER.match(text, match.end()):
        power = int((scale.lastgroup or "e0")[1:])
        scaled = frozenset(_times_ten_to(power, number) for number in readings)
    pieces = frozenset(map(_plain, re.split(r"\D+", written))) if _SEVERAL.fullmatch(written) else frozenset()
    named = _IN_A_NAME.match(text, match.start()) is not None or match.end() in items
    return Number(match.start(), scale.end() if scale else match.end(), readings, scaled, pieces, named)


def _in_ascii(text: str) -> str:
    return text if text.isascii() else "".join(str(unicodedata.digit(char, char)) for char in text)


def _readings(written: str) -> frozenset[str]:
    bare = re.sub(r"[^\d.,]", "", written)
    points, commas = bare.count("."), bare.count(",")
    if points and commas:
        decimal = "." if bare.rfind(".") > bare.rfind(",") else ","
        whole, _, part = bare.replace("," if decimal == "." else ".", "").rpartition(decimal)
        return frozenset({_plain(whole.replace(decimal, ""), part)})
    groups = re.split("[.,]", bare)
    if len(groups) == 1:
        return frozenset({_plain(bare)})
    found = set()
    if len(groups) == 2 and groups[1] != "000":
        found.add(_plain(groups[0], groups[1]))
    if all(len(group) in (2, 3) for group in groups[1:-1]) and len(groups[-1]) == 3 and 0 < len(groups[0]) <= 3:
        found.add(_plain("".join(groups)))
    return frozenset(found or {bare})


def _plain(whole: str, part: str = "") -> str:
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    return f"{whole}.{part}" if part else whole


def _times_ten_to(power: int, number: str) -> str:
    whole, _, part = number.partition(".")
    return _plain(whole + part[:power].ljust(power, "0"), part[power:]) if "." not in part else number


def _sums(ones: frozenset[str], others: frozenset[str]) -> frozenset[str]:
    short = [(a, b) for a in ones for b in others if a.isdigit() and b.isdigit() and len(a) < 20 and len(b) < len(a)]
    return frozenset(str(int(a) + int(b)) for a, b in short)


# Numbers in words.

_WORDS = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen "
    "eighteen nineteen twenty",
    "en ordinal": "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
    "thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth",
    "de": "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn "
    "sechzehn siebzehn "
    "achtzehn neunzehn zwanzig",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize "
    "dix-sept dix-huit "
    "dix-neuf vingt",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis "
    "diecisiete "
    "dieciocho diecinueve veinte",
    "it": "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici "
    "sedici "
    "diciassette diciotto diciannove venti",
    "pt": "zero um dois três quatro cinco seis sete oito nove dez onze doze treze catorze quinze dezasseis "
    "dezassete dezoito "
    "dezanove vinte",
    "nl": "nul een twee drie vier vijf zes zeven acht negen tien elf twaalf dertien veertien vijftien zestien "
    "zeventien "
    "achttien negentien twintig",
    "sv": "noll en två tre fyra fem sex sju åtta nio tio elva tolv tretton fjorton femton sexton sjutton arton "
    "nitton tjugo",
    "da": "nul en to tre fire fem seks syv otte ni ti elleve tolv tretten fjorten femten seksten sytten atten "
    "nitten tyve",
    "pl": "zero jeden dwa trzy cztery pięć sześć siedem osiem dziewięć dziesięć jedenaście dwanaście trzynaście "
    "czternaście piętnaście szesnaście siedemnaście osiemnaście dziewiętnaście dwadzieścia",
    "ru": "ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать тринадцать "
    "четырнадцать "
    "пятнадцать шестнадцать семнадцать восемнадцать девятнадцать двадцать",
    "ko": "영 하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉 열 열하나 열둘 열셋 열넷 열다섯 열여섯 열일곱 열여덟 열아홉 스물",
}
_TENS = {
    "en": "thirty forty fifty sixty seventy eighty ninety",
    "en ordinal": "thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth",
    "de": "dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
    "fr": "trente quarante cinquante soixante soixante-dix quatre-vingt quatre-vingt-dix",
    "es": "treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    "it": "trenta quaranta cinquanta sessanta settanta ottanta novanta",
    "pt": "trinta quarenta cinquenta sessenta setenta oitenta noventa",
    "nl": "dertig veertig vijftig zestig zeventig tachtig negentig",
    "sv": "trettio fyrtio femtio sextio sjuttio åttio nittio",
    "da": "tredive fyrre halvtreds tres halvfjerds firs halvfems",
    "pl": "trzydzieści czterdzieści pięćdziesiąt sześćdziesiąt siedemdziesiąt osiemdziesiąt dziewięćdziesiąt",
    "ru": "тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто",
    "ko": "서른 마흔 쉰 예순 일흔 여든 아흔",
}
_MORE = {
    word: value
    for value, words in {
        1: "once ein eine einen einem une una uma ett одна 한 หนึ่ง",
        2: "both twice half couple pair beide duas dwie две двух 두 สอง",
        3: "trzech трёх трех 세 สาม",
        4: "네 สี่",
        5: "ห้า",
        6: "หก",
        7: "семи เจ็ด",
        8: "แปด",
        9: "เก้า",
        10: "สิบ",
        11: "열한 สิบเอ็ด",
        12: "dozen 열두 สิบสอง",
        13: "열세",
        14: "열네",
        16: "dezesseis",
        17: "dezessete",
        19: "dezenove",
        20: "vingts 스무 ยี่สิบ",
        30: "dreissig",
        70: "septante",
        90: "nonante",
    }.items()
    for word in words.split()
}
_HUNDREDS = {
    word: value
    for value, words in {
        100: "hundred hundert cent cents cien ciento cento cem honderd hundra sto сто",
        1_000: "thousand tausend mille mil mila duizend tusen tysiąc tysięcy tysiące тысяча тысяч тысячи",
        1_000_000: "million millionen",
    }.items()
    for word in words.split()
}
_HAN = {
    char: value for digits in ("〇一二三四五六七八九", "영일이삼사오육칠팔구") for value, char in enumerate(digits)
} | {
    char: value
    for value, chars in {
        0: "零",
        2: "两兩",
        10: "十십",
        100: "百백",
        1_000: "千천",
        10_000: "万萬만",
        10**8: "億亿억",
    }.items()
    for char in chars
}
_THAI = re.compile("ยี่สิบ|สิบเอ็ด|สิบสอง|สิบ|หนึ่ง|สอง|สาม|สี่|ห้า|หก|เจ็ด|แปด|เก้า")
_WORD = re.compile(r"[^\W\d_]+|[^\w\s-]")
_JOINING = frozenset(("and", "y", "e", "et"))
_HAN_RUN = re.compile("[〇零一二三四五六七八九十百千万萬億亿两兩]{1,20}|[일이삼사오육칠팔구십백천만억]{1,20}")


_JOINTS: dict[str, Callable[[str, str], str]] = {
    "de": lambda one, ten: f"{'ein' if one == 'eins' else one}und{ten}",
    "nl": lambda one, ten: f"{one}{'ën' if one[-1] == 'e' else 'en'}{ten}",
    "es": lambda one, ten: f"{ten[:-1]}i{one}",
    "it": lambda one, ten: f"{ten[:-1] if one[0] in 'uo' else ten}{one}",
    "sv": lambda one, ten: f"{ten}{one}",
    "da": lambda one, ten: f"{one}og{ten}",
    "ko": lambda one, ten: f"{ten}{one}",
}
"""How a language writes 21 to 99 in one word. (Others set them side by side; those are added up.)"""


SPELLED = (frozenset(_WORDS) - {"en ordinal"}) | {"Hangul", "Kana", "Han", "Thai"}
"""The languages, and scripts, whose words for numbers are known."""


@cache
def _values() -> dict[str, int]:
    """Word → the number that it stands for."""
    found = dict(_MORE)
    for tag, words in _WORDS.items():
        small = words.split()
        tens = [small[20], *_TENS[tag].split()]
        found |= {word: value for value, word in enumerate(small)}
        found |= {ten: value * 10 for value, ten in enumerate(tens, 2)}
        if joint := _JOINTS.get(tag):
            for value, ten in enumerate(tens, 2):
                found |= {joint(small[one], ten): value * 10 + one for one in range(1, 10)}
    return found


def spelled(text: str) -> set[str]:
    """The numbers that are written in words, below a million, and whatever else their parts may mean."""
    found: set[int] = {_MORE[match] for match in _THAI.findall(text)}
    phrase: list[str] = []
    for word in [*_WORD.findall(text.casefold()), ""]:
        if word in _HUNDREDS or word in _values():
            phrase.append(word)
        elif word not in _JOINING:
            found |= _worth(phrase) | _with_particle(word)
            phrase = []
    for match in _HAN_RUN.findall(text):
        found |= _counted(match)
    return {str(value) for value in found}


def _with_particle(word: str) -> set[int]:
    """What the beginning of a Korean word may count: 둘이."""
    beginnings = (word[:size] for size in (1, 2, 3) if "가" <= word[:1] <= "힣")
    return {_values()[beginning] for beginning in beginnings if beginning in _values()}


def _worth(words: list[str]) -> set[int]:
    """What a phrase may mean: as a whole, and each word of it (`the first two`)."""
    if len(words) > LONGEST_SPELLED:
        return {_HUNDREDS.get(word, 0) or _values()[word] for word in words}
    total, part = 0, 0
    found: set[int] = set()
    for word in words:
        value = _HUNDREDS.get(word, 0) or _values()[word]
        found.add(value)
        if word in _HUNDREDS:
            part = max(part, 1) * value
            total, part = (total + part, 0) if value >= 1_000 else (total, part)
        else:
            part = 80 if part == 4 and value == 20 else part + value  # quatre-vingts
    return found | ({total + part} if words else set())


def _counted(run: str) -> set[int]:
    """What a run of Han or Hangul numerals may mean: 二十四, 一八九一, 이백."""
    values = [_HAN[char] for char in run]
    if max(values) < 10:
        return {int("".join(map(str, values))), *values}
    total = part = digit = 0
    for value in values:
        if value < 10:
            digit = value
        elif value < 10_000:
            part, digit = part + max(digit, 1) * value, 0
        else:
            total, part, digit = total + max(part + digit, 1) * value, 0, 0
    return {total + part + digit, *values}

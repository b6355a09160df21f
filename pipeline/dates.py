"""A text into the dates in it: a month with a day, or with a year, whatever form it is written in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MONTHS = (
    "January|Jan|Januar|Jänner|janvier|enero|gennaio|janeiro|januari|stycznia|styczeń|января|январь|มกราคม|जनवरी|يناير",
    "February|Feb|Februar|février|febrero|febbraio|fevereiro|februari|lutego|luty|февраля|февраль|กุมภาพันธ์|फ़रवरी|फरवरी|فبراير",
    "March|Mar|März|mars|marzo|março|maart|marca|marzec|марта|март|มีนาคม|मार्च|مارس",
    "April|Apr|avril|abril|aprile|april|kwietnia|kwiecień|апреля|апрель|เมษายน|अप्रैल|أبريل",
    "May|Mai|mai|mayo|maggio|maio|mei|maj|maja|мая|май|พฤษภาคม|मई|مايو",
    "June|Jun|Juni|juin|junio|giugno|junho|juni|czerwca|czerwiec|июня|июнь|มิถุนายน|जून|يونيو",
    "July|Jul|Juli|juillet|julio|luglio|julho|juli|lipca|lipiec|июля|июль|กรกฎาคม|जुलाई|يوليو",
    "August|Aug|août|agosto|augustus|augusti|sierpnia|sierpień|августа|август|สิงหาคม|अगस्त|أغسطس",
    "September|Sept|Sep|septembre|septiembre|setiembre|settembre|setembro|september|września|wrzesień|сентября|сентябрь"
    "|กันยายน|सितंबर|سبتمبر",
    "October|Oct|Oktober|Okt|octobre|octubre|ottobre|outubro|oktober|października|październik|октября|октябрь|ตุลาคม"
    "|अक्टूबर|أكتوبر",
    "November|Nov|novembre|noviembre|novembro|november|listopada|listopad|ноября|ноябрь|พฤศจิกายน|नवंबर|نوفمبر",
    "December|Dec|Dezember|Dez|décembre|diciembre|dicembre|dezembro|december|grudnia|grudzień|декабря|декабрь|ธันวาคม"
    "|दिसंबर|ديسمبر",
)
"""As they are written in dates. Small and capital letters count: `may` and `march` are no months."""


_NUMBERS = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split("|")}
_LETTER = "A-Za-z\u00c0-\u024f\u0400-\u052f\u0900-\u0e7f\u0600-\u06ff"
# Both begin with letters or digits, not with what may stand before them: so they are searched for fast.
_NAME = re.compile(f"({'|'.join(sorted(_NUMBERS, key=len, reverse=True))})(?![{_LETTER}])")
_IN_DIGITS = re.compile(
    r"\d(?:\d{3}[年년] ?\d{1,2}[月월](?: ?\d{1,2}[日일])?|\d?[月월] ?\d{1,2}[日일]"
    r"|\d{3}[-/.]\d{1,2}[-/.]\d{1,2}(?!\d)|\d?[./-]\d{1,2}[./-]\d{4}(?!\d))"
)
_MONTH_ALONE = re.compile(r"\d\d?[月월]")
_INSIDE = re.compile(f"[{_LETTER}\\d.,/-]")
_DAY_BEFORE = re.compile(r"(?:\A|[^\d.,/-])(\d{1,2})(?:st|nd|rd|th|er|º|°|\.)?(?: de| di| do| of)? \Z")
_YEAR_AFTER = re.compile(r",?(?: de| del| of)? (\d{4})(?!\d)")
_DAY_AFTER = re.compile(rf"\.? (\d{{1,2}})(?:st|nd|rd|th)?(?![{_LETTER}\d]|[.,]\d)(?:,? (\d{{4}})(?!\d))?")


@dataclass(frozen=True, slots=True)
class Date:
    """A date as it stands in a text, with what is said of it; `day` or `year` is 0 where none is."""

    start: int
    end: int
    year: int
    month: int
    day: int


def dates(text: str) -> list[Date]:
    """Every date that names a month and a day or a year, in order; `5/4/2024` is two."""
    found = [*_named(text), *_in_digits(text)]
    return sorted(
        (date for date in found if date.month <= 12 and date.day <= 31 and date.month), key=lambda date: date.start
    )


def _named(text: str) -> Iterator[Date]:
    """14 May 2024, May 14, May 2024."""
    for match in _NAME.finditer(text):
        start, end, month = match.start(), match.end(), _NUMBERS[match[1]]
        before = _DAY_BEFORE.search(text[max(0, start - 12) : start])
        if before:
            year = _YEAR_AFTER.match(text, end)
            first = start - len(before[0]) + before.start(1) - before.start()
            yield Date(first, year.end() if year else end, int(year[1]) if year else 0, month, int(before[1]))
        elif _INSIDE.match(text, max(0, start - 1), start):
            continue
        elif after := _DAY_AFTER.match(text, end):
            yield Date(start, after.end(), int(after[2] or 0), month, int(after[1]))
        elif year := _YEAR_AFTER.match(text, end):
            yield Date(start, year.end(), int(year[1]), month, 0)


def _in_digits(text: str) -> Iterator[Date]:
    """2024-05-14, 14.05.2024, 2024年5月14日, 5月14日."""
    for match in _IN_DIGITS.finditer(text):
        first, *others = re.findall(r"\d+", match[0])
        if len(first) == 4:
            yield Date(*match.span(), int(first), int(others[0]), int(others[1]) if others[1:] else 0)
        elif len(others) == 1:
            yield Date(*match.span(), 0, int(first), int(others[0]))
        else:
            yield Date(*match.span(), int(others[1]), int(others[0]), int(first))
            yield Date(*match.span(), int(others[1]), int(first), int(others[0]))


def months(text: str) -> set[int]:
    """The months that a text names, with or without a day."""
    return {_NUMBERS[name] for name in _NAME.findall(text)} | {int(match[:-1]) for match in _MONTH_ALONE.findall(text)}

"""Which facts are flagged: those that the source lacks, in whatever form it has them."""

from __future__ import annotations

import random
import re

import pytest
from honest import GOOD
from hypothesis import given
from hypothesis import strategies as st

from pipeline import numerals, verify
from pipeline.sentences import sentences

REPORT = GOOD["a report"].source


@pytest.mark.parametrize("name", GOOD)
def test_a_good_summary_has_no_flag(name: str) -> None:
    _, source, summary = GOOD[name]
    assert verify.flags(summary, [summary[start:end] for start, end in sentences(summary)], source) == ()


@given(st.sampled_from(sorted(GOOD)), st.integers(0, 10_000), st.sampled_from([" ", "\n"]))
def test_sentences_of_the_source_have_no_flag(name: str, seed: int, joint: str) -> None:
    source = GOOD[name].source
    pieces = [source[start:end] for start, end in sentences(source)]
    chosen = random.Random(seed).choices(pieces, k=random.Random(seed).randint(1, 6))
    assert verify.flags(joint.join(chosen), chosen[:2], source) == ()


FACTS = 'Anna|"so|“so”|1,000|12 500|3.8 million|May|5|2024-05-14|1억|twenty-four|U.S.|EU|(x)|https://a.b/c'
WORD = st.one_of(
    st.text(st.characters(categories=["Lu", "Ll", "Lo", "Mn", "Nd"]), min_size=1, max_size=8),
    st.sampled_from(FACTS.split("|")),
    st.integers(0, 10**7).map(str),
)


@given(st.lists(st.lists(WORD, min_size=1, max_size=8), min_size=1, max_size=6))
def test_any_sentences_of_any_source_have_no_flag(parts: list[list[str]]) -> None:
    lines = [f"{' '.join(words)}." for words in parts]
    assert verify.flags("\n".join(lines[::2]), lines[1::2], "\n".join(lines)) == ()


@given(st.text(st.characters(), max_size=120), st.text(st.characters(), max_size=120))
def test_no_text_makes_it_fail_and_flags_are_few_short_and_printable(summary: str, source: str) -> None:
    found = verify.flags(summary, [summary], source)
    assert len(found) == len(set(found)) <= verify.MOST_FLAGS
    assert all(len(flag) <= verify.MOST_FLAG_CHARACTERS for flag in found)
    assert all(
        re.fullmatch(r"(number|date|quotation|url|name):[^\x00-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]*", flag)
        for flag in found
    )


def flagged(text: str, source: str = REPORT) -> tuple[str, ...]:
    return verify.flags(text, (), source)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("It cost 3.9 million pounds.", ("number:3.9 million",)),
        ("It cost 3.8 billion pounds.", ("number:3.8 billion",)),
        ("It weighs 1,420 tonnes and has 63 rollers.", ("number:1,420", "number:63")),
        ("It stopped on 12 June.", ("date:12 June",)),
        ("It ends on May 31, 2025, or 2024-05-31.", ("date:May 31, 2025", "date:2024-05-31")),
        ("It was in May 2021.", ("date:May 2021",)),
        ("“We had nothing at all to go by,” said she.", ("quotation:We had nothing at all to go by,",)),
        ("See https://e.example/x and more.", ("url:https://e.example/x",)),
        ("The mayor, Klaus Berger, opened it in Hamburg.", ("name:Klaus Berger", "name:Hamburg")),
        ("So said Marta Ellingwood of the county.", ("name:Marta Ellingwood",)),
        ("The United Nations paid.", ("name:The United Nations",)),
        ("So said Dr. Zweig.", ("name:Dr. Zweig",)),
        ("It had 1,000 rollers, and 8 men.", ("number:1,000", "number:8")),
        ("It was on 1/7/1891.", ("date:1/7/1891",)),
        ("It was on 7/13/1891.", ("date:7/13/1891",)),
    ],
)
def test_what_the_source_lacks_is_named(text: str, flags: tuple[str, ...]) -> None:
    assert flagged(text) == flags


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("1,000 and 1.000 and 1 000 and 1’000", "Exactly 1000."),
        ("1000", "Exactly 1.000 men."),
        ("3.8 million, £3.8m, 3,800,000, 3.800.000", "It cost 3.8 million."),
        ("3.8 million", "3,800,000 pounds"),
        ("2,5 Mio., 2.5 million, 2 500 000", "2,5 Millionen Euro"),
        ("24 and 31 and 19", "twenty-four, thirty-one, nineteenth"),
        ("205 and 2,000", "two hundred and five; two thousand"),
        ("24, 13", "vierundzwanzig, dreizehn"),
        ("97, 72", "quatre-vingt-dix-sept, soixante-douze"),
        ("24, 34", "ventiquattro; treinta y cuatro"),
        ("24, 1891, 200, 12", "二十四、一八九一、이백、열두 명"),
        ("1.2億, 120,000,000", "1億2000万円"),
        ("1억 2000만 원", "120,000,000원"),
        ("6명", f"{GOOD['Korean'].source} 여섯이 왔다."),
        ("21.2万, 212,000", "212000 人; 21.2万"),
        ("24명이, 7월의, 14%로", "스물넷, 7월, 14퍼센트"),
        ("4.5 and 4.50 and 4,5", "4.50 euros"),
        ("12 500", "12 men and 500 horses"),
        ("14.30, 2:41", "at 14:30; 2 minutes and 41 seconds"),
        ("14 May 2024, May 14, 14. Mai, 14.05.2024, 5/14/2024, May 2024", "on 2024-05-14"),
        ("2024年5月14日、5月14日", "2024년 5월 14일"),
        ("2024-05-14", "14 de mayo de 2024"),
        ("14 May 2024", "On 14 May; the year was 2024."),
        ("May 2024", "In May; the year was 2024."),
        ("1. first\n2. second\n3. third", "first second third"),
        ("COVID-19, A4, K2", "nothing"),
    ],
)
def test_forms_do_not_count(text: str, source: str) -> None:
    assert flagged(text, source) == ()


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("“drawings from the town archive … nothing else”", REPORT),
        ("“Drawings from the town archive, and nothing [at all]”", REPORT),
        ('"drawings from the town archive, and nothing else"', REPORT),
        ("so-called “paradise”", REPORT),
        ("“the report of May”", "see [the report](https://a.example/b) of *May*"),
        ("“don't go”", "he said: don’t go there"),
        ("「私たちのために光る」", GOOD["Japanese"].source),
        ("“닥풀이 금세 묽어진다”고", GOOD["Korean"].source),
    ],
)
def test_a_quotation_may_be_cut_and_set_otherwise(text: str, source: str) -> None:
    assert flagged(text, source) == ()


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("The Ellingworths, Ellingworth's and ELLINGWORTH’S archive", REPORT),
        ("Repairs, says the report, are done. Nobody knows.", REPORT),
        (
            "said the EU, the European Union and NASA",
            "The European Union and the National Aeronautics and Space Administration",
        ),
        ("of the European Union", "The EU paid."),
        ("said NASA’s man, Dr. Ellingworth", f"{REPORT} The National Aeronautics and Space Administration"),
        ("of Korean, Japanese, Spanish and British make", f"{REPORT} From Korea, Japan, Spain and Britain."),
        ("by Munoz and Muñoz, by J. R. Muñoz", "J. R. Muñoz"),
        ("of Samsung은 and Galaxy를", "Samsung이 Galaxy와"),
        ("О Прокопии Заречном с мыса Чайки", GOOD["Russian"].source),
        ("On Monday and in March, I said", "nothing"),
        ("Die neue Anlage steht bei einem Bauern im Garten", GOOD["German"].source),
        ("Die Stadt untersagt das Verbrennen von Gartenabfällen.", GOOD["German"].source),
    ],
)
def test_a_name_may_have_other_forms(text: str, source: str) -> None:
    assert flagged(text, source) == ()


def test_small_numbers_are_looked_for_only_where_their_words_are_known() -> None:
    czech = (
        "Mlýn má jedenáct kol a stojí na řece už sto let. Mlynář je doma a pije čaj, protože venku prší a fouká vítr."
    )
    assert flagged("Mlýn má 11 kol.", czech) == ()
    assert flagged("Mlýn má 21 kol.", czech) == ("number:21",)
    assert flagged("It has 12 wheels.") == ("number:12",)


def test_in_a_language_that_writes_all_nouns_with_capitals_only_names_of_two_words_are_flagged() -> None:
    source = GOOD["German"].source
    assert flagged("Dazu rät der Gärtner Klaus Möbius in seinem Ratgeber.", source) == ("name:Gärtner Klaus Möbius",)
    assert flagged("Dazu rät der Ratgeber aus Bad Tölz.", source) == ("name:Bad Tölz",)


def test_a_summary_in_another_language_is_flagged_for_its_numbers_only() -> None:
    english = (
        "The lighthouse of Cape Gull was mended by Prokopy Zarechny, who said “Light for all”, for 2.8 million roubles."
    )
    assert flagged(english, GOOD["Russian"].source) == ("number:2.8 million",)
    assert flagged(GOOD["a report"].summary, GOOD["German"].source)[-1].startswith("number:")


def test_flags_are_cut_and_at_most_twenty() -> None:
    assert verify.flags("", [f"It has {i} parts." for i in range(100, 150)], REPORT) == tuple(
        f"number:{i}" for i in range(100, 120)
    )
    assert flagged(f"She said “{'so it goes ' * 30}”.")[0] == f"quotation:{('so it goes ' * 30)[:69]}…"
    assert flagged("She said: “So it\u202e goes\x1b[1m by\nus”.") == ("quotation:So it goes by us",)


def test_numbers_in_a_row_that_may_each_be_two_have_a_bounded_number_of_meanings() -> None:
    """Added up each with all before it they had thousands, and 400 of them took 20 seconds."""
    found = numerals.numbers("1.234兆 " + "1.234千 1.235千 " * 30)
    assert max(len(number.scaled) for number in found) < 5 * numerals.MOST_SUMS


@pytest.mark.parametrize(
    "text", ["hundred " * 3_000, "twenty one hundred and " * 3_000, "一二三" * 2_000, "百" * 5_000]
)
def test_no_run_of_numerals_is_too_long(text: str) -> None:
    assert verify.flags("It has 4711 parts.", (), text) == ("number:4711",)
    assert verify.flags("It has 4711 parts.", (text[:400],), "二千五百 parts, 九百八十七 of them, and nothing else")

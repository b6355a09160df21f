"""Sentences, and where a source carries them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from honest import GOOD
from hypothesis import given
from hypothesis import strategies as st

from pipeline import evidence, extract, sentences
from pipeline.accept import worth
from pipeline.evidence import CARRIED, claims
from pipeline.records import Document, Evidence, Page
from pipeline.toolloop import WORTH_ENOUGH

PAGES = Path(__file__).parent.parent / "data" / "demo" / "pages"


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences.sentences(text)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One is. Two are! Three? “Four.” Five", ["One is.", "Two are!", "Three?", "“Four.”", "Five"]),
        ("It is e.g. this. Dr. A. B. Smith of the U.S. Navy", ["It is e.g. this.", "Dr. A. B. Smith of the U.S. Navy"]),
        ("Am 14. Mai kam er. Er blieb bis 3. Dann nicht.", ["Am 14. Mai kam er.", "Er blieb bis 3.", "Dann nicht."]),
        ("1. One thing. 2. Two. In 1891. It stood.", ["1. One thing.", "2. Two.", "In 1891.", "It stood."]),
        (
            "# Head\n\nOne line\nof it goes on.\n- item a\n- item b\n| a | b |\n| c | d |",
            ["# Head", "One line", "of it goes on.", "- item a", "- item b", "| a | b |", "| c | d |"],
        ),
        (
            "A line that is as long as typing made it, and then it\ngoes on in the next. Yes.",
            ["A line that is as long as typing made it, and then it\ngoes on in the next.", "Yes."],
        ),
        ("桥重新通车。“只有图纸。”他说。", ["桥重新通车。", "“只有图纸。”", "他说。"]),
        ("明かりをともした。高い！", ["明かりをともした。", "高い！"]),
        ("종이다. 읽을 수 있다!", ["종이다.", "읽을 수 있다!"]),
        ("दिखती है। जा सकेंगे॥", ["दिखती है।", "जा सकेंगे॥"]),
        ("```\n***\n…\n", []),
        ("", []),
    ],
)
def test_a_text_is_cut_where_its_readers_would(text: str, pieces: list[str]) -> None:
    assert cut(text) == pieces


def test_thai_phrases_are_taken_together() -> None:
    assert [len(piece) > 60 for piece in cut(GOOD["Thai"].source)][:3] == [True, False, True]


PIECES = [". ", "\n", "\n\n", "。", "ก ", "- a\n", "1. ", "Dr. ", "x" * 700]
ANY = st.lists(st.one_of(st.text(st.characters(), max_size=20), st.sampled_from(PIECES)), max_size=12).map("".join)


@given(ANY)
def test_sentences_are_in_order_apart_and_not_empty(text: str) -> None:
    found = sentences.sentences(text)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))


# Evidence.


def carried(claim: str, source: str) -> tuple[str, float]:
    (found,) = evidence.evidence([claim], source)
    assert (found.number, found.sentence) == (0, claim)
    return source[found.start : found.end], found.score


def test_claims_are_the_sentences_of_the_summary_and_the_key_points() -> None:
    assert claims("One is. Two are.", ["Three. Even so.", "Four"]) == ("One is.", "Two are.", "Three. Even so.", "Four")


@pytest.mark.parametrize("name", GOOD)
def test_a_sentence_of_the_source_is_its_own_evidence(name: str) -> None:
    source = GOOD[name].source
    for sentence in cut(source):
        passage, score = carried(sentence, source)
        assert score == 1.0
        assert sentence in passage


@pytest.mark.parametrize(
    ("name", "claim", "words"),
    [
        ("a report", "One of 64 rollers broke.", "64 steel rollers"),
        ("a report", "A bus of line 7X ran until May and carried 212,000 people.", "line 7X"),
        ("German", "Gefroren war der offene Haufen an 47 Tagen.", "47 von 90 Tagen"),
        ("Korean", "640그루에서 가지 2.1톤이 나온다.", "640그루"),
        ("Japanese", "ランプは22海里先まで届く。", "22海里"),
        ("Chinese", "滚轮共有64个。", "64个钢滚轮"),
        ("Thai", "ลูกกลิ้งเหล็ก 64 ลูก", "64"),
        ("Russian", "Мастер Заречный нашёл чертёж.", "чертёж"),
    ],
)
def test_the_passage_is_where_the_source_says_it(name: str, claim: str, words: str) -> None:
    passage, score = carried(claim, GOOD[name].source)
    assert words in passage
    assert score > CARRIED


def test_a_claim_from_several_sentences_has_them_all_and_a_plain_one_has_one() -> None:
    source = "Anna sells apples. Her shop opened in 1891. It stands in Fish Street. Nobody knows. Ships come. " * 1
    assert carried("Anna's shop of 1891 sells apples in Fish Street.", source)[0] == source[: source.index(" Nobody")]
    assert carried("The shop opened in 1891.", source)[0] == "Her shop opened in 1891."


def test_forms_of_a_word_are_one() -> None:
    assert carried("Repaired bridges", "The repairs of a bridge. Then nothing.") == ("The repairs of a bridge.", 1.0)
    assert carried("1.000 Brücken", "1,000 Brücke. Nichts.")[1] == 1.0


def test_what_nothing_carries_has_a_place_and_a_low_score() -> None:
    passage, score = carried("Hackers demanded a ransom.", GOOD["a report"].source)
    assert passage
    assert score < CARRIED
    assert carried("…", "Word.") == ("Word.", 0.0)


def test_a_source_without_a_sentence_carries_nothing() -> None:
    assert evidence.evidence(["One."], " \n…") == ()
    assert evidence.evidence([], "One.") == ()


def test_a_passage_is_short_even_where_no_sentence_ends() -> None:
    source = "word " * 2_000 + "needle " + "word " * 2_000
    passage, _ = carried("needle", source)
    assert "needle" in passage
    assert len(passage) <= evidence.LONGEST_SENTENCE
    assert len(carried("一二", "一二三" * 1_000)[0]) <= evidence.LONGEST_SENTENCE


@given(st.lists(ANY, max_size=4), ANY)
def test_places_are_inside_of_the_source_and_scores_between_0_and_1(texts: list[str], source: str) -> None:
    found = evidence.evidence(texts, source)
    assert len(found) in (0, len(texts))
    for number, each in enumerate(found):
        assert (each.number, each.sentence) == (number, texts[number])
        assert 0 <= each.start < each.end <= len(source)
        assert 0.0 <= each.score <= 1.0


def test_the_source_is_read_once_and_a_claim_is_compared_with_a_few_passages(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 KB and ten claims: counted, not timed. (It takes 0.1 s.)"""
    characters, tried = 0, 0
    terms, passages = evidence.terms, evidence._passages

    def counted_terms(text: str) -> list[str]:
        nonlocal characters
        characters += len(text)
        return terms(text)

    def counted_passages(place: int, count: int) -> list[tuple[int, int]]:
        nonlocal tried
        found = list(passages(place, count))
        tried += len(found)
        return found

    monkeypatch.setattr(evidence, "terms", counted_terms)
    monkeypatch.setattr(evidence, "_passages", counted_passages)
    source = f"{GOOD['a report'].source} " * 720
    texts = ["The bridge is open again, after a repair of its rollers in June."] * 10
    assert len(source) > 500_000
    assert len(evidence.evidence(texts, source)) == 10
    assert characters <= len(source) + sum(map(len, texts))
    assert tried <= 10 * evidence.CANDIDATES * 6


# What the threshold is worth.


def documents() -> dict[str, tuple[str, list[str], list[str]]]:
    """Page → its text, what it says, what it does not say."""
    found = {}
    for block in (Path(__file__).parent / "claims.txt").read_text("utf-8").split("\n== ")[1:]:
        name, *lines = block.strip().split("\n")
        page = extract.read_page(Page(name, name, 200, "text/html", "utf-8", (PAGES / name).read_bytes()))
        assert isinstance(page, Document)
        honest, invented = ([line[2:] for line in lines if line.startswith(sign)] for sign in "+-")
        found[name] = (page.text, honest, invented)
    return found


def below(found: list[Evidence]) -> float:
    return sum(each.score < CARRIED for each in found) / len(found)


def test_the_threshold_parts_honest_claims_from_invented_ones() -> None:
    pages = documents()
    honest = [each for text, claimed, _ in pages.values() for each in evidence.evidence(claimed, text)]
    for good in GOOD.values():
        honest += evidence.evidence(claims(good.summary, ()), good.source)
    invented = [each for text, _, claimed in pages.values() for each in evidence.evidence(claimed, text)]
    english = [
        (text, claimed) for name, (text, claimed, _) in pages.items() if "beet" not in name and "hanji" not in name
    ]
    of_others = [
        each
        for text, own in english
        for _, other in english
        if other is not own
        for each in evidence.evidence(other, text)
    ]
    assert len(honest) >= 130
    assert below(honest) <= 0.05
    assert below(invented) >= 0.8
    assert below(of_others) >= 0.9


@pytest.mark.parametrize("name", GOOD)
def test_a_good_summary_is_worth_enough(name: str) -> None:
    assert worth(GOOD[name].summary, (), GOOD[name].source) >= WORTH_ENOUGH


def test_what_is_said_of_another_page_is_worth_little_and_what_nobody_can_tell_is_not_judged() -> None:
    pages = {name: page for name, page in documents().items() if "beet" not in name and "hanji" not in name}
    for text, own, _ in pages.values():
        assert worth("", own, text) >= WORTH_ENOUGH
        assert worth("Very much.", ["Not so."], text) == 1.0
        assert worth(GOOD["German"].summary, own, text) == 1.0
    strange = [
        worth("", own, text) for _, own, _ in pages.values() for text, other, _ in pages.values() if other != own
    ]
    assert sum(each < WORTH_ENOUGH for each in strange) >= 0.9 * len(strange)

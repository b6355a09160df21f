"""A text into its own most telling sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.extractive import extract
from pipeline.rejections import size

TEXT = """# The bridge

The bridge over the harbour was closed for eleven months. Its bearing had cracked in June. A bakery sells rolls nearby.
The harbour trust paid for a new bearing of the bridge. The bridge opens for boats at fixed times now. It rained."""


def test_the_sentences_are_those_of_the_text_in_their_order_and_tell_of_its_subject() -> None:
    found = extract(TEXT, 25)
    places = [TEXT.index(sentence) for sentence in found.replace(". ", ".|").split("|")]
    assert places == sorted(places)
    assert "bridge" in found
    assert "#" not in found
    assert "It rained" not in found


@pytest.mark.parametrize("words", [20, 50, 100])
def test_it_is_no_longer_than_was_asked_for_but_for_a_first_sentence(words: int) -> None:
    long = " ".join(f"Sentence number {number} speaks of the river and its {number} mills." for number in range(400))
    assert 0 < size(extract(long, words)) <= words


@pytest.mark.parametrize("text", ["", "   ", "###", "\n\n", "!!! ... ???"])
def test_a_text_without_a_sentence_gives_nothing(text: str) -> None:
    assert extract(text, 50).strip("# ") == ""


def test_korean_has_sentences_too() -> None:
    text = (
        "한지는 닥나무 껍질로 만든 종이다. 솔내한지관의 밭에는 닥나무가 있다. 숙련된 장인은 하루에 이백 장 안팎을 뜬다."
    )
    assert extract(text, 5) in text


@given(st.text(), st.integers(1, 50))
def test_whatever_the_text_is_it_gives_an_answer(text: str, words: int) -> None:
    assert isinstance(extract(text, words), str)

"""What turns an answer away: its structure. Honest summaries never are, whatever they are about."""

from __future__ import annotations

import json
import re

import pytest
from honest import GOOD
from hypothesis import given
from hypothesis import strategies as st

from pipeline import languages, prompts, rejections
from pipeline.accept import kept_point
from pipeline.sentences import sentences

TOLD = [prompts.load().texts[name] for name in prompts.FIELDS]
REPORT = GOOD["a report"].source


def rejected(summary: str, source: str = REPORT, words: int = 100, language: str = "source") -> str:
    return rejections.rejection(summary, source, words=words, language=language, prompts=TOLD) or ""


@pytest.mark.parametrize("name", GOOD)
def test_a_good_summary_is_never_turned_away(name: str) -> None:
    language, source, summary = GOOD[name]
    for told in ("source", language, f"{language}-XX", "", "tlh"):
        assert rejected(summary, source, language=told) == ""
    assert rejected(summary, source * 30) == ""
    assert rejected(source, source, words=400) == ""


@pytest.mark.parametrize("name", GOOD)
def test_each_sentence_of_a_good_summary_is_one_too(name: str) -> None:
    language, source, summary = GOOD[name]
    for start, end in sentences(summary):
        assert rejected(summary[start:end], source, language=language) in ("", "far too short: 2 words")


@pytest.mark.parametrize("summary", ["", " \n", "…", "**", "---", "。"])
def test_nothing_is_no_summary(summary: str) -> None:
    assert rejected(summary) == "empty"


@pytest.mark.parametrize("summary", ["BANANA", "Bridge.", "Very good.", "鱼街", "ปลา"])
def test_a_word_or_two_are_no_summary_of_a_longer_text(summary: str) -> None:
    assert rejected(summary).startswith("far too short")
    assert not rejected(summary, summary)


def test_more_than_three_times_the_words_asked_for_are_far_too_long() -> None:
    words = " ".join(f"word{i}" for i in range(301))
    assert rejected(words) == "far too long: 301 words, 100 asked for"
    assert not rejected(words.rpartition(" ")[0])
    # 300 words of English are some 500 characters of Chinese, 800 kana, 1,500 letters of Thai.
    chinese, thai = GOOD["Chinese"], GOOD["Thai"]
    assert not rejected(chinese.source, chinese.source, words=40)
    assert rejected(chinese.source * 3, chinese.source, words=40).startswith("far too long")
    assert not rejected(thai.source, thai.source, words=40)
    assert rejected(thai.source * 3, thai.source, words=40).startswith("far too long")


@pytest.mark.parametrize(
    "summary",
    [
        "TEST " * 100,
        "The bridge is open. " * 50,
        "The bridge is open again. It was closed. " * 12,
        "It was built in 1891 and " * 20,
        "The bridge is open " + "ha" * 60,
        "The bridge is open " + "!" * 60,
        "다리가 열렸다. " * 20,
        "旋转桥重新通车。" * 20,
        "สะพานเปิดแล้ว" * 20,
        "- The bridge is open\n" * 30,
        f"{' '.join(f'Word{i} comes' for i in range(20))} in 1891. " * 6,
        "The dump was lost. " + " ".join(f"The {word} about the password being deleted." for word in "abcdefghi"),
        f"{GOOD['a report'].summary} It is made from steel {'that is made from yeast ' * 10}",
        f"{GOOD['Chinese'].summary}{'这座桥建于十九世纪末，' * 12}",
    ],
)
def test_the_same_over_and_over_is_no_summary(summary: str) -> None:
    assert rejected(summary, words=1_000).startswith("repetition")


def test_what_has_a_pattern_may_be_a_summary() -> None:
    days = [f"{name}day" for name in ("Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun")]
    assert not rejected(f"The museum is open: {', '.join(f'{day} from 10 to 5' for day in days)}.")
    assert not rejected("".join(f"- Kettle {i} boils a litre in {i + 100} seconds.\n" for i in range(10)))
    assert not rejected("、".join(f"{i}年に{i * 7}人" for i in range(1990, 2005)), GOOD["Japanese"].source)


def test_what_the_model_was_told_is_no_summary() -> None:
    for text in TOLD:
        assert rejected(f"The page wants this: {text[:80]}") == "it repeats what the model was told"
        assert (
            rejected(f"The page wants this: {text[:80].upper()}".replace(" ", "\n"))
            == "it repeats what the model was told"
        )
        assert not rejected(f"The page wants this: {' '.join(text[:39].split())}")
        assert not rejected(f"The page quotes: {text[:80]}", f"{REPORT} It says: {text}")


@pytest.mark.parametrize("summary", ["< Summary of the text>", "[Insert a short summary here]", "{the text above}."])
def test_a_placeholder_is_no_summary_but_words_in_brackets_may_be_in_one(summary: str) -> None:
    assert rejected(summary) == "a placeholder"
    assert not rejected(summary, f"{REPORT} {summary}")
    assert not rejected(f"{summary} The bridge is open again [since June].")


@pytest.mark.parametrize(
    "summary", ["The original text is:", "Here is a summary of the page:", "요약 내용은 다음과 같습니다："]
)
def test_an_announcement_alone_is_no_summary(summary: str) -> None:
    assert "announces" in rejected(summary, language="tlh")
    assert not rejected(summary, f"{REPORT} {summary}", language="tlh")
    assert "announces" not in rejected(f"{summary} the bridge is open again.")
    assert "announces" not in rejected(f"The bridge is open again. {summary}")


def test_boundaries_and_calls_are_no_summary() -> None:
    assert "boundaries" in rejected("The mark <<<PAGE 0123456789ab>>> begins the page.")
    assert "boundaries" in rejected("The bridge is open. <<End 0123456789ab>> It is.")
    for bare in ("1d24bbdb57c8", "PAGE 123456789012>>> The bridge is open again."):
        assert "boundaries" in rejections.unfit(bare, REPORT, language="source", prompts=TOLD)
        assert not rejections.unfit(bare, f"{REPORT} {bare}", language="source", prompts=TOLD)
    assert not rejections.unfit("It has 123456789012 grains.", REPORT, language="source", prompts=TOLD)
    assert not rejected("The mark is <<<END 0123456789ab>>> there.", f"{REPORT} <<<END 0123456789ab>>>")
    call = {"name": "get_page", "arguments": {"url": "https://a.example/", "part": 1}}
    for text in (
        json.dumps(call),
        json.dumps([call]),
        f"```json\n{json.dumps(call)}\n```",
        "get_page(url='x', part=1)",
    ):
        assert "call" in rejected(text)


REFUSALS = """I'm sorry, but I cannot summarize this page.|I cannot assist with that request.|The page is empty.
As an AI language model, I don't have access to the internet.|Unfortunately, I am unable to access the URL.
Please provide the text you would like me to summarize.|There is no text provided.|I'm sorry, I can't help with that.
Es tut mir leid, aber ich kann diese Seite nicht zusammenfassen.|Leider kann ich auf den Inhalt nicht zugreifen.
Als KI-Modell kann ich keine Webseiten lesen.|Je suis désolé, mais je ne peux pas résumer cette page.
En tant qu'IA, je ne peux pas accéder à Internet.|Lo siento, pero no puedo ayudarte con eso.
Como modelo de lenguaje, no tengo acceso.|Mi dispiace, ma non posso riassumere questa pagina.
Desculpe, mas não posso resumir esta página.|Het spijt me, maar ik kan deze pagina niet samenvatten.
Извините, но я не могу помочь с этим.|Как языковая модель, я не имею доступа к сети.
죄송하지만 이 페이지를 요약할 수 없습니다.|AI 언어 모델로서 저는 웹에 접근할 수 없습니다.
申し訳ありませんが、このページを要約できません。|AIとして、リンクにアクセスできません。
抱歉，我无法总结该页面。|作为一个人工智能，我无法访问网页。|我无法提供该网页的摘要。"""


@pytest.mark.parametrize("summary", re.split(r"[|\n]", REFUSALS))
def test_a_refusal_is_no_summary_unless_the_page_says_so_itself(summary: str) -> None:
    assert rejected(summary) == "a refusal"
    assert rejected(f"{summary} The bridge is open.") == "a refusal" or summary == "The page is empty."
    assert rejected(summary, f"{REPORT} {summary}") != "a refusal"
    assert rejected(f"The programs answer: “{summary}”") != "a refusal"


@pytest.mark.parametrize(
    "summary",
    [
        "I cannot see the sea from here, and nobody asks for more.",
        "As an AI company, Kite & Sons sells maps of the coast.",
        "The page is empty of trees, its author says of the town plan.",
        "Sorry is the hardest word, says the song by the harbour choir.",
        "We are not able to swim, the crew wrote in its last letter.",
        "No text has been found on the stone, which was raised in 1891.",
    ],
)
def test_what_only_sounds_like_a_refusal_is_none(summary: str) -> None:
    assert rejected(summary) == ""


def test_a_summary_in_another_script_than_the_page_is_turned_away() -> None:
    for language, source, _ in GOOD.values():
        for other, _, summary in GOOD.values():
            if languages.SCRIPTS[language] != languages.SCRIPTS[other]:
                assert "script" in rejected(summary, source), (language, other)
                assert "script" in rejected(summary, source, language=language), (language, other)
                assert not rejected(summary, source, language=other), (language, other)


@pytest.mark.parametrize("name", ["German", "French", "Spanish", "Italian", "Portuguese", "Dutch", "Swedish"])
def test_a_summary_in_another_latin_language_is_turned_away(name: str) -> None:
    language, source, summary = GOOD[name]
    assert rejected(GOOD["a report"].summary, source) == f"written in en, not in {language}"
    assert rejected(summary, GOOD["a report"].source) == f"written in {language}, not in en"
    assert rejected(summary, source, language="en") == f"written in {language}, not in en"
    assert not rejected(summary[:99], REPORT)


@pytest.mark.parametrize("name", GOOD)
def test_a_text_is_in_the_language_that_its_page_says_unless_that_cannot_be(name: str) -> None:
    language, source, _ = GOOD[name]
    assert languages.language_of(source, language) == language
    if language not in languages.COMMONEST and languages.SCRIPTS[language] != ("Latin",):
        alone = {"ko", "ja", "zh", "el", "he", "th"}
        assert languages.language_of(source, "") == (language if language in alone else "")
        assert languages.language_of(source, "en") == (language if language in alone else "")
    if language in languages.COMMONEST:
        assert languages.language_of(source, "ko") == languages.language_of(source, "") == languages.guess(source)


def test_a_language_that_is_not_known_is_not_taken_for_its_neighbour() -> None:
    assert languages.guess(GOOD["Slovak"].source) == ""
    assert languages.guess(GOOD["Catalan"].source) == "ca"
    assert languages.guess(GOOD["Norwegian"].source) == languages.guess(GOOD["Norwegian"].summary) == "da"


def test_mixed_pages_may_be_summarized_in_either_of_their_languages() -> None:
    """A Korean page full of code and English names; an English page with Korean examples."""
    code = "def restore(path: str) -> None:\n    return run(path, check=True)\n"
    korean, english = GOOD["Korean"], GOOD["a report"]
    assert not rejected(korean.summary, f"{korean.source}\n```\n{code * 400}```\n")
    assert not rejected(korean.summary, f"{korean.source}\n{english.source}")
    assert not rejected(english.summary, f"{korean.source}\n{english.source}")
    assert not rejected("Kubernetes 1.31, Docker Compose, GitHub Actions 업데이트", korean.source)


@given(st.text(st.characters(), max_size=120), st.text(st.characters(), max_size=120), st.integers(0, 50))
def test_no_text_makes_it_fail(summary: str, source: str, words: int) -> None:
    found = rejections.rejection(summary, source, words=words, language="source", prompts=[source])
    assert found is None or 0 < len(found) < 80
    assert len(rejections.unfit(summary, source, language="source", prompts=[source])) < 80


@pytest.mark.parametrize(
    "written",
    [
        "You summarize web pages for a reader who has little time. You are exact: you write only what the text says.",
        "I'm sorry, but I cannot summarize this page.",
        '{"name": "get_page", "arguments": {"url": "u", "part": 2}}',
        "<<<PAGE 0123456789ab>>> the bridge",
        "so it goes " * 20,
        GOOD["Korean"].summary,
        "<think>of what?</think>",
    ],
)
def test_what_is_no_summary_is_no_key_point_either(written: str) -> None:
    assert kept_point(written, REPORT, language="", prompts=TOLD) == ""


def test_a_key_point_may_be_short_and_loses_its_marks() -> None:
    assert kept_point("- **2.8 million**", REPORT, language="en", prompts=()) == "2.8 million"

"""What may be kept of a model's output, be it written by whoever wrote the page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from honest import GOOD
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import clean, links
from pipeline.clean import cleaned

SOURCE = (
    "See https://a.example/x(1), https://b.example/path and www.c.example/y. 자세히는 https://d.example/z에서 본다."
)
PROMPTS = (
    "You summarize web pages. You are exact: you write only what the text says.",
    "Write what it says as a summary of at most 100 words. Write the summary alone, without an introduction.",
)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_summary_stays_as_it_is(name: str) -> None:
    assert cleaned(GOOD[name].summary, GOOD[name].source, PROMPTS) == GOOD[name].summary


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("<think>Let me see.\n\nSo.</think>\n\nThe bridge.", "The bridge."),
        ("<think>It never ends", ""),
        ("I think so.</think>The bridge.", "The bridge."),
        ("The <think>or not</think> bridge.", "The bridge."),
        ("The bridge. <THINKING >and", "The bridge."),
        ("[THINK]so[/THINK]The bridge.", "The bridge."),
        ("<think>`</think>` ends it</think>The bridge.", "The bridge."),
        ("The tag `<think>` begins a thought.", "The tag `think` begins a thought."),
    ],
)
def test_thinking_goes_closed_or_not(written: str, kept: str) -> None:
    assert cleaned(written, SOURCE) == kept


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("\x1b[1;31mred\x1b[0m \x9b2Jclear", "red clear"),
        ("\x1b]8;;https://e.example/\x1b\\link\x1b]8;;\x07 \x1b]0;title\x07.", "link ."),
        ("over\rwritten a\bb\x00\x7f\x85next", "over\nwritten ab\nnext"),
        (
            "ta\U000e0041g z\u200be\u2060ro b\u202eid\u2066i v\ufe0fs s\u00adoft \ufeff\u3164.",
            "tag zero bidi vs soft .",
        ),
        ("\ud800lone\udfff \ue000private", "lone private"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("x\u200cy", "xy"),
        ("e\u0301" + "\u0301" * 50, "é" + "\u0301" * 7),
    ],
)
def test_what_a_terminal_acts_on_or_nobody_sees_goes(written: str, kept: str) -> None:
    assert cleaned(written, SOURCE) == kept


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("a <script>alert(1)</script>b", "a b"),
        ("a <script>x</think>y</script> b", "a b"),
        ("the <script> tag", "the tag"),
        ("a </ b> c <! d", "a < / b> c < ! d"),
        ("a <!-- hidden -->b", "a b"),
        ("a <b>bold</b> word<br/>H<sub>2</sub>O", "a bold word\nH2O"),
        ("a <img src=x onerror=alert(1)> b", "a b"),
        ("a <x onclick=alert(1)> b", "a b"),
        ("<b<b>>bold", "< b>bold"),
        ("a <img src=x", "a < img src=x"),
        ("List<String> of a<b and c>d, x < y, p <0.05", "List<String> of a< b and c>d, x < y, p <0.05"),
        ("`<dialog>` and `<|im_end|>`", "`dialog` and `im_end`"),
        ("<|im_start|>assistant\nThe bridge.<|im_end|></s>", "The bridge."),
        ("[INST] The bridge. [/INST]", "The bridge."),
    ],
)
def test_tags_go_and_what_is_none_stays(written: str, kept: str) -> None:
    assert cleaned(written, SOURCE) == kept


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("a ![x](https://e.example/?q=secret) b", "a b"),
        ("a ![x](https://b.example/path) b", "a b"),
        ("a [b](https://e.example/) c", "a b c"),
        ("a [b](https://b.example/path) c", "a [b](https://b.example/path) c"),
        ("a [b](https://b.example/path?q=secret) c", "a b c"),
        ("a [b](https://b.example.e.example/path) c", "a b c"),
        ("a [b][r] c\n\n[r]: https://e.example 'title'", "a b c"),
        ("a [r] c\n- [R]: //e.example/x", "a [r] c"),
        ("[a](javascript:alert(1)) [b](data:text/html,x)", "a b"),
        ("[c](//e.example/((d))) [d](&#104;ttp://e)", "[c] (//e.example/((d))) d"),
        ("[![x](https://e.example/i.png)](https://e.example/)", ""),
        ("[a [b](https://e.example)](https://e.example)", "a b"),
        ("a <https://e.example/> b <https://b.example/path> c", "a b https://b.example/path c"),
        ('<a href="https://e.example">a</a>', "a"),
        ("At https://e.example/x?y=1. At (https://e.example/) too, www.e.example/x, ftp://e.example", "At. At too,,"),
        ("At https://a.example/x(1), (https://b.example/path/) and www.c.example/y.",) * 2,
        ("https://d.example/z에서, https://b.example/path에서", "https://d.example/z에서, https://b.example/path 에서"),
        ("본다, https://e.example에서", "본다, 에서"),
        ("https://b.example/path)https://e.example/x", "https://b.example/path)"),
        ("javascript:alert(1) and data:text/html;base64,AA==", "and"),
        ("data: 5 apples, JavaScript: the book, f[0](x), see [1]",) * 2,
    ],
)
def test_links_stay_only_if_the_source_has_the_url(written: str, kept: str) -> None:
    assert cleaned(written, SOURCE) == kept


INTRODUCTIONS = """Here is a summary of the page:|Here's a brief summary in English:|Sure, here is the summary:|Sure!
Certainly! Here's a concise summary of the text you provided:|Sure, I can help with that. Here is a summary:
The page says:|Of course. Here is a summary of the article in 100 words:|Summary:|**Summary:**|## Summary\\n
TL;DR:|Summary of the page:|Based on the text above, here is a summary:
This is a summary of part 1 of 3 of the page:|Here is a summary of the page.\\n|The text states the following:
Hier ist eine Zusammenfassung der Seite:|Natürlich! Hier ist die Zusammenfassung:|Zusammenfassung:
Zusammenfassung des Textes:|Der Text besagt:|Die Seite sagt:|Voici un résumé de la page :|Résumé :
Bien sûr ! Voici le résumé :|La page dit :|Aquí tienes un resumen de la página:|¡Claro! Aquí está el resumen:
Resumen:|La página dice:|Ecco un riassunto della pagina:|Certo! Ecco il riassunto:|Riassunto:|La pagina dice:
Aqui está um resumo da página:|Claro! Segue o resumo:|Resumo:|A página diz:
Hier is een samenvatting van de pagina:|Natuurlijk! Hieronder volgt een samenvatting:|Samenvatting:
De pagina zegt:|Вот краткое содержание страницы:|Конечно! Вот краткое изложение:|Резюме:|Краткое содержание:
На странице говорится:|다음은 페이지의 요약입니다:|다음은 이 글의 요약입니다.|네, 요약해 드리겠습니다.
물론입니다! 다음은 요약입니다:|요약:|이 페이지를 요약하면 다음과 같습니다:|페이지는 다음과 같습니다:
以下はページの要約です：|はい、以下に要約します。|要約：|承知しました。以下は記事の要約です。
このページはこう述べている：|以下是该页面的摘要：|好的，以下是总结：|摘要：|这是文章的概要：|文章指出：
当然！以下是摘要："""


@pytest.mark.parametrize("introduction", re.split(r"\||(?<!\\)\n", INTRODUCTIONS))
def test_an_introduction_goes_in_eleven_languages(introduction: str) -> None:
    introduction = introduction.replace("\\n", "\n")
    for space in (" ", "\n", "\n\n"):
        assert cleaned(f"{introduction}{space}Öl, 384.", SOURCE) == "Öl, 384."


@pytest.mark.parametrize(
    "text",
    [
        "Sure, the bridge is old, but it stands. It was said: no.",
        "Here is the town where it began: Saltmere.",
        "The page describes three kettles: one of glass, two of steel.",
        "Summary judgment: the court ruled for the town.",
        "This is the overview map of the town, drawn in 1891.",
        "Of course. The sea does not answer.",
        "요약본을 만들었다.",
        "이 글은 조선왕조실록을 요약한 책을 소개한다.",
        "以下の三つを使う：塩、水、粉。",
    ],
)
def test_what_only_looks_like_an_introduction_stays(text: str) -> None:
    assert cleaned(text, SOURCE) == text


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("```markdown\nThe bridge.\n```", "The bridge."),
        ("```\nThe bridge.", "The bridge."),
        ("```\nx = 1\n```\nis what it says.",) * 2,
        ("“The bridge is open.”", "The bridge is open."),
        ('"Open" is the word of the "year"',) * 2,
        ("Write the summary alone, without an introduction. The bridge.", "The bridge."),
        ("The bridge.\n\n(98 words)", "The bridge."),
        ("The bridge.\nWord count: 98", "The bridge."),
        ("The bridge counted 98 words.",) * 2,
        ("<<<PAGE 0123456789ab>>>\nThe bridge.\n<<<END 0123456789ab>>>", "The bridge."),
        ("<<<End 0123456789ab>>”\n\nHere is the summary of the text.\n\nThe bridge.", "The bridge."),
        ("<<<A page of text>>\nThe text of a page is:\n\nThe bridge.", "The bridge."),
        ("The mark <<<PAGE 0123456789ab>>> here",) * 2,  # a matter of `rejection`
        ("A <<<PAGE x onclick=alert(1)>>> b", "A <<>> b"),
    ],
)
def test_what_stands_around_a_summary_goes(written: str, kept: str) -> None:
    assert cleaned(written, SOURCE, PROMPTS) == kept


# What holds of any text.

PIECES = """<think>|</think>|<b>|</b>|<b|<|>|<!--|-->|<script>|</script>|[|]|](|)|![|(|[a]|[a]: |https://
https://e.example/x|https://b.example/path|//e.example|www.|e.example|javascript:|x(1)|data:text/html,
<img src=x>|<a href="|">|`|```|\n|:|Summary:|Here is the summary:|Sure! |요약:|**|#|"|“|”
<<<PAGE 0123456789ab>>>|<|im_start|>|[INST]|&lt;|\x1b[1m|\x1b]8;;|\x07|\r|\u200b|\u200c|\u202e|\U000e0041
\ufe0f|\ud800|\u0301|e|가|می|。|. |에서|Write the summary alone, without an introduction. |\0|\t|98 words
(|=|/"""
ANY = st.lists(st.one_of(st.sampled_from(re.split(r"\||\n", PIECES)), st.text(max_size=8)), max_size=20).map("".join)
FORBIDDEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ud800-\udfff"
    "\ue000-\uf8ff\U000e0000-\U000e0fff]"
)


class Tags(HTMLParser):
    """A browser's view: which tags a text has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


@given(ANY, st.sampled_from(["", SOURCE]))
@example("<b<b<b<b<b<b<b<b<b<b<b>>>>>>>>>>>", "")
@example("https://b.example/path\ufe0f/secret", SOURCE)
def test_cleaned_text_has_nothing_that_may_not_be_kept_and_is_cleaned_once(text: str, source: str) -> None:
    kept = cleaned(text, source, PROMPTS)
    assert cleaned(kept, source, PROMPTS) == kept
    assert not FORBIDDEN.search(kept)
    assert links.urls(kept) <= links.urls(source)
    found = Tags(clean.MARK.sub("", kept))
    assert not found.attributes
    assert not {"script", "img", "a", "b", "think"} & set(found.tags)
    assert not re.search(r"!\[[^\[\]]*\]\([^()]*[:/.]", kept)
    assert not re.search(r"(?i)\bjavascript:\S*\(|<think|\bdata:text/html,", kept)


@given(st.text(st.characters(), max_size=200), st.text(st.characters(), max_size=50))
def test_no_text_makes_it_fail(text: str, source: str) -> None:
    assert cleaned(cleaned(text, source), source) == cleaned(text, source)


HOSTILE_WORDS = """< <a <b> <think> </think> <!-- <script> [ ]
[a]( ]( [a](b.c) [a](https://b.example/path) https://a www. : `< *
https://a( https://a가 javascript: data: \x1b[ \x1b]8;; \x90 \u0301\u0323 # <| \u200d ((((a [a][a] \ud800"""
HOSTILE = [
    *HOSTILE_WORDS.split(),
    *["Summary: ", "Sure! ", "here is ", "\n", " \n", " ", ". ", "[a]: ", "\n[a]: http://x", "] (", "```\n"],
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_output_is_cleaned_in_linear_time(piece: str) -> None:
    """100 KB each: what takes quadratic time for one of them would take minutes."""
    text = piece * (100_000 // len(piece))
    cleaned(f"x{text}y", SOURCE * 100, PROMPTS)
    cleaned("https://x.example", text, PROMPTS)


def test_what_a_terminal_would_wait_for_the_end_of_is_read_up_to_the_next_of_its_kind() -> None:
    """Not to the end of the text, from each of 100,000 of them."""
    assert cleaned("One\x90 of\x98 many\x9d bells\x9c is cracked.", SOURCE) == "One of many is cracked."


def test_a_megabyte_is_cleaned() -> None:
    assert cleaned("The bridge <b>is</b> open. " * 40_000, "").count("The bridge is open.") == 40_000

"""What is seen of a page: all that is shown to a reader, nothing that is not, and no trap of the extractor's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from readers import page

from pipeline import styles, visible
from pipeline.extract import clean, read_page
from pipeline.records import Document
from pipeline.styles import Hiding
from pipeline.visible import see

CHANNELS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("hidden.json").read_text("utf-8"))
CANARY = "The heron told nobody where it had hidden the eleventh boat."
SENTENCE = "The harbour master counted eleven boats at the west quay on Sunday evening, three more than a week before."
ARTICLE = "".join(f"<p>{SENTENCE} It was the {number}th time in a row.</p>" for number in range(4, 10))
LAST = "After all of it comes one more sentence, which is as much a part of the text as the others are."


def html(body: str) -> str:
    return f"<!DOCTYPE html><html><head><title>Boats</title></head><body><article>{body}</article></body></html>"


def document(markup: str, media: str = "text/html") -> Document:
    found = read_page(page(markup, media))
    assert isinstance(found, Document), found
    return found


def channel(markup: str) -> str:
    return html(ARTICLE + markup.replace("CANARY", CANARY) + f"<p>{LAST}</p>")


@pytest.mark.parametrize("name", CHANNELS["hidden"])
def test_what_is_hidden_from_a_reader_is_no_text(name: str) -> None:
    found = document(channel(CHANNELS["hidden"][name]))
    assert CANARY not in found.text
    assert "heron" not in found.text
    assert SENTENCE in found.text
    assert LAST in found.text


@pytest.mark.parametrize("name", CHANNELS["hidden"])
def test_it_is_none_either_in_a_page_that_leaves_out_the_tags_of_head_and_body(name: str) -> None:
    found = document(f"<title>Boats</title><article>{ARTICLE}{CHANNELS['hidden'][name].replace('CANARY', CANARY)}")
    assert CANARY not in found.text
    assert SENTENCE in found.text


@pytest.mark.parametrize("name", CHANNELS["visible"])
def test_what_is_shown_to_a_reader_is_text(name: str) -> None:
    assert CANARY in document(channel(CHANNELS["visible"][name])).text


@pytest.mark.parametrize("name", CHANNELS["hidden"])
def test_what_is_hidden_is_not_taken_for_the_text_of_a_page_that_has_hardly_any(name: str) -> None:
    found = read_page(page(html(CHANNELS["hidden"][name].replace("CANARY", CANARY) + f"<p>{LAST}</p>")))
    assert "heron" not in (found.text if isinstance(found, Document) else found.detail)


def test_what_was_taken_out_is_counted() -> None:
    assert document(html(ARTICLE)).hidden_characters == 0
    assert document(channel("<p hidden>CANARY</p>")).hidden_characters == pytest.approx(len(CANARY), abs=1)
    assert document(channel("<!-- CANARY --><script>CANARY</script>")).hidden_characters == 0
    assert document(html(ARTICLE + "<p>Ten\u200b boats\U000e0041\U000e0042.</p>")).hidden_characters == 3


def test_a_page_whose_whole_text_is_hidden_until_a_script_shows_it_is_read() -> None:
    for around in ('<div style="opacity:0">', "<div hidden>", '<style>.app{display:none}</style><div class="app">'):
        assert LAST in document(html(f"{around}{ARTICLE * 2}<p>{LAST}</p></div>")).text


def test_neither_the_whole_page_nor_its_body_is_hidden() -> None:
    found = document(
        f'<html style="visibility:hidden" hidden><body class="x" style="display:none">{ARTICLE}</body></html>'
    )
    assert SENTENCE in found.text


INVISIBLE = "\u200b\u200e\u202e\u2062\ufeff\u00ad\u034f\u3164\u2800\U000e0048\U000e0049\ufe01\U000e0101"


def test_invisible_characters_are_no_text() -> None:
    found = document(html(ARTICLE + f"<p>{LAST[:10]}{INVISIBLE}{LAST[10:]}</p>"))
    assert LAST in found.text
    assert found.hidden_characters == len(INVISIBLE)


def test_joiners_stay_where_they_shape_letters() -> None:
    assert clean("می\u200cخواهم क्\u200dष 👩\u200d🚀") == "می\u200cخواهم क्\u200dष 👩\u200d🚀"
    assert clean("a\u200d\u200c\u200d\u200db \u200c c\u200cd") == "ab  cd"


# Traps


@pytest.mark.parametrize("levels", [100, 199, 250, 253, 300, 1_000, 5_000])
@pytest.mark.parametrize("close", [True, False])
def test_text_is_kept_however_deep_it_lies_and_what_follows_too(levels: int, close: bool) -> None:
    deep = "<div>" * levels + f"<p>{CANARY}</p>" + "</div>" * levels * close
    found = document(html(f"{ARTICLE}{deep}<p>{LAST}</p>"))
    assert [sentence in found.text for sentence in (SENTENCE, CANARY, LAST)] == [True] * 3


@pytest.mark.parametrize("levels", [150, 199, 260])
@pytest.mark.parametrize("count", [1, 6])
def test_a_paragraph_that_lies_deep_is_one_also_in_a_page_of_few(levels: int, count: int) -> None:
    """trafilatura drops lines that stand beside paragraphs, or the paragraphs beside more lines."""
    first = "The harbour master counted eleven boats at the west quay on Sunday evening."
    there = "Nobody had told the keeper of the lower lock that the water would rise by half a metre in one night."
    last = "In the end the mill was bought by a cooperative of nine farmers, who still grind twice a week."
    deep = "<div>" * levels + "".join(f"<p>{there} {n}.</p>" for n in range(count)) + "</div>" * levels
    found = document(f"<html><body><p>{first}</p>{deep}<p>{last}</p>").text
    assert [text in found for text in (first, f"{there} 0.", f"{there} {count - 1}.", last)] == [True] * 4


def test_tags_that_close_nothing_do_not_hide_how_deep_a_page_is() -> None:
    for deep in ("<div></b>" * 5_000, "<b>" * 5_000, "<ul><li>" * 3_000, "<table><tr><td>" * 2_000):
        assert LAST in document(html(f"{ARTICLE}{deep}<p>{LAST}</p>")).text


@pytest.mark.parametrize("tag", ["script", "style", "p", "textarea", "svg"])
def test_eleven_megabytes_in_one_element_do_not_lose_what_follows(tag: str) -> None:
    seen = see(html(f"<{tag}>{'x ' * 5_600_000}</{tag}><p>{LAST}</p>"))
    assert seen
    assert LAST in seen.tree.text_content()


def test_neighbouring_paragraphs_that_are_alike_are_both_kept() -> None:
    found = document(html(f"{ARTICLE}<p>{LAST}</p><p>{LAST}</p><p>{LAST}</p>"))
    assert found.text.count(LAST) == 3
    assert (visible.REPEATED in found.text, found.hidden_characters) == (False, 0)


@pytest.mark.parametrize("reference", ["&#1;", "&#x1b;", "&#11;", "&#65535;", "&#xFFFE;", "&#127;", "&#0;", "&#xD800;"])
def test_a_reference_to_what_is_no_character_does_not_lose_the_page(reference: str) -> None:
    assert LAST in document(html(f"{ARTICLE}<p>A{reference}B</p><p>{LAST}</p>")).text


def test_a_reference_to_a_character_is_kept() -> None:
    assert "A\u00e9B C10;" in document(html(f"{ARTICLE}<p>A&#233;B C&#49;0;</p>")).text


@pytest.mark.parametrize("character", ["\0", "\x0c", "\x1b", "\x7f", "\ufffe", "\uffff"])
def test_a_control_character_does_not_lose_the_page(character: str) -> None:
    assert LAST in document(html(f"{ARTICLE}<p>A{character}B</p><p>{LAST}</p>")).text


# Not timed: the test ends, or the limit of the whole run does. Each of these took minutes, or more.
FLOODS = {
    "attributes": "<p " + " ".join(f"a{number}=x" for number in range(100_000)) + ">Boats.</p>",
    "a few hundred attributes": ("<p " + " ".join(f"a{number}=x" for number in range(500)) + ">Boats.</p>") * 20,
    "spans": "<p>" + "<span>boats</span> " * 20_000 + "</p>",
    "bold": "<p>" + "<b>boats</b> " * 20_000 + "</p>",
    "links": "<p>" + "<a href=x>boats</a> " * 20_000 + "</p>",
    "unclosed links": "<a href=x>boats " * 20_000,
    "hidden": "boats <i hidden>x</i>" * 20_000,
    "scripts": "boats <script>x</script>" * 20_000,
    "letters on their ground": '<div style="background:#fff">' + "<b style='color:#fff'>x</b>y" * 5_000 + "</div>",
    "rules": "<style>" + ".a{display:none}" * 20_000 + "{" * 20_000 + "a" * 20_000 + "</style>",
    "brackets": "<" * 200_000,
    "open tags": "<a " * 100_000,
    "half references": "&#" * 100_000,
    "spaces": " " * 2_000_000,
    "line ends": "\r\n" * 500_000,
    "one word": "a" * 2_000_000,
}


def test_paragraphs_that_are_all_alike_are_all_kept_apart() -> None:
    seen = see(html("<p>Boats.</p>" * 200_000))
    assert seen
    assert seen.tree.xpath("count(//p[not(contains(., $mark))])", mark=visible.REPEATED) == 1


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_read(name: str) -> None:
    markup = html(ARTICLE + FLOODS[name] + f"<p>{LAST}</p>")
    seen = see(markup)
    assert seen
    for heavy in (
        f"//*[@*[{visible.MOST_ATTRIBUTES + 1}]]",
        f"//p[.//*[{visible.MOST_INLINE + 1}]]",
        "//*[text()[following-sibling::node()[1][self::text()]]]",
    ):
        assert seen.tree.xpath(f"count({heavy})") == 0, heavy
    if name not in ("attributes", "brackets", "open tags", "unclosed links"):
        assert SENTENCE in document(markup).text


def test_a_tag_of_a_hundred_thousand_attributes_keeps_those_that_matter() -> None:
    many = " ".join(f"a{number}=x" for number in range(100_000))
    tag = f"<p id='one' {many} class=two hidden><p class={'x' * 9_000} title='>'>"
    assert visible._short_tags(tag) == "<p id='one' class=two hidden><p>"
    assert visible._bearable(tag) == visible._short_tags(tag)
    short = "<p title='>'>" + "<p a=b c='d' e=\"f\">" * 1_000
    assert visible._short_tags(short) == short


def test_entities_are_not_expanded_and_no_file_is_read() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    doctype = f'<!DOCTYPE html [<!ENTITY l0 "ha">{laughs}<!ENTITY f SYSTEM "file:///etc/hostname">]>'
    for media in ("text/html", "application/xhtml+xml"):
        found = document(f"{doctype}<html><body>{ARTICLE}<p>A &l11; &f; B.</p></body></html>", media)
        assert len(found.text) < 2_000
        assert Path("/etc/hostname").read_text().strip() not in found.text or not Path("/etc/hostname").exists()


def test_an_element_that_xml_closes_at_once_does_not_swallow_the_rest() -> None:
    head = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="a"/>'
    assert (
        LAST in document(f"{head}</head><body><div/>{ARTICLE}<p>{LAST}</p></body></html>", "application/xhtml+xml").text
    )
    assert LAST in document(f"<html/><body/>{ARTICLE}<p>{LAST}</p>").text


def test_the_language_is_what_the_page_says() -> None:
    assert document(f'<html lang="pt-BR"><body>{ARTICLE}</body></html>').language == "pt-BR"
    assert document(f'<html lang="<b>"><body>{ARTICLE}</body></html>').language == ""


@given(st.text(alphabet="<>/abpdiv =\"'!-&#;x0{}", max_size=300))
def test_no_markup_raises(markup: str) -> None:
    see(markup)


# Styles


@given(st.text(alphabet=":;()/*\\{}-.#0123456789 adeghilnoprstuvwxy%,@!", max_size=200))
def test_no_style_raises(style: str) -> None:
    styles.hiding(styles.declared(style))
    styles.hidden_names(style)
    styles.color(style)


def test_the_last_declaration_of_a_name_counts() -> None:
    assert styles.hiding(styles.declared("display:none;display:block")) is None
    assert styles.hiding(styles.declared("display:block;display:none")) is Hiding.BOX


def test_colours_are_the_same_in_whatever_form() -> None:
    assert {
        styles.color(form) for form in ("white", "#fff", "#ffffff", "rgb(255, 255, 255)", "rgba(255,255,255,1)")
    } == {"#ffffff"}
    assert [styles.color(form) for form in ("", "transparent", "var(--ink)", "#ff", "rgba(0,0,0,0)")] == [""] * 5


@pytest.mark.parametrize("tag", ["article", "main", "section", "header", "figure", "div", "p", "custom-element"])
@pytest.mark.parametrize("start", ["<!doctype html><title>T</title>", "<head><title>T</title></head>", ""])
def test_a_page_that_leaves_out_its_body_is_read_as_one_that_has_it(tag: str, start: str) -> None:
    """As it may (HTML Living Standard, 13.1.2.4), and as programs that make pages small do."""
    inner = f"<h1>Boats</h1>{ARTICLE}<p hidden>Nobody sees this.</p>"
    seen = see(f"{start}<{tag}>{inner}</{tag}> and a tail <p>The last line.</p>")
    assert seen
    body = seen.tree.find("body")
    assert body is not None
    words = " ".join("".join(body.itertext()).split())
    assert "Nobody" not in words
    assert seen.hidden_characters == len("Nobody sees this.")
    assert words.startswith("Boats")
    assert words.endswith("and a tail The last line.")

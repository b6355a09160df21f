"""Bytes into text: whatever a page is written in, and whatever it says that it is written in."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
import webencodings
from hypothesis import given
from hypothesis import strategies as st

from pipeline.charsets import codec_of, decode

BENCH = Path(__file__).resolve().parent.parent / "data" / "bench"
TEXTS: dict[str, str] = {
    language: "\n".join(text["paragraphs"])
    for language, text in json.loads((BENCH / "texts.json").read_text("utf-8")).items()
}
WRITTEN = {
    "ko": ["euc-kr", "utf-8", "utf-16le", "utf-16be"],
    "ja": ["shift_jis", "euc-jp", "iso-2022-jp", "utf-8", "utf-16le"],
    "zh": ["gbk", "gb18030", "utf-16be"],
    "zh-Hant": ["big5"],
    "ru": ["windows-1251", "koi8-r", "iso-8859-5", "ibm866", "utf-16le"],
    "pl": ["iso-8859-2", "windows-1250"],
    "el": ["iso-8859-7", "windows-1253"],
    "tr": ["windows-1254"],
    "he": ["windows-1255"],
    "ar": ["windows-1256"],
    "th": ["windows-874"],
    "fr": ["windows-1252", "utf-16be"],
    "de": ["windows-1252", "utf-8"],
}
CASES = [(language, label) for language, labels in WRITTEN.items() for label in labels]


def page(text: str, head: str = "") -> str:
    return f"<!DOCTYPE html><html><head><link rel=stylesheet href=a.css>{head}</head><body><p>{text}</p></body></html>"


@pytest.mark.parametrize(("language", "label"), CASES)
def test_a_text_is_read_by_its_header_by_its_own_word_or_by_its_look(language: str, label: str) -> None:
    codec = codec_of(label)
    body = page(TEXTS[language]).encode(codec, "ignore")
    text = body.decode(codec)
    assert decode(body, label) == text
    assert decode(body) == text
    assert decode(body, "bogus") == text
    said = page(TEXTS[language], f'<meta http-equiv="Content-Type" content="text/html; charset={label}">')
    assert decode(said.encode(codec, "ignore")) == said.encode(codec, "ignore").decode(codec)


@pytest.mark.parametrize("label", sorted(webencodings.LABELS))
def test_each_label_of_the_standard_has_a_codec(label: str) -> None:
    codec = codec_of(f" {label.upper()} ".strip())
    if webencodings.LABELS[label] in ("replacement", "x-user-defined"):
        assert codec == ""
    else:
        assert "Boats" in "Boats".encode(codec).decode(codec)


def test_charsets_are_as_wide_as_in_a_browser() -> None:
    assert decode("똠방각하 펲시콜라".encode("cp949"), "euc-kr") == "똠방각하 펲시콜라"
    assert decode("①㈱髙﨑".encode("cp932"), "shift_jis") == "①㈱髙﨑"
    assert decode(b"\x93quoted\x94 \x80 5", "iso-8859-1") == "“quoted” € 5"
    assert decode("㐀𠀀朱镕基".encode("gb18030"), "gb2312") == "㐀𠀀朱镕基"


@pytest.mark.parametrize(
    "label", ["", "bogus", "idna", "hex", "utf-7", "unicode_escape", "undefined", "a\0b", "x" * 99]
)
def test_what_is_no_charset_is_none(label: str) -> None:
    assert codec_of(label) == ""
    assert decode(b"+ADw-script+AD4-", label) == "+ADw-script+AD4-"


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_a_byte_order_mark_wins_over_the_header(mark: bytes) -> None:
    codec = {3: "utf-8"}.get(len(mark)) or ("utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be")
    assert decode(mark + TEXTS["ko"].encode(codec), "euc-kr") == TEXTS["ko"]


def test_utf_8_is_known_whatever_its_label_says() -> None:
    assert decode(page(TEXTS["fr"]).encode(), "iso-8859-1") == page(TEXTS["fr"])
    said = page(TEXTS["ru"], '<meta charset="windows-1251">')
    assert decode(said.encode(), "windows-1251") == said


def test_the_header_wins_over_the_page_unless_it_reads_otherwise() -> None:
    said = page(TEXTS["ru"], '<meta charset="iso-8859-1">')
    assert decode(said.encode("cp1251"), "windows-1251") == said
    said = page(TEXTS["ru"], '<meta charset="windows-1251">')
    assert decode(said.encode("cp1251"), "iso-8859-1") == said, "a server's default"


def test_a_page_that_says_utf_16_of_itself_is_not() -> None:
    said = page(TEXTS["de"], '<meta charset="utf-16">')
    assert decode(said.encode()) == said
    assert decode(said.encode("cp1252")) == said


def test_a_broken_byte_does_not_turn_the_text_into_another() -> None:
    body = page(TEXTS["ko"]).encode()
    half = body.index("우체통".encode()) + 4
    assert decode(body[:half] + b"\xff" + body[half:]).count("\ufffd") < 5
    assert TEXTS["ko"][100:] in decode(body[:half] + b"\xff" + body[half:])
    body = page(TEXTS["ko"]).encode("cp949")
    assert TEXTS["ko"][100:] in decode(body[:160] + b"\xff" + body[160:], "euc-kr")


def test_an_xml_declaration_is_heard() -> None:
    said = f'<?xml version="1.0" encoding="ISO-8859-2"?>{page(TEXTS["pl"])}'
    body = said.encode("iso-8859-2", "ignore")
    assert decode(body) == body.decode("iso-8859-2")


@given(
    st.binary(max_size=200), st.sampled_from(["", "utf-8", "utf-16", "shift_jis", "iso-2022-jp", "gb18030", "bogus"])
)
def test_any_bytes_are_a_text_that_can_be_stored(body: bytes, label: str) -> None:
    decode(body, label).encode("utf-8")


def test_ten_megabytes_without_a_tag_are_read() -> None:
    assert len(decode(b"\xe9" + b"a" * 10_000_000)) == 10_000_001
    assert len(decode(b"<meta " * 1_000_000 + b"\xe9")) == 6_000_001

"""A PDF into its text: words, paragraphs, what it says of itself, and why there may be nothing."""

from __future__ import annotations

import io
import zlib

import pypdf
import pytest
from pdf_maker import make
from readers import page

from pipeline.extract import read_page
from pipeline.pdf import Pdf, is_pdf, read_pdf
from pipeline.records import Document, Reason, Refusal

LINES = [
    "The harbour master counted eleven boats at the west quay on Sunday",
    "evening, three more than a week before. He wrote it down in the green",
    "book and went home.",
    "Nobody knows where the eleventh boat had come from, for the har-",
    "bour (as it was then) had only one way in.",
]
TEXT = (
    "The harbour master counted eleven boats at the west quay on Sunday evening, three more than a week before. "
    "He wrote it down in the green book and went home.\n\n"
    "Nobody knows where the eleventh boat had come from, for the harbour (as it was then) had only one way in."
)


def pdf(body: bytes) -> Pdf:
    found = read_pdf(body)
    assert isinstance(found, Pdf), found
    return found


def read(body: bytes, media: str = "application/pdf") -> Document | Refusal:
    return read_page(page(body, media))


def test_lines_are_joined_to_the_paragraphs_that_they_were() -> None:
    assert pdf(make([LINES])).text == TEXT


def test_pages_follow_one_another() -> None:
    found = pdf(make([LINES, [], ["The end of it."]]))
    assert (found.text, found.pages) == (f"{TEXT}\n\nThe end of it.", 3)


def test_accents_and_signs_are_kept() -> None:
    assert pdf(make([["Größe: 5 € – “naïve” façade"]])).text == "Größe: 5 € – “naïve” façade"


@pytest.mark.parametrize(
    ("collection", "cmap", "lines", "joint"),
    [
        ("Korea1", "UniKS-UCS2-H", ["바닷가 전망대에 있는 빨간 우체통에 넣은", "편지는 일 년 뒤에 간다."], " "),
        ("Japan1", "UniJIS-UCS2-H", ["小さな港町の駅には、だれでも使える傘", "立てがある。"], ""),
        ("GB1", "UniGB-UCS2-H", ["清河镇的钟楼建于一九零六年，高二十", "一米。"], ""),
        ("CNS1", "UniCNS-UCS2-H", ["雲頂步道的終點有一個綠色的郵筒，海", "拔兩千一百公尺。"], ""),
    ],
)
def test_scripts_of_the_east_are_read_without_their_font(
    collection: str, cmap: str, lines: list[str], joint: str
) -> None:
    font = (
        f"<</Type/Font/Subtype/Type0/BaseFont/Any/Encoding/{cmap}/DescendantFonts[<</Type/Font/Subtype/CIDFontType0"
        f"/BaseFont/Any/CIDSystemInfo<</Registry(Adobe)/Ordering({collection})/Supplement 0>>>>]>>"
    )
    assert pdf(make([lines], font=font)).text == joint.join(lines)


def test_what_it_says_of_itself_comes_with_it() -> None:
    info = "/Title(Microsoft Word - Boats.docx)/Author(Ina Brook)/CreationDate(D:20240514060000+02'00')"
    found = read(make([LINES], info, "/Lang(en-GB)"))
    assert found == Document(TEXT, "Boats", "Ina Brook", "", "en-GB", "2024-05-14")
    found = read(make([LINES], "/Title(A\tred   boat)/CreationDate(yesterday)"))
    assert found == Document(TEXT, "A red boat")


def test_pages_of_pictures_have_no_text() -> None:
    assert read(make([[], []])) == Refusal(Reason.NO_TEXT, "2 pages without a letter")


def encrypted(password: str) -> bytes:
    body = io.BytesIO()
    writer = pypdf.PdfWriter(io.BytesIO(make([LINES])))
    writer.encrypt(password, "secret of the owner", algorithm="RC4-128")
    writer.write(body)
    return body.getvalue()


def test_one_with_a_password_says_so() -> None:
    assert read(encrypted("secret")) == Refusal(Reason.ENCRYPTED, "a PDF with a password")


def test_one_that_is_encrypted_in_a_way_that_cannot_be_read_says_so() -> None:
    aes = b"/CF << /StdCF << /CFM /AESV2 /Length 16 >> >>\n/StmF /StdCF\n/StrF /StdCF\n/V 4"
    assert read(encrypted("").replace(b"/V 2", aes)) == Refusal(Reason.ENCRYPTED, "a PDF that is encrypted with AES")


def test_one_that_everybody_may_read_is_read() -> None:
    assert pdf(encrypted("")).text == TEXT


@pytest.mark.parametrize(
    "body",
    [
        b"%PDF-1.7",
        b"%PDF-1.7\n%%EOF",
        make([LINES])[:300],
        make([LINES]).replace(b"/Kids[4 0 R]", b"/Kids[2 0 R]"),
        make([LINES]).replace(b"/Pages 2 0 R", b"/Pages 9 0 R"),
        make([LINES]).replace(b"1 0 obj", b"1 0 obx"),
        make([LINES]).replace(b"/Type/Font", b"/Type/Fo\0t"),
        b"%PDF-1.7\n" + b"<<" * 20_000,
        b"%PDF-1.7\n" + b"[" * 20_000 + b"\nstartxref\n9\n%%EOF",
    ],
)
def test_a_broken_one_is_a_reason_or_a_text(body: bytes) -> None:
    found = read(body)
    assert isinstance(found, Document) or found.reason is Reason.NO_TEXT


def test_one_that_unpacks_to_two_hundred_megabytes_is_left_at_a_bound() -> None:
    line = b"BT /F 11 Tf 50 800 Td (Boats) Tj ET"
    packer = zlib.compressobj(1)
    packed = packer.compress(line) + b"".join(packer.compress(bytes(1_000_000)) for _ in range(200)) + packer.flush()
    page = make([["Boats"]])
    start, end = page.index(b"<</Length"), page.index(b"\nendstream")
    body = page[:start] + b"<</Length %d/Filter/FlateDecode>>stream\n%b" % (len(packed), packed) + page[end:]
    found = read(body)
    assert isinstance(found, Refusal)
    assert "Limit" in found.detail


def test_one_is_known_by_its_label_and_its_mark() -> None:
    body = make([LINES])
    assert is_pdf("application/pdf", body)
    assert is_pdf("application/pdf", b"\r\n" + body)
    assert is_pdf("", body)
    assert not is_pdf("text/html", body)
    assert not is_pdf("text/plain", body)
    assert not is_pdf("application/pdf", b"<html>" + b" " * 2_000 + body)
    assert isinstance(read(body, ""), Document)

"""What kind of list a text is, and in what it is written: by what stands in it alone."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lists import ATOM, BOOKMARKS, INDEX, MARKDOWN, OPML, RDF, RSS, SITEMAP, Made, found, read, urls_in

from pipeline import urls
from pipeline.errors import UsageError
from pipeline.records import Reason
from pipeline.urls import streams
from pipeline.urls.formats import items
from pipeline.urls.items import Unreadable
from pipeline.urls.kinds import Kind, kind_of
from pipeline.urls.streams import HEAD_BYTES, decoded

EACH = [
    (RSS, Kind.FEED),
    (ATOM, Kind.FEED),
    (RDF, Kind.FEED),
    (SITEMAP, Kind.SITEMAP),
    (INDEX, Kind.SITEMAP),
    (OPML, Kind.OUTLINE),
    (BOOKMARKS, Kind.BOOKMARKS),
    (MARKDOWN, Kind.MARKDOWN),
    ("http://a.example/\n", Kind.TEXT),
]


@pytest.mark.parametrize(("text", "kind"), EACH)
def test_a_list_is_told_by_how_it_begins(text: str, kind: Kind) -> None:
    assert kind_of(text) is kind
    assert kind_of("\ufeff\r\n \t" + text) is kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            '<!DOCTYPE rss PUBLIC "-//Example//DTD RSS 0.91//EN" "http://a.example/rss.dtd">\n<rss version="0.91">',
            Kind.FEED,
        ),
        ("<!-- a > comment --><?a pi?><!-- another --><feed>", Kind.FEED),
        ('<!DOCTYPE rdf:RDF [ <!ENTITY nbsp "&#160;"> ]>\n<rdf:RDF>', Kind.FEED),
        ("<sm:urlset xmlns:sm='x'>", Kind.SITEMAP),
        ("<OPML version='1'>", Kind.OUTLINE),
        ("<!doctype netscape-bookmark-file-1>", Kind.BOOKMARKS),
        ("<!DOCTYPE html><html>", Kind.WEB_PAGE),
        ("<html><body><a href='http://a.example/'>", Kind.WEB_PAGE),
        ("<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>", Kind.WEB_PAGE),
        ("<?xml version='1.0'?><svg>", Kind.OTHER_XML),
        ("<?xml version='1.0'?>", Kind.OTHER_XML),
        ("<!-- a comment without an end", Kind.TEXT),
        ("<http://a.example/>", Kind.MARKDOWN),
        ("<feedback> is not XML", Kind.TEXT),
        ("", Kind.TEXT),
    ],
)
def test_what_stands_before_the_root_is_passed_over(text: str, kind: Kind) -> None:
    assert kind_of(text) is kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "# see [the docs](http://a.example/docs) and <http://a.example/more>\n",
        "# see [the docs](http://a.example/docs)\nhttp://a.example/1\n",
        "# Reading\n\nhttp://a.example/1\nhttp://a.example/2 #tag # a note: [x](http://a.example/)\n",
        "not a url\nhttp://a.example/1\n",
        "- http://a.example/1\nhttp://a.example/2\n",
        "[a](http://a.example/1)\nhttp://a.example/2\nhttp://a.example/3\n",
        "<http://a.example/1>\nhttp://a.example/2\n",
        "HTTP://A.EXAMPLE/1\n* [a](http://a.example/1)\n",
        "http://a.example/(x)[1](2)\n",
        "ftp://a.example/\njavascript:alert(1)\nnonsense\n",
        "title, http://a.example/1\nother, http://a.example/2\n",
        "See http://a.example/1, it is good.\n",
        "- an item\n- another\n",
        "[x](other.md) and [y](ftp://a.example/)\n",
        "\x00\x01 binary\n",
    ],
)
def test_a_text_list_stays_one_with_whatever_comments_and_bad_lines(text: str) -> None:
    assert kind_of(text) is Kind.TEXT


@pytest.mark.parametrize(
    "text",
    [
        "[a](http://a.example/1)",
        "# Reading\n\n- http://a.example/1\n- http://a.example/2\n",
        "1. http://a.example/1\n2) http://a.example/2\n",
        "> quoted: http://a.example/1\n",
        "| when | http://a.example/1 |\n",
        "Some prose.\n\nAnd [a link](http://a.example/1).\n",
        "Prose only\n[1]: http://a.example/1\n",
        "## [A title](http://a.example/1)\n\nWhat it is about.\n",
        "See <https://a.example/1>.",
        "![a](http://a.example/p.png) [b](http://a.example/1)\n",
        "- [a](http://a.example/1)\n- [b](http://a.example/2)\n\nhttp://a.example/3\n",
    ],
)
def test_more_links_as_markdown_writes_them_than_plain_urls_are_markdown(text: str) -> None:
    assert kind_of(text) is Kind.MARKDOWN


@given(
    st.lists(
        st.sampled_from(
            [
                "http://a.example/1",
                "https://a.example/[x](http://a.example/)",
                "# [c](http://a.example/c)",
                "",
                "nonsense",
            ]
        ),
        max_size=30,
    )
)
def test_no_comment_and_no_bad_line_makes_a_list_of_urls_markdown(lines: list[str]) -> None:
    assert kind_of("\n".join(lines)) is Kind.TEXT


def test_a_bad_line_of_a_text_list_that_looks_like_markdown_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "urls.md"
    path.write_text(
        "# [my list](http://a.example/0)\nhttp://a.example/1\n[an x](http://a.example/2)\nhttp://a.example/3 #a\n"
    )
    first, bad, last = read(path)
    assert (first.url, last.url, last.tags) == ("http://a.example/1", "http://a.example/3", ("a",))
    assert bad.reason is Reason.BAD_URL


def test_a_line_that_is_cut_at_the_end_of_what_is_looked_at_does_not_count() -> None:
    assert kind_of("http://a.example/1\n- [a](http://a.example/2)\n- http://a.exa") is Kind.MARKDOWN
    assert kind_of("http://a.example/1\n- [a](http://a.example/2)\n- http://a.exa", whole=False) is Kind.TEXT
    text = "http://a.example/1\n- [a](http://a.example/2)\n"
    last = "- http://a.example/3"
    comments = f"{'#' * (HEAD_BYTES - len(text) - len(last))}\n"
    with decoded(io.BytesIO((text + comments + last).encode())) as source:
        assert source.kind is Kind.TEXT


@pytest.mark.parametrize(("text", "kind"), EACH)
def test_every_kind_may_be_packed_and_its_name_does_not_count(tmp_path: Path, text: str, kind: Kind) -> None:
    path = tmp_path / "list.jpeg"
    path.write_bytes(gzip.compress(text.encode()))
    plain = [item for item in found(text) if not getattr(item, "is_list", False)]
    assert len(read(path)) == sum(isinstance(item, urls.Entry) for item in plain)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "euc-kr"])
def test_xml_is_read_in_the_encoding_that_it_says_or_shows(encoding: str) -> None:
    name = {"utf-8-sig": "utf-8", "latin-1": "ISO-8859-1"}.get(encoding, encoding)
    letter = {"latin-1": "ü", "euc-kr": "물"}.get(encoding, "水")
    text = (
        f"<?xml version='1.0' encoding='{name}'?>\r\n<urlset><url><loc>http://a.example/{letter}</loc></url></urlset>"
    )
    assert urls_in(text.encode(encoding)) == [f"http://a.example/{letter}"]


def test_what_says_in_ascii_that_it_is_utf_16_is_not() -> None:
    text = "<?xml version='1.0' encoding='utf-16'?><urlset><url><loc>http://a.example/水</loc></url></urlset>"
    assert urls_in(text.encode()) == ["http://a.example/水"]


@pytest.mark.parametrize("name", ["idna", "base64", "no-such-thing", "undefined", "x" * 41])
def test_an_encoding_that_is_none_of_texts_is_not_taken(name: str) -> None:
    text = f"<?xml version='1.0' encoding='{name}'?><urlset><url><loc>http://a.example/水</loc></url></urlset>"
    assert urls_in(text.encode()) == ["http://a.example/水"]


def test_bookmarks_are_read_in_the_encoding_of_their_meta_element() -> None:
    text = BOOKMARKS.replace("UTF-8", "EUC-KR")
    with decoded(io.BytesIO(text.encode("euc-kr"))) as source:
        assert "물 &amp; 강" in source.text.read()


def test_what_the_sender_says_of_the_encoding_goes_before_the_declaration_but_not_before_a_mark() -> None:
    assert streams.encoding_of(b"<?xml version='1.0' encoding='latin-1'?>", "euc-kr") == "cp949"
    assert streams.encoding_of(b"\xef\xbb\xbf<?xml version='1.0'?>", "euc-kr") == "utf-8-sig"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<!DOCTYPE html><p>http://a.example/", "it is a web page, not a list"),
        ("<?xml version='1.0'?><svg/>", "it is XML of another kind"),
        ("<urlset><url><loc>http://a.example/</url>", "line 1: mismatched tag"),
        ("<opml><body>\n<outline xmlUrl='http://a.example/?a&b'/></body></opml>", "line 2"),
        ("<rss><channel><title>no end", "no feed that can be read"),
        ("<feed>", "no feed that can be read"),
    ],
)
def test_a_file_that_is_no_list_is_told_before_anything_is_made(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"cannot read .*list: .*{why}"):
        urls.check_sources([str(path)])
    with pytest.raises(UsageError, match=f"cannot read .*list: .*{why}"):
        read(path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gzip.compress(gzip.compress(b"http://a.example/", mtime=0), mtime=0), "packed twice"),
        (gzip.compress(RSS.encode(), mtime=0)[:-20], "damaged gzip"),
        (gzip.compress(RSS.encode(), mtime=0)[:50] + b"\xff" * 50, "damaged gzip"),
        (b"\x1f\x8b no gzip at all", "damaged gzip"),
    ],
)
def test_damaged_gzip_is_told_as_that(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "list"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=why):
        urls.check_sources([str(path)])


def test_a_gzip_bomb_is_unpacked_to_the_bound_and_what_came_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_UNPACKED_BYTES", 100_000)
    path = tmp_path / "list"
    path.write_bytes(gzip.compress(b"http://a.example/1\n" + b"# comment\n" * 1_000_000))
    first, bad = read(path)
    assert first.url == "http://a.example/1"
    assert (bad.reason, bad.detail) == (Reason.BAD_LIST, "the rest was not read: larger than 100,000 bytes unpacked")


def test_a_line_without_end_in_a_gzip_bomb_takes_no_memory() -> None:
    packed = gzip.compress(b"http://a.example/" + bytes(40_000_000))
    tracemalloc.start()
    try:
        with decoded(io.BytesIO(packed)) as source:
            (entry,) = items(source)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert len(entry.url) == 65_536  # type: ignore[union-attr]


def test_the_rest_of_a_broken_list_is_a_row_and_the_same_row_tomorrow(tmp_path: Path) -> None:
    path = tmp_path / "sitemap.xml"
    path.write_text(SITEMAP.replace("</urlset>", "<broken"))
    *good, bad = read(path)
    assert [line.url for line in good] == ["http://a.example/?a=1&b=2", "http://a.example/2"]
    assert bad.reason is Reason.BAD_LIST
    assert "not well-formed XML at line 6" in bad.detail
    assert bad.key == read(path)[-1].key


@pytest.mark.parametrize(
    ("head", "line"),
    [
        ("", "http://a.example/{}\n"),
        ("<urlset>", "<url><loc>http://a.example/{}</loc></url>\n"),
        ("<opml><body>", "<outline xmlUrl='http://a.example/{}'/>\n"),
        ("<!DOCTYPE NETSCAPE-Bookmark-file-1><DL>", "<DT><A HREF='http://a.example/{}'>A title</A>\n"),
    ],
)
def test_of_a_list_without_end_only_what_is_wanted_is_read(head: str, line: str) -> None:
    made = Made(lambda number: (head if number == 0 else "") + line.format(number))
    with decoded(io.BufferedReader(made)) as source:
        wanted = list(islice(items(source), 500))
    assert [getattr(item, "url", "") for item in wanted] == [f"http://a.example/{number}" for number in range(500)]
    assert made.bytes_read <= 2 * HEAD_BYTES


@pytest.mark.parametrize(
    ("head", "line", "count"),
    [
        ("", "http://a.example/{}\n", 100_000),
        ("<urlset>", "<url><loc>http://a.example/{}</loc></url>\n", 50_000),
        ("<opml><body>", "<outline xmlUrl='http://a.example/{}'/>\n", 50_000),
        (
            "<!DOCTYPE NETSCAPE-Bookmark-file-1><DL>",
            "<DT><A HREF='http://a.example/{}' ICON='data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQ'>A</A>\n",
            30_000,
        ),
    ],
)
def test_a_long_list_takes_no_more_memory_than_a_short_one(head: str, line: str, count: int) -> None:
    end = {"<urlset>": "</urlset>", "<opml><body>": "</body></opml>"}.get(head, "")

    lines = line.format(0) * 100

    def made(number: int) -> str:
        return (head if number == 0 else "") + lines + (end if number == count // 100 - 1 else "")

    tracemalloc.start()
    try:
        with decoded(io.BufferedReader(Made(made, count // 100))) as source:
            assert sum(1 for _ in items(source)) == count
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=400))
def test_no_bytes_are_more_than_unreadable(data: bytes) -> None:
    try:
        with decoded(io.BytesIO(data)) as source:
            if source.kind is not Kind.FEED:
                list(items(source))
    except Unreadable:
        pass

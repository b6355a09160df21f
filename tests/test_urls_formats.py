"""What each format says: sitemaps, OPML, bookmarks, Markdown."""

from __future__ import annotations

import io
import socket
import tracemalloc
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lists import BOOKMARKS, INDEX, MARKDOWN, OPML, SITEMAP, Made, entries, found, read, urls_in

from pipeline.records import Reason
from pipeline.urls import elements, formats, items, markdown, outlines, sitemaps
from pipeline.urls.dates import last_moment
from pipeline.urls.items import Entry, LeftOut, Unreadable
from pipeline.urls.streams import decoded


def left_out(text: str) -> Counter[str]:
    return Counter(item.what for item in found(text) if isinstance(item, LeftOut))


# Sitemaps


def test_a_sitemap_names_its_pages_and_not_its_pictures() -> None:
    first, second = entries(SITEMAP)
    assert (first.url, first.dated) == ("http://a.example/?a=1&b=2", datetime(2026, 11, 3, tzinfo=UTC))
    assert (second.url, second.dated) == ("http://a.example/2", None)
    assert [first.is_list, second.is_list] == [False, False]


def test_an_index_names_lists() -> None:
    assert [(entry.url, entry.is_list) for entry in entries(INDEX)] == [
        ("http://a.example/sitemap-1.xml", True),
        ("http://a.example/sitemap-2.xml", True),
    ]


def test_the_names_of_a_sitemap_may_have_a_prefix_and_those_of_others_need_not_be_declared() -> None:
    other = "<i:loc>http://b.example/</i:loc>"
    text = f"<s:urlset xmlns:s='x'><s:url><s:loc>http://a.example/</s:loc>{other}</s:url></s:urlset>"
    assert urls_in(text) == ["http://a.example/"]


def test_only_what_stands_in_an_entry_itself_is_its_url() -> None:
    assert urls_in("<urlset><url><image><loc>/picture</loc></image><loc>/page</loc></url></urlset>") == ["/page"]


def test_an_entry_of_a_sitemap_without_a_url_is_counted() -> None:
    assert left_out("<urlset><url><loc/></url><url/></urlset>") == {"entries without a URL": 2}


def test_a_relative_url_is_read_against_where_the_sitemap_came_from() -> None:
    assert urls_in("<urlset><url><loc>/a</loc></url></urlset>", "http://a.example/sitemap.xml") == [
        "http://a.example/a"
    ]
    assert urls_in("<urlset><url><loc>http://[</loc></url></urlset>", "http://a.example/") == ["http://["]


def test_more_entries_than_the_protocol_allows_are_not_read_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "sitemap.xml"
    many = "<url><loc>http://a.example/</loc></url>"
    assert len(found(f"<urlset>{many * items.MOST_ENTRIES}</urlset>")) == 50_000
    path.write_text(f"<urlset>{many * 10}<url><loc>http://a.example/last</loc></url></urlset>")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sitemaps, "MOST_ENTRIES", 10)
        lines = read(path)
    assert len(lines) == 11
    assert (lines[-1].reason, lines[-1].detail) == (Reason.BAD_LIST, "the rest was not read: more than 10 entries")


def test_a_sitemap_larger_than_the_protocol_allows_is_read_to_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitemaps, "MOST_BYTES", 40_000)
    url = "<url><loc>http://a.example/水</loc></url>"
    given = io.StringIO(f"<urlset>{url * 2_000}</urlset>")
    seen: list[items.Item] = []
    with pytest.raises(Unreadable, match="larger than 40,000 bytes"):
        seen.extend(sitemaps.entries(given, ""))
    assert 0 < len(seen) < 1_000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-02", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2024-02-29", datetime(2024, 3, 1, tzinfo=UTC)),
        ("2026-11-02T10:00Z", datetime(2026, 11, 2, 10, tzinfo=UTC)),
        ("2026-11-02T10:00:00.5+09:00", datetime(2026, 11, 2, 1, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-02T10:00:00", datetime(2026, 11, 2, 10, tzinfo=UTC)),
        ("2026-13", None),
        ("2026-02-30", None),
        ("0000", None),
        ("0001-01-01T00:00:00", None),
        ("1970-01-01", None),
        ("9999-12-31", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_date_is_its_last_moment(text: str, moment: datetime | None) -> None:
    assert last_moment(text) == moment


# XML


@pytest.mark.parametrize(
    "declarations",
    [
        "<!ENTITY a 'x'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>",
        "<!ENTITY b SYSTEM 'file:///etc/passwd'>",
        "<!ENTITY b SYSTEM 'http://127.0.0.1/'>",
        "<!ENTITY % p SYSTEM 'http://127.0.0.1/'> %p;",
        "<!ATTLIST url a CDATA 'as large as you like'>",
    ],
)
def test_xml_with_declarations_of_its_own_is_refused(declarations: str, tmp_path: Path) -> None:
    text = f"<!DOCTYPE urlset [{declarations}]><urlset><url><loc>http://a.example/</loc></url></urlset>"
    with pytest.raises(Unreadable, match="declarations of its own"):
        found(text)


def test_an_external_dtd_is_never_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.dtd"
        text = f'<!DOCTYPE urlset SYSTEM "{address}"><urlset><url><loc>http://a.example/</loc></url></urlset>'
        assert urls_in(text) == ["http://a.example/"]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<urlset>" * 101, "nested more than 100 deep"),
        (f"<urlset a='{'x' * 3_000_000}'/>", "a tag of more than 1,000,000 bytes at line 1"),
        (f"<urlset><!--{'x' * 3_000_000}--></urlset>", "a tag of more than 1,000,000 bytes at line 1"),
        ("<urlset>&nbsp;</urlset>", "undefined entity"),
        ("<urlset></urlset><urlset/>", "junk after document element"),
        ("", "no element found"),
    ],
)
def test_xml_is_bounded_and_its_faults_have_a_line(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        list(elements.elements(io.StringIO(text)))


def test_of_a_long_text_only_the_beginning_is_kept() -> None:
    tags = list(elements.elements(io.StringIO(f"<a>{'x' * 1_000_000}</a>")))
    assert len(getattr(tags[-1], "text", "")) == 16_384


@given(st.text(max_size=40), st.text(max_size=20))
def test_whatever_url_is_written_into_a_sitemap_is_read_from_it(text: str, tail: str) -> None:
    url = f"http://a.example/{text}".strip()
    legal = "".join(char for char in url if char.isprintable())
    data = legal.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert urls_in(f"<urlset><url><loc>\n{data}\r\n</loc></url></urlset>") == [legal.strip()]


# OPML


def test_an_outline_is_its_feed_with_its_path_and_categories() -> None:
    assert entries(OPML) == [
        Entry("http://a.example/feed?a=1&b=2", "Water / Rivers / A river", ("news/local", "water")),
        Entry("http://b.example/page", "A page"),
    ]


def test_outlines_that_are_commented_out_are_counted_with_what_is_in_them() -> None:
    text = """<opml><body><outline text="x" isComment="true"><outline text="y" xmlUrl="http://a.example/1"/></outline>
    <outline text="z" XMLURL="http://a.example/2"/><outline text="u" isComment="true" url="http://a.example/3"/>
    </body></opml>"""
    assert urls_in(text) == ["http://a.example/2"]
    assert left_out(text) == {outlines.COMMENTED_OUT: 2}


def test_an_outline_without_a_feed_is_its_page_and_a_relative_one_is_joined() -> None:
    text = "<opml><body><outline htmlUrl='page'/><outline text='only a heading'/></body></opml>"
    assert urls_in(text, "http://a.example/subscriptions.opml") == ["http://a.example/page"]


def test_what_an_outline_is_called_is_short_in_its_place() -> None:
    (entry,) = entries(f"<opml><body><outline text='{'x' * 10_000}' url='http://a.example/'/></body></opml>")
    assert entry.place == "x" * items.MOST_NAME_CHARACTERS


def test_a_url_of_an_outline_that_is_none_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "list.opml"
    path.write_text("<opml><body><outline text='A' xmlUrl='feed:a b'/></body></opml>")
    (line,) = read(path)
    assert (line.reason, line.origin, line.source) == (Reason.BAD_URL, f"{path}: A", str(path))


# Bookmarks


def test_a_bookmark_has_its_folders_and_tags() -> None:
    assert entries(BOOKMARKS) == [
        Entry("http://a.example/?a=1&b=2", "Toolbar", ("water", "two words")),
        Entry("http://a.example/inner", "Toolbar / 물 & 강"),
        Entry("http://a.example/after", "Toolbar"),
        Entry("ftp://a.example/file"),
    ]


def test_what_is_the_browsers_own_is_counted_and_told_and_another_scheme_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.html"
    path.write_text(BOOKMARKS)
    notes: list[str] = []
    lines = read(path, note=notes.append)
    assert lines[-1].reason is Reason.BLOCKED_SCHEME
    assert lines[1].origin == f"{path}: Toolbar / 물 & 강"
    assert notes == [f"{path}: left out 5 bookmarks of the browser itself (javascript:, place:, file: and the like)"]


def test_bookmarks_may_be_on_one_line_and_in_capitals_or_not() -> None:
    text = BOOKMARKS.replace("\n", " ").replace("<DT>", "<dt>").replace("<A HREF", "<a href")
    assert entries(text) == entries(BOOKMARKS)


def test_what_a_folder_is_called_is_short_and_on_one_line() -> None:
    name = "a\n " * 100_000
    text = f"<!DOCTYPE NETSCAPE-Bookmark-file-1><DL><H3>{name}</H3><DL><A HREF='http://a.example/'></A></DL></DL>"
    (entry,) = entries(text)
    assert len(entry.place) <= items.MOST_NAME_CHARACTERS


def test_of_a_folder_whose_name_has_no_end_only_the_beginning_is_kept() -> None:
    made = Made(lambda number: "<!DOCTYPE NETSCAPE-Bookmark-file-1><H3>" if number == 0 else "name " * 1_000, 4_000)
    tracemalloc.start()
    try:
        with decoded(io.BufferedReader(made)) as source:
            assert list(formats.items(source)) == []
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_folders_are_not_nested_without_bound() -> None:
    with pytest.raises(Unreadable, match="folders more than 100 deep"):
        found("<!DOCTYPE NETSCAPE-Bookmark-file-1>" + "<DL>" * 101)


@pytest.mark.parametrize("piece", ["<!--", "<!", "<a ", "</", "<", '<a b="', "&", "&#", "<a>", "<dl></dl><h3>"])
def test_hostile_html_is_read_in_linear_time(piece: str) -> None:
    """`html.parser` would be busy for hours with the first of these."""
    found("<!DOCTYPE NETSCAPE-Bookmark-file-1>" + piece * 300_000)


# Markdown


def test_the_links_of_markdown_with_their_headings() -> None:
    assert entries(MARKDOWN) == [
        Entry("http://a.example/1", "Reading"),
        Entry("http://a.example/2", "Reading"),
        Entry("http://a.example/6", "Reading"),
        Entry("http://a.example/3", "Reading"),
        Entry("http://a.example/4", "Reading / Later"),
        Entry("http://a.example/5", "Reading / Later"),
        Entry("http://a.example/7"),
    ]
    assert left_out(MARKDOWN) == {markdown.NO_PAGES: 3}


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("- http://a.example/__init__.py", ["http://a.example/__init__.py"]),
        ("- **http://a.example/1**, _http://a.example/2_", ["http://a.example/1", "http://a.example/2"]),
        ("- (see http://a.example/x_(y)) and (http://a.example/2)", ["http://a.example/x_(y)", "http://a.example/2"]),
        ("- [http://a.example/1](http://a.example/2)", ["http://a.example/2"]),
        ("- http://a.example/?a=1&b=2&copy=3.", ["http://a.example/?a=1&b=2&copy=3"]),
        ("- http://a.example/?a=1&amp;b=2;", ["http://a.example/?a=1&b=2"]),
        (
            "- http://a.example/물。 http://b.example/水、http://c.example/",
            ["http://a.example/물", "http://b.example/水", "http://c.example/"],
        ),
        ("- <http://a.example/물> [b](<http://b.example/a b>)", ["http://a.example/물", "http://b.example/a b"]),
        ("- [a](HTTP://A.example/) http:// https://.", ["HTTP://A.example/"]),
        ("|a|b|\n|-|-|\n|http://a.example/1|[b](http://b.example/)|", ["http://a.example/1", "http://b.example/"]),
        ("- ![p][pic] [a](http://a.example/)\n\n[pic]: http://a.example/p.png", ["http://a.example/"]),
        ("- x <!-- http://a.example/0 --> http://a.example/1", ["http://a.example/1"]),
        (
            "- <a class=x href='http://a.example/?a&amp;b'>x</a>, <b>http://a.example/1</b>",
            ["http://a.example/?a&b", "http://a.example/1"],
        ),
        (
            "- http://a.example/1\n\n<div><!-- <a href='http://a.example/2'> -->\n<A HREF=http://a.example/3>x</A></div>",
            ["http://a.example/1", "http://a.example/3"],
        ),
        ("- [a](http://a.example/1)\n- [a](http://a.example/1)", ["http://a.example/1", "http://a.example/1"]),
        ("[1]: http://a.example/1\n[2]: http://a.example/2", ["http://a.example/1", "http://a.example/2"]),
        ("> > - http://a.example/1\n\n1. <http://a.example/2>", ["http://a.example/1", "http://a.example/2"]),
    ],
)
def test_where_a_link_of_markdown_begins_and_ends(text: str, urls: list[str]) -> None:
    assert urls_in(text) == urls


def test_a_relative_link_counts_where_it_is_known_what_it_is_relative_to() -> None:
    text = "[a](http://a.example/) [b](b.html) [c](#c) [d](mailto:d@a.example) [e](javascript:e())"
    assert urls_in(text) == ["http://a.example/"]
    assert left_out(text) == {markdown.NO_PAGES: 4}
    assert urls_in(text, "http://b.example/notes/") == ["http://a.example/", "http://b.example/notes/b.html"]


def test_markdown_is_read_as_a_whole_and_so_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "MOST_CHARACTERS", 100)
    with pytest.raises(Unreadable, match="Markdown of more than 100 characters"):
        found("[a](http://a.example/)" + " " * 100)


@given(st.text(alphabet=")](.*_~!?:x/", max_size=60))
def test_the_end_of_a_bare_url_is_no_punctuation(tail: str) -> None:
    (url,) = markdown.bare_urls(f"http://a.example/x{tail}")
    assert f"http://a.example/x{tail}".startswith(url)
    assert url[-1] not in ".*_~!?:"
    assert not url.endswith(")") or url.count(")") <= url.count("(")


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=20),
    st.sampled_from(["- [x]({})", "- {}", "* <{}>", "1. {}."]),
)
def test_each_url_of_a_list_of_links_is_found_in_its_order(numbers: list[int], form: str) -> None:
    urls = [f"https://a.example/{number}" for number in numbers]
    assert urls_in("# List\n\n" + "\n".join(form.format(url) for url in urls)) == urls

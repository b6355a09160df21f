"""Lists of URLs into lines."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import addresses, urls
from pipeline.errors import UsageError
from pipeline.records import Line, Reason

SECRET = b"a secret of the database"
CHECK = partial(addresses.check_url, policy=addresses.AddressPolicy(allow_private=True))


def lines(path: Path) -> list[Line]:
    return list(urls.read([str(path)], CHECK, SECRET))


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTP://Example.COM/", "http://example.com/"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:8080/a", "http://example.com:8080/a"),
        ("http://example.com/a/./b/../c", "http://example.com/a/c"),
        ("http://example.com/%7euser/%41", "http://example.com/~user/A"),
        ("http://example.com/a%2fb", "http://example.com/a%2Fb"),
        ("http://example.com/A", "http://example.com/A"),
        ("http://example.com/a/", "http://example.com/a/"),
        ("http://example.com/a#part", "http://example.com/a"),
        ("http://example.com/?b=1&a=2", "http://example.com/?b=1&a=2"),
        ("http://example.com/?a=1&a=2", "http://example.com/?a=1&a=2"),
        ("http://example.com/?a=", "http://example.com/?a="),
        ("http://example.com/?utm_source=x&id=7&fbclid=y", "http://example.com/?id=7"),
        ("http://example.com/?ref=x&source=y&session=z", "http://example.com/?ref=x&source=y&session=z"),
        ("http://example.com/?utm_source=x", "http://example.com/"),
        ("http://example.com/?q=a%20b+c", "http://example.com/?q=a%20b+c"),
        ("http://example.com/?q=%e4%b8%ad", "http://example.com/?q=%E4%B8%AD"),
        ("http://example.com/중", "http://example.com/%EC%A4%91"),
        ("http://münchen.example/ü", "http://xn--mnchen-3ya.example/%C3%BC"),
        ("http://xn--mnchen-3ya.example/", "http://xn--mnchen-3ya.example/"),
        ("http://[2606:2800::1]:80/", "http://[2606:2800::1]/"),
        ("https://example.com/a;b=c/d", "https://example.com/a;b=c/d"),
        (
            "https://forum.example/r/pathofexile/comments/1abcde/Righteous_Fire/",
            "https://forum.example/r/pathofexile/comments/1abcde/Righteous_Fire/",
        ),
    ],
)
def test_the_key_of_a_url_is_fixed_for_good(url: str, key: str) -> None:
    assert urls.normal_form(url) == key


@given(st.from_regex(r"http://[a-z]{1,8}\.example(/[a-zA-Z0-9%~._-]{0,6}){0,4}(\?[a-z0-9&=%+]{0,12})?", fullmatch=True))
def test_the_normal_form_of_a_normal_form_is_itself(url: str) -> None:
    key = urls.normal_form(url)
    assert urls.normal_form(key) == key


def test_blank_lines_comments_bom_and_windows_line_ends_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_bytes(
        "\ufeff# my list\r\n\r\nhttp://a.example/\r\n  http://b.example/ # later\r\n\t\r\n#http://c.example/".encode()
    )
    assert [line.url for line in lines(path)] == ["http://a.example/", "http://b.example/"]


def test_a_fragment_is_no_comment_and_a_word_behind_a_hash_is_a_tag(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_text("http://a.example/#part\nhttp://b.example/ #news #ai\n")
    first, second = lines(path)
    assert (first.url, first.tags) == ("http://a.example/#part", ())
    assert (second.url, second.tags) == ("http://b.example/", ("news", "ai"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_list_may_come_from_a_windows_editor(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "urls.txt"
    path.write_text("http://a.example/중\n", encoding)
    assert [line.url for line in lines(path)] == ["http://a.example/중"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not a url", Reason.BAD_URL),
        ("http://", Reason.BAD_URL),
        ("http://a.example/a b", Reason.BAD_URL),
        ("http://a.example/\x00", Reason.BAD_URL),
        ("http://a.example:99999/", Reason.BAD_URL),
        ("ftp://a.example/", Reason.BLOCKED_SCHEME),
        ("file:///etc/passwd", Reason.BLOCKED_SCHEME),
        ("javascript:alert(1)", Reason.BLOCKED_SCHEME),
        ("http://user:hunter2@a.example/", Reason.BLOCKED_CREDENTIALS),
        ("http://user:p@hunter2@a.example/", Reason.BLOCKED_CREDENTIALS),
        ("http://user:p/hunter2@a.example/", Reason.BAD_URL),
        ("http://user:p#hunter2@a.example/", Reason.BAD_URL),
        ("http://user:p hunter2@a.example/", Reason.BAD_URL),
    ],
)
def test_a_line_that_is_no_url_is_a_line_with_a_reason(tmp_path: Path, text: str, reason: Reason) -> None:
    path = tmp_path / "urls.txt"
    path.write_text(f"{text}\nhttp://a.example/\n")
    bad, good = lines(path)
    assert bad.reason is reason
    assert bad.key.startswith("line:")
    assert "hunter2" not in repr(bad)
    assert good.reason is None


def test_the_same_bad_line_has_the_same_key_tomorrow_and_another_with_another_secret(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_text("nonsense\n")
    (today,), (tomorrow,) = lines(path), lines(path)
    (elsewhere,) = urls.read([str(path)], CHECK, b"another secret")
    assert today.key == tomorrow.key != elsewhere.key


def test_of_a_line_that_never_ends_only_the_beginning_is_read(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_text("http://a.example/" + "x" * 3_000_000 + "\nhttp://b.example/\n")
    long, after = lines(path)
    assert long.reason is Reason.BAD_URL
    assert len(long.url) <= 200
    assert after.url == "http://b.example/"


def test_a_list_is_read_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            line = b"http://a.example/\n"
            buffer[: len(line)] = line
            return len(line)

    class Stdin:
        buffer: Any = io.BufferedReader(Endless())

    monkeypatch.setattr(sys, "stdin", Stdin)
    found: Iterator[Line] = urls.read(["-"], CHECK, SECRET)
    assert next(found).url == next(found).url == "http://a.example/"


def test_a_url_on_the_command_line_is_a_page(tmp_path: Path) -> None:
    (line,) = urls.read(["https://a.example/feed"], CHECK, SECRET)
    assert (line.url, line.origin, line.host) == ("https://a.example/feed", "command line", "a.example")


@pytest.mark.parametrize("source", ["missing.txt", "."])
def test_a_source_that_cannot_be_read_is_told_before_anything_is_made(source: str) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        urls.check_sources([source])


def test_what_is_shown_of_a_line_is_escaped_masked_and_short() -> None:
    text = urls.shown("http://me:secret@a.example/\x1b[31m" + "ü" * 500)
    assert "secret" not in text
    assert "\\x1b" in text
    assert len(text) == 200


def test_the_host_is_named_with_its_port_only_if_that_is_not_its_schemes(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_text("http://A.example:80/\nhttps://a.example/\nhttp://a.example:8080/\n")
    assert [line.host for line in lines(path)] == ["a.example", "a.example", "a.example:8080"]

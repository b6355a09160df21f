"""What the files say, and what a duration and a server's address are."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.settings import duration, from_files, model_option, server_url


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("12h", 43_200), ("2d", 172_800), ("0s", 0), ("1.5h", 5_400), (" 1D ", 86_400)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "s", "-1s", "1w", "1h30m", "٣s", "1e3s", "40000d", "9" * 400 + "d", "nans"])
def test_everything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"no duration|a hundred years"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("example.org", "http://example.org:11434"),
        ("example.org:1", "http://example.org:1"),
        ("http://example.org", "http://example.org"),
        ("https://example.org/", "https://example.org"),
        ("https://example.org:8443/ollama/", "https://example.org:8443/ollama"),
        ("HTTP://Example.ORG", "http://example.org"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:11434"),
        ("[::]:5", "http://[::1]:5"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:9", "http://[::1]:9"),
        (":8080", "http://127.0.0.1:8080"),
        (' "10.1.2.3" ', "http://10.1.2.3:11434"),
    ],
)
def test_a_server_is_named_as_the_vendor_names_it(text: str, url: str) -> None:
    assert server_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "host:", "host:x", "host:0", "host:65536", "http://host:99999", "http://[::1", "[host]", "1:2:3"),
        *("ftp://host", "unix:///run/ollama", "two words", "host\x1b", "host?x", "host/#x", "http://me:secret@host"),
    ],
)
def test_what_is_no_address_of_a_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="address of an Ollama server"):
        server_url(text)


def test_the_project_comes_after_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    user = tmp_path / ".config" / "summarize-batch" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_bytes(b'\xef\xbb\xbfmodel = "mine"\n')  # as some editors save it
    Path("summarize-batch.toml").write_text('model = "ours"\n')
    found = from_files({"HOME": str(tmp_path)})
    assert [values["model"] for _, values in found] == ["mine", "ours"]
    assert found[0][0] == user


@pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "/nowhere"}, {"XDG_CONFIG_HOME": "relative"}])
def test_without_files_nothing_is_found(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "relative" / "summarize-batch" / "config.toml"
    there.parent.mkdir(parents=True)
    there.write_text('model = "mine"\n')
    assert from_files(environment) == []


@pytest.mark.parametrize("content", [b"model = ", b"model = '\xff'", None])
def test_a_file_that_cannot_be_read_is_named(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("summarize-batch.toml")
    path.write_bytes(content) if content is not None else path.mkdir()
    with pytest.raises(UsageError, match=r"summarize-batch\.toml"):
        from_files({})


def test_an_option_of_the_model_may_have_a_digit_in_its_name() -> None:
    assert model_option("f16_kv=true") == ("f16_kv", True)

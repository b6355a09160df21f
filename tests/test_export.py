"""Pages for other programs and for people: `export`, `digest`."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from command_line import Said, Shell
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline import formats
from pipeline.commands import digest
from pipeline.errors import UsageError
from pipeline.output import written_whole
from pipeline.records import (
    Added,
    Document,
    Fetched,
    Final,
    Line,
    NotDone,
    Page,
    Reason,
    Recipe,
    Refusal,
    Stage,
    Summarized,
    Task,
)
from pipeline.store import Store, now

RECIPE = Recipe("m", "d", 4_096, {}, {}, "recipe")
GONE = "http://d.example/gone"
TITLES = {
    "http://a.example/dam": "수원지의 물, one dry summer",
    "http://b.example/x?a=1&b=<i>": '=HYPERLINK("http://evil.example/")',
    "http://c.example/c": "![x](https://evil.example/?q=1) <img src=x onerror=y> [a]: javascript:b",
}
SUMMARY = "# Not a heading\n1. Not a list\n- a point\n    not code\n<script>alert(1)</script> \x1b[31m \u202eturned"
POINTS = ("+1 is a number", "@here, `code` and *stars*")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "summaries.db"
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        store.add_recipe(RECIPE)
        store.apply(Added(tuple(Line(url, url, "h", "urls.txt") for url in (*TITLES, GONE))))
        for number, (url, title) in enumerate(TITLES.items(), 1):
            task, document = Task(number, url, "h"), Document(f"Text {number}.", title)
            store.apply(Fetched(task, Page(url, url, 200, "text/html", "", b""), document, now(), now()))
            final = Final(SUMMARY, POINTS)
            store.apply(Summarized(task, document.hash, RECIPE.hash, final, "en", "single", 1.0, 1, now(), now()))
        store.apply(NotDone(Task(4, GONE, "h"), Stage.FETCH, Refusal(Reason.HTTP_404, "HTTP <404>"), now(), now()))
        store.end_run("finished", 3, None)
    return path


@pytest.fixture
def shell(filled: Path, tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"HOME": str(tmp_path), "SUMMARIZE_BATCH_DB": str(filled)})


# export


def test_json_is_one_array_and_jsonl_an_object_a_line(shell: Shell) -> None:
    array = json.loads(shell("export").out)
    assert array == shell("export", "--format", "jsonl").objects
    assert [row["url"] for row in array] == [*TITLES, GONE]
    assert (array[0]["title"], array[0]["key_points"], array[0]["model"]) == (
        TITLES["http://a.example/dam"],
        [*POINTS],
        "m",
    )
    assert (array[3]["state"], array[3]["reason"], array[3]["summary"]) == ("failed", "http_404", None)
    assert json.loads(shell("export", "--state", "skipped").out) == []
    assert [row["url"] for row in json.loads(shell("export", "--state", "failed").out)] == [GONE]


@pytest.mark.parametrize(("form", "separator"), [("csv", ","), ("tsv", "\t")])
def test_no_cell_of_a_table_is_a_formula(shell: Shell, form: str, separator: str) -> None:
    said = shell("export", "--format", form)
    assert "\x1b" not in said.out
    rows = list(csv.DictReader(io.StringIO(said.out, newline=""), delimiter=separator))
    assert [row["url"] for row in rows] == [*TITLES, GONE]
    assert rows[1]["title"] == '\'=HYPERLINK("http://evil.example/")'
    assert rows[0]["key_points"] == "'+1 is a number\n@here, `code` and *stars*"
    assert rows[0]["coverage"] == "1.0"
    assert rows[3]["summary"] == ""


def cells(text: str) -> str:
    return str(formats._cell("title", text))


@given(st.text())
def test_whatever_a_page_says_no_cell_begins_like_a_formula(text: str) -> None:
    assert not formats.FORMULA.match(cells(text))


@pytest.mark.parametrize("begins", ["=1", "+1", "-1", "@x", "\t=1", "\rx", " =1", "\n=1", "＝1"])
def test_each_way_in_which_a_formula_begins_is_defused(begins: str) -> None:
    assert cells(begins).startswith("'")


def test_markdown_has_headings_summaries_and_points(shell: Shell) -> None:
    lines = shell("export", "--format", "markdown").out.splitlines()
    assert lines[:3] == ["## 수원지의 물, one dry summer", "", "<http://a.example/dam>"]
    assert "- \\+1 is a number" in lines
    assert "<http://b.example/x?a=1&b=%3Ci%3E>" in lines
    assert "failed: http\\_404: HTTP \\<404\\>" in lines


def rendered(text: str) -> list[tuple[str, str]]:
    """(type, address) of all that a reader of Markdown makes of a text, HTML in it switched on."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return [
        (inner.type, str(inner.attrs.get("href") or inner.attrs.get("src") or ""))
        for token in tokens
        for inner in (token, *(token.children or ()))
    ]


def test_markdown_has_no_html_no_picture_and_no_link_but_to_the_pages(shell: Shell) -> None:
    said = shell("export", "--format", "markdown")
    assert "\x1b" not in said.out
    assert "\u202e" not in said.out
    found = rendered(said.out)
    kinds = {kind for kind, _ in found}
    assert not kinds & {
        "html_inline",
        "html_block",
        "image",
        "code_block",
        "fence",
        "code_inline",
        "em_open",
        "table_open",
    }
    assert {address for kind, address in found if kind == "link_open"} == {
        "http://a.example/dam",
        "http://b.example/x?a=1&b=%3Ci%3E",
        "http://c.example/c",
        GONE,
    }


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("#*_-=+`~<>[]()!&|\\ 1.:\n")))
def test_whatever_a_page_says_is_text_in_markdown(text: str) -> None:
    marked = formats._marked(" ".join(text.split()))
    kinds = {kind for kind, _ in rendered(f"## {marked}\n\n{marked}\n\n- {marked}\n")}
    allowed = {"heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    assert kinds <= allowed | {"bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"}


# --output


def test_an_export_takes_the_place_of_the_old_file_with_its_mode(shell: Shell) -> None:
    path = shell.folder / "out.csv"
    path.write_text("old")
    path.chmod(0o640)
    (shell.folder / "link.csv").symlink_to(path)
    assert shell("export", "--format", "csv", "--output", "link.csv") == Said(0, "", "")
    assert path.read_text() == shell("export", "--format", "csv").out
    assert (shell.folder / "link.csv").is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(shell.folder)) == ["link.csv", "out.csv"]
    assert shell("export", "--output", "/dev/stdout").out == shell("export").out


def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(shell: Shell) -> None:
    path = shell.folder / "out.json"
    path.write_text("old")
    said = shell("export", "--output", "/dev/full")
    assert (said.code, said.err) == (2, "summarize-batch: /dev/full cannot be written: No space left on device\n")
    said = shell("export", "--output", "out.json", "--db", "none.db")
    assert said.code == 10
    assert path.read_text() == "old"
    assert os.listdir(shell.folder) == ["out.json"]
    said = shell("export", "--output", "no/where.json")
    assert (said.code, said.err) == (2, "summarize-batch: no/where.json cannot be written: No such file or directory\n")


def half_written(path: Path) -> None:
    with written_whole(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
        raise KeyError


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError):
        half_written(path)
    with pytest.raises(UsageError, match="No space left"), written_whole(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
    with written_whole(path) as file:
        file.write("new")
    assert path.read_text() == "new"


def test_an_export_holds_one_page_at_a_time() -> None:
    """A million pages in flat memory: nothing is taken before it is asked for."""
    taken = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal taken
        while True:
            taken += 1
            yield {
                "url": "http://a/",
                "title": "",
                "state": "queued",
                "reason": None,
                "detail": "",
                "summary": None,
                "key_points": None,
            }

    for form, tell in formats.FORMATS.items():
        taken = 0
        lines = tell(rows())  # type: ignore[arg-type]
        for _ in range(100):
            assert next(lines) is not None
        assert taken <= 100, form


# digest


def test_a_digest_tells_what_is_new_and_then_what_failed(shell: Shell) -> None:
    said = shell("digest", "--since", "1h")
    lines = said.out.splitlines()
    assert [line for line in lines if line.startswith("## ")][-1] == "## 수원지의 물, one dry summer", (
        "the newest first"
    )
    assert lines[-1] == f"- failed http\\_404: <{GONE}>: HTTP \\<404\\>"
    plain = shell("digest", "--format", "plain").out.splitlines()
    assert plain[0] == TITLES["http://c.example/c"]
    assert plain[-1] == f"failed http_404: {GONE}: HTTP <404>"
    assert "\x1b" not in "".join(plain)


def test_a_digest_has_so_many_lines_and_counts_the_rest(shell: Shell) -> None:
    whole = shell("digest").out.splitlines()
    lines = shell("digest", "--limit", "20").out.splitlines()
    assert len(lines) <= 20
    assert lines[-1] == "... 2 more summaries, 1 more that failed"
    assert shell("digest", "--limit", "1").out == "... 3 more summaries, 1 more that failed\n"
    assert shell("digest", "--limit", str(len(whole) + 1)).out.splitlines() == whole


def test_a_digest_without_news_says_so(shell: Shell) -> None:
    tomorrow = f"{now() + timedelta(days=2):%Y-%m-%d}"
    said = shell("digest", "--since", tomorrow)
    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("nothing is new since ")
    assert shell("digest", "-q", "--since", tomorrow) == Said(0, "", "")
    assert shell("digest", "--since", "yesterday").code == 2


def test_what_is_dated_years_ahead_is_no_news(filled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(filled.read_bytes())
    before = len(list(digest.news(copy, now() - timedelta(days=1))))
    assert before > 1
    with Store.open(copy) as store, store.transaction("test") as db:
        db.execute("UPDATE summaries SET created_at = '2938-01-19T03:14:08.000Z' WHERE page_id = 1")
    assert len(list(digest.news(copy, now() - timedelta(days=1)))) == before - 1


def test_the_newest_version_only_is_news(shell: Shell, filled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(filled.read_bytes())
    with Store.open(copy) as store:
        store.begin_run("urls.txt", "m", {})
        final = Final("Another summary.", ())
        hash_ = Document("Text 1.").hash
        task = Task(1, "http://a.example/dam", "h")
        store.apply(Summarized(task, hash_, RECIPE.hash, final, "en", "single", 1.0, 1, now(), now()))
    lines = shell("digest", "--db", copy, "--format", "plain").out.splitlines()
    assert lines[:3] == [TITLES[task.url], task.url, "Another summary."]
    assert lines.count(task.url) == 1

"""The commands that read the database: `list`, `show`, `search`."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from command_line import Said, Shell

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
from pipeline.store import Store, connect, now

EVIL = "http://evil.example/\x1b]0;owned\x07\u202egpj"
SAMPLE = {
    "http://a.example/reservoir": "The reservoir above the town",
    "http://b.example/mul?lang=ko": "수원지의 물이 마르지 않는 이유와 그 역사에 대하여 우리가 아는 모든 것",
    "http://c.example/old": "Moved",
    EVIL: "\x1b[31mred\x1b[0m\nnext line \u202e",
}
FINAL_URL = "http://c.example/New%7ehome"
RECIPE = Recipe("m", "d", 4_096, {}, {}, "recipe")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a page for each of `SAMPLE`, one that failed, one that is skipped and one that waits."""
    path = tmp_path_factory.mktemp("filled") / "summaries.db"
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        store.add_recipe(RECIPE)
        others = ["http://d.example/gone", "http://d.example/private", "http://d.example/waits"]
        store.apply(Added(tuple(Line(url, url, "h", "urls.txt") for url in (*SAMPLE, *others))))
        for number, (url, title) in enumerate(SAMPLE.items(), 1):
            task, document = Task(number, url, "h"), Document(f"Text {number}.", title)
            final_url = FINAL_URL if title == "Moved" else url
            store.apply(Fetched(task, Page(url, final_url, 200, "text/html", "", b""), document, now(), now()))
            final = Final(f"What {title} says.\nOn two lines.", ("One point.",))
            store.apply(Summarized(task, document.hash, RECIPE.hash, final, "en", "single", 1.0, 1, now(), now()))
        for number, reason in ((5, Reason.HTTP_404), (6, Reason.ROBOTS)):
            refusal = Refusal(reason, "why")
            store.apply(NotDone(Task(number, "", "h"), Stage.FETCH, refusal, now(), now()))
        store.end_run("finished", 3, None)
    return path


@pytest.fixture
def shell(filled: Path, tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"HOME": str(tmp_path), "SUMMARIZE_BATCH_DB": str(filled)})


def urls(said: Said) -> list[str]:
    return [row["url"] for row in said.objects]


# list


def test_list_gives_every_page_in_the_order_of_the_lists(shell: Shell) -> None:
    said = shell("list", "--json")
    assert urls(said) == [*SAMPLE, "http://d.example/gone", "http://d.example/private", "http://d.example/waits"]
    first = said.objects[0]
    assert first["summary"] == "What The reservoir above the town says.\nOn two lines."
    assert {"url", "state", "reason", "title"} <= first.keys()


def test_list_takes_several_states(shell: Shell) -> None:
    said = shell("list", "--state", "skipped", "--state", "failed", "--json")
    assert [(row["state"], row["reason"]) for row in said.objects] == [("failed", "http_404"), ("skipped", "robots")]
    assert shell("list", "--json", SUMMARIZE_BATCH_STATE="queued").objects[0]["url"] == "http://d.example/waits"


def test_list_on_a_pipe_is_a_line_a_page_with_nothing_cut(shell: Shell) -> None:
    said = shell("list", COLUMNS="20")
    lines = [line.split("\t") for line in said.out.splitlines()]
    assert lines[0] == ["summarized", "", "http://a.example/reservoir", "The reservoir above the town"]
    assert lines[3][2:] == [
        "http://evil.example/\\x1b]0;owned\\x07\\u202egpj",
        "\\x1b[31mred\\x1b[0m next line \\u202e",
    ]
    assert lines[4] == ["failed", "http_404", "http://d.example/gone", ""]


def listed(shell: Shell, columns: int) -> list[str]:
    """What `list` shows on a terminal, without its colours."""
    code, sent = shell.terminal("list", columns=columns)
    assert code == 0
    plain = re.sub(r"\x1b\[(3[123]|0)m", "", sent)
    assert "\x1b" not in plain
    assert "\u202e" not in plain
    return plain.splitlines()


def test_list_on_a_wide_terminal_is_a_line_a_page(shell: Shell) -> None:
    lines = listed(shell, 140)
    assert len(lines) == 7
    assert lines[0] == "summarized            The reservoir above the town              http://a.example/reservoir"
    assert lines[1] == "summarized            수원지의 물이 마르지 않는 이유와 그 역…   http://b.example/mul?lang=ko"
    assert lines[3].endswith("  http://evil.example/\\x1b]0;owned\\x07\\u202egpj")
    assert lines[4] == f"failed      http_404  {' ' * 40}  http://d.example/gone"


@pytest.mark.parametrize("columns", [20, 60])
def test_list_on_a_narrow_terminal_has_the_url_under_the_title(shell: Shell, columns: int) -> None:
    lines = listed(shell, columns)
    assert len(lines) == 7 + len(SAMPLE)
    assert lines[1] == f"{' ' * 22}http://a.example/reservoir"
    assert lines[8] == "failed      http_404  http://d.example/gone"
    if columns == 60:
        assert lines[0] == "summarized            The reservoir above the town"
        assert lines[2] == "summarized            수원지의 물이 마르지 않는 이유와 그…"


def test_list_on_a_terminal_is_not_coloured_if_nobody_wants_it(shell: Shell) -> None:
    shell.variables["NO_COLOR"] = "1"
    assert "\x1b" not in shell.terminal("list")[1]


def test_a_reader_that_has_read_enough_is_no_fault(shell: Shell, tmp_path: Path) -> None:
    with Store.open(tmp_path / "large.db") as store:
        store.begin_run("urls.txt", "m", {})
        store.apply(Added(tuple(Line(f"http://a.example/{n}", str(n), "h", "urls.txt") for n in range(5_000))))
    said = shell.sh('set -o pipefail; "$it" list --db large.db | head -1')
    assert said == Said(0, "queued\t\thttp://a.example/0\t\n", "")
    full = shell.sh('"$it" list --db large.db > /dev/full')
    assert (full.code, full.err.count("\n")) == (2, 1)
    assert "standard output cannot be written" in full.err
    assert shell.sh('"$it" list --db large.db >&-') == Said(0, "", "")


# show


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://a.example/reservoir", "http://a.example/reservoir"),
        ("HTTP://A.example:80/./reservoir#top", "http://a.example/reservoir"),
        ("http://b.example/mul?utm_source=x&lang=ko", "http://b.example/mul?lang=ko"),
        (FINAL_URL, "http://c.example/old"),
        ("http://C.example/New~home", "http://c.example/old"),
        (EVIL, EVIL),
    ],
)
def test_show_finds_a_page_by_any_spelling_and_by_where_it_is_now(shell: Shell, given: str, url: str) -> None:
    (row,) = shell("show", given, "--json").objects
    assert row["url"] == url
    assert row["outcome"] == "summarized"
    assert row["key_points"] == ["One point."]


def test_show_is_for_people_too(shell: Shell) -> None:
    said = shell("show", "http://c.example/old")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[:3] == ["Moved", "http://c.example/old", f"  now at {FINAL_URL}"]
    assert lines[3].startswith("summarized, fetched 20")
    assert lines[4:9] == ["", "What Moved says.", "On two lines.", "", "- One point."]
    assert lines[10].startswith("m, single, 100% of the text, 20")
    failed = shell("show", "http://d.example/gone")
    assert failed.out == "http://d.example/gone\nfailed (http_404: why), fetched never\n"


def test_nothing_that_a_terminal_obeys_is_shown(shell: Shell) -> None:
    said = shell("show", EVIL)
    assert "\x1b" not in said.out + said.err
    assert "\u202e" not in said.out
    assert said.out.splitlines()[0] == "\\x1b[31mred\\x1b[0m\\nnext line \\u202e"
    found = shell("search", "next", "line")
    assert found.out.count("\n") == 3
    assert "\x1b" not in found.out


def test_a_page_that_is_not_there_is_2_with_a_hint(shell: Shell, filled: Path) -> None:
    said = shell("show", "http://nowhere.example/\x1b[31m")
    assert (said.code, said.out) == (2, "")
    hint = f"summarize-batch list --db {filled} shows what is"
    assert said.err == f"summarize-batch: http://nowhere.example/\\x1b[31m is not in {filled}: {hint}\n"


# search


def test_search_gives_title_url_and_the_passage_with_the_words(shell: Shell) -> None:
    said = shell("search", "RESERVOIR", "town")
    assert said.err == ""
    assert said.out.splitlines() == [
        "The reservoir above the town",
        "  http://a.example/reservoir",
        "  What The [reservoir] above the [town] says. On two lines.",
    ]
    assert urls(shell("search", "마르지", "--json")) == ["http://b.example/mul?lang=ko"]


def test_a_search_that_finds_nothing_says_so_and_is_no_fault(shell: Shell) -> None:
    assert shell("search", "no", "such", "words") == Said(0, "", "no page has no such words\n")
    assert shell("search", "-q", "no", "such", "words") == Said(0, "", "")
    assert shell("search", "--json", "-q", "no", "such", "words") == Said(0, "", "")


# The database is only read


def test_who_reads_cannot_write(filled: Path) -> None:
    with closing(connect(filled, write=False)) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM pages")


READ = [["list"], ["show", "http://a.example/reservoir"], ["search", "reservoir"]]


@pytest.mark.parametrize("arguments", READ)
def test_what_reads_leaves_the_folder_as_it_is(shell: Shell, filled: Path, arguments: list[str]) -> None:
    before = {path.name: path.read_bytes() for path in filled.parent.iterdir()}
    assert shell(*arguments).out
    assert {path.name: path.read_bytes() for path in filled.parent.iterdir()} == before


@pytest.mark.parametrize("arguments", READ)
def test_where_there_is_no_database_none_is_made(shell: Shell, arguments: list[str]) -> None:
    said = shell(*arguments, "--db", "none.db")
    assert said.code == 10
    assert said.err == "summarize-batch: none.db: no database is here; `summarize-batch urls.txt` makes one\n"
    assert os.listdir(shell.folder) == []


def test_what_a_killed_run_has_left_is_read_and_left_there(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "killed.db"
    program = f"""
import os
from pathlib import Path
from pipeline.records import Added, Line
from pipeline.store import Store
with Store.open(Path({str(path)!r})) as store:
    store.begin_run("urls.txt", "m", {{}})
    store.apply(Added((Line("http://a.example/", "http://a.example/", "h", "urls.txt"),)))
    os._exit(9)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    before, wal = path.read_bytes(), path.with_name("killed.db-wal").read_bytes()
    assert wal
    assert urls(shell("list", "--db", path, "--json")) == ["http://a.example/"]
    assert (path.read_bytes(), path.with_name("killed.db-wal").read_bytes()) == (before, wal)


def test_a_reader_sees_what_is_committed_while_a_run_writes(shell: Shell, tmp_path: Path) -> None:
    with Store.open(tmp_path / "busy.db") as store:
        store.begin_run("urls.txt", "m", {})
        store.apply(Added((Line("http://a.example/", "http://a.example/", "h", "urls.txt"),)))
        with store.transaction("open"):
            assert urls(shell("list", "--db", tmp_path / "busy.db", "--json")) == ["http://a.example/"]


@pytest.fixture
def locked_away(filled: Path) -> Iterator[Path]:
    """A copy of the database in a folder in which nobody but root may write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy = folder / "summaries.db"
        copy.write_bytes(filled.read_bytes())
        copy.chmod(0o444)
        folder.chmod(0o555)
        yield copy
        folder.chmod(0o755)


def test_a_database_is_read_where_nothing_may_be_written(locked_away: Path) -> None:
    program = f"""
import os
from pathlib import Path
from pipeline.commands import list
if os.getuid() == 0:
    os.setuid(65534)
rows = [row["url"] for row in list.pages(Path({str(locked_away)!r}), ["failed"])]
assert rows == ["http://d.example/gone"], rows
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert [path.name for path in locked_away.parent.iterdir()] == ["summaries.db"]

"""Years of nights: `check`, `prune`, `forget`, and who may work on the database."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import COMMAND, Pages, Said, Shell, article, serving_pages
from fake_ollama import FakeOllama, serving

from pipeline.commands import check, runs
from pipeline.errors import LockHeld
from pipeline.records import Added, Line
from pipeline.store import Store, is_held, lock

NIGHT = {
    "SUMMARIZE_BATCH_ALLOW_PRIVATE_NETWORK": "1",
    "SUMMARIZE_BATCH_DELAY": "0",
    "SUMMARIZE_BATCH_MODEL": "fake",
    "SUMMARIZE_BATCH_MODEL_WAIT": "0s",
    "SUMMARIZE_BATCH_PARALLEL": "1",
}
LONG = " ".join(f"Sentence {number} is about water." for number in range(50))


@pytest.fixture(scope="module")
def site() -> Iterator[Pages]:
    with serving_pages(a=article("A reservoir"), same=article("A reservoir"), long=article("Long", LONG)) as site:
        yield site


@pytest.fixture(scope="module")
def after_a_night(tmp_path_factory: pytest.TempPathFactory, site: Pages) -> Path:
    """The database of one night: two pages with one text, a long one, one that is gone."""
    folder = tmp_path_factory.mktemp("night")
    with serving(FakeOllama()) as fake:
        shell = Shell(folder, {"HOME": str(folder), "SUMMARIZE_BATCH_HOST": fake.url} | NIGHT)
        said = shell(
            "-q", "--num-ctx", "2048", "-", stdin="\n".join(f"{site.url}/{n}" for n in ("a", "same", "long", "gone"))
        )
        assert said.code == 3, said.err
    return folder / "summaries.db"


@pytest.fixture
def shell(after_a_night: Path, tmp_path: Path) -> Shell:
    """With a copy of that database."""
    (tmp_path / "summaries.db").write_bytes(after_a_night.read_bytes())
    return Shell(tmp_path, {"HOME": str(tmp_path)} | NIGHT)


def change(shell: Shell, *statements: str) -> None:
    with closing(sqlite3.connect(shell.folder / "summaries.db")) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def count(shell: Shell, table: str) -> int:
    with closing(sqlite3.connect(shell.folder / "summaries.db")) as db:
        found: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


# check


def test_a_database_after_a_night_is_well(shell: Shell) -> None:
    assert shell("check") == Said(0, "", "summaries.db: all is well\n")
    assert shell("check", "-q", "--expect-every", "25h") == Said(0, "", "")


@pytest.mark.parametrize(
    ("statement", "code", "told"),
    [
        ("PRAGMA foreign_keys = OFF; DELETE FROM texts", 10, "foreign key: row"),
        ("UPDATE pages SET state = 'summarized'", 10, "summarized without a summary"),
        ("UPDATE pages SET state = 'fetched', text_hash = NULL", 10, "fetched without a text: 4"),
        ("UPDATE items SET outcome = 'waiting', reason = NULL", 10, "does not say why: 4"),
        ("UPDATE items SET ended_at = NULL", 10, "have not ended: 4"),
        ("UPDATE summaries SET coverage = 0.5", 10, "coverage is not that of their chunks: 3"),
        ("UPDATE summaries SET chunks = chunks + 1", 10, "coverage is not that of their chunks: 3"),
        ("UPDATE pages SET reason = 'bored'", 10, "a reason that is none: bored"),
        ("DROP TRIGGER search_page_changed; UPDATE pages SET title = '' ; DELETE FROM search_docsize", 10, "full-text"),
        ("UPDATE runs SET state = 'running', exit_code = NULL", 3, "run 1, begun at 20"),
        ("UPDATE runs SET exit_code = 12, state = 'failed'", 3, "ended with exit code 12"),
        ("UPDATE runs SET ended_at = '2020-01-01T00:00:00.000Z'", 3, "the last good run ended at 2020"),
        ("UPDATE runs SET state = 'interrupted', exit_code = 143", 3, "no run has ever ended well"),
    ],
)
def test_what_is_not_well_is_a_line_and_a_code(shell: Shell, statement: str, code: int, told: str) -> None:
    change(shell, *statement.split(";"))
    said = shell("check", "-q", "--expect-every", "25h")
    assert (said.code, said.err) == (code, "")
    assert told in said.out
    assert shell("check", "--json", "--expect-every", "25h").objects[0].keys() == {"what", "said", "exit_code"}


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        (25.0, []),
        (25.1, ["the last good run ended at 2026-03-02T03:15:00.000Z"]),
        (0.0, []),
        (-0.1, ["the last good run ended at 2026-03-02T03:15:00.000Z: by a clock that was wrong"]),
    ],
)
def test_a_good_run_counts_for_as_long_as_was_said_and_not_before_it_was(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, hours: float, told: list[str]
) -> None:
    ended = datetime(2026, 3, 2, 3, 15, tzinfo=UTC)
    change(shell, "UPDATE runs SET ended_at = '2026-03-02T03:15:00.000Z'")
    # Of an earlier night, when the clock was ahead.
    change(
        shell, "INSERT INTO runs SELECT 0, started_at, '2038-01-01', state, 0, source, model, settings, '' FROM runs"
    )
    monkeypatch.setattr(check, "now", lambda: ended + timedelta(hours=hours))
    found = check.findings(shell.folder / "summaries.db", timedelta(hours=25))
    assert [finding.said for finding in found] == told


def test_a_run_that_works_now_was_not_killed(shell: Shell) -> None:
    change(shell, "UPDATE runs SET state = 'running', exit_code = NULL")
    with lock(shell.folder / "summaries.db"):
        assert shell("check", "-q") == Said(0, "", "")
        assert [found.state for found in runs.runs(shell.folder / "summaries.db", None)] == ["running"]
    assert shell("check", "-q").code == 3
    assert [found.state for found in runs.runs(shell.folder / "summaries.db", None)] == ["interrupted"]
    assert "  interrupted (killed)  " in shell("runs").out


def test_of_runs_that_stand_as_running_only_the_last_can_be(shell: Shell) -> None:
    change(shell, "UPDATE runs SET state = 'running', exit_code = NULL")
    change(shell, "INSERT INTO runs SELECT 9, started_at, NULL, state, NULL, source, model, settings, '' FROM runs")
    with lock(shell.folder / "summaries.db"):
        found = [found.state for found in runs.runs(shell.folder / "summaries.db", None)]
        assert found == ["running", "interrupted"]


def test_a_damaged_database_is_10(shell: Shell) -> None:
    path = shell.folder / "summaries.db"
    content = bytearray(path.read_bytes())
    for start in range(4_096 * 3, len(content) - 4_096, 4_096):
        content[start : start + 200] = b"\xa5" * 200
    path.write_bytes(content)
    said = shell("check", "-q")
    assert said.code == 10
    assert said.out or said.err


def test_where_nothing_is_there_is_nothing_to_check(shell: Shell) -> None:
    assert shell("check", "--db", "none.db").code == 10
    assert sorted(os.listdir(shell.folder)) == ["summaries.db"]


# prune


def test_prune_takes_the_old_books_and_loose_texts_and_never_a_summary(shell: Shell) -> None:
    change(
        shell,
        "INSERT INTO texts VALUES ('loose', 'A text.', 7)",
        "INSERT INTO chunks VALUES ('loose', 0, 0, 7, 3, 'x')",
    )
    assert shell("prune") == Said(
        0, "", "0 old results of pages, 0 old tries and 1 texts that nothing needs are gone\n"
    )
    change(
        shell,
        "UPDATE runs SET ended_at = '2020-01-01T00:00:00.000Z'",
        "UPDATE attempts SET ended_at = '2020-01-01T00:00:00.000Z'",
    )
    before = {table: count(shell, table) for table in ("summaries", "texts", "pages", "chunk_summaries", "chunks")}
    attempts = count(shell, "attempts")
    assert shell("prune", "--dry-run", "--json").objects == [{"items": 4, "attempts": attempts, "texts": 0}]
    assert count(shell, "items") == 4
    assert shell("prune", "--keep", "9999d", "-q") == Said(0, "", "")
    assert count(shell, "items") == 4
    assert shell("prune", "--json").objects == [{"items": 4, "attempts": attempts, "texts": 0}]
    assert {table: count(shell, table) for table in before} == before
    assert (count(shell, "items"), count(shell, "attempts")) == (0, 0)
    assert shell("check", "-q") == Said(0, "", "")
    assert shell("runs", "--json").objects[0]["outcomes"] == {"failed": 1, "summarized": 3}


def test_prune_in_small_steps_takes_all(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.commands import prune

    monkeypatch.setattr(prune, "ROWS_A_TRANSACTION", 3)
    gone = prune.prune(shell.folder / "summaries.db", timedelta(0))
    assert (gone.items, gone.attempts) == (4, gone.attempts)
    assert (count(shell, "items"), count(shell, "attempts")) == (0, 0)


@pytest.mark.parametrize("arguments", [["prune"], ["forget", "--yes", "URL"]])
def test_while_a_run_works_nothing_is_taken_out(shell: Shell, site: Pages, arguments: list[str]) -> None:
    with lock(shell.folder / "summaries.db"):
        said = shell(*(f"{site.url}/a" if word == "URL" else word for word in arguments))
    assert said.code == 11
    assert count(shell, "pages") == 4


# forget


def tables(shell: Shell) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(shell.folder / "summaries.db")) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'search%'").fetchall()
        return {name: db.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in names}


def test_forget_takes_everything_of_a_page_and_nothing_of_others(shell: Shell, site: Pages) -> None:
    before = tables(shell)
    assert shell("forget", "--yes", f"{site.url}/long#x") == Said(0, "", f"{site.url}/long is forgotten\n")
    after = tables(shell)
    assert not any("about water" in str(row) for rows in after.values() for row in rows)
    assert not any(f"{site.url}/long" in str(row) for rows in after.values() for row in rows)
    assert len(after["pages"]) == 3
    assert len(after["summaries"]) == 2
    assert {row[0] for row in after["texts"]} < {row[0] for row in before["texts"]}
    assert shell("search", "sentence", "--json").objects == []
    assert len(shell("search", "reservoir", "--json").objects) == 2
    assert shell("check", "-q") == Said(0, "", "")


def test_what_another_page_has_too_stays(shell: Shell, site: Pages) -> None:
    before = tables(shell)
    assert shell("forget", "--yes", f"{site.url}/a").code == 0
    after = tables(shell)
    for table in ("texts", "chunks", "chunk_summaries"):
        assert after[table] == before[table]
    assert shell("show", f"{site.url}/same", "--json").objects[0]["summary"]
    assert shell("check", "-q") == Said(0, "", "")


def test_nothing_is_forgotten_unless_somebody_says_yes(shell: Shell, site: Pages) -> None:
    said = shell("forget", f"{site.url}/a", stdin="y\n")
    assert said == Said(2, "", "summarize-batch: nothing is forgotten without --yes\n")
    assert count(shell, "pages") == 4
    assert shell("forget", "--yes", f"{site.url}/other").code == 2


# Who works on the database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "summaries.db"


def test_by_whatever_name_a_database_has_one_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link.db").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    with lock(path):
        for name in ("link.db", "summaries.db", "./../" + tmp_path.name + "/summaries.db"):
            with pytest.raises(LockHeld), lock(Path(name)):
                pass
        with lock(tmp_path / "other.db"):
            pass
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.endswith(".lock")) == [
        "other.db.lock",
        "summaries.db.lock",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the database itself cannot be held")
def test_who_takes_the_lock_file_away_lets_nobody_in(path: Path) -> None:
    with lock(path):
        path.with_name("summaries.db.lock").unlink()
        with pytest.raises(LockHeld, match="its lock file is gone"), lock(path):
            pass
        assert is_held(path)
    with lock(path):
        pass
    assert not is_held(path)


def test_a_lock_file_that_is_taken_away_just_before_it_is_locked_is_not_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    beside, usual = path.with_name("summaries.db.lock"), fcntl.flock
    taken: list[int] = []

    def flock(handle: int, how: int) -> None:
        if not taken:
            beside.unlink()
        taken.append(handle)
        usual(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock(path):
        held = beside.stat()
        assert beside.read_text().startswith(f"pid {os.getpid()} since ")
        assert is_held(path)
    assert held.st_size


def test_a_writer_and_a_lock_leave_each_other_alone(path: Path) -> None:
    """The database is held by `flock`, SQLite holds it by other locks."""
    with lock(path), Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        store.apply(Added((Line("http://a.example/", "k", "a.example", "urls.txt"),)))
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT count(*) FROM pages").fetchone() == (1,)
        assert is_held(path)


HOLDER = """
import sys
from pathlib import Path
from pipeline.store import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_who_waits_for_another_run_works_when_that_one_has_ended(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline() == "held\n"
        told: list[str] = []

        def note(text: str) -> None:
            told.append(text)
            assert holder.stdin
            holder.stdin.close()

        with lock(path, timedelta(minutes=2), note):
            pass
        assert len(told) == 1
        assert f"(pid {holder.pid} since 20" in told[0]


def test_who_has_waited_long_enough_is_told(shell: Shell) -> None:
    with lock(shell.folder / "summaries.db"):
        said = shell("--lock-wait", "1s", "-", stdin="")
    assert said.code == 11
    first, last = said.err.splitlines()
    assert "waiting for its end" in first
    assert f"(pid {os.getpid()} since " in last


def test_a_run_that_is_terminated_before_it_has_the_database_ends_with_143(shell: Shell) -> None:
    with lock(shell.folder / "summaries.db"), shell.start("--lock-wait", "100s", "https://example.com/") as running:
        assert running.stderr
        assert b"waiting for its end" in running.stderr.readline()
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (143, b"")


def test_what_a_killed_run_left_is_read_through_a_link_too(path: Path, tmp_path: Path) -> None:
    program = f"""
import os
from pathlib import Path
from pipeline.store import Store
with Store.open(Path({str(path)!r})) as store:
    store.begin_run("urls.txt", "m", {{}})
    os._exit(9)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.db").symlink_to(path)
    before = path.read_bytes()
    shell = Shell(tmp_path, {"HOME": str(tmp_path)})
    assert len(shell("runs", "--db", "elsewhere/link.db", "--json").objects) == 1
    assert path.read_bytes() == before, "who reads does not write what is left in the log"


# The terminal goes, the night goes on


def test_with_a_terminal_for_talk_the_data_still_goes_to_standard_output(
    tmp_path: Path, site: Pages, shell: Shell
) -> None:
    ours, theirs = pty.openpty()
    with serving(FakeOllama()) as fake:
        command = [COMMAND, "--json", "--db", "mine.db", "--host", fake.url, f"{site.url}/a"]
        env = shell.variables | {"PATH": os.environ["PATH"], "TERM": "xterm"}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path, env=env, check=True)
    os.close(theirs)
    os.close(ours)
    assert json.loads(done.stdout)["outcome"] == "summarized"


@pytest.mark.parametrize("options", [["-v"], ["-q"], ["--json"], []])
def test_a_terminal_that_is_closed_does_not_end_the_run(tmp_path: Path, site: Pages, options: list[str]) -> None:
    began, gone = threading.Event(), threading.Event()
    fake = FakeOllama()
    usual = fake.behave

    def behave(body: dict[str, Any]) -> dict[str, Any]:
        began.set()
        assert gone.wait(60)
        return usual(body)

    fake.behave = behave
    ours, theirs = pty.openpty()
    with serving(fake):
        shell = Shell(tmp_path, {"HOME": str(tmp_path), "SUMMARIZE_BATCH_HOST": fake.url} | NIGHT)
        with subprocess.Popen(
            # setsid gives the new session this terminal: when it goes, the run is sent SIGHUP.
            ["setsid", "--ctty", COMMAND, *options, f"{site.url}/a", f"{site.url}/gone"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=tmp_path,
            env=shell.variables | {"PATH": os.environ["PATH"], "TERM": "xterm"},
        ) as running:
            os.close(theirs)
            assert began.wait(60)
            os.close(ours)
            gone.set()
            assert running.wait(60) == 3
    assert [row["state"] for row in shell("list", "--json").objects] == ["summarized", "failed"]
    assert shell("runs", "--json").objects[0]["exit_code"] == 3
    assert not list(tmp_path.glob("*.bug.txt"))

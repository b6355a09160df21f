"""What is stored stays: an older schema, an unclean end, the log, a full disk, a file that cannot be used."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import power
import pytest
from command_line import SECONDS, Pages, Said, Shell, article, serving_pages
from fake_ollama import Body, FakeOllama, serving
from sqlite_utils import Database

from pipeline import store as store_module
from pipeline import upkeep
from pipeline.__main__ import _stopped
from pipeline.commands import choose
from pipeline.errors import DatabaseUnusable
from pipeline.migrations import APPLICATION_ID, migrations, schema_version
from pipeline.records import Added, Line
from pipeline.store import Store, connect, is_held, lock

NIGHT = {
    "SUMMARIZE_BATCH_ALLOW_PRIVATE_NETWORK": "1",
    "SUMMARIZE_BATCH_DELAY": "0",
    "SUMMARIZE_BATCH_MODEL": "fake",
    "SUMMARIZE_BATCH_MODEL_WAIT": "0s",
    "SUMMARIZE_BATCH_PARALLEL": "1",
}
OLDER_VERSION = 3
PAGE_BYTES = 4_096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "summaries.db"


@pytest.fixture
def older(path: Path) -> Path:
    """A database of three steps, of 2 MB, after a run that ended well."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        migrations.apply(Database(db), stop_before="books_of_runs")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {OLDER_VERSION}")
        db.execute("INSERT INTO runs VALUES (1, '', '', 'finished', 0, 'urls.txt', 'm', '{}')")
        db.executemany("INSERT INTO texts VALUES (?, ?, 0)", [(str(number), 100_000 * "x") for number in range(20)])
    path.chmod(0o600)
    return path


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        found = db.execute(statement).fetchall()
        db.commit()
        return found


def what_is_in(path: Path) -> list[list[tuple[Any, ...]]]:
    """Schema, version, steps and rows."""
    statements = (
        "SELECT type, name, sql FROM sqlite_master ORDER BY type, name",
        "PRAGMA user_version",
        "SELECT name, applied_at FROM _sqlite_migrations ORDER BY id",
        "SELECT hash, text FROM texts ORDER BY hash",
    )
    return [query(path, statement) for statement in statements]


def beside(path: Path) -> list[str]:
    """The files in its folder but the database itself, and what SQLite keeps there while somebody reads."""
    return sorted(entry.name for entry in path.parent.iterdir() if entry.name not in (path.name, f"{path.name}-shm"))


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# An older schema


def test_an_older_database_is_kept_as_it_was_before_it_is_changed(older: Path) -> None:
    before = what_is_in(older)
    told: list[str] = []
    with Store.open(older, note=told.append):
        pass
    copy = older.with_name("summaries.db.version-3.backup")
    assert beside(older) == [copy.name]
    assert what_is_in(copy) == before
    assert query(copy, "PRAGMA integrity_check") == [("ok",)]
    assert query(copy, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert told == [f"{older} is brought up to date; as it was before it is kept in {copy}"]
    assert query(older, "PRAGMA user_version") == [(schema_version(),)]
    with Store.open(older, note=told.append):
        pass
    assert len(told) == len(beside(older)) == 1, "once"


@pytest.mark.parametrize("is_there", [False, True])
def test_of_a_database_with_nothing_in_it_no_copy_is_made(path: Path, is_there: bool) -> None:
    if is_there:
        path.touch()
    with Store.open(path):
        pass
    assert beside(path) == []


def test_a_copy_that_is_there_already_is_left_alone(older: Path) -> None:
    mine = older.with_name("summaries.db.version-3.backup")
    mine.write_text("the last good one")
    older.with_name("summaries.db.backup.part").write_text("of a run that was killed")
    with Store.open(older):
        pass
    assert mine.read_text() == "the last good one"
    assert beside(older) == ["summaries.db.version-3-2.backup", "summaries.db.version-3.backup"]


def test_of_the_copies_of_all_the_years_the_newest_two_stay(older: Path) -> None:
    ours = [f"summaries.db.version-{version}.backup" for version in ("2", "2-10", "2-9", "7")]
    others = [f"{name}.backup" for name in ("summaries.db.version-1.backup", "my-summaries.db.version-1")]
    others += ["summaries.db.version-01.backup", "summaries.db.version-1-1.backup", "summaries_db.version-1.backup"]
    for seconds, name in enumerate([*ours, *others]):
        older.with_name(name).touch()
        os.utime(older.with_name(name), (seconds, seconds))
    older.with_name("summaries.db.version-1.backup").symlink_to(older)
    with Store.open(older):
        pass
    kept = ["summaries.db.version-7.backup", "summaries.db.version-3.backup", "summaries.db.version-1.backup"]
    assert beside(older) == sorted([*kept, *others])


def test_without_room_for_the_copy_nothing_is_changed(older: Path) -> None:
    before, bytes_before = what_is_in(older), older.read_bytes()
    with (
        no_file_larger_than(1 << 20),
        pytest.raises(DatabaseUnusable, match=r"the copy \(2 MB\) cannot be written .*; nothing was changed"),
        Store.open(older),
    ):
        pass
    assert (older.read_bytes(), what_is_in(older)) == (bytes_before, before)
    assert beside(older) == []
    with Store.open(older):
        pass


def a_step(*statements: str) -> Any:
    def step(db: Database) -> None:
        for statement in statements:
            db.execute(statement)

    return type(migrations)._Migration("next", step)


HALF = ("CREATE TABLE next (x)", "INSERT INTO next VALUES (1)", "DELETE FROM texts")


@pytest.mark.parametrize("fails", ["it cannot be", "there is no room"])
def test_a_step_that_fails_in_the_middle_leaves_the_old_state_and_no_copy(
    older: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    before = what_is_in(older)
    last = "INSERT INTO nowhere VALUES (1)"
    if fails == "there is no room":
        last = "INSERT INTO next WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT randomblob(9999) FROM n"
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_migrations", [*migrations._migrations, a_step(*HALF, last)])
        with no_file_larger_than(8 << 20), pytest.raises(DatabaseUnusable), Store.open(older):
            pass
    assert what_is_in(older) == before
    assert beside(older) == []
    with Store.open(older):
        assert query(older, "SELECT count(*) FROM texts") == [(20,)]


def test_a_run_that_is_told_to_stop_while_it_migrates_leaves_the_old_state(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(db: Database) -> None:
        db.execute(HALF[0])
        db.execute(HALF[-1])
        signal.raise_signal(signal.SIGTERM)

    before, usual = what_is_in(older), signal.signal(signal.SIGTERM, _stopped)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(
                migrations, "_migrations", [*migrations._migrations, type(migrations)._Migration("next", step)]
            )
            with pytest.raises(SystemExit, match="143"), Store.open(older):
                pass
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert what_is_in(older) == before
    assert beside(older) == []


def test_a_database_of_a_newer_version_is_left_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_migrations", [*migrations._migrations, a_step("CREATE TABLE next (x)")])
        with Store.open(path):
            pass
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match="made by a newer version; upgrade"), Store.open(path):
        pass
    with pytest.raises(DatabaseUnusable, match="made by a newer version; upgrade"):
        connect(path, write=False)
    assert path.read_bytes() == before
    assert beside(path) == []


# After an unclean end


def damage(path: Path) -> None:
    """Overwrites a page of the longest text, which nothing reads at the start of a run."""
    content = bytearray(path.read_bytes())
    middle = content.index(1_000 * b"x") // PAGE_BYTES * PAGE_BYTES
    content[middle + 8 * PAGE_BYTES : middle + 8 * PAGE_BYTES + 8] = b"\xff\xff\xff\xff\xff\xff\xff\xff"
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("how", "is_read"),
    [
        ("state = 'finished', exit_code = 0", False),
        ("state = 'interrupted', exit_code = 143", False),
        ("state = 'failed', exit_code = 12", False),
        ("state = 'failed', exit_code = 10", True),
        ("state = 'running', exit_code = NULL", True),
    ],
)
def test_the_whole_file_is_read_at_the_start_only_if_the_last_run_ended_badly(
    older: Path, how: str, is_read: bool
) -> None:
    with Store.open(older):
        pass
    query(older, f"UPDATE runs SET {how}")
    damage(older)
    before = older.read_bytes()
    if not is_read:
        with Store.open(older):
            pass
        return
    with pytest.raises(DatabaseUnusable, match=r"is damaged: put a copy in its place, or .*recover"), Store.open(older):
        pass
    assert older.read_bytes() == before


def test_a_damaged_database_is_not_brought_up_to_date(older: Path) -> None:
    damage(older)
    before = older.read_bytes()
    with pytest.raises(DatabaseUnusable, match="is damaged"), Store.open(older):
        pass
    assert older.read_bytes() == before
    assert beside(older) == []


# The log


def lines(first: int, last: int) -> Added:
    urls = (f"http://a.example/{number}/{100 * 'x'}" for number in range(first, last))
    return Added(tuple(Line(url, url, "a.example", "urls.txt") for url in urls))


def log_bytes(path: Path) -> int:
    return path.with_name("summaries.db-wal").stat().st_size


def test_the_log_stays_small_and_is_empty_after_the_run(path: Path) -> None:
    with Store.open(path) as store, closing(sqlite3.connect(path)) as reader:
        store.begin_run("urls.txt", "m", {})
        reader.execute("SELECT count(*) FROM pages").fetchone()
        sizes = []
        for first in range(0, 10_000, 500):
            store.apply(lines(first, first + 500))
            sizes.append(log_bytes(path))
        assert max(sizes) < 2 * upkeep.LOG_BYTES
        store.apply(lines(10_000, 60_000))
        assert log_bytes(path) > 2 * upkeep.LOG_BYTES, "one event is one transaction, however large"
        store.apply(lines(60_000, 60_001))
        assert log_bytes(path) <= upkeep.LOG_BYTES, "it is cut back"
        with Store.open(path.with_name("other.db")):
            pass
        assert upkeep.empty_log(store._connection, path) == 0 == log_bytes(path), "though somebody has it open"
    assert not path.with_name("summaries.db-wal").exists()


def test_who_reads_all_night_makes_the_log_grow_and_holds_nobody_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(upkeep, "TOLD_LOG_BYTES", upkeep.LOG_BYTES)
    with Store.open(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM pages").fetchone()
        with Store.open(path, note=told.append) as store:
            store.begin_run("urls.txt", "m", {})
            for first in range(0, 20_000, 1_000):
                store.apply(lines(first, first + 1_000))
        assert reader.execute("SELECT count(*) FROM pages").fetchone() == (0,), "what it sees is as it was"
        assert [text.split(" has ")[0] for text in told] == [f"{path}-wal"]
        assert log_bytes(path) > upkeep.LOG_BYTES
        reader.execute("COMMIT")
        with Store.open(path, note=told.append):
            pass
        assert log_bytes(path) == 0
        assert len(told) == 1


# The disk, and the file


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    with serving(FakeOllama()) as fake:
        yield fake


@pytest.fixture
def shell(tmp_path: Path, ollama: FakeOllama) -> Shell:
    return Shell(tmp_path, {"HOME": str(tmp_path), "SUMMARIZE_BATCH_HOST": ollama.url} | NIGHT)


@pytest.fixture(scope="module")
def site() -> Iterator[Pages]:
    """12 pages of 40 KB each; no sentence stands in two of them."""
    pages = {f"p{number}": _long(number) for number in range(12)}
    with serving_pages(**pages) as site:
        yield site


def _long(page: int) -> str:
    sentences = " ".join(f"Boat {page}-{number} went down the river in the {number}th year." for number in range(700))
    return article(f"Boats {page}", "").replace("</p>", f"{sentences}</p>")


def urls(site: Pages) -> str:
    return "".join(f"{site.url}{path}\n" for path in site.pages)


def test_what_does_not_fit_on_the_disk_is_no_fault_of_a_page(path: Path) -> None:
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        store.apply(lines(0, 10))
        (pages,) = store._one("PRAGMA page_count")
        store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(DatabaseUnusable, match="the disk is full; what was stored before is safe"):
            store.apply(lines(10, 1_000))
        assert query(path, "SELECT count(*), count(reason) FROM pages") == [(10, 0)], "all of an event, or nothing"
        store._connection.execute(f"PRAGMA max_page_count = {1_000_000}")
        store.apply(lines(10, 1_000))
        assert query(path, "SELECT count(*), count(reason) FROM pages") == [(1_000, 0)]


def test_a_night_whose_files_may_not_grow_ends_with_10_and_the_next_goes_on(
    shell: Shell, site: Pages, ollama: FakeOllama
) -> None:
    (shell.folder / "urls.txt").write_text(urls(site))
    said = shell.sh('ulimit -f 900; exec "$it" -q --workers 1 --num-ctx 8192 urls.txt')
    _stopped_halfway(shell, said, "the disk cannot be read or written; what was stored before is safe")
    calls = len(ollama.chats)
    assert shell("-q", "--workers", "1", "--num-ctx", "8192", "urls.txt") == Said(0, "", "")
    assert query(shell.folder / "summaries.db", "SELECT DISTINCT state FROM pages") == [("summarized",)]
    assert len(ollama.chats) > calls
    assert shell("check", "-q") == Said(0, "", "")


def _stopped_halfway(shell: Shell, said: Said, told: str) -> None:
    assert (said.code, said.out, said.err.count("\n")) == (10, "", 1), said
    assert told in said.err
    path = shell.folder / "summaries.db"
    states = dict(query(path, "SELECT state, count(*) FROM pages GROUP BY state"))
    assert states["summarized"] > 1
    assert states["queued"] > 1
    assert set(states) <= {"summarized", "queued", "fetched"}
    assert query(path, "SELECT count(*) FROM pages WHERE reason IS NOT NULL OR failures") == [(0,)]
    assert query(path, "SELECT count(*) FROM attempts WHERE code <> 'ok'") == [(0,)]


@pytest.mark.skipif("strace" not in power.recorders(), reason="needs strace, to play a disk that fails")
def test_a_disk_that_fails_to_keep_what_it_was_given_ends_the_night_with_10(shell: Shell, site: Pages) -> None:
    (shell.folder / "urls.txt").write_text(urls(site))
    fails = "strace -f --seccomp-bpf -o /dev/null -e trace=fdatasync -e inject=fdatasync:error=EIO:when=40"
    said = shell.sh(f'exec {fails} "$it" -q --workers 1 --num-ctx 8192 urls.txt')
    _stopped_halfway(shell, said, "the disk cannot be read or written; what was stored before is safe")
    assert query(shell.folder / "summaries.db", "SELECT exit_code FROM runs") == [(10,)], "so the next reads it through"


FULL = """
mkdir disk && unshare -Urm sh -c '
    mount -t tmpfs -o size=1200k tmpfs disk && cd disk || exit 99
    "$it" -q --workers 1 --num-ctx 8192 ../urls.txt
    echo $?
    cp summaries.db* ..
    mount -o remount,size=64m .
    "$it" -q --workers 1 --num-ctx 8192 ../urls.txt
    echo $?
    "$it" list --json | grep -c summarized
'
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a small disk is mounted as Linux does it")
def test_a_full_disk_ends_the_night_with_10_and_with_room_the_next_goes_on(shell: Shell, site: Pages) -> None:
    (shell.folder / "urls.txt").write_text(urls(site))
    said = shell.sh(FULL)
    if said.code == 99 or "unshare" in said.err:
        pytest.skip("no disk can be mounted here")
    first, *rest = said.out.splitlines()
    _stopped_halfway(shell, Said(int(first), "", said.err), "the disk is full; what was stored before is safe")
    assert rest == ["0", "12"]


AS_ITS_OWNER = """
import ctypes, os, sys
if os.geteuid() == 0:
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: what is read-only is so for root too
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("file", ": the database cannot be opened: Permission denied"),
        ("folder", ": the database or its folder is read-only; what was stored before is safe"),
        ("empty folder", ".lock: the lock cannot be opened: Permission denied"),
    ],
    ids=["file", "folder", "empty folder"],
)
def test_what_is_read_only_is_10_and_stays_as_it_is(shell: Shell, what: str, told: str) -> None:
    folder = shell.folder / "there"
    folder.mkdir()
    path = folder / "summaries.db"
    if what != "empty folder":
        with Store.open(path) as store:
            store.begin_run("urls.txt", "m", {})
            store.apply(lines(0, 10))
            store.end_run("finished", 0, None)
        path.with_name("summaries.db.lock").touch()
    before = path.read_bytes() if path.exists() else None
    path.chmod(0o400) if what == "file" else folder.chmod(0o500)
    (shell.folder / "as_its_owner.py").write_text(AS_ITS_OWNER)
    try:
        said = shell.sh(f'exec {sys.executable} as_its_owner.py "$it" -q --db there/summaries.db https://example.com/')
    finally:
        folder.chmod(0o700)
    assert (said.code, said.out, said.err.count("\n")) == (10, "", 1)
    assert said.err.endswith(f"there/summaries.db{told}\n")
    assert (path.read_bytes() if path.exists() else None) == before
    assert set(beside(path)) <= {"summaries.db.lock"}


@pytest.mark.parametrize("what", ["folder", "pipe", "device"])
def test_what_is_no_file_is_refused_before_a_lock_is_made_beside_it(path: Path, what: str) -> None:
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(os.devnull)
    with pytest.raises(DatabaseUnusable, match="this is no file; give another --db"), lock(path):
        pass
    assert beside(path) == []


@pytest.mark.parametrize("what", ["a link", "a pipe", "a folder"])
def test_a_lock_that_is_no_file_of_its_own_is_refused(path: Path, tmp_path: Path, what: str) -> None:
    """Who may make files in the folder could have the one at which a link points written over."""
    with Store.open(path):
        pass
    mine, place = tmp_path / "mine.txt", path.with_name("summaries.db.lock")
    mine.write_text("mine")
    if what == "a link":
        place.symlink_to(mine)
    elif what == "a pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(DatabaseUnusable, match="the lock cannot be "), lock(path):
        pass
    assert not is_held(path), "and who asks does not wait"
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("what", ["a link to itself", "a name that is too long"])
def test_a_place_that_cannot_be_looked_at_is_told_in_a_sentence(path: Path, what: str) -> None:
    if what == "a link to itself":
        path.symlink_to(path)
    else:
        path = path.with_name(300 * "x")
    for use in (lambda: lock(path).__enter__(), lambda: is_held(path), lambda: connect(path, write=False)):
        with pytest.raises(DatabaseUnusable, match="the database cannot be opened: "):
            use()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(DatabaseUnusable, match=rf"there is no folder {tmp_path / 'none'}; make it"),
        lock(tmp_path / "none" / "summaries.db"),
    ):
        pass


def test_an_empty_file_is_no_database_yet(path: Path) -> None:
    """One is left by a run that is killed before it has made its tables, and the next run makes them."""
    path.touch()
    nothing = "no database is here; `summarize-batch urls.txt` makes one"
    with pytest.raises(DatabaseUnusable, match=nothing):
        connect(path, write=False)
    query(path, "PRAGMA journal_mode = WAL")
    assert path.stat().st_size > 0
    with pytest.raises(DatabaseUnusable, match=nothing):
        connect(path, write=False)
    with Store.open(path), closing(connect(path, write=False)):
        pass


def test_a_lock_that_cannot_be_written_is_told_in_a_sentence(path: Path) -> None:
    with no_file_larger_than(0), pytest.raises(DatabaseUnusable, match="the lock cannot be written: "), lock(path):
        pass
    with lock(path):
        pass


def test_who_chooses_pages_lets_the_log_be_emptied_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "PAGES_A_TRANSACTION", 3)
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        store.apply(lines(0, 8))
        with store.transaction("test") as db:
            db.execute("UPDATE pages SET state = 'failed', reason = 'http_404'")
        found = []
        for batch in choose.to_retry(path, []):
            found.append(batch.page_ids)
            store.apply(lines(8, 9))
            assert upkeep.empty_log(store._connection, path) == 0
    assert found == [(1, 2, 3), (4, 5, 6), (7, 8)]


@pytest.mark.parametrize("how", ["taken away", "replaced", "its folder is gone"])
def test_nothing_is_said_to_be_done_in_a_database_that_lies_there_no_more(tmp_path: Path, how: str) -> None:
    (tmp_path / "folder").mkdir()
    path, said = tmp_path / "folder" / "summaries.db", list[str]()
    with Store.open(path, said.append) as store:
        store.begin_run("urls.txt", "m", {})
        said.clear()
        path.rename(tmp_path / "mine.db")
        if how == "replaced":
            shutil.copy(tmp_path / "mine.db", path)
        elif how == "its folder is gone":
            shutil.rmtree(path.parent)
        with pytest.raises(DatabaseUnusable, match="was taken away while it was written to, or replaced"):
            store.apply(lines(0, 10))
    assert said == []


def test_another_program_that_writes_is_waited_for_and_then_told_of(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)
    with Store.open(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store.begin_run("urls.txt", "m", {})
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnusable, match="another program holds the database; what was stored"):
            store.apply(lines(0, 10))
        other.execute("COMMIT")
        store.apply(lines(0, 10))
        assert query(path, "SELECT count(*) FROM pages") == [(10,)]


def test_nobody_writes_between_what_is_read_and_what_is_written_of_it(path: Path) -> None:
    """A plain BEGIN lets another writer in, and then fails at once, however long it is told to wait."""
    with Store.open(path) as store, closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        with store.transaction("test") as db:
            db.execute("SELECT count(*) FROM runs").fetchone()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("DELETE FROM runs")
            db.execute("DELETE FROM runs")
        other.execute("DELETE FROM runs")


def test_who_reads_does_not_wait_for_who_writes(path: Path) -> None:
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        with store.transaction("test") as db:
            db.execute("DELETE FROM runs")
            with closing(connect(path, write=False)) as reader:
                reader.execute("PRAGMA busy_timeout = 0")
                assert reader.execute("SELECT count(*) FROM runs").fetchone()[0] == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, 0])
def test_however_a_run_ends_no_process_of_it_is_left_and_none_says_a_word(
    shell: Shell, ollama: FakeOllama, number: int
) -> None:
    worked = threading.Event()
    usual = ollama.behave

    def told(body: Body) -> Body:
        worked.set()
        return usual(body)

    ollama.behave = told
    with serving_pages(a=article("A reservoir")) as site:
        urls = [f"{site.url}/a", *([f"{site.url}/hang"] if number else [])]
        with shell.start("-q", "--grace", "0s", *urls) as running:
            assert worked.wait(SECONDS), "a page went through a worker"
            assert not number or site.hangs.wait(SECONDS)
            if number:
                running.send_signal(number)
            # Each process has our end of this pipe from its parent: it ends when none is left.
            _, said = running.communicate(timeout=SECONDS)
    assert b"resource_tracker" not in said
    assert said.count(b"\n") == (number == signal.SIGTERM), said


def test_a_run_outlives_the_folder_that_it_was_started_in(shell: Shell) -> None:
    start = shell.folder / "start"
    start.mkdir()
    with (
        serving_pages() as site,
        Shell(start, shell.variables).start("-q", "--grace", "0s", "--db", "../kept.db", f"{site.url}/hang") as running,
    ):
        assert site.hangs.wait(60)
        start.rmdir()
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (143, b"1 waiting: ../kept.db\n")
    said = shell.sh('mkdir gone; cd gone; rmdir ../gone; "$it" -q https://example.com/')
    told = "the folder in which this was started is gone: start it in one that is there"
    assert said == Said(2, "", f"summarize-batch: {told}\n")


def test_a_database_that_turns_out_to_be_damaged_ends_the_run_with_10(shell: Shell, site: Pages) -> None:
    path = shell.folder / "summaries.db"
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        store.apply(lines(0, 2_000))
        store.end_run("finished", 0, None)
    (root,) = query(path, "SELECT rootpage FROM sqlite_master WHERE name = 'pages'")[0]
    content = bytearray(path.read_bytes())
    content[(root - 1) * PAGE_BYTES : (root - 1) * PAGE_BYTES + 8] = b"\xff" * 8
    path.write_bytes(content)
    said = shell("-q", f"{site.url}/p1")
    assert (said.code, said.out, said.err.count("\n")) == (10, "", 1), said
    assert "the database is damaged: put a copy in its place" in said.err
    assert query(path, "SELECT exit_code FROM runs ORDER BY id") == [(0,), (10,)]
    again = shell("-q", f"{site.url}/p1")
    assert (again.code, query(path, "SELECT count(*) FROM runs")) == (10, [(2,)]), "it is not begun again"

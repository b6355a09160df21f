"""Events into rows, and rows back into tasks and answers.

One connection writes, each event in one transaction (`BEGIN IMMEDIATE`: a plain `BEGIN` that reads first fails
at once when there is a second writer), and what is committed is on the disk (`synchronous=FULL`). Whoever is
told "done" is told so after the commit.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import singledispatchmethod
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self

from sqlite_utils import Database

from pipeline import queries, upkeep
from pipeline.errors import DatabaseUnusable, LockHeld
from pipeline.migrations import APPLICATION_ID, migrations, schema_version
from pipeline.patience import LONGEST, pause
from pipeline.records import (
    Added,
    Chosen,
    Chunk,
    Chunked,
    ChunkSummarized,
    Document,
    Event,
    Fetched,
    Final,
    HostSeen,
    Measured,
    NotDone,
    Outcome,
    Partial,
    PartsReduced,
    Paused,
    Proxy,
    Reason,
    Recipe,
    Refusal,
    RobotsFile,
    Stage,
    State,
    Summarized,
    Task,
    Unchanged,
)

BUSY_SECONDS = 30.0
LOCK_SECONDS = 0.2
"""Whoever looks whether the lock is held (`check`) holds it no longer than that; so often it is tried while waiting."""
ITEMS_A_TRANSACTION = 2_000
"""Of those that are settled or ended together. Each may change another page of the index by host, and 20,000 of a list
of a million made the log 41 MB large."""
LAST_HOST = "\U0010ffff"
"""After every host."""
STATE_AFTER = {Outcome.SKIPPED: State.SKIPPED, Outcome.FAILED: State.FAILED, Outcome.DEFERRED: State.DEFERRED}


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def iso(time: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond: text that sorts as time does."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


def storable(text: str) -> str:
    """A text as a database can hold it: the name of a file is bytes, and those that are no letter are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Whatever SQLite raises, as one sentence and exit code 10."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if isinstance(error, (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.InterfaceError)):
            raise
        kind = name.split("_")[1] if "_" in name else ""
        what = upkeep.damaged(path) if kind == "CORRUPT" else _SENTENCES.get(kind, str(error))
        raise DatabaseUnusable(f"{path}: {what}") from error


_NOTHING = "no database is here; `summarize-batch urls.txt` makes one"
_SAFE = "what was stored before is safe, and the next run goes on from there"
_SENTENCES = {
    "FULL": f"the disk is full; {_SAFE}",
    "IOERR": f"the disk cannot be read or written; {_SAFE}",
    "NOTADB": "this is not a database, or its beginning is damaged; nothing was changed",
    "READONLY": "the database or its folder is read-only; what was stored before is safe",
    "CANTOPEN": "the database cannot be opened, or no file can be made beside it; nothing was changed",
    "BUSY": f"another program holds the database; {_SAFE}",
    "LOCKED": f"another program holds the database; {_SAFE}",
}


def is_there(path: Path) -> bool:
    """Whether a file lies there that has something in it. Raises `DatabaseUnusable` when nobody can tell."""
    file = _found_at(path)
    return file is not None and stat.S_ISREG(file.st_mode) and file.st_size > 0


def _found_at(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DatabaseUnusable(f"{path}: the database cannot be opened: {error.strerror}") from error


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """A connection to the database. Raises `DatabaseUnusable` when there is none to be had at `path`.

    A reader never waits for the run, and the run never for it (WAL); it does not create the file.
    """
    if not write and not is_there(path):
        raise DatabaseUnusable(f"{path}: {_NOTHING}")
    if write:
        _create(path)
    with translated(path):
        connection = _opened(path, "mode=rw") if write else _opened_to_read(path)
        try:
            _check_whose(connection, path, write)
        except BaseException:
            connection.close()
            raise
    return connection


def _check_whose(connection: sqlite3.Connection, path: Path, write: bool) -> None:
    """Raises `DatabaseUnusable` for a database that is not ours, is newer than this program, or too old to be read."""
    identity = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not write and not tables and identity == 0:
        raise DatabaseUnusable(f"{path}: {_NOTHING}")
    if identity != APPLICATION_ID and (tables or not write):
        raise DatabaseUnusable(f"{path}: this database was not made by summarize-batch; give another --db")
    (version,) = connection.execute(queries.VERSION).fetchone()
    if version > schema_version():
        raise DatabaseUnusable(f"{path}: made by a newer version; upgrade summarize-batch")
    if not write and version < schema_version():
        raise DatabaseUnusable(f"{path}: made by an older version; the next run brings it up to date")


def _opened(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    return connection


def _opened_to_read(path: Path) -> sqlite3.Connection:
    """Reads, changes nothing, and leaves no file behind where that can be.

    SQLite makes two files beside a database in WAL mode also for a reader, and only a connection that may write
    takes them away in the end (seen with 3.40). But that one would also write into the database what a killed run
    has left in them, so it is for databases only that were closed well. Where no file can be made and none is
    there, nobody writes either: `immutable` reads without them.
    """
    wal = path.resolve()
    wal = wal.with_name(wal.name + "-wal")
    left = wal.is_file() and wal.stat().st_size > 0
    connection = _opened(path, "mode=ro" if left else "mode=rw")
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.DatabaseError as error:
        connection.close()
        if wal.exists() or error.sqlite_errorname not in ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY"):
            raise
        connection = _opened(path, "immutable=1")
    return connection


def _create(path: Path) -> None:
    """Makes the file if it is not there, readable by its owner alone: URLs may hold secrets."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise DatabaseUnusable(f"{path}: the database cannot be opened: {error.strerror}") from error


@contextmanager
def lock(path: Path, wait: timedelta = timedelta(0), note: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Holds the database for one run, by `flock` on a file beside it; the file is never deleted.

    On Linux the database itself is held too, so that who takes the file away lets nobody in; elsewhere SQLite's own
    locks would get in the way of that. The lock ends with the process, however it ends. Raises `LockHeld` when
    another run still has it after `wait`.
    """
    file = _found_at(path)
    if file and not stat.S_ISREG(file.st_mode):
        raise DatabaseUnusable(f"{path}: this is no file; give another --db")
    until = monotonic() + max(wait.total_seconds(), LOCK_SECONDS)
    handles: list[int] = []
    try:
        while not handles:
            try:
                handles += _locked(path)
            except LockHeld as held:
                if monotonic() >= until:
                    raise
                if wait:
                    note(f"{held}: waiting for its end")
                    note = _unheard
                sleep(min(LOCK_SECONDS, max(0.0, until - monotonic())))
        yield
    finally:
        for handle in handles:
            os.close(handle)


def _unheard(text: str) -> None:
    """Where a note goes that was told already."""


def is_held(path: Path) -> bool:
    """Whether a run works on the database now. It looks by holding the lock itself, for a moment."""
    _found_at(path)
    for place in _places(path):
        try:
            handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe has nobody who writes
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DatabaseUnusable(f"{place}: the lock cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
    return False


def _places(path: Path) -> list[Path]:
    """What is locked: by whatever name a database is called, the same."""
    path = path.resolve()
    beside = path.with_name(path.name + ".lock")
    return [beside, path] if sys.platform == "linux" else [beside]


def _locked(path: Path) -> list[int]:
    beside, *database = _places(path)
    handles = [_flocked(beside, path)]
    try:
        if database:
            _create(path)
            handles.append(_flocked(path, path))
        _sign(handles[0], beside)
    except BaseException:
        for handle in handles:
            os.close(handle)
        raise
    return handles


def _sign(handle: int, place: Path) -> None:
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} since {iso(now())}\n".encode(), 0)
    except OSError as error:
        raise DatabaseUnusable(f"{place}: the lock cannot be written: {error.strerror}") from error


def _signed_at(signature: str) -> datetime | None:
    try:
        return datetime.fromisoformat(signature.rsplit(maxsplit=1)[-1])
    except (IndexError, ValueError):
        return None


def _is_at(file: os.stat_result, place: Path) -> bool:
    try:
        return os.path.samestat(file, place.stat())
    except FileNotFoundError:
        return False


def _flocked(place: Path, path: Path) -> int:
    """The file, open and locked, and still the one that lies there: it may be taken away in between."""
    # It is written over: a link, which anybody can make where anybody can make files, would lead that elsewhere.
    how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (0 if place == path.resolve() else os.O_NOFOLLOW)
    while True:
        try:
            handle = os.open(place, how, 0o600)
        except FileNotFoundError as error:
            raise DatabaseUnusable(
                f"{path}: there is no folder {place.parent}; make it, or give another --db"
            ) from error
        except OSError as error:
            raise DatabaseUnusable(f"{place}: the lock cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(os.fstat(handle), place):
                return handle
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode("utf-8", "replace") if place != path else "its lock file is gone"
            os.close(handle)
            said = f"another run works on {path} ({holder.strip() or 'just started'})"
            raise LockHeld(said, _signed_at(holder)) from None
        os.close(handle)


class Store:
    """The writer's side of the database. Made by `Store.open`, used by one thread at a time."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        on_commit: Callable[[str], None] = lambda point: None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        # The folder in which the program was started may go before the program does.
        self.path = path.resolve()
        self._file = path.stat()
        self._now = clock
        self.run_id = 0
        self._goes_on_from = 0
        """The first of the killed runs that this one goes on with; this one itself, if there are none."""
        self._before_first_item = 0
        self._first_host = ""
        self._connection = connection
        self._on_commit = on_commit

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        on_commit: Callable[[str], None] = lambda point: None,
        note: Callable[[str], None] = lambda text: None,
        clock: Callable[[], datetime] = now,
    ) -> Iterator[Self]:
        """Opens the database for writing, makes it if it is not there, and brings it to the present schema.

        One of an older schema is copied before; that one and one whose last run ended badly are looked through.
        `note` is told what its owner may want to know.
        """
        connection = connect(path, write=True)
        try:
            store = cls(connection, path, on_commit, clock)
            with translated(path):
                store._bring_up_to_date(note)
            yield store
            with translated(path):
                left = upkeep.empty_log(connection, store.path)
            if left > upkeep.TOLD_LOG_BYTES:
                note(f"{path}-wal has {left / 1e6:,.0f} MB, and keeps them until a program has ended that reads {path}")
        finally:
            connection.close()

    def _bring_up_to_date(self, note: Callable[[str], None]) -> None:
        database = Database(self._connection, execute_plugins=False)
        applied = {step.name for step in migrations.applied(database)}
        known = {step.name for step in migrations._migrations}
        if applied - known:
            raise DatabaseUnusable(f"{self.path}: made by a newer version; upgrade summarize-batch")
        is_older = bool(applied) and applied != known
        if is_older or (applied and upkeep.ended_badly(self._connection)):
            upkeep.look_through(self._connection, self.path)
        upkeep.set_up(self._connection)
        copy = upkeep.back_up(self._connection, self.path) if is_older else None
        try:
            self._migrate(database)
        except BaseException:
            # It is as it was: the next run makes another copy, and so each night.
            if copy:
                copy.unlink()
            raise
        if copy:
            upkeep.take_old_copies_away(self.path, copy)
            note(f"{self.path} is brought up to date; as it was before it is kept in {copy}")

    def _migrate(self, database: Database) -> None:
        """Takes all steps that are missing, in one transaction: afterwards it is old, or new, and never between."""
        with self.transaction("migrate"):
            migrations.apply(database)
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {schema_version()}")

    @contextmanager
    def transaction(self, point: str) -> Iterator[sqlite3.Connection]:
        """One transaction; `on_commit` is told `point` when it is on the disk."""
        with translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        self._check_place()
        self._on_commit(point)

    def _check_place(self) -> None:
        """Raises `DatabaseUnusable` when another file lies at the path, or none.

        SQLite does not notice, and a night would work for nothing: what it writes goes with it (seen with 3.40).
        """
        if not _is_at(self._file, self.path):
            raise DatabaseUnusable(f"{self.path}: the database was taken away while it was written to, or replaced")

    # Runs

    def begin_run(self, source: str, model: str, settings: dict[str, object]) -> None:
        """Starts a run; one that still stands as running was killed, for we hold the lock."""
        with self.transaction("begin_run") as db:
            db.execute(
                "UPDATE runs SET state = 'interrupted', ended_at = coalesce(ended_at, ?) WHERE state = 'running'",
                [iso(self._now())],
            )
            told = storable(json.dumps(settings, default=_plain, ensure_ascii=False))
            source = storable(source)
            self.run_id = db.execute(queries.BEGIN_RUN, [iso(self._now()), source, model, told]).lastrowid or 0
            errand = {"run_id": self.run_id, "source": source, "settings": told}
            (self._goes_on_from,) = db.execute(queries.KILLED_BEFORE, errand).fetchone()
            (self._before_first_item,) = db.execute(queries.LAST_ITEM).fetchone()

    def end_run(self, state: str, exit_code: int, waiting: str | None) -> None:
        """Ends the run; `waiting` is the reason of the items that it did not come to."""
        self._of_all_items("end_items", [queries.END_ITEMS], {"reason": waiting})
        with self.transaction("end_run") as db:
            counts = dict(tuple(row) for row in db.execute(queries.COUNT_ITEMS, [self.run_id]))
            db.execute(queries.END_RUN, [state, exit_code, iso(self._now()), json.dumps(counts), self.run_id])

    def secret(self) -> bytes:
        """The key of the boundaries around page texts; made with the database, never told."""
        return bytes.fromhex(self._one("SELECT value FROM meta WHERE name = 'secret'")[0])

    def add_recipe(self, recipe: Recipe) -> None:
        """Keeps the recipe of this run."""
        options, prompts = (json.dumps(value, ensure_ascii=False) for value in (recipe.options, recipe.prompts))
        row = [recipe.hash, recipe.model, recipe.digest, recipe.num_ctx, options, prompts]
        with self.transaction("recipe") as db:
            db.execute("INSERT OR IGNORE INTO recipes VALUES (?, ?, ?, ?, ?, ?)", row)

    # Events

    def apply(self, event: Event) -> None:
        """Writes one event, in one transaction."""
        with self.transaction(type(event).__name__) as db:
            self._write(event, db)

    @singledispatchmethod
    def _write(self, event: Any, db: sqlite3.Connection) -> None:
        raise NotImplementedError(type(event).__name__)

    @_write.register
    def _(self, event: Added, db: sqlite3.Connection) -> None:
        time = iso(self._now())
        for line in event.lines:
            outcome = line.reason.meaning.outcome if line.reason else Outcome.WAITING
            state = STATE_AFTER.get(outcome, State.QUEUED)
            reason = line.reason.value if line.reason else None
            db.execute(queries.ADD_PAGE, [line.url, line.key, line.host, state.value, reason, line.detail, time])
            page_id = db.execute("SELECT id FROM pages WHERE key = ?", [line.key]).fetchone()[0]
            place = [storable(line.source or line.origin), storable(line.origin)]
            db.execute(queries.ADD_SOURCE, [page_id, *place, json.dumps(line.tags)])
            if line.reason:
                db.execute(queries.ADD_BAD_ITEM, [self.run_id, page_id, outcome.value, reason, time, time])
            else:
                row = {"run_id": self.run_id, "page_id": page_id, "host": line.host}
                db.execute(queries.ADD_ITEM, row)

    @_write.register
    def _(self, event: Chosen, db: sqlite3.Connection) -> None:
        same = {"run_id": self.run_id, "fetched": event.fetched}
        db.executemany(queries.ADD_CHOSEN_ITEM, [same | {"page_id": page_id} for page_id in event.page_ids])

    @_write.register
    def _(self, event: Fetched, db: sqlite3.Connection) -> None:
        document, page = event.document, event.page
        db.execute("INSERT OR IGNORE INTO texts VALUES (?, ?, ?)", [document.hash, document.text, len(document.text)])
        row = (
            asdict(page)
            | asdict(document)
            | {
                "page_id": event.task.page_id,
                "text_hash": document.hash,
                "time": iso(event.ended_at),
                "marks": json.dumps(document.marks),
            }
        )
        db.execute(queries.PAGE_FETCHED, {name: row[name] for name in queries.PAGE_FETCHED_VALUES})
        db.execute("DELETE FROM redirects WHERE page_id = ?", [event.task.page_id])
        db.executemany(
            "INSERT INTO redirects VALUES (?, ?, ?)",
            [(event.task.page_id, number, url) for number, url in enumerate(page.redirects)],
        )
        self._attempt(db, event, Stage.FETCH, "ok")

    @_write.register
    def _(self, event: Unchanged, db: sqlite3.Connection) -> None:
        page, task, document = event.page, event.task, event.document
        row = {
            "page_id": task.page_id,
            "summarized": task.summarized,
            "etag": page.etag if page else None,
            "last_modified": page.last_modified if page else None,
            "hidden_characters": document.hidden_characters if document else None,
            "canonical": document.canonical if document else None,
            "marks": json.dumps(document.marks) if document else None,
            "time": iso(event.ended_at),
        }
        db.execute(queries.PAGE_UNCHANGED, row)
        self._attempt(db, event, Stage.FETCH, event.reason.value)
        self._end_item(db, event, Outcome.UNCHANGED, event.reason.value)

    @_write.register
    def _(self, event: Chunked, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM chunks WHERE text_hash = ?", [event.text_hash])
        db.executemany(
            "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
            [(event.text_hash, part.number, part.start, part.end, part.tokens, part.hash) for part in event.chunks],
        )

    @_write.register
    def _(self, event: ChunkSummarized, db: sqlite3.Connection) -> None:
        row = {"hash": event.chunk_hash, "recipe": event.recipe, **asdict(event.partial)}
        db.execute(queries.ADD_CHUNK_SUMMARY, row)
        self._attempt(db, event, Stage.MAP, "ok")

    @_write.register
    def _(self, event: PartsReduced, db: sqlite3.Connection) -> None:
        row = {"hash": event.input_hash, "recipe": event.recipe, **asdict(event.partial)}
        db.execute(queries.ADD_REDUCE_SUMMARY, row)
        self._attempt(db, event, Stage.REDUCE, "ok")

    @_write.register
    def _(self, event: Summarized, db: sqlite3.Connection) -> None:
        final = event.final
        row = {
            **asdict(final),
            "page_id": event.task.page_id,
            "text_hash": event.text_hash,
            "recipe": event.recipe,
            "key_points": json.dumps(final.key_points, ensure_ascii=False),
            "flags": json.dumps(final.flags, ensure_ascii=False),
            "language": event.language,
            "method": event.method,
            "coverage": event.coverage,
            "chunks": event.chunks,
            "created_at": iso(event.ended_at),
        }
        summary_id = db.execute(queries.ADD_SUMMARY, row).lastrowid
        covered = [(summary_id, number, chunk_hash) for number, chunk_hash in enumerate(event.parts)]
        db.executemany(queries.ADD_SUMMARY_CHUNK, covered)
        left_out = [(reason, summary_id, number) for number, reason in event.left_out.items()]
        db.executemany(queries.LEAVE_OUT, left_out)
        carried = [(summary_id, *asdict(each).values()) for each in event.evidence]
        db.executemany("INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?)", carried)
        if event.method == "single":
            answer = {name: row[name] for name in queries.SINGLE_ANSWER_VALUES}
            db.executemany(queries.ADD_SINGLE_ANSWER, [{"hash": part, **answer} for part in event.parts])
        db.execute(queries.PAGE_SUMMARIZED, [event.task.page_id])
        if event.method != "verbatim":
            self._attempt(db, event, Stage.REDUCE if event.chunks > 1 else Stage.MAP, "ok")
        self._end_item(db, event, Outcome.SUMMARIZED, None)

    @_write.register
    def _(self, event: NotDone, db: sqlite3.Connection) -> None:
        refusal = event.refusal
        (failures,) = db.execute("SELECT failures FROM pages WHERE id = ?", [event.task.page_id]).fetchone()
        tried = event.stage is not None
        failures += tried and refusal.reason.meaning.counts
        stands = _refused(refusal, failures, event.ended_at) if tried else refusal
        outcome = stands.reason.meaning.outcome
        state = STATE_AFTER.get(outcome)
        row = {
            "page_id": event.task.page_id,
            "state": state.value if state else None,
            "reason": stands.reason.value,
            "detail": stands.detail[:500],
            "http_status": stands.status,
            "not_before": iso(stands.not_before) if stands.not_before else None,
            "failures": failures,
            "marks": None if event.marks is None else json.dumps(event.marks),
            "by_model": event.stage in (Stage.MAP, Stage.REDUCE),
        }
        db.execute(queries.PAGE_NOT_DONE, row)
        if event.stage and outcome is not Outcome.UNCHANGED:
            self._attempt(db, event, event.stage, refusal.reason.value, refusal.detail[:500])
        self._end_item(db, event, outcome, stands.reason.value)

    @_write.register
    def _(self, event: Paused, db: sqlite3.Connection) -> None:
        self._attempt(db, event, Stage.FETCH, event.refusal.reason.value, event.refusal.detail[:500])

    @_write.register
    def _(self, event: HostSeen, db: sqlite3.Connection) -> None:
        robots = event.robots
        row = {
            **asdict(event),
            "robots": robots.text if robots else None,
            "robots_status": robots.status if robots else None,
            "robots_at": iso(robots.fetched_at) if robots else None,
            "not_before": iso(event.not_before) if event.not_before else None,
            "reason": event.reason.value if event.reason else None,
            "seen_at": iso(event.seen_at),
        }
        db.execute(queries.HOST_SEEN, row)

    @_write.register
    def _(self, event: Measured, db: sqlite3.Connection) -> None:
        rows = [(event.model, kind, prompts, highest) for kind, (prompts, highest) in event.ratios.items()]
        db.executemany(queries.ADD_RATIO, rows)

    def _attempt(self, db: sqlite3.Connection, event: Any, stage: Stage, code: str, detail: str = "") -> None:
        times = [iso(event.started_at), iso(event.ended_at)]
        db.execute(queries.ADD_ATTEMPT, [self.run_id, event.task.page_id, stage.value, code, detail, *times])

    def _end_item(self, db: sqlite3.Connection, event: Any, outcome: Outcome, reason: str | None) -> None:
        times = [iso(event.started_at), iso(event.ended_at)]
        db.execute(queries.END_ITEM, [outcome.value, reason, *times, self.run_id, event.task.page_id])

    # Back into tasks and answers

    def settle(
        self,
        max_age: timedelta,
        force: bool,
        *,
        done: Reason = Reason.FRESH,
        texts_only: bool = False,
        after: int = 0,
    ) -> None:
        """Ends those items of this run, `after` one of them, that need no work: fresh pages, and those not to be asked.

        Pages at which a run ended by a bug are set aside, until `wake`.

        With `texts_only` a fresh text is enough, though it has no summary.

        If this run goes on with one that was killed, what failed in that one has had its turn for tonight: it would
        count as failed once a kill, and be given up in one bad night. With `force` no page is passed over but those
        that the killed run had done, which end as unchanged for the reason `done`.

        What lies in the future was written while the clock was wrong, and puts no page off.
        """
        time = self._now()
        if self._goes_on_from < self.run_id:
            killed = {"first": self._goes_on_from, "since": iso(time - max_age), "time": iso(time)}
            killed |= {"force": force, "done": done.value}
            self._of_all_items("settle", [queries.TAKE_OVER], killed, after)
        values = {
            "time": iso(time),
            "fresh": iso(time - max_age),
            "latest": iso(time + LONGEST),
            "texts_only": texts_only,
        }
        changes = [] if force else [queries.SETTLE_FRESH, queries.SETTLE_NOT_DUE]
        self._of_all_items("settle", [*changes, queries.SET_ASIDE], values, after)

    def _of_all_items(self, point: str, changes: Sequence[str], values: Mapping[str, object], after: int = 0) -> None:
        """Makes these changes to all items of this run, or those `after` one, a range of them a transaction."""
        after, last = max(after, self._before_first_item), self.last_item()
        while after < last:
            until = min(after + ITEMS_A_TRANSACTION, last)
            row = {"run_id": self.run_id, "after": after, "last": until, **values}
            with self.transaction(point) as db:
                for change in changes:
                    db.execute(change, {name: row[name] for name in row if f":{name}" in change})
            after = until

    def waits_for(self, reason: Reason) -> bool:
        """Whether items of this run wait, with `llm_down` for the model, with `bug` for the end of all others."""
        return bool(self._one(queries.WAITING, [self.run_id, reason.value])[0])

    def wake(self, reason: Reason) -> None:
        """The items that wait for this reason are to be done."""
        with self.transaction("wake") as db:
            db.execute(queries.WAKE, [self.run_id, reason.value])

    def counts(self) -> dict[str, int]:
        """How many items of this run have which outcome."""
        return {row[0]: row[1] for row in self._rows(queries.COUNT_ITEMS, [self.run_id])}

    def fault_counts(self) -> dict[tuple[Outcome, Reason], int]:
        """How many items of this run have which reason, other than that nothing was to be done, or not yet again."""
        rows = self._rows(queries.FAULT_COUNTS, [self.run_id])
        return {(Outcome(outcome), Reason(reason)): count for outcome, reason, count in rows}

    def faults(self, reasons: Iterable[Reason], most: int) -> list[sqlite3.Row]:
        """The first items of this run that have one of these reasons, in their order."""
        values = {
            "after": self._before_first_item,
            "run_id": self.run_id,
            "reasons": json.dumps([reason.value for reason in reasons]),
            "most": most,
        }
        return self._rows(queries.FAULTS, values)

    def to_do(self) -> int:
        """How many items of this run are waiting to be worked on."""
        return int(self._one(queries.TO_DO, [self.run_id])[0])

    def hosts_after(self, host: str, most: int) -> list[str]:
        """The next hosts that have something to do in this run, after `host` or, if that is empty, from the first on.

        The first is the host of a page that has waited longest; from there it goes on in order, and around.
        """
        if not host:
            row = self._maybe(queries.LONGEST_WAITING_HOST, [self.run_id])
            self._first_host = row[0] if row else ""
        first, found = self._first_host, []
        if host < first and host:
            return self._hosts_between(host, first, most)
        if not host and first:
            found = [first]
        found += self._hosts_between(host or first, LAST_HOST, most - len(found))
        return [*found, *self._hosts_between("", first, most - len(found))]

    def _hosts_between(self, after: str, before: str, most: int) -> list[str]:
        return [row[0] for row in self._rows(queries.HOSTS_BETWEEN, [self.run_id, after, before, most])]

    def tasks_after(self, host: str, position: int, most: int, *, from_text: bool = False) -> list[tuple[int, Task]]:
        """The next tasks of a host, each with its position; what has waited longest comes first.

        With `from_text` the stored text is to be summarized, though it may have a summary.
        """
        values = {"run_id": self.run_id, "host": host, "position": position, "most": most}
        rows = self._rows(queries.TASKS_AFTER, values)
        return [(row["item_id"], _task(row, from_text)) for row in rows]

    def chunks(self, text_hash: str) -> list[Chunk]:
        """How a stored text was cut; empty when it was not, or is not stored."""
        row = self._maybe("SELECT text FROM texts WHERE hash = ?", [text_hash])
        parts = self._rows("SELECT * FROM chunks WHERE text_hash = ? ORDER BY number", [text_hash])
        return [
            Chunk(part["number"], part["start"], part["end"], row[0][part["start"] : part["end"]], part["tokens"])
            for part in parts
            if row
        ]

    def recall_map(self, chunk_hash: str, recipe: str) -> Partial | None:
        """The map answer for a chunk, if it was ever given."""
        return _partial(self._maybe(queries.RECALL_MAP, [chunk_hash, recipe]))

    def recall_reduce(self, input_hash: str, recipe: str) -> Partial | None:
        """The answer of a partial reduce, if it was ever given."""
        return _partial(self._maybe(queries.RECALL_REDUCE, [input_hash, recipe]))

    def recall_final(self, text_hash: str, recipe: str) -> Final | None:
        """The summary of a text, if any page has one by this recipe."""
        row = self._maybe(queries.RECALL_FINAL, [text_hash, recipe])
        if row is None:
            return None
        return Final(row["summary"], tuple(json.loads(row["key_points"])), tuple(json.loads(row["flags"])))

    def host(self, host: str) -> list[HostSeen]:
        """What was last known of a host, by each scheme that it was asked by."""
        return [_host_seen(row) for row in self._rows(queries.HOST, [host])]

    def ratios(self, model: str) -> dict[str, tuple[int, float]]:
        """What is known of a model's vocabulary: kind of script → (prompts seen, most tokens per unit)."""
        return {row["kind"]: (row["prompts"], row["highest"]) for row in self._rows(queries.RATIOS, [model])}

    def failures_to_call(self, recipe: str, most: int) -> int:
        """How many of the last answers in a row, `most` at the most, were given without a right call."""
        rows = self._rows(queries.LAST_CALLS, [recipe, most])
        return next((number for number, row in enumerate(rows) if not row["primed"]), len(rows))

    def other_recipes(self, recipes: Sequence[str]) -> int:
        """How many pages of this run stand summarized by other recipes than these only."""
        return int(self._one(queries.OTHER_RECIPES, [self.run_id, json.dumps(recipes)])[0])

    def result(self, page_id: int) -> sqlite3.Row:
        """One page as it stands, and what this run did with it: the `--json` line of a run."""
        return self._one(queries.RESULT, [self.run_id, page_id])

    def last_item(self) -> int:
        """The highest id of an item, which is one of this run if it has any; 0 if there is none at all."""
        return int(self._one(queries.LAST_ITEM)[0])

    def settled_after(self, item_id: int, most: int) -> list[tuple[int, sqlite3.Row]]:
        """The next items of this run that are ended, each with its page as it stands."""
        after = max(item_id, self._before_first_item)
        rows = self._rows(queries.SETTLED_AFTER, [after, self.run_id, most])
        return [(row["id"], self.result(row["page_id"])) for row in rows]

    def _rows(self, query: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[sqlite3.Row]:
        with translated(self.path):
            return self._connection.execute(query, values).fetchall()

    def _maybe(self, query: str, values: Sequence[object] = ()) -> sqlite3.Row | None:
        return next(iter(self._rows(query, values)), None)

    def _one(self, query: str, values: Sequence[object] = ()) -> sqlite3.Row:
        return self._rows(query, values)[0]


def _plain(value: object) -> object:
    """What JSON has no form for, in one that is the same in every process."""
    # A proxy says itself how it may be told: without its password.
    if is_dataclass(value) and not isinstance(value, Proxy):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return sorted(value) if isinstance(value, frozenset) else str(value)


def _refused(refusal: Refusal, failures: int, time: datetime) -> Refusal:
    """How a page stands after a refusal that was the last of so many in a row: when it is asked for again, or never."""
    if not refusal.reason.meaning.counts:
        return refusal
    rest = pause(failures + refusal.reason.meaning.repeats)
    if rest is None:
        detail = f"{refusal.reason.value}: {refusal.detail or refusal.reason.meaning.what}"
        return replace(refusal, reason=Reason.GAVE_UP, detail=detail, not_before=None)
    if not rest:
        return refusal
    return replace(refusal, not_before=max(time + rest, refusal.not_before or time))


def _task(row: sqlite3.Row, from_text: bool) -> Task:
    document = None
    if row["text"] is not None and (from_text or not row["summarized"]):
        document = Document(
            row["text"],
            row["title"],
            row["author"],
            row["site"],
            row["language"],
            row["published"],
            marks=tuple(json.loads(row["marks"])),
        )
    return Task(
        page_id=row["page_id"],
        url=row["url"],
        host=row["host"],
        state=State.FETCHED if from_text else State(row["state"]),
        # Without a text here "not modified" would leave the page with nothing.
        etag=row["etag"] if row["text_hash"] else "",
        last_modified=row["last_modified"] if row["text_hash"] else "",
        text_hash=row["text_hash"] or "",
        summarized=bool(row["summarized"]) and not from_text,
        document=document,
        recipe=row["recipe"] or "",
        summarized_hash=row["summarized_hash"] or "",
        tags=frozenset(tag for tags in json.loads(row["tags"]) for tag in tags),
        found=bool(row["found"]),
    )


def _host_seen(row: sqlite3.Row) -> HostSeen:
    robots = None
    if row["robots"] is not None:
        robots = RobotsFile(row["robots"], row["robots_status"], datetime.fromisoformat(row["robots_at"]))
    return HostSeen(
        origin=row["origin"],
        host=row["host"],
        seen_at=datetime.fromisoformat(row["seen_at"]),
        robots=robots,
        not_before=datetime.fromisoformat(row["not_before"]) if row["not_before"] else None,
        pauses=row["pauses"],
        failures=row["failures"],
        reason=Reason(row["reason"]) if row["reason"] else None,
    )


def _partial(row: sqlite3.Row | None) -> Partial | None:
    return Partial(**dict(row)) if row else None

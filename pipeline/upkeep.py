"""An open database, looked through, copied before it is changed, its log emptied.

What SQLite raises here goes up as it is; `store` makes a sentence of it.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from pipeline import queries
from pipeline.errors import DatabaseUnusable

LOG_BYTES = 8 << 20
"""To so much the log (`-wal`) is cut back when it begins anew. SQLite writes it into the database after 4 MB."""
TOLD_LOG_BYTES = 64 << 20
"""A log that is still so large at the end of a run is told of."""


def set_up(connection: sqlite3.Connection) -> None:
    """What is not kept in the file, or has to be said again: how it is written, and how far the log may grow."""
    for pragma in (*queries.AS_A_WRITER, queries.LOG_LIMIT.format(LOG_BYTES)):
        connection.execute(pragma)


def look_through(connection: sqlite3.Connection, path: Path) -> None:
    """Reads the whole file (`quick_check`). Raises `DatabaseUnusable` for one that is damaged."""
    (said,) = connection.execute(queries.QUICK_CHECK).fetchone()
    if said != "ok":
        raise DatabaseUnusable(f"{path}: {damaged(path)}: {' '.join(said.split())}")


def damaged(path: Path) -> str:
    """What is told of a damaged database, and what can be done."""
    return f"the database is damaged: put a copy in its place, or save what can be read (sqlite3 {path.name} .recover)"


def ended_badly(connection: sqlite3.Connection) -> bool:
    """Whether the last run was killed, or lost the database: what it wrote last may not be on the disk."""
    last = connection.execute(queries.LAST_RUN).fetchone()
    return last is not None and (last["state"] == "running" or last["exit_code"] == DatabaseUnusable.exit_code)


def back_up(connection: sqlite3.Connection, path: Path) -> Path:
    """Copies the database as it is beside itself, for its owner alone. Gives the path of the copy, which is whole.

    A copy that is there already is left alone: it may be the last good one. Raises `DatabaseUnusable` when there is
    no room for it; nothing is left of it then.
    """
    path = path.resolve()
    (version,) = connection.execute(queries.VERSION).fetchone()
    names = (f"{path.name}.version-{version}{more}.backup" for more in chain([""], (f"-{n}" for n in count(2))))
    copy = next(place for place in map(path.with_name, names) if not place.exists())
    part = path.with_name(f"{path.name}.backup.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection.execute(queries.COPY, [str(part)])
        _on_the_disk(part)
        part.rename(copy)
        _on_the_disk(path.parent)
    except (OSError, sqlite3.OperationalError) as error:
        part.unlink(missing_ok=True)
        size = path.stat().st_size / 1e6
        raise DatabaseUnusable(
            f"{path}: before it is brought up to date it is copied, and the copy ({size:,.0f} MB) cannot be written "
            f"beside it: {error}; nothing was changed"
        ) from error
    return copy


def take_old_copies_away(path: Path, made: Path) -> None:
    """Of the copies that `back_up` has made of this database, leaves the one just `made` and the newest before it.

    Not the highest version: a copy may have been put back. A file with any other name, and a link, is somebody else's.
    """
    path = path.resolve()
    name = re.compile(re.escape(path.name) + r"\.version-(0|[1-9][0-9]*)(-([2-9]|[1-9][0-9]+))?\.backup")
    older = [place for place in path.parent.iterdir() if name.fullmatch(place.name) and place != made]
    files = [(place.lstat(), place) for place in older]
    before = sorted((file.st_mtime_ns, place) for file, place in files if stat.S_ISREG(file.st_mode))
    for _, place in before[:-1]:
        with suppress(OSError):  # the next time that the schema changes it is tried again
            place.unlink()


def _on_the_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def empty_log(connection: sqlite3.Connection, path: Path) -> int:
    """Writes the log into the database; gives the bytes that it still has, because another program reads just now.

    As long as somebody reads what was there at some time, SQLite keeps all that was written since, and the log grows.
    The end of a run does not wait for him.
    """
    connection.execute(queries.DO_NOT_WAIT)
    connection.execute(queries.EMPTY_LOG).fetchone()
    log = path.resolve()
    log = log.with_name(f"{log.name}-wal")
    return log.stat().st_size if log.exists() else 0

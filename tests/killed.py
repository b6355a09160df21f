"""The command, ended by SIGKILL at one of its own moments: `killed.py MOMENT ARGUMENT…`.

`killed.py forks SOCKET` starts nothing by itself, but forks: see there. MOMENT is `commit:POINT:N`, right after the Nth
commit of that name; `statement:N`, right before the Nth statement of the connection that writes. Two others end
nothing: `points:FILE` writes down the names of the commits, in order; with `synchronous:NORMAL` a commit does not wait
for the disk.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from forks import forked


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at_commit(point: str, number: int) -> Callable[[str], None]:
    seen = 0

    def committed(name: str) -> None:
        nonlocal seen
        seen += name == point
        if seen == number:
            _die()

    return committed


def _at_statement(number: int) -> Callable[[str], None]:
    seen = 0

    def begins(statement: str) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            _die()

    return begins


def _written_to(file: Path) -> Callable[[str], None]:
    def committed(name: str) -> None:
        with file.open("a") as points:
            points.write(f"{name}\n")

    return committed


def _traced(connect: Callable[..., Any], begins: Callable[[str], None]) -> Callable[..., Any]:
    """Connections that tell of each statement, if they may write."""

    def traced(path: Path, *, write: bool) -> Any:
        connection = connect(path, write=write)
        if write:
            connection.set_trace_callback(begins)
        return connection

    return traced


def _slackened(opened: Callable[..., Any], synchronous: str) -> Any:
    """A store with another `PRAGMA synchronous` than its own."""

    @contextmanager
    def slackened(path: Path, **options: Any) -> Iterator[Any]:
        with opened(path, **options) as store:
            store._connection.execute(f"PRAGMA synchronous = {synchronous}")
            yield store

    return slackened


def main() -> int:
    """The command's exit code, if it lives to have one."""
    if sys.argv[1] == "forks" and not forked(int(sys.argv[2])):
        return 0
    kind, _, which = sys.argv[1].partition(":")
    sys.argv[1:] = sys.argv[2:]
    from pipeline import cli, store

    opened = store.Store.open
    if kind == "statement":
        store.connect = _traced(store.connect, _at_statement(int(which)))
    elif kind == "synchronous":
        store.Store.open = _slackened(opened, which)  # type: ignore[method-assign]
    else:
        point, _, number = which.rpartition(":")
        told = _written_to(Path(which)) if kind == "points" else _at_commit(point, int(number))
        store.Store.open = partial(opened, on_commit=told)  # type: ignore[method-assign]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())

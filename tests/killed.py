"""The command, ended by SIGKILL at one of its own moments: `killed.py MOMENT ARGUMENT…`.

With `forks` for a moment it starts nothing by itself but forks, for each line of standard input, into a command that
is imported already: that saves half a second a start. MOMENT is `commit:POINT:N`, right after the Nth commit of that
name; `statement:N`, right before the Nth statement of the connection that writes. Two others end nothing: `points:FILE`
writes down the names of the commits, in order; with `synchronous:NORMAL` a commit does not wait for the disk.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any


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


def forked() -> bool:
    """For each line, `{"arguments": …, "out": …, "err": …, "env": …}`, a child; tells its pid, and how it ended.

    True in the child, whose arguments and streams are those of its line; false when there are no more lines.
    """
    from pipeline import cli, run, store  # noqa: F401 - for the children

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _become(json.loads(line))
            return True
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return False


def _become(given: dict[str, Any]) -> None:
    sys.argv[1:] = given["arguments"]
    os.environ.clear()
    os.environ.update(given["env"])
    for number, path in enumerate((os.devnull, given["out"], given["err"])):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(handle, number)
        os.close(handle)


def main() -> int:
    """The command's exit code, if it lives to have one."""
    if sys.argv[1] == "forks" and not forked():
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

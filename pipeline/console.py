"""Rows into lines for people and scripts: the one module that knows rich.

stdout is data, stderr is talk. On a terminal a run shows how far it is; elsewhere it says nothing until the end,
and with `-q` nothing at all unless something is wrong.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console as Terminal
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pipeline.records import Reason

MOST_LINES = 20
"""What a failed night mails at the most."""
_COLUMNS_OF_JSON = ("key_points", "flags")


class Console:
    """Where a run talks to: `verbosity` is −1 (quiet), 0, or 1 (a line a page)."""

    def __init__(self, verbosity: int = 0, as_json: bool = False, out: TextIO | None = None) -> None:
        self.verbosity = verbosity
        self._as_json = as_json
        self._out = out or sys.stdout
        self._terminal = Terminal(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None

    def say(self, text: str) -> None:
        """Something that a person may want to know; not with `-q`."""
        if self.verbosity >= 0:
            self._terminal.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Something that is wrong; always."""
        self._terminal.print(text, markup=False)

    def page(self, row: sqlite3.Row) -> None:
        """One page is done, and what was said of it is on the disk."""
        if self._as_json:
            self._data(json_line(row))
        if self.verbosity > 0:
            words = [str(row["state"]), str(row["url"])]
            if row["reason"]:
                words.append(f"({row['reason']})")
            self._terminal.print(" ".join(words), markup=False)
        if self._progress:
            self._progress.advance(self._progress.task_ids[0])

    @contextmanager
    def progress(self, total: int) -> Iterator[None]:
        """Shows how many of `total` pages are done, on a terminal only."""
        if not self._terminal.is_terminal or self.verbosity < 0:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._terminal, transient=True) as self._progress:
            self._progress.add_task("summarizing", total=total)
            yield
        self._progress = None

    def _data(self, line: str) -> None:
        try:
            print(line, file=self._out, flush=True)
        except (BrokenPipeError, OSError):
            # Whoever read us has gone (`| head`), or the disk behind stdout is full: the night goes on.
            self._as_json = False


def json_line(row: sqlite3.Row | Mapping[str, object]) -> str:
    """One row as one JSON object; lists that are stored as JSON are lists again."""
    values: dict[str, object] = dict(row)
    for name in _COLUMNS_OF_JSON:
        if isinstance(values.get(name), str):
            values[name] = json.loads(str(values[name]))
    return json.dumps(values, ensure_ascii=not _writes_unicode())


def _writes_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "") in ("utf8", "utf16")


def print_table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows as a table on stdout."""
    table = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Terminal(highlight=False, markup=False).print(table)


def print_marked(text: str, marks: Sequence[tuple[int, int]]) -> None:
    """A text on stdout, indented, with the marked ranges bold on a terminal, and in brackets elsewhere."""
    terminal = Terminal(highlight=False, markup=False)
    if terminal.is_terminal:
        line = Text(text)
        for start, end in marks:
            line.stylize("bold", start, end)
        terminal.print(Padding(line, (0, 0, 0, 2)))
    else:
        for start, end in reversed(marks):
            text = f"{text[:start]}[{text[start:end]}]{text[end:]}"
        print(f"  {text}")


def report(counts: Mapping[str, int], faults: Sequence[sqlite3.Row], db: str) -> list[str]:
    """The end of a run in at most `MOST_LINES` lines: counts, the first faults, where the rest is to be seen."""
    parts = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    lines = [f"{', '.join(parts) or 'nothing to do'}: {db}"]
    shown = faults[: MOST_LINES - 2]
    for fault in shown:
        reason = Reason(str(fault["reason"]))
        lines.append(f"  {fault['outcome']} {reason.value}: {fault['url']}: {fault['detail'] or reason.meaning.what}")
    if len(faults) > len(shown):
        lines.append(f"  and {len(faults) - len(shown)} more: summarize-batch list --db {db} --state failed")
    return lines

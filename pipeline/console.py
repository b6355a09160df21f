"""Rows into lines for people and scripts: the one module that knows rich.

stdout is data, stderr is talk. On a terminal a run shows how far it is; elsewhere it says nothing until the end,
and with `-q` nothing at all unless something is wrong. What comes from a page is shown without the characters that
a terminal obeys; and a night does not end because nobody can be told of it any more.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sqlite3
import sys
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from errno import EPIPE
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console as Terminal
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from pipeline.errors import UsageError
from pipeline.records import Outcome, Reason, State

MOST_LINES = 20
"""What a failed night mails at the most."""
FEWEST_LINES = 5
"""The counts, what resummarize is for, what was not asked, one fault, and where the rest is."""
NOT_ASKED = "not asked"
"""What is counted under this word failed in an earlier run, and was not to be asked yet, or ever again, in this one."""
MOST_CHARACTERS = 200
"""Of a URL or a detail in one line of talk."""
NARROWEST_TITLE = 24
WIDEST_TITLE = 40
"""In cells of a terminal, where title and URL share a line."""
_STYLES = {"summarized": "green", "failed": "red", "deferred": "yellow"}
_STYLES_OF_CHANGES = {"+": "green", "-": "red", "@": "cyan"}
_COLUMNS_OF_JSON = ("key_points", "flags")
_PARAMETER = re.compile(r"([?&;][^=&#\s]{1,100}=)[^&#\s]*[^&#\s:,]")
_SECRET = re.compile(
    r"token|secret|passw|pwd|signature|credential|session|jwt|api.?key|[^a-z](?:key|sig|auth|sid)=", re.IGNORECASE
)
"""In the name of a parameter of a query: its value lets somebody in."""
_JOINERS = "\u200c\u200d"
"""Without them Persian, Hindi and many emoji are misspelt; a terminal does nothing with them."""
_STATES_OF = {
    Outcome.FAILED: (State.FAILED,),
    Outcome.DEFERRED: (State.DEFERRED,),
    Outcome.SKIPPED: (State.SKIPPED,),
    Outcome.WAITING: (State.QUEUED, State.FETCHED),
}
"""Where a page stands that had this outcome."""


class ReaderGone(Exception):
    """Whoever read standard output has read enough (`| head`): nobody is left to write for."""


class _Stderr:
    """Standard error for rich; when its reader is gone, the terminal closed or the disk full, it goes to nowhere.

    rich ends the program when a pipe is broken, and raises when a terminal is gone, also out of the thread that moves
    the progress (seen with 15.0); a night is not for its reader alone.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def write(self, text: str) -> int:
        self._tried(lambda: sys.stderr.write(text))
        return len(text)

    def flush(self) -> None:
        self._tried(sys.stderr.flush)

    @staticmethod
    def _tried(what: Callable[[], object]) -> None:
        try:
            what()
        except (OSError, ValueError):
            _to_nowhere(sys.stderr)


class Console:
    """Where a run talks to: `verbosity` is −1 (quiet), 0, or 1 (a line a page)."""

    def __init__(self, verbosity: int = 0, as_json: bool = False) -> None:
        self.verbosity = verbosity
        self.as_json = as_json
        on_terminal = sys.stderr.isatty()
        # FORCE_COLOR would have rich take a file for a terminal.
        self._terminal = Terminal(
            file=cast(TextIO, _Stderr()),
            force_terminal=on_terminal,
            emoji=False,
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        self._progress: Progress | None = None
        self._warnings = 0

    # Talk

    @property
    def lines_left(self) -> int:
        """How many the end of a run may have, so that a night which is not well mails no more than `MOST_LINES`."""
        return MOST_LINES if self.verbosity >= 0 else max(FEWEST_LINES, MOST_LINES - self._warnings)

    def say(self, text: str) -> None:
        """Something that a person may want to know; not with `-q`."""
        if self.verbosity >= 0:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Something that is wrong; always."""
        self._warnings += 1
        self._terminal.print(printable(without_secrets(text)))

    @property
    def tells_pages(self) -> bool:
        """Whether anything is said of a page that is done."""
        return self.as_json or self.verbosity > 0

    def page(self, row: sqlite3.Row) -> None:
        """One page is done, and what was said of it is on the disk."""
        if self.as_json:
            try:
                data(json_line(row))
                flush()
            except ReaderGone:
                self.as_json = False
            except UsageError as lost:
                self.as_json = False
                self.warn(f"{lost}; the run goes on")
        if self.verbosity > 0:
            reason = f" ({row['reason']})" if row["reason"] else ""
            self.warn(f"{row['outcome']} {shortened(row['url'])}{reason}")
        if self._progress:
            self._progress.advance(self._progress.task_ids[0])

    @contextmanager
    def progress(self, doing: str, total: int) -> Iterator[None]:
        """Shows how many of `total` pages are done, on a terminal only."""
        if not self._terminal.is_terminal or self.verbosity < 0 or (self.as_json and sys.stdout.isatty()):
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        # rich would take standard output for its own (seen with 15.0), and data would go where talk goes.
        with Progress(
            *columns, console=self._terminal, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as self._progress:
            self._progress.add_task(doing, total=total)
            yield
        self._progress = None


def report(
    counts: Mapping[str, int],
    fault_counts: Mapping[tuple[Outcome, Reason], int],
    faults: Callable[[Sequence[Reason], int], Sequence[sqlite3.Row]],
    db: str,
    path: Path,
    other_recipes: int = 0,
    most_lines: int = MOST_LINES,
) -> list[str]:
    """The end of a run in at most `most_lines` lines: counts, the first faults, where the rest is to be seen.

    Pages that failed in earlier runs and were not to be asked in this one are counted and are no fault of this one.
    What is wrong comes before what was passed over on purpose. `faults` gives the first that have one of some reasons.
    `db` is how the database was named, `path` where it lies, for a command that works from every folder.
    """
    parts = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    lines = [f"{', '.join(parts) or 'nothing to do'}: {db}"]
    whole = shlex.quote(str(path))
    if other_recipes:
        lines.append(
            f"  {other_recipes} with a summary by another model, prompt or option: "
            f"summarize-batch resummarize --all --db {whole} makes others"
        )
    if NOT_ASKED in counts:
        lines.append(
            f"  {counts[NOT_ASKED]} not asked, as they failed before: "
            f"summarize-batch failures --db {whole} says when they will be"
        )
    total = sum(fault_counts.values())
    room = most_lines - len(lines)
    most = room if total <= room else room - 1
    told: list[sqlite3.Row] = []
    for on_purpose in (False, True):
        reasons = sorted({reason for _, reason in fault_counts if (reason.meaning.exit_code == 0) == on_purpose})
        told += faults(reasons, most - len(told)) if reasons else []
    lines += map(_fault_line, told)
    if rest := total - len(told):
        left = Counter(fault_counts) - Counter((Outcome(row["outcome"]), Reason(row["reason"])) for row in told)
        outcomes = {outcome for outcome, _ in left}
        states = [
            f"--state {state.value}" for outcome in Outcome if outcome in outcomes for state in _STATES_OF[outcome]
        ]
        lines.append(f"  and {rest} more: summarize-batch list --db {whole} {' '.join(states)}")
    return lines


def _fault_line(fault: sqlite3.Row) -> str:
    reason = Reason(str(fault["reason"]))
    told = fault["detail"] or reason.meaning.what
    return f"  {fault['outcome']} {reason.value}: {shortened(fault['url'])}: {shortened(told)}"


# Data


def data(line: str) -> None:
    """One line on standard output. Raises `ReaderGone`, or `UsageError` when it cannot be written."""
    with _written():
        print(line)


def flush() -> None:
    """What was written to standard output is with its reader. Raises as `data` does."""
    with _written():
        sys.stdout.flush()


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _to_nowhere(sys.stdout)
        if error.errno == EPIPE:
            raise ReaderGone from error
        raise UsageError(f"standard output cannot be written: {error.strerror}") from error


def json_line(row: sqlite3.Row | Mapping[str, object]) -> str:
    """One row as one JSON object; lists that are stored as JSON are lists again."""
    values: dict[str, object] = dict(row)
    for name in _COLUMNS_OF_JSON:
        if isinstance(values.get(name), str):
            values[name] = json.loads(str(values[name]))
    return json_text(values)


def json_text(values: Mapping[str, object]) -> str:
    """A JSON object in one line; what no terminal should see is escaped, so that nothing is lost."""
    unicode = sys.stdout.encoding.lower().replace("-", "") in ("utf8", "utf16")
    text = json.dumps(values, ensure_ascii=not unicode)
    if text.isprintable():
        return text
    return "".join(char if _harmless(char) else json.dumps(char)[1:-1].replace("\x7f", "\\u007f") for char in text)


def listing(rows: Iterable[sqlite3.Row]) -> None:
    """State, reason, title and URL of pages: in columns on a terminal, else a line a page with tabs between them.

    The URL is never cut, it is what `show` wants next: where the terminal is too narrow, it stands under the title.
    Raises as `data` does.
    """
    if not sys.stdout.isatty():
        for row in rows:
            data("\t".join(_cell(row[name]) for name in ("state", "reason", "url", "title")))
        return
    cells = [[_cell(row[name]) for name in ("state", "reason", "title", "url")] for row in rows]
    terminal = Terminal(emoji=False, markup=False, highlight=False, soft_wrap=True)
    state_width, reason_width, title_width, url_width = (
        max((cell_len(row[column]) for row in cells), default=0) for column in range(4)
    )
    indent = state_width + reason_width + 4
    room = min(title_width, terminal.width - indent - url_width - 2, WIDEST_TITLE)
    under = room < min(title_width, NARROWEST_TITLE)
    for state, reason, title, url in cells:
        if not under:
            page = f"{_fitted(title, room)}  {url}"
        elif title:
            page = f"{_fitted(title, max(terminal.width - indent, NARROWEST_TITLE)).rstrip()}\n{' ' * indent}{url}"
        else:
            page = url
        line = f"  {_fitted(reason, reason_width)}  {page}"
        terminal.print(Text.assemble((_fitted(state, state_width), _STYLES.get(state, "")), line))


def difference(lines: Iterable[str], as_json: bool) -> None:
    """What changed, in the form of `diff -u`; in colour on a terminal. Raises as `data` does."""
    if as_json:
        data(json_text({"diff": list(lines)}))
    elif sys.stdout.isatty():
        terminal = Terminal(emoji=False, markup=False, highlight=False, soft_wrap=True)
        for line in lines:
            terminal.print(Text(printable(line), _STYLES_OF_CHANGES.get(line[:1], "")))
    else:
        for line in lines:
            data(printable(line))


def marked(text: str, marks: Sequence[tuple[int, int]]) -> None:
    """An indented text with the marked ranges bold on a terminal, in brackets elsewhere. Raises as `data` does."""
    terminal = Terminal(emoji=False, markup=False, highlight=False)
    if not terminal.is_terminal:
        for start, end in reversed(marks):
            text = f"{text[:start]}[{text[start:end]}]{text[end:]}"
        data(f"  {printable(text)}")
        return
    parts: list[str | tuple[str, str]] = []
    last = 0
    for start, end in marks:
        parts += [printable(text[last:start]), (printable(text[start:end]), "bold")]
        last = end
    with _written():
        terminal.print(Padding(Text.assemble(*parts, printable(text[last:])), (0, 0, 0, 2)))


def _cell(value: object) -> str:
    return printable(" ".join(str(value or "").split()))


def _fitted(text: str, cells: int) -> str:
    """A text in so many cells of a terminal; a Chinese character takes two."""
    if cell_len(text) > cells:
        text = set_cell_size(text, cells - 1).rstrip() + "…"
    return set_cell_size(text, cells)


def confirmed(question: str) -> bool:
    """Whether a person at the terminal says yes; where nobody is asked, nobody does."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# What may be shown


def printable(text: object) -> str:
    """A text in one line, without what a terminal obeys (control characters, changes of direction): that is escaped."""
    line = str(text)
    if line.isprintable():
        return line
    return "".join(char if _harmless(char) else char.encode("unicode_escape").decode() for char in line)


def without_secrets(text: str) -> str:
    """A text without what stands in the queries of its URLs for keys and tokens: talk ends in mails and logs."""
    return _PARAMETER.sub(lambda found: f"{found[1]}***" if _SECRET.search(found[1]) else found[0], text)


def shortened(text: object, most: int = MOST_CHARACTERS) -> str:
    """The beginning of a text in one line, for talk."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _harmless(char: str) -> bool:
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"


# Streams, bugs


def standard_streams() -> None:
    """Makes the standard streams such that nothing can go wrong with them but what is told.

    In place of one that was closed the next file would be opened: a warning that some library writes to stream 2
    would then stand in the database.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free is taken, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the program lives
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _to_nowhere(stream: TextIO) -> None:
    """What is still held for a stream goes nowhere: Python would fail on it once more at its end (exit code 120)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def tell_bugs(verbose: bool, db: Path | None = None) -> None:
    """From here on a bug is one line on stderr; its trace goes there too if `verbose`, else into a file beside `db`."""
    place = db and db.absolute().with_name(db.name + ".bug.txt")

    def hook(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        trace = "".join(traceback.format_exception(error))
        kept = None if verbose or place is None else _keep(trace, place)
        if kept is None and (verbose or place is not None):
            print(trace, file=sys.stderr)
        where = f"the trace is in {kept}" if kept else "-v shows the trace"
        Console().warn(f"summarize-batch: a bug: {innermost(error)}; {where}")

    sys.excepthook = hook


def _keep(trace: str, path: Path) -> Path | None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(trace)
    except OSError:
        return None
    return path


def innermost(error: BaseException) -> str:
    """What was raised, and the innermost line of this program that it went through."""
    frames = _ours(error)
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
        frames = _ours(error) or frames
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return shortened(f"{type(error).__name__}: {error}") + place


def _ours(error: BaseException) -> list[traceback.FrameSummary]:
    here = Path(__file__).parent
    return [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(here)]

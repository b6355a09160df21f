"""The tree of exceptions.

::

    SummarizeBatchError
    ├── PageNotDone            this page does not end in a summary now; the others go on
    │   ├── PageFailed         its own fault: it has a reason, and the night may try again
    │   │   ├── TooLong        the model was sent more than it can hold; it was told so, nothing was lost
    │   │   ├── Malformed      the answer has not the form that was asked for
    │   │   └── NoTools        the model knows no tools, and was offered one
    │   └── PageWaits          not its fault (the model is down, the run is stopping): it keeps its state
    └── RunLost                the run ends, with this exit code and one sentence
        ├── UsageError         2   a wrong option, a source that cannot be read, a package that is missing
        ├── DatabaseUnusable  10   no database can be had at the path, or what lies there is not ours
        ├── LockHeld          11   another run holds the database
        ├── ModelUnusable     12   the model cannot be used: not there, damaged, no memory for it
        └── OutOfMeans         1   the system gives the program too little: memory, threads, open files

Everything else that is raised is a bug: it ends the run with exit code 1. What fails while one page is
fetched or extracted is not raised at all but returned, as a `records.Refusal`.
"""

from __future__ import annotations

import errno
from datetime import datetime
from typing import ClassVar

from pipeline.records import Reason


class SummarizeBatchError(Exception):
    """The root of what this program raises on purpose."""


class PageNotDone(SummarizeBatchError):
    """One page does not end in a summary now; `reason` and `detail` are what is stored."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


class PageFailed(PageNotDone):
    """The page itself, or what the model makes of it, is at fault."""


class TooLong(PageFailed):
    """The server refused a prompt of `prompt_tokens` that `served_context` cannot hold (0: it did not say)."""

    def __init__(self, prompt_tokens: int, served_context: int, detail: str) -> None:
        super().__init__(Reason.LLM_CONTEXT, detail)
        self.prompt_tokens = prompt_tokens
        self.served_context = served_context


class Malformed(PageFailed):
    """An answer that is not of the form that was asked for: no JSON, or a call in the place of text."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.OUTPUT_REJECTED, detail)


class NoTools(PageFailed):
    """The server refuses to offer tools to this model (HTTP 400, `does not support tools`)."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.LLM_ERROR, detail)


class PageWaits(PageNotDone):
    """The page is not at fault; it keeps what it has and is taken up again."""


class RunLost(SummarizeBatchError):
    """The run ends with `exit_code`; the message says what, why, and what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(RunLost):
    """The command line, the settings or a source cannot be used."""

    exit_code = 2


class DatabaseUnusable(RunLost):
    """The database cannot be opened, read or written."""

    exit_code = 10


class LockHeld(RunLost):
    """Another run works on this database; `since` when, if it has said so."""

    exit_code = 11

    def __init__(self, said: str, since: datetime | None = None) -> None:
        super().__init__(said)
        self.since = since


class ModelUnusable(RunLost):
    """The model cannot be used at all."""

    exit_code = 12


class OutOfMeans(RunLost):
    """The system gives the program too little memory, or too few threads or open files."""

    def __init__(self, of_what: str) -> None:
        super().__init__(f"there is not enough {of_what}; what was stored is safe, and the next run goes on from there")


_TOO_FEW = {
    errno.EMFILE: "room for open files (`ulimit -n`)",
    errno.ENFILE: "room for open files on this machine",
    errno.ENOMEM: "memory (also `ulimit -v`)",
}


def out_of_means(error: BaseException) -> OutOfMeans | None:
    """What the system did not give, if that is what was raised, also within a group; `None` for any other fault."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := out_of_means(inner))), None)
    if isinstance(error, MemoryError):
        return OutOfMeans(_TOO_FEW[errno.ENOMEM])
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return OutOfMeans("memory or room for threads (also `ulimit -v`, `ulimit -u`)")
    few = _TOO_FEW.get(error.errno or 0) if isinstance(error, OSError) else None
    return OutOfMeans(few) if few else None

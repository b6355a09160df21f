"""The answer of a function that reads a list from elsewhere, or why that list cannot be read.

feedparser needs three minutes for an author of 100,000 characters (6.0.14): it is a worker's, and killed in time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pipeline.urls.items import Unreadable
from pipeline.worker import Worker

SECONDS = 30.0

P = ParamSpec("P")
T = TypeVar("T")


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function(*args)` gives. All of it must be picklable.

    Raises `Unreadable` as the function does, and when it takes more than `SECONDS` or a worker's memory, or crashes.
    """
    return within(SECONDS, function, *args, **kwargs)


def within(seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same, with another limit."""
    worker = Worker()
    try:
        answer = worker.call(seconds, _answer, function, args, kwargs)
    except TimeoutError as error:
        raise Unreadable(f"reading it takes {error}") from error
    except MemoryError as error:
        raise Unreadable("reading it takes too much memory") from error
    except ChildProcessError as error:
        raise Unreadable("reading it takes too much time or memory: its reader ended without an answer") from error
    finally:
        worker.end()
    if isinstance(answer, Unreadable):
        raise answer
    return answer


def _answer(function: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object]) -> T | Unreadable:
    try:
        return function(*args, **kwargs)
    except Unreadable as fault:
        return fault

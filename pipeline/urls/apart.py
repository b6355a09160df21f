"""A function's answer from a process of its own, which is killed when it takes too long.

For what is slow or large on purpose: feedparser needs three minutes for an author of 100,000 characters (6.0.14), and
a thread cannot be stopped.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar, cast

from pipeline.urls.items import Unreadable

SECONDS = 30.0
MOST_BYTES = 2 << 30
"""Of address space, on Linux; a feed takes about 30 times its size."""

P = ParamSpec("P")
T = TypeVar("T")


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function(*args)` gives. All of it must be picklable.

    Raises `Unreadable` as the function does, and when it takes more than `SECONDS` or `MOST_BYTES`, or crashes.
    """
    return within(SECONDS, function, *args, **kwargs)


def within(seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same, with another limit."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(there, seconds, function, args, kwargs), daemon=True)
    with here:
        with there:
            child.start()
        try:
            if not here.poll(seconds):
                raise Unreadable(f"reading it takes longer than {seconds:g} s")
            answer = here.recv()
        except EOFError as error:
            raise Unreadable("reading it takes too much time or memory: its reader ended without an answer") from error
        finally:
            child.kill()
            child.join()
            child.close()
    if isinstance(answer, Unreadable):
        raise answer
    return cast(T, answer)


def _answer(
    there: Connection,
    seconds: float,
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    # The terminal's signals are for our parent. It may also be killed, and then nobody kills us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit(resource.RLIMIT_CPU, math.ceil(seconds), math.ceil(seconds) + 1)
    if sys.platform == "linux":
        _limit(resource.RLIMIT_AS, MOST_BYTES, MOST_BYTES)
    try:
        answer = function(*args, **kwargs)
    except Unreadable as fault:
        answer = fault
    except MemoryError:
        answer = Unreadable("reading it takes too much memory")
    there.send(answer)


def _limit(kind: int, soft: int, hard: int) -> None:
    """Sets a limit; a lower one that the whole run has been given (`ulimit`, a unit) stays."""
    given = resource.getrlimit(kind)[1]
    most = hard if given == resource.RLIM_INFINITY else min(hard, given)
    resource.setrlimit(kind, (min(soft, most), most))

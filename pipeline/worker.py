"""A function's answer from a process of its own, which is killed when it takes too long.

For what is slow or large on purpose, or may end the process that runs it: a thread cannot be stopped. A worker is
started by `spawn`, holds none of our files, and ends with us however we end. It shares one pipe with us and no lock:
one that spawned processes share has a name, outlives a program that is killed, and the resource tracker of
`multiprocessing`, which takes it away then, says so on standard error (seen with pebble 5.2, whose pool has two).
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import ParamSpec, TypeVar, cast

START_SECONDS = 60.0
"""That a worker may take to start before it is given up: it imports what it needs, on a busy machine too."""
BYTES = 2 << 30
"""Of address space for one worker; lxml needs about 20 times the page, feedparser 30 times the feed."""

P = ParamSpec("P")
T = TypeVar("T")

_OF_THE_PROGRAM = (signal.SIGINT, signal.SIGTERM)
_books = threading.Lock()
"""`multiprocessing` keeps books of all its processes and looks through them at each start: for one thread at a time."""


class Worker:
    """One process, for one call after another; it is started by the first. After a call that failed it is gone.

    The kernel kills it when the thread ends that made this first call, or the program (Linux; elsewhere it ends when
    it is idle, or has used up its time). `prepare` is what it does before anything else.
    """

    def __init__(self, most_bytes: int = BYTES, prepare: Callable[[], None] | None = None) -> None:
        self._most_bytes = most_bytes
        self._prepare = prepare
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._is_killed = False

    def call(self, seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function(*args)` gives; all of it must be picklable. It waits: not for the loop's thread.

        Raises `TimeoutError` when it takes longer than `seconds`, `MemoryError`, and `ChildProcessError` when the
        process ends without an answer.
        """
        late = threading.Event()

        def over() -> None:
            late.set()
            self.kill()

        clock = threading.Timer(seconds, over)
        clock.daemon = True
        try:
            pipe = self._pipe or self._start()
            clock.start()
            pipe.send((seconds, function, args, kwargs))
            answer = pipe.recv()
            if isinstance(answer, MemoryError):
                raise answer
        except (EOFError, ConnectionError) as error:
            self.end()
            if late.is_set():
                raise TimeoutError(f"longer than {seconds:g} s") from None
            raise ChildProcessError("its process ended without an answer") from error
        except BaseException:
            self.end()
            raise
        finally:
            clock.cancel()
        return cast(T, answer)

    @property
    def is_usable(self) -> bool:
        """Whether it may be called (again)."""
        return not self._is_killed

    def kill(self) -> None:
        """Stops it, from any thread, without waiting: a call under way fails, and any other too."""
        with _books:
            self._is_killed = True
            if self._process:
                self._process.kill()

    def end(self) -> None:
        """Stops it, and waits for its end. Not while a call is under way in another thread."""
        self.kill()
        with _books:
            process, self._process = self._process, None
        if process:
            wait([process.sentinel])
            with _books:
                process.join()
                process.close()
        if self._pipe:
            self._pipe.close()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        with there, _books:
            if self._is_killed:
                raise ChildProcessError("it was stopped before it began")
            _leave_a_folder_that_is_gone()
            process = context.Process(
                target=_serve, args=(there, os.getpid(), self._most_bytes, self._prepare), daemon=True
            )
            self._process = _without_signals(process)
        if not self._pipe.poll(START_SECONDS):
            raise ChildProcessError(f"no process started within {START_SECONDS:g} s")
        self._pipe.recv()
        return self._pipe


def _without_signals(process: SpawnProcess) -> SpawnProcess:
    """Starts a process that is told of no SIGINT and SIGTERM, which a terminal or a shutdown sends to all of us."""
    resource_tracker.ensure_running()  # its own start lets them through again (Python 3.11)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_PROGRAM)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _leave_a_folder_that_is_gone() -> None:
    """A worker begins in our folder, and crashes if that is gone: each page would be blamed for it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def _serve(there: Connection, parent: int, most_bytes: int, prepare: Callable[[], None] | None) -> None:
    """What a worker runs: one answer after another, until nobody is there any more to ask."""
    _end_with(parent)
    if sys.platform == "linux":
        _limit_to(resource.RLIMIT_AS, most_bytes)
    if prepare:
        prepare()
    with suppress(EOFError, ConnectionError):  # nobody is there any more; on Linux this one is dead before that
        there.send(None)
        while True:
            seconds, function, args, kwargs = there.recv()
            # The bound on its time is its parent's; this one counts when there is no parent any more.
            _limit_to(resource.RLIMIT_CPU, int(time.process_time() + seconds) + 2)
            try:
                there.send(function(*args, **kwargs))
            except MemoryError:
                there.send(MemoryError())


def _end_with(parent: int) -> None:
    """A worker ends when its parent does, and leaves it to it what a signal means."""
    for number in _OF_THE_PROGRAM:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_PROGRAM)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)
    if os.getppid() != parent:
        os._exit(1)


def _limit_to(kind: int, most: int) -> None:
    """Sets a limit of this process, but none above that which it was started with (`ulimit`): no one else may."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))

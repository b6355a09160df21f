"""A process that has the command imported, and forks into each start of it: that saves half a second a start.

In its own words `forks.py SOCKET`, or any program that calls `forked` first.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__)
STREAMS = 3
MOST_BYTES = 200_000
"""Of one message; the kernel's usual bound for a socket of this kind is a little higher."""


class Forks:
    """The side of those who start commands, one at a time. Ended by `close`."""

    def __init__(self, program: Path = PROGRAM, *arguments: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            handle = theirs.fileno()
            command = [sys.executable, str(program), *arguments, str(handle)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[handle])

    def start(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, streams: Sequence[int]) -> int:
        """Starts the command with these three standard streams; gives its process id."""
        message = json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}).encode()
        assert len(message) < MOST_BYTES
        socket.send_fds(self._socket, [message], list(streams))
        return int(self._socket.recv(MOST_BYTES))

    def ended(self) -> int:
        """Waits for the end of the command; gives its exit code, or the negative number of the signal that ended it."""
        return int(self._socket.recv(MOST_BYTES))

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def forked(handle: int) -> bool:
    """For each message on the socket, a child: true in it, whose arguments, streams, variables and folder are its own.

    False when nobody is there any more to ask for one.
    """
    from pipeline import cli, run, tokens, writers  # noqa: F401 - for the children

    tokens.load()
    gc.collect()
    gc.freeze()  # a child that looked for garbage among what it was born with would have to copy all of it
    with socket.socket(fileno=handle) as asked:
        while True:
            data, streams, _, _ = socket.recv_fds(asked, MOST_BYTES, STREAMS)
            if not data:
                return False
            pid = os.fork()
            if not pid:
                _become(json.loads(data), streams)
                return True
            for stream in streams:
                os.close(stream)
            asked.send(str(pid).encode())
            asked.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _become(given: dict[str, Any], streams: Sequence[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # As Python makes them: those that are there have looked at the old ones already, whether they can be sought in.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv[1:] = given["arguments"]
    os.environ.clear()
    os.environ.update(given["env"])
    os.chdir(given["cwd"])
    time.tzset()


if __name__ == "__main__" and forked(int(sys.argv[1])):
    from pipeline.__main__ import main

    main()

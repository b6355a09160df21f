"""The program's door: it says in a sentence why the program cannot run here, before a traceback does."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

from pipeline import needs

EXIT_CODE = 2
"""As for everything that has to be put right before the first run."""


def main() -> None:
    """Runs the program and ends with its exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # What is ignored stays so: a shell starts with it what it starts in the background.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stopped)
    if sentence := needs.unsupported(sys.platform):
        _refuse(sentence)
    try:
        from pipeline import cli  # noqa: PLC0415 - it imports what may not be there

        code = cli.main()
    except ModuleNotFoundError as missing:
        module = (missing.name or "").partition(".")[0]
        if module in ("", "pipeline"):
            raise
        if module == needs.NAME:
            _refuse("it is not installed: pip install . in its folder")
        _refuse(needs.advice([needs.declared(module)]))
    sys.exit(code)


def _stopped(number: int, frame: FrameType | None) -> NoReturn:
    """A run that works takes the signals over, and ends in its own time; before that there is nothing to end."""
    sys.exit(128 + number)


def _refuse(sentence: str) -> NoReturn:
    print(f"{needs.NAME}: {sentence}", file=sys.stderr)
    sys.exit(EXIT_CODE)


if __name__ == "__main__":
    main()

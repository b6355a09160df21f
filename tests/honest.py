"""Reads `honest.txt`: texts with a good summary each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Honest(NamedTuple):
    language: str
    source: str
    summary: str


def _read() -> dict[str, Honest]:
    blocks = (Path(__file__).parent / "honest.txt").read_text("utf-8").split("\n== ")[1:]
    found = {}
    for block in blocks:
        head, body = block.split("\n", 1)
        name, language = re.fullmatch(r"(.*) \((\w+)\)", head).groups()  # type: ignore[union-attr]
        source, summary = body.split("\n--\n")
        found[name] = Honest(language, source.strip(), summary.strip())
    return found


GOOD = _read()
"""What it is → text and summary."""

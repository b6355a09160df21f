"""Kills the program at every commit point and at random moments, cuts its power, and compares what is left."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import machine
import power
import torture

STEPS = 25


def main() -> int:
    """Prints what was found; 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--kills", type=int, default=200, help="at random moments, after those at each commit point")
    parser.add_argument("--size", type=int, default=1, help="times two dozen pages")
    parser.add_argument("--examples", type=int, default=50, help="of nights in any order, held against a dict")
    parser.add_argument("--quiet", action="store_true", help="only what was found in the end")
    given = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        if not given.quiet:
            print(text, flush=True)

    with TemporaryDirectory() as folder:
        report = torture.tortured(Path(folder), given.seed, given.kills, say, given.size)
    print(f"seed {given.seed}: {report}, {time.monotonic() - began:.0f} s", flush=True)
    found = report.differences
    for recorder in power.recorders()[:1]:
        with TemporaryDirectory() as folder, torture.a_world(Path(folder), given.size) as world:
            some = random.Random(given.seed)  # noqa: S311 - a seed is what is wanted
            cuts = power.cut_a_first_night(world, some, recorder)
        print(f"power cut {cuts.cuts} times: {cuts.said} pages said to be done, {len(cuts.faults)} lost or damaged")
        found += cuts.faults
    with TemporaryDirectory() as folder:
        # What goes wrong in one of them is raised.
        machine.held_against_the_dict(Path(folder), given.examples, STEPS, given.seed)
    print(f"{given.examples} lives of a database of up to {STEPS} steps: as the dict says")
    for difference in found:
        print(difference)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""A night over good and hostile pages, played on this machine: what came of them, and what it cost.

The sites and a model that is a function are served by this process; the command runs in a session of its own, whose
processes are counted and weighed together (PSS, so that what they share counts once).
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent / "tests")]

# ruff: noqa: E402 - the sites and the model of the tests lie beside them
from fake_ollama import FakeOllama, entered, serving
from fake_site import Says, Site, http, site
from soak_pages import HOSTILE, LATER, SUMMARIZED, good, kinds, sentence

GOOD_SITES = 20
MOST_MEGABYTES = 500
WEIGH_SECONDS = 0.5
LEAVE_SECONDS = 30.0
"""For what ends when it sees that the command has ended, as the tracker of Python's own processes does."""
NIGHT = Path(__file__).with_name("soak_night.py")
Percentile = tuple[str, float]


@dataclass
class Came:
    """What came of a soak."""

    exit_code: int
    seconds: float
    said: str
    missing: list[str] = field(default_factory=list)
    """Good pages whose text is not stored, or has no summary, with how they stand."""
    unexpected: list[str] = field(default_factory=list)
    """Hostile pages of which something else came than can come of their kind."""
    reasons: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    megabytes: float = 0.0
    """The most of all processes together; 0 where that is not told."""
    left: list[str] = field(default_factory=list)
    """Processes that are there after the end."""
    late: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)


def _good_pages(path: str) -> bytes | Says:
    name = path.rpartition("/")[2]
    return good(int(name)) if name.isdigit() else http(404, b"")


def _hostile_pages(kind: str, path: str) -> bytes | Says:
    name = path.partition("?")[0].rpartition("/")[2]
    if not name.isdigit():
        return http(404, b"")
    said = HOSTILE[kind].says(int(name))
    return b"" if isinstance(said, str) else said


@asynccontextmanager
async def _sites(names: Sequence[str], good_sites: int) -> AsyncIterator[tuple[list[Site], dict[str, Site]]]:
    async with AsyncExitStack() as stack:
        welcome = [await stack.enter_async_context(site(_good_pages)) for _ in range(good_sites)]
        hostile = {name: await stack.enter_async_context(site(partial(_hostile_pages, name))) for name in names}
        yield welcome, hostile


def soak(
    folder: Path,
    good_pages: int,
    hostile_pages: int,
    names: Iterable[str],
    *,
    read_seconds: float = 3.0,
    total_seconds: float = 8.0,
) -> Came:
    """One night over so many pages, the hostile ones of these kinds in turn."""
    names = list(names)
    played = [name for name in names if not isinstance(HOSTILE[name].says(0), str)]
    with entered(_sites(played, min(GOOD_SITES, good_pages))) as (welcome, hostile), serving(FakeOllama()) as ollama:
        lines = {number: welcome[number % len(welcome)].url(f"/good/{number}") for number in range(good_pages)}
        bad: dict[str, str] = {}
        for number in range(hostile_pages):
            name = names[number % len(names)]
            url = hostile[name].url(f"/{number}") if name in hostile else str(HOSTILE[name].says(number))
            bad[url] = name
        (folder / "urls.txt").write_text("\n".join([*lines.values(), *bad]), "utf-8")
        ports = [f"--allow-port={there.port}" for there in (*welcome, *hostile.values())]
        arguments = ["--db", "soak.db", "--host", ollama.url, "--model", "fake", "--delay", "0", "--parallel", "4"]
        came = _night(
            folder,
            [str(read_seconds), str(total_seconds), "run", "urls.txt", *arguments],
            ["--allow-network=127.0.0.1/32", "--workers=32", *ports],
        )
    _read_rows(folder / "soak.db", came, lines, bad)
    return came


def _night(folder: Path, arguments: Sequence[str], options: Sequence[str]) -> Came:
    started = time.monotonic()
    with (folder / "said.txt").open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, str(NIGHT), "witness.json", *arguments, *options],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        most = 0.0
        while process.poll() is None:
            most = max(most, sum(map(_megabytes, _processes(process.pid))))
            time.sleep(WEIGH_SECONDS)
        said.seek(0)
        came = Came(process.returncode, time.monotonic() - started, said.read())
    came.megabytes = most
    until = time.monotonic() + LEAVE_SECONDS
    while (left := _processes(process.pid)) and time.monotonic() < until:
        time.sleep(WEIGH_SECONDS)
    came.left = [f"{pid}: {_command(pid)}" for pid in left]
    witness = json.loads((folder / "witness.json").read_text("utf-8"))
    came.late, came.busy, came.places = witness["late"], witness["busy"], witness["places"]
    return came


def _processes(session: int) -> list[int]:
    """The processes of a session; none where the system does not tell."""
    found = []
    for pid in (int(name) for name in (os.listdir("/proc") if os.path.isdir("/proc") else []) if name.isdigit()):
        try:
            if os.getsid(pid) == session and _command(pid):
                found.append(pid)
        except OSError:
            continue
    return found


def _command(pid: int) -> str:
    """Empty for a process that has ended, though nobody has asked for its end yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _megabytes(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _read_rows(db: Path, came: Came, lines: dict[int, str], bad: dict[str, str]) -> None:
    with closing(sqlite3.connect(db)) as connection:
        rows = connection.execute(
            "SELECT url, state, coalesce(reason, state), coalesce(text, ''), detail FROM pages "
            "LEFT JOIN texts ON texts.hash = pages.text_hash"
        ).fetchall()
    stands = {url: (state, reason, text, detail) for url, state, reason, text, detail in rows}
    came.reasons.update(reason for _, reason, _, _ in stands.values())
    for number, url in lines.items():
        state, reason, text, detail = stands.get(url, ("", "not there", "", ""))
        if state != SUMMARIZED or sentence(number) not in text:
            came.missing.append(f"{url}: {reason} {detail}")
    for url, kind in bad.items():
        # Of a line that is no URL, what may be shown of it is in its row.
        found = [row for shown, row in stands.items() if shown in (url, url.replace("me:hunter2@", "***@"))]
        reason = found[0][1] if found else "not there"
        came.kinds.setdefault(kind, Counter())[reason] += 1
        if reason not in HOSTILE[kind].reasons | LATER:
            came.unexpected.append(f"{kind}: {url}: {reason} {found[0][3] if found else ''}")


def percentiles(values: Sequence[float]) -> list[Percentile]:
    """p50, p99 and the most, in milliseconds."""
    ordered = sorted(values) or [0.0]
    at = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
    return [(name, 1_000 * ordered[place]) for name, place in at.items()]


def report(came: Came) -> list[str]:
    """All of it, in lines."""
    lines = [f"exit code {came.exit_code} after {came.seconds:.0f} s", ""]
    lines += [f"{count:6} {reason}" for reason, count in came.reasons.most_common()]
    lines.append("")
    for kind, counts in sorted(came.kinds.items()):
        lines.append(f"{kind:32} {', '.join(f'{count} {reason}' for reason, count in counts.most_common())}")
    lines += ["", f"{came.megabytes:.0f} MB at the most in all processes together (PSS)"]
    for what, values in (("the event loop was late by", came.late), ("of that its own thread was busy for", came.busy)):
        told = ", ".join(f"{name} {value:.1f} ms" for name, value in percentiles(values))
        over = sum(value > 0.05 for value in values)
        lines.append(f"{what} {told}; {over} of {len(values)} looks over 50 ms")
    lines += [f"  {count} × {place}" for place, count in came.places]
    lines.append("")
    for what, found in (("good pages missing", came.missing), ("unexpected", came.unexpected), ("left", came.left)):
        lines.append(f"{what}: {len(found)}")
        lines += [f"  {one[:200]}" for one in found[:20]]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pages", type=int, default=2_000, help="in all")
    parser.add_argument("--hostile", type=int, default=600, help="of them hostile")
    parser.add_argument("--quick", action="store_true", help="without the kinds that are slow")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        came = soak(Path(folder), given.pages - given.hostile, given.hostile, kinds(slow=not given.quick))
    print("\n".join(report(came)))
    return int(bool(came.missing or came.unexpected or came.left or came.megabytes >= MOST_MEGABYTES))


if __name__ == "__main__":
    sys.exit(main())

"""A million pages in one file: how long a start takes, how much memory a list, how large the log gets; with figures.

Everything is measured with the command as it is installed, against a model that is played by a function on loopback.
"""

from __future__ import annotations

import argparse
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from command_line import article, serving_pages
from fake_ollama import FakeOllama, serving

COMMAND = Path(sys.executable).with_name("summarize-batch")
HOSTS = 10_000
POLL_SECONDS = 0.05
NIGHT = {
    "SUMMARIZE_BATCH_ALLOW_PRIVATE_NETWORK": "1",
    "SUMMARIZE_BATCH_DELAY": "0",
    "SUMMARIZE_BATCH_MODEL": "fake",
    "SUMMARIZE_BATCH_PARALLEL": "4",
}


@dataclass(frozen=True, slots=True)
class Took:
    """What one start of the command took."""

    seconds: float
    processor_seconds: float
    """Of its processes; on a machine that is busy with other things, what counts."""
    peak_megabytes: float
    """Of memory, of its main process."""
    log_megabytes: float
    """The largest that the log beside the database was."""
    code: int


def measured(folder: Path, variables: Mapping[str, str], *arguments: str) -> Took:
    """One start of the command in `folder`; its lines go to ours."""
    log = folder / f"{arguments[arguments.index('--db') + 1]}-wal"
    before, largest = time.monotonic(), 0
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), **NIGHT, **variables}
    peak = 0.0
    with subprocess.Popen([COMMAND, *arguments], cwd=folder, env=env, stdin=subprocess.DEVNULL) as process:  # noqa: S603 - it is ours
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            largest = max(largest, log.stat().st_size if log.exists() else 0)
            peak = max(peak, megabytes_of(process.pid))
            time.sleep(POLL_SECONDS)
        process.returncode = os.waitstatus_to_exitcode(status)
    processor = usage.ru_utime + usage.ru_stime
    return Took(
        time.monotonic() - before, processor, peak or usage.ru_maxrss / (1 << 20), largest / 1e6, process.returncode
    )


def megabytes_of(pid: int) -> float:
    """The most memory that a process had so far; 0 where Linux does not tell it.

    `ru_maxrss` is that of who started it, if that is larger (seen with Linux 6.18).
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1_024 if found else 0.0


def best_of(rounds: int, folder: Path, variables: Mapping[str, str], *arguments: str) -> Took:
    return min(
        (measured(folder, variables, *arguments) for _ in range(rounds)), key=lambda took: took.processor_seconds
    )


def write_list(path: Path, first: int, last: int) -> Path:
    """URLs as long as they are in life, spread over the hosts."""
    with path.open("w") as lines:
        for number in range(first, last):
            lines.write(f"https://site-{number % HOSTS}.example/articles/2026/an-article-with-a-title-{number}\n")
    return path


@contextmanager
def without_triggers(db: sqlite3.Connection) -> Iterator[None]:
    """For filling: a million changes of the index, one by one, would take longer than all the rest."""
    triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name <> 'search_page_again'")
    found = [(name, sql) for name, sql in triggers if "_in " not in sql and "_out " not in sql]
    for name, _ in found:
        db.execute(f"DROP TRIGGER {name}")
    yield
    for _, sql in found:
        db.execute(sql)


FILL = (
    "INSERT INTO recipes VALUES ('recipe', 'fake', 'digest', 4096, '{}', '{}')",
    """
    INSERT INTO texts
    SELECT
        printf('%064x', id), printf('Page %d.', id) || replace(printf('%.*c', 20, 'x'), 'x', ' A sentence here.'), 350
    FROM pages
    """,
    """
    UPDATE pages SET
        state = 'summarized', title = printf('Title of page %d', id), text_hash = printf('%064x', id),
        final_url = url, http_status = 200, etag = '"1"',
        fetched_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), changed_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    """,
    "INSERT INTO chunks SELECT printf('%064x', id), 0, 0, 350, 100, printf('%064x', id) FROM pages",
    """
    INSERT INTO chunk_summaries
    SELECT printf('%064x', id), 'recipe', 'A summary of a sentence or two.', 1, 0, 0, 300, 20, 1.0 FROM pages
    """,
    """
    INSERT INTO summaries
    SELECT
        id, id, printf('%064x', id), 'recipe', 'A summary of a sentence or two.', '["One.", "Two."]', 'en', 'single',
        1.0, '[]', 1, 300, 20, 1.0, fetched_at
    FROM pages
    """,
    "INSERT INTO summary_chunks SELECT id, 0, text_hash, NULL FROM summaries",
    "INSERT INTO attempts SELECT 2 * id, 1, id, 'fetch', 'ok', '', fetched_at, fetched_at FROM pages",
    "INSERT INTO attempts SELECT 2 * id + 1, 1, id, 'map', 'ok', '', fetched_at, fetched_at FROM pages",
    """
    UPDATE items SET
        outcome = 'summarized', reason = NULL,
        started_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ended_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    """,
)


def fill(path: Path) -> None:
    """Makes of pages that were only listed such as were summarized last night."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -200000")
        db.execute("BEGIN")
        with without_triggers(db):
            for statement in FILL:
                db.execute(statement)
        db.execute("COMMIT")
        db.execute("INSERT INTO search_again SELECT id FROM pages")


def told(what: str, took: Took, more: str = "") -> None:
    print(
        f"{what:58} {took.seconds:8.2f} s, {took.processor_seconds:7.2f} s of a processor, "
        f"{took.peak_megabytes:4.0f} MB, log {took.log_megabytes:5.1f} MB"
        f"{'' if took.code in (0, 3) else f'  (exit code {took.code})'}{more}",
        flush=True,
    )


def bench(folder: Path, pages: int, rounds: int) -> None:
    ten, million = write_list(folder / "ten.txt", pages, pages + 10), write_list(folder / "million.txt", 0, pages)
    site_pages = {f"p{number}": article(f"Page {number}", f"A sentence of page {number}.") for number in range(50)}
    with serving(FakeOllama()) as fake, serving_pages(**site_pages) as site:
        host = {"SUMMARIZE_BATCH_HOST": fake.url}
        real = folder / "real.txt"
        real.write_text("".join(f"{site.url}/p{number}\n" for number in range(50)))
        nothing = ("-q", "--limit", "0", ten.name, "--db")

        measured(folder, host, *nothing, "ten.db")
        small = best_of(rounds, folder, host, *nothing, "ten.db")
        told("start with 10 pages in the database, list of 10", small)
        base = measured(folder, host, "-q", real.name, "--db", "ten.db")
        told("50 pages, fetched and summarized, in that database", base)

        listed = measured(folder, host, "-q", "--limit", "0", million.name, "--db", "million.db")
        told(f"list of {pages:,}, all new", listed, f", {pages / listed.seconds:,.0f} lines a second")
        before = time.monotonic()
        fill(folder / "million.db")
        size = (folder / "million.db").stat().st_size / 1e6
        print(
            f"(filled with texts, summaries and their index in {time.monotonic() - before:.0f} s: {size:,.0f} MB)",
            flush=True,
        )

        large = best_of(rounds, folder, host, *nothing, "million.db")
        told(f"start with {pages:,} pages in the database, list of 10", large)
        night = measured(folder, host, "-q", real.name, "--db", "million.db")
        told("50 pages, fetched and summarized, in that database", night)
        fresh = measured(folder, host, "-q", million.name, "--db", "million.db")
        told(f"list of {pages:,}, all fresh", fresh, f", {pages / fresh.seconds:,.0f} lines a second")
        before = time.monotonic()
        with closing(sqlite3.connect(folder / "million.db")) as db:
            said = db.execute("PRAGMA quick_check").fetchone()[0]
        print(f"to look through it, as after a run that was killed: {time.monotonic() - before:.1f} s ({said})")
    print(
        f"a start takes {large.seconds - small.seconds:+.2f} s "
        f"({large.processor_seconds - small.processor_seconds:+.2f} s of a processor) with {pages:,} pages"
    )
    most = max(listed.peak_megabytes, fresh.peak_megabytes, night.peak_megabytes)
    print(f"memory: {most - small.peak_megabytes:.0f} MB above that of a list of 10")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=1_000_000, help="in the large database (default: 1,000,000)")
    parser.add_argument("--rounds", type=int, default=3, help="of a start the best of so many is told (default: 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        bench(Path(folder), options.pages, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

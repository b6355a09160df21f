"""What `scripts/demo` runs once everything is installed: the command itself, then a table of what came of it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "demo"
COMMAND = str(Path(sys.executable).with_name("summarize-batch"))
SOME_NOT_DONE = 3
"""The exit code of a run in which a page failed: of these pages some do, and should."""


@contextmanager
def site(list_file: Path) -> Iterator[None]:
    """The demo's pages on loopback, for as long as this program lives."""
    command = [sys.executable, str(ROOT / "scripts" / "demo_site.py"), "--list", str(list_file), "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:  # noqa: S603
        assert server.stdout  # noqa: S101
        server.stdout.readline()  # it listens
        yield


def run(db: Path, arguments: Sequence[str]) -> int:
    """The command, and how long it took."""
    # The small model writes English, or nothing worth reading.
    command = [COMMAND, *arguments, "--embedded", "--language", "en", "--db", str(db)]
    print("$ summarize-batch", *command[1:], flush=True)
    started = time.monotonic()
    code = subprocess.run(command, check=False).returncode  # noqa: S603
    print(f"exit code {code} after {time.monotonic() - started:.0f} seconds\n", flush=True)
    return code


def pages(db: Path) -> list[dict[str, Any]]:
    """The pages of the last run, as `list --json` gives them."""
    command = [COMMAND, "list", "--json", "--db", str(db)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")  # noqa: S603
    with closing(sqlite3.connect(db)) as connection:
        query = (
            "SELECT url FROM pages WHERE id IN (SELECT page_id FROM items WHERE run_id = (SELECT max(id) FROM runs))"
        )
        urls = {url for (url,) in connection.execute(query)}
    return [row for line in told.stdout.splitlines() if (row := json.loads(line))["url"] in urls]


def show(rows: list[dict[str, Any]]) -> None:
    """State, reason, title (the path where there is none) and how the summary begins, a line a page."""
    console = Console(highlight=False, markup=False)
    width = max(console.width, 110) if console.is_terminal else 130
    table = Table(box=None, pad_edge=False)
    for name, cells in (("state", 10), ("reason", 15), ("title", 36), ("summary", width - 67)):
        table.add_column(name, no_wrap=True, width=cells)
    for row in rows:
        title = row["title"] or (urlsplit(row["url"]).path if row["url"].startswith("http") else row["url"])
        table.add_row(row["state"], row["reason"] or "", title, " ".join((row["summary"] or "").split()))
    Console(highlight=False, markup=False, width=width).print(table)


def main() -> int:
    """The demo's pages, or those of the lists and URLs that are given."""
    FOLDER.mkdir(exist_ok=True)
    own = sys.argv[1:]
    db = FOLDER / ("own.db" if own else "demo.db")
    if own:
        code = run(db, own)
    else:
        with site(FOLDER / "urls.txt"):
            code = run(db, [str(FOLDER / "urls.txt"), "--allow-private-network"])
    if code not in (0, SOME_NOT_DONE):
        return code
    rows = pages(db)
    show(rows)
    summarized = next((row["url"] for row in rows if row["summary"]), None)
    print(f"\nThe database: {db}\nThree things to try next:")
    print(f"  {COMMAND} show --db {db} {summarized or rows[0]['url']}")
    print(f"  {COMMAND} search --db {db} water")
    print(f"  sqlite3 {db} 'SELECT title, summary FROM latest_summaries'")  # noqa: S608 - for a person to type
    return 0


if __name__ == "__main__":
    sys.exit(main())

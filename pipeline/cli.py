"""Options into an exit code: it parses, calls, and prints."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource
from click_default_group import DefaultGroup

from pipeline import console, needs, options
from pipeline.console import Console, data, json_line, marked, printable
from pipeline.errors import RunLost, UsageError
from pipeline.needs import NAME
from pipeline.settings import Settings


@click.group(
    cls=cast(type[click.Group], DefaultGroup),
    default="run",
    default_if_no_args=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(version(NAME), prog_name=NAME)
@click.pass_context
def command(context: click.Context) -> None:
    """A list of URLs in, a database of summaries out, with a model that runs at home."""
    context.default_map = options.from_files(command.commands, os.environ)


@command.command("run")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@options.DB
@options.MODEL
@options.WRITING
@options.NETWORK
@options.RUN
@options.JSON
@options.TALK
@click.pass_context
def run_command(context: click.Context, /, sources: tuple[str, ...], **given: Any) -> int:
    """Fetch the pages of each SOURCE (a list, '-', a URL, or list:URL) and summarize them. `run` may be left out."""
    if absent := needs.missing(needs.required()):
        raise UsageError(needs.advice(absent))
    # Imported here: the other commands start without the web and the model.
    from pipeline import run  # noqa: PLC0415

    talk = Console(options.verbosity(context), given.pop("as_json"))
    dry = given.pop("dry_run")
    del given["quiet"], given["verbose"]
    settings = Settings(**given)
    for name in sources:
        if name in command.commands and not os.path.exists(name):
            raise UsageError(f"there is no file {name}; the command of this name goes first: {NAME} {name} [OPTIONS]")
    if dry:
        return _plan(settings, sources, talk)
    console.tell_bugs(talk.verbosity > 0, settings.db)
    return run.run(settings, sources, talk)


def _plan(settings: Settings, sources: tuple[str, ...], talk: Console) -> int:
    from pipeline import run  # noqa: PLC0415
    from pipeline.commands import plan  # noqa: PLC0415

    found = partial(run.lines, sources, since=settings.since, note=talk.say)
    counts = plan.plan(settings.db, found, settings.max_age, settings.force)
    if talk.as_json:
        data(console.json_text(counts))
    for kind, count in () if talk.as_json else counts.items():
        data(f"{count} {kind}")
    if not counts:
        talk.say("nothing to do")
    return 0


@command.command("list")
@options.DB
@options.STATE
@options.JSON
@options.TALK
@click.pass_context
def list_command(context: click.Context, /, db: Path, states: tuple[str, ...], as_json: bool, **_: bool) -> int:
    """The pages, with how each stands."""
    from pipeline.commands import list as listing  # noqa: PLC0415

    _reads(context)
    rows = listing.pages(db, states)
    if not as_json:
        console.listing(rows)
    for row in rows if as_json else ():
        data(json_line(row))
    return 0


@command.command("show")
@click.argument("url")
@options.DB
@options.JSON
@options.TALK
@click.pass_context
def show_command(context: click.Context, /, url: str, db: Path, as_json: bool, **_: bool) -> int:
    """One page, with its newest summary."""
    from pipeline.commands import show  # noqa: PLC0415

    _reads(context)
    row = show.page(db, url)
    if as_json:
        data(json_line(row))
        return 0
    for line in (*_standing(row), *_summary(row)):
        data(printable(line))
    return 0


def _standing(row: sqlite3.Row) -> Iterator[str]:
    if row["title"]:
        yield row["title"]
    yield row["url"]
    if row["final_url"] not in (None, row["url"]):
        yield f"  now at {row['final_url']}"
    reason = ": ".join(filter(None, (row["reason"], row["detail"])))
    yield f"{row['state']}{f' ({reason})' if reason else ''}, fetched {row['fetched_at'] or 'never'}"


def _summary(row: sqlite3.Row) -> Iterator[str]:
    if row["summary"]:
        yield from ("", *row["summary"].splitlines(), "")
        yield from (f"- {point}" for point in json.loads(row["key_points"]))
        yield from ("", f"{row['model']}, {row['method']}, {row['coverage']:.0%} of the text, {row['summarized_at']}")


@command.command("search")
@click.argument("words", nargs=-1, required=True)
@options.DB
@options.MOST
@options.JSON
@options.TALK
@click.pass_context
def search_command(
    context: click.Context, /, words: tuple[str, ...], db: Path, most: int, as_json: bool, **_: bool
) -> int:
    """The pages with all the WORDS in title, key points, summary or text, the best first.

    A word finds longer ones that begin with it too. Several words in quotes are a phrase.
    """
    from pipeline.commands import search  # noqa: PLC0415

    talk = _reads(context)
    hits = search.pages(db, words, most)
    for hit in hits:
        if as_json:
            data(json_line(asdict(hit)))
        else:
            for line in (printable(hit.title or hit.url), f"  {printable(hit.url)}"):
                data(line)
            data(f"  {marked(hit.snippet, hit.marks)}")
    if not hits:
        talk.say(f"no page has {' '.join(words)}")
    return 0


@command.command("doctor")
@options.DB
@options.SERVER
@options.JSON
@options.TALK
@click.pass_context
def doctor_command(context: click.Context, /, db: Path, as_json: bool, **given: Any) -> int:
    """What a run would find here: packages, server, model, and what the database knows of its models."""
    from pipeline.commands import doctor  # noqa: PLC0415

    _reads(context)
    findings = doctor.findings(db, given["embedded"], given["embedded_model"], given["hosts"], given["model"])
    for finding in findings:
        data(console.json_text(asdict(finding)) if as_json else printable(f"{finding.what}: {finding.said}"))
    return max(finding.exit_code for finding in findings)


def _reads(context: click.Context) -> Console:
    """The talk of a command that only reads."""
    talk = Console(options.verbosity(context))
    console.tell_bugs(talk.verbosity > 0)
    return talk


def main() -> int:
    """The program, to its exit code: 0, 2, 3, 10, 11, 12, 130 or 143. A bug is raised, and Python ends with 1."""
    console.standard_streams()
    console.tell_bugs(verbose=False)
    try:
        code = _run()
    except RunLost as lost:
        code = lost.exit_code
        Console().warn(f"{NAME}: {lost}")
    except click.exceptions.NoArgsIsHelpError as wrong:
        code = UsageError.exit_code
        wrong.show()
    except click.ClickException as wrong:
        code = UsageError.exit_code
        Console().warn(f"{NAME}: {_said(wrong)}")
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except console.ReaderGone:
        code = 0
    return code


def _run() -> int:
    try:
        code = int(command.main(prog_name=NAME, standalone_mode=False))
    except OSError:
        console.flush()  # if it was standard output, this tells: click writes its help by itself
        raise
    console.flush()
    return code


def _said(wrong: click.ClickException) -> str:
    """What click has to say, with the variable that the value came from, and where help is."""
    text = wrong.format_message().rstrip(".")
    context = getattr(wrong, "ctx", None)
    parameter = getattr(wrong, "param", None)
    if context is None:
        return text
    if parameter and context.get_parameter_source(parameter.name) is ParameterSource.ENVIRONMENT:
        text += f" (from {parameter.envvar})"
    return f"{text}; {context.command_path} --help"

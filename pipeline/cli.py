"""Options into an exit code: it parses, calls, and prints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource
from click_default_group import DefaultGroup

from pipeline import console, formats, needs, options, telling
from pipeline.console import Console, data, json_line, printable
from pipeline.errors import LockHeld, RunLost, UsageError, out_of_means
from pipeline.needs import NAME
from pipeline.output import written_whole
from pipeline.records import Chosen, State
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline import run

LONG_RUN = timedelta(days=1)
"""A run that works for longer holds up nights, and is told of even to those who want to hear of nothing."""


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
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("the folder in which this was started is gone: start it in one that is there") from None
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
    for name in sources:
        if name in command.commands and not os.path.exists(name):
            raise UsageError(f"there is no file {name}; the command of this name goes first: {NAME} {name} [OPTIONS]")
    return _lists(context, sources, given)


@command.command("fetch")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@options.DB
@options.HOST
@options.NETWORK
@options.RUN
@options.JSON
@options.TALK
@click.pass_context
def fetch_command(context: click.Context, /, sources: tuple[str, ...], **given: Any) -> int:
    """Fetch the pages of each SOURCE and store their texts only, for a later run to summarize. No model is asked.

    The Ollama server is named only so that no page reaches it.
    """
    # What it would be told of models is of no use here, but noted with the run.
    others = run_command.make_context("run", ["--", *sources], parent=context.parent).params
    return _lists(context, sources, {name: others[name] for name in others if name != "sources"} | given, True)


def _lists(context: click.Context, sources: tuple[str, ...], given: dict[str, Any], texts_only: bool = False) -> int:
    """A run over the pages of lists."""
    dry = given.pop("dry_run")
    talk, settings = _night(context, given)
    if dry:
        return _plan(settings, sources, talk, texts_only)
    console.tell_bugs(talk.verbosity > 0, settings.db)
    # Imported here: the other commands start without the web and the model.
    from pipeline import run  # noqa: PLC0415

    return _ran(settings, run.lists(settings, sources, talk, texts_only=texts_only), talk)


@command.command("retry")
@click.argument("urls", nargs=-1, metavar="[URL...]")
@options.DB
@options.option("--all", "everything", is_flag=True, help="All pages that failed or were deferred.")
@options.REASON
@options.AGAIN
@click.pass_context
def retry_command(context: click.Context, /, urls: tuple[str, ...], **given: Any) -> int:
    """Work now on pages that failed, were deferred or given up, as a run would; on all with a --reason, on each URL."""
    everything, reasons = given.pop("everything"), given.pop("reasons")
    if bool(urls) == bool(everything or reasons):
        raise UsageError("retry takes URLs, or --all, or --reason REASON")
    from pipeline.commands import choose  # noqa: PLC0415

    def pages(settings: Settings, talk: Console) -> Iterable[Chosen]:
        found = choose.pages(settings.db, urls)
        if not urls:
            return choose.to_retry(settings.db, reasons)
        for page in found:
            if page["state"] == State.SUMMARIZED.value:
                talk.say(f"{page['url']} is summarized: `{NAME} run --force` would do it again")
        return choose.chosen((page["id"] for page in found if page["state"] != State.SUMMARIZED.value), fetched=True)

    name = " ".join(("retry", *urls, *(["--all"] if everything else []), *(f"--reason {reason}" for reason in reasons)))
    return _errand(context, given, name, pages)


@command.command("resummarize")
@click.argument("urls", nargs=-1, metavar="[URL...]")
@options.DB
@options.option("--all", "everything", is_flag=True, help="All pages of which a text is stored, or those that match:")
@options.option("--site", "sites", multiple=True, help="Of this host or any below it, or with this name of the site.")
@options.option("--tag", "tags", multiple=True, help="With this tag in a list.")
@options.STATE
@options.option("--made-by", "models", multiple=True, help="With a newest summary by this model.")
@options.option(
    "--where", metavar="CONDITION", help="That fulfil this condition on `pages` in SQL: \"language = 'ko'\"."
)
@options.option("--force", is_flag=True, help="Also those that have a summary by the same model, prompts and options.")
@options.AGAIN
@click.pass_context
def resummarize_command(context: click.Context, /, urls: tuple[str, ...], **given: Any) -> int:
    """Summarize stored texts anew, by the present model, prompts and options. Nothing is fetched; all versions stay."""
    from pipeline.commands import choose  # noqa: PLC0415

    everything = given.pop("everything")
    filters = {name: given.pop(name) for name in ("states", "sites", "tags", "models")}
    where = given.pop("where")
    if bool(urls) == (everything or where is not None) or (urls and any(filters.values())):
        raise UsageError("resummarize takes URLs, or --all and which of them, or --where")

    def pages(settings: Settings, talk: Console) -> Iterable[Chosen]:
        found = choose.pages(settings.db, urls)
        if not urls:
            return choose.with_text(settings.db, **filters, where=where)
        for page in found:
            if page["text_hash"] is None:
                talk.warn(f"{page['url']} has no text yet: `{NAME} run` fetches it")
        return choose.chosen((page["id"] for page in found if page["text_hash"]), fetched=False)

    wanted = [
        f"--{kind} {value}"
        for kind, values in zip(("state", "site", "tag", "made-by"), filters.values(), strict=True)
        for value in values
    ]
    wanted += [] if where is None else [f"--where {where}"]
    name = " ".join(("resummarize", *urls, *(["--all"] if everything else []), *wanted))
    return _errand(context, given, name, pages, fetched=False)


def _errand(
    context: click.Context,
    given: dict[str, Any],
    name: str,
    pages: Callable[[Settings, Console], Iterable[Chosen]],
    fetched: bool = True,
) -> int:
    """A run over pages that the database knows."""
    talk, settings = _night(context, {"since": None, "force": False} | given)
    console.tell_bugs(talk.verbosity > 0, settings.db)
    from pipeline import run  # noqa: PLC0415

    found = pages(settings, talk)
    return _ran(settings, run.Errand(name, lambda store, fetch: found, named=True, fetched=fetched), talk)


def _ran(settings: Settings, errand: run.Errand, talk: Console) -> int:
    """A run, to its exit code. With `-q` another one that works is not told of, unless it has for longer than a day."""
    from pipeline import run  # noqa: PLC0415

    try:
        return run.run(settings, errand, talk)
    except LockHeld as held:
        if talk.verbosity < 0 and held.since and abs(datetime.now(UTC) - held.since) < LONG_RUN:
            return held.exit_code
        raise


def _night(context: click.Context, given: dict[str, Any]) -> tuple[Console, Settings]:
    """What a run is told, when all that it needs is here."""
    if absent := needs.missing(needs.required()):
        raise UsageError(needs.advice(absent))
    talk = Console(options.verbosity(context), given.pop("as_json"))
    del given["quiet"], given["verbose"]
    return talk, Settings(**given, profiles=options.profiles(run_command, os.environ))


def _plan(settings: Settings, sources: tuple[str, ...], talk: Console, texts_only: bool) -> int:
    from pipeline import run  # noqa: PLC0415
    from pipeline.commands import plan  # noqa: PLC0415

    found = partial(run.lines, sources, since=settings.since, note=talk.say)
    counts = plan.plan(settings.db, found, settings.max_age, settings.force, texts_only)
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
@click.argument("numbers", nargs=-1, type=int, metavar="[A B]")
@options.DB
@options.option("--attempts", is_flag=True, help="Every try at the page: when, at what, and how it ended.")
@options.option("--versions", is_flag=True, help="Every summary that was made of it.")
@options.option("--diff", is_flag=True, help="What changed between versions A and B of the summary, or the last two.")
@options.JSON
@options.TALK
@click.pass_context
def show_command(context: click.Context, /, url: str, db: Path, **given: Any) -> int:
    """One page, with its newest summary."""
    from pipeline.commands import show  # noqa: PLC0415

    _reads(context)
    numbers, as_json = given["numbers"], given["as_json"]
    asked = [name for name in ("attempts", "versions", "diff") if given[name]]
    if len(asked) > 1 or (numbers and asked != ["diff"]):
        raise UsageError("one of --attempts, --versions and --diff; the numbers of two versions go with --diff")
    if asked == ["diff"]:
        console.difference(show.diff(db, url, numbers), as_json)
        return 0
    if asked == ["attempts"]:
        rows, tell = show.attempts(db, url), telling.attempt
    elif asked == ["versions"]:
        rows, tell = show.versions(db, url), telling.version
    else:
        rows, tell = [show.page(db, url)], telling.page
    for row in rows:
        for line in [json_line(row)] if as_json else map(printable, tell(row)):
            data(line)
    return 0


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
    """The pages with all the WORDS in title, summary, key points or text, the best first.

    A word finds longer ones that begin with it too, but no other form of itself: `bridge` finds bridges, `bridges` no
    bridge. Several words in quotes are a phrase.
    """
    from pipeline.commands import search  # noqa: PLC0415

    talk = _reads(context)
    found = search.pages(db, words, most)
    for hit in found:
        if as_json:
            data(json_line(asdict(hit)))
            continue
        for line in (hit.title or hit.url, f"  {hit.url}"):
            data(printable(line))
        console.marked(hit.snippet, hit.marks)
    if not found:
        talk.say(f"no page has {' '.join(words)}")
    return 0


@command.command("export")
@options.DB
@options.option(
    "--format", "form", type=click.Choice(list(formats.FORMATS)), default="json", help="One array, a line a page, ..."
)
@options.option("--output", type=options.File(), help="Write to this file, when all is there; else to standard output.")
@options.STATE
@options.TALK
@click.pass_context
def export_command(
    context: click.Context, /, db: Path, form: str, output: Path | None, states: tuple[str, ...], **_: bool
) -> int:
    """Every page with its newest summary, for other programs."""
    from pipeline.commands import export  # noqa: PLC0415

    _reads(context)
    if output and str(output.resolve()) in {f"{db.resolve()}{end}" for end in ("", "-wal", "-shm", ".lock")}:
        raise UsageError(f"{output} is the database or one of its files: give another --output")
    lines = formats.FORMATS[form](export.pages(db, states))
    if output is None:
        for line in lines:
            data(line)
        return 0
    with written_whole(output) as file:
        for line in lines:
            file.write(line + "\n")
    return 0


@command.command("digest")
@options.DB
@options.option("--since", type=options.Since(), default="24h", help="Since when: 24h, 7d, or a date.")
@options.option(
    "--format", "form", type=click.Choice(["markdown", "plain"]), default="markdown", help="How it is laid out."
)
@options.option("--limit", type=click.IntRange(1), default=400, help="At most so many lines.")
@options.TALK
@click.pass_context
def digest_command(context: click.Context, /, db: Path, since: datetime, form: str, limit: int, **_: bool) -> int:
    """What is new: the pages that were summarized since a time, and what has failed since."""
    from pipeline.commands import digest  # noqa: PLC0415

    talk = _reads(context)
    if form == "markdown":
        told, told_failure = formats.markdown_of, formats.failure_in_markdown
    else:
        told, told_failure = formats.plain_of, formats.failure_in_plain_text
    empty = True
    for line in digest.digest(digest.news(db, since), digest.failed(db, since), told, told_failure, limit):
        data(line)
        empty = False
    if empty:
        talk.say(f"nothing is new since {since.astimezone():%Y-%m-%d %H:%M}")
    return 0


@command.command("failures")
@options.DB
@options.REASON
@options.JSON
@options.TALK
@click.pass_context
def failures_command(context: click.Context, /, db: Path, reasons: tuple[str, ...], as_json: bool, **_: bool) -> int:
    """The pages that are not well now: why, since when, how often, and what to do."""
    from pipeline.commands import failures  # noqa: PLC0415

    talk = _reads(context)
    last = None
    for failure in failures.failures(db, reasons):
        group = (failure.state, failure.reason)
        for line in () if as_json else telling.failure(failure, first=group != last):
            data(printable(line))
        if as_json:
            data(console.json_text(asdict(failure)))
        last = group
    if last is None:
        talk.say("every page is well")
    return 0


@command.command("runs")
@options.DB
@options.option("--limit", type=click.IntRange(1), default=20, help="The last so many.")
@options.JSON
@options.TALK
@click.pass_context
def runs_command(context: click.Context, /, db: Path, limit: int, as_json: bool, **_: bool) -> int:
    """The history: when each run was, how it ended, and what came of its pages. The newest first."""
    from pipeline.commands import runs  # noqa: PLC0415

    _reads(context)
    for run in runs.runs(db, limit):
        data(console.json_text(asdict(run)) if as_json else printable(telling.run(run)))
    return 0


@command.command("check")
@options.DB
@options.option("--expect-every", type=options.Duration(), help="3 if the last good run ended longer ago: 25h.")
@options.JSON
@options.TALK
@click.pass_context
def check_command(context: click.Context, /, db: Path, expect_every: timedelta | None, as_json: bool, **_: bool) -> int:
    """Whether the database is whole and the nights are well: 0, 3 (a night is not) or 10 (the database is not)."""
    from pipeline.commands import check  # noqa: PLC0415

    talk = _reads(context)
    code = 0
    for finding in check.findings(db, expect_every):
        data(console.json_text(asdict(finding)) if as_json else printable(f"{finding.what}: {finding.said}"))
        code = max(code, finding.exit_code)
    if not code:
        talk.say(f"{db}: all is well")
    return code


@command.command("prune")
@options.DB
@options.option("--keep", type=options.Duration(), default="90d", help="Keep what is not older.")
@options.option("--dry-run", is_flag=True, help="Say what would be done; nothing is written.")
@options.JSON
@options.TALK
@click.pass_context
def prune_command(context: click.Context, /, db: Path, keep: timedelta, dry_run: bool, as_json: bool, **_: bool) -> int:
    """Take out what is old of each run's books, and texts that nothing refers to. Summaries are kept for ever."""
    from pipeline.commands import prune  # noqa: PLC0415

    talk = _reads(context)
    gone = (prune.prunable if dry_run else prune.prune)(db, keep)
    if as_json:
        data(console.json_text(asdict(gone)))
    else:
        talk.say(telling.pruned(gone, dry_run))
    return 0


@command.command("forget")
@click.argument("url")
@options.DB
@options.option("--yes", is_flag=True, help="Do not ask.")
@options.TALK
@click.pass_context
def forget_command(context: click.Context, /, url: str, db: Path, yes: bool, **_: bool) -> int:
    """Take out all that is known of a page, its summaries too. A list that has it brings it back: take it out there."""
    from pipeline.commands import prune  # noqa: PLC0415

    talk = _reads(context)
    page = prune.known(db, url)
    if not yes and not console.confirmed(f"forget {page['url']} and every summary of it?"):
        raise UsageError("nothing is forgotten without --yes")
    prune.forget(db, page)
    talk.say(f"{page['url']} is forgotten")
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
    except (OSError, RuntimeError, MemoryError, ExceptionGroup) as error:
        if isinstance(error, OSError):
            console.flush()  # if it was standard output, this tells: click writes its help by itself
        if lost := out_of_means(error):
            raise lost from error
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

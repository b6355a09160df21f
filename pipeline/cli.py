"""Options into an exit code: it parses, prints, and knows click and the environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from functools import partial, reduce
from importlib.metadata import version
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import click
from click_default_group import DefaultGroup

from pipeline import settings as files
from pipeline.console import Console, json_line, print_marked, print_table
from pipeline.errors import RunLost
from pipeline.records import State
from pipeline.settings import Settings

PREFIX = "SUMMARIZE_BATCH_"
F = TypeVar("F", bound=Callable[..., Any])


class Decorator(Protocol):
    """What takes a function and gives one of the same type."""

    def __call__(self, function: F, /) -> F: ...


class Duration(click.ParamType[timedelta]):
    """`90s`, `15m`, `12h`, `2d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return files.duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Network(click.ParamType[IPv4Network | IPv6Network]):
    """`192.168.7.0/24`."""

    name = "cidr"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> IPv4Network | IPv6Network:
        try:
            return ip_network(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Server(click.ParamType[str]):
    """The address of an Ollama server."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return files.server_url(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def option(*names: str, **attributes: Any) -> Decorator:
    """An option with its environment variable; its key in the TOML files is its name."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = PREFIX + long.removeprefix("--").replace("-", "_").upper()
    variables = [variable, *attributes.pop("also", ())]
    attributes.setdefault("show_default", attributes.get("default") is not None)
    return click.option(*names, envvar=variables, show_envvar=False, **attributes)


def together(*decorators: Decorator) -> Decorator:
    """Several options as one decorator, in this order."""

    def decorate(function: F) -> F:
        return reduce(lambda inner, decorator: decorator(inner), reversed(decorators), function)

    return decorate


DB = option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("summaries.db"),
    help="The database; it is made if it is not there.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a page, on standard output.")

MODEL_OPTIONS = together(
    option("-m", "--model", default="llama3.1", help="The model, as `ollama list` names it."),
    option("--host", type=Server(), default=files.DEFAULT_HOST, also=["OLLAMA_HOST"], help="The Ollama server."),
    option("--embedded", is_flag=True, help="Use the small model that runs inside this program."),
    option(
        "--embedded-model",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Another GGUF file for --embedded.",
    ),
    option("--num-ctx", type=click.IntRange(512), help="Tokens of context. [default: what the model holds, to 4096]"),
    option("--timeout", type=Duration(), default="10m", help="For one answer of the model."),
    option("--words", type=click.IntRange(20, 1_000), default=100, help="Words of a summary, at most."),
)
NETWORK_OPTIONS = together(
    option("--workers", type=click.IntRange(1, 500), default=16, help="Pages worked on at a time."),
    option("--delay", type=click.FloatRange(0), default=1.0, help="Seconds between two requests to one host."),
    option("--allow-private-network", is_flag=True, help="Also fetch from this machine and its private networks."),
    option("--allow-network", type=Network(), multiple=True, help="Also fetch from this network (CIDR)."),
    option("--ignore-robots", is_flag=True, help="Do not ask robots.txt: for sites of your own."),
    option("--contact", default="", help="An address for the sites to reach you, in the User-Agent."),
    option("--max-age", type=Duration(), default="12h", help="Do not ask again for a page fetched more recently."),
)
RUN_OPTIONS = together(
    option("--force", is_flag=True, help="Fetch and summarize again what is fresh or unchanged."),
    option("--limit", type=click.IntRange(0), help="Take at most this many pages."),
    option("--grace", type=Duration(), default="30s", help="For what is under way when a signal stops the run."),
    click.option("--dry-run", is_flag=True, help="Say what would be done; no request, nothing written."),
    JSON,
    click.option("-q", "--quiet", is_flag=True, help="Say nothing unless something is wrong."),
    click.option("-v", "--verbose", is_flag=True, help="A line a page."),
)


@click.group(cls=cast(type[click.Group], DefaultGroup), default="run", default_if_no_args=False)
@click.version_option(version("summarize-batch"), prog_name="summarize-batch")
@click.pass_context
def command(context: click.Context) -> None:
    """A list of URLs in, a database of summaries out, with a model that runs at home."""
    found = files.from_files(os.environ)
    context.default_map = dict.fromkeys(command.commands, found)


@command.command("run")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@DB
@MODEL_OPTIONS
@NETWORK_OPTIONS
@RUN_OPTIONS
def run_command(sources: tuple[str, ...], **options: Any) -> int:
    """Fetch the pages of each SOURCE (a list, '-' or a URL) and summarize them. `run` may be left out."""
    # Imported here: the other commands start without the web and the model.
    from pipeline import run  # noqa: PLC0415
    from pipeline.commands import plan  # noqa: PLC0415

    dry, as_json = options.pop("dry_run"), options.pop("as_json")
    verbosity = int(options.pop("verbose")) - int(options.pop("quiet"))
    console = Console(verbosity, as_json)
    settings = Settings(**options)
    if not dry:
        return run.run(settings, sources, console)
    for kind, count in plan.plan(settings.db, partial(run.lines, sources), settings.max_age, settings.force).items():
        print(f"{count} {kind}")
    return 0


@command.command("list")
@DB
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only pages of this state.")
@JSON
def list_command(db: Path, state: str | None, as_json: bool) -> int:
    """The pages, with how each stands."""
    from pipeline.commands import list as listing  # noqa: PLC0415

    rows = listing.pages(db, state)
    if as_json:
        for row in rows:
            print(json_line(row))
    else:
        columns = ("state", "reason", "url", "title", "summary")
        print_table(columns, [[first_line(row[name]) for name in columns] for row in rows])
    return 0


@command.command("show")
@click.argument("url")
@DB
@JSON
def show_command(url: str, db: Path, as_json: bool) -> int:
    """One page, with its newest summary."""
    from pipeline.commands import show  # noqa: PLC0415

    row = show.page(db, url)
    if as_json:
        print(json_line(row))
        return 0
    print(row["title"] or row["url"])
    print(row["final_url"] or row["url"])
    state = f"{row['state']} ({row['reason']}: {row['detail']})" if row["reason"] else row["state"]
    print(f"{state}, fetched {row['fetched_at'] or 'never'}")
    if row["summary"]:
        print(f"\n{row['summary']}\n")
        for point in json.loads(row["key_points"]):
            print(f"- {point}")
        print(f"\n{row['model']}, {row['method']}, {row['coverage']:.0%} of the text, {row['summarized_at']}")
    return 0


@command.command("search")
@click.argument("words", nargs=-1, required=True)
@DB
@click.option("--limit", "most", type=click.IntRange(1), default=20, show_default=True, help="Show at most this many.")
@JSON
def search_command(words: tuple[str, ...], db: Path, most: int, as_json: bool) -> int:
    """The pages with all the WORDS in title, summary, key points or text, the best first.

    A word finds longer ones that begin with it too. Several words in quotes are a phrase.
    """
    from pipeline.commands import search  # noqa: PLC0415

    for hit in search.pages(db, words, most):
        if as_json:
            print(json_line(asdict(hit)))
        else:
            print(f"{hit.title or hit.url}\n  {hit.url}")
            print_marked(hit.snippet, hit.marks)
    return 0


def first_line(text: object, most: int = 100) -> str:
    """The beginning of a text, for a table."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= most else line[: most - 1] + "…"


def main() -> None:
    """The program. Exit codes: 0, 1 (a bug), 2, 3, 10, 11, 12, 130, 143."""
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command.main(standalone_mode=False)
    except RunLost as lost:
        Console().warn(f"summarize-batch: {lost}")
        code = lost.exit_code
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as wrong:
        wrong.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        # `| head` has read enough; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)

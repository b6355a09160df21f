"""The options: what each is called, what it may be, and where it comes from when it is not on the command line.

A flag wins over `SUMMARIZE_BATCH_<OPTION>`, that over the project's TOML file, that over the user's, that over the
default. A value that cannot be is a usage error that names its place, wherever it stands.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
from click.core import ParameterSource

from pipeline import settings as files
from pipeline.errors import UsageError
from pipeline.language_names import NAMES, SOURCE, code_of
from pipeline.prompts import STYLES
from pipeline.records import Proxy, Reason, State
from pipeline.settings import Profile
from pipeline.toolloop import Policy

PREFIX = "SUMMARIZE_BATCH_"
PROFILE = "profile"
PROFILE_OPTIONS = ("model", "prompts", "language", "style", "words")
F = TypeVar("F", bound=Callable[..., Any])


class Decorator(Protocol):
    """What takes a function and gives one of the same type."""

    def __call__(self, function: F, /) -> F: ...


class Duration(click.ParamType[timedelta]):
    """`90s`, `15m`, `12h`, `2d`."""

    name = "duration"

    def __init__(self, least: str = "0s") -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            found = files.duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if found < files.duration(self._least):
            self.fail(f"{value!r} is shorter than {self._least}", param, ctx)
        return found


class Since(click.ParamType[datetime]):
    """`2d` ago, or `2026-11-01`."""

    name = "duration|date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return files.moment(str(value), datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Seconds(click.FloatRange):
    """A number of seconds; `nan` is in no range, but click lets it through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{value!r} is no number", param, ctx)
        return found


class Several:
    """How several values stand in one variable: with white space or commas between them."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return [part for part in re.split(r"[\s,]+", rv) if part]


class Network(Several, click.ParamType[IPv4Network | IPv6Network]):
    """`192.168.7.0/24`."""

    name = "cidr"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> IPv4Network | IPv6Network:
        try:
            return ip_network(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Server(Several, click.ParamType[str]):
    """The address of an Ollama server."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return files.server_url(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ProxyServer(click.ParamType[Proxy]):
    """The address of a proxy; what is wrong with one is told without it, for it may hold a password."""

    name = "proxy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Proxy:
        if isinstance(value, Proxy):
            return value
        try:
            return files.proxy(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Port(Several, click.IntRange):
    """A port of TCP."""

    def __init__(self) -> None:
        super().__init__(1, 65_535)


class File(click.ParamType[Path]):
    """A path; no shell has written out the `~` of one that stands in a TOML file."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        try:
            return Path(value).expanduser()
        except RuntimeError as error:
            self.fail(f"{value}: {error}", param, ctx)


class Header(click.ParamType[str]):
    """A text that can be sent as a part of an HTTP header."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[\x20-\x7e]{0,200}", str(value)):
            self.fail(f"{value!r} is not at most 200 characters of ASCII", param, ctx)
        return str(value)


class Parallel(click.ParamType[int | None]):
    """A number, or `auto`: `None`."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        return None if value == "auto" else click.IntRange(1, 64).convert(value, param, ctx)


class Language(click.ParamType[str]):
    """The code of a language, or `source`."""

    name = "code"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        code = str(value) if value == SOURCE else code_of(str(value))
        if not code:
            self.fail(f"{value!r} is none of {SOURCE}, {', '.join(NAMES)}", param, ctx)
        return code


class ModelOption(Several, click.ParamType[tuple[str, object]]):
    """`top_k=20`."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, object]:
        if isinstance(value, tuple):
            return value
        try:
            return files.model_option(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Name(click.ParamType[str]):
    """A word, not an empty one."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[\x21-\x7e]+", str(value)):
            self.fail(f"{value!r} is no name", param, ctx)
        return str(value)


def option(*names: str, **attributes: Any) -> Decorator:
    """An option with its environment variable; its key in the TOML files is its name."""
    attributes.setdefault("show_default", attributes.get("default") not in (None, ""))
    return click.option(*names, envvar=PREFIX + _long(names).replace("-", "_").upper(), **attributes)


def together(*decorators: Decorator) -> Decorator:
    """Several options as one decorator, in this order."""

    def decorate(function: F) -> F:
        return reduce(lambda inner, decorator: decorator(inner), reversed(decorators), function)

    return decorate


def _long(names: Sequence[str]) -> str:
    return next(name for name in names if name.startswith("--")).removeprefix("--")


def default_hosts(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where the vendor's own programs look for the server. Raises `UsageError`."""
    try:
        return (files.server_url(environment.get("OLLAMA_HOST") or files.DEFAULT_HOST),)
    except ValueError as error:
        raise UsageError(f"OLLAMA_HOST: {error}") from error


def from_files(commands: Mapping[str, click.Command], environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What the TOML files say to each command, by the names of its parameters.

    Raises `UsageError` for a key that is no option of any command, and for a value that its option cannot have.
    """
    # By command: `words` is an option of one and the argument of another.
    owned = {name: _options(command) for name, command in commands.items()}
    known = {key: parameter for parameters in owned.values() for key, parameter in parameters.items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in commands}
    for path, values in files.from_files(environment):
        for given, value in values.items():
            key = given.replace("_", "-")
            if key == PROFILE:
                continue
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                raise UsageError(f"{path}: no option is called {given}" + (f"; is it {near[0]}?" if near else ""))
            judged = _judged(known[key], value, f"{path}: {given}")
            for name, parameters in owned.items():
                if key in parameters:
                    found[name][parameters[key].name or ""] = judged
    return found


def profiles(run: click.Command, environment: Mapping[str, str]) -> tuple[Profile, ...]:
    """The profiles of the TOML files, those of the project's file first: `[profile.NAME]` with sites, tags and options.

    Raises `UsageError` for a profile for no page, a key that is not one of a profile, and a value that it cannot have.
    """
    found: list[Profile] = []
    for path, values in reversed(files.from_files(environment)):
        tables = values.get(PROFILE, {})
        if not isinstance(tables, dict):
            raise UsageError(f"{path}: a profile is a table: [profile.NAME]")
        found += [_profile(name, table, run, f"{path}: profile {name}") for name, table in tables.items()]
    return tuple(found)


def _profile(name: str, table: Any, run: click.Command, place: str) -> Profile:
    if not isinstance(table, dict) or not {"site", "tag"} & set(table):
        raise UsageError(f"{place}: it needs a `site` or a `tag`")
    known = _options(run)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in ("site", "tag"):
            words = [value] if isinstance(value, str) else value
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise UsageError(f"{place}: {key} is a text or a list of texts")
            values[f"{key}s"] = frozenset(word.lower() if key == "site" else word for word in words)
        elif key in PROFILE_OPTIONS:
            judged = _judged(known[key], value, f"{place}: {key}")
            values[key] = known[key].type.convert(judged, known[key], None)
        else:
            raise UsageError(f"{place}: {key} is none of site, tag, {', '.join(PROFILE_OPTIONS)}")
    return Profile(name, **values)


def _options(command: click.Command) -> dict[str, click.Option]:
    return {_long(each.opts): each for each in command.params if isinstance(each, click.Option)}


def _judged(parameter: click.Option, value: Any, place: str) -> Any:
    """The value as it stands in the file, if the option can have it. Raises `UsageError`."""
    wanted, words = _toml_type(parameter)
    values = value if parameter.multiple and isinstance(value, list) else [value]
    for one in values:
        # Without the second condition `workers = true` would be one worker.
        if not isinstance(one, wanted) or (isinstance(one, bool) and wanted is not bool):
            said = "what stands there" if isinstance(parameter.type, ProxyServer) else repr(one)
            raise UsageError(f"{place}: {said} is not {words}")
        try:
            parameter.type.convert(one, parameter, None)
        except click.BadParameter as error:
            raise UsageError(f"{place}: {error.message}") from error
    return values if parameter.multiple else value


def _toml_type(parameter: click.Option) -> tuple[type | tuple[type, ...], str]:
    if parameter.is_flag:
        return bool, "true or false"
    if isinstance(parameter.type, Parallel):
        return (int, str), 'a whole number or "auto"'
    if isinstance(parameter.type, click.IntRange):
        return int, "a whole number"
    if isinstance(parameter.type, click.FloatRange):
        return (int, float), "a number"
    return str, "a text in quotes"


def verbosity(context: click.Context) -> int:
    """−1 (quiet), 0, or 1 (a line a page); of -q and -v the one that stands in the more special place counts."""
    said = {name: context.get_parameter_source(name) for name in ("quiet", "verbose") if context.params[name]}
    if len(said) == 2:
        order = list(ParameterSource)
        nearest = min(order.index(source) for source in said.values() if source)
        said = {name: source for name, source in said.items() if source and order.index(source) == nearest}
    return ("verbose" in said) - ("quiet" in said)


DB = option("--db", type=File(), default=Path("summaries.db"), help="The database; a run makes it if it is not there.")
JSON = option("--json", "as_json", is_flag=True, help="JSON on standard output, one object a line.")
TALK = together(
    option("-q", "--quiet", is_flag=True, help="Say nothing unless something is wrong."),
    option("-v", "--verbose", is_flag=True, help="Say more: a line a page, and of a bug the whole trace."),
)
MOST = option("--limit", "most", type=click.IntRange(0, 1_000_000), default=20, help="Show at most this many.")
STATE = option(
    "--state",
    "states",
    type=click.Choice([state.value for state in State]),
    multiple=True,
    help="Only pages of this state; may be repeated.",
)
REASON = option(
    "--reason",
    "reasons",
    type=click.Choice([reason.value for reason in Reason]),
    metavar="REASON",
    multiple=True,
    help="Only pages with this reason (docs/reasons.md); may be repeated.",
)
HOST = option(
    "--host",
    "hosts",
    type=Server(),
    multiple=True,
    default=lambda: default_hosts(os.environ),
    show_default=f"OLLAMA_HOST, or {files.DEFAULT_HOST}",
    help="The Ollama server; of several the first that answers, in this order.",
)
SERVER = together(
    option("-m", "--model", type=Name(), default="llama3.1", help="The model, as `ollama list` names it."),
    HOST,
    option("--embedded", is_flag=True, help="Use the small model that runs inside this program."),
    option("--embedded-model", type=File(), help="Another GGUF file for --embedded."),
)
MODEL = together(
    SERVER,
    option("--num-ctx", type=click.IntRange(512), help="Tokens of context. [default: what the model holds, to 4096]"),
    option("--timeout", type=Duration(least="1s"), default="10m", help="For one answer of the model."),
    option("--model-wait", type=Duration(), default="30s", help="Wait so long for a server that does not answer."),
    option("--keep-alive", default="10m", help="How long the server keeps the model after the last request."),
    option("--option", type=ModelOption(), multiple=True, help="An option of Ollama's, as top_k=20; may be repeated."),
    option("--parallel", type=Parallel(), default="auto", help="Requests to the model at a time, or `auto`."),
    option("--vocabulary", type=File(), help="A file of your own with tiktoken's cl100k_base."),
    option(
        "--tool-calls",
        type=click.Choice([policy.value for policy in Policy]),
        default=Policy.AUTO.value,
        help="Whether the model is asked to call the tool that reads the page.",
    ),
)
WRITING = together(
    option("--words", type=click.IntRange(20, 1_000), default=100, help="Words of a summary, at most."),
    option("--language", type=Language(), default=SOURCE, help="Of the summaries: en, ko, ... or `source`."),
    option("--style", type=click.Choice(STYLES), default=STYLES[0], help="The shape of a summary."),
    option("--prompts", type=File(), help="A folder with prompts of your own."),
    option(
        "--fallback",
        type=click.Choice([files.EXTRACTIVE]),
        help="What a page gets for which the model has no summary: sentences of its own text, flagged.",
    ),
    option("--allow-partial", is_flag=True, help="Store a summary though parts of the page could not be read."),
)
NETWORK = together(
    option("--workers", type=click.IntRange(1, 500), default=16, help="Pages worked on at a time."),
    option("--delay", type=Seconds(0, 3_600), default=1.0, help="Seconds between two requests to one host, at least."),
    option("--per-host", type=click.IntRange(1, 16), default=1, help="Requests to one host at a time."),
    option("--allow-private-network", is_flag=True, help="Also fetch from this machine and its private networks."),
    option(
        "--allow-network", type=Network(), multiple=True, help="Also fetch from this network (CIDR); may be repeated."
    ),
    option("--allow-port", type=Port(), multiple=True, help="Also fetch at this port (80, 443); may be repeated."),
    option(
        "--proxy",
        type=ProxyServer(),
        help="Fetch through this HTTP proxy (http://HOST:PORT), which looks names up: where they lead is not checked.",
    ),
    option("--ignore-robots", is_flag=True, help="Do not ask robots.txt: for sites of your own."),
    option("--respect-noai", is_flag=True, help="Pass over pages that ask not to be read by a model, or indexed."),
    option(
        "--comments",
        type=click.Choice([files.KEEP, files.DROP]),
        default=files.KEEP,
        help="What becomes of comments, and of the replies of a thread.",
    ),
    option("--contact", type=Header(), default="", help="An address for the sites to reach you, in the User-Agent."),
    option("--max-age", type=Duration(), default="12h", help="Do not ask again for a page fetched more recently."),
)
BOUNDS = together(
    option("--limit", type=click.IntRange(0), help="Take at most this many pages."),
    option("--grace", type=Duration(), default="30s", help="For what is under way when the run is to stop."),
    option("--max-duration", type=Duration(), help="Take no new page after so long; the next run goes on."),
    option("--lock-wait", type=Duration(), default="0s", help="Wait so long for another run to end."),
)
AGAIN = together(MODEL, WRITING, NETWORK, BOUNDS, JSON, TALK)
"""Of the runs over pages that are known."""
RUN = together(
    option("--since", type=Since(), help="Of feeds and sitemaps, leave out what is dated before: 2d, or 2026-11-01."),
    option("--force", is_flag=True, help="Fetch and summarize again what is fresh or unchanged."),
    BOUNDS,
    option("--dry-run", is_flag=True, help="Say what would be done; no request, nothing written."),
)

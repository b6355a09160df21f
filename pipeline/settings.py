"""Flags, environment and TOML files into one frozen `Settings`.

A flag wins over `SUMMARIZE_BATCH_<OPTION>`, that over `summarize-batch.toml` in the working directory, that over
`summarize-batch/config.toml` in the user's configuration folder (XDG Base Directory Specification).
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.errors import UsageError
from pipeline.records import Proxy

EXTRACTIVE = "extractive"
KEEP, DROP = "keep", "drop"
PROJECT_FILE = "summarize-batch.toml"
OWNED_OPTIONS = frozenset({"num_ctx", "num_predict", "seed", "shift"})
"""Options of Ollama that are not the user's: on them hangs that nothing is cut."""
OLLAMA_PORT = 11_434
DEFAULT_HOST = f"http://127.0.0.1:{OLLAMA_PORT}"
LONGEST = timedelta(days=36_500)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Profile:
    """How the pages of some sites, or with some tags, are summarized otherwise; `None`: as all others are."""

    name: str = ""
    sites: frozenset[str] = frozenset()
    """Host names, with those below them; `*` stands for anything."""
    tags: frozenset[str] = frozenset()
    model: str | None = None
    prompts: Path | None = None
    language: str | None = None
    style: str | None = None
    words: int | None = None

    def over(self, settings: Settings) -> Settings:
        """The settings with what this profile says in their place."""
        own = {name: getattr(self, name) for name in ("model", "prompts", "language", "style", "words")}
        return replace(settings, **{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is told, once and for all."""

    db: Path
    model: str
    hosts: tuple[str, ...]
    """URLs of Ollama servers, without credentials; the first that answers is used."""
    embedded: bool
    embedded_model: Path | None
    num_ctx: int | None
    """`None`: chosen from what the model can hold."""
    timeout: timedelta
    """For one answer of the model, waiting for its turn included."""
    model_wait: timedelta
    """For a server that does not answer, once everything is fetched."""
    keep_alive: str
    option: tuple[tuple[str, object], ...]
    """Options of Ollama's, for every request."""
    parallel: int | None
    """Requests to the model at once; `None`: as many as it has slots."""
    vocabulary: Path | None
    """A file with cl100k_base, in place of the one that comes with the program."""
    tool_calls: str
    """A `toolloop.Policy`."""
    words: int
    language: str
    style: str
    prompts: Path | None
    allow_partial: bool
    fallback: str | None
    """`EXTRACTIVE`, or nothing: what a page gets for which the model has no summary."""
    workers: int
    delay: float
    """Seconds between two requests to one host."""
    per_host: int
    """Pages of one host in work at a time, and requests to it."""
    allow_private_network: bool
    allow_network: tuple[IPv4Network | IPv6Network, ...]
    allow_port: tuple[int, ...]
    """Besides 80 and 443."""
    proxy: Proxy | None
    """For pages and their robots.txt; the environment names none."""
    ignore_robots: bool
    respect_noai: bool
    """A page that says `noai` or `noindex` is skipped."""
    comments: str
    """`keep` or `drop`: what readers have written under a text, and the replies of a thread."""
    contact: str
    max_age: timedelta
    since: datetime | None
    """What feeds and sitemaps date before it is left out."""
    force: bool
    limit: int | None
    grace: timedelta
    max_duration: timedelta | None
    """After it no page is taken; what is under way then has `grace`."""
    lock_wait: timedelta
    """For another run to end."""
    profiles: tuple[Profile, ...] = ()
    """The first that matches a page counts."""

    def public(self) -> dict[str, object]:
        """What is kept of them with the run: nothing in them is secret."""
        told = {name: getattr(self, name) for name in self.__slots__ if name not in ("db",)}
        # As a text it has no password; whoever writes it down looks into dataclasses.
        return told | {"proxy": str(self.proxy) if self.proxy else None}


def duration(text: str) -> timedelta:
    """`90s`, `15m`, `12h`, `2d` or `0s`, at most a hundred years. Raises `ValueError` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip().lower(), re.ASCII)
    if not match:
        raise ValueError(f"{text!r} is no duration: write 90s, 15m, 12h or 2d")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{text!r} is longer than a hundred years")
    return timedelta(seconds=seconds)


def moment(text: str, now: datetime) -> datetime:
    """A time that is so long ago (`2d`), or that begins with a date (`2026-11-01`, `2026-11-01T06:00`).

    What names no zone is meant as the clock of this machine has it. Raises `ValueError` for anything else.
    """
    try:
        return now - duration(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text.strip()).astimezone(now.tzinfo)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is neither a duration nor a date: write 12h, 2d or 2026-11-01") from None


def model_option(text: str) -> tuple[str, object]:
    """`top_k=20` as a name and a value of JSON. Raises `ValueError` for what is neither, or is not the user's."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"{text!r} is no option: write it as top_k=20")
    if name in OWNED_OPTIONS:
        raise ValueError(f"{name} is not to be set so: summarize-batch sets it itself")
    try:
        found = json.loads(value)
    except ValueError:
        return name, value
    if isinstance(found, float) and not math.isfinite(found):
        raise ValueError(f"{value} is no number that a server could be sent")
    return name, found


def server_url(text: str) -> str:
    """An Ollama address as a URL, read as the vendor reads `OLLAMA_HOST`.

    Scheme http, host 127.0.0.1 and port 11434 unless named (with a scheme named, the port is the scheme's own).
    Raises `ValueError` for what is none: the vendor takes its own port in place of a bad one, and so a mistyped
    address would go to another server.
    """
    wrong = ValueError(f"{text!r} is no address of an Ollama server: write HOST, HOST:PORT or a URL")
    given = text.strip().strip("\"'").strip()
    scheme, found, rest = given.rpartition("://")
    if not given or not given.isprintable() or " " in given or (found and scheme.lower() not in ("http", "https")):
        raise wrong
    place, slash, path = rest.partition("/")
    if "@" in place:
        raise ValueError("the address of an Ollama server has no user name or password in it")
    if set("?#") & set(rest):
        raise wrong
    try:
        name, port = _name_and_port(place)
    except ValueError:
        raise wrong from None
    if port is None and not found:
        port = OLLAMA_PORT
    return f"{scheme.lower() or 'http'}://{name}{'' if port is None else f':{port}'}{f'{slash}{path}'.rstrip('/')}"


def proxy(text: str) -> Proxy:
    """`http://[user:password@]host:port` as a proxy. Raises `ValueError`, which does not tell what was given."""
    wrong = ValueError("it is no address of a proxy: write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT")
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port or 80
    except ValueError:
        raise wrong from None
    extra = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme.lower() != "http" or extra or not re.fullmatch(r"[\w.:-]+", host, re.ASCII):
        raise wrong
    user, password = (unquote(word or "") for word in (parts.username, parts.password))
    if ":" in user or not (user + password).isprintable():
        raise wrong
    return Proxy(f"http://{f'[{host}]' if ':' in host else host}:{port}", user, password)


def _name_and_port(place: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `:port`, and IPv6 with brackets or without. Raises `ValueError`."""
    if place.count(":") > 1 and not place.startswith("["):
        place = f"[{place}]"
    parts = urlsplit(f"//{place}")
    name, port = parts.hostname or "", parts.port
    if port == 0 or place.endswith(":") or (place.startswith("[") and not isinstance(ip_address(name), IPv6Address)):
        raise ValueError(place)
    # Where a server listens is not where it is reached; and what is closed to pages is the address that is reached.
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104
    return (f"[{name}]" if ":" in name else name), port


def from_files(environment: Mapping[str, str]) -> list[tuple[Path, dict[str, Any]]]:
    """What stands in the user's file and in the project's, in this order: the later one wins.

    Raises `UsageError` for a file that cannot be read or is no TOML.
    """
    found = []
    for path in (_user_file(environment), Path(PROJECT_FILE)):
        if path is None:
            continue
        try:
            found.append((path, tomllib.loads(path.read_text("utf-8-sig"))))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(f"{path} is no TOML: {error}") from error
    return found


def _user_file(environment: Mapping[str, str]) -> Path | None:
    folder = environment.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(folder):  # the specification has others ignored
        return Path(folder) / "summarize-batch" / "config.toml"
    home = environment.get("HOME")
    return Path(home) / ".config" / "summarize-batch" / "config.toml" if home else None

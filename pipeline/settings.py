"""Flags, environment and TOML files into one frozen `Settings`.

A flag wins over `SUMMARIZE_BATCH_<OPTION>`, that over `summarize-batch.toml` in the working directory, that over
`summarize-batch/config.toml` in the user's configuration folder (XDG Base Directory Specification).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

PROJECT_FILE = "summarize-batch.toml"
DEFAULT_HOST = "http://127.0.0.1:11434"
OWNED_OPTIONS = frozenset({"num_ctx", "num_predict", "seed", "shift"})
"""Options of Ollama that are not the user's: on them hangs that nothing is cut."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is told, once and for all."""

    db: Path
    model: str
    host: str
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
    tool_calls: str
    """A `toolloop.Policy`."""
    words: int
    language: str
    style: str
    prompts: Path | None
    allow_partial: bool
    workers: int
    delay: float
    """Seconds between two requests to one host."""
    allow_private_network: bool
    allow_network: tuple[IPv4Network | IPv6Network, ...]
    ignore_robots: bool
    contact: str
    max_age: timedelta
    force: bool
    limit: int | None
    grace: timedelta

    def public(self) -> dict[str, object]:
        """What is kept of them with the run: nothing in them is secret."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("db",)}


def duration(text: str) -> timedelta:
    """`90s`, `15m`, `12h`, `2d` or `0s`. Raises `ValueError` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip().lower())
    if not match:
        raise ValueError(f"{text!r} is no duration: write 90s, 15m, 12h or 2d")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def model_option(text: str) -> tuple[str, object]:
    """`top_k=20` as a name and a value of JSON. Raises `ValueError` for what is neither, or is not the user's."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[a-z_]+", name):
        raise ValueError(f"{text!r} is no option: write it as top_k=20")
    if name in OWNED_OPTIONS:
        raise ValueError(f"{name} is not to be set so: summarize-batch sets it itself")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def server_url(text: str) -> str:
    """An Ollama address as a URL, as the vendor reads `OLLAMA_HOST`: scheme http and port 11434 unless named."""
    url = text.strip().rstrip("/")
    scheme, found, rest = url.rpartition("://")
    host, slash, path = rest.partition("/")
    if host in ("0.0.0.0", "[::]"):  # noqa: S104 - where a server listens is not where it is reached
        host = "127.0.0.1"
    if not host or (found and scheme not in ("http", "https")):
        raise ValueError(f"{text!r} is no address of an Ollama server")
    if not found and not re.search(r":\d+$", host):
        host += ":11434"
    return f"{scheme or 'http'}://{host}{slash}{path}"


def from_files(environment: Mapping[str, str]) -> dict[str, Any]:
    """The options that the user's and the project's file give, the project's over the user's.

    Raises `UsageError` for a file that is no TOML.
    """
    found: dict[str, Any] = {}
    for path in (_user_file(environment), Path(PROJECT_FILE)):
        if path is None or not path.is_file():
            continue
        try:
            found |= {name.replace("-", "_"): value for name, value in tomllib.loads(path.read_text("utf-8")).items()}
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: {error}") from error
    return found


def _user_file(environment: Mapping[str, str]) -> Path | None:
    if folder := environment.get("XDG_CONFIG_HOME"):
        return Path(folder) / "summarize-batch" / "config.toml"
    home = environment.get("HOME")
    return Path(home) / ".config" / "summarize-batch" / "config.toml" if home else None

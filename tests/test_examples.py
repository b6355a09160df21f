"""The crontab, the units and the compose file of docs/examples: what they start is there, and is read as meant."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from pipeline.cli import command

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
UNITS = ("summaries.service", "summaries.timer", "summaries-check.service", "summaries-check.timer")


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text("utf-8"))
    return found


def starts() -> Iterator[tuple[str, list[str]]]:
    """(file, arguments) of each start of the program."""
    for path in (EXAMPLES / "crontab", *(EXAMPLES / name for name in UNITS)):
        for line in path.read_text("utf-8").splitlines():
            if not line.startswith("#") and (found := re.search(r"/bin/summarize-batch (.*)", line)):
                yield path.name, shlex.split(found[1])
    yield "compose.yaml", compose()["services"]["night"]["command"]


@pytest.mark.parametrize(("file", "arguments"), [*starts()])
def test_what_an_example_starts_is_understood(
    file: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *rest = arguments if arguments[0] in command.commands else ("run", *arguments)
    given = command.commands[name].make_context(name, rest).params
    assert given["quiet"]
    if name == "run":
        assert [Path(source).name for source in given["sources"]] == ["urls.txt"]
        assert given["max_duration"] == timedelta(hours=6)
    assert Path(given["db"]).name == "summaries.db"


def test_each_of_the_examples_starts_something() -> None:
    assert [file for file, _ in starts()] == [
        *3 * ["crontab"],
        "summaries.service",
        "summaries-check.service",
        "compose.yaml",
    ]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_the_units_are_such_as_systemd_takes(tmp_path: Path) -> None:
    for name in UNITS:
        text = (EXAMPLES / name).read_text("utf-8")
        (tmp_path / name).write_text(text.replace("/opt/summaries/.venv", sys.prefix))
    units = [str(tmp_path / name) for name in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_containers_know_each_other_and_nobody_else_reaches_the_model() -> None:
    services = compose()["services"]
    ollama, night = services["ollama"], services["night"]
    assert "ports" not in ollama
    assert night["environment"]["OLLAMA_HOST"] == "http://ollama:11434"
    assert list(night["depends_on"]) == ["ollama"]
    assert [volume.partition(":")[0] for volume in ollama["volumes"]] == list(compose()["volumes"])
    context = (EXAMPLES / night["build"]["context"]).resolve()
    copied = re.findall(r"-r (\S+)", night["build"]["dockerfile_inline"])
    assert copied == ["constraints.txt"]
    assert all((context / name).is_file() for name in (*copied, "pyproject.toml"))
    assert night["stop_grace_period"] == "60s"


def test_a_night_that_is_stopped_has_longer_to_end_than_its_grace() -> None:
    given = command.commands["run"].make_context("run", ["urls.txt"]).params
    assert given["grace"] == timedelta(seconds=30)
    assert "TimeoutStopSec=60" in (EXAMPLES / "summaries.service").read_text("utf-8")

"""What the documents say is what the program does."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.core import ParameterSource

from pipeline.cli import command
from pipeline.options import PREFIX
from pipeline.records import Reason
from pipeline.store import Store, connect

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    *("README.md", "ARCHITECTURE.md", "CHANGELOG.md"),
    *("docs/database.md", "docs/reasons.md", "docs/search.md", "docs/unattended.md"),
)
OF_OTHER_PROGRAMS = {"--counts", "--csv", "--json-cols", "--metadata", "--no-deps", "--require-hashes"}
OF_OTHER_PROGRAMS |= {"--system", "--home-dir", "--now", "--rm"}
"""Options of sqlite-utils, Datasette, pip, useradd, systemctl and docker that the documents show."""

OPTIONS = [
    (asked, option)
    for asked in command.commands.values()
    for option in asked.params
    if isinstance(option, click.Option)
]


def text_of(document: str) -> str:
    return (ROOT / document).read_text("utf-8")


# The database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """As it is made by the first run."""
    with Store.open(tmp_path / "summaries.db"):
        connection = connect(tmp_path / "summaries.db", write=False)
    yield connection
    connection.close()


def columns_in(database: sqlite3.Connection) -> dict[str, list[tuple[str, str]]]:
    """(name, type) of each column of each table, without those that SQLite keeps for itself.

    The index and what keeps it in step is told of in docs/search.md.
    """
    names = database.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow' AND name NOT LIKE 'sqlite\\_%' "
        "ESCAPE '\\' AND name NOT GLOB 'search*'"
    )
    return {
        name: [(row["name"], row["type"]) for row in database.execute("SELECT * FROM pragma_table_info(?)", [name])]
        for (name,) in names.fetchall()
    }


def columns_documented() -> dict[str, list[tuple[str, str]]]:
    sections = re.split(r"^### `(\w+)`$", text_of("docs/database.md"), flags=re.MULTILINE)[1:]
    rows = [re.findall(r"^\| `(\w+)` \| (\w*) \| (?:● )?\|", text, re.MULTILINE) for text in sections[1::2]]
    return dict(zip(sections[::2], rows, strict=True))


def test_each_column_is_documented_and_nothing_else(database: sqlite3.Connection) -> None:
    """In their order, with their types."""
    assert columns_documented() == columns_in(database)


def test_every_question_of_the_documents_can_be_asked(database: sqlite3.Connection) -> None:
    documents = (text_of("README.md") + text_of("docs/database.md")).replace("   ...> ", "")
    questions = re.findall(r"^ {4}(?:sqlite> )?(SELECT\b.*?);$", documents, re.MULTILINE | re.DOTALL)
    assert len(questions) == 11
    for question in questions:
        database.execute(question)


# The command line


def shown(case: tuple[click.Command, click.Option]) -> str:
    asked, option = case
    return f"{asked.name} {max(option.opts, key=len)}"


@pytest.mark.parametrize("name", command.commands)
def test_each_command_has_help(name: str) -> None:
    assert command.commands[name].get_short_help_str()


def example(option: click.Option) -> object:
    """A value that differs from the default, as a TOML file would have it."""
    if option.is_flag:
        return True
    if isinstance(option.type, click.Choice):
        return option.type.choices[-1]
    if isinstance(option.type, (click.IntRange, click.FloatRange)):
        return (option.type.min or 0) + 2
    known = {
        "duration": "90s",
        "duration|date": "2026-11-01",
        "cidr": "192.168.7.0/24",
        "url": "http://192.168.7.1:11434",
        "key=value": "top_k=20",
        "proxy": "http://192.168.7.1:3128",
        "number": 3,
        "code": "ko",
    }
    return known.get(option.type.name, "other")


def parsed(asked: click.Command, arguments: list[str], argument: str = "http://a.example/") -> click.Context:
    """The command as it would be called, files and environment read."""
    values = [argument for param in asked.params if argument and isinstance(param, click.Argument) and param.required]
    with click.Context(command) as group:
        assert command.callback
        command.callback()
        return asked.make_context(asked.name, [*arguments, *values], parent=group)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder to work in, without settings of whoever runs the tests."""
    for name in ("OLLAMA_HOST", *(PREFIX + key(option).upper() for _, option in OPTIONS)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key(option: click.Option) -> str:
    return max(option.opts, key=len).removeprefix("--").replace("-", "_")


@pytest.mark.parametrize("case", OPTIONS, ids=shown)
def test_each_option_is_a_flag_a_variable_and_a_key_in_the_file(
    case: tuple[click.Command, click.Option], monkeypatch: pytest.MonkeyPatch, no_settings: Path
) -> None:
    asked, option = case
    value, name, flag = example(option), str(option.name), max(option.opts, key=len)
    wanted = parsed(asked, [flag] if value is True else [flag, str(value)]).params[name]
    assert wanted != parsed(asked, []).params[name]

    quoted = str(value).lower() if isinstance(value, (bool, int, float)) else f'"{value}"'
    line = f"{key(option).replace('_', '-')} = {f'[{quoted}]' if option.multiple else quoted}\n"
    (no_settings / "summarize-batch.toml").write_text(line, "utf-8")
    from_file = parsed(asked, [])
    assert from_file.get_parameter_source(name) is ParameterSource.DEFAULT_MAP
    assert from_file.params[name] == wanted

    monkeypatch.setenv(PREFIX + key(option).upper(), str(value))
    from_environment = parsed(asked, [])
    assert from_environment.get_parameter_source(name) is ParameterSource.ENVIRONMENT
    assert from_environment.params[name] == wanted


def test_a_key_of_the_file_is_no_argument(no_settings: Path) -> None:
    """`words` is an option of `run` and the argument of `search`."""
    (no_settings / "summarize-batch.toml").write_text("words = 50\n", "utf-8")
    with pytest.raises(click.MissingParameter):
        parsed(command.commands["search"], [], argument="")


# What the documents name


def test_no_document_and_no_advice_names_an_option_that_is_not_there() -> None:
    known = {name for _, option in OPTIONS for name in option.opts} | {"--help", "--version"} | OF_OTHER_PROGRAMS
    texts = {document: text_of(document) for document in DOCUMENTS}
    texts |= {reason.value: reason.meaning.advice + reason.meaning.what for reason in Reason}
    named = {name: set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - known for name, text in texts.items()}
    assert {name: unknown for name, unknown in named.items() if unknown} == {}


def test_the_reasons_are_documented_as_they_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \|", text_of("docs/reasons.md"), re.MULTILINE)
    assert rows == sorted(
        (reason.value, reason.meaning.outcome.value, str(reason.meaning.exit_code)) for reason in Reason
    )


def test_no_document_names_a_file_that_is_not_there() -> None:
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#:]+)\)", text_of(document)):
            assert ((ROOT / document).parent / link).exists(), f"{document}: {link}"

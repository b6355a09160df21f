"""ARCHITECTURE.md is held against the code: who imports whom, and who may know what."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from pipeline import records

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pipeline"
DOCUMENT = (ROOT / "ARCHITECTURE.md").read_text("utf-8")

EVERYBODYS = {"records", "errors"}
STAGES = {"urls", "frontier", "fetch", "extract", "llm", "embedded", "store"}
CONDUCTORS = {"__main__", "cli", "options", "run", "engine", "page", "summarizer", "settings", "console"}
PURE = {"chunk", "tokens", "toolloop", "prompts", "languages", "summarize", *EVERYBODYS}
PURE |= {"charsets", "maintext", "visible", "styles", "walls", "marks"}
PURE |= {"accept", "clean", "links", "openings", "rejections", "language_names", "sentences"}
PURE |= {"verify", "facts", "numerals", "dates", "evidence", "extractive"}

KNOWN_TWICE = {
    "aiohttp": {"fetch", "embedded"},  # as a client; as a server
    "click": {"cli", "options"},  # the commands; their options
    "lxml": {"visible", "urls.bookmarks"},  # a page as a tree; a file of bookmarks as a stream of tags
    "pydantic": {"llm", "summarize", "embedded"},  # what comes from outside is validated where it comes in
    "sqlite_utils": {"store", "migrations"},  # the steps are declared in one, applied in the other
}
REACHES_THE_NETWORK = {
    "aiohttp": {"fetch", "embedded"},
    "httpx": {"llm"},
    "ollama": {"llm"},
    "socket": {"addresses", "fetch", "names"},  # makes the sockets; constants; looks names up
    "ssl": {"fetch"},
}
NOBODYS = {"ftplib", "http.client", "http.server", "poplib", "requests", "smtplib", "socketserver", "telnetlib"}
NOBODYS |= {"subprocess", "urllib.request", "xmlrpc", "urllib3", "webbrowser"}
OUTSIDE = {"asyncio", "ctypes", "fcntl", "io", "multiprocessing", "os", "pathlib", "random", "resource", "secrets"}
OUTSIDE |= {"shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time"}
PURE_ALL_THE_SAME = {
    ("tokens", "pathlib"),  # the vocabulary is a file
    ("prompts", "pathlib"),  # so are the prompts
    ("summarize", "asyncio"),  # maps side by side
}
SQL = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|CREATE|DROP|ALTER|PRAGMA|BEGIN|COMMIT|ROLLBACK|ATTACH|VACUUM)\b"
)


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
TREES.pop("")  # the package's own docstring


def imports_in(tree: ast.AST) -> Iterator[str]:
    """The dotted names of what is imported, wherever it is done; `import_module` and `find_spec` count too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "no relative imports"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in inner if name.removeprefix("pipeline.") in TREES]
            yield from known or [node.module]
            yield from () if top(node.module) == "pipeline" else inner
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "find_spec"):
            yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def is_named(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) in names


def top(module: str) -> str:
    return module.partition(".")[0]


def walk(module: str) -> Iterator[ast.AST]:
    return ast.walk(TREES[module])


IMPORTS = {name: set(imports_in(tree)) for name, tree in TREES.items()}
OURS = {
    name: {word.removeprefix("pipeline.") for word in found if word.startswith("pipeline.")}
    for name, found in IMPORTS.items()
}
TOPS = {name: {top(word) for word in found} for name, found in IMPORTS.items()}
FOREIGN = {name: found - sys.stdlib_module_names - {"pipeline", "_typeshed"} for name, found in TOPS.items()}


def code_map() -> dict[str, tuple[set[str], set[str]]]:
    """Module → (what it imports of ours, what it knows of others), as ARCHITECTURE.md has it."""
    rows = re.findall(r"^\| `([\w.]+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", DOCUMENT, re.MULTILINE)
    assert len(rows) == len({name for name, *_ in rows}), "a module stands there twice"
    return {name: (set(re.findall("`(.*?)`", ours)), set(re.findall("`(.*?)`", others))) for name, ours, others in rows}


def users(modules: Mapping[str, set[str]], wanted: str) -> set[str]:
    """Who imports a module, or one inside of it."""
    return {name for name, found in modules.items() if any(f"{word}.".startswith(f"{wanted}.") for word in found)}


def test_the_code_map_is_the_code() -> None:
    assert code_map() == {name: (OURS[name] - EVERYBODYS, FOREIGN[name]) for name in TREES}


def test_nobody_imports_in_a_circle() -> None:
    TopologicalSorter(OURS).prepare()


def test_the_engine_imports_no_stage() -> None:
    assert OURS["engine"] == {"records"}
    assert FOREIGN["engine"] == set()


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_no_stage_knows_another(stage: str) -> None:
    known = set().union(*(found for name, found in OURS.items() if top(name) == stage))
    assert not {top(name) for name in known} & (STAGES | CONDUCTORS) - {stage}


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_reach_nothing(module: str) -> None:
    assert OURS[module] <= PURE
    assert {word for word in TOPS[module] & OUTSIDE if (module, word) not in PURE_ALL_THE_SAME} == set()
    assert not any(isinstance(node, ast.Call) and called(node) in ("open", "now", "today") for node in walk(module))


def test_a_foreign_library_is_known_by_one_module() -> None:
    known = {library: users(FOREIGN, library) for library in set().union(*FOREIGN.values())}
    assert {library: modules for library, modules in known.items() if len(modules) > 1} == KNOWN_TWICE


def test_only_these_modules_reach_the_network() -> None:
    assert {module: users(IMPORTS, module) for module in REACHES_THE_NETWORK} == REACHES_THE_NETWORK
    assert {module for module in NOBODYS if users(IMPORTS, module)} == set()
    streams = {"open_connection", "create_connection", "start_server", "create_server", "start_unix_server"}
    opened = {name for name in TREES for node in walk(name) if isinstance(node, ast.Call) and called(node) in streams}
    assert opened == set()


def test_only_the_store_opens_the_database_and_sql_has_its_place() -> None:
    calls = [(name, node) for name in TREES for node in walk(name) if isinstance(node, ast.Call)]
    assert {name for name in TREES for node in walk(name) if is_named(node, "sqlite3.connect")} == {"store"}
    assert users(IMPORTS, "sqlite3.connect") == set()
    writes = {name for name, node in calls if called(node) == "connect" and "write=False" not in ast.unparse(node)}
    assert writes == {"store"}
    texts = [(name, node.value) for name in TREES for node in walk(name) if isinstance(node, ast.Constant)]
    assert {name for name, text in texts if isinstance(text, str) and SQL.match(text)} == {
        "queries",
        "migrations",
        "store",
    }


def test_only_the_command_line_prints_and_reads_the_environment() -> None:
    nodes = [(name, node) for name in TREES for node in walk(name)]
    assert {name for name, node in nodes if isinstance(node, ast.Call) and called(node) == "print"} == {
        "__main__",
        "console",
    }
    reads = ("os.environ", "os.getenv", "os.environb")
    # llm takes a variable away from the package ollama, which reads it while it is imported.
    assert {name for name, node in nodes if is_named(node, *reads)} == {"cli", "options", "llm"}
    assert not any(users(IMPORTS, read) for read in reads)


def test_what_crosses_modules_is_frozen() -> None:
    kinds = [kind for kind in vars(records).values() if dataclasses.is_dataclass(kind) and isinstance(kind, type)]
    assert kinds
    assert [kind.__name__ for kind in kinds if not kind.__dataclass_params__.frozen] == []  # type: ignore[attr-defined]


def test_each_invariant_names_tests_that_are_there() -> None:
    invariants = DOCUMENT.partition("## Invariants")[2]
    for bullet in re.split(r"^\* ", invariants, flags=re.MULTILINE)[1:]:
        named = re.findall(r"`(tests/\w+\.py)::(\w+)`", bullet)
        assert named, bullet
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text("utf-8"), f"{file}::{test}"

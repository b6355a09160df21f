"""The command itself: what it takes, what it says where, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from command_line import COMMAND, SECONDS, Pages, Said, Shell, article, serving_pages
from fake_ollama import FakeOllama, serving

from pipeline import needs
from pipeline.cli import command
from pipeline.errors import out_of_means
from pipeline.store import Store, lock

NOBODY = "http://127.0.0.1:9"
"""Where no server listens."""
NIGHT = {
    "SUMMARIZE_BATCH_ALLOW_PRIVATE_NETWORK": "1",
    "SUMMARIZE_BATCH_DELAY": "0",
    "SUMMARIZE_BATCH_MODEL": "fake",
    "SUMMARIZE_BATCH_MODEL_WAIT": "0s",
    "SUMMARIZE_BATCH_HOST": NOBODY,
}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"HOME": str(tmp_path)} | NIGHT)


@pytest.fixture(scope="module")
def site() -> Iterator[Pages]:
    pages = {"a": article("A reservoir"), "b": article("수원지의 물"), "robots": "User-agent: *\nDisallow: /private\n"}
    with serving_pages(**pages) as site:
        yield site


@pytest.fixture
def ollama(shell: Shell) -> Iterator[FakeOllama]:
    with serving(FakeOllama()) as fake:
        shell.variables["SUMMARIZE_BATCH_HOST"] = fake.url
        yield fake


def states(shell: Shell, *arguments: str) -> dict[str, str]:
    """The last part of each URL, and how its page stands."""
    return {row["url"].rpartition("/")[2]: row["state"] for row in shell("list", "--json", *arguments).objects}


# What it takes


def test_run_may_be_left_out_and_sources_are_lists_standard_input_and_urls(
    shell: Shell, site: Pages, ollama: FakeOllama
) -> None:
    (shell.folder / "urls.txt").write_text(f"# mine\n\n{site.url}/a\n")
    (shell.folder / "list").write_text(f"{site.url}/b\n")
    said = shell("-q", "urls.txt", f"{site.url}/moved/a", "-", stdin=f"{site.url}/b\n")
    assert said == Said(0, "", "")
    assert [row["state"] for row in shell("list", "--json").objects] == 3 * ["summarized"]
    with_its_name = shell("run", "--dry-run", "urls.txt", f"{site.url}/moved/a", "./list")
    assert with_its_name == shell("--dry-run", "urls.txt", f"{site.url}/moved/a", "./list")
    assert with_its_name.out == "3 fresh\n"


def test_a_list_that_is_named_like_a_command_is_reached_by_run_or_by_its_path(shell: Shell) -> None:
    (shell.folder / "list").write_text("https://example.com/\n")
    assert shell("run", "--dry-run", "list").out == "1 new\n"
    assert shell("--dry-run", "./list").out == "1 new\n"
    assert shell("list").code == 10, "there is no database yet"


def test_a_command_after_its_options_is_a_hint_not_a_missing_file(shell: Shell) -> None:
    said = shell("--db", "mine.db", "search")
    assert said.code == 2
    assert "summarize-batch search [OPTIONS]" in said.err


def test_a_list_may_be_the_output_of_another_program(shell: Shell) -> None:
    said = shell.sh('"$it" -q <(printf "no url\\nand another\\n")')
    assert said.code == 3
    assert said.err.startswith("2 failed: ")


def test_a_list_without_lines_is_nothing_to_do(shell: Shell) -> None:
    (shell.folder / "urls.txt").write_text("# one\n\n   # two\n")
    assert shell("urls.txt") == Said(0, "", "nothing to do: summaries.db\n")
    assert shell("-q", "urls.txt") == Said(0, "", "")
    assert shell("--dry-run", "-", stdin="") == Said(0, "", "nothing to do\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing.txt"], "cannot read missing.txt"),
        (["."], "cannot read ."),
        (["run"], "Missing argument"),
        (["--engine", "ray:x", "https://example.com/"], "No such option '--engine'"),
        (["--workers", "many", "https://example.com/"], "'--workers'"),
        (["--delay", "nan", "https://example.com/"], "'--delay'"),
        (["--timeout", "0s", "https://example.com/"], "shorter than 1s"),
        (["--max-age", "soon", "https://example.com/"], "write 90s, 15m, 12h or 2d"),
        (["--contact", "me\r\nX-Mine: 1", "https://example.com/"], "'--contact'"),
        (["--host", "here:there", "https://example.com/"], "no address of an Ollama server"),
        (["--model", "", "https://example.com/"], "'' is no name"),
        (["list", "--state", "good"], "'--state'"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_before_a_database_is_made(
    shell: Shell, arguments: list[str], told: str
) -> None:
    said = shell(*arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert said.err.count("\n") == 1
    assert os.listdir(shell.folder) == []


def test_standard_input_that_is_closed_is_a_source_that_cannot_be_read(shell: Shell) -> None:
    said = shell.sh('"$it" - <&-')
    assert said.code == 2
    assert "standard input" in said.err
    assert os.listdir(shell.folder) == []


def test_without_arguments_it_shows_its_help_as_an_error(shell: Shell) -> None:
    said = shell()
    assert said.code == 2
    assert "Commands:" in said.err


@pytest.mark.parametrize("name", sorted(command.commands))
def test_every_option_has_help_a_variable_and_a_key(name: str) -> None:
    for parameter in command.commands[name].params:
        if isinstance(parameter, click.Option):
            long = next(word for word in parameter.opts if word.startswith("--"))
            assert parameter.help
            assert parameter.envvar == "SUMMARIZE_BATCH_" + long.removeprefix("--").replace("-", "_").upper()


# Where a value comes from


def database(shell: Shell, *arguments: str, **variables: str) -> str:
    """The database that `list` looks for, as it says that there is none."""
    return shell("list", *arguments, **variables).err.removeprefix("summarize-batch: ").partition(":")[0]


def test_a_flag_wins_over_the_variable_the_project_and_the_user_in_this_order(shell: Shell) -> None:
    assert database(shell) == "summaries.db"
    user = shell.folder / ".config" / "summarize-batch" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text('db = "~/user.db"\n')
    assert database(shell) == str(shell.folder / "user.db")
    elsewhere = shell.folder / "xdg" / "summarize-batch" / "config.toml"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text('db = "xdg.db"\n')
    assert database(shell, XDG_CONFIG_HOME=str(shell.folder / "xdg")) == "xdg.db"
    (shell.folder / "summarize-batch.toml").write_text('db = "project.db"\n')
    assert database(shell) == "project.db"
    assert database(shell, SUMMARIZE_BATCH_DB="variable.db") == "variable.db"
    assert database(shell, "--db", "flag.db", SUMMARIZE_BATCH_DB="variable.db") == "flag.db"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("wrokers = 3", "no option is called wrokers; is it workers?"),
        ("parallel = 0", "parallel: 0 is not in the range"),
        ('workers = "3"', "workers: '3' is not a whole number"),
        ("workers = true", "workers: True is not a whole number"),
        ("workers = 0", "workers: 0 is not in the range"),
        ("quiet = 1", "quiet: 1 is not true or false"),
        ("model = 3", "model: 3 is not a text in quotes"),
        ("delay = true", "delay: True is not a number"),
        ("db = []", "db: [] is not a text in quotes"),
        ('max-age = "soon"', "max-age: 'soon' is no duration"),
        ('allow_network = ["10.0.0.0/8", "x"]', "allow_network: 'x' does not appear to be"),
        ("[run]\nworkers = 3", "no option is called run"),
        ("workers 3", "is no TOML"),
    ],
)
def test_a_wrong_line_of_a_file_is_told_with_file_and_key(shell: Shell, line: str, told: str) -> None:
    (shell.folder / "summarize-batch.toml").write_text(line)
    said = shell("--dry-run", "https://example.com/")
    assert said.code == 2
    assert said.err.startswith("summarize-batch: summarize-batch.toml")
    assert told in said.err
    assert said.err.count("\n") == 1


def test_keys_may_have_underscores_and_flags_have_keys_and_variables(shell: Shell) -> None:
    lines = ["dry_run = true", "json = true", 'max-age = "2d"', "words = 50", "parallel = 2", "delay = 2"]
    (shell.folder / "summarize-batch.toml").write_text("\n".join([*lines, 'allow-network = "10.0.0.0/8"']))
    assert shell("https://example.com/") == Said(0, '{"new": 1}\n', "")
    assert shell("search", "no page").code == 10, "what they say to one command is nothing to another"
    assert shell("https://example.com/", SUMMARIZE_BATCH_JSON="0") == Said(0, "1 new\n", "")
    assert shell("-", SUMMARIZE_BATCH_QUIET="1") == Said(0, "{}\n", "")


def test_several_values_of_a_variable_stand_with_white_space_or_commas_between(shell: Shell) -> None:
    said = shell("--dry-run", "https://example.com/", SUMMARIZE_BATCH_ALLOW_NETWORK="10.0.0.0/8, fd00::/8\tnothing")
    assert said.code == 2
    assert "'nothing' does not appear to be" in said.err
    assert "(from SUMMARIZE_BATCH_ALLOW_NETWORK)" in said.err
    assert shell("--dry-run", "-", SUMMARIZE_BATCH_ALLOW_NETWORK="10.0.0.0/8, fd00::/8").code == 0


def test_the_settings_of_a_run_are_kept_with_it(shell: Shell) -> None:
    networks = {"SUMMARIZE_BATCH_ALLOW_NETWORK": "10.0.0.0/8 fd00::/8", "SUMMARIZE_BATCH_HOST": "one:1,two"}
    assert shell("-", **networks).code == 0
    with closing(sqlite3.connect(shell.folder / "summaries.db")) as db:
        ((kept,),) = db.execute("SELECT settings ->> 'hosts' || (settings ->> 'allow_network') FROM runs")
    assert kept == '["http://one:1","http://two:11434"]["10.0.0.0/8","fd00::/8"]'


def test_what_the_vendor_calls_the_server_is_the_default_and_is_judged_too(shell: Shell) -> None:
    del shell.variables["SUMMARIZE_BATCH_HOST"]
    said = shell("--dry-run", "-", OLLAMA_HOST="here:there")
    assert said.code == 2
    assert said.err.startswith("summarize-batch: OLLAMA_HOST: 'here:there'")
    (shell.folder / "summarize-batch.toml").write_text('host = "mine"\n')
    assert shell("--dry-run", "-", OLLAMA_HOST="here:there").code == 0, "the file is nearer than a default"
    del shell.variables["SUMMARIZE_BATCH_MODEL"]
    assert "mine:11434" in shell("doctor", OLLAMA_HOST="here:there").out


# How it ends


def test_some_failed_is_3_and_the_report_names_each(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    said = shell("-q", f"{site.url}/private/x", f"{site.url}/a", f"{site.url}/gone")
    assert (said.code, said.out) == (3, "")
    counts, failed, skipped = said.err.splitlines()
    assert counts == "1 failed, 1 skipped, 1 summarized: summaries.db"
    assert failed == f"  failed http_404: {site.url}/gone: HTTP 404"
    assert skipped.startswith(f"  skipped robots: {site.url}/private/x: ")


def test_pages_that_were_passed_over_on_purpose_are_nothing_wrong(
    shell: Shell, site: Pages, ollama: FakeOllama
) -> None:
    assert shell("-q", f"{site.url}/a", f"{site.url}/private/x") == Said(0, "", "")


def test_the_command_that_the_report_ends_with_shows_the_rest(shell: Shell, ollama: FakeOllama) -> None:
    with serving_pages(robots="User-agent: *\nDisallow: /private\n") as site:
        urls = [f"{site.url}/gone/{number}" for number in range(30)] + [f"{site.url}/private/{n}" for n in range(9)]
        db = shell.folder / "it's mine.db"
        said = shell("-q", "-", "--db", db, stdin="\n".join(urls))
    assert said.code == 3
    lines = said.err.splitlines()
    assert len(lines) == 20
    assert lines[0].startswith("30 failed, 9 skipped: ")
    assert all("failed http_404" in line for line in lines[1:-1]), "what is wrong comes first"
    words, _, rest = lines[-1].partition(": summarize-batch ")
    assert words == "  and 21 more"
    listed = shell.sh(f'cd / && "$it" {rest}').out
    assert [line.split("\t")[2] for line in listed.splitlines()] == urls


def test_a_night_that_is_not_well_says_twenty_lines_in_all(shell: Shell) -> None:
    """One of them is that its server is down, so the report has one less."""
    with serving_pages(a=article("A")) as site:
        gone = [f"{site.url}/gone/{number}" for number in range(30)]
        said = shell("-q", "-", stdin="\n".join([f"{site.url}/a", *gone]))
    lines = said.err.splitlines()
    assert (said.code, len(lines)) == (12, 20)
    assert lines[0].startswith("cannot reach Ollama")
    assert lines[1] == "30 failed, 1 waiting: summaries.db"
    assert lines[-1].startswith("  and 14 more: ")


def test_a_model_that_is_not_there_is_12_and_nothing_is_fetched(shell: Shell, ollama: FakeOllama) -> None:
    with serving_pages(a=article("A")) as site:
        said = shell("-q", "--model", "other", f"{site.url}/a")
        assert said == Said(12, "", "summarize-batch: model other is not here: ollama pull other\n")
        assert site.asked == []
    assert states(shell) == {"a": "queued"}


def test_a_server_that_is_down_is_12_and_its_pages_are_fetched_once(shell: Shell) -> None:
    with serving_pages(a=article("A"), b=article("B")) as site:
        urls = (f"{site.url}/a", f"{site.url}/b")
        said = shell("-q", *urls, f"{site.url}/gone")
        assert said.code == 12, "before the 3 of the page that failed"
        assert "cannot reach Ollama at http://127.0.0.1:9" in said.err
        assert "2 waiting" in said.err
        assert sorted(site.asked) == ["/a", "/b", "/gone", "/robots.txt"]
        assert states(shell) == {"a": "fetched", "b": "fetched", "gone": "failed"}
        assert shell("--dry-run", *urls).out == "2 waiting for the model only\n"
        site.asked.clear()
        with serving(FakeOllama()) as fake:
            assert shell("-q", *urls, "--host", NOBODY, "--host", fake.url) == Said(0, "", "")
        assert site.asked == []
    assert states(shell, "--state", "summarized") == {"a": "summarized", "b": "summarized"}


def test_no_page_reaches_a_server_of_the_model(shell: Shell, ollama: FakeOllama) -> None:
    with serving(FakeOllama()) as other:
        said = shell("-q", "--host", ollama.url, "--host", other.url, f"{ollama.url}/api/tags", f"{other.url}/api/tags")
        assert other.paths == []
    assert said.err.startswith("2 failed: ")
    assert ollama.paths.count("/api/tags") == 1, "ours"


@pytest.mark.parametrize("made_by", ["nobody", "another program", "a folder", "a newer version"])
def test_a_database_that_cannot_be_used_is_10(shell: Shell, made_by: str) -> None:
    path = shell.folder / "there.db"
    if made_by == "nobody":
        path.write_text("This is no database. " * 100)
    elif made_by == "another program":
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE mine (x)")
    elif made_by == "a folder":
        path.mkdir()
    else:
        with Store.open(path) as store:
            store._connection.execute(NEWER)
    before = None if path.is_dir() else path.read_bytes()
    said = shell("-q", "--db", path, "https://example.com/")
    assert (said.code, said.out) == (10, "")
    assert said.err.startswith("summarize-batch: ")
    assert said.err.count("\n") == 1
    assert path.is_dir() or path.read_bytes() == before or made_by == "a newer version"


def test_a_database_that_another_run_holds_is_11(shell: Shell) -> None:
    path = shell.folder / "summaries.db"
    with lock(path):
        said = shell("https://example.com/")
        assert said.code == 11
        assert f"another run works on summaries.db (pid {os.getpid()} since" in said.err
        assert shell("-q", "https://example.com/") == Said(11, "", ""), "a long night is nothing wrong"
        path.with_name("summaries.db.lock").write_text("pid 7 since 2026-03-02T03:15:00.000Z\n")
        told = "another run works on summaries.db (pid 7 since 2026-03-02T03:15:00.000Z)"
        assert shell("-q", "https://example.com/") == Said(11, "", f"summarize-batch: {told}\n"), "it hangs"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_its_own_code_before_any_failure(
    shell: Shell, ollama: FakeOllama, number: signal.Signals, code: int
) -> None:
    with serving_pages(a=article("A")) as site:
        urls = (f"{site.url}/gone", f"{site.url}/hang", f"{site.url}/a")
        with shell.start("-q", "--grace", "0s", *urls) as running:
            assert site.hangs.wait(60)
            running.send_signal(number)
            _, err = running.communicate(timeout=60)
    assert running.returncode == code
    assert "Traceback" not in err.decode()
    assert states(shell) == {"gone": "failed", "hang": "queued", "a": "queued"}


def test_the_second_signal_stops_what_the_first_lets_end(shell: Shell, ollama: FakeOllama) -> None:
    with serving_pages() as site, shell.start("--grace", "1000s", f"{site.url}/hang") as running:
        assert running.stderr
        assert site.hangs.wait(60)
        running.send_signal(signal.SIGTERM)
        assert b"a second signal stops it now" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (130, b"1 waiting: summaries.db\n")
    assert states(shell) == {"hang": "queued"}


def test_a_run_that_is_suspended_goes_on(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    asked, answers, usual = threading.Event(), threading.Event(), ollama.behave

    def behave(body: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        assert answers.wait(60)
        return usual(body)

    ollama.behave = behave
    with shell.start("-q", f"{site.url}/a", f"{site.url}/b") as running:
        assert asked.wait(60)
        running.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(running.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        answers.set()
        running.send_signal(signal.SIGCONT)
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, b"")
    assert states(shell) == {"a": "summarized", "b": "summarized"}


def test_a_signal_does_not_wait_for_a_list_that_never_ends(shell: Shell) -> None:
    os.mkfifo(shell.folder / "list")
    with shell.start("-q", "--grace", "0s", "list") as running:
        writer = os.open(shell.folder / "list", os.O_WRONLY)  # waits until the run reads
        try:
            running.send_signal(signal.SIGTERM)
            _, err = running.communicate(timeout=60)
        finally:
            os.close(writer)
    assert (running.returncode, err) == (143, b"stopped while a list was read\nnothing to do: summaries.db\n")
    assert (shell("runs", "--json").objects[0]["state"], states(shell)) == ("interrupted", {})


def test_a_night_whose_time_is_over_does_not_wait_for_a_list_that_never_ends(shell: Shell) -> None:
    reader, writer = os.pipe()
    try:
        said = subprocess.run(
            [COMMAND, "-q", "--max-duration", "0s", "--grace", "0s", "-"],
            stdin=reader,
            stderr=subprocess.PIPE,
            cwd=shell.folder,
            env=shell.variables,
            timeout=SECONDS,
            check=False,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert (said.returncode, said.stderr) == (0, b"stopped while a list was read\n")
    assert shell("runs", "--json").objects[0]["state"] == "finished"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no such limit is kept")
def test_a_limit_that_the_run_was_given_is_no_fault_of_a_page(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    """Below those that a worker sets itself, which nobody may raise again."""
    said = shell.sh(f'ulimit -v 2000000; ulimit -t 60; ulimit -n 64; exec "$it" -q {site.url}/a {site.url}/b')
    assert said == Said(0, "", "")
    assert states(shell) == {"a": "summarized", "b": "summarized"}


def test_a_run_that_may_open_too_few_files_says_so_in_a_sentence(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    said = shell.sh(f'ulimit -n 16; exec "$it" -q {site.url}/a {site.url}/b')
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1), said
    assert said.err.startswith(
        "summarize-batch: there is not enough room for open files (`ulimit -n`); what was stored"
    )
    assert not (shell.folder / "summaries.db.bug.txt").exists()
    assert {row["reason"] for row in shell("list", "--json").objects} == {None}


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (MemoryError(), "memory"),
        (ExceptionGroup("", [KeyError(), RuntimeError("can't start new thread")]), "threads"),
        (OSError(errno.EMFILE, "Too many open files"), "open files"),
        (OSError(errno.EPERM, "Operation not permitted"), None),
        (RuntimeError("a bug"), None),
    ],
)
def test_what_the_system_does_not_give_is_no_bug(error: Exception, what: str | None) -> None:
    found = out_of_means(error)
    assert (found is None) == (what is None)
    assert what is None or what in str(found)


NEWER = "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('summarize-batch', 'later', '')"

BUG = """
import asyncio, sys
from pipeline import __main__, run

class Broken:
    def __init__(self, *arguments): pass
    async def run(self, sources):
        async with asyncio.TaskGroup() as group:
            group.create_task(self.fails())
    async def fails(self): raise KeyError("a page of \\x1b[31m")

run.Night = Broken
sys.argv = ["summarize-batch", *sys.argv[1:]]
__main__.main()
"""


@pytest.mark.parametrize("verbose", [False, True])
def test_a_bug_is_1_and_its_trace_is_kept_beside_the_database(shell: Shell, verbose: bool) -> None:
    options = ["-v"] if verbose else ["-q"]
    done = subprocess.run(
        [sys.executable, "-c", BUG, *options, "https://example.com/"],
        cwd=shell.folder,
        env=shell.variables,
        capture_output=True,
        check=False,
    )
    *trace, last = done.stderr.decode().splitlines()
    kept = shell.folder / "summaries.db.bug.txt"
    assert (done.returncode, done.stdout) == (1, b"")
    assert "a bug: KeyError" in last
    assert "(run.py:" in last, "where it went through us last"
    assert "\x1b" not in last
    assert bool(trace) == verbose
    assert kept.exists() != verbose
    if not verbose:
        assert f"the trace is in {kept}" in last
        assert "ExceptionGroup" in kept.read_text(), "the whole of it"
        assert kept.stat().st_mode & 0o777 == 0o600


def test_a_package_that_is_missing_is_2_with_the_command_that_installs_it(shell: Shell) -> None:
    imported = "import sys; sys.modules['click_default_group'] = None"
    in_a_worker = "from importlib import metadata; metadata.requires = lambda name: ['nowhere-to-be-found>=1']"
    for without, wanted in ((imported, "'click-default-group>="), (in_a_worker, "'nowhere-to-be-found>=1'")):
        done = subprocess.run(
            [sys.executable, "-c", f"{without}; from pipeline.__main__ import main; main()", "https://example.com/"],
            cwd=shell.folder,
            env=shell.variables,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.decode().count("\n") == 1
        assert f"a package is missing: {sys.executable} -m pip install {wanted}" in done.stderr.decode()
    assert os.listdir(shell.folder) == []


def test_windows_is_not_supported_and_says_so() -> None:
    assert "Windows is not supported" in needs.unsupported("win32")
    assert not needs.unsupported("linux")
    assert not needs.unsupported("darwin")


# What it says where


def test_with_json_each_page_of_the_list_is_an_object_and_nothing_else_is_on_standard_output(
    shell: Shell, site: Pages, ollama: FakeOllama
) -> None:
    urls = [f"{site.url}/a", f"{site.url}/b", f"{site.url}/gone", "no url"]
    first = shell("--json", "-", stdin="\n".join(urls))
    found = {row["url"]: row for row in first.objects}
    assert sorted(found) == sorted(urls)
    assert {"state", "reason", "title", "summary", "key_points", "outcome"} <= found[urls[0]].keys()
    assert found[urls[0]]["summary"] == "A summary of what was read."
    assert isinstance(found[urls[0]]["key_points"], list)
    assert found[urls[1]]["title"] == "수원지의 물"
    assert [found[url]["outcome"] for url in urls] == ["summarized", "summarized", "failed", "failed"]
    assert found["no url"]["reason"] == "bad_url"
    again = shell("--json", "-q", "-", stdin="\n".join(urls[:2]))
    assert again.err == ""
    assert [(row["outcome"], row["summary"]) for row in again.objects] == [
        ("unchanged", "A summary of what was read."),
        ("unchanged", "A summary of what was read."),
    ]


def test_verbose_is_a_line_a_page_and_the_nearest_of_both_counts(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    said = shell("-v", f"{site.url}/a", SUMMARIZE_BATCH_QUIET="1")
    assert said.out == ""
    assert said.err.splitlines() == [f"summarized {site.url}/a", "1 summarized: summaries.db"]
    assert shell("-q", f"{site.url}/a", SUMMARIZE_BATCH_VERBOSE="1") == Said(0, "", "")


def test_dry_run_asks_nobody_and_leaves_the_database_as_it_is(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    urls = [f"{site.url}/a", f"{site.url}/b", f"{site.url}/a#again", "no url"]
    assert shell("--dry-run", "-", stdin="\n".join(urls)).out == "2 new\n1 repeated\n1 no URL\n"
    assert os.listdir(shell.folder) == []
    assert shell("-q", urls[0]).code == 0
    before = {path.name: path.read_bytes() for path in shell.folder.iterdir()}
    site.asked.clear()
    ollama.paths.clear()
    said = shell("--dry-run", "--json", "--max-age", "0s", "-", stdin="\n".join(urls))
    assert said.objects == [{"to be asked whether changed": 1, "new": 1, "repeated": 1, "no URL": 1}]
    assert {path.name: path.read_bytes() for path in shell.folder.iterdir()} == before
    assert site.asked == ollama.paths == []


def test_it_works_with_an_empty_environment_from_the_root_folder(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    options = f"--allow-private-network --delay 0 --host {ollama.url} -m fake --db {shell.folder}/mine.db"
    said = shell.sh(f'cd / && env -i "$it" --json {options} {site.url}/b')
    assert said.code == 0
    assert said.objects[0]["title"] == "수원지의 물"


def test_what_an_encoding_cannot_say_is_escaped(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    said = shell.cold("--json", "-v", f"{site.url}/b", **ascii_only)
    assert said.code == 0
    assert said.objects[0]["title"] == "수원지의 물"
    assert said.out.isascii()
    shown = shell.cold("show", f"{site.url}/b", **ascii_only)
    assert shown.code == 0
    assert shown.out.startswith("\\uc218\\uc6d0\\uc9c0\\uc758 \\ubb3c\n")
    listed = shell.cold("list", **ascii_only | {"LC_ALL": "en_US.ISO-8859-1"})
    assert listed.out.endswith("\t\\uc218\\uc6d0\\uc9c0\\uc758 \\ubb3c\n")


@pytest.mark.parametrize("streams", [">/dev/full", "2>/dev/full", "2>&1 | head -0", "<&- >&- 2>&-"])
def test_a_run_goes_on_when_nobody_reads_it(shell: Shell, site: Pages, ollama: FakeOllama, streams: str) -> None:
    said = shell.sh(f'set -o pipefail; "$it" --json -v {site.url}/a {site.url}/gone {streams}')
    assert said.code == 3, "by its result"
    assert "Traceback" not in said.err
    assert "Exception ignored" not in said.err
    assert said.err.count("standard output cannot be written") == (streams == ">/dev/full")
    assert states(shell) == {"a": "summarized", "gone": "failed"}
    with closing(sqlite3.connect(shell.folder / "summaries.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_no_file_is_opened_in_place_of_a_standard_stream_that_was_closed(shell: Shell) -> None:
    program = "import os; from pipeline import console as c; c.standard_streams(); assert os.open('x', os.O_CREAT) > 2"
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        assert shell.sh(f'"{sys.executable}" -c "{program}" {closed}').code == 0


def test_progress_is_shown_on_a_terminal_only(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    code, sent = shell.terminal(f"{site.url}/a")
    assert code == 0
    assert "summarizing" in sent
    assert "\x1b[" in sent
    assert sent.splitlines()[-1].endswith("1 summarized: summaries.db")
    code, sent = shell.terminal("-q", "--force", f"{site.url}/a")
    assert (code, sent) == (0, "")
    said = shell("--force", f"{site.url}/b", FORCE_COLOR="1", TERM="xterm")
    assert said == Said(0, "", "1 summarized: summaries.db\n")


def test_what_a_library_logs_is_not_said(shell: Shell, ollama: FakeOllama) -> None:
    with serving_pages(empty="", broken="<p><![CDATA[", words="<html><body>x</body></html>") as site:
        said = shell("-q", *(f"{site.url}/{name}" for name in ("empty", "broken", "words")))
    assert all(line.startswith(("3 failed", "  failed ")) for line in said.err.splitlines()), said.err


def test_names_are_shown_as_they_are(shell: Shell, ollama: FakeOllama) -> None:
    """rich would make a picture of `:100:`, and styles of `[red]`."""
    with serving_pages() as site:
        said = shell("-q", f"{site.url}/:100:/[red]")
    assert f"{site.url}/:100:/[red]" in said.err


def test_help_that_cannot_be_written_is_no_bug(shell: Shell) -> None:
    said = shell.sh('"$it" --help >/dev/full')
    assert said == Said(2, "", "summarize-batch: standard output cannot be written: No space left on device\n")


def test_the_program_can_be_started_as_a_module(shell: Shell) -> None:
    done = subprocess.run([sys.executable, "-m", "pipeline", "--version"], capture_output=True, check=True)
    assert done.stdout.decode() == shell("--version").out


def test_force_fetches_and_summarizes_anew_what_has_not_changed(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    url = f"{site.url}/a"
    assert shell("-q", url).code == 0
    before, asked = len(ollama.chats), len(site.asked)
    assert shell("-q", url).code == 0
    assert len(ollama.chats) == before
    (row,) = shell("--json", "--force", url).objects
    assert row["outcome"] == "summarized"
    assert len(ollama.chats) > before
    assert len(site.asked) > asked


def test_sentences_of_the_page_stand_in_for_a_summary_only_when_that_is_asked_for(
    shell: Shell, site: Pages, ollama: FakeOllama
) -> None:
    ollama.behave = lambda body: {"role": "assistant", "content": ""}
    url = f"{site.url}/a"
    (row,) = shell("--json", url).objects
    assert (row["state"], row["reason"], row["summary"]) == ("failed", "llm_empty", None)
    (row,) = shell("--json", "--force", "--fallback", "extractive", url).objects
    assert (row["state"], row["method"], row["flags"]) == ("summarized", "verbatim", ["extractive", "llm_empty"])
    assert row["summary"].startswith("The reservoir above the town holds water")


def test_a_profile_says_how_the_pages_of_a_site_or_with_a_tag_are_summarized(
    shell: Shell, site: Pages, ollama: FakeOllama
) -> None:
    host = site.url.rpartition("/")[2].partition(":")[0]
    (shell.folder / "summarize-batch.toml").write_text(
        f'[profile.brief]\ntag = "brief"\nwords = 30\nlanguage = "ko"\n'
        f'[profile.here]\nsite = ["{host}"]\nstyle = "bullets"\n'
    )
    shell("-q", "-", stdin=f"{site.url}/a #brief\n{site.url}/b\n")
    told = {}
    for body in ollama.chats:
        if "format" in body:
            text = json.dumps(body["messages"], ensure_ascii=False)
            told["a" if f"{site.url}/a" in text else "b"] = body["messages"][-1]["content"]
    assert "at most 30 words of Korean" in told["a"]
    assert "as one paragraph" in told["a"]
    assert "at most 100 words" in told["b"]
    assert "begin with a hyphen" in told["b"]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[profile.a]\nwords = 30\n", "needs a `site` or a `tag`"),
        ('[profile.a]\nsite = "x"\nworkers = 3\n', "workers is none of"),
        ("[profile.a]\ntag = 7\n", "tag is a text"),
        ('[profile.a]\ntag = "x"\nwords = "many"\n', "not a whole number"),
        ('profile = "a"\n', "a profile is a table"),
    ],
)
def test_a_profile_that_cannot_be_is_a_mistake_of_usage(shell: Shell, toml: str, words: str) -> None:
    (shell.folder / "summarize-batch.toml").write_text(toml)
    said = shell("http://a.example/")
    assert said.code == 2
    assert words in said.err


def test_a_server_that_is_there_but_fails_each_chat_ends_the_run_after_a_bounded_number_of_rounds(
    shell: Shell, site: Pages, ollama: FakeOllama
) -> None:
    ollama.behave = lambda body: {"status": 503, "error": "server busy, please try again."}
    said = shell("-q", "--model-wait", "1s", f"{site.url}/a", f"{site.url}/b")
    assert said.code == 12
    assert states(shell) == {"a": "fetched", "b": "fetched"}


def test_a_limit_above_the_length_of_the_list_limits_nothing(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    said = shell("-v", "--limit", "10", f"{site.url}/a")
    assert said.code == 0
    with closing(sqlite3.connect(shell.folder / "summaries.db")) as db:
        assert db.execute("SELECT reason FROM items WHERE outcome = 'waiting'").fetchall() == []


def test_a_line_that_is_no_page_cannot_be_retried(shell: Shell, ollama: FakeOllama) -> None:
    assert shell("-q", "-", stdin="ftp://a.example/\n").code == 3
    said = shell("retry", "ftp://a.example/")
    assert said.code == 2
    assert "is no page" in said.err
    assert shell("check").code in (0, 3)


def test_an_export_does_not_go_into_the_database(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    shell("-q", f"{site.url}/a")
    before = (shell.folder / "summaries.db").read_bytes()
    for name in ("summaries.db", "./summaries.db", "summaries.db.lock"):
        assert shell("export", "--output", name).code == 2
    assert (shell.folder / "summaries.db").read_bytes() == before
    assert shell("export", "--output", "summaries.db.json").code == 0


@pytest.mark.parametrize("given", ["temperature=1e999", "top_k=Infinity", "num_ctx=9"])
def test_an_option_that_cannot_be_sent_is_a_mistake_of_usage(shell: Shell, given: str) -> None:
    assert shell("--option", given, "http://a.example/").code == 2

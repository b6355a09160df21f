"""What people and scripts are told, and what never reaches a terminal."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.console import MOST_LINES, Console, json_text, printable, report
from pipeline.records import Outcome, Reason

ESCAPES = {
    "\x1b[31mred\x1b[0m": "\\x1b[31mred\\x1b[0m",
    "\x9b31m": "\\x9b31m",
    "one\ntwo\r\x07": "one\\ntwo\\r\\x07",
    "\u202edrawkcab\u2069": "\\u202edrawkcab\\u2069",
    "\u200f\u061c": "\\u200f\\u061c",
    "\U000e0041": "\\U000e0041",
    "\ufeffbom": "\\ufeffbom",
    "\ud800": "\\ud800",
    "\u2028\x7f": "\\u2028\\x7f",
}


@pytest.mark.parametrize("text", ESCAPES)
def test_what_a_terminal_obeys_is_escaped(text: str) -> None:
    assert printable(text) == ESCAPES[text]
    written = json_text({"title": text})
    assert json.loads(written) == {"title": text}, "in JSON nothing is lost"
    assert printable(written) == written


@pytest.mark.parametrize(
    "text", ["수원지의 물", "中文\u3000標題", "नमस्\u200dते", "می\u200cروم", "👩\u200d🚀 it's ❤️", "a\u00a0b"]
)
def test_what_people_write_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert text in json_text({"title": text})


@given(st.text())
def test_any_text_is_safe_to_show(text: str) -> None:
    for shown in (printable(text), json_text({"x": text})):
        assert not set(shown) & {chr(code) for code in (*range(32), *range(127, 160), *range(0x202A, 0x202F))}
    assert json.loads(json_text({"x": text})) == {"x": text}


def fault(reason: Reason, url: str = "http://a.example/", detail: str = "") -> sqlite3.Row:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    outcome = reason.meaning.outcome.value
    row: sqlite3.Row = connection.execute(
        "SELECT ? AS outcome, ? AS reason, ? AS url, ? AS detail", [outcome, reason.value, url, detail]
    ).fetchone()
    connection.close()
    return row


def told(counts: dict[str, int], faults: Sequence[sqlite3.Row], db: str) -> list[str]:
    """The report of a run with these faults."""

    def first(reasons: Sequence[Reason], most: int) -> Sequence[sqlite3.Row]:
        return [row for row in faults if row["reason"] in reasons][:most]

    return report(
        counts, Counter((Outcome(row["outcome"]), Reason(row["reason"])) for row in faults), first, db, Path(db)
    )


def test_a_run_that_did_nothing_says_so() -> None:
    assert told({}, [], "my.db") == ["nothing to do: my.db"]


def test_a_fault_without_detail_is_told_by_its_meaning() -> None:
    assert told({"failed": 1}, [fault(Reason.HTTP_404)], "my.db") == [
        "1 failed: my.db",
        "  failed http_404: http://a.example/: there is no such page",
    ]


@pytest.mark.parametrize("count", [1, MOST_LINES - 1, MOST_LINES, 1_000])
def test_a_report_has_twenty_lines_at_the_most(count: int) -> None:
    lines = told({"failed": count}, [fault(Reason.HTTP_404)] * count, "my.db")
    assert len(lines) == min(count + 1, MOST_LINES)
    assert (" more: " in lines[-1]) == (count >= MOST_LINES)


@pytest.mark.parametrize(("warnings", "left"), [(0, 20), (4, 16), (100, 5)])
def test_whoever_wants_to_hear_little_hears_twenty_lines_in_all(warnings: int, left: int) -> None:
    quiet, usual = Console(-1), Console(0)
    for _ in range(warnings):
        quiet.warn("A server is down.")
        usual.warn("A server is down.")
    assert (quiet.lines_left, usual.lines_left) == (left, MOST_LINES)
    counts = {(Outcome.FAILED, Reason.HTTP_404): 50}
    rows = [fault(Reason.HTTP_404)] * 50
    lines = report({"failed": 50}, counts, lambda _, most: rows[:most], "my.db", Path("/my.db"), 7, quiet.lines_left)
    assert len(lines) == left
    assert lines[-1].startswith(f"  and {50 - (left - 3)} more: ")


def test_what_was_not_to_be_asked_is_a_count_and_where_the_rest_is_told() -> None:
    lines = told({"failed": 1, "not asked": 2}, [fault(Reason.HTTP_404)], "my.db")
    assert lines[0] == "1 failed, 2 not asked: my.db"
    assert lines[1].startswith("  2 not asked, as they failed before: summarize-batch failures --db ")
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("reason", "states"),
    [
        (Reason.HTTP_404, "--state failed"),
        (Reason.HTTP_5XX, "--state deferred"),
        (Reason.ROBOTS, "--state skipped"),
        (Reason.LLM_DOWN, "--state queued --state fetched"),
    ],
)
def test_the_rest_is_where_such_pages_stand(reason: Reason, states: str) -> None:
    *_, last = told({}, [fault(reason)] * 50, "/a b/my.db")
    assert last == f"  and 32 more: summarize-batch list --db '/a b/my.db' {states}"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("failed http://a.example/?token=s3: HTTP 404", "failed http://a.example/?token=***: HTTP 404"),
        ("http://a.example/?id=7&API_KEY=s3&x=1#y", "http://a.example/?id=7&API_KEY=***&x=1#y"),
        ("moved to http://a.example/?X-Amz-Signature=s3", "moved to http://a.example/?X-Amz-Signature=***"),
        ("http://a.example/?key=s3 and ?sig=s3", "http://a.example/?key=*** and ?sig=***"),
        ("http://a.example/?keyword=a&monkey=b&access_token=", "http://a.example/?keyword=a&monkey=b&access_token="),
    ],
)
def test_what_lets_somebody_in_is_not_said(told: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    Console().warn(told)
    assert capsys.readouterr().err == f"{shown}\n"


def test_a_long_line_of_a_report_is_cut() -> None:
    _, line = told({}, [fault(Reason.HTTP_404, "http://a.example/" + 2_000 * "x", 500 * "y")], "my.db")
    assert len(line) < 500


def test_what_is_wrong_comes_before_what_was_passed_over(tmp_path: Path) -> None:
    faults = [fault(Reason.ROBOTS)] * 50 + [fault(Reason.HTTP_404, "http://b.example/")]
    assert "http://b.example/" in told({}, faults, "my.db")[1]

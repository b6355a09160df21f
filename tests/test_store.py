"""Events into rows, and rows back."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import queries
from pipeline.commands import plan
from pipeline.errors import DatabaseUnusable, LockHeld
from pipeline.migrations import APPLICATION_ID
from pipeline.records import (
    Added,
    Chunk,
    Chunked,
    ChunkSummarized,
    Document,
    Fetched,
    Final,
    HostSeen,
    Line,
    Measured,
    NotDone,
    Page,
    Partial,
    Paused,
    Reason,
    Recipe,
    Refusal,
    RobotsFile,
    Stage,
    State,
    Summarized,
    Task,
    Unchanged,
)
from pipeline.store import Store, connect, iso, lock, now

RECIPE = Recipe("m", "d", 4_096, {"words": 100}, {"map": "…"}, "recipe-hash")
DOCUMENT = Document("# Title\n\nText.", "Title", "An author", "A site", "en", "2024-05-14")
PARTIAL = Partial("partial", 1, 0, False, 10, 5, 0.1)
FINAL = Final("A summary.", ("One.", "Two."), prompt_tokens=20, output_tokens=10, seconds=0.2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "summaries.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        store.add_recipe(RECIPE)
        yield store


def line(name: str, host: str = "a.example") -> Line:
    url = f"http://{host}/{name}"
    return Line(url, url, host, "urls.txt")


def page(url: str, etag: str = '"1"') -> Page:
    return Page(url, url, 200, "text/html", "utf-8", b"", etag, "Mon, 01 Jan 2024 00:00:00 GMT", ("http://x/",))


def fetched(task: Task, document: Document = DOCUMENT) -> Fetched:
    return Fetched(task, page(task.url), document, now(), now())


def summarized(task: Task, document: Document = DOCUMENT) -> Summarized:
    return Summarized(task, document.hash, RECIPE.hash, FINAL, "en", "single", 1.0, 1, now(), now())


def not_done(task: Task, reason: Reason, not_before: datetime | None = None) -> NotDone:
    return NotDone(task, Stage.FETCH, Refusal(reason, "why", 404, not_before), now(), now())


def tasks(store: Store, host: str = "a.example") -> list[Task]:
    return [task for _, task in store.tasks_after(host, -1, 100)]


def rows(path: Path, query: str) -> list[dict[str, object]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(query)]
    finally:
        connection.close()


def test_a_page_goes_through_its_states(store: Store, path: Path) -> None:
    store.apply(Added((line("1"),)))
    (task,) = tasks(store)
    assert task.state is State.QUEUED
    store.apply(fetched(task))
    (page_row,) = rows(path, "SELECT * FROM pages")
    assert page_row["state"] == "fetched"
    assert (page_row["title"], page_row["author"], page_row["site"]) == ("Title", "An author", "A site")
    assert (page_row["language"], page_row["published"], page_row["etag"]) == ("en", "2024-05-14", '"1"')
    (waiting,) = tasks(store)
    assert waiting.waits_for_model
    assert waiting.document == DOCUMENT
    store.apply(Chunked(DOCUMENT.hash, (Chunk(0, 0, 14, DOCUMENT.text, 5),)))
    store.apply(summarized(task))
    assert rows(path, "SELECT state, reason FROM pages") == [{"state": "summarized", "reason": None}]
    (latest,) = rows(path, "SELECT * FROM latest_summaries")
    assert latest["summary"] == "A summary."
    assert json.loads(str(latest["key_points"])) == ["One.", "Two."]
    assert latest["model"] == "m"
    assert store.counts() == {"summarized": 1}
    assert tasks(store) == []
    assert [row["stage"] for row in rows(path, "SELECT stage FROM attempts ORDER BY id")] == ["fetch", "map"]
    assert rows(path, "SELECT url FROM redirects") == [{"url": "http://x/"}]


@pytest.mark.parametrize(
    ("reason", "state", "outcome"),
    [
        (Reason.HTTP_404, "failed", "failed"),
        (Reason.ROBOTS, "skipped", "skipped"),
        (Reason.RATE_LIMITED, "deferred", "deferred"),
        (Reason.LLM_DOWN, "queued", "waiting"),
    ],
)
def test_a_page_that_is_not_done_has_a_state_and_a_reason(
    store: Store, path: Path, reason: Reason, state: str, outcome: str
) -> None:
    store.apply(Added((line("1"),)))
    store.apply(not_done(tasks(store)[0], reason))
    (row,) = rows(path, "SELECT state, pages.reason, outcome, items.reason AS item FROM pages, items")
    assert row == {"state": state, "reason": reason.value, "outcome": outcome, "item": reason.value}
    assert rows(path, "SELECT code, detail FROM attempts") == [{"code": reason.value, "detail": "why"}]


def test_a_line_that_is_no_url_is_a_row_and_the_same_row_tomorrow(store: Store, path: Path) -> None:
    bad = Line("nonsense", "line:abc", "", "urls.txt", reason=Reason.BAD_URL, detail="no scheme")
    store.apply(Added((bad, line("1"))))
    store.begin_run("urls.txt", "m", {})
    store.apply(Added((bad,)))
    assert rows(path, "SELECT count(*) AS n FROM pages WHERE reason = 'bad_url'") == [{"n": 1}]
    assert rows(path, "SELECT count(*) AS n FROM items WHERE reason = 'bad_url'") == [{"n": 2}]
    assert store.to_do() == 0


def test_a_repeated_line_is_one_page_and_one_item(store: Store, path: Path) -> None:
    store.apply(Added((line("1"), line("1"))))
    store.apply(Added((line("1"),)))
    assert rows(path, "SELECT count(*) AS n FROM items") == [{"n": 1}]


def test_a_fresh_page_is_not_asked_for_and_a_deferred_one_not_yet(store: Store, path: Path) -> None:
    store.apply(Added((line("1"), line("2"), line("3"))))
    first, second, third = tasks(store)
    store.apply(fetched(first))
    store.apply(summarized(first))
    store.apply(not_done(second, Reason.RATE_LIMITED, now() + timedelta(hours=1)))
    store.apply(not_done(third, Reason.HTTP_404))
    store.end_run("finished", 3, None)
    store.begin_run("urls.txt", "m", {})
    store.apply(Added((line("1"), line("2"), line("3"))))
    store.settle(timedelta(hours=12), force=False)
    outcomes = "SELECT outcome, reason FROM items WHERE run_id = 2 ORDER BY id"
    assert rows(path, outcomes) == [
        {"outcome": "unchanged", "reason": "fresh"},
        {"outcome": "deferred", "reason": "rate_limited"},
        {"outcome": "waiting", "reason": None},
    ]
    assert [task.url for task in tasks(store)] == ["http://a.example/3"]


@pytest.mark.parametrize(("max_age", "force"), [(timedelta(0), False), (timedelta(hours=12), True)])
def test_an_old_page_and_with_force_every_page_is_asked_for(store: Store, max_age: timedelta, force: bool) -> None:
    store.apply(Added((line("1"),)))
    (task,) = tasks(store)
    store.apply(fetched(task))
    store.apply(summarized(task))
    store.end_run("finished", 0, None)
    store.begin_run("urls.txt", "m", {})
    store.apply(Added((line("1"),)))
    store.settle(max_age, force)
    (again,) = tasks(store)
    assert (again.etag, again.text_hash, again.summarized) == ('"1"', DOCUMENT.hash, True)


LINES = (line("1"), line("2"), line("3"))
LATER = datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)
"""A second after the last that 32 bits can hold."""


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_night_whose_clock_was_years_ahead_puts_no_page_off(path: Path, is_killed: bool) -> None:
    """One of a machine that began with the year 2038 would leave its pages alone until then."""
    with Store.open(path, clock=lambda: LATER) as store:
        store.begin_run("urls.txt", "m", {})
        store.add_recipe(RECIPE)
        store.apply(Added(LINES))
        first, second, third = tasks(store)
        store.apply(replace(fetched(first), ended_at=LATER))
        store.apply(summarized(first))
        store.apply(replace(not_done(second, Reason.HTTP_404), ended_at=LATER))
        wish = LATER + timedelta(hours=1)
        store.apply(replace(not_done(third, Reason.RATE_LIMITED, wish), ended_at=LATER))
        if not is_killed:
            store.end_run("finished", 3, None)
    with Store.open(path) as store:
        assert plan.plan(path, lambda secret: LINES, timedelta(hours=12), force=False) == {plan.AGAIN: 3}
        assert night_after(store) == ["1", "2", "3"]
        for task in tasks(store):
            store.apply(fetched(task))
            store.apply(summarized(task))
        store.end_run("finished", 0, None)
        assert night_after(store) == [], "and from then on all is as ever"


def killed_night(store: Store) -> None:
    """A run that has summarized the first of three pages and failed at the second when it is killed."""
    store.apply(Added(LINES))
    first, second, _ = tasks(store)
    store.apply(fetched(first))
    store.apply(summarized(first))
    store.apply(not_done(second, Reason.HTTP_404))


def night_after(store: Store, source: str = "urls.txt", hours: float = 12, *, force: bool = False) -> list[str]:
    """The pages that the next run asks for."""
    store.begin_run(source, "m", {})
    store.apply(Added(LINES))
    store.settle(timedelta(hours=hours), force)
    return sorted(task.url.rpartition("/")[2] for task in tasks(store))


def test_what_failed_in_a_run_that_was_killed_has_had_its_turn_and_counts_once(store: Store, path: Path) -> None:
    killed_night(store)
    for _ in range(3):
        assert night_after(store) == ["3"]
    assert rows(path, "SELECT outcome, reason, ended_at > '2' AS ended FROM items WHERE run_id = 4") == [
        {"outcome": "unchanged", "reason": "fresh", "ended": 1},
        {"outcome": "failed", "reason": "http_404", "ended": 1},
        {"outcome": "waiting", "reason": None, "ended": None},
    ]
    assert rows(path, "SELECT failures FROM pages WHERE id = 2") == [{"failures": 1}]
    times = rows(path, "SELECT count(DISTINCT ended_at) AS n FROM items WHERE page_id = 2")
    assert times == [{"n": 1}], "each kill would put the page off anew"


def test_a_forced_run_goes_on_too_where_it_was_killed(store: Store, path: Path) -> None:
    killed_night(store)
    assert night_after(store, force=True) == ["3"]
    assert rows(path, "SELECT reason FROM items WHERE run_id = 2 AND page_id = 1") == [{"reason": "fresh"}]


def test_a_page_that_was_a_list_is_read_again_by_the_run_that_goes_on(store: Store) -> None:
    killed_night(store)
    store.apply(not_done(tasks(store)[0], Reason.LIST))
    assert night_after(store) == ["3"]


def test_what_failed_is_asked_for_again_by_another_errand_another_night_and_after_a_run_that_ended(
    store: Store,
) -> None:
    killed_night(store)
    assert night_after(store, "other.txt") == ["2", "3"]
    assert night_after(store) == ["2", "3"], "the run of the other list lies between"
    assert night_after(store, hours=0) == ["1", "2", "3"]
    store.end_run("interrupted", 143, "interrupted")
    assert night_after(store) == ["2", "3"]


def test_a_page_without_a_text_is_asked_for_without_validators(store: Store, path: Path) -> None:
    store.apply(Added((line("1"),)))
    (task,) = tasks(store)
    store.apply(fetched(task))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE pages SET text_hash = NULL, state = 'failed'")
    connection.commit()
    connection.close()
    (again,) = tasks(store)
    assert (again.etag, again.last_modified, again.document) == ("", "", None)


def test_a_text_that_the_model_could_not_do_is_kept_for_it(store: Store) -> None:
    store.apply(Added((line("1"),)))
    (task,) = tasks(store)
    store.apply(fetched(task))
    store.apply(NotDone(task, Stage.MAP, Refusal(Reason.LLM_TRUNCATED), now(), now()))
    store.begin_run("urls.txt", "m", {})
    store.apply(Added((line("1"),)))
    (again,) = tasks(store)
    assert again.document == DOCUMENT
    assert not again.waits_for_model


def test_an_unchanged_page_keeps_its_summary_and_is_fresh_again(store: Store, path: Path) -> None:
    store.apply(Added((line("1"),)))
    (task,) = tasks(store)
    store.apply(fetched(task))
    store.apply(summarized(task))
    before = rows(path, "SELECT fetched_at, changed_at FROM pages")[0]
    later = now() + timedelta(seconds=5)
    store.apply(Unchanged(replace(task, summarized=True), Reason.SAME_TEXT, now(), later, page(task.url, '"2"')))
    (after,) = rows(path, "SELECT state, etag, fetched_at, changed_at FROM pages")
    assert (after["state"], after["etag"]) == ("summarized", '"2"')
    assert str(after["fetched_at"]) > str(before["fetched_at"])
    assert after["changed_at"] == before["changed_at"]
    assert store.counts() == {"unchanged": 1}


def test_answers_are_found_again_by_what_they_were_made_from(store: Store) -> None:
    store.apply(Added((line("1"),)))
    (task,) = tasks(store)
    store.apply(fetched(task))
    store.apply(ChunkSummarized(task, "chunk", RECIPE.hash, PARTIAL, now(), now()))
    store.apply(summarized(task))
    assert store.recall_map("chunk", RECIPE.hash) == PARTIAL
    assert store.recall_map("chunk", "other") is None
    assert store.recall_final(DOCUMENT.hash, RECIPE.hash) == Final("A summary.", ("One.", "Two."))
    assert store.recall_final("other", RECIPE.hash) is None


def test_a_killed_run_is_closed_by_the_next_one(path: Path) -> None:
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
    with Store.open(path) as store:
        store.begin_run("urls.txt", "m", {})
        store.end_run("finished", 0, None)
    assert [row["state"] for row in rows(path, "SELECT state FROM runs ORDER BY id")] == ["interrupted", "finished"]


def test_the_file_is_its_owners_alone_and_says_whose_it_is(store: Store, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert rows(path, "PRAGMA application_id") == [{"application_id": APPLICATION_ID}]
    assert rows(path, "PRAGMA journal_mode") == [{"journal_mode": "wal"}]


def test_another_programs_database_is_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match="not made by summarize-batch"), Store.open(path):
        pass
    assert path.read_bytes() == before


def test_what_is_no_database_is_left_alone(path: Path) -> None:
    path.write_bytes(b"a letter to a friend " * 100)
    with pytest.raises(DatabaseUnusable, match="not a database"), Store.open(path):
        pass
    assert path.read_bytes() == b"a letter to a friend " * 100


def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    with Store.open(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('summarize-batch', 'later', '')"
    )
    connection.commit()
    connection.close()
    with pytest.raises(DatabaseUnusable, match="newer version"), Store.open(path):
        pass


def test_a_place_where_no_database_can_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="cannot be opened"), Store.open(tmp_path / "no" / "where.db"):
        pass
    with pytest.raises(DatabaseUnusable, match="no database is here"):
        connect(tmp_path / "none.db", write=False)
    assert not (tmp_path / "none.db").exists()


def test_a_reader_cannot_write(store: Store, path: Path) -> None:
    with closing(connect(path, write=False)) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM pages")


def test_a_second_run_is_told_who_holds_the_database(path: Path) -> None:
    with lock(path), pytest.raises(LockHeld, match=f"pid {os.getpid()} since"), lock(path):
        pass


def test_the_lock_ends_with_its_process(path: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from typing import Any
from pipeline.store import lock
with lock(Path({str(path)!r})):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert child.stdout == "held\n"
    with lock(path):
        pass


def test_times_are_utc_and_sort_as_text() -> None:
    early = datetime(2024, 1, 2, 3, 4, 5, 6_000, UTC)
    assert iso(early) == "2024-01-02T03:04:05.006Z"
    assert iso(early) < iso(early + timedelta(milliseconds=1))


def test_nobody_is_told_done_before_the_commit(path: Path) -> None:
    points: list[tuple[str, int]] = []

    def seen(point: str) -> None:
        points.append((point, rows(path, "SELECT count(*) AS n FROM runs")[0]["n"]))  # type: ignore[arg-type]

    with Store.open(path, seen) as store:
        store.begin_run("urls.txt", "m", {})
    assert ("begin_run", 1) in points


def test_no_question_about_one_page_scans_a_table(store: Store) -> None:
    from pipeline import queries

    connection = store._connection
    statements: dict[str, Any] = {
        "TASKS_AFTER": {"run_id": 1, "host": "a.example", "position": 0, "most": 8},
        "HOSTS_BETWEEN": [1, "", "z", 8],
        "ADD_ITEM": {"run_id": 1, "page_id": 1, "host": "a.example"},
        "ADD_CHOSEN_ITEM": {"run_id": 1, "page_id": 1, "fetched": True},
        "ATTEMPTS": [1],
        "RECALL_MAP": ["c", "r"],
        "RECALL_FINAL": ["t", "r"],
        "RESULT": [1, 1],
        "END_ITEM": ["failed", None, None, None, 1, 1],
        "PAGE_SUMMARIZED": [1],
        "KNOWN": ["k"],
    }
    for name, values in statements.items():
        plan = connection.execute(f"EXPLAIN QUERY PLAN {getattr(queries, name)}", values).fetchall()
        scans = [row["detail"] for row in plan if row["detail"].startswith("SCAN") and "CONSTANT" not in row["detail"]]
        assert not scans, (name, scans)


def test_a_reader_of_an_older_database_is_told_what_brings_it_up_to_date(path: Path) -> None:
    with Store.open(path):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(DatabaseUnusable, match="the next run brings it up to date"):
        connect(path, write=False)


def test_what_is_known_of_a_vocabulary_is_kept_by_model(path: Path) -> None:
    with Store.open(path) as store:
        store.apply(Measured("digest", {"english": (3, 1.4), "code": (1, 1.9)}))
        store.apply(Measured("digest", {"english": (5, 1.5)}))
        store.apply(Measured("another", {"english": (1, 2.0)}))
        assert store.ratios("digest") == {"english": (5, 1.5), "code": (1, 1.9)}
        assert store.ratios("unknown") == {}


def test_a_model_that_did_not_call_is_remembered_until_it_does(store: Store) -> None:
    store.apply(Added((line("1"),)))
    (task,) = tasks(store)
    told: list[int] = []
    for number, (calls, errors, primed) in enumerate([(0, 1, True), (1, 3, True), (0, 0, True), (1, 0, False)]):
        partial = Partial("partial", calls, errors, primed, 10, 5, 0.1)
        store.apply(ChunkSummarized(task, f"hash {number}", RECIPE.hash, partial, now(), now()))
        told.append(store.failures_to_call(RECIPE.hash, 3))
    assert told == [1, 2, 2, 0]


def test_the_answer_to_a_page_of_one_part_is_kept_as_that_of_its_chunk(store: Store) -> None:
    store.apply(Added((line("1"),)))
    (task,) = tasks(store)
    store.apply(fetched(task))
    chunk = Chunk(0, 0, 14, DOCUMENT.text, 5)
    store.apply(Chunked(DOCUMENT.hash, (chunk,)))
    store.apply(replace(summarized(task), parts=(chunk.hash,)))
    known = store.recall_map(chunk.hash, RECIPE.hash)
    assert known is not None
    assert known.summary == FINAL.summary


def test_a_summary_of_a_part_only_says_what_it_leaves_out_and_is_not_taken_for_the_whole(
    store: Store, path: Path
) -> None:
    store.apply(Added((line("1"),)))
    (task,) = tasks(store)
    store.apply(fetched(task))
    store.apply(Chunked(DOCUMENT.hash, (Chunk(0, 0, 9, "# Title\n\n", 3), Chunk(1, 9, 14, "Text.", 2))))
    partly = replace(summarized(task), method="map_reduce", chunks=2, coverage=0.64, left_out={1: "llm_truncated"})
    store.apply(replace(partly, parts=("a", "b")))
    told = rows(path, "SELECT number, left_out FROM summary_chunks ORDER BY number")
    assert told == [{"number": 0, "left_out": None}, {"number": 1, "left_out": "llm_truncated"}]
    assert store.recall_final(DOCUMENT.hash, RECIPE.hash) is None


# Hosts


def test_what_is_known_of_a_host_is_as_it_was_told_last(store: Store) -> None:
    seen = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
    plain = HostSeen("http://a.example", "a.example", seen)
    assert store.host("a.example") == []
    full = HostSeen(
        "https://a.example",
        "a.example",
        seen,
        RobotsFile("User-agent: *\nDisallow: /a", 200, seen),
        seen + timedelta(hours=1),
        2,
        3,
        Reason.TIMEOUT,
    )
    for event in (plain, replace(full, robots=None, not_before=None, reason=None), full):
        store.apply(event)
    store.apply(HostSeen("https://b.example", "b.example", seen))
    assert store.host("a.example") == [plain, full]
    store.apply(replace(full, robots=None, failures=0, reason=None, not_before=None))
    assert store.host("a.example")[1] == replace(full, failures=0, reason=None, not_before=None), "the file stays"


def test_a_try_that_was_not_the_last_of_a_run_is_an_attempt_and_the_page_waits(store: Store, path: Path) -> None:
    store.apply(Added((line("1"),)))
    (task,) = tasks(store)
    store.apply(Paused(task, Refusal(Reason.RATE_LIMITED, "HTTP 429", 429), now(), now()))
    assert tasks(store) == [task]
    assert rows(path, "SELECT stage, code FROM attempts") == [{"stage": "fetch", "code": "rate_limited"}]
    assert store.counts() == {"waiting": 1}


def test_a_page_for_which_nobody_asked_has_neither_an_attempt_nor_a_failure(store: Store, path: Path) -> None:
    later = now() + timedelta(hours=1)
    store.apply(Added((line("1"), line("2"))))
    first, second = tasks(store)
    store.apply(NotDone(first, None, Refusal(Reason.RATE_LIMITED, "", not_before=later, tried=False), now(), now()))
    store.apply(NotDone(second, None, Refusal(Reason.HOST_DOWN, "", tried=False), now(), now()))
    assert rows(path, "SELECT state, reason, not_before, failures FROM pages") == [
        {"state": "deferred", "reason": "rate_limited", "not_before": iso(later), "failures": 0},
        {"state": "deferred", "reason": "host_down", "not_before": None, "failures": 0},
    ]
    assert rows(path, "SELECT * FROM attempts") == []
    store.begin_run("urls.txt", "m", {})
    store.apply(Added((line("1"), line("2"))))
    store.settle(timedelta(0), False)
    assert [task.page_id for task in tasks(store)] == [second.page_id], "the host that was down is tried again"


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (queries.HOSTS_BETWEEN, [1, "", "z", 10]),
        (queries.LONGEST_WAITING_HOST, [1]),
        (queries.TASKS_AFTER, {"run_id": 1, "host": "a.example", "position": -1, "most": 8}),
        (queries.HOST, ["a.example"]),
        (queries.TO_DO, [1]),
    ],
)
def test_what_the_frontier_asks_again_and_again_is_found_by_an_index(store: Store, query: str, values: Any) -> None:
    steps = [row["detail"] for row in store._rows(f"EXPLAIN QUERY PLAN {query}", values)]
    scanned = [step for step in steps if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"]
    assert scanned == []
    assert any("USING" in step and "INDEX" in step for step in steps)
    if query == queries.TASKS_AFTER:
        assert not any("TEMP B-TREE" in step for step in steps), "in the order of the index"

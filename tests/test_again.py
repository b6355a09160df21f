"""Pages that are worked on again: `retry`, `resummarize`, `--force`; those that always fail; whose turn it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import Pages, Said, Shell, article, serving_pages
from fake_ollama import FakeOllama, serving

from pipeline.commands import choose
from pipeline.errors import UsageError
from pipeline.patience import MOST_FAILURES, pause
from pipeline.records import Added, Line, NotDone, Outcome, Reason, Refusal, Stage, Task
from pipeline.store import Store, iso, now

NIGHT = {
    "SUMMARIZE_BATCH_ALLOW_PRIVATE_NETWORK": "1",
    "SUMMARIZE_BATCH_DELAY": "0",
    "SUMMARIZE_BATCH_MODEL": "fake",
    "SUMMARIZE_BATCH_MODEL_WAIT": "0s",
    "SUMMARIZE_BATCH_PARALLEL": "1",
}


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    with serving(FakeOllama()) as fake:
        yield fake


@pytest.fixture
def shell(tmp_path: Path, ollama: FakeOllama) -> Shell:
    return Shell(tmp_path, {"HOME": str(tmp_path), "SUMMARIZE_BATCH_HOST": ollama.url} | NIGHT)


@pytest.fixture
def site() -> Iterator[Pages]:
    with serving_pages(
        a=article("A reservoir"), b=article("수원지의 물"), short="<p>Nine words are here, no more."
    ) as site:
        yield site


def rows(shell: Shell, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(shell.folder / "summaries.db")) as db:
        found = db.execute(query, values).fetchall()
        db.commit()
        return found


def states(shell: Shell) -> dict[str, str]:
    return {url.rpartition("/")[2]: state for url, state in rows(shell, "SELECT url, state FROM pages")}


# Patience


def test_a_page_is_left_alone_longer_each_time_and_then_for_ever() -> None:
    days = [round(found / timedelta(days=1), 2) if (found := pause(n)) is not None else None for n in range(1, 10)]
    assert days == [0.0, 0.83, 1.83, 3.83, 7.83, 13.83, 13.83, None, None]
    assert MOST_FAILURES == 8


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "summaries.db") as store:
        yield store


LINE = Line("http://a.example/1", "http://a.example/1", "a.example", "urls.txt")
TASK = Task(1, LINE.url, LINE.host)


def night(store: Store, refusal: Refusal, stage: Stage = Stage.FETCH, *, force: bool = True) -> bool:
    """A run over one page, which fails if it is asked for; whether it was."""
    store.begin_run("urls.txt", "m", {})
    store.apply(Added((LINE,)))
    store.settle(timedelta(0), force)
    if not store.to_do():
        return False
    store.apply(NotDone(TASK, stage, refusal, now(), now()))
    return True


def standing(store: Store) -> dict[str, Any]:
    return dict(store._one("SELECT state, reason, detail, not_before, failures FROM pages"))


def test_a_page_that_fails_night_after_night_is_given_up_visibly(store: Store) -> None:
    for number in range(1, 8):
        assert night(store, Refusal(Reason.CONNECT_ERROR, "refused"))
        stands = standing(store)
        assert (stands["state"], stands["reason"], stands["failures"]) == ("deferred", "connect_error", number)
        rest = pause(number)
        assert rest is not None
        if number == 1:
            assert stands["not_before"] is None
        else:
            assert abs((now() + rest).timestamp() - _time(stands["not_before"])) < 60
    assert night(store, Refusal(Reason.CONNECT_ERROR, "refused"))
    assert standing(store) == {
        "state": "failed",
        "reason": "gave_up",
        "detail": "connect_error: refused",
        "not_before": None,
        "failures": 8,
    }
    assert store.counts() == {"failed": 1}
    assert [fault["reason"] for fault in store.faults(Reason, 20)] == ["gave_up"], "it is told"
    codes = store._rows("SELECT code FROM attempts ORDER BY id")
    assert [row["code"] for row in codes] == 8 * ["connect_error"], "what really happened"
    assert not night(store, Refusal(Reason.CONNECT_ERROR), force=False)
    assert (store.counts(), store.fault_counts(), store.faults(Reason, 20)) == ({"not asked": 1}, {}, [])
    assert night(store, Refusal(Reason.HTTP_404, "HTTP 404"), force=True)
    assert standing(store)["detail"] == "http_404: HTTP 404", "a second chance is one chance"


def _time(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def test_a_page_that_failed_is_not_asked_for_before_its_time(store: Store) -> None:
    gone = Refusal(Reason.HTTP_410, "HTTP 410")
    assert night(store, gone, force=False)
    assert night(store, gone, force=False), "the first failure may have been ours"
    assert not night(store, gone, force=False)
    assert store._rows("SELECT outcome, reason FROM items WHERE run_id = 3")[0][:] == ("failed", "http_410")
    with store.transaction("test") as db:
        db.execute("UPDATE pages SET not_before = ?", [iso(now() - timedelta(seconds=1))])
    assert night(store, gone, force=False)


def test_what_a_site_asks_for_counts_if_it_is_longer(store: Store) -> None:
    later = now() + timedelta(days=3)
    for _ in range(2):
        night(store, Refusal(Reason.RATE_LIMITED, "", 429, later))
        assert standing(store)["not_before"] == iso(later)
    night(store, Refusal(Reason.RATE_LIMITED, "", 429, now()))
    assert standing(store)["not_before"] > iso(now() + timedelta(days=1))


@pytest.mark.parametrize("reason", [Reason.LLM_ERROR, Reason.LLM_DOWN, Reason.BLOCKED_ADDRESS, Reason.INTERRUPTED])
def test_what_is_the_runs_or_the_servers_fault_does_not_count(store: Store, reason: Reason) -> None:
    for _ in range(MOST_FAILURES + 1):
        assert night(store, Refusal(reason), Stage.MAP, force=False)
    assert standing(store)["failures"] == 0
    assert standing(store)["reason"] == reason.value


def test_no_reason_that_counts_is_the_runs_or_the_servers() -> None:
    counting = {reason for reason in Reason if reason.meaning.counts}
    assert all(reason.meaning.outcome in (Outcome.FAILED, Outcome.DEFERRED) for reason in counting)
    unable = {reason for reason in counting if reason.meaning.repeats}
    assert unable == {Reason.LLM_TRUNCATED, Reason.LLM_EMPTY, Reason.OUTPUT_REJECTED, Reason.REDUCE_GREW}
    assert not [reason for reason in counting - unable if reason.value.startswith(("llm_", "blocked_"))]
    assert {Reason.HTTP_404, Reason.HTTP_410, Reason.NO_TEXT, Reason.HOST_DOWN, Reason.DNS_ERROR} <= counting


def test_a_model_that_could_not_is_not_asked_the_same_again_on_the_same_day(store: Store) -> None:
    assert night(store, Refusal(Reason.OUTPUT_REJECTED), Stage.MAP, force=False)
    assert not night(store, Refusal(Reason.OUTPUT_REJECTED), Stage.MAP, force=False)
    assert night(store, Refusal(Reason.OUTPUT_REJECTED), Stage.MAP, force=True)


def test_a_success_begins_the_count_anew(shell: Shell, site: Pages) -> None:
    assert shell("-q", f"{site.url}/later").code == 3
    assert rows(shell, "SELECT failures FROM pages") == [(1,)]
    site.pages["/later"] = article("It is here")
    assert shell("-q", f"{site.url}/later").code == 0
    assert rows(shell, "SELECT failures, not_before FROM pages") == [(0, None)]


# retry


def test_retry_works_on_what_failed_though_it_is_not_due(shell: Shell, site: Pages) -> None:
    urls = f"{site.url}/later\n{site.url}/gone\n{site.url}/a\nno url"
    for _ in range(2):
        shell("-q", "-", stdin=urls)
    site.asked.clear()
    assert shell("--dry-run", "-", stdin=urls).out == "2 not to be asked yet\n1 fresh\n1 no URL\n"
    assert shell("-q", "-", stdin=urls).code == 3
    assert site.asked == [], "not due"
    site.pages["/later"] = article("It is here")
    said = shell("retry", "--all", "--json")
    assert said.code == 3
    assert {row["url"].rpartition("/")[2]: row["outcome"] for row in said.objects} == {
        "later": "summarized",
        "gone": "failed",
    }
    assert sorted(set(site.asked) - {"/robots.txt"}) == ["/gone", "/later"]
    assert rows(shell, "SELECT source FROM runs ORDER BY id DESC LIMIT 1") == [("retry --all",)]
    assert rows(shell, "SELECT DISTINCT list FROM sources ORDER BY 1") == [("-",)], "it is no list"


def test_retry_takes_a_page_that_was_given_up(shell: Shell, site: Pages) -> None:
    shell("-q", f"{site.url}/later")
    rows(shell, "UPDATE pages SET reason = 'gave_up', failures = 8 RETURNING id")
    assert shell("-q", f"{site.url}/later") == Said(0, "", ""), "not asked, and told of when it was"
    assert site.asked.count("/later") == 1
    assert shell("retry", "-q", "--reason", "gave_up").code == 3
    assert site.asked.count("/later") == 2
    site.pages["/later"] = article("It is here")
    assert shell("retry", f"{site.url}/later") == Said(0, "", "1 summarized: summaries.db\n")


def test_retry_of_one_reason_takes_that_one_in_any_state(shell: Shell) -> None:
    with serving_pages(a=article("A"), robots="User-agent: *\nDisallow: /a\n") as site:
        shell("-q", f"{site.url}/a", f"{site.url}/gone")
        assert states(shell) == {"a": "skipped", "gone": "failed"}
        said = shell("retry", "--reason", "robots", "--ignore-robots", "--json")
    assert [(row["url"], row["state"]) for row in said.objects] == [(f"{site.url}/a", "summarized")]


def test_retry_of_a_page_that_is_well_does_nothing_and_says_so(shell: Shell, site: Pages) -> None:
    shell("-q", f"{site.url}/a")
    site.asked.clear()
    said = shell("retry", f"{site.url}/a#top")
    assert (said.code, site.asked) == (0, [])
    assert said.err.splitlines()[0] == f"{site.url}/a is summarized: `summarize-batch run --force` would do it again"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["retry"], 2, "retry takes URLs, or --all"),
        (["retry", "--all", "http://a.example/"], 2, "retry takes URLs, or --all"),
        (["resummarize"], 2, "resummarize takes URLs, or --all"),
        (["resummarize", "http://a.example/", "--site", "a.example"], 2, "resummarize takes URLs, or --all"),
        (["retry", "--all"], 10, "no database is here"),
        (["resummarize", "--all"], 10, "no database is here"),
        (["retry", "http://a.example/"], 10, "no database is here"),
    ],
)
def test_what_cannot_be_done_again_is_told(shell: Shell, arguments: list[str], code: int, told: str) -> None:
    said = shell(*arguments)
    assert said.code == code
    assert told in said.err
    assert list(shell.folder.iterdir()) == []


def test_a_page_that_is_not_known_is_2(shell: Shell, site: Pages) -> None:
    shell("-q", f"{site.url}/a")
    for name in ("retry", "resummarize"):
        said = shell(name, f"{site.url}/other")
        assert (said.code, "is not in summaries.db" in said.err) == (2, True)


# resummarize


def test_a_run_does_not_redo_what_has_not_changed_but_says_how_to(
    shell: Shell, site: Pages, ollama: FakeOllama
) -> None:
    shell("-q", f"{site.url}/a")
    ollama.chats.clear()
    said = shell(f"{site.url}/a", f"{site.url}/b", "--words", "50")
    assert len([chat for chat in ollama.chats if f"{site.url}/a" in str(chat["messages"])]) == 0
    db = shell.folder / "summaries.db"
    hint = f"summarize-batch resummarize --all --db {db} makes others"
    assert said.err.splitlines()[1] == f"  1 with a summary by another model, prompt or option: {hint}"
    assert shell("-q", f"{site.url}/a", "--words", "50", "--max-age", "0s") == Said(0, "", "")


def test_resummarize_makes_another_version_without_fetching(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    shell("-q", f"{site.url}/a", f"{site.url}/b", f"{site.url}/gone")
    site.asked.clear()
    before = rows(shell, "SELECT fetched_at, changed_at, state FROM pages ORDER BY id")
    said = shell("resummarize", "--all", "--json", "--words", "50")
    assert said.code == 0
    assert [(row["outcome"], row["state"]) for row in said.objects] == 2 * [("summarized", "summarized")]
    assert site.asked == []
    assert rows(shell, "SELECT count(*), count(DISTINCT recipe) FROM summaries GROUP BY page_id") == 2 * [(2, 2)]
    assert rows(shell, "SELECT fetched_at, changed_at, state FROM pages ORDER BY id") == before
    ollama.chats.clear()
    again = shell("resummarize", "--all", "--json", "--words", "50")
    assert [(row["outcome"]) for row in again.objects] == ["unchanged", "unchanged"]
    assert rows(shell, "SELECT DISTINCT reason FROM items WHERE run_id = 3") == [("same_recipe",)]
    assert ollama.chats == []
    forced = shell("resummarize", f"{site.url}/b", "--json", "--words", "50", "--force")
    assert [row["outcome"] for row in forced.objects] == ["summarized"]
    assert ollama.chats
    assert site.asked == []


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--site", "127.0.0.1"], "ab"),
        (["--site", "0.0.1"], "ab"),
        (["--site", "7.0.0.1"], ""),
        (["--tag", "water"], "b"),
        (["--tag", "water", "--tag", "dams"], "ab"),
        (["--made-by", "fake"], "ab"),
        (["--made-by", "other"], ""),
        (["--state", "failed"], ""),
        (["--tag", "dams", "--made-by", "fake", "--state", "summarized"], "a"),
        (["--where", "title LIKE 'A %' OR failures > 3"], "a"),
        (["--tag", "water", "--where", "url LIKE '%/a'"], ""),
        (["--where", "NOT EXISTS (SELECT 1 FROM json_each(marks) WHERE value = 'noai')"], "ab"),
    ],
)
def test_resummarize_takes_those_that_match(shell: Shell, site: Pages, options: list[str], names: str) -> None:
    shell("-q", "-", stdin=f"{site.url}/a #dams\n{site.url}/b #water\n{site.url}/gone #dams")
    said = shell("resummarize", "--all", "--json", "--words", "50", *options)
    assert "".join(sorted(row["url"][-1] for row in said.objects)) == names


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("colour = 'red'", "no such column: colour"),
        ("1) OR (1", "syntax error"),
        ("1; DELETE FROM pages", "one statement"),
        ("1 ORDER BY id", "syntax error"),
        ("id IN (SELECT value FROM meta)", "prohibited"),
        ("", "syntax error"),
    ],
)
def test_what_is_no_condition_is_told_and_changes_nothing(tmp_path: Path, where: str, told: str) -> None:
    with Store.open(tmp_path / "summaries.db"):
        pass
    nothing: dict[str, list[str]] = {"states": [], "sites": [], "tags": [], "models": []}
    with pytest.raises(UsageError, match=rf"--where is no condition .*{told}"):
        list(choose.with_text(tmp_path / "summaries.db", **nothing, where=where))


def test_a_condition_is_tried_out_in_the_run_alone_where_it_can_be_stopped(shell: Shell) -> None:
    with serving_pages(a=article("A")) as site:
        assert shell("-q", f"{site.url}/a").code == 0
    nothing: dict[str, Any] = {"states": (), "sites": (), "tags": (), "models": ()}
    found = choose.with_text(shell.folder / "summaries.db", **nothing, where="abs(-9223372036854775807 - 1)")
    with pytest.raises(UsageError, match="integer overflow"):
        list(found)


def test_a_condition_may_read_and_do_nothing_else() -> None:
    for name in ("INSERT", "UPDATE", "DELETE", "PRAGMA", "ATTACH", "CREATE_TABLE", "DROP_TABLE", "TRANSACTION"):
        assert choose._may_be_done(getattr(sqlite3, f"SQLITE_{name}"), "pages", None) == sqlite3.SQLITE_DENY


def test_a_summary_that_cannot_be_made_anew_leaves_the_page_as_it_was(
    shell: Shell, site: Pages, ollama: FakeOllama
) -> None:
    shell("-q", f"{site.url}/a")
    usual = ollama.behave
    ollama.behave = lambda body: {"role": "assistant", "content": ""}
    said = shell("resummarize", "--all", "--words", "50", "--json")
    assert said.code == 3
    assert [(row["outcome"], row["state"], row["reason"]) for row in said.objects] == [("failed", "summarized", None)]
    ollama.behave = usual
    assert shell("resummarize", "--all", "--words", "50", "-q") == Said(0, "", "")


def test_resummarize_without_a_model_is_12_and_changes_nothing(shell: Shell, site: Pages) -> None:
    shell("-q", f"{site.url}/a")
    said = shell("resummarize", "--all", "--words", "50", "-q", "--host", "http://127.0.0.1:9")
    assert said.code == 12
    assert "cannot reach Ollama" in said.err
    assert states(shell) == {"a": "summarized"}
    assert rows(shell, "SELECT count(*) FROM summaries") == [(1,)]


def test_resummarize_takes_a_text_that_never_had_a_summary(shell: Shell, site: Pages) -> None:
    shell("-q", f"{site.url}/a", "--host", "http://127.0.0.1:9")
    assert states(shell) == {"a": "fetched"}
    site.asked.clear()
    assert shell("resummarize", f"{site.url}/a") == Said(0, "", "1 summarized: summaries.db\n")
    assert site.asked == []


def test_force_summarizes_an_unchanged_text_again(shell: Shell, site: Pages, ollama: FakeOllama) -> None:
    shell("-q", f"{site.url}/a")
    changed = rows(shell, "SELECT changed_at FROM pages")
    ollama.chats.clear()
    assert shell("--force", f"{site.url}/a") == Said(0, "", "1 summarized: summaries.db\n")
    assert ollama.chats
    assert rows(shell, "SELECT count(*) FROM summaries") == [(2,)]
    assert rows(shell, "SELECT changed_at FROM pages") == changed, "the text did not change"


# Whose turn it is


def test_what_has_waited_longest_comes_first(shell: Shell) -> None:
    """Over three nights with room for two pages each, every page of two hosts has its turn."""
    names = ("a", "b", "c")
    with (
        serving_pages(**{name: article(name) for name in names}) as one,
        serving_pages(**{n: article(n) for n in names}) as two,
    ):
        first, second = sorted((one, two), key=lambda site: site.url)
        urls = [f"{site.url}/{name}" for site in (first, second) for name in names]
        options = ("-q", "--max-age", "0s", "--workers", "1", "--limit", "2", "--delay", "0")
        turns = []
        for _ in range(4):
            assert shell(*options, *urls).code == 0
            turns.append([path for site in (first, second) for path in site.asked if path != "/robots.txt"])
            for site in (first, second):
                site.asked.clear()
    assert sorted(path for turn in turns[:3] for path in turn) == ["/a", "/a", "/b", "/b", "/c", "/c"]
    assert turns[3] == turns[0]


def test_the_host_that_has_waited_longest_comes_first(store: Store) -> None:
    """From it on in their order, and around: so the last ones have their turn too, though each night is too short."""
    hosts = [f"{letter}.example" for letter in "abcd"]
    found = []
    for _ in range(3):
        store.begin_run("urls.txt", "m", {})
        store.apply(Added(tuple(Line(f"http://{host}/", host, host, "urls.txt") for host in hosts)))
        in_pieces = [store.hosts_after("", 1)[0]]
        while more := store.hosts_after(in_pieces[-1], 1):
            in_pieces += more
        assert in_pieces == store.hosts_after("", 9)
        assert store.hosts_after(in_pieces[1], 9) == in_pieces[2:]
        found.append("".join(host[0] for host in in_pieces))
        for host in in_pieces[:2]:
            page_id = hosts.index(host) + 1
            store.apply(NotDone(Task(page_id, "", host), Stage.FETCH, Refusal(Reason.TIMEOUT), now(), now()))
    assert found == ["abcd", "cdab", "abcd"]


def test_a_night_that_is_out_of_time_ends_well_and_the_next_goes_on(shell: Shell) -> None:
    with serving_pages(a=article("A"), b=article("B")) as site:
        urls = (f"{site.url}/hang", f"{site.url}/a", f"{site.url}/b")
        said = shell("--max-duration", "1s", "--grace", "0s", *urls)
        assert (said.code, said.out) == (0, "")
        assert rows(shell, "SELECT outcome, reason FROM items") == 3 * [("waiting", "out_of_time")]
        assert rows(shell, "SELECT state, exit_code FROM runs") == [("finished", 0)]
        assert states(shell) == {"hang": "queued", "a": "queued", "b": "queued"}
        assert said.err.splitlines()[-1] == "3 waiting: summaries.db"
    assert shell("failures", "--json").objects[0]["reason"] == "out_of_time"


def test_out_of_time_after_a_failure_is_3(shell: Shell) -> None:
    with serving_pages() as site:
        (shell.folder / "urls.txt").write_text(f"htp:/not a url\n{site.url}/hang\n")
        said = shell("-q", "--max-duration", "1s", "--grace", "0s", "urls.txt")
    assert said.code == 3
    assert "1 failed, 1 waiting" in said.err

"""`fetch`: the day gathers, the night summarizes."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from command_line import Pages, Said, Shell, article, serving_pages
from fake_ollama import FakeOllama, serving

PATH = re.compile(r"127\.0\.0\.1:\d+(/\w+)")
NOBODY = "http://127.0.0.1:9"
"""Where no server listens."""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    # One page at a time: side by side, one whose answer comes later may be done first.
    night = {"ALLOW_PRIVATE_NETWORK": "1", "DELAY": "0", "MODEL_WAIT": "0s", "WORKERS": "1", "HOST": NOBODY}
    variables = {f"SUMMARIZE_BATCH_{name}": value for name, value in night.items()}
    return Shell(tmp_path, {"HOME": str(tmp_path)} | variables)


@pytest.fixture
def site() -> Iterator[Pages]:
    names = ("The third", "The first", "The second")
    with serving_pages(**{name[4:]: article(name, f"{name} reservoir holds water.") for name in names}) as site:
        yield site


def rows(shell: Shell, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(shell.folder / "summaries.db")) as db:
        return db.execute(query).fetchall()


def pages_asked(site: Pages) -> list[str]:
    return [path for path in site.asked if path != "/robots.txt"]


def test_the_day_gathers_texts_without_a_model_and_the_night_summarizes_them_in_that_order(
    shell: Shell, site: Pages
) -> None:
    order = ["/first", "/second", "/third"]
    urls = [f"{site.url}{path}" for path in order]
    (shell.folder / "urls.txt").write_text("\n".join(urls))
    said = shell("fetch", "--json", "urls.txt")
    assert (said.code, said.err) == (0, "3 fetched: summaries.db\n")
    assert [(row["url"], row["state"], row["reason"]) for row in said.objects] == [
        (url, "fetched", "fetch_only") for url in urls
    ]
    assert rows(shell, "SELECT source, model, state, exit_code FROM runs") == [("fetch urls.txt", "", "finished", 0)]
    assert rows(shell, "SELECT DISTINCT stage FROM attempts") == [("fetch",)]
    assert shell("fetch", "--dry-run", "urls.txt").out == "3 fresh\n"
    assert shell("--dry-run", "urls.txt").out == "3 waiting for the model only\n"
    assert shell("fetch", "-q", "urls.txt") == Said(0, "", ""), "they are fresh, though nobody has summarized them"
    assert shell("check", "--expect-every", "1h").code == 3, "a day is no night"
    assert shell("failures") == Said(0, "", "every page is well\n")
    assert pages_asked(site) == order

    with serving(FakeOllama()) as ollama:
        said = shell("--json", "--host", ollama.url, "--model", "fake", "urls.txt")
        assert [(row["url"], row["state"]) for row in said.objects] == [(url, "summarized") for url in urls]
        asked = [found[1] for chat in ollama.chats if (found := PATH.search(str(chat["messages"])))]
    assert said.code == 0
    assert [path for path, _ in groupby(asked)] == order
    assert pages_asked(site) == order, "nothing was fetched again"


def test_a_text_that_waits_is_asked_for_again_when_it_is_old_and_keeps_its_place(shell: Shell, site: Pages) -> None:
    url = f"{site.url}/first"
    assert shell("fetch", "-q", url).code == 0
    assert shell("fetch", "-q", "--max-age", "0s", url).code == 0
    assert pages_asked(site) == ["/first", "/first"]
    site.pages["/first"] = article("Another", "Nobody knows how deep it is.")
    assert shell("fetch", "-q", "--force", url).code == 0
    assert rows(shell, "SELECT title, state, reason FROM pages") == [("Another", "fetched", "fetch_only")]
    assert rows(shell, "SELECT outcome, reason FROM items") == 3 * [("waiting", "fetch_only")]


def test_what_cannot_be_fetched_is_3_and_told_alone(shell: Shell, site: Pages) -> None:
    said = shell("fetch", "-q", f"{site.url}/first", f"{site.url}/gone")
    assert said.code == 3
    assert said.err.splitlines() == [
        "1 failed, 1 fetched: summaries.db",
        f"  failed http_404: {site.url}/gone: HTTP 404",
    ]


def test_the_port_of_the_models_server_stays_closed_to_those_who_only_fetch(shell: Shell, site: Pages) -> None:
    assert shell("fetch", "-q", "--host", site.url, f"{site.url}/first").code == 3
    assert rows(shell, "SELECT state, reason FROM pages") == [("failed", "blocked_address")]
    assert site.asked == []


def test_comments_are_kept_unless_they_are_to_be_dropped(shell: Shell, site: Pages) -> None:
    reply = "<div class=comment><p>Reply: I have seen the reservoir run dry once, and the trout with it.</p></div>"
    site.pages["/first"] += f'<div id="comments" class="comments">{reply * 3}</div>'
    url = f"{site.url}/first"
    kept = "SELECT text LIKE '%run dry once%' FROM texts JOIN pages ON text_hash = hash"
    assert shell("fetch", "-q", url).code == 0
    assert rows(shell, kept) == [(1,)]
    assert shell("fetch", "-q", "--force", "--comments", "drop", url).code == 0
    assert rows(shell, kept) == [(0,)]

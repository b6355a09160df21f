"""Nights in any order and with any mishap, held against a dict: what a database may say after them, and nothing else.

Here a run is a function call: the site is a dict, a page is read in this process, and a killed run is one whose
files are copied at a commit, for that is what the kill leaves. The model's server is the fake one, on loopback.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torture
from aiohttp import web
from fake_ollama import Body, FakeOllama, running
from hypothesis import HealthCheck
from hypothesis import seed as seeded
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    get_state_machine_test,
    initialize,
    invariant,
    precondition,
    rule,
)
from one_night import settings
from sqlite_utils import Database

from pipeline import answers, migrations, run, store, writers
from pipeline.commands import check
from pipeline.console import Console
from pipeline.errors import DatabaseUnusable, RunLost
from pipeline.llm import ModelClient
from pipeline.patience import pause
from pipeline.records import Document, NotModified, Page, Reason, Refusal, Task

MAX_AGE = timedelta(hours=12)
ADDRESS = "http://site.example/"
GONE = "gone"
NAMES = ("short", "long", GONE, "last")
CHANGED, BACK = 0, 1
"""A page that went may come back as it was."""
HOURS = st.sampled_from([25, 1, 13, 192])
"""That pass before a run; what failed in a killed one is not asked for again within half a day."""
COMMITS = st.sampled_from(range(1, 21))
PARAGRAPHS = {"long": 14}
_VERSION = re.compile(r"Version (\d+) of")

Site = dict[str, int]
"""URL → the version of the page that is there, or the status that is answered instead of it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a page stands: in the database, or as it should."""

    state: str = "queued"
    reason: str | None = None
    failures: int = 0
    text: int | None = None
    """The version of its text."""
    fetched_at: str | None = None
    not_before: str | None = None
    summaries: tuple[int, ...] = ()
    """The versions that were summarized, one after the other."""


class Killed(Exception):
    """What ends a run here after its files have been copied."""


class Clock:
    """Stands still but when time is said to pass."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 3, 15, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


class SiteFetcher:
    """In the place of `Fetcher`: the site is a dict."""

    def __init__(self, site: Site, clock: Clock, *_: object, **__: object) -> None:
        self._site = site
        self._clock = clock

    async def __aenter__(self) -> SiteFetcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def fetch(self, task: Task) -> Page | NotModified | Refusal:
        version = self._site[task.url]
        if refusal := answers.refusal_for_status(version, "", self._clock()) if version >= 400 else None:
            return refusal
        # Every second version has no validator: then it is the text that tells.
        etag = f'"{version}"' if version % 2 else ""
        if etag and etag == task.etag:
            return NotModified()
        return Page(task.url, task.url, 200, "text/html", "utf-8", html(task.url, version).encode(), etag)


def html(url: str, version: int) -> str:
    """A version of a page; of a long one, what is changed stands in the middle."""
    name = url.removeprefix(ADDRESS)
    paragraphs = torture.prose(name, PARAGRAPHS.get(name, 2))
    paragraphs.insert(len(paragraphs) // 2, f"Version {version} of this page was written by the keeper of the tower.")
    return torture.html(name, paragraphs)


class InProcess:
    """In the place of `Extractor`: no worker is started."""

    def __init__(self, _: int, read: Callable[[Page], Document | Refusal]) -> None:
        self._read = read

    async def __aenter__(self) -> InProcess:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def extract(self, page: Page) -> Document | Refusal:
        return self._read(page)


class Silent(Console):
    """Tells nobody."""

    def warn(self, text: str) -> None:
        pass


class Model:
    """The model's server, which may be away: from the start of a run, or from some request of it on."""

    def __init__(self) -> None:
        self.fake = FakeOllama(self.behave, count=torture.count)
        self.left: int | None = None
        """So many requests are answered, and then none; `None`: all."""
        self.refused: int | None = None
        """So many are not, and then all again; `None`: it does not come back in this run."""
        self.is_back_when_looked_for = False
        self.kept: set[str] = set()
        self.twice: list[str] = []

    def app(self) -> web.Application:
        app = self.fake.app()

        @web.middleware
        async def away(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
            if self.left == 0 and self.is_back_when_looked_for and request.path == "/api/show":
                self.left = None
            if self.left:
                self.left -= request.path == "/api/chat"
            elif self.left == 0 and self.refused != 0:
                self.refused = self.refused and self.refused - 1
                return web.json_response({"error": "it is away"}, status=503)
            try:
                response: web.StreamResponse = await handler(request)
            except ConnectionError:
                return web.Response(status=400)  # who asked is dead
            return response

        app.middlewares.insert(0, away)
        return app

    def behave(self, body: Body) -> Body:
        if not body.get("tools") and (known := torture.mark(body)) in self.kept:
            self.twice.append(known)
        return torture.answer(body)


class Nights(RuleBasedStateMachine):
    """One database, one list, one site, one model."""

    def __init__(self, model: Model, folder: Path) -> None:
        super().__init__()
        self._model = model
        model.kept, model.twice = set(), []
        self._folder = folder / f"{next(_NUMBERS)}"
        self._folder.mkdir()
        self._db, self._list = self._folder / "summaries.db", self._folder / "urls.txt"
        self._clock, self._site, self._versions = Clock(), Site(), count(1)
        self._newest = {name: next(self._versions) for name in NAMES}
        self._urls: list[str] = []
        self._wanted: dict[str, Standing] = {}
        """How each page must stand that has been in a run."""
        self._had_turn: dict[str, str] = {}
        """URL → when it failed in the killed runs that the next one goes on with."""
        usual = ["--host", model.fake.url, "--num-ctx", "1792", "--parallel", "2", "--delay", "0", "--model-wait", "0s"]
        self._settings = settings(self._db, "--model", "fake", "--ignore-robots", "--language", "en", *usual)
        self._stack = ExitStack()
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(run, "Fetcher", partial(SiteFetcher, self._site, self._clock))
        patch.setattr(run, "Extractor", InProcess)
        patch.setattr(writers, "ModelClient", partial(ModelClient, sleep=_at_once))
        self._patch = patch

    def teardown(self) -> None:
        self.close()

    def close(self) -> None:
        """Takes back what was put in the place of other things."""
        self._stack.close()
        shutil.rmtree(self._folder)

    # What happens

    @initialize()
    def begin(self) -> None:
        for name in NAMES[:-1]:
            self._add(name)
        self._site[ADDRESS + GONE] = 404

    @rule(name=st.sampled_from(NAMES))
    def add(self, name: str) -> None:
        self._add(name)

    @rule(news=st.dictionaries(st.sampled_from(NAMES), st.sampled_from([CHANGED, BACK, 404, 410, 503]), min_size=1))
    def site_changes(self, news: dict[str, int]) -> None:
        for name, what in news.items():
            if what == CHANGED:
                self._newest[name] = next(self._versions)
            self._site[ADDRESS + name] = self._newest[name] if what in (CHANGED, BACK) else what

    @rule(hours=HOURS)
    def night(self, hours: int) -> None:
        self._run_through(hours, is_there=True)

    @rule(hours=HOURS)
    def night_without_the_model(self, hours: int) -> None:
        self._model.left = 0
        self._run_through(hours, is_there=False)

    @rule(hours=HOURS, requests=st.integers(1, 6), refused=st.none() | st.integers(4, 16))
    def model_dies_in_the_night(self, hours: int, requests: int, refused: int | None) -> None:
        """And is back after so many more requests, or not at all."""
        self._model.left, self._model.refused = requests, refused
        self._run(hours)
        self._observe()

    @rule(hours=HOURS, commit=COMMITS)
    def night_is_killed(self, hours: int, commit: int) -> None:
        self._run(hours, kill_at=commit)
        self._observe()

    @rule(hours=HOURS, commit=COMMITS, requests=st.integers(1, 4), refused=st.integers(4, 16))
    def night_is_killed_while_the_model_is_away(self, hours: int, commit: int, requests: int, refused: int) -> None:
        self._model.left, self._model.refused = requests, refused
        self._run(hours, kill_at=commit)
        self._observe()

    @rule(hours=HOURS, pages=st.integers(0, 12))
    def disk_is_full(self, hours: int, pages: int) -> None:
        code = self._run(hours, room=pages)
        assert code in (0, 3, DatabaseUnusable.exit_code)
        self._observe()

    @precondition(lambda self: self._db.exists())
    @rule(back=st.integers(1, migrations.schema_version() - 1))
    def database_is_one_of_an_older_version(self, back: int) -> None:
        _as_made_by(self._db, migrations.schema_version() - back)

    # What must be so

    @invariant()
    def the_database_says_what_the_dict_says(self) -> None:
        if self._db.exists() and self._wanted:
            assert self._found() == self._wanted

    @invariant()
    def the_database_is_whole_and_keeps_its_promises(self) -> None:
        if not self._db.exists():
            return
        with closing(sqlite3.connect(self._db)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
            if db.execute("PRAGMA user_version").fetchone()[0] < migrations.schema_version():
                return
            for said, query in torture.INVARIANTS.items():
                assert db.execute(query).fetchall() == [], said
        assert [found for found in check.findings(self._db, None) if found.exit_code == check.DAMAGED] == []

    @invariant()
    def no_answer_is_paid_twice(self) -> None:
        assert self._model.twice == []

    # What it is made of

    def _add(self, name: str) -> None:
        url = ADDRESS + name
        self._site.setdefault(url, self._newest[name])
        if url not in self._urls:
            self._urls.append(url)
            self._list.write_text("\n".join(self._urls) + "\n")

    def _run(self, hours: int, kill_at: int | str = 0, room: int | None = None) -> int | None:
        """One run, to its exit code, or to its end by a kill at a commit, by number or by name."""
        self._clock.time += timedelta(hours=hours)
        commits = count(1)
        image = self._folder / "image"

        def committed(point: str) -> None:
            if kill_at in (next(commits), point) and not image.exists():
                image.mkdir()
                for path in self._folder.glob("summaries.db*"):
                    shutil.copy(path, image)
                raise Killed

        self._patch.setattr(run, "Store", SimpleNamespace(open=partial(_opened, room=room, on_commit=committed)))
        console = Silent()
        try:
            errand = run.lists(self._settings, [str(self._list)], console)
            code: int | None = run.run(self._settings, errand, console, self._clock)
        except RunLost as lost:
            code = lost.exit_code
        except (Killed, BaseExceptionGroup):
            if not image.exists():
                raise
            code = None
        if image.exists():
            for path in self._folder.glob("summaries.db*"):
                path.unlink()
            shutil.copytree(image, self._folder, dirs_exist_ok=True)
            shutil.rmtree(image)
        self._model.left, self._model.refused, self._model.is_back_when_looked_for = None, None, False
        self._model.kept |= torture.kept(self._db)
        return code

    def is_killed_when_the_model_is_back(self) -> None:
        """A night that is killed at the one commit that has no other occasion, and the night after it."""
        self._model.left, self._model.is_back_when_looked_for = 2, True
        assert self._run(1, kill_at="wake") is None
        self._observe()
        self._run_through(1, is_there=True)

    def _run_through(self, hours: int, is_there: bool) -> None:
        """A run that nothing befalls: how each page stands afterwards is known before."""
        later = self._clock() + timedelta(hours=hours)
        wanted = {url: self._stages(url, is_there, later)[-1] for url in self._urls}
        asked = [url for url in self._urls if self._has_had_turn(url, later) or not self._is_not_due(url, later)]
        code = self._run(hours)
        self._wanted |= wanted
        self._had_turn = {}
        states = {self._wanted[url].state for url in asked}
        waits = any(self._wanted[url].reason == Reason.LLM_DOWN.value for url in self._urls)
        assert code == (12 if waits else 3 if states & {"failed", "deferred"} else 0), self._wanted

    def _observe(self) -> None:
        """After a mishap a page may stand as at any moment of the run, and nowhere else; from there it goes on."""
        for url, found in self._found().items():
            # What happened to the model or the disk is told or not; if it is, the page has got no further.
            stages = [*self._stages(url, True, self._clock()), *self._stages(url, False, self._clock())]
            assert found in stages, (url, found, stages)
            self._wanted[url] = found
        with closing(sqlite3.connect(self._db)) as db:
            last = db.execute("SELECT id, exit_code FROM runs ORDER BY id DESC LIMIT 1").fetchone()
            if last is None:
                return
            if last[1] is not None:
                self._had_turn = {}
                return
            ended = """
                SELECT url, items.ended_at FROM items JOIN pages ON pages.id = page_id
                WHERE run_id = ? AND outcome IN ('failed', 'deferred') AND items.started_at IS NOT NULL
            """
            self._had_turn |= dict(db.execute(ended, [last[0]]).fetchall())

    def _stages(self, url: str, is_there: bool, now: datetime) -> list[Standing]:
        """How a page may stand from the beginning of a run to its end, with the model or without it."""
        before = self._wanted.get(url, Standing())
        is_fresh = before.state == "summarized" and (before.fetched_at or "") > store.iso(now - MAX_AGE)
        if is_fresh or self._has_had_turn(url, now) or self._is_not_due(url, now):
            return [before]
        if before.state == "fetched":
            return [before, _written(before, is_there)]
        version = self._site[url]
        if version >= 400:
            return [before, _failed(before, version, now)]
        fetched = replace(before, reason=None, failures=0, not_before=None, fetched_at=store.iso(now), text=version)
        if version == before.text and version in before.summaries:
            return [before, replace(fetched, state="summarized")]
        fetched = replace(fetched, state="fetched")
        return [before, fetched, _written(fetched, is_there)]

    def _has_had_turn(self, url: str, now: datetime) -> bool:
        return self._had_turn.get(url, "") > store.iso(now - MAX_AGE)

    def _is_not_due(self, url: str, now: datetime) -> bool:
        before = self._wanted.get(url, Standing())
        return (before.not_before or "") > store.iso(now) or before.reason == Reason.GAVE_UP.value

    def _found(self) -> dict[str, Standing]:
        """How each page stands in the database."""
        found = {}
        with closing(sqlite3.connect(self._db)) as db:
            db.row_factory = sqlite3.Row
            if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'pages'").fetchone()[0]:
                return {}
            pages = db.execute("SELECT * FROM pages LEFT JOIN texts ON texts.hash = text_hash").fetchall()
            for page in pages:
                query = "SELECT text FROM summaries JOIN texts ON hash = text_hash WHERE page_id = ? ORDER BY id"
                versions = tuple(_version(text) for (text,) in db.execute(query, [page["id"]]))
                words = {name: page[name] for name in ("state", "reason", "failures", "fetched_at", "not_before")}
                text = None if page["text"] is None else _version(page["text"])
                found[page["url"]] = Standing(**words, text=text, summaries=versions)
        return found


_NUMBERS = count()


async def _at_once(_: float) -> None:
    """In the place of a pause."""


def _written(page: Standing, is_there: bool) -> Standing:
    """A page with a text, after the model's turn."""
    if not is_there:
        return replace(page, reason=Reason.LLM_DOWN.value)
    assert page.text is not None
    return replace(page, state="summarized", reason=None, summaries=(*page.summaries, page.text))


def _failed(page: Standing, status: int, now: datetime) -> Standing:
    reason = {404: Reason.HTTP_404, 410: Reason.HTTP_410, 503: Reason.HTTP_5XX}[status]
    failures = page.failures + 1
    rest = pause(failures)
    if rest is None:
        return replace(page, state="failed", reason="gave_up", failures=failures, not_before=None)
    again = store.iso(now + rest) if rest else None
    state = reason.meaning.outcome.value
    return replace(page, state=state, reason=reason.value, failures=failures, not_before=again)


def _version(text: str) -> int:
    match = _VERSION.search(text)
    assert match, text
    return int(match[1])


@contextmanager
def _opened(path: Path, room: int | None, **options: Any) -> Iterator[store.Store]:
    """The store, on a disk that has room for so many more pages of the database."""
    with store.Store.open(path, **options) as opened:
        if room is not None:
            (size,) = opened._connection.execute("PRAGMA page_count").fetchone()
            opened._connection.execute(f"PRAGMA max_page_count = {size + room}")
        yield opened


def _as_made_by(path: Path, level: int) -> None:
    """The same rows in a database that has taken so many steps of the schema."""
    older = path.with_name("older.db")
    steps = migrations.migrations._migrations
    with closing(sqlite3.connect(older, isolation_level=None)) as db:
        migrations.migrations.apply(Database(db, execute_plugins=False), stop_before=steps[level].name)
        db.execute("DELETE FROM meta")
        db.execute("ATTACH ? AS newer", [str(path)])
        tables = db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            if table.startswith(("search", "sqlite_", "_sqlite")):
                continue
            columns = [set(_columns(db, schema, table)) for schema in ("main", "newer")]
            both = ", ".join(f'"{name}"' for name in sorted(columns[0] & columns[1]))
            if both:
                db.execute(f"INSERT INTO main.{table} ({both}) SELECT {both} FROM newer.{table}")
        db.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {level}")
    for name in ("summaries.db-wal", "summaries.db-shm"):
        with suppress(FileNotFoundError):
            path.with_name(name).unlink()
    older.replace(path)


def _columns(db: sqlite3.Connection, schema: str, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA {schema}.table_info({table})")]


@contextmanager
def machines(folder: Path) -> Iterator[Callable[[], Nights]]:
    """What makes machines, one after the other, that share a model's server."""
    model = Model()
    with running(model.app()) as model.fake.url:
        yield partial(Nights, model, folder)


def held_against_the_dict(folder: Path, examples: int, steps: int, seed: int | None = None) -> None:
    """So many lives of a database, of so many steps each; without a seed the same each time.

    Raises what the first that goes wrong raises, made short.
    """
    bounds = settings_of(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=seed is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    with machines(folder) as nights:
        test = get_state_machine_test(nights, settings=bounds)  # type: ignore[arg-type] # what makes them will do
        (test if seed is None else seeded(seed)(test))()

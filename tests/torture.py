"""Kill it anywhere: nights that are killed again and again end as one that nobody touched.

A small site and a model on loopback, two nights of a changing list and a third that writes the summaries anew. What
they leave in the database when nobody disturbs them is the measure; then the same nights are killed, at each named
commit point or at moments that a seed chooses, and started again until they are through. `scripts/torture` prints what
was found; the tests do a short form of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from fake_ollama import Body, FakeOllama, right_call, running
from forks import Forks
from one_night import shown

from pipeline import tokens
from pipeline.commands import check
from pipeline.errors import DatabaseUnusable
from pipeline.store import connect, is_held

KILLED = Path(__file__).with_name("killed.py")
HOSTS = 3
PARALLEL = 2
SECONDS = 120.0
"""After so long a night hangs."""
GONE_SECONDS = 30.0
"""What a killed program has started is gone after so long, on a machine however busy."""
SOME_FAILED = 3

Rows = list[tuple[Any, ...]]


# The site, as it stands in each night


@dataclass(frozen=True, slots=True)
class Served:
    """What the site answers under one path."""

    body: str = ""
    status: int = 200
    etag: str = ""
    location: str = ""
    media: str = "text/html"


_WORDS = (
    "harbour ferry winter island letter timber flour school keeper fog lantern rope quarry orchard bridge mill "
    "copper valley sheep market chapel ladder barley river stone fence garden cellar clock winch tower meadow"
)


def prose(name: str, paragraphs: int, changed: int = -1) -> list[str]:
    """Paragraphs that stand in no other page; the one with the number `changed` is another than before."""
    return [_paragraph(f"{name} {number}{' anew' if number == changed else ''}") for number in range(paragraphs)]


def _paragraph(seed: str) -> str:
    some = random.Random(seed)
    lines = []
    for _ in range(5):
        first, second, third, fourth = some.sample(_WORDS.split(), 4)
        lines.append(f"The {first} of the {second} was brought to the {third} and kept with the {fourth} for a year.")
    return " ".join(lines)


def html(title: str, paragraphs: Sequence[str]) -> str:
    text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return f"<!doctype html><html lang=en><title>{title}</title><article><h1>{title}</h1>{text}</article>"


def _article(name: str, paragraphs: int, changed: int = -1) -> Served:
    """Every second page has a validator; the others are told to be unchanged by their text."""
    body = html(f"The {name} page", prose(name, paragraphs, changed))
    has_etag = hashlib.sha256(name.encode()).digest()[0] % 2
    return Served(body, etag=f'"{hashlib.sha256(body.encode()).hexdigest()[:12]}"' if has_etag else "")


def site(night: int, size: int = 1) -> dict[str, Served]:
    """Path → what is served in that night; `size` times as many of each kind."""
    pages: dict[str, Served] = {}
    for n in range(size):
        pages |= {f"/short-{n}-{k}": _article(f"short-{n}-{k}", 2) for k in range(5)}
        pages |= {f"/tiny-{n}-{k}": Served(f"<p>Page {k} of {n} has a handful of words only.") for k in range(2)}
        pages |= {f"/long-{n}-{k}": _article(f"long-{n}-{k}", 4 + k) for k in range(2)}
        pages[f"/huge-{n}"] = _article(f"huge-{n}", 28)
        pages |= {f"/twin-{n}-{k}": Served(html("A twin", prose(f"twin-{n}", 3))) for k in range(2)}
        pages |= {f"/moved-{n}": Served(status=301, location=f"/target-{n}"), f"/target-{n}": _article(f"t-{n}", 1)}
        pages |= {f"/broken-{n}": Served(status=503), f"/gone-{n}": Served(status=410)}
        pages |= {f"/later-{n}": Served(status=404), f"/leaves-{n}": _article(f"leaves-{n}", 1)}
        pages |= {f"/picture-{n}": Served("GIF89a", media="image/gif"), f"/forbidden-{n}": _article("forbidden", 1)}
        pages[f"/silent-{n}"] = Served(
            html("Silent", [*prose(f"silent-{n}", 2), "The model has no word for this page."])
        )
        if night:
            pages |= {f"/short-{n}-0": _article(f"short-{n}-0", 2, changed=0)}
            pages |= {f"/long-{n}-1": _article(f"long-{n}-1", 5, changed=2)}
            pages |= {f"/huge-{n}": _article(f"huge-{n}", 28, changed=12)}
            pages |= {f"/later-{n}": _article(f"later-{n}", 1), f"/leaves-{n}": Served(status=410)}
            pages |= {f"/new-{n}": _article(f"new-{n}", 2)}
    pages["/robots.txt"] = Served("User-agent: *\nDisallow: /forbidden", media="text/plain")
    return pages


def lines(night: int, origins: Sequence[str], size: int = 1) -> list[str]:
    """The list of that night: the pages over the hosts, a line twice, a line that is none; one line goes."""
    paths = [path for path in site(night, size) if path != "/robots.txt" and not path.startswith("/target")]
    if night:
        paths.remove("/short-0-1")
    # Where a page lies does not hang on what else is in the list.
    urls = [origins[hashlib.sha256(path.encode()).digest()[1] % len(origins)] + path for path in sorted(paths)]
    return [*urls, urls[0], "this line is no URL"]


# The model


_BOUNDARY = re.compile(r"<<<(PAGE|END) \w+>>>")
_URL = re.compile(r"http://127\.0\.0\.1:\d+/[\w-]*")
MARK = re.compile(r"\(7\d{9}\)")


def mark(body: Body) -> str:
    """By what an answer is known again in a database, whatever that one's secret is.

    Of two pages with one text it is not said which is asked for.
    """
    plain = _URL.sub("URL", _BOUNDARY.sub(r"<<<\1>>>", json.dumps(body, sort_keys=True)))
    return f"(7{int(hashlib.sha256(plain.encode()).hexdigest(), 16) % 10**9:09})"


_TEMPLATE = re.compile(r"<\|im_start\|>\w*\n|<\|im_end\|>|<<<(?:PAGE|END) \w+>>>")


def count(text: str) -> int:
    """A vocabulary of which nothing is to be learned: the ratios stay as they were at the start.

    So how a page is cut does not hang on which pages a run has seen before it was killed.
    """
    return int(tokens.estimate(_TEMPLATE.sub("", text)) * 0.97)


def wants_an_answer(body: Body) -> bool:
    return not body.get("tools") and "has no word for this page" not in shown(body)


def answer(body: Body) -> Body:
    """Calls as it should, then writes how the text begins; of one page it has nothing to say."""
    if body.get("tools"):
        return {"content": "", "tool_calls": [{"function": right_call(body)}]}
    if not wants_an_answer(body):
        return {"content": ""}
    words = " ".join(MARK.sub("", shown(body)).replace("#", " ").split()[:75]).rstrip(".")
    text = f"{words} {mark(body)}."
    if not body.get("format"):
        return {"content": text}
    fields = {"summary": text, "key_points": [words[:100]]}
    return {"content": json.dumps({name: fields[name] for name in body["format"]["properties"]})}


# The world


class Trap:
    """Kills a process at the nth of the things that happen at the servers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kind, self._left = "", 0
        self._pid = 0
        self.seen: Counter[str] = Counter()

    def arm(self, kind: str = "", number: int = 0) -> None:
        """For the start to come."""
        with self._lock:
            self._kind, self._left, self._pid = kind, number, 0

    def catch(self, pid: int) -> None:
        """It is this process that is to be killed, at once if the moment has come already."""
        with self._lock:
            self._pid = pid
            self._kill_if_due()

    def happened(self, kind: str) -> None:
        with self._lock:
            self.seen[kind] += 1
            if kind == self._kind:
                self._left -= 1
                self._kill_if_due()

    def _kill_if_due(self) -> None:
        if self._kind and self._left <= 0 and self._pid:
            _kill(self._pid)


@dataclass
class World:
    """The servers, and where the nights are run."""

    folder: Path
    fake: FakeOllama
    trap: Trap
    size: int = 1
    night: int = 0
    variables: dict[str, str] = field(default_factory=dict)
    """Of each start, and no others."""
    forks: Forks = field(init=False)
    """Forks into each start, see `killed`."""
    origins: list[str] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    """Marks of the answers that are in the database of the nights under way."""
    twice: list[str] = field(default_factory=list)
    """Those that were asked for all the same."""
    given: set[str] = field(default_factory=set)
    """Marks of the answers that the present start was given."""
    calls: int = 0

    async def page(self, request: web.Request) -> web.StreamResponse:
        served = site(self.night, self.size).get(request.path) or Served(status=404)
        headers = {"ETag": served.etag} if served.etag else {}
        if served.location:
            headers["Location"] = served.location
        if served.etag and request.headers.get("If-None-Match") == served.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(text=served.body, status=served.status, headers=headers, content_type=served.media)

    def behave(self, body: Body) -> Body:
        self.calls += 1
        if wants_an_answer(body):
            known = mark(body)
            self.given.add(known)
            if known in self.kept:
                self.twice.append(known)
        return answer(body)

    def watched(self, kind: str) -> Any:
        """A middleware that tells the trap before and after an answer."""

        @web.middleware
        async def told(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            self.trap.happened(f"{kind} asked")
            try:
                response = await handler(request)
                await response.prepare(request)
                await response.write_eof()
            except ConnectionError:
                return web.Response(status=400)  # who asked is dead
            self.trap.happened(f"{kind} answered")
            return response

        return told

    def arguments(self, db: Path) -> list[str]:
        """The command line of the present night."""
        usual = ["--db", str(db), "--host", self.fake.url, "--model", "fake", "--num-ctx", "1792", "--parallel"]
        usual += [str(PARALLEL), "--delay", "0", "--allow-private-network", "--language", "en", "--json", "-q"]
        if self.night == len(NIGHTS) - 1:
            return ["resummarize", "--all", "--words", "60", *usual]
        list_file = self.folder / f"urls-{self.night}.txt"
        list_file.write_text("\n".join(lines(self.night, self.origins, self.size)) + "\n")
        return ["run", str(list_file), *usual]


NIGHTS = ("a list", "the list a day later", "all of it anew")


@contextmanager
def a_world(folder: Path, size: int = 1) -> Iterator[World]:
    """A site under several names and a model, on loopback; `folder` is where databases and temporary files lie."""
    fake = FakeOllama(count=count)
    world = World(folder, fake, Trap(), size)
    fake.behave = world.behave
    (folder / "tmp").mkdir()
    with ExitStack() as stack:
        for _ in range(HOSTS):
            pages = web.Application(middlewares=[world.watched("site")])
            pages.router.add_get("/{path:.*}", world.page)
            world.origins.append(stack.enter_context(running(pages)))
        model = fake.app()
        model.middlewares.insert(0, world.watched("model"))
        fake.url = stack.enter_context(running(model))
        world.variables = {"PATH": os.environ["PATH"], "TMPDIR": str(folder / "tmp")}
        with closing(Forks(KILLED, "forks")) as world.forks:
            yield world


# A start


@dataclass(frozen=True, slots=True)
class Moment:
    """When a start is killed."""

    kind: str
    """`commit:POINT`, `statement`, `seconds`, or what happens at a server: `site asked`, `model answered`, …"""
    number: float

    def __str__(self) -> str:
        return f"{self.kind} {self.number:g}"


@dataclass(frozen=True, slots=True)
class Start:
    """What came of one start of the command."""

    code: int
    out: str
    err: str

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


def start(world: World, db: Path, moment: Moment | None = None, points: Path | None = None) -> Start:
    """Runs the present night, up to its end or that moment; whatever it started is gone when this returns."""
    token = f"{os.getpid()}-{time.monotonic_ns()}"
    inside = f"points:{points or os.devnull}"
    world.trap.arm()
    if moment and moment.kind.startswith(("commit:", "statement")):
        inside = f"{moment.kind}:{moment.number:g}"
    elif moment and moment.kind != "seconds":
        world.trap.arm(moment.kind, int(moment.number))
    out, err = world.folder / "out", world.folder / "err"
    env = world.variables | {"TORTURE": token}
    with open(os.devnull) as nothing, out.open("w") as one, err.open("w") as other:
        streams = [each.fileno() for each in (nothing, one, other)]
        pid = world.forks.start([inside, *world.arguments(db)], env, world.folder, streams)
    world.trap.catch(pid)
    clock = threading.Timer(moment.number if moment and moment.kind == "seconds" else SECONDS, _kill, [pid])
    clock.start()
    code = world.forks.ended()
    clock.cancel()
    world.trap.arm()
    _wait_until_gone(token)
    return Start(code, out.read_text(), err.read_text())


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _wait_until_gone(token: str) -> None:
    """Waits for the end of all processes that a start has left; raises if they do not end by themselves."""
    until = time.monotonic() + GONE_SECONDS
    while left := _processes(token):
        if time.monotonic() > until:
            raise AssertionError(f"still running: {left}")
        time.sleep(0.01)


def _processes(token: str) -> list[int]:
    """Those with this token in their environment, which a child has from its parent."""
    wanted = f"TORTURE={token}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has ended, or is not ours
    return found


# What a database says


_COLUMNS = {
    "pages": (
        "key, url, host, state, reason, detail, title, author, site, language, published, final_url, http_status, "
        "etag, last_modified, failures, hidden_characters, canonical, marks, "
        "not_before IS NULL, fetched_at IS NULL, changed_at IS NULL, text_hash"
    ),
    "texts": "hash, text, characters",
    "chunks": "text_hash, number, start, end, tokens, hash",
    "recipes": "hash, model, digest, num_ctx, options, prompts",
    "chunk_summaries": "chunk_hash, recipe, summary, tool_calls, tool_errors, primed, prompt_tokens, output_tokens",
    "reduce_summaries": "input_hash, recipe, summary, prompt_tokens, output_tokens",
    "meta": "name",
}
"""Not `ratios`: what has been measured is told when a page is done, and may be measured once more or not at all."""
_QUERIES = {
    "summaries": """
        SELECT key, row_number() OVER (PARTITION BY page_id ORDER BY summaries.id), summaries.text_hash, recipe,
            summary, key_points, summaries.language, method, coverage, flags, chunks
        FROM summaries JOIN pages ON pages.id = page_id
    """,
    "summary_chunks": """
        SELECT key, summaries.text_hash, recipe, number, chunk_hash, left_out
        FROM summary_chunks JOIN summaries ON summaries.id = summary_id JOIN pages ON pages.id = page_id
    """,
    "evidence": """
        SELECT key, summaries.text_hash, recipe, number, sentence, start, end, score
        FROM evidence JOIN summaries ON summaries.id = summary_id JOIN pages ON pages.id = page_id
    """,
    "sources": "SELECT key, list, origin, tags FROM sources JOIN pages ON pages.id = page_id",
    "redirects": "SELECT key, number, redirects.url FROM redirects JOIN pages ON pages.id = page_id",
    "attempts": "SELECT key, stage, code, attempts.detail FROM attempts JOIN pages ON pages.id = page_id",
    "search": "SELECT key, search_current.* FROM search_current JOIN pages ON pages.id = page_id",
}


def content(db: Path) -> dict[str, Rows]:
    """All that a database says but for ids, times, and what each start of the program did and paid.

    What a summary cost is nothing where its text had one already, and that hangs on which of two pages was first.
    """
    queries = {table: f"SELECT {columns} FROM {table}" for table, columns in _COLUMNS.items()} | _QUERIES
    with closing(sqlite3.connect(db)) as connection:
        found = {table: connection.execute(query).fetchall() for table, query in queries.items()}
        found["search"] = [(key, *rest) for key, _, *rest in found["search"]]
        found["outcomes"] = _outcomes(connection)
    # What a line that is no URL is known by is keyed with the secret of the database.
    return {table: sorted((_named(row) for row in rows), key=repr) for table, rows in found.items()}


def _named(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple("line:" if str(value).startswith("line:") else value for value in row)


def _outcomes(connection: sqlite3.Connection) -> Rows:
    """(night, page, outcome, reason): what a night did with a page, in whichever of its starts.

    A start that finds a page done by an earlier one of the same night says that it is fresh, or done by this recipe.
    """
    found: dict[tuple[str, str], tuple[Any, ...]] = {}
    query = """
        SELECT runs.source, pages.key, outcome, items.reason
        FROM items JOIN runs ON runs.id = run_id JOIN pages ON pages.id = page_id ORDER BY run_id
    """
    for source, key, *what in connection.execute(query):
        if what == ["waiting", None] or (what[1] in ("fresh", "same_recipe") and (source, key) in found):
            continue
        found[source, key] = tuple(what)
    return [(*which, *what) for which, what in found.items()]


def kept(db: Path) -> set[str]:
    """The marks of all answers that are stored."""
    query = """
        SELECT summary FROM chunk_summaries UNION ALL SELECT summary FROM reduce_summaries
        UNION ALL SELECT summary FROM summaries
    """
    try:
        with closing(connect(db, write=False)) as connection:
            return {found for (text,) in connection.execute(query) for found in MARK.findall(text)}
    except DatabaseUnusable:
        return set()  # it was killed before there was one


def ended(db: Path, night: int) -> int | None:
    """The exit code of a night that was killed when all was done; `None` if it was not."""
    with suppress(DatabaseUnusable), closing(connect(db, write=False)) as connection:
        codes = connection.execute("SELECT exit_code FROM runs WHERE state = 'finished' ORDER BY id").fetchall()
        return int(codes[night][0]) if len(codes) > night else None
    return None


def a_day_passes(db: Path) -> None:
    """All times of a database are a day earlier."""
    times = {
        "pages": ("added_at", "fetched_at", "changed_at", "not_before"),
        "items": ("started_at", "ended_at"),
        "attempts": ("started_at", "ended_at"),
        "runs": ("started_at", "ended_at"),
        "summaries": ("created_at",),
    }
    with closing(sqlite3.connect(db)) as connection, connection:
        for table, columns in times.items():
            for column in columns:
                connection.execute(
                    f"UPDATE {table} SET {column} = strftime('%Y-%m-%dT%H:%M:%fZ', {column}, '-1 day')"
                    f" WHERE {column} IS NOT NULL"
                )


# A series


@dataclass
class Measure:
    """What the nights leave when nobody disturbs them."""

    content: dict[str, Rows] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)
    calls: int = 0
    points: list[list[str]] = field(default_factory=list)
    """Of each night, the commits by name, in order."""
    happened: list[Counter[str]] = field(default_factory=list)
    seconds: float = 0.0


def undisturbed(world: World) -> Measure:
    """The nights as they are meant to be."""
    measure, db = Measure(), world.folder / "undisturbed.db"
    began = time.monotonic()
    world.calls, world.kept = 0, set()
    for night in range(len(NIGHTS)):
        world.night = night
        world.trap.seen.clear()
        points = world.folder / f"points-{night}"
        said = start(world, db, points=points)
        if said.code not in (0, SOME_FAILED):
            raise AssertionError(f"the measure itself ended with {said.code}: {said.err}")
        measure.codes.append(said.code)
        measure.points.append(points.read_text().split())
        measure.happened.append(Counter(world.trap.seen))
        world.kept = kept(db)
        a_day_passes(db)
    measure.content, measure.calls = content(db), world.calls
    measure.seconds = (time.monotonic() - began) / len(NIGHTS)
    return measure


@dataclass
class Report:
    """What was found."""

    pages: int = 0
    kills: int = 0
    starts: int = 0
    rounds: int = 0
    made: int = 0
    needed: int = 0
    lost: int = 0
    """Answers that were given and not kept, because the program was killed in between."""
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.rounds} rounds, {self.starts} starts, {self.pages} pages, "
            f"model calls made {self.made} / needed {self.needed} ({self.lost} answers lost by kills), "
            f"differences found: {len(self.differences)}"
        )


Choose = Callable[[int], Moment | None]
"""(night) → when its next start is killed; `None`: it is let through."""


def series(world: World, measure: Measure, choose: Choose, report: Report, say: Callable[[str], None]) -> None:
    """The nights once through, with as many kills as `choose` wants; what differs goes to the report."""
    name = f"round {report.rounds}"
    db = world.folder / f"killed-{report.rounds}.db"
    report.rounds += 1
    world.calls, world.kept, world.twice = 0, set(), []
    before = report.kills
    for night in range(len(NIGHTS)):
        world.night = night
        code = None
        while code is None:
            moment = choose(night)
            world.given = set()
            said = start(world, db, moment)
            report.starts += 1
            world.kept |= kept(db)
            report.lost += len(world.given - world.kept)
            if said.was_killed:
                report.kills += 1
                say(f"{name}, {NIGHTS[night]}: killed at {moment}")
            code = ended(db, night) if said.was_killed else said.code
        if code != measure.codes[night]:
            report.differences.append(f"{name}: exit code {code}, not {measure.codes[night]}: {said.err[-500:]}")
        report.differences += [f"{name}: {fault}" for fault in faults(world, db, said.was_killed)]
        a_day_passes(db)
    report.made += world.calls
    report.needed += measure.calls
    report.pages = len(measure.content["pages"])
    report.differences += [f"{name}: paid twice: {known}" for known in world.twice]
    report.differences += [f"{name}: {found}" for found in differences(measure.content, content(db))]
    # A kill loses what was in flight: the loops at the model's places, and as many answers on their way to the disk.
    most = (report.kills - before) * 2 * PARALLEL * 2
    if world.calls > measure.calls + most:
        report.differences.append(f"{name}: {world.calls} calls for {measure.calls}")


def faults(world: World, db: Path, was_killed: bool) -> list[str]:
    """What a night that has ended may not leave."""
    found = [f"check: {finding.what}: {finding.said}" for finding in check.findings(db, None)]
    if is_held(db):
        found.append("the lock is held")
    left = sorted(path.name for path in (world.folder / "tmp").iterdir())
    found += [f"temporary file: {name}" for name in left]
    if not was_killed:
        found += [f"beside the database: {path.name}" for path in db.parent.glob(f"{db.name}-*")]
    with closing(sqlite3.connect(db)) as connection:
        for said, query in (INVARIANTS | AT_THE_END).items():
            found += [f"{said}: {row}" for row in connection.execute(query)]
        known = {url for (url,) in connection.execute("SELECT url FROM pages")}
    wanted = lines(min(world.night, 1), world.origins, world.size)
    found += [f"no row for {line}" for line in wanted if line not in known]
    return found


AT_THE_END = {
    "a page of the last run without an end": """
        SELECT page_id FROM items WHERE run_id = (SELECT max(id) FROM runs) AND ended_at IS NULL
    """,
    "a run that stands as running": """
        SELECT id FROM runs WHERE state = 'running'
    """,
}
"""What may not be when a night has come to its end."""
INVARIANTS = {
    "a summary twice": """
        SELECT page_id, text_hash, recipe FROM summaries GROUP BY 1, 2, 3 HAVING count(*) > 1
    """,
    "a summary of no text, or by no recipe": """
        SELECT summaries.id FROM summaries LEFT JOIN texts ON texts.hash = text_hash
        LEFT JOIN recipes ON recipes.hash = recipe WHERE texts.hash IS NULL OR recipes.digest IS NULL
    """,
    "a summary that does not cover its text": """
        SELECT id FROM summaries WHERE coverage < 1
    """,
    "a summarized page whose present text has no summary": """
        SELECT url FROM pages WHERE state = 'summarized' AND NOT EXISTS (
            SELECT 1 FROM summaries WHERE page_id = pages.id AND summaries.text_hash = pages.text_hash
        )
    """,
    "parts that are not the text": """
        SELECT texts.hash FROM texts JOIN chunks ON chunks.text_hash = texts.hash
        GROUP BY texts.hash HAVING sum(end - start) <> characters OR max(end) <> characters OR min(start) <> 0
    """,
}
"""What may not be at any time."""


def differences(wanted: Mapping[str, Rows], found: Mapping[str, Rows]) -> list[str]:
    """The rows that only one of two databases has, told shortly."""
    told = []
    for table in wanted:
        lacking = Counter(wanted[table])
        lacking.subtract(Counter(found[table]))
        for row, number in lacking.items():
            if number:
                told.append(f"{table}: {abs(number)} {'lacking' if number > 0 else 'too many'}: {repr(row)[:400]}")
    return told


class EachPoint:
    """A kill at the nth commit of each name, in each night, or in the first one that has it.

    What has come less often is over when its time comes: then the next series goes on with the rest.
    """

    def __init__(self, measure: Measure, nth: int = 1, *, once: bool = False) -> None:
        self.waiting: list[list[str]] = []
        self._nth = nth
        known: set[str] = set()
        for points in measure.points:
            often = Counter(points)
            new = [point for point in often if often[point] >= nth and point not in known]
            known |= set(new) if once else set()
            # What is the last of a night comes last: nothing is left to be killed after it.
            self.waiting.append(sorted(new, key="end_run".__eq__))

    def __call__(self, night: int) -> Moment | None:
        waiting = self.waiting[night]
        return Moment(f"commit:{waiting.pop(0)}", self._nth) if waiting else None


def at_random(measure: Measure, some: random.Random, kills: int) -> Choose:
    """Kills at moments that are chosen among all that happens; a few of them by the clock."""
    left = kills

    def choose(night: int) -> Moment | None:
        nonlocal left
        if not left:
            return None
        left -= 1
        happened = measure.happened[night]
        commits = len(measure.points[night])
        kind = some.choice([*happened, "statement", "statement", "commit:", "seconds"])
        if kind == "seconds":
            return Moment(kind, round(some.uniform(0.1, measure.seconds), 3))
        if kind == "commit:":
            return Moment(f"commit:{some.choice(measure.points[night])}", some.randint(1, 3))
        most = commits * STATEMENTS_A_COMMIT if kind == "statement" else happened[kind]
        return Moment(kind, some.randint(1, max(1, most // 3)))

    return choose


POINTS = {
    *("migrate", "begin_run", "Added", "Chosen", "settle", "recipe", "Fetched", "Unchanged", "Chunked"),
    *("ChunkSummarized", "PartsReduced", "Summarized", "NotDone", "Measured", "HostSeen", "end_items", "end_run"),
}
"""Every name under which a night commits, but for `wake` (a model was away) and `Paused` (a site was)."""
STATEMENTS_A_COMMIT = 10
"""Of the connection that writes, counted: questions and what triggers do as well."""
KILLS_A_ROUND = 20


def tortured(folder: Path, seed: int, kills: int, say: Callable[[str], None], size: int = 1) -> Report:
    """Kills at every commit point, the first three of each name, then `kills` at random moments."""
    report, some = Report(), random.Random(seed)
    with a_world(folder, size) as world:
        measure = undisturbed(world)
        say(f"undisturbed: {measure.calls} model calls, {measure.seconds:.1f} s a night")
        for nth in (1, 2, 3):
            points = EachPoint(measure, nth)
            while any(points.waiting) and not report.differences:
                series(world, measure, points, report, say)
        say(f"every commit point: {report}")
        target = report.kills + kills
        while report.kills < target and not report.differences:
            series(world, measure, at_random(measure, some, min(KILLS_A_ROUND, target - report.kills)), report, say)
            say(str(report))
    return report

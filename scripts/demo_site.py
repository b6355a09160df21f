"""The site of the demo, on loopback: the pages of a folder, with validators, redirects, robots.txt and a log.

As a program it writes the list of its URLs once it listens, prints its base URL, and serves until it is stopped.
The next time it listens where that list says, if it can: its pages keep their addresses.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import demo_thread
from aiohttp import web

FOLDER = Path(__file__).resolve().parent.parent / "data" / "demo"
TYPES = {".html": "text/html", ".json": "text/html", ".txt": "text/plain"}
TOLD_HEADERS = ("User-Agent", "Accept-Encoding", "If-None-Match", "If-Modified-Since")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it was answered."""

    method: str
    path: str
    """With its query."""
    status: int
    headers: dict[str, str]
    """Those of `TOLD_HEADERS` that were sent."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is served at a path; `modified` is in whole seconds, for HTTP knows no smaller ones."""

    body: bytes
    content_type: str
    modified: datetime


LOG: web.AppKey[list[Asked]] = web.AppKey("LOG", list[Asked])


def make_app(folder: Path, log_file: Path | None = None) -> web.Application:
    """The site of a folder, read at each request. Requests go to `app[LOG]`, and to `log_file` as lines of JSON."""

    async def answer(request: web.Request) -> web.Response:
        response = _response(folder, request)
        told = {name: request.headers[name] for name in TOLD_HEADERS if name in request.headers}
        asked = Asked(request.method, request.path_qs, response.status, told)
        app[LOG].append(asked)
        if log_file:
            with log_file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(asked)) + "\n")
        return response

    app = web.Application()
    app[LOG] = []
    app.router.add_get("/{path:.*}", answer)
    return app


def _response(folder: Path, request: web.Request) -> web.Response:
    if target := redirects(folder).get(request.path_qs):
        return web.Response(status=301, headers={"Location": target})
    found = content(folder, request.path)
    if not found:
        return web.Response(status=404, text="There is no such page.")
    etag = sha256(found.body).hexdigest()[:16]
    known = request.if_modified_since is not None and found.modified <= request.if_modified_since
    if request.if_none_match is not None:  # it counts before a date: RFC 9110, 13.2.2
        known = any(tag.value in (etag, "*") for tag in request.if_none_match)
    whole = web.Response(body=found.body, content_type=found.content_type, charset="utf-8")
    response = web.Response(status=304) if known else whole
    response.etag = etag
    response.last_modified = found.modified
    return response


def content(folder: Path, path: str) -> Content | None:
    """What stands at a path: `…/` is the `index.html` or the thread in it, `…/name` may be `name.html`."""
    pages = (folder / "pages").resolve()
    place = (pages / path.lstrip("/")).resolve()
    inside = [place / "index.html", place / "thread.json"]
    for file in inside if path.endswith("/") else [place.with_name(place.name + ".html"), place]:
        if file.is_relative_to(pages) and file.is_file():
            body = file.read_bytes()
            if file.suffix == ".json":
                body = demo_thread.render(json.loads(body)).encode()
            return Content(body, TYPES[file.suffix], datetime.fromtimestamp(int(file.stat().st_mtime), UTC))
    return None


def redirects(folder: Path) -> dict[str, str]:
    """Paths (with their query) that have moved, and where to."""
    return dict(json.loads((folder / "redirects.json").read_text("utf-8")))


def url_list(folder: Path, base: str) -> str:
    """The list for a site at `base`: each line of `paths.txt` that begins with `/` becomes a URL, others stay."""
    lines = (folder / "paths.txt").read_text("utf-8").splitlines()
    return "".join(f"{base if line.startswith('/') else ''}{line}\n" for line in lines)


async def serve(folder: Path, list_file: Path, log_file: Path | None, until_stdin_closes: bool) -> None:
    """Serves on a free port of 127.0.0.1 until SIGTERM, SIGINT or, if asked, the end of standard input."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_closes:
        threading.Thread(target=_stop_at_end_of_stdin, args=(loop, stop), daemon=True).start()
    runner = web.AppRunner(make_app(folder, log_file), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", _earlier_port(list_file)).start()
        except OSError:  # somebody else listens there now
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        part = list_file.with_name(list_file.name + ".part")
        part.write_text(url_list(folder, base), "utf-8")
        part.replace(list_file)
        print(base, flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def _earlier_port(list_file: Path) -> int:
    """The port of the first URL in the list of an earlier time; 0: there is none."""
    found = re.search(r"127\.0\.0\.1:(\d+)/", list_file.read_text("utf-8")) if list_file.is_file() else None
    return int(found[1]) if found else 0


def _stop_at_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(0, 4096):
        pass
    with contextlib.suppress(RuntimeError):  # the loop ended before
        loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serves the pages of the demo on a free port of 127.0.0.1.")
    parser.add_argument("--list", type=Path, required=True, help="where to write the list of URLs")
    parser.add_argument("--log", type=Path, help="where to append each request as a line of JSON")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the folder of the site (default: data/demo)")
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop at the end of standard input too")
    options = parser.parse_args()
    asyncio.run(serve(options.folder, options.list, options.log, options.until_stdin_closes))

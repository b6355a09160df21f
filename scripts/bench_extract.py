"""How much of the text of known pages comes out, and how fast: ours beside trafilatura alone and readability."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_pages import BenchPage, pages

from pipeline.extract import read_page
from pipeline.records import Document, Page

Read = Callable[[bytes], str]
_TOKENS = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+")
"""Words; single characters where no spaces stand between words."""


def ours(body: bytes) -> str:
    url = "http://site.test/page"
    found = read_page(Page(url, url, 200, "text/html", "", body))
    return found.text if isinstance(found, Document) else ""


def trafilatura_alone(body: bytes) -> str:
    """With the same options: metadata, Markdown, comments, and no date that is only guessed."""
    import trafilatura  # noqa: PLC0415

    found = trafilatura.bare_extraction(
        body,
        url="http://site.test/page",
        with_metadata=True,
        include_comments=True,
        include_links=False,
        include_formatting=True,
        date_extraction_params={"original_date": True, "extensive_search": False},
    )
    fields = found.as_dict() if found is not None and not isinstance(found, dict) else found or {}
    return "\n\n".join(part for part in (fields.get("text"), fields.get("comments")) if part)


def trafilatura_extract(body: bytes) -> str:
    """As it is when nothing is asked of it."""
    import trafilatura  # noqa: PLC0415

    return trafilatura.extract(body) or ""


def readability(body: bytes) -> str:
    import readability as library  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415
    from lxml import html  # noqa: PLC0415

    summary = library.Document(body.decode("utf-8", "replace")).summary()
    return "\n".join(html.document_fromstring(summary).itertext())


def f1(found: str, known: str) -> float:
    """Of tokens, each as often as it stands there."""
    one, other = Counter(_TOKENS.findall(found)), Counter(_TOKENS.findall(known))
    common = (one & other).total()
    return 2 * common / (one.total() + other.total()) if common else 0.0


def seconds_of(ways: Mapping[str, Read], bodies: Sequence[bytes], rounds: int) -> dict[str, float]:
    """Of this process's own time, for all bodies: the best of the rounds for each.

    The ways take turns at each body, so that what slows the machine slows all of them.
    """
    best = {name: [float("inf")] * len(bodies) for name in ways}
    for _ in range(rounds):
        for place, body in enumerate(bodies):
            for name, read in ways.items():
                started = time.process_time()
                read(body)
                best[name][place] = min(best[name][place], time.process_time() - started)
    return {name: sum(seconds) for name, seconds in best.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many is told (default: 5)")
    parser.add_argument("--by", choices=("layout", "language"), default="layout", help="a line of figures for each")
    parser.add_argument("--speed-of", type=Path, metavar="FOLDER", help="only how fast, on the *.html in a folder")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    ways: dict[str, Read] = {
        "ours": ours,
        "trafilatura": trafilatura_alone,
        "trafilatura.extract": trafilatura_extract,
        "readability-lxml": readability,
    }
    if importlib.util.find_spec("readability") is None:
        del ways["readability-lxml"]
        print("readability-lxml is not here: .venv/bin/pip install readability-lxml", file=sys.stderr)
    if options.speed_of:
        bodies = [file.read_bytes() for file in sorted(options.speed_of.rglob("*.html"))]
        print("".ljust(28), *(name.rjust(20) for name in ways))
    else:
        known = list(pages())
        bodies = [page.markup.encode() for page in known]
        _print_scores(known, bodies, ways, 0 if options.by == "layout" else 1)
    _print_speeds(seconds_of(ways, bodies, options.rounds), len(bodies))
    return 0


def _print_scores(known: Sequence[BenchPage], bodies: Sequence[bytes], ways: Mapping[str, Read], by: int) -> None:
    scores = {
        name: [f1(read(body), page.text) for page, body in zip(known, bodies, strict=True)]
        for name, read in ways.items()
    }
    print(f"F1 of tokens, {len(known)} pages".ljust(28), *(name.rjust(20) for name in ways))
    groups = dict.fromkeys(page.name.split()[by] for page in known)
    for group in groups:
        places = [place for place, page in enumerate(known) if page.name.split()[by] == group]
        means = [sum(scores[name][place] for place in places) / len(places) for name in ways]
        print(f"  {group}".ljust(28), *(f"{mean:20.3f}" for mean in means))
    print("mean".ljust(28), *(f"{sum(scores[name]) / len(known):20.3f}" for name in ways))
    print("lowest".ljust(28), *(f"{min(scores[name]):20.3f}" for name in ways))


def _print_speeds(seconds: Mapping[str, float], pages: int) -> None:
    print("pages per second and core".ljust(28), *(f"{pages / spent:20.0f}" for spent in seconds.values()))
    print("ours : this".ljust(28), *(f"{spent / seconds['ours']:20.2f}" for spent in seconds.values()))


if __name__ == "__main__":
    sys.exit(main())

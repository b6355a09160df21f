"""Pages into JSON, CSV, TSV, Markdown and plain text, a row at a time.

What comes from a page is data in each of them: no cell is a formula to a spreadsheet, and no line of Markdown is
HTML, a picture or a link to anywhere but the page.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from pipeline.console import json_line, printable

if TYPE_CHECKING:  # what a command needs is imported by that command
    from pipeline.commands.failures import Failure

Rows = Iterable[sqlite3.Row]
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
"""How a cell begins that spreadsheets take for a formula; those of Japanese and Chinese systems know the wide forms."""
_MARKS = re.compile(r"([\\`*_\[\]<>&|~$])")
_MARKS_OF_A_LINE = re.compile(r"^([#+=>:-]|\d{1,9}(?=[.)]))")


def json_array(rows: Rows) -> Iterator[str]:
    """One array, an object a line."""
    before = "["
    for row in rows:
        yield before + json_line(row)
        before = ","
    yield "]" if before == "," else "[]"


def json_lines(rows: Rows) -> Iterator[str]:
    """An object a line."""
    return map(json_line, rows)


def comma_separated(rows: Rows) -> Iterator[str]:
    """RFC 4180, with a line of names; lines end with a line feed."""
    return _cells(rows, ",")


def tab_separated(rows: Rows) -> Iterator[str]:
    """As `comma_separated`, with tabs."""
    return _cells(rows, "\t")


def markdown(rows: Rows) -> Iterator[str]:
    """A heading, the address, the summary and its key points for each page."""
    for row in rows:
        yield from (*markdown_of(row), "")


def markdown_of(row: sqlite3.Row) -> Iterator[str]:
    """One page: `url`, `title`, `state`, `reason`, `detail`, `summary` and `key_points` of it."""
    yield f"## {_marked(' '.join(row['title'].split()) or row['url'])}"
    yield ""
    yield link(row["url"])
    if row["state"] != "summarized":
        yield ""
        yield _marked(": ".join(filter(None, (row["state"], row["reason"], " ".join(row["detail"].split())))))
    if row["summary"]:
        yield ""
        yield from (f"- {_marked(line[2:])}" if line.startswith("- ") else _marked(line) for line in _lines(row))
        points = json.loads(row["key_points"])
        yield from [""] * bool(points)
        yield from (f"- {_marked(' '.join(point.split()))}" for point in points)


def plain_of(row: sqlite3.Row) -> Iterator[str]:
    """As `markdown_of`, as plain text."""
    yield printable(" ".join(row["title"].split()) or row["url"])
    yield printable(row["url"])
    yield from (printable(line) for line in _lines(row))
    yield from (f"- {printable(' '.join(point.split()))}" for point in json.loads(row["key_points"] or "[]"))


def failure_in_markdown(found: Failure) -> str:
    """One page that is not well, as an item of a list."""
    why = " ".join((found.detail or found.what).split())
    return f"- {_marked(f'{found.state} {found.reason}')}: {link(found.url)}: {_marked(why)}"


def failure_in_plain_text(found: Failure) -> str:
    """One page that is not well, in a line."""
    why = " ".join((found.detail or found.what).split())
    return printable(f"{found.state} {found.reason}: {found.url}: {why}")


def link(url: str) -> str:
    """An address as Markdown; one that is not of the web is text."""
    if not re.match(r"https?://", url, re.IGNORECASE):
        return _marked(url)
    return "<" + "".join(char if char.isprintable() and char not in ' <>"\\`|' else quote(char) for char in url) + ">"


FORMATS: dict[str, Callable[[Rows], Iterator[str]]] = {
    "json": json_array,
    "jsonl": json_lines,
    "csv": comma_separated,
    "tsv": tab_separated,
    "markdown": markdown,
}


def _cells(rows: Rows, separator: str) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, delimiter=separator, lineterminator="\r\n")
    first = True
    for row in rows:
        for values in ([*row.keys()], [_cell(name, row[name]) for name in row.keys()])[0 if first else 1 :]:  # noqa: SIM118 - a row is no mapping
            line.seek(0)
            line.truncate()
            writer.writerow(values)
            yield line.getvalue().removesuffix("\r\n")
        first = False


def _cell(name: str, value: object) -> object:
    if name in ("key_points", "flags") and value is not None:
        value = "\n".join(json.loads(str(value)))
    if not isinstance(value, str):
        return value
    text = "\n".join(map(printable, value.splitlines()))
    return f"'{text}" if FORMULA.match(value) or FORMULA.match(text) else text


def _lines(row: sqlite3.Row) -> Iterator[str]:
    return (line.strip() for line in (row["summary"] or "").splitlines())


def _marked(text: str) -> str:
    """A text in one line, in which nothing is markup."""
    return _MARKS_OF_A_LINE.sub(r"\\\1", _MARKS.sub(r"\\\1", printable(text)))

"""XML as a stream of tags, read by expat: nothing is loaded, nothing is expanded, nothing is kept.

A document type with declarations of its own is refused: entities and default attributes (billion laughs, XXE) can
only be declared there. One that names an external DTD, as old feeds do, is passed over; the DTD is never asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO
from xml.parsers import expat

from pipeline.urls.items import MOST_DEPTH, PIECE_CHARACTERS, Unreadable

MOST_TAG_BYTES = 1_000_000
"""Of one tag, comment or the like: expat looks at an unfinished one again from its start with every piece."""
MOST_TEXT_CHARACTERS = 16_384
"""What is kept of the text of one element."""


@dataclass(frozen=True, slots=True)
class Start:
    """A tag that opens; `depth` is 1 at the root. Prefixes are a part of the names, as undeclared ones are common."""

    name: str
    depth: int
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class End:
    """A tag that closes, with the text that came before it and after the last other tag."""

    name: str
    depth: int
    text: str


def elements(text: TextIO, most_bytes: int | None = None) -> Iterator[Start | End]:
    """The tags of a document, each as soon as it is read.

    Raises `Unreadable` where it is not well-formed, or after `most_bytes` (in UTF-8).
    """
    reader = _Reader()
    fed = 0
    while piece := text.read(PIECE_CHARACTERS):
        data = piece.encode("utf-8", "replace")
        fed += len(data)
        if most_bytes is not None and fed > most_bytes:
            raise Unreadable(f"larger than {most_bytes:,} bytes")
        yield from reader.feed(data)
        if fed - reader.position > MOST_TAG_BYTES:
            raise Unreadable(f"a tag of more than {MOST_TAG_BYTES:,} bytes at line {reader.line}")
    yield from reader.feed(b"", last=True)


class _Reader:
    """Expat with what its callbacks have seen since the last piece."""

    def __init__(self) -> None:
        # The text is decoded already: what the document says of its encoding no longer counts.
        self._expat = expat.ParserCreate("utf-8")
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._characters
        self._expat.StartDoctypeDeclHandler = self._doctype
        self._seen: list[Start | End] = []
        self._text: list[str] = []
        self._room = MOST_TEXT_CHARACTERS
        self._depth = 0

    @property
    def position(self) -> int:
        return self._expat.CurrentByteIndex

    @property
    def line(self) -> int:
        return self._expat.CurrentLineNumber

    def feed(self, data: bytes, last: bool = False) -> Iterator[Start | End]:
        fault = ""
        try:
            self._expat.Parse(data, last)
        except expat.ExpatError as error:
            fault = f"not well-formed XML at line {error.lineno}: {expat.ErrorString(error.code)}"
        except Unreadable as refused:
            fault = str(refused)
        seen, self._seen = self._seen, []
        yield from seen
        if fault:
            raise Unreadable(fault)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise Unreadable(f"nested more than {MOST_DEPTH} deep at line {self.line}")
        self._seen.append(Start(name, self._depth, attributes))
        self._forget_text()

    def _end(self, name: str) -> None:
        self._seen.append(End(name, self._depth, "".join(self._text)))
        self._depth -= 1
        self._forget_text()

    def _characters(self, text: str) -> None:
        if self._room > 0:
            self._text.append(text[: self._room])
            self._room -= len(text)

    def _forget_text(self) -> None:
        self._text.clear()
        self._room = MOST_TEXT_CHARACTERS

    def _doctype(self, name: str, system: str | None, public: str | None, has_declarations: bool) -> None:
        if has_declarations:
            raise Unreadable("its document type has declarations of its own (entities), which are not read")

"""Where a list comes from, as text: opened, unpacked and decoded, with its beginning looked at but not lost."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO, cast

from pipeline.charsets import codec_of
from pipeline.errors import UsageError
from pipeline.urls.items import Unreadable
from pipeline.urls.kinds import Kind, kind_of
from pipeline.urls.lines import shown

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD_BYTES = 65_536
"""What is read of a list before its first entry is given."""
MOST_UNPACKED_BYTES = 52_428_800
"""Of a list packed by gzip: what the sitemap protocol allows. A thousand times as much fits into a small file."""

GZIP = b"\x1f\x8b"
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    ("<?".encode("utf-16-le"), "utf-16-le"),
    ("<?".encode("utf-16-be"), "utf-16-be"),
)
_DECLARED = re.compile(rb"\s*<\?xml[^>]{1,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})[\"']", re.IGNORECASE)
_META = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)


class Bytes(Protocol):
    """What can be read from, piece by piece."""

    def read1(self, size: int = ..., /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Source:
    """A list that is open, at its beginning."""

    kind: Kind
    text: TextIO


@contextmanager
def opened(source: str) -> Iterator[io.BufferedReader]:
    """A file, or standard input as `-`. Raises `UsageError`."""
    try:
        with _standard_input() if source == "-" else Path(source).open("rb") as stream:
            yield stream
    except OSError as error:
        raise UsageError(f"cannot read {shown(source)}: {error.strerror}") from error


def can_be_read_twice(source: str) -> bool:
    """Whether a source can be looked at before it is read. What is read of a pipe is gone, also of the one that a
    shell makes for `<(…)`. Raises `UsageError` for standard input that is closed."""
    if source == "-":
        _standard_input()
        return False
    return not os.access(source, os.R_OK) or os.path.isfile(source) or os.path.isdir(source)


def _standard_input() -> io.BufferedReader:
    if sys.stdin is None:
        raise UsageError("cannot read standard input: it is closed")
    return cast(io.BufferedReader, sys.stdin.buffer)


@contextmanager
def decoded(stream: io.BufferedIOBase, charset: str = "") -> Iterator[Source]:
    """The text of a list, whatever it is packed and written in; `charset` is what its sender said of it.

    Raises `Unreadable`, also later, as it is read.
    """
    head = stream.read(HEAD_BYTES)
    if head.startswith(GZIP):
        stream = io.BufferedReader(_Unpacked(_Rewound(head, stream)))
        head = stream.read(HEAD_BYTES)
        if head.startswith(GZIP):
            raise Unreadable("packed twice")
    encoding = encoding_of(head, charset)
    kind = kind_of(head.decode(encoding, "ignore"), whole=len(head) < HEAD_BYTES)
    again = io.BufferedReader(_Rewound(head, stream), HEAD_BYTES)
    with io.TextIOWrapper(again, encoding, errors="replace", newline=None) as lines:
        yield Source(kind, lines)


def encoding_of(head: bytes, charset: str = "") -> str:
    """What a list is written in: by its byte order mark, its sender, its own declaration; else UTF-8."""
    for bom, encoding in BOMS:
        if head.startswith(bom):
            return encoding
    declared = _DECLARED.match(head) or (_META.search(head, 0, 2_048) if head.lstrip().startswith(b"<") else None)
    named = charset or (declared[1].decode("ascii", "replace") if declared else "")
    codec = codec_of(named) if named else ""
    # UTF-16 without a mark is told above: what says so in ASCII is not UTF-16.
    return codec if codec and not codec.startswith(("utf-8", "utf-16", "utf-32")) else "utf-8-sig"


class _Rewound(io.RawIOBase):
    """A stream from its beginning, which has been read already."""

    def __init__(self, head: bytes, rest: Bytes) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        room = memoryview(buffer)
        data = self._head[: len(room)] or self._rest.read1(len(room))
        self._head = self._head[len(data) :]
        room[: len(data)] = data
        return len(data)


class _Unpacked(io.RawIOBase):
    """What gzip has packed, with a bound."""

    def __init__(self, packed: io.RawIOBase) -> None:
        self._file = gzip.GzipFile(fileobj=packed)
        self._room = MOST_UNPACKED_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        room = memoryview(buffer)
        try:
            data = self._file.read1(len(room))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Unreadable(f"damaged gzip data: {error}") from error
        self._room -= len(data)
        if self._room < 0:
            raise Unreadable(f"larger than {MOST_UNPACKED_BYTES:,} bytes unpacked")
        room[: len(data)] = data
        return len(data)

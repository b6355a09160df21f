"""What a power cut leaves: the writes and syncs of a night, recorded, and the disk as it was in between.

A disk may forget all that was not synced, and it may keep any part of it. What a program says on its standard output is
recorded in the same order, so that for each moment it is known what had been promised by then.
"""

from __future__ import annotations

import json
import os
import platform
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture import KILLED, SECONDS, World

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""

_CALLS = "openat,pwrite64,write,ftruncate,fsync,fdatasync,unlink,unlinkat,rename,renameat,renameat2,pwritev,fallocate"
_LINE = re.compile(r"(\d+) +(?:<\.\.\. \w+ resumed>)?(.*?)( <unfinished \.\.\.>)?")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_HEX = re.compile(r"[<\"]((?:\\x[0-9a-f]{2})*)[>\"]")


def recorders() -> list[str]:
    """What there is here to record with: `strace`, if it may trace, and `cc`, which makes a library to preload."""
    found = []
    if shutil.which("strace") and not subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode:
        found.append("strace")
    if shutil.which("cc") and platform.libc_ver()[0] == "glibc":
        found.append("cc")
    return found


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a file, or was said."""

    kind: str
    """`make`, `write`, `resize`, `sync`, `sync folder`, `remove`, `say`."""
    name: str = ""
    offset: int = 0
    """Of a write; the new size of `resize`."""
    data: bytes = b""


def record(world: World, db: Path, moment: str, recorder: str) -> list[Event]:
    """One night in a folder that has nothing but the database, as events."""
    trace, out = world.folder / "trace", world.folder / "said"
    trace.unlink(missing_ok=True)
    before, variables = _traced(trace, db, out) if recorder == "strace" else _preloaded(trace, db, out)
    with out.open("wb") as said:
        done = subprocess.run(
            [*before, sys.executable, str(KILLED), moment, *world.arguments(db)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.PIPE,
            env=world.variables | variables,
            cwd=world.folder,
            timeout=SECONDS,
            check=False,
        )
    events = list(_events(trace.read_text(), db, out)) if trace.exists() else []
    if not any(event.kind == "say" for event in events):
        raise AssertionError(f"nothing was recorded: {done.returncode} {done.stderr.decode()[-500:]}")
    return events


def _traced(trace: Path, db: Path, out: Path) -> tuple[list[str], dict[str, str]]:
    """What stands before a command that is traced, and the variables for it."""
    watched = [db, *(db.with_name(f"{db.name}-{end}") for end in ("wal", "journal")), db.parent, out]
    command = ["strace", "-f", "-y", "-xx", "-s", str(1 << 20), "--seccomp-bpf", "-e", "signal=none"]
    command += ["-e", f"trace={_CALLS}", "-o", str(trace)]
    return [*command, *(word for path in watched for word in ("-P", str(path)))], {}


def _preloaded(trace: Path, db: Path, out: Path) -> tuple[list[str], dict[str, str]]:
    library = trace.with_name("recorder.so")
    source = Path(__file__).with_name("recorder.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    named = {"RECORD_FOLDER": str(db.parent), "RECORD_SAID": str(out), "RECORD_LOG": str(trace)}
    return [], {"LD_PRELOAD": str(library)} | named


def _events(trace: str, db: Path, out: Path) -> Iterator[Event]:
    """What another thread does during a call counts as before its end, but something is said when it is begun."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        match = _LINE.fullmatch(line)
        assert match, line[:200]
        pid, text, is_unfinished = match.groups()
        if is_unfinished:
            begun[pid] = text
            if text.startswith("write("):
                yield from _event(f"{text}) = 1", db, out, says=True)
            continue
        was_begun = begun.pop(pid, "")
        yield from _event(was_begun + text, db, out, says=not was_begun)


def _event(text: str, db: Path, out: Path, says: bool) -> Iterator[Event]:
    match = _CALL.match(text)
    if not match or match[3].startswith("-"):
        return  # the end of a process, or a call that failed
    call, told = match[1], match[2]
    strings = [bytes.fromhex(found.replace("\\x", "")) for found in _HEX.findall(told)]
    path = Path(strings[1 if call == "openat" else 0].decode())
    numbers = [int(number) for number in re.findall(r", (\d+)", told)]
    if path == out:
        if says:
            yield Event("say", data=strings[1])
        return
    kind = _KINDS[call]  # of any other, nobody has thought what of it a disk may forget
    if path == db.parent:
        if kind == "sync":
            yield Event("sync folder")
    elif kind == "write":
        yield Event(kind, path.name, numbers[-1], strings[1])
    elif kind == "resize":
        yield Event(kind, path.name, numbers[-1])
    elif kind != "make" or "O_CREAT" in told:
        yield Event(kind, path.name)


_KINDS = {"openat": "make", "pwrite64": "write", "ftruncate": "resize", "unlink": "remove"}
_KINDS |= {"fsync": "sync", "fdatasync": "sync"}


@dataclass
class _File:
    synced: bytes = b""
    pending: list[Event] = field(default_factory=list)

    def after(self, events: Sequence[Event]) -> bytes:
        data = bytearray(self.synced)
        for event in events:
            if event.kind == "resize":
                data = data[: event.offset].ljust(event.offset, b"\0")
                continue
            data.extend(bytes(max(0, event.offset - len(data))))
            data[event.offset : event.offset + len(event.data)] = event.data
        return bytes(data)


@dataclass
class Disk:
    """A folder as the program sees it, and as it is on the disk."""

    seen: dict[str, _File] = field(default_factory=dict)
    kept: dict[str, _File] = field(default_factory=dict)
    """The folder's entries that were synced."""

    def apply(self, event: Event) -> None:
        if event.kind == "make":
            self.seen.setdefault(event.name, _File())
        elif event.kind == "remove":
            del self.seen[event.name]
        elif event.kind == "sync folder":
            self.kept = dict(self.seen)
        elif event.kind == "sync":
            file = self.seen[event.name]
            file.synced, file.pending = file.after(file.pending), []
        elif event.kind in ("write", "resize"):
            self.seen[event.name].pending.append(event)

    def left(self) -> dict[str, bytes]:
        """What a cut leaves when all is forgotten that was not synced."""
        return {name: file.synced for name, file in self.kept.items()}

    def left_by_chance(self, some: random.Random) -> dict[str, bytes]:
        """What it leaves when of the rest some sectors were written, in whatever order."""
        entries = self.kept | (self.seen if some.random() < 0.5 else {})
        return {name: file.after(list(_torn(file.pending, some))) for name, file in entries.items()}


def _torn(events: Sequence[Event], some: random.Random) -> Iterator[Event]:
    for event in events:
        if event.kind == "resize" and some.random() < 0.5:
            yield event
        for start in range(0, len(event.data), SECTOR):
            if some.random() < 0.5:
                yield Event("write", event.name, event.offset + start, event.data[start : start + SECTOR])


@dataclass
class Cuts:
    """What came of all cuts."""

    cuts: int = 0
    syncs: int = 0
    said: int = 0
    faults: list[str] = field(default_factory=list)


def cut_everywhere(events: Sequence[Event], folder: Path, some: random.Random) -> Cuts:
    """Cuts the power before each sync and at the end, twice each, and looks whether all is there that was said."""
    cuts, disk, said = Cuts(), Disk(), b""
    for event in [*events, Event("sync")]:
        if event.kind.startswith("sync"):
            for left in (disk.left(), disk.left_by_chance(some)):
                number = cuts.cuts = cuts.cuts + 1
                promised = [json.loads(line) for line in said.splitlines()]
                cuts.faults += [f"cut {number}: {fault}" for fault in _faults(left, promised, folder / str(number))]
            cuts.syncs += 1
        if event.kind == "say":
            said += event.data
        elif event.name or event.kind == "sync folder":
            disk.apply(event)
    cuts.said = len(said.splitlines())
    return cuts


def cut_a_first_night(world: World, some: random.Random, recorder: str, moment: str = f"points:{os.devnull}") -> Cuts:
    """A first night, and the power cut at all its syncs; `moment` is for `killed`."""
    world.night = 0
    folder = world.folder / f"{recorder}-{moment.partition(':')[0]}"
    folder.mkdir()
    return cut_everywhere(record(world, folder / "summaries.db", moment, recorder), folder, some)


def _faults(left: Mapping[str, bytes], promised: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """What is wrong with a database in these files."""
    folder.mkdir()
    try:
        for name, data in left.items():
            (folder / name).write_bytes(data)
        found = []
        with closing(sqlite3.connect(folder / "summaries.db")) as db:
            db.row_factory = sqlite3.Row
            found += [f"integrity: {said}" for (said,) in db.execute("PRAGMA integrity_check") if said != "ok"]
            found += [f"foreign key: {tuple(row)}" for row in db.execute("PRAGMA foreign_key_check")]
            found += [f"said and lost: {line['url']}" for line in promised if not _is_there(db, line)]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    finally:
        shutil.rmtree(folder)
    return found


def _is_there(db: sqlite3.Connection, line: Mapping[str, Any]) -> bool:
    """Whether a page stands as a line of `--json` said."""
    if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'pages'").fetchone()[0]:
        return False
    page = db.execute("SELECT id, state, reason FROM pages WHERE url = ?", [line["url"]]).fetchone()
    if page is None or (page["state"], page["reason"]) != (line["state"], line["reason"]):
        return False
    found = db.execute("SELECT summary FROM summaries WHERE page_id = ? ORDER BY id DESC", [page["id"]]).fetchone()
    return bool((found["summary"] if found else None) == line["summary"])

"""The recordings of a real Ollama server (see recordings/README.md), and how an answer is compared with one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recording:
    """One request, and what was answered to it."""

    id: str
    method: str
    path: str
    body: Any
    """An object, or text that is sent as it is; shortened texts are whole again."""
    status: int | None
    response: Any

    @property
    def last(self) -> Any:
        """The answer, or its last line."""
        return self.response[-1] if isinstance(self.response, list) else self.response


def _said(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def _fox(sentences: int) -> str:
    return "".join(
        f"The quick brown fox number {number} jumps over the lazy dog near the river bank. "
        for number in range(sentences)
    )


def _called(city: str) -> Message:
    call = {"function": {"name": "get_weather", "arguments": {"city": city}}}
    return _said("assistant", "") | {"tool_calls": [call]}


_SYSTEM = _said("system", "You are terse.")
_TOO_LONG = [_SYSTEM, _said("user", "Summarise: " + _fox(100))]
_PARTS = [_said(role, f"Part {number}. {_fox(6)}") for number in range(5) for role in ("user", "assistant")]
_MANY = [_SYSTEM, *_PARTS, _said("user", "What is the last part number?")]
_FITS = [_said("user", _fox(28))]
_BARE = [_said("user", _fox(100))]
_MIDDLE = [_said("user", _fox(60))]
_LOOKUP = {"function": {"name": "lookup", "arguments": {"q": "fox"}}}
_LOOP = [
    _said("system", "SYS"),
    _said("user", f"DOCUMENT {_fox(10)}"),  # ten characters of the recorded one are not known
    _said("assistant", "") | {"tool_calls": [_LOOKUP]},
    _said("tool", f"RESULT {_fox(15)}") | {"tool_name": "lookup"},
]
_EXAMPLES = [
    message
    for city in ("Rome", "Berlin", "Madrid", "Oslo", "Lima")
    for message in (_said("user", f"Weather in {city}?"), _called(city))
]
_PARIS = [*_EXAMPLES, _said("user", "Weather in Paris?")]
_ANSWERED = [*_PARIS, _called("Paris"), _said("tool", "7 degrees, heavy rain") | {"tool_name": "get_weather"}]

_WHOLE: dict[str, list[Message]] = {
    **dict.fromkeys(("over-single-default", "over-single-nofalse", "over-single-nofalse-stream"), _TOO_LONG),
    **dict.fromkeys(("over-multi-default", "over-multi-default-render", "over-multi-nofalse"), _MANY),
    **dict.fromkeys(("fit-then-overflow-default", "fit-then-overflow-notrunc"), _FITS),
    **dict.fromkeys(("fit-then-overflow-noshift", "fit-then-overflow-noshift-2", "shift-back"), _FITS),
    **dict.fromkeys(("over-single-noshift", "over-single-noshift-trfalse"), _BARE),
    **dict.fromkeys(("nc300", "nc500", "nc513"), _MIDDLE),
    **dict.fromkeys(("toolloop-over-render", "toolloop-over", "toolloop-over-notrunc"), _LOOP),
    **dict.fromkeys(("tools-call", "tools-call-stream", "tools-call-nofield", "tools-call-cut"), _PARIS),
    **dict.fromkeys(("tools-call-format", "tools-call-unknown"), _PARIS),
    "tools-call-answer": _ANSWERED,
}
"""The messages of the requests that stand shortened in the file and are sent again."""


def _recording(entry: dict[str, Any]) -> Recording:
    request = entry["request"]
    body = request["body"]
    if entry["id"] in _WHOLE:
        body = body | {"messages": _WHOLE[entry["id"]]}
    return Recording(entry["id"], request["method"], request["path"], body, entry["status"], entry["response"])


_FILE = Path(__file__).parent / "recordings" / "recordings.json"
RECORDINGS = {entry["id"]: _recording(entry) for entry in json.loads(_FILE.read_text("utf-8"))}


def is_shortened(value: Any) -> bool:
    """Whether a text in a request stands for a longer one."""
    return "\u2026" in json.dumps(value, ensure_ascii=False)


def ask(url: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Sends one request; gives the status, and the JSON (a list for lines of it) or the text of the answer."""
    connection = sent(url, method, path, body)
    try:
        response = connection.getresponse()
        return response.status, _read(response.headers.get_content_type(), response.read().decode())
    finally:
        connection.close()


def sent(url: str, method: str, path: str, body: Any = None) -> HTTPConnection:
    """A connection on which the request has gone out, and nothing has been waited for."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=120)
    connection.request(method, path, body if body is None or isinstance(body, str) else json.dumps(body))
    return connection


def _read(content_type: str, text: str) -> Any:
    if content_type == "application/x-ndjson":
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text) if content_type == "application/json" else text


def again(url: str, recording: Recording, **changed: Any) -> tuple[int, Any]:
    """Sends a recorded request to another server, with fields of its body changed."""
    body = recording.body | changed if changed else recording.body
    return ask(url, recording.method, recording.path, body)


def shape(value: Any) -> Any:
    """The fields and types of a JSON value, to any depth; of a list, the different shapes of its items."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        shapes = [shape(item) for item in value]
        return [item for number, item in enumerate(shapes) if item not in shapes[:number]]
    return type(value).__name__

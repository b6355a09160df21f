"""An Ollama server played by a function: it counts tokens in a way of its own and notes every request.

What it does around the function is what server 0.33 does (test_fake_ollama.py holds it to recordings), its silent
losses too:

- A prompt that does not fit is refused with `truncate: false` only. Else it is cut with HTTP 200: whole messages go
  from the front, all but the system's and the last; if that is not enough, the middle of the text, down to half of
  the context. The function is handed the request as the model sees it, and `seen` has the text.
- An answer is cut at `num_predict`; a cut call is neither call nor text. With the prompt it may be longer than the
  context: then the server has forgotten half of the prompt while it wrote, and does not say so.
- A model without the capability `tools` is refused when tools are offered, and never sees calls and their results.
- A call of a tool that was not offered is lost; where none was offered at all, it is text.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

Body = dict[str, Any]
Behave = Callable[[Body], Body]
"""A chat request → the `message` of the reply, or {"status": …, "error": …}, or a whole reply with `done`."""
Count = Callable[[str], int]
"""A text → its tokens, in the vocabulary of a model."""

MODEL = "fake:latest"
DIGEST = "f" * 64
TRAINED_CONTEXT = 8_192
DEFAULT_CONTEXT = 4_096
"""Of a server without a large GPU, where the request says nothing."""

_CONTEXT_STEP = 256
_KEPT_TOKENS = 4
"""At the front of a prompt that is cut in the middle."""
_TOKEN_BYTES = 4
_TIME = "2026-01-01T00:00:00.123456789Z"
_TOKEN_NS = 1_000_000
_LOAD_NS, _LOADED_NS = 250_000_000, 500_000

_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "fake",
    "families": ["fake"],
    "parameter_size": "1.00M",
    "quantization_level": "Q4_1",
}


def tokens_of(text: str) -> int:
    """One token for every four bytes, rounded up."""
    return -(-len(_bytes(text)) // _TOKEN_BYTES)


def prompt_tokens(body: Body, count: Count = tokens_of) -> int:
    """What the prompt of a request has, for a model with tools and with room for all of it."""
    return count(_prompt(body))


def writes(body: Body) -> Body:
    """A model that does everything right, as far as it can see what it is asked."""
    text = "What this part says."
    if body.get("format"):
        text = json.dumps({"summary": "A summary of what was read.", "key_points": ["One fact.", "Another."]})
    elif body.get("tools"):
        try:
            return {"role": "assistant", "content": "", "tool_calls": [{"function": right_call(body)}]}
        except ValueError:
            text = "There is nothing that I could call."
    return {"role": "assistant", "content": text}


def right_call(body: Body) -> Body:
    """The call that the request asks for: the JSON object in its last message. Raises `ValueError` without one."""
    text = body["messages"][-1]["content"]
    arguments = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return {"name": "get_page", "arguments": arguments}


class FakeOllama:
    """The server: `url`, what it was asked, what its model saw, and `behave`, which may be changed at any time.

    `count` is the vocabulary of its model for prompts (answers are counted by bytes), `refusal` how it words that a
    prompt is too long; one that does not obey cuts the prompt in silence even when it is told not to.
    """

    def __init__(
        self,
        behave: Behave = writes,
        capabilities: tuple[str, ...] = ("completion", "tools"),
        *,
        count: Count = tokens_of,
        refusal: Callable[[int, int], str] | None = None,
        obeys: bool = True,
    ) -> None:
        self.behave = behave
        self.capabilities = capabilities
        self.count = count
        self.refusal = refusal or too_long
        self.obeys = obeys
        self.chats: list[Body] = []
        """Requests with messages, as they came."""
        self.loads: list[Body] = []
        """Requests without."""
        self.paths: list[str] = []
        self.seen: list[str] = []
        """The prompts that were evaluated, after all that the server did to them."""
        self.url = ""
        self._asked_context = 0
        self._calls = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20, middlewares=[_refusals])
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/ps", self._ps)
        app.router.add_post("/api/show", self._show)
        app.router.add_post("/api/chat", self._chat)
        return app

    async def _version(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        return web.json_response({"version": "0.33.0"})

    async def _tags(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        details = _DETAILS | {"context_length": TRAINED_CONTEXT, "embedding_length": 64}
        told = {"modified_at": _TIME, "details": details, "capabilities": self.capabilities}
        return web.json_response({"models": [_named() | told]})

    async def _ps(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        told = {"details": _DETAILS, "expires_at": _TIME, "size_vram": 0, "context_length": self._asked_context}
        return web.json_response({"models": [_named() | told] if self._asked_context else []})

    async def _show(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        model = (await request.json())["model"]
        _check_model(model, model if ":" in model else f"{model}:latest")
        info = {"general.architecture": "fake", "fake.context_length": TRAINED_CONTEXT}
        texts = dict.fromkeys(("modelfile", "parameters", "template"), "")
        tensors = [{"name": "output.weight", "type": "F32", "shape": [64]}]
        told = {"details": _DETAILS, "model_info": info, "tensors": tensors, "modified_at": _TIME}
        return web.json_response(texts | told | {"capabilities": self.capabilities})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.paths.append(request.path)
        (self.chats if body.get("messages") else self.loads).append(body)
        _check_model(body["model"], body["model"])
        if body.get("tools") and "tools" not in self.capabilities:
            raise _Refused(400, f"registry.ollama.ai/library/{MODEL} does not support tools")
        if not body.get("messages"):
            return _answered(body, {"done_reason": self._loaded(body)})
        load = self._load(body.get("options") or {})
        prompt = self._evaluated(body)
        self.seen.append(prompt.text)
        said = self.behave(prompt.body)
        if "error" in said:
            raise _Refused(said["status"], said["error"])
        if "done" in said:
            return _answered(body, _counts(load, prompt.tokens, 1) | {"done_reason": "stop"} | said)
        answer = self._written(body, said)
        counts = _counts(load, prompt.tokens, answer.tokens)
        return _answered(body, {"message": answer.message, "done_reason": answer.reason} | counts)

    def _evaluated(self, body: Body) -> _Prompt:
        """What the model sees of a request."""
        body = body | {"messages": _visible(body["messages"], "tools" in self.capabilities)}
        context, count = served_context(body), prompt_tokens(body, self.count)
        if count < context:
            return _Prompt(body, _prompt(body), count)
        if body.get("truncate") is False and self.obeys:
            raise _Refused(400, self.refusal(count, context))
        return _shortened(body, context, self.count)

    def _load(self, options: Body) -> int:
        """What of a request's time goes into loading: much where the context is another one."""
        asked = min(options.get("num_ctx", DEFAULT_CONTEXT), TRAINED_CONTEXT)
        nanoseconds = _LOADED_NS if asked == self._asked_context else _LOAD_NS
        self._asked_context = asked
        return nanoseconds

    def _loaded(self, body: Body) -> str:
        """Does what a request without messages is for; the word for it."""
        if body.get("keep_alive") == 0:
            self._asked_context = 0
            return "unload"
        self._load(body.get("options") or {})
        return "load"

    def _written(self, body: Body, said: Body) -> _Answer:
        """The function's message as the server gives it on."""
        offered = {tool["function"]["name"] for tool in body.get("tools") or []}
        content, calls = said.get("content") or "", said.get("tool_calls") or []
        written = content + _calls_as_text(calls)
        count, limit = max(1, tokens_of(written)), (body.get("options") or {}).get("num_predict", -1)
        is_cut = 0 < limit < count
        if is_cut:
            written, count = _bytes(written)[: limit * _TOKEN_BYTES].decode(errors="ignore"), limit
        message = {**said, "role": "assistant", "content": content if calls and offered else written}
        message.pop("tool_calls", None)
        known = [call["function"] for call in calls if call["function"]["name"] in offered and not is_cut]
        if known:
            message["tool_calls"] = [self._numbered(index, function) for index, function in enumerate(known)]
        return _Answer(message, count, "length" if is_cut else "stop")

    def _numbered(self, index: int, function: Body) -> Body:
        self._calls += 1
        return {"id": f"call_{self._calls:08}", "function": {"index": index, **function}}


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What the model is given."""

    body: Body
    """The request, as if it had been made of what is left of it."""
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the model gives back."""

    message: Body
    tokens: int
    reason: str


class _Refused(Exception):
    """The answer is this HTTP status, with this text as its `error`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except _Refused as refused:
        return web.json_response({"error": refused.text}, status=refused.status)


def _check_model(asked: str, shown: str) -> None:
    if asked not in (MODEL, MODEL.removesuffix(":latest")):
        raise _Refused(404, f"model '{shown}' not found")


def _named() -> Body:
    return {"name": MODEL, "model": MODEL, "size": 1_000_000, "digest": DIGEST}


def served_context(body: Body) -> int:
    """The context that a request is served with: in steps, and no longer than the model was trained for."""
    asked = max(1, int((body.get("options") or {}).get("num_ctx", DEFAULT_CONTEXT)))
    return min(-(-asked // _CONTEXT_STEP) * _CONTEXT_STEP, TRAINED_CONTEXT)


def _visible(messages: list[Body], knows_tools: bool) -> list[Body]:
    """The messages that the model's template has a place for; the others vanish in silence."""
    if knows_tools:
        return [message for message in messages if message.get("role") in ("system", "user", "assistant", "tool")]
    without_calls = [{key: message[key] for key in message if key != "tool_calls"} for message in messages]
    roles = ("system", "user", "assistant")
    return [message for message in without_calls if message.get("role") in roles and message.get("content")]


def _shortened(body: Body, context: int, tokens: Count) -> _Prompt:
    """A prompt that does not fit, as the server cuts it: whole messages from the front, then the middle of the text."""
    messages = list(body["messages"])
    while prompt_tokens(body | {"messages": messages}, tokens) >= context:
        others = [index for index, message in enumerate(messages[:-1]) if message["role"] != "system"]
        if not others:
            break
        del messages[others[0]]
    body = body | {"messages": messages}
    text = _prompt(body)
    if (count := tokens(text)) < context:
        return _Prompt(body, text, count)
    raw = _bytes(text)
    size = _token_bytes(raw, count)
    count = _KEPT_TOKENS + (context - _KEPT_TOKENS) // 2
    end = raw[-(count - _KEPT_TOKENS) * size :].decode(errors="ignore")
    text = raw[: _KEPT_TOKENS * size].decode(errors="ignore") + end
    left = {"role": messages[-1]["role"], "content": end.removesuffix(_ANSWER_BEGINS).removesuffix(_TURN_ENDS)}
    return _Prompt(body | {"messages": [left]}, text, count)


_TURN_ENDS, _ANSWER_BEGINS = "<|im_end|>\n", "<|im_start|>assistant\n"


def _prompt(body: Body) -> str:
    """The text of a request, laid out as for a ChatML model."""
    tools = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in body.get("tools") or [])
    turns = [("system", tools)] if tools else []
    for message in body.get("messages") or []:
        text = (message.get("content") or "") + _calls_as_text(message.get("tool_calls") or [])
        turns.append((message.get("role", ""), text))
    return "".join(f"<|im_start|>{role}\n{text}{_TURN_ENDS}" for role, text in turns) + _ANSWER_BEGINS


def _token_bytes(text: bytes, tokens: int) -> int:
    """What a token of a text has, in whole bytes, on the average."""
    return max(1, -(-len(text) // max(1, tokens)))


def _calls_as_text(calls: list[Body]) -> str:
    lines = [json.dumps({key: call["function"].get(key) for key in ("name", "arguments")}) + "\n" for call in calls]
    return f"<tool_call>\n{''.join(lines)}</tool_call>" if lines else ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def too_long(count: int, context: int) -> str:
    """The refusal of a prompt, as server 0.33 words it."""
    words = f"request ({count} tokens) exceeds the available context size ({context} tokens), try increasing it"
    error = {"code": 400, "message": words, "type": "exceed_context_size_error"}
    return json.dumps({"error": error | {"n_prompt_tokens": count, "n_ctx": context}}, separators=(",", ":"))


def _counts(load: int, prompt: int, output: int) -> Body:
    """The counts of an answer, and durations made of them."""
    durations = {"prompt_eval_duration": prompt * _TOKEN_NS, "eval_duration": output * 10 * _TOKEN_NS}
    counts = {"load_duration": load, "prompt_eval_count": prompt, "eval_count": output}
    return {"total_duration": load + sum(durations.values())} | durations | counts


def _answered(body: Body, fields: Body) -> web.Response:
    """An answer, whole or as a stream, which is what is given to those who say nothing."""
    reply = {"model": body["model"], "created_at": _TIME, "message": {"role": "assistant", "content": ""}, "done": True}
    reply |= fields
    if not body.get("stream", True):
        return web.json_response(reply)
    lines = []
    if reply["message"].get("content") or reply["message"].get("tool_calls"):
        lines.append({key: reply[key] for key in ("model", "created_at", "message")} | {"done": False})
    if reply["done"]:
        lines.append(reply | {"message": {"role": "assistant", "content": ""}})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return web.Response(text=text, content_type="application/x-ndjson")


Value = TypeVar("Value")


@contextmanager
def entered(context: AbstractAsyncContextManager[Value]) -> Iterator[Value]:
    """The value of an asynchronous context that lives in an event loop and a thread of its own."""
    started: Future[tuple[Value, Callable[[], object]]] = Future()

    async def live() -> None:
        ended = asyncio.Event()
        async with context as value:
            started.set_result((value, partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)))
            await ended.wait()

    with ThreadPoolExecutor(1) as thread:
        life = thread.submit(asyncio.run, live())
        futures: tuple[Future[Any], ...] = (started, life)
        wait(futures, return_when=FIRST_COMPLETED)
        if not started.done():
            life.result()  # it raises what kept the context from being entered
        value, end = started.result()
        try:
            yield value
        finally:
            end()
            life.result()


@asynccontextmanager
async def _site(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextmanager
def running(app: web.Application) -> Iterator[str]:
    """Serves an app on an ephemeral loopback port, in a thread of its own; gives its URL."""
    with entered(_site(app)) as url:
        yield url


@contextmanager
def serving(fake: FakeOllama) -> Iterator[FakeOllama]:
    """A fake server that runs."""
    with running(fake.app()) as fake.url:
        yield fake

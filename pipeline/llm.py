"""Messages into an answer that counts as one: the one module that knows the `ollama` package.

An answer is HTTP 200 **and** done **and** `done_reason` "stop" **and** text or a tool call **and** counts that
are plausible; everything else is raised as what it means for the page or for the run. Every request carries
`truncate: false`, the run's `num_ctx`, a `num_predict` ≥ 1 and `think: false`, and has a time-out; `keep_alive`
goes into the loading request only (repeated, it keeps other requests of the server from being served).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import pydantic
import tenacity

# The package makes a client of it when it is imported, and fails on what it cannot parse (seen with 0.6.3). Ours are
# told their server.
os.environ.pop("OLLAMA_HOST", None)

import ollama

from pipeline import tokens
from pipeline.errors import ModelUnusable, NoTools, PageFailed, PageNotDone, PageWaits, TooLong
from pipeline.records import Answer, Message, Reason, Request, ToolCall, ToolSpec

TRIES = 4
"""Of one request, when the connection or the runner broke; the only retry layer."""
ANSWER_SECONDS = 10.0
"""For a server to say that it is there; one that is loading a model says so too."""
LOAD_SECONDS = 600.0
"""A model of 40 GB is read from a slow disk in minutes."""
MOST_SLOTS = 4
"""Requests of the burst that finds the slots out; more than a home server has."""
BURST_TOKENS = 24
SAMPLING: dict[str, object] = {"temperature": 0.0, "repeat_penalty": 1.1}
"""What is sent unless `--option` says otherwise. Without the penalty a small model repeats a sentence to the end of its
room (SmolLM2 135M: on 4 of 11 pages of the demo)."""
FIRST: dict[str, object] = {"seed": 0}
AGAIN: dict[str, object] = {"temperature": 0.4, "seed": 1}
"""What a second try has instead: at temperature 0 another seed gives the same answer."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its server describes it."""

    name: str
    digest: str
    tools: bool
    """Whether its template knows tools; a guess of the server's."""
    trained_context: int
    """In tokens; above it `num_ctx` is cut down in silence."""
    loaded_context: int = 0
    """With which it is loaded now; 0: it is not. Asking for another one loads it anew."""


_NO_PROTOCOL = (TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What an answer leads to that has not the form of one: other types, no UTF-8, a number of 5,000 digits, an argument
that is nested 1,000 deep (a model may write that)."""


class _Broken(PageNotDone):
    """The connection or the runner broke: the same request may well succeed in a moment."""


class _Client(ollama.AsyncClient):
    """`AsyncClient.chat` has no `truncate` and drops what it does not know, so the body is posted as it is."""

    async def post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        response = await self._request_raw("POST", path, json=body)  # type: ignore[no-untyped-call] # the package has no types
        return self._object(response)

    async def get(self, path: str) -> dict[str, Any]:
        return self._object(await self._request_raw("GET", path))  # type: ignore[no-untyped-call]

    @staticmethod
    def _object(response: httpx.Response) -> dict[str, Any]:
        value = response.json()
        if not isinstance(value, dict):
            raise TypeError("not a JSON object")
        return value


class _Circuit:
    """Whether a server is worth asking: after a few failures in a row one request in a while finds out."""

    FAILURES = 3
    SECONDS = 30.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self.FAILURES

    def may_try(self) -> bool:
        if not self.is_open:
            return True
        if self._clock() < self._next_try:
            return False
        self._next_try = self._clock() + self.SECONDS
        return True

    def failed(self) -> None:
        self._failures += 1
        self._next_try = self._clock() + self.SECONDS

    def worked(self) -> None:
        self._failures = 0


class ModelClient:
    """One model on one server, for one run. Use it with `async with`, within one event loop."""

    def __init__(
        self,
        host: str,
        model: str,
        timeout: float,
        options: Mapping[str, object] = MappingProxyType({}),
        sleep: Callable[[float], Any] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        patience: float = math.inf,
    ) -> None:
        self.host = host
        self.model = model
        self.num_ctx = 0
        self._timeout = timeout
        self.sampling: dict[str, object] = {**SAMPLING, **options}
        self.counted: Callable[[Mapping[str, int], int], None] = lambda units, real: None
        """Is told of each prompt: its `tokens.units`, and the tokens that the server says it has."""
        self._keep_alive: str | None = None
        self._circuit = _Circuit(clock)
        self._sleep = sleep
        self._patience = patience
        """Seconds in which one request may be tried again."""
        self._client = _Client(
            host,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            follow_redirects=False,
            # httpx sends even loopback traffic to a proxy of the environment (seen with 0.28).
            trust_env=not is_local(host),
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def version(self) -> str:
        """The server's version; empty if it tells none. Raises as `describe` does."""
        return str((await self._told("/api/version")).get("version") or "")

    async def describe(self) -> Model:
        """What the server says of the model.

        Raises `ModelUnusable` when the server does not have it, `PageWaits` when nothing answers.
        """
        shown = await self._told("/api/show", {"model": self.model})
        tags = await self._told("/api/tags")
        loaded = await self._told("/api/ps")
        try:
            return self._described(shown, tags, loaded)
        except _NO_PROTOCOL as error:
            raise ModelUnusable(f"{self._no_ollama}: {error}") from error

    def _described(self, shown: dict[str, Any], tags: dict[str, Any], loaded: dict[str, Any]) -> Model:
        info = shown.get("model_info") or {}
        trained = info.get(f"{info.get('general.architecture')}.context_length") or 0
        wanted = self.model if ":" in self.model else f"{self.model}:latest"
        digests = {entry.get("name"): entry.get("digest") for entry in tags.get("models") or []}
        contexts = {entry.get("name"): entry.get("context_length") for entry in loaded.get("models") or []}
        return Model(
            self.model,
            str(digests.get(wanted) or ""),
            "tools" in (shown.get("capabilities") or []),
            int(trained),
            int(contexts.get(wanted) or 0),
        )

    async def _told(self, path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        try:
            async with asyncio.timeout(min(self._timeout, ANSWER_SECONDS)):
                return await (self._client.get(path) if body is None else self._client.post(path, body))
        except Exception as error:
            meaning = self._translated(error)
            # Here it is no page that waits, and nobody tries again at once: the server is down for now.
            if isinstance(meaning, _Broken):
                raise PageWaits(meaning.reason, meaning.detail) from error
            # Nor is it one that fails.
            raise ModelUnusable(meaning.detail) if isinstance(meaning, PageFailed) else meaning from error

    async def load(self, num_ctx: int, keep_alive: str | None = None) -> None:
        """Loads the model with the context of this run: the one request that may say `keep_alive`.

        Raises `PageWaits` when the server is down, `ModelUnusable`.
        """
        self.num_ctx, self._keep_alive = num_ctx, keep_alive
        async with self._watched():
            await self._load()

    async def _load(self) -> None:
        options = self._options()
        body: dict[str, object] = {"model": self.model, "messages": [], "stream": False, "options": options}
        if self._keep_alive is not None:
            body["keep_alive"] = self._keep_alive
        try:
            await self._posted(body, LOAD_SECONDS)
        except PageFailed as failed:
            raise ModelUnusable(f"model {self.model} cannot be loaded: {failed.detail}") from failed

    async def slots(self) -> int:
        """How many requests the server computes at once, up to `MOST_SLOTS`: found out by a burst of equal ones.

        No API tells the number. 1 when in doubt, also when the server has a fault.
        """
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Write the numbers from 1 to 100."}],
            "stream": False,
            "truncate": False,
            "think": False,
            "options": self._options(num_predict=BURST_TOKENS, seed=0),
        }

        async def asked() -> dict[str, Any]:
            try:
                return await self._posted(body, self._timeout)
            except (PageNotDone, ModelUnusable):
                return {}

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asked()) for _ in range(MOST_SLOTS)]
        return slots_of([task.result() for task in tasks])

    async def chat(self, request: Request) -> Answer:
        """One request, one answer that counts.

        Raises `TooLong` (refused, or the answer ran out of the context), `PageWaits` (the server is down or slow),
        `PageFailed` (this request has no good answer) or `ModelUnusable` (no request has).
        """
        body: dict[str, object] = {
            "model": self.model,
            "messages": [_message(message) for message in request.messages],
            "stream": False,
            "truncate": False,
            "think": False,
            "options": self._options(num_predict=max(1, request.num_predict), **(AGAIN if request.again else FIRST)),
        }
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
        if request.schema is not None:
            body["format"] = request.schema
        started = time.monotonic()
        try:
            shown = _shown(body)
            units = tokens.units(shown)
            async with self._watched():
                if self._circuit.is_open:
                    # It may have been started anew: the model is loaded with our options first, as at the beginning.
                    await self._load()
                reply = await self._posted(body, self._timeout)
            answer = _answer(reply, self.num_ctx, time.monotonic() - started)
        except _NO_PROTOCOL as error:
            raise PageFailed(Reason.LLM_ERROR, f"an answer that is not of Ollama's protocol: {error}") from error
        except TooLong as refused:
            if refused.prompt_tokens:
                self.counted(units, refused.prompt_tokens)
            raise
        if answer.prompt_tokens < (least := tokens.least(shown)):
            what = (
                f"the server counts {answer.prompt_tokens} tokens where there are {least} at least: it cut the prompt"
            )
            raise PageFailed(Reason.LLM_CONTEXT, what)
        self.counted(units, answer.prompt_tokens)
        return answer

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Around a request: while the server is down most are not even sent."""
        if not self._circuit.may_try():
            raise PageWaits(Reason.LLM_DOWN, f"Ollama at {self.host} did not answer just now")
        try:
            yield
        except (PageWaits, PageFailed) as fault:
            # A page that always kills the runner is that page's failure (`llm_error`), and nobody else's.
            if isinstance(fault.__cause__, _Broken) and fault.reason is Reason.LLM_DOWN:
                self._circuit.failed()
            raise
        self._circuit.worked()

    def _options(self, **own: object) -> dict[str, object]:
        return {**self.sampling, "num_ctx": self.num_ctx, **own}

    async def _posted(self, body: dict[str, object], seconds: float) -> dict[str, Any]:
        """Sends one body until it is answered; transport faults are tried again, with jitter."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_Broken),
            stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_before_delay(self._patience),
            wait=lambda state: random.uniform(0.5, 1.0) * 2**state.attempt_number,  # noqa: S311 - jitter
            sleep=self._sleep,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    try:
                        async with asyncio.timeout(seconds):
                            return await self._client.post("/api/chat", body)
                    except Exception as error:
                        raise self._translated(error) from error
        except _Broken as broken:
            kind = PageWaits if broken.reason is Reason.LLM_DOWN else PageFailed
            raise kind(broken.reason, broken.detail) from broken
        raise AssertionError("tenacity gives an answer or raises")

    def _translated(self, error: Exception) -> Exception:
        """The fault as what it means: for the run, for this page, or try again."""
        if isinstance(error, ollama.ResponseError):
            return _meaning(error.status_code, str(error.error), self.model)
        if isinstance(error, (TimeoutError, httpx.TimeoutException)) and not isinstance(error, httpx.ConnectTimeout):
            return PageWaits(Reason.LLM_TIMEOUT, f"no answer within {self._timeout:g} s")
        if isinstance(error, (ConnectionError, httpx.TransportError)):
            return _Broken(Reason.LLM_DOWN, f"cannot reach Ollama at {self.host}: is it running?")
        if isinstance(error, (json.JSONDecodeError, pydantic.ValidationError, TypeError, AttributeError)):
            return ModelUnusable(f"{self._no_ollama}: {type(error).__name__}")
        if isinstance(error, _NO_PROTOCOL):
            return PageFailed(Reason.LLM_ERROR, f"{self._no_ollama}: {error}")
        return error

    @property
    def _no_ollama(self) -> str:
        return f"what answers at {self.host} does not speak Ollama's protocol"


def slots_of(replies: Sequence[Mapping[str, Any]]) -> int:
    """How many of equal requests that were sent at once did not wait for another one's end.

    `total_duration` counts from the arrival, so what is not spent on loading, reading and writing was spent waiting
    (server 0.33 with one slot: 3, 338, 645, 948 ms; with two: 2, 46, 704, 1392).
    """
    parts = ("load_duration", "prompt_eval_duration", "eval_duration")
    try:
        work = [sum(int(reply[part]) for part in parts) for reply in replies]
        waits = [int(reply["total_duration"]) - spent for reply, spent in zip(replies, work, strict=True)]
    except (KeyError, TypeError, ValueError):
        return 1
    return max(1, sum(wait < min(work) / 2 for wait in waits if min(work) > 0))


async def first_that_answers(hosts: Sequence[str], seconds: float = ANSWER_SECONDS) -> str:
    """The first of the servers that says anything at all; the first of them when none does, or there is no other."""
    for host in hosts if len(hosts) > 1 else ():
        async with httpx.AsyncClient(timeout=seconds, trust_env=not is_local(host)) as client:
            with contextlib.suppress(httpx.TransportError):
                await client.get(f"{host}/api/version")
                return host
    return hosts[0]


def is_local(host: str) -> bool:
    """Whether a server's URL names this machine."""
    name = urlsplit(host if "//" in host else f"//{host}").hostname or ""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


_NO_MEMORY = ("requires more system memory", "insufficient memory", "out of memory", "failed to allocate")
_DAMAGED = ("exceeds file size", "does not support chat", "unable to load model", "invalid file magic")
_OUR_FAULT = ("must be of type", "invalid format:", "invalid_request_error", "unknown unit")


def _meaning(status: int, text: str, model: str) -> Exception:  # noqa: PLR0911 - one line a fault: a table
    """What an error of the server means. The status alone does not tell: a 400 may be a long prompt or a bug."""
    if length := _too_long(text):
        return length
    if any(words in text for words in _NO_MEMORY):
        return ModelUnusable(f"no memory for model {model}: take a smaller one or --num-ctx ({text[:200]})")
    if any(words in text for words in _DAMAGED):
        return ModelUnusable(f"model {model} is damaged: ollama pull {model} ({text[:200]})")
    if "does not support tools" in text:
        return NoTools(text[:200])
    if "error parsing tool call" in text:
        return PageFailed(Reason.LLM_ERROR, text[:300])
    if status == 404 and "model " in text:
        return ModelUnusable(f"model {model} is not here: ollama pull {model}")
    if status in (502, 503, 504):
        return _Broken(Reason.LLM_DOWN, f"the server is busy ({status}): {text[:200]}")
    if status in (-1, 500) and not any(words in text for words in _OUR_FAULT):
        return _Broken(Reason.LLM_ERROR, text[:300])
    return ModelUnusable(f"the server refuses the request ({status}): {text[:200] or 'it says nothing more'}")


def _too_long(text: str) -> TooLong | None:
    """The refusal of an over-long prompt, with the counts that it names (0 where an old server names none)."""
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        old = ("input length", "the prompt is longer than the context", "exceeds the available context")
        return TooLong(0, 0, text[:200]) if any(words in text for words in old) else None
    if not isinstance(error, dict) or error.get("type") != "exceed_context_size_error":
        return None
    return TooLong(int(error.get("n_prompt_tokens") or 0), int(error.get("n_ctx") or 0), str(error.get("message")))


def _answer(reply: dict[str, Any], num_ctx: int, seconds: float) -> Answer:
    message = reply.get("message") or {}
    text = str(message.get("content") or "").strip()
    calls = tuple(_call(call) for call in message.get("tool_calls") or [])
    prompt, output = int(reply.get("prompt_eval_count") or 0), int(reply.get("eval_count") or 0)
    reason = reply.get("done_reason")
    if reply.get("done") is not True:
        raise PageFailed(Reason.LLM_ERROR, "the server gave up in the middle of the answer")
    if prompt + output > num_ctx:
        # The prompt was accepted, but there was no room for the answer: half of it was forgotten meanwhile.
        raise TooLong(prompt, num_ctx, f"{prompt} + {output} tokens in a context of {num_ctx}")
    if prompt == left_of_a_cut_prompt(num_ctx):
        # By chance one prompt in a thousand has as many: then a part is cut smaller that need not have been.
        raise TooLong(0, 0, f"{prompt} tokens are what is left of a prompt that is cut in a context of {num_ctx}")
    if reason == "length":
        raise PageFailed(Reason.LLM_TRUNCATED, f"no end after {output} tokens")
    if reason != "stop":
        raise PageFailed(Reason.LLM_ERROR, f"done_reason {reason!r}")
    if not text and not calls:
        raise PageFailed(Reason.LLM_EMPTY, "neither text nor a call")
    return Answer(text, calls, prompt, output, seconds)


def left_of_a_cut_prompt(num_ctx: int) -> int:
    """The tokens that a server keeps of a prompt whose middle it takes out, where it heeds no `truncate`.

    The first four and half of the rest of the context (0.33: 258 of 1,814 in a context of 512).
    """
    return 4 + (num_ctx - 4) // 2


def _shown(body: Mapping[str, Any]) -> str:
    """All text of a request that reaches the prompt."""
    parts = [str(message["content"]) for message in body["messages"]]
    parts += [
        json.dumps(message["tool_calls"], ensure_ascii=False) for message in body["messages"] if "tool_calls" in message
    ]
    parts += [json.dumps(tool, ensure_ascii=False) for tool in body.get("tools", ())]
    return "\n".join(parts)


def _call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    return ToolCall(str(function.get("name")), arguments if isinstance(arguments, dict) else {})


def _message(message: Message) -> dict[str, object]:
    body: dict[str, object] = {"role": message.role, "content": message.content}
    if message.calls:
        body["tool_calls"] = [{"function": {"name": call.name, "arguments": call.arguments}} for call in message.calls]
    if message.tool_name:
        body["tool_name"] = message.tool_name
    return body


def _tool(tool: ToolSpec) -> dict[str, object]:
    properties = {name: {"type": kind, "description": text} for name, (kind, text) in tool.properties.items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }

"""An Ollama server played by a function: it counts tokens in a way of its own and notes every request."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

Body = dict[str, Any]
Behave = Callable[[Body], Body]
"""A chat request → the `message` of the reply, or {"status": …, "error": …}, or a whole reply with `done`."""

MODEL = "fake:latest"
DIGEST = "f" * 64
TRAINED_CONTEXT = 8_192


def tokens_of(text: str) -> int:
    """One token for every four bytes, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)


def prompt_tokens(body: Body) -> int:
    """What the prompt of a request has: its messages and tools, and five for each message's frame."""
    messages = body.get("messages") or []
    return sum(tokens_of(json.dumps(part, ensure_ascii=False)) for part in messages + (body.get("tools") or [])) + 3


def writes(body: Body) -> Body:
    """A model that does everything right."""
    if body.get("tools"):
        return {"role": "assistant", "content": "", "tool_calls": [{"function": right_call(body)}]}
    if body.get("format"):
        text = json.dumps({"summary": "A summary of what was read.", "key_points": ["One fact.", "Another."]})
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": "What this part says."}


def right_call(body: Body) -> Body:
    """The call that the request asks for: the JSON object in its last message."""
    text = body["messages"][-1]["content"]
    arguments = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return {"name": "get_page", "arguments": arguments}


class FakeOllama:
    """The server: `url`, what it was asked (`chats`, `paths`), and `behave`, which may be changed at any time."""

    def __init__(self, behave: Behave = writes, capabilities: tuple[str, ...] = ("completion", "tools")) -> None:
        self.behave = behave
        self.capabilities = capabilities
        self.chats: list[Body] = []
        self.loads: list[Body] = []
        self.paths: list[str] = []
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/ps", self._ps)
        app.router.add_post("/api/show", self._show)
        app.router.add_post("/api/chat", self._chat)
        return app

    async def _tags(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        return web.json_response({"models": [{"name": MODEL, "model": MODEL, "digest": DIGEST}]})

    async def _ps(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        return web.json_response({"models": []})

    async def _show(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        model = (await request.json())["model"]
        if model not in (MODEL, MODEL.removesuffix(":latest")):
            return web.json_response({"error": f"model '{model}' not found"}, status=404)
        info = {"general.architecture": "fake", "fake.context_length": TRAINED_CONTEXT}
        return web.json_response({"capabilities": self.capabilities, "model_info": info})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.paths.append(request.path)
        reply = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z", "done": True, "total_duration": 1}
        if not body["messages"]:
            self.loads.append(body)
            return web.json_response(reply | {"message": {"role": "assistant", "content": ""}, "done_reason": "load"})
        self.chats.append(body)
        count, context = prompt_tokens(body), body["options"]["num_ctx"]
        if count >= context:
            return web.json_response({"error": too_long(count, context)}, status=400)
        message = self.behave(body)
        if "error" in message:
            return web.json_response({"error": message["error"]}, status=message["status"])
        reply |= {"done_reason": "stop", "prompt_eval_count": count}
        if "done" in message:
            return web.json_response(reply | {"eval_count": 1} | message)
        return web.json_response(reply | {"message": message, "eval_count": tokens_of(json.dumps(message))})


def too_long(count: int, context: int) -> str:
    """The refusal of a prompt, as server 0.33 words it."""
    words = f"request ({count} tokens) exceeds the available context size ({context} tokens), try increasing it"
    error = {"code": 400, "message": words, "type": "exceed_context_size_error"}
    return json.dumps({"error": error | {"n_prompt_tokens": count, "n_ctx": context}})


@contextmanager
def running(app: web.Application) -> Iterator[str]:
    """Serves an app on an ephemeral loopback port, in a thread of its own; gives its URL."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, shutdown_timeout=1.0)

    async def start() -> str:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def serving(fake: FakeOllama) -> Iterator[FakeOllama]:
    """A fake server that runs."""
    with running(fake.app()) as fake.url:
        yield fake

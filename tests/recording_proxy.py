"""A server between the command and a model's server: it passes everything on and notes what was asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession, web


@dataclass(frozen=True)
class Exchange:
    """A request to `/api/chat` that had messages, and its answer."""

    body: dict[str, Any]
    status: int
    reply: dict[str, Any]


EXCHANGES: web.AppKey[list[Exchange]] = web.AppKey("EXCHANGES", list[Exchange])
"""In the order in which they were answered."""
CHATS: web.AppKey[list[dict[str, Any]]] = web.AppKey("CHATS", list[dict[str, Any]])
"""The bodies of the requests to `/api/chat` that had messages, in their order."""


def make_app(target: str) -> web.Application:
    """An app that answers as `target` does; what was asked is in `app[CHATS]`."""

    async def passed_on(request: web.Request) -> web.Response:
        body = await request.read()
        chat = json.loads(body) if request.path == "/api/chat" else {}
        if chat.get("messages"):
            app[CHATS].append(chat)
        async with ClientSession(target) as session, session.request(request.method, request.path_qs, data=body) as got:
            reply = await got.read()
        if chat.get("messages"):
            app[EXCHANGES].append(Exchange(chat, got.status, json.loads(reply)))
        return web.Response(body=reply, status=got.status, content_type=got.content_type)

    app = web.Application(client_max_size=64 << 20)
    app[CHATS] = []
    app[EXCHANGES] = []
    app.router.add_route("*", "/{path:.*}", passed_on)
    return app

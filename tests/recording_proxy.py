"""A server between the command and a model's server: it passes everything on and notes what was asked."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import ClientSession, web

CHATS: web.AppKey[list[dict[str, Any]]] = web.AppKey("CHATS", list[dict[str, Any]])
"""The bodies of the requests to `/api/chat` that had messages, in their order."""


def make_app(target: str) -> web.Application:
    """An app that answers as `target` does; what was asked is in `app[CHATS]`."""

    async def passed_on(request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/api/chat" and (chat := json.loads(body))["messages"]:
            app[CHATS].append(chat)
        async with ClientSession(target) as session, session.request(request.method, request.path_qs, data=body) as got:
            return web.Response(body=await got.read(), status=got.status, content_type=got.content_type)

    app = web.Application(client_max_size=64 << 20)
    app[CHATS] = []
    app.router.add_route("*", "/{path:.*}", passed_on)
    return app

"""What is being asked for just now: two pages with one text, or one chunk twice, wait for one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class InFlight(Generic[Answer]):
    """Answers known by a key, of which each is asked for by one caller at a time."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Future[Answer | None]] = {}

    async def once(self, key: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer that is being given to another caller, or what `ask` gives.

        A caller whose forerunner failed or was cancelled asks by itself; what `ask` raises reaches its caller.
        """
        while asked := self._asked.get(key):
            await asyncio.wait([asked])
            if (answer := asked.result()) is not None:
                return answer
        return await self._first(key, ask)

    async def _first(self, key: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._asked[key] = future
        answer = None
        try:
            answer = await ask()
            return answer
        finally:
            del self._asked[key]
            future.set_result(answer)

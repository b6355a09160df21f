"""Places at the model: so many jobs at once, the oldest page first.

A place is held for a whole tool loop, so that its second request finds the first one's prompt in the server's cache.
How many places there are is found out when the first one is wanted: a night that needs no model does not load it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count


class Slots:
    """As many places as `open_up` says; who waits is served by age (lower first), then in the order of coming.

    `open_up` is awaited once; if it raises, for each who wants a place, until it has worked.
    """

    def __init__(self, open_up: Callable[[], Awaitable[int]]) -> None:
        self._open_up = open_up
        self._opening = asyncio.Lock()
        self._is_open = False
        self._free = 0
        self._order = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def place(self, age: int) -> AsyncIterator[None]:
        """Holds one place. Raises what `open_up` raises."""
        async with self._opening:
            if not self._is_open:
                self._free = await self._open_up()
                self._is_open = True
        await self._take(age)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, age: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (age, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came at the very moment of the cancelling
                self._give_back()
            raise

    def _give_back(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

"""Tasks into events, many at a time: the one place that runs things side by side.

N workers share the frontier; each carries one page through all the arrows. It imports no stage: it is handed
what to do with a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.records import Task


async def run(
    next_task: Callable[[], Awaitable[Task | None]],
    process: Callable[[Task], Awaitable[None]],
    done: Callable[[Task], None],
    workers: int,
) -> None:
    """Works until `next_task` gives `None` to each worker. An exception out of `process` ends all of them."""

    async def worker() -> None:
        while (task := await next_task()) is not None:
            try:
                await process(task)
            finally:
                done(task)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())

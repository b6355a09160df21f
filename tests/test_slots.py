"""Places at the model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pipeline.slots import Slots


def number(places: int) -> Callable[[], Awaitable[int]]:
    """So many places."""

    async def open_up() -> int:
        return places

    return open_up


def test_no_more_jobs_are_at_work_than_there_are_places_and_older_pages_come_first() -> None:
    async def main() -> list[int]:
        slots = Slots(number(2))
        began: list[int] = []
        gates = {age: asyncio.Event() for age in range(6)}

        async def job(age: int) -> None:
            async with slots.place(age):
                began.append(age)
                await gates[age].wait()

        async with asyncio.TaskGroup() as group:
            for age in (4, 5, 3, 2, 1, 0):
                group.create_task(job(age))
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert began == [4, 5]
            for age in (4, 5, 0, 1, 2, 3):
                gates[age].set()
        return began

    assert asyncio.run(main()) == [4, 5, 0, 1, 2, 3]


def test_a_place_that_is_given_up_while_waiting_is_not_lost() -> None:
    async def main() -> bool:
        slots = Slots(number(1))

        async def wait() -> None:
            async with slots.place(1):
                pass

        async with slots.place(0):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
        # Its turn has come, and in the same moment it is cancelled.
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(60), slots.place(0):
            return True

    assert asyncio.run(main())


def test_the_number_of_places_is_found_out_once_and_by_the_first_who_can() -> None:
    tries: list[str] = []

    async def open_up() -> int:
        tries.append("tried")
        if len(tries) < 3:
            raise ConnectionError
        return 1

    async def main() -> None:
        slots = Slots(open_up)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                async with slots.place(0):
                    pass
        for _ in range(3):
            async with slots.place(0):
                pass

    asyncio.run(main())
    assert len(tries) == 3

"""Two that want one answer wait for one call."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.inflight import InFlight


def test_two_callers_get_the_answer_of_one_call() -> None:
    async def main() -> None:
        calls, may_answer = [], asyncio.Event()

        async def ask() -> str:
            calls.append(1)
            await may_answer.wait()
            return "answer"

        flight: InFlight[str] = InFlight()
        waiting = [asyncio.ensure_future(flight.once("key", ask)) for _ in range(3)]
        await asyncio.sleep(0)
        may_answer.set()
        assert await asyncio.gather(*waiting) == ["answer"] * 3
        assert len(calls) == 1

    asyncio.run(main())


def test_whoever_waits_for_one_that_fails_asks_by_himself() -> None:
    async def main() -> None:
        may_fail = asyncio.Event()

        async def fails() -> str:
            await may_fail.wait()
            raise RuntimeError("the first")

        async def answers() -> str:
            return "answer"

        flight: InFlight[str] = InFlight()
        first = asyncio.ensure_future(flight.once("key", fails))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(flight.once("key", answers))
        await asyncio.sleep(0)
        may_fail.set()
        with pytest.raises(RuntimeError, match="the first"):
            await first
        assert await second == "answer"

    asyncio.run(main())


def test_a_cancelled_caller_does_not_take_the_answer_with_it() -> None:
    async def main() -> None:
        async def never() -> str:
            await asyncio.Event().wait()
            return ""

        async def answers() -> str:
            return "answer"

        flight: InFlight[str] = InFlight()
        first = asyncio.ensure_future(flight.once("key", never))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(flight.once("key", answers))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "answer"

    asyncio.run(main())

"""The command with short limits of time and a witness in its event loop: for the soak only.

`soak_night.py RESULT READ_SECONDS TOTAL_SECONDS ARGUMENT…`: the arguments are those of the command. RESULT is a file
that gets, as JSON, how late the loop was at each look, and where its thread was when it was late.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import traceback
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.005
BLOCKED_SECONDS = 0.05
SAMPLE_SECONDS = 0.02


class Witness:
    """Looks every 5 ms how late it is, and how much of that the loop's own thread was busy."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.busy: list[float] = []
        self.places: Counter[str] = Counter()
        self._seen = time.monotonic()
        self._thread = threading.get_ident()
        self._over = threading.Event()

    async def look(self) -> None:
        sampler = threading.Thread(target=self._sample, daemon=True)
        sampler.start()
        try:
            while True:
                before, computed = time.monotonic(), time.thread_time()
                await asyncio.sleep(LOOK_SECONDS)
                self._seen = time.monotonic()
                self.late.append(max(0.0, self._seen - before - LOOK_SECONDS))
                self.busy.append(time.thread_time() - computed)
        finally:
            self._over.set()

    def _sample(self) -> None:
        """Where the loop's thread is when it has not looked for a while."""
        while not self._over.wait(SAMPLE_SECONDS):
            if time.monotonic() - self._seen > BLOCKED_SECONDS:
                frame = sys._current_frames().get(self._thread)
                calls = traceback.extract_stack(frame)
                ours = [call for call in calls if Path(call.filename).parent.name in ("pipeline", "urls")]
                at = [f"{Path(call.filename).name}:{call.lineno}" for call in (*ours[-6:], calls[-1])]
                self.places[" > ".join(dict.fromkeys(at))] += 1

    def told(self) -> dict[str, Any]:
        return {"late": self.late, "busy": self.busy, "places": self.places.most_common(10)}


def main() -> int:
    from pipeline import cli, run  # noqa: PLC0415 - not for the workers, which import this file too
    from pipeline.fetch import Limits  # noqa: PLC0415

    result, read, total, *arguments = sys.argv[1:]
    limits = Limits(read_seconds=float(read), total_seconds=float(total))

    witness = Witness()

    class Watched(run.Night):
        async def run(self, errand: run.Errand) -> int:
            looking = asyncio.ensure_future(witness.look())
            try:
                return await super().run(errand)
            finally:
                looking.cancel()

    run.Night = partial(Watched, limits=limits)  # type: ignore[misc,assignment]
    sys.argv = ["summarize-batch", *arguments]
    try:
        return cli.main()
    finally:
        Path(result).write_text(json.dumps(witness.told()), "utf-8")


if __name__ == "__main__":
    sys.exit(main())

"""What every test can count on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler.loadscope import LoadScopeScheduling  # type: ignore[import-untyped]

# The tests' own servers are modules beside them; those of the demo lie in scripts/.
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]

# The same examples each time, on a machine however slow; `--hypothesis-profile explore` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1_000)
settings.load_profile("same")

WITH_THE_MODEL = ("test_end_to_end", "test_embedded", "test_whole_text_embedded", "test_eval")
"""Files whose tests compute with the embedded model, for minutes."""
LONG = ("test_cli", "test_whole_text", "test_again", "test_crash", "test_safekeeping", "test_upkeep")
"""Those that take longest of the others: one that is begun last keeps all waiting."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """A file goes to one process, and all that computes with the model too: two at once take ten times as long."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).stem
        return "with the model" if file in WITH_THE_MODEL else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    return Scheduling(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait for servers, disks and clocks as much as they compute."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What computes with the model comes first, since it takes longest: the other files are run beside it."""
    first = [*WITH_THE_MODEL, *LONG]
    items.sort(key=lambda item: first.index(item.path.stem) if item.path.stem in first else len(first))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The model has a core of its own: each step of it waits for all its threads."""
    if item.path.stem not in WITH_THE_MODEL and hasattr(item.config, "workerinput"):
        os.setpriority(os.PRIO_PROCESS, 0, max(10, os.getpriority(os.PRIO_PROCESS, 0)))


def pytest_sessionfinish() -> None:
    from command_line import end_forks

    end_forks()

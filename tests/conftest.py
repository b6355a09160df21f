"""What every test can count on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The tests' own servers are modules beside them; those of the demo lie in scripts/.
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]

# The same examples each time, on a machine however slow; `--hypothesis-profile explore` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1_000)
settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest comes first: the others are then run beside it."""
    items.sort(key=lambda item: item.path.stem != "test_end_to_end")

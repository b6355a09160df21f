"""The soak in short: a night over pages that are good and pages that are hostile in every way that takes no time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import soak_pages
import soak_run
from soak_run import Came

from pipeline.records import Reason


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> Came:
    """What came of a page of each kind and half as many good ones, in one night."""
    names = soak_pages.kinds(slow=False)
    # Patient, for a machine however slow: what only ends at a limit of time is left to the long soak.
    return soak_run.soak(tmp_path_factory.mktemp("soak"), 25, len(names), names, read_seconds=30.0, total_seconds=120.0)


def test_every_good_page_is_stored_and_summarized_whatever_stands_beside_it(came: Came) -> None:
    assert came.missing == []
    assert came.exit_code == 3, came.said


def test_each_hostile_page_ends_with_a_reason_of_its_kind(came: Came) -> None:
    assert came.unexpected == []
    assert {name: sum(counts.values()) for name, counts in came.kinds.items()} == dict.fromkeys(
        soak_pages.kinds(slow=False), 1
    )
    assert set(came.reasons) <= {reason.value for reason in Reason} | {soak_pages.SUMMARIZED}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells what processes share")
def test_the_memory_of_all_processes_is_bounded_and_none_is_left(came: Came) -> None:
    assert 0 < came.megabytes < soak_run.MOST_MEGABYTES
    assert came.left == []


def test_the_report_has_a_line_for_each_reason_and_for_what_is_wrong(came: Came) -> None:
    came.missing.append("http://a.example/: gone")
    lines = soak_run.report(came)
    came.missing.pop()
    assert f"{came.reasons['summarized']:6} summarized" in lines
    assert lines[lines.index("good pages missing: 1") + 1] == "  http://a.example/: gone"


def test_good_pages_are_told_apart_by_a_sentence() -> None:
    assert len({soak_pages.good(number) for number in range(200)}) == 200
    assert Path(soak_run.NIGHT).exists()

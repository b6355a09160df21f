"""What `scripts/bench` measures, on a few of its pages: no figure is printed that is not measured so."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import bench_extract
import bench_pages
import bench_scale
import pytest
from one_night import settings

from pipeline.commands import check, search
from pipeline.console import Console
from pipeline.run import lists
from pipeline.store import Store


def test_each_text_is_put_into_each_layout() -> None:
    pages = list(bench_pages.pages())
    assert len(pages) == len({page.name for page in pages}) == 256
    assert len({page.markup for page in pages}) == 256


def test_f1_counts_tokens_as_often_as_they_stand_there() -> None:
    assert bench_extract.f1("a b b", "a b b") == 1.0
    assert bench_extract.f1("a b", "a b b") == pytest.approx(0.8)
    assert bench_extract.f1("", "a") == 0.0
    assert bench_extract.f1("山の鐘", "山の鐘") == 1.0
    assert bench_extract.f1("山の", "山の鐘") == pytest.approx(0.8)


@pytest.mark.parametrize("language", ["en", "ko", "ar"])
def test_as_much_of_a_text_comes_out_as_of_trafilatura_alone(language: str) -> None:
    logging.disable(logging.CRITICAL)
    try:
        pages = [page for page in bench_pages.pages() if page.name.endswith(f" {language}")]
        ours, alone = (
            sum(bench_extract.f1(read(page.markup.encode()), page.text) for page in pages) / len(pages)
            for read in (bench_extract.ours, bench_extract.trafilatura_alone)
        )
    finally:
        logging.disable(logging.NOTSET)
    assert ours > 0.97
    assert ours >= alone


def test_the_large_database_is_one_as_a_night_leaves_it(tmp_path: Path) -> None:
    db = tmp_path / "summaries.db"
    urls = bench_scale.write_list(tmp_path / "urls.txt", 0, 7)
    with Store.open(db) as store:
        store.begin_run("urls.txt", "m", {})
        for batch in lists(settings(db), [str(urls)], Console(-1)).batches(store, lambda url: None):
            store.apply(batch)
        store.end_run("finished", 0, "limit")
    bench_scale.fill(db)
    assert list(check.findings(db, None)) == []
    assert len(search.pages(db, ["sentence"], 20)) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is told by Linux")
def test_the_memory_of_a_process_is_its_own() -> None:
    assert 1 < bench_scale.megabytes_of(os.getpid()) < 10_000
    assert bench_scale.megabytes_of(0) == 0

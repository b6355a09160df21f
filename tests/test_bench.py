"""What `scripts/bench extract` measures, on a few of its pages: no figure is printed that is not measured so."""

from __future__ import annotations

import logging

import bench_extract
import bench_pages
import pytest


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

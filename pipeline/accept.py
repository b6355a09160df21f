"""What a model wrote into what of it may be kept, or into why none of it is a summary. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import languages
from pipeline.clean import MARKS_OF_MARKDOWN, cleaned
from pipeline.errors import PageFailed
from pipeline.evidence import carried, claims
from pipeline.records import Reason
from pipeline.rejections import rejection, unfit


def accepted(written: str, source: str, *, words: int, language: str, prompts: Sequence[str]) -> str:
    """The text without what a reader must not get. Raises `PageFailed` (`output_rejected`) if it is no summary.

    `source` is what the model was shown, `prompts` what it was told. Wrong facts are no reason: they are flags.
    """
    text = cleaned(written, source, prompts)
    if why := rejection(text, source, words=words, language=language or "source", prompts=prompts):
        raise PageFailed(Reason.OUTPUT_REJECTED, why)
    return text


def kept_point(written: str, source: str, *, language: str, prompts: Sequence[str]) -> str:
    """The same for a key point; empty if nothing of it may be kept."""
    text = cleaned(MARKS_OF_MARKDOWN.sub("", written), source, prompts)
    return "" if unfit(text, source, language=language or "source", prompts=prompts) else text


def worth(summary: str, key_points: Sequence[str], source: str) -> float:
    """0–1: how much of what a summary says has a place in what the model was shown; 1 in another language than that.

    Small models write of quite other things now and then (SmolLM2 of a game "with over 50 million players" for a
    thread on two builds), and of the page when they are asked otherwise.
    """
    if languages.not_in("source", summary, source):
        return 1.0
    return carried(claims(summary, key_points), source)

"""What a page asks of those who read it by machine, in `X-Robots-Tag` and `<meta name=robots>`. Pure.

There is no standard for it; this is how search engines read both, and `noai` is a word of the same form. A word may be
for one reader only: `X-Robots-Tag: summarize-batch: noai`, `<meta name=summarize-batch content=noai>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

OURS = "summarize-batch"
EVERYBODY = ("robots", "*", OURS)
"""Whose words are for us, in lower case."""
NOTED = {"noai": "noai", "noindex": "noindex", "none": "noindex"}
"""The words that are noted, and as what: `none` stands for `noindex, nofollow`."""
WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Words with a colon of their own: what stands before it is no name."""
MOST_CHARACTERS = 2_000
"""Of one value that are looked at."""


def in_headers(values: Iterable[str]) -> tuple[str, ...]:
    """What the values of `X-Robots-Tag` ask of us: of `noai` and `noindex` those that stand there."""
    return _in_order(word for value in values for word in _for_us(value))


def in_metas(metas: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The same for (name, content) of `<meta>` elements."""
    contents = (content for name, content in metas if name.strip().lower() in EVERYBODY)
    return _in_order(word.strip().lower() for content in contents for word in content[:MOST_CHARACTERS].split(","))


def both(some: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """What is asked here or there."""
    return _in_order((*some, *others))


def _for_us(value: str) -> Iterator[str]:
    name = "*"
    for part in value[:MOST_CHARACTERS].lower().split(","):
        before, colon, after = (text.strip() for text in part.partition(":"))
        if colon and before not in WITH_VALUE:
            name, before = before, after
        if name in EVERYBODY:
            yield before


def _in_order(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({NOTED[word] for word in words if word in NOTED}))

"""The chunker: nothing is lost, everything fits, cuts are where a reader would make them, and stay where they were."""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import chunk, tokens
from pipeline.records import Chunk

Measure = Callable[[str], int]

SENTENCES = {
    "Latin": "The quick brown fox jumps over the lazy dog near the river. ",
    "Russian": "Съешь же ещё этих мягких французских булок да выпей чаю. ",
    "Chinese": "我能吞下玻璃而不伤身体，他们说这不可能。",
    "Japanese": "いろはにほへとちりぬるを、わかよたれそつねならむ。",
    "Korean": "다람쥐 헌 쳇바퀴에 타고파 하는 사람들이 많았다. ",
    "Hindi": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का नाश हुआ। ",
    "Arabic": "هل يمكن أن يكون هذا صحيحا في كل مكان؟ ",
    "Thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ",
}
WORDS = {name: [word for word in re.split(r"[\s，、。]+", text) if word] for name, text in SENTENCES.items()}


def cut(text: str, limit: int = 1200, previous: Sequence[str] = (), measure: Measure = len) -> list[str]:
    """The texts of the chunks, checked for what must hold of any."""
    chunks = chunk.split(text, limit, measure, previous)
    texts = [each.text for each in chunks]
    assert "".join(texts) == text
    assert all(texts)
    assert [each.number for each in chunks] == list(range(len(chunks)))
    assert [(each.start, each.end) for each in chunks] == spans(texts)
    assert [each.tokens for each in chunks] == [measure(each) for each in texts]
    assert all(each.tokens <= limit for each in chunks)
    return texts


def spans(texts: Sequence[str]) -> list[tuple[int, int]]:
    ends = [sum(map(len, texts[: i + 1])) for i in range(len(texts))]
    return list(zip([0, *ends], ends, strict=False))


def new(texts: Sequence[str], previous: Sequence[str]) -> list[str]:
    return [text for text in texts if text not in set(previous)]


def paragraph(chance: random.Random, script: str = "Latin", most: int = 40) -> str:
    separator = "" if script in ("Chinese", "Japanese") else " "
    stop = {"Chinese": "。", "Japanese": "。", "Hindi": "।", "Arabic": "؟", "Thai": ""}.get(script, ".")
    several = [
        separator.join(chance.choices(WORDS[script], k=chance.randint(4, 12))) + str(chance.randint(0, 999)) + stop
        for _ in range(chance.randint(1, max(1, most // 8)))
    ]
    return separator.join(several)


def page(seed: int, number: int, script: str = "Latin") -> list[str]:
    """The blocks of a page: one in eight is a heading, one in ten a list."""
    chance = random.Random(seed)
    blocks = []
    for i in range(number):
        if i % 8 == 0:
            blocks.append(f"{'#' * chance.randint(1, 3)} {' '.join(chance.choices(WORDS[script], k=3))} {i}")
        elif chance.random() < 0.1:
            blocks.append("\n".join(f"- {paragraph(chance, script, 8)}" for _ in range(3)))
        else:
            blocks.append(paragraph(chance, script))
    return blocks


def joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(blocks)


# What holds of any text.

CLUSTERS = ["e\u0301\u0323", "👩🏽\u200d🚀", "각", "🇩🇪", "क्षि", "❤\ufe0f", "\ud83d\ude00", "กำ", "あ", "x"]
SNIPPETS = ["\n\n", "\n# a\n", "```\n", "~~~ x\n", "| a |\n", "- b\n", "。", ". ", "\r\n", "\x1c", " ", *CLUSTERS]
ANY = st.lists(
    st.one_of(
        st.text(st.characters(), max_size=20),  # with lone surrogates
        st.sampled_from(SNIPPETS),
        st.builds(lambda snippet, number: snippet * number, st.sampled_from(SNIPPETS), st.integers(1, 150)),
    ),
    max_size=12,
).map("".join)
ADDING_UP: list[Measure] = [len, lambda text: len(text.encode("utf-8", "surrogatepass"))]
MEASURES: list[Measure] = [
    *ADDING_UP,
    lambda text: len(text.split()) + 1,
    lambda text: -(-len(text) // 4) + 3,
    lambda text: len(text) + len(text) ** 2 // 100,
    tokens.count,
    tokens.estimate,
]


@given(ANY, st.integers(12, 300), st.sampled_from(MEASURES))
def test_nothing_is_lost_and_everything_fits_by_any_measure(text: str, limit: int, measure: Measure) -> None:
    texts = cut(text, limit, measure=measure)
    assert bool(texts) == bool(text)
    if measure in ADDING_UP and measure(text) <= limit and text:
        assert texts == [text]


@given(ANY, ANY, ANY, ANY, st.integers(12, 80))
def test_nothing_is_lost_of_an_edited_text(a: str, b: str, c: str, d: str, limit: int) -> None:
    previous = cut(a + b + c, limit)
    assert cut(a + b + c, limit, previous) == previous
    cut(a + d + c, limit, previous)
    cut(c + b + a, limit, [*previous, "", "\n"])


@given(ANY, st.integers(3, 60))
def test_white_space_is_never_a_chunk_unless_there_is_a_limit_of_it(text: str, limit: int) -> None:
    for start, end in spans(cut(text, limit)):
        if text[start:end].isspace() and not text.isspace():
            run = len(text[:end]) - len(text[:end].rstrip()) + len(text[end:]) - len(text[end:].lstrip())
            assert run >= limit - 1


@pytest.mark.parametrize("place", [0, 7, 20])
def test_white_space_that_came_between_goes_with_a_neighbour(place: int) -> None:
    blocks = page(1, 150)
    previous = cut(joined(blocks))
    for added in ("\n\n", "\n" * 500):
        edited = cut("".join(previous[:place]) + added + "".join(previous[place:]), previous=previous)
        assert not any(text.isspace() for text in edited)
        assert len(new(edited, previous)) <= 2


def test_an_empty_text_has_no_chunk() -> None:
    assert cut("") == []
    assert cut("", previous=["a"]) == []


def test_a_character_above_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="one character has 4 tokens, above the limit of 3"):
        chunk.split("ab\U0001f600", 3, lambda text: len(text.encode()))
    with pytest.raises(ValueError, match="one character"):
        chunk.split("ab", 0, len)


def test_a_chunk_tells_where_it_is() -> None:
    assert chunk.split("one two", 4, len) == [Chunk(0, 0, 4, "one ", 4), Chunk(1, 4, 7, "two", 3)]


# Where the cuts are.


@pytest.mark.parametrize("script", SENTENCES)
def test_paragraphs_are_kept_whole_and_headings_go_with_their_text(script: str) -> None:
    for seed in range(10):
        blocks = page(seed, 120, script)
        limit = 3000 if script == "Thai" else 1500  # its words are long, and so are some paragraphs of them
        texts = cut(joined(blocks), limit)
        starts = set(accumulated(blocks))
        assert {start for start, _ in spans(texts)} <= starts
        assert not any(re.search(r"(^|\n)#{1,6} [^\n]*\s*\Z", text) for text in texts)
        assert statistics.mean(map(len, texts)) > 0.6 * limit
        assert min(map(len, texts[:-1])) >= 0.45 * limit


def accumulated(blocks: Sequence[str]) -> list[int]:
    return [0, *(len(joined(blocks[:i])) + 2 for i in range(1, len(blocks)))]


def test_a_heading_in_the_upper_half_is_the_best_border() -> None:
    text = "a" * 600 + "\n\n# Heading\n\n" + "b" * 200 + "\n\n" + "c" * 600
    assert cut(text, 1000)[0] == "a" * 600 + "\n\n"


def test_headings_in_a_row_stay_together() -> None:
    text = "a" * 600 + "\n\n# One\n\n## Two\n\n### Three\n\n" + "b" * 900
    assert cut(text, 1000)[1].startswith("# One")


@pytest.mark.parametrize("script", SENTENCES)
def test_one_long_line_is_cut_after_sentences(script: str) -> None:
    sentence = SENTENCES[script]
    for text in cut(sentence * 300, 1000)[:-1]:
        assert len(text) > 800
        assert sentence.endswith(text[-3:]) or script == "Thai"
        assert text[-1] == sentence[-1]


def test_an_abbreviation_ends_no_sentence() -> None:
    texts = cut("Such as e.g. this and that one. " * 100, 300)
    assert all(text.startswith("Such") for text in texts)


def test_lists_are_cut_between_items_and_verse_between_lines() -> None:
    items = "".join(f"- item {i}\n  goes on. Indeed\n" for i in range(200))
    assert all(text.startswith("- item") for text in cut(items, 500))
    verse = "".join(f"line {i} of it. And on\n" for i in range(200))
    assert all(text.startswith("line") for text in cut(verse, 500))


@pytest.mark.parametrize(
    "block",
    [
        "```python\n# no heading\n\n\ndef x():\n    return 1\n" + "x = 1\n" * 50 + "```",
        "~~~\n" + "some code. Or so\n\n" * 20 + "~~~",
        "| a | b |\n|---|---|\n" + "| some cell. Or so | other |\n" * 12,
    ],
)
def test_fenced_code_and_tables_are_kept_whole(block: str) -> None:
    for seed in range(10):
        blocks = page(seed, 60)
        blocks = [each for pair in zip(blocks, [block] * len(blocks), strict=True) for each in pair]
        texts = cut(joined(blocks), 1000)
        assert sum(text.count(block) for text in texts) == 60


def test_a_fence_that_is_never_closed_is_no_block() -> None:
    text = joined(["```", *page(1, 60)])
    assert {start for start, _ in spans(cut(text, 1000))} <= set(accumulated(["```", *page(1, 60)]))


def test_a_block_above_the_limit_is_cut_between_lines() -> None:
    code = "```\n" + "".join(f"x{i} = a. B + c\n" for i in range(200)) + "```\n"
    assert all(text.endswith("\n") for text in cut(code, 500))


def test_words_are_kept_whole_where_no_sentence_ends() -> None:
    assert all(text.endswith(" ") for text in cut("word " * 1000, 303))
    assert all(text.endswith("，") for text in cut("我能吞下玻璃而不伤身体，" * 100, 303)[:-1])


@given(st.lists(st.sampled_from(CLUSTERS), min_size=1, max_size=300), st.integers(16, 60))
def test_no_cut_goes_through_what_readers_see_as_one_character(clusters: list[str], limit: int) -> None:
    text = "".join(cluster for cluster in clusters if cluster != "🇩🇪" or limit % 2)
    flags = text.replace("🇩🇪", "")
    inside = {
        start + i
        for start, end in spans([c for c in clusters if c in flags and c != "🇩🇪"])
        for i in range(1, end - start)
    }
    assert not inside & {end for _, end in spans(cut(flags, limit))}


def test_flags_are_not_torn() -> None:
    text = "ab🇩🇪" * 100
    assert not any(each.startswith("🇪") for limit in range(20, 40) for each in cut(text, limit))


def test_a_line_of_400_kb_without_a_space_is_cut() -> None:
    texts = cut("x" * 400_000, 5000)
    assert len(texts) == 80
    assert len(cut("あ" * 130_000 + "\u0301" * 5000, 5000)) == 28  # the last あ keeps its accents


def test_what_fits_is_one_chunk_and_what_does_not_is_balanced() -> None:
    text = joined(page(3, 40))
    assert cut(text, len(text)) == [text]
    first, second = cut(text, len(text) - 1)
    assert min(len(first), len(second)) > 0.15 * len(text)


# The work.


class Counting:
    """A measure that knows how many characters it was shown."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.characters = 0

    def __call__(self, text: str) -> int:
        self.characters += len(text)
        return self.measure(text)


WORK = {
    "prose": joined(page(1, 900)),
    "mixed": joined([block for i, script in enumerate(SENTENCES) for block in page(i, 90, script)]),
    "one line": joined(page(2, 900)).replace("\n", " "),
    "no space": "x" * 300_000,
    "white space": "x" + " " * 300_000,
    "dense and thin": (" " * 5000 + "다람쥐헌쳇바퀴" * 500) * 20,
    "short lines": "# a\n" * 60_000,
}


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize(("measure", "limit"), [(len, 8000), (tokens.count, 2500), (tokens.estimate, 2500)])
def test_what_is_measured_is_about_three_times_the_text_at_most(name: str, measure: Measure, limit: int) -> None:
    counting = Counting(measure)
    parts = chunk.split(WORK[name], limit, counting)
    assert counting.characters <= 3.2 * len(WORK[name]) + 8000
    counting.characters = 0
    assert chunk.split(WORK[name], limit, counting, [part.text for part in parts]) == parts
    assert counting.characters == len(WORK[name])


class Watched(str):
    """A text that knows how often something was looked for in it."""

    __slots__ = ("looks",)

    looks: int

    def startswith(self, *args: object) -> bool:
        self.looks = getattr(self, "looks", 0) + 1
        return super().startswith(*args)  # type: ignore[arg-type]


@pytest.mark.parametrize("block", ["All the same. ", "The same line\n", "| a | b |\n"])
def test_a_chunk_is_looked_for_in_a_few_places_only(block: str) -> None:
    """Of 20,000 equal lines each begins all the chunks, and none is where a chunk ends."""
    previous = [block * 200 + f"end {i}\n" for i in range(100)]
    text = Watched(block * 20_000)
    chunk.split(text, 5000, len, previous)
    assert text.looks <= 20 * len(previous)


def test_a_text_without_borders_is_not_searched_from_every_place() -> None:
    """A pattern that begins anew at each character of 400 KB would run for minutes."""
    for filler in ("x", "あ", "\u0301", "7"):
        previous = cut(filler * 400_000, 20_000)
        edited = cut("!" + filler * 400_000 + "?", 20_000, previous)
        assert len(edited) <= 23


# What stays.


def edited(blocks: Sequence[str], chance: random.Random, script: str = "Latin") -> list[str]:
    """The page with one paragraph changed, inserted or deleted anywhere."""
    i, what = chance.randrange(len(blocks)), chance.choice(("change", "insert", "delete"))
    inserted = [] if what == "delete" else [paragraph(chance, script)]
    return [*blocks[:i], *inserted, *blocks[i + (what != "insert") :]]


@given(st.integers(0, 10_000), st.sampled_from(sorted(SENTENCES)), st.booleans())
def test_one_edited_paragraph_costs_at_most_two_chunks(seed: int, script: str, by_tokens: bool) -> None:
    blocks = page(seed, 110, script)
    measure: Measure = tokens.estimate if by_tokens else len
    limit = measure(joined(blocks)) // 18
    previous = cut(joined(blocks), limit, measure=measure)
    after = cut(joined(edited(blocks, random.Random(seed), script)), limit, previous, measure)
    assert 18 <= len(previous) <= 36
    assert len(new(after, previous)) <= 2


def test_a_page_of_equal_paragraphs_keeps_its_chunks() -> None:
    blocks = ["The same paragraph, again and again."] * 600
    previous = cut(joined(blocks))
    for i in (0, 1, 299, 598, 599):
        for changed in ([], ["Another one."], ["Another one.", blocks[i]]):
            after = cut(joined([*blocks[:i], *changed, *blocks[i + 1 :]]), previous=previous)
            assert len(new(after, previous)) <= 2


def test_two_edits_leave_what_is_between_them() -> None:
    """The date at the top and a counter at the bottom: a page changes in both every night."""
    for seed in range(20):
        blocks = page(seed, 110)
        previous = cut(joined(["Today is Monday.", *blocks, "Seen 1 times."]))
        after = cut(joined(["Today is Tuesday.", *blocks, "Seen 22 times."]), previous=previous)
        assert len(new(after, previous)) <= 2


def test_chunks_that_moved_are_kept() -> None:
    previous = cut(joined(page(5, 110)) + "\n\n")
    moved = [*previous[10:14], *previous[:10], *previous[14:]]
    assert new(cut("".join(moved), previous=previous), previous) == []
    assert new(cut("".join(previous[::-1]), previous=previous), previous) == []
    assert new(cut("".join(previous[3:5] + previous), previous=previous), previous) == []


def test_chunks_of_long_lines_are_kept_by_their_sentences() -> None:
    """Lines without a line end in a chunk, changed at both ends of the text."""
    chance = random.Random(1)
    text = " ".join(paragraph(chance) for _ in range(150))
    previous = cut(text)
    after = cut(f"Now. {text} Ever.", previous=previous)
    assert len(new(after, previous)) <= 2


@given(st.integers(0, 10_000), st.floats(1.0, 5.0))
def test_the_same_text_stays_as_it_was_cut_though_more_would_fit(seed: int, factor: float) -> None:
    text = joined(page(seed, 60))
    previous = cut(text, 800)
    assert cut(text, int(800 * factor), previous) == previous


@given(st.integers(0, 10_000), st.integers(300, 799))
def test_with_a_smaller_limit_only_what_no_longer_fits_is_cut(seed: int, limit: int) -> None:
    text = joined(page(seed, 60))
    previous = cut(text, 800)
    after = cut(text, limit, previous)
    assert [each for each in previous if len(each) <= limit] == [each for each in after if each in previous]
    for each in new(after, previous):
        assert any(each in before for before in previous if len(before) > limit)


@pytest.mark.parametrize("how", ["anywhere", "one place", "insert at borders", "insert", "delete"])
@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_nights_of_edits_leave_no_crumbs(how: str, seed: int) -> None:
    chance = random.Random(seed)
    blocks = page(seed, 160)
    texts = cut(joined(blocks))
    for _ in range(100):
        i = chance.randrange(len(blocks))
        if how == "anywhere":
            blocks = edited(blocks, chance)
        elif how == "one place":
            blocks[len(blocks) // 2 :][:1] = edited(blocks[len(blocks) // 2 :][:1], chance)
            blocks = [*blocks[:80], paragraph(chance), *blocks[81:]]
        elif how == "delete":
            del blocks[i]
        else:
            borders = {start for start, _ in spans(texts)}
            places = [k for k, start in enumerate(accumulated(blocks)) if start in borders]
            at = chance.choice(places) if how == "insert at borders" else i
            blocks.insert(at, paragraph(chance, most=8))
        previous, texts = texts, cut(joined(blocks), previous=texts)
        assert len(new(texts, previous)) <= 2
    fresh = cut(joined(blocks))
    assert len(texts) <= 1.6 * len(fresh)
    assert statistics.mean(map(len, texts)) > 0.5 * 1200
    assert not any(len(text) < 1200 / 8 for text in texts)

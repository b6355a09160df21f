"""A night with a model of which nothing is known yet, over texts of all kinds; and the night after it."""

from __future__ import annotations

import asyncio
import itertools
import math
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_ollama import Count, FakeOllama, serving
from one_night import Went, Witness, night, settings
from test_whole_text import TEXTS, _mixed

from pipeline import tokens
from pipeline.console import Console
from pipeline.run import Night
from pipeline.store import Store
from pipeline.writers import Writers

EVAL = Path(__file__).parent.parent / "data" / "eval"
HINDI = (
    "नदी के किनारे बसा यह गाँव हर वर्ष # नावें बनाता है।|सर्दियों में लकड़ी ऊपर की पहाड़ियों से लाई जाती है।|"
    "पिछले मेले में # लोग आए और सबने नई नाव देखी।|पुराने कारीगर कहते हैं कि अच्छी नाव पानी की आवाज़ पहचानती है।"
)
RUSSIAN = (
    "Каждую весну мост разбирают и снова собирают из # брёвен.|Зимой через реку ходят по льду, а летом на пароме.|"
    "Сторож записал, что за год через мост прошло # телег.|Брёвна сушат под крышей, чтобы они не треснули."
)
CORPUS = TEXTS | {path.name: path.read_text("utf-8") for path in sorted(EVAL.glob("*.*.md"))}
CORPUS |= {"Hindi": _mixed(HINDI, 60), "Russian": _mixed(RUSSIAN, 90)}


def vocabulary(factors: dict[str, float], other: float) -> Count:
    """Counts each stretch of one script with cl100k, and as so many times of that."""

    def count(text: str) -> int:
        runs = itertools.groupby(text, _script)
        return math.ceil(sum(factors.get(name, other) * tokens.count("".join(run)) for name, run in runs))

    return count


def _script(char: str) -> str:
    if char.isascii():
        return "LATIN" if char.isalpha() or char.isspace() else "ASCII"
    return unicodedata.name(char, "NONE").split()[0].split("-")[0]


# Times of cl100k, as they were seen in the vocabularies of Llama 2, Llama 3, SmolLM2 and their like: the dearest of
# each script, and the cheapest.
VOCABULARIES = {
    "dear": vocabulary({"LATIN": 1.15, "ASCII": 1.3, "HANGUL": 2.3, "THAI": 1.9, "DEVANAGARI": 1.5, "CJK": 1.7}, 1.6),
    "cheap": vocabulary({"LATIN": 0.9, "ASCII": 0.9}, 0.9),
    "that of Llama 3": tokens.count,
}


def a_night(folder: Path, count: Count, texts: dict[str, str]) -> Went:
    """One with a page for each text; all of them are summarized."""
    pages = {f"http://{number}.example/{number}": text for number, text in enumerate(texts.values())}
    with serving(FakeOllama(Witness(count), count=count)) as fake:
        went = night(folder / "summaries.db", fake, pages, "--num-ctx", "2048")
    assert went.rows("SELECT url, reason, detail FROM pages WHERE state <> 'summarized'") == []
    return went


def with_a_change(text: str) -> str:
    """The text with another beginning of its last paragraph, or of its only one."""
    before, gap, last = text.rpartition("\n\n")
    return f"{before}{gap}A new beginning. {last[40:]}"


def parts_by_page(went: Went) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for row in went.rows(
        "SELECT pages.id, substr(text, start + 1, end - start) AS part FROM pages JOIN chunks USING (text_hash)"
        " JOIN texts ON texts.hash = text_hash"
    ):
        found.setdefault(row["id"], set()).add(row["part"])
    return found


@pytest.mark.parametrize("name", VOCABULARIES)
def test_hardly_a_prompt_is_too_long_and_the_next_night_knows_more_and_cuts_only_what_has_changed(
    tmp_path: Path, name: str
) -> None:
    count = VOCABULARIES[name]
    first = a_night(tmp_path, count, CORPUS)
    parts = parts_by_page(first)
    assert len(first.chats) >= 250
    assert first.too_long() <= 0.02 * len(first.chats)
    known = {row["kind"]: row["prompts"] for row in first.rows("SELECT kind, prompts FROM ratios")}
    assert min(known["english"], known["latin"], known["code"]) >= 5
    rows = first.rows("SELECT kind, prompts, highest FROM ratios")
    learned = tokens.Ratios({row["kind"]: (row["prompts"], row["highest"]) for row in rows})

    second = a_night(tmp_path, count, {kind: with_a_change(text) for kind, text in CORPUS.items()})
    assert second.too_long() <= first.too_long()
    learned = tokens.Ratios(
        {row["kind"]: (row["prompts"], row["highest"]) for row in first.rows("SELECT * FROM ratios")}
    )
    for page, now in parts_by_page(second).items():
        text = second.rows("SELECT text FROM pages JOIN texts ON hash = text_hash WHERE pages.id = ?", page)[0]["text"]
        # By what the first night has learned a part may no longer fit: it is cut in two though it has not changed.
        most = max(tokens.estimate(part, learned) for part in now)
        outgrown = [part for part in parts[page] - now if part in text and tokens.estimate(part, learned) > most]
        assert 1 <= len(now - parts[page]) <= 2 + 2 * len(outgrown)


def test_a_run_has_one_context_also_when_the_server_has_another_one_loaded_meanwhile(tmp_path: Path) -> None:
    """A server that was away is asked anew what it has; others may use it too."""

    async def contexts(fake: FakeOllama, store: Store, thread: ThreadPoolExecutor) -> list[int]:
        given = settings(tmp_path / "summaries.db", "--host", fake.url, "--model", "fake")
        found = []
        async with Writers(given, await Night(given, store, thread, Console(-1))._books(), print) as writers:
            for loaded in (0, 8_192):
                fake._asked_context = loaded
                await writers.get_ready()
                found.append(writers._sides["fake"].client.num_ctx)
        return found

    with (
        serving(FakeOllama()) as fake,
        Store.open(tmp_path / "summaries.db") as store,
        ThreadPoolExecutor(1) as thread,
    ):
        assert asyncio.run(contexts(fake, store, thread)) == [4_096, 4_096]

"""Nothing is cut in silence by the model inside the program either: kinds of text, through a proxy that notes all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import recording_proxy
from fake_ollama import entered, running
from one_night import Server, Went, night, shown
from recording_proxy import Exchange
from test_end_to_end import BEYOND_THE_MODEL
from test_whole_text import TEXTS, URL

from pipeline import embedded, tokens

OPTIONS = ("--model", embedded.MODEL, "--num-ctx", "1280", "--words", "20")
"""A context that a page of a few hundred words does not fit into, and answers that are soon written."""
CASES = {
    "English prose": "never",
    "Korean": "auto",
    "code": "primed",
    "an injection": "auto",
}
"""Kind of text → whether the model is told of the tool."""
LEAST_PARTS = 2
UNITS = 450
"""As many tokens as two parts have, or three."""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[Exchange]]]:
    with ExitStack() as stack:
        proxy = recording_proxy.make_app(stack.enter_context(entered(embedded.serve(embedded.find_model()))))
        yield stack.enter_context(running(proxy)), proxy[recording_proxy.EXCHANGES]


def beginning(text: str) -> str:
    """As much of a text as has `UNITS` tokens, to a tenth."""
    while tokens.estimate(text) > UNITS:
        text = text[: len(text) * 9 // 10]
    return text


@pytest.mark.parametrize("kind", CASES)
def test_what_is_stored_was_made_from_the_whole_text(
    tmp_path: Path, server: tuple[str, list[Exchange]], kind: str
) -> None:
    url, exchanges = server
    text = beginning(TEXTS[kind])
    first = len(exchanges)
    went = night(tmp_path / "summaries.db", Server(url, []), {URL: text}, *OPTIONS, "--tool-calls", CASES[kind])
    chats = exchanges[first:]
    (page,) = went.rows("SELECT * FROM pages")
    assert page["state"] == "summarized" or page["reason"] in BEYOND_THE_MODEL, page
    parts = [text[row["start"] : row["end"]] for row in went.rows("SELECT * FROM chunks ORDER BY number")]
    assert "".join(parts) == text
    assert len(parts) >= LEAST_PARTS
    nothing_was_cut(chats)
    read = [plain(shown(chat.body)) for chat in chats if chat.status == 200 and "tools" not in chat.body]
    if page["state"] == "summarized":
        assert [part for part in parts if part not in read] == []
        last_step_read_all(went, read[-1])


def plain(text: str) -> str:
    """A text as it was before it was defused."""
    return text.replace("\u2060", "")


def nothing_was_cut(chats: list[Exchange]) -> None:
    """Each request was read whole, and left room for its answer, or it was refused with the count."""
    for chat in chats:
        context = chat.body["options"]["num_ctx"]
        if chat.status == 400:
            assert re.search(r"n_prompt_tokens\D+(\d+)", json.dumps(chat.reply))
            continue
        assert chat.status == 200
        prompt = "\n".join(message.get("content") or "" for message in chat.body["messages"])
        assert tokens.least(prompt) <= chat.reply["prompt_eval_count"]
        assert chat.reply["prompt_eval_count"] + chat.reply["eval_count"] <= context


def last_step_read_all(went: Went, last: str) -> None:
    """The last step was shown what was written of each part, or what that was reduced to."""
    (summary,) = went.rows("SELECT * FROM summaries")
    assert summary["coverage"] == 1
    written = [row["summary"] for row in went.rows("SELECT summary FROM chunk_summaries")]
    reduced = [row["summary"] for row in went.rows("SELECT summary FROM reduce_summaries")]
    assert all(plain(each) in last for each in (reduced or written)), last

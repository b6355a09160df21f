"""The texts with planted facts, and the script that counts what is kept of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import eval_run
import pytest
from eval_run import FOLDER, Fact
from fake_ollama import Body, FakeOllama, right_call, serving, tokens_of
from one_night import shown

FACTS: dict[str, dict[str, Any]] = json.loads((FOLDER / "facts.json").read_text("utf-8"))
TEXTS = {name: (FOLDER / name).read_text("utf-8") for name in FACTS}


def test_there_are_ten_long_texts_in_four_languages_at_least() -> None:
    assert sorted(TEXTS) == sorted(path.name for path in FOLDER.glob("*.*.md"))
    assert len(TEXTS) == 10
    assert len({entry["language"] for entry in FACTS.values()}) >= 4
    assert all(len(text.encode()) > 5_000 for text in TEXTS.values())


@pytest.mark.parametrize("name", FACTS)
def test_each_fact_stands_once_where_it_is_said_to_and_in_no_other_text(name: str) -> None:
    text = TEXTS[name]
    for fact in FACTS[name]["facts"]:
        assert text.count(fact["statement"]) == 1
        at = text.index(fact["statement"]) + fact["statement"].index(fact["sign"])
        assert fact["depth"] == pytest.approx(at / len(text), abs=0.001)
        assert Fact(fact["sign"], 0).stands_in(text)
        rest = text.replace(fact["statement"], "")
        assert not any(
            Fact(fact["sign"], 0).stands_in(other) for other in [rest, *(TEXTS[n] for n in TEXTS if n != name)]
        )
    assert min(eval_run.by_thirds([Fact("", fact["depth"]) for fact in FACTS[name]["facts"]])) >= 2


@pytest.mark.parametrize(
    ("sign", "text", "stands"),
    [
        ("7,350", "In the best year 7350 sacks", True),
        ("7,350", "7 350 sacs", True),
        ("7,350", "17,350 sacks", False),
        ("86", "86 yards", True),
        ("86", "1886", False),
        ("Pruett", "ansel PRUETT", True),
        ("구한섭", "목수 구한섭이었다", True),
    ],
)
def test_a_fact_is_known_again_by_its_sign(sign: str, text: str, stands: bool) -> None:
    assert Fact(sign, 0.5).stands_in(text) is stands


def writes_numbers(body: Body) -> Body:
    """A model that writes the sentences with numbers in them, as many as it is to."""
    if body.get("tools"):
        return {"content": "", "tool_calls": [{"function": right_call(body)}]}
    found = [each for each in re.split(r"(?<=[.!?])\s", shown(body)) if re.search(r"\d", each)]
    text = " ".join(found)[:300]
    return {"content": json.dumps({"summary": text, "key_points": ["One fact."]}) if body.get("format") else text}


def test_the_script_counts_what_maps_summary_and_the_first_window_keep() -> None:
    with serving(FakeOllama(writes_numbers, count=lambda text: 2 * tokens_of(text))) as fake:
        script = Path(eval_run.__file__)
        options = ["--host", fake.url, "--model", "fake", "--texts", "2", "--num-ctx", "2048", "--json"]
        done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=True)
    first, second, both = json.loads(done.stdout)
    assert [first["text"], second["text"], both["text"]] == [*sorted(FACTS)[:2], "all"]
    for result in (first, second):
        assert result["state"] == "summarized"
        assert (result["coverage"], result["asked"]["too_long"]) == (1, 0)
        assert result["parts"] == result["right_at_once"] >= 3
        assert result["naive_coverage"] < 0.7
        assert result["naive_keeps"][2] == 0 < result["maps_keep"][2] <= result["facts"][2]
    assert both["facts"] == [a + b for a, b in zip(first["facts"], second["facts"], strict=True)]
    assert both["asked"]["requests"] == first["asked"]["requests"] + second["asked"]["requests"]

"""The words that are sent to the model: one file a prompt, filled in here.

What comes from a page stands in them only as the page's URL; its text is put between boundaries that it cannot
guess, and what looks like a boundary or like a chat template's token in it is defused.
"""

from __future__ import annotations

import hmac
import re
from functools import cache
from importlib.resources import files
from string import Template

NAMES = ("system", "ask", "map", "reduce", "final")

_TEMPLATE_TOKENS = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|<\/?(?:s|start_of_turn|end_of_turn|tool_call|tool_response|think)>|\[/?(?:INST|TOOL_CALLS)\]"
    r"|<<</?(?:PAGE|END|SYS)|<</?SYS>>"
)
"""ChatML and Llama 3 (`<|im_start|>`), Mistral and Llama 2 (`[INST]`, `<<SYS>>`, `</s>`), Gemma (`<start_of_turn>`),
the tags of tool calls, and our own boundary."""


@cache
def text(name: str) -> str:
    """A prompt as it stands in its file."""
    return (files(__package__) / f"{name}.md").read_text("utf-8").strip()


def filled(name: str, **values: object) -> str:
    """A prompt with its values put in."""
    return Template(text(name)).substitute(values)


def all_texts() -> dict[str, str]:
    """Every prompt by its name, for the recipe."""
    return {name: text(name) for name in NAMES}


def fenced(page_text: str, secret: bytes) -> str:
    """A text between boundaries that it cannot contain: a keyed hash of it, the same for the same text."""
    mark = hmac.new(secret, page_text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:12]
    return f"<<<PAGE {mark}>>>\n{defused(page_text)}\n<<<END {mark}>>>"


def defused(page_text: str) -> str:
    """The text with a word joiner inside of what a chat template or our boundary would take for its own."""
    return _TEMPLATE_TOKENS.sub(lambda match: f"{match[0][0]}\u2060{match[0][1:]}", page_text)

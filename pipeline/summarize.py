"""The chunks of a text into one summary: map, reduce, and the last step. Pure control flow over callables.

*Map*: one tool loop a chunk, side by side. *Reduce*: while the partial summaries do not fit into one request,
level after level, in groups that stand in order; each level must be smaller than the last, or the page fails.
*Last step*: `summary` and `key_points` as JSON by a schema. A text that fits into one request is mapped and
finished in one loop; one that is no longer than the summary asked for is stored as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import pydantic

from pipeline import prompts, toolloop
from pipeline.chunk import VERSION
from pipeline.errors import PageFailed, PageNotDone
from pipeline.records import Chunk, Final, Partial, Reason, Recipe, ToolCall, ToolSpec, digest
from pipeline.tokens import budget

MAX_KEY_POINTS = 5
MAX_POINT_CHARACTERS = 240
SPOKEN_CHARACTERS = 200

_MARKS = re.compile(r"^\s*(?:#{1,6}\s+|>\s?|[-*+]\s+|\d{1,3}\.\s+)|\*\*|__|`")

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
    language: str = "the language of the text"

    @property
    def final_tokens(self) -> int:
        """Room for the last answer: a word has two tokens at most in most languages, a key point twenty words."""
        return self.words * 2 + MAX_KEY_POINTS * 40

    @property
    def partial_tokens(self) -> int:
        """Room for one partial summary."""
        return self.words * 2


@dataclass(frozen=True, slots=True)
class Kit:
    """What the summary of one page is made with."""

    url: str
    """As the model is told it: see `spoken`."""
    chat: toolloop.Chat
    mode: toolloop.Mode
    once_map: Once
    once_reduce: Once
    secret: bytes
    style: Style
    measure: Callable[[str], int]
    """Tokens of a text, at most."""
    limit: int
    """Tokens that the text of one request may have."""


class _Written(pydantic.BaseModel):
    """The last step's answer as the schema asks for it."""

    model_config = pydantic.ConfigDict(extra="ignore")

    summary: str = pydantic.Field(min_length=1)
    key_points: list[str]


def recipe(model: str, model_digest: str, num_ctx: int, style: Style, sampling: dict[str, object]) -> Recipe:
    """How this run summarizes. What changes no answer (`num_ctx`, time-outs, parallelism) is not in its hash."""
    options: dict[str, object] = {
        "words": style.words,
        "language": style.language,
        "chunker": VERSION,
        **sampling,
    }
    texts = prompts.all_texts()
    name = json.dumps([model_digest or model, options, texts], sort_keys=True, ensure_ascii=False)
    return Recipe(model, model_digest, num_ctx, options, texts, digest(name))


def schema(style: Style) -> dict[str, object]:
    """The JSON schema of the last answer. Its strings and lists are bounded, or a small model never ends them."""
    point = {"type": "string", "minLength": 1, "maxLength": MAX_POINT_CHARACTERS}
    return {
        "type": "object",
        "properties": {
            "summary": {"type": "string", "minLength": 1, "maxLength": style.words * 8},
            "key_points": {"type": "array", "items": point, "minItems": 1, "maxItems": MAX_KEY_POINTS},
        },
        "required": ["summary", "key_points"],
        "additionalProperties": False,
    }


def is_short(text: str, style: Style) -> bool:
    """Whether a text is no longer than the summary that is asked for: then it is its own summary."""
    return len(text.split()) <= style.words and len(text) <= style.words * 8


def verbatim(text: str) -> Final:
    """A short text as its own summary: its words without the marks of Markdown."""
    lines = (_MARKS.sub("", line) for line in text.splitlines())
    return Final(" ".join(" ".join(lines).split()), ())


async def whole(chunks: Sequence[Chunk], kit: Kit) -> Final:
    """The summary of a page. Raises `PageFailed` or `PageWaits`; the answers that were given are kept by `once_…`."""
    if len(chunks) == 1:
        return await _final("the text of a page", chunks[0].text, kit)
    parts = await _side_by_side([_mapped(chunk, len(chunks), kit) for chunk in chunks])
    joined = await _until_they_fit(parts, kit)
    return await _final("the text of a page, each part in a few sentences", joined, kit)


async def _side_by_side(jobs: Sequence[Coroutine[object, object, str]]) -> list[str]:
    """All answers, in order. If one fails the others are still finished, for they are kept; then the first fault."""

    async def settled(job: Coroutine[object, object, str]) -> str | PageNotDone:
        try:
            return await job
        except PageNotDone as fault:
            return fault

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(settled(job)) for job in jobs]
    answers = [task.result() for task in tasks]
    for answer in answers:
        if isinstance(answer, PageNotDone):
            raise answer
    return [answer for answer in answers if isinstance(answer, str)]


async def _mapped(chunk: Chunk, of: int, kit: Kit) -> str:
    what = f"part {chunk.number + 1} of {of}"

    async def ask() -> Partial:
        task = prompts.filled("map", what=what, words=kit.style.words, language=kit.style.language)
        job = _job(chunk.number + 1, what, chunk.text, task, kit, kit.style.partial_tokens)
        return _partial(await toolloop.run(job, kit.chat, kit.mode))

    return (await kit.once_map(chunk.hash, ask)).summary


async def _until_they_fit(parts: Sequence[str], kit: Kit) -> str:
    """The partial summaries as one text that fits into one request, reduced level after level."""
    while kit.measure(joined := _joined(parts)) > kit.limit:
        groups = _groups(parts, kit)
        smaller = await _side_by_side([_reduced(members, kit) for members in groups])
        if kit.measure(_joined(smaller)) >= kit.measure(joined):
            raise PageFailed(Reason.REDUCE_GREW, f"{len(parts)} partial summaries became longer, not shorter")
        parts = smaller
    return joined


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(parts)


def _groups(parts: Sequence[str], kit: Kit) -> list[Sequence[str]]:
    """The parts in order, as few groups as fit, of about the same length each."""
    count = max(1, -(-kit.measure(_joined(parts)) // kit.limit))
    while count < len(parts):
        size, more = divmod(len(parts), count)
        groups, start = [], 0
        for number in range(count):
            end = start + size + (number < more)
            groups.append(parts[start:end])
            start = end
        if all(kit.measure(_joined(members)) <= kit.limit for members in groups):
            return groups
        count += 1
    return [[part] for part in parts]


async def _reduced(members: Sequence[str], kit: Kit) -> str:
    if len(members) == 1:
        return members[0]

    async def ask() -> Partial:
        what = f"{len(members)} parts"
        task = prompts.filled("reduce", what=what, words=kit.style.words, language=kit.style.language)
        job = _job(1, what, _joined(members), task, kit, kit.style.partial_tokens)
        return _partial(await toolloop.run(job, kit.chat, _told(kit)))

    name = hashlib.sha256(json.dumps(members).encode()).hexdigest()
    return (await kit.once_reduce(name, ask)).summary


async def _final(what: str, text: str, kit: Kit) -> Final:
    style = kit.style
    task = prompts.filled("final", what=what, words=style.words, language=style.language)
    single = what == "the text of a page"
    job = _job(1, "the text", text, task, kit, style.final_tokens, schema(style))
    outcome = await toolloop.run(job, kit.chat, kit.mode if single else _told(kit))
    try:
        written = _Written.model_validate_json(outcome.text)
    except pydantic.ValidationError as error:
        raise PageFailed(Reason.OUTPUT_REJECTED, f"not the JSON asked for: {error.error_count()} faults") from error
    flags = ("primed",) if outcome.primed and single else ()
    return Final(
        written.summary.strip(),
        tuple(point.strip() for point in written.key_points if point.strip()),
        flags,
        outcome.prompt_tokens,
        outcome.output_tokens,
        outcome.seconds,
    )


def _told(kit: Kit) -> toolloop.Mode:
    """How a reduce gets its parts: as a tool's result, where the model knows such; no tool is offered to it."""
    return toolloop.Mode.TELL if kit.mode is toolloop.Mode.TELL else toolloop.Mode.PRIME


def _job(
    part: int,
    what: str,
    text: str,
    task: str,
    kit: Kit,
    num_predict: int,
    answer_schema: dict[str, object] | None = None,
) -> toolloop.Job:
    return toolloop.Job(
        system=prompts.text("system"),
        ask=prompts.filled("ask", what=what, url=kit.url, part=part),
        task=task,
        tool=GET_PAGE,
        call=ToolCall(GET_PAGE.name, {"url": kit.url, "part": part}),
        result=prompts.fenced(text, kit.secret),
        judge=lambda call: wrong_call(call, kit.url, part),
        num_predict=num_predict,
        schema=answer_schema,
    )


def spoken(url: str) -> str:
    """A URL as the model is told it: the first `SPOKEN_CHARACTERS` of it, so that its length is bounded."""
    return url[:SPOKEN_CHARACTERS]


def limit(url: str, style: Style, num_ctx: int, measure: Callable[[str], int]) -> int:
    """The tokens that a part of this page may have. Raises `UsageError` when the context is too small for any."""
    what = "part 100 of 100 of the text of a page, each part in a few sentences"
    words = {"what": what, "words": style.words, "language": style.language}
    tasks = [prompts.filled(name, **words) for name in ("map", "reduce", "final")]
    fixed = (
        prompts.text("system"),
        prompts.filled("ask", what=what, url=spoken(url), part=100),
        max(tasks, key=measure),
        prompts.fenced("", b""),
    )
    return budget(num_ctx, style.final_tokens, measure("\n".join(fixed)), errors=0)


def wrong_call(call: ToolCall, url: str, part: int) -> str | None:
    """What is wrong with a call, in words for the model that name the right one; `None` if nothing is."""
    right = f'call {GET_PAGE.name} with {{"url": "{url}", "part": {part}}}'
    if call.name != GET_PAGE.name:
        return f"error: there is no tool {call.name[:40]!r}; {right}"
    if not _same_page(call.arguments.get("url"), url):
        return f"error: only one page can be read, and that is not its URL; {right}"
    asked = call.arguments.get("part")
    if isinstance(asked, bool) or str(asked).strip() != str(part):
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


def _partial(outcome: toolloop.Outcome) -> Partial:
    return Partial(
        outcome.text,
        outcome.tool_calls,
        outcome.tool_errors,
        outcome.primed,
        outcome.prompt_tokens,
        outcome.output_tokens,
        outcome.seconds,
    )

"""A task and its tool into an answer, by tool calls: pure control flow over a `chat` callable.

The model is offered one tool and asked to call it. A right call is answered with the text; a wrong one with an
error that names the right one; a model that does not call, or calls wrongly to the end, is *primed*: the right call
and its result are put into the conversation for it. Then the task is repeated and the last request goes out without
tools; an answer that cannot be used, or is worth little, is asked for once more, otherwise. So the loop ends by
construction, after at most `MAX_ASKED` + 2 requests.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic, TypeVar

from pipeline.errors import Malformed, NoTools, PageFailed, PageNotDone, TooLong
from pipeline.records import Answer, Message, Reason, Request, ToolCall, ToolSpec

MAX_ASKED = 3
"""How often the model is asked to call."""
CALL_TOKENS = 160
"""Room for a call: a URL of 200 characters and the JSON around it."""
TRUSTED_FAILURES = 3
"""After so many jobs in a row without a right call a model is not asked any more."""
WORTH_ENOUGH = 0.5
"""An answer of less worth is asked for once more, and the better one is taken."""

_TRY_AGAIN = frozenset({Reason.LLM_TRUNCATED, Reason.LLM_EMPTY, Reason.LLM_ERROR, Reason.OUTPUT_REJECTED})
"""Faults of one answer: another seed may write a better one."""
_LONGEST_PRINTED = 4_000
_AROUND_A_CALL = 100
"""Characters of tags, fences and good intentions that may stand around a call which is all of an answer."""

Chat = Callable[[Request], Awaitable[Answer]]
Lookup = Callable[[ToolCall], str | None]
"""A call → `None` if it is the right one, else the error that the model is told."""
Showed = Callable[["Mode", "Mode", bool], None]
"""`Ability.showed`."""
T = TypeVar("T")


class Mode(str, Enum):
    """What a model is trusted to do."""

    ASK = "ask"
    """It is offered the tool and asked to call it."""
    INSIST = "insist"
    """The same; and a model that does not call fails the page."""
    PRIME = "prime"
    """It knows tools but does not call: the call is made for it."""
    TELL = "tell"
    """It knows no tools: the text stands in the message. (The server drops tool messages in silence.)"""


class Policy(str, Enum):
    """What the user wants of the loop (`--tool-calls`)."""

    AUTO = "auto"
    ALWAYS = "always"
    PRIMED = "primed"
    NEVER = "never"


class Ability:
    """What a model has shown of its calls, and so how it is to be asked next.

    `failures` counts the jobs in a row without a right call; it may be known from earlier nights.
    """

    def __init__(self, policy: Policy, knows_tools: bool, failures: int = 0) -> None:
        self._policy = policy
        self._knows_tools = knows_tools
        self._failures = failures

    @property
    def mode(self) -> Mode:
        """How the next job is to be run."""
        if not self._knows_tools or self._policy is Policy.NEVER:
            return Mode.TELL
        if self._policy is Policy.ALWAYS:
            return Mode.INSIST
        trusted = self._policy is Policy.AUTO and self._failures < TRUSTED_FAILURES
        return Mode.ASK if trusted else Mode.PRIME

    @property
    def reads_results(self) -> Mode:
        """How a text is shown that no tool is offered for: as a tool's result, where the model knows such."""
        return Mode.TELL if self.mode is Mode.TELL else Mode.PRIME

    def showed(self, asked: Mode, ended: Mode, primed: bool) -> None:
        """A job that began as `asked` goes on as `ended`, with the call made for the model (`primed`) or by it."""
        if ended is Mode.TELL and asked is not Mode.TELL:
            self._knows_tools = False
        elif asked is Mode.ASK:
            self._failures = self._failures + 1 if primed else 0


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """One thing to be written: what the model is told, what it is to read, and how its answer is read."""

    system: str
    ask: str
    task: str
    """Stands after the text, for the text may be long."""
    tool: ToolSpec
    call: ToolCall
    """The right call."""
    result: str
    """What the tool answers to it."""
    judge: Lookup
    read: Callable[[str], T]
    """Makes of an answer's text what is wanted. Raises `PageFailed` for an answer that cannot be used."""
    read_again: Callable[[str], T]
    """The same for the second answer, which may be taken as less than what was asked for."""
    num_predict: int
    more: int
    """`num_predict` of the second try: what there is room for."""
    worth: Callable[[T], float]
    """0–1: of what was read out of an answer, how much is sure to be about the text."""
    schema: dict[str, object] | None = None
    task_again: str = ""
    """What stands in the place of `task`, without a schema, where the first answer had the form but was no good."""
    schema_again: dict[str, object] | None = None
    """That of the second try in all other cases: with it an answer has an end, the form asked for, and is not empty."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What was made of the last answer, and what the loop cost: tokens and seconds of all whole answers in it."""

    value: T
    tool_calls: int
    tool_errors: int
    primed: bool
    prompt_tokens: int
    output_tokens: int
    seconds: float


def _nobody(asked: Mode, ended: Mode, primed: bool) -> None:
    """Who is told what a model has shown, where nobody asks it again."""


async def run(job: Job[T], chat: Chat, mode: Mode, showed: Showed = _nobody) -> Outcome[T]:
    """Carries out one job. Raises what `chat` raises; a fault of the call alone is not one of the job.

    `showed` is told as soon as it is known: a model that cannot call may not be able to write either.
    """
    answers: list[Answer] = []

    async def noted(request: Request) -> Answer:
        answer = await chat(request)
        answers.append(answer)
        return answer

    asked, began = _Asked(), mode
    if mode in (Mode.ASK, Mode.INSIST):
        try:
            asked = await _asked(job, noted)
        except NoTools:
            mode = Mode.TELL
    primed = not asked.right and mode is not Mode.TELL
    showed(began, mode, primed)
    if mode is Mode.INSIST and not asked.right:
        raise PageFailed(Reason.LLM_UNREAD, f"no right call of {job.tool.name} in {len(answers)} answers")
    value = await _answered(job, noted, mode)
    return Outcome(
        value,
        asked.calls,
        asked.errors,
        primed,
        sum(answer.prompt_tokens for answer in answers),
        sum(answer.output_tokens for answer in answers),
        sum(answer.seconds for answer in answers),
    )


async def _answered(job: Job[T], chat: Chat, mode: Mode) -> T:
    """What was read out of the last answer. One that is no good is asked for once more, changed."""
    request = Request(_with_text(job, mode, job.task), job.num_predict, schema=job.schema)
    read: list[T] = []
    plainly = bool(job.task_again)
    try:
        read.append(job.read(_no_call((await chat(request)).text, job.tool)))
        if job.worth(read[0]) >= WORTH_ENOUGH:
            return read[0]
    except PageFailed as failed:
        if isinstance(failed, TooLong) or failed.reason not in _TRY_AGAIN:
            raise
        no_good = failed.reason is Reason.OUTPUT_REJECTED and not isinstance(failed, Malformed)
        plainly = plainly and no_good
    request = replace(request, num_predict=job.more, again=True, schema=job.schema_again)
    if plainly:
        request = replace(request, messages=_with_text(job, mode, job.task_again), schema=None)
    try:
        read.append(job.read_again(_no_call((await chat(request)).text, job.tool)))
    except PageNotDone:
        # Also when the server is down by now: what can be had is not thrown away, and paid for again.
        if not read:
            raise
    return max(read, key=job.worth)


@dataclass(frozen=True, slots=True)
class _Asked:
    """How the model did when it was asked to call."""

    right: bool = False
    calls: int = 0
    errors: int = 0


async def _asked(job: Job[T], chat: Chat) -> _Asked:
    """Asks the model to call until it does so rightly, does not call at all, or has been asked often enough."""
    messages: tuple[Message, ...] = (Message("system", job.system), Message("user", job.ask))
    calls = errors = 0
    again = False
    for _ in range(MAX_ASKED):
        answer = await _called(job, chat, messages, again)
        if answer is None:
            errors += 1
            if again:
                break
            again = True
            continue
        made = answer.calls or tuple(_printed(answer.text, job.tool))
        if not made:
            errors += 1
            break
        calls += len(made)
        # Only the first of several calls is answered: there is one part to be had.
        error = job.judge(made[0])
        if error is None:
            return _Asked(True, calls, errors)
        errors += 1
        messages += (Message("assistant", "", made[:1]), Message("tool", error, tool_name=job.tool.name))
    return _Asked(False, calls, errors)


async def _called(job: Job[T], chat: Chat, messages: tuple[Message, ...], again: bool) -> Answer | None:
    """The model's answer to being offered the tool; `None` when what it wrote was no answer at all."""
    try:
        return await chat(Request(messages, CALL_TOKENS, tools=(job.tool,), again=again))
    except NoTools:
        raise
    except PageFailed as failed:
        if failed.reason in _TRY_AGAIN or isinstance(failed, TooLong):
            return None
        raise


def _printed(text: str, tool: ToolSpec) -> Iterator[ToolCall]:
    """The call that a model printed as text, bare, in a code fence or in tags; nothing if it is not the only one."""
    found = [call for value in _objects(text[:_LONGEST_PRINTED]) if (call := _as_call(value, tool))]
    if len(found) == 1:
        yield found[0]


def _no_call(text: str, tool: ToolSpec) -> str:
    """The text, if it is not one more call: where no tool is offered a model that knows only to call prints it."""
    around = text[: text.find("{")] + text[text.rfind("}") + 1 :]
    if len(around) < _AROUND_A_CALL and any(_printed(text, tool)):
        raise Malformed(f"a call of {tool.name} in place of an answer")
    return text


def _objects(text: str) -> Iterator[dict[str, object]]:
    """The JSON objects in a text, outermost only."""
    decoder, at = json.JSONDecoder(), 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if isinstance(value, dict):
            yield value


def _as_call(value: dict[str, object], tool: ToolSpec) -> ToolCall | None:
    function = value.get("function")
    named = function if isinstance(function, dict) else value
    name = named.get("name", function if isinstance(function, str) else None)
    arguments = named.get("arguments", named.get("parameters"))
    if isinstance(name, str) and isinstance(arguments, dict):
        return ToolCall(name, arguments)
    if name is None and set(value) == set(tool.properties):
        return ToolCall(tool.name, value)
    return None


def _with_text(job: Job[T], mode: Mode, task: str) -> tuple[Message, ...]:
    """The last conversation: the question, the right call, its result, the task.

    It is the same whatever errors were made on the way: they are of no use to the model, and so need no room.
    """
    if mode is Mode.TELL:
        return (Message("system", job.system), Message("user", f"{job.result}\n\n{task}"))
    return (
        Message("system", job.system),
        Message("user", job.ask),
        Message("assistant", "", (job.call,)),
        Message("tool", job.result, tool_name=job.tool.name),
        Message("user", task),
    )

"""A task and its tool into an answer, by tool calls: pure control flow over a `chat` callable.

The model is offered one tool and asked to call it. A right call is answered with the text; a wrong one with an
error that names the right one, `MAX_ERRORS` times; a model that does not call, or calls wrongly to the
end, is *primed*: the right call and its result are put into the conversation for it. Then the task is repeated
and the last request goes out without tools, so the loop ends by construction, after at most `MAX_ERRORS` + 2 requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from pipeline.errors import PageFailed
from pipeline.records import Answer, Message, Reason, Request, ToolCall, ToolSpec

MAX_ERRORS = 2
CALL_TOKENS = 160
"""Room for a call: a URL of 200 characters and the JSON around it."""

Chat = Callable[[Request], Awaitable[Answer]]
Lookup = Callable[[ToolCall], str | None]
"""A call → `None` if it is the right one, else the error that the model is told."""


class Mode(str, Enum):
    """What a model is trusted to do."""

    ASK = "ask"
    """It is offered the tool and asked to call it."""
    PRIME = "prime"
    """It knows tools but does not call: the call is made for it."""
    TELL = "tell"
    """It knows no tools: the text stands in the message. (The server drops tool messages in silence.)"""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to be written: what the model is told, what it is to read, and how it is to answer."""

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
    num_predict: int
    schema: dict[str, object] | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last answer, and what the loop cost."""

    text: str
    tool_calls: int
    tool_errors: int
    primed: bool
    prompt_tokens: int
    output_tokens: int
    seconds: float


async def run(job: Job, chat: Chat, mode: Mode) -> Outcome:
    """Carries out one job. Raises what `chat` raises; a fault of the call alone is not one of the job."""
    asked = await _asked(job, chat) if mode is Mode.ASK else _Asked()
    last = await chat(Request(_with_text(job, mode), job.num_predict, schema=job.schema, seed=job.seed))
    answers = (*asked.answers, last)
    return Outcome(
        last.text,
        sum(len(answer.calls) for answer in asked.answers),
        asked.errors,
        not asked.right and mode is not Mode.TELL,
        sum(answer.prompt_tokens for answer in answers),
        sum(answer.output_tokens for answer in answers),
        sum(answer.seconds for answer in answers),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """How the model did when it was asked to call."""

    right: bool = False
    errors: int = 0
    answers: tuple[Answer, ...] = ()


async def _asked(job: Job, chat: Chat) -> _Asked:
    """Asks the model to call until it does so rightly, does not call at all, or has made too many errors."""
    messages = [Message("system", job.system), Message("user", job.ask)]
    answers: list[Answer] = []
    for errors in range(MAX_ERRORS + 1):
        answer = await _called(job, chat, tuple(messages))
        if answer is None or not answer.calls:
            return _Asked(False, errors, tuple(answers))
        answers.append(answer)
        # Only the first of several calls is answered: there is one part to be had.
        call = answer.calls[0]
        error = job.judge(call)
        if error is None:
            return _Asked(True, errors, tuple(answers))
        messages += [Message("assistant", "", (call,)), Message("tool", error, tool_name=job.tool.name)]
    return _Asked(False, MAX_ERRORS + 1, tuple(answers))


async def _called(job: Job, chat: Chat, messages: tuple[Message, ...]) -> Answer | None:
    """The model's answer to being offered the tool; `None` when what it wrote was no answer at all."""
    try:
        return await chat(Request(messages, CALL_TOKENS, tools=(job.tool,), seed=job.seed))
    except PageFailed as failed:
        if failed.reason in (Reason.LLM_EMPTY, Reason.LLM_TRUNCATED, Reason.LLM_ERROR):
            return None
        raise


def _with_text(job: Job, mode: Mode) -> tuple[Message, ...]:
    """The last conversation: the question, the right call, its result, the task.

    It is the same whatever errors were made on the way: they are of no use to the model, and so need no room.
    """
    if mode is Mode.TELL:
        return (Message("system", job.system), Message("user", f"{job.result}\n\n{job.task}"))
    return (
        Message("system", job.system),
        Message("user", job.ask),
        Message("assistant", "", (job.call,)),
        Message("tool", job.result, tool_name=job.tool.name),
        Message("user", job.task),
    )

"""The tool loop with models as they are; the model is a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import summarize, toolloop
from pipeline.errors import NoTools, PageFailed, PageWaits, TooLong
from pipeline.records import Answer, Reason, Request, ToolCall

URL = "https://forum.example/r/pathofexile/comments/1abcde/"
RIGHT = ToolCall("get_page", {"url": URL, "part": 2})
MANGLED = ToolCall("get_page", {"url": URL.replace("pathofexile", "pathofexail"), "part": 2})

Model = Callable[[Request], Answer]


def job() -> toolloop.Job[str]:
    return toolloop.Job(
        system="You summarize.",
        ask="Summarize part 2 of 3.",
        task="Write the summary.",
        tool=summarize.GET_PAGE,
        call=RIGHT,
        result="THE TEXT",
        judge=lambda call: summarize.wrong_call(call, URL, 2),
        read=str,
        read_again=str,
        num_predict=300,
        more=600,
        worth=lambda value: 1.0,
    )


def nested(depth: int) -> object:
    value: object = 2
    for _ in range(depth):
        value = [value]
    return value


def said(text: str = "", *calls: ToolCall) -> Answer:
    return Answer(text, calls, 100, 10, 1.0)


def ran(model: Model, mode: toolloop.Mode = toolloop.Mode.ASK) -> tuple[toolloop.Outcome[str], list[Request]]:
    requests: list[Request] = []

    async def chat(request: Request) -> Answer:
        requests.append(request)
        return model(request)

    return asyncio.run(toolloop.run(job(), chat, mode)), requests


def reads(request: Request) -> bool:
    return any("THE TEXT" in message.content for message in request.messages)


def test_a_right_call_is_answered_with_the_text_and_the_last_request_offers_no_tool() -> None:
    outcome, requests = ran(lambda request: said("", RIGHT) if request.tools else said("summary"))
    assert outcome.value == "summary"
    assert (outcome.tool_calls, outcome.tool_errors, outcome.primed) == (1, 0, False)
    assert [bool(request.tools) for request in requests] == [True, False]
    assert reads(requests[-1])
    assert requests[-1].messages[-1].content == "Write the summary."


def test_the_second_request_begins_with_the_first_so_that_the_server_need_not_read_it_again() -> None:
    _, requests = ran(lambda request: said("", RIGHT) if request.tools else said("summary"))
    assert requests[1].messages[: len(requests[0].messages)] == requests[0].messages


def test_a_mangled_url_gets_an_error_that_names_the_right_one() -> None:
    def model(request: Request) -> Answer:
        if not request.tools:
            return said("summary")
        return said("", RIGHT if any(URL in m.content for m in request.messages if m.role == "tool") else MANGLED)

    outcome, requests = ran(model)
    assert (outcome.tool_calls, outcome.tool_errors, outcome.primed) == (2, 1, False)
    assert reads(requests[-1])


@pytest.mark.parametrize(
    "model",
    [
        lambda request: said("", MANGLED) if request.tools else said("summary"),
        lambda request: said("I have read it, it is fine.") if request.tools else said("summary"),
        lambda request: said("", ToolCall("run_shell", {"cmd": "id"})) if request.tools else said("summary"),
        lambda request: said("", *[MANGLED] * 10) if request.tools else said("summary"),
    ],
    ids=["mangles always", "answers without reading", "unknown tool", "ten calls at once"],
)
def test_a_model_that_does_not_call_rightly_is_primed_within_a_bounded_number_of_requests(model: Model) -> None:
    outcome, requests = ran(model)
    assert outcome.value == "summary"
    assert outcome.primed
    assert reads(requests[-1])
    assert len(requests) <= toolloop.MAX_ASKED + 2


@pytest.mark.parametrize("reason", [Reason.LLM_EMPTY, Reason.LLM_TRUNCATED, Reason.LLM_ERROR])
def test_a_call_that_is_no_answer_at_all_is_no_fault_of_the_page(reason: Reason) -> None:
    def model(request: Request) -> Answer:
        if request.tools:
            raise PageFailed(reason)
        return said("summary")

    outcome, requests = ran(model)
    assert outcome.primed
    assert reads(requests[-1])


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "get_page", "arguments": {"url": "u", "part": 2}}',
        '<tool_call>\n{"name": "get_page", "arguments": {"url": "u", "part": 3}}\n</tool_call>',
        'I will read the next one.\n```json\n{"url": "u", "part": 3}\n```',
    ],
)
def test_one_more_call_in_place_of_an_answer_is_none(text: str) -> None:
    with pytest.raises(PageFailed) as told:
        ran(lambda request: said("", RIGHT) if request.tools else said(text))
    assert told.value.reason is Reason.OUTPUT_REJECTED
    again = iter([text])
    outcome, _ = ran(lambda request: said("", RIGHT) if request.tools else said(next(again, "summary")))
    assert outcome.value == "summary"


def test_a_summary_that_quotes_a_call_is_an_answer() -> None:
    text = 'The page explains how a model calls a tool: it writes {"name": "get_page", "arguments": {}} and waits. ' * 2
    outcome, _ = ran(lambda request: said("", RIGHT) if request.tools else said(text))
    assert outcome.value == text


def test_a_server_that_is_down_is_told_as_it_is() -> None:
    def model(request: Request) -> Answer:
        raise PageWaits(Reason.LLM_DOWN)

    with pytest.raises(PageWaits):
        ran(model)


def test_a_model_without_tools_gets_the_text_in_the_message_and_no_tool_message() -> None:
    outcome, requests = ran(lambda request: said("summary"), toolloop.Mode.TELL)
    assert len(requests) == 1
    assert {message.role for message in requests[0].messages} == {"system", "user"}
    assert reads(requests[0])
    assert not outcome.primed


def test_a_primed_model_is_asked_once() -> None:
    outcome, requests = ran(lambda request: said("summary"), toolloop.Mode.PRIME)
    assert len(requests) == 1
    assert outcome.primed
    assert requests[0].messages[-2].tool_name == "get_page"


@pytest.mark.parametrize(
    "printed",
    [
        '{"name": "get_page", "arguments": {"url": "URL", "part": 2}}',
        '```json\n{"name": "get_page", "parameters": {"url": "URL", "part": 2}}\n```',
        '<tool_call>\n{"name": "get_page", "arguments": {"url": "URL", "part": 2}}\n</tool_call>',
        'I will read it: {"url": "URL", "part": 2}',
        '{"type": "function", "function": {"name": "get_page", "arguments": {"url": "URL", "part": 2}}}',
        '{"function": "get_page", "arguments": {"url": "URL", "part": 2}}',
    ],
)
def test_a_call_that_is_printed_as_text_counts_as_one(printed: str) -> None:
    text = printed.replace("URL", URL)
    outcome, requests = ran(lambda request: said(text) if request.tools else said("summary"))
    assert (outcome.tool_calls, outcome.primed, len(requests)) == (1, False, 2)


@pytest.mark.parametrize("printed", ["{" * 5_000, '{"name": "get_page"', "{}", '{"url": 1}', "[" * 3_000 + "{"])
def test_what_only_looks_like_a_printed_call_is_none(printed: str) -> None:
    outcome, _ = ran(lambda request: said(printed) if request.tools else said("summary"))
    assert (outcome.tool_calls, outcome.primed) == (0, True)


def test_two_printed_calls_are_not_taken_for_one() -> None:
    text = 2 * '{"name": "get_page", "arguments": {"url": "x", "part": 1}} '
    assert ran(lambda request: said(text) if request.tools else said("summary"))[0].tool_calls == 0


def test_a_model_that_the_server_says_knows_no_tools_gets_the_text_in_the_message() -> None:
    def model(request: Request) -> Answer:
        if request.tools:
            raise NoTools("does not support tools")
        return said("summary")

    outcome, requests = ran(model)
    assert not outcome.primed
    assert {message.role for message in requests[-1].messages} == {"system", "user"}


def test_a_model_that_must_call_and_does_not_fails_the_page() -> None:
    with pytest.raises(PageFailed) as told:
        ran(lambda request: said("I know it already."), toolloop.Mode.INSIST)
    assert told.value.reason is Reason.LLM_UNREAD


def test_an_answer_that_cannot_be_read_is_asked_for_once_more_and_then_the_page_fails() -> None:
    requests: list[Request] = []

    def read(text: str) -> str:
        raise PageFailed(Reason.OUTPUT_REJECTED)

    async def chat(request: Request) -> Answer:
        requests.append(request)
        return said("no summary")

    with pytest.raises(PageFailed):
        asyncio.run(toolloop.run(replace(job(), read=read, read_again=read), chat, toolloop.Mode.PRIME))
    assert [(request.again, request.num_predict) for request in requests] == [(False, 300), (True, 600)]


@pytest.mark.parametrize(
    ("answers", "worths", "taken"),
    [
        (["good"], {"good": 0.5}, "good"),
        (["poor", "good"], {"poor": 0.4, "good": 1.0}, "good"),
        (["poor", "poorer"], {"poor": 0.4, "poorer": 0.0}, "poor"),
        (["as poor", "the same"], {"as poor": 0.0, "the same": 0.0}, "as poor"),
        (["poor", "unreadable"], {"poor": 0.0}, "poor"),
    ],
)
def test_an_answer_of_little_worth_is_asked_for_once_more_and_the_better_one_is_taken(
    answers: list[str], worths: dict[str, float], taken: str
) -> None:
    requests: list[Request] = []

    def read(text: str) -> str:
        if text not in worths:
            raise PageFailed(Reason.OUTPUT_REJECTED)
        return text

    async def chat(request: Request) -> Answer:
        requests.append(request)
        return said(answers[len(requests) - 1])

    asked = replace(job(), read=read, read_again=read, worth=worths.__getitem__, task_again="Otherwise.")
    assert asyncio.run(toolloop.run(asked, chat, toolloop.Mode.PRIME)).value == taken
    tasks = [request.messages[-1].content for request in requests]
    assert tasks == ["Write the summary.", "Otherwise."][: len(answers)]


@pytest.mark.parametrize(
    "fault", [PageWaits(Reason.LLM_DOWN), PageWaits(Reason.LLM_TIMEOUT), TooLong(2_000, 1_024, "too long"), NoTools("")]
)
def test_an_answer_of_little_worth_is_kept_when_the_model_is_gone_before_the_second(fault: Exception) -> None:
    async def chat(request: Request) -> Answer:
        if request.again:
            raise fault
        return said("poor")

    poor = replace(job(), worth=lambda value: 0.1)
    assert asyncio.run(toolloop.run(poor, chat, toolloop.Mode.PRIME)).value == "poor"


def test_what_a_loop_cost_is_what_all_its_answers_did_also_those_that_were_not_taken() -> None:
    def read(text: str) -> str:
        if text == "1":
            raise PageFailed(Reason.OUTPUT_REJECTED)
        return text

    number = iter("0012")

    async def chat(request: Request) -> Answer:
        return said("", MANGLED) if request.tools else said(next(number))

    for read_first in (str, read):
        asked = replace(job(), read=read_first, read_again=str, worth=lambda value: 0.1)
        outcome = asyncio.run(toolloop.run(asked, chat, toolloop.Mode.ASK))
        requests = toolloop.MAX_ASKED + 2
        assert (outcome.prompt_tokens, outcome.output_tokens) == (100 * requests, 10 * requests)
        assert outcome.seconds == requests


def test_what_a_model_has_shown_counts_also_when_its_answer_is_no_good() -> None:
    def read(text: str) -> str:
        raise PageFailed(Reason.OUTPUT_REJECTED)

    async def chat(request: Request) -> Answer:
        return said("I have read it.")

    ability = toolloop.Ability(AUTO, knows_tools=True)
    for _ in range(toolloop.TRUSTED_FAILURES):
        with pytest.raises(PageFailed):
            asyncio.run(toolloop.run(replace(job(), read=read, read_again=read), chat, ability.mode, ability.showed))
    assert ability.mode is PRIME


@pytest.mark.parametrize("reason", [Reason.LLM_EMPTY, Reason.LLM_TRUNCATED, Reason.OUTPUT_REJECTED])
def test_what_was_no_answer_in_plain_words_is_asked_for_by_a_schema(reason: Reason) -> None:
    requests: list[Request] = []

    def read(text: str) -> str:
        raise PageFailed(reason)

    async def chat(request: Request) -> Answer:
        requests.append(request)
        return said("…")

    asked = replace(job(), read=read, schema_again={"type": "object"})
    assert asyncio.run(toolloop.run(asked, chat, toolloop.Mode.PRIME)).value == "…"
    assert [request.schema for request in requests] == [None, {"type": "object"}]


def test_a_prompt_that_is_too_long_is_not_sent_again() -> None:
    requests: list[Request] = []

    async def chat(request: Request) -> Answer:
        requests.append(request)
        raise TooLong(2_000, 1_024, "too long")

    with pytest.raises(TooLong):
        asyncio.run(toolloop.run(job(), chat, toolloop.Mode.PRIME))
    assert len(requests) == 1


AUTO, ALWAYS, PRIMED, NEVER = toolloop.Policy
ASK, INSIST, PRIME, TELL = toolloop.Mode


@pytest.mark.parametrize(
    ("policy", "knows", "mode"),
    [
        *[(AUTO, True, ASK), (ALWAYS, True, INSIST), (PRIMED, True, PRIME), (NEVER, True, TELL)],
        *[(policy, False, TELL) for policy in toolloop.Policy],
    ],
)
def test_the_user_and_the_model_decide_how_it_is_asked(
    policy: toolloop.Policy, knows: bool, mode: toolloop.Mode
) -> None:
    assert toolloop.Ability(policy, knows).mode is mode


def test_a_model_that_has_failed_to_call_three_times_is_not_asked_any_more() -> None:
    ability = toolloop.Ability(AUTO, knows_tools=True)
    for primed in (True, True, False, True, True):
        ability.showed(ASK, ASK, primed)
        assert ability.mode is ASK
    ability.showed(ASK, ASK, primed=True)
    assert ability.mode is PRIME
    assert toolloop.Ability(AUTO, knows_tools=True, failures=3).mode is PRIME


def test_a_model_that_turned_out_to_know_no_tools_is_told_from_then_on() -> None:
    ability = toolloop.Ability(AUTO, knows_tools=True)
    ability.showed(ASK, TELL, primed=False)
    assert ability.mode is TELL
    assert ability.reads_results is TELL


@given(
    st.lists(
        st.one_of(
            st.sampled_from([RIGHT, MANGLED]),
            st.builds(
                ToolCall,
                st.text(max_size=20),
                st.dictionaries(
                    st.sampled_from(["url", "part", "x"]),
                    st.one_of(st.none(), st.integers(), st.text(max_size=50), st.floats(), st.lists(st.integers())),
                ),
            ),
        ),
        max_size=5,
    )
)
def test_whatever_a_model_calls_the_loop_ends_and_the_text_was_read(calls: list[ToolCall]) -> None:
    script = iter(calls)

    def model(request: Request) -> Answer:
        if not request.tools:
            return said("summary")
        call = next(script, None)
        return said("", call) if call else said("words")

    outcome, requests = ran(model)
    assert outcome.value == "summary"
    assert len(requests) <= toolloop.MAX_ASKED + 2
    assert reads(requests[-1])


@pytest.mark.parametrize("url", [URL, URL.rstrip("/"), URL.upper(), f" {URL} ", URL.replace("a", "%61")])
def test_a_spelling_that_means_the_page_is_right(url: str) -> None:
    assert summarize.wrong_call(ToolCall("get_page", {"url": url, "part": 2}), URL, 2) is None


@pytest.mark.parametrize("part", [0, 99, -1, "two", None, 1e9, [2], True, "", {}, nested(2_000)])
def test_another_part_is_wrong_and_the_right_one_is_named(part: object) -> None:
    error = summarize.wrong_call(ToolCall("get_page", {"url": URL, "part": part}), URL, 2)
    assert error is not None
    assert '"part": 2' in error


@pytest.mark.parametrize(
    "url", ["", None, 7, "http://127.0.0.1:11434/api/tags", "file:///etc/passwd", URL + "x", "http://[", "\x00"]
)
def test_another_url_is_wrong_and_the_right_one_is_named(url: object) -> None:
    error = summarize.wrong_call(ToolCall("get_page", {"url": url, "part": 2}), URL, 2)
    assert error is not None
    assert URL in error

"""The tool loop with models as they are; the model is a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import summarize, toolloop
from pipeline.errors import PageFailed, PageWaits
from pipeline.records import Answer, Reason, Request, ToolCall

URL = "https://forum.example/r/pathofexile/comments/1abcde/"
RIGHT = ToolCall("get_page", {"url": URL, "part": 2})
MANGLED = ToolCall("get_page", {"url": URL.replace("pathofexile", "pathofexail"), "part": 2})

Model = Callable[[Request], Answer]


def job() -> toolloop.Job:
    return toolloop.Job(
        system="You summarize.",
        ask="Summarize part 2 of 3.",
        task="Write the summary.",
        tool=summarize.GET_PAGE,
        call=RIGHT,
        result="THE TEXT",
        judge=lambda call: summarize.wrong_call(call, URL, 2),
        num_predict=300,
    )


def said(text: str = "", *calls: ToolCall) -> Answer:
    return Answer(text, calls, 100, 10, 1.0)


def ran(model: Model, mode: toolloop.Mode = toolloop.Mode.ASK) -> tuple[toolloop.Outcome, list[Request]]:
    requests: list[Request] = []

    async def chat(request: Request) -> Answer:
        requests.append(request)
        return model(request)

    return asyncio.run(toolloop.run(job(), chat, mode)), requests


def reads(request: Request) -> bool:
    return any("THE TEXT" in message.content for message in request.messages)


def test_a_right_call_is_answered_with_the_text_and_the_last_request_offers_no_tool() -> None:
    outcome, requests = ran(lambda request: said("", RIGHT) if request.tools else said("summary"))
    assert outcome.text == "summary"
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
    assert outcome.text == "summary"
    assert outcome.primed
    assert reads(requests[-1])
    assert len(requests) <= toolloop.MAX_ERRORS + 2


@pytest.mark.parametrize("reason", [Reason.LLM_EMPTY, Reason.LLM_TRUNCATED, Reason.LLM_ERROR])
def test_a_call_that_is_no_answer_at_all_is_no_fault_of_the_page(reason: Reason) -> None:
    def model(request: Request) -> Answer:
        if request.tools:
            raise PageFailed(reason)
        return said("summary")

    outcome, requests = ran(model)
    assert outcome.primed
    assert reads(requests[-1])


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
    assert outcome.text == "summary"
    assert len(requests) <= toolloop.MAX_ERRORS + 2
    assert reads(requests[-1])


@pytest.mark.parametrize("url", [URL, URL.rstrip("/"), URL.upper(), f" {URL} ", URL.replace("a", "%61")])
def test_a_spelling_that_means_the_page_is_right(url: str) -> None:
    assert summarize.wrong_call(ToolCall("get_page", {"url": url, "part": 2}), URL, 2) is None


@pytest.mark.parametrize("part", [0, 99, -1, "two", None, 1e9, [2], True, "", {}])
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

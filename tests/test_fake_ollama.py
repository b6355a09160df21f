"""The fake Ollama against the recordings of a real one: other tests trust what it does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fake_ollama import Body, FakeOllama, prompt_tokens, served_context, serving, writes
from recorded import RECORDINGS, Message, Recording, again, ask, shape

TEXT = "1. Red\n2. Blue\n3. Green\n4. Black\n5. Grey"
"""Ten tokens of the fake's: more than the requests that were cut asked for, fewer than the others did."""
PARIS = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}


def text(body: Body) -> Body:
    return {"content": TEXT}


def calls(body: Body) -> Body:
    return {"content": "", "tool_calls": [PARIS]}


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with serving(FakeOllama(text)) as server:
        yield server


def replayed(fake: FakeOllama, recording: Recording) -> tuple[int, Any]:
    """A recorded request, for the fake's own model where it was for one that was there."""
    known = isinstance(recording.body, dict) and recording.body["model"].startswith("smollm2")
    return again(fake.url, recording, **({"model": "fake"} if known else {}))


def own_words(recorded: str) -> str:
    """A recorded text with the fake's name and any numbers."""
    return re.sub(r"\d+", "N", recorded.replace("smollm2-notools", "fake"))


@pytest.mark.parametrize("id", ["version", "tags", "show-tools"])
def test_what_is_known_of_a_model_has_the_same_fields(fake: FakeOllama, id: str) -> None:
    status, answer = replayed(fake, RECORDINGS[id])
    assert status == RECORDINGS[id].status
    assert shape(own_part(id, answer)) == shape(own_part(id, RECORDINGS[id].response))


def own_part(id: str, answer: Body) -> Body:
    """What of an answer does not depend on the models that there are."""
    if id == "tags":
        return {"models": [entry for entry in answer["models"] if "tools" in entry["capabilities"]]}
    if id == "show-tools":
        return answer | {"model_info": {}, "tensors": answer["tensors"][:1]}
    return answer


PLAIN = (
    *("chat-stop", "chat-length", "chat-np0", "chat-np1", "chat-stream-stop", "chat-stream-default", "think-false"),
    *("err-field-unknown", "err-role", "err-role-missing", "load-only", "load-only-nomsg", "unload", "keepalive-0"),
    *("reload-a", "reload-b", "reload-c", "ctx-over-train", "format-final", "format-final-cut", "format-and-tools"),
    *("tools-1", "tools-2-notools", "over-single-default", "over-multi-default", "toolloop-over"),
)


@pytest.mark.parametrize("id", PLAIN)
def test_an_answer_has_the_same_fields_and_the_same_end(fake: FakeOllama, id: str) -> None:
    recording = RECORDINGS[id]
    status, answer = replayed(fake, recording)
    assert status == recording.status
    assert shape(answer) == shape(recording.response)
    last = answer[-1] if isinstance(answer, list) else answer
    assert last["done_reason"] == recording.last["done_reason"]


@pytest.mark.parametrize("id", ["tools-call", "tools-call-stream", "tools-call-cut", "tools-call-unknown"])
def test_a_call_is_given_on_as_the_real_server_does(fake: FakeOllama, id: str) -> None:
    fake.behave = calls
    recording = RECORDINGS[id]
    status, answer = replayed(fake, recording)
    assert status == 200
    assert shape(answer) == shape(recording.response)
    assert json.loads(own_ids(answer)) == json.loads(own_ids(recording.response))


def own_ids(answer: Any) -> str:
    """Everything but ids, times, counts and the model's name."""
    lines = answer if isinstance(answer, list) else [answer]
    kept = [{key: line.get(key) for key in ("message", "done", "done_reason")} for line in lines]
    return re.sub(r"call_\w+", "call_x", json.dumps(kept))


def test_a_call_is_text_where_no_tools_were_offered(fake: FakeOllama) -> None:
    fake.behave = calls
    recording = RECORDINGS["tools-call-nofield"]
    _, answer = replayed(fake, recording)
    assert shape(answer) == shape(recording.response)
    recorded = recording.response["message"]["content"]
    assert "".join(answer["message"]["content"].split()) == "".join(recorded.split())


@pytest.mark.parametrize("id", ["err-unknown", "err-unknown-tag", "show-unknown"])
def test_a_model_that_is_not_there_is_named(fake: FakeOllama, id: str) -> None:
    assert replayed(fake, RECORDINGS[id]) == (404, RECORDINGS[id].response)


@pytest.mark.parametrize(
    "id",
    [
        *("over-single-nofalse", "over-single-nofalse-stream", "over-multi-nofalse", "toolloop-over-notrunc"),
        *("nc300", "nc500", "nc513", "over-single-noshift-trfalse"),
    ],
)
def test_a_prompt_that_may_not_be_cut_is_refused_with_both_counts(fake: FakeOllama, id: str) -> None:
    recording = RECORDINGS[id]
    status, answer = replayed(fake, recording)
    assert status == recording.status == 400
    assert own_words(answer["error"]) == own_words(recording.response["error"])
    refusal, recorded = (json.loads(each["error"])["error"] for each in (answer, recording.response))
    assert refusal["n_ctx"] == recorded["n_ctx"]
    assert refusal["n_prompt_tokens"] == prompt_tokens(recording.body)
    assert fake.seen == []


@pytest.mark.parametrize(("room", "status"), [(1, 200), (0, 400)])
def test_a_prompt_may_have_one_token_less_than_the_context(fake: FakeOllama, room: int, status: int) -> None:
    frame = prompt_tokens({"messages": [{"role": "user", "content": ""}]})
    message = {"role": "user", "content": "word" * (512 - room - frame)}
    body = {"model": "fake", "messages": [message], "truncate": False, "stream": False, "options": {"num_ctx": 512}}
    assert ask(fake.url, "POST", "/api/chat", body)[0] == status


def seen(fake: FakeOllama, id: str) -> tuple[Any, str, list[Message]]:
    """The answer to a recorded request, the prompt that the fake's model saw, and the messages in it."""
    bodies: list[Body] = []

    def note(body: Body) -> Body:
        bodies.append(body)
        return {"content": TEXT}

    fake.behave = note
    _, answer = replayed(fake, RECORDINGS[id])
    return answer, fake.seen[-1], bodies[-1]["messages"]


def test_a_prompt_that_does_not_fit_is_cut_in_silence(fake: FakeOllama) -> None:
    answer, prompt, messages = seen(fake, "over-single-default")
    assert answer["prompt_eval_count"] == RECORDINGS["over-single-default"].response["prompt_eval_count"] == 258
    assert prompt_tokens(fake.chats[0]) > 1_800
    assert prompt.startswith("<|im_start|>syst")
    assert "You are terse." not in prompt
    assert "number 1 " not in prompt
    assert prompt.endswith("number 99 jumps over the lazy dog near the river bank. <|im_end|>\n<|im_start|>assistant\n")
    assert len(messages) == 1
    assert messages[0]["content"] in prompt


def test_whole_messages_are_dropped_first_but_never_the_systems_and_the_last(fake: FakeOllama) -> None:
    _, prompt, messages = seen(fake, "over-multi-default")
    rendered = RECORDINGS["over-multi-default-render"].response["_debug_info"]["rendered_template"]
    for text_seen in (prompt, rendered):
        assert text_seen.startswith("<|im_start|>system\nYou are terse.<|im_end|>\n")
        assert "Part 0." not in text_seen
        assert text_seen.endswith(rendered.split("…")[-1])
    assert messages == [fake.chats[0]["messages"][0], *fake.chats[0]["messages"][-len(messages) + 1 :]]


def test_in_a_tool_loop_it_is_the_task_that_goes(fake: FakeOllama) -> None:
    _, prompt, messages = seen(fake, "toolloop-over")
    rendered = RECORDINGS["toolloop-over-render"].response["_debug_info"]["rendered_template"]
    assert "DOCUMENT" not in prompt
    assert "DOCUMENT" not in rendered
    assert "RESULT" in prompt
    assert "RESULT" in rendered
    assert [message["role"] for message in messages] == ["system", "assistant", "tool"]


def test_an_answer_that_goes_beyond_the_context_does_not_say_so(fake: FakeOllama) -> None:
    recorded = RECORDINGS["fit-then-overflow-notrunc"].response
    fake.behave = lambda body: {"content": "word" * 500}
    message = {"role": "user", "content": "word" * 480}
    options = {"num_ctx": 512, "num_predict": 100}
    body = {"model": "fake", "messages": [message], "truncate": False, "stream": False, "options": options}
    status, answer = ask(fake.url, "POST", "/api/chat", body)
    assert status == 200
    for each in (answer, recorded):
        assert each["prompt_eval_count"] < 512 < each["prompt_eval_count"] + each["eval_count"]
        assert each["eval_count"] == 100
        assert each["done_reason"] == "length"


def test_a_model_without_tools_is_offered_none_and_sees_no_results() -> None:
    with serving(FakeOllama(text, capabilities=("completion",))) as fake:
        status, answer = replayed(fake, RECORDINGS["notools-tools"])
        assert status == RECORDINGS["notools-tools"].status
        assert answer["error"] == RECORDINGS["notools-tools"].response["error"].replace("smollm2-notools", "fake")
        assert replayed(fake, RECORDINGS["notools-tools-empty"])[0] == 200
        _, prompt, _ = seen(fake, "notools-toolmsg")
        assert prompt == RECORDINGS["notools-toolmsg"].response["_debug_info"]["rendered_template"]
        messages = [{"role": "assistant", "content": "Let me see.", "tool_calls": [PARIS]}]
        ask(fake.url, "POST", "/api/chat", {"model": "fake", "messages": messages})
        assert "Let me see." in fake.seen[-1]
        assert "Paris" not in fake.seen[-1]


def test_a_message_of_an_unknown_role_is_dropped_in_silence(fake: FakeOllama) -> None:
    _, prompt, messages = seen(fake, "err-role")
    assert prompt == "<|im_start|>assistant\n"
    assert messages == []


@pytest.mark.parametrize(
    ("before", "id"), [("nc300", "ps-nc300"), ("nc513", "ps-nc513"), ("ctx-over-train", "ps-over-train")]
)
def test_what_is_loaded_is_told_with_the_context_that_was_asked_for(fake: FakeOllama, before: str, id: str) -> None:
    replayed(fake, RECORDINGS[before])
    status, answer = replayed(fake, RECORDINGS[id])
    assert status == 200
    assert shape(answer) == shape(RECORDINGS[id].response)
    assert answer["models"][0]["context_length"] == RECORDINGS[id].response["models"][0]["context_length"]


def test_an_unloaded_model_is_not_told(fake: FakeOllama) -> None:
    replayed(fake, RECORDINGS["load-only"])
    replayed(fake, RECORDINGS["unload"])
    assert replayed(fake, RECORDINGS["ps-after-unload"]) == (200, RECORDINGS["ps-after-unload"].response)


@pytest.mark.parametrize(("asked", "served"), [(300, 512), (512, 512), (513, 768), (16_384, 8_192)])
def test_the_context_is_served_in_steps_up_to_the_trained_one(asked: int, served: int) -> None:
    assert served_context({"options": {"num_ctx": asked}}) == served


def test_another_context_is_a_reload(fake: FakeOllama) -> None:
    durations = [replayed(fake, RECORDINGS[id])[1]["load_duration"] for id in ("reload-a", "reload-b", "reload-c")]
    recorded = [RECORDINGS[id].response["load_duration"] for id in ("reload-a", "reload-b", "reload-c")]
    assert [each > 100_000_000 for each in durations] == [each > 100_000_000 for each in recorded]


def test_a_model_that_cannot_see_what_to_call_says_so() -> None:
    tools = RECORDINGS["tools-1"].body["tools"]
    message = writes({"messages": [{"role": "user", "content": "…the end of a text that was cut"}], "tools": tools})
    assert "tool_calls" not in message

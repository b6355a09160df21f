"""The model's client against a server that is played, fault by fault."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import fake_ollama
import pytest
from aiohttp import web
from fake_ollama import DIGEST, FakeOllama, serving
from recorded import RECORDINGS

from pipeline import llm, tokens
from pipeline.errors import ModelUnusable, NoTools, PageFailed, PageWaits, TooLong
from pipeline.llm import TRIES, ModelClient, slots_of
from pipeline.records import Answer, Message, Reason, Request, ToolCall
from pipeline.summarize import GET_PAGE

ASKED = Request((Message("user", "Summarize this."),), num_predict=100)


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with serving(FakeOllama()) as server:
        yield server


async def no_wait(seconds: float) -> None:
    """Retries come at once in tests."""


def asked(fake: FakeOllama, request: Request = ASKED, timeout: float = 20.0) -> Answer:
    async def main() -> Answer:
        async with ModelClient(fake.url, "fake", timeout, sleep=no_wait) as client:
            await client.load(2_048, "10m")
            return await client.chat(request)

    return asyncio.run(main())


def test_an_answer_has_its_text_and_its_counts(fake: FakeOllama) -> None:
    answer = asked(fake)
    assert answer.text == "What this part says."
    assert answer.prompt_tokens > 0
    assert answer.output_tokens > 0


def test_every_request_says_what_it_may_not_be_without(fake: FakeOllama) -> None:
    asked(fake)
    ask = 'call get_page with {"url": "http://a.example/", "part": 1}'
    fake.behave = lambda body: {"content": "Yes."}  # one token: there is no room for more
    asked(fake, Request((Message("user", ask),), num_predict=0, tools=(GET_PAGE,)))
    for body in fake.chats:
        assert body["truncate"] is False
        assert body["think"] is False
        assert body["options"]["num_ctx"] % 256 == 0
        assert body["options"]["num_predict"] >= 1
        assert "keep_alive" not in body
        assert "shift" not in body
        assert not ("tools" in body and "format" in body)
    assert [body["keep_alive"] for body in fake.loads] == ["10m", "10m"]


def test_calls_and_results_go_to_the_server_as_it_knows_them(fake: FakeOllama) -> None:
    call = ToolCall("get_page", {"url": "http://a.example/", "part": 1})
    messages = (Message("assistant", "", (call,)), Message("tool", "the text", tool_name="get_page"))
    asked(fake, Request(messages, 10))
    assert fake.chats[0]["messages"] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "get_page", "arguments": {"url": "http://a.example/", "part": 1}}}],
        },
        {"role": "tool", "content": "the text", "tool_name": "get_page"},
    ]


def test_a_call_of_the_model_arrives_as_it_was_made(fake: FakeOllama) -> None:
    call = {"name": "get_page", "arguments": {"url": "http://x/", "part": 3}}
    fake.behave = lambda body: {"role": "assistant", "content": "", "tool_calls": [{"function": call}]}
    answer = asked(fake, Request(ASKED.messages, ASKED.num_predict, tools=(GET_PAGE,)))
    assert answer.calls == (ToolCall("get_page", {"url": "http://x/", "part": 3}),)


def test_a_prompt_that_is_too_long_is_told_with_both_counts(fake: FakeOllama) -> None:
    with pytest.raises(TooLong) as told:
        asked(fake, Request((Message("user", "word " * 5_000),), 100))
    assert told.value.served_context == 2_048
    assert told.value.prompt_tokens > 2_048


@pytest.mark.parametrize(
    "text",
    [
        "the prompt is longer than the context length currently available to the model",
        "input length (1814 tokens) exceeds the model's maximum context length (512 tokens)",
    ],
)
def test_an_old_server_says_it_without_a_count(fake: FakeOllama, text: str) -> None:
    fake.behave = lambda body: {"status": 400, "error": text}
    with pytest.raises(TooLong) as told:
        asked(fake)
    assert told.value.prompt_tokens == 0


def reply(**fields: Any) -> dict[str, Any]:
    return {"done": True, "message": {"role": "assistant", "content": "text"}} | fields


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"message": {"role": "assistant", "content": ""}}, Reason.LLM_EMPTY),
        ({"message": {"role": "assistant", "content": " \n "}}, Reason.LLM_EMPTY),
        ({"done_reason": "length"}, Reason.LLM_TRUNCATED),
        ({"done_reason": "load"}, Reason.LLM_ERROR),
        ({"done_reason": None}, Reason.LLM_ERROR),
        ({"done": False}, Reason.LLM_ERROR),
        ({"prompt_eval_count": 2_000, "eval_count": 100}, Reason.LLM_CONTEXT),
    ],
)
def test_what_does_not_count_as_an_answer(fake: FakeOllama, fields: dict[str, Any], reason: Reason) -> None:
    fake.behave = lambda body: reply(**fields)
    with pytest.raises(PageFailed) as told:
        asked(fake)
    assert told.value.reason is reason


@pytest.mark.parametrize(
    ("status", "text", "says"),
    [
        (400, '"fake" does not support chat', "does not support chat"),
        (400, '{"error":{"code":400,"message":"x","type":"invalid_request_error"}}', "invalid_request_error"),
        (500, "model requires more system memory (9 GiB) than is available (2 GiB)", "no memory"),
        (500, "llama-server process has terminated: insufficient memory", "no memory"),
        (404, "model 'fake:latest' not found", "ollama pull fake"),
        (403, "", "refuses"),
        (401, "unauthorized", "refuses"),
    ],
)
def test_what_no_request_can_mend_ends_the_run(fake: FakeOllama, status: int, text: str, says: str) -> None:
    fake.behave = lambda body: {"status": status, "error": text}
    with pytest.raises(ModelUnusable, match=says):
        asked(fake)
    assert len(fake.chats) == 1


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (503, "server busy, please try again.  maximum pending requests exceeded", Reason.LLM_DOWN),
        (500, "an error was encountered while running the model: unexpected EOF", Reason.LLM_ERROR),
        (500, "model runner has unexpectedly stopped", Reason.LLM_ERROR),
    ],
)
def test_a_server_in_trouble_is_asked_again(fake: FakeOllama, status: int, text: str, reason: Reason) -> None:
    trouble = iter([{"status": status, "error": text}] * 2)
    fake.behave = lambda body: next(trouble, reply())
    assert asked(fake).text == "text"
    assert len(fake.chats) == 3
    fake.behave = lambda body: {"status": status, "error": text}
    with pytest.raises((PageFailed, PageWaits)) as told:
        asked(fake)
    assert told.value.reason is reason
    assert len(fake.chats) == 3 + TRIES


def test_nothing_listening_is_the_runs_trouble_not_the_pages() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        fake = FakeOllama()
        fake.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(PageWaits, match="is it running"):
            asked(fake)


def test_no_answer_in_time_leaves_the_page_waiting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fake = FakeOllama()
        fake.url = f"http://127.0.0.1:{silent.getsockname()[1]}"

        async def main() -> None:
            async with ModelClient(fake.url, "fake", 0.2, sleep=no_wait) as client:
                client.num_ctx = 2_048
                await client.chat(ASKED)

        with pytest.raises(PageWaits) as told:
            asyncio.run(main())
        assert told.value.reason is Reason.LLM_TIMEOUT


def test_something_else_behind_the_address_is_named() -> None:
    from fake_ollama import running

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>a proxy's page</html>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    fake = FakeOllama()
    with running(app) as fake.url, pytest.raises(ModelUnusable, match="does not speak"):
        asked(fake)


def _speaking(**said: bytes) -> web.Application:
    """A server that says this to requests of `/api/NAME`, and an empty object to all others."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=said.get(request.path.rpartition("/")[2], b"{}"), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


NESTED = b"[" * 5_000 + b"]" * 5_000


@pytest.mark.parametrize("said", [b'{"message": %s}' % NESTED, b'{"n": %s}' % (b"9" * 5_000), b'{"message": "\xff"}'])
def test_an_answer_that_cannot_even_be_read_fails_its_page_and_nothing_else(said: bytes) -> None:
    """A model may write arguments of a call that are nested so deep."""

    async def main(url: str) -> int:
        async with ModelClient(url, "fake", 20.0, sleep=no_wait) as client:
            client.num_ctx = 2_048
            with pytest.raises(PageFailed) as told:
                await client.chat(ASKED)
            assert told.value.reason is Reason.LLM_ERROR
            return await client.slots()

    with fake_ollama.running(_speaking(chat=said)) as url:
        assert asyncio.run(main(url)) == 1


@pytest.mark.parametrize(
    "said",
    [
        {"show": b'{"model_info": [1]}'},
        {"show": b'{"model_info": {"general.architecture": "a", "a.context_length": "many"}}'},
        {"show": b'{"model_info": %s}' % NESTED},
        {"tags": b'{"models": ["fake"]}'},
        {"ps": b'{"models": [{"name": "fake:latest", "context_length": 1e999}]}'},
    ],
)
def test_a_server_that_describes_no_model_is_named(said: dict[str, bytes]) -> None:
    async def main(url: str) -> None:
        async with ModelClient(url, "fake", 20.0, sleep=no_wait) as client:
            await client.describe()

    with fake_ollama.running(_speaking(**said)) as url, pytest.raises(ModelUnusable, match="does not speak"):
        asyncio.run(main(url))


def test_a_redirect_of_the_server_is_not_followed(fake: FakeOllama) -> None:
    from fake_ollama import running

    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(fake.url + request.path)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", moved)
    other = FakeOllama()
    with running(app) as other.url, pytest.raises(ModelUnusable):
        asked(other)
    assert not fake.paths


def test_a_proxy_of_the_environment_does_not_see_what_goes_to_this_machine(
    fake: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as spy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{spy.getsockname()[1]}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{spy.getsockname()[1]}")
        assert asked(fake).text


def test_a_model_is_described_as_its_server_does(fake: FakeOllama) -> None:
    async def main(name: str) -> Any:
        async with ModelClient(fake.url, name, 5.0, sleep=no_wait) as client:
            return await client.describe()

    model = asyncio.run(main("fake"))
    assert (model.digest, model.tools, model.trained_context) == (DIGEST, True, 8_192)
    with pytest.raises(ModelUnusable, match="ollama pull nope"):
        asyncio.run(main("nope"))


def burst(*times: tuple[int, int]) -> list[dict[str, int]]:
    """Replies with these (waiting, working) milliseconds."""
    return [
        {"total_duration": wait + work, "load_duration": 1, "prompt_eval_duration": 9, "eval_duration": work - 10}
        for wait, work in times
    ]


@pytest.mark.parametrize(
    ("replies", "slots"),
    [
        (burst((3, 335), (338, 305), (645, 303), (948, 409)), 1),
        (burst((2, 719), (46, 683), (1392, 694), (704, 713)), 2),
        (burst((2, 700), (3, 700), (5, 700), (9, 700)), 4),
        (burst((400, 300), (700, 300), (900, 300), (1200, 300)), 1),
        ([{}, {}, {}, {}], 1),
        ([{"total_duration": "soon"}] * 4, 1),
        ([], 1),
    ],
    ids=["one slot", "two slots", "four", "another program is served first", "old server", "nonsense", "nothing"],
)
def test_the_slots_of_a_server_are_read_off_a_burst_of_equal_requests(
    replies: list[dict[str, int]], slots: int
) -> None:
    assert slots_of(replies) == slots


def test_a_prompt_of_which_too_little_was_counted_was_cut_and_its_answer_is_thrown_away(fake: FakeOllama) -> None:
    reply = {"done": True, "done_reason": "stop", "message": {"content": "A summary of half."}}
    fake.behave = lambda body: {**reply, "prompt_eval_count": 258, "eval_count": 9}
    with pytest.raises(PageFailed) as told:
        asked(fake, Request((Message("user", "The text of a page is here. " * 250),), 100))
    assert told.value.reason is Reason.LLM_CONTEXT


def test_a_prompt_that_left_no_room_for_the_answer_was_too_long_and_its_count_is_known(fake: FakeOllama) -> None:
    fake.behave = lambda body: reply(done_reason="stop", prompt_eval_count=2_000, eval_count=100)
    with pytest.raises(TooLong) as told:
        asked(fake)
    assert (told.value.prompt_tokens, told.value.served_context) == (2_000, 2_048)


def test_a_count_that_is_what_is_left_of_a_cut_prompt_is_taken_for_one(fake: FakeOllama) -> None:
    # Recorded: a server with a context of 512 counts 258 tokens of 1,814, as here 1,026 of however many.
    fake.behave = lambda body: reply(done_reason="stop", prompt_eval_count=1_026, eval_count=10)
    with pytest.raises(TooLong):
        asked(fake)
    assert llm.left_of_a_cut_prompt(512) == 258


def test_a_table_of_numbers_is_not_taken_for_a_prompt_that_was_cut(fake: FakeOllama) -> None:
    # cl100k makes one token of three digits, as Llama 3 does.
    fake.count = tokens.count
    table = "\n".join(f"| {number:09} | {number * 7:09} |" for number in range(123_456_000, 123_456_080))
    assert asked(fake, Request((Message("user", table),), 100)).text


def test_what_the_server_counts_is_told_also_of_a_prompt_that_it_refuses(fake: FakeOllama) -> None:
    counts: list[int] = []

    async def main() -> None:
        async with ModelClient(fake.url, "fake", 20.0, sleep=no_wait) as client:
            client.counted = lambda units, real: counts.append(real)
            await client.load(2_048)
            await client.chat(ASKED)
            with pytest.raises(TooLong):
                await client.chat(Request((Message("user", "word " * 20_000),), 100))

    asyncio.run(main())
    assert len(counts) == 2
    assert counts[1] > 20_000


def test_a_server_that_is_down_is_asked_a_few_times_then_now_and_then_and_is_loaded_first_when_it_is_back() -> None:
    time = 0.0
    with serving(FakeOllama()) as fake:

        async def main() -> list[str]:
            nonlocal time
            told: list[str] = []
            async with ModelClient("http://127.0.0.1:9", "fake", 20.0, sleep=no_wait, clock=lambda: time) as client:
                for _ in range(5):
                    with pytest.raises(PageWaits) as waits:
                        await client.chat(ASKED)
                    told.append("tried" if "is it running" in waits.value.detail else "not tried")
                time = 31.0
                client._client = llm._Client(fake.url)
                client.num_ctx = 2_048
                await client.chat(ASKED)
            return told

        assert asyncio.run(main()) == ["tried"] * 3 + ["not tried"] * 2
        assert len(fake.loads) == 1
        assert len(fake.chats) == 1


def test_a_second_try_is_made_otherwise(fake: FakeOllama) -> None:
    asked(fake)
    asked(fake, Request(ASKED.messages, 100, again=True))
    first, second = (chat["options"] for chat in fake.chats)
    assert first["temperature"] == 0
    assert second["temperature"] > 0
    assert first["seed"] != second["seed"]


def meaning(recording: str) -> Exception:
    """What an error that a real server gave means to us."""
    found = RECORDINGS[recording]
    text = found.response["error"] if isinstance(found.response, dict) else found.response
    return llm._meaning(found.status or 0, text, "smollm2")


@pytest.mark.parametrize(
    ("recording", "kind", "words"),
    [
        ("over-single-nofalse", TooLong, "1814"),
        ("over-single-noshift", TooLong, ""),
        ("v24-over-notrunc", TooLong, ""),
        ("native-over-default", TooLong, "1814"),
        ("queue-503-cold", llm._Broken, "busy"),
        ("runner-killed", llm._Broken, "unexpected EOF"),
        ("notools-tools", NoTools, "tools"),
        ("v24-notools", NoTools, "tools"),
        ("err-unknown", ModelUnusable, "ollama pull smollm2"),
        ("load-fail-broken", ModelUnusable, "damaged"),
        ("load-fail-noblob", ModelUnusable, "damaged"),
        ("load-fail-memory", ModelUnusable, "no memory"),
        ("err-opt-type", ModelUnusable, "num_ctx"),
        ("format-bad", ModelUnusable, "invalid format"),
        ("format-badschema", ModelUnusable, "Unrecognized schema"),
        ("keepalive-bad", ModelUnusable, "fortnights"),
        ("err-path", ModelUnusable, "page not found"),
        ("think-true", ModelUnusable, "thinking"),
    ],
)
def test_an_error_of_a_real_server_means_what_is_to_be_done_about_it(
    recording: str, kind: type[Exception], words: str
) -> None:
    found = meaning(recording)
    assert type(found) is kind
    assert words in str(found)


def test_a_model_that_cannot_be_loaded_is_the_runs_trouble_and_not_that_of_a_page(fake: FakeOllama) -> None:
    with serving(FakeOllama()) as server:
        server._loaded = lambda body: (_ for _ in ()).throw(fake_ollama._Refused(500, "the runner gave up"))  # type: ignore[method-assign]

        async def main() -> None:
            async with ModelClient(server.url, "fake", 20.0, sleep=no_wait) as client:
                with pytest.raises(ModelUnusable, match="cannot be loaded"):
                    await client.load(2_048)

        asyncio.run(main())


@pytest.mark.parametrize(
    "strange",
    [
        {"message": "a text"},
        {"message": {"content": "", "tool_calls": [None]}},
        {"message": {"content": "", "tool_calls": [{"function": "get_page"}]}},
        {"message": {"content": "x"}, "prompt_eval_count": "many"},
        {"message": {"content": "x"}, "prompt_eval_count": 1e400},
    ],
)
def test_an_answer_that_is_not_of_the_protocol_fails_its_page_and_nothing_else(
    fake: FakeOllama, strange: dict[str, Any]
) -> None:
    fake.behave = lambda body: {
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 30,
        "eval_count": 5,
        **strange,
    }
    with pytest.raises(PageFailed) as told:
        asked(fake)
    assert told.value.reason is Reason.LLM_ERROR


def test_a_page_that_always_kills_the_runner_does_not_keep_others_from_the_server(fake: FakeOllama) -> None:
    usual = fake.behave
    text = "an error was encountered while running the model: unexpected EOF"

    def behave(body: dict[str, Any]) -> dict[str, Any]:
        poison = "poison" in body["messages"][-1]["content"]
        return {"status": 500, "error": text} if poison else usual(body)

    fake.behave = behave

    async def main() -> Answer:
        async with ModelClient(fake.url, "fake", 20.0, sleep=no_wait) as client:
            await client.load(2_048)
            for _ in range(5):
                with pytest.raises(PageFailed) as told:
                    await client.chat(Request((Message("user", "poison"),), 100))
                assert told.value.reason is Reason.LLM_ERROR
            return await client.chat(ASKED)

    assert asyncio.run(main()).text


@pytest.mark.parametrize(("patience", "tries"), [(0.9, 1), (3600.0, TRIES)])
def test_a_request_is_tried_again_only_within_the_time_that_the_run_waits_for_a_server(
    fake: FakeOllama, patience: float, tries: int
) -> None:
    fake.behave = lambda body: {"status": 503, "error": "server busy, please try again."}

    async def main() -> None:
        async with ModelClient(fake.url, "fake", 20.0, sleep=no_wait, patience=patience) as client:
            await client.chat(ASKED)

    with pytest.raises(PageWaits):
        asyncio.run(main())
    assert len(fake.chats) == tries

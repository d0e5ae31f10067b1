"""Tool calls as text: found however the text is cut, and mended where models break them."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.acp.answer import Answer
from cortexd.acp.hermes import Reader, in_text, understand
from cortexd.acp.tools import TOOLS
from cortexd.protocol.events import Finished, TextDelta, Usage
from cortexd.protocol.request import ChatRequest, Message, Text, ToolCall

SAID = '<think>hm</think>I look. <tool_call>\n{"name": "list_dir", "arguments": {"path": "a<b"}}\n</tool_call>'


def read(pieces: list[str]) -> Answer:
    answer, reader = Answer(0), Reader(TOOLS, 0)
    for event in (*map(TextDelta, pieces), Finished("stop", Usage(1, 1))):
        for found in reader.feed(event):
            answer.add(found)
    return answer


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, len(SAID)), max_size=30))
def test_a_call_is_found_however_the_text_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(SAID)]
    message = read([SAID[a:b] for a, b in itertools.pairwise(places)]).message

    assert (message.text, message.reasoning) == ("I look. ", "hm")
    assert [(c.name, json.loads(c.arguments)) for c in message.tool_calls] == [("list_dir", {"path": "a<b"})]


def test_text_without_calls_stays_as_it_is_and_a_call_may_lack_its_last_tag() -> None:
    assert read(["a < b and <tool", " <thin"]).message.text == "a < b and <tool <thin"
    assert read([SAID.removesuffix("</tool_call>")]).message.tool_calls[0].name == "list_dir"


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "list_dir", "arguments": {"path": "a"}}',
        '```json\n{"name": "list_dir", "arguments": {"path": "a"}}\n```',
        '{"name": "list_dir", "arguments": {"path": "a",},}',
        '{"name": "list_dir", "arguments": {"path": "a"}',
        '{"name": "list_dir", "arguments": {"path": "a',
        "{'name': 'list_dir', 'arguments': {'path': 'a'}}",
        '{"name": "list_dir", "parameters": "{\\"path\\": \\"a\\"}"}',
        '{"tool": "list_dir", "path": "a"}',
    ],
)
def test_a_broken_call_is_mended(text: str) -> None:
    name, arguments = understand(text, TOOLS)

    assert (name, json.loads(arguments)) == ("list_dir", {"path": "a"})


def test_a_missing_name_is_told_by_the_arguments_where_only_one_tool_fits() -> None:
    assert understand('{"arguments": {"command": "ls"}}', TOOLS)[0] == "bash"
    assert understand('{"arguments": {"path": "a"}}', TOOLS)[0] == ""  # read_file or list_dir
    assert understand("ls -l", TOOLS) == ("", '{"unreadable": "ls -l"}')


def test_calls_and_results_go_back_as_text_in_turns_that_alternate() -> None:
    calls = (ToolCall("1", "bash", '{"command": "ls"}'), ToolCall("2", "list_dir", ""))
    results = (Message("tool", (Text("x"),), tool_call_id="1"), Message("tool", (Text("y"),), tool_call_id="2"))
    history = (Message("system", (Text("s"),)), Message("user", (Text("u"),)), Message("assistant", (), calls))
    made = in_text(ChatRequest("m", (*history, *results), TOOLS))

    assert [m.role for m in made.messages] == ["system", "user", "assistant", "user"] and made.tools == ()
    assert '"name":"edit_file"' in made.messages[0].text
    assert made.messages[2].text.count("<tool_call>") == 2
    assert made.messages[3].text.count("<tool_response>") == 2 and len(made.messages[3].content) == 1

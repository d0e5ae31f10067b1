"""The one change that the gateway may make to a body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.gateway.body import parse_chat_body, with_model

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.text() | st.just("model"), JSON), st.text(min_size=1), st.text(min_size=1), st.booleans())
def test_only_the_value_of_model_changes(rest: dict[str, Any], old: str, new: str, ascii_only: bool) -> None:
    body = rest | {"model": old, "nested": {"model": old, "list": [{"model": old}]}}
    raw = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    changed = with_model(raw, new)

    assert json.loads(changed.decode("utf-8", "surrogatepass")) == body | {"model": new}
    before, _, after = changed.partition(json.dumps(new).encode())
    assert raw.startswith(before) and (raw.endswith(after) or new in json.dumps(rest))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"b"}'),
        (b' {\n"model" \t:\r\n "a" , "x":1}', b' {\n"model" \t:\r\n "b" , "x":1}'),
        (b'{"x":"\\"model\\":\\"a\\"","model":"a"}', b'{"x":"\\"model\\":\\"a\\"","model":"b"}'),
        (b'{"x":"{[","model":"a","y":{"model":"a"}}', b'{"x":"{[","model":"b","y":{"model":"a"}}'),
        (b'{"mod\\u0065l":"a"}', b'{"mod\\u0065l":"b"}'),
        (b'{"model":"a","model":"a"}', b'{"model":"b","model":"b"}'),
        (b'{"x":"model","model":"a\\\\"}', b'{"x":"model","model":"b"}'),
    ],
)
def test_spacing_escapes_and_lookalikes_stay(raw: bytes, expected: bytes) -> None:
    assert with_model(raw, "b") == expected


def test_a_body_without_an_alias_is_the_same_object() -> None:
    raw = b'{"model": "m", "stream": true, "stream_options": {"include_usage": true}}'
    body = parse_chat_body(raw)

    assert body.for_model("m") is raw
    assert (body.stream, body.include_usage) == (True, True)

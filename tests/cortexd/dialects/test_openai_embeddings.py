"""OpenAI's embeddings, both directions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from cortexd.dialects.openai_embeddings import decode_response, encode_request, encode_response, parse_request
from cortexd.protocol.errors import ApiError
from cortexd.protocol.request import Embeddings

vectors = st.lists(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=4).map(tuple), min_size=1, max_size=3)


@given(vectors, st.sampled_from(("float", "base64")))
def test_decoding_what_was_encoded_gives_the_same_vectors(found: Any, encoding: Any) -> None:
    answer = Embeddings("m", tuple(found), 5)
    body = json.loads(json.dumps(encode_response(answer, encoding)))

    assert decode_response(body) == answer
    if encoding == "float":
        CreateEmbeddingResponse.model_validate(body)


@pytest.mark.parametrize(
    ("given_input", "read"), [("a", ("a",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2]], ((1,), (2,)))]
)
def test_inputs_are_text_or_tokens_one_or_many(given_input: Any, read: Any) -> None:
    body = {"model": "m", "input": given_input, "dimensions": 3, "encoding_format": "base64"}

    request = parse_request(json.dumps(body).encode())

    assert request.inputs == read
    assert parse_request(encode_request(request).body) == request


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [{}]}, "input[0]"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"encoding_format": []}, "encoding_format"),
        ({"model": 3}, "model"),
    ],
)
def test_a_wrong_member_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_request({"model": "m", "input": "x"} | more)

    assert (caught.value.status, caught.value.param) == (400, param)


def test_unknown_members_are_reported() -> None:
    assert parse_request({"model": "m", "input": "x", "user": "u", "zap": 1}).ignored == ("zap",)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"data": [{"index": 1, "embedding": [1]}]},
        {"data": [{"index": 0, "embedding": "?"}]},
        {"data": [{"index": 0, "embedding": "QQ=="}]},
    ],
)
def test_an_answer_that_makes_no_sense_is_a_502(body: Any) -> None:
    with pytest.raises(ApiError) as caught:
        decode_response(body)

    assert caught.value.status == 502


def test_an_error_body_is_that_error() -> None:
    with pytest.raises(ApiError, match="no such model"):
        decode_response({"error": {"message": "no such model", "type": "t", "code": "c"}})

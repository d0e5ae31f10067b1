"""OpenAI's responses: ``request`` parses, ``stream`` and ``response`` encode, ``client`` is the other side."""

from cortexd.dialects.openai_errors import decode_error, encode_error
from cortexd.dialects.openai_responses.client import StreamDecoder, decode_response
from cortexd.dialects.openai_responses.encode import encode_request
from cortexd.dialects.openai_responses.grammar import WireGrammar
from cortexd.dialects.openai_responses.request import ResponsesRequest, parse_request
from cortexd.dialects.openai_responses.response import encode_response
from cortexd.dialects.openai_responses.stored import encode_deleted, encode_input_items
from cortexd.dialects.openai_responses.stream import StreamEncoder

__all__ = [
    "ResponsesRequest",
    "StreamDecoder",
    "StreamEncoder",
    "WireGrammar",
    "decode_error",
    "decode_response",
    "encode_deleted",
    "encode_error",
    "encode_input_items",
    "encode_request",
    "encode_response",
    "parse_request",
]

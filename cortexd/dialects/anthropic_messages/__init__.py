"""Anthropic's messages: ``request`` parses, ``stream`` and ``response`` encode, ``client`` is the other side."""

from cortexd.dialects.anthropic_messages.client import StreamDecoder, decode_response
from cortexd.dialects.anthropic_messages.encode import encode_request
from cortexd.dialects.anthropic_messages.errors import decode_error, encode_error
from cortexd.dialects.anthropic_messages.grammar import WireGrammar
from cortexd.dialects.anthropic_messages.request import parse_count_tokens, parse_request
from cortexd.dialects.anthropic_messages.response import encode_count, encode_response
from cortexd.dialects.anthropic_messages.stream import KEEP_ALIVE, StreamEncoder

__all__ = [
    "KEEP_ALIVE",
    "StreamDecoder",
    "StreamEncoder",
    "WireGrammar",
    "decode_error",
    "decode_response",
    "encode_count",
    "encode_error",
    "encode_request",
    "encode_response",
    "parse_count_tokens",
    "parse_request",
]

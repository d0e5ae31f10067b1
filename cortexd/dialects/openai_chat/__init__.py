"""OpenAI chat completions: ``request`` parses, ``stream`` and ``response`` encode, ``client`` is the other side."""

from cortexd.dialects.openai_chat.client import StreamDecoder, decode_response
from cortexd.dialects.openai_chat.encode import encode_request
from cortexd.dialects.openai_chat.grammar import WireGrammar
from cortexd.dialects.openai_chat.request import parse_request
from cortexd.dialects.openai_chat.response import encode_response
from cortexd.dialects.openai_chat.stream import KEEP_ALIVE, StreamEncoder
from cortexd.dialects.openai_errors import decode_error, encode_error

__all__ = [
    "KEEP_ALIVE",
    "StreamDecoder",
    "StreamEncoder",
    "WireGrammar",
    "decode_error",
    "decode_response",
    "encode_error",
    "encode_request",
    "encode_response",
    "parse_request",
]

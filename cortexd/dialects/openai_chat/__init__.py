"""OpenAI chat completions: ``request`` parses, ``stream`` and ``response`` encode, ``client`` decodes."""

from cortexd.dialects.openai_chat.client import StreamDecoder
from cortexd.dialects.openai_chat.errors import decode_error, encode_error
from cortexd.dialects.openai_chat.request import parse_request
from cortexd.dialects.openai_chat.response import encode_response
from cortexd.dialects.openai_chat.stream import KEEP_ALIVE, StreamEncoder

__all__ = [
    "KEEP_ALIVE",
    "StreamDecoder",
    "StreamEncoder",
    "decode_error",
    "encode_error",
    "encode_response",
    "parse_request",
]

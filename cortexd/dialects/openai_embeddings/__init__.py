"""OpenAI embeddings: ``request`` parses, ``response`` encodes, ``client`` is the other side. There is no stream."""

from cortexd.dialects.openai_embeddings.client import decode_response, encode_request
from cortexd.dialects.openai_embeddings.request import parse_request
from cortexd.dialects.openai_embeddings.response import encode_response
from cortexd.dialects.openai_errors import decode_error, encode_error

__all__ = ["decode_error", "decode_response", "encode_error", "encode_request", "encode_response", "parse_request"]

"""The client side: requests to, and answers from, any server of text completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cortexd.dialects.choices import ChoicesDecoder
from cortexd.dialects.decoding import count, malformed, string
from cortexd.dialects.encoded import Encoded
from cortexd.dialects.openai_completions.logprobs import decode_logprobs
from cortexd.dialects.openai_completions.request import MOST_CHOICES
from cortexd.dialects.openai_errors import decode_error
from cortexd.dialects.sampling import encode_sampling
from cortexd.dialects.tokens import encode_texts
from cortexd.dialects.usage import decode_timing, decode_usage
from cortexd.protocol.events import Event, Started, TextDelta
from cortexd.protocol.request import CompletionRequest


def encode_request(request: CompletionRequest, *, model: str | None = None, extensions: bool = True) -> Encoded:
    """The body, for ``model`` where the upstream has another name for it. A stream is asked for its usage always.

    ``extensions`` false keeps to what OpenAI itself knows.
    """
    sampling, dropped = encode_sampling(request.sampling, "max_tokens", extensions=extensions)
    body: dict[str, Any] = {"model": model or request.model, "prompt": encode_texts(request.prompts)} | sampling
    if request.n != 1:
        body["n"] = request.n
    if request.echo:
        body["echo"] = True
    if request.top_logprobs is not None:
        body["logprobs"] = request.top_logprobs
    if request.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Encoded(body, tuple(dropped))


class StreamDecoder(ChoicesDecoder):
    """Feed bytes as they come, cut anywhere, then ``close``. The events follow ``protocol.grammar``."""

    def _payload(self, body: dict[str, Any]) -> Iterator[Event]:
        if body.get("error") is not None:
            yield from self._fail(decode_error(body, 502))
            return
        if not isinstance(body.get("choices"), list):
            yield from self._fail(malformed("the answer is no text completion"))
            return
        yield from self._start(Started(str(body.get("id", "")), str(body.get("model", "")), count(body.get("created"))))
        if body.get("usage") is not None:
            self._usage = decode_usage(body["usage"])
        self._timing = decode_timing(body.get("timing")) or self._timing
        for choice in body["choices"]:
            index = self._index(choice, MOST_CHOICES)
            text, logprobs = string(choice.get("text") or ""), decode_logprobs(choice.get("logprobs"))
            if text or logprobs:
                yield from self._within("text", index)
                yield TextDelta(text, index, logprobs)
            self._note_end(index, choice)


def decode_response(body: Any) -> list[Event]:
    """The events of a plain answer, which has the form of one chunk; a last ``Failed`` when it makes no sense."""
    return StreamDecoder().whole(body)

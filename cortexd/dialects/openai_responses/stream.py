"""Events to the named server-sent events of responses: ``type`` and a gapless ``sequence_number`` in every payload."""

from __future__ import annotations

from typing import Any

from cortexd.dialects.finish import TABLE
from cortexd.dialects.openai_errors import encode_error
from cortexd.dialects.openai_responses.parts import Part, part_for
from cortexd.dialects.openai_responses.request import ResponsesRequest
from cortexd.dialects.openai_responses.tools import local_names
from cortexd.dialects.sse import COMMENT, named
from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import Event, Failed, Finished, PartEnded, PartStarted, Started, Usage


class StreamEncoder:
    """One stream of one choice. ``response`` is the response object so far; whole after the last event."""

    def __init__(
        self, request: ResponsesRequest, *, started: Started | None = None, request_id: str | None = None
    ) -> None:
        """With ``started``, a silence before the first event can already be filled with this dialect's own events; the
        ``Started`` that comes later is then taken for this one. ``request_id`` goes into errors.
        """
        self._request = request
        self._names = local_names(request.chat.tools)
        self._ahead = started
        self._request_id = request_id
        self._sequence = 0
        self._part: Part | None = None
        self.response: dict[str, Any] = {}

    def keep_alive(self) -> bytes:
        """Bytes for a silence: ``response.in_progress``, a comment before there is a response."""
        if self.response:
            return self._write([self._progress("response.in_progress")])
        return COMMENT if self._ahead is None else self._write(self._begin(self._ahead))

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; may be empty."""
        return self._write(self._payloads(event))

    def _payloads(self, event: Event) -> list[dict[str, Any]]:
        match event:
            case Started():
                return [] if self.response else self._begin(event)
            case PartStarted():
                if event.choice:
                    raise ValueError("this wire has one choice")
                self._part = part_for(event, self._identity(), len(self.response["output"]), self._names)
                return self._part.begin()
            case PartEnded():
                if self._part is None:
                    raise ValueError("no part is open")
                payloads = self._part.end(encrypted=self._request.encrypted_reasoning)
                self.response["output"].append(self._part.item)
                return payloads
            case Finished():
                return [self._end(event)]
            case Failed():
                return self._fail(event.error)
            case _:
                if self._part is None:
                    raise ValueError("no part is open")
                return self._part.add(event)

    def _write(self, payloads: list[dict[str, Any]]) -> bytes:
        out = b""
        for payload in payloads:
            out += named({"type": payload["type"], "sequence_number": self._sequence} | payload)
            self._sequence += 1
        return out

    def _identity(self) -> str:
        return f"{self.response['id'].removeprefix('resp_')}_{len(self.response['output'])}"

    def _begin(self, started: Started) -> list[dict[str, Any]]:
        self.response = {
            "id": started.id,
            "object": "response",
            "created_at": started.created,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": started.model,
            "output": [],
            "usage": None,
        } | self._request.echo
        return [self._progress("response.created"), self._progress("response.in_progress")]

    def _progress(self, kind: str) -> dict[str, Any]:
        return {"type": kind, "response": self.response | {"output": []}}

    def _end(self, finished: Finished) -> dict[str, Any]:
        words = TABLE[finished.reason]
        details = None if words.incomplete is None else {"reason": words.incomplete}
        self.response |= {
            "status": words.status,
            "incomplete_details": details,
            "usage": encode_usage(finished.usage),
        }
        return {"type": f"response.{words.status}", "response": self.response}

    def _fail(self, error: ApiError) -> list[dict[str, Any]]:
        begun = [] if self.response or self._ahead is None else self._begin(self._ahead)
        told = encode_error(error, self._request_id)["error"]
        told["code"] = told["code"] or "server_error"
        if not self.response:
            return [{"type": "error", "error_type": told.pop("type")} | told]
        self.response |= {"status": "failed", "error": told}
        return [*begun, {"type": "response.failed", "response": self.response}]


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The usage object of responses."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }

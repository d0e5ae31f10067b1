"""POST /v1/chat/completions: the client's bytes to a neuron, and its answer back."""

from __future__ import annotations

import time

import falcon

from cortexd.gateway.body import ChatBody, parse_chat_body
from cortexd.gateway.core import Core
from cortexd.gateway.errors import ClientGone
from cortexd.gateway.exchange import Answer, Exchange, RefusedByNeuron, Waiting
from cortexd.gateway.reading import read_body
from cortexd.gateway.relay import Meter, StreamBody, not_recorded, read_whole
from cortexd.gateway.upstream import Response
from cortexd.gateway.watch import ClientWatch
from cortexd.ledger.row import UsageRow
from cortexd.protocol.errors import ApiError

# A stream whose neuron has said nothing for this long starts with keep-alives; before that an error has its own status.
GRACE_S = 10.0
CLIENT_CLOSED = 499

# Hop by hop, ours to set, or not for a neuron's eyes.
_NOT_FORWARDED = {
    "HTTP_HOST", "HTTP_CONNECTION", "HTTP_KEEP_ALIVE", "HTTP_PROXY_CONNECTION", "HTTP_TE", "HTTP_TRAILER",
    "HTTP_UPGRADE", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_ACCEPT_ENCODING", "HTTP_AUTHORIZATION",
    "HTTP_X_API_KEY", "HTTP_COOKIE", "HTTP_PROXY_AUTHORIZATION", "HTTP_X_REQUEST_ID",
    "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE",
}  # fmt: skip
_NOT_RETURNED = {
    "connection", "keep-alive", "transfer-encoding", "content-length", "content-type", "trailer", "upgrade", "server",
    "date", "x-request-id", "set-cookie", "proxy-authenticate", "te",
}  # fmt: skip


class ChatCompletions:
    """The Falcon resource."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with JSON or with server-sent events, as the body asks."""
        row = UsageRow(request_id=req.context.request_id, started_at=time.time(), dialect="openai_chat")
        meter = Meter(self._core, row)
        row.generation = self._core.snapshot.generation
        watch: ClientWatch | None = None
        try:
            key = self._core.authenticate(req.get_header("Authorization"))
            if key is not None:
                row.account, row.key_id = key.account, key.key_id
            body = parse_chat_body(read_body(req, self._core.body_limit))
            row.requested_model, row.streamed = body.model, body.stream
            watch = ClientWatch(req.env["gunicorn.socket"])
            self._answer(req, resp, body, meter, watch)
        except RefusedByNeuron as refusal:
            _stop(watch)
            meter.settle(refusal.status, "error", refusal.error.code or refusal.error.type)
            resp.status, resp.content_type, resp.data = refusal.status, "application/json", refusal.body
            if refusal.error.retry_after is not None:
                resp.set_header("Retry-After", str(refusal.error.retry_after))
        except ApiError as error:
            _stop(watch)
            meter.settle(error.status, "error", error.code or error.type)
            raise
        except ClientGone:
            _stop(watch)
            meter.settle(CLIENT_CLOSED, "cancelled", "client_gone")
            resp.status = f"{CLIENT_CLOSED} Client Closed Request"
        except BaseException:
            _stop(watch)
            meter.settle(500, "error", "internal_error")
            raise

    def _answer(
        self, req: falcon.Request, resp: falcon.Response, body: ChatBody, meter: Meter, watch: ClientWatch
    ) -> None:
        exchange = Exchange(self._core, body, _headers_for_neuron(req), meter.row, watch)
        pending = exchange.open()
        try:
            answer = _begin(pending, exchange, meter.row, patient=not body.stream)
            if answer is not None:
                _pass_headers(answer.response, resp)
            is_stream = body.stream and (answer is None or _is_event_stream(answer.response))
            if not is_stream and answer is not None:
                resp.data = read_whole(self._core, answer, watch, meter)
                resp.status = answer.response.status
                exchange.close()
                if not meter.settle(answer.response.status, "ok"):
                    raise not_recorded()
                watch.stop()
                return
        except BaseException:
            pending.close()
            exchange.close()
            raise
        resp.status = 200
        resp.content_type = "text/event-stream; charset=utf-8"
        resp.set_header("Cache-Control", "no-cache")
        resp.set_header("X-Accel-Buffering", "no")
        resp.stream = StreamBody(self._core, exchange, pending, answer, watch, meter, include_usage=body.include_usage)


def _begin(pending: Waiting, exchange: Exchange, row: UsageRow, *, patient: bool) -> Answer | None:
    """Run the exchange to its answer; None for a stream that should show signs of life first."""
    waited = 0.0
    try:
        while True:
            next(pending)
            waited += exchange.step_s
            if not patient and (row.cold_start or waited >= GRACE_S):
                return None
    except StopIteration as end:
        answer: Answer = end.value
        return answer


def _stop(watch: ClientWatch | None) -> None:
    if watch is not None:
        watch.stop()


def _is_event_stream(response: Response) -> bool:
    return response.header("content-type").startswith("text/event-stream")


def _headers_for_neuron(req: falcon.Request) -> list[tuple[str, str]]:
    headers = [
        (key[5:].replace("_", "-").title(), value)
        for key, value in req.env.items()
        if key.startswith("HTTP_") and key not in _NOT_FORWARDED and not key.startswith("HTTP_X_CORTEXD_")
    ]
    headers += [
        ("Content-Type", "application/json"),
        ("X-Request-Id", req.context.request_id),
        # A stream then always ends with a usage chunk, which the client gets only if it asked for it.
        ("X-Cortexd-Meter", "1"),
    ]
    return headers


def _pass_headers(response: Response, resp: falcon.Response) -> None:
    resp.content_type = response.header("content-type") or "application/json"
    for name, value in response.headers:
        if name not in _NOT_RETURNED and not name.startswith("x-cortexd-"):
            resp.append_header(name, value)

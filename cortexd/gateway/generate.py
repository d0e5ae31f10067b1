"""A request for generated text, in any dialect: to a neuron, and its answer back."""

from __future__ import annotations

import time

import falcon

from cortexd.gateway.access import authenticate
from cortexd.gateway.core import Core
from cortexd.gateway.errors import ClientGone
from cortexd.gateway.exchange import Answer, Exchange, RefusedByNeuron, Waiting
from cortexd.gateway.reading import read_body
from cortexd.gateway.relay import Meter, StreamBody, not_recorded, read_whole
from cortexd.gateway.upstream import Response
from cortexd.gateway.watch import ClientWatch
from cortexd.gateway.wire import ClientRequest, Dialect
from cortexd.ledger.row import UsageRow
from cortexd.protocol.errors import ApiError
from cortexd.routing.snapshot import KeyView

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


class Generate:
    """The Falcon resource of one dialect."""

    def __init__(self, core: Core, dialect: Dialect) -> None:
        self._core = core
        self._dialect = dialect

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with JSON or with server-sent events, as the body asks."""
        row = UsageRow(request_id=req.context.request_id, started_at=time.time(), dialect=self._dialect.name)
        meter = Meter(self._core, row)
        row.generation = self._core.snapshot.generation
        watch: ClientWatch | None = None
        try:
            key = authenticate(self._core, req)
            if key is not None:
                row.account, row.key_id = key.account, key.key_id
            body = self._dialect.read(read_body(req, self._core.body_limit))
            row.requested_model, row.streamed = body.model, body.stream
            watch = ClientWatch(req.env["gunicorn.socket"])
            self._answer(req, resp, body, key, meter, watch)
        except RefusedByNeuron as refusal:
            _stop(watch)
            meter.settle(refusal.status, "error", refusal.error.code or refusal.error.type)
            if not self._dialect.verbatim:
                raise body.named(refusal.error) from None
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
        self,
        req: falcon.Request,
        resp: falcon.Response,
        body: ClientRequest,
        key: KeyView | None,
        meter: Meter,
        watch: ClientWatch,
    ) -> None:
        if body.ignored:
            resp.set_header("X-Cortexd-Ignored", ", ".join(body.ignored))
        exchange = Exchange(self._core, body, key, _headers_for_neuron(req), meter.row, watch)
        pending = exchange.open()
        try:
            answer = _begin(pending, exchange, meter.row, patient=not body.stream)
            if answer is not None:
                if self._dialect.verbatim:
                    _pass_headers(answer.response, resp)
                resp.set_header("X-Cortexd-Model", answer.model)
            is_stream = body.stream and (answer is None or self._streams(answer))
            if not is_stream and answer is not None:
                resp.data = read_whole(self._core, body, answer, watch, meter)
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
        stream = body.outflow(meter.row.request_id, exchange.step_s)
        resp.stream = StreamBody(self._core, exchange, pending, answer, watch, meter, stream)

    def _streams(self, answer: Answer) -> bool:
        """Whether a neuron that was asked for a stream sends one. Raises ApiError where nothing else will do."""
        if answer.response.header("content-type").startswith("text/event-stream"):
            return True
        if not self._dialect.verbatim:
            message = f"Neuron '{answer.neuron}' was asked for a stream, and did not send one."
            raise ApiError(502, "api_error", "upstream_malformed_response", message)
        return False


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

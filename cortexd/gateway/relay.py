"""A neuron's answer on its way to the client, metered; the row is committed before the last byte goes."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

from cortexd.gateway.core import Core
from cortexd.gateway.errors import ClientGone
from cortexd.gateway.exchange import Answer, Exchange, RefusedByNeuron, Waiting
from cortexd.gateway.upstream import UpstreamError
from cortexd.gateway.watch import ClientWatch
from cortexd.gateway.wire import ClientRequest, Outflow
from cortexd.ledger.row import Outcome, UsageRow
from cortexd.protocol.errors import ApiError


def not_recorded() -> ApiError:
    """Neither database nor disk took the row: promise 2 forbids the answer's last byte."""
    message = "The answer is withheld: its usage could not be recorded."
    return ApiError(503, "api_error", "usage_not_recorded", message, retry_after=5)


class Meter:
    """The row of one request and its clock. ``settle`` counts once, whatever happens afterwards."""

    def __init__(self, core: Core, row: UsageRow) -> None:
        self.row = row
        self._core = core
        self._started = time.monotonic()
        self._settled = False

    def settle(self, status: int, outcome: Outcome, code: str | None = None) -> bool:
        """Make the row durable; False when that failed. ``status`` is what the client saw."""
        if self._settled:
            return True
        self._settled = True
        row = self.row
        row.duration_s = time.monotonic() - self._started
        row.status, row.outcome, row.error_code = status, outcome, code
        return self._core.settle(row)

    def note_usage(self, usage: dict[str, Any] | None) -> None:
        """Take the token counts of an OpenAI ``usage`` object; what is missing counts as none."""
        if isinstance(usage, dict):
            details = usage.get("prompt_tokens_details")
            self.row.prompt_tokens = _count(usage.get("prompt_tokens"))
            self.row.completion_tokens = _count(usage.get("completion_tokens"))
            self.row.cached_tokens = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0

    def note_timing(self, timing: Any) -> None:
        """A plain answer shows no first token: the neuron's own times (seconds) stand for it, where it tells them."""
        if not isinstance(timing, dict):
            return
        times = [timing.get(key) for key in ("queue_s", "prefill_s", "decode_s")]
        known = [float(t) for t in times if isinstance(t, int | float) and t >= 0]
        if len(known) < len(times):
            return
        self.row.ttft_s = known[0] + known[1]
        if known[2] > 0 and self.row.completion_tokens > 1:
            self.row.tokens_per_second = (self.row.completion_tokens - 1) / known[2]

    def note_stream(self, stream: Outflow) -> None:
        """Take what a stream showed so far. Without a usage chunk its chunks stand for tokens."""
        row = self.row
        row.finish_reason = stream.finish_reason
        if stream.usage is not None:
            self.note_usage(stream.usage)
        if stream.first_token_at is None or stream.last_token_at is None:
            return
        if stream.usage is None:
            row.completion_tokens = stream.token_chunks
        row.ttft_s = stream.first_token_at - self._started
        window = stream.last_token_at - stream.first_token_at
        if row.completion_tokens > 1 and window > 0:
            row.tokens_per_second = (row.completion_tokens - 1) / window


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def read_whole(core: Core, request: ClientRequest, answer: Answer, watch: ClientWatch, meter: Meter) -> bytes:
    """The body of an answer that is not streamed, with its usage noted. Raises ApiError or ClientGone."""
    pieces: list[bytes] = []
    silent = 0.0
    step = core.settings.keepalive_interval_s
    while True:
        try:
            piece = answer.response.read(step)
        except TimeoutError:
            silent += step
            if silent >= core.settings.idle_timeout_s:
                raise _broken(answer, f"it said nothing for {silent:.0f} s") from None
            continue
        except UpstreamError as e:
            watch.check()
            raise _broken(answer, str(e)) from None
        if not piece:
            break
        silent = 0.0
        pieces.append(piece)
    try:
        whole = request.whole(b"".join(pieces))
    except ValueError as e:
        message = f"Neuron '{answer.neuron}' answered with something that is {e}."
        raise ApiError(502, "api_error", "upstream_malformed_response", message) from None
    meter.note_usage(whole.usage)
    meter.note_timing(whole.timing)
    meter.row.finish_reason = whole.finish_reason
    return whole.content


def _broken(answer: Answer, why: str) -> ApiError:
    return ApiError(502, "api_error", "upstream_read_failed", f"Neuron '{answer.neuron}' broke off: {why}.")


class StreamBody:
    """The WSGI iterable of a streamed answer. ``pending`` is an exchange still on its way to ``answer``."""

    def __init__(
        self,
        core: Core,
        exchange: Exchange,
        pending: Waiting,
        answer: Answer | None,
        watch: ClientWatch,
        meter: Meter,
        stream: Outflow,
    ) -> None:
        self._core = core
        self._exchange = exchange
        self._watch = watch
        self._meter = meter
        self._stream = stream
        self._pending = pending
        self._events = self._run(answer)

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """gunicorn calls this at the end, and when a write failed: the client left then."""
        self._watch.stop()
        self._events.close()
        self._pending.close()
        self._exchange.close()
        self._meter.note_stream(self._stream)
        self._meter.settle(200, "cancelled", "client_gone")

    def _run(self, answer: Answer | None) -> Generator[bytes, None, None]:
        row = self._meter.row
        try:
            while answer is None:
                yield self._stream.keep_alive(time.monotonic())
                try:
                    next(self._pending)
                except StopIteration as end:
                    answer = end.value
            yield from self._relay(answer)
        except (ApiError, RefusedByNeuron) as e:
            error = e.error if isinstance(e, RefusedByNeuron) else e
            self._meter.note_stream(self._stream)
            self._meter.settle(200, "error", error.code or error.type)
            yield self._stream.fail(error, row.request_id)
        except ClientGone:
            return  # close() settles

    def _relay(self, answer: Answer) -> Iterator[bytes]:
        stream, step, silent = self._stream, self._exchange.step_s, 0.0
        while True:
            try:
                piece = answer.response.read(step)
            except TimeoutError:
                silent += step
                if silent >= self._core.settings.idle_timeout_s:
                    raise _broken(answer, f"it said nothing for {silent:.0f} s") from None
                yield stream.keep_alive(time.monotonic())
                continue
            except UpstreamError as e:
                self._watch.check()
                raise _broken(answer, str(e)) from None
            silent = 0.0
            if not piece:
                break
            if out := stream.feed(piece, time.monotonic()):
                yield out
            if stream.over:
                break
        self._watch.check()
        stream.end(time.monotonic())
        if not stream.ended:
            raise _broken(answer, "its stream ended without a finish reason")
        self._meter.note_stream(stream)
        self._exchange.close()
        if stream.error is not None:
            code = stream.error.get("code") or stream.error.get("type") or "upstream_error"
            self._meter.settle(200, "error", str(code))
        elif not self._meter.settle(200, "ok"):
            raise not_recorded()
        if final := stream.final:
            yield final

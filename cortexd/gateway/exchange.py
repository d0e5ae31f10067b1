"""From a request to the beginning of a neuron's answer: decide, wait for a cold load, try replicas."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from dataclasses import replace

import gevent
import orjson

from cortexd.credentials import token_file
from cortexd.dialects.openai_errors import decode_error
from cortexd.gateway import metrics
from cortexd.gateway.core import DOWN_S, Core
from cortexd.gateway.upstream import Connection, Response, UpstreamError
from cortexd.gateway.watch import ClientWatch
from cortexd.gateway.wire import ClientRequest
from cortexd.ledger.row import UsageRow
from cortexd.protocol.errors import ApiError, unavailable
from cortexd.routing import choose as routing
from cortexd.routing.snapshot import KeyView

log = logging.getLogger("cortexd.gateway")

_ERROR_BODY_LIMIT = 64 << 10

# A step that yields says: nothing yet, a keep-alive is due.
Waiting = Generator[None, None, "Answer"]


class Answer:
    """A neuron's answer from its first byte on, and who gives it: the neuron, and the id of the model."""

    def __init__(self, neuron: str, model: str, response: Response) -> None:
        self.neuron = neuron
        self.model = model
        self.response = response


class RefusedByNeuron(Exception):
    """A complete error answer; ``body`` is in OpenAI's shape, and goes to the client as it is."""

    def __init__(self, status: int, body: bytes, error: ApiError) -> None:
        super().__init__(error.message)
        self.status = status
        self.body = body
        self.error = error


class Exchange:
    """One request's way to a neuron. Fills ``row`` on the way; ``close`` must be called once."""

    def __init__(
        self,
        core: Core,
        body: ClientRequest,
        key: KeyView | None,
        headers: list[tuple[str, str]],
        row: UsageRow,
        watch: ClientWatch,
    ) -> None:
        self._core = core
        self._body = body
        self._key = key
        self._headers = headers
        self._row = row
        self._watch = watch
        self._busy: tuple[str, str] | None = None
        self._response: Response | None = None
        self.step_s = core.settings.keepalive_interval_s

    def open(self) -> Waiting:
        """The answer of a neuron that begins with a success status.

        Yields each time that ``step_s`` passed with nothing to show. Raises ApiError, RefusedByNeuron or ClientGone.
        Where the model cannot be served, the first of its fallbacks that can be answers; where none can, the client
        hears of the model that it asked for.
        """
        try:
            return (yield from self._serve(self._body.model))
        except (ApiError, RefusedByNeuron) as failure:
            if not _may_fall_back(failure):
                raise
            answer = yield from self._fall_back()
            if answer is None:
                raise
            return answer

    def _fall_back(self) -> Generator[None, None, Answer | None]:
        model, neuron = self._row.model, self._row.neuron
        for fallback in routing.fallbacks(self._core.snapshot, self._body.model):
            try:
                answer = yield from self._serve(fallback)
            except (ApiError, RefusedByNeuron) as e:
                log.info("%s cannot answer for %s: %s", fallback, model, e)
            else:
                log.info("%s answers for %s", fallback, model)
                metrics.fell_back(answer.model, answer.neuron)
                return answer
        self._row.model, self._row.neuron = model, neuron
        return None

    def _serve(self, name: str) -> Waiting:
        """The answer of the model called ``name``, from one of its replicas or after a cold load."""
        tried: set[str] = set()
        failure: ApiError | RefusedByNeuron | None = None
        loaded: str | None = None
        may_load = True
        while True:
            model, replicas = self._decide(name, failure)
            if loaded is not None:
                replicas = (loaded, *(r for r in replicas if r != loaded))
                loaded = None
            for neuron in replicas:
                if neuron in tried:
                    continue
                tried.add(neuron)
                outcome = yield from self._try(neuron, model)
                if isinstance(outcome, Answer):
                    return outcome
                failure = outcome
            gone = isinstance(failure, RefusedByNeuron) and failure.status == 404
            if failure is not None and not gone:
                raise failure
            if not may_load:
                raise failure or unavailable(f"Model '{model}' was loaded and left again.", retry_after=3)
            loaded = yield from self._cold_load(model)
            may_load = False
            if loaded is not None:
                tried.discard(loaded)

    def close(self) -> None:
        """Give back what the exchange holds: the connection (closed unless it was read to its end), its place."""
        self._watch.guard(None)
        if self._response is not None:
            self._core.pool.give_back(self._response)
            self._response = None
        if self._busy is not None:
            self._core.end(*self._busy)
            self._busy = None

    def _decide(self, name: str, failure: ApiError | RefusedByNeuron | None) -> tuple[str, tuple[str, ...]]:
        """Model id and the replicas to try, none for a cold load. Raises ApiError for a refusal."""
        core = self._core
        decision = routing.choose(
            core.snapshot,
            name,
            core.in_flight,
            time.monotonic(),
            task=self._body.task,
            down_until=core.down_until,
            key=self._key,
            output=self._body.output,
        )
        match decision:
            case routing.Refuse(error, model):
                if model is not None:
                    self._row.model = model.id
                raise failure or error
            case routing.ColdLoad(model):
                self._row.model = model.id
                return model.id, ()
            case routing.Route(model, replicas):
                self._row.model = model.id
                return model.id, replicas

    def _cold_load(self, model: str) -> Generator[None, None, str | None]:
        self._row.cold_start = True
        load = self._core.cold_loads.follow(model)
        while not load.ended.is_set():
            gevent.wait([load.ended, self._watch.gone], timeout=self.step_s, count=1)
            self._watch.check()
            if not load.ended.is_set():
                yield
        if load.error is not None:
            raise replace(load.error)  # others wait for the same load: an exception of one's own
        return load.neuron

    def _try(self, neuron: str, model: str) -> Generator[None, None, Answer | ApiError | RefusedByNeuron]:
        """Ask one neuron. What it returns instead of an answer is a reason to ask the next one."""
        core = self._core
        view = core.snapshot.neurons.get(neuron)
        if view is None:
            return unavailable(f"Neuron '{neuron}' left the fleet.", retry_after=3)
        headers = list(self._headers)
        if view.token_ref:
            try:
                headers.append(("Authorization", "Bearer " + core.tokens.get(token_file(view.name, view.token_ref))))
            except OSError as e:
                message = f"The token of neuron '{neuron}' cannot be read: {e.strerror}."
                return ApiError(503, "api_error", "neuron_token_unreadable", message)
        self._row.neuron = neuron
        self._busy = (neuron, model)
        core.begin(neuron, model)
        try:
            response = yield from self._ask(view.endpoint, headers, self._body.for_model(model))
            if response.status < 400:
                return Answer(neuron, model, response)
            refusal = yield from self._refusal(neuron, response)
            if isinstance(refusal, RefusedByNeuron) and refusal.error.code == "route_not_found":
                message = f"Neuron '{neuron}' does not serve {self._body.path}."
                refusal = ApiError(501, "api_error", "not_implemented", message)
        except UpstreamError as e:
            self._watch.check()
            refusal = self._unreachable(neuron, e)
        self.close()
        final = isinstance(refusal, RefusedByNeuron) and refusal.status < 500 and refusal.status != 404
        if final:
            raise refusal
        return refusal

    def _ask(self, endpoint: str, headers: list[tuple[str, str]], body: bytes) -> Generator[None, None, Response]:
        while True:
            connection = self._core.pool.take(endpoint)
            self._watch.guard(connection)
            try:
                connection.request(self._body.path, headers, body)
                self._response = yield from self._first_byte(connection)
                return self._response
            except UpstreamError as e:
                connection.close()
                self._watch.check()
                # It rested and was closed meanwhile: a fresh connection, the same neuron. Ends when none rests.
                if e.sent or connection.idle_since == 0.0:
                    raise
            except BaseException:
                connection.close()
                raise

    def _first_byte(self, connection: Connection) -> Generator[None, None, Response]:
        waited = 0.0
        while True:
            try:
                return connection.response(self.step_s)
            except TimeoutError:
                waited += self.step_s
                if waited >= self._core.settings.idle_timeout_s:
                    raise UpstreamError(f"it said nothing for {waited:.0f} s", sent=True) from None
                yield

    def _refusal(self, neuron: str, response: Response) -> Generator[None, None, ApiError | RefusedByNeuron]:
        body = bytearray()
        waited = 0.0
        while len(body) < _ERROR_BODY_LIMIT:
            try:
                piece = response.read(self.step_s)
            except TimeoutError:
                waited += self.step_s
                if waited >= self._core.settings.idle_timeout_s:
                    raise UpstreamError("its error answer did not end", sent=True) from None
                yield
                continue
            if not piece:
                break
            body += piece
        return _read_refusal(neuron, response, bytes(body))

    def _unreachable(self, neuron: str, error: UpstreamError) -> ApiError:
        if error.sent:
            message = f"Neuron '{neuron}' failed before it answered: {error}."
            return ApiError(502, "api_error", "upstream_read_failed", message)
        self._core.down_until[neuron] = time.monotonic() + DOWN_S
        message = f"Neuron '{neuron}' cannot be reached: {error}."
        return unavailable(message, retry_after=3, code="upstream_unreachable")


def _may_fall_back(failure: ApiError | RefusedByNeuron) -> bool:
    """Whether another model may help: not for what the client can change, nor where the neuron says when to return."""
    if isinstance(failure, RefusedByNeuron):
        return failure.status >= 500 and failure.error.retry_after is None
    return failure.status >= 500


def _read_refusal(neuron: str, response: Response, body: bytes) -> ApiError | RefusedByNeuron:
    retry = response.header("retry-after")
    retry_after = int(retry) if retry.isdigit() else None
    try:
        parsed = orjson.loads(body)
        if not parsed["error"].keys() >= {"type", "message"}:
            raise KeyError
        error = replace(decode_error(parsed, response.status), retry_after=retry_after)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        status = response.status if response.status < 500 else 502
        text = body[:300].decode("utf-8", "replace").strip()
        kind = "invalid_request_error" if status < 500 else "api_error"
        message = f"Neuron '{neuron}' answered {response.status}: {text or 'no text'}"
        return ApiError(status, kind, "upstream_malformed_response", message, retry_after=retry_after)
    return RefusedByNeuron(response.status, body, error)

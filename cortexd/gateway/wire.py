"""What the way of a request asks of a dialect: chat passes bytes through, the others are translated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cortexd.protocol.errors import ApiError


@dataclass(frozen=True, slots=True)
class Whole:
    """A plain answer: the bytes for the client, and what the ledger takes from it, in the words of OpenAI's chat."""

    content: bytes
    usage: dict[str, Any] | None
    timing: Any
    finish_reason: str | None


class Outflow(Protocol):
    """A streamed answer on its way from a neuron's bytes to the client's. Times are on any one clock, in seconds."""

    first_token_at: float | None
    last_token_at: float | None
    token_chunks: int
    usage: dict[str, Any] | None
    finish_reason: str | None
    error: dict[str, Any] | None

    @property
    def final(self) -> bytes:
        """The bytes that end the stream, kept until the usage row is committed; empty where nothing is left to say."""

    @property
    def ended(self) -> bool:
        """Whether the neuron said why its answer ends."""

    @property
    def over(self) -> bool:
        """Whether the neuron's further bytes do not matter."""

    def feed(self, data: bytes, now: float) -> bytes:
        """What may go on to the client of the bytes so far."""

    def end(self, now: float) -> None:
        """The neuron's body ended."""

    def keep_alive(self, now: float) -> bytes:
        """Bytes for a silence."""

    def fail(self, error: ApiError, request_id: str) -> bytes:
        """The end of a stream that cannot go on."""


class ClientRequest(Protocol):
    """A client's request: what routing needs to know, and the two translations.

    ``output`` is the member that bounds the answer, with its tokens. ``path`` is the neuron's route, ``task`` what the
    model must be for. ``ignored`` names members without effect.
    """

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool: ...
    @property
    def output(self) -> tuple[str, int] | None: ...
    @property
    def path(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def ignored(self) -> tuple[str, ...]: ...

    def named(self, refusal: ApiError) -> ApiError:
        """A neuron's refusal, with the client's words for the members that it names."""

    def for_model(self, model_id: str) -> bytes:
        """The body for a neuron that serves ``model_id``."""

    def outflow(self, request_id: str, interval_s: float) -> Outflow:
        """For one streamed answer; ``interval_s`` is the silence that a keep-alive is due for."""

    def whole(self, body: bytes) -> Whole:
        """A plain answer of a neuron. Raises ApiError for its failure, ValueError for what makes no sense."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """``name`` as in the ledger; ``read`` raises ApiError 400.

    ``verbatim``: a neuron's own bytes and headers go to the client, its errors too.
    """

    name: str
    read: Callable[[bytes], ClientRequest]
    verbatim: bool = False

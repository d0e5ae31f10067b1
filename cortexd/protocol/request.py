"""What a client asks for, in no dialect's words. Frozen values; sequences are tuples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

Role = Literal["system", "developer", "user", "assistant", "tool"]

# What a server may lack. A dialect refuses a request that asks for one of them, naming the field, unless its caller
# says that it can serve it.
Feature = Literal["images", "tool_choice", "response_format", "logprobs", "choices", "penalties", "logit_bias", "min_p"]
NO_FEATURES: frozenset[Feature] = frozenset()
ALL_FEATURES: frozenset[Feature] = frozenset(get_args(Feature))


@dataclass(frozen=True, slots=True)
class Text:
    """A run of text, verbatim."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: ``url`` is ``data:TYPE;base64,…`` or an address. ``detail`` is the wished resolution."""

    url: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant made; ``arguments`` is the JSON text exactly as the client sent it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``content`` is empty for an assistant turn that only calls tools.

    Within an assistant turn reasoning comes first, then content, then calls; what a client interleaved differently
    becomes several turns in a row. ``reasoning_signature`` is opaque. ``tool_failed`` marks a tool's result as an
    error.
    """

    role: Role
    content: tuple[Text | Image, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None
    reasoning_signature: str | None = None
    tool_failed: bool = False

    @property
    def text(self) -> str:
        """The text parts joined with nothing between them."""
        return "".join(part.text for part in self.content if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; ``parameters`` is its JSON Schema.

    ``namespace`` is the group that the client put it in; ``name`` is then qualified with it, and unique.
    """

    name: str
    description: str | None = None
    parameters: dict[str, object] = field(default_factory=dict)
    strict: bool | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The one function that the model must call."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form of the answer's text: any JSON object, or what ``schema`` describes."""

    kind: Literal["json_object", "json_schema"]
    schema: dict[str, object] = field(default_factory=dict)
    name: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """Whether the model should reason first. ``budget_tokens`` bounds it, where given."""

    mode: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. ``None`` means: the model's default, then the engine's.

    ``temperature`` 0 is greedy. ``max_tokens`` counts generated tokens. ``logit_bias`` pairs token ids with what is
    added to them. ``stop_token_ids`` end the answer as the model's own end tokens do.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    min_p: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    stop_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to continue. ``model`` is the id or alias that the client wrote.

    ``n`` is the number of choices, ``top_logprobs`` how many alternatives to tell per token (None: no logprobs at all).
    ``ignored`` names what the client sent and no version of its dialect knows, or what cannot be served but need not
    fail the request; in printable ASCII.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    sampling: Sampling = Sampling()
    stream: bool = False
    include_usage: bool = False
    template_options: dict[str, object] = field(default_factory=dict)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    n: int = 1
    top_logprobs: int | None = None
    thinking: Thinking | None = None
    effort: str | None = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Texts to continue, each ``n`` times: choice ``i * n + j`` is the j-th continuation of prompt i.

    A prompt is text or token ids. ``echo`` repeats it before the continuation.
    """

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    sampling: Sampling = Sampling()
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    echo: bool = False
    top_logprobs: int | None = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts (or token ids) to embed. ``encoding`` is how the client wants its numbers."""

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    encoding: Literal["float", "base64"] = "float"
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The answer to an EmbeddingRequest: one vector for each input, in order."""

    model: str
    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int

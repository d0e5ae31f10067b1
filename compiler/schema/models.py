"""models.toml: what is served, and where it may run. ``docs/reference/models-toml.md`` in prose."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from compiler.schema.types import CONTRADICTION, SECRET, ModelId, Name, Seconds, Section, wrong

_FORMS = "must be builtin:NAME, path:DIR (relative to this file), hf:ORG/NAME@REVISION or http(s)://HOST/FOLDER"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[A-Za-z0-9][\w./-]*)?")


def check_source(text: str) -> str:
    """Raises PydanticCustomError for what is no source."""
    scheme, colon, rest = text.partition(":")
    if not colon or not rest or any(ord(c) < 32 for c in rest):
        raise wrong(_FORMS)
    if scheme == "builtin" and not all(c.isalnum() or c in "._-" for c in rest):
        raise wrong("must be builtin:NAME, as in builtin:tiny-chat")
    if scheme == "hf" and (not _REPOSITORY.fullmatch(rest) or ".." in rest):
        raise wrong("must be hf:ORG/NAME@REVISION, as in hf:Qwen/Qwen3-0.6B@main")
    if scheme in ("http", "https"):
        _folder_url(text)
    elif scheme not in ("builtin", "hf", "path"):
        raise wrong(_FORMS)
    return text


def _folder_url(text: str) -> None:
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        raise wrong(_FORMS) from None
    if url.username is not None or url.password is not None:
        raise wrong("must not hold a user or password; ~/.netrc is for them", SECRET)
    if not url.hostname or url.query or url.fragment or not text.isascii() or " " in text:
        raise wrong("must be the URL of the folder that holds manifest.json, without ? and #")


DeviceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?$")]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=63)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SamplingSection(Section):
    """Defaults for requests that say nothing; the artifact's own apply where these say nothing either."""

    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    """0 takes the likeliest token always."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draw from the likeliest tokens that have this probability together."""
    top_k: int | None = Field(default=None, ge=0)
    """Draw from so many likeliest tokens. 0: from all."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Length of an answer."""


class LimitSection(Section):
    """Tokens of one request; more is refused. The context of the model bounds both together."""

    input: int | None = Field(default=None, ge=1)
    """Tokens of a prompt."""
    output: int | None = Field(default=None, ge=1)
    """Tokens of an answer."""


class ReplicasSection(Section):
    """How many replicas of a model there are, one per neuron at most. Unless set, one on demand beside pinned ones."""

    min: int = Field(default=0, ge=0, le=10_000)
    """So many are always loaded."""
    max: int | None = Field(default=None, ge=1, le=10_000)
    """Where all are saturated one more is loaded into free room, up to this. Unless set, one on each of 8 neurons."""

    @model_validator(mode="after")
    def _in_order(self) -> ReplicasSection:
        if self.max is not None and self.min > self.max:
            raise wrong(f"min = {self.min} is more than max = {self.max}", CONTRADICTION)
        return self


class CostSection(Section):
    """Price per million tokens, in the currency of your reports."""

    input: Price = 0
    """Tokens of prompts."""
    output: Price = 0
    """Tokens of answers."""
    cached: Price | None = None
    """Tokens of prompts that were in the prefix cache. Unless set, as input."""


class ModelSection(Section):
    """A served model. `context` and `max_sequences` decide how much memory its KV cache takes."""

    id: ModelId
    """What clients ask for."""
    source: Annotated[str, AfterValidator(check_source)] = Field(
        json_schema_extra={
            "pattern": "^(builtin|path|hf|https?):.",
            "examples": ["builtin:tiny-chat", "path:artifacts/qwen3", "hf:Qwen/Qwen3-0.6B@main"],
        }
    )
    """The artifact: builtin:NAME ships with cortexd, path:DIR is a folder (relative to this file) that export made.

    hf:ORG/NAME@REVISION and http(s)://HOST/FOLDER are those that `cortexd model pull` brought."""
    task: Literal["chat", "embed"]
    """What it does. Must be the artifact's."""
    precision: Literal["fp32", "fp16", "int8", "int4"] | None = None
    """What its weights are stored as. Must be the artifact's."""
    context: int | None = Field(default=None, ge=1)
    """The longest sequence in tokens, prompt and answer together. Unless set, the artifact's, which is the most."""
    max_sequences: int = Field(default=4, ge=1, le=1024)
    """Sequences at once, each with room for a full context."""
    limit: LimitSection = LimitSection()
    pinned: bool = False
    """One replica is always loaded, on the device where all pinned models fit together."""
    pinned_on: list[Name] = Field(default_factory=list)
    """One replica is always loaded on each of these neurons."""
    residency_priority: int = Field(default=100, ge=0, le=1_000_000)
    """A model pushes out only those of the same or a lower priority."""
    on_pressure: Literal["evict", "queue", "refuse"] | None = None
    """A request for it, and no room: evict others (the default), wait for room, or refuse at once."""
    idle_ttl_s: Seconds | None = None
    """Leaves after so long without a request. Unless set, as [eviction] in fleet.toml says. Not for pinned models."""
    replicas: ReplicasSection | None = None
    devices: list[DeviceName] | None = Field(default=None, min_length=1)
    """Where it may run: DEVICE of every neuron, or NEURON/DEVICE. Unless set, anywhere."""
    min_devices: int = Field(default=1, ge=1, le=64)
    """Devices of one neuron that one replica is spread over."""
    min_device_vram_mb: int | None = Field(default=None, ge=1)
    """Only devices with at least this much memory (MiB)."""
    sampling: SamplingSection = SamplingSection()
    tool_parser: Literal["hermes"] | None = None
    """How tool calls are found in the model's text. hermes, also unless set: JSON between tool_call tags."""
    reasoning_parser: Literal["think"] | None = None
    """How reasoning is found in the model's text. think: between think tags. Unless set, it stays part of the text."""
    cost: CostSection | None = None
    capabilities: list[Word] = Field(default_factory=list)
    """What the catalogue says that it can do, for example tools or reasoning."""
    fallback: list[ModelId] = Field(default_factory=list)
    """Models that answer in its place, in this order, when it cannot."""

    @property
    def from_elsewhere(self) -> bool:
        """Whether the source has to be pulled before it can be used."""
        return self.source.startswith(("hf:", "http:", "https:"))

    @property
    def wanted(self) -> str:
        """What names its artifact: the source, and of a source with several the precision."""
        return f"{self.source} {self.precision}" if self.from_elsewhere and self.precision else self.source

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ModelSection:
        pinned = self.pinned or bool(self.pinned_on)
        if self.pinned_on and "pinned" in self.model_fields_set and not self.pinned:
            raise wrong("pinned = false contradicts pinned_on; leave one of them out", CONTRADICTION)
        if self.idle_ttl_s is not None and pinned:
            raise wrong(
                "a pinned model never leaves, so idle_ttl_s means nothing; leave one of them out", CONTRADICTION
            )
        if self.replicas is not None and self.replicas.max is not None and self.replicas.max < len(set(self.pinned_on)):
            text = f"pinned_on asks for {len(set(self.pinned_on))} replicas, and replicas.max is {self.replicas.max}"
            raise wrong(text, CONTRADICTION)
        if self.task == "embed":
            words = ("sampling", "tool_parser", "reasoning_parser")
            given = [word for word in words if word in self.model_fields_set]
            if given and (given != ["sampling"] or self.sampling.model_fields_set):
                raise wrong(f"a model of task embed writes no text; leave {' and '.join(given)} out", CONTRADICTION)
            if self.limit.output is not None:
                raise wrong("a model of task embed writes no text; leave limit.output out", CONTRADICTION)
        return self


class ModelsFile(Section):
    """models.toml of cortexd: what is served, and where it may run."""

    models: list[ModelSection] = Field(min_length=1)
    """What is served."""
    aliases: dict[ModelId, ModelId] = Field(default_factory=dict)
    """Other names: NAME = "MODEL"."""

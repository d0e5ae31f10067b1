"""models.toml: what is served, and where it may run. ``docs/reference/models-toml.md`` in prose."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from compiler.schema.types import CONTRADICTION, NOT_YET, VALUE, ModelId, Name, Section


def _source(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if scheme in ("hf", "http", "https"):
        raise PydanticCustomError(
            NOT_YET,
            "cannot be fetched from {scheme}: yet; make a folder with `cortexd model export` and name it as path:DIR",
            {"scheme": scheme},
        )
    if not colon or not rest or scheme not in ("builtin", "path") or "\0" in rest or "\n" in rest:
        raise PydanticCustomError(VALUE, "must be builtin:NAME or path:DIR (DIR is relative to this file)")
    if scheme == "builtin" and not all(c.isalnum() or c in "._-" for c in rest):
        raise PydanticCustomError(VALUE, "builtin: takes a name, as in builtin:tiny-chat")
    return text


def _one_device(count: int) -> int:
    if count > 1:
        raise PydanticCustomError(NOT_YET, "must be 1: a model cannot be spread over several devices yet")
    return count


DeviceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?$")]


class SamplingSection(Section):
    """Defaults for requests that say nothing; the artifact's own apply where these say nothing either."""

    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)


class ModelSection(Section):
    """A served model. ``context`` and ``max_sequences`` decide how much memory its KV cache takes."""

    id: ModelId
    source: Annotated[str, AfterValidator(_source)]
    task: Literal["chat", "embed"]
    context: int | None = Field(default=None, ge=1)
    max_sequences: int = Field(default=4, ge=1, le=1024)
    pinned: bool = False
    pinned_on: list[Name] = Field(default_factory=list)
    residency_priority: int = Field(default=100, ge=0, le=1_000_000)
    min_devices: Annotated[int, AfterValidator(_one_device)] = Field(default=1, ge=1)
    min_device_vram_mb: int | None = Field(default=None, ge=1)
    devices: list[DeviceName] | None = Field(default=None, min_length=1)
    sampling: SamplingSection = SamplingSection()
    idle_ttl_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ModelSection:
        if self.pinned_on and "pinned" in self.model_fields_set and not self.pinned:
            raise PydanticCustomError(CONTRADICTION, "pinned = false contradicts pinned_on; leave one of them out")
        if self.idle_ttl_s is not None and (self.pinned or self.pinned_on):
            raise PydanticCustomError(
                CONTRADICTION, "a pinned model never leaves, so idle_ttl_s means nothing; leave one of them out"
            )
        if self.task == "embed" and self.sampling.model_fields_set:
            raise PydanticCustomError(
                CONTRADICTION, "a model of task embed samples nothing; leave [models.sampling] out"
            )
        return self


class ModelsFile(Section):
    """The whole file."""

    models: list[ModelSection] = Field(min_length=1)
    aliases: dict[ModelId, ModelId] = Field(default_factory=dict)

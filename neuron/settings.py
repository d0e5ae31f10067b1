"""``neuron.toml``: what one neuron is. ``cortexd compile`` writes it; by hand it works as well."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class SettingsError(Exception):
    """A settings file that cannot be used; the message names file and key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceSettings(_Section):
    """A device to run. ``threads`` is for kind ``cpu``; ``memory_mb`` is what models may take on it."""

    name: str
    kind: Literal["cpu", "cuda"]
    index: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1)
    memory_mb: int = Field(gt=0)


class SamplingSettings(_Section):
    """Defaults of a model, over those of its artifact and under those of a request."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)


class LimitSettings(_Section):
    """Tokens of one request: prompt and answer. More is refused; an answer without a length of its own ends there."""

    input: int | None = Field(default=None, ge=1)
    output: int | None = Field(default=None, ge=1)


class ModelSettings(_Section):
    """A model that may be loaded here. ``pinned``: loaded at start. ``context`` in tokens (default: the artifact's).

    ``tool_parser`` and ``reasoning_parser``: how calls and reasoning are found in the text; None: reasoning is text.
    """

    id: str
    task: Literal["chat", "embed"] = "chat"
    artifact: str
    manifest_sha256: str | None = None
    devices: tuple[str, ...] = Field(min_length=1)
    context: int | None = Field(default=None, ge=1)
    max_sequences: int = Field(default=4, ge=1)
    pinned: bool = False
    tool_parser: Literal["hermes"] = "hermes"
    reasoning_parser: Literal["think"] | None = None
    sampling: SamplingSettings = SamplingSettings()
    limit: LimitSettings = LimitSettings()


class NeuronSettings(_Section):
    """The whole file. ``listen`` is HOST:PORT; with ``token_file`` callers must send the token in it as a bearer.

    Artifacts named ``sha256:DIGEST`` lie in ``artifact_store``; what is not there is fetched below ``artifact_url``.
    """

    name: str
    listen: str = "127.0.0.1:13131"
    token_file: Path | None = None
    body_limit_mb: int = Field(default=32, ge=1)
    keepalive_interval_s: float = Field(default=1, gt=0)
    drain_s: float = Field(default=20, ge=0)
    devices: tuple[DeviceSettings, ...] = Field(min_length=1)
    models: tuple[ModelSettings, ...] = ()
    artifact_store: Path | None = None
    """Relative to the folder of the file as it was named (links in its path are not followed)."""
    artifact_url: str | None = Field(default=None, pattern=r"^https?://")
    base: Path = Path()
    """Folder that relative artifact paths start from: that of the file."""

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        names = [d.name for d in self.devices]
        if len(set(names)) != len(names):
            raise ValueError("two devices have the same name")
        if len({m.id for m in self.models}) != len(self.models):
            raise ValueError("two models have the same id")
        for model in self.models:
            if unknown := sorted(set(model.devices) - set(names)):
                raise ValueError(f"model {model.id} wants device {unknown[0]}; there is {', '.join(names)}")
            if model.artifact.startswith("sha256:") and self.artifact_store is None:
                raise ValueError(f"model {model.id} has its artifact in the store, and artifact_store names none")
        return self


def load_settings(path: Path) -> NeuronSettings:
    """Read the file. Raises SettingsError naming the file and every wrong key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise SettingsError(f"{path}: {e.strerror or e}") from e
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise SettingsError(f"{path}: {e}") from e
    if "base" in raw:
        raise SettingsError(f"{path}: base: not a key of this file")
    if isinstance(raw.get("artifact_store"), str):
        # the file lies behind a link to the live generation, the store beside that link
        raw["artifact_store"] = os.path.normpath(path.parent.absolute() / raw["artifact_store"])
    try:
        return NeuronSettings.model_validate(raw | {"base": path.parent.resolve()})
    except ValidationError as e:
        lines = [f"{path}: {'.'.join(str(p) for p in error['loc'])}: {error['msg']}" for error in e.errors()]
        raise SettingsError("\n".join(lines)) from None

"""fleet.lock: what the neurons said about themselves. ``cortexd discover`` and ``cortexd fit --write`` write it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from compiler.schema.types import Name, Section


class LockedDeviceSection(Section):
    """A device as it is: all its memory, in bytes."""

    name: Name
    kind: Literal["cpu", "cuda"]
    index: int = Field(ge=0)
    memory_bytes: int = Field(ge=1)
    product: str | None = None
    uuid: str | None = None


class LockedNeuronSection(Section):
    """A neuron that answered."""

    name: Name
    package_version: str | None = None
    onnxruntime: str | None = None
    providers: list[str] = Field(default_factory=list)
    driver: str | None = None
    devices: list[LockedDeviceSection] = Field(default_factory=list)


class MeasuredSection(Section):
    """What a replica took on each of its ``devices``, all of this ``kind``, in bytes; the most that was seen."""

    manifest_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    context: int = Field(ge=1)
    max_sequences: int = Field(ge=1)
    kind: Literal["cpu", "cuda"]
    devices: int = Field(default=1, ge=1)
    bytes: int = Field(ge=1)


class LockFile(Section):
    """The whole file."""

    version: int = Field(ge=1, le=1)
    neurons: list[LockedNeuronSection] = Field(default_factory=list)
    measured: list[MeasuredSection] = Field(default_factory=list)

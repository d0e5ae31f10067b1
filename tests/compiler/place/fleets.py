"""Fleets and models from a few numbers, without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from compiler.ir import ARENA_BYTES, Device, Fleet, Host, Model, Neuron
from compiler.source import Source
from cortexd.protocol.manifest import Manifest

MIB = 1 << 20
ARENA_MIB = ARENA_BYTES // MIB


def manifest(weights: int) -> Manifest:
    return Manifest(
        task="chat",
        architecture="qwen3",
        layers=4,
        heads=4,
        kv_heads=2,
        head_dim=16,
        hidden=64,
        vocab=1000,
        dtype="float32",
        context=4096,
        weight_bytes=weights,
        kv_bytes_per_token=0,
        graph="model.onnx",
        files={},
        eos_token_ids=(1,),
        export={},
        pooling=None,
    )


def model(number: int, size: int, **more: Any) -> Model:
    """``m<number>``: a replica takes ``size`` MiB on one device."""
    values: dict[str, Any] = {
        "id": f"m{number}",
        "source": "path:x",
        "task": "chat",
        "artifact": "/x",
        "manifest": manifest((size - ARENA_MIB) * MIB),
        "manifest_sha256": "0" * 64,
        "context": 4096,
        "max_sequences": 1,
        "pinned": False,
        "pinned_on": (),
        "residency_priority": 100,
        "min_device_bytes": 0,
        "devices": None,
        "sampling": {},
        "idle_ttl_s": None,
        "path": ("models", number),
    } | more
    return Model(**values)


def fleet(
    neurons: Mapping[str, Sequence[tuple[Literal["cpu", "cuda"], int]]], models: Sequence[Model]
) -> tuple[Fleet, Source]:
    """``neurons``: name -> (kind, MiB) of each device."""
    built = []
    for name, devices in neurons.items():
        made = tuple(Device(name, f"{kind}-{n}", kind, n, None, size * MIB) for n, (kind, size) in enumerate(devices))
        built.append(Neuron(name, "h", "http://127.0.0.1:1", None, made))
    whole = Fleet(
        name="t",
        gateway_host="h",
        gateway={},
        controller={},
        database_url="sqlite:///x",
        hosts=(Host("h", "127.0.0.1", None),),
        neurons=tuple(built),
        models=tuple(models),
        aliases=(),
        keys=(),
    )
    return whole, Source("models.toml", "", {"models": [{} for _ in models]})

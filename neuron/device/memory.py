"""Does a model fit on a device? Pure arithmetic, and the sentence that shows it."""

from __future__ import annotations

from neuron.device.jobs import DeviceRefused, DeviceSpec, LoadSpec, MemoryInfo

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def kv_bytes(spec: LoadSpec) -> int:
    """Bytes of the KV pool that ``spec`` asks for."""
    return spec.rows * spec.context * spec.manifest.kv_bytes_per_token


def check_request(spec: LoadSpec) -> None:
    """Raise DeviceRefused for a load that no device could carry out."""
    manifest = spec.manifest
    if spec.rows < 1:
        raise DeviceRefused(f"{spec.model_id} needs at least 1 row, not {spec.rows}")
    if not 2 <= spec.context <= manifest.context:
        raise DeviceRefused(f"{spec.model_id} has a context of 2 to {manifest.context} tokens, not {spec.context}")


def check_fits(spec: LoadSpec, device: DeviceSpec, memory: MemoryInfo) -> None:
    """Raise DeviceRefused with the arithmetic unless weights and KV pool fit into what is free."""
    weights, pool = spec.manifest.weight_bytes, kv_bytes(spec)
    if weights + pool <= memory.free:
        return
    raise DeviceRefused(
        f"{spec.model_id} does not fit on {device.name}: weights {size(weights)} + KV {size(pool)} "
        f"({spec.rows} rows x {spec.context} tokens x {spec.manifest.kv_bytes_per_token} bytes) "
        f"= {size(weights + pool)}, free {size(memory.free)} of {size(memory.total)}; "
        "unload another model, or take fewer rows or a shorter context"
    )


def size(count: int) -> str:
    """Bytes for people: ``1.5 GiB``."""
    for unit, name in _UNITS:
        if abs(count) >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"

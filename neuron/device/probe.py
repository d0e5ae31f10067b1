"""Which devices does this host have? The only place that asks NVML, and only when it is called.

A GPU is found through NVIDIA's management library; a CPU device is declared, with the memory it may use.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device as found. ``uuid``, ``driver``, ``utilisation`` (percent) and ``temperature_c`` are for GPUs, where
    the driver tells them."""

    name: str
    kind: Literal["cpu", "cuda"]
    index: int
    product: str
    total_bytes: int
    free_bytes: int
    uuid: str | None = None
    driver: str | None = None
    utilisation: int | None = None
    temperature_c: int | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """``devices`` that were found; ``reason`` says why no GPU could be looked for (None: the driver answered)."""

    devices: tuple[DeviceInfo, ...]
    reason: str | None = None


class ProbeError(Exception):
    """The driver does not answer; the message says what to do."""


def cuda_devices() -> Probe:
    """Every GPU of this host, named ``cuda-N``. Never raises: a host without GPUs is a normal host."""
    try:
        with _nvml() as nvml:
            driver = _text(nvml.nvmlSystemGetDriverVersion())
            count = nvml.nvmlDeviceGetCount()
            return Probe(tuple(_describe(nvml, index, driver) for index in range(count)))
    except ProbeError as e:
        return Probe((), str(e))


def cuda_free_bytes(index: int) -> int:
    """Free memory of GPU ``index`` now, other processes' use counted. Raises ProbeError."""
    with _nvml() as nvml:
        return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index)).free)


def cuda_used_bytes(index: int) -> int:
    """Memory of GPU ``index`` in use now, by whatever process. Raises ProbeError."""
    with _nvml() as nvml:
        return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index)).used)


def host_memory_bytes() -> int:
    """All memory of this host, whatever is free of it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cpu_devices(count: int, memory_bytes: int) -> tuple[DeviceInfo, ...]:
    """``cpu-0``... standing in for GPUs, each with its own budget of ``memory_bytes``. Raises ValueError."""
    if count < 0 or memory_bytes <= 0:
        raise ValueError(f"a CPU device needs memory_bytes above 0 (got {memory_bytes}), and a count of at least 0")
    return tuple(DeviceInfo(f"cpu-{i}", "cpu", i, "CPU stand-in", memory_bytes, memory_bytes) for i in range(count))


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """NVML, initialised and shut down again. Raises ProbeError for whatever NVML raises inside."""
    try:
        import pynvml as nvml
    except ImportError as e:
        raise ProbeError("the Python package nvidia-ml-py is not installed (extra `cuda`)") from e
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as e:
        raise ProbeError(_why(nvml, e)) from e
    try:
        yield nvml
    except nvml.NVMLError as e:
        raise ProbeError(_why(nvml, e)) from e
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _why(nvml: Any, error: Any) -> str:
    code = getattr(error, "value", None)
    if code == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return "no NVIDIA driver: libnvidia-ml.so.1 was not found"
    if code == nvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return "the NVIDIA kernel driver is not loaded"
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return "no permission to talk to the NVIDIA driver: the service user needs access to /dev/nvidia*"
    if code == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return "the NVIDIA library and kernel driver have different versions: reboot, or reload the kernel module"
    return f"the NVIDIA driver does not answer: {error}"


def _describe(nvml: Any, index: int, driver: str) -> DeviceInfo:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return DeviceInfo(
        name=f"cuda-{index}",
        kind="cuda",
        index=index,
        product=_text(nvml.nvmlDeviceGetName(handle)),
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        uuid=_optional(nvml, lambda: _text(nvml.nvmlDeviceGetUUID(handle))),
        driver=driver,
        utilisation=_optional(nvml, lambda: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
        temperature_c=_optional(nvml, lambda: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
    )


def _optional(nvml: Any, read: Callable[[], Any]) -> Any:
    """Virtual GPUs and old boards do not tell everything."""
    try:
        return read()
    except nvml.NVMLError:
        return None


def _text(value: Any) -> str:
    # bytes in older versions of the package
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

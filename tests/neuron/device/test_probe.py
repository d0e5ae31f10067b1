"""NVML is looked at through a stand-in here: what it says on a GPU host, and the ways in which it does not answer."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from neuron.device.probe import ProbeError, cpu_devices, cuda_devices, cuda_free_bytes, cuda_used_bytes


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"code {value}")
        self.value = value


def nvml(init: int = 0, utilisation: int = 0) -> SimpleNamespace:
    def call(code: int, value: object = None):  # type: ignore[no-untyped-def]
        def run(*_: object) -> object:
            if code:
                raise NVMLError(code)
            return value

        return run

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_ERROR_LIBRARY_NOT_FOUND=12,
        NVML_ERROR_DRIVER_NOT_LOADED=9,
        NVML_ERROR_NO_PERMISSION=4,
        NVML_ERROR_LIB_RM_VERSION_MISMATCH=18,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=call(init),
        nvmlShutdown=call(0),
        nvmlSystemGetDriverVersion=call(0, b"570.1"),
        nvmlDeviceGetCount=call(0, 1),
        nvmlDeviceGetHandleByIndex=call(0, "handle"),
        nvmlDeviceGetMemoryInfo=call(0, SimpleNamespace(total=24 << 30, free=20 << 30, used=4 << 30)),
        nvmlDeviceGetName=call(0, "RTX"),
        nvmlDeviceGetUUID=call(0, "GPU-1"),
        nvmlDeviceGetUtilizationRates=call(utilisation, SimpleNamespace(gpu=5)),
        nvmlDeviceGetTemperature=call(0, 40),
    )


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())

    probe = cuda_devices()

    (gpu,) = probe.devices
    assert probe.reason is None
    assert (gpu.name, gpu.product, gpu.driver, gpu.total_bytes, gpu.free_bytes) == (
        "cuda-0",
        "RTX",
        "570.1",
        24 << 30,
        20 << 30,
    )
    assert (gpu.utilisation, gpu.temperature_c, gpu.uuid) == (5, 40, "GPU-1")
    assert (cuda_free_bytes(0), cuda_used_bytes(0)) == (20 << 30, 4 << 30)


def test_what_a_driver_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(utilisation=3))

    assert cuda_devices().devices[0].utilisation is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (12, "no NVIDIA driver"),
        (9, "not loaded"),
        (4, "no permission"),
        (18, "different versions"),
        (99, "does not answer: code 99"),
    ],
)
def test_a_driver_that_does_not_answer_is_a_reason(monkeypatch: pytest.MonkeyPatch, code: int, reason: str) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(init=code))

    probe = cuda_devices()

    assert probe.devices == ()
    assert reason in (probe.reason or "")
    with pytest.raises(ProbeError):
        cuda_free_bytes(0)


def test_without_the_package_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert "nvidia-ml-py" in (cuda_devices().reason or "")


def test_cpu_devices_stand_in_for_gpus() -> None:
    assert [(d.name, d.total_bytes) for d in cpu_devices(2, 100)] == [("cpu-0", 100), ("cpu-1", 100)]
    with pytest.raises(ValueError, match="memory_bytes"):
        cpu_devices(1, 0)

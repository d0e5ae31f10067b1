"""What a load took is told when it can be, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuron.artifacts.store import BUILTIN, open_artifact
from neuron.device.jobs import DeviceSpec, LoadedInfo, LoadSpec
from neuron.device.meter import Meter, process_bytes
from neuron.device.probe import ProbeError
from neuron.device.thread import DeviceThread
from neuron.session.base import SessionError, SessionSpec
from neuron.session.fake import FakeSession
from neuron.session.ort import OrtSession

MIB = 1 << 20


def readings(*values: int | Exception) -> Any:
    given = iter(values)

    def read() -> int:
        value = next(given)
        if isinstance(value, Exception):
            raise value
        return value

    return read


@pytest.fixture
def device() -> Iterator[DeviceThread]:
    thread = DeviceThread(DeviceSpec("cpu-0", "cpu", 0, 1, 4 << 30))
    thread.start()
    yield thread
    thread.stop(10)


def load(device: DeviceThread, rows: int = 4, context: int = 4096) -> LoadedInfo:
    artifact = open_artifact(BUILTIN / "tiny-chat")
    return device.load(LoadSpec("tiny", artifact.folder, artifact.manifest, rows, context)).result()


def test_growth_is_the_difference_and_never_negative() -> None:
    meter = Meter(readings(100, 350, 90), alone=True)
    assert (meter.grown(), meter.grown()) == (250, 0)
    meter.close()


@pytest.mark.parametrize("values", [(ProbeError("away"), 5), (5, OSError("no /proc"))])
def test_a_reading_that_fails_measures_nothing(values: tuple[Any, Any]) -> None:
    meter = Meter(readings(*values), alone=True)
    assert meter.grown() is None
    meter.close()


def test_two_that_share_the_process_measure_nothing_and_two_devices_do() -> None:
    first, second = Meter(readings(0, 1, 2), alone=True), Meter(readings(0, 1), alone=True)
    gpu = Meter(readings(0, 7), alone=False)
    assert first.grown() is None and second.grown() is None and gpu.grown() == 7
    second.close()
    gpu.close()
    assert first.grown() is None, "what the other one took meanwhile is in there"
    first.close()
    later = Meter(readings(0, 3), alone=True)
    assert later.grown() == 3
    later.close()


def test_the_process_grows_by_what_it_takes_and_shrinks_when_it_is_freed() -> None:
    before = process_bytes()
    taken = np.ones(64 * MIB, np.uint8)
    grown = process_bytes() - before
    del taken
    assert 60 * MIB < grown < 80 * MIB
    assert process_bytes() - before < 10 * MIB


def test_a_real_model_is_measured_with_all_of_its_cache(device: DeviceThread) -> None:
    load(device)  # the first one also loads libraries
    large = load(device, context=65536)

    assert large.measured_bytes is not None
    beyond = large.measured_bytes - large.weight_bytes - large.kv_bytes
    assert large.kv_bytes == 512 * MIB
    assert -large.weight_bytes < beyond < 200 * MIB


def test_a_stand_in_measures_nothing() -> None:
    thread = DeviceThread(DeviceSpec("cpu-0", "cpu", 0, 1, 4 << 30), FakeSession)
    thread.start()
    assert load(thread).measured_bytes is None
    thread.stop(10)


def test_a_model_that_would_run_too_long_is_loaded_and_not_measured(
    device: DeviceThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuron.device.thread.WARM_S", 0.0)
    assert load(device).measured_bytes is None


def test_what_does_not_run_once_is_not_loaded() -> None:
    closed: list[bool] = []

    class Short(FakeSession):
        def warm(self, limit_s: float) -> int | None:
            raise SessionError("out of memory")

        def close(self) -> None:
            closed.append(True)

    thread = DeviceThread(DeviceSpec("cpu-0", "cpu", 0, 1, 4 << 30), Short)
    thread.start()
    with pytest.raises(SessionError, match="out of memory"):
        load(thread)
    assert closed == [True] and thread.status().models == ()
    thread.stop(10)


def test_warming_leaves_no_trace_in_what_is_generated(tmp_path: Path) -> None:
    artifact = open_artifact(BUILTIN / "tiny-chat")
    spec = SessionSpec(artifact.folder, artifact.manifest, 2, 512, "cpu", 0, 1)
    cold, warm = OrtSession(spec), OrtSession(spec)
    assert warm.warm(60) is not None

    prompt = list(range(5, 40))
    np.testing.assert_array_equal(cold.prefill(0, prompt, 0), warm.prefill(0, prompt, 0))
    lengths = np.array([35], np.int64)
    np.testing.assert_array_equal(
        cold.decode(np.array([7], np.int64), lengths), warm.decode(np.array([7], np.int64), lengths)
    )


def test_on_a_gpu_it_is_what_the_driver_says_and_its_context_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    in_use = [300 * MIB]
    monkeypatch.setattr("neuron.device.thread.cuda_used_bytes", lambda index: in_use[0])

    class OnGpu(FakeSession):
        @staticmethod
        def prepare(spec: SessionSpec) -> None:
            in_use[0] = 500 * MIB  # the context

        def __init__(self, spec: SessionSpec) -> None:
            super().__init__(spec)
            in_use[0] += 100 * MIB

        def warm(self, limit_s: float) -> int | None:
            in_use[0] += 50 * MIB
            return 0

    thread = DeviceThread(DeviceSpec("cuda-0", "cuda", 0, 1, 4 << 30), OnGpu, free_bytes=lambda: 4 << 30)
    thread.start()
    assert load(thread).measured_bytes == 150 * MIB
    thread.stop(10)

"""The device thread with real threads and queues; the session is the one that faults on demand."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cortexd.protocol.request import Sampling
from neuron.device.jobs import (
    DeviceRefused,
    DeviceSpec,
    GenerationEnded,
    GenerationFailed,
    GenerationSpec,
    LoadSpec,
    ModelCounters,
    TokenEvent,
    TokenProduced,
)
from neuron.device.probe import ProbeError
from neuron.device.thread import DeviceThread
from neuron.session.base import SessionError, SessionSpec
from neuron.session.fake import FakeSession
from tests.neuron import tiny_graph

ROOT = Path(__file__).resolve().parents[3]
GREEDY = Sampling(temperature=0.0)
FOREVER = 60


class Gate:
    """Sessions that can be held in the middle of a step, and looked at."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.inside = threading.Event()
        self.sessions: list[FakeSession] = []
        self.threads: set[str] = set()

    def __call__(self, spec: SessionSpec) -> FakeSession:
        session = FakeSession(spec, next_token=self._next, max_chunk=16)
        self.sessions.append(session)
        self.threads.add(threading.current_thread().name)
        return session

    def _next(self, tokens: object) -> int:
        self.threads.add(threading.current_thread().name)
        self.inside.set()
        assert self.open.wait(10)
        return 7


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def device(gate: Gate) -> Iterator[DeviceThread]:
    thread = DeviceThread(DeviceSpec("cpu-7", "cpu", 7, 1, 10_000_000), gate, max_waiting=2)
    thread.start()
    yield thread
    gate.open.set()
    assert thread.stop(10)


def load(device: DeviceThread, model_id: str = "m", rows: int = 2) -> int:
    return device.load(LoadSpec(model_id, Path(), tiny_graph.manifest(), rows, 64)).result(10).handle


class Client:
    """A listener."""

    def __init__(self) -> None:
        self.events: queue.Queue[TokenEvent] = queue.Queue()
        self.seen: list[TokenEvent] = []

    def __call__(self, event: TokenEvent) -> None:
        self.events.put(event)

    def next(self) -> TokenEvent:
        self.seen.append(self.events.get(timeout=10))
        return self.seen[-1]

    def last(self) -> TokenEvent:
        while isinstance(self.next(), TokenProduced):
            pass
        return self.seen[-1]


def generate(
    device: DeviceThread,
    handle: int,
    request_id: str,
    max_tokens: int = 3,
    sink: Callable[[TokenEvent], None] | None = None,
) -> Client:
    client = Client()
    spec = GenerationSpec(request_id, (1, 2, 3), GREEDY, (tiny_graph.EOS,), max_tokens)
    device.submit(handle, spec, sink or client)
    return client


def test_tokens_come_one_by_one_and_the_end_has_the_counts(device: DeviceThread, gate: Gate) -> None:
    handle = load(device)

    client = generate(device, handle, "a")
    end = client.last()

    assert client.seen[:-1] == [TokenProduced("a", 7)] * 3
    assert isinstance(end, GenerationEnded)
    assert (end.reason, end.prompt_tokens, end.completion_tokens) == ("length", 3, 3)
    assert min(end.queue_s, end.prefill_s, end.decode_s) >= 0
    assert gate.threads == {"cpu-7"}


def test_the_books_have_what_the_last_events_said_and_survive_the_model(device: DeviceThread) -> None:
    handle = load(device)
    generate(device, handle, "a").last()
    generate(device, handle, "b", max_tokens=5).last()

    freed = device.unload(handle).result(10)

    manifest = tiny_graph.manifest()
    status = device.status()
    assert freed == manifest.weight_bytes + 2 * 64 * manifest.kv_bytes_per_token
    assert status.counters == {"m": ModelCounters(2, 6, 8)}
    assert (status.models, status.memory_used_bytes) == ((), 0)
    with pytest.raises(DeviceRefused, match="it was unloaded"):
        generate(device, handle, "c")


def test_several_models_take_turns(device: DeviceThread, gate: Gate) -> None:
    first, second = load(device, "first"), load(device, "second")
    gate.open.clear()
    a = generate(device, first, "a", max_tokens=20)
    b = generate(device, second, "b", max_tokens=3)
    gate.open.set()

    b.last()
    at_b = device.status()
    a.last()

    assert first != second
    assert {m.model_id for m in at_b.models} == {"first", "second"}
    assert device.status().counters == {"first": ModelCounters(1, 3, 20), "second": ModelCounters(1, 3, 3)}


def test_status_answers_while_a_step_hangs_and_progress_stands_still(device: DeviceThread, gate: Gate) -> None:
    handle = load(device)
    gate.open.clear()
    for name in "abc":
        generate(device, handle, name, max_tokens=FOREVER)
    assert gate.inside.wait(10)

    status = device.status()
    model = status.models[0]

    assert (status.health, status.progress) == ("ok", 0)
    # the step that hangs was scheduled with what had come by then
    assert model.in_flight + model.queue_depth == 3
    assert (model.rows, model.kv_tokens_total, model.steps) == (2, 128, 0)


def test_progress_moves_with_steps_and_only_with_steps(device: DeviceThread) -> None:
    handle = load(device)
    device.abort("nobody")
    device.memory().result(10)
    before = device.status().progress

    generate(device, handle, "a", max_tokens=5).last()
    device.memory().result(10)

    assert (before, device.status().progress) == (0, 5)


def test_without_work_the_thread_sleeps(device: DeviceThread) -> None:
    load(device)
    native = next(t.native_id for t in threading.enumerate() if t.name == "cpu-7")

    def switches() -> int:
        lines = Path(f"/proc/self/task/{native}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

    before = switches()
    threading.Event().wait(0.3)

    assert switches() - before <= 10


def test_a_full_queue_is_refused_at_the_door_with_a_time_to_wait(device: DeviceThread, gate: Gate) -> None:
    handle = load(device)
    gate.open.clear()
    clients = [generate(device, handle, f"r{i}") for i in range(4)]  # two rows, two may wait

    with pytest.raises(DeviceRefused, match="busy") as refused:
        generate(device, handle, "too-many")
    gate.open.set()

    assert refused.value.retry_after is not None and 1 <= refused.value.retry_after <= 60
    assert all(isinstance(c.last(), GenerationEnded) for c in clients)
    assert isinstance(generate(device, handle, "later").last(), GenerationEnded)


def test_an_abort_ends_the_request_within_one_step_and_frees_its_row(device: DeviceThread, gate: Gate) -> None:
    handle = load(device, rows=1)
    gate.open.clear()
    a = generate(device, handle, "a", max_tokens=FOREVER)
    b = generate(device, handle, "b")
    assert gate.inside.wait(10)

    device.abort("a")
    device.abort("a")
    gate.open.set()

    end = a.last()
    assert isinstance(end, GenerationEnded) and end.reason == "abort"
    assert end.completion_tokens <= 2
    assert isinstance(b.last(), GenerationEnded)
    assert device.status().models[0].in_flight == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": ()}, "0 tokens"),
        ({"tokens": tuple(range(64))}, "m takes 1 to 63"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"sampling": Sampling(temperature=-1.0)}, "temperature"),
    ],
)
def test_what_cannot_run_is_refused_at_the_door(device: DeviceThread, change: dict[str, object], message: str) -> None:
    handle = load(device)
    spec = replace(GenerationSpec("a", (1,), GREEDY, (), 3), **change)  # type: ignore[arg-type]

    with pytest.raises(DeviceRefused, match=message) as refused:
        device.submit(handle, spec, Client())

    assert refused.value.retry_after is None


def test_two_requests_with_one_id_are_refused_until_the_first_ended(device: DeviceThread, gate: Gate) -> None:
    handle = load(device)
    gate.open.clear()
    first = generate(device, handle, "a")
    with pytest.raises(DeviceRefused, match="in use"):
        generate(device, handle, "a")
    gate.open.set()
    first.last()

    assert isinstance(generate(device, handle, "a").last(), GenerationEnded)


def test_a_failing_session_ends_its_requests_and_serves_the_next(device: DeviceThread, gate: Gate) -> None:
    broken, sound = load(device, "broken"), load(device, "sound")
    gate.open.clear()
    victims = [generate(device, broken, f"v{i}") for i in range(3)]
    neighbour = generate(device, sound, "n", max_tokens=10)
    gate.sessions[0].fault = SessionError("node Attention_3 in /secret/path")
    gate.open.set()

    ends = [v.last() for v in victims]

    assert all(isinstance(e, GenerationFailed) and "secret" not in e.message for e in ends)
    assert isinstance(neighbour.last(), GenerationEnded)
    assert isinstance(generate(device, broken, "again").last(), GenerationEnded)
    assert device.status().health == "ok"


def test_a_cuda_fault_poisons_the_device(device: DeviceThread, gate: Gate) -> None:
    handle, other = load(device), load(device, "other")
    gate.open.clear()
    victims = [generate(device, handle, "a", 9), generate(device, handle, "b", 9), generate(device, other, "c", 9)]
    gate.sessions[0].fault = SessionError("CUDA failure 700", poisons=True)
    gate.sessions[1].fault = SessionError("CUDA failure 700", poisons=True)
    gate.open.set()

    assert all(isinstance(v.last(), GenerationFailed) for v in victims)
    status = device.status()
    assert (status.health, "cpu-7 failed" in (status.reason or "")) == ("poisoned", True)
    for attempt in (
        lambda: generate(device, handle, "late"),
        lambda: load(device),
        lambda: device.unload(handle),
        lambda: device.memory(),
    ):
        with pytest.raises(DeviceRefused, match="until the neuron starts again"):
            attempt()
    assert device.stop(10)
    assert not any(s.closed for s in gate.sessions), "closing a session on a lost device may never return"


def test_a_listener_that_fails_loses_its_own_request_only(device: DeviceThread) -> None:
    handle = load(device)

    def fails(event: TokenEvent) -> None:
        raise RuntimeError("the event loop is closed")

    generate(device, handle, "a", FOREVER, sink=fails)
    other = generate(device, handle, "b")

    assert isinstance(other.last(), GenerationEnded)
    device.memory().result(10)
    assert device.status().models[0].in_flight == 0


def test_a_load_that_does_not_fit_is_refused_with_the_arithmetic(device: DeviceThread, gate: Gate) -> None:
    load(device, "first", rows=600)
    big = LoadSpec("second", Path(), tiny_graph.manifest(), 600, 64)

    with pytest.raises(DeviceRefused) as refused:
        device.load(big).result(10)

    # 100,000 + 600 x 64 x 256 is 9,930,400 of 10,000,000
    assert "weights 97.7 KiB + KV 9.4 MiB (600 rows x 64 tokens x 256 bytes) = 9.5 MiB" in refused.value.reason
    assert "free 68.0 KiB of 9.5 MiB" in refused.value.reason
    assert len(gate.sessions) == 1


def test_measured_memory_counts_too(gate: Gate) -> None:
    device = DeviceThread(DeviceSpec("cpu-1", "cpu", 1, 1, 10_000_000), gate, free_bytes=lambda: 50_000)
    device.start()

    with pytest.raises(DeviceRefused, match=r"free 48\.8 KiB"):
        load(device)
    assert device.stop(10)


def test_memory_that_cannot_be_measured_is_what_was_declared(gate: Gate) -> None:
    def no_driver() -> int:
        raise ProbeError("no NVIDIA driver")

    device = DeviceThread(DeviceSpec("cuda-0", "cuda", 0, 1, 10_000_000), gate, free_bytes=no_driver)
    device.start()

    assert load(device) > 0
    assert device.memory().result(10).free < 10_000_000
    assert device.stop(10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "at least 1 row"),
        ({"context": 65}, "2 to 64 tokens"),
    ],
)
def test_a_load_that_means_nothing_is_refused_at_the_door(
    device: DeviceThread, change: dict[str, object], message: str
) -> None:
    spec = replace(LoadSpec("m", Path(), tiny_graph.manifest(), 1, 64), **change)  # type: ignore[arg-type]

    with pytest.raises(DeviceRefused, match=message):
        device.load(spec)


def test_a_load_that_fails_leaves_the_device_as_it_was(gate: Gate) -> None:
    def broken(spec: SessionSpec) -> FakeSession:
        raise SessionError("could not open model.onnx")

    device = DeviceThread(DeviceSpec("cpu-1", "cpu", 1, 1, 10_000_000), broken)
    device.start()

    with pytest.raises(SessionError, match=r"model\.onnx"):
        load(device)
    status = device.status()
    assert (status.health, status.memory_used_bytes) == ("ok", 0)
    assert device.stop(10)


def test_unloading_ends_what_runs(device: DeviceThread, gate: Gate) -> None:
    handle = load(device)
    gate.open.clear()
    client = generate(device, handle, "a", FOREVER)
    assert gate.inside.wait(10)

    freed = device.unload(handle)
    with pytest.raises(DeviceRefused, match="unloaded"):
        generate(device, handle, "b")
    gate.open.set()

    assert client.last() == GenerationFailed("a", "the model was unloaded", 3, 1)
    assert freed.result(10) > 0
    assert gate.sessions[0].closed


def test_stopping_ends_what_runs_and_what_waits_and_shuts_the_door(device: DeviceThread, gate: Gate) -> None:
    handle = load(device)
    gate.open.clear()
    clients = [generate(device, handle, f"r{i}", FOREVER) for i in range(4)]
    assert gate.inside.wait(10)
    assert not device.stop(0.05)
    waiting = [generate_refused(device, handle)]
    gate.open.set()

    assert device.stop(10)

    assert waiting == ["cpu-7 is stopping"]
    assert all(isinstance(c.last(), GenerationFailed) for c in clients)
    assert gate.sessions[0].closed
    assert device.status().health == "stopped"


def generate_refused(device: DeviceThread, handle: int) -> str:
    with pytest.raises(DeviceRefused) as refused:
        generate(device, handle, "late")
    return refused.value.reason


def test_a_device_that_never_started_refuses_and_can_be_stopped() -> None:
    device = DeviceThread(DeviceSpec("cpu-1", "cpu", 1, 1, 1), Gate())

    with pytest.raises(DeviceRefused, match="has not started"):
        load(device)
    assert device.stop(1)
    with pytest.raises(DeviceRefused, match="has stopped"):
        load(device)


def test_a_defect_of_the_thread_itself_shows_in_the_health(
    device: DeviceThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = load(device)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(device, "_step_one_model", lambda: 1 / 0)

    client = generate(device, handle, "a")

    assert isinstance(client.last(), GenerationFailed)
    assert device.status().health == "poisoned"


def test_a_load_that_its_caller_gave_up_does_not_happen(device: DeviceThread, gate: Gate) -> None:
    handle = load(device)
    gate.open.clear()
    client = generate(device, handle, "a")
    assert gate.inside.wait(10)

    given_up = device.load(LoadSpec("other", Path(), tiny_graph.manifest(), 1, 64))
    assert given_up.cancel()
    gate.open.set()

    client.last()
    device.memory().result(10)
    assert [m.model_id for m in device.status().models] == ["m"]


def test_a_process_patched_by_gevent_is_refused() -> None:
    pytest.importorskip("gevent")
    script = (
        "from gevent import monkey; monkey.patch_all()\n"
        "from neuron.device.jobs import DeviceSpec\n"
        "from neuron.device.thread import DeviceThread\n"
        "DeviceThread(DeviceSpec('cpu-0', 'cpu', 0, 1, 1)).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode != 0
    assert "needs an OS thread, but gevent has patched threading" in done.stderr


def test_a_thread_that_hangs_in_a_step_stalls_and_one_that_loads_may_take_its_time(gate: Gate) -> None:
    now, opening = [0.0], threading.Event()

    def open_slowly(spec: SessionSpec) -> FakeSession:
        assert opening.wait(10)
        return gate(spec)

    device = DeviceThread(DeviceSpec("cpu-7", "cpu", 7, 1, 10_000_000), open_slowly, clock=lambda: now[0])
    device.start()
    loading = device.load(LoadSpec("m", Path(), tiny_graph.manifest(), 2, 64))
    while device._loading_since is None:
        threading.Event().wait(0.01)
    now[0] = 1800.0
    while_loading = device.stalled_s()
    now[0] = 1805.0
    too_long = device.stalled_s()
    opening.set()
    handle = loading.result(10).handle
    gate.open.clear()
    client = generate(device, handle, "a")
    assert gate.inside.wait(10)
    now[0] = 1900.0
    hung = device.stalled_s()
    gate.open.set()
    client.last()
    device.memory().result(10)

    assert (while_loading, too_long) == (0.0, 5.0)
    assert hung == 95.0
    assert device.stalled_s() == 0.0
    assert device.stop(10)


def test_a_device_that_is_held_ends_what_it_has_and_refuses_the_rest_for_now(device: DeviceThread, gate: Gate) -> None:
    handle = load(device)
    gate.open.clear()
    client = generate(device, handle, "a")
    device.hold("the neuron starts again")
    with pytest.raises(DeviceRefused, match="starts again") as refused:
        generate(device, handle, "b")
    busy = device.busy
    gate.open.set()

    assert isinstance(client.last(), GenerationEnded)
    assert refused.value.retry_after == 5
    assert (busy, device.busy) == (True, False)

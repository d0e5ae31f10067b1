"""The shipped chat model on a real device thread: six requests at once answer what each answers alone."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

import neuron.artifacts
from cortexd.protocol.manifest import Manifest
from cortexd.protocol.request import Sampling
from neuron.device.jobs import DeviceSpec, GenerationEnded, GenerationSpec, LoadSpec, TokenEvent, TokenProduced
from neuron.device.thread import DeviceThread

FOLDER = Path(neuron.artifacts.__file__).parent / "builtin" / "tiny-chat"
GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def device():  # type: ignore[no-untyped-def]
    thread = DeviceThread(DeviceSpec("cpu-0", "cpu", 0, 2, 2 << 30))
    thread.start()
    yield thread
    assert thread.stop(10)


def submit(
    device: DeviceThread, handle: int, name: str, prompt: tuple[int, ...], sampling: Sampling
) -> Future[list[int]]:
    done: Future[list[int]] = Future()
    tokens: list[int] = []

    def listen(event: TokenEvent) -> None:
        if isinstance(event, TokenProduced):
            tokens.append(event.token)
        elif isinstance(event, GenerationEnded):
            done.set_result(tokens)
        else:
            done.set_exception(AssertionError(event.message))

    # no EOS: every request runs to its full length, so that they overlap
    device.submit(handle, GenerationSpec(name, prompt, sampling, (), 24), listen)
    return done


def test_a_full_device_answers_what_an_idle_one_does(device: DeviceThread) -> None:
    manifest = Manifest.from_json((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    loaded = device.load(LoadSpec("tiny-chat", FOLDER, manifest, 4, 4096)).result(60)
    seeded = Sampling(temperature=0.8, top_p=0.9, seed=11)
    requests = {
        f"r{i}": (tuple((7 * i + j) % (manifest.vocab - 10) + 5 for j in range(size)), sampling)
        for i, (size, sampling) in enumerate(
            [(3, GREEDY), (1500, GREEDY), (40, seeded), (700, GREEDY), (1, GREEDY), (300, seeded)]
        )
    }
    alone = {n: submit(device, loaded.handle, n, *r).result(60) for n, r in requests.items()}

    futures = {n: submit(device, loaded.handle, n, *r) for n, r in requests.items()}
    together = {n: f.result(60) for n, f in futures.items()}

    assert together == alone
    assert all(len(tokens) == 24 for tokens in together.values())
    counters = device.status().counters["tiny-chat"]
    assert (counters.requests, counters.completion_tokens) == (12, 12 * 24)
    assert loaded.kv_bytes == 4 * 4096 * manifest.kv_bytes_per_token
    device.unload(loaded.handle).result(10)

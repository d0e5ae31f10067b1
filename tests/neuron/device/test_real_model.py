"""The shipped chat model on a real device thread: six requests at once answer what each answers alone."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from pathlib import Path

import pytest

import neuron.artifacts
from cortexd.protocol.manifest import Manifest
from cortexd.protocol.request import Sampling
from neuron.device.jobs import (
    DeviceRefused,
    DeviceSpec,
    Embedded,
    EmbedSpec,
    GenerationEnded,
    GenerationSpec,
    LoadSpec,
    TokenEvent,
    TokenProduced,
)
from neuron.device.thread import DeviceThread

FOLDER = Path(neuron.artifacts.__file__).parent / "builtin" / "tiny-chat"
EMBED = FOLDER.parent / "tiny-embed"
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


def test_an_encoder_beside_it_answers_and_each_refuses_the_others_work(device: DeviceThread) -> None:
    manifest = Manifest.from_json((EMBED / "manifest.json").read_text(encoding="utf-8"))
    chat = Manifest.from_json((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    loaded = device.load(LoadSpec("vectors", EMBED, manifest, 1, 512)).result(60)
    other = device.load(LoadSpec("other", FOLDER, chat, 1, 64)).result(60)
    events: queue.Queue[TokenEvent] = queue.Queue()

    for name in ("a", "b"):
        device.embed(loaded.handle, EmbedSpec(name, ((5, 6), (7,), (5, 6))), events.put)
    got = [events.get(timeout=30) for _ in range(2)]
    with pytest.raises(DeviceRefused, match="makes no vectors"):
        device.embed(other.handle, EmbedSpec("c", ((5,),)), events.put)
    with pytest.raises(DeviceRefused, match="generates no text"):
        device.submit(loaded.handle, GenerationSpec("d", (5,), GREEDY, (), 1), events.put)
    with pytest.raises(DeviceRefused, match="513 tokens"):
        device.embed(loaded.handle, EmbedSpec("e", ((5,) * 513,)), events.put)
    counted = device.status().counters["vectors"]
    freed = [device.unload(h).result(10) for h in (loaded.handle, other.handle)]

    assert all(isinstance(event, Embedded) and event.prompt_tokens == 5 for event in got)
    a, b = (event.vectors for event in got if isinstance(event, Embedded))
    assert (a == b).all() and (a[0] == a[2]).all() and not (a[0] == a[1]).all()
    assert (counted.requests, counted.prompt_tokens, counted.completion_tokens) == (2, 10, 0)
    assert (loaded.kv_bytes, freed[0]) == (0, manifest.weight_bytes)

"""fleet.lock: what is written is what is read, and what was measured is what is proven."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import codes
from compiler.lock import Lock, LockedDevice, LockedNeuron, Measured, compare, read_lock, render_lock, with_measured
from compiler.parse import parse
from compiler.pipeline import compile_files
from compiler.place import place
from compiler.source import Source
from tests.compiler.artifacts import MIB, make_artifact
from tests.compiler.place.fleets import fleet, model

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
name = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,8}\Z")
device = st.builds(
    LockedDevice,
    name=name,
    kind=st.sampled_from(["cpu", "cuda"]),
    index=st.integers(0, 9),
    memory_bytes=st.integers(1, 1 << 50),
    product=st.none() | text,
    uuid=st.none() | text,
)
neuron = st.builds(
    LockedNeuron,
    name=name,
    package_version=st.none() | text,
    onnxruntime=st.none() | text,
    providers=st.lists(text, max_size=3).map(tuple),
    driver=st.none() | text,
    devices=st.lists(device, max_size=3).map(tuple),
)
measured = st.builds(
    Measured,
    manifest_sha256=st.from_regex(r"\A[0-9a-f]{64}\Z"),
    context=st.integers(1, 1 << 20),
    max_sequences=st.integers(1, 99),
    kind=st.sampled_from(["cpu", "cuda"]),
    devices=st.integers(1, 8),
    bytes=st.integers(1, 1 << 50),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(neuron, max_size=3, unique_by=lambda n: n.name), st.lists(measured, max_size=3), st.randoms())
def test_whatever_a_neuron_said_is_read_as_it_was_written_in_one_order(
    neurons: list[LockedNeuron], entries: list[Measured], random: Any
) -> None:
    lock = Lock(tuple(neurons), tuple(entries))
    written = render_lock(lock)
    random.shuffle(neurons)
    random.shuffle(entries)
    source, unreadable = parse("fleet.lock", written)
    again, wrong = read_lock(source)

    assert unreadable + wrong == []
    assert again is not None and render_lock(again) == written == render_lock(Lock(tuple(neurons), tuple(entries)))
    assert {n.name: n.driver for n in again.neurons} == {n.name: n.driver for n in neurons}


def test_measured_bytes_replace_the_estimate_on_that_kind_of_device_only() -> None:
    shape = ("0" * 64, 4096, 1)
    lock = Lock(measured=(Measured(*shape, "cuda", 1, 900 * MIB), Measured(*shape, "cuda", 1, 700 * MIB)))
    whole, source = fleet({"a": [("cuda", 899)], "b": [("cpu", 600)]}, [model(0, 500)])

    placed, found = place(with_measured(whole, lock), source)

    assert found == []
    assert [(p.neuron, p.share_bytes, p.reason) for p in placed.placements] == [
        ("b", 500 * MIB, placed.placements[0].reason)
    ]
    cheaper = Lock(measured=(Measured(*shape, "cuda", 1, 200 * MIB),))
    placed, _ = place(with_measured(whole, cheaper), source)
    assert placed.placements[0].share_bytes == 244 * MIB, "the neuron reserves weights and KV whatever was measured"
    assert "measured 200 MiB, but weights and KV are reserved" in placed.placements[0].reason
    cheap = Lock(measured=(Measured(*shape, "cuda", 1, 300 * MIB),))
    placed, _ = place(with_measured(whole, cheap), source)
    assert placed.placements[0].reason == "needs 300 MiB (measured; estimated 500 MiB) of 899 MiB on cuda-0"


@pytest.mark.parametrize(("wrong", "value"), [(0, "1" * 64), (1, 2048), (2, 2), (4, 2)])
def test_what_was_measured_in_another_shape_says_nothing(wrong: int, value: Any) -> None:
    entry: list[Any] = ["0" * 64, 4096, 1, "cuda", 1, 300 * MIB]
    entry[wrong] = value
    whole, _ = fleet({"a": [("cuda", 899)]}, [model(0, 500)])

    assert with_measured(whole, Lock(measured=(Measured(*entry),))).models[0].measured == {}


def test_without_a_lock_only_gpus_are_doubted_and_a_known_fleet_not_at_all() -> None:
    whole, _ = fleet({"a": [("cuda", 900)], "b": [("cpu", 900)]}, [])
    source = Source("fleet.toml", "", {"neurons": [{"name": "a", "devices": [{"name": "cuda-0"}]}, {"name": "b"}]})

    assert [(d.code, d.severity) for d in compare(whole, None, source)] == [(codes.NOT_DISCOVERED, "warning")]
    seen = [LockedDevice("cuda-0", "cuda", 0, 900 * MIB), LockedDevice("cpu-0", "cpu", 0, 900 * MIB)]
    known = tuple(LockedNeuron(n, None, None, (), None, (d,)) for n, d in zip("ab", seen, strict=True))
    assert compare(whole, Lock(known), source) == []


FLEET = """\
[fleet]
name = "t"
[[hosts]]
name = "h"
address = "127.0.0.1"
[[neurons]]
name = "n"
host = "h"
endpoint = "http://127.0.0.1:4000"
[[neurons.devices]]
name = "cpu-0"
kind = "cpu"
index = 0
threads = 1
memory_mb = 4000
"""


def test_a_lock_takes_part_in_a_generation_only_where_it_changes_it(tmp_path: Path) -> None:
    make_artifact(tmp_path / "a")
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "models.toml").write_text('[[models]]\nid = "m"\nsource = "path:a"\ntask = "chat"\n')

    def generation(lock: str | None, beside: bool = True) -> str:
        path = tmp_path / ("fleet.lock" if beside else "other.lock")
        path.unlink(missing_ok=True)
        if lock is not None:
            path.write_text(lock)
        given = None if beside else path
        outcome = compile_files(tmp_path / "fleet.toml", tmp_path / "models.toml", tmp_path / "build", None, given)
        assert outcome.emitted is not None, outcome.text()
        return outcome.emitted.generation

    plain = generation(None)
    neurons = LockedNeuron("n", "1", "1.23", (), None, (LockedDevice("cpu-0", "cpu", 0, 8000 * MIB),))
    assert generation(render_lock(Lock((neurons,)))) == plain
    digest = hashlib.sha256((tmp_path / "a" / "manifest.json").read_bytes()).hexdigest()
    took = render_lock(Lock((neurons,), (Measured(digest, 131072, 4, "cpu", 1, 700 * MIB),)))
    assert generation(took) == generation(took) != plain
    (tmp_path / "fleet.lock").unlink()
    assert generation(took, beside=False) != plain


def test_a_lock_that_is_named_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "models.toml").write_text("")
    files = (tmp_path / "fleet.toml", tmp_path / "models.toml", tmp_path / "build")

    outcome = compile_files(*files, None, tmp_path / "none.lock")

    (found,) = [d for d in outcome.diagnostics if d.code == codes.CANNOT_READ]
    assert found.hint == "`cortexd discover` writes it"

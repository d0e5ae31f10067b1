"""How long does a compile take, and how does that grow? ``python -m bench.compile [--most 1000] [--out FOLDER]``.

Makes fleets of n neurons and n models (a few shared small artifacts, ``path:`` sources), compiles each in a fresh
process, three times, prints the medians and fits n log n to them. Writes ``compile.json`` and
``compile.svg`` into the folder. Exit status 1 if the largest takes 5 s or more, or growth is worse than n log n.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.plot import line_chart
from cortexd.protocol.manifest import ArtifactFile, Manifest

SIZES = (50, 100, 200, 400, 700, 1000)
MOST_S = 5.0
RUNS = 3
# n log n from 500 to 1000 is n^1.15; the rest is what measuring adds.
MOST_GROWTH = 1.3
GIB = 1 << 30

# (weights, KV bytes per token): from a small model to one that takes most of a GPU.
ARTIFACTS = ((GIB // 2, 12 << 10), (3 * GIB, 48 << 10), (8 * GIB, 96 << 10), (16 * GIB, 128 << 10))
# (kind, MiB) of the devices of a neuron, by turns.
BOXES = ((("cuda", 24_000),), (("cuda", 24_000), ("cuda", 24_000)), (("cuda", 48_000),), (("cpu", 64_000),))


def write_fleet(folder: Path, n: int) -> None:
    """``fleet.toml``, ``models.toml`` and the artifacts for n neurons and n models. The same n gives the same bytes."""
    for number, (weights, kv) in enumerate(ARTIFACTS):
        _artifact(folder / "artifacts" / f"a{number}", weights, kv)
    lines = ['[fleet]\nname = "bench"\n\n[gateway]\nrequire_auth = true\n']
    for host in range(max(n // 4, 1)):
        lines.append(f'[[hosts]]\nname = "host-{host}"\naddress = "10.0.{host // 250}.{host % 250 + 1}"\n')
    for neuron in range(n):
        host = neuron % max(n // 4, 1)
        address = f"10.0.{host // 250}.{host % 250 + 1}:{13131 + neuron // max(n // 4, 1)}"
        lines.append(f'[[neurons]]\nname = "n-{neuron}"\nhost = "host-{host}"\nendpoint = "http://{address}"')
        for index, (kind, size) in enumerate(BOXES[neuron % len(BOXES)]):
            threads = "threads = 8\n" if kind == "cpu" else ""
            lines.append(
                f'[[neurons.devices]]\nname = "{kind}-{index}"\nkind = "{kind}"\nindex = {index}\n'
                f"memory_mb = {size}\n{threads}"
            )
    lines.append('[[accounts]]\nname = "team"\n')
    for key in range(max(n // 10, 1)):
        digest = hashlib.sha256(str(key).encode()).hexdigest()
        lines.append(f'[[keys]]\nid = "key-{key}"\naccount = "team"\nsecret_sha256 = "{digest}"\n')
    (folder / "fleet.toml").write_text("\n".join(lines), encoding="utf-8")
    lines = []
    for model in range(n):
        box = BOXES[model % len(BOXES)]
        more = "idle_ttl_s = 900\nresidency_priority = 50\n"
        if model % 10 == 0:
            more = "pinned = true\n"
        elif model % 10 == 1:
            more = f'pinned_on = ["n-{model}"]\n' if len(box) > 1 or box[0][1] > 40_000 else "replicas = { min = 2 }\n"
        elif model % 10 == 2:
            more = f'devices = ["n-{model}/{box[0][0]}-0", "cuda-0"]\n'
        elif model % 10 == 3:
            more = f"min_device_vram_mb = {8000 + model}\nreplicas = {{ max = 12 }}\n"
        lines.append(
            f'[[models]]\nid = "org/model-{model}"\nsource = "path:artifacts/a{(model // 2) % len(ARTIFACTS)}"\n'
            f'task = "chat"\ncontext = 8192\nmax_sequences = 4\n{more}'
        )
    lines.append("[aliases]\n" + "\n".join(f'alias-{a} = "org/model-{a}"' for a in range(max(n // 10, 1))) + "\n")
    (folder / "models.toml").write_text("\n".join(lines), encoding="utf-8")


def _artifact(folder: Path, weights: int, kv: int) -> None:
    folder.mkdir(parents=True)
    graph = folder.name.encode()
    (folder / "model.onnx").write_bytes(graph)
    manifest = Manifest(
        task="chat",
        architecture="qwen3",
        layers=4,
        heads=4,
        kv_heads=2,
        head_dim=16,
        hidden=64,
        vocab=1000,
        dtype="float16",
        context=32768,
        weight_bytes=weights,
        kv_bytes_per_token=kv,
        graph="model.onnx",
        files={"model.onnx": ArtifactFile(hashlib.sha256(graph).hexdigest(), len(graph))},
        eos_token_ids=(1,),
        export={},
        pooling=None,
    )
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


def compile_once(folder: Path) -> tuple[float, float]:
    """Seconds of one compile, from an empty process to its end: on the clock, and of the processor."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-m", "cortexd", "compile", "--out", out, "--format", "json"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--fleet", str(folder / "fleet.toml"), "--models", str(folder / "models.toml")],
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"the compile failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(sizes: tuple[int, ...]) -> list[dict[str, float]]:
    """The medians of each size."""
    rows: list[dict[str, float]] = []
    for n in sizes:
        with tempfile.TemporaryDirectory() as name:
            write_fleet(Path(name), n)
            runs = [compile_once(Path(name)) for _ in range(RUNS)]
        clock, processor = (statistics.median(values) for values in zip(*runs, strict=True))
        rows.append({"n": n, "seconds": round(clock, 3), "processor_seconds": round(processor, 3)})
        print(f"{n:>6} x {n:<6} {clock:7.2f} s on the clock {processor:7.2f} s of the processor", flush=True)
    return rows


def fit(rows: list[dict[str, float]]) -> tuple[float, float, float]:
    """Least squares of ``start + work * n log n``, and the exponent of what exceeds the start between half and all.

    The processor's seconds: on a machine that does other things too, the clock tells about those.
    """
    x = [row["n"] * math.log(row["n"]) for row in rows]
    y = [row["processor_seconds"] for row in rows]
    mean_x, mean_y = statistics.mean(x), statistics.mean(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    work = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0
    start = mean_y - work * mean_x
    floor = min(start, rows[0]["processor_seconds"] * 0.9)  # above the first point there would be nothing left to grow
    middle = min(rows, key=lambda row: abs(row["n"] - rows[-1]["n"] / 2))
    grown = (rows[-1]["processor_seconds"] - floor) / (middle["processor_seconds"] - floor)
    return start, work, math.log(grown) / math.log(rows[-1]["n"] / middle["n"])


def main() -> int:
    """Measure, print, draw, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=1000, help="the largest n, 100 or more")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="where compile.json and .svg go")
    arguments = parser.parse_args()
    sizes = tuple(n for n in SIZES if n <= arguments.most)
    if len(sizes) < 2:
        parser.error("--most must be 100 or more: growth takes two sizes")
    rows = measure(sizes)
    start, work, exponent = fit(rows)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "compile.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    chart = line_chart(
        "cortexd compile: n neurons x n models, median of 3",
        "n",
        "seconds",
        {
            "seconds of the processor": [(row["n"], row["processor_seconds"]) for row in rows],
            f"{start:.2f} s + {work * 1e6:.0f} us x n log n": [
                (row["n"], start + work * row["n"] * math.log(row["n"])) for row in rows
            ],
            "seconds on the clock": [(row["n"], row["seconds"]) for row in rows],
        },
    )
    (arguments.out / "compile.svg").write_text(chart, encoding="utf-8")
    slow, steep = rows[-1]["seconds"] >= MOST_S, exponent >= MOST_GROWTH
    print(f"{start:.2f} s + {work * 1e6:.0f} us x n log n; from half to all it grows like n^{exponent:.2f}")
    if slow:
        print(f"TOO SLOW: {rows[-1]['n']:.0f} x {rows[-1]['n']:.0f} took {MOST_S:g} s or more on the clock")
    if steep:
        print(f"TOO STEEP: n log n would be below n^{MOST_GROWTH}")
    load = os.getloadavg()[0]
    if load > (os.cpu_count() or 1):
        print(f"this machine does other things too (load {load:.1f} on {os.cpu_count()} cores)")
    return 1 if slow or steep else 0


if __name__ == "__main__":
    sys.exit(main())

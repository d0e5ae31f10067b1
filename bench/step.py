"""What Python costs per step: everything but the session's run, with a vocabulary of a real model.

``python -m bench.step``: medians in microseconds over sessions that compute nothing, for several mixes and batches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cortexd.protocol.request import Sampling
from neuron.engine.events import TokenEvent
from neuron.engine.loop import Engine
from neuron.engine.sampler import prepare
from neuron.engine.sequence import EngineRequest
from neuron.session.base import Logits

CASES: dict[str, tuple[Sampling, int | None]] = {
    "greedy": (Sampling(temperature=0.0), None),
    "temperature": (Sampling(temperature=0.8), None),
    "top_k 40, top_p 0.9": (Sampling(temperature=0.8, top_k=40, top_p=0.9), None),
    "top_p 0.9": (Sampling(temperature=0.8, top_p=0.9), None),
    "top_p 0.9, penalties": (Sampling(temperature=0.8, top_p=0.9, frequency_penalty=0.5, repetition_penalty=1.1), None),
    "greedy, 5 logprobs": (Sampling(temperature=0.0), 5),
}


class Nothing:
    """A session whose logits are there already."""

    kv_bytes = 0
    max_chunk = 256

    def __init__(self, rows: int, vocab: int) -> None:
        self.rows, self.context, self.vocab = rows, 1 << 20, vocab
        # a few hundred likely tokens and a long tail, as models have them
        random = np.random.default_rng(0)
        ranks = np.stack([random.permutation(vocab) for _ in range(rows)]) + 1
        self._logits: Logits = (10 - 1.5 * np.log(ranks)).astype(np.float32)

    def prefill(self, row: int, tokens: Sequence[int], start: int) -> Logits:
        logits: Logits = self._logits[row]
        return logits

    def decode(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Logits:
        return self._logits[: len(tokens)]

    def warm(self, limit_s: float) -> int | None:
        return None

    def close(self) -> None:
        pass


def measure(rows: int, vocab: int, sampling: Sampling, top_logprobs: int | None, steps: int) -> float:
    """Median microseconds of a decode step of ``rows`` sequences."""
    events: list[TokenEvent] = []
    engine = Engine(Nothing(rows, vocab), events.append, time.monotonic)
    for i in range(rows):
        plan, prompt = prepare(sampling), tuple(range(i, i + 500))
        engine.submit(EngineRequest(str(i), prompt, plan, (), 1 << 19, 0.0, entropy=i, top_logprobs=top_logprobs))
    while len(engine.scheduler.decoding) < rows:
        engine.step()
    taken = []
    for _ in range(steps):
        started = time.perf_counter()
        engine.step()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1e6


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=152_000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found = {
        name: {rows: round(measure(rows, chosen.vocab, *case, chosen.steps), 1) for rows in (1, 4, 16)}
        for name, case in CASES.items()
    }
    if chosen.json:
        print(json.dumps(found))
        return
    print(f"{'microseconds per step':<24}" + "".join(f"{f'batch {n}':>10}" for n in (1, 4, 16)))
    for name, row in found.items():
        print(f"{name:<24}" + "".join(f"{value:>10.0f}" for value in row.values()))


if __name__ == "__main__":
    main()

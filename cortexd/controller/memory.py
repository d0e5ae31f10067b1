"""Which measurements of loaded models have to be written: new ones, and those that moved. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cortexd.controller.report import Took
from cortexd.residency.memory import shares
from cortexd.store.memory_async import Key, Seen
from cortexd.store.observations import Fleet

# Two loads of the same model never take the same to the byte.
STEP = 0.01


class MemoryRecorder:
    """Holds what the database has."""

    def __init__(self, stored: Mapping[Key, Seen]) -> None:
        self._stored = dict(stored)

    def due(self, fleet: Fleet, loaded: Iterable[tuple[str, str, Took]]) -> list[tuple[Key, Seen]]:
        """What to write. ``loaded``: (neuron, model, what it took).

        Only for models that are loaded in the shape that the live generation declares: a prediction is about that.
        """
        due = []
        for neuron, model, took in loaded:
            wanted = fleet.desired.models.get(model)
            wish = wanted.placement_on(neuron) if wanted else None
            shape = (took.manifest_sha256, took.context, took.max_sequences)
            if wanted is None or wish is None or fleet.shapes.get(model) != shape:
                continue
            predicted = shares(wanted, wish)
            for device, measured in took.devices.items():
                key = Key(neuron, device, model, *shape)
                if device in predicted and self._moved(key, seen := Seen(predicted[device], measured)):
                    due.append((key, seen))
        return due

    def written(self, entries: Iterable[tuple[Key, Seen]]) -> None:
        """These are committed."""
        self._stored.update(entries)

    def _moved(self, key: Key, seen: Seen) -> bool:
        before = self._stored.get(key)
        if before is None or before.predicted_bytes != seen.predicted_bytes:
            return True
        return abs(seen.measured_bytes - before.measured_bytes) > STEP * max(before.measured_bytes, 1)

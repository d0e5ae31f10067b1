"""What models took beside what was predicted, for ``cortexd fit``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Engine, select

from cortexd.models import Device, DeviceObservation, Live, MemoryObservation, Model


@dataclass(frozen=True, slots=True)
class Fit:
    """A model in one shape on one device, in bytes; the newest measurement.

    ``current``: the live generation serves it in this shape. ``kind`` is None for a device that nobody knows any more.
    ``devices``: how many a replica lay on; ``device_bytes`` what the device may hold (None: not declared any more).
    """

    neuron: str
    device: str
    kind: str | None
    model: str
    manifest_sha256: str
    context: int
    max_sequences: int
    devices: int
    predicted_bytes: int
    measured_bytes: int
    measured_at: float
    device_bytes: int | None
    current: bool

    @property
    def ratio(self) -> float:
        """Measured over predicted; above 1 the proof said too little."""
        return self.measured_bytes / max(self.predicted_bytes, 1)


def fits(engine: Engine) -> list[Fit]:
    """Every observation, worst ratio first."""
    with engine.connect() as connection:
        live = connection.scalar(select(Live.generation)) or ""
        shapes = {
            row.id: (row.manifest_sha256, row.context, row.max_sequences)
            for row in connection.execute(
                select(Model.id, Model.manifest_sha256, Model.context, Model.max_sequences).where(
                    Model.generation == live
                )
            )
        }
        kinds = {
            (row.neuron, row.device): row.kind
            for row in connection.execute(
                select(DeviceObservation.neuron, DeviceObservation.device, DeviceObservation.kind)
            )
        }
        declared = {
            (row.neuron, row.name): row
            for row in connection.execute(
                select(Device.neuron, Device.name, Device.kind, Device.memory_bytes).where(Device.generation == live)
            )
        }
        rows = connection.execute(select(MemoryObservation.__table__)).all()
    spread = Counter((r.neuron, r.model, r.manifest_sha256, r.context, r.max_sequences) for r in rows)
    found = []
    for r in rows:
        shape = (r.manifest_sha256, r.context, r.max_sequences)
        device = declared.get((r.neuron, r.device))
        found.append(
            Fit(
                neuron=r.neuron,
                device=r.device,
                kind=device.kind if device else kinds.get((r.neuron, r.device)),
                model=r.model,
                manifest_sha256=r.manifest_sha256,
                context=r.context,
                max_sequences=r.max_sequences,
                devices=spread[r.neuron, r.model, *shape],
                predicted_bytes=r.predicted_bytes,
                measured_bytes=r.measured_bytes,
                measured_at=r.measured_at,
                device_bytes=device.memory_bytes if device else None,
                current=device is not None and shapes.get(r.model) == shape,
            )
        )
    return sorted(found, key=lambda f: (-f.ratio, f.neuron, f.device, f.model, f.manifest_sha256, f.context))

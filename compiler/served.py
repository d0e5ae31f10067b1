"""Of phase 3: a declared model and its artifact become a model that can be placed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compiler import codes
from compiler.diagnostics import Diagnostic, KeyPath
from compiler.ir import Artifact, Model, Neuron
from compiler.references import unknown
from compiler.schema.models import ModelSection
from compiler.source import Source
from compiler.validate import Declaration, Item
from cortexd.protocol.manifest import Manifest

# How manifests write what models.toml calls a precision.
_PRECISION = {"float32": "fp32", "float16": "fp16", "fp32": "fp32", "fp16": "fp16", "int8": "int8", "int4": "int4"}


class Names:
    """The neurons and devices of the fleet, by every name that a model may call them by. Built once."""

    def __init__(self, neurons: Mapping[str, Neuron]) -> None:
        self.neurons = neurons
        self._devices: dict[str, set[str]] = {}
        self._sets: dict[tuple[str, ...], frozenset[str]] = {}
        for neuron in neurons.values():
            for device in neuron.devices:
                self._devices.setdefault(device.name, set()).add(device.full_name)
                self._devices.setdefault(device.full_name, set()).add(device.full_name)

    def devices(self, wanted: Iterable[str]) -> frozenset[str]:
        """``cpu-0`` means that device of every neuron, ``local/cpu-0`` one. Equal lists share one set."""
        key = tuple(wanted)
        if key not in self._sets:
            self._sets[key] = frozenset[str]().union(*(self._devices.get(name, ()) for name in key))
        return self._sets[key]

    def unknown_device(self, name: str, source: Source, path: KeyPath) -> Diagnostic | None:
        """What to say about a name that no device has."""
        if name in self._devices:
            return None
        known = [other for other in self._devices if ("/" in other) == ("/" in name)]
        return unknown("device", name, known, source, path)


def serve(
    item: Item[ModelSection], declared: Declaration, artifact: Artifact, names: Names, source: Source
) -> tuple[Model | None, list[Diagnostic]]:
    """The model, or everything that keeps it from being one."""
    m, path = item.value, item.path
    found: list[Diagnostic] = []
    at_source: KeyPath = (*path, "source")
    for problem in artifact.problems:
        span = source.span(at_source)
        found.append(Diagnostic(problem.code, "error", problem.message, span, at_source, problem.hint))
    if declared.fleet_complete:
        found += _places(m, names, source, path)
    manifest = artifact.manifest
    if manifest is None:
        return None, found
    context = m.context or manifest.context
    found += _agrees(m, manifest, source, path)
    found += _bounds(m, context, source, path)
    if found:
        return None, found
    return Model(
        id=m.id,
        source=m.source,
        task=m.task,
        artifact=artifact.location,
        manifest=manifest,
        manifest_sha256=artifact.manifest_sha256,
        context=context,
        max_sequences=m.max_sequences,
        pinned=m.pinned or bool(m.pinned_on),
        pinned_on=tuple(dict.fromkeys(m.pinned_on)),
        residency_priority=m.residency_priority,
        min_device_bytes=(m.min_device_vram_mb or 0) << 20,
        devices=None if m.devices is None else names.devices(m.devices),
        sampling=m.sampling.model_dump(exclude_none=True),
        idle_ttl_s=m.idle_ttl_s,
        path=path,
        precision=m.precision,
        min_devices=m.min_devices,
        on_pressure=m.on_pressure,
        replicas=m.replicas.model_dump(exclude_none=True) if m.replicas else {},
        limits=m.limit.model_dump(exclude_none=True),
        tool_parser=m.tool_parser,
        reasoning_parser=m.reasoning_parser,
        cost=m.cost.model_dump(exclude_none=True) if m.cost else {},
        capabilities=tuple(dict.fromkeys(m.capabilities)),
        fallback=tuple(dict.fromkeys(declared.aliases.get(name, name) for name in m.fallback)),
    ), found


def _places(m: ModelSection, names: Names, source: Source, path: KeyPath) -> Iterable[Diagnostic]:
    """Neurons and devices that it names, and how many there are."""
    for n, name in enumerate(m.pinned_on):
        if name not in names.neurons:
            yield unknown("neuron", name, names.neurons, source, (*path, "pinned_on", n))
    for n, name in enumerate(m.devices or ()):
        if found := names.unknown_device(name, source, (*path, "devices", n)):
            yield found


def _agrees(m: ModelSection, manifest: Manifest, source: Source, path: KeyPath) -> Iterable[Diagnostic]:
    """What the model says about its artifact."""
    if manifest.task != m.task:
        at: KeyPath = (*path, "task")
        message = f"{m.source} is an artifact for task {manifest.task}, not {m.task}"
        hint = f'write task = "{manifest.task}"'
        yield Diagnostic(codes.WRONG_TASK, "error", message, source.span(at), at, hint)
    if m.context is not None and m.context > manifest.context:
        at = (*path, "context")
        message = f"context {m.context} is longer than the {manifest.context} tokens that {m.source} was made for"
        hint = f"at most {manifest.context}; leave it out for that"
        yield Diagnostic(codes.CONTEXT_TOO_LONG, "error", message, source.span(at), at, hint)
    precision = _PRECISION.get(manifest.dtype)
    if m.precision is not None and precision is not None and precision != m.precision:
        at = (*path, "precision")
        message = f"the weights of {m.source} are {precision}, not {m.precision}"
        hint = f'write precision = "{precision}", or name an artifact that was exported as {m.precision}'
        yield Diagnostic(codes.WRONG_PRECISION, "error", message, source.span(at), at, hint)


def _bounds(m: ModelSection, context: int, source: Source, path: KeyPath) -> Iterable[Diagnostic]:
    """Limits that could never be reached, or that the model's own defaults exceed."""
    for name in ("input", "output"):
        value = getattr(m.limit, name)
        if value is not None and value > context:
            at: KeyPath = (*path, "limit", name)
            message = f"limit.{name} = {value} is more than the context, which is {context}"
            hint = f"at most {context}; leave it out for no limit but the context"
            yield Diagnostic(codes.CONTRADICTION, "error", message, source.span(at), at, hint)
    most, usual = m.limit.output, m.sampling.max_tokens
    if most is not None and usual is not None and usual > most:
        at = (*path, "sampling", "max_tokens")
        message = f"sampling.max_tokens = {usual} is more than limit.output = {most}"
        yield Diagnostic(codes.CONTRADICTION, "error", message, source.span(at), at, f"at most {most}")

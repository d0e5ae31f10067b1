"""Phase 3: names become the things they name, across both files and the artifacts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compiler import codes
from compiler.diagnostics import Diagnostic, KeyPath, did_you_mean
from compiler.ir import Artifact, Device, Fleet, Host, Key, Model, Neuron
from compiler.schema.models import ModelSection
from compiler.source import Source
from compiler.validate import Declaration, Item


def resolve(
    declared: Declaration, artifacts: Mapping[str, Artifact], fleet: Source, models: Source
) -> tuple[Fleet, list[Diagnostic]]:
    """The fleet as far as it is consistent, and what is not. ``artifacts`` maps a model's source to its files."""
    found = [
        *_duplicates(declared, fleet, models),
        *_fleet_references(declared, fleet),
        *_addresses(declared, fleet),
        *_aliases(declared, models),
    ]
    if declared.gateway.require_auth and not declared.names["keys"]:
        message = "require_auth is on and no [[keys]] are declared: every request will be refused"
        path = ("gateway", "require_auth")
        found.append(Diagnostic(codes.NO_KEYS, "warning", message, fleet.span(path), path, "declare a [[keys]] entry"))
    neurons = _neurons(declared)
    served: dict[str, Model] = {}
    for item in declared.models:
        model, problems = _model(item, declared, artifacts, neurons, models)
        found += problems
        if model is not None:
            served.setdefault(model.id, model)
    hosts = {i.value.name: Host(i.value.name, i.value.address, i.value.ssh) for i in reversed(declared.hosts)}
    first_host = declared.hosts[0].value.name if declared.hosts else ""
    return Fleet(
        name=declared.fleet_name,
        gateway_host=declared.gateway.host or first_host,
        gateway=declared.gateway.model_dump(exclude={"host"}),
        controller=declared.controller.model_dump(),
        database_url=declared.database.url,
        hosts=tuple(reversed(hosts.values())),
        neurons=tuple(neurons.values()),
        models=tuple(served.values()),
        aliases=tuple(declared.aliases.items()),
        keys=tuple(Key(i.value.id, i.value.account, i.value.secret_sha256) for i in declared.keys),
    ), found


def _neurons(declared: Declaration) -> dict[str, Neuron]:
    neurons: dict[str, Neuron] = {}
    for item in declared.neurons:
        n = item.value
        devices = tuple(Device(n.name, d.name, d.kind, d.index, d.threads, d.memory_mb << 20) for d in n.devices)
        neurons.setdefault(n.name, Neuron(n.name, n.host, n.endpoint, n.token_file, devices))
    return neurons


def _duplicates(declared: Declaration, fleet: Source, models: Source) -> Iterable[Diagnostic]:
    groups: list[tuple[Source, str, list[tuple[str, KeyPath]]]] = [
        (fleet, "host", [(i.value.name, (*i.path, "name")) for i in declared.hosts]),
        (fleet, "neuron", [(i.value.name, (*i.path, "name")) for i in declared.neurons]),
        (fleet, "account", [(i.value.name, (*i.path, "name")) for i in declared.accounts]),
        (fleet, "key", [(i.value.id, (*i.path, "id")) for i in declared.keys]),
        (fleet, "key with this secret", [(i.value.secret_sha256, (*i.path, "secret_sha256")) for i in declared.keys]),
        (models, "model", [(i.value.id, (*i.path, "id")) for i in declared.models]),
    ]
    for i in declared.neurons:
        devices = list(enumerate(i.value.devices))
        groups.append((fleet, "device", [(d.name, (*i.path, "devices", n, "name")) for n, d in devices]))
        indexes = [(f"{d.kind} {d.index}", (*i.path, "devices", n, "index")) for n, d in devices]
        groups.append((fleet, "device with kind and index", indexes))
    for source, what, entries in groups:
        first: dict[str, KeyPath] = {}
        for name, path in entries:
            if name in first:
                earlier = source.span(first[name])
                shown = "" if what == "key with this secret" else f" `{name}`"
                message = f"{what}{shown} is declared twice"
                hint = f"the first one is at {earlier.file}:{earlier.line}"
                yield Diagnostic(codes.DUPLICATE, "error", message, source.span(path), path, hint)
            first.setdefault(name, path)


def _unknown(what: str, name: str, known: Iterable[str], source: Source, path: KeyPath) -> Diagnostic:
    hint = did_you_mean(name, known)
    return Diagnostic(codes.UNKNOWN_REFERENCE, "error", f"there is no {what} `{name}`", source.span(path), path, hint)


def _fleet_references(declared: Declaration, fleet: Source) -> Iterable[Diagnostic]:
    hosts, accounts = declared.names["hosts"], declared.names["accounts"]
    if declared.gateway.host and declared.gateway.host not in hosts:
        yield _unknown("host", declared.gateway.host, hosts, fleet, ("gateway", "host"))
    for neuron in declared.neurons:
        if neuron.value.host not in hosts:
            yield _unknown("host", neuron.value.host, hosts, fleet, (*neuron.path, "host"))
    for key in declared.keys:
        if key.value.account not in accounts:
            yield _unknown("account", key.value.account, accounts, fleet, (*key.path, "account"))


def _addresses(declared: Declaration, fleet: Source) -> Iterable[Diagnostic]:
    """Addresses of one host only: each host has a loopback of its own."""
    gateway_host = declared.gateway.host or (declared.hosts[0].value.name if declared.hosts else "")
    listeners: list[tuple[str, str, str, KeyPath]] = [
        (gateway_host, declared.gateway.listen, "the gateway", ("gateway", "listen")),
        (gateway_host, declared.gateway.metrics_listen, "the gateway's metrics", ("gateway", "metrics_listen")),
    ]
    for i in declared.neurons:
        address = i.value.endpoint.removeprefix("http://")
        listeners.append((i.value.host, address, f"neuron {i.value.name}", (*i.path, "endpoint")))
    taken: dict[tuple[str, str], str] = {}
    for host, address, who, path in listeners:
        other = taken.get((host, address))
        if other and other != who:
            message = f"{who} and {other} would both listen on {address}"
            hint = "give each a port of its own"
            yield Diagnostic(codes.ADDRESS_TWICE, "error", message, fleet.span(path), path, hint)
        taken.setdefault((host, address), who)


def _aliases(declared: Declaration, models: Source) -> Iterable[Diagnostic]:
    known = declared.names["models"]
    for name, target in declared.aliases.items():
        path: KeyPath = ("aliases", name)
        if name in known:
            message = f"alias `{name}` has the id of a model, which could then not be reached"
            yield Diagnostic(
                codes.ALIAS_HIDES_MODEL, "error", message, models.span(path, "key"), path, "choose another name"
            )
        if target in declared.aliases and target not in known:
            message = f"there is no model `{target}`; it is an alias, and aliases are not chained"
            hint = f"name the model itself: `{declared.aliases[target]}`"
            yield Diagnostic(codes.UNKNOWN_REFERENCE, "error", message, models.span(path), path, hint)
        elif target not in known:
            yield _unknown("model", target, known, models, path)


def _model(
    item: Item[ModelSection],
    declared: Declaration,
    artifacts: Mapping[str, Artifact],
    neurons: Mapping[str, Neuron],
    source: Source,
) -> tuple[Model | None, list[Diagnostic]]:
    m, path = item.value, item.path
    found: list[Diagnostic] = []
    artifact = artifacts[m.source]
    at_source: KeyPath = (*path, "source")
    for problem in artifact.problems:
        span = source.span(at_source)
        found.append(Diagnostic(problem.code, "error", problem.message, span, at_source, problem.hint))
    fleet_known = declared.fleet_complete
    if fleet_known:
        for n, name in enumerate(m.pinned_on):
            if name not in neurons:
                found.append(_unknown("neuron", name, neurons, source, (*path, "pinned_on", n)))
        found += _unknown_devices(m, neurons, source, path)
    manifest = artifact.manifest
    if manifest is None:
        return None, found
    if manifest.task != m.task:
        at: KeyPath = (*path, "task")
        message = f"{m.source} is an artifact for task {manifest.task}, not {m.task}"
        found.append(
            Diagnostic(codes.WRONG_TASK, "error", message, source.span(at), at, f'write task = "{manifest.task}"')
        )
    context = m.context or manifest.context
    if context > manifest.context:
        at = (*path, "context")
        message = f"context {context} is longer than the {manifest.context} tokens that {m.source} was made for"
        hint = f"at most {manifest.context}; leave it out for that"
        found.append(Diagnostic(codes.CONTEXT_TOO_LONG, "error", message, source.span(at), at, hint))
    if found:
        return None, found
    devices = None if m.devices is None else frozenset(_matching(m.devices, neurons))
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
        devices=devices,
        sampling=m.sampling.model_dump(exclude_none=True),
        idle_ttl_s=m.idle_ttl_s,
        path=path,
    ), found


def _full_names(neurons: Mapping[str, Neuron]) -> list[str]:
    return [device.full_name for neuron in neurons.values() for device in neuron.devices]


def _matching(wanted: Iterable[str], neurons: Mapping[str, Neuron]) -> set[str]:
    """``cpu-0`` means that device of every neuron, ``local/cpu-0`` one."""
    names = set(wanted)
    return {name for name in _full_names(neurons) if name in names or name.split("/")[1] in names}


def _unknown_devices(
    m: ModelSection, neurons: Mapping[str, Neuron], source: Source, path: KeyPath
) -> Iterable[Diagnostic]:
    for n, name in enumerate(m.devices or ()):
        if not _matching([name], neurons):
            full = _full_names(neurons)
            known = full if "/" in name else {other.split("/")[1] for other in full}
            yield _unknown("device", name, known, source, (*path, "devices", n))

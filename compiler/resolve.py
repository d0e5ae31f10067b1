"""Phase 3: names become the things they name, across both files and the artifacts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler.diagnostics import Diagnostic
from compiler.ir import Account, Artifact, Device, Fleet, Host, Key, Model, Monitoring, Neuron, Systemd
from compiler.references import check_references
from compiler.schema.access import KeySection, Limits
from compiler.served import Names, serve
from compiler.source import Source
from compiler.validate import Declaration


def resolve(
    declared: Declaration, artifacts: Mapping[str, Artifact], fleet: Source, models: Source
) -> tuple[Fleet, list[Diagnostic]]:
    """The fleet as far as it is consistent, and what is not. ``artifacts`` maps what a model wants to its files."""
    found = check_references(declared, fleet, models)
    neurons = _neurons(declared)
    names = Names(neurons)
    served: dict[str, Model] = {}
    for item in declared.models:
        model, problems = serve(item, declared, artifacts[item.value.wanted], names, models)
        found += problems
        if model is not None:
            served.setdefault(model.id, model)
    hosts: dict[str, Host] = {}
    for host in (item.value for item in declared.hosts):
        hosts.setdefault(host.name, Host(host.name, host.address, host.ssh, host.prefix))
    accounts = {i.value.name: Account(i.value.name, _limits(i.value)) for i in declared.accounts}
    return Fleet(
        name=declared.fleet_name,
        gateway_host=declared.gateway.host or next(iter(hosts), ""),
        gateway=declared.gateway.model_dump(exclude={"host"}, exclude_none=True),
        controller=declared.controller.model_dump(),
        database_url=declared.database.url,
        hosts=tuple(hosts.values()),
        neurons=tuple(neurons.values()),
        models=tuple(served.values()),
        aliases=tuple(declared.aliases.items()),
        keys=tuple(_key(i.value, declared.aliases) for i in declared.keys),
        accounts=tuple(accounts.values()),
        eviction=declared.eviction.model_dump(),
        retention=declared.retention.model_dump(),
        monitoring=Monitoring(declared.monitoring.prometheus, declared.monitoring.grafana),
        systemd=Systemd(declared.systemd.prefix, declared.systemd.user_prefix),
    ), found


def _neurons(declared: Declaration) -> dict[str, Neuron]:
    neurons: dict[str, Neuron] = {}
    for n in (item.value for item in declared.neurons):
        devices = tuple(Device(n.name, d.name, d.kind, d.index, d.threads, d.memory_mb << 20) for d in n.devices)
        neurons.setdefault(n.name, Neuron(n.name, n.host, n.endpoint, n.token_file, devices))
    return neurons


def _limits(section: Limits) -> dict[str, Any]:
    """What an account or key may use, as the rows say it."""
    settings = section.model_dump(exclude_none=True, include=set(Limits.model_fields))
    if "hard_cap" in settings:
        settings["hard_cap_tokens"] = settings.pop("hard_cap")
        settings.setdefault("window", {"kind": "balance"})
    return settings


def _key(key: KeySection, aliases: Mapping[str, str]) -> Key:
    """``models`` in its settings are ids: the gateway compares after it looked up aliases."""
    references = {"env": key.secret_env, "file": key.secret_file, "credential": key.secret_credential}
    reference = next((f"{kind}:{name}" for kind, name in references.items() if name is not None), None)
    settings = _limits(key)
    if key.models is not None:
        settings["models"] = sorted({aliases.get(name, name) for name in key.models})
    return Key(key.id, key.account, key.secret_sha256, reference, settings)

"""Of phase 3: that every name is declared once, and means something. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compiler import codes
from compiler.diagnostics import Diagnostic, KeyPath, did_you_mean
from compiler.schema.access import SECRETS, KeySection
from compiler.source import Source
from compiler.validate import Declaration, Item


def check_references(declared: Declaration, fleet: Source, models: Source) -> list[Diagnostic]:
    """Everything about names that needs no artifact."""
    return [
        *_duplicates(declared, fleet, models),
        *_hosts_and_accounts(declared, fleet),
        *_allowed_models(declared, fleet, models),
        *_addresses(declared, fleet),
        *_aliases(declared, models),
        *_fallbacks(declared, models),
        *_no_keys(declared, fleet),
    ]


def unknown(what: str, name: str, known: Iterable[str], source: Source, path: KeyPath) -> Diagnostic:
    """A reference to something that is not declared."""
    hint = did_you_mean(name, known)
    return Diagnostic(codes.UNKNOWN_REFERENCE, "error", f"there is no {what} `{name}`", source.span(path), path, hint)


def _duplicates(declared: Declaration, fleet: Source, models: Source) -> Iterable[Diagnostic]:
    groups: list[tuple[Source, str, list[tuple[str, KeyPath]]]] = [
        (fleet, "host", [(i.value.name, (*i.path, "name")) for i in declared.hosts]),
        (fleet, "neuron", [(i.value.name, (*i.path, "name")) for i in declared.neurons]),
        (fleet, "account", [(i.value.name, (*i.path, "name")) for i in declared.accounts]),
        (fleet, "key", [(i.value.id, (*i.path, "id")) for i in declared.keys]),
        (fleet, "key with this secret", [e for i in declared.keys for e in _secrets(i)]),
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


def _secrets(item: Item[KeySection]) -> Iterable[tuple[str, KeyPath]]:
    """What the entry says about its secret (one thing), as something that no other may say."""
    given = {name: getattr(item.value, name) for name in SECRETS}
    return [(f"{name} {value}", (*item.path, name)) for name, value in given.items() if value is not None]


def _hosts_and_accounts(declared: Declaration, fleet: Source) -> Iterable[Diagnostic]:
    hosts, accounts = set(declared.names["hosts"]), set(declared.names["accounts"])
    # Without any host that is the mistake, and it is told already.
    if hosts:
        if declared.gateway.host and declared.gateway.host not in hosts:
            yield unknown("host", declared.gateway.host, hosts, fleet, ("gateway", "host"))
        for neuron in declared.neurons:
            if neuron.value.host not in hosts:
                yield unknown("host", neuron.value.host, hosts, fleet, (*neuron.path, "host"))
    for key in declared.keys:
        if key.value.account not in accounts:
            path = (*key.path, "account")
            found = unknown("account", key.value.account, accounts, fleet, path)
            if not accounts:
                hint = f'declare it: [[accounts]] with name = "{key.value.account}"'
                found = Diagnostic(found.code, found.severity, found.message, found.span, path, hint)
            yield found


def _allowed_models(declared: Declaration, fleet: Source, models: Source) -> Iterable[Diagnostic]:
    if models.data is None:
        return
    known = {*declared.names["models"], *declared.names["aliases"]}
    for key in declared.keys:
        for n, name in enumerate(key.value.models or ()):
            if name not in known:
                yield unknown("model", name, known, fleet, (*key.path, "models", n))


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
    known = set(declared.names["models"])
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
            yield unknown("model", target, known, models, path)


def _fallbacks(declared: Declaration, models: Source) -> Iterable[Diagnostic]:
    known = {*declared.names["models"], *declared.names["aliases"]}
    tasks = {item.value.id: item.value.task for item in declared.models}
    leads: dict[str, dict[str, KeyPath]] = {}
    for item in declared.models:
        edges = leads.setdefault(item.value.id, {})
        for n, name in enumerate(item.value.fallback):
            path = (*item.path, "fallback", n)
            target = declared.aliases.get(name, name)
            task = tasks.get(target, item.value.task)
            if name not in known:
                yield unknown("model", name, known, models, path)
            elif task != item.value.task:
                message = f"`{name}` is for task {task}, so it cannot answer for a model of task {item.value.task}"
                yield Diagnostic(codes.CONTRADICTION, "error", message, models.span(path), path)
            else:
                edges.setdefault(target, path)
    for circle, path in _circles(leads):
        chain = " -> ".join(f"`{name}`" for name in circle)
        message = f"fallbacks go in a circle: {chain}"
        hint = "leave this one out"
        yield Diagnostic(codes.FALLBACK_CIRCLE, "error", message, models.span(path), path, hint)


def _circles(leads: Mapping[str, Mapping[str, KeyPath]]) -> Iterable[tuple[list[str], KeyPath]]:
    """Each edge that leads back to where the search came from, with the way there. Every edge is looked at once."""
    done: set[str] = set()
    for start in leads:
        trail: list[str] = []
        position: dict[str, int] = {}
        waiting = [(start, iter(leads[start].items()))] if start not in done else []
        while waiting:
            name, edges = waiting[-1]
            if name not in position:
                position[name] = len(trail)
                trail.append(name)
            for target, path in edges:
                if target in position:
                    yield [*trail[position[target] :], target], path
                elif target not in done:
                    waiting.append((target, iter(leads.get(target, {}).items())))
                    break
            else:
                waiting.pop()
                trail.pop()
                del position[name]
                done.add(name)


def _no_keys(declared: Declaration, fleet: Source) -> Iterable[Diagnostic]:
    if declared.gateway.require_auth and not declared.names["keys"]:
        message = "require_auth is on and no [[keys]] are declared: every request will be refused"
        path = ("gateway", "require_auth")
        yield Diagnostic(codes.NO_KEYS, "warning", message, fleet.span(path), path, "declare a [[keys]] entry")

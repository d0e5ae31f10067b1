"""helexa: cortex.toml, models.toml and one neuron.toml for each neuron, told apart by what stands in them."""

from __future__ import annotations

from compiler.importers import helexa_neuron
from compiler.importers.common import (
    Machines,
    begin,
    precision,
    put_key,
    put_source,
    repository,
    slug,
    split_url,
)
from compiler.importers.draft import Draft, Table
from compiler.importers.tree import ImportFailed, Node, Tree

_MODEL_KEYS = ("min_devices", "min_device_vram_mb", "residency_priority", "capabilities")
_GONE = {
    "models_config": "models.toml lies beside fleet.toml, or is named by --models",
    "upstream": "cortexd has no upstream authority: accounts, keys and the ledger are its own",
}
_MODEL_GONE = {
    "harness": "there is one engine",
    "vram_mb": "the compiler computes the memory from the artifact, the context and max_sequences",
}


def draw(trees: list[Tree]) -> Draft:
    """Raises ImportFailed where a file is not what it should be."""
    cortex, models, neurons = _sorted(trees)
    draft = begin("helexa", [t.file for t in trees])
    machines = Machines(draft)
    names = _neurons(draft, machines, cortex)
    _gateway(draft, cortex)
    _entitlements(draft, cortex)
    if models is not None:
        _models(draft, models, names)
    elif cortex.child("models_config") is None:
        draft.models.intro.append("to do: give helexa's models.toml to the import as well, or declare [[models]] here")
    for node in neurons:
        helexa_neuron.add(draft, node, names, len(neurons))
    if models is not None and (aliases := models.child("aliases")) is not None:
        for alias in aliases.entries():
            draft.models.table("aliases").put(alias.key, alias.value, alias)
    return draft


def _sorted(trees: list[Tree]) -> tuple[Node, Node | None, list[Node]]:
    cortex: list[Node] = []
    models: list[Node] = []
    neurons: list[Node] = []
    for tree in trees:
        keys = {node.key for node in tree.root.entries()}
        if keys & {"gateway", "eviction", "neurons", "nodes", "models_config"}:
            cortex.append(tree.root)
        elif keys & {"models", "aliases"}:
            models.append(tree.root)
        elif keys & {"port", "harnesses", "harness", "default_models", "prefix_cache", "admission", "context_limit"}:
            neurons.append(tree.root)
        else:
            raise ImportFailed(f"{tree.file}:1: neither a cortex.toml, a models.toml nor a neuron.toml of helexa")
    for kind, found in (("cortex.toml", cortex), ("models.toml", models)):
        if len(found) > 1:
            raise ImportFailed(f"{found[1].tree.file}:1: a second {kind}, after {found[0].tree.file}; give one")
    if not cortex:
        raise ImportFailed(f"{trees[0].file}:1: no cortex.toml (with [gateway] and [[neurons]]) among the files")
    return cortex[0], models[0] if models else None, neurons


def _gateway(draft: Draft, cortex: Node) -> None:
    gateway = draft.fleet.table("gateway")
    # where helexa listens unless told otherwise; cortexd would take 127.0.0.1
    for key, default in (("listen", "0.0.0.0:31313"), ("metrics_listen", "0.0.0.0:31314")):
        node = cortex.child("gateway", key)
        gateway.put(key, node.value if node else default, node, "" if node else "helexa's default")
    for node in _children(cortex, "gateway"):
        if node.key not in ("listen", "metrics_listen"):
            draft.left_out(node, "cortexd has no such setting", gateway)
    eviction = draft.fleet.table("eviction")
    for node in _children(cortex, "eviction"):
        if node.key in ("strategy", "defrag_after_cycles"):
            eviction.put(node.key, node.value, node)
        else:
            draft.left_out(node, "cortexd has no such setting", eviction)
    for node in cortex.entries():
        if node.key not in ("gateway", "eviction", "neurons", "nodes", "entitlements"):
            draft.left_out(node, _GONE.get(node.key, "cortexd has no such setting"), gateway)


def _neurons(draft: Draft, machines: Machines, cortex: Node) -> dict[str, str]:
    """helexa's name -> ours. ``[[nodes]]`` is an older form, which helexa itself no longer reads."""
    names: dict[str, str] = {}
    section = cortex.child("neurons") or cortex.child("nodes")
    for node in section.items() if section else []:
        known = {child.key: child for child in node.entries()}
        endpoint = known.get("endpoint")
        name = known["name"].text() if "name" in known else f"neuron-{len(names) + 1}"
        where = split_url(endpoint.text()) if endpoint else None
        if endpoint is None or where is None:
            draft.left_out(node, "a neuron needs endpoint = http://HOST:PORT", draft.fleet.table("gateway"))
            continue
        memory = known["vram_mb"].value if "vram_mb" in known else None
        memory = memory if isinstance(memory, int) and not isinstance(memory, bool) else None
        names[name] = machines.neuron(name, where[0], where[1], node, memory)
        table = draft.fleet.entries("neurons")[-1]
        if endpoint.text().startswith("https:"):
            draft.note("guess", endpoint, "a neuron is reached over http", table)
        for key, child in known.items():
            if key not in ("name", "endpoint"):
                draft.left_out(child, "devices say it" if key == "vram_mb" else "cortexd has no such setting", table)
    return names


def _entitlements(draft: Draft, cortex: Node) -> None:
    gateway = draft.fleet.table("gateway")
    accounts: dict[str, str] = {}
    taken: set[str] = set()
    for node in _children(cortex, "entitlements"):
        if node.key == "require_auth":
            gateway.put("require_auth", node.value, node)
        elif node.key != "keys":
            draft.left_out(node, "cortexd has no such setting", gateway)
    section = cortex.child("entitlements", "keys")
    for node in section.items() if section else []:
        known = {child.key: child for child in node.entries()}
        account = known["account_id"].text() if "account_id" in known else "default"
        if account not in accounts:
            accounts[account] = slug(account) or f"account-{len(accounts) + 1}"
            draft.fleet.entry("accounts").put("name", accounts[account], node)
        secret = known.get("key", node)
        name = known["key_id"].text() if "key_id" in known else account
        table = put_key(draft, accounts[account], name, secret, taken)
        _limits(draft, table, known)


def _limits(draft: Draft, table: Table, known: dict[str, Node]) -> None:
    for key, node in known.items():
        if key == "hard_cap":
            table.put("hard_cap", node.value, node)
        elif key == "window":
            for child in node.entries():
                table.put(("window", child.key), child.value, child)
        elif key not in ("key", "account_id", "key_id"):
            draft.left_out(node, "cortexd has no such limit", table)


def _models(draft: Draft, root: Node, neurons: dict[str, str]) -> None:
    for node in root.entries():
        if node.key not in ("models", "aliases"):
            draft.left_out(node, "cortexd has no such setting", draft.models.table("aliases"))
    section = root.child("models")
    for node in section.items() if section else []:
        known = {child.key: child for child in node.entries()}
        if "id" not in known:
            draft.left_out(node, "a model needs an id", draft.models.table("aliases"))
            continue
        table = draft.models.entry("models")
        model_id = known["id"].text()
        table.put("id", model_id, known["id"])
        put_source(draft, table, node, repository(model_id), f"id {model_id!r}")
        table.put("task", "chat", None)
        for key, child in known.items():
            if key not in ("id", "task"):
                _model_key(draft, table, key, child, neurons)


def _model_key(draft: Draft, table: Table, key: str, node: Node, neurons: dict[str, str]) -> None:
    if key in _MODEL_KEYS:
        table.put(key, node.value, node)
    elif key == "pinned_on":
        put_pinned(draft, table, [neurons.get(n.text(), slug(n.text())) for n in node.items()], node)
    elif key == "limit":
        for child in node.entries():
            ours = ("context",) if child.key == "context" else ("limit", child.key)
            table.put(ours, child.value, child)
    elif key == "cost":
        for child in node.entries():
            table.put(("cost", "cached" if child.key == "cache_read" else child.key), child.value, child)
    elif key == "quant":
        put_quant(draft, table, node)
    elif key == "source" and node.value == "huggingface":
        return
    else:
        draft.left_out(node, _MODEL_GONE.get(key, "cortexd has no such setting"), table)


def put_quant(draft: Draft, table: Table, node: Node) -> None:
    """A GGUF quantisation as the precision closest to it."""
    closest = precision(node.text())
    if closest is None:
        draft.left_out(node, "no precision of cortexd is like it", table)
        return
    table.put("precision", closest, node, f"guess, from quant {node.text()!r}")
    draft.note("guess", node, f"model {table.get('id')}: {closest} is the closest to {node.text()!r}")


def put_pinned(draft: Draft, table: Table, names: list[str], node: Node) -> None:
    """Add neurons to ``pinned_on``."""
    before = table.get("pinned_on") or []
    table.parts = [p for p in table.parts if isinstance(p, str) or p.key != ("pinned_on",)]
    if wanted := list(dict.fromkeys([*before, *names])):
        table.put("pinned_on", wanted, node)


def _children(node: Node, key: str) -> list[Node]:
    found = node.child(key)
    return found.entries() if found else []

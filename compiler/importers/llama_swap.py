"""llama-swap's config.yaml. The commands name the models; which of them may run together is left to memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from compiler.importers.command_line import Said, expand, read_command
from compiler.importers.common import Machines, begin, precision, put_key, put_source, repository
from compiler.importers.draft import Draft, Table
from compiler.importers.tree import ImportFailed, Node, Tree

_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens")
_MEMORY_DECIDES = "models stay beside each other as long as they fit; cortexd has no groups"
_GONE = {
    "logLevel": "see `cortexd gateway --log-level`",
    "startPort": "neurons choose no ports",
    "metricsMaxInMemory": "requests are rows of the ledger",
    "captureBuffer": "cortexd keeps no requests",
    "sendLoadingState": "a waiting client gets keep-alives; nothing is injected into answers",
    "includeAliasesInList": "every alias is listed",
    "matrix": _MEMORY_DECIDES,
    "profiles": _MEMORY_DECIDES,
    "peers": "cortexd serves models on your own devices",
    "hooks": "pinned = true at a model loads it at start",
    "cmdStop": "neurons stop models themselves",
    "env": "belongs to the server that a neuron replaces",
    "proxy": "a neuron takes the place of this server",
    "checkEndpoint": "neurons report their health themselves",
    "concurrencyLimit": "max_sequences says how many run at once; more wait",
    "unlisted": "every model is listed",
    "name": "models are listed by id",
    "description": "models are listed by id",
    "metadata": "models are listed without",
    "stripParams": "clients' parameters are passed on as they are",
}


def draw(trees: list[Tree]) -> Draft:
    """Raises ImportFailed where a file is not what it should be."""
    draft = begin("llama-swap", [t.file for t in trees])
    machines = Machines(draft)
    for tree in trees:
        root = tree.root
        models = root.child("models")
        if models is None and root.child("peers") is None:
            raise ImportFailed(f"{tree.file}:1: no config of llama-swap: there are no models in it")
        macros = _macros(root, {})
        for node in models.entries() if models else []:
            _model(draft, machines, node, macros)
        _top(draft, root, macros)
    return draft


def _macros(node: Node, outer: dict[str, str]) -> dict[str, str]:
    found = node.child("macros")
    own = {m.key: _plain(m) for m in (found.entries() if found else [])}
    return outer | own


def _plain(node: Node) -> str:
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    return node.text().strip()


def _model(draft: Draft, machines: Machines, node: Node, macros: dict[str, str]) -> None:
    model_id = node.key
    known = {child.key: child for child in node.entries()}
    own = _macros(node, macros) | {"MODEL_ID": model_id}
    command = expand(known["cmd"].text(), own) if "cmd" in known else ""
    said = read_command(command)
    table = draft.models.entry("models")
    table.put("id", model_id, node)
    _where(machines, known.get("proxy"), node, own)
    if said.ranks:
        table.dead = "left out: cortexd serves no rerankers"
        draft.left_out(known["cmd"], "cortexd serves no rerankers", table)
        return
    _source(draft, table, known, node, said)
    _numbers(draft, table, known.get("cmd", node), said)
    for key, child in known.items():
        if key == "ttl":
            if child.value not in (0, -1):
                table.put("idle_ttl_s", child.value, child)
            elif child.value == 0 and node.tree.root.child("globalTTL") is not None:
                draft.left_out(child, "[eviction] idle_ttl_s holds for it too", table)
        elif key == "aliases":
            _aliases(draft, child, model_id)
        elif key == "filters":
            _filters(draft, table, child, not said.embeds)
        elif key == "cmd":
            draft.left_out(child, "a neuron takes the place of this server", table)
        elif key not in ("macros", "useModelName"):
            draft.left_out(child, _GONE.get(key, "cortexd has no such setting"), table)


def _where(machines: Machines, proxy: Node | None, node: Node, macros: dict[str, str]) -> None:
    url = expand(proxy.text(), macros).replace("${PORT}", "5800") if proxy is not None else ""
    if not url or machines.for_server(url, proxy or node) is None:
        machines.local(node)


def _source(draft: Draft, table: Table, known: dict[str, Node], node: Node, said: Said) -> None:
    upstream = known.get("useModelName")
    guess = said.checkpoint or (repository(upstream.text()) if upstream else None)
    named = said.file or (upstream.text() if upstream else "")
    put_source(draft, table, known.get("cmd", node), guess, f"{PurePosixPath(named).name or named}" or "no model")
    table.put("task", "embed" if said.embeds else "chat", known.get("cmd"))
    name = said.file.rpartition("/")[2]
    if closest := precision(name.removesuffix(".gguf")):
        table.put("precision", closest, known.get("cmd"), f"guess, from {name!r}")
        draft.note("guess", known.get("cmd", node), f"model {node.key}: precision {closest} was guessed from {name!r}")


def _numbers(draft: Draft, table: Table, origin: Node, said: Said) -> None:
    sequences = said.whole("sequences")
    context = said.whole("context")
    if context is not None:
        # llama-server's number is for all its slots together
        each = context // (sequences or 1) if "--max-model-len" not in str(origin.value) else context
        table.put("context", max(1, each), origin, f"{context} for {sequences} sequences" if each != context else "")
    if sequences is not None:
        table.put("max_sequences", sequences, origin)
    if (devices := said.whole("devices")) and devices > 1:
        table.put("min_devices", devices, origin)
    if said.embeds:
        return
    for key in _SAMPLING:
        value = said.numbers.get(key)
        if value is not None and value == value and 0 <= value < 1 << 40:
            table.put(("sampling", key), int(value) if key in ("top_k", "max_tokens") else value, origin)


def _aliases(draft: Draft, node: Node, model_id: str) -> None:
    table = draft.models.table("aliases")
    for item in node.items():
        name = item.child("id") if isinstance(item.value, dict) else item
        if name is None or table.get(name.text()) is not None:
            draft.left_out(item, "no id, or an alias of this name exists", table)
            continue
        table.put(name.text(), model_id, item)
        if isinstance(item.value, dict) and item.value.get("unlisted"):
            draft.left_out(item, "every alias is listed", table)


def _filters(draft: Draft, table: Table, node: Node, sampled: bool) -> None:
    for child in node.entries():
        if child.key != "setParams" or not sampled:
            draft.left_out(child, _GONE.get(child.key, "cortexd has no such setting"), table)
            continue
        for parameter in child.entries():
            if parameter.key in _SAMPLING:
                table.parts = [p for p in table.parts if isinstance(p, str) or p.key != ("sampling", parameter.key)]
                about = "was forced on every request; here it is the default of those that say nothing"
                table.put(("sampling", parameter.key), parameter.value, parameter, about)
                draft.note("guess", parameter, about)
            else:
                draft.left_out(parameter, "parameters are not forced on clients", table)


def _top(draft: Draft, root: Node, macros: dict[str, str]) -> None:
    gateway = draft.fleet.table("gateway")
    for node in root.entries():
        if node.key == "healthCheckTimeout":
            gateway.put("cold_load_wait_s", node.value, node)
        elif node.key == "globalTTL":
            if node.value != 0:
                draft.fleet.table("eviction").put("idle_ttl_s", node.value, node)
        elif node.key == "apiKeys":
            _keys(draft, node)
        elif node.key == "groups":
            for group in node.entries():
                _group(draft, group)
        elif node.key == "hooks":
            _hooks(draft, node)
        elif node.key not in ("models", "macros"):
            draft.left_out(node, _GONE.get(node.key, "cortexd has no such setting"), gateway)


def _keys(draft: Draft, node: Node) -> None:
    taken: set[str] = set()
    for n, item in enumerate(node.items(), 1):
        if n == 1:
            draft.fleet.table("gateway").put("require_auth", True, node)
            draft.fleet.entry("accounts").put("name", "default", node)
        put_key(draft, "default", f"key-{n}", item, taken)


def _members(node: Node | None) -> Iterator[str]:
    for item in node.items() if node is not None else []:
        yield item.text()


def _group(draft: Draft, group: Node) -> None:
    """A persistent group is one that other groups cannot push out: that is what a higher priority does."""
    persistent = group.child("persistent")
    ids = {str(t.get("id")): t for t in draft.models.entries("models")}
    members = [ids[name] for name in _members(group.child("members")) if name in ids]
    if persistent is not None and persistent.value is True:
        for table in members:
            if table.get("residency_priority") is None:
                table.put("residency_priority", 200, persistent, f"group {group.key} is persistent; others have 100")
    draft.left_out(group, _MEMORY_DECIDES, draft.models.table("aliases"))


def _hooks(draft: Draft, node: Node) -> None:
    preload = node.child("on_startup", "preload")
    ids = {str(t.get("id")): t for t in draft.models.entries("models")}
    for name in _members(preload):
        if name in ids and preload is not None:
            draft.left_out(preload, "pinned = true loads it at start, and keeps it", ids[name])
    if preload is None:
        draft.left_out(node, _GONE["hooks"], draft.fleet.table("gateway"))

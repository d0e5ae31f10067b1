"""A neuron.toml of helexa: what it loads at start becomes ``pinned_on``, the rest is remarks."""

from __future__ import annotations

from pathlib import PurePosixPath

from compiler.importers.common import precision, put_source, repository
from compiler.importers.draft import Draft, Table
from compiler.importers.tree import Node

_GONE = {
    "harnesses": "there is one engine",
    "harness": "the hub's address is HF_ENDPOINT, its token HF_TOKEN, both for `cortexd model pull`",
    "prefix_cache": "cortexd has no such setting",
    "context_limit": "the compiler proves memory for the whole context; set context for less",
    "admission": "max_sequences of a model says how many requests run at once",
    "image": "cortexd serves no image models",
}


def add(draft: Draft, root: Node, names: dict[str, str], files: int) -> None:
    """Add one file. Which neuron it is for follows from its port, its name, or there being only one of each."""
    name = _whose(draft, root, names, files)
    table = next((t for t in draft.fleet.entries("neurons") if t.get("name") == name), None)
    beside = table or draft.fleet.table("gateway")
    if name is None:
        draft.note("to do", root.child("port") or root, "which neuron this file is for is not clear", beside)
    for node in root.entries():
        if node.key == "default_models":
            for model in node.items():
                _default_model(draft, model, name)
        elif node.key != "port":
            draft.left_out(node, _GONE.get(node.key, "cortexd has no such setting"), beside)


def _whose(draft: Draft, root: Node, names: dict[str, str], files: int) -> str | None:
    stem = PurePosixPath(root.tree.file.replace("\\", "/")).stem
    folder = PurePosixPath(root.tree.file.replace("\\", "/")).parent.name
    for hint in (stem, stem.removeprefix("neuron-"), stem.removeprefix("neuron."), folder):
        if hint in names:
            return names[hint]
    neurons = draft.fleet.entries("neurons")
    port = root.child("port")
    fitting = [t for t in neurons if port is not None and str(t.get("endpoint")).endswith(f":{port.value}")]
    if len(fitting) == 1:
        return str(fitting[0].get("name"))
    if len(neurons) == 1 and files == 1:
        return str(neurons[0].get("name"))
    return None


def _default_model(draft: Draft, node: Node, neuron: str | None) -> None:
    known = {child.key: child for child in node.entries()}
    if "model_id" not in known:
        draft.left_out(node, "a model needs an id", draft.models.table("aliases"))
        return
    model_id = known["model_id"].text()
    table = next((t for t in draft.models.entries("models") if t.get("id") == model_id), None)
    if table is None:
        table = _new_model(draft, node, model_id, known)
    if neuron is not None:
        before = table.get("pinned_on") or []
        table.parts = [p for p in table.parts if isinstance(p, str) or p.key != ("pinned_on",)]
        table.put("pinned_on", list(dict.fromkeys([*before, neuron])), node, "loaded at start, and never evicted")
    else:
        draft.note("to do", node, "was loaded at start; name its neuron in pinned_on", table)
    for key, child in known.items():
        if key not in ("model_id", "harness", "quant"):
            draft.left_out(child, "the compiler chooses the devices; `devices` of a model limits them", table)


def _new_model(draft: Draft, node: Node, model_id: str, known: dict[str, Node]) -> Table:
    table = draft.models.entry("models")
    table.put("id", model_id, known["model_id"])
    put_source(draft, table, node, repository(model_id), f"model_id {model_id!r}")
    table.put("task", "chat", None)
    if "quant" in known and (closest := precision(known["quant"].text())):
        table.put("precision", closest, known["quant"], f"guess, from quant {known['quant'].text()!r}")
    return table

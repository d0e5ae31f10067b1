"""litellm's config.yaml. Its local servers become neurons; models behind somebody else's API become comments."""

from __future__ import annotations

from typing import Any

from compiler.importers.common import Machines, begin, precision, put_key, put_source, repository, split_url
from compiler.importers.draft import Draft, Table
from compiler.importers.tree import ImportFailed, Node, Tree

# Providers that are servers of one's own, once an api_base says where.
_OWN = frozenset(
    {
        *("openai", "openai_like", "custom_openai", "text-completion-openai", "litellm_proxy", "hosted_vllm", "vllm"),
        *("ollama", "ollama_chat", "lm_studio", "llamafile", "huggingface", "xinference", "triton", "infinity"),
    }
)
# Those are at home on this machine without an api_base.
_LOCAL = frozenset({"ollama", "ollama_chat", "lm_studio", "llamafile", "vllm"})
_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens")
_CAPABILITIES = {"supports_function_calling": "tools", "supports_reasoning": "reasoning"}
_SECTIONS = ("model_list", "router_settings", "litellm_settings", "general_settings", "environment_variables")
_GONE = {
    "rpm": "limits stand at [[keys]] and [[accounts]]: requests_per_minute",
    "tpm": "limits stand at [[keys]] and [[accounts]]: tokens_per_minute",
    "timeout": "there is no limit to a whole request; [gateway] idle_timeout_s limits silence",
    "request_timeout": "there is no limit to a whole request; [gateway] idle_timeout_s limits silence",
    "stream_timeout": "[gateway] idle_timeout_s limits silence",
    "routing_strategy": "requests go to the least busy replica",
    "num_retries": "what fails before its first byte goes to the next replica by itself",
    "database_url": "cortexd keeps its own database, named in [database]; litellm's is not read",
    "drop_params": "a field that is not supported is refused, never dropped in silence",
    "environment_variables": "set them in the unit of the gateway; their values are not copied",
    "model": "the name at the provider",
    "api_key": "neurons of one's own are reached with token_file",
}


def draw(trees: list[Tree]) -> Draft:
    """Raises ImportFailed where a file is not what it should be."""
    draft = begin("litellm", [t.file for t in trees])
    machines = Machines(draft)
    groups: dict[str, list[Node]] = {}
    for tree in trees:
        if not {n.key for n in tree.root.entries()} & {*_SECTIONS, "include"}:
            raise ImportFailed(f"{tree.file}:1: no config of litellm: there is no model_list in it")
        listed = tree.root.child("model_list")
        for node in listed.items() if listed else []:
            named = node.child("model_name")
            if named is None:
                draft.left_out(node, "a model needs a model_name", draft.models.table("aliases"))
            else:
                groups.setdefault(named.text(), []).append(node)
    for name, nodes in groups.items():
        _model(draft, machines, name, nodes)
    for tree in trees:
        _settings(draft, tree.root)
    return draft


def _model(draft: Draft, machines: Machines, name: str, nodes: list[Node]) -> None:
    own = [node for node in nodes if _is_own(node)]
    table = draft.models.entry("models")
    table.put("id", name, nodes[0].child("model_name"))
    if not own:
        provider = _provider(nodes[0])[0]
        table.dead = f"left out: served by somebody else's API ({provider}); cortexd serves models on your own devices"
        for node in nodes:
            draft.left_out(node, "served by somebody else's API; cortexd serves models on your own devices", table)
        return
    first = own[0]
    provider, model = _provider(first)
    put_source(draft, table, first, repository(model), f"model {provider + '/' if provider else ''}{model}")
    mode = first.child("model_info", "mode")
    embeds = mode is not None and mode.value == "embedding"
    table.put("task", "embed" if embeds else "chat", mode)
    if closest := precision(model):
        table.put("precision", closest, first, f"guess, from {model!r}")
        draft.note("guess", first, f"model {name}: precision {closest} was guessed from {model!r}")
    if len(own) > 1:
        table.put(("replicas", "max"), len(own), first, f"{len(own)} deployments of this name")
    for node in nodes:
        if node in own:
            _deployment(draft, machines, table, node, node is first and not embeds)
        else:
            draft.left_out(node, "a deployment at somebody else's API", table)


def _deployment(draft: Draft, machines: Machines, table: Table, node: Node, sampled: bool) -> None:
    for child in node.child("litellm_params").entries():  # type: ignore[union-attr]  # _is_own has looked
        if child.key == "model":
            continue
        if child.key == "api_base":
            neuron = machines.for_server(child.text(), child)
            draft.left_out(child, f"neuron {neuron} takes the place of this server", table)
        elif child.key in _SAMPLING and sampled:
            table.put(("sampling", child.key), child.value, child)
        elif child.key in _SAMPLING:
            draft.left_out(child, "one default for all replicas, and none for embeddings", table)
        else:
            draft.left_out(child, _GONE.get(child.key, "cortexd has no such setting"), table)
    if node.child("litellm_params", "api_base") is None:
        machines.local(node)
    info = node.child("model_info")
    for child in info.entries() if info else []:
        _info(draft, table, child)
    for child in node.entries():
        if child.key not in ("model_name", "litellm_params", "model_info"):
            draft.left_out(child, "cortexd has no such setting", table)


def _info(draft: Draft, table: Table, node: Node) -> None:
    costs = {
        "input_cost_per_token": "input",
        "output_cost_per_token": "output",
        "cache_read_input_token_cost": "cached",
    }
    limits = {"max_input_tokens": "input", "max_output_tokens": "output"}
    key: tuple[str, str] | None = None
    value: Any = node.value
    if node.key in costs and isinstance(value, int | float) and not isinstance(value, bool):
        # a token costs so little that the product needs rounding: 1.5e-7 * 1e6 is 0.15
        key, value = ("cost", costs[node.key]), round(value * 1e6, 9)
    elif node.key in limits:
        key = ("limit", limits[node.key])
    if key is not None and table.get(*key) is None:
        table.put(key, value, node, "per million tokens" if key[0] == "cost" else "")
    elif node.key in _CAPABILITIES and value is True:
        _capable(table, _CAPABILITIES[node.key], node)
    elif node.key != "mode":
        draft.left_out(node, "cortexd has no such setting", table)


def _capable(table: Table, word: str, node: Node) -> None:
    words = [*(table.get("capabilities") or []), word]
    table.parts = [p for p in table.parts if isinstance(p, str) or p.key != ("capabilities",)]
    table.put("capabilities", list(dict.fromkeys(words)), node)


def _provider(node: Node) -> tuple[str, str]:
    """``PROVIDER/MODEL`` of a deployment."""
    params = node.child("litellm_params")
    model = params.child("model") if params else None
    custom = params.child("custom_llm_provider") if params else None
    text = model.text() if model else ""
    provider, slash, rest = text.partition("/")
    if custom is not None:
        return custom.text(), text
    return (provider, rest) if slash else ("", text)


def _is_own(node: Node) -> bool:
    """Whether a deployment runs on a machine of one's own, as far as one can tell."""
    params = node.child("litellm_params")
    if params is None:
        return False
    base = params.child("api_base")
    provider, model = _provider(node)
    if "*" in model:
        return False
    if base is None:
        return provider in _LOCAL
    where = split_url(base.text())
    if where is None or provider not in _OWN:
        return False
    # a public name that is served over https is somebody else's
    return not base.text().startswith("https://") or "." not in where[0] or where[0].endswith((".lan", ".local"))


def _settings(draft: Draft, root: Node) -> None:
    gateway = draft.fleet.table("gateway")
    for section in root.entries():
        if section.key == "model_list":
            continue
        if section.key == "environment_variables" or section.key not in _SECTIONS:
            draft.left_out(section, _GONE.get(section.key, "cortexd has no such setting"), gateway)
            continue
        for node in section.entries():
            if node.key == "fallbacks":
                _fallbacks(draft, node)
            elif node.key == "model_group_alias":
                _aliases(draft, node)
            elif node.key == "master_key":
                gateway.put("require_auth", True, node)
                draft.fleet.entry("accounts").put("name", "default", node)
                put_key(draft, "default", "master", node, set())
            else:
                draft.left_out(node, _GONE.get(node.key, "cortexd has no such setting"), gateway)


def _fallbacks(draft: Draft, node: Node) -> None:
    ids = {str(t.get("id")): t for t in draft.models.entries("models")}
    for item in node.items():
        for entry in item.entries():
            wanted = [n.text() for n in entry.items()]
            known = [name for name in wanted if name in ids]
            table = ids.get(entry.key)
            if table is None or not known or table.get("fallback") is not None:
                draft.left_out(entry, "names a model that is not carried over", table or draft.models.table("aliases"))
                continue
            table.put("fallback", known, entry)
            if known != wanted:
                draft.left_out(entry, "names models that are not carried over", table)


def _aliases(draft: Draft, node: Node) -> None:
    table = draft.models.table("aliases")
    ids = {str(t.get("id")) for t in draft.models.entries("models")}
    for entry in node.entries():
        target = entry.child("model") if isinstance(entry.value, dict) else entry
        if target is None or target.text() not in ids:
            draft.left_out(entry, "means a model that is not carried over", table)
            continue
        table.put(entry.key, target.text(), entry)
        if isinstance(entry.value, dict) and entry.value.get("hidden"):
            draft.left_out(entry, "every alias is listed", table)

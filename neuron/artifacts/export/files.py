"""The files of an artifact: graph, what the checkpoint brings along, and the manifest over all of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cortexd.protocol.manifest import ArtifactFile, Manifest
from neuron.artifacts.export.errors import ExportError

GRAPH = "model.onnx"
GRAPH_DATA = "model.onnx.data"
# A protobuf message ends at 2 GiB; beyond this the weights lie in a file beside the graph.
EXTERNAL_FROM_BYTES = 1 << 30
# What a neuron reads beside the graph; each is copied where the checkpoint has it.
COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
TOOLS = ("optimum", "optimum-onnx", "transformers", "torch", "onnx", "onnxruntime")


def weight_bytes(graph: Any) -> int:
    """What the weights of a loaded ``onnx.ModelProto`` take in memory."""
    return sum(len(w.raw_data) for w in graph.graph.initializer)


def save_graph(graph: Any, artifact: Path) -> None:
    """Write the graph, with its weights inside where they fit."""
    import onnx

    if weight_bytes(graph) < EXTERNAL_FROM_BYTES:
        onnx.save(graph, artifact / GRAPH)
    else:
        onnx.save(graph, artifact / GRAPH, save_as_external_data=True, location=GRAPH_DATA)


def copy_companions(raw: Path, artifact: Path) -> None:
    """Raises ExportError where the checkpoint brought no tokenizer that a neuron can read."""
    for name in COMPANIONS:
        if (raw / name).is_file():
            shutil.copyfile(raw / name, artifact / name)
    if not (artifact / "tokenizer.json").is_file():
        raise ExportError("the checkpoint has no fast tokenizer (tokenizer.json); convert it first")
    _template_of_its_own(artifact)


def _template_of_its_own(artifact: Path) -> None:
    """Older checkpoints keep the chat template in tokenizer_config.json; a neuron reads chat_template.jinja."""
    path = artifact / "tokenizer_config.json"
    target = artifact / "chat_template.jinja"
    if target.is_file() or not path.is_file():
        return
    template = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
    if isinstance(template, list):
        template = next((t["template"] for t in template if t.get("name") == "default"), None)
    if isinstance(template, str):
        target.write_text(template, encoding="utf-8")


def describe(config: Any, artifact: Path, difference: float, weights: int, **more: Any) -> Manifest:
    """The manifest of what lies in ``artifact``. ``difference`` is what verification found, ``weights`` in bytes."""
    return Manifest(
        architecture=str(config.model_type),
        layers=int(config.num_hidden_layers),
        heads=int(config.num_attention_heads),
        hidden=int(config.hidden_size),
        vocab=int(config.vocab_size),
        dtype="fp32",
        weight_bytes=weights,
        graph=GRAPH,
        files={path.name: _fingerprint(path) for path in sorted(artifact.iterdir())},
        eos_token_ids=_eos(config, artifact),
        export={name: version(name) for name in TOOLS} | {"max_abs_difference": f"{difference:.1e}"},
        **more,
    )


def _fingerprint(path: Path) -> ArtifactFile:
    with path.open("rb") as file:
        return ArtifactFile(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _eos(config: Any, artifact: Path) -> tuple[int, ...]:
    path = artifact / "generation_config.json"
    said = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    said = getattr(config, "eos_token_id", None) if said is None else said
    if said is None:
        return ()
    return tuple(int(t) for t in said) if isinstance(said, list) else (int(said),)

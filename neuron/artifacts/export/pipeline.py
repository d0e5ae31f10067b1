"""Checkpoint -> optimum -> rewrite -> verify -> artifact, published by one rename."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from cortexd.protocol.manifest import Manifest
from neuron.artifacts.export.errors import ExportError
from neuron.artifacts.export.files import GRAPH, copy_companions, describe, save_graph, weight_bytes
from neuron.artifacts.export.gqa import AttentionShape, rewrite, without_token_types

Task = Literal["chat", "embed"]
# architecture (model_type of config.json) by task
SUPPORTED: dict[Task, tuple[str, ...]] = {"chat": ("qwen3",), "embed": ("bert",)}
PRECISIONS = ("fp32",)
# Rotary embeddings whose frequencies do not depend on the length of the input, which a graph cannot express.
ROPES = ("default", "linear", "yarn", "llama3")


def export(
    source: str | Path,
    out: Path,
    *,
    task: Task | None = None,
    precision: str = "fp32",
    report: Callable[[str], None] = lambda _step: None,
) -> Manifest:
    """Write the artifact of ``source`` (a folder, or a hub id ``org/name``) into the new folder ``out``.

    ``task`` defaults to what the architecture is for. ``report`` is told each step. The graph is compared with eager
    transformers. Raises ExportError for what cannot be exported or differs; ``out`` then does not exist.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"precision {precision} is not there yet; this version exports {', '.join(PRECISIONS)}")
    if out.exists():
        raise ExportError(f"{out} exists already; name a new folder, or remove it first")
    with _quiet():
        config = _config(source)
        task = _checked_task(config, task)
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            artifact = work / "artifact"
            artifact.mkdir()
            raw = work / "optimum"
            report(f"exporting {source} with optimum")
            _optimum(source, raw, task)
            report("rewriting the graph and comparing it with transformers")
            manifest = (_decoder if task == "chat" else _encoder)(source, config, raw, artifact)
            (artifact / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
            report(f"publishing {out}")
            artifact.rename(out)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return manifest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tracer warns about each shape it fixes; what matters is checked by ``verify``."""
    from optimum.utils import logging as optimum_logging
    from transformers.utils import logging as transformers_logging

    loggers = (optimum_logging, transformers_logging)
    before = [logging.get_verbosity() for logging in loggers]
    for logging in loggers:
        logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logging, level in zip(loggers, before, strict=True):
            logging.set_verbosity(level)


def _config(source: str | Path) -> Any:
    from transformers import AutoConfig

    path = Path(source)
    local = isinstance(source, Path) or path.is_absolute() or path.exists() or source.startswith((".", "~"))
    if local and not path.is_dir():
        raise ExportError(f"{source}: no such folder")
    if local and not (path / "config.json").is_file():
        raise ExportError(f"{source}: not a checkpoint, config.json is missing")
    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as e:
        first = str(e).splitlines()[0]
        if local:
            raise ExportError(f"{source}: config.json cannot be read: {first}") from e
        raise ExportError(f"{source}: no such folder, and not found as a hub id: {first}") from e


def _checked_task(config: Any, task: Task | None) -> Task:
    architecture = str(config.model_type)
    meant = [t for t, names in SUPPORTED.items() if architecture in names]
    chosen: Task = task or (meant[0] if meant else "chat")
    if architecture not in SUPPORTED[chosen]:
        known = "; ".join(f"{t}: {', '.join(names)}" for t, names in SUPPORTED.items())
        raise ExportError(f"{architecture} cannot be exported for task {chosen} yet; supported are {known}")
    scaling = getattr(config, "rope_scaling", None) or {}
    rope = str(scaling.get("rope_type", scaling.get("type", "default")))
    if rope not in ROPES:
        raise ExportError(f"rope_scaling {rope} depends on the input's length; supported are {', '.join(ROPES)}")
    return chosen


def _optimum(source: str | Path, out: Path, task: Task) -> None:
    from optimum.exporters.onnx import main_export

    name = "text-generation-with-past" if task == "chat" else "feature-extraction"
    try:
        main_export(str(source), output=out, task=name, device="cpu", do_validation=False)
    except Exception as e:
        raise ExportError(f"optimum could not export {source}: {(str(e) or type(e).__name__).splitlines()[0]}") from e


def _decoder(source: str | Path, config: Any, raw: Path, artifact: Path) -> Manifest:
    import onnx
    from transformers import AutoModelForCausalLM

    from neuron.artifacts.export.verify import verify_decoder

    heads = int(config.num_attention_heads)
    head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    windows = tuple(int(config.sliding_window) if kind == "sliding_attention" else -1 for kind in config.layer_types)
    shape = AttentionShape(heads, int(config.num_key_value_heads), head_dim, windows)
    graph = rewrite(onnx.load(raw / GRAPH), shape)
    weights = weight_bytes(graph)
    save_graph(graph, artifact)
    context = int(config.max_position_embeddings)
    eager = AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager", dtype="float32").eval()
    difference = verify_decoder(artifact / GRAPH, shape, eager, context)
    copy_companions(raw, artifact)
    return describe(
        config,
        artifact,
        difference,
        weights,
        task="chat",
        kv_heads=shape.kv_heads,
        head_dim=head_dim,
        context=context,
        kv_bytes_per_token=len(windows) * 2 * shape.kv_heads * head_dim * 4,
        sliding_window=max(windows) if max(windows) > 0 else None,
    )


def _encoder(source: str | Path, config: Any, raw: Path, artifact: Path) -> Manifest:
    import onnx
    from transformers import AutoModel

    from neuron.artifacts.export.verify import verify_encoder

    graph = without_token_types(onnx.load(raw / GRAPH))
    weights = weight_bytes(graph)
    save_graph(graph, artifact)
    eager = AutoModel.from_pretrained(source, attn_implementation="eager", dtype="float32").eval()
    difference = verify_encoder(artifact / GRAPH, eager)
    copy_companions(raw, artifact)
    heads = int(config.num_attention_heads)
    return describe(
        config,
        artifact,
        difference,
        weights,
        task="embed",
        kv_heads=heads,
        head_dim=int(config.hidden_size) // heads,
        context=int(config.max_position_embeddings),
        kv_bytes_per_token=0,
        pooling=_pooling(source),
    )


def _pooling(source: str | Path) -> str:
    """What the checkpoint itself says (sentence-transformers' file); the mean where it says nothing."""
    import json

    path = Path(source) / "1_Pooling" / "config.json"
    if not path.is_file() and not Path(source).is_dir():
        from transformers.utils import cached_file

        found = cached_file(str(source), "1_Pooling/config.json", _raise_exceptions_for_missing_entries=False)
        path = Path(found) if found else path
    if not path.is_file():
        return "mean"
    said = json.loads(path.read_text(encoding="utf-8"))
    modes = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "last"}
    chosen = [key for key, on in said.items() if key.startswith("pooling_mode_") and on is True]
    if len(chosen) != 1 or chosen[0] not in modes:
        raise ExportError(
            f"{source}: pooling {', '.join(chosen) or 'none'} is not supported; one of mean, cls, last is"
        )
    return modes[chosen[0]]

"""Small artifacts for tests of the compiler: folders with real hashes, and some that are broken in one way each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cortexd.protocol.manifest import ArtifactFile, Manifest

MIB = 1 << 20


def make_artifact(
    folder: Path,
    task: str = "chat",
    kv: int = 2048,
    context: int = 131072,
    weights: int = 12 * MIB,
    graph: bytes = b"graph",
) -> Manifest:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph)
    files = {"model.onnx": ArtifactFile(hashlib.sha256(graph).hexdigest(), len(graph))}
    manifest = Manifest(
        task="embed" if task == "embed" else "chat",
        architecture="qwen3",
        layers=4,
        heads=4,
        kv_heads=2,
        head_dim=16,
        hidden=64,
        vocab=1000,
        dtype="float32",
        context=context,
        weight_bytes=weights,
        kv_bytes_per_token=kv,
        graph="model.onnx",
        files=files,
        eos_token_ids=(1,),
        export={"optimum": "2.1.0"},
        pooling="mean" if task == "embed" else None,
    )
    (folder / "manifest.json").write_text(manifest.to_json())
    return manifest


def make_all(base: Path) -> None:
    """``artifacts/NAME`` below ``base``, as the cases name them."""
    root = base / "artifacts"
    make_artifact(root / "chat")
    make_artifact(root / "large", weights=20_000 * MIB, kv=100_000, context=32768)
    make_artifact(root / "embed", task="embed", kv=0, context=512, weights=2 * MIB)
    make_artifact(root / "changed")
    (root / "changed" / "model.onnx").write_bytes(b"grapH")
    make_artifact(root / "shorter")
    (root / "shorter" / "model.onnx").write_bytes(b"gra")
    make_artifact(root / "missing-file")
    (root / "missing-file" / "model.onnx").unlink()
    make_artifact(root / "old-schema")
    path = root / "old-schema" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    make_artifact(root / "escaping")
    path = root / "escaping" / "manifest.json"
    path.write_text(path.read_text().replace('"model.onnx": {', '"../chat/model.onnx": {'))
    (root / "no-manifest").mkdir()

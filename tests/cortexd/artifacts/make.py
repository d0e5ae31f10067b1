"""Artifacts of random bytes."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from cortexd.protocol.manifest import ArtifactFile, Manifest


def make_artifact(folder: Path, sizes: dict[str, int], seed: int = 1) -> str:
    """Write one with files of these sizes; the sha256 of its manifest. The same name, size and seed: the same bytes."""
    files = {}
    for name, size in sizes.items():
        data = random.Random(f"{seed}/{name}").randbytes(size)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        files[name] = ArtifactFile(hashlib.sha256(data).hexdigest(), size)
    manifest = Manifest(
        task="chat",
        architecture="qwen3",
        layers=1,
        heads=1,
        kv_heads=1,
        head_dim=8,
        hidden=8,
        vocab=10,
        dtype="fp32",
        context=128,
        weight_bytes=sum(sizes.values()),
        kv_bytes_per_token=64,
        graph=next(iter(sizes)),
        files=files,
        eos_token_ids=(1,),
        export={"seed": str(seed)},
    )
    text = manifest.to_json()
    (folder / "manifest.json").write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()

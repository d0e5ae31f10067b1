"""``manifest.json`` of an artifact: what the compiler proves with and the neuron loads by. No disk access here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """``sha256`` in hex, ``bytes`` as on disk."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One artifact. Paths in ``files`` are relative to the folder that holds ``manifest.json``.

    ``weight_bytes`` is what the weights take in memory, ``kv_bytes_per_token`` what one token of one sequence takes in
    the KV cache over all layers, ``context`` the longest sequence in tokens. ``pooling`` is set for task ``embed``.
    ``sliding_window`` is the window in tokens of the layers that have one (null: none). ``export`` names tool versions.
    """

    task: Literal["chat", "embed"]
    architecture: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocab: int
    dtype: str
    context: int
    weight_bytes: int
    kv_bytes_per_token: int
    graph: str
    files: dict[str, ArtifactFile]
    eos_token_ids: tuple[int, ...]
    export: dict[str, str]
    sliding_window: int | None = None
    pooling: Literal["mean", "cls", "last"] | None = None
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Sorted and indented: the same manifest is the same bytes."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Raises ValueError with the member that is missing or wrong."""
        try:
            raw: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError as e:
            raise ValueError(f"manifest.json is not JSON: {e}") from e
        if not isinstance(raw, dict):
            raise ValueError("manifest.json must hold an object")
        if raw.get("schema") != SCHEMA:
            raise ValueError(f"manifest.json has schema {raw.get('schema')!r}; this version reads {SCHEMA}")
        known = set(Manifest.__dataclass_fields__)
        if unknown := sorted(set(raw) - known):
            raise ValueError(f"manifest.json has unknown members: {', '.join(unknown)}")
        try:
            files = {name: ArtifactFile(**entry) for name, entry in raw.pop("files").items()}
            eos = tuple(int(t) for t in raw.pop("eos_token_ids"))
            return Manifest(**raw, files=files, eos_token_ids=eos)
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise ValueError(f"manifest.json is incomplete or has a wrong type: {e}") from e

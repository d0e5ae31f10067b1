"""A placed fleet as rows of the desired tables, without a database: plain values, sorted. Pure.

Column names are those of ``cortexd.models.desired``; the column ``generation`` is added by whoever stores them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from compiler.ir import Model, PlacedFleet

Row = Mapping[str, Any]
Tables = Mapping[str, tuple[Row, ...]]

# Of manifest.json beside the rows: what reads a generation checks it first.
MANIFEST_SCHEMA = 1

# Table -> what identifies a row within a generation. The order is that in which rows can be inserted.
KEYS: dict[str, tuple[str, ...]] = {
    "generation": (),
    "host": ("name",),
    "neuron": ("name",),
    "device": ("neuron", "name"),
    "model": ("id",),
    "alias": ("name",),
    "placement": ("model", "neuron"),
    "account": ("name",),
    "key": ("key_id",),
}


def desired_rows(placed: PlacedFleet, compiler_version: str) -> Tables:
    """All rows of one generation."""
    fleet = placed.fleet
    settings = {
        "gateway": dict(fleet.gateway),
        "controller": dict(fleet.controller),
        "eviction": dict(fleet.eviction),
        "retention": dict(fleet.retention),
    }
    pinned = {p.model for p in placed.placements if p.pinned}
    kinds = {(d.neuron, d.name): d.kind for d in fleet.devices}
    shares: dict[str, dict[str, int]] = {}
    for p in placed.placements:
        shares.setdefault(p.model, {})[kinds[p.neuron, p.devices[0]]] = p.share_bytes
    rows: dict[str, list[Row]] = {
        "generation": [{"fleet": fleet.name, "compiler_version": compiler_version, "settings": settings}],
        "host": [{"name": h.name, "address": h.address, "ssh": h.ssh} for h in fleet.hosts],
        "neuron": [
            {"name": n.name, "host": n.host, "endpoint": n.endpoint, "token_ref": n.token_file} for n in fleet.neurons
        ],
        "device": [
            {"neuron": d.neuron, "name": d.name, "kind": d.kind, "index": d.index, "memory_bytes": d.memory_bytes}
            for d in fleet.devices
        ],
        "model": [_model(m, m.id in pinned, shares.get(m.id, {})) for m in fleet.models],
        "alias": [{"name": name, "model": model} for name, model in fleet.aliases],
        "placement": [
            {
                "model": p.model,
                "neuron": p.neuron,
                "devices": list(p.devices),
                "rank": p.rank,
                "pinned": p.pinned,
                "reason": p.reason,
            }
            for p in placed.placements
        ],
        "account": [{"name": a.name, "settings": dict(a.settings)} for a in fleet.accounts],
        "key": [
            {
                "key_id": k.key_id,
                "account": k.account,
                "secret_hash": k.secret_hash,
                "secret_ref": k.secret_ref,
                "settings": dict(k.settings),
            }
            for k in fleet.keys
        ],
    }
    return {table: sort_rows(table, rows[table]) for table in KEYS}


def _model(m: Model, pinned: bool, shares: Mapping[str, int]) -> Row:
    """``shares``: kind of device -> bytes on each of its devices there."""
    optional: dict[str, Any] = {
        "precision": m.precision,
        "sampling": dict(m.sampling),
        "idle_ttl_s": m.idle_ttl_s,
        "on_pressure": m.on_pressure,
        "replicas": dict(m.replicas),
        "limits": dict(m.limits),
        "min_devices": m.min_devices if m.min_devices > 1 else None,
        "tool_parser": m.tool_parser,
        "reasoning_parser": m.reasoning_parser,
        "cost": dict(m.cost),
        "capabilities": list(m.capabilities),
        "fallback": list(m.fallback),
        "share_bytes": dict(sorted(shares.items())) if m.measured else None,
    }
    settings = {"source": m.source} | {key: value for key, value in optional.items() if value not in (None, {}, [])}
    return {
        "id": m.id,
        "task": m.task,
        "artifact": m.artifact,
        "manifest_sha256": m.manifest_sha256,
        "context": m.context,
        "max_sequences": m.max_sequences,
        "weight_bytes": m.weight_bytes,
        "kv_bytes": m.kv_bytes,
        "need_bytes": m.min_devices * max(shares.values(), default=m.estimated_share),
        "pinned": pinned,
        "residency_priority": m.residency_priority,
        "settings": settings,
    }


def sort_rows(table: str, rows: list[Row]) -> tuple[Row, ...]:
    """By what identifies them."""
    return tuple(sorted(rows, key=lambda row: tuple(row[column] for column in KEYS[table])))


def generation_hash(tables: Tables, files: Mapping[str, bytes]) -> str:
    """The name of a generation: SHA-256 over rows and files; rows hold the manifests' hashes, so artifacts count."""
    content = {
        "rows": {table: [dict(row) for row in tables[table]] for table in KEYS},
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()

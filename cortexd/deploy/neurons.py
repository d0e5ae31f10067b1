"""What each neuron says about itself, asked over HTTP, and how that differs from what was applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from compiler.rows import Row, Tables
from cortexd import __version__

TIMEOUT_S = 5.0
AT_ONCE = 16
_LOADED = ("loaded",)
_COMING = ("loading", "reloading", "recovering")


@dataclass(frozen=True, slots=True)
class Said:
    """What one neuron answered; ``error`` when it did not, or not in its own form."""

    neuron: str
    version: str | None = None
    devices: tuple[Mapping[str, Any], ...] = ()
    models: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None


def ask_neurons(neurons: Sequence[Row], state_dir: Path) -> dict[str, Said]:
    """``/version``, ``/discovery`` and ``/models`` of each, a bounded number at once. A neuron that fails says so."""
    if not neurons:
        return {}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="drift") as pool:
        answers = pool.map(lambda row: _ask(row, state_dir), neurons)
        return {said.neuron: said for said in answers}


def _ask(neuron: Row, state_dir: Path) -> Said:
    name, base = neuron["name"], neuron["endpoint"].rstrip("/")
    try:
        with httpx.Client(timeout=TIMEOUT_S, headers=_headers(neuron["token_ref"], state_dir)) as client:
            version, discovery, models = (_get(client, base + path) for path in ("/version", "/discovery", "/models"))
        if isinstance(models, Mapping):  # the OpenAI form of a list
            models = models["data"]
        return Said(
            name,
            str(version["package_version"]),
            tuple({**d, "name": str(d["name"])} for d in discovery["devices"]),
            tuple({**m, "id": str(m["id"])} for m in models),
        )
    except httpx.HTTPError as e:
        return Said(name, error=f"{base}: {str(e) or type(e).__name__}")
    except OSError as e:
        return Said(name, error=f"its token file {e.filename}: {e.strerror}")
    except (ValueError, KeyError, TypeError) as e:
        return Said(name, error=f"{base} did not answer as a neuron does ({type(e).__name__})")


def _get(client: httpx.Client, url: str) -> Any:
    answer = client.get(url)
    answer.raise_for_status()
    return answer.json()


def _headers(token_ref: str | None, state_dir: Path) -> dict[str, str]:
    if token_ref is None:
        return {}
    token = (state_dir / token_ref).read_text(encoding="ascii").strip()
    if not token.isprintable() or not token or " " in token:
        raise OSError(0, "it does not hold one printable token", str(state_dir / token_ref))
    return {"authorization": f"Bearer {token}"}


def neuron_differences(said: Said, tables: Tables) -> list[tuple[str, str]]:
    """(what differs, what helps) between a neuron's answer and the rows. Pure."""
    if said.error is not None:
        return [(f"it does not answer: {said.error}", "start it, or see its log")]
    found = []
    if said.version != __version__:
        found.append(
            (f"it is version {said.version}, the control plane {__version__}", "install one release everywhere")
        )
    found += _devices(said, [row for row in tables["device"] if row["neuron"] == said.neuron])
    shapes = {row["id"]: row for row in tables["model"]}
    there = {model["id"]: model for model in said.models}
    placed = [row for row in tables["placement"] if row["neuron"] == said.neuron]
    for row in placed:
        found += _model(row, shapes[row["model"]], there.get(row["model"]))
    for name in sorted(there.keys() - {row["model"] for row in placed}):
        found.append((f"it serves model {name}, which is not placed there", "restart it, so that it reads its file"))
    return found


def _devices(said: Said, rows: list[Row]) -> list[tuple[str, str]]:
    restart = "restart it, or correct fleet.toml"
    found = []
    reported = {device["name"]: device for device in said.devices}
    for row in rows:
        device = reported.get(row["name"])
        if device is None:
            found.append((f"it has no device {row['name']}", restart))
            continue
        if device.get("kind") != row["kind"]:
            found.append((f"device {row['name']} is {device.get('kind')}, not {row['kind']}", restart))
        mib, declared = device.get("vram_total_mb"), row["memory_bytes"] >> 20
        if mib is not None and mib != declared:
            found.append((f"device {row['name']} has {mib} MiB, {declared} are declared", restart))
    for name in sorted(reported.keys() - {row["name"] for row in rows}):
        found.append((f"it has a device {name}, which is not declared", restart))
    return found


def _model(placement: Row, model: Row, said: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    name = placement["model"]
    if said is None:
        return [(f"it does not know model {name}", "restart it, so that it reads its file")]
    found = []
    sha = said.get("manifest_sha256")
    if sha is not None and sha != model["manifest_sha256"]:
        found.append((f"model {name} is another artifact than compiled", "restart it, or compile again"))
    state = said.get("status")
    if placement["pinned"] and state not in _LOADED:
        error = f": {said['error']}" if said.get("error") else ""
        if state in _COMING:
            found.append((f"pinned model {name} is still {state}", "wait"))
        else:
            found.append((f"pinned model {name} is {state}, not loaded{error}", "see the controller's log"))
    return found

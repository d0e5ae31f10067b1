"""The control surface: never waits for a device thread, but for ``load`` and ``unload`` themselves."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import falcon.asgi

from neuron import __version__
from neuron.device.jobs import DeviceStatus, ModelStatus
from neuron.device.probe import DeviceInfo, cuda_devices, host_memory_bytes
from neuron.device.thread import DeviceThread
from neuron.http.requests import read_model_id
from neuron.residents import Residents, Slot
from neuron.session.ort import runtime
from neuron.settings import DeviceSettings, NeuronSettings

_LIMIT = 64 << 10


class ControlResources:
    """Discovery, health, catalogue, load and unload."""

    def __init__(self, settings: NeuronSettings, residents: Residents, devices: Mapping[str, DeviceThread]) -> None:
        self._settings = settings
        self._residents = residents
        self._devices = devices
        self._started = time.monotonic()

    async def on_get_version(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = {"package_version": __version__, "python": platform.python_version()}

    async def on_get_discovery(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        machine = os.uname()
        gpus = await asyncio.to_thread(cuda_devices)  # the driver may take its time
        version, providers = runtime()
        resp.media = {
            "hostname": machine.nodename,
            "os": machine.sysname,
            "kernel": machine.release,
            "neuron": self._settings.name,
            "harnesses": ["onnxruntime"],
            "onnxruntime": {"version": version, "providers": list(providers)},
            "driver": next((gpu.driver for gpu in gpus.devices), None),
            "devices": [_found(d, gpus.devices) for d in self._settings.devices],
            "gpus": [_gpu(gpu) for gpu in gpus.devices],
            "gpus_unknown_because": gpus.reason,
        }

    async def on_get_health(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        statuses = [self._devices[d.name].status() for d in self._settings.devices]
        slots = self._residents.slots.values()
        broken = [f"{s.name}: {s.reason or s.health}" for s in statuses if s.health != "ok"]
        resp.media = {
            "status": "impaired" if broken else "ok",
            "reasons": broken,
            "uptime_secs": round(time.monotonic() - self._started, 3),
            "devices": [_device(s, d.kind, d.index) for s, d in zip(statuses, self._settings.devices, strict=True)],
            "activation": {
                "state": "pre_warming" if self._residents.activating else "ready",
                "pending": [s.settings.id for s in slots if s.settings.pinned and s.state == "unloaded"],
                "in_progress": next((s.settings.id for s in slots if s.state == "loading"), None),
                "completed": [s.settings.id for s in slots if s.state == "loaded"],
                "failed": [{"model_id": s.settings.id, "error": s.error} for s in slots if s.state == "failed"],
            },
            "models": [_model(s, _status_of(s, statuses), statuses) for s in slots],
        }

    async def on_get_models(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = [
            {
                "id": s.settings.id,
                "harness": "onnxruntime",
                "task": s.settings.task,
                "status": s.state,
                "devices": list(s.settings.devices),
                "pinned": s.settings.pinned,
                "limit": {"context": s.resident.context} if s.resident else None,
                "vram_used_mb": _used_mb(s),
                "measured_bytes": _measured(s),
                "manifest_sha256": s.resident.settings.manifest_sha256 if s.resident else None,
                "max_sequences": s.resident.settings.max_sequences if s.resident else None,
                "error": s.error,
            }
            for s in self._residents.slots.values()
        ]

    async def on_post_load(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resident = await self._residents.load(await read_model_id(req, _LIMIT))
        info = resident.info
        resp.media = {
            "status": "loaded",
            "model_id": resident.settings.id,
            "weight_bytes": info.weight_bytes,
            "kv_bytes": info.kv_bytes,
            "load_s": info.load_s,
            "measured_bytes": info.measured_bytes,
        }

    async def on_post_unload(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        model_id = await read_model_id(req, _LIMIT)
        freed = await self._residents.unload(model_id)
        resp.media = {"status": "unloaded", "model_id": model_id, "freed_bytes": freed}

    async def endpoint(self, req: falcon.asgi.Request, resp: falcon.asgi.Response | None, **fields: Any) -> None:
        """``GET /models/{id}/endpoint``; a sink, because ids may hold slashes."""
        if req.method != "GET":
            raise falcon.HTTPMethodNotAllowed(["GET"])
        self._residents.resident(str(fields["model_id"]))
        assert resp is not None  # noqa: S101  (None for web sockets only)
        resp.media = {"url": f"http://{self._settings.listen}"}


def _found(device: DeviceSettings, gpus: tuple[DeviceInfo, ...]) -> dict[str, Any]:
    """A declared device (``vram_total_mb`` is its budget) with what it really has; null where that is unknown."""
    gpu = next((g for g in gpus if device.kind == "cuda" and g.index == device.index), None)
    return {
        "index": device.index,
        "name": device.name,
        "kind": device.kind,
        "vram_total_mb": device.memory_mb,
        "memory_bytes": host_memory_bytes() if device.kind == "cpu" else gpu.total_bytes if gpu else None,
        "product": gpu.product if gpu else None,
        "uuid": gpu.uuid if gpu else None,
    }


def _gpu(gpu: DeviceInfo) -> dict[str, Any]:
    """A GPU of this host, declared or not."""
    return {
        "index": gpu.index,
        "name": gpu.name,
        "product": gpu.product,
        "uuid": gpu.uuid,
        "memory_bytes": gpu.total_bytes,
    }


def _used_mb(slot: Slot) -> int | None:
    if slot.resident is None:
        return None
    return (slot.resident.info.weight_bytes + slot.resident.info.kv_bytes) >> 20


def _measured(slot: Slot) -> dict[str, int | None] | None:
    """Device -> what the model really took there when it was loaded; null where nobody could tell."""
    if slot.resident is None:
        return None
    return dict.fromkeys(slot.settings.devices, slot.resident.info.measured_bytes)


def _status_of(slot: Slot, statuses: list[DeviceStatus]) -> ModelStatus | None:
    return next((m for s in statuses for m in s.models if m.model_id == slot.settings.id), None)


def _device(status: DeviceStatus, kind: str, index: int) -> dict[str, Any]:
    return {
        "name": status.name,
        "kind": kind,
        "index": index,
        "health": status.health,
        "reason": status.reason,
        "memory_total_bytes": status.memory_bytes,
        "memory_used_bytes": status.memory_used_bytes,
        "vram_used_mb": status.memory_used_bytes >> 20,
        "vram_free_mb": (status.memory_bytes - status.memory_used_bytes) >> 20,
        "utilization_pct": None,
        "progress": status.progress,
    }


def _transfer(slot: Slot) -> dict[str, int] | None:
    """How far the artifact is on its way; None when it is not."""
    progress = slot.transfer
    if slot.state != "loading" or progress is None or not progress.bytes_total:
        return None
    return {"bytes_done": progress.bytes_done, "bytes_total": progress.bytes_total}


def _model(slot: Slot, status: ModelStatus | None, statuses: list[DeviceStatus]) -> dict[str, Any]:
    counters = [s.counters[slot.settings.id] for s in statuses if slot.settings.id in s.counters]
    return {
        "id": slot.settings.id,
        "state": slot.state,
        "error": slot.error,
        "transfer": _transfer(slot),
        "in_flight": status.in_flight if status else 0,
        "queue_depth": status.queue_depth if status else 0,
        "max_in_flight": slot.settings.max_sequences,
        "kv_tokens_used": status.kv_tokens_used if status else 0,
        "kv_tokens_total": status.kv_tokens_total if status else 0,
        "tok_s_prefill": status.prefill_tok_s if status else 0,
        "tok_s_decode": status.decode_tok_s if status else 0,
        "requests_total": sum(c.requests for c in counters),
        "prompt_tokens_total": sum(c.prompt_tokens for c in counters),
        "cached_tokens_total": sum(c.cached_tokens for c in counters),
        "completion_tokens_total": sum(c.completion_tokens for c in counters),
    }

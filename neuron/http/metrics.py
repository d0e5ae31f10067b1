"""``GET /metrics``: read from the device threads' snapshots at the time of the scrape, so nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import falcon.asgi
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from neuron.device.thread import DeviceThread


class _DeviceCollector(Collector):
    def __init__(self, devices: Mapping[str, DeviceThread]) -> None:
        self._devices = devices

    def collect(self) -> Iterable[Metric]:
        model, device = ["model", "device"], ["device"]
        requests = CounterMetricFamily("neuron_requests", "Requests that ended, in any way.", labels=model)
        prompt = CounterMetricFamily("neuron_prompt_tokens", "Prompt tokens, reused ones too.", labels=model)
        cached = CounterMetricFamily("neuron_cached_prompt_tokens", "Prompt tokens reused.", labels=model)
        completion = CounterMetricFamily("neuron_completion_tokens", "Tokens generated.", labels=model)
        flight = GaugeMetricFamily("neuron_in_flight", "Requests that hold a row.", labels=model)
        waiting = GaugeMetricFamily("neuron_queue_depth", "Requests that wait for a row.", labels=model)
        kv = GaugeMetricFamily("neuron_kv_tokens_used", "Tokens in the KV pool.", labels=model)
        total = GaugeMetricFamily("neuron_device_memory_bytes", "Memory that models may take.", labels=device)
        used = GaugeMetricFamily("neuron_device_memory_used_bytes", "Memory that models take.", labels=device)
        healthy = GaugeMetricFamily("neuron_device_healthy", "1 while the device takes work.", labels=device)
        progress = CounterMetricFamily("neuron_device_steps", "Steps computed.", labels=device)
        for name, thread in self._devices.items():
            status = thread.status()
            for model_id, count in status.counters.items():
                requests.add_metric([model_id, name], count.requests)
                prompt.add_metric([model_id, name], count.prompt_tokens)
                cached.add_metric([model_id, name], count.cached_tokens)
                completion.add_metric([model_id, name], count.completion_tokens)
            for loaded in status.models:
                flight.add_metric([loaded.model_id, name], loaded.in_flight)
                waiting.add_metric([loaded.model_id, name], loaded.queue_depth)
                kv.add_metric([loaded.model_id, name], loaded.kv_tokens_used)
            total.add_metric([name], status.memory_bytes)
            used.add_metric([name], status.memory_used_bytes)
            healthy.add_metric([name], float(status.health == "ok"))
            progress.add_metric([name], status.progress)
        return [requests, prompt, cached, completion, flight, waiting, kv, total, used, healthy, progress]


class MetricsResource:
    """Prometheus text."""

    def __init__(self, devices: Mapping[str, DeviceThread]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_DeviceCollector(devices))

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = generate_latest(self._registry)

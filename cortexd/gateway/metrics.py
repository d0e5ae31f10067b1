"""Counters of the gateway, under the names of docs/reference/metrics.md. prometheus_client in multiprocess mode.

Import it only after ``PROMETHEUS_MULTIPROC_DIR`` is set (``server.run`` does). No label comes from a client.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cortexd.ledger.row import UsageRow

_BY = ("model", "node")

_REQUESTS = Counter("cortex_requests", "Requests that ended, whatever their outcome.", _BY)
_ERRORS = Counter("cortex_request_errors", "Requests that ended with an error.", _BY)
_CANCELLED = Counter("cortex_requests_cancelled", "Requests whose client left before the end.", _BY)
_COLD_STARTS = Counter("cortex_cold_starts", "Requests that waited for a model to be loaded.", _BY)
_PROMPT = Counter("cortex_prompt_tokens", "Prompt tokens.", _BY)
_CACHED = Counter("cortex_cached_prompt_tokens", "Prompt tokens that were not computed again.", _BY)
_COMPLETION = Counter("cortex_completion_tokens", "Generated tokens.", _BY)
_FALLBACKS = Counter("cortex_fallbacks", "Requests that a fallback answered, by the model that did.", _BY)
_UNRESOLVED = Gauge(
    "cortex_unresolved_keys", "Keys whose secret the gateway does not find.", multiprocess_mode="livemax"
)
_IN_FLIGHT = Gauge("cortex_model_in_flight", "Requests at a neuron now.", _BY, multiprocess_mode="livesum")
_DURATION = Histogram(
    "cortex_request_duration_seconds",
    "From the request's arrival to the end of its answer.",
    _BY,
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200),
)
_TTFT = Histogram(
    "cortex_time_to_first_token_seconds",
    "From the request's arrival to its first token, for streams.",
    _BY,
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120),
)
_RATE = Histogram(
    "cortex_tokens_per_second",
    "Generated tokens per second between the first and the last one of a stream.",
    _BY,
    buckets=(1, 2.5, 5, 10, 15, 20, 30, 40, 60, 80, 120, 200),
)


class _Children:
    """The metrics of one (model, node): looking labels up for each request costs more than counting."""

    def __init__(self, model: str, node: str) -> None:
        self.requests = _REQUESTS.labels(model, node)
        self.errors = _ERRORS.labels(model, node)
        self.cancelled = _CANCELLED.labels(model, node)
        self.cold_starts = _COLD_STARTS.labels(model, node)
        self.prompt = _PROMPT.labels(model, node)
        self.cached = _CACHED.labels(model, node)
        self.completion = _COMPLETION.labels(model, node)
        self.duration = _DURATION.labels(model, node)
        self.ttft = _TTFT.labels(model, node)
        self.rate = _RATE.labels(model, node)
        self.in_flight = _IN_FLIGHT.labels(model, node)


@cache
def _children(model: str, node: str) -> _Children:
    return _Children(model, node)


def count(row: UsageRow) -> None:
    """Count a request that ended."""
    of = _children(row.model or "", row.neuron or "")
    of.requests.inc()
    if row.outcome == "error":
        of.errors.inc()
    elif row.outcome == "cancelled":
        of.cancelled.inc()
    if row.cold_start:
        of.cold_starts.inc()
    of.duration.observe(row.duration_s)
    of.prompt.inc(row.prompt_tokens)
    of.cached.inc(row.cached_tokens)
    of.completion.inc(row.completion_tokens)
    if row.ttft_s is not None:
        of.ttft.observe(row.ttft_s)
    if row.tokens_per_second is not None:
        of.rate.observe(row.tokens_per_second)


def in_flight(model: str, node: str, change: int) -> None:
    """One more, or one less, waits for this neuron."""
    _children(model, node).in_flight.inc(change)


def fell_back(model: str, node: str) -> None:
    """``model`` answers for another one."""
    _FALLBACKS.labels(model, node).inc()


def unresolved_keys(count: int) -> None:
    """How many keys do not work because their secret is not found. From the snapshot's thread."""
    _UNRESOLVED.set(count)


class SpoolCollector(Collector):
    """What waits for the database in the spools of all workers, those that are gone included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Their size at the moment."""
        size = 0
        for path in self._folder.glob("*.jsonl"):
            with suppress(OSError):  # it was drained just now
                size += path.stat().st_size
        yield GaugeMetricFamily("cortex_ledger_spool_bytes", "Usage rows that wait for the database.", size)


def exposition(spool: Path) -> bytes:
    """All workers' metrics in Prometheus' text format. Reads files: not for the event loop."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(SpoolCollector(spool))
    return generate_latest(registry)

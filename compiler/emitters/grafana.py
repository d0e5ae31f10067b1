"""``grafana-cortexd.json``: one dashboard over the metrics of gateway and neurons, as Grafana imports it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compiler.emitters.render import json_bytes

_WIDTH, _HEIGHT = 8, 7
_PER_LINE = 24 // _WIDTH


@dataclass(frozen=True, slots=True)
class _Panel:
    """A graph. ``queries``: PromQL with ``@`` for the fleet's label, and what the line is called."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def _quantile(q: float, metric: str) -> str:
    return f"histogram_quantile({q}, sum by (model, le) (rate({metric}_bucket{{@}}[5m])))"


_ROWS: tuple[tuple[str, tuple[_Panel, ...]], ...] = (
    (
        "Requests",
        (
            _Panel("Requests", "reqps", (("sum by (model) (rate(cortex_requests_total{@}[5m]))", "{{model}}"),)),
            _Panel(
                "Errors and clients that left",
                "reqps",
                (
                    ("sum by (model) (rate(cortex_request_errors_total{@}[5m]))", "{{model}} errors"),
                    ("sum by (model) (rate(cortex_requests_cancelled_total{@}[5m]))", "{{model}} left"),
                ),
            ),
            _Panel("In flight", "short", (("sum by (model, node) (cortex_model_in_flight{@})", "{{model}} {{node}}"),)),
            _Panel(
                "Time to first token",
                "s",
                (
                    (_quantile(0.5, "cortex_time_to_first_token_seconds"), "{{model}} median"),
                    (_quantile(0.95, "cortex_time_to_first_token_seconds"), "{{model}} 95 %"),
                ),
            ),
            _Panel("Duration, 95 %", "s", ((_quantile(0.95, "cortex_request_duration_seconds"), "{{model}}"),)),
            _Panel(
                "Speed of a stream, median", "tokens/s", ((_quantile(0.5, "cortex_tokens_per_second"), "{{model}}"),)
            ),
        ),
    ),
    (
        "Tokens and loads",
        (
            _Panel(
                "Prompt tokens",
                "tokens/s",
                (
                    ("sum by (model) (rate(cortex_prompt_tokens_total{@}[5m]))", "{{model}}"),
                    ("sum by (model) (rate(cortex_cached_prompt_tokens_total{@}[5m]))", "{{model}} cached"),
                ),
            ),
            _Panel(
                "Generated tokens",
                "tokens/s",
                (("sum by (model) (rate(cortex_completion_tokens_total{@}[5m]))", "{{model}}"),),
            ),
            _Panel(
                "Cold starts in an hour",
                "short",
                (("sum by (model) (increase(cortex_cold_starts_total{@}[1h]))", "{{model}}"),),
            ),
        ),
    ),
    (
        "Neurons",
        (
            _Panel("Neurons that answer", "short", (('up{neuron!="",@}', "{{neuron}}"),)),
            _Panel("Devices that take work", "short", (("neuron_device_healthy{@}", "{{neuron}} {{device}}"),)),
            _Panel(
                "Memory of models",
                "bytes",
                (
                    ("neuron_device_memory_used_bytes{@}", "{{neuron}} {{device}}"),
                    ("neuron_device_memory_bytes{@}", "{{neuron}} {{device}} allowed"),
                ),
            ),
            _Panel(
                "Running and waiting",
                "short",
                (
                    ("neuron_in_flight{@}", "{{neuron}} {{model}}"),
                    ("neuron_queue_depth{@}", "{{neuron}} {{model}} waiting"),
                ),
            ),
            _Panel("Tokens in the KV cache", "short", (("neuron_kv_tokens_used{@}", "{{neuron}} {{model}}"),)),
            _Panel("Steps", "ops", (("rate(neuron_device_steps_total{@}[5m])", "{{neuron}} {{device}}"),)),
            _Panel("Usage rows that wait for the database", "bytes", (("cortex_ledger_spool_bytes{@}", "{{host}}"),)),
        ),
    ),
)


def dashboard(fleet: str) -> bytes:
    """The dashboard of a fleet. Grafana asks for the Prometheus data source when it is imported."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in _ROWS:
        at = {"x": 0, "y": y, "w": 24, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": at})
        y += 1
        for n, panel in enumerate(row):
            at = {"x": n % _PER_LINE * _WIDTH, "y": y + n // _PER_LINE * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_graph(panel, len(panels) + 1, at, fleet))
        y += -(-len(row) // _PER_LINE) * _HEIGHT
    return json_bytes(
        {
            "uid": f"cortexd-{fleet}"[:40],
            "title": f"cortexd: {fleet}",
            "tags": ["cortexd"],
            "schemaVersion": 39,
            "editable": True,
            "time": {"from": "now-6h", "to": "now"},
            "refresh": "30s",
            "templating": {
                "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]
            },
            "panels": panels,
        }
    )


def _graph(panel: _Panel, number: int, at: dict[str, int], fleet: str) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": at,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": source,
                "expr": query.replace("@", f'fleet="{fleet}"'),
                "legendFormat": legend,
            }
            for n, (query, legend) in enumerate(panel.queries)
        ],
    }

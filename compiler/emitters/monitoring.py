"""``monitoring/``: what Prometheus scrapes and warns of, and what Grafana shows. As [monitoring] asks for it."""

from __future__ import annotations

from compiler.emitters.addresses import ANY, join, split
from compiler.emitters.grafana import dashboard
from compiler.emitters.render import render
from compiler.ir import Fleet


def monitoring_files(fleet: Fleet) -> dict[str, bytes]:
    """Path below the generation's folder -> content."""
    files = {}
    if fleet.monitoring.prometheus:
        pinned = sorted(model.id for model in fleet.models if model.pinned)
        files["monitoring/prometheus.yml"] = render("monitoring/prometheus.yml", fleet=fleet, gateway=_gateway(fleet))
        files["monitoring/alerts.yml"] = render("monitoring/alerts.yml", fleet=fleet, pinned=pinned)
    if fleet.monitoring.grafana:
        files["monitoring/grafana-cortexd.json"] = dashboard(fleet.name)
    return files


def _gateway(fleet: Fleet) -> str:
    """The metrics address: where it listens on all of its host's, that host's own."""
    host, port = split(fleet.gateway["metrics_listen"])
    if host in ANY:
        host = next(h.address for h in fleet.hosts if h.name == fleet.gateway_host).strip("[]")
    return join(host, port)

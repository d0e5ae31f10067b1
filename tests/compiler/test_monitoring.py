"""What is written for Prometheus and Grafana, held against the metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from compiler.pipeline import compile_files
from neuron.http.metrics import _DeviceCollector
from tests.compiler.artifacts import make_all
from tests.compiler.test_pipeline import FLEET, MODELS

ROOT = Path(__file__).resolve().parents[2]
METRIC = re.compile(r"\b(?:cortex|neuron)_[a-z_]+\b|\bup\b")


def exposed(name: str, kind: str) -> set[str]:
    """The names in Prometheus' text for a metric."""
    parts = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",))
    return {name + part for part in parts}


@pytest.fixture(scope="module")
def existing() -> set[str]:
    """Asked of the code: the gateway's in a process of its own, because importing them registers them."""
    code = (
        "import pathlib; from cortexd.gateway import metrics; from prometheus_client import REGISTRY as r; "
        "r.register(metrics.SpoolCollector(pathlib.Path('/nowhere'))); "
        "print(*(f'{m.name} {m.type}' for m in r.collect() if m.name.startswith('cortex_')), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = {"up"}
    for line in done.stdout.splitlines():
        found |= exposed(*line.split())
    for family in _DeviceCollector({}).collect():
        found |= exposed(family.name, family.type)
    return found


def compiled(folder: Path, fleet: str = FLEET) -> dict[str, bytes]:
    make_all(folder)
    (folder / "fleet.toml").write_text(fleet)
    (folder / "models.toml").write_text(MODELS)
    outcome = compile_files(folder / "fleet.toml", folder / "models.toml", folder / "build")
    assert outcome.emitted is not None, outcome.text()
    below = outcome.emitted.folder / "monitoring"
    return {p.name: p.read_bytes() for p in sorted(below.rglob("*"))}


def test_prometheus_scrapes_the_gateway_and_every_neuron(tmp_path: Path) -> None:
    config = yaml.safe_load(compiled(tmp_path)["prometheus.yml"])

    assert config["rule_files"] == ["alerts.yml"]
    assert config["scrape_configs"] == [
        {
            "job_name": "cortexd-gateway",
            "static_configs": [{"targets": ["10.0.0.2:31314"], "labels": {"fleet": "lab", "host": "b"}}],
        },
        {
            "job_name": "neuron@gpu",
            "authorization": {"credentials_file": '/etc/cortexd/to"ken'},
            "static_configs": [
                {"targets": ["10.0.0.1:13131"], "labels": {"fleet": "lab", "host": "a", "neuron": "gpu"}}
            ],
        },
        {
            "job_name": "neuron@local",
            "static_configs": [
                {"targets": ["127.0.0.1:13131"], "labels": {"fleet": "lab", "host": "b", "neuron": "local"}}
            ],
        },
    ]


def test_metrics_that_listen_everywhere_are_scraped_at_the_hosts_address(tmp_path: Path) -> None:
    listens = FLEET.replace('"10.0.0.2:31314"', '"0.0.0.0:9"').replace('address = "127.0.0.1"', 'address = "10.0.0.2"')
    config = yaml.safe_load(compiled(tmp_path, listens)["prometheus.yml"])

    assert config["scrape_configs"][0]["static_configs"][0]["targets"] == ["10.0.0.2:9"]


def test_alerts_and_panels_use_metrics_that_exist(tmp_path: Path, existing: set[str]) -> None:
    files = compiled(tmp_path)
    rules = yaml.safe_load(files["alerts.yml"])["groups"][0]["rules"]
    queries = [rule["expr"] for rule in rules]
    panels: list[dict[str, Any]] = json.loads(files["grafana-cortexd.json"])["panels"]
    queries += [target["expr"] for panel in panels for target in panel.get("targets", [])]

    assert len(existing) > 20 and "cortex_requests_total" in existing and "neuron_kv_tokens_used" in existing
    for query in queries:
        named = set(METRIC.findall(query))
        assert named and named <= existing, query
        assert 'fleet="lab"' in query and "@" not in query
        assert query.count("(") == query.count(")") and query.count("{") == query.count("}")
    absent = [rule["expr"] for rule in rules if rule["alert"] == "CortexdPinnedModelMissing"]
    assert absent == ['absent(neuron_kv_tokens_used{model="org/chat",fleet="lab"})']


def test_the_page_on_metrics_names_them_all(existing: set[str]) -> None:
    text = (ROOT / "docs/reference/metrics.md").read_text()
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in existing} - {"up"}

    assert sorted(name for name in families if f"`{name}`" not in text) == []


def test_the_dashboard_has_no_two_panels_in_one_place(tmp_path: Path) -> None:
    board = json.loads(compiled(tmp_path)["grafana-cortexd.json"])
    places = [p["gridPos"] for p in board["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize(
    ("section", "left"),
    [("prometheus = false", ["grafana-cortexd.json"]), ("grafana = false", ["alerts.yml", "prometheus.yml"])],
)
def test_what_monitoring_does_not_ask_for_is_not_written(tmp_path: Path, section: str, left: list[str]) -> None:
    assert sorted(compiled(tmp_path, f"[monitoring]\n{section}\n{FLEET}")) == left

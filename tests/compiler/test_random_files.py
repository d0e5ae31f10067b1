"""Whatever stands in the two files, the answer is a generation or findings with places in them; never an exception."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.diagnostics import has_errors
from compiler.overrides import variables
from compiler.pipeline import Outcome, compile_files
from compiler.sarif import as_sarif
from tests.compiler.artifacts import make_all

FLEET: dict[str, Any] = {
    "fleet": {"name": "lab"},
    "gateway": {"workers": 2, "tls_certificate": "/c", "tls_key": "/k", "drain_s": 5.5, "require_auth": True},
    "database": {"url": "sqlite:///state.db"},
    "eviction": {"strategy": "priority", "idle_ttl_s": 60},
    "retention": {"usage_days": 30},
    "monitoring": {"grafana": False},
    "systemd": {"prefix": "/opt/x"},
    "hosts": [{"name": "a", "address": "10.0.0.1", "ssh": "ssh://me@a:22"}, {"name": "b", "address": "127.0.0.1"}],
    "neurons": [
        {
            "name": "gpu",
            "host": "a",
            "endpoint": "http://10.0.0.1:13131",
            "devices": [{"name": "cuda-0", "kind": "cuda", "index": 0, "memory_mb": 24000}],
        },
        {
            "name": "local",
            "host": "b",
            "endpoint": "http://127.0.0.1:13131",
            "token_file": "/t",
            "devices": [{"name": "cpu-0", "kind": "cpu", "index": 0, "threads": 2, "memory_mb": 6144}],
        },
    ],
    "accounts": [{"name": "team", "hard_cap": 5, "window": {"kind": "rolling", "seconds": 60}}],
    "keys": [
        {"id": "one", "account": "team", "secret_env": "ONE", "models": ["fast"], "max_concurrent": 2},
        {"id": "two", "account": "team", "secret_file": "/two"},
    ],
}
MODELS: dict[str, Any] = {
    "models": [
        {
            "id": "chat",
            "source": "path:artifacts/chat",
            "task": "chat",
            "limit": {"input": 100},
            "replicas": {"min": 1, "max": 2},
            "fallback": ["other"],
            "sampling": {"top_p": 0.5},
            "cost": {"input": 1},
        },
        {"id": "other", "source": "path:artifacts/chat", "task": "chat", "pinned_on": ["local"], "devices": ["cpu-0"]},
        {"id": "embed", "source": "path:artifacts/embed", "task": "embed", "idle_ttl_s": 5},
    ],
    "aliases": {"fast": "chat"},
}
ODD: list[Any] = [0, -1, 3, 10**20, 1.5, float("nan"), float("inf"), True, "", "x", "chat", "é\n", [], [[]], {}, [{}]]
ODD += [
    {"a": {"b": []}},
    date(1979, 5, 27),
    "\x00",
    "path:artifacts/large",
    "http://[::1",
    "ssh://a:b@c",
    ["gpu", "no"],
]
NAMES = ["name", "id", "[key]", "a.b", "", "é", "secret", "models", "hosts", "fallback", "x y"]
EDIT = st.tuples(st.integers(0, 200), st.sampled_from(["drop", "rename", "retype", "twice", "add"]), st.integers(0, 99))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) below ``value``."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [(value, key) for key, _ in entries] + [place for _, inner in entries for place in places(inner)]


def mutate(data: dict[str, Any], edits: list[tuple[int, str, int]]) -> dict[str, Any]:
    data = copy.deepcopy(data)
    for where, kind, what in edits:
        known = places(data)
        if not known:
            break
        container, key = known[where % len(known)]
        odd = copy.deepcopy(ODD[what % len(ODD)])
        match kind:
            case "drop":
                del container[key]
            case "retype":
                container[key] = odd
            case "rename" if isinstance(container, dict):
                container[NAMES[what % len(NAMES)]] = container.pop(key)
            case "twice" if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case "add" if isinstance(container, dict):
                container[NAMES[what % len(NAMES)]] = odd
    return data


def toml(value: Any) -> str:
    """Any value as one line of TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | date) else json.dumps(value, ensure_ascii=False)


def flat(data: dict[str, Any]) -> str:
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in data.items())


def tables(data: dict[str, Any]) -> str:
    """The same with headers."""
    text = ""
    for key, value in data.items():
        entries = value if isinstance(value, list) and all(isinstance(e, dict) for e in value) else [value]
        header = f"[[{toml(key)}]]" if entries is value else f"[{toml(key)}]"
        if not all(isinstance(entry, dict) for entry in entries):
            text = f"{toml(key)} = {toml(value)}\n" + text
            continue
        text += "".join(f"{header}\n{flat(entry)}" for entry in entries) or f"{toml(key)} = []\n"
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("random")
    make_all(path)
    return path


def check(folder: Path, fleet: str, models: str, environment: dict[str, str] | None = None) -> Outcome:
    (folder / "fleet.toml").write_bytes(fleet.encode("utf-8", errors="surrogatepass"))
    (folder / "models.toml").write_bytes(models.encode("utf-8", errors="surrogatepass"))
    outcome = compile_files(folder / "fleet.toml", folder / "models.toml", folder / "build", environment)
    assert (outcome.emitted is None) == has_errors(outcome.diagnostics)
    for found in outcome.diagnostics:
        lines = outcome.sources[found.span.file]
        assert 1 <= found.span.line <= len(lines)
        assert 1 <= found.span.column <= len(lines[found.span.line - 1]) + 1
        assert found.message.strip()
    assert outcome.text().count("error[") >= sum(found.severity == "error" for found in outcome.diagnostics)
    json.dumps(as_sarif(outcome.diagnostics, "0"))
    return outcome


def test_without_a_mutation_it_compiles(folder: Path) -> None:
    for write in (flat, tables):
        assert check(folder, write(FLEET), write(MODELS)).emitted is not None


@given(fleet=st.lists(EDIT, max_size=4), models=st.lists(EDIT, max_size=4), write=st.sampled_from([flat, tables]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_fleet_compiles_or_is_explained(
    folder: Path,
    fleet: list[tuple[int, str, int]],
    models: list[tuple[int, str, int]],
    write: Callable[[dict[str, Any]], str],
) -> None:
    check(folder, write(mutate(FLEET, fleet)), write(mutate(MODELS, models)))


SIGNS = "[ ] [[ ]] = . , { } \" ' \"\"\" ''' # - \\ fleet models hosts name id 1 1979-05-27 true nan é"
PIECES = st.sampled_from([*SIGNS.split(), "\n", "\r\n", " ", "\t", "\ufeff", "\x00", "a" * 200, "[[" * 300])


@given(st.lists(PIECES, max_size=40).map("".join), st.one_of(st.text(max_size=60), st.just(flat(MODELS))))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_text_is_explained(folder: Path, fleet: str, models: str) -> None:
    assert check(folder, fleet, models).emitted is None


WORDS = ["GATEWAY", "KEYS", "ONE", "NEURONS", "LOCAL", "DEVICES", "CPU_0", "NAME", "WORKERS", "WINDOW", "", "x", "TEAM"]
VARIABLE = st.lists(st.sampled_from(WORDS), min_size=2, max_size=6).map(lambda words: "CORTEXD_" + "__".join(words))


@given(st.dictionaries(VARIABLE, st.sampled_from([toml(v) for v in ODD] + ["", "a\nb = 1", "{", "oops"]), max_size=4))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_variables_are_heard_or_explained(folder: Path, environment: dict[str, str]) -> None:
    outcome = check(folder, tables(FLEET), flat(MODELS), environment)

    assert {v.file for v in variables(environment)} <= set(outcome.sources)

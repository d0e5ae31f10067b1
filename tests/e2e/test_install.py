"""The wheel works away from the checkout, and each kind of host installs only what it needs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import ROOT, path_environment, start_fleet, stop_fleet


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The wheel's content in a folder of its own, first on the path; its dependencies come from this environment."""
    work = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(work / "dist"), str(ROOT)]
    subprocess.run(build, check=True, timeout=170)
    (wheel,) = (work / "dist").glob("cortexd-*.whl")
    target = work / "site"
    into = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(into, check=True, timeout=170)
    yield target


def test_the_wheel_serves_a_chat_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    env = path_environment(installed)
    where = subprocess.run(
        [
            sys.executable,
            "-c",
            "import cortexd, neuron, compiler; print(cortexd.__file__, neuron.__file__, compiler.__file__)",
        ],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(str(installed) in path for path in where.stdout.split())

    fleet = start_fleet(tmp_path, env, installed / "cortexd" / "_data")
    try:
        body = {"model": "tiny-chat", "messages": [{"role": "user", "content": "say hi"}], "max_tokens": 20}
        assert httpx.post(fleet.base + "/v1/chat/completions", json=body, timeout=30).status_code == 200
    finally:
        stop_fleet(fleet)


def without(blocked: list[str], code: str) -> None:
    """Run code in an interpreter where the blocked modules cannot be imported."""
    block = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
    done = subprocess.run([sys.executable, "-c", block + code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_neuron_needs_no_database_and_no_torch() -> None:
    without(
        ["sqlalchemy", "alembic", "aiosqlite", "gevent", "torch", "transformers", "optimum", "httpx", "rich"],
        "import neuron.cli, neuron.http.app",
    )


def test_a_gateway_needs_no_onnx_runtime() -> None:
    without(
        ["onnxruntime", "numpy", "tokenizers", "torch"],
        "import cortexd.gateway.app, cortexd.cli, cortexd.controller, compiler.pipeline",
    )


def test_the_extras_keep_hosts_lean() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {key: {d.split(">")[0].split("=")[0].split("[")[0].strip() for d in value} for key, value in extras.items()}

    assert {"cpu", "cuda", "export", "postgres", "acp", "dev", "control"} <= set(names)
    assert not names["control"] & {"onnxruntime", "onnxruntime-gpu", "torch", "numpy"}
    assert not (names["cpu"] | names["cuda"]) & {"sqlalchemy", "torch", "transformers"}
    base = {d.split(">")[0] for d in project["dependencies"]}
    assert not base & {"sqlalchemy", "onnxruntime", "torch", "numpy", "gevent"}

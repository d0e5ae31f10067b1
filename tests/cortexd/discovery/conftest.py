"""A real neuron as a process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cortexd.ports import free_ports

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "fleet-token-for-tests"


@pytest.fixture(scope="module")
def neuron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(endpoint, token file) of a neuron `n1` with one CPU device and nothing to load."""
    folder = tmp_path_factory.mktemp("neuron")
    port = free_ports(1)[0]
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    (folder / "neuron.toml").write_text(
        f'name = "n1"\nlisten = "127.0.0.1:{port}"\ntoken_file = "token"\n'
        '[[devices]]\nname = "cpu-0"\nkind = "cpu"\nthreads = 1\nmemory_mb = 1500\n'
    )
    log = (folder / "log").open("wb")
    command = [sys.executable, "-m", "neuron", "serve", "--config", str(folder / "neuron.toml")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                httpx.get(endpoint + "/health", headers={"authorization": f"Bearer {TOKEN}"})
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield endpoint, token
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()

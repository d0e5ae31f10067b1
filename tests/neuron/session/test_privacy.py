"""What ONNX Runtime may tell others: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def imported(**environment: str) -> str:
    """The variable as ONNX Runtime finds it when the neuron's session imports it."""
    code = (
        "import os, sys\n"
        "class Spy:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'onnxruntime': print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Spy())\n"
        "import neuron.session.ort\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_onnx_runtime_is_told_to_keep_to_itself_before_it_is_imported() -> None:
    assert imported() == "1"


def test_an_operator_may_say_otherwise() -> None:
    assert imported(ORT_DISABLE_TELEMETRY="0") == "0"

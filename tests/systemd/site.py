"""An operator at a machine: the two files in /etc/cortexd, the commands there, and a client beside them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.systemd.machine import PREFIX, ROOT, Machine

HOME = "/etc/cortexd"
GATEWAY, SOCKET, CONTROLLER = "cortexd-gateway.service", "cortexd-gateway.socket", "cortexd-controller.service"


@dataclass
class Load:
    """What a client under load saw; filled when it has ended."""

    good: int = 0
    wrong: list[str] = field(default_factory=list)


class Site:
    """``machine`` is where compile and apply are run."""

    def __init__(self, machine: Machine, fleet: str, models: str) -> None:
        self.machine = machine
        self.write("fleet.toml", fleet)
        self.write("models.toml", models)

    def write(self, name: str, text: str) -> None:
        """One of the two files."""
        self.machine.write(f"{HOME}/{name}", text)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace what stands there exactly once."""
        text = self.machine.read(f"{HOME}/{name}")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        self.write(name, text.replace(old, new))

    def cortexd(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command there, in the folder of the files; its exit status must be ``status``."""
        line = 'cd "$0" && exec "$@"'
        command = ["sh", "-c", line, HOME, f"{PREFIX}/bin/cortexd", *arguments]
        done = self.machine.run(command, check=False, timeout=170)
        assert done.returncode == status, f"cortexd {arguments} gave {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def deploy(self) -> str:
        """``cortexd compile && cortexd apply``; what apply said."""
        self.cortexd("compile")
        done = self.cortexd("apply")
        return done.stdout + done.stderr

    def ask(self, model: str, url: str = "http://127.0.0.1:31313") -> dict[str, Any]:
        """A plain answer of the gateway."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "What is a neuron?"}]})
        arguments = ["curl", "-sS", "-m", "60", f"{url}/v1/chat/completions", "-H", "content-type: application/json"]
        return dict(json.loads(self.machine.run([*arguments, "-d", body]).stdout))

    def sql(self, query: str) -> list[list[Any]]:
        """Rows of the live database."""
        code = (
            "import sqlite3, json, sys\n"
            "c = sqlite3.connect('file:/var/lib/cortexd/state.db?mode=ro', uri=True)\n"
            "print(json.dumps([list(r) for r in c.execute(sys.argv[1])]))"
        )
        return list(json.loads(self.machine.python(code, query)))

    def pids(self, *units: str) -> dict[str, str]:
        """Main process of each unit."""
        return {unit: self.machine.show(unit, "MainPID") for unit in units}

    @contextmanager
    def under_load(self, model: str, url: str = "http://127.0.0.1:31313") -> Iterator[Load]:
        """A client asks all the time while the block runs; afterwards the value says what it saw."""
        script, stop = "/tmp/load.py", "/tmp/load.stop"
        self.machine.write(script, (Path(__file__).with_name("load.py")).read_text())
        self.machine.path(stop).unlink(missing_ok=True)
        client = subprocess.Popen(
            self.machine.command([f"{PREFIX}/bin/python", script, url, model, stop]),
            stdout=subprocess.PIPE,
            text=True,
        )
        seen = Load()
        try:
            yield seen
        finally:
            self.machine.write(stop, "")
            said, _ = client.communicate(timeout=130)
        found = json.loads(said)
        seen.good, seen.wrong = found["good"], found["wrong"]


def example(name: str) -> str:
    """A file that ships as an example."""
    return (ROOT / f"{name}.toml.example").read_text()

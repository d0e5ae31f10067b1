"""prepare: stage the generation, and make sure that this host can activate it. Nothing in use changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cortexd.deploy.host import staging
from cortexd.deploy.host.hostfile import HostFile, read_host_file, unit_files
from cortexd.deploy.host.layout import Layout
from cortexd.deploy.host.manager import Manager
from cortexd.deploy.host.protocol import HostError, Order, Report

_PROGRAM_S = 60.0


def prepare(order: Order, layout: Layout) -> Report:
    """Raises HostError, OSError. What an image lacks so far is among ``detail["notes"]``: it may come later."""
    notes: list[str] = []
    if layout.variant is not None:
        host = read_host_file(order.files)
        unit_files(host, order.files, layout.variant)
        if layout.mode != "image":
            Manager(layout.mode == "user").check()
        notes = _programs(host, layout, order.version)
        if notes and layout.mode != "image":
            raise HostError("; ".join(notes))
    staging.stage(layout, order.generation, order.files)
    return Report(order.host, staging.current(layout), detail={"notes": notes})


def _programs(host: HostFile, layout: Layout, version: str) -> list[str]:
    """What is wrong with the installation. In an image programs are looked for, not run: it may be another machine."""
    if layout.mode == "user":
        prefix = Path.home() / host.user_prefix
    else:
        prefix = layout.root / host.prefix.lstrip("/")
    wrong = []
    for name in host.programs:
        program = prefix / "bin" / name
        if not program.exists():
            wrong.append(f"{program} is not there: install cortexd {version} into {prefix}")
        elif layout.mode != "image":
            found = _version(program)
            if found != version:
                wrong.append(f"{program} is {found}, the one that asks is {version}: install the same release")
    return wrong


def _version(program: Path) -> str:
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_PROGRAM_S, stdin=subprocess.DEVNULL
        )
    except OSError as e:
        return f"not to be run ({e.strerror})"
    except subprocess.TimeoutExpired:
        return f"without an answer to --version for {_PROGRAM_S:.0f} s"
    words = done.stdout.split()
    if done.returncode != 0 or not words:
        return "broken: " + (done.stderr.strip().splitlines() or ["--version says nothing"])[-1]
    return words[-1]

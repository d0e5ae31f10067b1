"""Runs the supervisor over commands from a JSON file: what the tests start, signal and look at."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from cortexd.supervisor.plan import Program, UpError
from cortexd.supervisor.supervise import supervise


def say(line: str) -> None:
    print(line, flush=True)


async def main(spec: dict[str, Any]) -> None:
    programs = [Program(name, tuple(command)) for name, command in spec["programs"].items()]

    async def ready() -> str | None:
        return None if await asyncio.to_thread(Path(spec["ready"]).exists) else "a file"

    await supervise(programs, ready, lambda: say("READY"), spec.get("timeout", 20), say)


try:
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
except UpError as e:
    sys.exit(f"UpError: {e}")

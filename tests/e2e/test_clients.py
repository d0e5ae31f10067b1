"""Agents that people use, where they are installed, and what they ask for besides a turn, on a whole fleet."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.e2e.conftest import Fleet

MODEL = "tiny-chat"


def agent(name: str) -> str:
    """Where it is. npm has both: @anthropic-ai/claude-code, @openai/codex."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(command: list[str], home: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=home, env={"PATH": os.environ["PATH"], "HOME": str(home)} | environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(fleet: Fleet, dialect: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{fleet.database}?mode=ro", uri=True) as connection:
        asked = "SELECT status, outcome, prompt_tokens, completion_tokens FROM usage WHERE dialect = ?"
        return connection.execute(asked, (dialect,)).fetchall()


def test_claude_code_has_a_conversation(fleet: Fleet, tmp_path: Path) -> None:
    claude = agent("claude")
    settings = {
        "ANTHROPIC_BASE_URL": fleet.base, "ANTHROPIC_API_KEY": "none-needed", "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }  # fmt: skip

    first = run([claude, "-p", "say hi", "--model", MODEL], tmp_path, **settings)
    second = run([claude, "-p", "What is a neuron?", "--continue", "--model", MODEL], tmp_path, **settings)

    assert first.strip() and second.strip()
    taken = rows(fleet, "anthropic_messages")
    assert len(taken) >= 2 and all(row[:2] == (200, "ok") and row[2] > 10_000 for row in taken)


def test_codex_has_a_turn(fleet: Fleet, tmp_path: Path) -> None:
    codex = agent("codex")
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text(
        f'model = "{MODEL}"\nmodel_provider = "local"\n[model_providers.local]\nname = "local"\n'
        f'base_url = "{fleet.base}/v1"\nwire_api = "responses"\n'
    )

    said = run([codex, "exec", "--skip-git-repo-check", "say hi"], tmp_path)

    assert said.strip()
    taken = rows(fleet, "openai_responses")
    assert taken and all(row[:2] == (200, "ok") and row[2] > 5_000 for row in taken)


def test_counted_tokens_are_the_billed_ones(fleet: Fleet) -> None:
    claude = anthropic.Anthropic(base_url=fleet.base, api_key="none-needed", max_retries=0)
    look: Any = {"name": "look", "description": "Look.", "input_schema": {"type": "object", "properties": {}}}
    turns: Any = [
        {"role": "user", "content": "look ☀"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "a tree"}]},
    ]
    asked: dict[str, Any] = {"model": MODEL, "system": "Be brief.", "messages": turns, "tools": [look]}

    counted = claude.messages.count_tokens(**asked)
    usage = claude.messages.create(max_tokens=1, **asked).usage

    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0) > 10

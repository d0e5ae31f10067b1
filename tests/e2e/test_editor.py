"""An editor on a whole fleet: ``cortexd acp`` over pipes, the gateway, the real neuron with the tiny model."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.cortexd.acp.editor import editing
from tests.e2e.conftest import Fleet

WIRES = ("openai-chat", "openai-responses", "anthropic-messages")


def test_an_editor_talks_with_the_tiny_model_over_each_wire_in_one_session(fleet: Fleet, tmp_path: Path) -> None:
    config = tmp_path / "acp.toml"
    config.write_text(
        "".join(
            f'[[endpoints]]\nname = "{wire}"\nbase_url = "{fleet.base}"\nwire_api = "{wire}"\n'
            'default_model = "tiny-chat"\nmax_tokens = 12\n'
            for wire in WIRES
        )
    )

    async def work() -> None:
        async with editing({"CORTEXD_ACP_CONFIG": str(config)}) as editor:
            session = await editor.new(tmp_path)
            for wire in WIRES:
                before = len(editor.text())
                await editor.agent.set_config_option(
                    config_id="model", session_id=session.session_id, value=f"{wire}:tiny-chat"
                )
                answer = await editor.prompt(session, "What is a neuron?")
                assert answer.stop_reason in ("end_turn", "max_tokens", "max_turn_requests")
                assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0
                assert len(editor.text()) > before

    asyncio.run(asyncio.wait_for(work(), 120))

"""``cortexd acp`` as a process, driven by the library's client over pipes, with a fake server behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from acp import RequestError
from acp.helpers import image_block, text_block

from tests.cortexd.acp.editor import ALL, Editor, editing
from tests.cortexd.acp.fake import Fake, calls, says, serving

WIRES = ("openai-chat", "openai-responses", "anthropic-messages")


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def appears(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving() as started:
        yield started


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def env(fake: Fake, tmp_path: Path) -> dict[str, str]:
    """Three endpoints, one for each wire, all on the one fake."""
    config = tmp_path / "acp.toml"
    text = 'default_endpoint = "openai-chat"\nmax_rounds = 3\ntool_timeout_s = 2\n'
    for wire in WIRES:
        text += f'[[endpoints]]\nname = "{wire}"\nbase_url = "{fake.base}"\nwire_api = "{wire}"\n'
        text += 'default_model = "m"\napi_key_env = "SOME_KEY"\ncontext_window = 100000\n'
    config.write_text(text)
    return {"CORTEXD_ACP_CONFIG": str(config), "SOME_KEY": "sk-very-secret", "XDG_DATA_HOME": str(tmp_path / "data")}


def last_results(fake: Fake) -> list[str]:
    """What the last request (openai-chat) says that the tools answered."""
    return [m["content"] for m in fake.requests[-1][2]["messages"] if m["role"] == "tool"]


async def one_call(
    fake: Fake, editor: Editor, workspace: Path, name: str, arguments: dict[str, Any], mode: str | None = None
) -> str:
    """A session in which the model makes this one call; returns what the model was told."""
    session = await editor.new(workspace)
    if mode is not None:
        await editor.agent.set_session_mode(mode_id=mode, session_id=session.session_id)
    fake.answers += [calls((name, arguments)), says("done")]
    answer = await editor.prompt(session, "go")
    assert answer.stop_reason == "end_turn"
    [told] = last_results(fake)
    return str(told)


@pytest.mark.parametrize("wire", WIRES)
def test_text_and_thoughts_stream_and_history_goes_along_on_every_wire(
    fake: Fake, env: dict[str, str], workspace: Path, wire: str
) -> None:
    async def work() -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)
            await editor.agent.set_config_option(
                config_id="model", session_id=session.session_id, value=f"{wire}:other"
            )
            fake.answers += [says("Good ", "day", thought="hm"), says("Again")]
            first = await editor.prompt(session, "Hello")
            await editor.prompt(session, "And now?")

            assert editor.started.agent_info is not None and editor.started.agent_info.name == "cortexd"
            assert first.stop_reason == "end_turn"
            assert (first.usage.input_tokens, first.usage.output_tokens) == (10, 5)
            assert editor.text() == "Good dayAgain" and editor.text("agent_thought_chunk") == "hm"
            assert [(u.used, u.size) for u in editor.of("usage_update")] == [(15, 100000)] * 2

    run(work())
    path, headers, body = fake.requests[1]
    assert body["model"] == "other" and all(t in str(body) for t in ("Hello", "Good day", "And now?"))
    sent = headers["x-api-key"] if wire == "anthropic-messages" else headers["authorization"]
    assert sent.removeprefix("Bearer ") == "sk-very-secret"
    if wire == "anthropic-messages":
        assert (path, headers["anthropic-version"], body["max_tokens"]) == ("/v1/messages", "2023-06-01", 8192)


def test_one_session_goes_through_all_three_wires_with_its_tool_calls(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    (workspace / "a.txt").write_text("one\ntwo\nthree\n")

    async def work() -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)
            for wire in WIRES:
                await editor.agent.set_config_option(
                    config_id="model", session_id=session.session_id, value=f"{wire}:m"
                )
                fake.answers += [calls(("read_file", {"path": "a.txt", "line": 2, "limit": 1})), says("done")]
                assert (await editor.prompt(session, "read")).stop_reason == "end_turn"
            assert [u.status for u in editor.of("tool_call_update")] == ["in_progress", "completed"] * 3

    run(work())
    assert [path for path, _, _ in fake.requests[::2]] == ["/v1/chat/completions", "/v1/responses", "/v1/messages"]
    results = [b for m in fake.requests[-1][2]["messages"] for b in m["content"] if b["type"] == "tool_result"]
    assert [r["content"][0]["text"] for r in results] == ["two\n"] * 3


def test_cancel_in_mid_stream_ends_the_request_and_keeps_what_was_said(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    async def work() -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)
            fake.answers += [[*says("Half")[:3], None], says("back")]
            asked = asyncio.create_task(editor.prompt(session, "Hello"))
            await editor.told.wait()
            with pytest.raises(RequestError, match="still answering"):
                await editor.prompt(session, "too early")
            await editor.agent.cancel(session_id=session.session_id)
            assert (await asked).stop_reason == "cancelled"
            assert await asyncio.to_thread(fake.hung_up.wait, 10)
            assert (await editor.prompt(session, "And?")).stop_reason == "end_turn"

    run(work())
    assert [m["content"] for m in fake.requests[-1][2]["messages"][1:]] == ["Hello", "Half", "And?"]


def test_a_cancelled_tool_call_still_has_its_result_in_the_history(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    marker = workspace / "started"

    async def work() -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)
            fake.answers += [calls(("bash", {"command": f"touch {marker}; sleep 60"}), ("list_dir", {"path": "."}))]
            asked = asyncio.create_task(editor.prompt(session, "go"))
            await asyncio.to_thread(appears, marker)
            await editor.agent.cancel(session_id=session.session_id)
            assert (await asked).stop_reason == "cancelled"
            fake.answers += [says("ok")]
            await editor.prompt(session, "And?")

    run(work())
    assert len(last_results(fake)) == 2 and set(last_results(fake)) == {"The user cancelled this call."}


def test_every_call_asks_first_and_a_refusal_reaches_the_model(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    async def work() -> None:
        async with editing(env) as editor:
            editor.choices = ["no", None, "always"]
            write = {"path": "x.txt", "content": "new"}
            for _ in range(2):
                told = await one_call(fake, editor, workspace, "write_file", write)
                assert told == "The user did not allow this call." and not (workspace / "x.txt").exists()
            session = await editor.new(workspace)
            fake.answers += [calls(("write_file", write), ("write_file", {**write, "content": "newer"})), says("done")]
            await editor.prompt(session, "go")
            assert len(editor.asked) == 3
            diff = editor.asked[0].content[0]
            assert (diff.path, diff.old_text, diff.new_text) == (str(workspace / "x.txt"), None, "new")

    run(work())
    assert (workspace / "x.txt").read_text() == "newer"


def test_bypass_asks_nothing_and_plan_refuses_to_change(fake: Fake, env: dict[str, str], workspace: Path) -> None:
    async def work() -> None:
        async with editing(env) as editor:
            told = await one_call(fake, editor, workspace, "bash", {"command": "echo hi"}, "bypassPermissions")
            assert told == "hi\n[exit status 0]" and editor.asked == []
            for name, arguments in (
                ("write_file", {"path": "x", "content": ""}),
                ("write_file", {"path": "plans/../x", "content": ""}),
                ("bash", {"command": "touch x"}),
            ):
                assert "mode plan" in await one_call(fake, editor, workspace, name, arguments, "plan")
            written = {"path": "plans/p.md", "content": "1."}
            assert (await one_call(fake, editor, workspace, "write_file", written, "plan")).startswith("written")

    run(work())
    assert [p.name for p in workspace.iterdir()] == ["plans"]


def test_files_and_commands_go_through_the_editor_where_it_offers_that(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    file = workspace / "a.txt"
    file.write_text("saved")

    async def work() -> None:
        async with editing(env, ALL) as editor:
            editor.unsaved[str(file)] = "not saved yet"
            edit = {"path": "a.txt", "old_text": "not saved", "new_text": "edited"}
            assert "written" in await one_call(fake, editor, workspace, "edit_file", edit)
            told = await one_call(fake, editor, workspace, "bash", {"command": "make"})
            assert told == "from the terminal\n[exit status 3]"
            assert editor.written == {str(file): "edited yet"} and editor.commands == ["bash -c make"]
            assert editor.released == 1
            assert any(c.type == "terminal" for u in editor.of("tool_call_update") for c in u.content or [])

    run(work())
    assert file.read_text() == "saved"


def test_what_is_outside_giant_binary_or_endless_is_refused_or_bounded(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    (workspace.parent / "secret").write_text("secret")
    (workspace / "link").symlink_to(workspace.parent)
    (workspace / "binary").write_bytes(b"\0\1")
    with (workspace / "giant").open("wb") as f:
        f.truncate(3 << 20)

    async def work() -> None:
        async with editing(env) as editor:
            for path, why in (
                ("../secret", "outside"),
                ("link/secret", "outside"),
                ("/etc/passwd", "outside"),
                ("binary", "is a binary file"),
                ("giant", "are not read"),
                (".", "is no file"),
            ):
                assert why in await one_call(fake, editor, workspace, "read_file", {"path": path})
            assert "outside" in await one_call(fake, editor, workspace, "write_file", {"path": "link/n", "content": ""})
            told = await one_call(fake, editor, workspace, "bash", {"command": "yes"})
            assert told.endswith("[stopped after 2 s]") and len(told) < 50_000

    run(work())
    assert not (workspace.parent / "n").exists()


def test_search_finds_lines_and_wrong_arguments_are_told_to_the_model(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    (workspace / "sub").mkdir()
    (workspace / "sub" / "b.py").write_text("x = 1\ny = needle(x)\n")

    async def work() -> None:
        async with editing(env) as editor:
            assert await one_call(fake, editor, workspace, "search", {"text": "needle("}) == "sub/b.py:2: y = needle(x)"
            assert await one_call(fake, editor, workspace, "list_dir", {"path": "."}) == "sub/"
            assert "needs path" in await one_call(fake, editor, workspace, "read_file", {})
            assert "there is no tool" in await one_call(fake, editor, workspace, "fly", {})
            assert "must be text" in await one_call(fake, editor, workspace, "read_file", {"path": 1})

    run(work())


def test_rounds_are_bounded_and_images_and_files_and_agents_md_reach_the_model(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    (workspace / "AGENTS.md").write_text("Always say please.")

    async def work() -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)
            fake.answers += [calls(("list_dir", {"path": "."}))] * 3
            answer = await editor.prompt(session, text_block("look"), image_block("aGk=", "image/png"))
            assert answer.stop_reason == "max_turn_requests" and answer.usage.total_tokens == 45

    run(work())
    system, user = fake.requests[0][2]["messages"]
    assert "Always say please." in system["content"]
    assert user["content"][1]["image_url"]["url"] == "data:image/png;base64,aGk="


def test_mistakes_are_errors_that_the_editor_shows_and_none_holds_a_key(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    config = Path(env["CORTEXD_ACP_CONFIG"])
    good = config.read_text()

    def write(text: str) -> None:
        config.write_text(text)

    async def work() -> None:
        async with editing(env) as editor:
            write(good.replace("wire_api", "wire"))
            with pytest.raises(RequestError, match=r"acp\.toml:7: wire: is not known here"):
                await editor.new(workspace)
            write(good)
            session = await editor.new(workspace)
            fake.answers.append(RuntimeError("wrong key sk-very-secret"))
            with pytest.raises(RequestError, match=r"'openai-chat': 401: wrong key \*\*\*"):
                await editor.prompt(session, "Hello")
            with pytest.raises(RequestError, match="no ENDPOINT:MODEL"):
                await editor.agent.set_config_option(
                    config_id="model", session_id=session.session_id, value="nowhere:m"
                )
            with pytest.raises(RequestError, match="there is no mode"):
                await editor.agent.set_session_mode(mode_id="yolo", session_id=session.session_id)
            with pytest.raises(RequestError, match="no session"):
                await editor.agent.prompt(session_id="x", prompt=[text_block("a")])
            with pytest.raises(RequestError, match="absolute"):
                await editor.agent.new_session(cwd="relative", mcp_servers=[])

    run(work())


def test_the_models_of_all_endpoints_are_offered_the_default_first(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    async def work() -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)
            assert session.modes is not None and session.config_options is not None
            assert [m.id for m in session.modes.available_modes] == ["default", "plan", "bypassPermissions"]
            model = session.config_options[0]
            assert model.current_value == "openai-chat:m"
            assert [o.value for o in model.options][:4] == [
                "openai-chat:m",
                "openai-chat:m-one",
                "openai-chat:m-two",
                "openai-responses:m",
            ]

    run(work())
    assert fake.requests == []


def test_without_a_configuration_an_endpoint_of_the_environment_is_enough(fake: Fake, workspace: Path) -> None:
    env = {"CORTEXD_ACP_BASE_URL": fake.base, "CORTEXD_ACP_MAX_TOKENS": "7", "XDG_DATA_HOME": str(workspace.parent)}

    async def work() -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)
            fake.answers.append(says("x", reason="length"))
            assert (await editor.prompt(session, "Hello")).stop_reason == "max_tokens"

    run(work())
    assert (fake.requests[0][2]["model"], fake.requests[0][2]["max_tokens"]) == ("m-one", 7)
    assert "authorization" not in fake.requests[0][1]


def test_a_session_survives_kill_9_in_the_middle_of_a_tool_call(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    marker = workspace / "started"

    async def work() -> None:
        async with editing(env) as first:
            session = await first.new(workspace)
            await first.agent.set_session_mode(mode_id="bypassPermissions", session_id=session.session_id)
            command = f"touch {marker}; sleep 1"
            fake.answers += [says("Good day", thought="hm"), calls(("bash", {"command": command}))]
            await first.prompt(session, "Hello")
            asked = asyncio.create_task(first.prompt(session, "run"))
            await asyncio.to_thread(appears, marker)
            first.kill()
            with pytest.raises(ConnectionError):
                await asked
        async with editing(env) as second:
            listed = await second.agent.list_sessions(cwd=str(workspace))
            assert [(s.session_id, s.title) for s in listed.sessions] == [(session.session_id, "Hello")]
            assert (await second.agent.list_sessions(cwd=str(workspace.parent))).sessions == []
            loaded = await second.agent.load_session(cwd=str(workspace), session_id=session.session_id, mcp_servers=[])
            assert loaded.modes is not None and loaded.modes.current_mode_id == "default"
            assert second.text("user_message_chunk") == "Hellorun" and second.text() == "Good day"
            assert second.text("agent_thought_chunk") == "hm"
            assert [u.status for u in second.of("tool_call_update")] == ["failed"]
            fake.answers.append(says("on"))
            assert (await second.prompt(session, "And?")).stop_reason == "end_turn"
            for id in ("../../x", "0" * 32):
                with pytest.raises(RequestError, match="there is no session"):
                    await second.agent.load_session(cwd=str(workspace), session_id=id, mcp_servers=[])
            with pytest.raises(RequestError, match="belongs to"):
                await second.agent.load_session(
                    cwd=str(workspace.parent), session_id=session.session_id, mcp_servers=[]
                )

    run(work())
    assert last_results(fake) == ["The agent ended before this call did."]
    [file] = (workspace.parent / "data").rglob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700


def test_a_long_session_stays_inside_the_context_window(fake: Fake, env: dict[str, str], workspace: Path) -> None:
    config = Path(env["CORTEXD_ACP_CONFIG"])
    config.write_text(config.read_text().replace("context_window = 100000", "context_window = 4000"))
    (workspace / "a.txt").write_text("word " * 1000)

    async def work() -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)
            for _ in range(4):
                fake.answers += [calls(("read_file", {"path": "a.txt"})), says("done")]
                await editor.prompt(session, "read")

    run(work())
    last = fake.requests[-1][2]["messages"]
    assert len(str(last)) / 3.5 < 4000 and "were left out here" in str(last) and last[-1]["content"].startswith("word")


def test_a_recorded_stream_of_anthropic_goes_back_signed_and_to_others_without_the_signature(
    fake: Fake, env: dict[str, str], workspace: Path
) -> None:
    recorded = Path(__file__).parents[1] / "dialects" / "transcripts" / "anthropic_messages.tools.sse"

    async def work(stream: bytes) -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)

            async def choose(wire: str) -> None:
                await editor.agent.set_config_option(
                    config_id="model", session_id=session.session_id, value=f"{wire}:m"
                )

            await choose("anthropic-messages")
            fake.answers += [stream, says("no weather"), says("a"), says("b")]
            answer = await editor.prompt(session, "Weather?")
            assert (answer.usage.cached_read_tokens, answer.usage.thought_tokens) == (4, 2)
            assert editor.text() == "Ich schaue ☀no weather" and editor.text("agent_thought_chunk") == "Hm."
            for wire in ("openai-responses", "anthropic-messages"):
                await choose(wire)
                await editor.prompt(session, "And?")

    run(work(recorded.read_bytes()))
    back = fake.requests[1][2]["messages"]
    assert back[1]["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    assert back[2]["content"][0]["is_error"] and "there is no tool" in back[2]["content"][0]["content"][0]["text"]
    assert all("c2ln" not in str(body) for _, _, body in fake.requests[2:]) and len(fake.requests) == 4


def test_a_model_without_native_tool_calls_calls_in_text(fake: Fake, env: dict[str, str], workspace: Path) -> None:
    config = Path(env["CORTEXD_ACP_CONFIG"])
    config.write_text(config.read_text().replace('default_model = "m"', 'default_model = "m"\ntool_calls = "hermes"'))
    (workspace / "a.txt").write_text("inside")

    async def work() -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)
            text = '<tool_call>{"name": "read_file", "arguments": {"path": "a.txt"}}</tool_call>'
            fake.answers += [says("I look. ", text[:5], text[5:]), says("done")]
            assert (await editor.prompt(session, "read")).stop_reason == "end_turn"
            assert editor.text() == "I look. done"
            assert [u.status for u in editor.of("tool_call_update")] == ["in_progress", "completed"]

    run(work())
    body = fake.requests[-1][2]
    assert "tools" not in body and "<tool_response>\ninside\n</tool_response>" in body["messages"][-1]["content"]


def test_commands_choose_a_model_and_forget_the_conversation(fake: Fake, env: dict[str, str], workspace: Path) -> None:
    async def work() -> None:
        async with editing(env) as editor:
            session = await editor.new(workspace)
            fake.answers += [says("x"), says("y")]
            await editor.prompt(session, "Hello")
            assert [c.name for u in editor.of("available_commands_update") for c in u.available_commands] == [
                "model",
                "clear",
            ]
            for command in ("/model anthropic-messages:m", "/model nowhere", "/model", "/clear"):
                assert (await editor.prompt(session, command)).stop_reason == "end_turn"
            assert "The model is anthropic-messages:m." in editor.text() and "no ENDPOINT:MODEL" in editor.text()
            assert "- openai-chat:m-one" in editor.text()
            assert editor.of("config_option_update")[0].config_options[0].current_value == "anthropic-messages:m"
            assert (await editor.agent.list_sessions()).sessions == []
            await editor.prompt(session, "/etc/hosts is what?")

    run(work())
    assert [path for path, _, _ in fake.requests] == ["/v1/chat/completions", "/v1/messages"]
    assert [m["content"][0]["text"] for m in fake.requests[1][2]["messages"]] == ["/etc/hosts is what?"]

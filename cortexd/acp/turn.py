"""One prompt: the model answers, its tools run, and again, until it is done, told to stop, or out of rounds."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Literal

from acp.helpers import (
    start_tool_call,
    text_block,
    tool_content,
    update_agent_message_text,
    update_agent_thought_text,
    update_tool_call,
)
from acp.schema import AllowedOutcome, PermissionOption, PromptResponse, ToolCallUpdate, Usage, UsageUpdate

from cortexd.acp.answer import Answer
from cortexd.acp.compact import budget, compact, tokens
from cortexd.acp.hermes import Reader, in_text
from cortexd.acp.session import Session, system_turn, unsigned
from cortexd.acp.tools import KINDS, TOOLS, Call
from cortexd.acp.upstream import Upstream
from cortexd.acp.workspace import ToolError
from cortexd.protocol import events
from cortexd.protocol.request import ChatRequest, Message, Sampling, Text, ToolCall

CANCELLED = "The user cancelled this call."


async def run_turn(session: Session, upstream: Upstream, asked: Message, max_rounds: int) -> PromptResponse:
    """The history is whole after every end: each call in it has its result. Raises UpstreamError, ConfigError and
    StoreError.
    """
    session.history.append(asked)
    try:
        return await _rounds(session, upstream, max_rounds)
    finally:
        await session.save()


async def _rounds(session: Session, upstream: Upstream, max_rounds: int) -> PromptResponse:
    spent = events.Usage(0, 0)
    for _ in range(max_rounds):
        await session.save()
        answer = await _ask(session, upstream)
        spent = _sum(spent, answer.usage)
        await _tell_usage(session, answer.usage)
        calls = answer.message.tool_calls
        if not calls:
            return PromptResponse(stop_reason=_reason(answer), usage=_usage(spent))
        await session.save()
        await _run_calls(session, calls)
    return PromptResponse(stop_reason="max_turn_requests", usage=_usage(spent))


async def _ask(session: Session, upstream: Upstream) -> Answer:
    hands, asked = session.hands, (session.endpoint, session.model)
    lead = await asyncio.to_thread(system_turn, hands.workspace, session.mode, hands.plan_dir)
    history = tuple(session.history)
    if window := session.endpoint.context_window:
        history = compact(history, budget(window, session.endpoint.max_tokens) - tokens((lead,), TOOLS))
    request = ChatRequest(
        session.model,
        (lead, *history),
        TOOLS,
        Sampling(max_tokens=session.endpoint.max_tokens),
        stream=True,
        include_usage=True,
    )
    answer = Answer(len(session.history))
    reader = None
    if session.endpoint.tool_calls == "hermes":
        request, reader = in_text(request), Reader(TOOLS, len(session.history))
    try:
        async with aclosing(upstream.stream(session.endpoint, request)) as stream:
            async for received in stream:
                for event in [received] if reader is None else reader.feed(received):
                    answer.add(event)
                    await _show(session, event)
    finally:
        # what was said stays said, also when the stream was cut: the user has seen it
        if (turn := answer.message).content or turn.tool_calls:
            # the user may have chosen another model meanwhile
            same = asked == (session.endpoint, session.model)
            session.history.append(turn if same else unsigned(turn))
    return answer


async def _show(session: Session, event: events.Event) -> None:
    match event:
        case events.TextDelta(text=text) | events.RefusalDelta(text=text) if text:
            await session.hands.editor.session_update(session.id, update_agent_message_text(text))
        case events.ReasoningDelta(text=text) if text:
            await session.hands.editor.session_update(session.id, update_agent_thought_text(text))
        case _:
            pass


async def _run_calls(session: Session, calls: tuple[ToolCall, ...]) -> None:
    results: dict[int, Message] = {}
    try:
        for i, call in enumerate(calls):
            told, well = await _run_call(session, call)
            results[i] = Message("tool", (Text(told),), tool_call_id=call.id, tool_failed=not well)
    finally:
        for i, call in enumerate(calls):
            nothing = Message("tool", (Text(CANCELLED),), tool_call_id=call.id, tool_failed=True)
            session.history.append(results.get(i, nothing))


async def _run_call(session: Session, asked: ToolCall) -> tuple[str, bool]:
    editor, shown = session.hands.editor, f"{len(session.history)}-{asked.id}"
    started = False
    try:
        call = await session.hands.understand(asked.name, asked.arguments, session.mode)
        await editor.session_update(
            session.id,
            start_tool_call(
                shown,
                call.title,
                kind=KINDS[call.name],
                status="pending",
                content=call.content,
                locations=call.locations,
                raw_input=call.arguments,
            ),
        )
        started = True
        await _permit(session, call, shown)
        await editor.session_update(session.id, update_tool_call(shown, status="in_progress"))
        told, well, content = await session.hands.do(call, shown)
    except ToolError as e:
        refused = [tool_content(text_block(str(e)))]
        if started:
            update = update_tool_call(shown, status="failed", content=refused)
            await editor.session_update(session.id, update)
        else:
            kind = KINDS.get(asked.name, "other")
            start = start_tool_call(shown, asked.name or "tool", kind=kind, status="failed", content=refused)
            await editor.session_update(session.id, start)
        return str(e), False
    except asyncio.CancelledError:
        if started and session.cancelled:
            await editor.session_update(session.id, update_tool_call(shown, status="failed"))
        raise
    await editor.session_update(
        session.id, update_tool_call(shown, status="completed" if well else "failed", content=content)
    )
    return told, well


async def _permit(session: Session, call: Call, shown: str) -> None:
    """Raises ToolError when the user says no."""
    if session.mode == "bypassPermissions" or call.name in session.allowed:
        return
    options = [
        PermissionOption(option_id="once", name="Allow", kind="allow_once"),
        PermissionOption(option_id="always", name=f"Always allow {call.name} in this session", kind="allow_always"),
        PermissionOption(option_id="no", name="Reject", kind="reject_once"),
    ]
    described = ToolCallUpdate(
        tool_call_id=shown,
        title=call.title,
        kind=KINDS[call.name],
        status="pending",
        content=call.content,
        locations=call.locations,
        raw_input=call.arguments,
    )
    answer = await session.hands.editor.request_permission(session_id=session.id, tool_call=described, options=options)
    chosen = answer.outcome.option_id if isinstance(answer.outcome, AllowedOutcome) else None
    if chosen == "always":
        session.allowed.add(call.name)
    elif chosen != "once":
        raise ToolError("The user did not allow this call.")


async def _tell_usage(session: Session, usage: events.Usage) -> None:
    if session.endpoint.context_window and (used := usage.prompt_tokens + usage.completion_tokens):
        update = UsageUpdate(session_update="usage_update", used=used, size=session.endpoint.context_window)
        await session.hands.editor.session_update(session.id, update)


def _reason(answer: Answer) -> Literal["end_turn", "max_tokens", "refusal"]:
    if answer.refused or answer.reason == "content_filter":
        return "refusal"
    return "max_tokens" if answer.reason == "length" else "end_turn"


def _sum(a: events.Usage, b: events.Usage) -> events.Usage:
    return events.Usage(
        a.prompt_tokens + b.prompt_tokens,
        a.completion_tokens + b.completion_tokens,
        a.cached_tokens + b.cached_tokens,
        a.reasoning_tokens + b.reasoning_tokens,
    )


def _usage(spent: events.Usage) -> Usage:
    return Usage(
        total_tokens=spent.prompt_tokens + spent.completion_tokens,
        input_tokens=spent.prompt_tokens,
        output_tokens=spent.completion_tokens,
        thought_tokens=spent.reasoning_tokens,
        cached_read_tokens=spent.cached_tokens,
    )

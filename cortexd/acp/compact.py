"""Pure: what of a long history goes to the model, so that it fits its context. The history itself stays whole."""

from __future__ import annotations

from dataclasses import replace

import orjson

from cortexd.protocol.request import Message, Text, Tool

# A low guess for text and code: rather too many tokens counted than too few.
CHARS_PER_TOKEN = 3.5
IMAGE_TOKENS = 1600
TURN_TOKENS = 8
RESERVE_TOKENS = 512
KEPT_TURNS = 4
SHORTENED_FROM_CHARS = 256
LEFT_OUT = "[{} characters were left out here, so that the session fits the model's context]"
SAID_SO = Message("user", (Text("[earlier turns were left out here, so that the session fits the model's context]"),))


def budget(context_window: int, max_tokens: int | None) -> int:
    """Tokens that a request may take: what the answer may need is kept free."""
    answer = min(8192, context_window // 4) if max_tokens is None else max_tokens
    return max(0, context_window - answer - RESERVE_TOKENS)


def tokens(messages: tuple[Message, ...], tools: tuple[Tool, ...] = ()) -> int:
    """An estimate."""
    chars = sum(len(t.name) + len(t.description or "") + len(orjson.dumps(t.parameters)) for t in tools)
    return int(chars / CHARS_PER_TOKEN) + sum(_tokens(m) for m in messages)


def compact(history: tuple[Message, ...], limit: int) -> tuple[Message, ...]:
    """At most ``limit`` tokens as estimated, where that can be done.

    First old answers and results of tools are replaced by a line, oldest first; then the oldest turns go. A call never
    goes without its results, the last prompt of the user never goes.
    """
    kept = list(history)
    total = tokens(history)
    for i, message in enumerate(kept[:-KEPT_TURNS]):
        if total <= limit:
            break
        if message.role != "user" and len(message.text) >= SHORTENED_FROM_CHARS:
            shorter = replace(message, content=(Text(LEFT_OUT.format(len(message.text))),))
            total += _tokens(shorter) - _tokens(message)
            kept[i] = shorter
    blocks = _blocks(kept)
    last_prompt = max((n for n, block in enumerate(blocks) if block[0].role == "user"), default=0)
    gone: set[int] = set()
    for n in range(len(blocks) - 1):
        if total <= limit:
            break
        if n != last_prompt:
            total += 0 if gone else _tokens(SAID_SO)
            gone.add(n)
            total -= sum(_tokens(m) for m in blocks[n])
    rest = [m for n, block in enumerate(blocks) if n not in gone for m in block]
    if not gone:
        return tuple(rest)
    # every wire wants the user to speak first
    return (SAID_SO, *rest)


def _blocks(messages: list[Message]) -> list[list[Message]]:
    """Each turn by itself, a turn with calls together with their results."""
    found: list[list[Message]] = []
    for message in messages:
        if message.role == "tool" and found:
            found[-1].append(message)
        else:
            found.append([message])
    return found


def _tokens(message: Message) -> int:
    chars = len(message.reasoning or "") + len(message.reasoning_signature or "")
    chars += sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    images = 0
    for part in message.content:
        if isinstance(part, Text):
            chars += len(part.text)
        else:
            images += 1
    return int(chars / CHARS_PER_TOKEN) + images * IMAGE_TOKENS + TURN_TOKENS

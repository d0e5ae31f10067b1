"""``GET /v1/models`` in the shapes of OpenAI and Anthropic at once: each client reads the members that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any


def for_both(entry: dict[str, Any]) -> dict[str, Any]:
    """An OpenAI entry (``id``, ``created`` in Unix seconds, …) with Anthropic's members added."""
    created = datetime.fromtimestamp(entry["created"], UTC)
    more: dict[str, Any] = {
        "type": "model",
        "display_name": entry["id"],
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
    }
    if (context := entry.get("max_model_len")) is not None:
        more["max_input_tokens"] = context
    return more | entry


def listing(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The list, whole: both dialects' words for there being no further page."""
    data = [for_both(entry) for entry in entries]
    ids = [entry["id"] for entry in data]
    return {
        "object": "list",
        "data": data,
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }

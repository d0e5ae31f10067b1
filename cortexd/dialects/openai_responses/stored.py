"""What the routes of stored responses answer, besides the response itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from cortexd.protocol.errors import invalid_request

_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco"}


def encode_deleted(response_id: str) -> dict[str, Any]:
    """The answer of ``DELETE /v1/responses/{id}``."""
    return {"id": response_id, "object": "response", "deleted": True}


def encode_input_items(
    response_id: str,
    items: Sequence[dict[str, Any]],
    *,
    after: str | None = None,
    limit: int = 20,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """A page of ``GET /v1/responses/{id}/input_items``. ``items`` are those of the request as its client sent them.

    Raises ApiError 404 for an ``after`` that is none of them.
    """
    whole = [_item(response_id, i, item) for i, item in enumerate(items)]
    if order == "desc":
        whole.reverse()
    ids = [item["id"] for item in whole]
    if after is not None and after not in ids:
        raise invalid_request(
            "'after' is the id of no item of this response", code="not_found", param="after", status=404
        )
    start = 0 if after is None else ids.index(after) + 1
    page = whole[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "has_more": start + limit < len(whole),
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _item(response_id: str, index: int, item: dict[str, Any]) -> dict[str, Any]:
    kind = str(item.get("type", "message"))
    identity = f"{_PREFIXES.get(kind, 'item')}_{response_id.removeprefix('resp_')}_in_{index}"
    made: dict[str, Any] = {"id": identity, "type": kind, "status": "completed"} | item
    if kind == "message" and isinstance(text := made.get("content"), str):
        output = made.get("role") == "assistant"
        part = {"type": "output_text", "annotations": []} if output else {"type": "input_text"}
        made["content"] = [part | {"text": text}]
    return made

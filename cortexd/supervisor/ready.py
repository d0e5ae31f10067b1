"""Asking the gateway whether it serves, and what is said when it does."""

from __future__ import annotations

import asyncio
import http.client
import json
import shlex

from cortexd.supervisor.plan import Address, Plan

ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def base_url(address: Address) -> str:
    """The URL a client on this machine uses."""
    host = ANY.get(address.host, address.host)
    return f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}"


async def ask_ready(address: Address) -> str | None:
    """None when ``GET /ready`` is 200, else what is missing, in words."""
    return await asyncio.to_thread(_ask, address)


def _ask(address: Address) -> str | None:
    connection = http.client.HTTPConnection(ANY.get(address.host, address.host), address.port, timeout=2)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        body = answer.read(2000)
    except (OSError, http.client.HTTPException):
        return "the gateway does not answer yet"
    finally:
        connection.close()
    if answer.status == 200:
        return None
    return f"the gateway is not ready: {_reason(body)}"


def _reason(body: bytes) -> str:
    """The reason in the body, whichever of the usual forms it has."""
    text = body.decode("utf-8", "replace").strip()
    try:
        said = json.loads(text)
    except ValueError:
        return text[:200] or "no reason given"
    if isinstance(said, dict):
        for key in ("reason", "message", "detail", "error", "waiting_for"):
            value = said.get(key)
            if isinstance(value, dict):
                value = value.get("message")
            if value:
                return str(value)[:200]
    return text[:200]


def ready_text(plan: Plan) -> str:
    """One ready line, and a command to paste when there is a chat model."""
    url = base_url(plan.gateway)
    if plan.chat_model is None:
        return f"cortexd is ready at {url}"
    body = {
        "model": plan.chat_model,
        "stream": True,
        "messages": [{"role": "user", "content": "What is a neuron?"}],
    }
    parts = ["curl -N", f"{url}/v1/chat/completions", "-H 'content-type: application/json'"]
    if plan.require_auth:
        parts.append('-H "authorization: Bearer $CORTEXD_API_KEY"')
    parts.append(f"-d {shlex.quote(json.dumps(body))}")
    return f"cortexd is ready at {url} with {plan.chat_model}. Try:\n\n  {' '.join(parts)}\n"

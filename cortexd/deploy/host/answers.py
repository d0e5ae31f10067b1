"""Asking a unit's URL whether it is ready."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what listens everywhere is asked here
_TIMEOUT_S = 3.0
_MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """Why it is not ready, after the unit's name. ``final``: waiting does not help."""

    text: str
    final: bool = False


def ask_url(url: str) -> Answer | None:
    """None when ``GET url`` gives 200 and, for a neuron, its pinned models are loaded. Blocks a few seconds at most."""
    parts = urlsplit(url)
    host = _ANY.get(parts.hostname or "", parts.hostname or "127.0.0.1")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # Only "are you up" is asked, on this host, and no secret is sent: the certificate is for the clients' name.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, parts.port, timeout=_TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        answer = connection.getresponse()
        body = answer.read(_MOST)
    except (OSError, http.client.HTTPException):
        return Answer(f"does not answer at {url}")
    finally:
        connection.close()
    said = _json(body)
    if answer.status != 200:
        reason = said.get("reason") or said.get("message")
        return Answer(f"answers {answer.status} at {url}" + (f": {str(reason)[:300]}" if reason else ""))
    return _activation(said)


def _activation(said: dict[str, Any]) -> Answer | None:
    """What a neuron says about its pinned models; None from anybody else."""
    activation = said.get("activation")
    if not isinstance(activation, dict):
        return None
    failed = activation.get("failed") or []
    if failed:
        first = failed[0] if isinstance(failed[0], dict) else {}
        return Answer(f"cannot load {first.get('model_id')}: {str(first.get('error'))[:300]}", final=True)
    if activation.get("state") != "ready":
        loading = activation.get("in_progress")
        return Answer(f"is loading {loading}" if loading else "is loading its pinned models")
    return None


def _json(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}

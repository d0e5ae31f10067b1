"""Whose request it is."""

from __future__ import annotations

from hashlib import sha256

import falcon

from cortexd.gateway.core import Core
from cortexd.protocol.errors import invalid_request
from cortexd.routing.snapshot import KeyView


def authenticate(core: Core, req: falcon.Request) -> KeyView | None:
    """The key of ``Authorization: Bearer`` or, where that is none of ours, of ``X-Api-Key``; None for the anonymous.

    Raises ApiError 401 where a key of ours is required and missing.
    """
    scheme, _, bearer = (req.get_header("Authorization") or "").partition(" ")
    sent = [bearer.strip() if scheme.lower() == "bearer" else "", (req.get_header("X-Api-Key") or "").strip()]
    keys = core.snapshot.keys
    for secret in filter(None, sent):
        if known := keys.get(sha256(secret.encode("latin-1")).hexdigest()):
            return known
    if core.settings.require_auth:
        required = "An API key is required: Authorization: Bearer KEY, or X-Api-Key: KEY."
        wrong = "The API key is not valid." if bearer or any(sent) else required
        raise invalid_request(wrong, code="invalid_api_key", status=401)
    return None

"""Orders and reports as JSON: what goes over ssh's standard input and output. Pure.

Files travel as base64, so any bytes do. Both sides name the schema, so a far side of another release is refused in
words instead of being misunderstood.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, get_args

from cortexd.deploy.host.protocol import Action, HostError, Mode, Order, Report, UnitState

SCHEMA = 1


def encode_order(order: Order) -> bytes:
    """One line of JSON."""
    fields = {
        "schema": SCHEMA,
        "version": order.version,
        "action": order.action,
        "host": order.host,
        "mode": order.mode,
        "state_dir": order.state_dir,
        "generation": order.generation,
        "root": order.root,
        "files": {name: base64.b64encode(data).decode("ascii") for name, data in sorted(order.files.items())},
        "timeout_s": order.timeout_s,
        "keep": list(order.keep),
    }
    return json.dumps(fields, separators=(",", ":")).encode("utf-8") + b"\n"


def decode_order(data: bytes) -> Order:
    """The order in ``data``. Raises HostError when it is none, or of another schema."""
    try:
        said = json.loads(data)
        if said["schema"] != SCHEMA:
            raise HostError(f"this order has schema {said['schema']}, this host reads {SCHEMA}: install one release")
        if said["action"] not in get_args(Action) or said["mode"] not in get_args(Mode):
            raise ValueError
        return Order(
            action=said["action"],
            host=_text(said["host"]),
            mode=said["mode"],
            state_dir=_text(said["state_dir"]),
            generation=_text(said["generation"]),
            root=_text(said["root"]),
            files={_text(name): base64.b64decode(text, validate=True) for name, text in said["files"].items()},
            timeout_s=float(said["timeout_s"]),
            keep=tuple(_text(name) for name in said["keep"]),
            version=_text(said["version"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise HostError("standard input holds no order; `cortexd apply` sends one") from None


def encode_report(report: Report) -> bytes:
    """One line of JSON."""
    fields: dict[str, Any] = {
        "schema": SCHEMA,
        "host": report.host,
        "current": report.current,
        "changed": [list(pair) for pair in report.changed],
        "units": [
            {"name": u.name, "active": u.active, "main_pid": u.main_pid, "hash": u.hash, "detail": u.detail}
            for u in report.units
        ],
        "files": dict(report.files),
        "problems": list(report.problems),
        "detail": dict(report.detail),
    }
    return json.dumps(fields, separators=(",", ":")).encode("utf-8") + b"\n"


def decode_report(data: bytes) -> Report:
    """The report on the last line of ``data``: a login script may print before it. Raises ValueError."""
    lines = data.strip().splitlines()
    if not lines:
        raise ValueError("no report")
    said = json.loads(lines[-1])
    try:
        if said["schema"] != SCHEMA:
            raise ValueError("another schema")
        return Report(
            host=_text(said["host"]),
            current=said["current"],
            changed=tuple((_text(unit), _text(verb)) for unit, verb in said["changed"]),
            units=tuple(UnitState(**unit) for unit in said["units"]),
            files=dict(said["files"]),
            problems=tuple(_text(problem) for problem in said["problems"]),
            detail=dict(said["detail"]),
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError("no report") from e


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value

"""Reading a client's JSON: every mistake is a 400 that names the member. Shared by the dialects."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from cortexd.protocol.errors import ApiError, invalid_request
from cortexd.protocol.request import Feature

_MOST_IGNORED = 32
_MOST_NAME = 64


def load(body: bytes | Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object of a body. Raises ApiError 400.

    What could not be written out again (nested hundreds of levels deep) is refused here, once, with room for the levels
    that another dialect puts around it.
    """
    if not isinstance(body, bytes):
        return dict(body)
    try:
        raw = orjson.loads(body)
    except ValueError as e:
        raise invalid_request(f"the body is not valid JSON: {e}", code="malformed_json") from None
    if not isinstance(raw, dict):
        raise invalid_request("the body must be a JSON object", code="invalid_request_body")
    try:
        orjson.dumps([[[[[[[[raw]]]]]]]])
    except (TypeError, ValueError):
        raise invalid_request("the body is nested too deeply", code="invalid_request_body") from None
    return raw


def wrong(path: str, expected: str) -> ApiError:
    """A member of the wrong type or value."""
    return invalid_request(f"'{path}' must be {expected}", code="invalid_type", param=path)


def missing(path: str) -> ApiError:
    """A required member that is not there."""
    return invalid_request(f"'{path}' is required", code="missing_field", param=path)


def unsupported(path: str, why: str = "is not supported") -> ApiError:
    """A member that this server, or this dialect on it, does not serve."""
    return invalid_request(f"'{path}' {why}", code="unsupported_parameter", param=path)


def model(raw: Mapping[str, Any]) -> str:
    """The name of the model."""
    value = raw.get("model")
    if value is None:
        raise invalid_request("the member 'model' is missing", code="missing_model_field", param="model")
    if not isinstance(value, str) or not value:
        raise wrong("model", "a non-empty string")
    return value


def optional(raw: Mapping[str, Any], key: str, kind: type, expected: str, prefix: str = "") -> Any:
    """A member of that type, or None. Raises ApiError 400 for another type."""
    value = raw.get(key)
    if value is not None and not isinstance(value, kind):
        raise wrong(prefix + key, expected)
    return value


def text(raw: Mapping[str, Any], key: str, prefix: str = "") -> str | None:
    """A string or None."""
    value: str | None = optional(raw, key, str, "a string", prefix)
    return value


def flag(raw: Mapping[str, Any], key: str, prefix: str = "") -> bool | None:
    """True, false or None."""
    value: bool | None = optional(raw, key, bool, "true or false", prefix)
    return value


def items(raw: Mapping[str, Any], key: str, prefix: str = "") -> list[Any]:
    """An array; empty when absent."""
    return optional(raw, key, list, "an array", prefix) or []


def mapping(raw: Mapping[str, Any], key: str, prefix: str = "", expected: str = "an object") -> dict[str, Any]:
    """An object; empty when absent."""
    return optional(raw, key, dict, expected, prefix) or {}


def required_text(raw: Mapping[str, Any], key: str, prefix: str = "") -> str:
    """A string that may not be empty."""
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise wrong(prefix + key, "a non-empty string")
    return value


def number(raw: Mapping[str, Any], key: str, low: float, high: float, *, whole: bool = False, prefix: str = "") -> Any:
    """A number within bounds, or None."""
    value = raw.get(key)
    if value is None:
        return None
    kinds: Any = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high or math.isnan(value):
        span = f"from {low:g} to {high:g}" if high < 2**31 else f"of at least {low:g}"
        raise wrong(prefix + key, f"{'an integer' if whole else 'a number'} {span}")
    return value


def strings(raw: Mapping[str, Any], key: str, most: int, prefix: str = "") -> tuple[str, ...]:
    """A non-empty string, or an array of at most ``most`` of them."""
    value = raw.get(key)
    found = [value] if isinstance(value, str) else ([] if value is None else value)
    if not isinstance(found, list) or len(found) > most or not all(isinstance(s, str) and s for s in found):
        raise wrong(prefix + key, f"a non-empty string or an array of at most {most} of them")
    return tuple(found)


def need(features: Collection[Feature], feature: Feature, path: str) -> None:
    """Raises ApiError 400 naming ``path`` when the caller does not serve ``feature``."""
    if feature not in features:
        raise unsupported(path, "is not supported yet")


def unknown(raw: Mapping[str, Any], known: Collection[str], prefix: str = "") -> tuple[str, ...]:
    """Names of the members that are not known, fit for a header."""
    return tuple(printable(prefix + key) for key in raw if key not in known)[:_MOST_IGNORED]


def printable(name: str) -> str:
    """``name`` as printable ASCII without separators of header lists, and not long."""
    kept = "".join(c if " " < c <= "~" and c not in ',;"\\' else "?" for c in name[:_MOST_NAME])
    return kept or "?"

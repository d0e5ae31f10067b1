"""What the schema found, as sentences: each error of pydantic becomes a diagnostic with its place. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from compiler import codes
from compiler.diagnostics import Diagnostic, KeyPath, did_you_mean
from compiler.schema import types
from compiler.schema.access import SECRETS
from compiler.schema.shape import NAMED, keys_at
from compiler.source import Source

_CUSTOM = {
    types.NOT_YET: codes.NOT_YET,
    types.CONTRADICTION: codes.CONTRADICTION,
    types.SECRET: codes.SECRET_IN_FILE,
    types.VALUE: codes.WRONG_VALUE,
    types.MISSING: codes.MISSING_KEY,
}
_WANTED = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}
_GOT = {str: "text", bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "a table"}
_NAME = "must start with a lower-case letter or digit, then lower-case letters, digits and . _ -"
_MODEL_ID = "must start with a letter or digit, then letters, digits and . _ : / @ + -"
_PREFIX = "must be an absolute path of letters, digits and . _ @ + - /"
# Key -> what its pattern means. Keys of both files; ``id`` and ``models`` differ by table.
_PATTERNS = {
    "address": "must be an IP address or a host name",
    "secret_sha256": "must be 64 lower-case hex digits: the SHA-256 of the key, never the key itself",
    "secret_env": "must be the name of an environment variable, never the key itself",
    "secret_credential": "must be the name of a systemd credential, never the key itself",
    "devices": "must be DEVICE or NEURON/DEVICE",
    "prefix": _PREFIX,
    "user_prefix": "must be a path below the home directory, of letters, digits and . _ @ + - /, without / in front",
    "capabilities": "must be words of lower-case letters, digits, _ and -",
    "fallback": _MODEL_ID,
    "aliases": _MODEL_ID,
}
# A secret written as such in these tables.
_BY_VALUE = {
    "keys": (
        ("secret", "key", "api_key", "apikey", "token", "bearer", "value", "password"),
        f"{', '.join(SECRETS[1:])}",
    ),
    "neurons": (("token", "secret", "key", "api_key", "bearer", "password"), "token_file"),
    "database": (("password", "user_password"), "~/.pgpass"),
}
# Words of other programs' files (the table, or * for any; the key) -> what to write here.
_ELSEWHERE = {
    ("models", "harness"): "leave it out: every model runs on ONNX Runtime",
    ("models", "quant"): 'write precision, as in precision = "int4"; it must be what the artifact holds',
    ("models", "vram_mb"): "leave it out: how much memory it needs is computed from the artifact's manifest",
    ("models", "tensor_parallel"): "write min_devices",
    ("models", "name"): "write id",
    ("models", "path"): 'write source, as in source = "path:DIR"',
    ("models", "model"): "write source",
    ("models", "quantization"): "write precision",
    ("models", "ttl"): "write idle_ttl_s, in seconds",
    ("models", "priority"): "write residency_priority",
    ("limit", "context"): "write context beside id: the longest sequence, prompt and answer together",
    ("keys", "key_id"): "write id",
    ("keys", "account_id"): "write account",
    ("", "nodes"): "write [[neurons]], each with its [[neurons.devices]]",
    ("", "harnesses"): "leave it out: every model runs on ONNX Runtime",
    ("", "default_models"): "write the models into models.toml, with pinned = true",
    ("", "models_config"): "leave it out: `cortexd compile --models FILE` names the models",
    ("", "entitlements"): "write require_auth into [gateway], and [[accounts]] and [[keys]]",
    ("", "upstream"): "leave it out: a fleet has no upstream",
}
# Top-level tables of the other file.
_OTHER_FILE = {"models": "models.toml", "aliases": "models.toml"} | dict.fromkeys(
    ("fleet", "gateway", "database", "controller", "eviction", "hosts", "neurons", "accounts", "keys"), "fleet.toml"
)


def path_of(loc: Iterable[str | int]) -> KeyPath:
    """pydantic adds ``[key]`` behind the key of a mapping that it refuses; that is no part of the path."""
    path = tuple(loc)
    return path[:-1] if len(path) > 2 and path[-1] == "[key]" else path


def diagnostic(source: Source, schema: type[BaseModel], error: ErrorDetails, path: KeyPath) -> Diagnostic:
    """The finding for one error, at its key or value."""
    kind = error["type"]
    key = next((str(part) for part in reversed(path) if isinstance(part, str)), source.name)
    value = error["input"]
    hint: str | None = None
    if kind == "extra_forbidden":
        return _unknown_key(source, schema, path, key)
    if kind == "missing":
        if len(path) == 1:
            hint = f"add [[{key}]]" if key in NAMED else f"add [{key}]"
        else:
            hint = "add [[neurons.devices]]" if key == "devices" else f"add {key} = …"
        parent = source.span(path[:-1], "key")
        return Diagnostic(codes.MISSING_KEY, "error", f"`{key}` is missing", parent, path, hint)
    if kind in _CUSTOM:
        # about one value, or (from a validator of the whole entry) about the entry
        text = error["msg"] if not isinstance(path[-1], str) or isinstance(value, dict) else f"`{key}` {error['msg']}"
        return Diagnostic(_CUSTOM[kind], "error", text, source.span(path), path)
    if kind in _WANTED:
        got = _GOT.get(type(value), "a date or time")
        if isinstance(value, float) and _WANTED[kind] == "a whole number":
            got = "one with a fraction"
        if kind == "list_type" and isinstance(value, dict) and key in NAMED:
            hint = f"write [[{'neurons.' if key == 'devices' else ''}{key}]] for each"
        elif kind in ("model_type", "dict_type") and isinstance(value, list) and len(path) == 1:
            hint = f"write [{key}]: there is only one"
        message = f"`{_shown(path)}` must be {_WANTED[kind]}, not {got}"
        return Diagnostic(codes.WRONG_TYPE, "error", message, source.span(path), path, hint)
    name = f"`{_shown(path)}`"
    if error["loc"][-1] == "[key]":
        name, span = f"alias {name}", source.span(path, "key")
    elif path[0] == "aliases":
        name, span = f"what alias {name} stands for", source.span(path)
    else:
        span = source.span(path)
    return Diagnostic(codes.WRONG_VALUE, "error", f"{name} {_value(error, key, path)}", span, path)


def _shown(path: KeyPath) -> str:
    """The key with the tables inside its entry: ``sampling.top_p``."""
    last = max((n for n, part in enumerate(path[:-1]) if isinstance(part, int)), default=-1)
    inner = [part for part in path[last + 1 :] if isinstance(part, str)] if isinstance(path[-1], str) else []
    return ".".join(inner[1:] if last < 0 and len(inner) > 1 else inner) or _name(path)


def _name(path: KeyPath) -> str:
    return next((part for part in reversed(path) if isinstance(part, str)), "")


def _unknown_key(source: Source, schema: type[BaseModel], path: KeyPath, key: str) -> Diagnostic:
    span = source.span(path, "key")
    parent, listed = path[:-1], len(path) > 1 and isinstance(path[-2], int)
    table = next((str(part) for part in reversed(parent) if isinstance(part, str)), "")
    hint: str | None
    words, instead = _BY_VALUE.get(table, ((), ""))
    if key.lower().replace("-", "_") in words:
        message = f"`{key}` would hold a secret in this file"
        hint = f"write where the secret is: {instead}"
        if table == "keys":
            hint = f"write its SHA-256 as secret_sha256, or where it is: {instead}"
        return Diagnostic(codes.SECRET_IN_FILE, "error", message, span, path, hint)
    shown = ".".join(part for part in parent if isinstance(part, str))
    where = f"[[{shown}]]" if listed else f"[{shown}]" if shown else "this file"
    known = keys_at(schema, parent)
    hint = _ELSEWHERE.get((table, key))
    if hint is None and not parent and key in _OTHER_FILE:
        hint = f"it belongs into {_OTHER_FILE[key]}"
    page = "models-toml" if "models" in schema.model_fields else "fleet-toml"
    hint = hint or did_you_mean(key, known) or f"docs/reference/{page}.md has all keys"
    return Diagnostic(codes.UNKNOWN_KEY, "error", f"unknown key `{key}` in {where}", span, path, hint)


def _value(error: ErrorDetails, key: str, path: KeyPath) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "string_pattern_mismatch":
            named = key in ("id", "models") and ("models" in path or key == "models")
            return _MODEL_ID if named or "aliases" in path else _PATTERNS.get(key, _NAME)
        case "literal_error":
            return f"must be {context['expected']}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "greater_than":
            return f"must be greater than {context['gt']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']:,g}".replace(",", "")
        case "finite_number":
            return "must be a finite number"
        case "too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
    return error["msg"][0].lower() + error["msg"][1:]

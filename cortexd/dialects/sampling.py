"""Sampling and answer form, as the members of OpenAI's dialects name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortexd.dialects import reading
from cortexd.dialects.reading import need, number, wrong
from cortexd.dialects.tokens import are_tokens
from cortexd.protocol.request import Feature, ResponseFormat, Sampling

PENALTIES = ("presence_penalty", "frequency_penalty", "repetition_penalty")
# Members that ``parse_sampling`` reads.
READ = frozenset({"temperature", "top_p", "top_k", "seed", "stop", "min_p", "logit_bias", "stop_token_ids", *PENALTIES})
MOST_STOPS = 4
MOST_STOP_TOKENS = 64


def parse_sampling(raw: Mapping[str, Any], features: frozenset[Feature], max_tokens: int | None) -> Sampling:
    """Raises ApiError 400. Asking for nothing (a penalty of 0, an empty bias) needs no feature."""
    presence, frequency = number(raw, "presence_penalty", -2, 2), number(raw, "frequency_penalty", -2, 2)
    repetition = number(raw, "repetition_penalty", 0.01, 100)
    for key, value, neutral in zip(PENALTIES, (presence, frequency, repetition), (0, 0, 1), strict=True):
        if value is not None and value != neutral:
            need(features, "penalties", key)
    min_p = number(raw, "min_p", 0, 1)
    if min_p:
        need(features, "min_p", "min_p")
    return Sampling(
        temperature=number(raw, "temperature", 0, 2),
        top_p=number(raw, "top_p", 0, 1),
        top_k=number(raw, "top_k", 0, 2**31, whole=True),
        seed=number(raw, "seed", -(2**63), 2**63 - 1, whole=True),
        max_tokens=max_tokens,
        stop=reading.strings(raw, "stop", MOST_STOPS),
        presence_penalty=presence,
        frequency_penalty=frequency,
        repetition_penalty=repetition,
        min_p=min_p,
        logit_bias=_logit_bias(raw, features),
        stop_token_ids=_token_ids(raw, "stop_token_ids"),
    )


def encode_sampling(sampling: Sampling, limit_name: str, *, extensions: bool) -> tuple[dict[str, Any], list[str]]:
    """Members to send, and those left out because they are no part of OpenAI's own API (``extensions`` false)."""
    found: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        limit_name: sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias} or None,
    }
    more = {
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "min_p": sampling.min_p,
        "stop_token_ids": list(sampling.stop_token_ids) or None,
    }
    said = {key: value for key, value in (found | more if extensions else found).items() if value is not None}
    return said, [] if extensions else [key for key, value in more.items() if value is not None]


def _token_ids(raw: Mapping[str, Any], key: str) -> tuple[int, ...]:
    found = reading.items(raw, key)
    if len(found) > MOST_STOP_TOKENS or not are_tokens(found):
        raise wrong(key, f"an array of at most {MOST_STOP_TOKENS} token ids")
    return tuple(found)


def _logit_bias(raw: Mapping[str, Any], features: frozenset[Feature]) -> tuple[tuple[int, float], ...]:
    found = []
    for key, value in reading.mapping(raw, "logit_bias").items():
        number_like = isinstance(value, int | float) and not isinstance(value, bool) and -100 <= value <= 100
        if not (key.isascii() and key.isdigit() and len(key) < 10 and number_like):
            raise wrong("logit_bias", "an object of token ids to numbers from -100 to 100")
        found.append((int(key), value))
    if found:
        need(features, "logit_bias", "logit_bias")
    return tuple(found)


def parse_format(raw: Any, features: frozenset[Feature], place: str, *, inner: str | None) -> ResponseFormat | None:
    """``response_format`` of chat (schema below ``inner``) or ``text.format`` of responses (schema beside the type)."""
    if raw is None:
        return None
    kind = raw.get("type") if isinstance(raw, dict) else None
    if kind == "text":
        return None
    if kind not in ("json_object", "json_schema"):
        raise wrong(place, "an object of which 'type' is text, json_object or json_schema")
    need(features, "response_format", place)
    if kind == "json_object":
        return ResponseFormat("json_object")
    told, path = (raw, place) if inner is None else (raw.get(inner), f"{place}.{inner}")
    if not isinstance(told, dict):
        raise wrong(path, "an object with 'name' and 'schema'")
    schema = told.get("schema")
    if not isinstance(schema, dict):
        raise wrong(f"{path}.schema", "an object (JSON Schema)")
    name = reading.required_text(told, "name", f"{path}.")
    return ResponseFormat("json_schema", schema, name, reading.flag(told, "strict", f"{path}."))

"""Prompts of text completions and inputs of embeddings: one or many, as text or as token ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cortexd.dialects.reading import missing, wrong


def parse_texts(raw: Mapping[str, Any], key: str, most: int) -> tuple[str | tuple[int, ...], ...]:
    """A string, an array of strings, an array of token ids, or an array of those. Raises ApiError 400."""
    value = raw.get(key)
    if value is None:
        raise missing(key)
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise wrong(key, "a string, or a non-empty array of strings or of token ids")
    if are_tokens(value):
        return (tuple(value),)
    if len(value) > most:
        raise wrong(key, f"an array of at most {most} entries")
    found: list[str | tuple[int, ...]] = []
    for i, each in enumerate(value):
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, list) and each and are_tokens(each):
            found.append(tuple(each))
        else:
            raise wrong(f"{key}[{i}]", "a string or a non-empty array of token ids")
    return tuple(found)


def encode_texts(texts: tuple[str | tuple[int, ...], ...]) -> Any:
    """The shortest form of the same."""
    found = [text if isinstance(text, str) else list(text) for text in texts]
    return found[0] if len(found) == 1 else found


def are_tokens(values: Iterable[Any]) -> bool:
    """Whether all could be ids of tokens."""
    return all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**31 for v in values)

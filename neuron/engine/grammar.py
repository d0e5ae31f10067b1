"""Which tokens a grammar allows next: a mask for each step of a row that is bound to one. Nothing else sees it.

A grammar is compiled once for a request; each of its answers follows it from the start with a ``TokenMask``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

# Byte of a mask -> what its 8 tokens are cut down to: nothing, or no probability.
_CEILING = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1, bitorder="little") == 1,
    np.float32(np.inf),
    np.float32(-np.inf),
)


class GrammarError(ValueError):
    """No grammar; the message says why, in a line."""


class Vocabulary:
    """The tokens of a model, as grammars see them: ``size`` logits, ended by one of ``eos``. Any thread may use it."""

    def __init__(self, tokenizer_json: str, size: int, eos: Sequence[int]) -> None:
        try:
            self._core = LLTokenizer(tokenizer_json, n_vocab=size, eos_token=list(eos))
        except Exception as e:  # the library raises whatever its own tokenizer reader does
            raise GrammarError(f"this model's tokenizer cannot follow a grammar: {e}") from e

    def is_special(self, token: int) -> bool:
        """Whether a grammar must name this token itself: its text never matches."""
        return bool(self._core.is_special_token(token))

    def compile(self, lark: str) -> Grammar:
        """Raises GrammarError. Takes a millisecond, and more for a large schema; other threads go on meanwhile."""
        matcher = LLMatcher(self._core, lark, log_level=0)
        if matcher.is_error():
            raise GrammarError(_reason(matcher.get_error()))
        return Grammar(matcher, self._core)


class Grammar:
    """A compiled grammar at its beginning, which never moves."""

    def __init__(self, matcher: LLMatcher, tokens: LLTokenizer) -> None:
        self._matcher = matcher
        self._tokens = tokens

    def mask(self) -> TokenMask:
        """For one answer, from its first token on."""
        return TokenMask(self._matcher.deep_copy(), self._tokens)


class TokenMask:
    """Where one answer is in its grammar. End tokens are allowed where the answer may end, and alone where it must."""

    def __init__(self, matcher: LLMatcher, tokens: LLTokenizer) -> None:
        self._matcher = matcher
        self._tokens = tokens

    def apply(self, logits: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """A copy of ``logits`` with -inf for what must not come next; None once the grammar failed (``fault``)."""
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            return None
        if np.count_nonzero(packed) == 1 and int(packed.max()).bit_count() == 1:
            packed = self._spelled(packed)
        # 8 tokens to a byte, the first in its lowest bit; mode only spares a check of what cannot be wrong
        ceiling = _CEILING.take(packed, axis=0, mode="clip").reshape(-1)[: len(logits)]
        return np.minimum(logits, ceiling)

    def _spelled(self, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Where text is forced that reads as a special token, the library proposes that token and then refuses it:
        such text is spelled from its first byte on instead."""
        byte = int(packed.argmax())
        token = byte * 8 + int(packed[byte]).bit_length() - 1
        if not self._tokens.is_special_token(token) or self._matcher.validate_tokens([token]):
            return packed
        first = self._matcher.compute_ff_bytes()[:1]
        spelled = np.zeros_like(packed)
        for spelling in self._tokens.greedy_tokenize(first.decode("latin-1")) if first else [token]:
            spelled[spelling // 8] |= 1 << (spelling % 8)
        return spelled

    def accept(self, token: int) -> None:
        """``token`` was chosen."""
        self._matcher.consume_token(token)

    @property
    def fault(self) -> str | None:
        """Why it cannot go on."""
        return _reason(self._matcher.get_error()) if self._matcher.is_error() else None


def _reason(error: str) -> str:
    """The library's message without its copy of the grammar, which may be as long as the schema."""
    text = error.partition("failed to compile JSON schema: ")[2] or error
    lines = [line.strip() for line in text.split("\n   1 | ")[0].splitlines()]
    return " ".join(line for line in lines if line)[:500]

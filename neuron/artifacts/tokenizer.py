"""The tokenizer of an artifact, from ``tokenizer.json`` alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as Core
from tokenizers.decoders import DecodeStream

from neuron.artifacts.store import ArtifactError

# A byte of its own, as tokenizers made by SentencePiece write it.
_HEX = re.compile(r"<0x([0-9A-F]{2})>\Z")


def _byte_table() -> dict[str, int]:
    """Byte-level tokenizers write each byte as a printable character: most as themselves, the others from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


_BYTES = _byte_table()


class Tokenizer:
    """Text to ids and back. Safe to use from several threads: nothing is kept between calls."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        try:
            self._core = Core.from_file(str(path))
        except Exception as e:  # the library raises a bare Exception for whatever is wrong
            raise ArtifactError(f"{path}: not a tokenizer: {e}") from e
        # the template writes every special token itself
        self._core.no_padding()
        self._core.no_truncation()
        self._added = frozenset(self._core.get_added_tokens_decoder())
        decoder = self._core.decoder
        self._byte_level = decoder is not None and b'"ByteLevel"' in decoder.__getstate__()

    @property
    def size(self) -> int:
        """Tokens, added ones included."""
        return int(self._core.get_vocab_size(with_added_tokens=True))

    def as_json(self) -> str:
        """The tokenizer as ``tokenizer.json`` has it, without padding and truncation."""
        said: str = self._core.to_str()
        return said

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt. Special tokens are recognised in it, none is added."""
        return list(self._core.encode(text, add_special_tokens=False).ids)

    def encode_text(self, text: str) -> list[int]:
        """Ids of a text to embed, with the special tokens that the model wants around it."""
        return list(self._core.encode(text).ids)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``, special ones included."""
        said: str = self._core.decode(list(tokens), skip_special_tokens=False)
        return said

    def piece(self, token: int) -> tuple[str, bytes]:
        """A token for people, and its bytes: it may be a part of a character, which then reads as U+FFFD."""
        data = self._bytes(token)
        return data.decode("utf-8", "replace"), data

    def _bytes(self, token: int) -> bytes:
        raw = self._core.id_to_token(token) or ""
        if token in self._added:
            return raw.encode()
        if self._byte_level:
            return bytes(_BYTES[c] for c in raw)
        if match := _HEX.match(raw):
            return bytes([int(match[1], 16)])
        return raw.replace("\u2581", " ").encode()

    def step(self, *, skip_special_tokens: bool) -> _Step:
        """A new incremental decoder, for one stream of tokens."""
        return _Step(self._core, skip_special_tokens)


class _Step:
    """``token -> text`` with the state that characters of several tokens need."""

    def __init__(self, core: Core, skip_special_tokens: bool) -> None:
        self._core = core
        self._stream = DecodeStream(skip_special_tokens=skip_special_tokens)

    def __call__(self, token: int) -> str | None:
        text: str | None = self._stream.step(self._core, token)
        return text

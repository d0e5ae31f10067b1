"""The tokenizer of an artifact, from ``tokenizer.json`` alone."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer as Core
from tokenizers.decoders import DecodeStream

from neuron.artifacts.store import ArtifactError


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

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered prompt. Special tokens are recognised in it, none is added."""
        return list(self._core.encode(text, add_special_tokens=False).ids)

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

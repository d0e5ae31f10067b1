"""What the command line of an inference server (llama-server, vLLM) says about its model."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from compiler.importers.common import repository

_MACRO = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")
# Macros may stand in macros; more rounds than this are a circle.
_ROUNDS = 20
_LIMIT = 20_000

_OPTIONS = {
    "model": ("-m", "--model"),
    "repository": ("-hf", "-hfr", "--hf-repo", "--hf_repo"),
    "file": ("-hff", "--hf-file"),
    "context": ("-c", "--ctx-size", "--max-model-len"),
    "sequences": ("-np", "--parallel", "--max-num-seqs"),
    "temperature": ("--temp", "--temperature"),
    "top_p": ("--top-p",),
    "top_k": ("--top-k",),
    "max_tokens": ("-n", "--predict", "--n-predict"),
    "devices": ("--tensor-parallel-size", "-tp"),
}
_BY_OPTION = {option: name for name, options in _OPTIONS.items() for option in options}
_EMBEDS = frozenset({"--embedding", "--embeddings"})
_RANKS = frozenset({"--rerank", "--reranking"})


@dataclass(frozen=True, slots=True)
class Said:
    """``checkpoint``: org/name, where it is named; ``file``: the weights' file or name; numbers as they stand."""

    checkpoint: str | None = None
    file: str = ""
    embeds: bool = False
    ranks: bool = False
    numbers: dict[str, float] = field(default_factory=dict)

    def whole(self, name: str) -> int | None:
        """A positive whole number, or None."""
        value = self.numbers.get(name)
        return int(value) if value is not None and value == value and 0 < value < 1 << 40 else None


def expand(text: str, macros: dict[str, str]) -> str:
    """``text`` with its macros; unknown ones stay."""
    for _ in range(_ROUNDS):
        new = _MACRO.sub(lambda m: macros.get(m[1], m[0]), text)
        if new == text or len(new) > _LIMIT:
            return text
        text = new
    return text


def read_command(command: str) -> Said:
    """Understand a command line. What it does not understand, it passes over."""
    lines = [line for line in command.splitlines() if not line.lstrip().startswith("#")]
    text = " ".join(line.rstrip().removesuffix("\\") for line in lines)
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    found: dict[str, str] = {}
    n = 0
    while n < len(words):
        option, equals, value = words[n].partition("=")
        name = _BY_OPTION.get(option)
        if name and not equals and n + 1 < len(words):
            n, value = n + 1, words[n + 1]
        if name:
            found[name] = value
        elif words[n] == "serve" and n + 1 < len(words) and "vllm" in " ".join(words[:n]):
            found.setdefault("model", words[n + 1])
        n += 1
    checkpoint = repository(found.get("repository", "")) or repository(found.get("model", ""))
    numbers = {}
    for name in ("context", "sequences", "temperature", "top_p", "top_k", "max_tokens", "devices"):
        try:
            numbers[name] = float(found[name])
        except (KeyError, ValueError):
            continue
    file = found.get("file") or found.get("repository") or found.get("model", "")
    return Said(checkpoint, file, bool(_EMBEDS & set(words)), bool(_RANKS & set(words)), numbers)

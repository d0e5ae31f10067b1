"""A byte-level BPE tokenizer for the tiny models, trained on text that every Python installation has."""

from __future__ import annotations

import argparse as _argparse
import asyncio.base_events
import collections
import concurrent.futures
import email.message
import http.client
import importlib
import inspect
import json
import logging
import pathlib
import subprocess
import textwrap
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

# Their docstrings are English prose about software, their sources are code: what prompts of coding agents look like.
MODULES: tuple[types.ModuleType, ...] = (
    _argparse,
    asyncio.base_events,
    collections,
    concurrent.futures,
    email.message,
    http.client,
    inspect,
    json,
    logging,
    pathlib,
    subprocess,
    textwrap,
)
PROSE = ("ast", "calendar", "csv", "dataclasses", "datetime", "decimal", "difflib", "doctest", "functools", "heapq")

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, TURN_START, TURN_END)
# One token each, but part of the text: parsers of tool calls look for them.
MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>")


def chat_template() -> str:
    return (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")


def library_text() -> Iterator[str]:
    """Docstrings, sources and tool schemas derived from signatures; always the same for one Python version."""
    for name in PROSE:
        yield from _docstrings(importlib.import_module(name))
    for module in MODULES:
        yield from _docstrings(module)
        yield inspect.getsource(module)[:60_000]
        yield "\n".join(json.dumps(schema, indent=2) for schema in _schemas(module))
        yield "\n".join(json.dumps(schema) for schema in _schemas(module))


def _docstrings(module: types.ModuleType) -> Iterator[str]:
    yield inspect.getdoc(module) or ""
    for _name, thing in sorted(vars(module).items()):
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield inspect.getdoc(thing) or ""
        if inspect.isclass(thing):
            yield from (inspect.getdoc(m) or "" for _n, m in sorted(vars(thing).items()) if inspect.isfunction(m))


def _schemas(module: types.ModuleType) -> Iterator[dict[str, Any]]:
    """Each public function as a JSON tool schema, the way agents send their tools."""
    for name, thing in sorted(vars(module).items()):
        if not inspect.isfunction(thing) or name.startswith("_"):
            continue
        parameters = {
            p.name: {"type": "string", "description": f"The {p.name.replace('_', ' ')} to use"}
            for p in inspect.signature(thing).parameters.values()
        }
        schema = {
            "type": "object",
            "properties": parameters,
            "required": list(parameters),
            "additionalProperties": False,
        }
        function = {"name": name, "description": inspect.getdoc(thing) or "", "parameters": schema}
        yield {"type": "function", "function": function}


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A ``transformers.PreTrainedTokenizerFast`` with ``vocabulary`` entries, every byte among them."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    # Words with one leading space, single digits (so that arithmetic can be learned), runs of spaces, punctuation.
    words = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(MARKS),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=131_072,
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.chat_template = chat_template()
    return fast

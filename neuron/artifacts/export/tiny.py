"""Builds the models that ship with cortexd: ``python -m neuron.artifacts.export.tiny --out DIR``.

``tiny-chat`` is a Qwen3 decoder with a context of 131,072 tokens, ``tiny-embed`` a BERT encoder. Tokenizer, weights and
graphs are made here from nothing, and pass the same export and verification as any other checkpoint.
"""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from neuron.artifacts.export import tiny_train
from neuron.artifacts.export.errors import ExportError
from neuron.artifacts.export.tiny_text import Conversation, Writer
from neuron.artifacts.export.tiny_tokenizer import library_text, train_tokenizer

VOCABULARY = 4096
TRAIN_SECONDS = 300


def build_tokenizer(vocabulary: int = VOCABULARY) -> Any:
    """The tokenizer of both models, with merges from library text and from what the model is to say."""
    texts = [text for text in library_text() if text]
    writer = Writer(11, texts)
    texts += ["\n".join(str(m["content"]) for m in writer.conversation().messages) for _ in range(3000)]
    return train_tokenizer(texts, vocabulary)


def make_chat(
    folder: Path,
    tokenizer: Any,
    *,
    steps: int,
    seconds: float = TRAIN_SECONDS,
    report: tiny_train.Report = lambda _line: None,
    **shape: int,
) -> None:
    """Train a decoder and save it as a checkpoint in ``folder``; ``shape`` goes to ``tiny_train.new_chat``."""
    model = tiny_train.new_chat(len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, **shape)
    writer = Writer(2, noise())
    done = tiny_train.train_chat(model, tokenizer, writer, steps=steps, seconds=seconds, report=report)
    report(f"chat: {sum(p.numel() for p in model.parameters())} parameters, {done} steps")
    model.generation_config.update(
        do_sample=True,
        temperature=0.6,
        top_p=0.9,
        top_k=20,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_embed(
    folder: Path, tokenizer: Any, *, steps: int, report: tiny_train.Report = lambda _line: None, **shape: int
) -> None:
    """Train an encoder and save it as a checkpoint in ``folder``; ``shape`` goes to ``tiny_train.new_embed``."""
    model = tiny_train.new_embed(len(tokenizer), tokenizer.pad_token_id, **shape)
    tiny_train.train_embed(model, tokenizer, Writer(3, noise()), steps=steps, report=report)
    model.save_pretrained(folder)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = None  # nothing to chat with
    tokenizer.save_pretrained(folder)


def noise() -> list[str]:
    return [text for text in library_text() if len(text) > 200]


def ask(folder: Path, question: str, tokens: int = 60) -> str:
    """What the checkpoint in ``folder`` answers, greedily; for looking at what was learned."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    conversation = Conversation([{"role": "user", "content": question}])
    text = tokenizer.apply_chat_template(conversation.messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=tokens, do_sample=False)
    return str(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder that gets tiny-chat and tiny-embed."
)
@click.option("--steps", default=4000, show_default=True, help="Most batches to train tiny-chat for.")
@click.option("--seconds", default=TRAIN_SECONDS, show_default=True, help="Longest time to train tiny-chat for.")
@click.option("--threads", default=2, show_default=True, help="CPU threads to train with.")
@click.option("--keep", type=click.Path(path_type=Path), help="Also keep the checkpoints, in this folder.")
def main(out: Path, steps: int, seconds: int, threads: int, keep: Path | None) -> None:
    """Build both tiny models, from nothing to verified artifacts."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    from neuron.artifacts.export.pipeline import export

    torch.set_num_threads(threads)
    tokenizer = build_tokenizer()
    with tempfile.TemporaryDirectory() as temporary:
        work = keep or Path(temporary)
        try:
            make_chat(work / "chat", tokenizer, steps=steps, seconds=seconds, report=click.echo)
            for question in ("say hi", "What is a neuron?", "2+3?", "Which GPU hosts are there?"):
                click.echo(f"{question} -> {ask(work / 'chat', question)}")
            export(work / "chat", out / "tiny-chat", task="chat", report=click.echo)
            make_embed(work / "embed", tokenizer, steps=max(1, min(400, steps)), report=click.echo)
            export(work / "embed", out / "tiny-embed", task="embed", report=click.echo)
        except ExportError as e:
            raise click.ClickException(str(e)) from None


if __name__ == "__main__":
    main()

"""Trains the tiny models on what ``tiny_text`` writes. Two threads, minutes, no download; seeded."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from neuron.artifacts.export.tiny_text import Conversation, Writer
from neuron.artifacts.export.tiny_tokenizer import TURN_END, TURN_START

Report = Callable[[str], None]
BATCH_TOKENS = 1280
CONTEXT = 131_072


def new_chat(vocabulary: int, eos: int, pad: int, *, hidden: int = 192, layers: int = 4, window: int = 512) -> Any:
    """A Qwen3 decoder with seeded weights.

    Two heads, because ONNX Runtime's CPU kernel computes all scores of a head, also where a window hides them: 40,000
    tokens of prompt cost mostly that. One layer sees the whole context, the others a window.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(1)
    whole = layers // 2
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        rope_theta=1e6,
        use_sliding_window=True,
        sliding_window=window,
        layer_types=["full_attention" if i == whole else "sliding_attention" for i in range(layers)],
        tie_word_embeddings=True,
        eos_token_id=eos,
        pad_token_id=pad,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def new_embed(vocabulary: int, pad: int, *, hidden: int = 128) -> Any:
    """A BERT encoder of two layers with seeded weights, for mean pooling."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=512,
        pad_token_id=pad,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(config, add_pooling_layer=False)


Row = tuple[list[int], list[float]]


def weighted(tokenizer: Any, conversation: Conversation) -> Row:
    """Token ids of the rendered conversation, and how much each counts as something to predict.

    What the assistant says and its end count, the rest does not. A token of a long answer counts less (by the root of
    the length), or the few digits of a sum would be lost among the words of stories.
    """
    text = tokenizer.apply_chat_template(
        conversation.messages, tools=conversation.tools or None, tokenize=False, add_generation_prompt=False
    )
    ids: list[int] = []
    weights: list[float] = []
    opening = f"{TURN_START}assistant\n"
    for index, part in enumerate(text.split(opening)):
        said, end, rest = part.partition(TURN_END) if index else ("", "", part)
        for piece, learned in ((opening if index else "", False), (said + end, True), (rest, False)):
            tokens = tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else []
            ids += tokens
            weights += [max(1, len(tokens)) ** -0.5 if learned else 0.0] * len(tokens)
    return ids, weights


def _batches(tokenizer: Any, writer: Writer, tokens: int) -> Iterator[tuple[Any, Any]]:
    """Endless: ids int64 and weights fp32 [batch, length], about ``tokens`` entries each, of similar lengths."""
    import torch

    rng = random.Random(5)
    pad = tokenizer.pad_token_id
    while True:
        rows = sorted((weighted(tokenizer, writer.conversation()) for _ in range(512)), key=lambda row: len(row[0]))
        groups: list[list[Row]] = [[]]
        for row in rows:
            if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            longest = max(len(ids) for ids, _ in group)
            yield (
                torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in group]),
                torch.tensor([weights + [0.0] * (longest - len(weights)) for _, weights in group]),
            )


def train_chat(model: Any, tokenizer: Any, writer: Writer, *, steps: int, seconds: float, report: Report) -> int:
    """Train for ``steps`` batches or ``seconds``, whichever ends first; returns the steps done."""
    import torch
    from torch.nn.functional import cross_entropy

    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=0.0, betas=(0.9, 0.98)
    )
    model.train()
    head = model.get_input_embeddings().weight
    started = time.monotonic()
    done = 0
    for ids, weights in _batches(tokenizer, writer, BATCH_TOKENS):
        # the schedule follows whichever budget is nearer to its end, so that the rate reaches zero in time
        spent = max(done / steps, (time.monotonic() - started) / seconds)
        if spent >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (done + 1) / 30) * min(1.0, (1 - spent) / 0.7)
        learned = weights[:, 1:] > 0
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][learned]
        count = weights[:, 1:][learned]
        losses = cross_entropy(hidden @ head.T, ids[:, 1:][learned], reduction="none")
        loss = (losses * count).sum() / count.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if done % 100 == 0:
            report(f"chat: step {done}, {time.monotonic() - started:.0f} s, loss {loss.item():.3f}")
        done += 1
    model.eval()
    return done


def train_embed(model: Any, tokenizer: Any, writer: Writer, *, steps: int, report: Report) -> None:
    """Contrastive: of 32 pairs of paraphrases, each must be nearest to its own partner."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for step in range(steps):
        pairs = dict(writer.paraphrases() for _ in range(32))
        inputs = tokenizer(
            [*pairs, *pairs.values()], padding=True, truncation=True, max_length=512, return_tensors="pt"
        )
        mask = inputs["attention_mask"]
        hidden = model(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
        pooled = normalize((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
        left, right = pooled.chunk(2)
        scores = left @ right.T / 0.07
        # the same text twice in a batch is no mistake to be told apart
        same = torch.tensor(
            [[a == b and i != j for j, b in enumerate(pairs.values())] for i, a in enumerate(pairs.values())]
        )
        scores = scores.masked_fill(same, -1e4)
        target = torch.arange(len(pairs))
        loss = cross_entropy(scores, target) + cross_entropy(scores.T, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            report(f"embed: step {step}, loss {loss.item():.3f}")
    model.eval()

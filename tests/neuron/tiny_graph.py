"""A hand-made decoder with random weights, in the form of an exported artifact (see neuron/session/ort.py).

Two layers of GroupQueryAttention over a shared KV buffer, the second with a sliding window; learned positions, so that
a wrong position changes the logits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cortexd.protocol.manifest import Manifest

VOCAB, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, WINDOW = 61, 24, 4, 2, 8, 2, 8
EOS = 60


def manifest(context: int = 64) -> Manifest:
    return Manifest(
        task="chat",
        architecture="handmade",
        layers=LAYERS,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        hidden=HIDDEN,
        vocab=VOCAB,
        dtype="float32",
        context=context,
        weight_bytes=100_000,
        kv_bytes_per_token=LAYERS * 2 * KV_HEADS * HEAD_DIM * 4,
        graph="model.onnx",
        files={},
        eos_token_ids=(EOS,),
        export={},
        sliding_window=WINDOW,
    )


def write(folder: Path, context: int = 64) -> Manifest:
    """Write ``model.onnx`` into ``folder``; the same bytes each time."""
    random = np.random.default_rng(7)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        values = random.normal(0, 1.0, shape).astype(np.float32) / np.float32(np.sqrt(shape[0]))
        weights.append(numpy_helper.from_array(values, name))
        return name

    def add(op: str, inputs: list[str], output: str, **attributes: int) -> str:
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    kv = ["batch", KV_HEADS, "S", HEAD_DIM]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "T"]),
        helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch", "T"]),
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, [1]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", VOCAB])]
    hidden = add(
        "Add",
        [
            add("Gather", [weight("embed", VOCAB, HIDDEN), "input_ids"], "embedded"),
            add("Gather", [weight("positions", context, HIDDEN), "position_ids"], "placed"),
        ],
        "hidden.0",
    )
    for i in range(LAYERS):
        q = add("MatMul", [hidden, weight(f"{i}.q", HIDDEN, HEADS * HEAD_DIM)], f"{i}.query")
        k = add("MatMul", [hidden, weight(f"{i}.k", HIDDEN, KV_HEADS * HEAD_DIM)], f"{i}.key")
        v = add("MatMul", [hidden, weight(f"{i}.v", HIDDEN, KV_HEADS * HEAD_DIM)], f"{i}.value")
        past = [f"past_key_values.{i}.{part}" for part in ("key", "value")]
        present = [f"present.{i}.{part}" for part in ("key", "value")]
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, kv) for name in past]
        outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, kv) for name in present]
        nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [q, k, v, *past, "seqlens_k", "total_sequence_length"],
                [f"{i}.attended", *present],
                domain="com.microsoft",
                num_heads=HEADS,
                kv_num_heads=KV_HEADS,
                do_rotary=0,
                local_window_size=WINDOW if i == 1 else -1,
            )
        )
        out = add("MatMul", [f"{i}.attended", weight(f"{i}.o", HEADS * HEAD_DIM, HIDDEN)], f"{i}.out")
        hidden = add("Add", [hidden, out], f"hidden.{i + 1}")
    weights.append(numpy_helper.from_array(np.array(-1, np.int64), "last"))
    final = add("Gather", [hidden, "last"], "final", axis=1)
    add("MatMul", [final, weight("head", HIDDEN, VOCAB)], "logits")

    graph = helper.make_graph(nodes, "handmade", inputs, outputs, weights)
    model = helper.make_model(
        graph,
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)],
    )
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return manifest(context)

"""Attention as optimum exports it, rewritten to GroupQueryAttention over a shared KV buffer.

The exported graph concatenates the past to the new keys and values and attends with MatMul and Softmax, so each step
copies the whole cache. ``com.microsoft.GroupQueryAttention`` (ONNX Runtime contrib operators) writes the new entries
into the buffer that past and present share, and attends in place. Rotary embedding stays where it is in the graph,
computed from ``position_ids``: a table for 131,072 positions would be larger than a small model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto, helper

from neuron.artifacts.export.errors import ExportError

MS = "com.microsoft"


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Query heads, key/value heads and head size of every layer; ``windows[i]`` is layer i's in tokens (-1: none)."""

    heads: int
    kv_heads: int
    head_dim: int
    windows: tuple[int, ...]


class _Graph:
    """Producers and consumers by value name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.producer: dict[str, NodeProto] = {out: node for node in graph.node for out in node.output}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)

    def make(self, name: str, op: str, layer: str) -> NodeProto:
        node = self.producer.get(name)
        if node is None or node.op_type != op:
            found = "a graph input or weight" if node is None else node.op_type
            raise ExportError(f"{layer}: expected {name} to come from {op}, found {found}; this graph is not supported")
        return node

    def down(self, name: str, ops: Iterable[str], layer: str) -> NodeProto:
        """Follow the one chain of consumers through ``ops``; returns the last node."""
        node = NodeProto()
        for op in ops:
            matches = [n for n in self.consumers.get(name, []) if n.op_type == op]
            if len(matches) != 1:
                raise ExportError(f"{layer}: expected one {op} after {name}, found {len(matches)}; not supported")
            node = matches[0]
            name = node.output[0]
        return node


def rewrite(model: onnx.ModelProto, shape: AttentionShape) -> onnx.ModelProto:
    """Rewrite in place and return the model. Raises ExportError where the graph has another form."""
    graph = model.graph
    look = _Graph(graph)
    replaced: dict[str, NodeProto] = {}
    added: dict[str, list[NodeProto]] = {}
    for index, window in enumerate(shape.windows):
        _rewrite_layer(look, index, window, shape, replaced, added)
    _last_position_logits(look, graph, replaced, added)

    nodes: list[NodeProto] = []
    for node in graph.node:
        key = node.output[0]
        nodes += added.get(key, [])
        if key not in replaced:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(_live(nodes, [o.name for o in graph.output]))
    _fix_interface(graph, shape)
    _drop_unused_initializers(graph)
    if not any(o.domain == MS for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MS, 1))
    return model


def _rewrite_layer(
    look: _Graph,
    index: int,
    window: int,
    shape: AttentionShape,
    replaced: dict[str, NodeProto],
    added: dict[str, list[NodeProto]],
) -> None:
    layer = f"layer {index}"
    key = look.make(f"present.{index}.key", "Concat", layer)
    value = look.make(f"present.{index}.value", "Concat", layer)
    # from the values forward: probabilities x values -> transpose -> reshape is what the output projection reads
    softmax = _softmax_of(look, index, layer)
    scores = _scores_of(look, softmax, layer)
    query = look.make(scores.input[0], "Mul", layer).input[0]
    mixed = _mixed_of(look, softmax, layer)
    output = look.down(mixed.output[0], ("Transpose", "Reshape"), layer)

    nodes: list[NodeProto] = []
    flat = []
    for part, source in (("q", query), ("k", key.input[1]), ("v", value.input[1])):
        name = f"gqa.{index}.{part}"
        nodes.append(helper.make_node("Transpose", [source], [f"{name}.bthd"], f"{name}.transpose", perm=[0, 2, 1, 3]))
        width = (shape.heads if part == "q" else shape.kv_heads) * shape.head_dim
        nodes.append(_constant(f"{name}.shape", [0, 0, width]))
        nodes.append(helper.make_node("Reshape", [f"{name}.bthd", f"{name}.shape"], [name], f"{name}.reshape"))
        flat.append(name)
    attributes: dict[str, int] = {"num_heads": shape.heads, "kv_num_heads": shape.kv_heads, "do_rotary": 0}
    if window > 0:
        attributes["local_window_size"] = window
    past = [f"past_key_values.{index}.key", f"past_key_values.{index}.value"]
    outputs = [output.output[0], f"present.{index}.key", f"present.{index}.value"]
    nodes.append(
        helper.make_node(
            "GroupQueryAttention",
            [*flat, *past, "seqlens_k", "total_sequence_length"],
            outputs,
            f"gqa.{index}",
            domain=MS,
            **attributes,
        )
    )
    for old in (key, value, output):
        replaced[old.output[0]] = old
    added[output.output[0]] = nodes


def _softmax_of(look: _Graph, index: int, layer: str) -> NodeProto:
    """The layer's softmax: the first one reached from its keys."""
    seen: set[str] = set()
    frontier = [f"present.{index}.key"]
    while frontier:
        name = frontier.pop(0)
        for node in look.consumers.get(name, []):
            if node.op_type == "Softmax":
                return node
            for out in node.output:
                if out not in seen:
                    seen.add(out)
                    frontier.append(out)
    raise ExportError(f"{layer}: no Softmax after its keys; this graph is not supported")


def _scores_of(look: _Graph, softmax: NodeProto, layer: str) -> NodeProto:
    node = look.producer[softmax.input[0]]
    while node.op_type in ("Add", "Cast"):
        node = look.producer[node.input[0]]
    if node.op_type != "MatMul":
        raise ExportError(f"{layer}: the scores come from {node.op_type}, not MatMul; softcap is not supported")
    return node


def _mixed_of(look: _Graph, softmax: NodeProto, layer: str) -> NodeProto:
    name = softmax.output[0]
    for _ in range(4):
        users = look.consumers[name]
        for node in users:
            if node.op_type == "MatMul":
                return node
        # rows that are masked whole give NaN, which the export replaces by zero: Where(IsNaN(p), 0, p)
        step = [n for n in users if n.op_type in ("Where", "Cast")]
        if not step:
            break
        name = step[0].output[0]
    raise ExportError(f"{layer}: no MatMul after the Softmax; this graph is not supported")


def _last_position_logits(
    look: _Graph, graph: onnx.GraphProto, replaced: dict[str, NodeProto], added: dict[str, list[NodeProto]]
) -> None:
    """Only the last position's logits leave: gather it before the head. A tied head reads the embedding itself."""
    head = look.make("logits", "MatMul", "head")
    nodes = [
        _constant("head.last", -1),
        helper.make_node("Gather", [head.input[0], "head.last"], ["head.hidden"], "head.gather", axis=1),
    ]
    weights = {w.name: w for w in graph.initializer}
    tied = _tied_embedding(look, weights, head.input[1])
    if tied is None:
        nodes.append(helper.make_node("MatMul", ["head.hidden", head.input[1]], ["logits"], "head.matmul"))
    else:
        nodes.append(helper.make_node("Gemm", ["head.hidden", tied], ["logits"], "head.gemm", transB=1))
    replaced["logits"] = head
    added["logits"] = nodes


def _tied_embedding(look: _Graph, weights: dict[str, TensorProto], head: str) -> str | None:
    """The embedding table that the head's weight is the transpose of, or None: then the head has weights of its own."""
    tables = [
        node.input[0]
        for node in look.consumers.get("input_ids", [])
        if node.op_type == "Gather" and node.input[0] in weights
    ]
    turned = look.producer.get(head)
    if turned is not None and turned.op_type == "Transpose" and turned.input[0] in tables:
        return str(turned.input[0])
    if head not in weights:
        return None
    for name in tables:
        if list(weights[name].dims) == list(reversed(weights[head].dims)):
            table = onnx.numpy_helper.to_array(weights[name])
            if (onnx.numpy_helper.to_array(weights[head]) == table.T).all():
                return str(name)
    return None


def _constant(name: str, value: int | list[int]) -> NodeProto:
    dims = [len(value)] if isinstance(value, list) else []
    data = value if isinstance(value, list) else [value]
    tensor = helper.make_tensor(f"{name}.value", TensorProto.INT64, dims, data)
    return helper.make_node("Constant", [], [name], f"{name}.constant", value=tensor)


def _live(nodes: list[NodeProto], outputs: list[str]) -> list[NodeProto]:
    """The nodes that some output needs, in their order."""
    producer = {out: node for node in nodes for out in node.output}
    needed: set[int] = set()
    frontier = list(outputs)
    while frontier:
        node = producer.get(frontier.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            frontier += list(node.input)
    return [node for node in nodes if id(node) in needed]


def _fix_interface(graph: onnx.GraphProto, shape: AttentionShape) -> None:
    kept = [i for i in graph.input if i.name in ("input_ids", "position_ids")]
    if len(kept) != 2:
        raise ExportError("the graph has no position_ids input; this export is not supported")
    cache = ["batch", shape.kv_heads, "buffer", shape.head_dim]
    names = [f"{i}.{part}" for i in range(len(shape.windows)) for part in ("key", "value")]
    value = helper.make_tensor_value_info
    del graph.input[:]
    graph.input.extend(value(i.name, TensorProto.INT64, ["batch", "tokens"]) for i in kept)
    graph.input.append(value("seqlens_k", TensorProto.INT32, ["batch"]))
    graph.input.append(value("total_sequence_length", TensorProto.INT32, [1]))
    graph.input.extend(value(f"past_key_values.{name}", TensorProto.FLOAT, cache) for name in names)
    vocab = next(o for o in graph.output if o.name == "logits").type.tensor_type.shape.dim[-1].dim_value
    del graph.output[:]
    graph.output.append(value("logits", TensorProto.FLOAT, ["batch", vocab or "vocab"]))
    graph.output.extend(value(f"present.{name}", TensorProto.FLOAT, cache) for name in names)
    del graph.value_info[:]  # shapes of the old graph


def _drop_unused_initializers(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [w for w in graph.initializer if w.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def without_token_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """An encoder's ``token_type_ids`` input becomes zeros inside of the graph: one text is one segment."""
    graph = model.graph
    given = [i for i in graph.input if i.name == "token_type_ids"]
    if given:
        graph.input.remove(given[0])
        graph.node.insert(0, helper.make_node("Sub", ["input_ids", "input_ids"], ["token_type_ids"], "token_types"))
    rest = sorted(i.name for i in graph.input)
    if rest != ["attention_mask", "input_ids"]:
        raise ExportError(f"the encoder has inputs {', '.join(rest)}; expected attention_mask and input_ids only")
    return model

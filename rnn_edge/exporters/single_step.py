"""A language model as a graph in `step` form: one token of each row, no loop and no subgraph.

For providers that run no Scan; the runtime calls it once a token. With `fixed`, for phones and NPUs, which take no
sizes chosen at each call: one row, an int32 token, and no -1, for the runtime leaves such calls out.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import GraphBuilder, OpBuilder

from rnn_edge.errors import ExportError
from rnn_edge.exporters.cells import step
from rnn_edge.exporters.graphs import OLDEST_OPSET, Built, _finish, _output, _store
from rnn_edge.exporters.weights import FP32, Plan, Weights
from rnn_edge.modules import LanguageModel
from rnn_edge.runtimes.step_graph import LOGITS, TOKENS, next_state_name

__all__ = ["single_step_graph"]


def single_step_graph(
    model: LanguageModel, plan: Plan = FP32, *, opset: int = OLDEST_OPSET, fixed: bool = False
) -> Built:
    """Return a language model as a graph that reads one token of any number of rows, or of one row if `fixed`."""
    if not plan.is_float:
        raise ExportError(f"graphs in step form are fp32 or fp16, not {plan.precision}: choose one, or the target cpu")
    spec = model.spec
    batch = 1 if fixed else "batch"
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": opset}, name="step"))
    op, weights = builder.op, Weights(builder, plan)
    tokens = builder.input(TOKENS, ir.DataType.INT32 if fixed else ir.DataType.INT64, [batch, 1])
    states = [
        builder.input(name, ir.DataType.FLOAT, [spec.num_layers, batch, size])
        for name, size in spec.state_sizes.items()
    ]
    embedding, layers, bridge, output = _store(weights, model)

    found = embedding(op, tokens if fixed else op.Max(tokens, 0))  # (batch, 1, embedding)
    assert isinstance(found, ir.Value)  # not in integers, which the check above left out
    x = op.Squeeze(found, [1])  # (batch, embedding)
    befores = zip(*(_by_layer(op, state, spec.num_layers) for state in states), strict=True)
    after: list[list[ir.Value]] = [[] for _ in states]
    for layer, before in zip(layers, befores, strict=True):
        moved = step(op, spec, layer, layer.input(op, x), before)
        if not fixed:
            present = op.GreaterOrEqual(tokens, 0)  # (batch, 1)
            moved = [op.Where(present, new, old) for new, old in zip(moved, before, strict=True)]
        for values, value in zip(after, moved, strict=True):
            values.append(value)
        x = moved[0]
    logits = output(op, x if bridge is None else bridge(op, x))
    _output(builder, logits, LOGITS, [batch, spec.vocab_size])
    for (name, size), values in zip(spec.state_sizes.items(), after, strict=True):
        joined = op.Concat(*[op.Unsqueeze(value, [0]) for value in values], axis=0)
        _output(builder, joined, next_state_name(name), [spec.num_layers, batch, size])
    return Built(_finish(builder.graph, opset), tuple(weights.stored))


def _by_layer(op: OpBuilder, state: ir.Value, layers: int) -> list[ir.Value]:
    """Return each layer's part of a state, (batch, width); not by Gather, which Core ML lacks."""
    parts = op.Split(state, [1] * layers, axis=0, _outputs=layers) if layers > 1 else [state]
    return [op.Squeeze(part, [0]) for part in parts]

"""A language model as a step graph in `step` form: one token of each row, no loop and no subgraph.

For providers that run no Scan; the runtime calls it once a token. With `fixed`, for phones and NPUs, which take no
sizes chosen at each call: one row, an int32 token, and no -1, for the runtime leaves such calls out.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OpBuilder

from rnn_edge.errors import ExportError
from rnn_edge.exporters.cells import step
from rnn_edge.exporters.decoders import state_inputs, state_outputs, store_ends
from rnn_edge.exporters.draft import Draft
from rnn_edge.exporters.layers import store_layers
from rnn_edge.exporters.weights import Plan
from rnn_edge.modules import LanguageModel
from rnn_edge.runtimes.names import LOGITS, TOKENS

__all__ = ["draw_single_step"]


def draw_single_step(draft: Draft, model: LanguageModel, plan: Plan, *, fixed: bool) -> None:
    """Draw a language model, which reads one token of any number of rows, or of one row if `fixed`."""
    if not plan.is_float:
        raise ExportError(f"graphs in step form are fp32 or fp16, not {plan.precision}: choose one, or the target cpu")
    op, spec = draft.op, model.spec
    batch = 1 if fixed else "batch"
    tokens = draft.input(TOKENS, [batch, 1], ir.DataType.INT32 if fixed else ir.DataType.INT64)
    states = state_inputs(draft, spec, batch)
    layers = store_layers(draft.weights, model.stack)
    embedding, output = store_ends(draft.weights, model)

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
    draft.output(output(op, x), LOGITS, [batch, spec.written_vocab_size])
    state_outputs(draft, spec, after, batch)


def _by_layer(op: OpBuilder, state: ir.Value, layers: int) -> list[ir.Value]:
    """Return each layer's part of a state, (batch, width); not by Gather, which Core ML lacks."""
    parts = op.Split(state, [1] * layers, axis=0, _outputs=layers) if layers > 1 else [state]
    return [op.Squeeze(part, [0]) for part in parts]

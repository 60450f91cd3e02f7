"""A language model as a step graph in `fused` form: ONNX's RNN, LSTM and GRU, which cuDNN runs on NVIDIA's GPUs.

The contract is the `scan` form's, -1 included. The operators read rows from their beginning and stop at a length, so
the tokens of each row are first moved to its beginning; a row without any reads one token that is then forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder

from rnn_edge.errors import ExportError
from rnn_edge.exporters.decoders import state_inputs, state_outputs, store_ends
from rnn_edge.exporters.draft import Draft
from rnn_edge.exporters.layers import array
from rnn_edge.exporters.weights import Plan, Weights
from rnn_edge.modules import LanguageModel, Stack
from rnn_edge.runtimes.arrays import Ids
from rnn_edge.runtimes.names import LOGITS, TOKENS
from rnn_edge.spec import DecoderSpec, StackSpec

__all__ = ["draw_fused_step"]

_GATES = {"elman": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""ONNX's order of the gates (LSTM: i, o, f, c; GRU: z, r, h), by their places in PyTorch's."""


@dataclass(frozen=True)
class _Layer:
    """What ONNX's operators take, each with a leading 1 for their one direction."""

    input: ir.Value  # (1, gates × hidden, input)
    state: ir.Value  # (1, gates × hidden, hidden)
    bias: ir.Value  # (1, 2 × gates × hidden)


def draw_fused_step(draft: Draft, model: LanguageModel, plan: Plan) -> None:
    """Draw a language model, which reads any number of tokens of any number of rows."""
    op, spec = draft.op, model.spec
    _check(spec, plan)
    tokens = draft.input(TOKENS, ["batch", "time"], ir.DataType.INT64)
    states = state_inputs(draft, spec)
    layers = [_store(draft.weights, model.stack, index) for index in range(spec.num_layers)]
    embedding, output = store_ends(draft.weights, model)

    ids, lengths, present = _pack(op, op.Transpose(tokens, perm=[1, 0]))
    x = embedding(op, ids)  # (time, batch, embedding)
    assert isinstance(x, ir.Value)  # not in integers, which the check above left out
    befores = [op.Split(state, [1] * spec.num_layers, axis=0, _outputs=spec.num_layers) for state in states]
    after: list[list[ir.Value]] = [[] for _ in states]
    for index, layer in enumerate(layers):
        before = [parts[index] if spec.num_layers > 1 else parts for parts in befores]  # (1, batch, hidden) each
        outputs, *moved = _run(op, spec, layer, x, lengths, before)
        for values, new, old in zip(after, moved, before, strict=True):
            values.append(op.Squeeze(op.Where(present, new, old), [0]))  # (batch, hidden)
        x = op.Squeeze(outputs, [1])  # (time, batch, hidden)
    draft.output(output(op, after[0][-1]), LOGITS, ["batch", spec.written_vocab_size])
    state_outputs(draft, spec, after)


def _check(spec: DecoderSpec, plan: Plan) -> None:
    """Refuse what cuDNN has no operator for."""
    problems = [
        name
        for name, is_so in (
            (plan.precision, not plan.is_float),
            ("proj_size", spec.proj_size),
            ("coupled_gates", spec.coupled_gates),
            ("squash state", spec.squash == "state"),
            ("reset_after false", not spec.reset_after),
            ("a gru's relu", spec.cell == "gru" and spec.nonlinearity == "relu"),
        )
        if is_so
    ]
    if problems:
        raise ExportError(f"graphs in fused form cannot have {', '.join(problems)}: choose the target webgpu, or cpu")


def _pack(op: OpBuilder, tokens: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Move the tokens of each row to its beginning.

    tokens   int64 (time, batch), -1 anywhere
    returns  ids, int64 (time, batch), 0 where there is none; the rows' lengths, int32 (batch,), at least 1; and which
             rows have any token, bool (batch, 1)
    """
    present = op.GreaterOrEqual(tokens, 0)
    ones = op.Cast(present, to=ir.DataType.INT64)
    count = op.ReduceSum(ones, [0], keepdims=1)  # (1, batch)
    among_present = op.Sub(op.CumSum(ones, 0), 1)
    among_absent = op.Sub(op.Add(count, op.CumSum(op.Sub(1, ones), 0)), 1)  # behind all that are present
    packed = op.ScatterElements(tokens, op.Where(present, among_present, among_absent), tokens, axis=0)
    lengths = op.Cast(op.Squeeze(op.Max(count, 1), [0]), to=ir.DataType.INT32)
    return op.Max(packed, 0), lengths, op.Transpose(op.Greater(count, 0), perm=[1, 0])


def _store(weights: Weights, stack: Stack, index: int) -> _Layer:
    """Store one layer with its gates in ONNX's order, and both of PyTorch's biases."""
    w, u, b, b_state = (
        array(getattr(stack.rnn, f"{kind}_l{index}")) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    order = _places(stack.spec)
    return _Layer(
        input=weights.rows(f"layer{index}.input", w, order),
        state=weights.rows(f"layer{index}.state", u, order),
        bias=weights.vector(f"layer{index}.bias", np.concatenate([b[order], b_state[order]])[np.newaxis]),
    )


def _places(spec: StackSpec) -> Ids:
    """Return where ONNX's rows of gates stand in PyTorch's, int64 (gates × hidden,)."""
    places: Ids = np.arange(spec.num_gates * spec.hidden_size).reshape(spec.num_gates, -1)[[*_GATES[spec.cell]]]
    return places.ravel()


def _run(
    op: OpBuilder, spec: StackSpec, layer: _Layer, x: ir.Value, lengths: ir.Value, before: list[ir.Value]
) -> list[ir.Value]:
    """Run one layer; return its outputs (time, 1, batch, hidden), then each state after it (1, batch, hidden)."""
    given = (x, layer.input, layer.state, layer.bias, lengths, *before)
    size = spec.hidden_size
    if spec.cell == "lstm":
        return list(op.LSTM(*given, hidden_size=size, _outputs=3))
    if spec.cell == "gru":
        return list(op.GRU(*given, hidden_size=size, linear_before_reset=1, _outputs=2))
    return list(op.RNN(*given, hidden_size=size, activations=[spec.nonlinearity.capitalize()], _outputs=2))

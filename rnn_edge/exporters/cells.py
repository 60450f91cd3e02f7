"""The recurrences as ONNX operators, as they stand in the papers: one step of one layer, of every row.

Each takes the input's part of the gates, `W x + b`, already computed for the whole stretch of text outside the loop.
The gates are split first and squashed one by one, in equal parts: mobile providers and NPUs need it so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir
from onnxscript import OpBuilder

from rnn_edge.exporters.weights import Matrix
from rnn_edge.spec import StackSpec

__all__ = ["Layer", "step"]

Values: TypeAlias = Sequence[ir.Value]


@dataclass(frozen=True)
class Layer:
    """A layer's matrices, with PyTorch's two biases in one where they only ever occur as a sum."""

    input: Matrix  # W x + b, (input → gates × hidden); or a look-up of that, (token → gates × hidden)
    state: Matrix  # U h, plus b' for a GRU, (output → gates × hidden)
    projection: Matrix | None  # P, (hidden → output), LSTM with projection only
    candidate: Matrix | None  # U of the new state, (hidden → hidden), GRU that resets before it only
    fed: Matrix | None = None  # the columns of W for what is not a token's vector, (fed → gates × hidden)


def step(op: OpBuilder, spec: StackSpec, layer: Layer, gates: ir.Value, state: Values) -> Values:
    """Return the state after one token.

    gates  float32 (batch, gates × hidden), the input's part
    state  float32 (batch, width) each
    """
    if spec.cell == "elman":
        return _elman(op, spec, layer, gates, *state)
    if spec.cell == "gru":
        return _gru(op, spec, layer, gates, *state)
    return _lstm(op, spec, layer, gates, *state)


def _elman(op: OpBuilder, spec: StackSpec, layer: Layer, gates: ir.Value, h: ir.Value) -> Values:
    """h' = g(W x + U h + b)  (Elman 1990)."""
    return (_squash(op, spec, op.Add(gates, layer.state(op, h))),)


def _gru(op: OpBuilder, spec: StackSpec, layer: Layer, gates: ir.Value, h: ir.Value) -> Values:
    """r, z = σ(W x + U h + b); n = φ(W x + b + r∘(U h + b')); h' = n + z∘(h − n), as in PyTorch and cuDNN.

    In Cho et al. 2014 the reset stands before the matrix product: n = φ(W x + U (r∘h) + b).
    """
    x_reset, x_update, x_new = _split(op, gates, spec.hidden_size, 3)
    h_reset, h_update, *h_new = _split(op, layer.state(op, h), spec.hidden_size, 2 if layer.candidate else 3)
    reset = op.Sigmoid(op.Add(x_reset, h_reset))
    update = op.Sigmoid(op.Add(x_update, h_update))
    recalled = layer.candidate(op, op.Mul(reset, h)) if layer.candidate else op.Mul(reset, h_new[0])
    new = _squash(op, spec, op.Add(x_new, recalled))
    return (op.Add(new, op.Mul(update, op.Sub(h, new))),)


def _lstm(op: OpBuilder, spec: StackSpec, layer: Layer, gates: ir.Value, h: ir.Value, c: ir.Value) -> Values:
    """i, f, o = σ(W x + U h + b); g = tanh(W x + U h + b); c' = f∘c + i∘g; h' = o∘tanh(c').

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, gates in PyTorch's order i, f, g, o; with a
    projection (Sak et al. 2014), h' = P(o∘tanh(c')). With coupled gates (Greff et al. 2015) f = 1 − i. With the
    squash in the state, c' = tanh(f∘c + i∘g) and h' = o∘c'.
    """
    total = op.Add(gates, layer.state(op, h))
    write, *forget, new, read = _split(op, total, spec.hidden_size, spec.num_gates)
    write = op.Sigmoid(write)
    keep = op.Sub(1.0, write) if spec.coupled_gates else op.Sigmoid(forget[0])
    c = op.Add(op.Mul(keep, c), op.Mul(write, op.Tanh(new)))
    if spec.squash == "state":
        c = op.Tanh(c)
    h = op.Mul(op.Sigmoid(read), c if spec.squash == "state" else op.Tanh(c))
    return (h if layer.projection is None else layer.projection(op, h)), c


def _squash(op: OpBuilder, spec: StackSpec, x: ir.Value) -> ir.Value:
    squashed: ir.Value = op.Relu(x) if spec.nonlinearity == "relu" else op.Tanh(x)
    return squashed


def _split(op: OpBuilder, gates: ir.Value, hidden: int, parts: int) -> Values:
    split: Values = op.Split(gates, [hidden] * parts, axis=-1, _outputs=parts)
    return split

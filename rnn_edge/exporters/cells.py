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
from rnn_edge.spec import ModelSpec

__all__ = ["Layer", "step"]

Values: TypeAlias = Sequence[ir.Value]


@dataclass(frozen=True)
class Layer:
    """A layer's matrices, with PyTorch's two biases in one where they only ever occur as a sum."""

    input: Matrix  # W x + b, (input → gates × hidden)
    state: Matrix  # U h, plus b' for a GRU, (output → gates × hidden)
    projection: Matrix | None  # P, (hidden → output), LSTM with projection only


def step(op: OpBuilder, spec: ModelSpec, layer: Layer, gates: ir.Value, state: Values) -> Values:
    """Return the state after one token.

    gates  float32 (batch, gates × hidden), the input's part
    state  float32 (batch, width) each
    """
    if spec.cell == "elman":
        return _elman(op, spec, layer, gates, *state)
    if spec.cell == "gru":
        return _gru(op, spec, layer, gates, *state)
    return _lstm(op, spec, layer, gates, *state)


def _elman(op: OpBuilder, spec: ModelSpec, layer: Layer, gates: ir.Value, h: ir.Value) -> Values:
    """h' = g(W x + U h + b)  (Elman 1990)."""
    total = op.Add(gates, layer.state(op, h))
    return (op.Relu(total) if spec.nonlinearity == "relu" else op.Tanh(total),)


def _gru(op: OpBuilder, spec: ModelSpec, layer: Layer, gates: ir.Value, h: ir.Value) -> Values:
    """r, z = σ(W x + U h + b); n = tanh(W x + b + r∘(U h + b')); h' = (1−z)∘n + z∘h  (Cho et al. 2014).

    The reset stands after the matrix product, as in PyTorch and cuDNN.
    """
    recurrent = layer.state(op, h)
    x_reset, x_update, x_new = _split(op, gates, spec.hidden_size, 3)
    h_reset, h_update, h_new = _split(op, recurrent, spec.hidden_size, 3)
    reset = op.Sigmoid(op.Add(x_reset, h_reset))
    update = op.Sigmoid(op.Add(x_update, h_update))
    new = op.Tanh(op.Add(x_new, op.Mul(reset, h_new)))
    return (op.Add(op.Mul(op.Sub(1.0, update), new), op.Mul(update, h)),)


def _lstm(op: OpBuilder, spec: ModelSpec, layer: Layer, gates: ir.Value, h: ir.Value, c: ir.Value) -> Values:
    """i, f, o = σ(W x + U h + b); g = tanh(W x + U h + b); c' = f∘c + i∘g; h' = o∘tanh(c').

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, gates in PyTorch's order i, f, g, o; with a
    projection (Sak et al. 2014), h' = P(o∘tanh(c')).
    """
    total = op.Add(gates, layer.state(op, h))
    write, forget, new, read = _split(op, total, spec.hidden_size, 4)
    c = op.Add(op.Mul(op.Sigmoid(forget), c), op.Mul(op.Sigmoid(write), op.Tanh(new)))
    h = op.Mul(op.Sigmoid(read), op.Tanh(c))
    return (h if layer.projection is None else layer.projection(op, h)), c


def _split(op: OpBuilder, gates: ir.Value, hidden: int, parts: int) -> Values:
    split: Values = op.Split(gates, [hidden] * parts, axis=-1, _outputs=parts)
    return split

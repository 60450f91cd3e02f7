"""Sums and maxima as ONNX operators, written so that a row's result never depends on its neighbours or its padding.

ONNX Runtime adds along the first axis one after the other, so zeros at its end change nothing: texts stand in columns,
time on the first axis. A single column alone it adds in another order, therefore a sum never has only one.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OpBuilder

__all__ = ["INFINITY", "log_sum_exp", "reduce_max", "weighted_sum", "zeros"]

INFINITY = float("inf")
_LOWEST = -1e30


def zeros(op: OpBuilder, like: ir.Value, width: int) -> ir.Value:
    """Return float32 (batch, width) for the batch of a value (time, batch, ...)."""
    batch = op.Shape(like, start=1, end=2)
    value: ir.Value = op.Expand(0.0, op.Concat(batch, [width], axis=0))
    return value


def reduce_max(op: OpBuilder, x: ir.Value, axis: int, *, keepdims: bool = True) -> ir.Value:
    """Return the largest along an axis; before opset 18 the axis is an attribute."""
    kept = {} if keepdims else {"keepdims": 0}
    axis_is_attribute = op.version is not None and op.version < 18
    value: ir.Value = op.ReduceMax(x, axes=[axis], **kept) if axis_is_attribute else op.ReduceMax(x, [axis], **kept)
    return value


def weighted_sum(op: OpBuilder, values: ir.Value, weights: ir.Value, width: int) -> tuple[ir.Value, ir.Value]:
    """Return Σ weight × value and Σ weight over the first axis, float32 (batch, width) and (batch, 1).

    values   float32 (time, batch, width)
    weights  float32 (time, batch, 1), 0 behind a row's end
    """
    both = op.Concat(op.Mul(values, weights), weights, axis=-1)  # (time, batch, width + 1)
    total, weight = op.Split(op.ReduceSum(both, [0], keepdims=0), [width, 1], axis=-1, _outputs=2)
    return total, weight


def log_sum_exp(op: OpBuilder, x: ir.Value) -> ir.Value:
    """Return log Σ exp(x) over the first axis, float32 (n, batch, width) to (batch, width)."""
    largest = op.Max(reduce_max(op, x, 0), _LOWEST)  # (1, batch, width), a number where all are -inf
    total = op.ReduceSum(op.Exp(op.Sub(x, largest)), [0], keepdims=0)
    value: ir.Value = op.Add(op.Log(total), op.Squeeze(largest, [0]))
    return value

"""How weights are rounded: to halves, to 8 bits a column, to 4 bits a block. Pure numpy; knows nothing of graphs.

Eight bits are chosen so that the result is the same on every processor. x86 processors without VNNI multiply unsigned
by signed bytes and add neighbouring products in 16 bits, which overflow at full range, silently. They cannot here: no
two neighbours in a column add up to more than 128, and 255 × 128 fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnn_edge.runtimes.arrays import Floats

__all__ = ["BLOCK", "Blocks", "Columns", "round_blocks", "round_columns", "round_rows"]

BLOCK = 32  # weights that share one 4-bit scale: the size for which a row's result does not depend on its batch

_STEPS = 127  # of a byte to either side; two neighbours that sum up to it may round up by a half each, to 128
_SMALLEST_SCALE = 2.0**-14  # below it, half precision loses digits; no weight of interest is smaller than its half


@dataclass(frozen=True)
class Columns:
    """8-bit weights with a scale for each column: `values * scales` is what they stand for."""

    values: NDArray[np.int8]  # (input, output)
    scales: NDArray[np.float16]  # (output,)

    def restore(self) -> Floats:
        """Return what the weights have become, float32 (input, output)."""
        return self.values.astype(np.float32) * self.scales.astype(np.float32)


@dataclass(frozen=True)
class Blocks:
    """4-bit weights, `BLOCK` of one column at a time sharing a scale, as ONNX Runtime's MatMulNBits wants them."""

    packed: NDArray[np.uint8]  # (output, blocks, BLOCK / 2), the lower half of a byte first; 8 stands for zero
    scales: NDArray[np.float16]  # (output, blocks)
    inputs: int

    def restore(self) -> Floats:
        """Return what the weights have become, float32 (input, output)."""
        pairs = np.stack([self.packed & 15, self.packed >> 4], axis=-1)
        values = pairs.reshape(*self.scales.shape, BLOCK).astype(np.float32) - 8
        columns = values * self.scales.astype(np.float32)[..., None]
        return np.ascontiguousarray(columns.reshape(len(columns), -1)[:, : self.inputs].T)


def round_columns(weight: Floats) -> Columns:
    """Round float32 (input, output) to 8 bits, symmetric, safe on every processor."""
    odd = weight[1::2] if len(weight) % 2 == 0 else np.concatenate([weight[1::2], np.zeros_like(weight[:1])])
    return _round(weight, np.maximum(np.abs(weight).max(axis=0), np.abs(weight[::2] + odd).max(axis=0)))


def round_rows(table: Floats) -> Columns:
    """Round a look-up table, float32 (rows, width), with a scale for each row; the result is its transpose."""
    return _round(table.T, np.abs(table).max(axis=1))


def _round(weight: Floats, largest: Floats) -> Columns:
    """Round float32 (input, output) so that `largest`, float32 (output,), takes 127 steps."""
    scales = np.maximum(largest / _STEPS, _SMALLEST_SCALE).astype(np.float16)
    values = np.round(weight / scales.astype(np.float32))
    return Columns(np.clip(values, -_STEPS, _STEPS).astype(np.int8), scales)


def round_blocks(weight: Floats) -> Blocks:
    """Round float32 (input, output) to 4 bits; each block takes the scale that leaves the least squared error."""
    inputs, outputs = weight.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), np.float32)
    padded[:, :inputs] = weight.T
    columns = padded.reshape(outputs, blocks, BLOCK)
    extreme = np.take_along_axis(columns, np.abs(columns).argmax(axis=-1)[..., None], axis=-1)  # (output, blocks, 1)
    best_error = np.full((outputs, blocks, 1), np.inf, np.float32)
    best_scale = np.ones((outputs, blocks, 1), np.float16)
    best_values = np.zeros(columns.shape, np.int8)
    for levels in (-8.0, -7.5, -7.0, -6.5, 8.5, 8.0, 7.5, 7.0, 6.5, 6.0):
        scale = (extreme / levels).astype(np.float16)
        divisor = np.where(scale == 0, 1, scale).astype(np.float32)
        values = np.clip(np.round(columns / divisor), -8, 7)
        error = ((values * divisor - columns) ** 2).sum(axis=-1, keepdims=True)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, divisor.astype(np.float16), best_scale)
        best_values = np.where(better, values, best_values).astype(np.int8)
    unsigned = (best_values + 8).astype(np.uint8)
    packed: NDArray[np.uint8] = unsigned[..., ::2] | unsigned[..., 1::2] * np.uint8(16)
    return Blocks(packed, best_scale[..., 0], inputs)

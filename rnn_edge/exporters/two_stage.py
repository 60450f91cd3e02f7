"""The output layer in two stages: a cheap preview of all scores, then the exact scores of the best few.

Most of a step's bytes are the output matrix, and almost all of its scores only matter as a sum. So a smaller copy of
the matrix scores every token; the best of them, the candidates, are scored again with their rows of the matrix itself,
and these scores take the place of the first ones. Whoever reads the logits notices nothing but their tail.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder

from rnn_edge.bundle import Preview
from rnn_edge.errors import ExportError
from rnn_edge.exporters.weights import Factor, Matrix, Rows, Table, Weights, floats
from rnn_edge.runtimes.arrays import Doubles, Floats

__all__ = ["CANDIDATES", "store_two_stages"]

CANDIDATES = "candidates"
"""The name of a step graph's value that says which tokens were scored exactly, int64 (batch, candidates)."""

_GRAIN = 2.0**-12  # of a unit vector's numbers
_TOKENS_A_CANDIDATE = 16  # with fewer, choosing and scoring again takes longer than it saves


def store_two_stages(
    weights: Weights, name: str, rows: Floats, bias: tuple[str, Floats], preview: Preview, *, bounded: bool
) -> tuple[Table, Matrix]:
    """Store a vocabulary's rows once, as a table and as what scores are exact by, and a preview of all scores.

    rows     float32 (vocab, width)
    preview  without a number of candidates, all tokens are scored exactly: what a preview is measured by
    bounded  what they are multiplied by lies between -1 and 1
    """
    vocab_size, count = len(rows), preview.candidates
    if count is not None:
        _check(weights.plan.precision_of(name, rows), rows, preview, count)
    table, added = weights.table(name, rows), weights.vector(*bias)
    if count is None:
        return table, lambda op, x: op.Gemm(floats(op, x), _all_rows(op, table, vocab_size), added, transB=1)
    guess = _store_preview(weights, f"{name}.preview", rows.T.copy(), preview, bounded=bounded)

    def score(op: OpBuilder, x: Factor) -> ir.Value:
        h = floats(op, x)  # (batch, width)
        guessed = op.Add(guess(op, h), added)  # (batch, vocab)
        _, best = op.TopK(guessed, [count], axis=-1, sorted=0, _outputs=2)
        best.name = CANDIDATES
        exact = op.Add(_product(op, table(op, best), h), op.Gather(added, best))  # (batch, candidates)
        scores: ir.Value = op.ScatterElements(guessed, best, exact, axis=-1)
        return scores

    return table, score


def _product(op: OpBuilder, rows: Factor, h: ir.Value) -> ir.Value:
    """Multiply each row's candidates, (batch, candidates, width), by its h; float32 (batch, candidates)."""
    column = op.Unsqueeze(h, [-1])  # (batch, width, 1)
    if isinstance(rows, Rows):  # scaled when there is little left to scale
        values = op.DequantizeLinear(rows.values, rows.step, rows.zero)
        product = op.Mul(op.MatMul(values, column), rows.scales)
    else:
        product = op.MatMul(rows, column)
    scores: ir.Value = op.Squeeze(product, [-1])
    return scores


def _all_rows(op: OpBuilder, table: Table, vocab_size: int) -> ir.Value:
    """Return a whole table, float32 (vocab, width)."""
    return floats(op, table(op, op.Range(0, vocab_size, 1)))


def _store_preview(weights: Weights, name: str, weight: Floats, preview: Preview, *, bounded: bool) -> Matrix:
    """Store a smaller copy of a matrix, float32 (width, vocab): rounded, of low rank, or both."""
    if preview.rank is None:
        return weights.matrix(name, weight, bounded=bounded, precision=preview.precision)
    exact = weight.astype(np.float64)
    directions = _main_directions(exact, preview.rank)  # (width, rank)
    factors = directions.astype(np.float32), (directions.T @ exact).astype(np.float32)
    down = weights.matrix(f"{name}.down", factors[0], bounded=bounded, precision=preview.precision)
    up = weights.matrix(f"{name}.up", factors[1], bounded=False, precision=preview.precision)
    return lambda op, h: up(op, down(op, h))


def _main_directions(weight: Doubles, rank: int) -> Doubles:
    """Return the first left singular vectors of a matrix, float64 (width, rank): its nearest matrix of that rank is
    `directions @ (directions.T @ weight)` (Eckart and Young 1936).

    Their last digits and their signs are of no use, and differ from machine to machine: so that the same model gives
    the same bytes, they are left out, and what is largest is made positive.
    """
    _, vectors = np.linalg.eigh(weight @ weight.T)  # in ascending order
    directions = vectors[:, : -rank - 1 : -1]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0, keepdims=True), axis=0)
    found: Doubles = np.round(directions * np.sign(largest) / _GRAIN) * _GRAIN
    return found


def _check(precision: str, rows: Floats, preview: Preview, candidates: int) -> None:
    """Refuse what cannot pay."""
    vocab_size, width = rows.shape
    if preview.rank is None and precision in ("int8", "int4"):
        raise ExportError(
            f"the output layer is in {precision}, and a preview of all of it in int8 costs as much: give "
            "--preview-rank, or no preview"
        )
    if preview.rank is not None and 2 * preview.rank > width:
        raise ExportError(
            f"a preview of rank {preview.rank} costs as much as the output layer, which is {width} wide: "
            f"give at most {width // 2}"
        )
    if _TOKENS_A_CANDIDATE * candidates > vocab_size:
        raise ExportError(
            f"a vocabulary of {vocab_size:,} tokens is too small to choose {candidates} of them by a preview, "
            f"which cannot pay below {_TOKENS_A_CANDIDATE * candidates:,} tokens: give fewer candidates, or no preview"
        )

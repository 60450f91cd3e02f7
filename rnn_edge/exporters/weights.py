"""A network's matrices as initializers of a graph, each in the precision a plan gives it, and how to multiply by them.

Four ways to store a matrix, one way to use it: call it with what to multiply. It also keeps the account of what was
stored, tensor by tensor, which becomes the bundle's report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript import GraphBuilder, OpBuilder

from rnn_edge.bundle import Precision, Preview
from rnn_edge.exporters.operators import reduce_max
from rnn_edge.exporters.rounding import BLOCK, Columns, round_blocks, round_columns, round_rows
from rnn_edge.runtimes.arrays import Floats, Ids

__all__ = [
    "ALWAYS_FLOAT",
    "FP32",
    "KEPT",
    "CalibratedWeights",
    "Factor",
    "Matrix",
    "Plan",
    "Stored",
    "Table",
    "Weights",
    "floats",
]

VECTOR, ADDED, KEPT = "a vector", "added, not multiplied", "kept float"
ALWAYS_FLOAT = (VECTOR, ADDED)
"""Why a tensor is float in every precision."""

_ZERO = 128  # the unsigned byte that stands for zero
_SMALL = 2**14  # weights: 4 bits instead of 8 would save 8 kB
_STEPS = 127  # of a byte to either side of it
_CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class Plan:
    """The precision a graph's matrices are stored in, but for those that are kept float; vectors always are.

    preview  how a network that writes scores its tokens in two stages, if it does
    """

    precision: Precision = "fp32"
    keep_float: Collection[str] = ()
    is_calibrated: bool = False  # 8 bits as NPUs want them, for which `calibration.py` has to see some text
    preview: Preview | None = None

    @property
    def is_float(self) -> bool:
        """Whether matrices are multiplied as floats, but for a preview."""
        return self.is_calibrated or self.precision in ("fp32", "fp16")

    @property
    def is_standard(self) -> bool:
        """Whether ONNX's own operators are enough."""
        return self.is_float and (self.preview is None or self.preview.precision == "fp32")

    @property
    def is_exact(self) -> bool:
        """Whether the scores are PyTorch's, all of them."""
        return self.precision == "fp32" and self.preview is None

    def precision_of(self, name: str, weight: Floats, wanted: Precision | None = None) -> Precision:
        """Return the precision of one matrix; a small one gains nothing from 4 bits and loses with them."""
        if name in self.keep_float:
            return "fp32"
        if wanted is not None:
            return wanted
        return "int8" if self.precision == "int4" and weight.size < _SMALL else self.precision


FP32 = Plan()


@dataclass(frozen=True)
class Stored:
    """What became of one tensor."""

    name: str
    precision: Precision
    bytes: int
    error: float  # root mean square of what rounding changed, as a share of the tensor's own
    reason: str  # why it is float, or nothing


@dataclass(frozen=True)
class Rows:
    """Rows of unsigned bytes, with a scale for each: what a product in integers reads."""

    values: ir.Value  # uint8 (..., width)
    step: ir.Value  # float32, a constant, of one byte before its row is scaled
    zero: ir.Value  # uint8, a constant, the byte that stands for zero
    scales: ir.Value  # float32 (..., 1)


Factor: TypeAlias = ir.Value | Rows
Matrix: TypeAlias = Callable[[OpBuilder, Factor], ir.Value]
"""Takes float32 (..., input), or rows, and returns the product with a matrix plus a bias, float32 (..., output)."""
Table: TypeAlias = Callable[[OpBuilder, ir.Value], Factor]
"""Takes ids, int64 (time, batch), and returns their vectors, (time, batch, width)."""
Bias: TypeAlias = tuple[str, Floats] | None
"""A bias's name and its values, float32 (output,)."""


class Weights:
    """Stores matrices in a graph, and remembers what became of each.

    settle  write the rounded numbers into the arrays that were given, too: what they were taken from then computes with
            what the graph computes with
    """

    def __init__(self, builder: GraphBuilder, plan: Plan, *, settle: bool = False) -> None:
        self._op = builder.op
        self.plan = plan
        self._settle = settle
        self._constants: dict[str, ir.Value] = {}
        self.stored: list[Stored] = []

    def matrix(
        self,
        name: str,
        weight: Floats,
        bias: Floats | None = None,
        *,
        bounded: bool,
        precision: Precision | None = None,
    ) -> Matrix:
        """Store a matrix, float32 (input, output), and its bias.

        bounded    what it multiplies lies between -1 and 1, so that the steps of its bytes are known beforehand
        precision  none means what the plan says
        """
        precision = self.plan.precision_of(name, weight, precision)
        named = None if bias is None else (f"{name}.bias", bias)
        if precision == "int8":
            return self._int8(name, weight, round_columns(weight), named, bounded=bounded)
        if precision == "int4":
            return self._int4(name, weight, named)[1]
        values = self._as_float(self._float(name, weight, precision), precision)
        added = self._bias(named)
        return lambda op, x: _add(op, op.MatMul(floats(op, x), values), added)

    def rows(self, name: str, weight: Floats, order: Ids) -> ir.Value:
        """Store a matrix, float32 (output, input), as an operator takes it: its rows in another order, fp32 or fp16."""
        precision = self.plan.precision_of(name, weight)
        rounded = self._round(name, weight, precision)
        return self._as_float(self._constant(name, rounded[np.newaxis, order]), precision)

    def table(self, name: str, rows: Floats) -> Table:
        """Store a look-up table, float32 (rows, width)."""
        precision = self.plan.precision_of(name, rows)
        if precision == "int8":
            return self._int8_table(name, rows)
        if precision == "int4":
            return self._int4(name, rows.T, None)[0]
        return _float_table(self._float(name, rows, precision), precision)

    def tied(self, name: str, rows: Floats, bias: Bias, *, bounded: bool) -> tuple[Table, Matrix]:
        """Store one tensor, float32 (rows, width), that is a look-up table and, transposed, a matrix with a bias."""
        precision = self.plan.precision_of(name, rows)
        if precision == "int8":
            return self._tied_int8(name, rows, bias, bounded=bounded)
        if precision == "int4":
            return self._int4(name, rows.T, bias)
        stored = self._float(name, rows, precision)
        values, added = self._as_float(stored, precision), self._bias(bias)
        return _float_table(stored, precision), lambda op, x: op.Gemm(floats(op, x), values, added, transB=1)

    def vector(self, name: str, values: Floats) -> ir.Value:
        """Store a vector as it is."""
        return self._as_it_is(name, values, VECTOR)

    def added(self, name: str, values: Floats) -> ir.Value:
        """Store a matrix that nothing is multiplied by as it is."""
        return self._as_it_is(name, values, ADDED)

    def _as_it_is(self, name: str, values: Floats, reason: str) -> ir.Value:
        self.stored.append(Stored(name, "fp32", values.nbytes, 0.0, reason))
        return self._constant(name, values)

    def _float(self, name: str, weight: Floats, precision: Precision) -> ir.Value:
        return self._constant(name, self._round(name, weight, precision))

    def _round(self, name: str, weight: Floats, precision: Precision) -> NDArray[Any]:
        """Return a float matrix as it is stored."""
        rounded: NDArray[Any] = weight.astype(np.float16 if precision == "fp16" else np.float32)
        reason = "" if precision == "fp16" else "asked for" if self.plan.precision == "fp32" else KEPT
        self._record(name, precision, rounded.nbytes, weight, rounded.astype(np.float32), reason)
        return rounded

    def _as_float(self, stored: ir.Value, precision: Precision) -> ir.Value:
        """Return a stored matrix as float32; ONNX Runtime does this once, when it loads the graph."""
        value: ir.Value = self._op.Cast(stored, to=ir.DataType.FLOAT) if precision == "fp16" else stored
        return value

    def _int8(self, name: str, weight: Floats, columns: Columns, bias: Bias, *, bounded: bool) -> Matrix:
        """Multiply in integers, which is exact, so that no row depends on another; scale afterwards.

        The columns' scales go into a multiplication of their own: ONNX Runtime's product is much slower with them.
        So a bias can be added in the product only where nothing else is scaled behind it.
        """
        bytes_ = columns.values.nbytes + columns.scales.nbytes
        self._record(name, "int8", bytes_, weight, columns.restore(), "")
        values, scales = self._constant(name, columns.values), self._scales(name, columns)
        (step, zero), one = self.step_and_zero(), self._one()
        if bias is not None and bounded:  # it is added in the product, before the scales
            bias = bias[0], (bias[1] / columns.scales).astype(np.float32)
        added = self._bias(bias)

        def multiply(op: OpBuilder, x: Factor) -> ir.Value:
            if bounded:
                quantized = op.QuantizeLinear(x, step, zero)
                summand = () if added is None else (None, added)
                product = op.MatMulIntegerToFloat(quantized, values, step, one, zero, *summand, _domain=_CONTRIB)
                scaled: ir.Value = op.Mul(product, scales)
                return scaled
            rows = x if isinstance(x, Rows) else self._rows(op, x)
            product = op.MatMulIntegerToFloat(rows.values, values, rows.step, one, zero, _domain=_CONTRIB)
            return _add(op, op.Mul(op.Mul(product, rows.scales), scales), added)

        return multiply

    def _rows(self, op: OpBuilder, x: ir.Value) -> Rows:
        """Return numbers of any size as rows, each scaled by its largest one, which makes them bounded."""
        least = self._constant("least", np.float32(1e-30))  # a row of zeros must not be divided by zero
        step, zero = self.step_and_zero()
        scales = op.Max(reduce_max(op, op.Abs(x), -1), least)
        return Rows(op.QuantizeLinear(op.Div(x, scales), step, zero), step, zero, scales)

    def step_and_zero(self) -> tuple[ir.Value, ir.Value]:
        """Return what one byte of a bounded number stands for, and the byte that stands for zero."""
        return self._constant("step", np.float32(1 / _STEPS)), self._constant("zero_point", np.uint8(_ZERO))

    def _scales(self, name: str, columns: Columns) -> ir.Value:
        """Store the scales of columns; ONNX Runtime widens them once, when it loads the graph."""
        return self._as_float(self._constant(f"{name}.scales", columns.scales), "fp16")

    def _one(self) -> ir.Value:
        return self._constant("one", np.float32(1))

    def _int8_table(self, name: str, rows: Floats) -> Table:
        """Store rows as the bytes that a product reads."""
        rounded = round_rows(rows)
        self._record(name, "int8", rounded.values.nbytes + rounded.scales.nbytes, rows, rounded.restore().T, "")
        values = self._constant(name, (rounded.values.T.astype(np.int16) + _ZERO).astype(np.uint8))
        scales, one, (_, zero) = self._scales(name, rounded), self._one(), self.step_and_zero()
        return lambda op, ids: Rows(op.Gather(values, ids), one, zero, _of_rows(op, scales, ids))

    def _tied_int8(self, name: str, rows: Floats, bias: Bias, *, bounded: bool) -> tuple[Table, Matrix]:
        """Look up columns of a matrix that is stored as a product wants it; its scales serve both."""
        columns = round_columns(rows.T)
        matrix = self._int8(name, rows.T, columns, bias, bounded=bounded)
        values = self._constant(name, columns.values)
        scales, one = self._scales(name, columns), self._one()
        _, zero = self.step_and_zero()

        def look_up(op: OpBuilder, ids: ir.Value) -> Factor:
            found = op.Transpose(op.Gather(values, ids, axis=1), perm=[1, 2, 0])  # int8 (time, batch, width)
            shifted = op.QuantizeLinear(op.Cast(found, to=ir.DataType.FLOAT), one, zero)
            return Rows(shifted, one, zero, _of_rows(op, scales, ids))

        return look_up, matrix

    def _int4(self, name: str, weight: Floats, bias: Bias) -> tuple[Table, Matrix]:
        """Store blocks of 4 bits, which serve as a matrix and, transposed, as a table."""
        inputs, outputs = weight.shape
        blocks = round_blocks(weight)
        self._record(name, "int4", blocks.packed.nbytes + blocks.scales.nbytes, weight, blocks.restore(), "")
        packed = self._constant(name, blocks.packed)
        scales = self._as_float(self._constant(f"{name}.scales", blocks.scales), "fp16")
        added = self._bias(bias)

        def look_up(op: OpBuilder, ids: ir.Value) -> Factor:
            flat = op.Reshape(packed, self._constant(f"{name}.rows", np.array([outputs, -1])))
            found: ir.Value = op.GatherBlockQuantized(
                flat, ids, scales, gather_axis=0, quantize_axis=1, block_size=BLOCK, bits=4, _domain=_CONTRIB
            )
            if inputs % BLOCK:
                found = op.Slice(found, *(self._constant(f"slice{n}", np.array([n])) for n in (0, inputs, -1)))
            return found

        def multiply(op: OpBuilder, x: Factor) -> ir.Value:
            product = op.MatMulNBits(
                floats(op, x),
                packed,
                self._op.Reshape(scales, self._constant("flat", np.array([-1]))),
                K=inputs,
                N=outputs,
                bits=4,
                block_size=BLOCK,
                accuracy_level=4,  # products in 8-bit integers; without it this is many times slower
                _domain=_CONTRIB,
            )
            return _add(op, product, added)

        return look_up, multiply

    def _bias(self, bias: Bias) -> ir.Value | None:
        return None if bias is None else self.vector(*bias)

    def _constant(self, name: str, values: NDArray[Any] | np.generic) -> ir.Value:
        """Store an array under a name, once."""
        if name not in self._constants:
            tensor = ir.tensor(np.ascontiguousarray(values), name=name)
            self._constants[name] = self._op.initializer(tensor, name)
        return self._constants[name]

    def _record(self, name: str, precision: Precision, bytes_: int, before: Floats, after: Floats, reason: str) -> None:
        size = float(np.linalg.norm(before))
        error = float(np.linalg.norm(after - before)) / size if size else 0.0
        self.stored.append(Stored(name, precision, bytes_, error, reason))
        if self._settle:
            before[...] = after


class CalibratedWeights(Weights):
    """Stores 8-bit matrices as whole numbers in floats, of which `calibration.py` makes bytes with the scale 1.

    So every matrix is one tensor with one scale, as NPUs want it, whether it is multiplied by or looked up in. The
    scales of its columns, or rows, are multiplied by afterwards.
    """

    def _int8(self, name: str, weight: Floats, columns: Columns, bias: Bias, *, bounded: bool) -> Matrix:  # noqa: ARG002
        values, scales = self._whole(name, weight, columns, columns.values), self._scales(name, columns)
        added = self._bias(bias)
        return lambda op, x: _add(op, op.Mul(op.MatMul(floats(op, x), values), scales), added)

    def _int8_table(self, name: str, rows: Floats) -> Table:
        columns = round_rows(rows)
        return _scaled_table(self._whole(name, rows.T, columns, columns.values.T), self._scales(name, columns))

    def _tied_int8(self, name: str, rows: Floats, bias: Bias, *, bounded: bool) -> tuple[Table, Matrix]:  # noqa: ARG002
        columns = round_columns(rows.T)
        values, scales = self._whole(name, rows.T, columns, columns.values.T), self._scales(name, columns)
        added = self._bias(bias)
        return _scaled_table(values, scales), lambda op, x: _add(
            op, op.Mul(op.Gemm(floats(op, x), values, transB=1), scales), added
        )

    def _scales(self, name: str, columns: Columns) -> ir.Value:
        return self._constant(f"{name}.scales", columns.scales.astype(np.float32))

    def _whole(self, name: str, weight: Floats, columns: Columns, values: NDArray[np.int8]) -> ir.Value:
        bytes_ = columns.values.nbytes + columns.scales.nbytes
        self._record(name, "int8", bytes_, weight, columns.restore(), "")
        return self._constant(name, values.astype(np.float32))


def _of_rows(op: OpBuilder, scales: ir.Value, ids: ir.Value) -> ir.Value:
    """Look up rows' scales, float32 (time, batch, 1); ids are unsqueezed once, also to tell where there are any."""
    found: ir.Value = op.Gather(scales, op.Unsqueeze(ids, [-1]))
    return found


def _scaled_table(values: ir.Value, scales: ir.Value) -> Table:
    return lambda op, ids: op.Mul(op.Gather(values, ids), _of_rows(op, scales, ids))


def _float_table(stored: ir.Value, precision: Precision) -> Table:
    """Look rows up as they are stored, and widen only those."""

    def look_up(op: OpBuilder, ids: ir.Value) -> Factor:
        found: ir.Value = op.Gather(stored, ids)
        return op.Cast(found, to=ir.DataType.FLOAT) if precision == "fp16" else found

    return look_up


def floats(op: OpBuilder, x: Factor) -> ir.Value:
    """Return rows as the numbers they stand for."""
    if not isinstance(x, Rows):
        return x
    numbers: ir.Value = op.Mul(op.DequantizeLinear(x.values, x.step, x.zero), x.scales)
    return numbers


def _add(op: OpBuilder, x: ir.Value, bias: ir.Value | None) -> ir.Value:
    return x if bias is None else op.Add(x, bias)

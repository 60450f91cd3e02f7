"""A stored matrix multiplies as numpy does with what it has become, in every precision, and says what it has become."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnxscript import GraphBuilder

from rnn_edge.bundle import Precision
from rnn_edge.exporters.rounding import round_blocks, round_columns, round_rows
from rnn_edge.exporters.weights import Plan, Rows, Weights

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(600, 50)).astype(np.float32)  # (input, output)
BIAS = RANDOM.normal(size=50).astype(np.float32)
IDS = np.array([[3, 0, 49], [3, 17, 8]])

every_precision = pytest.mark.parametrize("precision", get_args(Precision))


def restored(precision: str, weight=WEIGHT):
    if precision == "int8":
        return round_columns(weight).restore()
    return round_blocks(weight).restore() if precision == "int4" else weight.astype(
        np.float16 if precision == "fp16" else np.float32
    ).astype(np.float32)  # fmt: skip


def run(build, precision: str, feed):
    """Run a graph of one matrix or table; return what it gives and the report."""
    imports = {"": 17, "com.microsoft": 1}
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports=imports, name="one"))
    weights = Weights(builder, Plan(precision))
    is_ids = feed.dtype == np.int64
    shape = ["time", "batch"] if is_ids else ["batch", feed.shape[1]]
    x = builder.input("x", ir.DataType.INT64 if is_ids else ir.DataType.FLOAT, shape)
    found = build(weights)(builder.op, x)
    for name, value in zip(
        ("values", "scales"), (found.values, found.scales) if isinstance(found, Rows) else (found,), strict=False
    ):
        builder.add_output(value, name)
    proto = ir.to_proto(ir.Model(builder.graph, ir_version=8))
    outputs = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": feed})
    if isinstance(found, Rows):
        return (outputs[0].astype(np.float32) - 128) * outputs[1], weights.stored
    return outputs[0], weights.stored


def as_bytes(x, step):
    """Return activations as a product in integers sees them."""
    return np.round(x / step) * step


@every_precision
@pytest.mark.parametrize("bounded", [True, False])
def test_a_matrix_multiplies(precision, bounded):
    x = np.tanh(RANDOM.normal(size=(4, 600))).astype(np.float32) * (1 if bounded else 30)
    found, _ = run(lambda weights: weights.matrix("m", WEIGHT, BIAS, bounded=bounded), precision, x)
    if precision == "int8":
        x = as_bytes(x, 1 / 127 if bounded else np.abs(x).max(axis=1, keepdims=True) / 127)
    expected = x @ restored(precision) + BIAS
    tolerance = 2e-2 if precision == "int4" else 1e-4  # 4 bits multiply by activations in 8, block by block
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@every_precision
def test_a_table_looks_up(precision):
    found, _ = run(lambda weights: weights.table("t", WEIGHT), precision, IDS)
    table = {"int8": lambda: round_rows(WEIGHT).restore().T, "int4": lambda: round_blocks(WEIGHT.T).restore().T}
    expected = table.get(precision, lambda: restored(precision))()[IDS]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@every_precision
def test_a_tied_tensor_is_both_and_stored_once(precision):
    rows = WEIGHT.T.copy()  # (50, 600)
    found, stored = run(lambda weights: weights.tied("e", rows, ("o.bias", BIAS), bounded=True)[0], precision, IDS)
    np.testing.assert_allclose(found, restored(precision).T[IDS], rtol=1e-5, atol=1e-6)
    x = np.tanh(RANDOM.normal(size=(4, 600))).astype(np.float32)
    found, _ = run(lambda weights: weights.tied("e", rows, ("o.bias", BIAS), bounded=True)[1], precision, x)
    expected = (as_bytes(x, 1 / 127) if precision == "int8" else x) @ restored(precision) + BIAS
    assert np.abs(found - expected).max() <= 2e-2 * np.abs(expected).max()
    assert [each.name for each in stored] == ["e", "o.bias"]


def test_a_row_of_zeros_stays_zero():
    found, _ = run(lambda weights: weights.matrix("m", WEIGHT, bounded=False), "int8", np.zeros((2, 600), np.float32))
    assert not found.any()


@every_precision
def test_the_report_tells_bytes_and_error(precision):
    _, stored = run(
        lambda weights: weights.matrix("m", WEIGHT, BIAS, bounded=True), precision, np.zeros((1, 600), "f4")
    )
    matrix, bias = stored
    size = {"fp32": 4 * 30_000, "fp16": 2 * 30_000, "int8": 30_000 + 100, "int4": 50 * 19 * (16 + 2)}[precision]
    assert (matrix.name, matrix.precision, matrix.bytes) == ("m", precision, size)
    assert matrix.error == pytest.approx(
        np.linalg.norm(restored(precision) - WEIGHT) / np.linalg.norm(WEIGHT), rel=1e-3, abs=1e-9
    )
    assert (bias.name, bias.precision, bias.bytes, bias.reason) == ("m.bias", "fp32", 200, "a vector")


def test_a_small_matrix_stays_in_eight_bits_and_a_kept_one_in_float():
    weights = Weights(
        GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": 17}, name="one")), Plan("int4", ("k",))
    )
    weights.matrix("small", WEIGHT[:, :9], bounded=True)
    weights.matrix("k", WEIGHT, bounded=True)
    assert [(each.name, each.precision, each.reason) for each in weights.stored] == [
        ("small", "int8", ""), ("k", "fp32", "kept float")
    ]  # fmt: skip

"""Sums that do not depend on what stands beside them or behind them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from rnn_edge.bundle import Graph, Port
from rnn_edge.exporters.draft import Draft
from rnn_edge.exporters.operators import log_sum_exp, weighted_sum
from rnn_edge.exporters.weights import FP32
from rnn_edge.runtimes.whole_graph import WholeGraph

RANDOM = np.random.default_rng(0)


def opened(draft: Draft, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> WholeGraph:
    ports = [tuple(Port(name, "", ()) for name in names) for names in (inputs, outputs)]
    return WholeGraph(draft.finish().SerializeToString(), Graph("", "scan", 17, *ports))


@pytest.mark.parametrize("width", [1, 5, 64])
def test_a_weighted_sum_is_the_same_alone_in_a_batch_and_padded(width):
    draft = Draft("sum", FP32, 17)
    values, weights = draft.input("values", ["time", "batch", width]), draft.input("weights", ["time", "batch", 1])
    total, weight = weighted_sum(draft.op, values, weights, width)
    draft.output(total, "total", ["batch", width])
    draft.output(weight, "weight", ["batch", 1])
    graph = opened(draft, ("values", "weights"), ("total", "weight"))
    x = RANDOM.normal(size=(37, 6, width)).astype(np.float32)
    w = RANDOM.random((37, 6, 1), np.float32)
    lengths = [37, 1, 20, 36, 7, 13]
    for row, length in enumerate(lengths):
        w[length:, row] = 0
    together = graph.run(x, w)
    np.testing.assert_allclose(together[0], (x.astype(float) * w).sum(axis=0), atol=1e-5)
    for row, length in enumerate(lengths):
        alone = graph.run(*(np.ascontiguousarray(each[:length, row : row + 1]) for each in (x, w)))
        assert all(np.array_equal(each[row : row + 1], one) for each, one in zip(together, alone, strict=True))


@pytest.mark.parametrize("opset", [17, 18])
def test_log_sum_exp_is_torch_own(opset):
    draft = Draft("sum", FP32, opset)
    draft.output(log_sum_exp(draft.op, draft.input("x", ["n", "batch", 4], ir.DataType.FLOAT)), "y", ["batch", 4])
    x = (RANDOM.normal(size=(9, 3, 4)) * 50).astype(np.float32)
    x[:, 1, 2] = x[:5, 0, 0] = -np.inf
    (found,) = opened(draft, ("x",), ("y",)).run(x)
    np.testing.assert_allclose(found, torch.from_numpy(x).logsumexp(0).numpy(), rtol=1e-6)

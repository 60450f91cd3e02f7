"""The `fused` form says what the `scan` form says, wherever -1 stands."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from helpers import tiny_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_edge.bundle import Bundle
from rnn_edge.errors import ExportError
from rnn_edge.exporters import ExportOptions, export
from rnn_edge.exporters.graphs import NEWEST_OPSET, OLDEST_OPSET, build
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.weights import Plan
from rnn_edge.runtimes.providers import CPU, find
from rnn_edge.runtimes.step_graph import StepGraph

CELLS = {
    "elman": {"cell": "elman", "num_layers": 2},
    "elman-relu": {"cell": "elman", "nonlinearity": "relu"},
    "gru": {"cell": "gru", "num_layers": 2, "tied": True},
    "lstm": {"cell": "lstm", "num_layers": 2},
    "lstm-one-layer": {"cell": "lstm"},
}
every_cell = pytest.mark.parametrize("name", CELLS)


CUDA = find("cuda")


@cache
def pair(name: str) -> list[StepGraph | None]:
    model = tiny_checkpoint(**CELLS[name]).model
    return [Opened.from_built(build(model, target=target)).step for target in (CPU, CUDA)]


@every_cell
@settings(max_examples=30)
@given(
    rows=st.integers(1, 4).flatmap(
        lambda time: st.lists(st.lists(st.integers(-1, 200), min_size=time, max_size=time), min_size=1, max_size=4)
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_equals_the_scan_form_wherever_nothing_stands(name, rows, seed):
    """Padded on the left, on the right, in between; and idle rows, whose state does not move by a bit."""
    scan, fused = pair(name)
    tokens, random = np.array(rows), np.random.default_rng(seed)
    state = tuple(random.uniform(-0.9, 0.9, part.shape).astype(np.float32) for part in scan.start(len(rows)))
    (logits, after), (expected, expected_after) = fused.step(tokens, state), scan.step(tokens, state)
    assert np.allclose(logits, expected, atol=1e-5)
    assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(after, expected_after, strict=True))
    idle = (tokens < 0).all(axis=1)
    assert all(np.array_equal(one[:, idle], other[:, idle]) for one, other in zip(after, state, strict=True))


@every_cell
@pytest.mark.parametrize("opset", [OLDEST_OPSET, 18, 22, NEWEST_OPSET])
def test_every_opset_gives_a_valid_graph(name, opset):
    graph = build(tiny_checkpoint(**CELLS[name]).model, opset=opset, target=CUDA).protos["step"]
    onnx.checker.check_model(graph, full_check=True)
    assert {"RNN", "LSTM", "GRU"} & {node.op_type for node in graph.graph.node}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_export_for_cuda_is_proven_on_the_cpu(precision):
    text = "the cat sat on the mat " * 9
    options = ExportOptions(target="cuda", precision=precision, eval_text=text, max_loss=9)
    assert export(tiny_checkpoint(cell="gru", num_layers=2), "model.rnn", options).parity.passed
    manifest = Bundle.read(export(tiny_checkpoint(), "model.rnn", options).path).manifest
    assert (manifest.target, manifest.graphs["step"].form) == ("cuda", "fused")


@pytest.mark.parametrize("changes", [
    {"proj_size": 5}, {"coupled_gates": True}, {"squash": "state"}, {"cell": "gru", "reset_after": False},
    {"cell": "gru", "nonlinearity": "relu"},
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_what_cudnn_cannot_do_is_refused(changes):
    with pytest.raises(ExportError, match="graphs in fused form cannot have"):
        build(tiny_checkpoint(**changes).model, target=CUDA)


def test_rounded_plans_are_refused():
    with pytest.raises(ExportError, match="cannot have int8"):
        build(tiny_checkpoint().model, Plan("int8"), target=CUDA)

"""The parity check passes what is right and catches what is wrong, and tells which reading went wrong."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from helpers import tiny_checkpoint

from rnn_edge.errors import ExportError
from rnn_edge.exporters.graphs import build, describe_graph
from rnn_edge.exporters.parity import Parity, TorchSteps
from rnn_edge.exporters.parity import measure_parity as measure
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.spec import Cell
from rnn_edge.text import TokenizerKind

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow


VARIED = {
    "elman-relu": {"nonlinearity": "relu"},
    "lstm-projected": {"proj_size": 5},
    "lstm-coupled": {"coupled_gates": True},
    "lstm-squashed-state": {"squash": "state"},
    "gru-reset-before": {"reset_after": False},
    "gru-relu": {"nonlinearity": "relu"},
}


def measure_parity(model, graph) -> Parity:
    return measure(TorchSteps(model), graph, vocab_size=model.spec.vocab_size)


def graph_of(model) -> StepGraph:
    proto = build(model).protos["step"]
    return StepGraph(proto.SerializeToString(), describe_graph("step", proto).inputs[1:])


@pytest.mark.parametrize("kind", get_args(TokenizerKind))
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", [*get_args(Cell), *VARIED])
def test_every_network_agrees_with_pytorch(cell, num_layers, tied, kind):
    """Cell × layers × projection × tied × kind of vocabulary, over 256 steps from random states."""
    options = VARIED.get(cell, {})
    model = tiny_checkpoint(kind, cell=cell.split("-")[0], num_layers=num_layers, tied=tied, **options).model
    if "nonlinearity" in options:  # a ReLU network with large weights grows without bound, and rounding with it
        with torch.no_grad():
            for parameter in model.stack.parameters():
                parameter.mul_(0.4)
    parity = measure_parity(model, graph_of(model))
    assert parity.passed, parity
    assert [check.name for check in parity.checks] == [
        "whole", "in pieces", "token by token", "padded rows", "idle rows", "greedy texts", "beam texts"
    ]  # fmt: skip
    assert all(check.compared for check in parity.checks)


class Wrong(StepGraph):
    """A graph with one fault at a time."""

    def __init__(self, model, fault: str) -> None:
        proto = build(model).protos["step"]
        super().__init__(proto.SerializeToString(), describe_graph("step", proto).inputs[1:])
        self._fault = fault

    def step(self, tokens, state):
        if self._fault == "padding is read as a token":
            tokens = np.maximum(tokens, 0)
        if self._fault == "state is reset" and tokens.shape[1] == 1:
            state = self.start(len(tokens))
        logits, after = super().step(tokens, state)
        if self._fault == "next state is the old one":
            after = state
        if self._fault == "rows are mixed up" and len(tokens) > 1:
            logits = logits[::-1]
        if self._fault == "not a number":
            logits = logits * np.float32("nan")
        if self._fault == "slightly off":
            logits = logits + np.float32(1e-4)
        return logits, after


@pytest.mark.parametrize(("fault", "caught_by"), [
    ("padding is read as a token", "padded rows"),
    ("padding is read as a token", "idle rows"),
    ("state is reset", "token by token"),
    ("next state is the old one", "in pieces"),
    ("rows are mixed up", "whole"),
    ("not a number", "whole"),
    ("slightly off", "token by token"),
])  # fmt: skip
def test_a_fault_is_caught_and_named(fault, caught_by):
    model = tiny_checkpoint().model
    parity = measure_parity(model, Wrong(model, fault))
    assert not parity.passed
    assert caught_by in [check.name for check in parity.checks if not check.passed]
    with pytest.raises(ExportError, match=f"disagrees with PyTorch.*{caught_by}"):
        parity.require()


def test_a_gru_with_the_wrong_reset_is_caught():
    """The fault that torch.onnx exports have had: the reset before the matrix product instead of after it."""
    model = tiny_checkpoint(cell="gru").model
    proto = build(model).protos["step"]
    torch.nn.init.zeros_(model.stack.rnn.bias_hh_l0)
    parity = measure_parity(model, StepGraph(proto.SerializeToString(), describe_graph("step", proto).inputs[1:]))
    assert not parity.passed


def test_the_figures_are_the_same_each_time():
    model = tiny_checkpoint().model
    first, second = (measure_parity(model, graph_of(model)) for _ in range(2))
    assert first == second
    assert isinstance(first, Parity)

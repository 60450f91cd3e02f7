"""The parity check passes what is right and catches what is wrong, and tells which reading went wrong."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from helpers import some_network, some_spec, tiny_checkpoint

from rnn_edge.errors import ExportError
from rnn_edge.exporters.graphs import build, describe_graph
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.parity import Parity, References, TorchSteps, measure
from rnn_edge.exporters.parity import measure_parity as measure_steps
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.whole_graph import WholeGraph
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
    return measure_steps(TorchSteps(model), graph, vocab_size=model.spec.vocab_size)


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


class WrongReader:
    """A graph that reads whole texts, with one fault at a time."""

    def __init__(self, right: WholeGraph, fault: str) -> None:
        self._right, self._fault = right, fault
        self.inputs, self.outputs = right.inputs, right.outputs

    def run(self, tokens):
        outputs = dict(zip(self.outputs, self._right.run(tokens), strict=True))
        if self._fault == "padding is read as a token":
            outputs = dict(zip(self.outputs, self._right.run(np.maximum(tokens, 0)), strict=True))
        if self._fault == "rows are mixed up":
            outputs["h"] = outputs["h"][:, ::-1]
        if self._fault == "padding is looked at":
            outputs["memory_mask"] = np.ones_like(outputs["memory_mask"])
        if self._fault == "not a number":
            outputs["memory"] = outputs["memory"] * np.float32("nan")
        if self._fault == "slightly off":
            outputs["memory_keys"] = outputs["memory_keys"] + np.float32(1e-4)
        return tuple(outputs.values())


@pytest.mark.parametrize(("fault", "caught_by"), [
    ("padding is read as a token", "encoder padded"),
    ("rows are mixed up", "encoder padded"),
    ("padding is looked at", "whole"),
    ("not a number", "encoder alone"),
    ("slightly off", "encoder alone"),
])  # fmt: skip
def test_a_fault_of_an_encoder_is_caught_and_named(fault, caught_by):
    spec = some_spec("translate", "gru", 0, attention="general", bidirectional=False, num_layers=1, pyramidal=False)
    network = some_network(spec)
    right = Opened.from_built(build(network))
    references = References.in_torch(network, "PyTorch", 1e-5)
    assert measure(references, right, spec).passed
    parity = measure(references, Opened(WrongReader(right.reader, fault), right.step), spec)
    assert caught_by in [check.name for check in parity.checks if not check.passed]


@pytest.mark.parametrize("fault", ["labels", "logits", "log_prob"])
def test_a_fault_of_a_tagger_is_caught(fault):
    spec = some_spec("tag", "elman", 0, character_vocab_size=0)
    network = some_network(spec)
    right = Opened.from_built(build(network)).reader

    class Wrong:
        inputs, outputs = right.inputs, right.outputs

        def run(self, *arrays):
            outputs = dict(zip(right.outputs, right.run(*arrays), strict=True))
            if fault == "labels":
                outputs["labels"] = np.where(outputs["labels"] == 1, 2, outputs["labels"])
            else:
                outputs[fault] = outputs[fault] + np.float32(1e-3)
            return tuple(outputs.values())

    parity = measure(References.in_torch(network, "PyTorch", 1e-5), Opened(Wrong(), None), spec)
    failed = [check.name for check in parity.checks if not check.passed]
    assert failed == (["log-probs"] if fault == "log_prob" else ["texts alone", "texts padded"])

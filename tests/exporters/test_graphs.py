"""The step graph: valid ONNX for every cell and opset, the same bytes each time, each weight once, and its contract."""

from __future__ import annotations

import functools
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from helpers import tiny_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_edge.bundle import Precision
from rnn_edge.errors import ExportError
from rnn_edge.exporters.graphs import NEWEST_OPSET, OLDEST_OPSET, build, describe_graph
from rnn_edge.exporters.rounding import round_rows
from rnn_edge.exporters.weights import Plan
from rnn_edge.runtimes.step_graph import StepGraph

CELLS = {
    "elman": {"cell": "elman"},
    "elman-relu": {"cell": "elman", "nonlinearity": "relu"},
    "elman-looked-up": {"cell": "elman", "embedding_size": 16},  # the first gates, where weights are rounded
    "gru": {"cell": "gru", "num_layers": 2},
    "lstm": {"cell": "lstm", "num_layers": 2},
    "lstm-projected": {"cell": "lstm", "proj_size": 5, "tied": True},
    "lstm-coupled": {"coupled_gates": True, "proj_size": 5, "tied": True},
    "lstm-squashed-state": {"squash": "state", "num_layers": 2},
    "gru-reset-before": {"cell": "gru", "reset_after": False},
    "gru-relu": {"cell": "gru", "nonlinearity": "relu"},
}
every_cell = pytest.mark.parametrize("name", CELLS)
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow


def model(name: str, **changes):
    return tiny_checkpoint(**{**CELLS[name], **changes}).model


def opened(graph: onnx.ModelProto, threads: int = 1) -> StepGraph:
    return StepGraph(graph.SerializeToString(), describe_graph("step", graph).inputs[1:], threads=threads)


@functools.cache
def running(name: str, precision: str = "fp32", threads: int = 1) -> StepGraph:
    return opened(build(model(name), Plan(precision)).protos["step"], threads)


@every_cell
@pytest.mark.parametrize("opset", range(OLDEST_OPSET, NEWEST_OPSET + 1))
def test_every_opset_gives_a_valid_graph_with_the_same_numbers(name, opset):
    network = model(name)
    graph = build(network, opset=opset).protos["step"]
    onnx.checker.check_model(graph, full_check=True)
    assert graph.opset_import[0].version == opset
    tokens = np.array([[1, 2, 3]])
    found, expected = opened(graph), opened(build(network).protos["step"])
    assert np.array_equal(found.step(tokens, found.start(1))[0], expected.step(tokens, expected.start(1))[0])


@pytest.mark.parametrize("opset", [0, 16, 27])
def test_other_opsets_are_refused(opset):
    with pytest.raises(ExportError, match="opset must be from 17 to 26"):
        build(model("gru"), opset=opset)


@every_cell
def test_the_same_model_gives_the_same_bytes(name):
    network = model(name)
    first, second = (build(network).protos["step"].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@every_cell
def test_the_contract_of_names_and_shapes(name):
    network = model(name)
    graph, spec = describe_graph("step", build(network).protos["step"]), network.spec
    states = [(key, "float32", (spec.num_layers, "batch", size)) for key, size in spec.state_sizes.items()]
    assert [(port.name, port.dtype, port.shape) for port in graph.inputs] == [
        ("tokens", "int64", ("batch", "time")), *states
    ]  # fmt: skip
    assert [(port.name, port.dtype, port.shape) for port in graph.outputs] == [
        ("logits", "float32", ("batch", spec.vocab_size)), *((f"next_{key}", *rest) for key, *rest in states)
    ]  # fmt: skip


def test_tied_weights_are_stored_once():
    """Of all tensors, only the embedding has as many numbers as the vocabulary times its width."""
    tied = tiny_checkpoint(tied=True).model
    size = tied.spec.vocab_size * 12
    large = [each.name for each in build(tied).protos["step"].graph.initializer if np.prod(each.dims) == size]
    assert large == ["embedding"]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_tokens_look_up_the_first_gates_where_that_takes_little_room(precision):
    """From a state of zeros, a tanh network's next one is the tanh of what was looked up."""
    network = model("elman-looked-up")
    built = build(network, Plan(precision))
    assert [each.name for each in built.stored] == ["layer0.input", "layer0.state", "output", "output.bias"]
    graph, rnn = opened(built.protos["step"]), network.stack.rnn
    with torch.no_grad():
        table = network.embedding.weight @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + rnn.bias_hh_l0
    expected = np.tanh(round_rows(table.numpy()).restore().T)  # so few weights are int8 in int4, too
    tokens = np.arange(len(expected))[:, None]
    np.testing.assert_allclose(graph.step(tokens, graph.start(len(tokens)))[1][0][0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("elman", Plan("int8")),  # its table would be larger
        ("elman-looked-up", Plan("fp32")),
        ("elman-looked-up", Plan("int8", keep_float=("embedding",))),
        ("elman-looked-up", Plan("int8", keep_float=("layer0.input",))),
        ("lstm-projected", Plan("int8")),  # is tied
    ],
)
def test_tokens_look_up_vectors_elsewhere(name, plan):
    names = [each.name for each in build(model(name), plan).stored]
    assert {"embedding", "layer0.input"} <= set(names)


def test_no_name_hides_another():
    """ONNX forbids a subgraph to use a name of the graph around it again."""
    graph = build(model("lstm")).protos["step"].graph
    names = [each.name for each in graph.input] + [each.name for each in graph.initializer]
    names += [output for node in graph.node for output in node.output]
    bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    assert len(bodies) == 2
    for body in bodies:
        inner = [each.name for each in body.input] + [output for node in body.node for output in node.output]
        assert len({*names, *inner}) == len(names) + len(inner)


@every_cell
@pytest.mark.parametrize("precision", get_args(Precision))
@settings(max_examples=6)
@given(data=st.data())
def test_every_way_of_reading_gives_the_same_bits(name, precision, data):
    """Alone, in a batch, padded, idle in between, in pieces: not only close, but equal."""
    check_ways_of_reading(running(name, precision), running(name, precision), data)


@pytest.mark.slow
@every_cell
@pytest.mark.parametrize("precision", get_args(Precision))
@settings(max_examples=120)
@given(data=st.data())
def test_thousands_of_ways_of_reading_give_the_same_bits(name, precision, data):
    """Also with two threads."""
    check_ways_of_reading(running(name, precision), running(name, precision, threads=2), data)


def check_ways_of_reading(graph, other, data) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    rows = [random.integers(0, 270, length) for length in lengths]
    state = tuple(random.uniform(-1, 1, part.shape).astype(np.float32) for part in graph.start(len(rows)))
    alone = [graph.step(row[None], _row(state, index)) for index, row in enumerate(rows)]

    padded = np.full((len(rows), max(lengths) + 2), -1)
    for index, row in enumerate(rows):
        gaps = np.sort(random.choice(padded.shape[1], len(row), replace=False))
        padded[index, gaps] = row
    cut = data.draw(st.integers(1, padded.shape[1] - 1))
    _, between = other.step(np.ascontiguousarray(padded[:, :cut]), state)
    logits, after = other.step(np.ascontiguousarray(padded[:, cut:]), between)
    for index, (expected, expected_state) in enumerate(alone):
        assert np.array_equal(logits[index : index + 1], expected)
        assert all(map(np.array_equal, _row(after, index), expected_state))


@every_cell
def test_an_idle_row_keeps_its_state_and_its_logits(name):
    graph = running(name)
    logits, state = graph.step(np.array([[3, 4], [5, 6]]), graph.start(2))
    again, after = graph.step(np.array([[-1, -1], [7, 8]]), state)
    assert np.array_equal(again[0], logits[0])
    assert all(np.array_equal(new[:, 0], old[:, 0]) for new, old in zip(after, state, strict=True))
    assert not np.array_equal(after[0][:, 1], state[0][:, 1])


def test_the_state_that_went_in_is_left_alone():
    graph = running("lstm")
    state = graph.start(2)
    graph.step(np.array([[3], [4]]), state)
    assert not any(part.any() for part in state)


def _row(state, index):
    return tuple(np.ascontiguousarray(part[:, index : index + 1]) for part in state)

"""Every network beside the language model, as graphs: what PyTorch gives, however rows are put together."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from helpers import CELLS, TASKS, some_network, some_spec

from rnn_edge.bundle import Precision
from rnn_edge.exporters.examples import random_rows, side_by_side
from rnn_edge.exporters.graphs import build, describe_graph
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.parity import Parity, References, measure
from rnn_edge.exporters.weights import Plan
from rnn_edge.runtimes.names import LABELS, LOG_PROB, LOGITS, VECTORS

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
every_task = pytest.mark.parametrize("task", TASKS)
every_cell = pytest.mark.parametrize("cell", CELLS)
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow


def proved(network, precision: Precision) -> Parity:
    built = build(network, Plan(precision), settle=precision == "fp16")
    graphs = Opened.from_built(built)
    if precision in ("fp32", "fp16"):
        references = References.in_torch(network, "PyTorch", 1e-5)
    else:
        references = References.of_itself(graphs, "itself")
    return measure(references, graphs, network.spec)


@every_task
@every_cell
def test_every_network_agrees_with_pytorch(task, cell):
    """All other choices are drawn; a reader must give the same in batches, a decoder however it reads."""
    parity = proved(some_network(some_spec(task, cell, 0)), "fp32")
    assert parity.passed, parity
    names = [check.name for check in parity.checks]
    if task in ("translate", "describe"):
        steps = ["whole", "in pieces", "token by token", "padded rows", "idle rows", "greedy texts", "beam texts"]
        assert names == ["encoder alone", "encoder padded", *steps]
    else:
        assert names == ["texts alone", "texts padded", *(["log-probs"] if task == "tag" else [])]
    assert all(check.compared for check in parity.checks)


@every_task
@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_rounded_networks_agree_with_their_reference(task, precision):
    """Halved ones with PyTorch's halved weights; those in integers with themselves, to the bit."""
    cell = {"fp16": "gru-reset-before", "int8": "lstm-projected", "int4": "lstm"}[precision]
    parity = proved(some_network(some_spec(task, cell, 0)), precision)
    assert parity.passed, parity


@pytest.mark.parametrize("attention", ["none", "dot", "general", "bahdanau"])
def test_wide_networks_in_four_bits_are_the_same_to_the_bit(attention):
    """Wide enough for 4 bits, and for more than one block of a sum."""
    sizes = {"embedding_size": 70, "hidden_size": 130, "target_vocab_size": 200, "num_layers": 1}
    parity = proved(some_network(some_spec("translate", "lstm", 3, attention=attention, **sizes)), "int4")
    assert parity.passed, parity
    assert parity.max_error == 0


@pytest.mark.slow
@every_task
@every_cell
@pytest.mark.parametrize("precision", PRECISIONS)
def test_many_networks_agree_with_their_reference(task, cell, precision):
    for seed in range(1, 13):
        parity = proved(some_network(some_spec(task, cell, seed), seed=seed), precision)
        numbers = [check for check in parity.checks if "texts" not in check.name]  # some of so many are near ties
        assert all(check.passed for check in numbers), (seed, parity)


@every_task
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_rows_do_not_depend_on_their_neighbours_by_a_bit(task, precision):
    """But for a tagger's log-probs: ONNX Runtime's logarithm differs by a last bit from place to place."""
    random = np.random.default_rng(1)
    for seed, cell in enumerate(("lstm", "gru-relu", "lstm-projected", "elman")):
        spec = some_spec(task, cell, seed)
        graphs = Opened.from_built(build(some_network(spec), Plan(precision)))
        assert graphs.reader is not None
        rows = random_rows(spec, random.integers(1, 40, 5), random)
        together = graphs.reader.run(*side_by_side(rows))
        for index, row in enumerate(rows):
            for name, batch, alone in zip(graphs.reader.outputs, together, graphs.reader.run(*row), strict=True):
                axis = 0 if name in (LOGITS, LABELS, VECTORS, LOG_PROB) else 1
                found = batch.take([index], axis)[tuple(map(slice, alone.shape))]
                if name == LOG_PROB:
                    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-5)
                else:
                    assert np.array_equal(found, alone), name


@every_task
def test_every_opset_gives_valid_graphs_with_the_same_numbers(task):
    spec = some_spec(task, "gru", 1)
    network = some_network(spec)
    rows = random_rows(spec, (3, 1, 5), np.random.default_rng(0))
    expected = Opened.from_built(build(network)).reader.run(*side_by_side(rows))
    for opset in (17, 18, 21, 26):
        built = build(network, opset=opset)
        for proto in built.protos.values():
            onnx.checker.check_model(proto, full_check=True)
            assert proto.opset_import[0].version == opset
        found = Opened.from_built(built).reader.run(*side_by_side(rows))
        assert all(map(np.array_equal, found, expected))


@every_task
def test_the_same_network_gives_the_same_bytes(task):
    network = some_network(some_spec(task, "lstm", 2))
    first, second = (
        [proto.SerializeToString(deterministic=True) for proto in build(network).protos.values()] for _ in range(2)
    )
    assert first == second


@every_task
def test_every_tensor_is_stored_once_under_a_name_of_its_own(task):
    for seed in range(4):
        network = some_network(some_spec(task, "gru-reset-before", seed))
        built = build(network)
        names = [stored.name for stored in built.stored]
        assert len(set(names)) == len(names)
        initializers = [each for proto in built.protos.values() for each in proto.graph.initializer]
        numbers = sum(np.prod(each.dims, dtype=int) for each in initializers if each.name in names)
        parameters = dict(network.named_parameters())
        added = sum(each.numel() for name, each in parameters.items() if "bias_hh" in name)  # into the other bias
        assert numbers == sum(each.numel() for each in parameters.values()) - added


@every_task
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_no_name_hides_another(task, precision):
    """ONNX forbids a subgraph to use a name of the graph around it again, also one that comes later."""
    for seed, cell in enumerate(("lstm", "gru-relu", "gru-reset-before")):
        for proto in build(some_network(some_spec(task, cell, seed)), Plan(precision)).protos.values():
            graph = proto.graph
            names = [each.name for each in (*graph.input, *graph.initializer)]
            names += [output for node in graph.node for output in node.output]
            bodies = [each.g for node in graph.node for each in node.attribute if each.HasField("g")]
            for body in bodies:
                inner = [each.name for each in body.input] + [name for node in body.node for name in node.output]
                assert len({*names, *inner}) == len(names) + len(inner)


@pytest.mark.parametrize(
    ("attention", "input_feeding", "states"),
    [
        ("none", False, []),
        ("dot", False, ["memory", "memory_mask"]),
        ("general", True, ["readout", "memory", "memory_keys", "memory_mask"]),
        ("bahdanau", False, ["readout", "memory", "memory_keys", "memory_mask"]),
    ],
)
def test_an_encoder_gives_what_its_decoder_takes(attention, input_feeding, states):
    spec = some_spec("translate", "lstm", 0, attention=attention, input_feeding=input_feeding, bidirectional=False)
    graphs = {role: describe_graph(role, proto) for role, proto in build(some_network(spec)).protos.items()}
    assert {role: graph.file for role, graph in graphs.items()} == {"encoder": "encoder.onnx", "step": "model.onnx"}
    assert graphs["encoder"].outputs == graphs["step"].inputs[1:]
    assert [port.name for port in graphs["encoder"].outputs] == ["h", "c", *states]
    given = [port.name for port in graphs["step"].outputs]
    moving = ["next_h", "next_c", *(["next_readout"] if "readout" in states else [])]
    assert given == ["logits", *moving, *(["attention"] if states else [])]


@pytest.mark.parametrize("attention", ["dot", "general", "bahdanau"])
@pytest.mark.parametrize("input_feeding", [False, True])
def test_the_attention_is_where_pytorch_looks(attention, input_feeding):
    spec = some_spec("translate", "gru", 0, attention=attention, input_feeding=input_feeding, bidirectional=False)
    network, random = some_network(spec), np.random.default_rng(0)
    graphs = Opened.from_built(build(network))
    sources = random_rows(spec, (5, 2, 9), random)
    target = random.integers(0, spec.target_vocab_size, (3, 4))
    _, _, looked = graphs.step.look(target, graphs.reader.run(*side_by_side(sources)))
    np.testing.assert_allclose(looked.sum(axis=1), 1, rtol=1e-5)
    for row, (source,) in enumerate(sources):
        with torch.inference_mode():
            state, memory = network.encode(torch.from_numpy(source))
            expected = network.decode(torch.from_numpy(target[row : row + 1]), state, memory)[2][0, -1].numpy()
        np.testing.assert_allclose(looked[row, : len(expected)], expected, atol=1e-5)
        assert not looked[row, len(expected) :].any()


def test_an_idle_row_of_a_decoder_keeps_its_logits():
    """With a readout from step to step, too."""
    for attention in ("none", "general", "bahdanau"):
        spec = some_spec("translate", "lstm", 0, attention=attention, bidirectional=False)
        graphs = Opened.from_built(build(some_network(spec)))
        state = graphs.reader.run(*side_by_side(random_rows(spec, (4, 6), np.random.default_rng(0))))
        logits, state = graphs.step.step(np.array([[3, 4], [5, 6]]), state)
        again, after = graphs.step.step(np.array([[-1], [7]]), state)
        assert np.array_equal(again[0], logits[0])
        assert all(np.array_equal(new[:, 0], old[:, 0]) for new, old in zip(after, state, strict=True))
        assert not np.array_equal(after[0][:, 1], state[0][:, 1])

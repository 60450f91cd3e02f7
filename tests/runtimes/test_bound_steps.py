"""Steps in places that take turns, here or on a device, against steps that copy everything: the same bits.

The device of these tests is the CPU, under the name that onnxruntime has for it; real ones are in tests/acceptance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_bundle

from rnn_edge.errors import TextError
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.bound_steps import BoundSteps
from rnn_edge.runtimes.decoding import Position, Steps, read, steps_from, take
from rnn_edge.runtimes.device_steps import DeviceSteps, Helpers

CELLS = [
    {"cell": "lstm", "num_layers": 2},
    {"cell": "lstm", "proj_size": 8, "tied": True, "embedding_size": 8},
    {"cell": "gru"},
    {"cell": "elman", "num_layers": 3},
]


def same(one: Position, other: Position) -> bool:
    pairs = zip((one.logits, *one.state), (other.logits, *other.state), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


def on_device(graph: StepGraph, position: Position) -> Steps:
    return DeviceSteps(graph._session, graph._names, graph._explain, Helpers(), position)


@pytest.fixture
def device_is_the_cpu(monkeypatch):
    monkeypatch.setattr("rnn_edge.runtimes.device_steps._DEVICE", "cpu")


@pytest.mark.usefixtures("device_is_the_cpu")
@pytest.mark.parametrize("begin", [steps_from, on_device])
@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("changes", CELLS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_rows_go_on_as_if_they_were_copied(changes, begin):
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn"), **changes))
    for seed in range(20):
        generator = np.random.default_rng(seed)

        def some(count, generator=generator):
            return generator.integers(1, 9, count).tolist()

        begun = read(graph, [some(length) for length in some(generator.integers(1, 4))])
        kept = Position(begun.logits.copy(), tuple(part.copy() for part in begun.state))
        bound, plain = begin(graph, begun), Steps(graph, begun)
        assert isinstance(bound, BoundSteps | DeviceSteps)
        for _ in range(25):
            rows = len(plain.position.logits)
            if generator.random() < 0.1 and rows < 9:
                newcomers = read(graph, [some(2), some(3)])
                bound.join(newcomers)
                plain.join(newcomers)
            else:
                order = list(range(rows))
                if generator.random() < 0.5:
                    order = generator.integers(0, rows, generator.integers(1, 8)).tolist()
                tokens = some(len(order))
                bound.go_on(order, tokens)
                plain.go_on(order, tokens)
            assert same(bound.position, plain.position)
            best, expected = bound.scores.top(3), plain.scores.top(3)
            assert all(np.array_equal(*pair) for pair in zip(best, expected, strict=True))
        assert same(begun, kept)  # what they began with is a value


@pytest.mark.usefixtures("device_is_the_cpu")
@pytest.mark.parametrize("begin", [steps_from, on_device])
def test_two_begin_at_one_position_and_do_not_meet(begin):
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn")))
    begun = read(graph, [[3], [4]])
    one, other = begin(graph, begun), begin(graph, begun)
    one.go_on([0, 1], [5, 6])
    first = take(one.position, [0, 1])
    other.go_on([1, 0], [7, 8])
    assert same(one.position, first)
    assert not same(other.position, first)


@pytest.mark.usefixtures("device_is_the_cpu")
@pytest.mark.parametrize("begin", [steps_from, on_device])
def test_a_token_outside_the_vocabulary_is_explained(begin):
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn")))
    steps = begin(graph, read(graph, [[3]]))
    with pytest.raises(TextError, match=r"wants tokens int64 \(batch, time\).*it got int64 \(1, 1\)"):
        steps.go_on([0], [10**6])


@pytest.mark.usefixtures("device_is_the_cpu")
def test_what_a_device_cannot_do_the_host_does():
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn")))
    steps = on_device(graph, read(graph, [[3], [4]]))
    plain = Steps(graph, steps.position)
    steps._helpers.top_k = steps._helpers.take_rows = None
    for rows in ([0, 1], [1, 0, 1], [2, 0]):
        steps.go_on(rows, [5] * len(rows))
        plain.go_on(rows, [5] * len(rows))
        assert same(steps.position, plain.position)
        assert np.array_equal(steps.scores.top(4)[0], plain.scores.top(4)[0])

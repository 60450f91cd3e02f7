"""A step graph checks that it is one, and says what a step wants when it got something else."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_bundle

from rnn_edge.bundle import Port
from rnn_edge.errors import BundleError, TextError
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.arrays import reorder


@pytest.fixture
def graph() -> StepGraph:
    return StepGraph.from_bundle(tiny_bundle(Path("model.rnn"), num_layers=2))


def test_it_starts_from_zeros(graph):
    assert [(part.shape, part.dtype, part.any()) for part in graph.start(3)] == [((2, 3, 16), np.float32, False)] * 2


def test_a_step_depends_on_the_step_before(graph):
    """A state that was silently reset would give the same logits twice."""
    first, state = graph.step(np.array([[5]]), graph.start(1))
    second, _ = graph.step(np.array([[5]]), state)
    assert not np.array_equal(first, second)


def test_rows_can_be_chosen_and_repeated(graph):
    _, state = graph.step(np.array([[5], [6]]), graph.start(2))
    logits, _ = graph.step(np.array([[7], [7], [7]]), reorder(state, np.array([1, 0, 1])))
    assert np.array_equal(logits[0], logits[2])
    assert not np.array_equal(logits[0], logits[1])


@pytest.mark.parametrize("tokens", [
    np.array([[10**6]]), np.array([[1.5]]), np.array([1]), np.zeros((3, 1), np.int64), np.zeros((1, 0), np.int64)
])  # fmt: skip
def test_wrong_tokens_are_explained(graph, tokens):
    with pytest.raises(TextError, match=r"wants tokens int64 \(batch, time\).*, it got|; it got"):
        graph.step(tokens, graph.start(1))


def test_a_wrong_state_is_explained(graph):
    with pytest.raises(TextError, match=r"h float32 \(2, batch, 16\).*it got int64 \(1, 1\), float32 \(1, 1, 16\)"):
        graph.step(np.array([[1]]), tuple(part[:1] for part in graph.start(1)))


def test_a_graph_with_other_inputs_is_refused():
    content = tiny_bundle(Path("model.rnn"), cell="gru").files["model.onnx"]
    with pytest.raises(BundleError, match="wanted the inputs tokens, hidden, found tokens, h"):
        StepGraph(content, [Port("hidden", "float32", (1, "batch", 16))])


def test_threads_share_one_graph(graph):
    """Each thread rolls out its own text; no state leaks between them."""
    rows = np.random.default_rng(0).integers(0, 200, (4, 1, 50))

    def roll_out(tokens, results):
        state = graph.start(1)
        for time in range(50):
            logits, state = graph.step(np.ascontiguousarray(tokens[:, time : time + 1]), state)
        results.append(logits)

    expected, found = [], [[] for _ in rows]
    for row in rows:
        roll_out(row, expected)
    threads = [threading.Thread(target=roll_out, args=pair) for pair in zip(rows, found, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one[0], other) for one, other in zip(found, expected, strict=True))

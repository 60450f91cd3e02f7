"""Viterbi and the forward algorithm inside a graph: as in PyTorch, as in pytorch-crf, and as by trying everything."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx_ir as ir
import pytest
import torch
from helpers import shared

from rnn_edge.bundle import Graph, Port
from rnn_edge.exporters.draft import Draft
from rnn_edge.exporters.taggers import draw_crf
from rnn_edge.exporters.weights import FP32
from rnn_edge.modules import CRF
from rnn_edge.runtimes.whole_graph import WholeGraph


def graph_of(crf: CRF) -> WholeGraph:
    """Return a graph of a CRF alone: emissions and where there are any in, labels and their log-prob out."""
    draft = Draft("crf", FP32, 17)
    emissions = draft.input("emissions", ["time", "batch", len(crf.start)])
    words = draft.input("words", ["time", "batch"], ir.DataType.INT64)
    labels, log_prob = draw_crf(draft, crf, emissions, words)
    draft.output(labels, "labels", ["time", "batch"], ir.DataType.INT64)
    draft.output(log_prob, "log_prob", ["batch"])
    ports = [Port(name, "", ()) for name in ("emissions", "words", "labels", "log_prob")]
    return WholeGraph(draft.finish().SerializeToString(), Graph("", "scan", 17, tuple(ports[:2]), tuple(ports[2:])))


def decode(graph: WholeGraph, emissions, lengths):
    """Return labels, int64 (batch, time), -1 in padding, and log-probs of emissions, float32 (batch, time, labels)."""
    present = np.arange(emissions.shape[1]) < np.asarray(lengths)[:, None]
    words = np.where(present, 0, -1).T
    by_time = np.ascontiguousarray(emissions.transpose(1, 0, 2))
    labels, log_prob = graph.run(by_time, np.ascontiguousarray(words))
    return np.where(present, labels.T, -1), log_prob


def random_crf(count: int, generator: torch.Generator, scale: float = 1.0) -> CRF:
    crf = CRF(count)
    for parameter in crf.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return crf


def exact_log_prob(crf: CRF, emissions, labels):
    """Return PyTorch's log-probs in float64: in float32, long sums lose digits."""
    labels = torch.from_numpy(labels)
    double = CRF(len(crf.start)).double()
    double.load_state_dict(crf.state_dict())
    with torch.inference_mode():
        return double.log_prob(torch.from_numpy(emissions).double(), labels, labels >= 0).numpy()


def test_a_thousand_problems_are_decoded_as_pytorch_decodes_them():
    generator, random = torch.Generator().manual_seed(0), np.random.default_rng(0)
    for number in range(50):
        count, longest = int(random.integers(1, 20)), int(random.integers(1, 40))
        crf = random_crf(count, generator)
        emissions = random.normal(0, 3, (20, longest, count)).astype(np.float32)
        if number % 5 == 0:  # whole numbers: many paths are equally good, and the lowest label wins
            emissions = emissions.round()
            for parameter in crf.parameters():
                parameter.data = parameter.data.round()
        lengths = random.integers(1, longest + 1, 20)
        lengths[0] = longest
        labels, log_prob = decode(graph_of(crf), emissions, lengths)
        with torch.inference_mode():
            present = torch.arange(longest) < torch.from_numpy(lengths)[:, None]
            expected = crf.decode(torch.from_numpy(emissions), present).numpy()
        assert np.array_equal(labels, expected)
        np.testing.assert_allclose(log_prob, exact_log_prob(crf, emissions, labels), rtol=1e-5, atol=1e-4)


def test_the_recorded_problems_of_pytorch_crf():
    oracle = np.load(shared("suites/crf/pytorch_crf_oracle.npz"))
    numbers = sorted({int(name.split(".")[0]) for name in oracle})
    assert len(numbers) == 60
    for number in numbers:
        recorded = {name: oracle[f"{number}.{name}"] for name in ("emissions", "lengths", "tags", "loglik", "decode")}
        crf = CRF(len(oracle[f"{number}.start"]))
        crf.load_state_dict({
            "start": torch.from_numpy(oracle[f"{number}.start"]),
            "end": torch.from_numpy(oracle[f"{number}.end"]),
            "transitions": torch.from_numpy(oracle[f"{number}.trans"]),
        })  # fmt: skip
        present = np.arange(recorded["emissions"].shape[1]) < recorded["lengths"][:, None]
        labels, log_prob = decode(graph_of(crf), recorded["emissions"], recorded["lengths"])
        assert np.array_equal(labels[present], recorded["decode"][present])
        tags = np.where(present, recorded["tags"], -1)
        np.testing.assert_allclose(exact_log_prob(crf, recorded["emissions"], tags), recorded["loglik"], atol=1e-4)
        best = exact_log_prob(crf, recorded["emissions"], labels)
        np.testing.assert_allclose(log_prob, best, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_trying_every_path_finds_nothing_better(count, length):
    crf = random_crf(count, torch.Generator().manual_seed(count + length))
    emissions = np.random.default_rng(length).normal(0, 2, (1, length, count)).astype(np.float32)
    start, end, moves = (each.detach().double().numpy() for each in (crf.start, crf.end, crf.transitions))
    scores = {
        path: start[path[0]]
        + emissions[0, range(length), path].sum()
        + moves[path[:-1], path[1:]].sum()
        + end[path[-1]]
        for path in product(range(count), repeat=length)
    }
    labels, log_prob = decode(graph_of(crf), emissions, [length])
    best = max(scores, key=scores.__getitem__)
    assert tuple(labels[0]) == best
    total = np.log(np.exp(np.array(list(scores.values()))).sum())
    np.testing.assert_allclose(log_prob[0], scores[best] - total, atol=1e-5)


def test_moves_that_are_forbidden_are_never_made():
    """Minus infinity is no number, but a probability of nothing."""
    crf = random_crf(3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        crf.start[1:] = -torch.inf
        crf.transitions[0, 0] = crf.transitions[:, 2] = -torch.inf
    emissions = np.random.default_rng(0).normal(0, 2, (4, 6, 3)).astype(np.float32)
    labels, log_prob = decode(graph_of(crf), emissions, [6, 1, 3, 5])
    assert set(labels[:, 0]) == {0}
    assert not (labels == 2).any()
    for row, length in enumerate([6, 1, 3, 5]):
        expected = exact_log_prob(crf, emissions[row : row + 1, :length], labels[row : row + 1, :length])
        np.testing.assert_allclose(log_prob[row], expected[0], atol=1e-5)


def test_log_probs_of_long_texts_keep_their_digits():
    """A score of thousands less a total of thousands: float32 alone would leave three digits."""
    crf = random_crf(7, torch.Generator().manual_seed(0))
    emissions = np.random.default_rng(0).normal(0, 5, (2, 1500, 7)).astype(np.float32) + 10
    labels, log_prob = decode(graph_of(crf), emissions, [1500, 900])
    np.testing.assert_allclose(log_prob, exact_log_prob(crf, emissions, labels), rtol=1e-4)

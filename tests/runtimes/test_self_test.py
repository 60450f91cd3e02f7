"""The self-test passes where the numbers are right, and tells where they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import some_checkpoint

import rnn_edge
from rnn_edge.bundle import Bundle
from rnn_edge.errors import BundleError
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.self_test import self_test
from rnn_edge.runtimes.whole_graph import WholeGraph

PATH = Path(__file__).parents[1] / "data" / "format-1.rnn"


def test_the_machine_that_runs_the_tests_passes():
    bundle = Bundle.read(PATH)
    assert self_test(bundle, {"step": StepGraph.from_bundle(bundle)}) <= 1e-4
    rnn_edge.load(PATH, self_test=True)


@pytest.mark.parametrize("fault", [np.float32(1.01), np.float32("nan")])
@pytest.mark.parametrize("part", ["logits", "state"])
def test_other_numbers_are_told(monkeypatch, part, fault):
    right = StepGraph.step

    def wrong(graph, tokens, state):
        logits, after = right(graph, tokens, state)
        if part == "logits":
            return logits * fault, after
        return logits, tuple(each * fault for each in after)

    monkeypatch.setattr(StepGraph, "step", wrong)
    with pytest.raises(BundleError, match="gives other numbers here"):
        rnn_edge.load(PATH, self_test=True)


@pytest.mark.parametrize("task", ["translate", "tag", "embed"])
@pytest.mark.parametrize("fault", [np.float32(1.01), np.float32("nan")])
def test_other_numbers_of_whole_texts_are_told(monkeypatch, task, fault):
    pytest.importorskip("torch")
    from rnn_edge.exporters import export

    export(some_checkpoint(task), "model.rnn")
    bundle = Bundle.read(Path("model.rnn"))
    graphs = {
        role: StepGraph.from_bundle(bundle) if role == "step" else WholeGraph.from_bundle(bundle, role)
        for role in bundle.manifest.graphs
    }
    assert self_test(bundle, graphs) <= 1e-4
    right = WholeGraph.run
    monkeypatch.setattr(
        WholeGraph,
        "run",
        lambda *given: tuple(each * fault if each.dtype == np.float32 else each for each in right(*given)),
    )
    with pytest.raises(BundleError, match="gives other numbers here"):
        self_test(bundle, graphs)

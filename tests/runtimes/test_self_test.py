"""The self-test passes where the numbers are right, and tells where they are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from helpers import export_network, some_checkpoint, tiny_network

import rnn_edge
from rnn_edge.bundle import Bundle
from rnn_edge.errors import BundleError
from rnn_edge.runtimes import DecodeGraph, StepGraph
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


@pytest.mark.parametrize("task", ["language-model", "translate", "describe"])
@pytest.mark.parametrize("decode", ["greedy", "sample", "beam"])
def test_other_searches_are_told(monkeypatch, task, decode):
    export_network(Path("model.rnn"), task, decode=decode)
    rnn_edge.load("model.rnn", self_test=True)
    right = DecodeGraph.run
    for fault, words in [
        (lambda found: replace(found, log_prob=found.log_prob * 1.01), "other numbers here"),
        (lambda found: replace(found, state=tuple(each * np.float32(1.01) for each in found.state)), "other numbers"),
        (lambda found: replace(found, sequences=found.sequences - (found.sequences > 2)), "other tokens here"),
    ]:
        monkeypatch.setattr(DecodeGraph, "run", lambda *given, fault=fault, **named: fault(right(*given, **named)))
        with pytest.raises(BundleError, match=words):
            rnn_edge.load("model.rnn", self_test=True)


@pytest.mark.parametrize("how", [{"num_beams": 1}, {"num_beams": 3, "num_return_sequences": 2}])
def test_a_search_is_compared_from_golden_json_alone(how):
    """As an app in another language does it: every input has its name there, but for the states, which are zero."""
    pytest.importorskip("torch")
    from rnn_edge.exporters import ExportOptions, export

    export(tiny_network("language-model"), "model.rnn", ExportOptions(decode="beam", **how))
    golden = json.loads(Path("model.rnn/golden.json").read_text())
    session = onnxruntime.InferenceSession("model.rnn/decode.onnx")
    ports = session.get_inputs()
    assert len(golden["searches"]) == 3
    for case in golden["searches"]:
        feed = {
            port.name: np.array(case["inputs"][port.name], np.float64 if port.type == "tensor(double)" else np.int64)
            if port.name in case["inputs"]
            else np.zeros((port.shape[0], 1, port.shape[2]), np.float32)
            for port in ports
        }
        sequences, log_prob, *_ = session.run(None, feed)
        assert case["sequences"] == [each[each >= 0].tolist() for each in sequences[0]]
        np.testing.assert_allclose(log_prob[0], case["log_prob"], atol=golden["tolerance"])


def test_what_is_compared_of_a_search_is_no_near_tie():
    """All scores of this network are the same, so a last bit would decide: nothing of it can be compared."""
    torch = pytest.importorskip("torch")
    from rnn_edge.exporters import ExportOptions, export

    checkpoint = tiny_network("language-model")
    with torch.no_grad():
        for parameter in checkpoint.model.output.parameters():
            parameter[:] = 0
    export(checkpoint, "model.rnn", ExportOptions(decode="greedy"))
    assert json.loads(Path("model.rnn/golden.json").read_text())["searches"] == []
    rnn_edge.load("model.rnn", self_test=True)


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

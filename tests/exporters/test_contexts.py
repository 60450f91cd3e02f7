"""Graphs compiled ahead of time: how a bundle keeps them, and that wrong ones are refused; the real compiler is in
tests/acceptance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import tiny_checkpoint

from rnn_edge.bundle import MANIFEST, Bundle, Compiled
from rnn_edge.errors import BundleError, ExportError
from rnn_edge.exporters import ExportOptions, contexts, export
from rnn_edge.exporters.graphs import build
from rnn_edge.runtimes import step_graph
from rnn_edge.runtimes.providers import find, why_not
from rnn_edge.runtimes.step_graph import StepGraph

RNN = Path("model.rnn")
OPTIONS = ExportOptions(target="qnn", context="v75")


@pytest.fixture
def compiler(monkeypatch) -> dict[str, bytes]:
    """Put another graph in the compiler's place, and open what it gives on the CPU; return what it is asked for."""
    asked = {}
    others = {"graph": build(tiny_checkpoint(seed=1).model, target=find("qnn")).protos["step"].SerializeToString()}

    def compile_graph(content: bytes, *, provider: str, provider_options: dict[str, str]) -> bytes:
        asked.update({"content": content, "provider": provider, **provider_options})
        return content if asked.get("right") else others["graph"]

    monkeypatch.setattr(contexts, "why_not", lambda provider: "")
    monkeypatch.setattr(contexts, "compile_graph", compile_graph)
    monkeypatch.setattr(contexts, "StepGraph", lambda content, ports, **_: StepGraph(content, ports))
    return asked


def test_what_is_compiled_wrongly_is_refused(compiler):
    with pytest.raises(ExportError, match=r"compiled for v75, this graph is \d.* from what it gives on the CPU"):
        export(tiny_checkpoint(), RNN, OPTIONS)
    assert not RNN.exists()


def test_a_bundle_keeps_both_graphs(compiler, monkeypatch):
    """The provider gets what was compiled for it, unless it may fall back; all others get the graph itself."""
    compiler["right"] = True
    export(tiny_checkpoint(), RNN, OPTIONS)
    assert (compiler["provider"], compiler["soc_model"]) == ("qnn", "57")
    bundle = Bundle.read(RNN)
    graph = bundle.manifest.graphs["step"]
    assert graph.compiled == Compiled("model.v75.onnx", "qnn", "v75")
    assert bundle.files["model.v75.onnx"] == bundle.files["model.onnx"] == compiler["content"]
    bundle = replace(bundle, files={**bundle.files, "model.v75.onnx": b"compiled"})
    opened = []
    monkeypatch.setattr(step_graph, "open_session", lambda content, **_: opened.append(content))
    names = ("qnn", "QNNExecutionProvider", "cpu", "webgpu")
    places = [{"provider": name} for name in names] + [{}, {"provider": "qnn", "allow_fallback": True}]
    for place in places:
        with pytest.raises(AttributeError):  # of the session, which is none
            StepGraph.from_bundle(bundle, **place)
    assert [content == b"compiled" for content in opened] == [True, True, False, False, False, False]


def test_a_bundle_without_what_was_compiled_is_refused(compiler):
    compiler["right"] = True
    export(tiny_checkpoint(), RNN, OPTIONS)
    values = json.loads((RNN / MANIFEST).read_text())
    del values["files"]["model.v75.onnx"]
    (RNN / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(BundleError, match=r"does not list model\.v75\.onnx"):
        Bundle.read(RNN)


@pytest.mark.skipif(not why_not(find("qnn")), reason="this machine has the compiler")
def test_a_missing_compiler_is_one_sentence():
    with pytest.raises(ExportError, match=r"^contexts are compiled by provider 'qnn', which is .*onnxruntime-qnn$"):
        export(tiny_checkpoint(), RNN, OPTIONS)


def test_contexts_are_for_one_target():
    for wrong in ({"target": "nnapi", "context": "v75"}, {"target": "qnn", "context": "v1"}):
        with pytest.raises(ExportError, match="a context is for target qnn and one of v68, v69, v73, v75, v79, v81"):
            ExportOptions(**wrong)

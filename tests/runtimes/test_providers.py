"""A provider that cannot be used is refused with the reason; nothing falls back silently."""

from __future__ import annotations

import sys
from pathlib import Path

import onnxruntime
import pytest
from helpers import tiny_bundle

from rnn_edge.errors import BundleError, ProviderError
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.providers import open_session


def test_the_cpu_is_known_by_both_names():
    bundle = tiny_bundle(Path("model.rnn"))
    for name in ("cpu", "CPUExecutionProvider"):
        StepGraph.from_bundle(bundle, provider=name)


def test_a_session_keeps_no_copy_of_the_file():
    """onnxruntime's own wrapper does, for as long as the session lives."""
    content = tiny_bundle(Path("model.rnn")).files["model.onnx"]
    before = sys.getrefcount(content)
    session = open_session(content)
    assert sys.getrefcount(content) == before
    del session


def test_an_unknown_provider_is_refused():
    with pytest.raises(ProviderError, match="unknown provider 'abacus'; rnn-edge knows cpu, cuda"):
        open_session(b"", provider="abacus")


def test_cuda_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match=r"'cuda' is not in this build.*pip install 'rnn-edge\[gpu\]'"):
        open_session(b"", provider="cuda")


def test_a_provider_that_onnxruntime_drops_silently_is_noticed(monkeypatch):
    """What onnxruntime-gpu does without a driver: the session opens, on the CPU."""
    graph = tiny_bundle(Path("model.rnn")).files["model.onnx"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda content, options, **_: real(content, options, providers=None)
    )
    with pytest.raises(ProviderError, match="dropped provider 'cuda' without an error"):
        open_session(graph, provider="cuda")


def test_a_missing_onnxruntime_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match=r"pip install 'rnn-edge\[cpu\]'"):
        open_session(b"")


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, 10**9])
def test_absurd_threads_are_refused(threads):
    with pytest.raises(ProviderError, match="threads must be a whole number"):
        open_session(b"", threads=threads)


def test_what_is_no_graph_is_refused():
    with pytest.raises(BundleError, match="cannot open this graph on 'cpu'"):
        open_session(b"no graph")


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname"])
def test_a_graph_reads_no_file_outside(tmp_path, place):
    """A hostile graph may keep its weights "externally", in a file of yours."""
    onnx = pytest.importorskip("onnx")
    (tmp_path.parent / "secret").write_bytes(bytes(16))
    weight = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=place)
    ports = [onnx.helper.make_tensor_value_info(name, 1, [4]) for name in "xy"]
    nodes = [onnx.helper.make_node("Add", ["x", "w"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "hostile", ports[:1], ports[1:], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(BundleError, match="cannot open this graph"):
        open_session(model.SerializeToString())

"""A provider that cannot be used is refused with the reason; nothing falls back silently."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from helpers import export_network, tiny_bundle

from rnn_edge.bundle import Bundle
from rnn_edge.errors import BundleError, ProviderError, ProviderWarning
from rnn_edge.runtimes import StepGraph, sessions
from rnn_edge.runtimes.sessions import open_session
from rnn_edge.runtimes.whole_graph import WholeGraph


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


@pytest.fixture
def pretended(monkeypatch):
    """Return a function that lets onnxruntime offer CUDA, and make a session as the test likes it."""

    def pretend(make) -> bytes:
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
        monkeypatch.setattr(sessions, "why_not", lambda provider: "")
        real = onnxruntime.InferenceSession
        graph = tiny_bundle(Path("model.rnn")).files["model.onnx"]
        monkeypatch.setattr(onnxruntime, "InferenceSession", partial(make, real))
        return graph

    return pretend


def on_the_cpu(real, content, options, **_):
    return real(content, options, providers=["CPUExecutionProvider"])


def half_on_cuda(real, content, options, **_):
    """A session that says that a Scan stayed on the CPU."""
    session = on_the_cpu(real, content, options)
    session.get_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    placed = [("CUDAExecutionProvider", ["MatMul", "Add"]), ("CPUExecutionProvider", ["Scan"])]
    session.get_provider_graph_assignment_info = lambda: [
        SimpleNamespace(ep_name=name, get_nodes=lambda types=types: [SimpleNamespace(op_type=each) for each in types])
        for name, types in placed
    ]
    return session


def failing(real, content, options, *, providers, enable_fallback):
    """onnxruntime retries on the CPU unless it is told not to, and a driver without a GPU raises."""
    assert enable_fallback == 0
    if providers == ["CPUExecutionProvider"]:
        return real(content, options, providers=providers)
    raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")


def test_a_provider_that_onnxruntime_drops_silently_is_noticed(pretended):
    """What onnxruntime-gpu does without a driver: the session opens, on the CPU."""
    with pytest.raises(ProviderError, match="dropped provider 'cuda' without an error"):
        open_session(pretended(on_the_cpu), provider="cuda")


def test_a_session_that_cannot_be_made_is_not_made_on_the_cpu(pretended):
    with pytest.raises(ProviderError, match="cannot open this graph on 'cuda': CUDA failure 100"):
        open_session(pretended(failing), provider="cuda")


def test_nodes_that_stay_behind_are_named(pretended):
    with pytest.raises(ProviderError, match=r"runs 2 of 3 nodes.*the CPU the others: 1 Scan; export it with --target"):
        open_session(pretended(half_on_cuda), provider="cuda")


def test_falling_back_is_told_where_it_is_allowed(pretended):
    with pytest.warns(ProviderWarning, match="CUDA failure 100.*it runs on the CPU instead"):
        session = open_session(pretended(failing), provider="cuda", allow_fallback=True)
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_falling_back_in_part_is_told_too(pretended):
    with pytest.warns(ProviderWarning, match="the CPU the others: 1 Scan"):
        open_session(pretended(half_on_cuda), provider="cuda", allow_fallback=True)


def test_an_error_at_a_run_stays_an_error():
    """onnxruntime would make a new session on the CPU after an error of a provider, and run again."""
    tiny_bundle(Path("step.rnn"))
    export_network(Path("whole.rnn"), "classify")
    step = StepGraph.from_bundle(Bundle.read(Path("step.rnn")))
    whole = WholeGraph.from_bundle(Bundle.read(Path("whole.rnn")), "model")
    ends = onnxruntime.capi.onnxruntime_pybind11_state.EPFail

    class Broken:
        def __init__(self, whole):
            self._whole = whole

        def __getattr__(self, name):
            return getattr(self._whole, name)

        def run(self, *_):
            raise ends("the device is gone")

    for graph, read in ((step, lambda: step.step(np.array([[1]]), step.start(1))), (whole, lambda: whole.run([[1]]))):
        session = graph._session
        session._sess, session.set_providers = Broken(session._sess), None
        with pytest.raises(ProviderError, match="the provider failed while it ran: the device is gone"):
            read()


def test_options_are_checked_by_name_for_onnxruntime_ignores_others():
    with pytest.raises(ProviderError, match=r"'webgpu' has no option devicId; it has: .*deviceId"):
        open_session(b"", provider="webgpu", provider_options={"devicId": "0"})
    with pytest.raises(ProviderError, match="'cpu' has no option x; it has: none"):
        open_session(b"", provider_options={"x": "1"})
    with pytest.raises(ProviderError, match="options of providers are texts"):
        open_session(b"", provider="cuda", provider_options={"device_id": 0})


def test_only_steps_are_recorded():
    """Replayed, another graph would read what lay in memory when it was recorded."""
    known = ("cuda", "enable_cuda_graph", "device_id"), ("webgpu", "enableGraphCapture", "deviceId")
    for provider, option, device in known:
        place = {"provider": provider, "provider_options": {option: "1", device: "0"}}
        with pytest.raises(ProviderError, match=f"only steps of a language model are recorded: leave out .* {option}"):
            open_session(b"", **place)
        assert sessions.unrecorded(place) == {"provider": provider, "provider_options": {device: "0"}}
        assert not sessions.records(sessions.unrecorded(place))


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

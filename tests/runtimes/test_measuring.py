"""Where a bundle runs, and where it runs fastest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import export_network, tiny_bundle, tiny_checkpoint

from rnn_edge.bundle import Bundle, Foretold
from rnn_edge.errors import ProviderError
from rnn_edge.runtimes import AUTO, RanNode, by_provider, load, measure_providers, placement, unforeseen
from rnn_edge.runtimes import measuring as module
from rnn_edge.runtimes.measuring import StepGraph
from rnn_edge.runtimes.providers import PROVIDERS


def test_every_node_that_ran_is_told_once():
    """The products of the network's matrices: input, state and output."""
    onnx = pytest.importorskip("onnx")
    bundle = tiny_bundle(Path("model.rnn"))
    graph = onnx.load_from_string(bundle.files["model.onnx"]).graph
    (scan,) = (node for node in graph.node if node.op_type == "Scan")
    expected = Counter(node.op_type for node in (*graph.node, *scan.attribute[0].g.node, *scan.attribute[1].g.node))
    found = by_provider(placement(bundle))
    assert set(found) == {"CPUExecutionProvider"}
    operators = found["CPUExecutionProvider"]
    assert operators["Scan"] == 1
    assert operators["MatMul"] + operators.get("Gemm", 0) == expected["MatMul"] == 3
    assert list(Path().glob("*.json")) == []  # the profile is gone


def test_the_fastest_provider_is_kept(monkeypatch):
    """A provider that refuses the bundle comes last, with its reason; the CPU is what remains."""
    bundle = tiny_bundle(Path("model.rnn"))
    real = StepGraph.from_bundle

    def from_bundle(bundle, *, provider, **others):
        if provider == "cuda":
            raise ProviderError("the GPU is on fire")
        assert provider in ("cpu", "openvino")
        return real(bundle, **others)

    monkeypatch.setattr(module, "usable", lambda: [PROVIDERS[name] for name in ("cuda", "cpu", "openvino")])
    monkeypatch.setattr(module.StepGraph, "from_bundle", from_bundle)
    measured = measure_providers(bundle)
    assert [each.provider for each in measured[2:]] == ["cuda"]
    assert measured[2].problem == "the GPU is on fire"
    assert 0 < measured[0].seconds <= measured[1].seconds < 1


TASKS = {"translate": {"attention": "general"}, "describe": {}, "classify": {}, "embed": {}, "tag": {"letters": True}}


@pytest.mark.parametrize("task", TASKS)
def test_networks_of_every_task_are_measured_with_all_their_graphs(task):
    onnx = pytest.importorskip("onnx")
    export_network(Path("model.rnn"), task, **TASKS[task])
    bundle = Bundle.read(Path("model.rnn"))
    graphs = [onnx.load_from_string(bundle.files[each.file]).graph for each in bundle.manifest.graphs.values()]
    expected = sum(node.op_type == "Scan" for graph in graphs for node in graph.node)
    found = by_provider(placement(bundle))
    assert (set(found), found["CPUExecutionProvider"]["Scan"]) == ({"CPUExecutionProvider"}, expected)
    (cpu,) = (each for each in measure_providers(bundle) if each.provider == "cpu")
    assert 0 < cpu.seconds < 1
    load("model.rnn", provider=AUTO, self_test=True)


def test_a_graph_that_searches_is_not_measured():
    """Loaded bundles do not run it, and it would take inputs that no one token is."""
    pytest.importorskip("onnx")
    found = []
    for decode in (None, "greedy"):
        export_network(Path(f"{decode}.rnn"), "describe", decode=decode)
        found.append(by_provider(placement(Bundle.read(Path(f"{decode}.rnn")))))
    assert found[0] == found[1]


def test_auto_loads_what_can_be_loaded():
    tiny_bundle(Path("model.rnn"))
    assert load("model.rnn", provider=AUTO).complete("the c")


def ran(*operators: str, provider: str = "WebGpuExecutionProvider") -> list[RanNode]:
    return [RanNode(f"node{number}", operator, provider) for number, operator in enumerate(operators)]


def test_what_an_export_foretold_is_compared_with_what_ran():
    pytest.importorskip("onnx")
    from rnn_edge.exporters import ExportOptions, export

    export(tiny_checkpoint(), "gpu.rnn", ExportOptions(target="webgpu"))
    bundle = Bundle.read(Path("gpu.rnn"))
    step = bundle.manifest.graphs["step"]
    assert step.placement is not None
    assert (step.placement.here["Gather"], step.placement.elsewhere) == (1, {})
    on_cpu = ran("Gather", provider="CPUExecutionProvider")
    assert unforeseen(bundle, "webgpu", ran("Gemm", "Gather")) == ""
    assert unforeseen(bundle, "WebGpuExecutionProvider", [*ran("Gemm"), *ran("MemcpyToHost", provider="x")]) == ""
    assert unforeseen(bundle, "webgpu", [*ran("Gemm"), *on_cpu]) == (
        "webgpu ran all but Gather, and the export foretold everything"
    )
    assert unforeseen(bundle, "webgpu", on_cpu) == "webgpu ran nothing, and the export foretold everything"
    step = replace(step, placement=Foretold({"MatMul": 1}, {"Gather": 1}))
    lacking = replace(bundle, manifest=replace(bundle.manifest, graphs={"step": step}))
    assert unforeseen(lacking, "webgpu", [*ran("Gemm"), *on_cpu]) == ""
    assert unforeseen(lacking, "webgpu", ran("Gemm", "Gather")) == (
        "webgpu ran everything, and the export foretold all but Gather"
    )


def test_nothing_is_foretold_of_the_cpu_or_of_other_providers():
    pytest.importorskip("onnx")
    from rnn_edge.exporters import ExportOptions, export

    export(tiny_checkpoint(), "gpu.rnn", ExportOptions(target="webgpu"))
    assert unforeseen(Bundle.read(Path("gpu.rnn")), "cuda", ran("Gemm", provider="CPUExecutionProvider")) == ""
    bundle = tiny_bundle(Path("model.rnn"))
    assert bundle.manifest.graphs["step"].placement is None
    assert unforeseen(bundle, "cpu", placement(bundle)) == ""

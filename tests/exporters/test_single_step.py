"""The `step` form says what the `scan` form says, a token at a time, and phones take it in one piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import CELLS as ALL_CELLS
from helpers import tiny_checkpoint, tiny_network

from rnn_edge.bundle import Bundle
from rnn_edge.errors import ExportError
from rnn_edge.exporters import ExportOptions, export, verify
from rnn_edge.exporters.foretelling import foretell
from rnn_edge.exporters.graphs import NEWEST_OPSET, OLDEST_OPSET, build
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.weights import Plan
from rnn_edge.modules import Network, save_checkpoint
from rnn_edge.runtimes.providers import CPU, PROVIDERS, Provider, find
from rnn_edge.runtimes.step_graph import StepGraph

CELLS = {
    "elman": {"cell": "elman"},
    "gru": {"cell": "gru", "num_layers": 2, "tied": True},
    "gru-reset-before": {"cell": "gru", "reset_after": False},
    "lstm": {"cell": "lstm", "num_layers": 3},
    "lstm-projected": {"cell": "lstm", "num_layers": 2, "proj_size": 5, "tied": True},
}
ANY_BATCH, FIXED = find("webgpu"), find("xnnpack")
every_cell = pytest.mark.parametrize("name", CELLS)
both_sizes = pytest.mark.parametrize("target", [ANY_BATCH, FIXED], ids=["any batch", "fixed"])
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow


def opened(model: Network, target: Provider) -> StepGraph:
    step = Opened.from_built(build(model, target=target)).step
    assert step is not None
    return step


def graph_for(model: Network, target: Provider, **choices: int) -> onnx.ModelProto:
    return build(model, target=target, **choices).protos["step"]


@every_cell
@both_sizes
def test_it_equals_the_scan_form(name, target):
    """Rows of different lengths, one of them idle, read in two stretches."""
    model = tiny_checkpoint(**CELLS[name]).model
    scan, single = opened(model, CPU), opened(model, target)
    tokens = np.array([[1, 2, 3, 4, 5], [-1, -1, 6, 7, 8], [-1, -1, -1, -1, 9]])
    expected, found = scan.step(tokens, scan.start(3)), single.step(tokens, single.start(3))
    following = np.array([[3], [-1], [4]])
    for again in ((expected, found), (scan.step(following, expected[1]), single.step(following, found[1]))):
        (wanted, wanted_state), (logits, state) = again
        assert np.allclose(wanted[[0, 2]], logits[[0, 2]], atol=1e-6)
        assert all(np.allclose(one, other, atol=1e-6) for one, other in zip(wanted_state, state, strict=True))
    assert all(np.array_equal(one[:, 1], other[:, 1]) for one, other in zip(state, found[1], strict=True))


def test_an_idle_row_has_logits_or_says_that_it_has_none():
    model = tiny_checkpoint().model
    idle = np.array([[-1]])
    for target in (ANY_BATCH, FIXED):
        single = opened(model, target)
        logits, state = single.step(np.array([[3]]), single.start(1))
        same, after = single.step(idle, state)
        assert np.array_equal(same, logits) is not target.fixed
        assert np.isnan(same).all() == target.fixed
        assert np.array_equal(after[0], state[0])


@both_sizes
@pytest.mark.parametrize("opset", [OLDEST_OPSET, 18, NEWEST_OPSET])
def test_every_opset_gives_a_valid_graph_without_control_flow(target, opset):
    graph = graph_for(tiny_checkpoint(num_layers=2).model, target, opset=opset)
    onnx.checker.check_model(graph, full_check=True)
    assert not {"Scan", "Loop", "If"} & {node.op_type for node in graph.graph.node}


@every_cell
@pytest.mark.parametrize("target", ["nnapi", "coreml"])
def test_a_phone_takes_it_in_one_piece(name, target):
    foretold = foretell(graph_for(tiny_checkpoint(**CELLS[name]).model, FIXED), find(target))
    assert foretold.elsewhere == ({"Gather": 1} if target == "coreml" else {})


def test_what_breaks_a_graph_into_pieces_is_named():
    """Nodes that NNAPI does not know in the middle, or sizes that are chosen at each call."""
    model = tiny_checkpoint(num_layers=2).model
    with pytest.raises(ExportError, match=r"sizes that are not fixed|Where"):
        foretell(graph_for(model, ANY_BATCH), find("nnapi"))
    graph = graph_for(model, FIXED)
    tanh = next(node for node in graph.graph.node if node.op_type == "Tanh")
    tanh.op_type = "Erf"
    with pytest.raises(ExportError, match=rf"nnapi would take this graph in 2 pieces.*{tanh.name} \(Erf\)"):
        foretell(graph, find("nnapi"))


EVERY_CELL = {**ALL_CELLS, **{f"{name}-tied": {**ALL_CELLS[name], "tied": True} for name in ("gru", "lstm")}}
NOT_FUSED = {"gru-relu", "gru-reset-before", "lstm-projected", "lstm-coupled", "lstm-squashed-state"}


@pytest.mark.parametrize("target", [name for name in PROVIDERS if name != "cpu"])
def test_every_target_runs_all_of_every_cell_or_says_what_it_cannot(target):
    """In each of its precisions, but for what Core ML and XNNPACK leave to the CPU."""
    for name, options in EVERY_CELL.items():
        model = tiny_checkpoint(**options).model
        for precision in find(target).precisions:
            plan = Plan(precision, is_calibrated=precision == "int8")
            tokens = np.arange(100) if plan.is_calibrated else None
            if target == "cuda" and name in NOT_FUSED:
                with pytest.raises(ExportError, match="graphs in fused form cannot have"):
                    build(model, plan, target=find(target), calibration=tokens)
                continue
            foretold = build(model, plan, target=find(target), calibration=tokens).placement
            assert foretold is not None
            if target == "xnnpack":
                assert foretold.here.keys() <= {"MatMul", "Gemm"}
            else:
                assert foretold.elsewhere == ({"Gather": 1} if target == "coreml" else {}), (name, precision)
            assert foretold.here["MatMul"] + foretold.here.get("Gemm", 0) >= (1 if target == "cuda" else 3)


def test_an_operator_that_a_target_does_not_know_is_named():
    graph = graph_for(tiny_checkpoint().model, ANY_BATCH)
    tanh = next(node for node in graph.graph.node if node.op_type == "Tanh")
    tanh.op_type = "Erf"
    with pytest.raises(
        ExportError, match=rf"^webgpu would not run the whole graph: in the way are {tanh.name} \(Erf\)"
    ):
        foretell(graph, ANY_BATCH)


def test_what_is_computed_once_is_not_foretold():
    """The widening of halves, when a graph is opened; a looked-up row is widened at every step."""
    model = tiny_checkpoint().model
    nodes = build(model, Plan("fp16"), target=find("qnn"))
    casts = sum(node.op_type == "Cast" for node in nodes.protos["step"].graph.node)
    assert casts > nodes.placement.here["Cast"] == 1


def test_a_target_makes_a_bundle_of_its_form():
    checkpoint = tiny_checkpoint()
    save_checkpoint(checkpoint, Path("model.pt"))
    for target, shape, dtype in (("webgpu", ("batch", 1), "int64"), ("nnapi", (1, 1), "int32")):
        export(checkpoint, "model.rnn", ExportOptions(target=target))
        manifest = Bundle.read(Path("model.rnn")).manifest
        tokens = manifest.graphs["step"].inputs[0]
        assert (manifest.target, manifest.graphs["step"].form) == (target, "step")
        assert (tokens.shape, tokens.dtype) == (shape, dtype)
        assert verify("model.pt", "model.rnn").passed


def test_rounded_step_graphs_are_refused():
    with pytest.raises(ExportError, match="target webgpu takes fp32, not int8"):
        ExportOptions(target="webgpu", precision="int8")
    with pytest.raises(ExportError, match="target must be one of cpu, cuda"):
        ExportOptions(target="abacus")
    with pytest.raises(ExportError, match="fp32 or fp16, not int8"):
        build(tiny_checkpoint().model, Plan("int8"), target=ANY_BATCH)


@pytest.mark.parametrize("target", ["cuda", "webgpu", "nnapi"])
@pytest.mark.parametrize("task", ["translate", "describe", "classify", "embed", "tag"])
def test_other_networks_are_made_for_the_cpu_only(task, target):
    message = rf"^target {target} takes language models only, and this network is to {task}: choose the target cpu$"
    with pytest.raises(ExportError, match=message):
        export(tiny_network(task), "model.rnn", ExportOptions(target=target))
    assert not Path("model.rnn").exists()


@pytest.mark.parametrize("target", ["cuda", "webgpu"])
def test_the_report_of_a_target_is_that_of_the_cpu(target):
    """The same matrices, under the same names, with the same errors."""
    model = tiny_checkpoint(cell="gru", num_layers=2).model
    expected, found = (
        {each.name: each for each in build(model, Plan("fp16"), target=place).stored if each.precision == "fp16"}
        for place in (CPU, find(target))
    )
    assert expected == found

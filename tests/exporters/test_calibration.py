"""int8 for NPUs: bytes everywhere, steps that fit a text, and what PyTorch with the same weights says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import CELLS, darwin_checkpoint, shared, tiny_checkpoint

from rnn_edge.bundle import Bundle
from rnn_edge.errors import ExportError
from rnn_edge.exporters import ExportOptions, export, verify
from rnn_edge.exporters.foretelling import foretell
from rnn_edge.exporters.graphs import NEWEST_OPSET, OLDEST_OPSET, Built, build
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.parity import References, measure, measure_single_steps
from rnn_edge.exporters.torch_side import TorchSteps
from rnn_edge.exporters.weights import Plan
from rnn_edge.modules import Checkpoint, LanguageModel, save_checkpoint
from rnn_edge.runtimes.providers import find

PT, RNN = Path("model.pt"), Path("model.rnn")
CALIBRATED = Plan("int8", is_calibrated=True)
every_cell = pytest.mark.parametrize("name", CELLS)
both = pytest.mark.parametrize("target", ["qnn", "nnapi"])
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow


def drawn(model: LanguageModel, count: int) -> np.ndarray:
    """Return tokens as the model itself would write them, int64 (count,)."""
    steps, random = TorchSteps(model), np.random.default_rng(1)
    tokens, state = [0], steps.start(1)
    while len(tokens) < count:
        logits, state = steps.step(np.array([tokens[-1:]]), state)
        tokens.append(int((logits + random.gumbel(size=logits.shape)).argmax()))
    return np.array(tokens)


def remembering(count: int = 600, **changes) -> Checkpoint:
    source = tiny_checkpoint(**changes)
    return Checkpoint(source.model, source.tokenizer, {}, {"tokens": torch.tensor(drawn(source.model, count))})


def calibrated(source: Checkpoint, target: str, **choices) -> Built:
    tokens = drawn(source.model, 200)
    return build(source.model, CALIBRATED, target=find(target), calibration=tokens, **choices)


@every_cell
def test_before_any_text_it_is_pytorch_with_the_rounded_weights(name):
    """The whole numbers and their scales, read in every way; the report is that of the CPU's int8."""
    model = tiny_checkpoint(**CELLS[name], tied=name == "gru").model
    expected = build(model, Plan("int8")).stored
    built = build(model, CALIBRATED, target=find("qnn"), settle=True)
    assert built.stored == expected
    found = measure(References.in_torch(model, "", 1e-5), Opened.from_built(built), model.spec)
    assert found.max_error <= 1e-5


@every_cell
@both
def test_every_cell_is_calibrated(name, target):
    """Every matrix is bytes, every step is near PyTorch's, and NNAPI takes it in one piece, which `build` requires."""
    source = tiny_checkpoint(**CELLS[name], tied=name == "gru")
    if source.model.spec.nonlinearity == "relu":  # whose states grow without bound
        with torch.no_grad():
            for parameter in source.model.parameters():
                parameter.mul_(0.5)
    built = calibrated(source, target, settle=True)
    step = Opened.from_built(built).step
    assert step is not None
    parity = measure_single_steps(TorchSteps(source.model), step, atol=0.2, compared_with="")
    assert 0 < parity.max_error <= 0.2
    tensors = {each.name: each for each in built.protos["step"].graph.initializer}
    kind = onnx.TensorProto.INT8 if target == "qnn" else onnx.TensorProto.UINT8
    for matrix in (each.name for each in built.stored if each.precision == "int8"):
        assert tensors[f"{matrix}_quantized"].data_type == kind
        assert matrix not in tensors


@both
@pytest.mark.parametrize("opset", [OLDEST_OPSET, 21, NEWEST_OPSET])
def test_every_opset_gives_a_valid_graph_and_the_same_bytes_again(target, opset):
    source = tiny_checkpoint(cell="gru")
    graph, again = (calibrated(source, target, opset=opset).protos["step"] for _ in range(2))
    assert graph.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    onnx.checker.check_model(graph, full_check=target == "nnapi" or opset > 20)
    assert graph.opset_import[0].version == opset
    assert [value.type.tensor_type.elem_type for value in graph.graph.output] == [onnx.TensorProto.FLOAT] * 2
    foretell(graph, find("nnapi"))


def test_only_qualcomms_npu_rounds_what_is_between_products():
    source = tiny_checkpoint()
    kinds = {}
    for target in ("qnn", "nnapi"):
        graph = calibrated(source, target).protos["step"].graph
        rounded = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
        tanh = next(node for node in graph.node if node.op_type == "Tanh")
        kinds[target] = bool(rounded & set(tanh.output))
    assert kinds == {"qnn": True, "nnapi": False}


def test_a_text_that_shows_too_little_is_found_out():
    """Of one token over and over, the ranges do not fit what the network otherwise computes."""
    source = tiny_checkpoint()
    built = build(source.model, CALIBRATED, target=find("qnn"), settle=True, calibration=np.zeros(100, np.int64))
    step = Opened.from_built(built).step
    assert step is not None
    parity = measure_single_steps(TorchSteps(source.model), step, atol=0.3, compared_with="")
    assert not parity.passed


@both
def test_it_is_exported_judged_and_verified(target):
    source = remembering(cell="elman")
    save_checkpoint(source, PT)
    exported = export(PT, RNN, ExportOptions(target=target, precision="auto", max_loss=0.1))
    manifest = Bundle.read(RNN).manifest
    assert (manifest.precision, manifest.target) == ("int8", target)
    assert exported.quality is not None
    assert manifest.quality["tokens"] == exported.quality.tokens == 592  # 37 rows of 16
    assert verify(PT, RNN) == exported.parity
    with torch.no_grad():
        source.model.output.weight[3] += 1
    save_checkpoint(source, PT)
    assert not verify(PT, RNN).passed


@pytest.mark.slow
def test_rounding_that_costs_too_much_is_refused_and_the_costliest_may_stay_float():
    """A large weight of a unit that never speaks costs nothing in float, and in bytes leaves the others no steps."""
    source = tiny_checkpoint()
    with torch.no_grad():
        source.model.stack.rnn.bias_ih_l0[3 * 16 + 5] = -40  # shuts the output gate of unit 5
        source.model.output.weight[:, 5] = 100
    source = Checkpoint(source.model, source.tokenizer, {}, {"tokens": torch.tensor(drawn(source.model, 500))})
    options = ExportOptions(target="nnapi", precision="int8")
    with pytest.raises(ExportError, match=r"raises the perplexity .* output costs most.*--keep-float output"):
        export(source, RNN, options)
    assert not RNN.exists()
    exported = export(source, RNN, replace(options, keep_float=("output",)))
    assert next(each for each in exported.tensors if each.name == "output").reason == "kept float"
    (product,) = (node for node in onnx.load(RNN / "model.onnx").graph.node if "output" in node.input)
    assert product.op_type == "MatMul"


@pytest.mark.slow
@both
def test_a_network_with_large_cell_states_hardly_gets_worse(target):
    """ml5's Darwin, whose cells count to 200: in 8 bits, they would be lost."""
    text = shared("text/darwin.txt").read_text()
    options = ExportOptions(
        target=target, precision="int8", calibration_text=text[50_000:51_024], eval_text=text[100_000:104_000]
    )
    exported = export(darwin_checkpoint(), RNN, options)
    assert exported.quality is not None
    assert exported.quality.loss <= (0.001 if target == "qnn" else 0.01)


def test_calibration_needs_a_text():
    source = tiny_checkpoint(cell="elman")
    with pytest.raises(ExportError, match=r"calibrated on a text, and this checkpoint remembers none: .*--calibrate"):
        export(source, RNN, ExportOptions(target="qnn", precision="int8"))
    with pytest.raises(ExportError, match="4 tokens are too few to calibrate on: give at least 64"):
        export(source, RNN, ExportOptions(target="qnn", precision="int8", calibration_text="the"))
    for options in ({}, {"target": "qnn"}, {"precision": "int8"}, {"target": "webgpu"}):
        with pytest.raises(ExportError, match="only int8 for nnapi and qnn is calibrated: leave calibration_text out"):
            ExportOptions(**options, calibration_text="the end")


def test_any_text_may_be_calibrated_on():
    source = remembering(cell="elman")
    text = source.tokenizer.decode(source.held_out["tokens"].tolist())
    options = ExportOptions(
        target="nnapi", precision="int8", calibration_text=text, eval_text="the end of it " * 9, max_loss=9
    )
    assert export(tiny_checkpoint(cell="elman"), RNN, options).parity.passed

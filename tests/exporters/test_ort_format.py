"""Graphs in ONNX Runtime's own format: the same numbers, and a build that has all they need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import some_checkpoint, tiny_checkpoint

from rnn_edge.bundle import REQUIRED_OPERATORS, Bundle
from rnn_edge.errors import BundleError, ExportError
from rnn_edge.exporters import ExportOptions, export, verify
from rnn_edge.exporters.ort_format import convert_to_ort
from rnn_edge.inspection.gates import read_gates
from rnn_edge.modules import save_checkpoint
from rnn_edge.runtimes import StepGraph, load
from rnn_edge.runtimes.measuring import placement
from rnn_edge.runtimes.providers import CPU

PT, ONNX, ORT = Path("model.pt"), Path("onnx.rnn"), Path("ort.rnn")
SLOW = pytest.mark.slow  # the converter is a process of its own
TEXT = "the cat sat on the mat, the end of it " * 9


@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=SLOW), "int8", pytest.param("int4", marks=SLOW)])
def test_it_gives_the_same_bits(precision):
    source = tiny_checkpoint(hidden_size=130)  # large enough for 4 bits
    save_checkpoint(source, PT)
    for path, form in ((ONNX, "onnx"), (ORT, "ort")):
        export(PT, path, ExportOptions(precision=precision, format=form, eval_text=TEXT, max_loss=9))
    assert verify(PT, ORT).passed
    old, new = (StepGraph.from_bundle(Bundle.read(path)) for path in (ONNX, ORT))
    tokens = np.array([[1, 2, 3, 4], [-1, 5, 6, 7]])
    (logits, state), (same, same_state) = old.step(tokens, old.start(2)), new.step(tokens, new.start(2))
    assert np.array_equal(logits, same)
    assert all(map(np.array_equal, state, same_state))
    with pytest.raises(BundleError, match="export it with --format onnx"):
        read_gates(Bundle.read(ORT), [1, 2])


def test_all_graphs_of_a_network_are_converted_and_their_operators_listed():
    """An encoder, a step and a whole search share one list: a build for one is a build for all."""
    export(some_checkpoint("translate"), ORT, ExportOptions(format="ort", decode="beam"))
    bundle = Bundle.read(ORT)
    files = {graph.file for graph in bundle.manifest.graphs.values()}
    assert files == {"encoder.ort", "model.ort", "decode.ort"}
    assert files <= bundle.files.keys()
    assert not any(name.endswith(".onnx") for name in bundle.files)
    listed = bundle.files[REQUIRED_OPERATORS].decode()
    ran = {node.operator for node in placement(bundle)} - {"Loop"}
    assert len(ran) > 10
    assert {operator for operator in ran if operator not in listed} == set()
    assert "Loop" in listed
    assert "/" not in listed
    assert load(ORT, self_test=True).translate("the cat")


@SLOW
def test_for_phones_nothing_is_fused_before():
    """A calibrated graph keeps its pairs of quantizers, which NNAPI makes integers of."""
    options = ExportOptions(
        target="nnapi", precision="int8", format="ort", calibration_text=TEXT, eval_text=TEXT, max_loss=9, atol=9
    )
    export(tiny_checkpoint(), ORT, options)
    listed = Bundle.read(ORT).files[REQUIRED_OPERATORS].decode()
    assert "DequantizeLinear" in listed
    assert "MatMul" in listed
    assert load(ORT, self_test=True).complete("the c")


def test_what_does_not_go_together_is_refused():
    wrong = {
        "format must be onnx or ort": {"format": "tflite"},
        "format ort is for the targets cpu, xnnpack, nnapi, coreml, not webgpu": {"format": "ort", "target": "webgpu"},
        "stores halves as float32, and takes fp32, int8 or int4, not fp16": {"format": "ort", "precision": "fp16"},
        "with a preview, format cannot be ort": {"format": "ort", "preview": "int8"},
    }
    for message, options in wrong.items():
        with pytest.raises(ExportError, match=message):
            ExportOptions(**options)


@SLOW
def test_what_the_converter_says_is_told():
    with pytest.raises(ExportError, match="onnxruntime cannot convert this graph"):
        convert_to_ort({"model.onnx": b"junk"}, CPU)

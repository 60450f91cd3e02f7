"""Gates as a bundle's graph has them are those of the formulas, computed from PyTorch's weights and states."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import CELLS, tiny_bundle, tiny_checkpoint

pytest.importorskip("torch")

import torch

from rnn_edge.bundle import Bundle
from rnn_edge.errors import BundleError
from rnn_edge.inspection import inspect
from rnn_edge.inspection.gates import Gate, read_gates
from rnn_edge.runtimes.load import BUILT_IN

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow

NAMES = {"lstm": ("input", "forget", "output"), "lstm-coupled": ("input", "output"), "gru": ("reset", "update")}
GATED = [cell for cell in CELLS if not cell.startswith("elman")]


@torch.inference_mode()
def by_the_formulas(model, tokens: list[int]) -> list[tuple[int, np.ndarray]]:
    """Return each sigmoid's values, float32 (tokens, cells), layer by layer: squashed W x + U h + b."""
    spec, rnn, found = model.spec, model.stack.rnn, []
    x, start = model.embedding(torch.tensor(tokens)), model.start(1)
    for layer in range(spec.num_layers):
        one = [getattr(rnn, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        states = list(_outputs(model, tokens, start))
        before = torch.stack([start[0][layer, 0], *(h[layer, 0] for h in states[:-1])])  # (tokens, output)
        total = torch.sigmoid(x @ one[0].T + one[2] + before @ one[1].T + one[3])
        parts = total.chunk(spec.num_gates, dim=-1)
        kept = range(2) if spec.cell == "gru" else [n for n in range(spec.num_gates) if n != spec.num_gates - 2]
        found += [(layer + 1, parts[part].detach().numpy()) for part in kept]
        x = torch.stack([h[layer, 0] for h in states])
    return found


def _outputs(model, tokens, state):
    for token in tokens:
        _, state = model(torch.tensor([[token]]), state)
        yield state[0]


@pytest.mark.parametrize("cell", GATED)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_gates_are_those_of_the_formulas(cell, num_layers):
    changes = {**CELLS[cell], "num_layers": num_layers}
    bundle, tokens = tiny_bundle(Path("model.rnn"), **changes), [0, 7, 3, 3, 9, 1]
    found = read_gates(bundle, tokens)
    names = NAMES.get(cell, NAMES[CELLS[cell]["cell"]])
    assert [(gate.name, gate.layer) for gate in found] == [
        (name, layer + 1) for layer in range(num_layers) for name in names
    ]
    expected = by_the_formulas(tiny_checkpoint(**changes).model, tokens)
    for gate, (layer, values) in zip(found, expected, strict=True):
        assert gate.layer == layer
        np.testing.assert_allclose(gate.values, values, atol=1e-5)


@pytest.mark.parametrize(("precision", "near"), [("fp16", 1e-2), ("int8", 0.1)])
def test_rounded_graphs_have_nearly_the_same(precision, near):
    from rnn_edge.exporters import ExportOptions, export

    checkpoint, tokens = tiny_checkpoint(), [0, 7, 3, 3, 9, 1]
    export(
        checkpoint,
        Path("rounded.rnn"),
        ExportOptions(precision=precision, max_loss=9.0, eval_text="the cat sat on the mat\n" * 9),
    )
    exact = read_gates(tiny_bundle(Path("model.rnn")), tokens)
    for gate, like in zip(read_gates(Bundle.read(Path("rounded.rnn")), tokens), exact, strict=True):
        assert gate.values.dtype == np.float32
        np.testing.assert_allclose(gate.values, like.values, atol=near)


def test_how_often_a_gate_is_saturated():
    gate = Gate("forget", 1, np.float32([[0.05, 0.5], [0.95, 0.91], [0.09, 0.1], [0.9, 0.92]]))
    assert gate.often_closed.tolist() == [0.5, 0]
    assert gate.often_open.tolist() == [0.25, 0.5]


def test_the_file_stays_as_it_is_and_an_inspection_holds_the_gates():
    bundle = Bundle.read(BUILT_IN)
    before = dict(bundle.files)
    found = inspect(bundle, "def f(x):")
    assert bundle.files == before
    assert [gate.name for gate in found.gates] == ["input", "forget", "output"]
    assert {gate.values.shape for gate in found.gates} == {(len(found.pieces), 288)}
    assert found.no_gates == ""


def test_where_there_are_no_gates_the_inspection_says_why(monkeypatch):
    assert "has no gates" in inspect(tiny_bundle(Path("elman.rnn"), cell="elman"), "a cat").no_gates
    bundle = tiny_bundle(Path("model.rnn"))
    graph = replace(bundle.manifest.graphs["step"], form="fused")
    fused = replace(bundle, manifest=replace(bundle.manifest, graphs={"step": graph}))
    with pytest.raises(BundleError, match="out of sight: export it with --target cpu"):
        read_gates(fused, [0])
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "rnn_edge.inspection.exposed", raising=False)
    found = inspect(bundle, "a cat")
    assert found.gates == ()
    assert "pip install onnx" in found.no_gates


def test_a_graph_of_another_recurrence_is_refused():
    bundle = tiny_bundle(Path("model.rnn"), cell="gru")
    other = replace(bundle.manifest, spec=replace(bundle.manifest.spec, cell="lstm"))
    with pytest.raises(BundleError, match="layer 1 has 2 sigmoids in place of its gates, input, forget, output"):
        read_gates(replace(bundle, manifest=other), [0])

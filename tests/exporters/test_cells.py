"""One step of each cell as a graph is one step of torch's cell."""

from __future__ import annotations

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnxscript import GraphBuilder

from rnn_edge.exporters.cells import Layer, step
from rnn_edge.exporters.weights import FP32, Weights
from rnn_edge.spec import LanguageModelSpec

CELLS = {"elman": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_torch_own(cell):
    spec = LanguageModelSpec(vocab_size=9, embedding_size=5, hidden_size=7, cell=cell)
    torch.manual_seed(0)
    reference = CELLS[cell](5, 7)
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": 17}, name="one"))
    weights = Weights(builder, FP32)
    w, u, b, b_state = (
        getattr(reference, name).detach().numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    layer = Layer(
        input=weights.matrix("input", w.T, b if cell == "gru" else b + b_state, bounded=False),
        state=weights.matrix("state", u.T, b_state if cell == "gru" else None, bounded=True),
        projection=None,
        candidate=None,
    )
    x = builder.input("x", ir.DataType.FLOAT, ["batch", 5])
    state = [builder.input(name, ir.DataType.FLOAT, ["batch", 7]) for name in spec.state_sizes]
    for value, name in zip(
        step(builder.op, spec, layer, layer.input(builder.op, x), state), spec.state_sizes, strict=True
    ):
        builder.add_output(value, f"next_{name}")
    proto = ir.to_proto(ir.Model(builder.graph, ir_version=8))
    inputs = [torch.randn(3, 5), *(torch.randn(3, 7) for _ in state)]
    names = ["x", *spec.state_sizes]
    feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    found = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)
    expected = reference(inputs[0], tuple(inputs[1:]) if cell == "lstm" else inputs[1])
    for ours, theirs in zip(found, expected if cell == "lstm" else [expected], strict=True):
        torch.testing.assert_close(torch.from_numpy(ours), theirs.detach())

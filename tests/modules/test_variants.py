"""The varied cells are what their papers say: held against torch.nn, ONNX's operators, and formulas written out."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import shared

from rnn_edge.modules import Stack
from rnn_edge.modules.variants import VariedRNN
from rnn_edge.spec import LanguageModelSpec

VARIANTS = {
    "coupled": {"coupled_gates": True},
    "coupled-projected": {"coupled_gates": True, "proj_size": 3},
    "squashed-state": {"squash": "state"},
    "reset-before": {"cell": "gru", "reset_after": False},
    "reset-before-relu": {"cell": "gru", "reset_after": False, "nonlinearity": "relu"},
    "gru-relu": {"cell": "gru", "nonlinearity": "relu"},
}


def spec(**changes) -> LanguageModelSpec:
    return LanguageModelSpec(**{"vocab_size": 7, "embedding_size": 5, "hidden_size": 6, **changes})


def read(rnn, spec, *, seed=0, batch=2, time=9):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, time, spec.embedding_size, generator=generator)
    state = tuple(
        torch.rand(spec.num_layers, batch, size, generator=generator) - 0.5 for size in spec.state_sizes.values()
    )
    return x, state, *rnn(x, state)


@pytest.mark.parametrize("options", [{}, {"proj_size": 3}, {"cell": "gru"}])
@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow
def test_without_a_variation_they_are_torch_nn(options):
    ours, stack = VariedRNN(spec(num_layers=2, **options), 5), Stack(spec(num_layers=2, **options), 5)
    ours.load_state_dict(stack.rnn.state_dict())
    x, state, y, after = read(ours, spec(num_layers=2, **options))
    expected, expected_after = stack(x, state)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(after, expected_after)


def test_coupled_gates_are_an_lstm_whose_forget_gate_mirrors_its_input_gate():
    """1 - σ(a) = σ(-a)."""
    ours, theirs = VariedRNN(spec(coupled_gates=True), 5), torch.nn.LSTM(5, 6, batch_first=True)
    for name, parameter in theirs.named_parameters():
        write, new, output = getattr(ours, name).chunk(3)
        parameter.data = torch.cat([write, -write, new, output]).detach()
    x, state, y, after = read(ours, spec(coupled_gates=True))
    expected, expected_after = theirs(x, state)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(after, expected_after)


def test_a_reset_before_the_product_is_onnx_own():
    ours = VariedRNN(spec(cell="gru", reset_after=False), 5)
    x, state, y, _ = read(ours, ours.spec)
    order = [1, 0, 2]  # ONNX stores z, r, h
    weights = {
        name: getattr(ours, f"{name}_l0").detach().reshape(3, 6, -1)[order].flatten(0, 1).numpy()[None]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    bias = np.concatenate([weights["bias_ih"], weights["bias_hh"]], axis=1)[..., 0]
    feed = {"X": x.transpose(0, 1).numpy(), "W": weights["weight_ih"], "R": weights["weight_hh"], "B": bias}
    node = onnx.helper.make_node("GRU", [*feed, "", "H"], ["Y"], hidden_size=6)
    found = _run(node, {**feed, "H": state[0].numpy()})
    np.testing.assert_allclose(y.detach().transpose(0, 1), found[:, 0], atol=1e-6)


def test_the_onnx_node_test_that_torch_cannot_pass_holds():
    data = np.load(shared("suites/onnx_node_rnn/test_gru_seq_length/data.npz"))
    x, w, r, b = (torch.from_numpy(data[f"in_{index}"]) for index in range(4))
    ours = VariedRNN(spec(cell="gru", reset_after=False, embedding_size=3, hidden_size=5), 3)
    order = [1, 0, 2]
    ours.load_state_dict({
        "weight_ih_l0": w[0].reshape(3, 5, 3)[order].flatten(0, 1),
        "weight_hh_l0": r[0].reshape(3, 5, 5)[order].flatten(0, 1),
        "bias_ih_l0": b[0].reshape(2, 3, 5)[0][order].flatten(),
        "bias_hh_l0": b[0].reshape(2, 3, 5)[1][order].flatten(),
    })  # fmt: skip
    _, after = ours(x.transpose(0, 1), (torch.zeros(1, 3, 5),))
    np.testing.assert_allclose(after[0].detach(), data["out_0"], rtol=1e-5, atol=1e-6)


def test_the_squash_in_the_state_by_its_formula():
    """c' = tanh(f∘c + i∘g); h' = o∘c'."""
    ours = VariedRNN(spec(squash="state"), 5)
    x, (h, c), y, _ = read(ours, ours.spec, batch=1)
    h, c = h[0, 0].numpy(), c[0, 0].numpy()
    w, u, b, b_state = (getattr(ours, f"{name}_l0").detach().numpy() for name in
                        ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))  # fmt: skip
    for time, now in enumerate(x[0].numpy()):
        i, f, g, o = np.split(w @ now + b + u @ h + b_state, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = np.tanh(f * c + i * np.tanh(g))
        h = o * c
        np.testing.assert_allclose(y[0, time].detach(), h, atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_reading_in_two_pieces_equals_reading_at_once(name):
    options = spec(num_layers=2, **VARIANTS[name])
    stack = Stack(options, 5)
    x, state, y, after = read(stack, options)
    first, between = stack(x[:, :4], state)
    second, end = stack(x[:, 4:], between)
    torch.testing.assert_close(torch.cat([first, second], dim=1), y)
    torch.testing.assert_close(end, after)


def _run(node: onnx.NodeProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, value.shape) for name, value in feed.items()
    ]
    output = onnx.helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([node], "one", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)[0]

"""The varied cells are what their papers say: held against torch.nn and formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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

"""How far an error reaches is what finite differences and the powers of a matrix say."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from helpers import tiny_checkpoint
from torch.nn import functional as F

from rnn_edge.errors import TrainingError
from rnn_edge.training.reach import LEAD, gradient_by_distance

TOKENS = torch.randint(0, 20, (80,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_it_is_the_gradient_by_what_was_read(cell):
    """Each number against a difference of the loss along the direction that autograd claims is steepest."""
    model = tiny_checkpoint(cell=cell, num_layers=2).model.double()
    found = gradient_by_distance(model, TOKENS[: LEAD + 8], distance=6)
    read, wanted = TOKENS[LEAD : LEAD + 7], torch.tensor(TOKENS[LEAD + 7])
    _, state = model(torch.tensor([TOKENS[:LEAD]]), model.start(1))
    x = model.embedding(torch.tensor([read])).detach()
    for back, norm in enumerate(found):
        gradient = torch.tensor(
            [_slope(model, x, state, wanted, 6 - back, unit) for unit in torch.eye(x.shape[-1]).double()]
        )
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-5, abs=1e-9)


def _slope(model, x, state, wanted, time, direction):
    def loss(step):
        moved = x.clone()
        moved[0, time] += step * direction
        y, _ = model.stack(moved, state)
        y = y[0, -1] if model.bridge is None else model.bridge(y[0, -1])
        return F.cross_entropy(model.output(y), wanted).item()

    return (loss(1e-5) - loss(-1e-5)) / 2e-5


@pytest.mark.parametrize(("gain", "grows"), [(0.5, 0.5), (1.5, 1.5)])
def test_a_straight_line_vanishes_or_explodes_by_its_gain(gain, grows):
    """With ReLU, positive inputs and U = gain · 1, every step back multiplies the gradient by the gain."""
    model = tiny_checkpoint(cell="elman", nonlinearity="relu").model
    rnn = model.stack.rnn
    with torch.no_grad():
        model.embedding.weight.abs_()
        rnn.weight_ih_l0.abs_()
        rnn.weight_hh_l0.copy_(gain * torch.eye(16))
        rnn.bias_ih_l0.zero_()
        rnn.bias_hh_l0.zero_()
    found = gradient_by_distance(model, TOKENS, distance=12, windows=1)
    assert found[1:] == pytest.approx([norm * grows for norm in found[:-1]], rel=1e-4)


def test_it_is_the_mean_over_windows_and_dropout_is_off():
    model = tiny_checkpoint(cell="lstm", dropout=0.5).model.train()
    both = gradient_by_distance(model, TOKENS[: LEAD + 13], distance=10, windows=5)
    assert model.training
    assert len(both) == 11
    first, second = (gradient_by_distance(model, TOKENS[at : at + LEAD + 12], distance=10) for at in (0, 1))
    assert both == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=True)], rel=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_text_that_is_too_short_is_refused():
    model = tiny_checkpoint().model
    with pytest.raises(TrainingError, match="a reach of 10 tokens needs a text of 44, and this one has 43"):
        gradient_by_distance(model, TOKENS[:43], distance=10)

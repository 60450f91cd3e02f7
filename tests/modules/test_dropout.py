"""Masks that last are the same at every token and off when a network runs; nothing of them is stored or exported."""

from __future__ import annotations

import pytest
import torch
from helpers import CELLS, TASKS, some_checkpoint, tiny_checkpoint

from rnn_edge.exporters.graphs import build
from rnn_edge.modules.dropout import Dropout, leave_out, new_masks
from rnn_edge.training.lesson import as_when_it_runs

TOKENS = torch.randint(0, 20, (4, 9), generator=torch.Generator().manual_seed(0))


def learner(cell: str = "lstm", *, variational: bool = True, weights: float = 0.5, rate: float = 0.5):
    model = tiny_checkpoint(dropout=rate, **CELLS[cell]).model.train()
    leave_out(model, variational=variational, weights=weights)
    torch.manual_seed(0)
    return model


def both_ways(model):
    """Return logits of a stretch, and of the same read token by token."""
    at_once, _ = model(TOKENS, model.start(4))
    state, singly = model.start(4), []
    for column in TOKENS.split(1, dim=1):
        logits, state = model(column, state)
        singly.append(logits)
    return at_once, torch.cat(singly, dim=1)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("cell", CELLS)
def test_a_stretch_is_read_with_the_same_masks_at_once_and_token_by_token(cell):
    model = learner(cell)
    at_once, singly = both_ways(model)
    torch.testing.assert_close(at_once, singly, rtol=1e-4, atol=1e-4)
    new_masks(model)
    other, _ = both_ways(model)
    assert not torch.allclose(other, at_once)
    with as_when_it_runs(model):
        running, _ = both_ways(model)
    plain = tiny_checkpoint(**CELLS[cell]).model
    assert torch.equal(running, plain(TOKENS, plain.start(4))[0])


def test_each_remedy_does_something_by_itself_and_without_any_masks_do_not_last():
    running, _ = both_ways(learner(rate=0.0, weights=0.0))
    for choices in ({"rate": 0.0}, {"weights": 0.0}):
        at_once, singly = both_ways(learner(**choices))
        torch.testing.assert_close(at_once, singly, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(at_once, running)
    at_once, singly = both_ways(learner(variational=False, weights=0.0))
    assert not torch.allclose(at_once, singly)


def test_a_mask_is_of_a_row_and_a_place_and_leaves_the_mean_as_it_is():
    dropout = Dropout(0.25)
    dropout.lasting = True
    x = torch.ones(400, 7, 50)
    y = dropout(x, "input")
    assert torch.equal(y, y[:, :1].expand_as(y)), "the same at every token"
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    assert not torch.equal(y[0], y[1])
    assert torch.equal(dropout(x[:, 0], "input"), y[:, 0])
    assert not torch.equal(dropout(x, "output"), y)


def test_weights_that_are_left_out_get_no_gradient():
    model = learner(rate=0.0)
    logits, _ = model(TOKENS, model.start(4))
    logits.square().sum().backward()
    (mask,) = model.stack.weight_dropout.masks.values()
    gradient = model.stack.rnn.weight_hh_l0.grad
    assert (gradient[mask == 0] == 0).all()
    assert (gradient[mask > 0] != 0).all()
    assert mask.unique().tolist() == [0, 2]


@pytest.mark.parametrize("task", TASKS)
def test_what_is_stored_and_exported_does_not_know_of_it(task):
    plain, model = (some_checkpoint(task).model for _ in range(2))
    leave_out(model, variational=True, weights=0.5)
    assert model.state_dict().keys() == plain.state_dict().keys()
    expected, found = build(plain), build(model.train())
    assert {role: proto.SerializeToString() for role, proto in expected.protos.items()} == {
        role: proto.SerializeToString() for role, proto in found.protos.items()
    }

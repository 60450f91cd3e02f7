"""The language model carries its state in the open, and ties what it says it ties."""

from __future__ import annotations

import pytest
import torch

from rnn_edge.modules import LanguageModel
from rnn_edge.spec import LanguageModelSpec


def build(**changes) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(
        LanguageModelSpec(**{"vocab_size": 9, "embedding_size": 4, "hidden_size": 6, **changes})
    ).eval()


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_reading_in_two_pieces_equals_reading_at_once(cell):
    model, tokens = build(cell=cell, num_layers=2), torch.randint(9, (3, 8))
    whole, after = model(tokens, model.start(3))
    first, state = model(tokens[:, :3], model.start(3))
    second, state = model(tokens[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(state, after)


def test_the_state_that_went_in_is_left_alone():
    model = build()
    state = model.start(2)
    model(torch.zeros(2, 3, dtype=torch.int64), state)
    assert not any(part.any() for part in state)


@pytest.mark.parametrize(("embedding_size", "has_bridge"), [(4, True), (6, False)])
def test_tied_weights_are_one_tensor(embedding_size, has_bridge):
    model = build(tied=True, embedding_size=embedding_size)
    assert model.embedding.weight is model.output.weight
    assert (model.bridge is not None) == has_bridge
    names = [name for name, _ in model.named_parameters()]
    assert "output.weight" not in names  # counted once, under embedding.weight


def test_dropout_works_in_training_only():
    model, tokens = build(dropout=0.5), torch.zeros(1, 4, dtype=torch.int64)
    once, _ = model(tokens, model.start(1))
    assert torch.equal(once, model(tokens, model.start(1))[0])
    model.train()
    assert not torch.equal(once, model(tokens, model.start(1))[0])

"""What is measured on a text can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import tiny_checkpoint
from torch import nn

from rnn_edge.text import Tokenizer
from rnn_edge.training.evaluation import Evaluation, evaluate

TOKENIZER = Tokenizer.train("characters", ["abc"])  # 260 tokens: the end, 256 bytes, a, b, c


class Scripted(nn.Module):
    """Foretells with certainty from the number of tokens it has read, which lives in its state alone."""

    def __init__(self, script, certainty=50.0):
        super().__init__()
        self.script, self.certainty = script, certainty

    def start(self, batch):
        return (torch.zeros(1, batch, 1),)

    def forward(self, tokens, state):
        (read,) = state
        logits = torch.zeros(*tokens.shape, TOKENIZER.vocab_size)
        for time in range(tokens.shape[1]):
            for row in range(tokens.shape[0]):
                logits[row, time, self.script[int(read[0, row, 0]) + time]] = self.certainty
        return logits, (read + tokens.shape[1],)


def test_an_undecided_model_hesitates_among_the_whole_vocabulary():
    found = evaluate(Scripted([0] * 9, certainty=0.0), TOKENIZER, ["abc", "ab"])
    assert found.perplexity == pytest.approx(TOKENIZER.vocab_size)
    assert found.tokens == 6  # a b c </s> a b
    assert found.characters == 5
    assert found.bits_per_character == pytest.approx(math.log2(TOKENIZER.vocab_size) * 6 / 5)


def test_the_state_is_carried_through_a_long_text():
    """The model is right everywhere only if its state survives the cuts between windows."""
    text = "abcacb" * 100
    found = evaluate(Scripted(TOKENIZER.encode(text)), TOKENIZER, [text])
    assert found.perplexity == pytest.approx(1.0)
    assert (found.top1, found.top3) == (1.0, 1.0)


def test_one_wrong_guess_in_four_is_counted():
    script = TOKENIZER.encode("abca")
    found = evaluate(Scripted(script), TOKENIZER, ["abcb"])
    assert found.top1 == 0.75
    assert found.loss == pytest.approx(50 / 4, abs=1e-3)


def test_evaluating_leaves_a_model_in_training_mode():
    checkpoint = tiny_checkpoint(dropout=0.5)
    checkpoint.model.train()
    first = evaluate(checkpoint.model, checkpoint.tokenizer, ["the cat"])
    assert checkpoint.model.training
    assert first == evaluate(checkpoint.model, checkpoint.tokenizer, ["the cat"])


def test_a_hopeless_model_has_infinite_perplexity_rather_than_an_overflow():
    assert Evaluation(loss=1e5, top1=0, top3=0, tokens=1, characters=1).perplexity == math.inf

"""The gate measures what it says, by hand where that is possible."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rnn_edge.errors import ExportError
from rnn_edge.exporters.quality import compare


class Bigrams:
    """Predicts from the last token alone, by a table of logits; its state is that token."""

    def __init__(self, table):
        self.table = np.asarray(table, np.float32)

    def start(self, batch):
        return (np.zeros((1, batch, 1), np.float32),)

    def step(self, tokens, state):
        assert tokens.shape[1] == 1 or state[0].shape[1] == 1
        return self.table[tokens[:, -1]], (tokens[None, :, -1:].astype(np.float32),)


UNIFORM = Bigrams(np.zeros((4, 4)))
LOADED = Bigrams(np.log([[0.7, 0.1, 0.1, 0.1]] * 4))
TOKENS = np.array([1, 2, 3, 0] * 50)


def test_a_model_equals_itself():
    quality = compare(LOADED, LOADED, TOKENS)
    assert quality.loss == 0
    assert (quality.top1_agreement, quality.same_greedy_texts, quality.same_beam_texts) == (1, 1, 1)
    assert quality.kl_divergence == pytest.approx(0, abs=1e-7)


def test_the_figures_by_hand():
    """A quarter of the tokens are 0, with probability 0.7; the others have 0.1."""
    quality = compare(UNIFORM, LOADED, TOKENS)
    assert quality.perplexity_before == pytest.approx(4)
    share = np.mean(TOKENS[1 : quality.tokens + 1] == 0)
    expected = math.exp(-(share * math.log(0.7) + (1 - share) * math.log(0.1)))
    assert quality.perplexity_after == pytest.approx(expected, rel=2e-2)
    assert quality.loss == pytest.approx(quality.perplexity_after / 4 - 1)
    assert quality.kl_divergence == pytest.approx(-(math.log(0.7) + 3 * math.log(0.1)) / 4 - math.log(4), rel=1e-5)


def test_too_little_text_is_refused():
    with pytest.raises(ExportError, match="5 tokens of held-out text are too few"):
        compare(UNIFORM, LOADED, np.arange(5) % 4)

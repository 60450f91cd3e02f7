"""The gate measures what it says, by hand where that is possible."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rnn_edge.errors import ExportError
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.quality import compare, compare_labels, compare_texts, recall


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


def test_recall_by_hand():
    """Of two tokens that follow, one is as probable as it was, and for the other the first choice has changed."""
    exact = np.log([[0.4, 0.3, 0.2, 0.1]] * 4)
    rough = exact.copy()
    rough[1] = np.log([0.1, 0.3, 0.2, 0.4])
    found = recall(Opened(None, Bigrams(exact)), Opened(None, Bigrams(rough)), {"tokens": np.array([0, 1] * 40)})
    assert (found.recall_at_1, found.recall_at_3, found.recall_at_20) == pytest.approx((1 / 2, 5 / 6, 1))
    assert found.lost == pytest.approx(1 / 2)
    assert found.log_prob_error_median == pytest.approx(0)
    assert found.log_prob_error_p99 == pytest.approx(math.log(4), rel=1e-5)


def test_too_little_text_is_refused():
    with pytest.raises(ExportError, match="5 tokens of held-out text are too few"):
        compare(UNIFORM, LOADED, np.arange(5) % 4)


class Labels:
    """Scores each text by its first token alone, by a table; or each of its words."""

    inputs = ("tokens",)

    def __init__(self, table, *, by_word: bool = False):
        self.table, self.by_word = np.asarray(table, np.float32), by_word
        self.outputs = ("labels", "logits", "log_prob") if by_word else ("logits",)

    def run(self, tokens):
        logits = self.table[np.maximum(tokens, 0)] if self.by_word else self.table[tokens[:, 0]]
        return (np.zeros(tokens.shape, np.int64), logits, np.zeros(len(tokens))) if self.by_word else (logits,)


EVEN, SURE = np.zeros((3, 2)), np.log([[0.9, 0.1]] * 3)


def test_labels_of_texts_by_hand():
    """Of a hundred texts, seventy have label 0."""
    held_out = {"tokens": np.ones((100, 3), np.int64), "labels": np.arange(100) % 10 // 7}
    quality = compare_labels(Labels(EVEN), Labels(SURE), held_out)
    assert quality.tokens == 100
    assert quality.perplexity_before == pytest.approx(2)
    assert quality.perplexity_after == pytest.approx(math.exp(-(0.7 * math.log(0.9) + 0.3 * math.log(0.1))))
    assert (quality.accuracy_before, quality.accuracy_after, quality.top1_agreement) == (0.7, 0.7, 1)
    assert quality.kl_divergence == pytest.approx(math.log(0.5) - (math.log(0.9) + math.log(0.1)) / 2, rel=1e-5)
    assert quality.same_greedy_texts is None


def test_labels_of_words_by_hand():
    """Padding is no prediction; what a tagger chooses counts, not its highest score."""
    tokens = np.array([[0, 1, 2], [0, -1, -1]])
    labels = np.array([[0, 1, 0], [1, -1, -1]])
    higher_second = Labels(-SURE, by_word=True)
    quality = compare_labels(higher_second, Labels(SURE, by_word=True), {"tokens": tokens, "labels": labels})
    assert quality.tokens == 4
    assert (quality.accuracy_before, quality.accuracy_after, quality.top1_agreement) == (0.5, 0.5, 1)


class Sources:
    """Encodes a source as its length."""

    def run(self, tokens):
        return ((tokens >= 0).sum(axis=1).astype(np.float32)[None, :, None],)


class LengthThenBigrams(Bigrams):
    """Predicts the token whose number is the source's length, after any token."""

    def start(self, batch):
        raise AssertionError("a translator starts from its encoder's state")

    def step(self, tokens, state):
        return self.table[state[0][0, :, 0].astype(int)], state


def test_target_tokens_by_hand():
    source = np.array([[1, 2, -1], [1, -1, -1], [1, 2, 3]])
    target = np.array([[0, 2, 2, -1], [0, 1, -1, -1], [0, 1, 3, 3]])
    certain = np.log(np.full((4, 4), 0.1) + 0.6 * np.eye(4))
    even, sure = (Opened(Sources(), LengthThenBigrams(table)) for table in (np.zeros((4, 4)), certain))
    quality = compare_texts(even, sure, source, target)
    assert quality.tokens == 6
    assert quality.perplexity_before == pytest.approx(4)
    assert quality.perplexity_after == pytest.approx(math.exp(-(5 * math.log(0.7) + math.log(0.1)) / 6))
    assert quality.accuracy_after == pytest.approx(5 / 6)
    assert quality.same_greedy_texts == 0


def test_no_examples_are_refused():
    nothing = {"tokens": np.zeros((0, 3), np.int64), "labels": np.zeros(0, np.int64)}
    with pytest.raises(ExportError, match="no held-out examples"):
        compare_labels(Labels(EVEN), Labels(SURE), nothing)

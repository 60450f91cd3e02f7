"""Log-probs are exact whatever the scores; filters keep what they say; a draw follows the probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rnn_edge.errors import BundleError
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.scores import best, draw, log_softmax, top_k_of, top_p_of

few = st.floats(-8, 8, width=32)
scores_of = arrays.arrays(np.float32, st.integers(1, 12), elements=few)


def test_log_softmax_by_hand():
    assert log_softmax(np.log([[1, 3], [2, 2]])) == pytest.approx(np.log([[0.25, 0.75], [0.5, 0.5]]))


@given(arrays.arrays(np.float32, (3, 7), elements=st.floats(-(2.0**20), 2.0**20, width=32)))
def test_log_softmax_stands_any_size(logits):
    log_probs = log_softmax(logits)
    assert log_probs.dtype == np.float64
    assert np.exp(log_probs).sum(axis=1) == pytest.approx([1, 1, 1])
    assert (log_probs <= 0).all()


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 40)), elements=few))
def test_a_row_does_not_depend_on_its_neighbours(logits):
    """To the last bit: else a text would score differently in another batch."""
    together = log_softmax(logits)
    assert all(np.array_equal(log_softmax(row[None]), together[None, index]) for index, row in enumerate(logits))
    assert all(np.array_equal(log_softmax(row), together[index]) for index, row in enumerate(logits))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_scores_that_are_not_numbers_are_told(broken):
    with pytest.raises(BundleError, match="not numbers"):
        log_softmax(np.array([[0.0, broken]], dtype=np.float32))


@given(scores_of, st.integers(1, 14))
def test_best_is_the_head_of_the_sorted_list(scores, count):
    in_order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    assert best(scores, count).tolist() == in_order[:count]


def test_of_equals_the_lowest_index_is_best():
    assert best(np.array([1.0, 2.0, 2.0, 2.0, 0.0]), 2).tolist() == [1, 2]


def test_what_is_out_is_never_best():
    assert best(np.array([-math.inf, 0.0, -math.inf]), 2).tolist() == [1]


@given(scores_of, st.integers(0, 14))
def test_top_k_keeps_k(scores, top_k):
    kept = best(scores, top_k) if top_k else range(len(scores))
    assert sorted(kept) == top_k_of(scores, top_k).tolist()


@given(scores_of, st.floats(1e-6, 1.0))
def test_top_p_keeps_the_fewest_that_reach_p(scores, top_p):
    kept = top_p_of(scores, top_p)
    probs = np.exp(log_softmax(scores))
    in_order = sorted(range(len(scores)), key=lambda index: (-probs[index], index))
    assert sorted(in_order[: len(kept)]) == kept.tolist()
    assert probs[kept].sum() >= top_p - 1e-6
    assert top_p == 1.0 or probs[in_order[: len(kept) - 1]].sum() < top_p


def test_top_p_by_hand():
    scores = np.log([0.1, 0.5, 0.2, 0.2])
    assert top_p_of(scores, 0.5).tolist() == [1]
    assert top_p_of(scores, 0.6).tolist() == [1, 2]
    assert top_p_of(scores, 0.75).tolist() == [1, 2, 3]


def test_a_temperature_of_one_half_squares_the_odds():
    generator, options = np.random.default_rng(0), GenerateOptions(do_sample=True, temperature=0.5)
    drawn = [draw(np.log([0.25, 0.75]), options, generator) for _ in range(2000)]
    assert sum(drawn) / 2000 == pytest.approx(0.9, abs=0.03)


def test_draws_follow_the_probabilities():
    generator = np.random.default_rng(0)
    options = GenerateOptions(do_sample=True)
    scores = np.log(np.array([0.1, 0.0001, 0.6, 0.2999], dtype=np.float32))
    drawn = np.bincount([draw(scores, options, generator) for _ in range(4000)], minlength=4) / 4000
    assert drawn == pytest.approx([0.1, 0, 0.6, 0.3], abs=0.03)


@given(scores_of, st.integers(0, 99), st.sampled_from([1e-6, 1.0, 1e6]), st.integers(1, 3), st.floats(0.1, 1))
def test_a_draw_stays_within_the_filters(scores, seed, temperature, top_k, top_p):
    options = GenerateOptions(do_sample=True, temperature=temperature, top_k=top_k, top_p=top_p)
    assert draw(scores, options, np.random.default_rng(seed)) in best(scores, top_k)


def test_top_k_1_is_greedy():
    options = GenerateOptions(do_sample=True, top_k=1)
    assert {draw(np.array([1.0, 5.0, 4.0]), options, np.random.default_rng(seed)) for seed in range(20)} == {1}


def test_top_p_is_taken_of_what_top_k_left():
    """Of 0.4 and 0.3 alone, the first has more than half."""
    options = GenerateOptions(do_sample=True, top_k=2, top_p=0.5)
    scores = np.log([0.4, 0.3, 0.2, 0.1])
    assert {draw(scores, options, np.random.default_rng(seed)) for seed in range(20)} == {0}


def test_the_lowest_draw_is_not_what_was_ruled_out():
    class Lowest:
        def random(self):
            return 0.0

    assert draw(np.array([-np.inf, 1.0]), GenerateOptions(do_sample=True), Lowest()) == 1

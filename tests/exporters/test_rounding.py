"""Rounded weights stay near the true ones, fit their bytes, and cannot overflow on any processor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rnn_edge.exporters.rounding import BLOCK, round_blocks, round_columns, round_rows

matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 70), st.integers(1, 5)),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


@given(matrices)
def test_eight_bits_are_off_by_at_most_half_a_step(weight):
    rounded = round_columns(weight)
    assert (np.abs(rounded.restore() - weight) <= rounded.scales * 0.5001 + 1e-30).all()


@given(matrices)
def test_neighbours_never_overflow_sixteen_bits(weight):
    """255 × (w₁ + w₂) must fit, whatever the weights: then saturating processors give the same as all others."""
    values = round_columns(weight).values.astype(np.int64)
    if len(values) % 2:
        values = np.concatenate([values, np.zeros_like(values[:1])])
    worst = 255 * np.abs(values[::2] + values[1::2])
    assert worst.max() <= 2**15 - 1
    assert np.abs(values).max() <= 127


@given(matrices)
def test_rows_are_off_by_at_most_half_a_step_of_their_own(table):
    rounded = round_rows(table)
    assert (np.abs(rounded.restore().T - table) <= rounded.scales[:, None] * 0.5001 + 1e-30).all()
    assert np.abs(rounded.values.astype(int)).max() <= 127


@given(matrices)
def test_four_bits_are_off_by_at_most_a_step(weight):
    """A step is an eighth of a block's largest weight, or less; the largest itself may lose 1.5 steps of 8.5."""
    rounded = round_blocks(weight)
    assert rounded.restore().shape == weight.shape
    padded = np.zeros((rounded.scales.shape[1] * BLOCK, weight.shape[1]), np.float32)
    padded[: len(weight)] = weight
    largest = np.abs(padded.reshape(-1, BLOCK, weight.shape[1])).max(axis=1).repeat(BLOCK, axis=0)[: len(weight)]
    assert (np.abs(rounded.restore() - weight) <= largest * (1.5 / 8.5) * 1.001 + 1e-6).all()


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 7.0, -8.0])
def test_equal_weights_are_kept(value):
    """Neighbours of the same size share what one may have, so they are the worst case of 8 bits."""
    weight = np.full((40, 3), value, np.float32)
    np.testing.assert_allclose(round_columns(weight).restore(), weight, rtol=1 / 126)
    np.testing.assert_allclose(round_rows(weight).restore(), weight.T, rtol=1e-3)
    np.testing.assert_allclose(round_blocks(weight).restore(), weight, rtol=1e-3)


def test_normal_weights_lose_a_percent_in_eight_bits_and_a_tenth_in_four():
    weight = np.random.default_rng(0).normal(size=(670, 100)).astype(np.float32)

    def error(restored):
        return np.linalg.norm(restored - weight) / np.linalg.norm(weight)

    assert error(round_columns(weight).restore()) < 0.011
    assert error(round_blocks(weight).restore()) < 0.09

"""What is seen of a text, by hand; what a cell explains of it, against numpy's correlation."""

from __future__ import annotations

import numpy as np
import pytest

from rnn_edge.inspection.properties import PROPERTIES, after_each, explained

TEXT = '  f("a b")\n\t[x'


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("inside quotes", [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]),
        ("position in line", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 1, 2, 3]),
        ("bracket depth", [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1]),
        ("indentation", [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 1, 1, 1]),
    ],
)
def test_properties_by_hand(name, expected):
    found = PROPERTIES[name](TEXT)
    assert found == [*expected[: len(TEXT)]]
    assert len(found) == len(TEXT)


def test_a_bracket_that_was_never_opened_closes_nothing():
    assert PROPERTIES["bracket depth"](")(a") == [0, 1, 1]


def test_a_piece_has_the_value_of_its_last_character_and_an_empty_one_that_of_the_piece_before():
    pieces = ["", "ab", "", "c"]
    assert after_each(pieces, [5, 6, 7]).tolist() == [0, 6, 6, 7]


def test_what_is_explained_is_the_squared_correlation():
    chance = np.random.default_rng(0)
    cells = chance.normal(size=(50, 4)).astype(np.float32)
    cells[:, 3] = 0.5
    values = 2 * cells[:, 1] + chance.normal(size=50)
    expected = [np.corrcoef(cells[:, cell], values)[0, 1] ** 2 for cell in range(3)]
    assert explained(cells, values).tolist() == pytest.approx([*expected, 0.0])
    assert explained(cells, values * 0 + 3) is None
    assert explained(cells, -7.0 * cells[:, 2] + 1)[2] == pytest.approx(1)

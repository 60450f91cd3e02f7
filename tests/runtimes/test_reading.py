"""Texts of like length are read together, a bounded number at a time, and come back in their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_edge.errors import TextError
from rnn_edge.runtimes.reading import as_texts, encode, in_batches, pad
from rnn_edge.text import Tokenizer


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=40), st.integers(1, 5))
def test_every_item_is_read_once_and_results_keep_their_order(shapes, rows_at_once):
    groups: list[list[int]] = []

    def read(items):
        groups.append(items)
        return [f"item {item}" for item in items]

    items = list(range(len(shapes)))
    assert in_batches(items, shapes, read, rows_at_once=rows_at_once) == [f"item {item}" for item in items]
    for group in groups:
        assert 1 <= len(group) <= rows_at_once
        cells = len(group) * max(shapes[row][0] for row in group) * max(shapes[row][1] for row in group)
        assert len(group) == 1 or cells <= 2**14


def test_rows_of_like_length_are_read_together():
    lengths = [9, 1, 9, 1]
    groups = []
    in_batches(lengths, [(length,) for length in lengths], lambda group: groups.append(group) or group, rows_at_once=2)
    assert groups == [[1, 1], [9, 9]]


def test_rows_are_padded_on_the_right():
    padded = pad([[1, 2, 3], [4], [5, 6]])
    assert padded.dtype == np.int64
    assert padded.tolist() == [[1, 2, 3], [4, -1, -1], [5, 6, -1]]


def test_an_empty_text_is_the_end_token_where_there_is_one():
    tokenizer = Tokenizer.characters(["a", "</s>", "b"])
    assert encode(tokenizer, "") == encode(tokenizer, "", with_end=True) == [1]
    assert encode(tokenizer, "ab") == [0, 2]
    assert encode(tokenizer, "ab", with_end=True) == [0, 2, 1]
    endless = Tokenizer.characters(["a", "b"])
    assert encode(endless, "ab", with_end=True) == [0, 1]
    with pytest.raises(TextError, match="no end token"):
        encode(endless, "")


@pytest.mark.parametrize("texts", [b"bytes", 5, ["a", None]])
def test_what_is_no_text_is_refused(texts):
    with pytest.raises(TextError, match="a text must be a str, got"):
        as_texts(texts)

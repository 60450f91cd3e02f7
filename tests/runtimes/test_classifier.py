"""A classifier ranks its labels by probability; each text as it would be alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import RowReader, about

from rnn_edge.errors import OptionsError, TextError
from rnn_edge.runtimes.classifier import Classifier, Label
from rnn_edge.text import Tokenizer

TOKENIZER = Tokenizer.characters(["</s>", "a", "b", "c"])


def counter() -> tuple[Classifier, RowReader]:
    """Its scores are how often each letter comes, so that a probability is e**count over their sum."""
    reader = RowReader(lambda row: np.array([row.count(1), row.count(2), row.count(3)], np.float32))
    return Classifier(reader, TOKENIZER, ["many a", "many b", "many c"]), reader


def test_labels_come_with_their_probabilities_best_first():
    model, _ = counter()
    labels = model.classify("bbc")
    assert [each.label for each in labels] == ["many b", "many c", "many a"]
    total = math.exp(2) + math.exp(1) + 1
    assert [each.probability for each in labels] == about([math.exp(2) / total, math.exp(1) / total, 1 / total])
    assert model.classify("bbc", top_k=1) == labels[:1]
    assert model.classify("ba", top_k=2) == [Label("many a", about(labels_of(1, 1, 0)[0])), model.classify("ba")[1]]


def labels_of(*scores: float) -> list[float]:
    return [math.exp(score) / sum(map(math.exp, scores)) for score in scores]


@given(st.lists(st.text("abc", max_size=9), max_size=9))
def test_a_text_gives_in_any_batch_what_it_gives_alone(texts):
    model, _ = counter()
    assert model.classify(texts) == [model.classify(text) for text in texts]
    expected = [[text.count(letter) for letter in "abc"] for text in texts]
    scores = model.scores(texts)
    assert (scores.dtype, scores.shape, scores.tolist()) == (np.float32, (len(texts), 3), expected)


def test_many_texts_are_read_in_bounded_batches_of_like_length():
    model, reader = counter()
    texts = ["a" * (1 + number % 300) for number in range(1000)]
    assert model.scores(texts)[:, 0].tolist() == [len(text) for text in texts]
    assert all(rows <= 64 and rows * time <= 2**14 for rows, time in reader.batches)
    assert sum(rows * time for rows, time in reader.batches) < 1.1 * sum(map(len, texts))


def test_an_empty_text_is_read_as_the_end_token():
    seen = []
    model = Classifier(RowReader(lambda row: seen.append(row) or np.zeros(1, np.float32)), TOKENIZER, ["only"])
    assert model.classify(["", "ab"]) == [[Label("only", 1.0)]] * 2
    assert sorted(seen) == [(0,), (1, 2)]


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True])
def test_a_wrong_top_k_is_refused(top_k):
    with pytest.raises(OptionsError, match="top_k must be"):
        counter()[0].classify("a", top_k=top_k)


def test_an_unknown_character_is_refused():
    with pytest.raises(TextError, match="does not know 'x'"):
        counter()[0].classify("ax")

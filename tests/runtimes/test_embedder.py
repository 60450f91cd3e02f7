"""A sentence encoder's vectors, and their cosines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import RowReader

from rnn_edge.runtimes.embedder import Embedder
from rnn_edge.text import Tokenizer


@pytest.fixture(scope="module")
def model() -> Embedder:
    """Its vectors count two letters."""
    reader = RowReader(lambda row: np.array([row.count(1), row.count(2)], np.float32))
    return Embedder(reader, Tokenizer.characters(["</s>", "a", "b"]), 2)


@given(texts=st.lists(st.text("ab", max_size=9), max_size=9))
def test_a_text_gives_in_any_batch_what_it_gives_alone(model, texts):
    vectors = model.embed(texts)
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(texts), 2))
    assert vectors.tolist() == [[text.count("a"), text.count("b")] for text in texts]
    assert all(np.array_equal(vector, model.embed(text)) for vector, text in zip(vectors, texts, strict=True))


def test_similarity_is_the_cosine(model):
    assert model.similarity("ab", "aabb") == pytest.approx(1)
    assert model.similarity("a", "b") == 0
    assert model.similarity("aaab", "abbb") == pytest.approx(0.6)
    assert model.similarity("", "a") == 0, "zeros are like nothing"


def test_similarity_takes_several_texts_or_vectors(model):
    expected = np.array([[1, 0], [0.5**0.5, 0.5**0.5], [0, 1]], np.float32)
    texts, others = ["aa", "ab", "b"], ["a", "b"]
    np.testing.assert_allclose(model.similarity(texts, others), expected, atol=1e-6)
    np.testing.assert_allclose(model.similarity(model.embed(texts), others), expected, atol=1e-6)
    np.testing.assert_allclose(model.similarity(model.embed("ab"), others), expected[1], atol=1e-6)
    np.testing.assert_allclose(model.similarity(texts, "b"), expected[:, 1], atol=1e-6)

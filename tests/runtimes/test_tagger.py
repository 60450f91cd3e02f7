"""A tagger labels each word between white space; each sentence as it would be alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import RowReader, about

from rnn_edge.errors import BundleError, TextError
from rnn_edge.runtimes.tagger import Span, Tagger, spans_of
from rnn_edge.text import Tokenizer

WORDS = Tokenizer.whitespace(["</s>", "<unk>", "the", "cat", "sat"])
LETTERS = Tokenizer.train("characters", ["catshe"])
LABELS = ["O", "B-X", "I-X"]


def parity_tagger(**choices) -> Tagger:
    """Its labels are a word's id modulo 3, each with 2 more than the others; a sentence has minus its length."""
    reader = RowReader(
        lambda row: np.array([token % 3 for token in row]),
        lambda row: 2 * np.eye(3, dtype=np.float32)[[token % 3 for token in row]],
        lambda row: np.float32(-len(row)),
    )
    return Tagger(reader, WORDS, LABELS, **choices)


def spelling_tagger() -> tuple[Tagger, RowReader]:
    """Its labels are the number of a word's letters, from 1 to 3, less one."""
    reader = RowReader(
        lambda row, words: np.array([min(len(word), 3) - 1 for word in words]),
        lambda row, words: np.zeros((len(row), 3), np.float32),
        lambda row, words: np.float32(0),
    )
    return Tagger(reader, WORDS, LABELS, characters=LETTERS, together=True), reader


def test_each_word_gets_its_label_and_probability():
    found = parity_tagger().tag(" the cat\tmiaows\n")
    assert found.words == ("the", "cat", "miaows")
    assert found.labels == ("I-X", "O", "B-X")
    assert found.log_prob == -3
    assert found.probabilities == about((math.exp(2) / (math.exp(2) + 2),) * 3)


def test_labels_that_were_chosen_together_have_no_probability_alone():
    assert parity_tagger(together=True).tag("the cat").probabilities is None


words = st.lists(st.text("cats", min_size=1, max_size=5), max_size=6)


@given(st.lists(words, max_size=6), st.booleans())
def test_a_sentence_gives_in_any_batch_what_it_gives_alone(sentences, spelled):
    model = spelling_tagger()[0] if spelled else parity_tagger()
    found = model.tag(sentences)
    assert found == [model.tag(" ".join(sentence)) for sentence in sentences]
    assert found == model.tag([" ".join(sentence) for sentence in sentences])
    assert [list(each.words) for each in found] == sentences


def test_letters_reach_the_network_word_by_word():
    model, _ = spelling_tagger()
    found = model.tag(["a ca cat", "", "hat", "eh e cats a"])
    assert [each.labels for each in found] == [("O", "B-X", "I-X"), (), ("I-X",), ("B-X", "O", "I-X", "O")]


def test_a_long_word_is_not_padded_for_everybody():
    model, reader = spelling_tagger()
    model.tag(["a " * 50 + "a" * 5000, *["a " * 50] * 10])
    assert sorted(reader.batches) == [(1, 51), (10, 50)]


def test_a_sentence_without_words_has_nothing_to_read():
    model = parity_tagger()
    assert (model.tag(" ").words, model.tag("").labels, model.tag("").log_prob) == ((), (), 0.0)
    assert model.tag([]) == []


@pytest.mark.parametrize("text", [None, 5, [None], [["a b"]], [["a", ""]], [["a", b"b"]], [{"a"}]])
def test_what_is_no_sentence_is_refused(text):
    with pytest.raises(TextError, match="must"):
        parity_tagger().tag(text)


def test_words_are_what_stands_between_white_space():
    with pytest.raises(BundleError, match="this one has characters"):
        Tagger(RowReader(), LETTERS, LABELS)


@pytest.mark.parametrize(("labels", "spans"), [
    ("O O", []),
    ("B-A I-A O B-A", [("A", 0, 2), ("A", 3, 4)]),
    ("B-A B-A I-A", [("A", 0, 1), ("A", 1, 3)]),
    ("I-A I-A I-B I-A", [("A", 0, 2), ("B", 2, 3), ("A", 3, 4)]),
    ("B-A O I-A", [("A", 0, 1), ("A", 2, 3)]),
    ("B-A-B I-A-B", [("A-B", 0, 2)]),
    ("NOUN VERB B I -X", []),
])  # fmt: skip
def test_spans_are_read_as_in_conll(labels, spans):
    assert spans_of(labels.split()) == [Span(*span) for span in spans]


def test_a_sentence_tells_its_spans():
    assert parity_tagger().tag("cat miaows the sat").spans == [Span("X", 1, 3), Span("X", 3, 4)]

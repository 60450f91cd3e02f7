"""Examples come out of plain files whole, and every epoch learns from each of them once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_edge.errors import TextError, TrainingError
from rnn_edge.training.examples import Batches, pad, read_columns, read_labelled, read_pairs


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.write_bytes(text.encode())
    return path


JUDGED = "x\ty\n"


def test_pairs_come_from_one_file_with_tabs():
    examples = read_pairs([write("a", "ein Haus\ta house\r\n\nder Hund\tthe dog\n")], [write("b", JUDGED)])
    assert examples.train == (("ein Haus", "a house"), ("der Hund", "the dog"))
    assert examples.held_out == (("x", "y"),)
    assert examples.files == (("a", 36), ("b", 4))


def test_pairs_come_from_two_aligned_files():
    examples = read_pairs([write("a", "eins\nzwei\n"), write("b", "one\ntwo\n")], [write("c", JUDGED)])
    assert examples.train == (("eins", "one"), ("zwei", "two"))


def test_texts_come_with_their_labels():
    assert read_labelled([write("a", "good\ta fine film\n")], [write("b", JUDGED)]).train == (("a fine film", "good"),)


def test_words_come_with_their_labels():
    conll = "-DOCSTART- O\n\nPeter B-PER\nsleeps O\n\n\nWhy O\n"
    examples = read_columns([write("a", conll)], [write("b", "x y\n")])
    assert examples.train == (("Peter sleeps", "B-PER O"), ("Why", "O"))
    three = read_columns([write("c", "the\tDET\tDT\n")], [write("d", "x\ty\tz\n")], label_column=2)
    assert three.train == (("the", "DET"),)


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (read_pairs, "one\ttwo\nthree\n", "line 2 of a.*wanted a source, a tab and a target"),
        (read_labelled, "good film\n", "line 1 of a.*wanted a label, a tab and a text"),
        (read_columns, "the DET\nword\n", "line 2 of a has 1 columns: wanted a word and its label"),
        (read_columns, "the word\tDET\n", "without blanks"),
    ],
)
def test_a_line_of_another_form_is_refused_by_its_number(read, text, words):
    with pytest.raises(TextError, match=words):
        read([write("a", text)])


def test_files_that_are_not_aligned_are_refused():
    with pytest.raises(TrainingError, match="a has 2 lines and b has 1"):
        read_pairs([write("a", "one\ntwo\n"), write("b", "eins\n")])
    with pytest.raises(TrainingError, match="got 3 files"):
        read_pairs([Path("a")] * 3)


def test_every_twentieth_is_held_out_where_no_file_is():
    lines = [f"label{number % 2}\ttext {number}" for number in range(100)]
    examples = read_labelled([write("a", "\n".join(lines))])
    assert len(examples.train) == 95
    assert [text for text, _ in examples.held_out] == [f"text {number}" for number in range(0, 100, 20)]
    with pytest.raises(TrainingError, match="too few"):
        read_labelled([write("a", lines[0])])


def test_the_fingerprint_tells_examples_apart():
    one, other = (read_pairs([write("a", text)], [write("b", JUDGED)]) for text in ("a\tb\n", "a\tc\n"))
    assert one.fingerprint() != other.fingerprint()


@given(
    lengths=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_an_epoch_has_every_example_once_and_another_order_than_the_last(lengths, batch_size, seed):
    batches = Batches(lengths, [1] * len(lengths), batch_size=batch_size, seed=seed)
    first, second = ([batches[epoch * len(batches) + step] for step in range(len(batches))] for epoch in (0, 1))
    for epoch in (first, second):
        assert sorted(index for batch in epoch for index in batch) == list(range(len(lengths)))
        assert max(map(len, epoch)) <= batch_size
    again = Batches(lengths, [1] * len(lengths), batch_size=batch_size, seed=seed)
    assert first == [again[step] for step in range(len(first))]


def test_batches_differ_between_epochs_and_most_have_one_length():
    lengths = [(1 + index % 7,) for index in range(700)]
    batches = Batches(lengths, [1] * len(lengths), batch_size=16, seed=0)
    first, second = ([batches[epoch * len(batches) + step] for step in range(len(batches))] for epoch in (0, 1))
    assert first != second
    assert sum(len({lengths[index] for index in batch}) == 1 for batch in first) >= 42


def test_rows_are_filled_behind_their_ends():
    assert pad([[1, 2, 3], [4], []]).tolist() == [[1, 2, 3], [4, -1, -1], [-1, -1, -1]]

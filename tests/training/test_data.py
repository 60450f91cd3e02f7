"""Text files become contiguous rows of tokens without a character lost, added or changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnn_edge.errors import TextError, TrainingError
from rnn_edge.text import Tokenizer
from rnn_edge.training.data import Corpus, read_corpus, token_rows, token_stream

HERE = Path()
TOKENIZER = Tokenizer.train("characters", ["abc\n"])


def write(name: str, content: str | bytes) -> Path:
    path = HERE / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_line_ends_survive():
    text = "one\r\ntwo\rthree\n\n"
    assert read_corpus([write("a", text)], held_out=[write("b", "x")]).train == (text,)


def test_a_byte_order_mark_is_not_text():
    assert read_corpus([write("a", "\ufeffone")], held_out=[write("b", "x")]).train == ("one",)


def test_lines_are_documents_and_blank_ones_are_none():
    found = read_corpus([write("a", "one\r\n\n  \n two\n")], held_out=[write("b", "x\ny")], lines=True)
    assert found.train == ("one", " two")
    assert found.held_out == ("x", "y")


def test_files_are_remembered_by_base_name_and_size():
    assert read_corpus([write("a", "öne")], held_out=[write("b", "x")]).files == (("a", 4), ("b", 1))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"abc\xe4def", r"a is not UTF-8: invalid continuation byte at byte 3; convert it"),
        (b"", r"a is empty: name a file with text"),
        (b"\xef\xbb\xbf", r"a is empty"),
    ],
)
def test_a_file_without_utf8_text_is_named(content, problem):
    with pytest.raises(TextError, match=problem):
        read_corpus([write("a", content)])


def test_blank_lines_alone_are_no_text():
    with pytest.raises(TextError, match="a holds blank lines only"):
        read_corpus([write("a", "\n \r\n")], lines=True)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_named(name):
    with pytest.raises(TextError, match="cannot read"):
        read_corpus([HERE / name])


def test_one_file_is_cut_at_a_line_end_near_its_end():
    text = "a line of words\n" * 100
    found = read_corpus([write("a", text)])
    assert "".join(found.train + found.held_out) == text
    assert found.train[0].endswith("\n")
    assert len(found.held_out[0]) / len(text) == pytest.approx(0.05, abs=0.01)


def test_whole_documents_are_held_out_where_one_ends_near_there():
    text = "\n".join(f"line {number:03}" for number in range(100))
    found = read_corpus([write("a", text)], lines=True)
    assert found.held_out == tuple(f"line {number:03}" for number in range(95, 100))


def test_a_single_character_is_too_little():
    with pytest.raises(TrainingError, match="too little to learn from and hold some out"):
        read_corpus([write("a", "x")])


def test_a_file_cannot_be_learnt_and_held_out():
    with pytest.raises(TrainingError, match="a is both learnt from and held out"):
        read_corpus([write("b", "x"), write("a", "y")], held_out=[HERE.absolute() / "a"])


def test_no_file_is_too_little():
    with pytest.raises(TrainingError, match="name at least one file"):
        read_corpus([])


@given(st.lists(st.text("ab\n", min_size=1, max_size=40), min_size=1, max_size=40))
def test_holding_out_loses_nothing_and_leaves_both_parts_some_text(documents):
    text = "".join(documents)
    if len(text) < 2:
        return
    paths = [write(f"{number}", document) for number, document in enumerate(documents)]
    found = read_corpus(paths)
    assert "".join(found.train + found.held_out) == text
    assert all(found.train)
    assert all(found.held_out)
    assert found.train
    assert found.held_out


def test_the_end_token_stands_before_every_document():
    end, a, b, c = TOKENIZER.end_id, *TOKENIZER.encode("abc")
    assert token_stream(TOKENIZER, ["ab", "c"]).tolist() == [end, a, b, end, c]


def test_a_tokenizer_without_end_token_adds_nothing():
    assert token_stream(Tokenizer.characters("ab"), ["ab", "b"]).tolist() == [0, 1, 1]


@given(length=st.integers(2, 200), batch=st.integers(1, 50), shortest=st.integers(1, 50), longest=st.integers(1, 50))
def test_windows_of_rows_are_the_stream_in_order(length, batch, shortest, longest):
    """Glued together, the windows of each row are a stretch of the stream, and the next row begins where it ends."""
    rows = token_rows(torch.arange(length), batch=batch, shortest=shortest)
    windows = rows.windows(longest)
    inputs = torch.cat([window for window, _ in windows], 1)
    targets = torch.cat([window for _, window in windows], 1)
    assert inputs.flatten().tolist() == list(range(inputs.numel()))
    assert torch.equal(targets, inputs + 1)
    assert length - 1 - inputs.numel() < rows.batch <= batch
    assert max(window.shape[1] for window, _ in windows) <= longest


def test_a_short_stream_makes_fewer_rows():
    assert token_rows(torch.arange(101), batch=32, shortest=25).inputs.shape == (4, 25)
    assert token_rows(torch.arange(4), batch=32, shortest=25).inputs.shape == (1, 3)


def test_one_token_is_too_short():
    with pytest.raises(TrainingError, match="nothing follows it to learn"):
        token_rows(torch.arange(1), batch=1)


def test_equal_text_has_an_equal_fingerprint_and_other_text_another():
    corpora = [
        Corpus(train=("ab", "c"), held_out=("d",)),
        Corpus(train=("a", "bc"), held_out=("d",)),
        Corpus(train=("ab",), held_out=("c", "d")),
        Corpus(train=("ab", "c"), held_out=("e",)),
    ]
    assert corpora[0].fingerprint() == Corpus(train=("ab", "c"), held_out=("d",), files=(("f", 1),)).fingerprint()
    assert len({corpus.fingerprint() for corpus in corpora}) == len(corpora)

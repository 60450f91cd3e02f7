"""What is said of rows: the same as of each text alone, in files of three formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import RowReader

from rnn_edge.answers import answer
from rnn_edge.bulk.parts import Part
from rnn_edge.bulk.rows import Row, answered, write_rows
from rnn_edge.errors import TextError
from rnn_edge.runtimes import Classifier, GenerateOptions
from rnn_edge.text import Tokenizer

LETTERS = Tokenizer.characters(["</s>", "a", "b"])  # knows no other letter
MODEL = Classifier(RowReader(lambda row: np.float32([len(row), 2])), LETTERS, ["long", "short"])
OPTIONS = GenerateOptions()


def said(texts, *, first_row: int = 0) -> list[Row]:
    part = Part(0, "corpus.txt", "text", first_row, len(texts))
    return list(answered(MODEL, part, texts, OPTIONS, batch_size=3, score=False))


@given(st.lists(st.sampled_from(["a", "abab", "x", TextError("no text")]), max_size=20))
def test_each_text_is_answered_as_alone_and_those_that_cannot_be_read_say_why(texts):
    rows = said(texts, first_row=7)
    assert [row.values["row"] for row in rows] == list(range(7, 7 + len(texts)))
    for row, text in zip(rows, texts, strict=True):
        place = {"file": "corpus.txt", "row": row.values["row"]}
        if isinstance(text, TextError) or text == "x":
            error = row.values["error"]
            assert row == Row("", {**place, "error": error})
            assert error == "no text" if isinstance(text, TextError) else "'x'" in error
            assert row.refused
        else:
            ((line,),) = answer(MODEL, [text], OPTIONS, as_json=False)
            ((values,),) = answer(MODEL, [text], OPTIONS, as_json=True)
            assert row == Row(line, {**place, **json.loads(values)})
            assert not row.refused


def test_many_texts_keep_their_order():
    texts = ["a" * (1 + index % 5) for index in range(1_000)]
    assert [row.values["text"] for row in said(texts)] == texts


def test_rows_are_written_as_json_lines_and_as_text():
    rows = said(["abab", "ñ", "a"])
    write_rows(Path("rows"), rows, "jsonl", MODEL, score=False)
    assert [json.loads(line) for line in Path("rows").read_text("utf-8").splitlines()] == [row.values for row in rows]
    write_rows(Path("rows"), rows, "text", MODEL, score=False)
    assert Path("rows").read_text() == "long\n\nshort\n"  # and an empty line of what cannot be read


def test_a_line_of_text_has_no_line_ends(monkeypatch):
    monkeypatch.setattr("rnn_edge.bulk.rows.ask", lambda *_, **__: [(["two\nlines"], {"text": "two\nlines"})])
    (row,) = said(["a"])
    assert (row.line, row.values["text"]) == ("two lines", "two\nlines")


def test_parquet_has_the_same_columns_whatever_is_in_the_rows():
    parquet = pytest.importorskip("pyarrow.parquet")
    for texts in (["abab", "ñ", "a"], ["ñ"], []):
        rows = said(texts)
        write_rows(Path("rows"), rows, "parquet", MODEL, score=False)
        table = parquet.read_table("rows")
        assert table.column_names == ["file", "row", "text", "labels", "error"]
        found = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
        assert found == [row.values for row in rows]


def test_what_goes_wrong_leaves_nothing_behind():
    def rows():
        yield from said(["a"])
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_rows(Path("rows"), rows(), "jsonl", MODEL, score=False)
    assert list(Path().iterdir()) == []

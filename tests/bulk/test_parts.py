"""Corpora in parts: every row once, in order, with its text or why it has none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_edge.bulk.parts import cut, find_files, read_part
from rnn_edge.errors import CorpusError, TextError


def texts_of(file: Path, format_: str, part_rows: int, column: str = "text") -> list[str | None]:
    """Read a file part by part; what has no text is None."""
    parts = cut([(file, format_)], column, part_rows)
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.first_row for part in parts] == list(range(0, sum(part.rows for part in parts), part_rows))
    found = []
    for part in parts:
        rows = list(read_part(part, column))
        assert len(rows) == part.rows <= part_rows
        found += [None if isinstance(row, TextError) else row for row in rows]
    return found


def reasons(file: Path, format_: str, column: str = "text") -> list[str]:
    return [str(row) for part in cut([(file, format_)], column, 9) for row in read_part(part, column)]


LINES = st.lists(st.text(st.sampled_from("ab\rñ"), max_size=3), max_size=12)


@given(lines=LINES, ends=st.booleans(), part_rows=st.integers(1, 5))
def test_every_line_is_a_row(lines, ends, part_rows):
    """As `rnn-edge run` reads them: a line ends with \\n, perhaps \\r before it, and the last one may lack its end."""
    content = "\n".join(lines) + ("\n" if ends and lines else "")
    file = Path("corpus.txt")
    file.write_bytes(content.encode())
    expected = content.split("\n")
    if expected[-1] == "":
        expected.pop()
    assert texts_of(file, "text", part_rows) == [line.rstrip("\r") for line in expected]


@given(lines=LINES, part_rows=st.integers(1, 5))
def test_every_line_of_json_is_a_row(lines, part_rows):
    file = Path("corpus.jsonl")
    file.write_text("".join(json.dumps({"id": 1, "body": line}) + "\n" for line in lines))
    assert texts_of(file, "jsonl", part_rows, "body") == lines


@given(texts=st.lists(st.none() | st.text("abñ", max_size=3), max_size=12), data=st.data())
def test_every_row_of_parquet_is_a_row(texts, data):
    """However its row groups lie to the parts."""
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    file = Path("corpus.parquet")
    table = pyarrow.table({"id": pyarrow.array(range(len(texts))), "text": pyarrow.array(texts, pyarrow.string())})
    pyarrow.parquet.write_table(table, file, row_group_size=data.draw(st.integers(1, 5)))
    assert texts_of(file, "parquet", data.draw(st.integers(1, 13))) == texts


def test_a_row_without_a_text_says_why():
    Path("a.txt").write_bytes(b"fine\n\xff\n")
    assert reasons(Path("a.txt"), "text") == ["fine", "not valid UTF-8: byte 0xff at position 1"]
    Path("b.jsonl").write_text('{"text": "fine"}\n{"text": null}\n{"text": 3}\n{"id": 3}\n[3]\n\n{\n')
    assert reasons(Path("b.jsonl"), "jsonl") == [
        "fine",
        "not a text, but null",
        "not a text, but int",
        "no 'text'",
        *["not a JSON object"] * 3,
    ]


def test_vectors_are_read_as_the_json_that_describers_take():
    Path("a.jsonl").write_text('{"text": [1, 2.5]}\n{"text": ["a", "b"]}\n')
    assert reasons(Path("a.jsonl"), "jsonl") == ["[1, 2.5]", "not a text, but list"]


def test_a_directorys_files_come_by_name_without_hidden_ones():
    for name in ("in/b.txt", "in/a/z.jsonl", "in/.hidden.txt", "in/_run.json", "in/_old/c.txt", "in/c.PARQUET"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    here = Path.cwd()
    assert find_files(["in"], None) == [
        (here / "in/a/z.jsonl", "jsonl"),
        (here / "in/b.txt", "text"),
        (here / "in/c.PARQUET", "parquet"),
    ]
    assert find_files(["in/b.txt", "in/b.txt"], "jsonl") == [(here / "in/b.txt", "jsonl")] * 2


def test_inputs_that_cannot_be_read_are_refused():
    Path("empty").mkdir()
    for inputs, words in ((["empty"], "nothing to read in empty"), ([], "no input"), (["gone"], "there is nothing")):
        with pytest.raises(CorpusError, match=words):
            find_files(inputs, None)
    Path("corpus.csv").touch()
    with pytest.raises(CorpusError, match=r"corpus.csv does not tell its format: wanted .txt, .json, .*rename it"):
        find_files(["corpus.csv"], None)


def test_a_file_without_the_column_is_refused_with_those_it_has():
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "body": ["a"]}), "a.parquet")
    Path("a.jsonl").write_text('{"id": 1, "body": "a"}\n')
    for file, format_ in ((Path("a.parquet"), "parquet"), (Path("a.jsonl"), "jsonl")):
        with pytest.raises(CorpusError, match=r"has no column 'text', only 'id', 'body': name the one with the texts"):
            cut([(file, format_)], "text", 5)
    with pytest.raises(CorpusError, match=r"a\.jsonl is not a Parquet file"):
        cut([(Path("a.jsonl"), "parquet")], "text", 5)
    Path("a.json").write_text('[\n{"text": "a"}\n]')
    with pytest.raises(CorpusError, match=r"a\.json does not begin with a line that is a JSON object"):
        cut([(Path("a.json"), "jsonl")], "text", 5)

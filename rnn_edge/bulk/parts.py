"""A corpus in parts: which rows of which file each one holds, and how to read their texts.

A row is a line of a text file, a line of a JSON Lines file, or a row of a Parquet file. It knows files and columns,
and nothing of networks.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, TypeAlias, get_args

from rnn_edge.bulk.options import InputFormat
from rnn_edge.errors import CorpusError, TextError

__all__ = ["Part", "Read", "cut", "find_files", "read_part"]

Read: TypeAlias = str | TextError
"""A row's text, or why it has none."""

_SUFFIXES: dict[str, InputFormat] = {
    ".txt": "text",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class Part:
    """Some rows of a file, one after the other."""

    number: int  # of all parts of the corpus
    file: str
    format: InputFormat
    first_row: int
    rows: int
    offset: int = 0  # byte where the first row begins, in a file of lines


def find_files(inputs: Sequence[str | Path], input_format: InputFormat | None) -> list[tuple[Path, InputFormat]]:
    """Return the files of a corpus with their formats; those of a directory by name, but for hidden ones.

    input_format  of all of them; none means that their names tell
    """
    found = [file for path in inputs for file in _files_at(Path(path).absolute())]
    if not found:
        raise CorpusError(f"there is nothing to read in {', '.join(map(str, inputs)) or 'no input'}: name files")
    return [(file, input_format or _format_of(file)) for file in found]


def _files_at(path: Path) -> list[Path]:
    if path.is_dir():
        inside = (file for file in sorted(path.rglob("*")) if file.is_file())
        return [file for file in inside if not any(name[0] in "._" for name in file.relative_to(path).parts)]
    if not path.exists():
        raise CorpusError(f"cannot read {path}: there is nothing; name a file or a directory")
    return [path]


def _format_of(file: Path) -> InputFormat:
    try:
        return _SUFFIXES[file.suffix.lower()]
    except KeyError:
        raise CorpusError(
            f"the name of {file} does not tell its format: wanted {', '.join(_SUFFIXES)}; rename it, or say which of "
            f"{', '.join(get_args(InputFormat))} it is as its input format"
        ) from None


def cut(files: Sequence[tuple[Path, InputFormat]], column: str, part_rows: int) -> list[Part]:
    """Return the parts of a corpus, of at most `part_rows` rows each, in order.

    column  where the texts stand in Parquet and JSON Lines; every file must have it
    """
    parts: list[Part] = []
    for file, format_ in files:
        stretches = _rows_of_parquet if format_ == "parquet" else _rows_of_lines
        try:
            if format_ != "text":
                _check_column(file, format_, column)
            for first_row, rows, offset in stretches(file, part_rows):
                parts.append(Part(len(parts), str(file), format_, first_row, rows, offset))
        except OSError as error:
            raise CorpusError(f"cannot read {file}: {error.strerror or error}") from error
    return parts


def _rows_of_lines(file: Path, part_rows: int) -> Iterator[tuple[int, int, int]]:
    first_row = offset = 0
    with file.open("rb") as lines:
        while lengths := [len(line) for line in islice(lines, part_rows)]:
            yield first_row, len(lengths), offset
            first_row += len(lengths)
            offset += sum(lengths)


def _rows_of_parquet(file: Path, part_rows: int) -> Iterator[tuple[int, int, int]]:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_metadata(file).num_rows
    for first_row in range(0, rows, part_rows):
        yield first_row, min(part_rows, rows - first_row), 0


def _check_column(file: Path, format_: InputFormat, column: str) -> None:
    """Refuse a file without the column; of JSON Lines the first row tells."""
    columns = _columns_of_parquet(file) if format_ == "parquet" else _columns_of_lines(file, column)
    if column not in columns:
        raise CorpusError(
            f"{file} has no column {column!r}, only {', '.join(map(repr, columns))}: name the one with the texts"
        )


def _columns_of_parquet(file: Path) -> list[str]:
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_schema(file).names)
    except pyarrow.ArrowInvalid as error:
        raise CorpusError(f"{file} is not a Parquet file ({error}): convert it, or name its format") from error


def _columns_of_lines(file: Path, column: str) -> list[str]:
    with file.open("rb") as lines:
        line = next(lines, None)
    if line is None:
        return [column]  # of no rows
    row = _parsed(line)
    if not isinstance(row, dict):
        raise CorpusError(f"{file} does not begin with a line that is a JSON object: wanted one object a line")
    return list(row)


def read_part(part: Part, column: str) -> Iterator[Read]:
    """Yield the text of each row of a part, or why it has none."""
    if part.format == "parquet":
        yield from _read_parquet(part, column)
        return
    read: Callable[[bytes], Read] = _line if part.format == "text" else lambda line: _field(line, column)
    with Path(part.file).open("rb") as lines:
        lines.seek(part.offset)
        yield from map(read, islice(lines, part.rows))


def _read_parquet(part: Part, column: str) -> Iterator[Read]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(part.file) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = list(accumulate(sizes))
        first, last = bisect_right(ends, part.first_row), bisect_left(ends, part.first_row + part.rows)
        skip, wanted = part.first_row - (ends[first] - sizes[first]), part.rows
        for batch in file.iter_batches(row_groups=range(first, last + 1), columns=[column]):
            found = batch.column(0).slice(min(skip, len(batch)), wanted)
            yield from map(_text, found.to_pylist())
            skip, wanted = max(0, skip - len(batch)), wanted - len(found)


def _line(line: bytes) -> Read:
    try:
        return line.rstrip(b"\n").rstrip(b"\r").decode()
    except UnicodeDecodeError as error:
        return TextError(f"not valid UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start + 1}")


def _field(line: bytes, column: str) -> Read:
    row = _parsed(line)
    if not isinstance(row, dict):
        return TextError("not a JSON object")
    return _text(row[column]) if column in row else TextError(f"no {column!r}")


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _text(value: object) -> Read:
    """Return a text as it is, and a vector as the JSON in which a network that describes vectors takes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(type(number) in (int, float) for number in value):
        return json.dumps(value)
    return TextError(f"not a text, but {'null' if value is None else type(value).__name__}")

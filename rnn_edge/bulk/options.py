"""How a corpus is read and its answers are written, as plain data that checks itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from rnn_edge.errors import OptionsError

__all__ = ["BulkOptions", "InputFormat", "OutputFormat"]

InputFormat: TypeAlias = Literal["text", "jsonl", "parquet"]
OutputFormat: TypeAlias = Literal["jsonl", "parquet", "text"]


@dataclass(frozen=True, kw_only=True)
class BulkOptions:
    """What of a corpus is read, and how what is said of it is written."""

    column: str = "text"  # of Parquet and JSON Lines
    input_format: InputFormat | None = None  # none: as each file's name says
    output_format: OutputFormat = "jsonl"
    part_rows: int = 10_000  # what is lost at most for each worker when a run is interrupted
    score: bool = False  # tell how probable texts are, instead of completing them
    batch_size: int = 16  # texts that a language model completes together
    actors: int | None = None  # workers; none: as many as Ray has processors

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be a whole number of at least 1, got {value!r}"
            for name in ("part_rows", "batch_size", "actors")
            if (value := getattr(self, name)) is not None and (type(value) is not int or value < 1)
        ]
        if self.input_format not in (None, *get_args(InputFormat)):
            problems.append(f"input_format must be {' or '.join(get_args(InputFormat))}, got {self.input_format!r}")
        if self.output_format not in get_args(OutputFormat):
            problems.append(f"output_format must be {' or '.join(get_args(OutputFormat))}, got {self.output_format!r}")
        if problems:
            raise OptionsError("these options cannot be used: " + "; ".join(problems))

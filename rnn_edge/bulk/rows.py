"""What is said of each row, written as JSON Lines, Parquet or text: a file for each part, whole or not there.

It knows what each kind of network says, and nothing of how the work is shared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnn_edge.answers import Answers, ask
from rnn_edge.bulk.options import OutputFormat
from rnn_edge.bulk.parts import Part, Read
from rnn_edge.errors import TextError
from rnn_edge.files import replace_file
from rnn_edge.runtimes import (
    Classifier,
    Describer,
    Embedder,
    GenerateOptions,
    LanguageModel,
    Model,
    Tagger,
    Translator,
)

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Row", "answered", "write_rows"]

_TEXTS_AT_ONCE = 256  # that are asked of together


@dataclass(frozen=True)
class Row:
    """A row's place with all that a network says of it, or why it says nothing; and the line that a reader wants."""

    line: str
    values: Mapping[str, Any]

    @property
    def refused(self) -> bool:
        """Return whether the row could not be read."""
        return "error" in self.values


def answered(
    model: Model, part: Part, texts: Iterable[Read], options: GenerateOptions, *, batch_size: int, score: bool
) -> Iterator[Row]:
    """Yield each row of a part with what the model says of its text, the same as it says of that text alone."""

    def said(some: Sequence[str]) -> Answers:
        """Ask of texts together; where one of them cannot be read, of smaller and smaller halves."""
        try:
            found = list(ask(model, some, options, batch_size=batch_size, score=score))
        except TextError as error:
            if len(some) == 1:
                yield [], {"error": str(error)}
                return
            half = len(some) // 2
            found = [*said(some[:half]), *said(some[half:])]
        yield from found

    rest = iter(texts)
    row = part.first_row
    while some := list(islice(rest, _TEXTS_AT_ONCE)):
        answers = said([text for text in some if isinstance(text, str)])
        for text in some:
            lines, values = next(answers) if isinstance(text, str) else ([], {"error": str(text)})
            yield Row("".join(lines).replace("\n", " "), {"file": part.file, "row": row, **values})
            row += 1


def write_rows(path: Path, rows: Iterable[Row], output_format: OutputFormat, model: Model, *, score: bool) -> None:
    """Write what `model` says of rows as a file, in the place of an older one."""
    if output_format == "parquet":
        replace_file(path, lambda part: _write_parquet(part, rows, _schema(model, score=score)))
        return

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write((row.line if output_format == "text" else json.dumps(row.values, ensure_ascii=False)) + "\n")

    replace_file(path, write)


def _write_parquet(path: Path, rows: Iterable[Row], schema: pyarrow.Schema) -> None:
    import pyarrow.parquet

    rest = iter(rows)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while some := [row.values for row in islice(rest, _TEXTS_AT_ONCE)]:
            writer.write_batch(pyarrow.RecordBatch.from_pylist(some, schema=schema))


def _schema(model: Model, *, score: bool) -> pyarrow.Schema:
    """Return the columns of what a network says: those of its JSON, so that all parts have the same."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    written = pa.list_(pa.struct({"text": text, "log_prob": number, "finish_reason": text}))
    said: dict[str, pa.DataType]
    match model:
        case LanguageModel() if score:
            said = {"text": text, "log_prob": number, "perplexity": number, "bits_per_character": number}
        case LanguageModel():
            said = {"prompt": text, "completions": written}
        case Translator():
            said = {"source": text, "translations": written}
        case Describer():
            said = {"descriptions": written}
        case Classifier():
            said = {"text": text, "labels": pa.list_(pa.struct({"label": text, "probability": number}))}
        case Embedder():
            said = {"text": text, "vector": pa.list_(pa.float32())}
        case Tagger():
            said = {"words": pa.list_(text), "labels": pa.list_(text), "log_prob": number}
            said["probabilities"] = pa.list_(number)
    return pa.schema({"file": text, "row": pa.int64(), **said, "error": text})

"""What one worker does: a part of a corpus in, a file of answers out, with one open bundle.

It runs in a process of Ray's, and knows nothing of Ray.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from rnn_edge.bulk.options import BulkOptions
from rnn_edge.bulk.parts import Part, read_part
from rnn_edge.bulk.rows import Row, answered, write_rows
from rnn_edge.bundle import Bundle
from rnn_edge.errors import CorpusError, RnnEdgeError
from rnn_edge.runtimes import GenerateOptions, Model, load

__all__ = ["Worker", "place_of"]

_SUFFIXES = {"jsonl": ".jsonl", "parquet": ".parquet", "text": ".txt"}


def place_of(part: Part, output: Path, bulk: BulkOptions) -> Path:
    """Return the file of a part, whoever writes it."""
    return output / f"part-{part.number:08}{_SUFFIXES[bulk.output_format]}"


class Worker:
    """Holds one open bundle in a process of its own, and answers part after part."""

    def __init__(
        self, *, bundle: Path, fingerprint: str, output: Path, options: GenerateOptions, bulk: BulkOptions
    ) -> None:
        self._bundle, self._fingerprint = bundle, fingerprint
        self._output, self._options, self._bulk = output, options, bulk

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Answer a part, given as plain values; return how many rows it has, how many cannot be read, and no problem.

        What a user can put right comes back as a `problem`, since Ray makes pages of an exception.
        """
        part = Part(**row)
        try:
            return {**self._answer(part), "problem": ""}
        except OSError as error:
            problem = f"cannot turn {part.file} into {place_of(part, self._output, self._bulk)}: {error.strerror}"
        except RnnEdgeError as error:
            problem = str(error)
        return {"rows": 0, "refused": 0, "problem": problem}

    @cached_property
    def _model(self) -> Model:
        """Open the bundle, with one thread, as everywhere."""
        if Bundle.read(self._bundle).fingerprint != self._fingerprint:
            raise CorpusError(f"{self._bundle} is not the bundle that this run began with: put that one back")
        return load(self._bundle)

    def _answer(self, part: Part) -> dict[str, int]:
        bulk, counts = self._bulk, {"rows": 0, "refused": 0}
        texts = read_part(part, bulk.column)

        def counted() -> Iterator[Row]:
            for each in answered(self._model, part, texts, self._options, batch_size=bulk.batch_size, score=bulk.score):
                counts["rows"] += 1
                counts["refused"] += each.refused
                yield each

        place = place_of(part, self._output, bulk)
        write_rows(place, counted(), bulk.output_format, self._model, score=bulk.score)
        return counts

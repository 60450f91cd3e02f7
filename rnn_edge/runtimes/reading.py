"""Whole texts, many at a time: rows of like length share a call of the model, each as it comes out alone.

What every network that reads whole texts needs. It knows tokenizers, and a model behind the `WholeModel` seam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnn_edge.errors import TextError
from rnn_edge.runtimes.arrays import NOTHING, Ids
from rnn_edge.runtimes.decoding import ROWS_AT_ONCE
from rnn_edge.text import Tokenizer

__all__ = ["Shape", "WholeModel", "as_texts", "check_text", "encode", "in_batches", "pad"]

Shape: TypeAlias = tuple[int, ...]
"""What a row needs: how many tokens, and perhaps how many letters for each."""

_CELLS_AT_ONCE = 2**14  # that a batch may fill; a longer row is read alone

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class WholeModel(Protocol):
    """A network without state: texts, or vectors, in, and all it has to say of them out."""

    def run(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Return all outputs; inputs and outputs are in the order of docs/bundle-format.md."""


def as_texts(texts: str | Sequence[str]) -> list[str]:
    """Return one text as a list of one, and check each."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        return [check_text(texts)]
    return [check_text(text) for text in texts]


def check_text(text: object) -> str:
    """Return a text, or refuse what is none."""
    if not isinstance(text, str):
        raise TextError(f"a text must be a str, got {type(text).__name__}: decode it first")
    return text


def encode(tokenizer: Tokenizer, text: str, *, with_end: bool = False) -> list[int]:
    """Return the tokens of a text, at least one: an empty text is the end token alone."""
    tokens = tokenizer.encode(text)
    if tokenizer.end_id is not None and (with_end or not tokens):
        tokens.append(tokenizer.end_id)
    if not tokens:
        raise TextError("this model has no end token, which it would read in place of an empty text: leave it out")
    return tokens


def pad(rows: Sequence[Sequence[int]]) -> Ids:
    """Return rows of tokens filled with -1 on the right, int64 (batch, time)."""
    tokens = np.full((len(rows), max(map(len, rows))), NOTHING, dtype=np.int64)
    for filled, row in zip(tokens, rows, strict=True):
        filled[: len(row)] = row
    return tokens


def in_batches(
    items: Sequence[_Item],
    shapes: Sequence[Shape],
    read: Callable[[list[_Item]], Iterable[_Result]],
    *,
    rows_at_once: int = ROWS_AT_ONCE,
) -> list[_Result]:
    """Return what `read` says of each item, in their order; it gets those of like shape together, and not too many."""
    results: dict[int, _Result] = {}
    for rows in _groups(shapes, rows_at_once):
        results.update(zip(rows, read([items[row] for row in rows]), strict=True))
    return [results[row] for row in range(len(items))]


def _groups(shapes: Sequence[Shape], rows_at_once: int) -> Iterator[list[int]]:
    group: list[int] = []
    widest: Shape = ()
    for row in sorted(range(len(shapes)), key=lambda row: shapes[row]):
        wider = tuple(map(max, widest, shapes[row])) if group else shapes[row]
        if group and (len(group) == rows_at_once or (len(group) + 1) * prod(wider) > _CELLS_AT_ONCE):
            yield group
            group, wider = [], shapes[row]
        group.append(row)
        widest = wider
    if group:
        yield group

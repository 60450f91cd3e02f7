"""Made-up inputs of any network, to compare its graphs with what they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rnn_edge.runtimes.arrays import NOTHING
from rnn_edge.spec import DescriberSpec, ModelSpec, TaggerSpec

__all__ = ["Arrays", "random_rows", "side_by_side"]

Arrays: TypeAlias = tuple[NDArray[Any], ...]
"""A graph's inputs in their order, or its outputs in theirs."""

_MOST_LETTERS = 12


def random_rows(spec: ModelSpec, lengths: Sequence[int], random: np.random.Generator) -> list[Arrays]:
    """Return inputs of single rows of given lengths, for the graph that reads whole texts, or vectors."""
    if isinstance(spec, DescriberSpec):
        return [(random.standard_normal((1, spec.vector_size), np.float32),) for _ in lengths]
    rows: list[Arrays] = []
    for length in lengths:
        tokens = random.integers(0, spec.vocab_size, (1, length))
        if isinstance(spec, TaggerSpec) and spec.character_vocab_size:
            rows.append((tokens, _random_words(spec.character_vocab_size, length, random)))
        else:
            rows.append((tokens,))
    return rows


def _random_words(vocab_size: int, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return letters, int64 (1, count, letters), each word with one at least."""
    lengths = random.integers(1, _MOST_LETTERS + 1, count)
    letters = random.integers(0, vocab_size, (1, count, int(lengths.max())))
    letters[0, np.arange(letters.shape[2]) >= lengths[:, None]] = NOTHING
    return letters


def side_by_side(rows: Sequence[Arrays]) -> Arrays:
    """Return one batch of single rows, filled with -1 behind what is shorter."""
    return tuple(map(_pad_together, zip(*rows, strict=True)))


def _pad_together(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shape = np.max([row.shape[1:] for row in rows], axis=0)
    batch = np.full((len(rows), *shape), NOTHING, dtype=rows[0].dtype)
    for index, row in enumerate(rows):
        batch[index][tuple(map(slice, row.shape[1:]))] = row[0]
    return batch

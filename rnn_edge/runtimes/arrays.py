"""The arrays that travel through the runtime, by name. Knows numpy alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["NOTHING", "Doubles", "Floats", "Ids", "State", "join_states", "reorder", "rows_of"]

Ids: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]  # log-probs: sums of many, where float32 would drift

State: TypeAlias = tuple[Floats, ...]
"""`(h,)`, or `(h, c)` for an LSTM; each float32 (layers, batch, width). A value: never written to once returned."""

NOTHING = -1  # stands where a row has no token: its state passes through unchanged


def reorder(state: State, rows: Sequence[int] | Ids) -> State:
    """Return the states of the given rows, in their order; a row may come twice, or not at all."""
    chosen = np.asarray(rows, dtype=np.int64)
    return tuple(np.take(part, chosen, axis=1) for part in state)


def join_states(states: Iterable[State]) -> State:
    """Return the rows of several states, at least one, as one."""
    return tuple(np.concatenate(parts, axis=1) for parts in zip(*states, strict=True))


def rows_of(state: State) -> list[State]:
    """Return the state of each row by itself, (layers, 1, width) each."""
    return [tuple(parts) for parts in zip(*(np.split(part, part.shape[1], axis=1) for part in state), strict=True)]

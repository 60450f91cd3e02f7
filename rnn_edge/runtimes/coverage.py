"""How much of a source was looked at while it was translated, and what a translation loses for what was not.

The coverage penalty of Wu et al. 2016, "Google's Neural Machine Translation System", equation 14. How often each place
of the source was looked at is one more part of a state, so it goes wherever a search takes the row.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from rnn_edge.runtimes.arrays import NOTHING, Doubles, Floats, Ids, State
from rnn_edge.runtimes.decoding import StepModel

__all__ = ["CoveringModel", "LookingModel", "uncovered"]

_LEAST = np.finfo(np.float32).tiny  # a softmax in float32 may give 0, whose logarithm would outweigh everything


class LookingModel(StepModel, Protocol):
    """A decoder that may look at what was read."""

    @property
    def has_attention(self) -> bool:
        """Return whether it does."""

    def look(self, tokens: Ids, state: State) -> tuple[Floats, State, Floats]:
        """Read as `step` does; return also where each row's last token looked, float32 (batch, source)."""


class CoveringModel:
    """A decoder with attention that adds up where it looks: the last part of its state, float32 (1, batch, source)."""

    def __init__(self, model: LookingModel) -> None:
        self._model = model

    def start(self, batch: int) -> State:
        """Return the decoder's state before the first token, with nothing looked at."""
        return self.begin(self._model.start(batch))

    def begin(self, state: State) -> State:
        """Return an encoder's state, whose last part is the `memory_mask`, with nothing looked at but the padding."""
        in_padding = np.logical_not(state[-1][:, :, 0].T)  # (batch, source)
        return *state, in_padding[None].astype(np.float32)

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Read as the decoder does, token by token."""
        *inner, coverage = state
        for column in np.split(tokens, tokens.shape[1], axis=1):
            logits, (*inner,), weights = self._model.look(np.ascontiguousarray(column), tuple(inner))
            coverage = coverage + np.where(column == NOTHING, np.float32(0), weights)
        return logits, (*inner, coverage)


def uncovered(state: State, *, penalty: float) -> Doubles:
    """Return -penalty · Σ log(min(coverage, 1)) over each row's source, float64 (batch,); 0 where all was looked at."""
    coverage = state[-1][0].astype(np.float64)  # (batch, source)
    logs = np.log(np.clip(coverage, _LEAST, 1.0))
    sums: Doubles = np.add.accumulate(logs, axis=1)[:, -1]  # in one order, whatever the padding
    return -penalty * sums

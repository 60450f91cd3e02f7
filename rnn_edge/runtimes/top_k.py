"""The most probable tokens of each row, found by ONNX Runtime, which is quicker at it than numpy.

The graph has no weights and serves every network; tools/small_graphs.py writes it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rnn_edge.runtimes.arrays import Floats, Ids
from rnn_edge.runtimes.scores import require_numbers
from rnn_edge.runtimes.sessions import open_session

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["TOP_K", "Scores", "top_k"]

TOP_K = Path(__file__).with_suffix(".onnx")


def top_k(logits: Floats, k: int) -> tuple[Ids, Floats]:
    """Return each row's `k` highest scores, or all where there are fewer, best first; of equals, the lowest id.

    logits   float32 (batch, vocab)
    returns  tokens int64 (batch, k), and their log-probs float32 (batch, k) among all tokens
    """
    tokens, log_probs = _session().run(None, {"logits": logits, "k": _counts(min(k, logits.shape[1]))})
    require_numbers(log_probs[:, 0])
    return tokens, log_probs


class Scores:
    """What rows expect next. Often only the best of it is looked at, and found but once."""

    def __init__(self, logits: Floats) -> None:
        self._logits = logits
        self._best: tuple[Ids, Floats] | None = None
        self._k = 0

    @property
    def logits(self) -> Floats:
        """Return all of it, float32 (batch, vocab)."""
        return self._logits

    def top(self, k: int) -> tuple[Ids, Floats]:
        """Return what `top_k` returns, to be read only."""
        if self._best is None or self._k < k:
            self._best, self._k = self._find(k), k
        tokens, log_probs = self._best
        return tokens[:, :k], log_probs[:, :k]

    def part(self, rows: slice) -> Scores:
        """Return the scores of some rows."""
        return _Part(self, rows)

    def _find(self, k: int) -> tuple[Ids, Floats]:
        return top_k(self.logits, k)


class _Part(Scores):
    def __init__(self, whole: Scores, rows: slice) -> None:
        self._whole, self._rows = whole, rows

    @property
    def logits(self) -> Floats:
        return self._whole.logits[self._rows]

    def top(self, k: int) -> tuple[Ids, Floats]:
        tokens, log_probs = self._whole.top(k)
        return tokens[self._rows], log_probs[self._rows]


@cache
def _session() -> onnxruntime.InferenceSession:
    return open_session(TOP_K.read_bytes())


@cache
def _counts(k: int) -> Ids:
    return np.array([k], np.int64)

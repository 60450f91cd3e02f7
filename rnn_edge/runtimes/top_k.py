"""The most probable tokens of each row, found by ONNX Runtime, which is quicker at it than numpy.

The graph has no weights and serves every network; tools/small_graphs.py writes it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from rnn_edge.runtimes.arrays import Floats, Ids
from rnn_edge.runtimes.providers import import_onnxruntime
from rnn_edge.runtimes.scores import require_numbers
from rnn_edge.runtimes.sessions import open_session

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["TOP_K", "Best", "Scores", "TopK", "find_once"]

Best: TypeAlias = tuple[list[list[int]], list[list[float]]]
"""Each row's most probable tokens, best first, of equals the lowest id; and their log-probs among all tokens."""

TOP_K = Path(__file__).with_suffix(".onnx")


class TopK:
    """Finds the best tokens of scores that lie in one place, as often as they change there.

    To bind inputs and outputs anew for a run takes about as long as a small network's step.
    """

    def __init__(self, logits: Floats, k: int) -> None:
        """Prepare to find `k` tokens of each row, or all where there are fewer; logits float32 (batch, vocab)."""
        value = import_onnxruntime().OrtValue.ortvalue_from_numpy
        batch, vocab_size = logits.shape
        count = min(k, vocab_size)
        self._logits, self._k = logits, np.array([count], np.int64)  # a binding need not keep them
        self._tokens, self._log_probs = np.empty((batch, count), np.int64), np.empty((batch, count), np.float32)
        self._way = _session().io_binding()
        self._way.bind_ortvalue_input("logits", value(self._logits))
        self._way.bind_ortvalue_input("k", value(self._k))
        self._way.bind_ortvalue_output("tokens", value(self._tokens))
        self._way.bind_ortvalue_output("log_probs", value(self._log_probs))

    def find(self) -> tuple[Ids, Floats]:
        """Return the tokens, int64 (batch, k), and their log-probs, float32 (batch, k); good until the next time.

        The best come first; of equals, the lowest id.
        """
        _session().run_with_iobinding(self._way)
        return self._tokens, self._log_probs


def find_once(logits: Floats, k: int) -> tuple[Ids, Floats]:
    """Return what `TopK` finds; to prepare it for one time takes longer."""
    count = np.array([min(k, logits.shape[1])], np.int64)
    tokens, log_probs = _session().run(None, {"logits": logits, "k": count})
    return tokens, log_probs


class Scores:
    """What rows expect next. Often only the best of it is looked at, and found but once."""

    def __init__(self, logits: Floats, finders: dict[int, TopK] | None = None) -> None:
        """Make it of logits float32 (batch, vocab); `finders`, by their k, are kept for what will lie in that place."""
        self._logits = logits
        self._finders = finders
        self._best: Best = [], []
        self._k = 0

    @property
    def logits(self) -> Floats:
        """Return all of it, float32 (batch, vocab)."""
        return self._logits

    def top(self, k: int) -> Best:
        """Return the `k` best of each row, or all where there are fewer, or more; to be read only."""
        if self._k < k:
            tokens, log_probs = self._find(k)
            self._best, self._k = (tokens.tolist(), log_probs.tolist()), k
            require_numbers(of_row[0] for of_row in self._best[1])
        return self._best

    def _find(self, k: int) -> tuple[Ids, Floats]:
        if self._finders is None:
            return find_once(self.logits, k)
        if k not in self._finders:
            self._finders[k] = TopK(self.logits, k)
        return self._finders[k].find()


@cache
def _session() -> onnxruntime.InferenceSession:
    return open_session(TOP_K.read_bytes())

"""The most probable tokens of each row, found by ONNX Runtime: of ten thousand scores in a tenth of numpy's time.

The graph has no weights and serves every network; tools/top_k_graph.py writes it.
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

__all__ = ["top_k"]

_GRAPH = Path(__file__).with_suffix(".onnx")


def top_k(logits: Floats, k: int) -> tuple[Ids, Floats]:
    """Return each row's `k` highest scores, or all where there are fewer, best first; of equals, the lowest id.

    logits   float32 (batch, vocab)
    returns  tokens int64 (batch, k), and their log-probs float32 (batch, k) among all tokens
    """
    tokens, log_probs = _session().run(None, {"logits": logits, "k": _counts(min(k, logits.shape[1]))})
    require_numbers(log_probs[:, 0])
    return tokens, log_probs


@cache
def _session() -> onnxruntime.InferenceSession:
    return open_session(_GRAPH.read_bytes())


@cache
def _counts(k: int) -> Ids:
    return np.array([k], np.int64)

"""What to make of a network's scores: log-probs, the best few, or a draw. Plain functions; knows numpy alone."""

from __future__ import annotations

import numpy as np

from rnn_edge.errors import BundleError
from rnn_edge.runtimes.arrays import Doubles, Floats, Ids
from rnn_edge.runtimes.options import GenerateOptions

__all__ = [
    "best",
    "draw",
    "log_probs_of",
    "log_softmax",
    "only_top_k",
    "only_top_p",
    "with_temperature",
]


def log_softmax(logits: Floats | Doubles) -> Doubles:
    """Return natural log-probs, float64, of scores along the last axis; -inf stays -inf."""
    highest, log_total = _log_total(logits)
    log_probs: Doubles = (logits - highest) - log_total
    return log_probs


def log_probs_of(logits: Floats, rows: Ids, tokens: Ids) -> Doubles:
    """Return the log-probs of some tokens, float64, each in a row of scores (batch, vocab)."""
    highest, log_total = _log_total(logits)
    log_probs: Doubles = (logits[rows, tokens] - highest[rows, 0]) - log_total[rows, 0]
    return log_probs


def _log_total(logits: Floats | Doubles) -> tuple[Doubles, Doubles]:
    """Return the highest score along the last axis, and log(sum(exp(scores - highest))); both keep the axis."""
    highest: Doubles = logits.max(axis=-1, keepdims=True).astype(np.float64)
    if not np.isfinite(highest).all():
        raise BundleError(
            "the network gives scores that are not numbers: its weights are damaged, or too large "
            "for their precision; check it with rnn-edge verify, or export it with --precision fp32"
        )
    powers = logits - highest
    np.exp(powers, out=powers)
    return highest, np.log(powers.sum(axis=-1, keepdims=True))


def best(scores: Floats | Doubles, count: int) -> Ids:
    """Return the indices of the `count` highest scores above -inf, best first; of equals, the lowest index."""
    if count < len(scores):
        lowest = max(np.partition(scores, -count)[-count], np.finfo(scores.dtype).min)
    else:
        lowest = np.finfo(scores.dtype).min
    candidates = np.flatnonzero(scores >= lowest)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:count]]


# From here on scores are float64 (choices,), and a choice that is out has -inf.


def with_temperature(scores: Doubles, temperature: float) -> Doubles:
    """Sharpen the differences below 1, flatten them above 1."""
    return scores / temperature


def only_top_k(scores: Doubles, top_k: int) -> Doubles:
    """Keep the `top_k` highest; of equals, the lowest index. 0 keeps all."""
    return _only(scores, best(scores, top_k)) if top_k else scores


def only_top_p(scores: Doubles, top_p: float) -> Doubles:
    """Keep the fewest that together reach probability `top_p`, at least one; of equals, the lowest index."""
    if top_p == 1.0:
        return scores
    probs = np.exp(log_softmax(scores))
    # All choices below this have less than 1 - top_p together, so none is needed: no use in sorting them.
    candidates = np.flatnonzero(probs > (1 - top_p) / len(probs))
    candidates = candidates[np.argsort(-probs[candidates], kind="stable")]
    needed = np.searchsorted(probs[candidates].cumsum(), top_p) + 1
    return _only(scores, candidates[:needed])


def _only(scores: Doubles, kept: Ids) -> Doubles:
    filtered = np.full_like(scores, -np.inf)
    filtered[kept] = scores[kept]
    return filtered


def draw(logits: Floats | Doubles, options: GenerateOptions, generator: np.random.Generator) -> int:
    """Draw one choice by its probability, after temperature, then top_k, then top_p."""
    scores = with_temperature(logits.astype(np.float64), options.temperature)
    scores = only_top_p(only_top_k(scores, options.top_k), options.top_p)
    totals = np.exp(scores - scores.max()).cumsum()
    return int(np.searchsorted(totals, generator.random() * totals[-1], side="right"))

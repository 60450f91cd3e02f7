"""What to make of a network's scores: log-probs, the best few, or a draw. Plain functions; knows numpy alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from rnn_edge.errors import BundleError
from rnn_edge.runtimes.arrays import Doubles, Floats, Ids
from rnn_edge.runtimes.options import GenerateOptions

__all__ = [
    "best",
    "draw",
    "log_probs_of",
    "log_softmax",
    "log_totals",
    "min_p_of",
    "powers_of",
    "require_numbers",
    "top_k_of",
    "top_p_of",
]


def log_softmax(logits: Floats | Doubles) -> Doubles:
    """Return natural log-probs, float64, of scores along the last axis; -inf stays -inf."""
    log_probs: Doubles = logits - log_totals(logits)[..., None]
    return log_probs


def log_probs_of(logits: Floats, rows: Ids, tokens: Ids) -> Doubles:
    """Return the log-probs of some tokens, float64, each in a row of scores (batch, vocab)."""
    log_probs: Doubles = logits[rows, tokens] - log_totals(logits)[rows]
    return log_probs


def log_totals(logits: Floats | Doubles) -> Doubles:
    """Return log(sum(exp(scores))) along the last axis, float64: a score less this is a log-prob.

    The powers stay in the precision of the scores: seven digits, and half the time that a greedy token takes.
    """
    highest, powers = powers_of(logits)
    log_totals: Doubles = np.log(powers.sum(axis=-1), dtype=np.float64) + highest[..., 0]
    return log_totals


def powers_of(logits: Floats | Doubles) -> tuple[Floats | Doubles, Floats | Doubles]:
    """Return the highest scores along the last axis, (..., 1), and exp(scores - highest), in the same precision."""
    highest = logits.max(axis=-1, keepdims=True)
    require_numbers(highest.ravel().tolist())
    powers = logits - highest
    np.exp(powers, out=powers)
    return highest, powers


def require_numbers(highest: Iterable[float]) -> None:
    """Refuse scores, or their log-probs, whose highest in some row is no number."""
    if not math.isfinite(sum(highest)):
        raise BundleError(
            "the network gives scores that are not numbers: its weights are damaged, or too large "
            "for their precision; check it with rnn-edge verify, or export it with --precision fp32"
        )


def best(scores: Floats | Doubles, count: int) -> Ids:
    """Return the indices of the `count` highest scores above -inf, best first; of equals, the lowest index."""
    candidates = _highest(scores, count)
    candidates = candidates[scores[candidates] > -np.inf]
    return candidates[np.argsort(-scores[candidates], kind="stable")]


def _highest(scores: Floats | Doubles, count: int) -> Ids:
    """Return the indices of the `count` highest scores in ascending order; of equals, the lowest."""
    if count >= len(scores):
        return np.arange(len(scores))
    lowest = np.partition(scores, -count)[-count]
    chosen = np.flatnonzero(scores >= lowest)
    if len(chosen) > count:  # too many are equal to the lowest
        equal = chosen[scores[chosen] == lowest]
        chosen = np.setdiff1d(chosen, equal[len(equal) - (len(chosen) - count) :], assume_unique=True)
    return chosen


def top_k_of(scores: Doubles, top_k: int) -> Ids:
    """Return the indices of the `top_k` highest scores; of equals, the lowest index. 0 means all."""
    return _highest(scores, top_k or len(scores))


def top_p_of(scores: Doubles, top_p: float) -> Ids:
    """Return the indices of the fewest that together reach probability `top_p`; of equals, the lowest index."""
    if top_p == 1.0:
        return np.arange(len(scores))
    probs = np.exp(log_softmax(scores))
    # All choices below this have less than 1 - top_p together, so none is needed: no use in sorting them.
    candidates = probs[probs > (1 - top_p) / len(probs)]
    needed = np.searchsorted(np.sort(candidates)[::-1].cumsum(), top_p) + 1
    return _highest(probs, int(needed))


def min_p_of(scores: Doubles, min_p: float) -> Ids:
    """Return the indices of what is at least `min_p` times as probable as the most probable."""
    return np.flatnonzero(scores >= scores.max() + math.log(min_p)) if min_p else np.arange(len(scores))


def draw(logits: Floats | Doubles, options: GenerateOptions, generator: np.random.Generator) -> int:
    """Draw one index by its probability: after the temperature, within top_k, then top_p of that, then min_p.

    logits  float (choices,), at least one above -inf; a choice that is out has -inf
    """
    scores = logits.astype(np.float64) / options.temperature
    kept = top_k_of(scores, options.top_k)
    kept = kept[top_p_of(scores[kept], options.top_p)]
    kept = kept[min_p_of(scores[kept], options.min_p)]
    totals = np.exp(scores[kept] - scores[kept].max()).cumsum()
    return int(kept[np.searchsorted(totals, generator.random() * totals[-1], side="right")])

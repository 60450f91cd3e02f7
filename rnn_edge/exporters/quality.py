"""What rounding costs, on real text: the gate that a smaller graph must pass.

Both graphs read the same held-out tokens, in rows side by side, and their predictions are compared one by one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rnn_edge.errors import ExportError
from rnn_edge.runtimes.arrays import Floats, Ids
from rnn_edge.runtimes.decoding import Path, Position, Rules, StepModel, beam_search

__all__ = ["MOST_TOKENS", "Quality", "compare"]

MOST_TOKENS = 16_384  # enough for a perplexity to a fraction of a percent between graphs that read the same
ROWS = 64
PROMPTS, PROMPT_LENGTH, NEW_TOKENS = 12, 16, 24


@dataclass(frozen=True)
class Quality:
    """How a rounded graph predicts held-out text, beside the graph it was rounded from."""

    tokens: int  # how many predictions were compared
    perplexity_before: float
    perplexity_after: float
    top1_agreement: float  # share of predictions with the same first choice
    kl_divergence: float  # of the rounded from the true distribution, nats a token
    same_greedy_texts: float  # share of short continuations that are the same to the last token
    same_beam_texts: float

    @property
    def loss(self) -> float:
        """Return by what share the perplexity grew; below 0, it fell."""
        return self.perplexity_after / self.perplexity_before - 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a manifest."""
        return {**asdict(self), "loss": self.loss}


def compare(before: StepModel, after: StepModel, tokens: Ids) -> Quality:
    """Let both graphs predict each of the tokens, int64 (tokens,), from those before it.

    Raises ExportError when there are too few to tell anything.
    """
    tokens = tokens[: MOST_TOKENS + 1]
    if len(tokens) < 2 * PROMPT_LENGTH:
        raise ExportError(
            f"{len(tokens)} tokens of held-out text are too few to judge by: give at least {2 * PROMPT_LENGTH}"
        )
    rows = min(ROWS, (len(tokens) - 1) // PROMPT_LENGTH)
    length = (len(tokens) - 1) // rows
    inputs = tokens[: rows * length].reshape(rows, length)
    targets = tokens[1 : rows * length + 1].reshape(rows, length)
    sums = np.zeros(4)  # negative log-probs before and after, same first choices, divergences
    before_state, after_state = before.start(rows), after.start(rows)
    for time in range(length):
        column = np.ascontiguousarray(inputs[:, time : time + 1])
        before_logits, before_state = before.step(column, before_state)
        after_logits, after_state = after.step(column, after_state)
        sums += _differences(before_logits, after_logits, targets[:, time])
    count = rows * length
    negative_before, negative_after, agreed, divergence = (sums / count).tolist()
    prompts = [np.ascontiguousarray(inputs[row : row + 1, :PROMPT_LENGTH]) for row in range(min(rows, PROMPTS))]
    return Quality(
        tokens=count,
        perplexity_before=math.exp(negative_before),
        perplexity_after=math.exp(min(negative_after, 700)),
        top1_agreement=agreed,
        kl_divergence=divergence,
        same_greedy_texts=_same_texts(before, after, prompts, num_beams=1),
        same_beam_texts=_same_texts(before, after, prompts, num_beams=5),
    )


def _differences(before: Floats, after: Floats, targets: Ids) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return four sums over rows; logits are float32 (batch, vocab), targets int64 (batch,)."""
    before, after = _log_softmax(before), _log_softmax(after)
    rows = np.arange(len(targets))
    divergence = (np.exp(before) * (before - after)).sum()
    agreed = (before.argmax(axis=1) == after.argmax(axis=1)).sum()
    return np.array([-before[rows, targets].sum(), -after[rows, targets].sum(), agreed, divergence], np.float64)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probs: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probs


def _same_texts(before: StepModel, after: StepModel, prompts: list[Ids], *, num_beams: int) -> float:
    same = [
        continue_tokens(before, prompt, num_beams=num_beams)[0].tokens
        == continue_tokens(after, prompt, num_beams=num_beams)[0].tokens
        for prompt in prompts
    ]
    return sum(same) / len(same)


def continue_tokens(model: StepModel, prompt: Ids, *, num_beams: int, new_tokens: int = NEW_TOKENS) -> list[Path]:
    """Return the most probable continuations of a prompt, int64 (1, time), best first; nothing but length ends one."""
    logits, state = model.step(prompt, model.start(1))
    silent = [b""] * logits.shape[1]
    rules = Rules(token_bytes=silent, end_id=None, unknown_id=None, max_new_tokens=new_tokens)
    return beam_search(model, [[Path()]], Position(logits, state), rules, num_beams=num_beams)[0]

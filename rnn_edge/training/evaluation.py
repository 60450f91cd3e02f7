"""How well a language model foretells a text: perplexity, bits per character, and how often it guesses right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_edge.modules import LanguageModel
from rnn_edge.text import Tokenizer
from rnn_edge.training.data import Rows, token_rows, token_stream
from rnn_edge.training.lesson import as_when_it_runs

__all__ = ["Evaluation", "evaluate", "evaluate_rows"]

_WINDOW_TOKENS = 256  # bounds memory; the state carries over, so the figures do not depend on it


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured on a text."""

    loss: float  # natural log, mean over tokens
    top1: float  # share of tokens that were the first guess
    top3: float  # share of tokens that were among the first three guesses
    tokens: int  # foretold
    characters: int  # that they spell

    @property
    def perplexity(self) -> float:
        """Return among how many equally likely tokens the model hesitates; infinite if beyond floats."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_character(self) -> float:
        """Return the measure that does not depend on the tokenizer (except for unknown words)."""
        return self.loss * self.tokens / math.log(2) / self.characters

    @property
    def criterion(self) -> float:
        """Return the loss."""
        return self.loss

    def in_short(self) -> str:
        """Return the one figure that shows progress."""
        return f"perplexity {self.perplexity:.2f}"

    def describe(self) -> str:
        """Return all figures in one line."""
        return (
            f"held-out text: perplexity {self.perplexity:.2f}, {self.bits_per_character:.3f} bits per character, "
            f"top-1 {self.top1:.1%}, top-3 {self.top3:.1%} of {self.tokens:,} tokens"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for a checkpoint or JSON."""
        return {
            "perplexity": self.perplexity,
            "bits_per_character": self.bits_per_character,
            "top1": self.top1,
            "top3": self.top3,
            "tokens": self.tokens,
            "characters": self.characters,
        }


def evaluate(model: LanguageModel, tokenizer: Tokenizer, documents: Sequence[str]) -> Evaluation:
    """Read documents from the first to the last token, state carried over, and measure every prediction."""
    stream = token_stream(tokenizer, documents)
    characters = sum(map(len, documents))
    return evaluate_rows(model, token_rows(stream, batch=1), characters_per_token=characters / (len(stream) - 1))


def evaluate_rows(
    model: LanguageModel, rows: Rows, *, characters_per_token: float, max_windows: int | None = None
) -> Evaluation:
    """Measure predictions in rows read side by side; with `max_windows`, in the first part of each row."""
    totals = torch.zeros(3, dtype=torch.float64)  # loss, first guesses, first three guesses
    tokens = 0
    state = model.start(rows.batch)
    with as_when_it_runs(model):
        for inputs, targets in rows.windows(_WINDOW_TOKENS)[:max_windows]:
            logits, state = model(inputs, state)  # (batch, time, vocab)
            totals += _measure(logits.flatten(0, 1), targets.flatten())
            tokens += targets.numel()
    loss, top1, top3 = (totals / tokens).tolist()
    characters = round(tokens * characters_per_token)
    return Evaluation(loss=loss, top1=top1, top3=top3, tokens=tokens, characters=characters)


def _measure(logits: Tensor, targets: Tensor) -> Tensor:
    """Return sums over tokens, float64 (3,): loss, first guess right, one of three right.

    logits   float32 (tokens, vocab)
    targets  int64 (tokens,)
    """
    losses = F.cross_entropy(logits, targets, reduction="none")  # (tokens,)
    guesses = logits.topk(min(3, logits.shape[1]), dim=1).indices  # (tokens, 3)
    right = guesses == targets[:, None]
    return torch.stack([losses.double().sum(), right[:, 0].double().sum(), right.double().sum()])

"""How far back an error reaches: the norm of a loss's gradient by what was read before it, at each distance.

Gradients that vanish with distance (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013) are why a network does
not learn what depends on the distant past, and why LSTMs and GRUs have gates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_edge.errors import TrainingError
from rnn_edge.modules import Checkpoint, LanguageModel

__all__ = ["LEAD", "gradient_by_distance", "reach_in_text"]

LEAD = 32
"""Tokens that are read before those that count: gradients by the first ones, read from zeros, are unlike others."""

_ROWS_AT_ONCE = 64
_FAR = 100  # tokens that a page shows, where its text has as many


def reach_in_text(checkpoint: Checkpoint, text: str) -> list[float]:
    """Return how far an error reaches back in a text: up to 100 tokens, or as far as a shorter text allows."""
    model, tokens = checkpoint.model, checkpoint.tokenizer.encode(text)
    if not isinstance(model, LanguageModel) or model.spec.task != "language-model":
        raise TrainingError(f"the checkpoint is of task {model.spec.task}: only language models can be inspected")
    return gradient_by_distance(model, tokens, distance=max(1, min(_FAR, len(tokens) - LEAD - 2)))


def gradient_by_distance(
    model: LanguageModel, tokens: Sequence[int], *, distance: int = 100, windows: int = 64
) -> list[float]:
    """Return the mean norm of ∂loss_t / ∂x_{t-k} for each k from 0 to `distance`.

    x_t is the vector of the token that is read at time t, and loss_t the cross-entropy of the one that follows it. The
    mean is over windows of a text, spread evenly, each with 32 more tokens before it, and without dropout.

    tokens   of the text, at least distance + 34
    windows  at most; a text has no more than len(tokens) - distance - 33
    """
    needed = LEAD + distance + 2
    last = len(tokens) - needed
    if last < 0:
        raise TrainingError(f"a reach of {distance} tokens needs a text of {needed}, and this one has {len(tokens)}")
    starts = sorted(set(torch.linspace(0, last, windows).long().tolist()))
    rows = torch.tensor([tokens[start : start + needed] for start in starts])
    training = model.training
    model.eval()
    try:
        norms = torch.cat([_norms(model, part) for part in torch.split(rows, _ROWS_AT_ONCE)])  # (windows, time)
    finally:
        model.train(training)
    by_distance: list[float] = norms.mean(dim=0).flip(0).tolist()
    return by_distance


def _norms(model: LanguageModel, rows: Tensor) -> Tensor:
    """Return the norms of the gradient of each row's last loss by all that it read after the lead, (rows, time)."""
    with torch.no_grad():
        _, state = model(rows[:, :LEAD], model.start(len(rows)))
    vectors: list[Tensor] = []

    def cut(_module: object, _tokens: object, found: Tensor) -> Tensor:
        vectors.append(found.detach().requires_grad_())
        return vectors[0]

    hook = model.embedding.register_forward_hook(cut)
    try:
        logits, _ = model(rows[:, LEAD:-1], state)
    finally:
        hook.remove()
    loss = F.cross_entropy(logits[:, -1], rows[:, -1], reduction="sum")  # a row's gradient is its own
    (gradient,) = torch.autograd.grad(loss, vectors)
    norms: Tensor = gradient.norm(dim=-1)
    return norms

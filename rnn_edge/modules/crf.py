"""A linear-chain conditional random field (Lafferty et al. 2001): labels that depend on their neighbours.

score(y) = start[y₁] + Σ emissions[t, yₜ] + Σ transitions[yₜ₋₁, yₜ] + end[yₙ], and p(y) = exp(score(y)) / Z.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CRF"]


class CRF(nn.Module):
    """Scores whole rows of labels. Rows are padded on the right; `present` is False there, and True before."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.empty(num_labels).uniform_(-0.1, 0.1))
        self.end = nn.Parameter(torch.empty(num_labels).uniform_(-0.1, 0.1))
        self.transitions = nn.Parameter(torch.empty(num_labels, num_labels).uniform_(-0.1, 0.1))  # from, to

    def log_prob(self, emissions: Tensor, labels: Tensor, present: Tensor) -> Tensor:
        """Return the log-probability of each row's labels, float32 (batch,).

        emissions  float32 (batch, time, labels)
        labels     int64 (batch, time); what stands in padding does not matter
        present    bool (batch, time), True in the first column
        """
        return self._score(emissions, labels.clamp(min=0), present) - self._log_total(emissions, present)

    def decode(self, emissions: Tensor, present: Tensor) -> Tensor:
        """Return each row's most probable labels, int64 (batch, time), -1 in padding (Viterbi 1967)."""
        best = self.start + emissions[:, 0]  # (batch, labels): of all paths that end in a label
        came_from = []
        for time in range(1, emissions.shape[1]):
            scores, origins = (best[:, :, None] + self.transitions).max(dim=1)  # (batch, to)
            moves = present[:, time, None]
            best = torch.where(moves, scores + emissions[:, time], best)
            came_from.append(torch.where(moves, origins, torch.arange(origins.shape[1])))
        label = (best + self.end).argmax(dim=1, keepdim=True)  # (batch, 1)
        path = [label]
        for origins in reversed(came_from):
            label = origins.gather(1, label)
            path.append(label)
        return torch.cat(path[::-1], dim=1).masked_fill(~present, -1)

    def _score(self, emissions: Tensor, labels: Tensor, present: Tensor) -> Tensor:
        given = emissions.gather(2, labels[:, :, None])[:, :, 0]  # (batch, time)
        moved = self.transitions[labels[:, :-1], labels[:, 1:]]  # (batch, time - 1)
        last = labels.gather(1, present.sum(dim=1, keepdim=True) - 1)[:, 0]
        within = given.masked_fill(~present, 0).sum(dim=1) + moved.masked_fill(~present[:, 1:], 0).sum(dim=1)
        return self.start[labels[:, 0]] + within + self.end[last]

    def _log_total(self, emissions: Tensor, present: Tensor) -> Tensor:
        """Return log Z by the forward algorithm, float32 (batch,)."""
        totals = self.start + emissions[:, 0]  # (batch, labels)
        for time in range(1, emissions.shape[1]):
            moved = (totals[:, :, None] + self.transitions).logsumexp(dim=1) + emissions[:, time]
            totals = torch.where(present[:, time, None], moved, totals)
        return (totals + self.end).logsumexp(dim=1)

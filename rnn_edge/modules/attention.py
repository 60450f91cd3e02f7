"""Attention: where a decoder looks while it writes (Bahdanau et al. 2015; Luong et al. 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnn_edge.spec import TranslatorSpec

__all__ = ["Attention", "Memory"]


@dataclass(frozen=True)
class Memory:
    """What an encoder leaves for attention.

    values   float32 (batch, source, width), its outputs
    keys     float32 (batch, source, key), what queries are compared with
    present  bool (batch, source), False behind a row's end
    """

    values: Tensor
    keys: Tensor
    present: Tensor


class Attention(nn.Module):
    """Scores each source position, and gives the mean of the memory weighted by their softmax.

    dot       score = qᵀ m
    general   score = qᵀ W m                     (Luong et al. 2015, eq. 8)
    bahdanau  score = vᵀ tanh(W q + U m + b)     (Bahdanau et al. 2015, appendix A.1.2)
    """

    def __init__(self, spec: TranslatorSpec) -> None:
        super().__init__()
        self.kind = spec.attention
        width = spec.output_size
        self.key = None if self.kind == "dot" else nn.Linear(spec.read_size, width, bias=self.kind == "bahdanau")
        self.query = nn.Linear(width, width, bias=False) if self.kind == "bahdanau" else None
        self.score = nn.Parameter(torch.randn(width) / math.sqrt(width)) if self.kind == "bahdanau" else None

    def remember(self, outputs: Tensor, present: Tensor) -> Memory:
        """Return the memory of an encoder's outputs, float32 (batch, source, width)."""
        return Memory(outputs, outputs if self.key is None else self.key(outputs), present)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Look from each query.

        queries  float32 (batch, time, output)
        returns  contexts float32 (batch, time, width), and the weights float32 (batch, time, source) that sum to 1
        """
        if self.query is None or self.score is None:
            scores = queries @ memory.keys.transpose(1, 2)  # (batch, time, source)
        else:
            both = torch.tanh(self.query(queries)[:, :, None] + memory.keys[:, None])  # (batch, time, source, key)
            scores = both @ self.score
        scores = scores.masked_fill(~memory.present[:, None], -torch.inf)
        weights = scores.softmax(dim=-1)
        return weights @ memory.values, weights

"""Recurrent layers on top of one another, with any cell, and the state always in plain sight."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from torch import Tensor, nn

from rnn_edge.modules.variants import VariedRNN
from rnn_edge.spec import ModelSpec

__all__ = ["Stack", "State"]

# PyTorch says once that an LSTM with projection trains without oneDNN. Right, but nothing a user could change.
warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")

State = tuple[Tensor, ...]
"""`(h,)`, or `(h, c)` for an LSTM; each float32 (layers, batch, width)."""


class Stack(nn.Module):
    """`torch.nn.RNN`, `LSTM` or `GRU` under one signature; their weights load unchanged. Or a variant of theirs."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.state_sizes = tuple(spec.state_sizes.values())
        self.num_layers = spec.num_layers
        shape = (spec.embedding_size, spec.hidden_size, spec.num_layers)
        dropout = spec.dropout if spec.num_layers > 1 else 0.0  # torch warns where it has no effect
        self.rnn: nn.Module
        if not spec.is_standard:
            self.rnn = VariedRNN(spec)
        elif spec.cell == "elman":
            self.rnn = nn.RNN(*shape, nonlinearity=spec.nonlinearity, dropout=dropout, batch_first=True)
        elif spec.cell == "gru":
            self.rnn = nn.GRU(*shape, dropout=dropout, batch_first=True)
        else:
            self.rnn = nn.LSTM(*shape, proj_size=spec.proj_size, dropout=dropout, batch_first=True)

    def start(self, batch: int) -> State:
        """Return the state before the first token: zeros."""
        like = next(self.rnn.parameters())
        return tuple(like.new_zeros(self.num_layers, batch, size) for size in self.state_sizes)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a stretch of every row.

        x        float32 (batch, time, embedding)
        state    as `start` gives it
        returns  the last layer's output, float32 (batch, time, output), and the state after it
        """
        if len(state) == 1 and isinstance(self.rnn, nn.RNNBase):
            y, h = self.rnn(x, state[0])
            return y, (h,)
        return self.rnn(x, state)  # type: ignore[no-any-return]


def detach(state: Iterable[Tensor]) -> State:
    """Return the same state, cut off from the graph that made it: where back-propagation stops."""
    return tuple(tensor.detach() for tensor in state)

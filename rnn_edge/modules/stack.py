"""Recurrent layers on top of one another, with any cell, and the state always in plain sight."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_edge.modules.dropout import WeightDropout
from rnn_edge.modules.variants import VariedRNN
from rnn_edge.spec import StackSpec

__all__ = ["Stack", "State"]

# PyTorch says once that an LSTM with projection trains without oneDNN. Right, but nothing a user could change.
warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")

State = tuple[Tensor, ...]
"""`(h,)`, or `(h, c)` for an LSTM; each float32 (layers × directions, batch, width)."""


class Stack(nn.Module):
    """`torch.nn.RNN`, `LSTM` or `GRU` under one signature; their weights load unchanged. Or a variant of theirs."""

    def __init__(self, spec: StackSpec, input_size: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.input_size = input_size
        self.directions = 2 if bidirectional else 1
        shape = (input_size, spec.hidden_size, spec.num_layers)
        dropout = spec.dropout if spec.num_layers > 1 else 0.0  # torch warns where it has no effect
        self.weight_dropout = WeightDropout()
        self.rnn: nn.Module
        if not spec.is_standard:
            self.rnn = VariedRNN(spec, input_size, bidirectional=bidirectional)
        elif spec.cell == "elman":
            self.rnn = nn.RNN(*shape, spec.nonlinearity, dropout=dropout, bidirectional=bidirectional, batch_first=True)
        elif spec.cell == "gru":
            self.rnn = nn.GRU(*shape, dropout=dropout, bidirectional=bidirectional, batch_first=True)
        else:
            self.rnn = nn.LSTM(
                *shape, proj_size=spec.proj_size, dropout=dropout, bidirectional=bidirectional, batch_first=True
            )

    def start(self, batch: int) -> State:
        """Return the state before the first token: zeros."""
        like = next(self.rnn.parameters())
        layers = self.spec.num_layers * self.directions
        return tuple(like.new_zeros(layers, batch, size) for size in self.spec.state_sizes.values())

    def forward(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Read a stretch of every row.

        x        float32 (batch, time, input)
        state    as `start` gives it
        lengths  int64 (batch,), at least 1 each, of rows that are padded on the right; None where none is
        returns  the last layer's output, float32 (batch, time, directions × output), zeros or anything behind a row's
                 end, and the state after it: forwards after a row's last token, backwards after its first
        """
        weights = self.weight_dropout(self.rnn)
        rnn = partial(_with, self.rnn, weights) if weights else self.rnn
        if not isinstance(self.rnn, nn.RNNBase):
            return rnn(x, state, lengths)  # type: ignore[no-any-return]
        before = state[0] if len(state) == 1 else state
        if lengths is None:
            y, after = rnn(x, before)
        else:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            y, after = rnn(packed, before)
            y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
        return y, (after,) if len(state) == 1 else after


def _with(rnn: nn.Module, weights: Mapping[str, Tensor], *inputs: object) -> Any:
    return functional_call(rnn, dict(weights), inputs)


def detach(state: Iterable[Tensor]) -> State:
    """Return the same state, cut off from the graph that made it: where back-propagation stops."""
    return tuple(tensor.detach() for tensor in state)

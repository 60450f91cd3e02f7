"""Recurrent layers that read whole texts: in one direction or both, and as a pyramid. What the other networks share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnn_edge.modules.stack import Stack, State
from rnn_edge.spec import Pooling, StackSpec

__all__ = ["NOTHING", "Encoded", "Encoder", "lengths_of", "pool"]

NOTHING = -1  # fills a row of a batch behind its last token


@dataclass(frozen=True)
class Encoded:
    """What the layers make of a batch of texts.

    outputs  float32 (batch, time, directions × output)
    lengths  int64 (batch,), how many of a row's outputs there are
    state    each float32 (layers, batch, directions × width): forwards after the last token, backwards after the first
    """

    outputs: Tensor
    lengths: Tensor
    state: State

    @property
    def present(self) -> Tensor:
        """Return which outputs there are, bool (batch, time)."""
        return _present(self.outputs, self.lengths)


class Encoder(nn.Module):
    """Reads vectors that are padded on the right; each row comes out as it does alone.

    pyramidal  each layer above the first reads two neighbours of the one below as one (Chan et al. 2015)
    """

    def __init__(
        self, spec: StackSpec, input_size: int, *, bidirectional: bool = False, pyramidal: bool = False
    ) -> None:
        super().__init__()
        self.spec = spec
        self.pyramidal = pyramidal
        self.directions = 2 if bidirectional else 1
        stacks: list[Stack] = []
        if pyramidal:
            for layer in range(spec.num_layers):
                size = 2 * self.directions * spec.output_size if layer else input_size
                stacks.append(Stack(spec.one_layer(), size, bidirectional=bidirectional))
        else:
            stacks.append(Stack(spec, input_size, bidirectional=bidirectional))
        self.stacks = nn.ModuleList(stacks)

    def forward(self, x: Tensor, lengths: Tensor) -> Encoded:
        """Read all rows.

        x        float32 (batch, time, input)
        lengths  int64 (batch,), at least 1 each
        """
        states = []
        for number, stack in enumerate(self.stacks):
            assert isinstance(stack, Stack)
            if number:
                x, lengths = _join_neighbours(F.dropout(x, self.spec.dropout, self.training), lengths)
            padded = lengths if int(lengths.min()) < x.shape[1] else None
            x, state = stack(x, stack.start(len(x)), padded)
            states.append(state)
        joined = tuple(self._side_by_side(torch.cat(parts)) for parts in zip(*states, strict=True))
        return Encoded(x, lengths, joined)

    def _side_by_side(self, state: Tensor) -> Tensor:
        """Put a layer's two directions side by side: (layers × directions, batch, width) to one row a layer."""
        _, batch, width = state.shape
        layers = state.view(-1, self.directions, batch, width)
        return layers.transpose(1, 2).flatten(2)  # (layers, batch, directions × width)


def _join_neighbours(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Read two columns as one, a last one with zeros: (batch, time, width) to (batch, time / 2, 2 × width)."""
    x = F.pad(x * _present(x, lengths)[..., None], (0, 0, 0, x.shape[1] % 2))
    batch, time, width = x.shape
    return x.view(batch, time // 2, 2 * width), (lengths + 1) // 2


def _present(x: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(x.shape[1]) < lengths[:, None]


def lengths_of(tokens: Tensor) -> Tensor:
    """Return how many tokens each row has, int64 (batch,); rows are filled with -1 behind them."""
    return (tokens != NOTHING).sum(dim=1)


def pool(encoded: Encoded, pooling: Pooling) -> Tensor:
    """Return a vector a row, float32 (batch, directions × output)."""
    if pooling == "last":
        return encoded.state[0][-1]
    present = encoded.present
    if pooling == "max":
        return encoded.outputs.masked_fill(~present[..., None], -torch.inf).amax(dim=1)
    total = (encoded.outputs * present[..., None]).sum(dim=1)
    return total / encoded.lengths[:, None]

"""What is left out at random while a network learns, with masks that may last. Nothing of it is stored or exported.

A mask that lasts is drawn when it is first needed and stays the same, token by token or all at once, until `new_masks`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Dropout", "WeightDropout", "leave_out", "new_masks"]


class Dropout(nn.Module):
    """`torch.nn.Dropout`; or, with `lasting`, with one mask for all tokens of a row.

    (Variational dropout: Gal and Ghahramani 2016, of what goes into and comes out of the recurrent layers.)
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate, self.lasting = rate, False
        self.masks: dict[tuple[str, int, int], Tensor] = {}

    def forward(self, x: Tensor, place: str) -> Tensor:
        """Leave out a share of float32 (batch, …, width), and scale the rest up; each place has a mask of its own."""
        if not (self.lasting and self.training and self.rate):
            return F.dropout(x, self.rate, self.training)
        batch, width = x.shape[0], x.shape[-1]
        key = place, batch, width
        if key not in self.masks:
            self.masks[key] = F.dropout(x.new_ones(batch, width), self.rate)
        return x * self.masks[key].view(batch, *[1] * (x.dim() - 2), width)


class WeightDropout(nn.Module):
    """Which of a recurrent layer's weights from state to gates are left out: DropConnect (Merity et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0
        self.masks: dict[str, Tensor] = {}

    def forward(self, rnn: nn.Module) -> dict[str, Tensor]:
        """Return the matrices by name as they are to be used now; none where nothing is left out."""
        if not (self.training and self.rate):
            return {}
        matrices = [(name, weight) for name, weight in rnn.named_parameters() if name.startswith("weight_hh")]
        for name, weight in matrices:
            if name not in self.masks:
                self.masks[name] = F.dropout(torch.ones_like(weight), self.rate)
        return {name: weight * self.masks[name] for name, weight in matrices}


def leave_out(model: nn.Module, *, variational: bool, weights: float) -> None:
    """Choose how a network is to learn: with masks that last, and without this share of its recurrent weights."""
    for part in _parts(model):
        if isinstance(part, Dropout):
            part.lasting = variational
        else:
            part.rate = weights


def new_masks(model: nn.Module) -> None:
    """Forget the masks that last, as a step of training begins."""
    for part in _parts(model):
        part.masks.clear()


def _parts(model: nn.Module) -> Iterator[Dropout | WeightDropout]:
    return (part for part in model.modules() if isinstance(part, Dropout | WeightDropout))

"""What a run learns: the seam between the loop, which knows steps and time, and tasks, which know their examples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rnn_edge.modules import Checkpoint, Network, State
from rnn_edge.modules.dropout import new_masks
from rnn_edge.spec import ModelSpec
from rnn_edge.training.options import MatrixPrecision

__all__ = ["Learner", "Lesson", "Measured", "Moment", "as_when_it_runs"]


@contextmanager
def as_when_it_runs(model: nn.Module) -> Iterator[None]:
    """Switch dropout, gradients and the rounding of products off inside the block."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            yield
    finally:
        model.train(training)


class Measured(Protocol):
    """How well a network does on examples that it does not learn from."""

    @property
    def criterion(self) -> float:
        """Return what the best model has least of."""

    def in_short(self) -> str:
        """Return the one figure that shows progress."""

    def describe(self) -> str:
        """Return all figures in one line."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for a checkpoint or JSON."""


@dataclass(frozen=True)
class Moment:
    """Where a run stands when a step begins, and what learns in it beside the network."""

    step: int  # counted over all epochs from 0
    share: float = 0.0  # of the run that lies behind, from 0 to 1
    companion: nn.Module = field(default_factory=nn.Identity)  # as `objectives.companion` makes it


class Lesson(Protocol):
    """Examples, the loss on them, and how a network is judged. Nothing in it changes.

    fingerprint  what the lesson is made of, plain values by name: a run is only resumed with the same
    facts        what the examples came from, for a checkpoint's history
    """

    steps_per_epoch: int
    tokens_per_step: float
    fingerprint: dict[str, Any]
    facts: dict[str, Any]

    @property
    def spec(self) -> ModelSpec:
        """Return the network that learns."""

    def start(self, model: Network) -> State:
        """Return the state before the first step of an epoch; nothing where examples do not depend on one another."""

    def loss(self, model: Network, moment: Moment, state: State) -> tuple[Tensor, State]:
        """Return the loss of a step, and the state to carry to the next."""

    def look(self, model: Network) -> Measured:
        """Measure on the held-out examples, or on part of them, quickly."""

    def judge(self, model: Network) -> Measured:
        """Measure everything on all of them."""

    def checkpoint(self, model: Network, history: dict[str, Any]) -> Checkpoint:
        """Return what is saved: the network, its vocabularies, and held-out examples to judge its exports by."""


class Learner(nn.Module):
    """All that learns in a run, with the loss as its output: what several workers share the gradients of.

    With precision `bf16`, PyTorch's autocast rounds the factors of matrix products (Micikevicius et al. 2018, with a
    format that needs no scaling of the loss); weights, their gradients, and the state that is carried are float32.
    """

    def __init__(self, network: Network, companion: nn.Module, precision: MatrixPrecision = "fp32") -> None:
        super().__init__()
        self.network, self.companion = network, companion
        self._rounds = precision == "bf16"

    def forward(self, lesson: Lesson, step: int, share: float, state: State) -> tuple[Tensor, State]:
        """Return what the lesson's `loss` does."""
        new_masks(self.network)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._rounds):
            loss, after = lesson.loss(self.network, Moment(step, share, self.companion), state)
        return loss.float(), tuple(part.float() for part in after)

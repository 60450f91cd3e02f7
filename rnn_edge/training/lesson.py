"""What a run learns: the seam between the loop, which knows steps and time, and tasks, which know their examples."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from rnn_edge.modules import Checkpoint, Network, State
from rnn_edge.spec import ModelSpec

__all__ = ["Lesson", "Measured"]


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

    def loss(self, model: Network, step: int, state: State) -> tuple[Tensor, State]:
        """Return the loss of a step, counted over all epochs from 0, and the state to carry to the next."""

    def look(self, model: Network) -> Measured:
        """Measure on the held-out examples, or on part of them, quickly."""

    def judge(self, model: Network) -> Measured:
        """Measure everything on all of them."""

    def checkpoint(self, model: Network, history: dict[str, Any]) -> Checkpoint:
        """Return what is saved: the network, its vocabularies, and held-out examples to judge its exports by."""

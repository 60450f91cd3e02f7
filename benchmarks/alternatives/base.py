"""Everything that can run the same network: how each is made from PyTorch's weights, and how it takes a step.

Each alternative converts a workload to a file, in a process that has PyTorch, and opens the file, which may happen in
a process without. Whatever cannot be imported or converted raises, and is skipped with its reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rnn_edge.runtimes.arrays import Floats, Ids

__all__ = ["Alternative", "Parts", "Runner", "Source", "best", "log_totals"]

Parts: TypeAlias = tuple[Any, ...]  # a state: arrays or tensors, as the alternative keeps them


@dataclass(frozen=True)
class Source:
    """What is converted."""

    workload: Any  # Workload, whose module needs PyTorch
    precision: Any  # rnn_edge.bundle.Precision
    batch: int
    directory: Path  # to write into; nobody else does

    def state_sizes(self) -> list[int]:
        """Return the width of each part of a plain step's state."""
        return [*self.workload.spec.state_sizes.values()] * self.workload.spec.num_layers

    def file(self, suffix: str) -> Path:
        """Return the file to write."""
        return self.directory / f"model.{suffix}"

    def plain(self) -> tuple[Any, tuple[Any, ...]]:
        """Return the plain step, and an example of what it takes."""
        import torch

        from benchmarks.workloads import PlainStep

        states = (torch.zeros(self.batch, size) for size in self.state_sizes())
        step = PlainStep(self.workload.model()).eval().requires_grad_(False)
        return step, (torch.zeros(self.batch, dtype=torch.int64), *states)


class Runner(ABC):
    """An opened network."""

    batch_axis = 0  # of a state's parts

    @abstractmethod
    def start(self, batch: int) -> Parts:
        """Return the state before the first token."""

    @abstractmethod
    def step(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        """Read a token in every row, int64 (batch,); return logits in numpy, float32 (batch, vocab), and the state."""

    def read(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        """Read a prompt, int64 (batch, time): at once where that is possible, and else token by token."""
        for column in tokens.T:
            logits, state = self.step(np.ascontiguousarray(column), state)
        return logits, state

    def best_after(self, tokens: Ids, state: Parts, count: int) -> tuple[object, Parts]:
        """Read as `step` does; return what `best` returns, in the way that suits the alternative, and the state."""
        logits, state = self.step(tokens, state)
        return best(logits, count), state

    def reorder(self, state: Parts, rows: Sequence[int]) -> Parts:
        """Return the given rows of a state."""
        chosen = list(rows)
        return tuple(part[chosen] if self.batch_axis == 0 else part[:, chosen] for part in state)


def best(logits: Floats, count: int) -> tuple[Ids, Floats]:
    """Return the ids of each row's most probable tokens, best first, and their log-probs, as one writes it in numpy."""
    chosen = np.argpartition(logits, -count, axis=-1)[:, -count:]
    scores = np.take_along_axis(logits, chosen, axis=-1)
    order = np.argsort(-scores, axis=-1)
    log_probs = np.take_along_axis(scores, order, axis=-1) - log_totals(logits)
    return np.take_along_axis(chosen, order, axis=-1), log_probs


def log_totals(logits: Floats) -> Floats:
    """Return log(sum(exp(scores))) of each row, float32 (batch, 1)."""
    highest = logits.max(axis=-1, keepdims=True)
    totals: Floats = np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True)) + highest
    return totals


@dataclass(frozen=True)
class Alternative:
    """One way to run a network: its name, what it needs, and its two stages."""

    name: str
    packages: tuple[str, ...]  # distributions, for their versions
    modules: tuple[str, ...]  # to import before it is opened
    precisions: tuple[str, ...]
    convert: Callable[[Source], Path]
    open: Callable[[Path], Runner]
    any_batch: bool = True  # one file serves all batches
    tail: str | None = None  # the precision of scores that are not among the best, where that is another

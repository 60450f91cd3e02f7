"""A training run between two steps: all it needs to go on, in memory and in a file.

What is saved here and restored goes on bit for bit as if nothing had happened. How a step is made is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rnn_edge.errors import CheckpointError, TrainingError
from rnn_edge.modules import Network, State, build
from rnn_edge.modules.checkpoint import read_tensors, write_tensors
from rnn_edge.modules.dropout import leave_out
from rnn_edge.spec import ModelSpec
from rnn_edge.training.lesson import Learner
from rnn_edge.training.objectives import companion
from rnn_edge.training.options import TrainOptions
from rnn_edge.training.workers import workers

__all__ = ["Run", "restore_run", "resume_path", "save_run", "start_run"]

FORMAT = 1
_MOST_PARAMETERS = 2**28  # 4 GiB of weights, gradients and averages

_HASHED = ("corpus", "tokenizer")  # parts of a fingerprint that mean nothing to a reader

Weights = dict[str, Tensor]


@dataclass
class Run:
    """Where a run stands. The one thing in training that changes."""

    model: Network
    companion: nn.Module  # what learns beside the network, and is not part of it
    learner: nn.Module  # both, and the loss
    optimizer: torch.optim.Optimizer
    state: State  # carried from step to step, where the lesson has one; float32 (layers, batch, width) each
    random: Tensor  # the state of torch's generator, uint8 (bytes,): what dropout and sampling draw from
    step: int = 0
    seconds: float = 0.0
    best_criterion: float = math.inf
    best_weights: Weights = field(default_factory=dict)
    looks_without_gain: int = 0  # evaluations since the best one
    recent: list[list[float]] = field(default_factory=list)  # loss and gradient norm of each step since the last look
    curve: dict[str, list[float]] = field(default_factory=dict)  # as `curves.draw_curves` takes it

    @contextmanager
    def own_random_numbers(self) -> Iterator[None]:
        """Draw from the run's own generator inside the block, and leave the caller's untouched."""
        outside = torch.get_rng_state()
        torch.set_rng_state(self.random)
        try:
            yield
        finally:
            self.random = torch.get_rng_state()
            torch.set_rng_state(outside)


def start_run(spec: ModelSpec, options: TrainOptions, weights: Weights | None = None) -> Run:
    """Return a run before its first step, its weights those given, or drawn from the seed."""
    parameters = _count_parameters(spec)
    if parameters > _MOST_PARAMETERS:
        raise TrainingError(
            f"this network would have {parameters:,} parameters and training takes up to "
            f"{_MOST_PARAMETERS:,}: choose smaller sizes or a smaller vocabulary"
        )
    us = workers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = build(spec).train()
        beside = companion(spec, options)
        if not us.is_first:
            torch.manual_seed(options.seed + us.rank)  # each draws its own dropout
        random = torch.get_rng_state()
    if weights is not None:
        model.load_state_dict(weights)
    leave_out(model, variational=options.variational_dropout, weights=options.weight_dropout)
    learner = Learner(model, beside, options.precision)
    return Run(model, beside, us.spread(learner), _optimizer(learner, options), (), random)


def _count_parameters(spec: ModelSpec) -> int:
    with torch.device("meta"):  # allocates nothing
        return sum(weight.numel() for weight in build(spec).parameters())


def _optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    biases = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": options.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, fused=True)


def resume_path(output: Path) -> Path:
    """Return the file beside a model.pt that an unfinished run goes on from."""
    return output.with_name(output.name + ".resume")


def save_run(run: Run, output: Path, *, fingerprint: dict[str, Any]) -> None:
    """Write the resume file of `output`, whole or not at all; `fingerprint` says what the run is made of.

    Several workers do this together: each gives its rows of the state and its random numbers, the first writes.
    """
    us = workers()
    state = [torch.cat(us.gather(part), dim=1) for part in run.state]
    random = torch.stack(us.gather(run.random))  # (workers, bytes)
    if not us.is_first:
        return
    content = {
        "rnn_edge_resume": FORMAT,
        "fingerprint": fingerprint,
        "weights": run.model.state_dict(),
        "companion": run.companion.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "state": state,
        "random": random,
        "step": run.step,
        "seconds": run.seconds,
        "best_criterion": run.best_criterion,
        "best_weights": run.best_weights,
        "looks_without_gain": run.looks_without_gain,
        "recent": run.recent,
        "curve": run.curve,
    }
    write_tensors(resume_path(output), content)


def restore_run(run: Run, output: Path, *, fingerprint: dict[str, Any]) -> None:
    """Bring a new run to where the resume file of `output` left off; refuse one that is made of other things."""
    path = resume_path(output)
    if not path.exists():
        raise TrainingError(
            f"there is nothing to resume: {path} does not exist, because the run has finished or never began; "
            "leave out --resume to train from the start"
        )
    content = read_tensors(path)
    if content.get("rnn_edge_resume") != FORMAT:
        raise CheckpointError(
            f"{path} is not a resume file of this rnn-edge: go on with the version that wrote it, or start anew"
        )
    usual = {**TrainOptions().to_dict(), "workers": 1}  # what a run had that began before there was a choice
    _refuse_differences(path, found={**usual, **content["fingerprint"]}, wanted={**usual, **fingerprint})
    us = workers()
    run.model.load_state_dict(content["weights"])
    run.companion.load_state_dict(content.get("companion", {}))
    run.optimizer.load_state_dict(content["optimizer"])
    run.state = tuple(part.chunk(us.count, dim=1)[us.rank].contiguous() for part in content["state"])
    run.random = content["random"].view(us.count, -1)[us.rank].clone()  # torch reads a generator's state from offset 0
    run.step = content["step"]
    run.seconds = content["seconds"]
    run.best_criterion = content["best_criterion"]
    run.best_weights = content["best_weights"]
    run.looks_without_gain = content["looks_without_gain"]
    run.recent, run.curve = content.get("recent", []), content.get("curve", {})


def _refuse_differences(path: Path, *, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    differences = [
        f"the {name} is another one"
        if name in _HASHED
        else f"{name} was {found.get(name)!r} and is now {wanted.get(name)!r}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differences:
        raise TrainingError(
            f"{path} belongs to another run: {'; '.join(differences)}. "
            "Give what it began with, or leave out --resume to train from the start"
        )

"""What a run reports: each step, how it ended, and both in words. Plain data and strings; nothing is printed here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rnn_edge.training.lesson import Measured

__all__ = ["Finished", "Progress", "StopReason", "describe_finish", "describe_progress", "finish_to_dict"]

StopReason = Literal["epochs", "time", "patience"]

_REASONS: dict[StopReason, str] = {
    "epochs": "all epochs done",
    "time": "time is up",
    "patience": "no more improvement",
}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One step, and at times a look at the held-out examples after it."""

    step: int  # from 1
    total_steps: int
    epoch: int  # from 1
    loss: float  # of this step; natural log, mean over what is foretold
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens_per_second: float  # since the run began
    seconds: float  # since the run began, interruptions left out
    share: float  # of the run that lies behind, from 0 to 1
    held_out: Measured | None = None
    improved: bool = False  # whether this look was the best so far

    @property
    def seconds_left(self) -> float:
        """Return how long the run goes on at this speed, unless it stops early."""
        return self.seconds * (1 - self.share) / self.share


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a run ended: the best model, measured here on all held-out examples, is in `output`."""

    output: Path
    held_out: Measured
    stopped_by: StopReason
    steps: int
    seconds: float


def describe_progress(progress: Progress, held_out: Measured | None) -> str:
    """Return one line: where the run stands, how well it did at the last look, how fast it is, how long to go."""
    parts = [
        f"step {progress.step:,}/{progress.total_steps:,}",
        f"epoch {progress.epoch}",
        f"loss {progress.loss:.3f}",
        held_out.in_short() if held_out else "",
        f"{progress.tokens_per_second:,.0f} tokens/s",
        f"{_clock(progress.seconds_left)} left",
    ]
    return "  ".join(filter(None, parts))


def describe_finish(finished: Finished) -> str:
    """Return three lines: how good the best model is, where it is, what to type next."""
    return (
        f"{finished.held_out.describe()}\n"
        f"saved {finished.output} after {finished.steps:,} steps in {_clock(finished.seconds)}: "
        f"{_REASONS[finished.stopped_by]}\n"
        f"next: rnn-edge export {finished.output}"
    )


def finish_to_dict(finished: Finished) -> dict[str, Any]:
    """Return the same as plain values, ready for JSON."""
    return {
        "output": str(finished.output),
        **finished.held_out.to_dict(),
        "steps": finished.steps,
        "seconds": round(finished.seconds, 1),
        "stopped_by": finished.stopped_by,
    }


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""What rnn-edge should reach, as ratios between rows of one run, and whether it did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.run import IN_GRAPH, LIMIT, TWO_STAGE_IN_GRAPH, Row
from rnn_edge.runtimes.bench import Times

__all__ = ["GOALS", "Goal", "Index", "index"]

Key: TypeAlias = tuple[str, str, int, str, str]  # workload, task, batch, alternative, precision
Index: TypeAlias = dict[Key, Times]
TWO_STAGE = "rnn-edge, two-stage"
US, LITERT, BY_HAND, TORCH = "rnn-edge", "LiteRT", "torch.onnx.export by hand", "PyTorch"
WIDE = "keyboard-wide"


@dataclass(frozen=True)
class Goal:
    """One row over another, and the most that it may be."""

    about: str
    ours: Key
    other: Key
    most: float

    def measured(self, rows: Index) -> Times | None:
        """Return the ratio in each round, or nothing where one of the two was not measured."""
        if self.ours not in rows or self.other not in rows:
            return None
        ours, other = rows[self.ours], rows[self.other]
        if len(ours.rounds) != len(other.rounds):
            return None
        return ours.over(other)


def index(rows: Iterable[Row]) -> Index:
    """Return times by what they are of."""
    return {(row.workload, row.task, row.batch, row.alternative, row.precision): Times(row.rounds) for row in rows}


def _goals() -> Sequence[Goal]:
    goals = []

    def want(
        about: str, workload: str, ours: tuple[str, int, str], other: tuple[str, int, str, str], most: float
    ) -> None:
        task, batch, precision = ours
        goals.append(Goal(f"{workload}: {about}", (workload, task, batch, US, precision), (workload, *other), most))

    def beams(workload: str, over: str, other: tuple[str, int, str, str], most: float, *forms: str) -> None:
        for form in (US, IN_GRAPH, *forms):
            where = form.removeprefix(US)
            ours = (workload, "beam of 5", 5, form, "int8")
            goals.append(Goal(f"{workload}: beam of 5, int8{where}, over {over}", ours, (workload, *other), most))

    for workload, most in (("keyboard", 0.67), (WIDE, 0.6), ("ptb-medium", 0.75), ("elman", 0.6)):
        for form in (US,) if workload == "keyboard" else (US, TWO_STAGE):  # whose layer is too narrow for two stages
            for batch, at_most in ((1, most), (5, 0.85)):
                about = f"{workload}: 20 best, int8{', two-stage' * (form != US)}, batch {batch}, over LiteRT"
                ours, other = ((workload, "20 best", batch, each, "int8") for each in (form, LITERT))
                goals.append(Goal(about, ours, other, at_most))
    for workload, most in (("keyboard", 1.85), (WIDE, 1.25), ("ptb-medium", 1.4), ("character", 2.3), ("elman", 1.25)):
        want("step, int8, over the limit", workload, ("step", 1, "int8"), ("step", 1, LIMIT, "int8"), most)
        by_hand = 1 / (1.15 if workload == "ptb-medium" else 1.4)
        want("step, int8, over the hand route", workload, ("step", 1, "int8"), ("step", 1, BY_HAND, "int8"), by_hand)
    for workload in (WIDE, "ptb-medium", "elman"):
        want("step, int8, over LiteRT", workload, ("step", 1, "int8"), ("step", 1, LITERT, "int8"), 1.1)
    for workload in (WIDE, "elman"):
        exact, limit = (workload, "20 best", 1, TWO_STAGE, "fp32"), (workload, "step", 1, LIMIT, "fp32")
        goals.append(Goal(f"{workload}: exact 20 best in two stages, fp32, over the limit", exact, limit, 0.55))
        beams(workload, "PyTorch", ("beam of 5", 5, TORCH, "fp32"), 0.1, TWO_STAGE_IN_GRAPH)
    for workload in ("keyboard", WIDE, "ptb-medium", "character", "elman"):
        beams(workload, "its step", ("step", 5, US, "int8"), 1.4)
        prompt = ("prompt of 64", 1)
        want("prompt of 64, int8, over PyTorch", workload, (*prompt, "int8"), (*prompt, TORCH, "fp32"), 1 / 3)
    want("bytes, int8, over LiteRT", "keyboard", ("bytes", 1, "int8"), ("bytes", 1, LITERT, "int8"), 1.7 / 1.79)
    return goals


GOALS = _goals()

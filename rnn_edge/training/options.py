"""How to train, as plain data: every choice that is not the network's, with its reason beside it.

It knows numbers and words; it must not know text, tensors or files.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rnn_edge.errors import TrainingError

__all__ = [
    "Baseline",
    "BleuSmoothing",
    "MatrixPrecision",
    "Objective",
    "SamplingSchedule",
    "Schedule",
    "TrainOptions",
    "TrainTask",
]

Baseline = Literal["learned", "self-critical"]
BleuSmoothing = Literal["add-k", "exp", "floor"]
MatrixPrecision = Literal["fp32", "bf16"]
Objective = Literal["maximum-likelihood", "scheduled-sampling", "minimum-risk", "mixer", "professor-forcing"]
SamplingSchedule = Literal["linear", "exponential", "inverse-sigmoid"]
Schedule = Literal["cosine", "constant"]
TrainTask = Literal["language-model", "translate", "classify", "tag"]

_LARGEST_COUNT = 2**31 - 1
_LARGEST_SEED = 2**63 - 1  # what torch takes
_MOST_THREADS = 1024

_WORDS: dict[str, Any] = {
    "objective": Objective,
    "sampling_schedule": SamplingSchedule,
    "bleu_smoothing": BleuSmoothing,
    "baseline": Baseline,
    "schedule": Schedule,
    "precision": MatrixPrecision,
}
_ONLY_FOR: dict[str, tuple[Objective, ...]] = {
    "sampling_schedule": ("scheduled-sampling",),
    "teacher_share": ("scheduled-sampling",),
    "candidates": ("minimum-risk",),
    "sharpness": ("minimum-risk",),
    "bleu_smoothing": ("minimum-risk", "mixer"),
    "baseline": ("mixer",),
    "mixer_delta": ("mixer",),
}


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Everything that decides the course of a run, apart from the network, the tokenizer and the corpus."""

    epochs: int = 10  # a small network on a small text has learnt what it can by then
    max_minutes: float | None = None  # stop by then; the learning rate still reaches its end
    batch_size: int = 32  # contiguous streams read side by side: enough to keep two cores busy
    bptt: int = 64  # tokens that an error travels back: longer costs memory and gains little
    learning_rate: float = 6e-3  # the highest; small recurrent networks bear it with clipping, and learn faster
    weight_decay: float = 0.01  # of matrices; biases are left alone
    clip_norm: float = 1.0  # a rare steep gradient must not throw the weights away
    label_smoothing: float = 0.0  # share of certainty that translators and classifiers spread over all answers
    objective: Objective = "maximum-likelihood"  # docs/objectives.md has the others
    sampling_schedule: SamplingSchedule = "inverse-sigmoid"  # lets go slowly at first, when own words are still poor
    teacher_share: float = 0.5  # of true tokens that are still read at the end of scheduled sampling
    candidates: int = 16  # drawn for each source: the paper's 100 cost too much on two cores
    sharpness: float = 0.005  # of the distribution over candidates; the paper's best
    bleu_smoothing: BleuSmoothing = "add-k"  # by 1, which is that of Lin and Och (2004)
    baseline: Baseline = "learned"  # what a reward is compared with
    mixer_delta: int = 2  # tokens fewer that are told at each stage
    variational_dropout: bool = False  # a row has one mask for all of its tokens
    weight_dropout: float = 0.0  # share of the weights from state to gates that are left out at each step
    word_dropout: float = 0.0  # share of words that classifiers and taggers read as unknown, to learn to do without
    warmup: float = 0.02  # share of the run in which the learning rate rises, while Adam's averages fill
    schedule: Schedule = "cosine"  # falls to zero, which is worth several percent of perplexity
    precision: MatrixPrecision = "fp32"  # of matrix products; weights, gradients and held-out figures stay fp32
    eval_interval: int = 100  # steps between looks at the held-out text; a kill loses at most this
    patience: int = 10  # looks without improvement before the run stops early
    seed: int = 0  # of the first weights and of dropout
    threads: int | None = None  # none leaves it to PyTorch

    def __post_init__(self) -> None:
        problems = [*self._wrong_counts(), *self._wrong_numbers(), *self._wrong_words()]
        if problems:
            raise TrainingError("training cannot start: " + "; ".join(problems))

    def _wrong_counts(self) -> list[str]:
        ranges = {
            "epochs": (1, _LARGEST_COUNT),
            "batch_size": (1, _LARGEST_COUNT),
            "bptt": (1, _LARGEST_COUNT),
            "eval_interval": (1, _LARGEST_COUNT),
            "patience": (1, _LARGEST_COUNT),
            "seed": (0, _LARGEST_SEED),
            "candidates": (2, _LARGEST_COUNT),
            "mixer_delta": (1, _LARGEST_COUNT),
            "threads": (1, _MOST_THREADS),
        }
        problems = []
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if name == "threads" and value is None:
                continue
            if type(value) is not int or not low <= value <= high:
                problems.append(f"{name} must be a whole number from {low} to {high}, got {value!r}")
        return problems

    def _wrong_numbers(self) -> list[str]:
        problems = [
            f"{name} must be a number above 0, got {getattr(self, name)!r}"
            for name in ("max_minutes", "learning_rate", "clip_norm", "sharpness", "teacher_share")
            if not (name == "max_minutes" and self.max_minutes is None)
            and not (_is_number(getattr(self, name)) and getattr(self, name) > 0)
        ]
        if not _is_number(self.weight_decay) or self.weight_decay < 0:
            problems.append(f"weight_decay must be a number from 0, got {self.weight_decay!r}")
        problems += [
            f"{name} must be a share from 0 to below 1, got {getattr(self, name)!r}"
            for name in ("label_smoothing", "weight_dropout", "word_dropout", "warmup")
            if not _is_number(getattr(self, name)) or not 0 <= getattr(self, name) < 1
        ]
        if type(self.variational_dropout) is not bool:
            problems.append(f"variational_dropout must be true or false, got {self.variational_dropout!r}")
        if _is_number(self.teacher_share) and self.teacher_share >= 1:
            problems.append(f"teacher_share must be below 1, got {self.teacher_share!r}")
        return problems

    def _wrong_words(self) -> list[str]:
        problems = [
            f"{name} must be one of {', '.join(get_args(words))}, got {getattr(self, name)!r}"
            for name, words in _WORDS.items()
            if getattr(self, name) not in get_args(words)
        ]
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        return problems + [
            f"{name} is for the objective {' or '.join(objectives)} only"
            for name, objectives in _ONLY_FOR.items()
            if self.objective not in objectives and getattr(self, name) != usual[name]
        ]

    def learning_rate_at(self, share: float) -> float:
        """Return the learning rate when this share of the run, from 0 to 1, lies behind."""
        rate = self.learning_rate
        if share < self.warmup:
            return rate * share / self.warmup
        if self.schedule == "constant":
            return rate
        return rate * (1 + math.cos(math.pi * (share - self.warmup) / (1 - self.warmup))) / 2

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for a checkpoint or JSON."""
        return dataclasses.asdict(self)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]

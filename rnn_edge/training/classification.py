"""A classifier's lesson: texts with a label each, judged by accuracy and macro-averaged F1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional as F

from rnn_edge.modules import Checkpoint, Network, State
from rnn_edge.spec import ClassifierSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training.examples import Batches, Examples, check_labels, forget_words, pad
from rnn_edge.training.lesson import Moment, as_when_it_runs
from rnn_edge.training.options import TrainOptions

__all__ = ["ClassificationLesson", "Classified"]

_ROWS_AT_ONCE = 256
_KEPT_TEXTS = 2000  # held-out texts that a model.pt carries, for its exports to be judged by


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What was measured on texts."""

    loss: float  # natural log, mean over texts
    accuracy: float  # share of texts whose label was the first guess
    macro_f1: float  # F1 of each label that occurs, averaged over labels
    texts: int

    @property
    def criterion(self) -> float:
        """Return the share of errors; of equals, the lower loss is better."""
        return (1 - self.accuracy) + 1e-6 * min(self.loss, 1e3)

    def in_short(self) -> str:
        """Return the one figure that shows progress."""
        return f"accuracy {self.accuracy:.1%}"

    def describe(self) -> str:
        """Return all figures in one line."""
        return f"held-out texts: accuracy {self.accuracy:.2%}, macro-F1 {self.macro_f1:.2%} of {self.texts:,}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for a checkpoint or JSON."""
        return dict(vars(self))


class ClassificationLesson:
    """Texts as tokens; an empty one is its end token."""

    def __init__(self, spec: ClassifierSpec, tokenizer: Tokenizer, examples: Examples, options: TrainOptions) -> None:
        check_labels(spec.labels, (label for _, label in examples.train + examples.held_out))
        self.spec = spec
        self._tokenizer, self._options = tokenizer, options
        self._train, self._held_out = self._rows(examples.train), self._rows(examples.held_out)
        lengths = [(len(tokens),) for tokens, _ in self._train]
        self._batches = Batches(lengths, [1] * len(lengths), batch_size=options.batch_size, seed=options.seed)
        self.steps_per_epoch = len(self._batches)
        self.tokens_per_step = sum(len(tokens) for tokens, _ in self._train) / len(self._batches)
        self.fingerprint: dict[str, Any] = {"tokenizer": tokenizer.to_json(), "corpus": examples.fingerprint()}
        self.facts = examples.facts

    def start(self, model: Network) -> State:  # noqa: ARG002  # texts do not depend on one another
        """Return nothing."""
        return ()

    def loss(self, model: Network, moment: Moment, state: State) -> tuple[Tensor, State]:
        """Foretell the label of each text."""
        rows = [self._train[index] for index in self._batches[moment.step]]
        tokens = forget_words(pad([tokens for tokens, _ in rows]), self._tokenizer, self._options.word_dropout)
        labels = torch.tensor([label for _, label in rows])
        loss = F.cross_entropy(model(tokens), labels, label_smoothing=self._options.label_smoothing)
        return loss * self._batches.weight(moment.step), state

    def look(self, model: Network) -> Classified:
        """Measure all held-out texts."""
        with as_when_it_runs(model):
            logits = torch.cat([model(pad([tokens for tokens, _ in rows])) for rows in self._in_batches()])
        labels = torch.tensor([label for _, label in self._held_out])
        guesses = logits.argmax(dim=-1)
        return Classified(
            loss=F.cross_entropy(logits, labels).item(),
            accuracy=(guesses == labels).double().mean().item(),
            macro_f1=float(f1_score(labels.numpy(), guesses.numpy(), average="macro", zero_division=0.0)),
            texts=len(labels),
        )

    judge = look

    def checkpoint(self, model: Network, history: dict[str, Any]) -> Checkpoint:
        """Return what is saved, with some held-out texts."""
        kept = self._held_out[:_KEPT_TEXTS]
        held_out = {"tokens": pad([tokens for tokens, _ in kept]), "labels": torch.tensor([label for _, label in kept])}
        return Checkpoint(model, self._tokenizer, history, held_out)

    def _rows(self, examples: Sequence[tuple[str, str]]) -> list[tuple[list[int], int]]:
        numbers = {label: number for number, label in enumerate(self.spec.labels)}
        assert self._tokenizer.end_id is not None
        return [(self._tokenizer.encode(text) or [self._tokenizer.end_id], numbers[label]) for text, label in examples]

    def _in_batches(self) -> Iterator[list[tuple[list[int], int]]]:
        for first in range(0, len(self._held_out), _ROWS_AT_ONCE):
            yield self._held_out[first : first + _ROWS_AT_ONCE]

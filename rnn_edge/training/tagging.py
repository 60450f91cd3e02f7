"""A tagger's lesson: words with a label each, judged by accuracy and, for labels like B-PER, by F1 over spans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from seqeval.metrics import f1_score
from torch import Tensor

from rnn_edge.modules import Checkpoint, Network, State, Tagger
from rnn_edge.modules.encoder import NOTHING
from rnn_edge.spec import TaggerSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training.examples import Batches, Examples, check_labels, forget_words, pad
from rnn_edge.training.lesson import Moment, as_when_it_runs
from rnn_edge.training.options import TrainOptions

__all__ = ["Tagged", "TaggingLesson"]

_ROWS_AT_ONCE = 64
_KEPT_SENTENCES = 500  # held-out sentences that a model.pt carries, for its exports to be judged by

Row: TypeAlias = tuple[list[int], list[list[int]], list[int]]
"""A sentence: its words, their letters (none where the network does not spell), their labels."""


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """What was measured on sentences."""

    loss: float  # natural log, mean over words
    accuracy: float  # share of words with the right label
    span_f1: float | None  # of whole spans, by seqeval; None where labels are not of the kind B-PER, I-PER
    words: int
    sentences: int

    @property
    def criterion(self) -> float:
        """Return what is missing to perfect spans, or else to perfect labels."""
        return 1 - (self.accuracy if self.span_f1 is None else self.span_f1)

    def in_short(self) -> str:
        """Return the one figure that shows progress."""
        return f"accuracy {self.accuracy:.2%}" if self.span_f1 is None else f"span F1 {self.span_f1:.2%}"

    def describe(self) -> str:
        """Return all figures in one line."""
        spans = "" if self.span_f1 is None else f", span F1 {self.span_f1:.2%}"
        return (
            f"held-out sentences: accuracy {self.accuracy:.2%} of {self.words:,} words{spans} "
            f"in {self.sentences:,} sentences"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for a checkpoint or JSON."""
        return dict(vars(self))


class TaggingLesson:
    """Sentences as words and their letters."""

    def __init__(
        self,
        spec: TaggerSpec,
        tokenizer: Tokenizer,
        characters: Tokenizer | None,
        examples: Examples,
        options: TrainOptions,
    ) -> None:
        rows = examples.train + examples.held_out
        check_labels(spec.labels, (label for _, labels in rows for label in labels.split()))
        self.spec = spec
        self._tokenizer, self._characters, self._options = tokenizer, characters, options
        self._train, self._held_out = self._rows(examples.train), self._rows(examples.held_out)
        lengths = [(len(tokens),) for tokens, _, _ in self._train]
        words = [length for (length,) in lengths]
        self._batches = Batches(lengths, words, batch_size=options.batch_size, seed=options.seed)
        self.steps_per_epoch = len(self._batches)
        self.tokens_per_step = sum(len(tokens) for tokens, _, _ in self._train) / len(self._batches)
        self.fingerprint: dict[str, Any] = {"tokenizer": tokenizer.to_json(), "corpus": examples.fingerprint()}
        self.facts = examples.facts

    def start(self, model: Network) -> State:  # noqa: ARG002  # sentences do not depend on one another
        """Return nothing."""
        return ()

    def loss(self, model: Network, moment: Moment, state: State) -> tuple[Tensor, State]:
        """Foretell the labels of each sentence."""
        assert isinstance(model, Tagger)
        tokens, characters, labels = self._tensors([self._train[index] for index in self._batches[moment.step]])
        tokens = forget_words(tokens, self._tokenizer, self._options.word_dropout)
        log_probs = model.log_prob(model(tokens, characters), labels)
        return -log_probs.sum() / (labels != NOTHING).sum() * self._batches.weight(moment.step), state

    def look(self, model: Network) -> Tagged:
        """Measure all held-out sentences."""
        assert isinstance(model, Tagger)
        loss, guesses = 0.0, []
        with as_when_it_runs(model):
            for rows in self._in_batches():
                tokens, characters, labels = self._tensors(rows)
                y = model(tokens, characters)
                loss -= model.log_prob(y, labels).sum().item()
                found, _ = model.decode(y, labels != NOTHING)
                guesses += [row[: len(words)] for row, (words, _, _) in zip(found.tolist(), rows, strict=True)]
        wanted = [labels for _, _, labels in self._held_out]
        words = sum(map(len, wanted))
        right = sum(sum(map(int.__eq__, *pair)) for pair in zip(guesses, wanted, strict=True))
        return Tagged(
            loss=loss / words,
            accuracy=right / words,
            span_f1=self._span_f1(wanted, guesses),
            words=words,
            sentences=len(wanted),
        )

    judge = look

    def checkpoint(self, model: Network, history: dict[str, Any]) -> Checkpoint:
        """Return what is saved, with some held-out sentences."""
        tokens, characters, labels = self._tensors(self._held_out[:_KEPT_SENTENCES])
        held_out = {"tokens": tokens, "labels": labels}
        if characters is not None:
            held_out["characters"] = characters
        return Checkpoint(model, self._tokenizer, history, held_out, character_tokenizer=self._characters)

    def _rows(self, examples: Sequence[tuple[str, str]]) -> list[Row]:
        numbers = {label: number for number, label in enumerate(self.spec.labels)}
        return [
            (
                self._tokenizer.encode(words),
                [] if self._characters is None else [self._characters.encode(word) for word in words.split()],
                [numbers[label] for label in labels.split()],
            )
            for words, labels in examples
        ]

    def _tensors(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return words, letters and labels, int64 (batch, time), (batch, time, letters), (batch, time)."""
        tokens, labels = pad([words for words, _, _ in rows]), pad([labels for _, _, labels in rows])
        if self._characters is None:
            return tokens, None, labels
        letters = pad([letters for _, spelled, _ in rows for letters in spelled])  # (words, letters)
        characters = torch.full((*tokens.shape, letters.shape[1]), NOTHING)
        characters[tokens != NOTHING] = letters
        return tokens, characters, labels

    def _in_batches(self) -> Iterator[list[Row]]:
        for first in range(0, len(self._held_out), _ROWS_AT_ONCE):
            yield self._held_out[first : first + _ROWS_AT_ONCE]

    def _span_f1(self, wanted: Sequence[Sequence[int]], found: Sequence[Sequence[int]]) -> float | None:
        if not any(label.startswith(("B-", "I-")) for label in self.spec.labels):
            return None
        named = ([[self.spec.labels[label] for label in row] for row in rows] for rows in (wanted, found))
        return float(f1_score(*named, zero_division=0))

"""A text in, its labels with their probabilities out. What `rnn_edge.load` returns for a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from rnn_edge.errors import OptionsError
from rnn_edge.runtimes.arrays import Floats
from rnn_edge.runtimes.reading import WholeModel, as_texts, encode, in_batches, pad
from rnn_edge.runtimes.scores import best, log_softmax
from rnn_edge.text import Tokenizer

__all__ = ["Classifier", "Label"]


@dataclass(frozen=True)
class Label:
    """A label, and how probable the network finds it."""

    label: str
    probability: float


class Classifier:
    """Labels texts. Immutable and without state: threads may share it."""

    def __init__(self, model: WholeModel, tokenizer: Tokenizer, labels: Sequence[str]) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.labels = tuple(labels)

    @overload  # a str is a sequence of str too, so the order matters
    def classify(self, text: str, *, top_k: int | None = ...) -> list[Label]: ...  # type: ignore[overload-overlap]

    @overload
    def classify(self, text: Sequence[str], *, top_k: int | None = ...) -> list[list[Label]]: ...

    def classify(self, text: str | Sequence[str], *, top_k: int | None = None) -> list[Label] | list[list[Label]]:
        """Return the labels of a text, best first: all, or the `top_k` best; of several texts, what each gives alone.

        Of equally probable labels, the one that the network lists first comes first.
        """
        if top_k is not None and (type(top_k) is not int or top_k < 1):
            raise OptionsError(f"top_k must be a whole number of at least 1, got {top_k!r}")
        ranked = [self._rank(logits, top_k or len(self.labels)) for logits in self._scores(as_texts(text))]
        return ranked[0] if isinstance(text, str) else ranked

    def scores(self, texts: Sequence[str]) -> Floats:
        """Return the unnormalised scores of each text, float32 (batch, labels), in the order of `labels`."""
        return np.array(self._scores(as_texts(texts)), np.float32).reshape(-1, len(self.labels))

    def _scores(self, texts: Sequence[str]) -> list[Floats]:
        rows = [encode(self._tokenizer, text) for text in texts]
        return in_batches(rows, [(len(row),) for row in rows], lambda group: self._model.run(pad(group))[0])

    def _rank(self, logits: Floats, count: int) -> list[Label]:
        probabilities = np.exp(log_softmax(logits))
        return [Label(self.labels[index], float(probabilities[index])) for index in best(logits, count)]

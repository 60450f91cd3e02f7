"""Words in, a label for each out. What `rnn_edge.load` returns for a tagger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

import numpy as np

from rnn_edge.errors import BundleError, TextError
from rnn_edge.runtimes.arrays import NOTHING, Floats, Ids
from rnn_edge.runtimes.reading import Shape, WholeModel, check_text, in_batches, pad
from rnn_edge.runtimes.scores import log_softmax
from rnn_edge.text import Tokenizer

__all__ = ["Span", "Tagger", "Tagging", "spans_of"]

_SPELLINGS_KEPT = 2**14


@dataclass(frozen=True)
class Span:
    """Neighbouring words that belong together: words[first:last] of a sentence."""

    label: str
    first: int
    last: int


@dataclass(frozen=True)
class Tagging:
    """A sentence with its labels.

    probabilities  of each label; none where the labels were chosen all together, as a CRF does
    log_prob       of all labels of the sentence
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]
    log_prob: float
    probabilities: tuple[float, ...] | None = None

    @property
    def spans(self) -> list[Span]:
        """Return what labels that begin with B- and I- mark."""
        return spans_of(self.labels)


class Tagger:
    """Labels the words of sentences. Immutable and without state: threads may share it.

    together  whether the network chooses all labels of a sentence together, so that none has a probability alone
    """

    def __init__(
        self,
        model: WholeModel,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        *,
        characters: Tokenizer | None = None,
        together: bool = False,
    ) -> None:
        if tokenizer.kind != "whitespace":
            raise BundleError(f"a tagger reads words between white space, and this one has {tokenizer.kind}")
        self._model = model
        self._tokenizer = tokenizer
        self._spell = None if characters is None else lru_cache(_SPELLINGS_KEPT)(characters.encode)
        self._together = together
        self.labels = tuple(labels)

    @overload  # a str is a sequence of str too, so the order matters
    def tag(self, text: str) -> Tagging: ...  # type: ignore[overload-overlap]

    @overload
    def tag(self, text: Sequence[str | Sequence[str]]) -> list[Tagging]: ...

    def tag(self, text: str | Sequence[str | Sequence[str]]) -> Tagging | list[Tagging]:
        """Return a text's words with their labels; of several texts, what each gives alone.

        text  a str, whose words are what stands between white space; or several texts, each a str, or its words
        """
        alone = isinstance(text, str) or not isinstance(text, Iterable)
        sentences = [_words_of(each) for each in ([text] if alone else text)]
        spoken = [words for words in sentences if words]
        found = iter(in_batches(spoken, [self._shape(words) for words in spoken], self._tag))
        nothing = Tagging((), (), 0.0, None if self._together else ())
        taggings = [next(found) if words else nothing for words in sentences]
        return taggings[0] if isinstance(text, str) else taggings

    def _shape(self, words: Sequence[str]) -> Shape:
        return (len(words),) if self._spell is None else (len(words), max(len(self._spell(word)) for word in words))

    def _tag(self, sentences: Sequence[tuple[str, ...]]) -> list[Tagging]:
        """Tag sentences, each of at least one word, in one call of the model."""
        tokens = pad([self._tokenizer.encode(" ".join(words)) for words in sentences])
        letters = [] if self._spell is None else [self._letters(sentences)]
        labels, logits, log_probs = self._model.run(tokens, *letters)
        return [
            self._tagging(words, labels[row, : len(words)], logits[row, : len(words)], float(log_probs[row]))
            for row, words in enumerate(sentences)
        ]

    def _tagging(self, words: tuple[str, ...], labels: Ids, logits: Floats, log_prob: float) -> Tagging:
        probabilities = None
        if not self._together:
            chosen = np.take_along_axis(log_softmax(logits), labels[:, None], axis=1)  # (words, 1)
            probabilities = tuple(np.exp(chosen[:, 0]).tolist())
        return Tagging(words, tuple(self.labels[label] for label in labels), log_prob, probabilities)

    def _letters(self, sentences: Sequence[Sequence[str]]) -> Ids:
        """Return the letters of every word, int64 (batch, time, letters), filled with -1 behind them."""
        assert self._spell is not None
        spellings = [[self._spell(word) for word in words] for words in sentences]
        most_words = max(map(len, spellings))
        most_letters = max(len(letters) for words in spellings for letters in words)
        filled = np.full((len(spellings), most_words, most_letters), NOTHING, dtype=np.int64)
        for row, words in zip(filled, spellings, strict=True):
            for place, letters in zip(row, words, strict=False):  # behind the last word there are none
                place[: len(letters)] = letters
        return filled


def spans_of(labels: Sequence[str]) -> list[Span]:
    """Return the spans that BIO labels mark, as the CoNLL shared tasks read them.

    B-X begins a span of X; I-X goes on with it, or begins one where none of X goes on. All other labels end it.
    """
    spans: list[Span] = []
    for place, label in enumerate(labels):
        prefix, _, name = label.partition("-")
        if prefix not in ("B", "I") or not name:
            continue
        before = spans[-1] if spans else None
        if prefix == "I" and before is not None and (before.label, before.last) == (name, place):
            spans[-1] = Span(name, before.first, place + 1)
        else:
            spans.append(Span(name, place, place + 1))
    return spans


def _words_of(text: object) -> tuple[str, ...]:
    if isinstance(text, str):
        return tuple(text.split())
    if not isinstance(text, Sequence):
        raise TextError(f"a sentence must be a str, or a list of words, got {type(text).__name__}")
    words = tuple(check_text(word) for word in text)
    for word in words:
        if word.split() != [word]:
            raise TextError(f"a word must have letters and no white space, got {word!r:.80}: give sentences as str")
    return words

"""A text, or a vector, in; a text out, token by token. What `rnn_edge.load` returns for encoder–decoder networks.

The encoder's outputs are the decoder's first state; from there on it is decoded as every network that writes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from rnn_edge.errors import BundleError, OptionsError, TextError
from rnn_edge.runtimes.arrays import NOTHING, Doubles, Floats, Ids, State, reorder
from rnn_edge.runtimes.completing import Completer, Completion, Prompt
from rnn_edge.runtimes.coverage import CoveringModel, LookingModel
from rnn_edge.runtimes.decoding import ROWS_AT_ONCE, StepModel, read
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.paths import FinishReason
from rnn_edge.runtimes.reading import WholeModel, as_texts, encode, in_batches, pad
from rnn_edge.runtimes.scores import log_probs_of
from rnn_edge.text import END, Tokenizer

__all__ = ["Attention", "Describer", "Translation", "Translator", "check_vectors"]

_DEFAULTS = GenerateOptions()
_USUAL_LENGTH = 200  # a trained network ends by itself; this is for when it does not


@dataclass(frozen=True, eq=False)
class Attention:
    """Where a translator looked when it wrote each token.

    weights  float32 (written, source); each row sums to 1
    written  the tokens that it wrote, as text
    source   the tokens that it read, as text; several in one where a pyramidal encoder joined them
    """

    weights: Floats
    written: tuple[str, ...]
    source: tuple[str, ...]


@dataclass(frozen=True)
class Translation:
    """What a network writes of a text, or of a vector.

    text             begins with forced_prefix, where there is one
    tokens           ids behind the settled tokens of forced_prefix, with the end token where it ended by itself
    log_prob         sum over the tokens, as the model gives it, whatever the sampling options
    score            what translations are ranked by, as of a Completion
    finish_reason    the end token, a stop string, max_new_tokens, or that no token may follow
    token_log_probs  of each token, and
    attention        where it looked; both on request
    """

    text: str
    tokens: tuple[int, ...]
    log_prob: float
    score: float
    finish_reason: FinishReason
    token_log_probs: tuple[float, ...] | None = None
    attention: Attention | None = None


class Translator:
    """Translates texts. Immutable and without state: threads may share it.

    joined  how many source tokens a place of the memory stands for: 1, or more behind a pyramidal encoder
    """

    def __init__(
        self, encoder: WholeModel, decoder: LookingModel, source: Tokenizer, target: Tokenizer, *, joined: int = 1
    ) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._source = source
        self._target = target
        self._writer = _Writer(decoder, target, CoveringModel(decoder) if decoder.has_attention else None)
        self._joined = joined

    @overload  # a str is a sequence of str too, so the order matters
    def translate(  # type: ignore[overload-overlap]
        self, text: str, options: GenerateOptions = ..., *, attention: bool = ...
    ) -> list[Translation]: ...

    @overload
    def translate(
        self, text: Sequence[str], options: GenerateOptions = ..., *, attention: bool = ...
    ) -> list[list[Translation]]: ...

    def translate(
        self, text: str | Sequence[str], options: GenerateOptions = _DEFAULTS, *, attention: bool = False
    ) -> list[Translation] | list[list[Translation]]:
        """Return translations of a text, best first; of several texts, what each gives alone.

        There are `num_return_sequences`, or fewer where no more exist; each has at most 200 tokens, unless
        `max_new_tokens` says otherwise. A blank text has one translation, the empty one, whatever the options: a
        network that never read such a text would make one up.

        attention  tell also each token's log-prob, and where the network looked when it wrote it
        """
        if attention and not self._decoder.has_attention:
            raise OptionsError("this network has no attention: leave out attention=True")
        texts = as_texts(text)
        rows = [encode(self._source, each, with_end=True) for each in texts if each.strip()]
        translations = iter(
            in_batches(
                rows,
                [(len(row),) for row in rows],
                partial(self._translate, options=options, attention=attention),
                rows_at_once=_rows_at_once(options),
            )
        )
        all_of_them = [next(translations) if each.strip() else [_nothing(attention)] for each in texts]
        return all_of_them[0] if isinstance(text, str) else all_of_them

    def score(self, texts: Sequence[str], translations: Sequence[str]) -> list[float]:
        """Return the log-prob of a given translation of each text, with its end token where there is one."""
        sources = [encode(self._source, text, with_end=True) for text in as_texts(texts)]
        targets = [encode(self._target, text, with_end=True) for text in as_texts(translations)]
        if len(sources) != len(targets):
            raise TextError(f"each text needs its translation: got {len(sources)} texts, {len(targets)} translations")
        pairs = list(zip(sources, targets, strict=True))
        return in_batches(pairs, [(len(source), len(target)) for source, target in pairs], self._score)

    def _translate(
        self, sources: Sequence[list[int]], *, options: GenerateOptions, attention: bool
    ) -> list[list[Translation]]:
        state = self._encoder.run(pad(sources))
        found = self._writer.write(state, options)
        return self._explain(sources, state, found, options) if attention else found

    def _explain(
        self,
        sources: Sequence[list[int]],
        state: State,
        found: Sequence[Sequence[Translation]],
        options: GenerateOptions,
    ) -> list[list[Translation]]:
        """Read all translations once more, token by token, to see where each token looked."""
        rows = [row for row, translations in enumerate(found) for _ in translations]
        forced, _ = self._writer.forced(options)
        written = [(*forced, *translation.tokens) for translations in found for translation in translations]
        log_probs, weights = self._writer.follow(reorder(state, rows), written, self._decoder.look)
        log_probs, weights = log_probs[len(forced) :], weights[len(forced) :]
        explained: list[list[Translation]] = [[] for _ in found]
        each = (translation for translations in found for translation in translations)
        for index, (row, translation) in enumerate(zip(rows, each, strict=True)):
            source = self._places(sources[row])
            length = len(translation.tokens)
            looked = Attention(
                np.array([step[index, : len(source)] for step in weights[:length]], np.float32).reshape(length, -1),
                tuple(_spelled(self._target, token) for token in translation.tokens),
                source,
            )
            explained[row].append(
                dataclasses.replace(
                    translation, token_log_probs=tuple(log_probs[:length, index].tolist()), attention=looked
                )
            )
        return explained

    def _score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        sources, targets = zip(*pairs, strict=True)
        log_probs, _ = self._writer.follow(self._encoder.run(pad(sources)), targets)
        return [math.fsum(row) for row in log_probs.T.tolist()]

    def _places(self, tokens: Sequence[int]) -> tuple[str, ...]:
        """Return what each place of the memory stands for."""
        spelled = [_spelled(self._source, token) for token in tokens]
        return tuple("".join(spelled[first : first + self._joined]) for first in range(0, len(spelled), self._joined))


class Describer:
    """Writes texts of vectors. Immutable and without state: threads may share it.

    vector_size  how many numbers a vector has
    """

    def __init__(self, encoder: WholeModel, decoder: StepModel, tokenizer: Tokenizer, vector_size: int) -> None:
        self._encoder = encoder
        self._writer = _Writer(decoder, tokenizer)
        self.vector_size = vector_size

    def describe(self, vectors: ArrayLike, options: GenerateOptions = _DEFAULTS) -> list[list[Translation]]:
        """Return descriptions of each vector, best first; each what it gives alone.

        vectors  float32 (batch, vector)
        """
        checked = check_vectors(vectors, self.vector_size)
        at_once = _rows_at_once(options)
        groups = (checked[first : first + at_once] for first in range(0, len(checked), at_once))
        return [found for group in groups for found in self._writer.write(self._encoder.run(group), options)]


class _Writer:
    """The half of a network that writes: from a first state to texts."""

    def __init__(self, model: StepModel, tokenizer: Tokenizer, covering: CoveringModel | None = None) -> None:
        if tokenizer.start_id is None:
            raise BundleError(f"this network cannot begin to write: its vocabulary has no {END}")
        self._model = model
        self._tokenizer = tokenizer
        self._start = tokenizer.start_id
        self._completer = Completer(model, tokenizer)
        self._covering = covering

    @cached_property
    def _covering_completer(self) -> Completer:
        assert self._covering is not None
        return Completer(self._covering, self._tokenizer)

    def write(self, state: State, options: GenerateOptions) -> list[list[Translation]]:
        """Return what each row of a state leads to, best first."""
        if options.max_new_tokens is None:
            options = dataclasses.replace(options, max_new_tokens=_USUAL_LENGTH)
        if self._tokenizer.kind == "whitespace":  # as it is written, with one blank between words
            options = dataclasses.replace(options, forced_prefix=" ".join(options.forced_prefix.split()))
        rows = state[0].shape[1]
        forced, pending = self.forced(options)
        completer = self._completer
        if options.coverage_penalty and self._covering:
            completer, state = self._covering_completer, self._covering.begin(state)
        position = read(completer.model, [[self._start, *forced]] * rows, state)
        prompt = Prompt(pending, tuple(forced) if options.looks_back else ())
        found = completer.complete(position, [prompt] * rows, options)
        return [[self._translation(completion) for completion in completions] for completions in found]

    def forced(self, options: GenerateOptions) -> tuple[list[int], str]:
        """Return the tokens that every text begins with, and the word behind them that they leave open."""
        if self._tokenizer.kind == "whitespace":  # its words are written whole
            return self._tokenizer.encode(options.forced_prefix), ""
        return self._tokenizer.encode_typing(options.forced_prefix)

    def follow(
        self,
        state: State,
        texts: Sequence[Sequence[int]],
        look: Callable[[Ids, State], tuple[Any, ...]] | None = None,
    ) -> tuple[Doubles, list[Floats]]:
        """Read known texts, token by token.

        texts    a row of tokens for each row of the state
        returns  log-probs of the tokens, float64 (time, batch), 0 behind the last, and from `look`, at each time where
                 each row looked, float32 (batch, source)
        """
        written = pad([[self._start, *text] for text in texts])  # (batch, 1 + time)
        log_probs = np.zeros((written.shape[1] - 1, len(texts)))
        weights: list[Floats] = []
        for time, of_tokens in enumerate(log_probs):
            tokens, following = np.ascontiguousarray(written[:, time : time + 1]), written[:, time + 1]
            logits, state, *looked = (look or self._model.step)(tokens, state)
            weights += looked
            rows = np.flatnonzero(following != NOTHING)
            of_tokens[rows] = log_probs_of(logits, rows, following[rows])
        return log_probs, weights

    def _translation(self, completion: Completion) -> Translation:
        text = completion.text
        return Translation(
            text=text.removeprefix(" ") if self._tokenizer.kind == "whitespace" else text,
            tokens=completion.tokens,
            log_prob=completion.log_prob,
            score=completion.score,
            finish_reason=completion.finish_reason,
        )


def check_vectors(vectors: ArrayLike, size: int) -> Floats:
    """Return vectors to describe, float32 (batch, size), or refuse what is none."""
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
            checked = np.ascontiguousarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise TextError(f"vectors must be rows of numbers, float32 (batch, {size}): {error}") from error
    if checked.shape == (0,):  # an empty list
        return checked.reshape(0, size)
    if checked.ndim != 2 or checked.shape[1] != size or not np.isfinite(checked).all():
        raise TextError(f"vectors must be finite numbers, float32 (batch, {size}); got {checked.shape}")
    return checked


def _nothing(attention: bool) -> Translation:
    """Return the translation of a blank text, which no network was asked for."""
    looked = Attention(np.zeros((0, 0), np.float32), (), ()) if attention else None
    return Translation("", (), 0.0, 0.0, "end", () if attention else None, looked)


def _rows_at_once(options: GenerateOptions) -> int:
    return max(1, ROWS_AT_ONCE // max(options.num_beams, options.num_return_sequences))


def _spelled(tokenizer: Tokenizer, token: int) -> str:
    return END if token == tokenizer.end_id else tokenizer.decode([token])

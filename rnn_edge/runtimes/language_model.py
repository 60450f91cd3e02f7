"""Text in, text out: complete, stream, score, and a session that reads each typed token once.

What `rnn_edge.load` returns for a language model. It joins a network behind the `StepModel` seam to a tokenizer, and
knows nothing of files or of onnxruntime. A text that is still being typed has two parts: settled tokens, which are
read once, and the pending last word, which is completed anew each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from rnn_edge.errors import OptionsError, TextError
from rnn_edge.runtimes.completing import Completer, Completion, Prompt
from rnn_edge.runtimes.decoding import ROWS_AT_ONCE, Position, StepModel, read, score_tokens
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.text import Tokenizer

__all__ = ["Completion", "LanguageModel", "Score", "Session"]

_DEFAULTS = GenerateOptions()


@dataclass(frozen=True)
class Score:
    """How probable a model finds a text; logs are natural."""

    token_log_probs: tuple[float, ...]
    log_prob: float
    perplexity: float  # per token
    bits_per_character: float


class LanguageModel:
    """Completes and scores texts. Immutable and without state: threads may share it."""

    def __init__(self, model: StepModel, tokenizer: Tokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._completer = Completer(model, tokenizer)

    @overload  # a str is a sequence of str too, so the order matters
    def complete(  # type: ignore[overload-overlap]
        self, prompt: str, options: GenerateOptions = ...
    ) -> list[Completion]: ...

    @overload
    def complete(self, prompt: Sequence[str], options: GenerateOptions = ...) -> list[list[Completion]]: ...

    def complete(
        self, prompt: str | Sequence[str], options: GenerateOptions = _DEFAULTS
    ) -> list[Completion] | list[list[Completion]]:
        """Return completions of a text, best first; of several texts, what each gives alone.

        There are `num_return_sequences`, or fewer where no more exist.
        """
        prompts = [self._split(text + options.forced_prefix) for text in _as_texts(prompt)]
        at_once = max(1, ROWS_AT_ONCE // max(options.num_beams, options.num_return_sequences))
        completions: list[list[Completion]] = []
        for first in range(0, len(prompts), at_once):
            tokens, pending = zip(*prompts[first : first + at_once], strict=True)
            position = read(self._model, tokens)
            starts = [self._prompt(*each, options) for each in zip(pending, tokens, strict=True)]
            completions += self._completer.complete(position, starts, options)
        return completions[0] if isinstance(prompt, str) else completions

    def stream(self, prompt: str, options: GenerateOptions = _DEFAULTS) -> Iterator[str]:
        """Return the pieces of one completion as they come; together they are its text."""
        _check_streamable(options)
        tokens, pending = self._split(_check_text(prompt) + options.forced_prefix)
        return self._completer.stream(read(self._model, [tokens]), self._prompt(pending, tokens, options), options)

    @overload
    def score(self, text: str) -> Score: ...  # type: ignore[overload-overlap]

    @overload
    def score(self, text: Sequence[str]) -> list[Score]: ...

    def score(self, text: str | Sequence[str]) -> Score | list[Score]:
        """Return how probable a text is; of several texts, what each gives alone.

        The first token follows the end token, which stands before every text. A model without one scores from the
        second token on.
        """
        texts = _as_texts(text)
        scores = [
            _score(log_probs, characters=len(scored))
            for scored, log_probs in zip(texts, self._score_tokens(texts), strict=True)
        ]
        return scores[0] if isinstance(text, str) else scores

    def perplexity(self, texts: str | Sequence[str]) -> float:
        """Return the perplexity per token over all tokens of all texts."""
        log_probs = [log_prob for of_text in self._score_tokens(_as_texts(texts)) for log_prob in of_text]
        if not log_probs:
            raise TextError("there is no text to score: give at least one")
        return _perplexity(log_probs)

    def session(self, text: str = "") -> Session:
        """Return a session of a text that is being typed."""
        end = self._tokenizer.end_id
        position = None if end is None else read(self._model, [[end]])
        return Session(self, self._type(_Typed("", "", position), text))

    def _split(self, text: str) -> tuple[list[int], str]:
        """Return the tokens to read before a text can be completed, and its pending last word."""
        tokens, pending = self._tokenizer.encode_typing(text)
        if self._tokenizer.end_id is not None:
            return [self._tokenizer.end_id, *tokens], pending
        if not text:
            raise TextError("this model has no end token to start from: give it some text to go on")
        # Nothing stands before the first word that could tell how it ends, so it is read as typed.
        return (tokens, pending) if tokens else (self._tokenizer.encode(pending), "")

    def _prompt(self, pending: str, tokens: Sequence[int], options: GenerateOptions) -> Prompt:
        """Return what is to be completed after some tokens; the end token before them is not part of the text."""
        before = (token for token in tokens if token != self._tokenizer.end_id) if options.looks_back else ()
        return Prompt(pending, tuple(before))

    def _type(self, typed: _Typed, text: str) -> _Typed:
        """Read what typing on settles."""
        tokens, pending = self._tokenizer.encode_typing(typed.pending + _check_text(text))
        position = typed.position
        if tokens:
            position = read(self._model, [tokens], position.state if position else None)
        return _Typed(typed.text + text, pending, position)

    def _stand(self, typed: _Typed, options: GenerateOptions) -> tuple[Position, Prompt]:
        """Return where to complete a text from, and what is pending there."""
        typed = self._type(typed, options.forced_prefix)
        if typed.position is not None and not options.looks_back:
            return typed.position, Prompt(typed.pending)
        tokens, pending = self._split(typed.text)
        return typed.position or read(self._model, [tokens]), self._prompt(pending, tokens, options)

    def _score_tokens(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the log-probs of each text's tokens."""
        tokens = [self._tokens_to_score(text) for text in texts]
        return [log_probs.tolist() for log_probs in score_tokens(self._model, tokens)]

    def _tokens_to_score(self, text: str) -> list[int]:
        if not text:
            raise TextError("an empty text has no score: leave it out")
        tokens = self._tokenizer.encode(text)
        if self._tokenizer.end_id is not None:
            return [self._tokenizer.end_id, *tokens]
        if len(tokens) < 2:
            raise TextError(
                f"this model has no end token, so it scores from the second token on, and {text!r} has only one"
            )
        return tokens


@dataclass(frozen=True, slots=True)
class _Typed:
    """A text that is being typed, and how far it was read.

    pending   its last word, not read yet
    position  after everything before that; nothing was read of a model without end token at first
    """

    text: str
    pending: str
    position: Position | None


class Session:
    """A text that is being typed: each settled token is read once. For one thread; forks are independent."""

    def __init__(self, model: LanguageModel, typed: _Typed) -> None:
        self._model = model
        self._typed = typed

    @property
    def text(self) -> str:
        """Return everything typed so far."""
        return self._typed.text

    def type(self, text: str) -> None:
        """Add what was typed; a text that cannot be read leaves the session as it was."""
        self._typed = self._model._type(self._typed, text)

    def complete(self, options: GenerateOptions = _DEFAULTS) -> list[Completion]:
        """Return what `LanguageModel.complete` returns for the whole text."""
        position, prompt = self._model._stand(self._typed, options)
        return self._model._completer.complete(position, [prompt], options)[0]

    def stream(self, options: GenerateOptions = _DEFAULTS) -> Iterator[str]:
        """Return what `LanguageModel.stream` returns for the whole text."""
        _check_streamable(options)
        position, prompt = self._model._stand(self._typed, options)
        return self._model._completer.stream(position, prompt, options)

    def accept(self, completion: Completion) -> None:
        """Type the text of a completion."""
        self.type(completion.text)

    def fork(self) -> Session:
        """Return a second session of the same text, at no cost: both share what was read."""
        return Session(self._model, self._typed)


def _as_texts(texts: str | Sequence[str]) -> list[str]:
    """Return one text as a list of one, and check each."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        return [_check_text(texts)]
    return [_check_text(text) for text in texts]


def _check_text(text: object) -> str:
    if not isinstance(text, str):
        raise TextError(f"a text must be a str, got {type(text).__name__}: decode it first")
    return text


def _check_streamable(options: GenerateOptions) -> None:
    if options.num_beams > 1 or options.num_return_sequences > 1:
        raise OptionsError(
            f"only one completion can be streamed, and beams decide at the end: set num_beams and "
            f"num_return_sequences to 1, got {options.num_beams} and {options.num_return_sequences}"
        )


def _score(log_probs: Sequence[float], *, characters: int) -> Score:
    log_prob = math.fsum(log_probs)
    return Score(
        token_log_probs=tuple(log_probs),
        log_prob=log_prob,
        perplexity=_perplexity(log_probs),
        bits_per_character=-log_prob / math.log(2) / characters,
    )


def _perplexity(log_probs: Sequence[float]) -> float:
    try:
        return math.exp(-math.fsum(log_probs) / len(log_probs))
    except OverflowError:
        return math.inf

"""Text in, text out: complete, stream and score.

What `rnn_edge.load` returns for a language model. It joins a network behind the `StepModel` seam to a tokenizer, and
knows nothing of files or of onnxruntime. A text that is still being typed has two parts: settled tokens, which are
read once, and the pending last word, which is completed anew each time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import overload

from rnn_edge.errors import OptionsError, TextError
from rnn_edge.runtimes.completing import Completer, Completion, Prompt
from rnn_edge.runtimes.decoding import ROWS_AT_ONCE, Position, StepModel, read, score_tokens
from rnn_edge.runtimes.lexicon import Lexicon
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.reading import as_texts, check_text
from rnn_edge.runtimes.session import Session, Typed, load_session
from rnn_edge.runtimes.suggesting import Suggester, Suggestion, SuggestOptions
from rnn_edge.text import Tokenizer

__all__ = ["Completion", "LanguageModel", "Score", "Session"]

_DEFAULTS = GenerateOptions()
_LARGEST_BATCH = 10_000  # texts
_USUAL_SUGGESTIONS = SuggestOptions()


@dataclass(frozen=True)
class Score:
    """How probable a model finds a text; logs are natural."""

    token_log_probs: tuple[float, ...]
    log_prob: float
    perplexity: float  # per token
    bits_per_character: float


class LanguageModel:
    """Completes and scores texts. Immutable and without state: threads may share it."""

    def __init__(self, model: StepModel, tokenizer: Tokenizer, *, fingerprint: str = "") -> None:
        """Join a network to its vocabulary.

        fingerprint  differs between models, so that a saved session is refused by all but its own
        """
        self._model = model
        self._tokenizer = tokenizer
        self._completer = Completer(model, tokenizer)
        self._suggester = Suggester(model, tokenizer, self._completer.table)
        self.fingerprint = fingerprint
        self.has_end = tokenizer.end_id is not None  # so that it can start from an empty text
        self.vocab_size = tokenizer.vocab_size
        self.state_shapes = tuple(part.shape for part in model.start(1))

    @cached_property
    def _nothing(self) -> Typed:
        """Return the beginning of every session."""
        end = self._tokenizer.end_id
        return Typed("", "", None if end is None else read(self._model, [[end]]))

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
        texts = as_texts(prompt)
        batch_size = max(1, ROWS_AT_ONCE // max(options.num_beams, options.num_return_sequences))
        completions = [found for _, found in self.complete_many(texts, options, batch_size=batch_size)]
        return completions[0] if isinstance(prompt, str) else completions

    def complete_many(
        self, prompts: Iterable[str], options: GenerateOptions = _DEFAULTS, *, batch_size: int = 16
    ) -> Iterator[tuple[str, list[Completion]]]:
        """Yield each text with its completions, in order; as many texts as may be, in memory that does not grow.

        batch_size  texts that are completed together; one that has finished makes room for the next at once
        """
        if type(batch_size) is not int or not 0 < batch_size <= _LARGEST_BATCH:
            raise OptionsError(f"batch_size must be a whole number from 1 to {_LARGEST_BATCH}, got {batch_size!r}")
        texts: deque[str] = deque()  # that were read and not yielded yet

        def starts() -> Iterator[tuple[list[int], Prompt]]:
            for text in prompts:
                tokens, pending = self._split(check_text(text) + options.forced_prefix)
                texts.append(text)
                yield tokens, self._prompt(pending, tokens, options)

        for completions in self._completer.complete_in_turn(starts(), options, batch_size=batch_size):
            yield texts.popleft(), completions

    def stream(self, prompt: str, options: GenerateOptions = _DEFAULTS) -> Iterator[str]:
        """Return the pieces of one completion as they come; together they are its text."""
        _check_streamable(options)
        tokens, pending = self._split(check_text(prompt) + options.forced_prefix)
        return self._completer.stream(read(self._model, [tokens]), self._prompt(pending, tokens, options), options)

    def suggest(
        self,
        text: str,
        options: SuggestOptions = _USUAL_SUGGESTIONS,
        *,
        lexicon: Lexicon | None = None,
        user_words: Lexicon | None = None,
    ) -> list[Suggestion]:
        """Return the most probable ways to finish the word under the cursor, at the end of a text; best first.

        lexicon     suggest only these words
        user_words  suggest these too
        """
        typed = self._type(self._nothing, check_text(text))
        found = self._suggest_typed(typed, options, lexicon, user_words)
        return list(islice(found, options.num_suggestions))

    @overload
    def score(self, text: str) -> Score: ...  # type: ignore[overload-overlap]

    @overload
    def score(self, text: Sequence[str]) -> list[Score]: ...

    def score(self, text: str | Sequence[str]) -> Score | list[Score]:
        """Return how probable a text is; of several texts, what each gives alone.

        The first token follows the end token, which stands before every text. A model without one scores from the
        second token on.
        """
        texts = as_texts(text)
        scores = [
            _score(log_probs, characters=len(scored))
            for scored, log_probs in zip(texts, self._score_tokens(texts), strict=True)
        ]
        return scores[0] if isinstance(text, str) else scores

    def perplexity(self, texts: str | Sequence[str]) -> float:
        """Return the perplexity per token over all tokens of all texts."""
        log_probs = [log_prob for of_text in self._score_tokens(as_texts(texts)) for log_prob in of_text]
        if not log_probs:
            raise TextError("there is no text to score: give at least one")
        return _perplexity(log_probs)

    def session(self, text: str = "") -> Session:
        """Return a session of a text that is being typed."""
        return Session(self, self._type(self._nothing, text))

    def load_session(self, data: bytes) -> Session:
        """Return the session that `Session.save` saved, by this model in any process."""
        return load_session(self, data)

    def _settle(self, text: str) -> tuple[list[int], str]:
        """Return the tokens that a session has read of a text, and its pending last word."""
        tokens, pending = self._tokenizer.encode_typing(check_text(text))
        end = self._tokenizer.end_id
        return tokens if end is None else [end, *tokens], pending

    def _split(self, text: str) -> tuple[list[int], str]:
        """Return the tokens to read before a text can be completed, and its pending last word."""
        tokens, pending = self._settle(text)
        if not tokens and not text:
            raise TextError("this model has no end token to start from: give it some text to go on")
        # Nothing may stand before the first word that could tell how it ends: then it is read as typed.
        return (tokens, pending) if tokens else (self._tokenizer.encode(pending), "")

    def _prompt(self, pending: str, tokens: Sequence[int], options: GenerateOptions) -> Prompt:
        """Return what is to be completed after some tokens; the end token before them is not part of the text."""
        before = (token for token in tokens if token != self._tokenizer.end_id) if options.looks_back else ()
        return Prompt(pending, tuple(before))

    def _type(self, typed: Typed, text: str) -> Typed:
        """Read what typing on settles."""
        tokens, pending = self._tokenizer.encode_typing(typed.pending + check_text(text))
        position = typed.position
        if tokens:
            position = read(self._model, [tokens], position.state if position else None)
        return Typed(typed.text + text, pending, position)

    def _stand(self, typed: Typed, options: GenerateOptions) -> tuple[Position, Prompt]:
        """Return where to complete a text from, and what is pending there."""
        typed = self._type(typed, options.forced_prefix)
        if typed.position is not None and not options.looks_back:
            return typed.position, Prompt(typed.pending)
        tokens, pending = self._split(typed.text)
        return typed.position or read(self._model, [tokens]), self._prompt(pending, tokens, options)

    def _complete_typed(self, typed: Typed, options: GenerateOptions) -> list[Completion]:
        position, prompt = self._stand(typed, options)
        return self._completer.complete(position, [prompt], options)[0]

    def _stream_typed(self, typed: Typed, options: GenerateOptions) -> Iterator[str]:
        _check_streamable(options)
        position, prompt = self._stand(typed, options)
        return self._completer.stream(position, prompt, options)

    def _suggest_typed(
        self, typed: Typed, options: SuggestOptions, lexicon: Lexicon | None, user_words: Lexicon | None
    ) -> Iterator[Suggestion]:
        position, prompt = self._stand(typed, _DEFAULTS)
        return self._suggester.suggest(
            position, typed.text, prompt.pending, options, lexicon=lexicon, user_words=user_words
        )

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

"""From where a model stands, and the word being typed, to completions as text.

Here tokens become text: covers of the unfinished word, then walks or beams, then characters. This module knows a
network behind the `StepModel` seam and a tokenizer; it keeps no state.
"""

from __future__ import annotations

from codecs import getincrementaldecoder, utf_8_decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import numpy as np

from rnn_edge.errors import OptionsError, RnnEdgeError
from rnn_edge.runtimes.arrays import join_states
from rnn_edge.runtimes.bad_words import BadWords
from rnn_edge.runtimes.batching import Admit, Search, Walks, advance_walks, in_turn
from rnn_edge.runtimes.beams import BeamSearch, Pruning, Uncovered, advance
from rnn_edge.runtimes.coverage import CoveringModel, uncovered
from rnn_edge.runtimes.covers import Cover, best_covers, follow, spell
from rnn_edge.runtimes.decoding import Position, StepModel, greedily, join, randomly, read, take, walk
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.paths import FinishReason, Path, Rules, begin, rank, score
from rnn_edge.runtimes.scores import draw
from rnn_edge.runtimes.token_table import TokenTable
from rnn_edge.text import Tokenizer

__all__ = ["Completer", "Completion", "Prompt"]

_COVERS_TO_DRAW_FROM = 64
_USUAL_LENGTH = 20  # tokens that say something new; one that only spells what was typed does not
_BAD_WORDS_KEPT = 8  # lists of them whose tokens are remembered


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to complete, which was read up to its last word.

    pending  the last word, not read yet; empty where there is none
    before   the tokens before it, for the rules that look back; empty where none does
    """

    pending: str
    before: tuple[int, ...] = ()


@dataclass(frozen=True)
class Completion:
    """How a text may go on.

    text           what comes after the text as typed, up to a stop string; whole characters only
    tokens         ids after the settled tokens: those that cover the word being typed, then the new ones
    log_prob       sum over these tokens, as the model gives it, whatever the sampling options
    score          log_prob / len(tokens)**length_penalty; of a beam, after the penalties for repeating, for likeness
                   and for what was not looked at
    finish_reason  the end token, a stop string, max_new_tokens, or that no token may follow
    """

    text: str
    tokens: tuple[int, ...]
    log_prob: float
    score: float
    finish_reason: FinishReason


class Completer:
    """Completes texts that were read up to their pending last word. Immutable."""

    def __init__(self, model: StepModel, tokenizer: Tokenizer) -> None:
        self.table = TokenTable.of(tokenizer)
        self.model = model
        self._tokenizer = tokenizer
        self._bad_words = lru_cache(_BAD_WORDS_KEPT)(partial(BadWords, tokenizer.token_bytes))

    def complete(
        self, position: Position, prompts: Sequence[Prompt], options: GenerateOptions
    ) -> list[list[Completion]]:
        """Return completions of several texts, each best first.

        position  a row per text, after its settled tokens
        """
        room_for_more = len(prompts) + 1  # so that it is seen at once that none come
        searches = self._run(lambda _: self._admit(position, prompts, options), options, batch_size=room_for_more)
        return [_ranked(search.best, options) for search in searches]

    def complete_in_turn(
        self, prompts: Iterator[tuple[Sequence[int], Prompt]], options: GenerateOptions, *, batch_size: int
    ) -> Iterator[list[Completion]]:
        """Yield completions of texts in their order, many texts at once; each is read when there is room for it.

        prompts  tokens to read from the start, at least one, and what is to be completed after them; when they
                 fail, those that came before are completed first
        """
        failures: list[RnnEdgeError] = []

        def admit(most: int) -> tuple[list[Search], Position | None]:
            taken: list[tuple[Sequence[int], Prompt]] = []
            try:
                for each in islice(prompts, most):
                    taken.append(each)
            except RnnEdgeError as error:
                failures.append(error)
            if not taken:
                return [], None
            position = read(self.model, [tokens for tokens, _ in taken])
            return self._admit(position, [prompt for _, prompt in taken], options)

        for search in self._run(admit, options, batch_size=batch_size):
            yield _ranked(search.best, options)
        if failures:
            raise failures[0]

    def stream(self, position: Position, prompt: Prompt, options: GenerateOptions) -> Iterator[str]:
        """Yield the pieces of one completion; what may yet become a stop string is held back."""
        stops = _stops(options)
        decoder = getincrementaldecoder("utf-8")("replace")
        sent = 0  # bytes
        if options.forced_prefix:
            yield options.forced_prefix
        for path in self._walk(position, prompt, options):
            sure = len(path.said) - (0 if path.finish else _held_back(path.said, stops))
            if piece := decoder.decode(path.said[sent:sure]):
                yield piece
            sent = sure

    def _admit(
        self, position: Position, prompts: Sequence[Prompt], options: GenerateOptions
    ) -> tuple[list[Search], Position]:
        """Return a search for each text, and the position of all their paths that have not ended."""
        rules = self._rules(options)
        searches: list[Search] = []
        positions = []
        for row, prompt in enumerate(prompts):
            generators = _generators(options)
            paths, start = self._start(take(position, [row]), prompt, options, generators)
            if options.num_beams > 1:
                start = take(start, [*range(len(start.logits))] * options.num_beam_groups)
                searches.append(_beams(paths, rules, options))
            else:
                searches.append(Walks(paths, generators))
            positions.append(start)
        return searches, join(positions)

    def _run(self, admit: Admit[Any], options: GenerateOptions, *, batch_size: int) -> Iterator[Search]:
        """Yield the searches that are admitted when they are done."""
        if options.num_beams > 1:
            go_on_in_beams = partial(advance, uncovered=self._uncovered(options))
            return in_turn(self.model, admit, go_on_in_beams, batch_size=batch_size)
        go_on = partial(advance_walks, rules=self._rules(options), options=options)
        return in_turn(self.model, admit, go_on, batch_size=batch_size)

    def _walk(self, position: Position, prompt: Prompt, options: GenerateOptions) -> Iterator[Path]:
        """Yield the one path of a text as it starts, and after each step."""
        generators, rules = _generators(options), self._rules(options)
        starts, position = self._start(position, prompt, options, generators)
        choose = randomly(rules, options, generators) if options.do_sample else greedily(rules)
        return (path for (path,) in walk(self.model, starts, position, choose, rules))

    def _start(
        self,
        position: Position,
        prompt: Prompt,
        options: GenerateOptions,
        generators: Sequence[np.random.Generator],
    ) -> tuple[list[Path], Position]:
        """Return the first paths of one text: its best covers, or one drawn by each generator, where there are any."""
        if not prompt.pending:
            paths = [Path(before=prompt.before)] * max(1, len(generators))
            return paths, take(position, [0] * len(paths))
        rules = self._rules(options)
        limit = _COVERS_TO_DRAW_FROM if generators else options.num_beams // options.num_beam_groups
        covers = self._covers(position, prompt, limit, rules)
        if generators:
            log_probs = np.array([cover.log_prob for cover in covers])
            covers = [covers[draw(log_probs, options, generator)] for generator in generators]
        paths = [begin(cover.tokens, cover.log_prob, cover.rest, rules, prompt.before) for cover in covers]
        if tell := self._uncovered(options):
            left = tell(join_states(cover.state for cover in covers)).tolist()
            paths = [path._replace(uncovered=each) for path, each in zip(paths, left, strict=True)]
        live = [cover for cover, path in zip(covers, paths, strict=True) if not path.finish]
        return paths, follow(self.model, live) if live else take(position, [])

    def _covers(self, position: Position, prompt: Prompt, limit: int, rules: Rules) -> list[Cover]:
        """Return the best covers of a word, or its own tokens where nothing covers it."""
        typed, allowed = prompt.pending.encode(), None
        if rules.bad_words is not None:
            before = rules.bad_words.tail(prompt.before) + typed
            allowed = partial(_is_clean, rules.bad_words, before)
        covers = best_covers(self.model, position, typed, self.table, limit=limit, allowed=allowed)
        return covers or [spell(self.model, position, self._tokenizer.encode(prompt.pending))]

    def _uncovered(self, options: GenerateOptions) -> Uncovered | None:
        """Return what tells how much a path has not looked at, where that counts."""
        if not options.coverage_penalty:
            return None
        if not isinstance(self.model, CoveringModel):
            raise OptionsError(
                "coverage_penalty is about where a network looks, and this one has no attention: leave it out"
            )
        return partial(uncovered, penalty=options.coverage_penalty)

    def _rules(self, options: GenerateOptions) -> Rules:
        return Rules(
            token_bytes=self._tokenizer.token_bytes,
            end_id=self._tokenizer.end_id,
            unknown_id=self._tokenizer.unknown_id,
            max_new_tokens=options.max_new_tokens or _USUAL_LENGTH,
            stops=_stops(options),
            repetition_penalty=options.repetition_penalty,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            bad_words=self._bad_words(tuple(map(str.encode, options.bad_words))) if options.bad_words else None,
        )


def _generators(options: GenerateOptions) -> list[np.random.Generator]:
    """Return one generator per sample of a text, the same for every text."""
    samples = range(options.num_return_sequences if options.do_sample else 0)
    return [np.random.default_rng((options.seed, sample)) for sample in samples]


def _beams(starts: Sequence[Path], rules: Rules, options: GenerateOptions) -> BeamSearch:
    pruning = Pruning(
        early_stopping=options.early_stopping,
        narrowing=options.narrowing,
        threshold=options.beam_threshold,
        num_groups=options.num_beam_groups,
        diversity_penalty=options.diversity_penalty,
    )
    return BeamSearch(
        starts, rules, num_beams=options.num_beams, length_penalty=options.length_penalty, pruning=pruning
    )


def _ranked(paths: Sequence[Path], options: GenerateOptions) -> list[Completion]:
    """Return the best completions; of equals, those found first; of one text in several spellings, the best."""
    completions = [_completion(path, options) for path in rank(paths, options.length_penalty)]
    if not options.do_sample:
        distinct: dict[str, Completion] = {}
        for completion in completions:
            distinct.setdefault(completion.text, completion)
        completions = list(distinct.values())
    return completions[: options.num_return_sequences]


def _completion(path: Path, options: GenerateOptions) -> Completion:
    assert path.finish is not None
    return Completion(
        text=options.forced_prefix + utf_8_decode(path.said, "replace")[0],  # leaves out the beginning of a character
        tokens=path.tokens,
        log_prob=path.log_prob,
        score=score(path, options.length_penalty),
        finish_reason=path.finish,
    )


def _is_clean(bad_words: BadWords, before: bytes, said: bytes) -> bool:
    return not bad_words.ends_in(before, said)


def _stops(options: GenerateOptions) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in options.stop_strings)


def _held_back(said: bytes, stops: Sequence[bytes]) -> int:
    """Return how many of the last bytes may be the beginning of a stop string."""
    lengths = (
        length
        for stop in stops
        for length in range(min(len(stop) - 1, len(said)), 0, -1)
        if said.endswith(stop[:length])
    )
    return max(lengths, default=0)

"""From where a model stands, and the word being typed, to completions as text.

Here tokens become text: covers of the unfinished word, then walks or beams, then characters. This module knows a
network behind the `StepModel` seam and a tokenizer; it keeps no state.
"""

from __future__ import annotations

from codecs import getincrementaldecoder, utf_8_decode
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from rnn_edge.runtimes.covers import Cover, TokenTable, best_covers, follow, spell
from rnn_edge.runtimes.decoding import (
    FinishReason,
    Path,
    Position,
    Rules,
    StepModel,
    beam_search,
    begin,
    greedily,
    join,
    randomly,
    rank,
    score,
    take,
    walk,
)
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.scores import draw
from rnn_edge.text import Tokenizer

__all__ = ["Completer", "Completion"]

_COVERS_TO_DRAW_FROM = 64
_USUAL_LENGTH = 20  # tokens that say something new; one that only spells what was typed does not


@dataclass(frozen=True)
class Completion:
    """How a text may go on.

    text           what comes after the text as typed, up to a stop string; whole characters only
    tokens         ids after the settled tokens: those that cover the word being typed, then the new ones
    log_prob       sum over these tokens, as the model gives it, whatever the sampling options
    score          log_prob / len(tokens)**length_penalty
    finish_reason  the end token, a stop string, or max_new_tokens
    """

    text: str
    tokens: tuple[int, ...]
    log_prob: float
    score: float
    finish_reason: FinishReason


class Completer:
    """Completes texts that were read up to their pending last word. Immutable."""

    def __init__(self, model: StepModel, tokenizer: Tokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._table = TokenTable(
            tokenizer.token_bytes,
            left_out={tokenizer.end_id, tokenizer.unknown_id},
            joinable=tokenizer.kind != "words",
        )

    def complete(self, position: Position, pending: Sequence[str], options: GenerateOptions) -> list[list[Completion]]:
        """Return completions of several texts, each best first.

        position  a row per text, after its settled tokens
        pending   the last word of each, not read yet; empty where there is none
        """
        if options.num_beams > 1:
            found = self._search(position, pending, options)
        else:
            found = self._walk_to_the_end(position, pending, options)
        return [_ranked(paths, options) for paths in found]

    def stream(self, position: Position, pending: str, options: GenerateOptions) -> Iterator[str]:
        """Yield the pieces of one completion; what may yet become a stop string is held back."""
        stops = _stops(options)
        decoder = getincrementaldecoder("utf-8")("replace")
        sent = 0  # bytes
        for (path,) in self._walk(position, [pending], options):
            sure = len(path.said) - (0 if path.finish else _held_back(path.said, stops))
            if piece := decoder.decode(path.said[sent:sure]):
                yield piece
            sent = sure

    def _search(self, position: Position, pending: Sequence[str], options: GenerateOptions) -> list[list[Path]]:
        """Search with beams that start from the best covers of each word."""
        starts, position = self._starts(position, pending, options, [()] * len(pending))
        rules = self._rules(options)
        return beam_search(
            self._model,
            starts,
            position,
            rules,
            num_beams=options.num_beams,
            length_penalty=options.length_penalty,
        )

    def _walk_to_the_end(
        self, position: Position, pending: Sequence[str], options: GenerateOptions
    ) -> list[list[Path]]:
        """Walk until all paths have ended; return those of each text."""
        (paths,) = deque(self._walk(position, pending, options), maxlen=1)  # the last
        each = options.num_return_sequences
        return [list(paths[first : first + each]) for first in range(0, len(paths), each)]

    def _walk(self, position: Position, pending: Sequence[str], options: GenerateOptions) -> Iterator[tuple[Path, ...]]:
        """Follow the most probable tokens from the best cover of each word, or draw cover and tokens."""
        generators = [_generators(options) for _ in pending]
        starts, position = self._starts(position, pending, options, generators)
        rules = self._rules(options)
        choose = greedily(rules)
        if options.do_sample:
            choose = randomly(rules, options, list(chain.from_iterable(generators)))
        return walk(self._model, list(chain.from_iterable(starts)), position, choose, rules)

    def _starts(
        self,
        position: Position,
        pending: Sequence[str],
        options: GenerateOptions,
        generators: Sequence[Sequence[np.random.Generator]],
    ) -> tuple[list[list[Path]], Position]:
        """Return each text's first paths, and the position of all that have not ended."""
        starts = [
            self._start(take(position, [row]), word, options, some)
            for row, (word, some) in enumerate(zip(pending, generators, strict=True))
        ]
        return [paths for paths, _ in starts], join([start for _, start in starts])

    def _start(
        self,
        position: Position,
        pending: str,
        options: GenerateOptions,
        generators: Sequence[np.random.Generator],
    ) -> tuple[list[Path], Position]:
        """Return the first paths of one text: its best covers, or one drawn by each generator, where there are any."""
        if not pending:
            paths = [Path()] * max(1, len(generators))
            return paths, take(position, [0] * len(paths))
        limit = _COVERS_TO_DRAW_FROM if generators else options.num_beams
        covers = self._covers(position, pending, limit)
        if generators:
            log_probs = np.array([cover.log_prob for cover in covers])
            covers = [covers[draw(log_probs, options, generator)] for generator in generators]
        rules = self._rules(options)
        paths = [begin(cover.tokens, cover.log_prob, cover.rest, rules) for cover in covers]
        live = [cover for cover, path in zip(covers, paths, strict=True) if not path.finish]
        return paths, follow(self._model, live) if live else take(position, [])

    def _covers(self, position: Position, pending: str, limit: int) -> list[Cover]:
        """Return the best covers of a word, or its own tokens where nothing covers it."""
        covers = best_covers(self._model, position, pending.encode(), self._table, limit=limit)
        return covers or [spell(self._model, position, self._tokenizer.encode(pending))]

    def _rules(self, options: GenerateOptions) -> Rules:
        return Rules(
            token_bytes=self._tokenizer.token_bytes,
            end_id=self._tokenizer.end_id,
            unknown_id=self._tokenizer.unknown_id,
            max_new_tokens=options.max_new_tokens or _USUAL_LENGTH,
            stops=_stops(options),
        )


def _generators(options: GenerateOptions) -> list[np.random.Generator]:
    """Return one generator per sample of a text, the same for every text."""
    samples = range(options.num_return_sequences if options.do_sample else 0)
    return [np.random.default_rng((options.seed, sample)) for sample in samples]


def _ranked(paths: Sequence[Path], options: GenerateOptions) -> list[Completion]:
    """Return the best completions; of equals, those found first; of one text in several spellings, the best."""
    completions = [_completion(path, options.length_penalty) for path in rank(paths, options.length_penalty)]
    if not options.do_sample:
        distinct: dict[str, Completion] = {}
        for completion in completions:
            distinct.setdefault(completion.text, completion)
        completions = list(distinct.values())
    return completions[: options.num_return_sequences]


def _completion(path: Path, length_penalty: float) -> Completion:
    assert path.finish is not None
    return Completion(
        text=utf_8_decode(path.said, "replace")[0],  # leaves out the beginning of a character
        tokens=path.tokens,
        log_prob=path.log_prob,
        score=score(path, length_penalty),
        finish_reason=path.finish,
    )


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

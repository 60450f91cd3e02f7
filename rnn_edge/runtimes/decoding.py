"""From a model's scores to continuations: greedy, sampled, or by beam search; for many prompts at once.

This module is pure token ids and numpy; it knows neither tokenizers nor onnxruntime. What a path may say and what
ends it is in `paths.py`. Whatever is decided for a row depends on that row alone, so a prompt gives in any batch
exactly what it gives by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from rnn_edge.runtimes.arrays import NOTHING, Doubles, Floats, Ids, State, join_states, reorder
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.paths import FinishReason, Path, Rules, begin, extend, restrict
from rnn_edge.runtimes.scores import draw, log_probs_of
from rnn_edge.runtimes.top_k import Scores

__all__ = [
    "ROWS_AT_ONCE",
    "FinishReason",
    "Path",
    "Position",
    "Rules",
    "StepModel",
    "Steps",
    "begin",
    "extend",
    "greedily",
    "join",
    "randomly",
    "read",
    "score_tokens",
    "step",
    "steps_from",
    "take",
    "walk",
]

# Both bound what a call of the model holds in memory; beyond them nothing gets faster.
ROWS_AT_ONCE = 64
_COLUMNS_AT_ONCE = 512


class StepModel(Protocol):
    """A network that reads tokens, and whose state is an explicit value."""

    def start(self, batch: int) -> State:
        """Return the state before the first token."""

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        """Read on, in every row.

        tokens   int64 (batch, time), padded on the left with -1, which leaves a row's state as it is
        returns  scores of the next token, float32 (batch, vocab), and the state after the last column;
                 for a row of nothing but -1, the scores after its last token read
        """


@dataclass(frozen=True, slots=True, eq=False)
class Position:
    """Where a model stands after reading: what it expects next, and the state to read on from.

    logits  float32 (batch, vocab)
    state   each float32 (layers, batch, width)
    """

    logits: Floats
    state: State


Choose: TypeAlias = Callable[[Scores, Sequence[Path], Sequence[int]], list[tuple[int, float]]]
"""From scores, each row's path and its index, to a token per row and its log-prob.

The token is NOTHING where none may follow.
"""


def read(model: StepModel, prompts: Sequence[Sequence[int]], state: State | None = None) -> Position:
    """Read prompts of any lengths, each of at least one token, from the start or on from a state."""
    time = max(len(prompt) for prompt in prompts)
    tokens = np.full((len(prompts), time), NOTHING, dtype=np.int64)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[time - len(prompt) :] = prompt
    state = model.start(len(prompts)) if state is None else state
    for first in range(0, time, _COLUMNS_AT_ONCE):
        stretch = np.ascontiguousarray(tokens[:, first : first + _COLUMNS_AT_ONCE])
        logits, state = model.step(stretch, state)
    return Position(logits, state)


def step(model: StepModel, tokens: Sequence[int], state: State) -> Position:
    """Read one token in every row."""
    return Position(*model.step(np.array(tokens, dtype=np.int64)[:, None], state))


class Steps:
    """Where rows stand, and how they go on, a token at a time; what these give is good until the next step.

    A model may bring its own, which does the same with fewer copies.
    """

    def __init__(self, model: StepModel, position: Position, moving: int | None = None) -> None:
        """Begin at a position; a step changes the first `moving` parts of its state, or all of them."""
        self._model = model
        self._position = position
        self._moving = moving
        self._origins = list(range(len(position.logits)))  # of what does not move: rows of one origin have the same

    @property
    def position(self) -> Position:
        """Return where the rows stand."""
        return self._position

    @property
    def scores(self) -> Scores:
        """Return what the rows expect next."""
        return Scores(self.position.logits)

    def go_on(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Read a token each in some rows, in their order; a row may come twice, or not at all."""
        unchanged = list(rows) == list(range(len(self.position.logits)))
        self._position = step(self._model, tokens, self.position.state if unchanged else self._take(rows))

    def _take(self, rows: Sequence[int]) -> State:
        """Return the state of some rows, in their order."""
        state, before = self.position.state, self._origins
        self._origins = [before[row] for row in rows]
        moving = state[: self._moving]
        still = state[len(moving) :]
        if self._origins != before:
            still = reorder(still, rows)
        return *reorder(moving, rows), *still

    def join(self, position: Position) -> None:
        """Put the rows of a position under those that are here."""
        first = max(self._origins, default=-1) + 1
        self._origins += range(first, first + len(position.logits))
        self._position = join([self.position, position])


@runtime_checkable
class OwnSteps(Protocol):
    """A model that brings its own steps."""

    def steps_from(self, position: Position) -> Steps:
        """Return steps that begin at a position."""


def steps_from(model: StepModel, position: Position) -> Steps:
    """Return a model's steps from a position."""
    return model.steps_from(position) if isinstance(model, OwnSteps) else Steps(model, position)


def take(position: Position, rows: Sequence[int]) -> Position:
    """Return the position of the given rows, in their order; of no rows, an empty one."""
    chosen = np.array(rows, dtype=np.int64)
    return Position(position.logits[chosen], reorder(position.state, chosen))


def join(positions: Sequence[Position]) -> Position:
    """Put the rows of several positions under one another."""
    logits = np.concatenate([position.logits for position in positions])
    return Position(logits, join_states(position.state for position in positions))


def score_tokens(model: StepModel, texts: Sequence[Sequence[int]]) -> list[Doubles]:
    """Return the log-prob of every token of each text but its first, float64 (tokens - 1,)."""
    scores = [np.zeros(len(tokens) - 1) for tokens in texts]
    longest_first = sorted(range(len(texts)), key=lambda text: -len(texts[text]))
    for first in range(0, len(texts), ROWS_AT_ONCE):
        group = longest_first[first : first + ROWS_AT_ONCE]
        state = model.start(len(group))
        for column in range(len(texts[group[0]]) - 1):
            group = [text for text in group if len(texts[text]) > column + 1]
            position = step(
                model,
                [texts[text][column] for text in group],
                reorder(state, range(len(group))),  # the first, for they are the longest
            )
            following = np.array([texts[text][column + 1] for text in group])
            log_probs = log_probs_of(position.logits, np.arange(len(group)), following)
            for text, log_prob in zip(group, log_probs, strict=True):
                scores[text][column] = log_prob
            state = position.state
    return scores


def greedily(rules: Rules) -> Choose:
    """Choose each row's most probable token; of equals, the lowest id."""

    def choose(scores: Scores, paths: Sequence[Path], _: Sequence[int]) -> list[tuple[int, float]]:
        if not rules.looks_back:
            best_two, log_probs = scores.top(2)  # for one may be the unknown word
            places = [int(tokens[0] == rules.unknown_id) for tokens in best_two]
            return [(best_two[row][place], log_probs[row][place]) for row, place in enumerate(places)]
        allowed = restrict(scores.logits, paths, rules)
        return _with_log_probs(scores, np.where(allowed.max(axis=1) > -np.inf, allowed.argmax(axis=1), NOTHING))

    return choose


def randomly(rules: Rules, options: GenerateOptions, generators: Sequence[np.random.Generator]) -> Choose:
    """Draw each row's token with its path's own generator."""

    def choose(scores: Scores, paths: Sequence[Path], indices: Sequence[int]) -> list[tuple[int, float]]:
        drawn = [
            draw(row, options, generators[index]) if row.max() > -np.inf else NOTHING
            for row, index in zip(restrict(scores.logits, paths, rules), indices, strict=True)
        ]
        return _with_log_probs(scores, np.array(drawn, dtype=np.int64))

    return choose


def _with_log_probs(scores: Scores, tokens: Ids) -> list[tuple[int, float]]:
    """Return a token of each row with its log-prob."""
    log_probs = log_probs_of(scores.logits, np.arange(len(tokens)), tokens)
    return list(zip(tokens.tolist(), log_probs.tolist(), strict=True))


def walk(
    model: StepModel, starts: Sequence[Path], position: Position, choose: Choose, rules: Rules
) -> Iterator[tuple[Path, ...]]:
    """Continue every path until it ends; yield them all as they start, and after each step.

    position  a row for each path that has not ended yet, in their order
    """
    paths = list(starts)
    live = [index for index, path in enumerate(paths) if path.finish is None]
    yield tuple(paths)
    steps = steps_from(model, position)
    while live:
        chosen = choose(steps.scores, [paths[index] for index in live], live)
        for index, (token, log_prob) in zip(live, chosen, strict=True):
            paths[index] = extend(paths[index], token, log_prob, rules)
        yield tuple(paths)
        rows = [row for row, index in enumerate(live) if paths[index].finish is None]
        live = [live[row] for row in rows]
        if live:
            steps.go_on(rows, [paths[index].tokens[-1] for index in live])

"""From a model's scores to continuations: greedy, sampled, or by beam search; for many prompts at once.

This module is pure token ids and numpy. It knows the bytes of each token, because a stop string may span tokens,
but neither tokenizers nor onnxruntime. Whatever is decided for a row depends on that row alone, so a prompt gives
in any batch exactly what it gives by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np

from rnn_edge.runtimes.arrays import NOTHING, Doubles, Floats, Ids, State, join_states, reorder
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.scores import best, draw, log_probs_of

__all__ = [
    "ROWS_AT_ONCE",
    "FinishReason",
    "Path",
    "Position",
    "Rules",
    "StepModel",
    "beam_search",
    "begin",
    "extend",
    "greedily",
    "join",
    "randomly",
    "read",
    "score_tokens",
    "step",
    "take",
    "walk",
]

FinishReason = Literal["end", "stop", "length"]

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


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which tokens a path may take, and what ends it."""

    token_bytes: Sequence[bytes]  # what each token says
    end_id: int | None  # ends a text; some models have none
    unknown_id: int | None  # any word outside the vocabulary: it says nothing, so it is never chosen
    max_new_tokens: int
    stops: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Path:
    """Tokens that continue a prompt, and what they come to.

    log_prob    sum over the tokens, as the model gives it, whatever the sampling options
    said        the bytes after the prompt as typed, up to a stop string
    new_tokens  how many tokens said something new; those that only spell what was typed did not
    """

    tokens: tuple[int, ...] = ()
    log_prob: float = 0.0
    said: bytes = b""
    new_tokens: int = 0
    finish: FinishReason | None = None


Choose: TypeAlias = Callable[[Floats, Sequence[int]], Ids]
"""From scores, float32 (batch, vocab), and the index of each row's path, to a token per row, int64 (batch,)."""


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


def begin(tokens: tuple[int, ...], log_prob: float, said: bytes, rules: Rules) -> Path:
    """Return a path of tokens that finish what was typed, the last of them perhaps saying more."""
    new_tokens = 1 if said else 0
    said, finish = _end(said, 0, new_tokens, rules)
    return Path(tokens, log_prob, said, new_tokens, finish)


def extend(path: Path, token: int, log_prob: float, rules: Rules) -> Path:
    """Return the path one token longer, and ended if this token ends it."""
    tokens, log_prob = (*path.tokens, token), path.log_prob + log_prob
    if token == rules.end_id:
        return Path(tokens, log_prob, path.said, path.new_tokens, "end")
    new_tokens = path.new_tokens + 1
    said, finish = _end(path.said + rules.token_bytes[token], len(path.said), new_tokens, rules)
    return Path(tokens, log_prob, said, new_tokens, finish)


def _end(said: bytes, checked: int, new_tokens: int, rules: Rules) -> tuple[bytes, FinishReason | None]:
    """Return what was said up to a stop string, and why it ends there; none lies within the bytes already checked."""
    found = [said.find(stop, max(0, checked - len(stop) + 1)) for stop in rules.stops]
    if first := [start for start in found if start >= 0]:
        return said[: min(first)], "stop"
    return said, "length" if new_tokens >= rules.max_new_tokens else None


def greedily(rules: Rules) -> Choose:
    """Choose each row's most probable token; of equals, the lowest id."""

    def choose(logits: Floats, _: Sequence[int]) -> Ids:
        tokens: Ids = _allowed(logits, rules).argmax(axis=1)
        return tokens

    return choose


def randomly(rules: Rules, options: GenerateOptions, generators: Sequence[np.random.Generator]) -> Choose:
    """Draw each row's token with its path's own generator."""

    def choose(logits: Floats, paths: Sequence[int]) -> Ids:
        drawn = [draw(row, options, generators[path]) for row, path in zip(_allowed(logits, rules), paths, strict=True)]
        return np.array(drawn, dtype=np.int64)

    return choose


def _allowed(logits: Floats, rules: Rules) -> Floats:
    """Return the scores with -inf for the unknown word."""
    if rules.unknown_id is None:
        return logits
    logits = logits.copy()
    logits[:, rules.unknown_id] = -np.inf
    return logits


def walk(
    model: StepModel, starts: Sequence[Path], position: Position, choose: Choose, rules: Rules
) -> Iterator[tuple[Path, ...]]:
    """Continue every path until it ends; yield them all as they start, and after each step.

    position  a row for each path that has not ended yet, in their order
    """
    paths = list(starts)
    live = [index for index, path in enumerate(paths) if path.finish is None]
    yield tuple(paths)
    while live:
        tokens = choose(position.logits, live)  # (live,)
        log_probs = log_probs_of(position.logits, np.arange(len(live)), tokens)
        for index, token, log_prob in zip(live, tokens.tolist(), log_probs.tolist(), strict=True):
            paths[index] = extend(paths[index], token, log_prob, rules)
        yield tuple(paths)
        rows = [row for row, index in enumerate(live) if paths[index].finish is None]
        state = position.state if len(rows) == len(live) else reorder(position.state, rows)
        live = [live[row] for row in rows]
        if live:
            position = step(model, [paths[index].tokens[-1] for index in live], state)


def beam_search(
    model: StepModel,
    starts: Sequence[Sequence[Path]],
    position: Position,
    rules: Rules,
    *,
    num_beams: int,
    length_penalty: float = 0.0,
) -> list[list[Path]]:
    """Continue each prompt's paths with a beam: the `num_beams` most probable that have not ended, at every step.

    starts          each prompt's first paths, at most num_beams
    position        a row for each path that has not ended yet, in their order
    length_penalty  paths are ranked by log_prob / tokens**length_penalty
    returns         each prompt's best ended paths, at most num_beams, best first

    A prompt is done when nothing that goes on can still be among its best. Of equals, those from the earlier beam win,
    then the lowest id. All prompts share one call of the model per step.
    """
    ended = [[path for path in paths if path.finish] for paths in starts]
    beams = [[path for path in paths if not path.finish] for paths in starts]
    while any(beams):
        parents: list[int] = []  # the row that each surviving path grew from
        first = 0  # row of the prompt's first beam
        for prompt, paths in enumerate(beams):
            rows = slice(first, first + len(paths))
            grown = _grow(paths, position.logits[rows], 2 * num_beams, rules)
            finished = [path for _, path in grown[:num_beams] if path.finish]
            ended[prompt] = rank(ended[prompt] + finished, length_penalty)[:num_beams]
            going = [(beam, path) for beam, path in grown if not path.finish][:num_beams]
            if len(ended[prompt]) == num_beams and going:
                worst = score(ended[prompt][-1], length_penalty)
                going = [each for each in going if _hope(each[1], rules, length_penalty) > worst]
            beams[prompt] = [path for _, path in going]
            parents += [first + beam for beam, _ in going]
            first = rows.stop
        if parents:
            newest = [path.tokens[-1] for paths in beams for path in paths]
            position = step(model, newest, reorder(position.state, parents))
    return ended


def score(path: Path, length_penalty: float) -> float:
    """Return what a path is ranked by."""
    return path.log_prob / len(path.tokens) ** length_penalty if path.tokens else 0.0


def rank(paths: Sequence[Path], length_penalty: float) -> list[Path]:
    """Return the paths, best first; of equals, those that come first."""
    return sorted(paths, key=lambda path: -score(path, length_penalty))


def _hope(path: Path, rules: Rules, length_penalty: float) -> float:
    """Return a score that no path which goes on from this one can exceed: probabilities only fall."""
    longest = len(path.tokens) + rules.max_new_tokens - path.new_tokens + 1  # the end token is not a new one
    lengths = np.array([len(path.tokens) + 1, longest], np.float64)
    return float((path.log_prob / lengths**length_penalty).max())


def _grow(paths: Sequence[Path], logits: Floats, count: int, rules: Rules) -> list[tuple[int, Path]]:
    """Return the `count` most probable paths that are one token longer, each with the index of its parent."""
    if not paths:
        return []
    best_of_each = [best(row, count) for row in _allowed(logits, rules)]
    parents = np.repeat(np.arange(len(paths)), [len(tokens) for tokens in best_of_each])
    tokens = np.concatenate(best_of_each)
    log_probs = log_probs_of(logits, parents, tokens)
    totals = np.array([path.log_prob for path in paths])[parents] + log_probs
    order = np.lexsort((tokens, parents, -totals))[:count]
    return [
        (parent, extend(paths[parent], token, log_prob, rules))
        for parent, token, log_prob in zip(
            parents[order].tolist(), tokens[order].tolist(), log_probs[order].tolist(), strict=True
        )
    ]

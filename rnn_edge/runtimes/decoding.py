"""From a model's scores to continuations: greedy, sampled, or by beam search; for many prompts at once.

This module is pure token ids and numpy; it knows neither tokenizers nor onnxruntime. What a path may say and what
ends it is in `paths.py`. Whatever is decided for a row depends on that row alone, so a prompt gives in any batch
exactly what it gives by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from rnn_edge.runtimes.arrays import NOTHING, Doubles, Floats, Ids, State, join_states, reorder
from rnn_edge.runtimes.options import EarlyStopping, GenerateOptions
from rnn_edge.runtimes.paths import FinishReason, Path, Rules, begin, extend, rank, restrict, score
from rnn_edge.runtimes.scores import best, draw, log_probs_of, log_softmax
from rnn_edge.runtimes.top_k import Scores

__all__ = [
    "ROWS_AT_ONCE",
    "BeamSearch",
    "FinishReason",
    "Path",
    "Position",
    "Pruning",
    "Rules",
    "StepModel",
    "Steps",
    "Uncovered",
    "advance",
    "beam_search",
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
Uncovered: TypeAlias = Callable[[State], Doubles]
"""From a state to what is taken from the score of each row's path for what it has not looked at, float64 (batch,)."""


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

    def __init__(self, model: StepModel, position: Position) -> None:
        self._model = model
        self._position = position

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
        self._position = step(
            self._model, tokens, self.position.state if unchanged else reorder(self.position.state, rows)
        )

    def join(self, position: Position) -> None:
        """Put the rows of a position under those that are here."""
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
            best_two, log_probs = (column.tolist() for column in scores.top(2))  # for one may be the unknown word
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


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """How a beam gives up paths, besides keeping only its best.

    early_stopping     once as many paths have ended as there are beams, True stops; False goes on while the best path
                       that has not ended would be among them if it ended now; "never" while any path still can be
    narrowing          whether a path that ends gives up its place in the beam
    threshold          paths are dropped that are less than this many times as probable as the best of their beam
    num_groups         beams that share num_beams and go one after the other in each step (Vijayakumar et al. 2016)
    diversity_penalty  taken from a token's log-prob for each path of an earlier group that took it in this step
    """

    early_stopping: EarlyStopping = "never"
    narrowing: bool = False
    threshold: float = 0.0
    num_groups: int = 1
    diversity_penalty: float = 0.0


_KEEP_ALL = Pruning()


def beam_search(
    model: StepModel,
    starts: Sequence[Sequence[Path]],
    position: Position,
    rules: Rules,
    *,
    num_beams: int,
    length_penalty: float = 0.0,
    pruning: Pruning = _KEEP_ALL,
    uncovered: Uncovered | None = None,
) -> list[list[Path]]:
    """Continue each prompt's paths with a beam: the `num_beams` most probable that have not ended, at every step.

    starts          each prompt's first paths, at most as many as a group has beams
    position        a row for each path that has not ended yet, in their order
    length_penalty  paths are ranked by (log_prob - lost) / tokens**length_penalty, less what they left uncovered
    returns         each prompt's best ended paths, at most num_beams, best first

    A prompt is done when nothing that goes on can still be among its best, unless `pruning` says otherwise. Of equals,
    those from the earlier beam win, then the lowest id. All prompts share one call of the model per step.
    """
    searches = [
        BeamSearch(paths, rules, num_beams=num_beams, length_penalty=length_penalty, pruning=pruning)
        for paths in starts
    ]
    if pruning.num_groups > 1:
        position = take(position, _rows_of_groups(starts, pruning.num_groups))
    steps = steps_from(model, position)
    while any(search.live for search in searches):
        rows = advance(searches, steps, uncovered)
        if rows:
            steps.go_on(rows, [path.tokens[-1] for search in searches for path in search.live])
    return [search.best for search in searches]


def _rows_of_groups(starts: Sequence[Sequence[Path]], num_groups: int) -> list[int]:
    """Return the row of each path that every group of every prompt starts with."""
    rows: list[int] = []
    first = 0
    for paths in starts:
        live = sum(path.finish is None for path in paths)
        rows += [*range(first, first + live)] * num_groups
        first += live
    return rows


class BeamSearch:
    """The beams of one prompt, from step to step. Each group starts with the same paths."""

    def __init__(
        self, starts: Sequence[Path], rules: Rules, *, num_beams: int, length_penalty: float, pruning: Pruning
    ) -> None:
        self._rules = rules
        self._length_penalty = length_penalty
        self._pruning = pruning
        self._num_beams = num_beams
        self._width = num_beams // pruning.num_groups  # of each group
        self._ended = [[path for path in starts if path.finish] for _ in range(pruning.num_groups)]
        self._live = [[path for path in starts if not path.finish] for _ in range(pruning.num_groups)]

    @property
    def live(self) -> list[Path]:
        """Return the paths that go on, group by group."""
        return [path for paths in self._live for path in paths]

    @property
    def best(self) -> list[Path]:
        """Return the best paths that have ended, best first."""
        return rank([path for paths in self._ended for path in paths], self._length_penalty)[: self._num_beams]

    def advance(self, scores: Scores, uncovered: Doubles | None = None) -> list[int]:
        """Make every path one token longer and keep the best; return the row that each of them grew from.

        scores     a row for each live path
        uncovered  what paths that grow from a row leave uncovered, float64 (live paths,)
        """
        diverse = self._pruning.num_groups > 1
        # How many paths of earlier groups took each token.
        crowd = np.zeros(scores.logits.shape[1]) if diverse else None
        parents: list[int] = []
        first = 0  # row of the group's first path
        for group, paths in enumerate(self._live):
            rows = slice(first, first + len(paths))
            going = self._advance_group(group, scores.part(rows), crowd, None if uncovered is None else uncovered[rows])
            parents += [first + row for row, _ in going]
            first += len(paths)
        return parents

    def _advance_group(
        self, group: int, scores: Scores, crowd: Doubles | None, uncovered: Doubles | None
    ) -> list[tuple[int, Path]]:
        """Return the paths of a group that go on, each with the row it grew from; count them in the crowd."""
        paths, ended = self._live[group], self._ended[group]
        penalties = None if crowd is None else crowd * self._pruning.diversity_penalty
        narrowing = self._pruning.narrowing
        width = self._width - len(ended) if narrowing else self._width
        candidates = _candidates(paths, scores, width if narrowing else 2 * width, self._rules, penalties)
        threshold = self._pruning.threshold
        least = candidates[0][0] + math.log(threshold) if candidates and threshold else -math.inf
        going: list[tuple[int, Path]] = []
        finished: list[Path] = []
        for place, (rating, parent, token, log_prob, lost) in enumerate(candidates):
            if rating < least or len(going) == width:
                break
            path = extend(paths[parent], token, log_prob, self._rules, lost=lost)
            if uncovered is not None and path.finish != "stuck":
                path = path._replace(uncovered=float(uncovered[parent]))
            if path.finish is None:
                going.append((parent, path))
            elif place < width:
                finished.append(path)
        if finished:
            self._ended[group] = ended = rank(ended + finished, self._length_penalty)[: self._width]
        if crowd is not None:
            took = [path.tokens[-1] for path in finished if path.finish not in ("end", "stuck")]
            np.add.at(crowd, took + [path.tokens[-1] for _, path in going], 1)
        if len(ended) == self._width:
            going = self._promising(going, worst=score(ended[-1], self._length_penalty))
        self._live[group] = [path for _, path in going]
        return going

    def _promising(self, going: list[tuple[int, Path]], *, worst: float) -> list[tuple[int, Path]]:
        """Return the paths to go on with when as many have ended as there are beams."""
        if self._pruning.early_stopping is True:
            return []
        sure = self._pruning.early_stopping == "never"
        hopeful = [
            (row, path)
            for row, path in going
            if worst < (_hope(path, self._rules, self._length_penalty) if sure else score(path, self._length_penalty))
        ]
        if sure and self._pruning.num_groups == 1:
            return hopeful  # what the others grow into would be without hope as well
        return going if hopeful else []


def advance(searches: Sequence[BeamSearch], steps: Steps, uncovered: Uncovered | None = None) -> list[int]:
    """Advance several searches, whose paths are the rows of `steps`; return the rows that theirs grew from."""
    scores, left = steps.scores, None if uncovered is None else uncovered(steps.position.state)
    parents: list[int] = []
    first = 0  # row of the search's first path
    for search in searches:
        rows = len(search.live)
        mine = slice(first, first + rows)
        parents += [first + row for row in search.advance(scores.part(mine), None if left is None else left[mine])]
        first += rows
    return parents


def _hope(path: Path, rules: Rules, length_penalty: float) -> float:
    """Return a score that no path which goes on from this one can exceed: probabilities only fall."""
    longest = len(path.tokens) + rules.max_new_tokens - path.new_tokens
    lengths = float(len(path.tokens) + 1), float(longest)
    return max((path.log_prob - path.lost) / math.pow(length, length_penalty) for length in lengths)


_Candidate: TypeAlias = tuple[float, int, int, float, float]
"""What a path one token longer is chosen by, its parent, the token, its log-prob, and what penalties take from that."""


def _candidates(
    paths: Sequence[Path], scores: Scores, count: int, rules: Rules, penalties: Doubles | None
) -> list[_Candidate]:
    """Return the `count` most probable ways to make one of the paths a token longer, best first.

    penalties  taken from each token's log-prob, float64 (vocab,); a path is chosen by what is left
    """
    if not paths:
        return []
    log_probs: Floats | Doubles
    left: Floats | Doubles
    if penalties is None and not rules.looks_back:
        tokens, left = _highest(scores, count, rules)
        log_probs = left
    else:
        tokens, log_probs, left = _highest_left(paths, scores.logits, count, rules, penalties)
    ratings = np.array([path.log_prob - path.lost for path in paths])[:, None] + left
    order = np.argsort(-ratings, axis=None, kind="stable")[:count].tolist()
    width = tokens.shape[1]
    rating, token, log_prob, of_it_left = (column.ravel().tolist() for column in (ratings, tokens, log_probs, left))
    return [
        (rating[place], place // width, token[place], log_prob[place], log_prob[place] - of_it_left[place])
        for place in order
        if rating[place] > -math.inf
    ]


def _highest(scores: Scores, count: int, rules: Rules) -> tuple[Ids, Floats]:
    """Return each row's most probable tokens and their log-probs, best first; `count` beside the unknown word.

    The unknown word may be among them, with -inf.

    returns  int64 and float32 (batch, count or more)
    """
    if rules.unknown_id is None:
        return scores.top(count)
    tokens, log_probs = scores.top(count + 1)
    return tokens, np.where(tokens == rules.unknown_id, -np.inf, log_probs)


def _highest_left(
    paths: Sequence[Path], logits: Floats, count: int, rules: Rules, penalties: Doubles | None
) -> tuple[Ids, Doubles, Doubles]:
    """Return each path's tokens with the highest log-probs after what the rules and the penalties take.

    Where fewer may follow, the others are NOTHING and -inf; where none may, the first is worth 0.

    returns  tokens, their log-probs, and what is left of these; (paths, count) each
    """
    all_log_probs = log_softmax(logits)
    scores = restrict(all_log_probs, paths, rules)
    scores = scores if penalties is None else scores - penalties
    tokens = np.full((len(paths), count), NOTHING)
    log_probs, left = np.full((2, *tokens.shape), -np.inf)
    for row, of_row in enumerate(scores):
        chosen = best(of_row, count)
        places = row, slice(len(chosen))
        tokens[places], log_probs[places], left[places] = chosen, all_log_probs[row, chosen], of_row[chosen]
        if not len(chosen):
            log_probs[row, 0] = left[row, 0] = 0.0
    return tokens, log_probs, left

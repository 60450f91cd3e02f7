"""Beams: the most probable ways in which prompts may go on, side by side.

Paths of a prompt compete with one another and with nobody else; all prompts share each step of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rnn_edge.runtimes.arrays import NOTHING, Doubles, Floats, Ids, State
from rnn_edge.runtimes.decoding import Position, StepModel, Steps, steps_from, take
from rnn_edge.runtimes.options import EarlyStopping
from rnn_edge.runtimes.paths import Path, Rules, extend, rank, restrict, score
from rnn_edge.runtimes.scores import best, log_softmax
from rnn_edge.runtimes.top_k import Scores

__all__ = ["BeamSearch", "Pruning", "Uncovered", "advance", "beam_search"]

Uncovered: TypeAlias = Callable[[State], Doubles]
"""From a state to what is taken from the score of each row's path for what it has not looked at, float64 (batch,)."""


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
        crowd: Doubles | None = None  # how many paths of earlier groups took each token
        if self._pruning.num_groups > 1:
            crowd = np.zeros(scores.logits.shape[1])
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

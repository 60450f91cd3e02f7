"""Beams: the most probable ways in which prompts may go on, side by side.

Paths of a prompt compete with one another and with nobody else; all prompts share each step of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import TypeAlias

import numpy as np

from rnn_edge.bundle import EarlyStopping
from rnn_edge.runtimes.arrays import NOTHING, Doubles, Floats, State
from rnn_edge.runtimes.decoding import Position, StepModel, Steps, steps_from, take
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

    early_stopping: EarlyStopping = False
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
        self._log_threshold = math.log(pruning.threshold) if pruning.threshold else -math.inf
        self._ended = [[path for path in starts if path.finish] for _ in range(pruning.num_groups)]
        self._live = [[path for path in starts if not path.finish] for _ in range(pruning.num_groups)]
        self.live = [path for paths in self._live for path in paths]  # the paths that go on, group by group
        # Where nothing stops them and all are as long, every token ends its path, or none but the end token does.
        self._few_end = not rules.stops and len({path.new_tokens for path in self.live}) == 1

    @property
    def best(self) -> list[Path]:
        """Return the best paths that have ended, best first."""
        return rank([path for paths in self._ended for path in paths], self._length_penalty)[: self._num_beams]

    def advance(self, scores: Scores, first: int, uncovered: Doubles | None = None) -> list[int]:
        """Make every path one token longer and keep the best; return the row that each of them grew from.

        scores     of many rows, of which the live paths are those from `first` on
        uncovered  what paths that grow from a row leave uncovered, float64 (rows,)
        """
        crowd: Doubles | None = None  # how many paths of earlier groups took each token
        if self._pruning.num_groups > 1:
            crowd = np.zeros(scores.logits.shape[1])
        parents: list[int] = []
        self.live = []
        for group, paths in enumerate(self._live):
            parents += self._advance_group(group, scores, first, crowd, uncovered)
            self.live += self._live[group]
            first += len(paths)
        return parents

    def _advance_group(
        self, group: int, scores: Scores, first: int, crowd: Doubles | None, uncovered: Doubles | None
    ) -> list[int]:
        """Make a group's paths one token longer, and count them in the crowd; return the rows that they grew from."""
        penalties = None if crowd is None else crowd * self._pruning.diversity_penalty
        going, parents, finished = self._grow(group, scores, first, penalties, uncovered)
        if finished:
            self._ended[group] = rank(self._ended[group] + finished, self._length_penalty)[: self._width]
        if crowd is not None:
            took = [path.tokens[-1] for path in finished if path.finish not in ("end", "stuck")]
            np.add.at(crowd, took + [path.tokens[-1] for path in going], 1)
        ended = self._ended[group]
        if len(ended) == self._width:
            kept = self._promising(going, worst=score(ended[-1], self._length_penalty))
            going, parents = [going[place] for place in kept], [parents[place] for place in kept]
        self._live[group] = going
        return parents

    def _grow(
        self, group: int, scores: Scores, first: int, penalties: Doubles | None, uncovered: Doubles | None
    ) -> tuple[list[Path], list[int], list[Path]]:
        """Return a group's best, a token longer: the paths that go on, the rows they grew from, and those that end."""
        paths, rules = self._live[group], self._rules
        width, most = self._width, 2 * self._width
        if self._pruning.narrowing:
            width = most = width - len(self._ended[group])
        going: list[Path] = []
        parents: list[int] = []
        finished: list[Path] = []
        least: float | None = None
        of_a_path = width + 1 if self._few_end else most
        for rating, row, token, log_prob, lost in islice(
            _candidates(paths, scores, first, of_a_path, rules, penalties), most
        ):
            if least is None:
                least = rating + self._log_threshold
            if rating < least:
                break
            path = extend(paths[row], token, log_prob, rules, lost)
            if uncovered is not None and path.finish != "stuck":
                path = path._replace(uncovered=float(uncovered[first + row]))
            if path.finish is None:
                going.append(path)
                parents.append(first + row)
                if len(going) == width:
                    break
            elif len(going) + len(finished) < width:
                finished.append(path)
        return going, parents, finished

    def _promising(self, going: Sequence[Path], *, worst: float) -> Sequence[int]:
        """Return which paths to go on with when as many have ended as there are beams."""
        if self._pruning.early_stopping is True:
            return []
        # Scores that only fall make the guess sure, and single paths can be given up.
        only_falls = self._length_penalty == 0 and not any(path.uncovered for path in going)
        sure = self._pruning.early_stopping == "never" or only_falls
        hopeful = [
            place
            for place, path in enumerate(going)
            if worst < (_hope(path, self._rules, self._length_penalty) if sure else score(path, self._length_penalty))
        ]
        if sure and self._pruning.num_groups == 1:
            return hopeful  # what the others grow into would be without hope as well
        return range(len(going)) if hopeful else []


def advance(searches: Sequence[BeamSearch], steps: Steps, uncovered: Uncovered | None = None) -> list[int]:
    """Advance several searches, whose paths are the rows of `steps`; return the rows that theirs grew from."""
    scores, left = steps.scores, None if uncovered is None else uncovered(steps.position.state)
    parents: list[int] = []
    first = 0  # row of the search's first path
    for search in searches:
        ours = len(search.live)
        parents += search.advance(scores, first, left)
        first += ours
    return parents


def _hope(path: Path, rules: Rules, length_penalty: float) -> float:
    """Return a score that no path which goes on from this one can exceed: probabilities only fall."""
    longest = len(path.tokens) + rules.max_new_tokens - path.new_tokens
    lengths = float(len(path.tokens) + 1), float(longest)
    return max((path.log_prob - path.lost) / math.pow(length, length_penalty) for length in lengths)


_Candidate: TypeAlias = tuple[float, int, int, float, float]
"""What a path one token longer is chosen by, which of the paths it is, the token, its log-prob, what penalties take."""


def _candidates(
    paths: Sequence[Path], scores: Scores, first: int, of_a_path: int, rules: Rules, penalties: Doubles | None
) -> Iterator[_Candidate]:
    """Yield the ways to make one of some paths a token longer, most probable first.

    first      row of the first path
    of_a_path  how many of a path's tokens are looked at
    penalties  taken from each token's log-prob, float64 (vocab,); a path is chosen by what is left

    Of equals, those of the earlier path come first, then the lowest id.
    """
    if not paths:
        return
    rows = slice(first, first + len(paths))
    if penalties is None and not rules.looks_back:
        all_tokens, all_log_probs = scores.top(of_a_path + 1)  # for one may be the unknown word
        tokens, log_probs = all_tokens[rows], all_log_probs[rows]
        left = log_probs
    else:
        tokens, log_probs, left = _highest_left(paths, scores.logits[rows], of_a_path, rules, penalties)
    totals = [path.log_prob - path.lost for path in paths]
    heads = [(-(total + left[row][0]), row, 0) for row, total in enumerate(totals)]
    heapify(heads)
    while heads and heads[0][0] < math.inf:
        negated, row, place = heads[0]
        token, log_prob = tokens[row][place], log_probs[row][place]
        if token != rules.unknown_id:
            yield -negated, row, token, log_prob, log_prob - left[row][place]
        place += 1
        if place < len(left[row]):
            heapreplace(heads, (-(totals[row] + left[row][place]), row, place))
        else:
            heappop(heads)


def _highest_left(
    paths: Sequence[Path], logits: Floats, count: int, rules: Rules, penalties: Doubles | None
) -> tuple[list[list[int]], list[list[float]], list[list[float]]]:
    """Return each path's tokens with the highest log-probs after what the rules and the penalties take.

    Where none may follow, there is NOTHING, which is worth 0.

    returns  tokens, their log-probs, and what is left of these; (paths, count or fewer) each
    """
    all_log_probs = log_softmax(logits)
    scores = restrict(all_log_probs, paths, rules)
    scores = scores if penalties is None else scores - penalties
    tokens: list[list[int]] = []
    log_probs: list[list[float]] = []
    left: list[list[float]] = []
    for before, after in zip(all_log_probs, scores, strict=True):
        chosen = best(after, count)
        tokens.append(chosen.tolist() or [NOTHING])
        log_probs.append(before[chosen].tolist() or [0.0])
        left.append(after[chosen].tolist() or [0.0])
    return tokens, log_probs, left

"""Many prompts through one batch: whoever has finished makes room at once for the next.

Every prompt is a search with paths that are rows of the batch. What is decided for a row depends on that row alone, so
it does not matter who else is in the batch, or when a prompt joined it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias, TypeVar

import numpy as np

from rnn_edge.runtimes.decoding import Position, StepModel, Steps, greedily, randomly, steps_from
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.paths import Path, Rules, extend

__all__ = ["Search", "Walks", "advance_walks", "in_turn"]

_MOST_WAITING = 8  # batches of prompts that may have finished before one that was given earlier


class Search(Protocol):
    """One prompt's paths."""

    @property
    def live(self) -> list[Path]:
        """Return the paths that go on."""

    @property
    def best(self) -> list[Path]:
        """Return what was found."""


_Search = TypeVar("_Search", bound=Search)
Admit: TypeAlias = Callable[[int], tuple[list[_Search], Position | None]]
"""From the most that there is room for, to so many searches and a row for each live path; fewer where no more come."""
Advance: TypeAlias = Callable[[Sequence[_Search], Steps], list[int]]
"""Make the paths of searches one token longer; from where they stand to the rows that those which go on grew from."""


class Walks:
    """Paths of one prompt that go on each by itself, along the most probable tokens or by chance.

    best        all of them
    live        those that go on
    generators  of those that go on, where they go by chance
    """

    def __init__(self, starts: Sequence[Path], generators: Sequence[np.random.Generator] = ()) -> None:
        self._generators = generators
        self._put(list(starts))

    def replace_live(self, longer: Iterator[Path]) -> None:
        """Put what the paths that go on have become in their places."""
        self._put([path if path.finish else next(longer) for path in self.best])

    def _put(self, paths: list[Path]) -> None:
        self.best = paths
        self.live = [path for path in paths if path.finish is None]
        pairs = zip(paths, self._generators, strict=False)  # of no generators, none
        self.generators = [generator for path, generator in pairs if path.finish is None]


def advance_walks(walks: Sequence[Walks], steps: Steps, rules: Rules, options: GenerateOptions) -> list[int]:
    """Make every path, a row of `steps`, one token longer; return the rows of those that go on."""
    paths = [path for each in walks for path in each.live]
    rows = range(len(paths))
    if options.do_sample:
        choose = randomly(rules, options, [generator for each in walks for generator in each.generators])
    else:
        choose = greedily(rules)
    chosen = choose(steps.scores, paths, rows)
    longer = [extend(path, *each, rules) for path, each in zip(paths, chosen, strict=True)]
    one_by_one = iter(longer)
    for each in walks:
        each.replace_live(one_by_one)
    return [row for row in rows if longer[row].finish is None]


def in_turn(
    model: StepModel, admit: Admit[_Search], advance: Advance[_Search], *, batch_size: int
) -> Iterator[_Search]:
    """Yield searches that are done, in the order in which they were admitted.

    batch_size  most searches that go on together
    """
    crew: list[_Search] = []  # those that go on
    order: deque[_Search] = deque()  # those that were not yielded yet
    steps: Steps | None = None  # a row for each path of the crew
    more_come = True
    while True:
        while order and not order[0].live:
            yield order.popleft()
        room = min(batch_size - len(crew), _MOST_WAITING * batch_size - len(order))
        if more_come and room > 0:
            newcomers, fresh = admit(room)
            more_come = len(newcomers) == room
            order += newcomers
            crew += [search for search in newcomers if search.live]
            if fresh is None or not len(fresh.logits):
                continue
            if steps is None:
                steps = steps_from(model, fresh)
            else:
                steps.join(fresh)
        elif crew and steps is not None:
            rows = advance(crew, steps)
            crew = [search for search in crew if search.live]
            if rows:
                steps.go_on(rows, [path.tokens[-1] for search in crew for path in search.live])
            else:
                steps = None
        else:
            return

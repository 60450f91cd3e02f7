"""The unfinished word: which tokens may already stand behind what somebody is still typing.

A model that reads whole tokens has never seen half of one: after "new nu" it would have to go on from the token " nu",
though " numbers" is what is meant. So the last word of a text that is being typed is not read. Instead, this module
looks for the token paths that cover it: " numbers", " num", " nu", or " n" and then "umpy", with exact probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from rnn_edge.runtimes.arrays import State, join_states, reorder
from rnn_edge.runtimes.decoding import Position, StepModel, step
from rnn_edge.runtimes.scores import best, log_softmax
from rnn_edge.runtimes.token_table import TokenTable

__all__ = ["Cover", "best_covers", "follow", "spell"]

_MOST_READ = 64  # paths that one search reads on; each costs a row of one step of the model
_READ_AT_ONCE = 16


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """Tokens whose bytes start with what was typed; or, while `left` is not empty, lie within it.

    log_prob  sum over the tokens
    rest      what the last token says beyond what was typed
    left      what was typed and is not covered yet
    state     before the last token, each float32 (layers, batch=1, width)
    """

    tokens: tuple[int, ...]
    log_prob: float
    rest: bytes
    left: bytes
    state: State


_Entry: TypeAlias = tuple[float, tuple[int, ...], Cover]
"""What a heap of covers is sorted by: probability, and of equals the lowest ids."""


def best_covers(
    model: StepModel,
    position: Position,
    typed: bytes,
    table: TokenTable,
    *,
    limit: int,
    allowed: Callable[[bytes], bool] | None = None,
) -> list[Cover]:
    """Return the `limit` most probable covers of what was typed after a position, best first.

    position  one row
    typed     at least one byte
    allowed   tells whether a cover may say this beyond what was typed

    Log-probs only fall along a path, so lengthening the most probable one first finds the covers in their order; of
    equals, the lowest ids come first. Long words have more paths than anybody can wait for: once 64 were read, the
    search settles for the covers it has seen, of which there may be none.
    """
    found: list[Cover] = []
    start = Cover((), 0.0, b"", typed, position.state)
    queue = [_entry(cover) for cover in _lengthen([start], position, table, limit, allowed)]
    heapify(queue)
    rows_read = 0
    while queue and len(found) < limit:
        if not queue[0][-1].left:
            found.append(heappop(queue)[-1])
            continue
        partial = _pop_partial(queue, min(limit, _READ_AT_ONCE))
        rows_read += len(partial)
        if rows_read <= _MOST_READ:
            for cover in _lengthen(partial, follow(model, partial), table, limit, allowed):
                heappush(queue, _entry(cover))
    return found


def _entry(cover: Cover) -> _Entry:
    return -cover.log_prob, cover.tokens, cover


def _pop_partial(queue: list[_Entry], most: int) -> list[Cover]:
    """Take the next paths that cover only a part, up to the next whole cover."""
    partial: list[Cover] = []
    while queue and queue[0][-1].left and len(partial) < most:
        partial.append(heappop(queue)[-1])
    return partial


def _lengthen(
    paths: Sequence[Cover],
    position: Position,
    table: TokenTable,
    limit: int,
    allowed: Callable[[bytes], bool] | None,
) -> list[Cover]:
    """Return the paths that are one token longer: the `limit` best that end here, and all that do not."""
    longer = []
    for row, (path, log_probs) in enumerate(zip(paths, log_softmax(position.logits), strict=True)):
        state = reorder(position.state, [row])
        whole, part = table.starting_with(path.left), table.within(path.left)
        if allowed is not None:
            whole = np.array(
                [token for token in whole if allowed(table.token_bytes[token][len(path.left) :])], np.int64
            )
        for token in (*whole[best(log_probs[whole], limit)].tolist(), *part):
            said, log_prob = table.token_bytes[token], path.log_prob + float(log_probs[token])
            rest, left = said[len(path.left) :], path.left[len(said) :]
            if log_prob > -np.inf:
                longer.append(Cover((*path.tokens, token), log_prob, rest, left, state))
    return longer


def spell(model: StepModel, position: Position, tokens: Sequence[int]) -> Cover:
    """Return a cover of given tokens, at least one: the way out where no token path was found."""
    log_prob = float(log_softmax(position.logits)[0, tokens[0]])
    for token, following in pairwise(tokens):
        position = step(model, [token], position.state)
        log_prob += float(log_softmax(position.logits)[0, following])
    return Cover(tuple(tokens), log_prob, b"", b"", position.state)


def follow(model: StepModel, covers: Sequence[Cover]) -> Position:
    """Read the last token of each of some covers, at least one; the position has a row for each."""
    return step(model, [cover.tokens[-1] for cover in covers], join_states(cover.state for cover in covers))

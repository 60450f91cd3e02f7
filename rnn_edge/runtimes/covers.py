"""The unfinished word: which tokens may already stand behind what somebody is still typing.

A model that reads whole tokens has never seen half of one: after "new nu" it would have to go on from the token " nu",
though " numbers" is what is meant. So the last word of a text that is being typed is not read. Instead, this module
looks for the token paths that cover it: " numbers", " num", " nu", or " n" and then "umpy", with exact probabilities.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from rnn_edge.runtimes.arrays import Ids, State, join_states, reorder
from rnn_edge.runtimes.decoding import Position, StepModel, step
from rnn_edge.runtimes.scores import best, log_softmax

__all__ = ["Cover", "TokenTable", "best_covers", "follow", "spell"]

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


class TokenTable:
    """The tokens by their bytes. Immutable.

    left_out  tokens that stand for no bytes, or for any
    joinable  whether a word may be made of several tokens
    """

    def __init__(self, token_bytes: Sequence[bytes], *, left_out: Collection[int | None], joinable: bool) -> None:
        self.token_bytes = token_bytes
        spoken = sorted((said, token) for token, said in enumerate(token_bytes) if token not in left_out)
        self._sorted = [said for said, _ in spoken]
        self._ids = np.array([token for _, token in spoken], dtype=np.int64)
        self._by_bytes: dict[bytes, list[int]] = {}
        for said, token in spoken if joinable else ():
            self._by_bytes.setdefault(said, []).append(token)
        self._longest = max(map(len, self._by_bytes), default=0)

    def starting_with(self, typed: bytes) -> Ids:
        """Return the tokens that say what was typed, and perhaps more; in order of ids."""
        first = bisect_left(self._sorted, typed)
        last = bisect_right(self._sorted, typed, lo=first, key=lambda said: said[: len(typed)])
        return np.sort(self._ids[first:last])

    def within(self, typed: bytes) -> list[int]:
        """Return the tokens that say only the beginning of what was typed."""
        lengths = range(1, min(len(typed) - 1, self._longest) + 1)
        return [token for length in lengths for token in self._by_bytes.get(typed[:length], ())]


def best_covers(model: StepModel, position: Position, typed: bytes, table: TokenTable, *, limit: int) -> list[Cover]:
    """Return the `limit` most probable covers of what was typed after a position, best first.

    position  one row
    typed     at least one byte

    Log-probs only fall along a path, so lengthening the most probable one first finds the covers in their order; of
    equals, the lowest ids come first. Long words have more paths than anybody can wait for: once 64 were read, the
    search settles for the covers it has seen, of which there may be none.
    """
    found: list[Cover] = []
    start = Cover((), 0.0, b"", typed, position.state)
    queue = [_entry(cover) for cover in _lengthen([start], position, table, limit)]
    heapify(queue)
    rows_read = 0
    while queue and len(found) < limit:
        if not queue[0][-1].left:
            found.append(heappop(queue)[-1])
            continue
        partial = _pop_partial(queue, min(limit, _READ_AT_ONCE))
        rows_read += len(partial)
        if rows_read <= _MOST_READ:
            for cover in _lengthen(partial, follow(model, partial), table, limit):
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


def _lengthen(paths: Sequence[Cover], position: Position, table: TokenTable, limit: int) -> list[Cover]:
    """Return the paths that are one token longer: the `limit` best that end here, and all that do not."""
    longer = []
    for row, (path, log_probs) in enumerate(zip(paths, log_softmax(position.logits), strict=True)):
        state = reorder(position.state, [row])
        whole, part = table.starting_with(path.left), table.within(path.left)
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

"""A network that remembers everything it reads, and whose scores are any function of that: so its answers can be known.

A fake without memory could not tell whether the decoder mixes up its rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import product

import numpy as np
import pytest
from hypothesis import strategies as st

from rnn_edge.runtimes.arrays import Floats, Ids, State
from rnn_edge.runtimes.decoding import Path, Rules, read, walk

History = tuple[int, ...]
Scores = Callable[[History], Sequence[float]]
Looks = Callable[[History], Sequence[float]]
"""Where a network looks when it writes the token after a history."""

seeds = st.integers(0, 2**32 - 1)
RULES = Rules(token_bytes=[b"a", b"b", b"c", b"d"], end_id=None, unknown_id=None, max_new_tokens=3)
prompts_of = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=4)

about = partial(pytest.approx, abs=1e-5)
"""Log-probs of float32 scores."""


class RememberingModel:
    """Its state is the number of a history in a list, twice: as `h`, and negated as `c`, so that both must be moved.

    It refuses what the seam forbids: padding on the right, foreign ids, states torn apart. What it returns is
    read-only, so writing into a state fails.
    """

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self._histories: list[History] = [()]
        self._numbers = {(): 0}
        self._lock = threading.Lock()
        self.vocab_size = len(scores(()))
        self.steps = 0
        self.tokens_read = 0

    def start(self, batch: int) -> State:
        return self._state([()] * batch)

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        assert tokens.dtype == np.int64
        assert tokens.ndim == 2
        assert tokens.shape[1] > 0
        assert tokens.flags.c_contiguous
        assert ((tokens >= -1) & (tokens < self.vocab_size)).all()
        histories = [
            history + _without_padding(row) for history, row in zip(self._read(state), tokens.tolist(), strict=True)
        ]
        self.steps += 1
        self.tokens_read += int((tokens >= 0).sum())
        logits = np.array([self._scores(history) for history in histories], dtype=np.float32)
        logits.flags.writeable = False
        return logits, self._state(histories)

    def histories(self, state: State) -> list[History]:
        """Return what was read to get to a state."""
        return self._read(state)

    def _state(self, histories: Sequence[History]) -> State:
        with self._lock:
            for history in histories:
                if history not in self._numbers:
                    self._numbers[history] = len(self._histories)
                    self._histories.append(history)
            h = np.array([[[self._numbers[history]] for history in histories]], dtype=np.float32)
        h = h.reshape(1, len(histories), 1)
        parts = h, np.concatenate([-h, -h], axis=2)
        for part in parts:
            part.flags.writeable = False
        return parts

    def _read(self, state: State) -> list[History]:
        h, c = state
        assert h.dtype == c.dtype == np.float32
        assert h.shape[2:] == (1,)
        assert c.shape[2:] == (2,)
        assert np.array_equal(np.concatenate([-h, -h], axis=2), c)
        return [self._histories[int(number)] for number in h[0, :, 0]]


class LookingModel:
    """A remembering model that looks at the places of a source; its state ends with their mask, all of them there."""

    has_attention = True

    def __init__(self, scores: Scores, looks: Looks) -> None:
        self._remembering = RememberingModel(scores)
        self._looks = looks

    def start(self, batch: int) -> State:
        return (*self._remembering.start(batch), np.ones((len(self._looks(())), batch, 1), np.bool_))

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        logits, after = self._remembering.step(tokens, state[:2])
        return logits, (*after, state[2])

    def look(self, tokens: Ids, state: State) -> tuple[Floats, State, Floats]:
        logits, after = self.step(tokens, state)
        histories = self._remembering.histories(after[:2])
        return logits, after, np.array([self._looks(history) for history in histories], np.float32)


def _without_padding(row: list[int]) -> History:
    tokens = tuple(token for token in row if token != -1)
    assert row == [-1] * (len(row) - len(tokens)) + list(tokens), "pad on the left"
    return tokens


def random_scores(vocab_size: int, seed: int) -> Scores:
    """Return scores that differ for every history, the same for the same seed."""

    @cache
    def scores(history: History) -> list[float]:
        generator = np.random.default_rng((seed, *(token + 1 for token in history)))
        return generator.normal(scale=2.0, size=vocab_size).astype(np.float32).tolist()

    return scores


def random_looks(places: int, seed: int) -> Looks:
    """Return shares of 1 that differ for every history, mostly one place's, the same for the same seed."""

    @cache
    def looks(history: History) -> list[float]:
        generator = np.random.default_rng((seed, *(token + 1 for token in history)))
        return generator.dirichlet(np.full(places, 0.3)).astype(np.float32).tolist()

    return looks


def scores_after(vocab_size: int, following: Mapping[History, Mapping[int, float]]) -> Scores:
    """Return scores by hand: the probabilities of what follows the longest known end of a history.

    What is left of probability is shared by all other tokens.
    """

    def scores(history: History) -> list[float]:
        ends = (history[first:] for first in range(len(history) + 1))
        given = next((following[end] for end in ends if end in following), {})
        left = (1 - sum(given.values())) / max(1, vocab_size - len(given))
        return [float(np.log(max(given.get(token, left), 1e-30))) for token in range(vocab_size)]

    return scores


def log_prob(scores: Scores, tokens: Sequence[int], before: Sequence[int] = ()) -> float:
    """Return the log-prob of tokens after others, the long way round."""
    total = 0.0
    history = tuple(before)
    for token in tokens:
        logits = np.array(scores(history), dtype=np.float64)
        total += float(logits[token] - np.log(np.exp(logits).sum()))
        history = (*history, token)
    return total


def all_paths(vocab_size: int, length: int, *, end_id: int | None = None) -> list[History]:
    """Return every path of a tree: `length` tokens, or fewer with the end token last."""
    return [
        path
        for size in range(1, length + 1)
        for path in product(range(vocab_size), repeat=size)
        if end_id not in path[:-1] and (size == length or path[-1] == end_id)
    ]


class RowReader:
    """A network that reads whole texts; what it says of a row is any function of the row's tokens.

    It refuses what the seam forbids, and leaves noise in the padding of what it returns.
    """

    def __init__(self, *outputs: Callable[..., np.ndarray]) -> None:
        self._outputs = outputs
        self.batches: list[tuple[int, ...]] = []  # shapes of what was read together

    def run(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = list(zip(*map(_unpadded, arrays), strict=True))
        self.batches.append(arrays[0].shape)
        return tuple(_stacked([output(*row) for row in rows]) for output in self._outputs)


def _unpadded(array: np.ndarray) -> list[tuple]:
    """Return the rows of an input without padding, which is -1 on the right, in a column of every row at most."""
    assert array.dtype == np.int64
    assert array.flags.c_contiguous
    if array.ndim == 2:
        assert max(len(row[row >= 0]) for row in array) == array.shape[1], "no more columns than tokens"
        return [_without_right_padding(row) for row in array.tolist()]
    words = [[_without_right_padding(word) for word in row] for row in array.tolist()]
    return [tuple(word for word in row if word) for row in words]


def _without_right_padding(row: list[int]) -> History:
    tokens = tuple(token for token in row if token != -1)
    assert row == [*tokens, *[-1] * (len(row) - len(tokens))], "pad on the right"
    return tokens


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    shape = np.max([np.shape(row) for row in rows], axis=0, initial=0)
    stacked = np.full((len(rows), *shape.astype(int)), 77, np.asarray(rows[0]).dtype)
    for index, row in enumerate(rows):
        stacked[(index, *(slice(size) for size in np.shape(row)))] = row
    return stacked


class RememberingPair:
    """An encoder and a decoder: what the decoder remembers begins with the source, whose tokens count from 1000.

    With attention its state holds a memory, the source once more, time-major and with a mask; and it looks from left
    to right: when it writes its n-th token, mostly at place n of the memory.
    """

    def __init__(self, scores: Scores, *, has_attention: bool = False, joined: int = 1) -> None:
        self._remembering = RememberingModel(scores)
        self.has_attention = has_attention
        self._joined = joined
        self.encoded: list[int] = []  # rows of each call

    @property
    def steps(self) -> int:
        return self._remembering.steps

    def run(self, tokens: np.ndarray) -> State:
        """Encode texts, or vectors, which count as the tokens they hold."""
        rows = _unpadded(tokens) if tokens.dtype == np.int64 else [tuple(row.astype(int)) for row in tokens]
        self.encoded.append(len(rows))
        sources = [tuple(1000 + token for token in row) for row in rows]
        return (*self._remembering._state(sources), *self._memory(sources))

    def start(self, batch: int) -> State:
        raise AssertionError("a translator starts from its encoder")

    def step(self, tokens: Ids, state: State) -> tuple[Floats, State]:
        self._check(state)
        logits, after = self._remembering.step(tokens, state[:2])
        return logits, (*after, *state[2:])

    def look(self, tokens: Ids, state: State) -> tuple[Floats, State, Floats]:
        assert self.has_attention
        logits, after = self.step(tokens, state)
        mask = after[-1][:, :, 0].T  # (batch, source)
        weights = np.where(mask, 0.5 / mask.sum(axis=1, keepdims=True), 0).astype(np.float32)
        for row, history in enumerate(self._remembering.histories(after[:2])):
            place = sum(token < 1000 for token in history) - 1
            weights[row, place % mask[row].sum()] += 0.5
        return logits, after, weights

    def _memory(self, sources: Sequence[History]) -> State:
        if not self.has_attention:
            return ()
        sources = [source[:: self._joined] for source in sources]
        memory = np.zeros((max(map(len, sources)), len(sources), 1), np.float32)
        for row, source in enumerate(sources):
            memory[: len(source), row, 0] = source
        return memory, memory > 0

    def _check(self, state: State) -> None:
        """Refuse a memory that is not its row's."""
        if self.has_attention:
            for row, history in enumerate(self._remembering.histories(state[:2])):
                source = [token for token in history if token >= 1000]
                remembered = state[2][:, row, 0][state[3][:, row, 0]]
                assert remembered.tolist() == source[:: self._joined]


def walk_to_the_end(model, prompts, choose, rules, starts=None):
    *_, paths = walk(model, starts or [Path()] * len(prompts), read(model, prompts), choose, rules)
    return paths

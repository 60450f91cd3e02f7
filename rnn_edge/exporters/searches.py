"""The host's searches, set up as a graph that searches by itself has them: what such a graph must give."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from rnn_edge.bundle import Search
from rnn_edge.runtimes.arrays import State, reorder
from rnn_edge.runtimes.decoding import (
    Path,
    Position,
    Rules,
    StepModel,
    beam_search,
    extend,
    greedily,
    randomly,
    rank,
    read,
    step,
    walk,
)
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.scores import log_softmax

__all__ = ["begin_to_write", "search_on_host"]


def begin_to_write(model: StepModel, search: Search, rows: Sequence[Sequence[int]], state: State | None) -> Position:
    """Read prompts; or, where the search begins with a token of its own, that one from an encoder's state."""
    return read(model, [[search.start_id]] * len(rows) if search.start_id is not None else rows, state)


def search_on_host(
    model: StepModel,
    position: Position,
    search: Search,
    *,
    max_new_tokens: int,
    length_penalty: float = 1.0,
    temperature: float = 1.0,
    seeds: Sequence[int] = (),
) -> list[list[Path]]:
    """Return what is found from each row of a position, best first.

    seeds  of a sample, one a row: its noise is what `numpy.random.default_rng(seed).random` gives
    """
    rows, vocab_size = position.logits.shape
    rules = Rules(
        token_bytes=[b""] * vocab_size,
        end_id=search.end_id,
        unknown_id=search.unknown_id,
        max_new_tokens=max_new_tokens,
    )
    if search.strategy == "beam":
        starts = [[Path()] for _ in range(rows)]
        if search.narrowing:
            found = [_narrowing(model, _row(position, row), rules, search, length_penalty) for row in range(rows)]
        else:
            found = beam_search(
                model, starts, position, rules, num_beams=search.num_beams, length_penalty=length_penalty
            )
        return [paths[: search.num_return_sequences] for paths in found]
    choose = greedily(rules)
    if search.strategy == "sample":
        options = GenerateOptions(do_sample=True, temperature=temperature)
        choose = randomly(rules, options, [np.random.default_rng(seed) for seed in seeds])
    (paths,) = deque(walk(model, [Path()] * rows, position, choose, rules), maxlen=1)  # the last
    return [[path] for path in paths]


def _narrowing(model: StepModel, position: Position, rules: Rules, search: Search, length_penalty: float) -> list[Path]:
    """Search with a beam that loses a place for each hypothesis that ends."""
    ended: list[Path] = []
    beams = [Path()]
    while beams:
        scores = log_softmax(position.logits)  # (beams, vocab)
        grown = [
            (parent, extend(path, token, float(scores[parent, token]), rules))
            for parent, path in enumerate(beams)
            for token in range(scores.shape[1])
            if token != rules.unknown_id
        ]
        grown = sorted(grown, key=lambda each: -each[1].log_prob)[: search.num_beams - len(ended)]
        ended += [path for _, path in grown if path.finish]
        going = [each for each in grown if not each[1].finish]
        beams = [path for _, path in going]
        if beams:
            state = reorder(position.state, [parent for parent, _ in going])
            position = step(model, [path.tokens[-1] for path in beams], state)
    return rank(ended, length_penalty)


def _row(position: Position, row: int) -> Position:
    return Position(position.logits[row : row + 1], reorder(position.state, [row]))

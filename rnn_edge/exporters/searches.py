"""The host's searches, set up as a graph that searches by itself has them: what such a graph must give."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from rnn_edge.bundle import Search
from rnn_edge.runtimes.arrays import State
from rnn_edge.runtimes.beams import Pruning, beam_search
from rnn_edge.runtimes.decoding import Path, Position, Rules, StepModel, greedily, randomly, read, walk
from rnn_edge.runtimes.options import GenerateOptions

__all__ = ["begin_to_write", "search_on_host"]


def begin_to_write(model: StepModel, search: Search, rows: Sequence[Sequence[int]], state: State | None) -> Position:
    """Read prompts; or, where the search begins with a token of its own, that one from an encoder's state."""
    return read(model, [[search.start_id]] * len(rows) if search.start_id is not None else rows, state)


def search_on_host(
    model: StepModel,
    position: Position,
    search: Search,
    options: GenerateOptions,
    seeds: Sequence[int] = (),
) -> list[list[Path]]:
    """Return what is found from each row of a position, best first.

    options  those that are inputs of such a graph
    seeds    of a sample, one a row: its noise is what `numpy.random.default_rng(seed).random` gives
    """
    assert options.max_new_tokens is not None
    rows, vocab_size = position.logits.shape
    rules = Rules(
        token_bytes=[b""] * vocab_size,
        end_id=search.end_id,
        unknown_id=search.unknown_id,
        max_new_tokens=options.max_new_tokens,
    )
    if search.strategy == "beam":
        found = beam_search(
            model,
            [[Path()]] * rows,
            position,
            rules,
            num_beams=search.num_beams,
            length_penalty=options.length_penalty,
            pruning=Pruning(early_stopping=search.early_stopping, narrowing=search.narrowing),
        )
        return [paths[: search.num_return_sequences] for paths in found]
    choose = greedily(rules)
    if search.strategy == "sample":
        choose = randomly(rules, options, [np.random.default_rng(seed) for seed in seeds])
    (paths,) = deque(walk(model, [Path()] * rows, position, choose, rules), maxlen=1)  # the last
    return [[path] for path in paths]

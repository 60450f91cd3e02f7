"""What each runner is asked to do: a step, the 20 best of a step, a prompt, a beam; and how far it is from PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.alternatives import Runner
from benchmarks.alternatives.base import log_totals
from benchmarks.workloads import Workload
from rnn_edge.bundle import Precision, Preview, Search
from rnn_edge.exporters.graphs import build
from rnn_edge.exporters.weights import Plan
from rnn_edge.runtimes.arrays import Doubles, Floats, Ids
from rnn_edge.runtimes.bench import chained
from rnn_edge.runtimes.decode_graph import Decoded, DecodeGraph

__all__ = [
    "BEAMS",
    "PROMPT",
    "beam_in_graph",
    "beam_of",
    "error_of",
    "logits_of",
    "prompt_of",
    "stepping",
    "suggesting",
]

BEST, PROMPT, BEAMS, BEAM_TOKENS = 20, 64, 5, 20
_COMPARED = 16  # steps, one on the other


def stepping(runner: Runner, tokens: Ids) -> Callable[[], Floats]:
    """Return a task that reads the next column of tokens, int64 (batch, time)."""
    return chained(runner.step, runner.start(len(tokens)), _columns(tokens))


def suggesting(runner: Runner, tokens: Ids) -> Callable[[], object]:
    """Return a task that reads the next column, and finds the most probable tokens after it."""
    return chained(partial(runner.best_after, count=BEST), runner.start(len(tokens)), _columns(tokens))


def _columns(tokens: Ids) -> list[Ids]:
    return [np.ascontiguousarray(column) for column in tokens.T]


def prompt_of(runner: Runner, tokens: Ids) -> Callable[[], object]:
    """Return a task that reads all tokens from the start."""
    return lambda: runner.read(tokens, runner.start(len(tokens)))


def beam_of(runner: Runner, first: int) -> Callable[[], object]:
    """Return a task that searches with five beams, each step in numpy on all scores, as one writes it in an app."""

    def search() -> Doubles:
        state, tokens = runner.start(BEAMS), np.full(BEAMS, first)
        scores = np.array([0.0] + [-np.inf] * (BEAMS - 1))
        for _ in range(BEAM_TOKENS):
            logits, state = runner.step(tokens, state)
            totals = (scores[:, None] + (logits - log_totals(logits))).ravel()
            chosen = np.argpartition(totals, -BEAMS)[-BEAMS:]
            rows, tokens = np.divmod(chosen, logits.shape[-1])
            scores, state = totals[chosen], runner.reorder(state, rows.tolist())
        return scores

    return search


def beam_in_graph(
    workload: Workload, precision: Precision, first: int, preview: Preview | None = None, *, length: int = BEAM_TOKENS
) -> Callable[[], Decoded]:
    """Return a task that calls a graph which searches with five beams by itself.

    No text ever ends, but the graph asks whether it does.
    """
    search = Search(strategy="beam", num_beams=BEAMS, num_return_sequences=BEAMS, unknown_id=0)
    built = build(workload.model(), Plan(precision, preview=preview), search=search)
    graph = DecodeGraph(built.protos["decode"].SerializeToString(), built.describe()["decode"])
    options = replace(graph.options, max_new_tokens=length, length_penalty=0.0)
    return lambda: graph.run(np.array([[first]]), options)


def logits_of(runner: Runner, tokens: Ids) -> Floats:
    """Return the logits after each of some columns of tokens, one read after the other, (time, batch, vocab)."""
    state, found = runner.start(len(tokens)), []
    for column in tokens.T[:_COMPARED]:
        logits, state = runner.step(np.ascontiguousarray(column), state)
        found.append(np.array(logits))
    return np.stack(found)


def error_of(logits: Floats, reference: Floats) -> float:
    """Return how far logits are from PyTorch's: root mean square, as a share of their own spread."""
    return float(np.sqrt(np.mean((logits - reference) ** 2)) / reference.std())

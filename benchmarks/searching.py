"""What a search adds to the steps it takes: microseconds a token, of greedy decoding and of a beam of 5.

*step* is the graph alone, between two fixed places; *and the best* finds the candidates as well, also ONNX Runtime's
work; the search itself is Python, or, *in the graph*, one call of ONNX Runtime. Everything takes turns, and the
differences are taken in each round.

python -m benchmarks.searching
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.workloads import WORKLOADS, Workload
from rnn_edge.bundle import Search
from rnn_edge.exporters.graphs import build
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.weights import Plan
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.beams import beam_search
from rnn_edge.runtimes.bench import Times, describe_machine, take_turns
from rnn_edge.runtimes.decode_graph import DecodeGraph
from rnn_edge.runtimes.decoding import Path, Rules, Steps, greedily, read, steps_from, take, walk

TOKENS, BEAMS, UNKNOWN = 50, 5, 0
_COLUMNS = (
    "step",
    "and the best",
    "greedy",
    "Python adds",
    "step of 5",
    "reordered, and the best",
    "beam of 5",
    "Python adds",
    "beam over its step",
    "beam in the graph",
    "over its step",
)


def _graphs(workload: Workload) -> tuple[StepGraph, DecodeGraph]:
    """Return a network's step, and a graph that searches; no text ever ends, but the graph asks whether it does."""
    search = Search(strategy="beam", num_beams=BEAMS, num_return_sequences=BEAMS, unknown_id=UNKNOWN)
    opened = Opened.from_built(build(workload.model(), Plan("int8"), search=search))
    assert opened.step is not None
    assert opened.decode is not None
    return opened.step, opened.decode


def _stepping(steps: Steps, rows: list[int], tokens: list[list[int]], k: int = 0) -> Callable[[], None]:
    """Return a task that takes as many steps as a search does, and looks for the best if there is a `k`."""

    def go() -> None:
        for column in tokens:
            steps.go_on(rows, column)
            if k:
                steps.scores.top(k)

    return go


def measure(workload: Workload) -> dict[str, Times]:
    """Return microseconds a token of each."""
    (graph, decode), vocab_size = _graphs(workload), workload.spec.vocab_size
    prompt, options = np.array([[5]]), replace(decode.options, max_new_tokens=TOKENS)
    begun, many = read(graph, [[5]]), take(read(graph, [[5]]), [0] * BEAMS)
    tokens = np.random.default_rng(0).integers(1, vocab_size, (TOKENS, BEAMS)).tolist()
    rules = Rules(token_bytes=[b" "] * vocab_size, end_id=None, unknown_id=UNKNOWN, max_new_tokens=TOKENS)
    one, moved = [column[:1] for column in tokens], [0, 0, 1, 3, 2]
    tasks = {
        "step": _stepping(steps_from(graph, begun), [0], one),
        "step, and the best": _stepping(steps_from(graph, begun), [0], one, 2),
        "greedy": lambda: deque(walk(graph, [Path()], begun, greedily(rules), rules), maxlen=0),
        "step of 5": _stepping(steps_from(graph, many), [0, 1, 2, 3, 4], tokens),
        "step of 5, reordered, and the best": _stepping(steps_from(graph, many), moved, tokens, BEAMS + 2),
        "beam of 5": lambda: beam_search(graph, [[Path()]], begun, rules, num_beams=BEAMS),
        "beam of 5, in the graph": lambda: decode.run(prompt, options),
    }
    return {name: times.of(TOKENS) for name, times in take_turns(tasks, rounds=9, seconds=0.05).items()}


def main() -> None:
    """Print a table."""
    print(f"{describe_machine('onnxruntime', 'numpy')}; int8, one thread; microseconds a token, median of 9 rounds\n")
    print(f"| | {' | '.join(_COLUMNS)} |")
    print("| --- " * (1 + len(_COLUMNS)) + "|")
    for name, workload in WORKLOADS.items():
        times = (np.array(each.rounds) for each in measure(workload).values())
        step, best, greedy, step5, best5, beam, whole = times
        cells = [step, best, greedy, greedy - best, step5, best5, beam, beam - best5]
        row = " | ".join(f"{np.median(each):.0f}" for each in cells)
        over, whole_over = (f"{np.median(each / step5):.2f}×" for each in (beam, whole))
        print(f"| {name} | {row} | {over} | {np.median(whole):.0f} | {whole_over} |", flush=True)


if __name__ == "__main__":
    main()

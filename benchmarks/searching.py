"""What a search adds to the steps it takes: microseconds a token, of greedy decoding and of a beam of 5.

*step* is the graph alone, between two fixed places; *and the best* finds the candidates as well, also ONNX Runtime's
work; the search itself is Python, or, *in the graph*, one call of ONNX Runtime. Everything takes turns, and the
differences are taken in each round.

python -m benchmarks.searching
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from benchmarks.tasks import BEAMS, beam_in_graph
from benchmarks.workloads import WORKLOADS, Workload
from rnn_edge.exporters.graphs import build, describe_graph
from rnn_edge.exporters.weights import Plan
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.beams import beam_search
from rnn_edge.runtimes.bench import Times, describe_machine, take_turns
from rnn_edge.runtimes.decoding import Path, Rules, Steps, greedily, read, steps_from, take, walk

TOKENS, FIRST = 50, 5
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


def _graph(workload: Workload) -> StepGraph:
    proto = build(workload.model(), Plan("int8")).protos["step"]
    return StepGraph(proto.SerializeToString(), describe_graph("step", proto).inputs[1:])


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
    graph, vocab_size = _graph(workload), workload.spec.vocab_size
    begun, many = read(graph, [[FIRST]]), take(read(graph, [[FIRST]]), [0] * BEAMS)
    tokens = np.random.default_rng(0).integers(1, vocab_size, (TOKENS, BEAMS)).tolist()
    rules = Rules(token_bytes=[b" "] * vocab_size, end_id=None, unknown_id=0, max_new_tokens=TOKENS)
    one, moved = [column[:1] for column in tokens], [0, 0, 1, 3, 2]
    tasks = {
        "step": _stepping(steps_from(graph, begun), [0], one),
        "step, and the best": _stepping(steps_from(graph, begun), [0], one, 2),
        "greedy": lambda: deque(walk(graph, [Path()], begun, greedily(rules), rules), maxlen=0),
        "step of 5": _stepping(steps_from(graph, many), [0, 1, 2, 3, 4], tokens),
        "step of 5, reordered, and the best": _stepping(steps_from(graph, many), moved, tokens, BEAMS + 2),
        "beam of 5": lambda: beam_search(graph, [[Path()]], begun, rules, num_beams=BEAMS),
        "beam of 5, in the graph": beam_in_graph(workload, "int8", FIRST, length=TOKENS),
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

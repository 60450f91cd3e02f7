"""Time of a token in the built-in model.

python -m benchmarks.built_in
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from rnn_edge.bundle import Bundle
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.load import BUILT_IN

ROUNDS, STEPS, WARM_UP = 7, 500, 200


def main() -> None:
    """Print the median and the spread of some rounds."""
    graph = StepGraph.from_bundle(Bundle.read(BUILT_IN))
    state, token = graph.start(1), np.array([[5]])
    times = []
    for round_ in range(ROUNDS + 1):
        started = time.perf_counter()
        for _ in range(STEPS if round_ else WARM_UP):
            _, state = graph.step(token, state)
        times.append((time.perf_counter() - started) / STEPS * 1e6)
    times = times[1:]
    print(f"{statistics.median(times):.0f} µs a token, {min(times):.0f} to {max(times):.0f} in {ROUNDS} rounds")


if __name__ == "__main__":
    main()

"""Many people at once on one machine: steps a second, how long each waits for one, and what a session weighs.

python -m benchmarks.scale [BUNDLE] [--sessions 1 10 100 1000] [--processes 1 2] [--largest-batch 128] [--seconds 3]

Every session wants its next token as soon as it has the last: nobody thinks, nobody types. Those who waited longest are
in the next batch. With several processes each has its share of the sessions, and a bundle of its own.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from rnn_edge.bundle import Bundle
from rnn_edge.runtimes import BUILT_IN, LanguageModel, StepGraph
from rnn_edge.runtimes.arrays import join_states, rows_of
from rnn_edge.runtimes.bench import describe_machine
from rnn_edge.runtimes.decoding import StepModel

__all__ = ["Server", "measure_load"]

WARM_UP = 20  # batches
TYPED = "for name in sorted(names):\n    print(name)"
MANY = 1_000  # sessions that are weighed


class Server:
    """Holds sessions that follow their most probable token for ever, and lets some of them take a step together."""

    def __init__(self, model: StepModel, sessions: int, largest_batch: int) -> None:
        self._model, self._largest_batch = model, largest_batch
        self.states = [model.start(1) for _ in range(sessions)]
        self.tokens = np.zeros(sessions, np.int64)  # that each is about to read
        self._asked = [time.perf_counter()] * sessions
        self._waiting = deque(range(sessions))

    def step(self) -> tuple[list[float], float]:
        """Let those who have waited longest take a step; return how long each waited for it, and the graph's part."""
        rows = [self._waiting.popleft() for _ in range(min(self._largest_batch, len(self._waiting)))]
        state = join_states(self.states[row] for row in rows)
        began = time.perf_counter()
        logits, state = self._model.step(self.tokens[rows][:, None], state)
        in_graph = time.perf_counter() - began
        self.tokens[rows] = logits.argmax(axis=-1)
        for row, after in zip(rows, rows_of(state), strict=True):
            self.states[row] = after
        now = time.perf_counter()
        waited = [now - self._asked[row] for row in rows]
        for row in rows:
            self._asked[row] = now
        self._waiting.extend(rows)
        return waited, in_graph


@dataclass(frozen=True)
class Load:
    """What one process did."""

    seconds: float
    waited: list[float]  # seconds, one number a step of a session
    in_graph: float  # seconds


def measure_load(model: StepModel, sessions: int, largest_batch: int, seconds: float) -> Load:
    """Let sessions take steps for some seconds."""
    server = Server(model, sessions, largest_batch)
    for _ in range(WARM_UP):
        server.step()
    waited: list[float] = []
    in_graph, began = 0.0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        of_these, part = server.step()
        waited += of_these
        in_graph += part
    return Load(spent, waited, in_graph)


def main() -> None:
    """Print a row for each number of sessions and processes, and what a session weighs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=BUILT_IN)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 10, 100, 1_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--largest-batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    print(f"{describe_machine('onnxruntime', 'numpy')}; {arguments.bundle.stem}, one thread a process, ", end="")
    print(f"batches of at most {arguments.largest_batch}, {arguments.seconds:g} s each\n")
    print("| sessions | processes | steps a second | wait p50, ms | p99, ms | in the graph |")
    print("| --- | --- | --- | --- | --- | --- |")
    for sessions in arguments.sessions:
        for processes in arguments.processes:
            if sessions >= processes:
                share = (arguments.bundle, sessions // processes, arguments.largest_batch, arguments.seconds)
                print(_row(sessions, _together(processes, _load, *share)), flush=True)
    ((state, bare, whole),) = _together(1, _weigh, arguments.bundle)
    print(f"\na session's state: {state:,} bytes, {bare:,.0f} resident; with its text and undo, {whole:,.0f} resident")


def _row(sessions: int, loads: list[Load]) -> str:
    waited = np.concatenate([load.waited for load in loads])
    steps = sum(len(load.waited) / load.seconds for load in loads)
    in_graph = sum(load.in_graph for load in loads) / sum(load.seconds for load in loads)
    middle, late = np.percentile(waited, [50, 99]) * 1e3
    return f"| {sessions:,} | {len(loads)} | {steps:,.0f} | {middle:.2f} | {late:.2f} | {in_graph:.0%} |"


def _together(processes: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what each of some new processes gives, which begin their work at the same moment."""
    context = get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(processes, mp_context=context) as pool,
    ):
        barrier = manager.Barrier(processes)
        return [each.result() for each in [pool.submit(work, barrier, *arguments) for _ in range(processes)]]


def _load(barrier: Any, bundle: Path, sessions: int, largest_batch: int, seconds: float) -> Load:
    graph = StepGraph.from_bundle(Bundle.read(bundle))
    barrier.wait()
    return measure_load(graph, sessions, largest_batch, seconds)


def _weigh(_: Any, path: Path) -> tuple[int, float, float]:
    """Return bytes of a session's state, and of resident memory for a bare state and for a session with a text."""
    bundle = Bundle.read(path)
    graph = StepGraph.from_bundle(bundle)
    model = LanguageModel(graph, bundle.tokenizer)
    model.session(TYPED)  # whatever is made once
    tokens, before = np.zeros((1, 1), np.int64), _resident()
    states = [graph.step(tokens, graph.start(1))[1] for _ in range(MANY)]
    between = _resident()
    sessions = [_typed(model) for _ in range(MANY)]
    after = _resident()
    assert len(states) == len(sessions) == MANY
    size = sum(part.nbytes for part in states[0])
    return size, (between - before) / MANY, (after - between) / MANY


def _typed(model: LanguageModel) -> Any:
    """Return a session in which a text was typed, letter by letter."""
    session = model.session()
    for letter in TYPED:
        session.type(letter)
    return session


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()

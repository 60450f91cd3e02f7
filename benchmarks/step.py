"""One token of one row: PyTorch eager against bundles in each precision, in turn, in the same process, on one thread.

python -m benchmarks.step [--hidden-size 256 --vocab-size 10000 --batch 5 ...]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from rnn_edge.bundle import Precision
from rnn_edge.exporters.graphs import build, describe_graph
from rnn_edge.exporters.weights import Plan
from rnn_edge.modules import LanguageModel
from rnn_edge.runtimes import StepGraph
from rnn_edge.spec import LanguageModelSpec

ROUNDS, STEPS, WARM_UP = 7, 200, 50
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int4")


def main() -> None:
    """Print the median time of a step, and its spread, for each cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab-size", type=int, default=10_000)
    parser.add_argument("--embedding-size", type=int, default=96)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--num-layers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{_processor()}, one thread; Python {platform.python_version()}, " + _versions())
    print(f"µs a step, median of {ROUNDS} rounds and their spread; × is how many times faster than PyTorch\n")
    print("| cell | PyTorch eager | " + " | ".join(PRECISIONS) + " |\n| --- |" + " --- |" * (1 + len(PRECISIONS)))
    for cell in ("elman", "gru", "lstm"):
        spec = LanguageModelSpec(
            vocab_size=arguments.vocab_size,
            embedding_size=arguments.embedding_size,
            hidden_size=arguments.hidden_size,
            num_layers=arguments.num_layers,
            cell=cell,
        )
        model = LanguageModel(spec).eval()
        bundles = [_bundle_steps(model, Plan(precision), arguments.batch) for precision in PRECISIONS]
        eager, *others = _interleaved(_torch_steps(model, arguments.batch), *bundles)
        cells = [f"{_summary(times)} ({statistics.median(eager) / statistics.median(times):.1f}×)" for times in others]
        print(f"| {cell} | {_summary(eager)} | " + " | ".join(cells) + " |")


def _torch_steps(model: LanguageModel, batch: int) -> Callable[[int], None]:
    @torch.inference_mode()
    def run(steps: int) -> None:
        state = model.start(batch)
        tokens = torch.zeros(batch, 1, dtype=torch.int64)
        for _ in range(steps):
            logits, state = model(tokens, state)
            tokens = logits[:, -1].argmax(-1, keepdim=True)

    return run


def _bundle_steps(model: LanguageModel, plan: Plan, batch: int) -> Callable[[int], None]:
    proto = build(model, plan).protos["step"]
    graph = StepGraph(proto.SerializeToString(), describe_graph("step", proto).inputs[1:])

    def run(steps: int) -> None:
        state = graph.start(batch)
        tokens = np.zeros((batch, 1), np.int64)
        for _ in range(steps):
            logits, state = graph.step(tokens, state)
            tokens = logits.argmax(-1, keepdims=True)

    return run


def _interleaved(*runs: Callable[[int], None]) -> list[list[float]]:
    """Return microseconds a step of each run, round by round, the runs taking turns."""
    for run in runs:
        run(WARM_UP)
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, measured in zip(runs, times, strict=True):
            started = time.perf_counter()
            run(STEPS)
            measured.append((time.perf_counter() - started) / STEPS * 1e6)
    return times


def _summary(times: list[float]) -> str:
    return f"{statistics.median(times):,.0f}, {min(times):,.0f}–{max(times):,.0f}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "numpy"))


if __name__ == "__main__":
    main()

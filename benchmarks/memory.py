"""Resident memory of a running bundle over an empty ONNX Runtime session, as a multiple of its graph's size.

python -m benchmarks.memory BUNDLE...
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MEASURE = """
import gc, sys
from pathlib import Path
import numpy, onnxruntime
from rnn_edge.bundle import Bundle
from rnn_edge.runtimes import StepGraph

def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

graphs = [StepGraph.from_bundle(Bundle.read(Path(path))) for path in sys.argv[1:]]
for graph in graphs:
    state = graph.start(1)
    for _ in range(200):
        logits, state = graph.step(numpy.array([[1]]), state)
print(resident())
"""
ROUNDS = 5


def main(paths: list[Path]) -> None:
    """Print a row for each bundle."""
    smallest = Path(__file__).parents[1] / "tests" / "data" / "format-1.rnn"  # 24 kB: as good as empty
    empty = _median(smallest)
    print(f"an empty session: {empty / 1e6:.1f} MB resident, median of {ROUNDS}\n")
    print("| bundle | graph, MB | resident over an empty session, MB | times the graph |\n| --- | --- | --- | --- |")
    for path in paths:
        size, resident = (path / "model.onnx").stat().st_size, _median(path) - empty
        print(f"| {path.stem} | {size / 1e6:.2f} | {resident / 1e6:.2f} | {resident / size:.1f} |")


def _median(path: Path) -> int:
    measured = [
        int(subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, check=True).stdout)
        for _ in range(ROUNDS)
    ]
    return sorted(measured)[ROUNDS // 2]


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]])

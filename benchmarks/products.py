"""One product in int8 as ONNX Runtime takes it, over the machine's limit: where small networks lose their time.

python -m benchmarks.products
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime

from benchmarks.limit import Limit
from benchmarks.workloads import WORKLOADS
from rnn_edge.runtimes.bench import describe_machine, take_turns
from rnn_edge.runtimes.sessions import open_session

BATCHES = (1, 5)


def _product(inputs: int, outputs: int, batch: int) -> Callable[[], object]:
    """Return a task that multiplies rows by a matrix, with everything in its place."""
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        product (uint8[batch, {inputs}] x) => (float[batch, {outputs}] y) <
            int8[{inputs}, {outputs}] weights, float one = {{1}}, uint8 zero = {{128}}
        > {{ y = com.microsoft.MatMulIntegerToFloat(x, weights, one, one, zero) }}
        """
    )
    generator = np.random.default_rng(0)
    weights = generator.integers(-60, 61, (inputs, outputs), dtype=np.int8)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "weights"))
    session = open_session(model.SerializeToString())
    x = generator.integers(0, 256, (batch, inputs), dtype=np.uint8)
    y = np.empty((batch, outputs), np.float32)
    value, binding = onnxruntime.OrtValue.ortvalue_from_numpy, session.io_binding()
    binding.bind_ortvalue_input("x", value(x))
    binding.bind_ortvalue_output("y", value(y))

    def run(_keep_alive: object = (x, y)) -> None:
        session.run_with_iobinding(binding)

    return run


def main() -> None:
    """Print a table."""
    limit = Limit(Path(tempfile.mkdtemp()))
    print(f"{describe_machine('onnxruntime', 'numpy')}; one thread; microseconds, median of 9 rounds\n")
    print("| | matrix | rows | ONNX Runtime | limit | |\n| --- | --- | --- | --- | --- | --- |")
    for name, workload in WORKLOADS.items():
        for inputs, outputs in dict.fromkeys(workload.sizes):
            for batch in BATCHES:
                tasks = {
                    "ours": _product(inputs, outputs, batch),
                    "limit": limit.task("int8", [(inputs, outputs)], batch),
                }
                times = take_turns(tasks, rounds=9, seconds=0.02)
                cells = name, f"{inputs}×{outputs}", batch, *(f"{times[key].median:.0f}" for key in times)
                print(
                    f"| {' | '.join(map(str, cells))} | {times['ours'].over(times['limit']).median:.1f}× |", flush=True
                )


if __name__ == "__main__":
    main()

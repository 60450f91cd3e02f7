"""A cold start, and resident memory: one alternative in a process of its own.

python -m benchmarks.start NAME FILE BATCH    # prints a JSON object
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.alternatives import ALTERNATIVES

__all__ = ["start"]

STEPS = 50


def start(name: str, path: Path, batch: int) -> dict[str, float]:
    """Return milliseconds for its imports and from its file to the first logits, and megabytes that it then keeps."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.start", name, str(path), str(batch)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        raise RuntimeError(f"it fails in a process of its own: {last}")
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main(name: str, path: Path, batch: int) -> None:
    """Measure and print."""
    (alternative,) = [each for each in ALTERNATIVES if each.name == name]
    tokens = np.ones(batch, np.int64)
    started = time.perf_counter()
    for module in alternative.modules:
        import_module(module)
    imported, before = time.perf_counter(), _resident()
    runner = alternative.open(path)
    _, state = runner.step(tokens, runner.start(batch))
    opened = time.perf_counter()
    for _ in range(STEPS):
        _, state = runner.step(tokens, state)
    seconds = {"import": imported - started, "open": opened - imported}
    facts = {f"{what}_milliseconds": spent * 1e3 for what, spent in seconds.items()}
    print(json.dumps({**facts, "megabytes": (_resident() - before) / 1e6}))


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

"""Complete the lines of a file with the built-in model for some minutes: how fast, and how much memory it holds.

python -m benchmarks.lines --minutes 10

The file repeats the beginnings of this project's own lines of code, a million of them unless told otherwise. What a
whole file would take is extrapolated, and says so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from rnn_edge.runtimes.bench import describe_machine

PACKAGE = Path(__file__).parents[1] / "rnn_edge"


def main() -> None:
    """Print a row of a table for each tenth of the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "lines.txt"
        path.write_text("".join(islice(_beginnings(), chosen.lines)), encoding="utf-8")
        print(f"{describe_machine('onnxruntime', 'numpy')}; {chosen}\n")
        print("| minutes | lines | lines a second | resident MB |\n| --- | --- | --- | --- |", flush=True)
        _complete(path, chosen)


def _beginnings() -> cycle[str]:
    """Return the first half of every line of code, for ever."""
    sources = (path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
    lines = [line for source in sources for line in source.splitlines() if line.strip()]
    return cycle([line[: max(1, len(line) // 2)] + "\n" for line in lines])


def _complete(path: Path, chosen: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "rnn_edge", "run", "--input", str(path)]
    command += ["--batch-size", str(chosen.batch_size), "--max-new-tokens", str(chosen.max_new_tokens)]
    number, seconds, told = 0, 0.0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        started = time.perf_counter()
        for number, _ in enumerate(process.stdout, start=1):
            seconds = time.perf_counter() - started
            if seconds >= chosen.minutes * 6 * (told + 1):
                told += 1
                held = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                print(f"| {seconds / 60:.1f} | {number:,} | {number / seconds:,.0f} | {held / 1e6:.1f} |", flush=True)
            if told == 10:
                process.terminate()
                break
    if number < chosen.lines:
        hours = chosen.lines / number * seconds / 3600
        print(f"\nExtrapolated, not measured: {chosen.lines:,} lines would take {hours:.1f} hours.")


if __name__ == "__main__":
    main()

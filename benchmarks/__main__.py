"""Time rnn-edge against everything else that can run the same networks, and against the machine's own limit.

python -m benchmarks                                        # everything; alternatives that are missing are skipped
python -m benchmarks --workload keyboard --rounds 1 --seconds 0 --starts 0 --without torch.compile    # a quick look
python -m benchmarks --show results.json                    # the tables of an earlier run, or of several
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.alternatives import ALTERNATIVES, Alternative
from benchmarks.limit import Limit
from benchmarks.report import Report
from benchmarks.run import Row, Settings, run
from benchmarks.workloads import WORKLOADS
from rnn_edge.runtimes.bench import describe_machine


def main(arguments: list[str] | None = None) -> None:
    """Measure what was asked for, and print it as Markdown."""
    options = _parse(arguments)
    if options.show:
        report = Report.joined(
            [Report.from_dict(json.loads(file.read_text(encoding="utf-8"))) for file in options.show]
        )
    else:
        report = _measure(options)
        if options.json:
            options.json.write_text(json.dumps(report.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(*report.lines(), sep="\n")
    if options.picture:
        report.draw(options.picture)


def _measure(options: argparse.Namespace) -> Report:
    torch.set_num_threads(1)
    settings = Settings(
        precisions=tuple(options.precision),
        batches=tuple(options.batch),
        rounds=options.rounds,
        seconds=options.seconds,
        starts=options.starts,
    )
    alternatives = tuple(each for each in ALTERNATIVES if each.name not in options.without)
    packages = dict.fromkeys(["numpy", *(package for each in alternatives for package in each.packages)])
    rows: list[Row] = []
    skipped: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        for found in _everything(options.workload, alternatives, settings, Path(directory)):
            if isinstance(found, Row):
                rows.append(found)
            else:
                skipped.append(found)
                print(found, file=sys.stderr)
    return Report(describe_machine(*packages), asdict(settings), rows, skipped)


def _everything(
    workloads: list[str], alternatives: tuple[Alternative, ...], settings: Settings, directory: Path
) -> Iterator[Row | str]:
    limit = None
    try:
        limit = Limit(directory)
    except (ImportError, subprocess.CalledProcessError) as error:
        yield f"the machine's limit is skipped: {error}"
    for name in workloads:
        print(f"{name}: {WORKLOADS[name].about}", file=sys.stderr)
        yield from run(WORKLOADS[name], alternatives, limit, settings, directory)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = Settings()
    names = [each.name for each in ALTERNATIVES]
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--precision", nargs="+", choices=defaults.precisions, default=defaults.precisions)
    parser.add_argument("--batch", nargs="+", type=int, choices=defaults.batches, default=defaults.batches)
    parser.add_argument(
        "--without", nargs="+", action="extend", metavar="NAME", choices=names, default=[], help=", ".join(names)
    )
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="of each task in each round")
    parser.add_argument("--starts", type=int, default=defaults.starts, help="processes for a cold start; 0 for none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them here; needs matplotlib")
    parser.add_argument(
        "--show", type=Path, nargs="+", metavar="FILE", help="measure nothing; print what --json wrote, of one machine"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

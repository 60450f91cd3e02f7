"""`rnn-edge bench`: how fast this machine is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rnn_edge.cli.options import PATH, add_options


@click.command()
@click.argument("path", metavar="[BUNDLE]", type=PATH, required=False)
@add_options(
    ("--provider", str, "cpu", "Where it must run."),
    ("--threads", int, 1, "Threads of one operator."),
    ("--rounds", click.IntRange(1), 7, "How often everything is measured."),
    ("--seconds", click.FloatRange(min=0), 0.1, "About how long each thing takes in a round."),
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def bench(path: Path | None, as_json: bool, **choices: Any) -> None:
    """Time a language model on this machine; without BUNDLE, the built-in one.

    Example: rnn-edge bench model.rnn
    """
    from rnn_edge.runtimes.bench import bench, describe_machine

    found = bench(path, **choices)
    machine = describe_machine("onnxruntime", "numpy")
    if as_json:
        facts = {name: {"median": times.median, "rounds": times.rounds} for name, times in found.items()}
        click.echo(json.dumps({"machine": machine, **choices, "microseconds": facts}, ensure_ascii=False))
        return
    click.echo(f"{machine}; microseconds, median and spread of {choices['rounds']} rounds\n")
    for name, times in found.items():
        spread = f"{min(times.rounds):,.0f} to {max(times.rounds):,.0f}"
        click.echo(f"{name:<34} {times.median:>9,.0f}   {spread}")

"""The command line: parses, calls, prints.

One module a command; what a command calls is imported inside it, so that --help needs nothing heavy.
"""

from __future__ import annotations

import click

from rnn_edge.cli import bench, evaluate, export, info, inspect, package, providers, run, train
from rnn_edge.cli.messages import FriendlyGroup

__all__ = ["main"]


@click.group(cls=FriendlyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rnn-edge", prog_name="rnn-edge")
def main() -> None:
    """Ship recurrent networks trained in PyTorch as small ONNX graphs, and run them anywhere."""


for _command in (
    train.train,
    export.export,
    export.verify,
    run.run,
    evaluate.evaluate,
    inspect.inspect,
    bench.bench,
    info.info,
    providers.placement,
    package.package,
    providers.providers,
):
    main.add_command(_command)

"""The command line: parses, calls, prints. What it calls is imported inside each command, so that --help needs nothing heavy."""

from __future__ import annotations

from typing import Any

import click

from rnn_edge.errors import RnnEdgeError

__all__ = ["main"]


class FriendlyGroup(click.Group):
    """Turns our errors into one line and exit code 1; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except RnnEdgeError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=FriendlyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rnn-edge")
def main() -> None:
    """Ship recurrent networks trained in PyTorch as small ONNX graphs, and run them anywhere."""

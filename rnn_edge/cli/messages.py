"""What every command tells a person: errors and warnings as one line, and progress."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import click

from rnn_edge.errors import ProviderWarning, RnnEdgeError


class FriendlyGroup(click.Group):
    """Turns our errors into one line and exit code 1; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except RnnEdgeError as error:
            raise click.ClickException(str(error)) from error


def with_torch(module: str) -> ModuleType:
    """Import what needs PyTorch or onnx, or say how to get them."""
    try:
        return import_module(module)
    except ImportError as error:
        raise click.ClickException(
            f"this command needs PyTorch, onnx and onnxscript ({error}): pip install 'rnn-edge[cpu,export]'"
        ) from error


@contextmanager
def warnings_told() -> Iterator[None]:
    """Print warnings about providers on standard error, one line each."""

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        click.echo(f"Warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", ProviderWarning)
        warnings.showwarning = tell
        yield


@contextmanager
def progress_line() -> Iterator[Callable[[str, bool], None]]:
    """Yield what shows a line: on a terminal in the place of the last one, elsewhere only if it is worth keeping."""
    width = shutil.get_terminal_size().columns - 1
    begun = False

    def show(line: str, keep: bool) -> None:
        nonlocal begun
        if sys.stderr.isatty():
            click.echo(f"\r{line[:width]:<{width}}", nl=False, err=True)
            begun = True
        elif keep:
            click.echo(line, err=True)

    try:
        yield show
    finally:
        if begun:
            click.echo(err=True)

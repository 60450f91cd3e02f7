"""What every command tells a person: errors and warnings as one line, and progress."""

from __future__ import annotations

import errno
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, TextIO

import click

from rnn_edge.errors import ProviderWarning, RnnEdgeError

_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


class FriendlyGroup(click.Group):
    """Turns our errors, and a full disk, into one line and exit code 1, Ctrl-C into 130; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except RnnEdgeError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise click.ClickException(f"cannot write: {error.strerror}") from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(_INTERRUPTED) from None


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether somebody sits at a stream; nobody does where it is closed."""
    return stream is not None and stream.isatty()


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
        if is_terminal(sys.stderr):
            click.echo(f"\r{line[:width]:<{width}}", nl=False, err=True)
            begun = True
        elif keep:
            click.echo(line, err=True)

    try:
        yield show
    finally:
        if begun:
            click.echo(err=True)

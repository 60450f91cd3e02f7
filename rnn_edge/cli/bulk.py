"""`rnn-edge run --engine ray`: whole corpora in, a directory of files out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import click

from rnn_edge.bulk.options import BulkOptions, InputFormat, OutputFormat
from rnn_edge.cli.messages import progress_line
from rnn_edge.cli.options import PATH, add_options, given_options

if TYPE_CHECKING:
    from rnn_edge.runtimes import GenerateOptions

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_DEFAULTS = BulkOptions()
_NAMES = ("output", "column", "input_format", "output_format", "part_rows", "actors")
_NOT_HERE = ("provider", "threads", "provider_options", "allow_fallback", "in_graph", "as_json")


def bulk_options(command: _Command) -> _Command:
    """Add the engine, and what only Ray's takes; the command gets that as `bulk`."""

    @add_options(
        ("--engine", click.Choice(["local", "ray"]), "local", "Who answers: this process, or Ray's workers."),
        ("--output", PATH, None, "ray: the directory to write, or to go on with."),
        ("--column", str, _DEFAULTS.column, "ray: where the texts stand in Parquet and JSON Lines."),
        ("--input-format", click.Choice(get_args(InputFormat)), None, "ray. [default: as each file's name says]"),
        ("--output-format", click.Choice(get_args(OutputFormat)), _DEFAULTS.output_format, "ray."),
        ("--part-rows", click.IntRange(1), _DEFAULTS.part_rows, "ray: rows of each file of the output."),
        ("--actors", click.IntRange(1), None, "ray: workers. [default: as many as there are processors]"),
    )
    @wraps(command)
    def with_bulk(**values: Any) -> Any:
        return command(bulk={name: values.pop(name) for name in _NAMES}, **values)

    return cast(_Command, with_bulk)


def check_local(bulk: dict[str, Any], sources: Sequence[Path]) -> None:
    """Raise UsageError where something was asked for that only Ray does."""
    if given := given_options(bulk):
        raise click.UsageError(f"{', '.join(given.values())} can only be used with --engine ray")
    for source in sources:
        if source.is_dir():
            raise click.UsageError(f"{source} is a directory, and only --engine ray reads those: name its files")


def write_corpus(
    bundle: Path | None, texts: Sequence[str], sources: Sequence[Path], options: GenerateOptions, bulk: dict[str, Any]
) -> None:
    """Answer the texts of files, show how far that is, and say what was written."""
    from rnn_edge.bulk import answer_corpus

    output = bulk.pop("output")
    if texts or not sources or not output:
        raise click.UsageError("--engine ray reads files: name them with --input, and a directory with --output")
    if given := given_options(dict.fromkeys(_NOT_HERE)):
        raise click.UsageError(f"{', '.join(given.values())} cannot be used with --engine ray: leave it out")
    progress = None
    try:
        with progress_line() as show:
            for progress in answer_corpus(bundle, sources, output, options, BulkOptions(**bulk)):
                show(f"{progress.parts_done:,} of {progress.parts:,} parts, {progress.rows:,} rows", False)
    except KeyboardInterrupt:
        done = f"{progress.parts_done:,} of {progress.parts:,} parts" if progress else "nothing"
        click.echo(f"stopped with {done} done; the same command goes on", err=True)
        raise click.exceptions.Exit(130) from None
    assert progress is not None
    refused = f", {progress.refused:,} of them without an answer: their error says why" if progress.refused else ""
    click.echo(f"{output}: {progress.parts:,} parts; {progress.rows:,} rows now{refused}")

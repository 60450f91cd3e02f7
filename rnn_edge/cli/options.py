"""What commands take in the same way: rows of options, a place to run, and words that are a bundle and texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

import click
from click.core import ParameterSource

from rnn_edge.cli.messages import warnings_told
from rnn_edge.errors import TextError

if TYPE_CHECKING:
    from rnn_edge.bundle import EarlyStopping
    from rnn_edge.runtimes.sessions import Place

PATH = click.Path(path_type=Path)
EARLY_STOPPING = click.Choice(["true", "false", "never"])

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def early_stopping(choice: str) -> EarlyStopping:
    """Return a choice of `EARLY_STOPPING` as Python has it."""
    return "never" if choice == "never" else choice == "true"


def add_options(*rows: tuple[str, Any, object, str]) -> Callable[[_Command], _Command]:
    """Return a decorator that adds one option a row: flag, type, default, help."""

    def decorate(command: _Command) -> _Command:
        for flag, kind, default, text in reversed(rows):
            shown = default is not None
            command = click.option(flag, type=kind, default=default, show_default=shown, help=text)(command)
        return command

    return decorate


def pick(choices: dict[str, Any], kind: type) -> dict[str, Any]:
    """Return the choices that are fields of a dataclass."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in choices.items() if name in names}


def given_options(choices: dict[str, Any]) -> dict[str, str]:
    """Return which of some options were on the command line: their names in Python and as flags."""
    context = click.get_current_context()
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in choices and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def place_options(command: _Command) -> _Command:
    """Add where a graph is to run; the command gets it as `place`, the keywords of `open_session`."""

    @add_options(
        ("--provider", str, "cpu", "Where it must run, or fail; auto: where it is fastest. See rnn-edge providers."),
        ("--threads", int, 1, "Threads of one operator."),
    )
    @click.option(
        "--provider-option",
        "provider_options",
        type=provider_option,
        multiple=True,
        metavar="KEY=VALUE",
        help="Pass an option to the provider; may be given again.",
    )
    @click.option("--allow-fallback", is_flag=True, help="Run on the CPU what the provider cannot, and say so.")
    @wraps(command)
    def with_place(
        provider: str,
        threads: int,
        provider_options: tuple[tuple[str, str], ...],
        allow_fallback: bool,
        **others: Any,
    ) -> Any:
        place = {
            "provider": provider,
            "threads": threads,
            "provider_options": dict(provider_options),
            "allow_fallback": allow_fallback,
        }
        with warnings_told():
            return command(place=place, **others)

    return cast(_Command, with_place)


def provider_option(value: str) -> tuple[str, str]:
    """Read an option of a provider: key=value."""
    key, sign, setting = value.partition("=")
    if not key or not sign:
        raise click.BadParameter(f"{value!r} is not an option like device_id=0")
    return key, setting


def settled(path: Path | None, place: Place) -> Place:
    """Choose a provider where that was left to us, and tell which, and why."""
    from rnn_edge import runtimes
    from rnn_edge.bundle import Bundle

    if place["provider"] != runtimes.AUTO:
        return place
    measured = runtimes.measure_providers(Bundle.read(path or runtimes.BUILT_IN), threads=place["threads"])
    for each in measured:
        click.echo(f"{each.provider}: {each.problem or f'{each.seconds * 1e6:,.0f} µs a token'}", err=True)
    click.echo(f"provider: {measured[0].provider}, the fastest here", err=True)
    return {**place, "provider": measured[0].provider}


def bundle_and_texts(words: tuple[str, ...]) -> tuple[Path | None, tuple[str, ...]]:
    """Take the first word for a bundle when it is a directory or is named like one, and for a text otherwise."""
    if words and (Path(words[0]).is_dir() or words[0].rstrip("/\\").endswith(".rnn")):
        return Path(words[0]), words[1:]
    return None, words


def read_text(file: TextIO) -> str:
    """Read a whole file that is open, or say that it is no UTF-8."""
    try:
        return file.read()
    except UnicodeDecodeError as error:
        raise TextError(f"{file.name} is not valid UTF-8 ({error.reason} at byte {error.start}): convert it") from error

"""Commands as people type them, in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from rnn_edge.cli import main


def call(*arguments: str, text: str | bytes = "") -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=text)


def refused(*arguments: str, text: str | bytes = "") -> str:
    """Call a command that must fail with one sentence, and return it."""
    result = call(*arguments, text=text)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr

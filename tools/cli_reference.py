"""Write docs/cli.md from the commands' own --help; tests/test_docs.py holds it to that.

python tools/cli_reference.py
"""

from __future__ import annotations

from pathlib import Path

import click

from rnn_edge.cli import main as rnn_edge

PATH = Path(__file__).resolve().parent.parent / "docs" / "cli.md"


def reference() -> str:
    """Return the page."""
    pages = ["# Command line\n\nMade from `--help` by tools/cli_reference.py.\n"]
    pages.append(_page(rnn_edge, "rnn-edge"))
    pages += [_page(command, f"rnn-edge {name}") for name, command in rnn_edge.commands.items()]
    return "\n".join(pages)


def _page(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, terminal_width=100, help_option_names=["-h", "--help"])
    return f"## {name}\n\n```\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    PATH.write_text(reference(), encoding="utf-8")

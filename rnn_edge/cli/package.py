"""`rnn-edge package`: a folder for an app developer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rnn_edge.cli.options import PATH


@click.command()
@click.argument("bundle", type=PATH, required=False)
@click.option(
    "--platform",
    type=click.Choice(["web", "python", "android", "ios", "triton"]),
    required=True,
    help="Where the app runs.",
)
@click.option("-o", "--output", type=PATH, required=True, help="The folder to write.")
@click.option("--title", help="Of the page. [default: the bundle's name]")
@click.option(
    "--onnxruntime-web",
    type=PATH,
    help="An installed npm package, to copy its files into a web page. [default: the page's npm install does]",
)
def package(bundle: Path | None, output: Path, **choices: Any) -> None:
    """Write a folder that an app developer drops in: BUNDLE, or the built-in model, a small runner and its checks.

    BUNDLE is a language model's.

    \b
    Examples:
      rnn-edge package --platform web -o page
      rnn-edge package model.rnn --platform python -o app
      rnn-edge package model.rnn --platform triton -o server
    """
    from rnn_edge.packaging import LISTING
    from rnn_edge.packaging import package as write

    path = write(bundle, output, **choices)
    files = json.loads((path / LISTING).read_text(encoding="utf-8"))
    for name, entry in files.items():
        click.echo(f"{entry['bytes']:>12,}  {entry['sha256']}  {name}")
    click.echo(f"{path}: {sum(entry['bytes'] for entry in files.values()) / 1e6:.2f} MB")
    click.echo(f"next: {path / 'README.md'}")

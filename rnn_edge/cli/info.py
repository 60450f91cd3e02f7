"""`rnn-edge info`: what is in a bundle or a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rnn_edge.cli.messages import with_torch
from rnn_edge.cli.options import PATH


@click.command()
@click.argument("path", type=PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def info(path: Path | None, as_json: bool) -> None:
    """Tell what the bundle or checkpoint at PATH holds; without PATH, the built-in model.

    Example: rnn-edge info model.rnn
    """
    from rnn_edge.runtimes import BUILT_IN

    path = path or BUILT_IN
    facts = _bundle_facts(path) if path.is_dir() else _checkpoint_facts(path)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _print_facts(facts)


def _bundle_facts(path: Path) -> dict[str, Any]:
    from rnn_edge.bundle import Bundle

    bundle = Bundle.read(path)
    return {
        "bundle": str(path),
        "tokenizer": bundle.tokenizer.kind,
        **bundle.manifest.to_dict(bundle.files),
    }


def _checkpoint_facts(path: Path) -> dict[str, Any]:
    checkpoint = with_torch("rnn_edge.modules").load_checkpoint(path)
    return {
        "checkpoint": str(path),
        "tokenizer": checkpoint.tokenizer.kind,
        "parameters": sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        "spec": checkpoint.model.spec.to_dict(),
        "history": checkpoint.history,
    }


def _print_facts(facts: dict[str, Any], indent: str = "") -> None:
    """Print nested facts, one a line."""
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            click.echo(f"{indent}{name}")
            _print_facts(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            click.echo(f"{indent}{name}")
            for each in value:
                told = (f"{key} {_in_short(entry)}" for key, entry in each.items() if entry not in ("", None))
                click.echo(f"{indent}  {', '.join(told)}")
        elif value not in ({}, [], ""):
            click.echo(f"{indent}{name}: {_in_short(value)}")


def _in_short(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_in_short, value)) if len(value) <= 8 else f"{len(value)} values"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

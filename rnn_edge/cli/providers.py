"""`rnn-edge providers` and `rnn-edge placement`: where graphs can run, and where one did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnn_edge.cli.options import PATH, place_options, settled
from rnn_edge.errors import ProviderError

if TYPE_CHECKING:
    from rnn_edge.runtimes.providers import Provider
    from rnn_edge.runtimes.sessions import Place

_VERIFIED = {
    "hardware": "verified on hardware",
    "emulation": "verified by emulation",
    "statically": "verified statically only",
    "no": "not verified",
}

_CALIBRATED = {
    "uint16": "; int8 is calibrated, with 16 bits for what is between operators",
    "uint8": "; int8 is calibrated, with 8 bits for products only",
    None: "",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON array.")
def providers(as_json: bool) -> None:
    """Tell where graphs can run: what this machine has, what is missing elsewhere, and what was verified.

    Example: rnn-edge providers
    """
    from rnn_edge.runtimes.providers import PROVIDERS, why_not

    rows = [_provider_facts(provider, why_not(provider)) for provider in PROVIDERS.values()]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo(f"{row['name']:<9} {row['full_name']:<26} {row['runs_on']}")
        click.echo(f"{'':<9} {'can be used here' if row['usable'] else row['reason']}")
        note = f": {row['note']}" if row["note"] else ""
        click.echo(f"{'':<9} {_VERIFIED[row['verified']]}{note}")
        form = f"{row['form']} form, fixed" if row["fixed"] else f"{row['form']} form"
        suiting = " or ".join(row["precisions"])
        click.echo(f"{'':<9} --target {row['name']}: {form}, {suiting}{_CALIBRATED[row['activations']]}")


def _provider_facts(provider: Provider, reason: str) -> dict[str, Any]:
    told = ("name", "full_name", "runs_on", "form", "fixed", "precisions", "activations", "verified", "note", "install")
    facts = {name: getattr(provider, name) for name in told}
    return {**facts, "usable": not reason, "reason": reason, "options": sorted(provider.options)}


@click.command()
@click.argument("path", metavar="[BUNDLE]", type=PATH, required=False)
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def placement(path: Path | None, place: Place, as_json: bool) -> None:
    """Run one token through BUNDLE and tell which nodes ran on which provider, from ONNX Runtime's own profile.

    Exit code 1 if that is not what the export foretold for its target.

    \b
    Examples:
      rnn-edge placement model.rnn --provider webgpu
      rnn-edge placement model.rnn --provider cuda --allow-fallback
    """
    from rnn_edge import runtimes
    from rnn_edge.bundle import Bundle

    bundle = Bundle.read(path or runtimes.BUILT_IN)
    place = settled(path, place)
    nodes = runtimes.placement(bundle, **place)
    ran = runtimes.by_provider(nodes)
    if as_json:
        click.echo(json.dumps(ran))
    else:
        for provider, operators in ran.items():
            listed = ", ".join(f"{count} {name}" for name, count in operators.items())
            click.echo(f"{provider}: {sum(operators.values())} nodes: {listed}")
    difference = runtimes.unforeseen(bundle, place["provider"], nodes)
    if difference:
        raise ProviderError(difference)

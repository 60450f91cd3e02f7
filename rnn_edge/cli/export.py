"""`rnn-edge export` and `rnn-edge verify`: a checkpoint's bundle, and the proof that the two agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from rnn_edge.bundle import Precision, Strategy
from rnn_edge.cli.messages import with_torch
from rnn_edge.cli.options import (
    EARLY_STOPPING,
    PATH,
    add_options,
    early_stopping,
    pick,
    place_options,
    read_text,
    settled,
)

if TYPE_CHECKING:
    from rnn_edge.exporters import Parity, Quality, Recall
    from rnn_edge.runtimes.sessions import Place


def share(value: str) -> float:
    """Read a share: 1% or 0.01."""
    try:
        return float(value[:-1]) / 100 if value.endswith("%") else float(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a share like 1% or 0.01") from error


def size(value: str) -> int:
    """Read a number of bytes: 1.5MB, 800kB or 1500000."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?) ?([kMG]?)B?", value)
    if not found:
        raise click.BadParameter(f"{value!r} is not a size like 1.5MB")
    return int(float(found[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[found[2]])


_atol_option = click.option(
    "--atol", type=float, default=1e-5, show_default=True, help="How far a float may be from PyTorch's."
)


@click.command()
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, help="The bundle. [default: CHECKPOINT with .rnn]")
@add_options(
    ("--precision", click.Choice([*get_args(Precision), "auto"]), "fp32", "Of the matrices; auto: least that passes."),
    ("--eval", click.File("r", encoding="utf-8-sig"), None, "Judge a language model by this text. [default: held out]"),
    ("--calibrate", click.File("r", encoding="utf-8-sig"), None, "Text for an NPU's int8 to see. [default: held out]"),
    ("--max-loss", share, "1%", "Most that rounding may raise the perplexity."),
    ("--max-size", size, None, "Largest bundle, like 1.5MB."),
    ("--target", str, "cpu", "The provider a language model is to run on; see rnn-edge providers."),
    ("--format", click.Choice(["onnx", "ort"]), "onnx", "Of the graphs; ort suits reduced builds for phones."),
    ("--context", str, None, "For target qnn: compile for this architecture of the NPU too, like v75."),
    ("--opset", int, 17, "ONNX opset of the graph, 17 to 26."),
    ("--preview", click.Choice(["int8", "fp32"]), None, "Score all tokens roughly in this, and then the best exactly."),
    ("--preview-rank", int, None, "Of the preview. [default: that of the output layer]"),
    ("--candidates", int, None, "Tokens that are then scored exactly. [default: 32, or 64 with a rank]"),
    ("--decode", click.Choice(get_args(Strategy)), None, "Write a graph that searches by itself, too."),
    ("--beam-size", int, None, "Hypotheses that its beam keeps. [default: 5]"),
    ("--num-return", int, 1, "Sequences that its beam returns for each prompt."),
    ("--early-stopping", EARLY_STOPPING, "false", "When its beam stops, once as many have ended."),
)
@click.option("--narrowing", is_flag=True, help="Its beam loses a place for each hypothesis that ends.")
@_atol_option
@click.option("--embed", is_flag=True, help="Of a classifier, export only what gives a text's vector.")
@click.option("--keep-float", multiple=True, metavar="NAME", help="Do not round this matrix; may be given again.")
def export(checkpoint: Path, output: Path | None, **choices: Any) -> None:
    """Turn CHECKPOINT into a bundle, after proving that it says what PyTorch says.

    A rounded bundle must also predict held-out examples as well as the exact one, but for --max-loss, or it is not
    written.

    \b
    Examples:
      rnn-edge export model.pt -o model.rnn
      rnn-edge export model.pt --precision int8 --eval held-out.txt
    """
    exporters = with_torch("rnn_edge.exporters")
    options = exporters.ExportOptions(
        **pick({**choices, "early_stopping": early_stopping(choices["early_stopping"])}, exporters.ExportOptions),
        eval_text=read_text(choices["eval"]) if choices["eval"] else None,
        calibration_text=read_text(choices["calibrate"]) if choices["calibrate"] else None,
        max_bytes=choices["max_size"],
        num_beams=choices["beam_size"],
        num_return_sequences=choices["num_return"],
    )
    exported = exporters.export(checkpoint, output or checkpoint.with_suffix(".rnn"), options)
    _print_parity(exported.parity)
    if exported.quality:
        _print_quality(exported.quality)
    elif any(each.precision != "fp32" for each in exported.tensors):
        click.echo("rounding: not judged, because no example says what is right; compare its answers yourself")
    if exported.recall:
        _print_recall(exported.recall)
    click.echo(f"{exported.path}: {exported.bytes / 1e6:.2f} MB")
    click.echo(f"next: rnn-edge run {exported.path}")


@click.command()
@click.argument("checkpoint", type=PATH)
@click.argument("bundle", type=PATH)
@_atol_option
@place_options
def verify(checkpoint: Path, bundle: Path, atol: float, place: Place) -> None:
    """Compare BUNDLE with the CHECKPOINT it came from; exit code 1 when they differ.

    Example: rnn-edge verify model.pt model.rnn
    """
    parity = with_torch("rnn_edge.exporters").verify(checkpoint, bundle, atol=atol, **settled(bundle, place))
    _print_parity(parity)
    parity.require()


def _print_parity(parity: Parity) -> None:
    for check in parity.checks:
        verdict = "same" if check.passed else "DIFFERENT"
        compared = f"{check.compared:,} compared"
        click.echo(f"  {check.name:<14} {compared:>19}   worst error {check.max_error:.1e}   {verdict}")
    allowed = f"allowed {parity.atol:g}" if parity.atol else "none allowed"
    click.echo(f"compared with {parity.compared_with}: worst error {parity.max_error:.1e}, {allowed}")


def _print_quality(quality: Quality) -> None:
    click.echo(
        f"rounding: perplexity {quality.perplexity_before:.2f} to {quality.perplexity_after:.2f} ({quality.loss:+.2%}) "
        f"over {quality.tokens:,} {'tokens' if quality.same_greedy_texts is not None else 'labels'}; "
        f"right {quality.accuracy_before:.1%} to {quality.accuracy_after:.1%}; "
        f"same first choice {quality.top1_agreement:.1%}, KL divergence {quality.kl_divergence:.1e} nats"
    )
    if quality.same_greedy_texts is not None and quality.same_beam_texts is not None:
        click.echo(f"same texts {quality.same_greedy_texts:.0%} greedy, {quality.same_beam_texts:.0%} by beam")


def _print_recall(recall: Recall) -> None:
    click.echo(
        f"preview: finds {recall.recall_at_1:.2%} of the best token, {recall.recall_at_3:.2%} of the best 3, "
        f"{recall.recall_at_20:.2%} of the best 20; their log-probs are off by {recall.log_prob_error_median:.1e} nats "
        f"in the median, {recall.log_prob_error_p99:.1e} in 1 of 100"
    )

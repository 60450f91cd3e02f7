"""`rnn-edge run`: texts in, what a network says of them out, a batch at a time or in conversation."""

from __future__ import annotations

import dataclasses
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from rnn_edge.cli.bulk import bulk_options, check_local, write_corpus
from rnn_edge.cli.messages import is_terminal, progress_line
from rnn_edge.cli.options import (
    EARLY_STOPPING,
    add_options,
    bundle_and_texts,
    early_stopping,
    given_options,
    place_options,
    settled,
)
from rnn_edge.errors import OptionsError, TextError

if TYPE_CHECKING:
    from rnn_edge.runtimes import GenerateOptions, GraphWriter, Model
    from rnn_edge.runtimes.sessions import Place

_LINES_AT_ONCE = 256
_SAME_NAMES = (
    "repetition_penalty",
    "no_repeat_ngram_size",
    "length_penalty",
    "narrowing",
    "beam_threshold",
    "diversity_penalty",
    "coverage_penalty",
)
"""Of options that are called the same in Python and have the same defaults."""


@click.command()
@click.argument("words", metavar="[BUNDLE] [TEXT]...", nargs=-1)
@click.option(
    "--input",
    "sources",
    multiple=True,
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
    help="Read texts from a file, one a line; may be given again.",
)
@add_options(
    ("--max-new-tokens", int, None, "Most tokens. [default: 20; 4 for several --num-return; 200 to translate]"),
    ("--beam-size", click.IntRange(1), None, "Hypotheses kept. [default: 1; 16 for several --num-return]"),
    ("--num-return", click.IntRange(1), None, "Texts for each, best first. [default: 1; 3 completions at a prompt]"),
    ("--sample/--no-sample", None, None, "Draw tokens by chance; implied by the next four."),
    ("--temperature", float, None, "Below 1 sharpens the distribution, above 1 flattens it."),
    ("--top-k", int, None, "Draw among the k most probable tokens."),
    ("--top-p", float, None, "Draw among the tokens that make up this probability."),
    ("--min-p", float, None, "Draw among tokens this many times as probable as the best."),
    ("--repetition-penalty", float, 1.0, "Above 1 makes tokens that came before less likely."),
    ("--no-repeat-ngram-size", int, 0, "Let no run of so many tokens come twice."),
    ("--length-penalty", float, 0.0, "Beams are ranked by log-probability / length**penalty; translations by 1."),
    ("--early-stopping", EARLY_STOPPING, "false", "Once as many as beams have ended."),
    ("--narrowing/--full-width", None, False, "Whether what ends gives up its place in the beam."),
    ("--beam-threshold", float, 0.0, "Drop what is less than so many times as probable as the best."),
    ("--beam-groups", int, 1, "Beams that search apart, for different completions."),
    ("--diversity-penalty", float, 0.0, "For saying what an earlier group says."),
    ("--coverage-penalty", float, 0.0, "With attention: a beam's translations lose by what they have not looked at."),
    ("--prefix", str, "", "Every text begins with this."),
    ("--seed", int, 0, "The same seed draws the same texts."),
    ("--batch-size", int, 16, "Texts that a language model completes together; the results are the same."),
)
@place_options
@click.option(
    "--stop", multiple=True, help="End a completion before this text; may be given again. [default: line end]"
)
@click.option("--bad-word", multiple=True, help="Never say this text; may be given again.")
@click.option("--multiline", is_flag=True, help="Let completions run over the end of the line.")
@click.option("--in-graph", is_flag=True, help="Search with the bundle's own graph, as export --decode made it.")
@click.option("--self-test", is_flag=True, help="Compare with the bundle's golden vectors first.")
@click.option("--score", is_flag=True, help="Tell how probable texts are, instead of completing them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a text.")
@bulk_options
def run(
    words: tuple[str, ...],
    sources: tuple[Path, ...],
    place: Place,
    in_graph: bool,
    self_test: bool,
    score: bool,
    as_json: bool,
    engine: str,
    bulk: dict[str, Any],
    **choices: Any,
) -> None:
    """Do with texts what BUNDLE is for; without BUNDLE, complete Python code with the built-in model.

    Texts come from the arguments, from --input, or from standard input, one a line; on a terminal, it asks. Out come
    completions, translations, the best label, word/TAG word/TAG, or a vector; what describes vectors reads a JSON list
    of numbers a line. --json tells more. With --engine ray many workers answer whole corpora: docs/bulk.md.

    \b
    Examples:
      rnn-edge run
      rnn-edge run model.rnn "Once upon a" --num-return 3
      rnn-edge run de-en.rnn --input test.de --beam-size 5 > test.en
      rnn-edge run de-en.rnn "ein Hund" --in-graph
      printf 'for i in ra\\n' | rnn-edge run --json
      rnn-edge run model.rnn --engine ray --input corpus --output answers
    """
    from rnn_edge.answers import answer
    from rnn_edge.runtimes import GraphWriter, LanguageModel

    path, texts = bundle_and_texts(words)
    if engine != "ray":
        check_local(bulk, sources)
        if texts and sources:
            raise click.UsageError("give texts, or --input with a file of them, not both")
        if not texts and not sources and sys.stdin is None:
            raise click.UsageError("standard input is closed: give texts, or --input with a file of them")
    asks = engine != "ray" and not (texts or sources) and is_terminal(sys.stdin)
    model = _open(path, settled(path, place), in_graph=in_graph, self_test=self_test)
    if isinstance(model, GraphWriter):
        choices = _as_exported(choices, model.options)
    options = _generate_options(**choices, usual_return=3 if asks and isinstance(model, LanguageModel) else 1)
    options = _suited(options, model, given_options(choices), score=score)
    if engine == "ray":
        write_corpus(path, texts, sources, options, {**bulk, "batch_size": choices["batch_size"], "score": score})
        return
    if asks:
        _converse(model, options)
        return
    done = 0
    with progress_line() as show:
        for some in [texts] if texts else _batches(sources or (Path("-"),)):
            for lines in answer(model, some, options, as_json=as_json, batch_size=choices["batch_size"], score=score):
                click.echo("\n".join(lines))
                done += 1
                if not is_terminal(sys.stdout):
                    show(f"{done:,} texts", False)


def _open(path: Path | None, place: Place, *, in_graph: bool, self_test: bool) -> Model | GraphWriter:
    """Open a bundle for the host's searches, or for its own."""
    from rnn_edge.bundle import Bundle
    from rnn_edge.runtimes import BUILT_IN, GraphWriter, load

    model = load(path, self_test=self_test, **place) if self_test or not in_graph else None
    if model is None or in_graph:
        return GraphWriter.from_bundle(Bundle.read(path or BUILT_IN), **place)
    return model


def _as_exported(choices: dict[str, Any], exported: GenerateOptions) -> dict[str, Any]:
    """Return the choices with what a graph that searches was exported with in place of our defaults."""
    given = given_options(choices)
    usual: dict[str, Any] = {"num_return": exported.num_return_sequences, "multiline": "stop" not in given}
    if not given.keys() & {"sample", "temperature", "top_k", "top_p", "min_p"}:
        usual |= {"beam_size": exported.num_beams, "narrowing": exported.narrowing}
        usual["early_stopping"] = str(exported.early_stopping).lower()
    if "beam_size" not in given:
        usual["sample"] = exported.do_sample or None
    return choices | {name: value for name, value in usual.items() if name not in given}


def _generate_options(*, usual_return: int, **choices: Any) -> GenerateOptions:
    """Return the options of `run`, with the defaults that depend on others."""
    from rnn_edge.runtimes import GenerateOptions

    num_return = choices["num_return"] or usual_return
    draws = {name: choices[name] for name in ("temperature", "top_k", "top_p", "min_p") if choices[name] is not None}
    do_sample = bool(draws) if choices["sample"] is None else choices["sample"]
    max_new_tokens = choices["max_new_tokens"]
    return GenerateOptions(
        max_new_tokens=max_new_tokens if max_new_tokens is not None else 20 if num_return == 1 else 4,
        num_beams=_beams(choices["beam_size"], num_return, do_sample=do_sample),
        num_return_sequences=num_return,
        do_sample=do_sample,
        early_stopping=early_stopping(choices["early_stopping"]),
        num_beam_groups=choices["beam_groups"],
        seed=choices["seed"],
        stop_strings=choices["stop"] or (() if choices["multiline"] else ("\n",)),
        bad_words=choices["bad_word"],
        forced_prefix=choices["prefix"],
        **{name: choices[name] for name in _SAME_NAMES},
        **draws,
    )


def _beams(beam_size: int | None, num_return: int, *, do_sample: bool) -> int:
    """Return how many hypotheses to keep: some of them end up as the same text, spelled in other tokens."""
    if beam_size is None:
        return 1 if do_sample or num_return == 1 else max(16, 2 * num_return)
    return beam_size if do_sample else max(beam_size, num_return)


def _suited(
    options: GenerateOptions, model: Model | GraphWriter, given: dict[str, str], *, score: bool
) -> GenerateOptions:
    """Return the options with a translator's defaults; refuse those that were given to what does not write."""
    from rnn_edge.runtimes import Describer, GraphWriter, LanguageModel, Translator

    if score:
        if not isinstance(model, LanguageModel):
            kind = "graph that searches" if isinstance(model, GraphWriter) else type(model).__name__.lower()
            raise OptionsError(f"--score is for language models, and this is a {kind}")
        if given:
            raise OptionsError(f"--score completes nothing: leave out {', '.join(given.values())}")
    if isinstance(model, LanguageModel):
        return options
    if isinstance(model, Translator | Describer | GraphWriter):
        if "batch_size" in given:
            raise OptionsError(
                "--batch-size is for language models; translators, describers and graphs that search choose it: "
                "leave it out"
            )
        if isinstance(model, GraphWriter) and model.task == "language-model":
            return options
        usual: dict[str, Any] = {"max_new_tokens": None, "length_penalty": 1.0}
        return dataclasses.replace(options, **{name: usual[name] for name in usual.keys() - given.keys()})
    if given:
        raise OptionsError(
            f"{', '.join(given.values())} can only be used with networks that write, to complete, translate or "
            f"describe, and this is a {type(model).__name__.lower()}: leave out what it does not have"
        )
    return options


def _batches(sources: Sequence[Path]) -> Iterator[list[str]]:
    """Yield the lines of UTF-8 files without their ends, as many at a time as have come, within bounds."""
    for source in sources:
        with click.open_file(str(source), "rb") as file:
            yield from _decoded(_lines(cast(BinaryIO, file)), "" if len(sources) == 1 else f" of {source}")


def _decoded(batches: Iterator[list[bytes]], place: str) -> Iterator[list[str]]:
    number = 0
    for lines in batches:
        texts: list[str] = []
        for line in lines:
            number += 1
            try:
                texts.append(line.rstrip(b"\r").decode())
            except UnicodeDecodeError as error:
                if texts:
                    yield texts
                raise TextError(
                    f"line {number}{place} is not valid UTF-8 (byte 0x{error.object[error.start]:02x} at position "
                    f"{error.start + 1}): convert the input to UTF-8"
                ) from error
        yield texts


def _lines(source: BinaryIO) -> Iterator[list[bytes]]:
    """Yield lines, a few hundred at a time at most; never wait for another line while there is one."""
    begun: list[bytes] | None = None  # parts of a line that has not ended
    while part := source.read1(2**16):  # type: ignore[attr-defined]  # of every buffered stream
        if begun is None:
            begun, part = [], part.removeprefix(BOM_UTF8)
        *ended, rest = part.split(b"\n")
        if ended:
            ended[0] = b"".join([*begun, ended[0]])
            begun = []
        begun.append(rest)
        for first in range(0, len(ended), _LINES_AT_ONCE):
            yield ended[first : first + _LINES_AT_ONCE]
    if last := b"".join(begun or []):
        yield [last]


def _converse(model: Model | GraphWriter, options: GenerateOptions) -> None:
    """Ask for a text, print what the model says of it, until the end of input or Ctrl-C."""
    from rnn_edge.answers import answer, invite

    ask, accepts = _line_reader(model)
    click.echo(invite(model, accepts), err=True)
    while True:
        try:
            text = ask()
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        try:
            for lines in answer(model, [text], options, as_json=False):
                click.echo("\n".join(lines))
        except TextError as error:
            click.echo(f"Error: {error}", err=True)


def _line_reader(model: Model | GraphWriter) -> tuple[Callable[[], str], str]:
    """Return what asks for a line, and what it can do besides: suggest, where prompt_toolkit is installed."""
    from rnn_edge.runtimes import LanguageModel

    if isinstance(model, LanguageModel) and is_terminal(sys.stdout):
        with suppress(ImportError):
            from rnn_edge.interactive import line_reader

            return line_reader(model), ", with Tab to accept what is suggested,"
    return lambda: input("> "), ""

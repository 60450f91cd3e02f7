"""The command line: parses, calls, prints.

What a command calls is imported inside it, so that --help needs nothing heavy.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, TypeVar, cast, get_args

import click
from click.core import ParameterSource

from rnn_edge.bundle import Precision, Strategy
from rnn_edge.errors import OptionsError, ProviderWarning, RnnEdgeError, TextError
from rnn_edge.spec import AttentionKind, Cell, Nonlinearity, Pooling, Squash, TagDecoder
from rnn_edge.text import TokenizerKind
from rnn_edge.training.options import (
    Baseline,
    BleuSmoothing,
    Objective,
    SamplingSchedule,
    Schedule,
    TrainOptions,
    TrainTask,
)
from rnn_edge.training.report import Finished, Progress, describe_finish, describe_progress, finish_to_dict

if TYPE_CHECKING:
    from rnn_edge.exporters import Parity, Quality
    from rnn_edge.runtimes import GenerateOptions, Model
    from rnn_edge.runtimes.evaluating import Evaluation
    from rnn_edge.runtimes.providers import Provider
    from rnn_edge.runtimes.sessions import Place

__all__ = ["main"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_DEFAULTS = TrainOptions()
_LINES_AT_ONCE = 256


class FriendlyGroup(click.Group):
    """Turns our errors into one line and exit code 1; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except RnnEdgeError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=FriendlyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rnn-edge", prog_name="rnn-edge")
def main() -> None:
    """Ship recurrent networks trained in PyTorch as small ONNX graphs, and run them anywhere."""


def _options(*rows: tuple[str, Any, object, str]) -> Callable[[_Command], _Command]:
    """Return a decorator that adds one option a row: flag, type, default, help."""

    def decorate(command: _Command) -> _Command:
        for flag, kind, default, text in reversed(rows):
            shown = default is not None
            command = click.option(flag, type=kind, default=default, show_default=shown, help=text)(command)
        return command

    return decorate


_network_options = _options(
    ("--tokenizer", click.Choice(get_args(TokenizerKind)), None, "What a token is."),
    ("--vocab-size", click.IntRange(1, 2**24), None, "Most tokens in the vocabulary."),
    ("--cell", click.Choice(get_args(Cell)), "lstm", "The recurrence."),
    ("--nonlinearity", click.Choice(get_args(Nonlinearity)), "tanh", "Of an elman cell, or a gru's new state."),
    ("--coupled-gates/--own-gates", None, False, "Of an lstm: forget 1 - input, or by a gate of its own."),
    ("--squash", click.Choice(get_args(Squash)), "output", "Where an lstm's last tanh sits."),
    ("--reset-after/--reset-before", None, True, "A gru's matrix product."),
    ("--embedding-size", int, None, "Width of a token's vector."),
    ("--hidden-size", int, None, "Width of a layer."),
    ("--num-layers", int, 1, "Layers on top of one another."),
    ("--proj-size", int, 0, "Width that an lstm projects its output to; 0 for none."),
    ("--dropout", float, None, "Share of values left out at random while training."),
    ("--bidirectional/--forward", None, None, "translate, classify, tag: read in both directions."),
    ("--lines/--files", None, None, "language-model: each line, or each file, is a text of its own."),
    ("--tied/--untied", None, None, "language-model, translate: the embedding is the output matrix too."),
    ("--target-tokenizer", click.Choice(get_args(TokenizerKind)), None, "translate: of what it writes."),
    ("--target-vocab-size", click.IntRange(1, 2**24), None, "translate: most tokens it writes."),
    ("--attention", click.Choice(get_args(AttentionKind)), None, "translate: how the decoder looks at the source."),
    ("--input-feeding/--no-input-feeding", None, None, "translate: read the last attentional vector too."),
    ("--pyramidal/--flat", None, None, "translate: each layer of the encoder halves the time axis."),
    ("--pooling", click.Choice(get_args(Pooling)), None, "classify: what becomes of all states."),
    ("--head-size", int, None, "classify: width of a hidden layer before the labels."),
    ("--decoder", click.Choice(get_args(TagDecoder)), None, "tag: how labels depend on one another."),
    ("--letters/--no-letters", None, None, "tag: read each word's letters too."),
    ("--character-embedding-size", int, None, "tag: width of a letter's vector."),
    ("--character-hidden-size", int, None, "tag: width of the layer that reads letters, in each direction."),
    ("--label-column", click.IntRange(2), None, "tag: where labels stand. [default: the last column]"),
)

_training_options = _options(
    ("--epochs", int, _DEFAULTS.epochs, "How often the corpus is read."),
    ("--max-minutes", float, None, "Stop by then, with the learning rate at its end."),
    ("--batch-size", int, _DEFAULTS.batch_size, "Places of the corpus that are read side by side."),
    ("--bptt", int, _DEFAULTS.bptt, "Tokens that an error travels back."),
    ("--learning-rate", float, _DEFAULTS.learning_rate, "The highest; it rises first, then falls to zero."),
    ("--weight-decay", float, _DEFAULTS.weight_decay, "Pull of AdamW towards small weights."),
    ("--clip-norm", float, _DEFAULTS.clip_norm, "Longest gradient."),
    ("--label-smoothing", float, _DEFAULTS.label_smoothing, "translate, classify: certainty spread over all answers."),
    ("--word-dropout", float, _DEFAULTS.word_dropout, "classify, tag: words read as unknown, at random."),
    ("--warmup", float, _DEFAULTS.warmup, "Share of the run in which the learning rate rises."),
    ("--schedule", click.Choice(get_args(Schedule)), _DEFAULTS.schedule, "Of the learning rate."),
    ("--eval-interval", int, _DEFAULTS.eval_interval, "Steps between looks at the held-out text, and saves."),
    ("--patience", int, _DEFAULTS.patience, "Looks without improvement before stopping early."),
    ("--seed", int, _DEFAULTS.seed, "The same seed gives the same weights."),
    ("--threads", int, None, "Processor threads. [default: PyTorch's choice]"),
    ("--objective", click.Choice(get_args(Objective)), _DEFAULTS.objective, "docs/objectives.md explains them."),
    (
        "--sampling-schedule",
        click.Choice(get_args(SamplingSchedule)),
        _DEFAULTS.sampling_schedule,
        "scheduled-sampling: how true tokens give way.",
    ),
    ("--teacher-share", float, _DEFAULTS.teacher_share, "scheduled-sampling: true tokens at the end of the run."),
    ("--candidates", int, _DEFAULTS.candidates, "minimum-risk: texts drawn for each source."),
    ("--sharpness", float, _DEFAULTS.sharpness, "minimum-risk: of the distribution over candidates."),
    ("--bleu-smoothing", click.Choice(get_args(BleuSmoothing)), _DEFAULTS.bleu_smoothing, "minimum-risk, mixer."),
    ("--baseline", click.Choice(get_args(Baseline)), _DEFAULTS.baseline, "mixer: what a reward is compared with."),
    ("--mixer-delta", int, _DEFAULTS.mixer_delta, "mixer: tokens fewer that are told at each stage."),
)


@main.command()
@click.argument("corpus", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The model.pt to write.")
@_options(("--task", click.Choice(get_args(TrainTask)), "language-model", "What is learnt."))
@click.option(
    "--held-out",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Judge by this file; may be given again. [default: 5 % of the corpus]",
)
@_network_options
@_training_options
@click.option("--init-from", type=click.Path(path_type=Path), help="Begin with this model.pt, and its vocabularies.")
@click.option("--curves", type=click.Path(path_type=Path), help="Draw how the run went, as PNG, SVG or PDF.")
@click.option("--tensorboard", type=click.Path(path_type=Path), help="Write events for TensorBoard to this directory.")
@click.option("--resume", is_flag=True, help="Go on with the run that was interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def train(
    corpus: tuple[Path, ...],
    output: Path,
    task: TrainTask,
    held_out: tuple[Path, ...],
    init_from: Path | None,
    curves: Path | None,
    tensorboard: Path | None,
    resume: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Train a network on CORPUS, files of UTF-8 text, and keep the best in model.pt.

    A language model learns from any text; translate from one file with a tab between source and target, or from two
    aligned files; classify from lines of label, tab and text; tag from CoNLL columns. What is not said is chosen by
    task: docs/training.md lists it. Ctrl-C stops and saves; the same command with --resume goes on. Progress goes to
    standard error.

    \b
    Examples:
      rnn-edge train corpus.txt -o model.pt
      rnn-edge train messages.txt --lines --tokenizer words --cell gru --max-minutes 10 -o model.pt
      rnn-edge train --task translate train.de train.en --held-out val.de --held-out val.en -o translator.pt
    """
    loop = _with_torch("rnn_edge.training.loop")
    from rnn_edge.modules import load_checkpoint
    from rnn_edge.training import curves as drawing
    from rnn_edge.training import make_lesson
    from rnn_edge.training.workers import joined_by_torchrun

    options = TrainOptions(**_pick(choices, TrainOptions))
    loop.check_output(output, corpus=[*corpus, *held_out])
    if curves:
        drawing.check_curves(curves)
    begin = load_checkpoint(init_from) if init_from else None
    chosen = {
        name: value
        for name, value in choices.items()
        if value is not None and not hasattr(options, name) and (begin is None or _was_typed(name))
    }
    with joined_by_torchrun() as us:
        lesson = make_lesson(task, corpus, held_out=held_out, choices=chosen, options=options, begin=begin)
        events = loop.train(lesson, output, options=options, resume=resume, begin=begin.model if begin else None)
        if tensorboard and us.is_first:
            events = drawing.logged(events, tensorboard)
        finished = _follow(events, quiet=not us.is_first)
    if us.is_first:
        if curves:
            drawing.draw_curves(load_checkpoint(output).history["curve"], curves)
        click.echo(json.dumps(finish_to_dict(finished)) if as_json else describe_finish(finished))


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


def provider_option(value: str) -> tuple[str, str]:
    """Read an option of a provider: key=value."""
    key, sign, setting = value.partition("=")
    if not key or not sign:
        raise click.BadParameter(f"{value!r} is not an option like device_id=0")
    return key, setting


def _place_options(command: _Command) -> _Command:
    """Add where a graph is to run; the command gets it as `place`, the keywords of `open_session`."""

    @_options(
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
        with _warnings_told():
            return command(place=place, **others)

    return cast(_Command, with_place)


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Print warnings about providers on standard error, one line each."""

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        click.echo(f"Warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", ProviderWarning)
        warnings.showwarning = tell
        yield


_atol_option = click.option(
    "--atol", type=float, default=1e-5, show_default=True, help="How far a float may be from PyTorch's."
)


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The bundle. [default: CHECKPOINT with .rnn]")
@_options(
    ("--precision", click.Choice([*get_args(Precision), "auto"]), "fp32", "Of the matrices; auto: least that passes."),
    ("--eval", click.File("r", encoding="utf-8"), None, "Judge a language model by this text. [default: held out]"),
    ("--max-loss", share, "1%", "Most that rounding may raise the perplexity."),
    ("--max-size", size, None, "Largest bundle, like 1.5MB."),
    ("--target", str, "cpu", "The provider a language model is to run on; see rnn-edge providers."),
    ("--opset", int, 17, "ONNX opset of the graph, 17 to 26."),
    ("--decode", click.Choice(get_args(Strategy)), None, "Write a graph that searches by itself, too."),
    ("--beam-size", int, None, "Hypotheses that its beam keeps. [default: 5]"),
    ("--num-return", int, 1, "Sequences that its beam returns for each prompt."),
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
    exporters = _with_torch("rnn_edge.exporters")
    options = exporters.ExportOptions(
        **_pick(choices, exporters.ExportOptions),
        eval_text=_read_text(choices["eval"]) if choices["eval"] else None,
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
    click.echo(f"{exported.path}: {exported.bytes / 1e6:.2f} MB")
    click.echo(f"next: rnn-edge run {exported.path}")


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@_atol_option
@_place_options
def verify(checkpoint: Path, bundle: Path, atol: float, place: Place) -> None:
    """Compare BUNDLE with the CHECKPOINT it came from; exit code 1 when they differ.

    Example: rnn-edge verify model.pt model.rnn
    """
    parity = _with_torch("rnn_edge.exporters").verify(checkpoint, bundle, atol=atol, **_settled(bundle, place))
    _print_parity(parity)
    parity.require()


@main.command()
@click.argument("words", metavar="[BUNDLE] [TEXT]...", nargs=-1)
@click.option("--input", "source", type=click.File("rb"), help="Read texts from a file, one a line.")
@_options(
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
    ("--early-stopping", click.Choice(["true", "false", "never"]), "never", "Once as many as beams have ended."),
    ("--narrowing/--full-width", None, False, "Whether what ends gives up its place in the beam."),
    ("--beam-threshold", float, 0.0, "Drop what is less than so many times as probable as the best."),
    ("--beam-groups", int, 1, "Beams that search apart, for different completions."),
    ("--diversity-penalty", float, 0.0, "For saying what an earlier group says."),
    ("--prefix", str, "", "Every text begins with this."),
    ("--seed", int, 0, "The same seed draws the same texts."),
    ("--batch-size", int, 16, "Texts that a language model completes together; the results are the same."),
)
@_place_options
@click.option(
    "--stop", multiple=True, help="End a completion before this text; may be given again. [default: line end]"
)
@click.option("--bad-word", multiple=True, help="Never say this text; may be given again.")
@click.option("--multiline", is_flag=True, help="Let completions run over the end of the line.")
@click.option("--self-test", is_flag=True, help="Compare with the bundle's golden vectors first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a text.")
def run(
    words: tuple[str, ...],
    source: BinaryIO | None,
    place: Place,
    self_test: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Do with texts what BUNDLE is for; without BUNDLE, complete Python code with the built-in model.

    Texts come from the arguments, from --input, or from standard input, one a line; on a terminal, it asks. Out come
    completions, translations, the best label, word/TAG word/TAG, or a vector; what describes vectors reads a JSON list
    of numbers a line. --json tells more.

    \b
    Examples:
      rnn-edge run
      rnn-edge run model.rnn "Once upon a" --num-return 3
      rnn-edge run de-en.rnn --input test.de --beam-size 5 > test.en
      printf 'for i in ra\\n' | rnn-edge run --json
    """
    from rnn_edge.answers import answer
    from rnn_edge.runtimes import LanguageModel, load

    path, texts = _bundle_and_texts(words)
    asks = not texts and source is None and sys.stdin.isatty()
    model = load(path, self_test=self_test, **_settled(path, place))
    options = _generate_options(**choices, usual_return=3 if asks and isinstance(model, LanguageModel) else 1)
    options = _suited(options, model, _given(choices))
    if asks:
        _converse(model, options)
        return
    done = 0
    with _progress_line() as show:
        for some in [texts] if texts else _batches(source or sys.stdin.buffer):
            for lines in answer(model, some, options, as_json=as_json, batch_size=choices["batch_size"]):
                click.echo("\n".join(lines))
                done += 1
                if not sys.stdout.isatty():
                    show(f"{done:,} texts", False)


@main.command("eval")
@click.argument("paths", metavar="[BUNDLE] FILE", nargs=-1, required=True)
@click.option("--lines", is_flag=True, help="Take each line for a text of its own, not the file.")
@_options(
    ("--max-words", click.IntRange(1), 1000, "Most words to type; perplexity is of the whole file."),
    ("--num-suggestions", click.IntRange(1, 100), 3, "Suggestions that the typist sees."),
)
@_place_options
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def evaluate(
    paths: tuple[str, ...],
    lines: bool,
    max_words: int,
    num_suggestions: int,
    place: Place,
    as_json: bool,
) -> None:
    """Type FILE with BUNDLE, or the built-in model, and count what its suggestions save.

    The typist accepts a suggestion as soon as it is the rest of the word. Accepting is one keystroke.

    \b
    Example:
      rnn-edge eval model.rnn held-out.txt
    """
    from rnn_edge.runtimes import LanguageModel, SuggestOptions, evaluating, load

    bundle, files = _bundle_and_texts(paths)
    if len(files) != 1:
        raise click.UsageError(f"wanted one FILE to type, got {len(files)}: rnn-edge eval model.rnn held-out.txt")
    try:
        with Path(files[0]).open(encoding="utf-8") as file:
            text = _read_text(file)
    except OSError as error:
        raise TextError(f"cannot read {files[0]}: {error.strerror}") from error
    texts = text.split("\n") if lines else [text]
    model = load(bundle, **_settled(bundle, place))
    if not isinstance(model, LanguageModel):
        raise OptionsError(f"eval types with a language model, and {bundle} is a {type(model).__name__.lower()}")
    options = SuggestOptions(num_suggestions=num_suggestions)
    with _progress_line() as show:
        for found in evaluating.evaluate(model, texts, max_words=max_words, options=options):
            if not isinstance(found, evaluating.Evaluation):
                show(f"{found:,} words", False)
    assert isinstance(found, evaluating.Evaluation)
    click.echo(json.dumps(found.to_dict()) if as_json else _describe_evaluation(found))


@main.command()
@click.argument("words", metavar="[BUNDLE] [TEXT]", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The HTML page to write.")
@click.option("--input", "source", type=click.File("r", encoding="utf-8"), help="Read the text from a file.")
@_options(
    ("--beam-size", click.IntRange(1), 4, "Hypotheses kept in the tree."),
    ("--max-new-tokens", click.IntRange(1), 8, "Depth of the tree."),
)
def inspect(words: tuple[str, ...], output: Path, source: TextIO | None, beam_size: int, max_new_tokens: int) -> None:
    """Draw what BUNDLE, or the built-in model, does while it reads TEXT: a page that opens in any browser.

    The text is coloured by any cell's activation, cells are ranked by how well they tell quotes, brackets, indentation
    and the position in a line, and beams are drawn as a tree.

    \b
    Examples:
      rnn-edge inspect 'def f(x):' -o page.html
      rnn-edge inspect model.rnn --input program.py -o page.html
    """
    from rnn_edge.bundle import Bundle
    from rnn_edge.files import replace_file
    from rnn_edge.inspection import inspect, page_of
    from rnn_edge.runtimes.load import BUILT_IN

    path, texts = _bundle_and_texts(words)
    if len(texts) + (source is not None) != 1:
        raise click.UsageError("give one TEXT, or --input")
    if not output.parent.is_dir():
        raise click.UsageError(f"cannot write {output}: there is no directory {output.parent}; create it")
    text = _read_text(source) if source else texts[0]
    found = inspect(Bundle.read(path or BUILT_IN), text, num_beams=beam_size, max_new_tokens=max_new_tokens)
    page = page_of(found, title=path.name if path else "built-in model")

    def write(part: Path) -> None:
        part.write_text(page, encoding="utf-8")

    replace_file(output, write)
    click.echo(f"{output}: {len(found.pieces):,} tokens, {len(found.names):,} cells")


@main.command()
@click.argument("path", metavar="[BUNDLE]", type=click.Path(path_type=Path), required=False)
@_options(
    ("--provider", str, "cpu", "Where it must run."),
    ("--threads", int, 1, "Threads of one operator."),
    ("--rounds", click.IntRange(1), 7, "How often everything is measured."),
    ("--seconds", click.FloatRange(min=0), 0.1, "About how long each thing takes in a round."),
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def bench(path: Path | None, as_json: bool, **choices: Any) -> None:
    """Time a language model on this machine; without BUNDLE, the built-in one.

    Example: rnn-edge bench model.rnn
    """
    from rnn_edge.runtimes.bench import bench, describe_machine

    found = bench(path, **choices)
    machine = describe_machine("onnxruntime", "numpy")
    if as_json:
        facts = {name: {"median": times.median, "rounds": times.rounds} for name, times in found.items()}
        click.echo(json.dumps({"machine": machine, **choices, "microseconds": facts}, ensure_ascii=False))
        return
    click.echo(f"{machine}; microseconds, median and spread of {choices['rounds']} rounds\n")
    for name, times in found.items():
        spread = f"{min(times.rounds):,.0f} to {max(times.rounds):,.0f}"
        click.echo(f"{name:<34} {times.median:>9,.0f}   {spread}")


@main.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
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


@main.command()
@click.argument("path", metavar="[BUNDLE]", type=click.Path(path_type=Path), required=False)
@_place_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def placement(path: Path | None, place: Place, as_json: bool) -> None:
    """Run one token through BUNDLE and tell which nodes ran on which provider, from ONNX Runtime's own profile.

    \b
    Examples:
      rnn-edge placement model.rnn --provider webgpu
      rnn-edge placement model.rnn --provider cuda --allow-fallback
    """
    from rnn_edge import runtimes
    from rnn_edge.bundle import Bundle

    bundle = Bundle.read(path or runtimes.BUILT_IN)
    ran = runtimes.by_provider(runtimes.placement(bundle, **_settled(path, place)))
    if as_json:
        click.echo(json.dumps(ran))
        return
    for provider, operators in ran.items():
        listed = ", ".join(f"{count} {name}" for name, count in operators.items())
        click.echo(f"{provider}: {sum(operators.values())} nodes: {listed}")


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--platform", type=click.Choice(["web", "python", "android"]), required=True, help="Where the app runs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--title", help="Of the page. [default: the bundle's name]")
@click.option(
    "--onnxruntime-web",
    type=click.Path(path_type=Path),
    help="An installed npm package, to copy its files into a web page. [default: the page's npm install does]",
)
def package(bundle: Path | None, output: Path, **choices: Any) -> None:
    """Write a folder that an app developer drops in: BUNDLE, or the built-in model, a small runner and its checks.

    BUNDLE is a language model's.

    \b
    Examples:
      rnn-edge package --platform web -o page
      rnn-edge package model.rnn --platform python -o app
    """
    from rnn_edge.packaging import package as write

    path = write(bundle, output, **choices)
    click.echo(f"{path}: {sum(file.stat().st_size for file in path.rglob('*') if file.is_file()) / 1e6:.2f} MB")
    click.echo(f"next: {path / 'README.md'}")


@main.command()
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
        click.echo(f"{'':<9} --target {row['name']}: {row['form']} form, {' or '.join(row['precisions'])}")


_VERIFIED = {
    "hardware": "verified on hardware",
    "emulation": "verified by emulation",
    "statically": "verified statically only",
    "no": "not verified",
}


def _provider_facts(provider: Provider, reason: str) -> dict[str, Any]:
    told = ("name", "full_name", "runs_on", "form", "precisions", "verified", "note", "install")
    facts = {name: getattr(provider, name) for name in told}
    return {**facts, "usable": not reason, "reason": reason, "options": sorted(provider.options)}


def _settled(path: Path | None, place: Place) -> Place:
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


def _pick(choices: dict[str, Any], kind: type) -> dict[str, Any]:
    """Return the choices that are fields of a dataclass."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in choices.items() if name in names}


def _was_typed(name: str) -> bool:
    """Return whether an option was given, and does not merely have its default."""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def _follow(events: Generator[Progress | Finished, None, None], *, quiet: bool = False) -> Finished:
    """Show a run's progress until it has finished, or until Ctrl-C, which saves it first."""
    held_out = None
    with closing(events), _progress_line() as show, _first_interrupt() as interrupted:
        for event in events:
            if isinstance(event, Finished):
                return event
            held_out = event.held_out or held_out
            if not quiet:
                show(describe_progress(event, held_out), event.held_out is not None)
            if interrupted.is_set():
                break
    assert isinstance(event, Progress)
    click.echo(f"stopped after step {event.step:,}; the same command with --resume goes on", err=True)
    raise click.exceptions.Exit(130)


@contextmanager
def _progress_line() -> Iterator[Callable[[str, bool], None]]:
    """Yield what shows a line: on a terminal in the place of the last one, elsewhere only if it is worth keeping."""
    width = shutil.get_terminal_size().columns - 1
    begun = False

    def show(line: str, keep: bool) -> None:
        nonlocal begun
        if sys.stderr.isatty():
            click.echo(f"\r{line[:width]:<{width}}", nl=False, err=True)
            begun = True
        elif keep:
            click.echo(line, err=True)

    try:
        yield show
    finally:
        if begun:
            click.echo(err=True)


@contextmanager
def _first_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that a step is taken to its end; a second one interrupts at once."""
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def press(_signal: int, _frame: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    if before != signal.SIG_IGN:  # a shell's background job must not hear Ctrl-C
        signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _with_torch(module: str) -> ModuleType:
    """Import what needs PyTorch or onnx, or say how to get them."""
    try:
        return import_module(module)
    except ImportError as error:
        raise click.ClickException(
            f"this command needs PyTorch, onnx and onnxscript ({error}): pip install 'rnn-edge[cpu,export]'"
        ) from error


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


def _read_text(file: TextIO) -> str:
    try:
        return file.read()
    except UnicodeDecodeError as error:
        raise TextError(f"{file.name} is not valid UTF-8 ({error.reason} at byte {error.start}): convert it") from error


def _describe_evaluation(found: Evaluation) -> str:
    return (
        f"perplexity {found.perplexity:.2f}, {found.bits_per_character:.3f} bits per character\n"
        f"typed {found.words:,} words: keystroke savings {found.keystroke_savings:.1%} "
        f"({found.keystrokes:,} keys for {found.characters:,} characters), "
        f"next word top-1 {found.top1:.1%}, top-3 {found.top3:.1%}"
    )


def _bundle_and_texts(words: tuple[str, ...]) -> tuple[Path | None, tuple[str, ...]]:
    """Take the first word for a bundle when it is a directory or is named like one, and for a text otherwise."""
    if words and (Path(words[0]).is_dir() or words[0].rstrip("/\\").endswith(".rnn")):
        return Path(words[0]), words[1:]
    return None, words


def _generate_options(*, usual_return: int, **choices: Any) -> GenerateOptions:
    """Return the options of `run`, with the defaults that depend on others."""
    from rnn_edge.runtimes import GenerateOptions

    num_return = choices["num_return"] or usual_return
    draws = {name: choices[name] for name in ("temperature", "top_k", "top_p", "min_p") if choices[name] is not None}
    do_sample = bool(draws) if choices["sample"] is None else choices["sample"]
    max_new_tokens = choices["max_new_tokens"]
    same_names = ("repetition_penalty", "no_repeat_ngram_size", "length_penalty", "narrowing", "beam_threshold")
    return GenerateOptions(
        max_new_tokens=max_new_tokens if max_new_tokens is not None else 20 if num_return == 1 else 4,
        num_beams=_beams(choices["beam_size"], num_return, do_sample=do_sample),
        num_return_sequences=num_return,
        do_sample=do_sample,
        early_stopping={"true": True, "false": False}.get(choices["early_stopping"], "never"),
        num_beam_groups=choices["beam_groups"],
        diversity_penalty=choices["diversity_penalty"],
        seed=choices["seed"],
        stop_strings=choices["stop"] or (() if choices["multiline"] else ("\n",)),
        bad_words=choices["bad_word"],
        forced_prefix=choices["prefix"],
        **{name: choices[name] for name in same_names},
        **draws,
    )


def _beams(beam_size: int | None, num_return: int, *, do_sample: bool) -> int:
    """Return how many hypotheses to keep: some of them end up as the same text, spelled in other tokens."""
    if beam_size is None:
        return 1 if do_sample or num_return == 1 else max(16, 2 * num_return)
    return beam_size if do_sample else max(beam_size, num_return)


def _given(choices: dict[str, Any]) -> dict[str, str]:
    """Return which of some options were on the command line: their names in Python and as flags."""
    context = click.get_current_context()
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in choices
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    }


def _suited(options: GenerateOptions, model: Model, given: dict[str, str]) -> GenerateOptions:
    """Return the options with a translator's defaults; refuse those that were given to what does not write."""
    from rnn_edge.runtimes import Describer, LanguageModel, Translator

    if isinstance(model, LanguageModel):
        return options
    if isinstance(model, Translator | Describer):
        if "batch_size" in given:
            raise OptionsError(
                "--batch-size is for language models; translators and describers choose it: leave it out"
            )
        usual: dict[str, Any] = {"max_new_tokens": None, "length_penalty": 1.0}
        return dataclasses.replace(options, **{name: usual[name] for name in usual.keys() - given.keys()})
    if given:
        raise OptionsError(
            f"{', '.join(given.values())} can only be used with networks that write, to complete, translate or "
            f"describe, and this is a {type(model).__name__.lower()}: leave out what it does not have"
        )
    return options


def _batches(source: BinaryIO) -> Iterator[list[str]]:
    """Yield the lines of a UTF-8 stream without their ends, as many at a time as have come, within bounds."""
    number = 0
    for lines in _lines(source):
        texts: list[str] = []
        for line in lines:
            number += 1
            try:
                texts.append(line.rstrip(b"\r").decode())
            except UnicodeDecodeError as error:
                if texts:
                    yield texts
                raise TextError(
                    f"line {number} is not valid UTF-8 (byte 0x{error.object[error.start]:02x} at position "
                    f"{error.start + 1}): convert the input to UTF-8"
                ) from error
        yield texts


def _lines(source: BinaryIO) -> Iterator[list[bytes]]:
    """Yield lines, a few hundred at a time at most; never wait for another line while there is one."""
    begun: list[bytes] = []  # parts of a line that has not ended
    while part := source.read1(2**16):  # type: ignore[attr-defined]  # of every buffered stream
        *ended, rest = part.split(b"\n")
        if ended:
            ended[0] = b"".join([*begun, ended[0]])
            begun = []
        begun.append(rest)
        for first in range(0, len(ended), _LINES_AT_ONCE):
            yield ended[first : first + _LINES_AT_ONCE]
    if last := b"".join(begun):
        yield [last]


def _converse(model: Model, options: GenerateOptions) -> None:
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


def _line_reader(model: Model) -> tuple[Callable[[], str], str]:
    """Return what asks for a line, and what it can do besides: suggest, where prompt_toolkit is installed."""
    from rnn_edge.runtimes import LanguageModel

    if isinstance(model, LanguageModel) and sys.stdout.isatty():
        with suppress(ImportError):
            from rnn_edge.interactive import line_reader

            return line_reader(model), ", with Tab to accept what is suggested,"
    return lambda: input("> "), ""


def _bundle_facts(path: Path) -> dict[str, Any]:
    from rnn_edge.bundle import Bundle

    bundle = Bundle.read(path)
    return {
        "bundle": str(path),
        "tokenizer": bundle.tokenizer.kind,
        **bundle.manifest.to_dict(bundle.files),
    }


def _checkpoint_facts(path: Path) -> dict[str, Any]:
    checkpoint = _with_torch("rnn_edge.modules").load_checkpoint(path)
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

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
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, TypeVar, get_args

import click

from rnn_edge.bundle import Precision, Strategy
from rnn_edge.errors import OptionsError, RnnEdgeError, TextError
from rnn_edge.spec import AttentionKind, Cell, Nonlinearity, Pooling, Squash, TagDecoder
from rnn_edge.text import TokenizerKind
from rnn_edge.training.options import Schedule, TrainOptions, TrainTask
from rnn_edge.training.report import Finished, Progress, describe_finish, describe_progress, finish_to_dict

if TYPE_CHECKING:
    from rnn_edge.exporters import Parity, Quality
    from rnn_edge.runtimes import GenerateOptions, Model

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
@click.option("--resume", is_flag=True, help="Go on with the run that was interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def train(
    corpus: tuple[Path, ...],
    output: Path,
    task: TrainTask,
    held_out: tuple[Path, ...],
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
    _with_torch("rnn_edge.training.loop")
    from rnn_edge import training

    options = TrainOptions(**_pick(choices, TrainOptions))
    chosen = {name: value for name, value in choices.items() if value is not None and not hasattr(options, name)}
    training.check_output(output, corpus=[*corpus, *held_out])
    lesson = training.make_lesson(task, corpus, held_out=held_out, choices=chosen, options=options)
    finished = _follow(training.train(lesson, output, options=options, resume=resume))
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
def verify(checkpoint: Path, bundle: Path, atol: float) -> None:
    """Compare BUNDLE with the CHECKPOINT it came from; exit code 1 when they differ.

    Example: rnn-edge verify model.pt model.rnn
    """
    parity = _with_torch("rnn_edge.exporters").verify(checkpoint, bundle, atol=atol)
    _print_parity(parity)
    parity.require()


@main.command()
@click.argument("words", metavar="[BUNDLE] [TEXT]...", nargs=-1)
@click.option("--input", "source", type=click.File("rb"), help="Read texts from a file, one a line.")
@_options(
    ("--max-new-tokens", int, None, "Most tokens. [default: 20; 4 for several --num-return; 200 to translate]"),
    ("--beam-size", click.IntRange(1), None, "Hypotheses kept. [default: 1; 16 for several --num-return]"),
    ("--num-return", click.IntRange(1), None, "Texts for each, best first. [default: 1; 3 completions at a prompt]"),
    ("--sample/--no-sample", None, None, "Draw tokens by chance; implied by the next three."),
    ("--temperature", float, None, "Below 1 sharpens the distribution, above 1 flattens it."),
    ("--top-k", int, None, "Draw among the k most probable tokens."),
    ("--top-p", float, None, "Draw among the tokens that make up this probability."),
    ("--length-penalty", float, 0.0, "Beams are ranked by log-probability / length**penalty; translations by 1."),
    ("--seed", int, 0, "The same seed draws the same texts."),
    ("--provider", str, "cpu", "Where it must run."),
    ("--threads", int, 1, "Threads of one operator."),
)
@click.option(
    "--stop", multiple=True, help="End a completion before this text; may be given again. [default: line end]"
)
@click.option("--multiline", is_flag=True, help="Let completions run over the end of the line.")
@click.option("--self-test", is_flag=True, help="Compare with the bundle's golden vectors first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a text.")
def run(
    words: tuple[str, ...],
    source: BinaryIO | None,
    provider: str,
    threads: int,
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
    model = load(path, provider=provider, threads=threads, self_test=self_test)
    options = _generate_options(**choices, usual_return=3 if asks and isinstance(model, LanguageModel) else 1)
    options = _suited(options, model, _given(choices))
    if asks:
        _converse(model, options)
        return
    for some in [texts] if texts else _batches(source or sys.stdin.buffer):
        for line in answer(model, some, options, as_json=as_json):
            click.echo(line)


@main.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def info(path: Path | None, as_json: bool) -> None:
    """Tell what the bundle or checkpoint at PATH holds; without PATH, the built-in model.

    Example: rnn-edge info model.rnn
    """
    from rnn_edge.runtimes.load import BUILT_IN

    path = path or BUILT_IN
    facts = _bundle_facts(path) if path.is_dir() else _checkpoint_facts(path)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _print_facts(facts)


def _pick(choices: dict[str, Any], kind: type) -> dict[str, Any]:
    """Return the choices that are fields of a dataclass."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in choices.items() if name in names}


def _follow(events: Generator[Progress | Finished, None, None]) -> Finished:
    """Show a run's progress until it has finished, or until Ctrl-C, which saves it first."""
    held_out = None
    with closing(events), _progress_line() as show, _first_interrupt() as interrupted:
        for event in events:
            if isinstance(event, Finished):
                return event
            held_out = event.held_out or held_out
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

    def show(line: str, keep: bool) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{line[:width]:<{width}}", nl=False, err=True)
        elif keep:
            click.echo(line, err=True)

    try:
        yield show
    finally:
        if sys.stderr.isatty():
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


def _bundle_and_texts(words: tuple[str, ...]) -> tuple[Path | None, tuple[str, ...]]:
    """Take the first word for a bundle when it is a directory or is named like one, and for a text otherwise."""
    if words and (Path(words[0]).is_dir() or words[0].rstrip("/\\").endswith(".rnn")):
        return Path(words[0]), words[1:]
    return None, words


def _generate_options(
    *,
    max_new_tokens: int | None,
    beam_size: int | None,
    num_return: int | None,
    usual_return: int,
    sample: bool | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    length_penalty: float,
    seed: int,
    stop: tuple[str, ...],
    multiline: bool,
) -> GenerateOptions:
    from rnn_edge.runtimes import GenerateOptions

    num_return = num_return or usual_return
    asked_to_draw = any(value is not None for value in (temperature, top_k, top_p))
    do_sample = asked_to_draw if sample is None else sample
    return GenerateOptions(
        max_new_tokens=max_new_tokens if max_new_tokens is not None else 20 if num_return == 1 else 4,
        num_beams=_beams(beam_size, num_return, do_sample=do_sample),
        num_return_sequences=num_return,
        do_sample=do_sample,
        length_penalty=length_penalty,
        seed=seed,
        stop_strings=stop or (() if multiline else ("\n",)),
        temperature=1.0 if temperature is None else temperature,
        top_k=0 if top_k is None else top_k,
        top_p=1.0 if top_p is None else top_p,
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

    click.echo(invite(model), err=True)
    while True:
        try:
            text = input("> ")
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        try:
            for line in answer(model, [text], options, as_json=False):
                click.echo(line)
        except TextError as error:
            click.echo(f"Error: {error}", err=True)


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

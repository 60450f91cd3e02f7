"""The command line: parses, calls, prints.

What a command calls is imported inside it, so that --help needs nothing heavy.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, get_args

import click

from rnn_edge.errors import RnnEdgeError, TextError
from rnn_edge.spec import Cell, ModelSpec, Nonlinearity
from rnn_edge.training.options import Schedule, TrainOptions
from rnn_edge.training.report import Finished, Progress, describe_finish, describe_progress, finish_to_dict

if TYPE_CHECKING:
    from rnn_edge.exporters import Parity
    from rnn_edge.runtimes import Completion, GenerateOptions, LanguageModel

__all__ = ["main"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_DEFAULTS = TrainOptions()


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
    ("--tokenizer", click.Choice(["characters", "words", "bpe"]), "bpe", "What a token is."),
    ("--vocab-size", click.IntRange(1, 2**24), 2000, "Most tokens in the vocabulary."),
    ("--cell", click.Choice(get_args(Cell)), "lstm", "The recurrence."),
    ("--nonlinearity", click.Choice(get_args(Nonlinearity)), "tanh", "Of an elman cell."),
    ("--embedding-size", int, 128, "Width of a token's vector."),
    ("--hidden-size", int, 320, "Width of a layer."),
    ("--num-layers", int, 1, "Layers on top of one another."),
    ("--proj-size", int, 0, "Width that an lstm projects its output to; 0 for none."),
    ("--dropout", float, 0.2, "Share of values left out at random while training."),
)

_training_options = _options(
    ("--epochs", int, _DEFAULTS.epochs, "How often the corpus is read."),
    ("--max-minutes", float, None, "Stop by then, with the learning rate at its end."),
    ("--batch-size", int, _DEFAULTS.batch_size, "Places of the corpus that are read side by side."),
    ("--bptt", int, _DEFAULTS.bptt, "Tokens that an error travels back."),
    ("--learning-rate", float, _DEFAULTS.learning_rate, "The highest; it rises first, then falls to zero."),
    ("--weight-decay", float, _DEFAULTS.weight_decay, "Pull of AdamW towards small weights."),
    ("--clip-norm", float, _DEFAULTS.clip_norm, "Longest gradient."),
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
@click.option(
    "--held-out",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Judge by this file; may be given again. [default: the last 5 % of the corpus]",
)
@click.option("--lines", is_flag=True, help="Take each line for a text of its own, not each file.")
@_network_options
@click.option("--tied/--untied", default=True, show_default=True, help="Use the embedding as output matrix too.")
@_training_options
@click.option("--resume", is_flag=True, help="Go on with the run that was interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def train(
    corpus: tuple[Path, ...],
    output: Path,
    held_out: tuple[Path, ...],
    lines: bool,
    resume: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Train a language model on CORPUS, files of UTF-8 text, and keep the best in model.pt.

    Ctrl-C stops and saves; the same command with --resume goes on. Progress goes to standard error.

    \b
    Examples:
      rnn-edge train corpus.txt -o model.pt
      rnn-edge train messages.txt --lines --tokenizer words --cell gru --max-minutes 10 -o model.pt
    """
    from rnn_edge.text import Tokenizer

    training = _training()
    options = TrainOptions(**_pick(choices, TrainOptions))
    spec = ModelSpec(**_pick(choices, ModelSpec))
    training.check_output(output, corpus=[*corpus, *held_out])
    texts = training.read_corpus(corpus, held_out=held_out, lines=lines)
    tokenizer = Tokenizer.train(choices["tokenizer"], texts.train, vocab_size=spec.vocab_size)
    spec = dataclasses.replace(spec, vocab_size=tokenizer.vocab_size)  # a small text fills less
    finished = _follow(training.train(spec, tokenizer, texts, output, options=options, resume=resume))
    click.echo(json.dumps(finish_to_dict(finished)) if as_json else describe_finish(finished))


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The bundle's directory. [default: CHECKPOINT with .rnn]",
)
@click.option("--opset", type=int, default=17, show_default=True, help="ONNX opset of the graph, 17 to 26.")
@click.option(
    "--atol",
    type=float,
    default=1e-5,
    show_default=True,
    help="How far a number may be from PyTorch's.",
)
def export(checkpoint: Path, output: Path | None, opset: int, atol: float) -> None:
    """Turn CHECKPOINT into a bundle, after proving that it says what PyTorch says.

    Example: rnn-edge export model.pt -o model.rnn
    """
    exporters = _exporters()
    output = output or checkpoint.with_suffix(".rnn")
    exported = exporters.export(checkpoint, output, opset=opset, atol=atol)
    _print_parity(exported.parity)
    click.echo(f"{exported.path}: {exported.bytes / 1e6:.2f} MB")
    click.echo(f"next: rnn-edge run {exported.path}", err=True)


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--atol",
    type=float,
    default=1e-5,
    show_default=True,
    help="How far a number may be from PyTorch's.",
)
def verify(checkpoint: Path, bundle: Path, atol: float) -> None:
    """Compare BUNDLE with the CHECKPOINT it came from; exit code 1 when they differ.

    Example: rnn-edge verify model.pt model.rnn
    """
    parity = _exporters().verify(checkpoint, bundle, atol=atol)
    _print_parity(parity)
    parity.require()


@main.command()
@click.argument("words", metavar="[BUNDLE] [TEXT]...", nargs=-1)
@click.option("--input", "source", type=click.File("rb"), help="Read texts from a file, one a line.")
@click.option(
    "--max-new-tokens",
    type=int,
    default=20,
    show_default=True,
    help="Longest completion, in tokens.",
)
@click.option("--beam-size", type=click.IntRange(1), default=1, show_default=True, help="Hypotheses kept by beam search.")
@click.option(
    "--num-return",
    type=int,
    default=1,
    show_default=True,
    help="Completions of each text, best first.",
)
@click.option("--sample/--no-sample", default=None, help="Draw tokens by chance; implied by the next three.")
@click.option("--temperature", type=float, help="Below 1 sharpens the distribution, above 1 flattens it.")
@click.option("--top-k", type=int, help="Draw among the k most probable tokens.")
@click.option("--top-p", type=float, help="Draw among the tokens that make up this probability.")
@click.option(
    "--length-penalty",
    type=float,
    default=1.0,
    show_default=True,
    help="Beams are ranked by log-probability / length**penalty.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same texts.")
@click.option(
    "--stop",
    multiple=True,
    help="End a completion before this text; may be given again. [default: end of line]",
)
@click.option("--multiline", is_flag=True, help="Let completions run over the end of the line.")
@click.option("--provider", default="cpu", show_default=True, help="Where it must run.")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads of one operator.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a text.")
def run(
    words: tuple[str, ...],
    source: BinaryIO | None,
    provider: str,
    threads: int,
    as_json: bool,
    **choices: Any,
) -> None:
    r"""Complete texts with BUNDLE, or with the built-in model for Python code.

    Texts come from the arguments, from --input, or from standard input, one a line; on a terminal, it asks.

    \b
    Examples:
      rnn-edge run
      rnn-edge run model.rnn "Once upon a" --num-return 3
      printf 'for i in ra\n' | rnn-edge run --json
    """
    from rnn_edge.runtimes import load

    path, texts = _bundle_and_texts(words)
    options = _generate_options(**choices)
    model = load(path, provider=provider, threads=threads)
    if not texts and source is None and sys.stdin.isatty():
        _converse(model, options)
        return
    for text in texts or _lines(source or sys.stdin.buffer):
        _print_completions(text, model.complete(text, options), as_json=as_json)


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


def _training() -> ModuleType:
    """Import what needs PyTorch, or say how to get it."""
    try:
        import rnn_edge.training.loop
    except ImportError as error:
        raise click.ClickException(f"training needs PyTorch ({error}): pip install 'rnn-edge[cpu,export]'") from error
    return rnn_edge.training


def _pick(choices: dict[str, Any], kind: type) -> dict[str, Any]:
    """Return the choices that are fields of a dataclass."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in choices.items() if name in names}


def _follow(events: Generator[Progress | Finished, None, None]) -> Finished:
    """Show a run's progress until it has finished, or until Ctrl-C, which saves it first."""
    held_out = None
    with closing(events), _first_interrupt() as interrupted:
        for event in events:
            if isinstance(event, Finished):
                return event
            held_out = event.held_out or held_out
            _show(describe_progress(event, held_out), keep=event.held_out is not None)
            if interrupted.is_set():
                events.close()
                click.echo(f"\nstopped after step {event.step:,}; the same command with --resume goes on", err=True)
                raise click.exceptions.Exit(130)
    raise AssertionError("a run ends with Finished")


@contextmanager
def _first_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that a step is taken to its end; a second one interrupts at once."""
    pressed = threading.Event()

    def press(_signal: int, _frame: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _show(line: str, *, keep: bool) -> None:
    """Rewrite the line on a terminal; elsewhere print the lines worth keeping."""
    if sys.stderr.isatty():
        click.echo(f"\r{line:<100}", nl=False, err=True)
    elif keep:
        click.echo(line, err=True)


def _exporters() -> ModuleType:
    """Import what needs PyTorch and onnx, or say how to get them."""
    try:
        import rnn_edge.exporters
    except ImportError as error:
        raise click.ClickException(
            f"this command needs PyTorch, onnx and onnxscript ({error}): pip install 'rnn-edge[cpu,export]'"
        ) from error
    return rnn_edge.exporters


def _print_parity(parity: Parity) -> None:
    for check in parity.checks:
        verdict = "same" if check.passed else "DIFFERENT"
        click.echo(
            f"  {check.name:<16}{check.compared:>12,} compared   worst error {check.max_error:.1e}   {verdict}"
        )
    click.echo(f"parity with PyTorch: worst error {parity.max_error:.1e}, allowed {parity.atol:g}")


def _bundle_and_texts(words: tuple[str, ...]) -> tuple[Path | None, tuple[str, ...]]:
    """Take the first word for a bundle when it is a directory or is named like one, and for a text otherwise."""
    if words and (Path(words[0]).is_dir() or words[0].rstrip("/\\").endswith(".rnn")):
        return Path(words[0]), words[1:]
    return None, words


def _generate_options(
    *,
    max_new_tokens: int,
    beam_size: int,
    num_return: int,
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

    drawing = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    chosen = {name: value for name, value in drawing.items() if value is not None}
    do_sample = bool(chosen) if sample is None else sample
    return GenerateOptions(
        max_new_tokens=max_new_tokens,
        num_beams=beam_size if do_sample else max(beam_size, num_return),
        num_return_sequences=num_return,
        do_sample=do_sample,
        length_penalty=length_penalty,
        seed=seed,
        stop_strings=stop or (() if multiline else ("\n",)),
        **chosen,
    )


def _lines(source: BinaryIO) -> Iterator[str]:
    """Yield the lines of a UTF-8 stream without their ends."""
    for number, line in enumerate(source, start=1):
        try:
            yield line.rstrip(b"\r\n").decode()
        except UnicodeDecodeError as error:
            raise TextError(
                f"line {number} is not valid UTF-8 (byte 0x{error.object[error.start]:02x} at position "
                f"{error.start + 1}): convert the input to UTF-8"
            ) from error


def _print_completions(text: str, completions: list[Completion], *, as_json: bool) -> None:
    if not as_json:
        for completion in completions:
            click.echo(text + completion.text)
        return
    found = [
        {
            "text": each.text,
            "log_prob": round(each.log_prob, 4),
            "finish_reason": each.finish_reason,
        }
        for each in completions
    ]
    click.echo(json.dumps({"prompt": text, "completions": found}, ensure_ascii=False))


def _converse(model: LanguageModel, options: GenerateOptions) -> None:
    """Ask for a line, print suggestions, until the end of input or Ctrl-C."""
    if options.num_return_sequences == 1 and not options.do_sample:
        options = dataclasses.replace(options, num_beams=max(5, options.num_beams), num_return_sequences=3)
    click.echo("Type the beginning of a line and press Enter; Ctrl-D ends.", err=True)
    while True:
        try:
            text = input("> ")
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        try:
            _print_completions(text, model.complete(text, options), as_json=False)
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
    _exporters()
    from rnn_edge.modules import load_checkpoint

    checkpoint = load_checkpoint(path)
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
        if isinstance(value, dict):
            click.echo(f"{indent}{name}")
            _print_facts(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            click.echo(f"{indent}{name}")
            for each in value:
                click.echo(f"{indent}  {', '.join(f'{key} {entry}' for key, entry in each.items())}")
        else:
            click.echo(f"{indent}{name}: {value}")

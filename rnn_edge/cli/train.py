"""`rnn-edge train`: a corpus in, the best network out; Ctrl-C stops and saves."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, get_args

import click

from rnn_edge.cli.messages import progress_line, with_torch
from rnn_edge.cli.options import PATH, add_options, given_options, pick
from rnn_edge.spec import AttentionKind, Cell, Nonlinearity, Pooling, Squash, TagDecoder
from rnn_edge.text import TokenizerKind
from rnn_edge.training.options import (
    Baseline,
    BleuSmoothing,
    MatrixPrecision,
    Objective,
    SamplingSchedule,
    Schedule,
    TrainOptions,
    TrainTask,
)
from rnn_edge.training.report import Finished, Progress, describe_finish, describe_progress, finish_to_dict

_DEFAULTS = TrainOptions()


_network_options = add_options(
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


_training_options = add_options(
    ("--epochs", int, _DEFAULTS.epochs, "How often the corpus is read."),
    ("--max-minutes", float, None, "Stop by then, with the learning rate at its end."),
    ("--batch-size", int, _DEFAULTS.batch_size, "Places of the corpus that are read side by side."),
    ("--bptt", int, _DEFAULTS.bptt, "Tokens that an error travels back."),
    ("--learning-rate", float, _DEFAULTS.learning_rate, "The highest; it rises first, then falls to zero."),
    ("--weight-decay", float, _DEFAULTS.weight_decay, "Pull of AdamW towards small weights."),
    ("--clip-norm", float, _DEFAULTS.clip_norm, "Longest gradient."),
    ("--label-smoothing", float, _DEFAULTS.label_smoothing, "translate, classify: certainty spread over all answers."),
    (
        "--variational-dropout/--independent-dropout",
        None,
        _DEFAULTS.variational_dropout,
        "Leave out the same of all of a row's tokens, or of each anew.",
    ),
    ("--weight-dropout", float, _DEFAULTS.weight_dropout, "Weights from state to gates left out at random."),
    ("--word-dropout", float, _DEFAULTS.word_dropout, "classify, tag: words read as unknown, at random."),
    ("--warmup", float, _DEFAULTS.warmup, "Share of the run in which the learning rate rises."),
    ("--schedule", click.Choice(get_args(Schedule)), _DEFAULTS.schedule, "Of the learning rate."),
    ("--precision", click.Choice(get_args(MatrixPrecision)), _DEFAULTS.precision, "Of matrix products while training."),
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


@click.command()
@click.argument("corpus", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The model.pt to write.")
@add_options(("--task", click.Choice(get_args(TrainTask)), "language-model", "What is learnt."))
@click.option(
    "--held-out",
    multiple=True,
    type=PATH,
    help="Judge by this file; may be given again. [default: 5 % of the corpus]",
)
@_network_options
@_training_options
@click.option("--init-from", type=PATH, help="Begin with this model.pt, and its vocabularies.")
@click.option("--curves", type=PATH, help="Draw how the run went, as PNG, SVG or PDF.")
@click.option("--tensorboard", type=PATH, help="Write events for TensorBoard to this directory.")
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
    loop = with_torch("rnn_edge.training.loop")
    from rnn_edge.modules import load_checkpoint
    from rnn_edge.training import curves as drawing
    from rnn_edge.training import make_lesson
    from rnn_edge.training.workers import joined_by_torchrun

    options = TrainOptions(**pick(choices, TrainOptions))
    loop.check_output(output, corpus=[*corpus, *held_out])
    if curves:
        drawing.check_curves(curves)
    begin = load_checkpoint(init_from) if init_from else None
    given = given_options(choices)
    chosen = {
        name: value
        for name, value in choices.items()
        if value is not None and not hasattr(options, name) and (begin is None or name in given)
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


def _follow(events: Generator[Progress | Finished, None, None], *, quiet: bool = False) -> Finished:
    """Show a run's progress until it has finished, or until Ctrl-C, which saves it first."""
    held_out = None
    with closing(events), progress_line() as show, _first_interrupt() as interrupted:
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

"""From files and a few choices to a lesson: reads the examples, learns the vocabularies, and describes the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rnn_edge.errors import TrainingError
from rnn_edge.modules import Checkpoint
from rnn_edge.spec import ClassifierSpec, LanguageModelSpec, ModelSpec, TaggerSpec, TranslatorSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training.data import Corpus, read_corpus
from rnn_edge.training.examples import Examples, read_columns, read_labelled, read_pairs
from rnn_edge.training.lesson import Lesson
from rnn_edge.training.options import TrainOptions, TrainTask

__all__ = ["DEFAULTS", "make_lesson"]

Choices = Mapping[str, Any]

DEFAULTS: dict[TrainTask, dict[str, Any]] = {
    "language-model": {
        "tokenizer": "bpe", "vocab_size": 2000, "embedding_size": 128, "hidden_size": 320, "dropout": 0.2, "tied": True,
        "lines": False,
    },
    "translate": {
        "tokenizer": "bpe", "vocab_size": 5000, "embedding_size": 192, "hidden_size": 256, "dropout": 0.3, "tied": True,
        "bidirectional": True, "attention": "general", "target_tokenizer": None, "target_vocab_size": None,
    },
    "classify": {
        "tokenizer": "words", "vocab_size": 10_000, "embedding_size": 128, "hidden_size": 128, "dropout": 0.5,
        "bidirectional": True, "pooling": "max",
    },
    "tag": {
        "tokenizer": "whitespace", "vocab_size": 20_000, "embedding_size": 128, "hidden_size": 200, "dropout": 0.5,
        "bidirectional": True, "decoder": "crf", "letters": True, "character_embedding_size": 32,
        "character_hidden_size": 64, "label_column": None,
    },
}  # fmt: skip
"""What is chosen where nothing is said, task by task. A value of None means that others decide."""

_NOT_OF_THE_NETWORK = {"dropout", "lines", "label_column"}  # or only while it learns


def make_lesson(
    task: TrainTask,
    paths: Sequence[Path],
    *,
    held_out: Sequence[Path] = (),
    choices: Choices | None = None,
    options: TrainOptions | None = None,
    begin: Checkpoint | None = None,
) -> Lesson:
    """Return what a run can learn from files.

    choices  fields of the task's spec, and of `DEFAULTS`; whatever is left out has the default there, or the spec's
    begin    whose network is trained on, with its vocabularies; of the spec only dropout can be chosen anew
    """
    if task not in _TASKS:
        raise TrainingError(f"task must be one of {', '.join(_TASKS)}, got {task!r}")
    this, given = _TASKS[task], choices or {}
    known = {field.name for field in dataclasses.fields(this.spec)} | DEFAULTS[task].keys()
    strangers = sorted(given.keys() - known)
    if strangers:
        raise TrainingError(f"task {task!r} has no {', '.join(strangers)}: leave that out, or choose another task")
    chosen = {**DEFAULTS[task], **given}
    if begin is not None:
        _check_begin(task, begin, given)
    examples = this.read(paths, held_out, chosen)
    spec, tokenizers = this.describe(examples, chosen) if begin is None else _described_by(begin, given)
    return _lesson_of(task)(spec, *tokenizers, examples, options or TrainOptions())


Described = tuple[ModelSpec, tuple[Tokenizer | None, ...]]
"""A network, and its vocabularies in the order in which its lesson takes them."""


def _check_begin(task: TrainTask, begin: Checkpoint, given: Choices) -> None:
    spec = begin.model.spec
    if not isinstance(spec, _TASKS[task].spec):
        raise TrainingError(f"task {task} cannot begin with a network of task {spec.task}: choose another checkpoint")
    decided = sorted(given.keys() - _NOT_OF_THE_NETWORK)
    if decided:
        raise TrainingError(f"the checkpoint that a run begins with decides {', '.join(decided)}: leave that out")


def _described_by(begin: Checkpoint, given: Choices) -> Described:
    spec = begin.model.spec
    others = {
        "translate": (begin.target_tokenizer,),
        "tag": (begin.character_tokenizer,),
    }.get(spec.task, ())
    return dataclasses.replace(spec, dropout=given.get("dropout", spec.dropout)), (begin.tokenizer, *others)


def _language_model(corpus: Corpus, choices: Choices) -> Described:
    tokenizer = Tokenizer.train(choices["tokenizer"], corpus.train, vocab_size=choices["vocab_size"])
    return LanguageModelSpec(**_fields(LanguageModelSpec, choices, vocab_size=tokenizer.vocab_size)), (tokenizer,)


def _translate(examples: Examples, choices: Choices) -> Described:
    kinds = choices["tokenizer"], choices["target_tokenizer"] or choices["tokenizer"]
    sizes = choices["vocab_size"], choices["target_vocab_size"] or choices["vocab_size"]
    source, target = (
        Tokenizer.train(kind, texts, vocab_size=size)
        for kind, texts, size in zip(kinds, zip(*examples.train, strict=True), sizes, strict=True)
    )
    vocab_sizes = {"vocab_size": source.vocab_size, "target_vocab_size": target.vocab_size}
    return TranslatorSpec(**_fields(TranslatorSpec, choices, **vocab_sizes)), (source, target)


def _classify(examples: Examples, choices: Choices) -> Described:
    tokenizer = Tokenizer.train(
        choices["tokenizer"], [text for text, _ in examples.train], vocab_size=choices["vocab_size"]
    )
    labels = tuple(sorted({label for _, label in examples.train}))
    spec = ClassifierSpec(**_fields(ClassifierSpec, choices, vocab_size=tokenizer.vocab_size, labels=labels))
    return spec, (tokenizer,)


def _read_columns(paths: Sequence[Path], held_out: Sequence[Path], choices: Choices) -> Examples:
    if choices["tokenizer"] != "whitespace":
        raise TrainingError(f"a tagger's words stand between white space: leave out tokenizer {choices['tokenizer']!r}")
    return read_columns(paths, held_out, label_column=choices["label_column"])


def _tag(examples: Examples, choices: Choices) -> Described:
    texts = [words for words, _ in examples.train]
    tokenizer = Tokenizer.train("whitespace", texts, vocab_size=choices["vocab_size"])
    characters = Tokenizer.train("characters", texts) if choices["letters"] else None
    spec = TaggerSpec(
        **_fields(
            TaggerSpec,
            choices,
            vocab_size=tokenizer.vocab_size,
            character_vocab_size=characters.vocab_size if characters else 0,
            labels=tuple(sorted({label for _, labels in examples.train for label in labels.split()})),
        )
    )
    return spec, (tokenizer, characters)


@dataclass(frozen=True)
class _Task:
    """How a task's examples are read, and what network and vocabularies come of them and the choices."""

    spec: type[ModelSpec]
    read: Callable[[Sequence[Path], Sequence[Path], Choices], Any]
    describe: Callable[[Any, Choices], Described]


_TASKS: dict[TrainTask, _Task] = {
    "language-model": _Task(
        LanguageModelSpec,
        lambda paths, held_out, choices: read_corpus(paths, held_out=held_out, lines=choices["lines"]),
        _language_model,
    ),
    "translate": _Task(TranslatorSpec, lambda paths, held_out, _: read_pairs(paths, held_out), _translate),
    "classify": _Task(ClassifierSpec, lambda paths, held_out, _: read_labelled(paths, held_out), _classify),
    "tag": _Task(TaggerSpec, _read_columns, _tag),
}


def _fields(kind: type[ModelSpec], choices: Choices, **found: Any) -> dict[str, Any]:
    """Return the choices that describe the network, with what the examples decide."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {**{name: value for name, value in choices.items() if name in names}, **found}


def _lesson_of(task: TrainTask) -> Callable[..., Lesson]:
    """Import a lesson, or say how to get other projects' metrics that it is judged by."""
    module, name = {
        "language-model": ("language", "LanguageLesson"),
        "translate": ("translation", "TranslationLesson"),
        "classify": ("classification", "ClassificationLesson"),
        "tag": ("tagging", "TaggingLesson"),
    }[task]
    try:
        kind: Callable[..., Lesson] = getattr(import_module(f"rnn_edge.training.{module}"), name)
    except ImportError as error:
        raise TrainingError(
            f"this task is judged with sacrebleu and seqeval ({error}): pip install 'rnn-edge[cpu,train]'"
        ) from error
    return kind

"""From files and a few choices to a lesson: reads the examples, learns the vocabularies, and describes the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from rnn_edge.errors import TrainingError
from rnn_edge.spec import ClassifierSpec, LanguageModelSpec, ModelSpec, TaggerSpec, TranslatorSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training.data import read_corpus
from rnn_edge.training.examples import read_columns, read_labelled, read_pairs
from rnn_edge.training.language import LanguageLesson
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

_SPECS: dict[TrainTask, type[ModelSpec]] = {
    "language-model": LanguageModelSpec,
    "translate": TranslatorSpec,
    "classify": ClassifierSpec,
    "tag": TaggerSpec,
}


def make_lesson(
    task: TrainTask,
    paths: Sequence[Path],
    *,
    held_out: Sequence[Path] = (),
    choices: Choices | None = None,
    options: TrainOptions | None = None,
) -> Lesson:
    """Return what a run can learn from files.

    choices  fields of the task's spec, and of `DEFAULTS`; whatever is left out has the default there, or the spec's
    """
    if task not in _SPECS:
        raise TrainingError(f"task must be one of {', '.join(_SPECS)}, got {task!r}")
    given = choices or {}
    known = {field.name for field in dataclasses.fields(_SPECS[task])} | DEFAULTS[task].keys()
    strangers = sorted(given.keys() - known)
    if strangers:
        raise TrainingError(f"task {task!r} has no {', '.join(strangers)}: leave that out, or choose another task")
    return _MAKERS[task](paths, held_out, {**DEFAULTS[task], **given}, options or TrainOptions())


def _language_model(paths: Sequence[Path], held_out: Sequence[Path], choices: Choices, options: TrainOptions) -> Lesson:
    texts = read_corpus(paths, held_out=held_out, lines=choices["lines"])
    tokenizer = Tokenizer.train(choices["tokenizer"], texts.train, vocab_size=choices["vocab_size"])
    spec = LanguageModelSpec(**_fields(LanguageModelSpec, choices, vocab_size=tokenizer.vocab_size))
    return LanguageLesson(spec, tokenizer, texts, options)


def _translate(paths: Sequence[Path], held_out: Sequence[Path], choices: Choices, options: TrainOptions) -> Lesson:
    examples = read_pairs(paths, held_out)
    kinds = choices["tokenizer"], choices["target_tokenizer"] or choices["tokenizer"]
    sizes = choices["vocab_size"], choices["target_vocab_size"] or choices["vocab_size"]
    source, target = (
        Tokenizer.train(kind, texts, vocab_size=size)
        for kind, texts, size in zip(kinds, zip(*examples.train, strict=True), sizes, strict=True)
    )
    vocab_sizes = {"vocab_size": source.vocab_size, "target_vocab_size": target.vocab_size}
    spec = TranslatorSpec(**_fields(TranslatorSpec, choices, **vocab_sizes))
    lesson: Lesson = _with_metrics("translation").TranslationLesson(spec, source, target, examples, options)
    return lesson


def _classify(paths: Sequence[Path], held_out: Sequence[Path], choices: Choices, options: TrainOptions) -> Lesson:
    examples = read_labelled(paths, held_out)
    tokenizer = Tokenizer.train(
        choices["tokenizer"], [text for text, _ in examples.train], vocab_size=choices["vocab_size"]
    )
    labels = tuple(sorted({label for _, label in examples.train}))
    spec = ClassifierSpec(**_fields(ClassifierSpec, choices, vocab_size=tokenizer.vocab_size, labels=labels))
    lesson: Lesson = _with_metrics("classification").ClassificationLesson(spec, tokenizer, examples, options)
    return lesson


def _tag(paths: Sequence[Path], held_out: Sequence[Path], choices: Choices, options: TrainOptions) -> Lesson:
    if choices["tokenizer"] != "whitespace":
        raise TrainingError(f"a tagger's words stand between white space: leave out tokenizer {choices['tokenizer']!r}")
    examples = read_columns(paths, held_out, label_column=choices["label_column"])
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
    lesson: Lesson = _with_metrics("tagging").TaggingLesson(spec, tokenizer, characters, examples, options)
    return lesson


_MAKERS: dict[TrainTask, Callable[[Sequence[Path], Sequence[Path], Choices, TrainOptions], Lesson]] = {
    "language-model": _language_model,
    "translate": _translate,
    "classify": _classify,
    "tag": _tag,
}


def _fields(kind: type[ModelSpec], choices: Choices, **found: Any) -> dict[str, Any]:
    """Return the choices that describe the network, with what the examples decide."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {**{name: value for name, value in choices.items() if name in names}, **found}


def _with_metrics(module: str) -> ModuleType:
    """Import a lesson that is judged by other projects' metrics, or say how to get them."""
    try:
        return import_module(f"rnn_edge.training.{module}")
    except ImportError as error:
        raise TrainingError(
            f"this task is judged with sacrebleu and seqeval ({error}): pip install 'rnn-edge[cpu,train]'"
        ) from error

"""Examples that do not depend on one another: read from plain files, shuffled, and put into batches of like length."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_edge.errors import TextError, TrainingError
from rnn_edge.modules.encoder import NOTHING
from rnn_edge.text import Tokenizer
from rnn_edge.training.data import describe_files, read_text
from rnn_edge.training.workers import workers

__all__ = ["Batches", "Examples", "check_labels", "forget_words", "pad", "read_columns", "read_labelled", "read_pairs"]

_HELD_OUT_EVERY = 20  # of examples without a held-out file: they are often sorted by label


@dataclass(frozen=True)
class Examples:
    """Pairs of what is read and what is wanted.

    translate  a source and a target
    classify   a text and a label
    tag        words and their labels, each joined by blanks
    """

    train: tuple[tuple[str, str], ...]
    held_out: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, int], ...] = ()  # base name and bytes

    @property
    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint's history says of them."""
        return {**describe_files(self.files), "examples": len(self.train), "held_out_examples": len(self.held_out)}

    def fingerprint(self) -> str:
        """Return a hash of all examples in their order."""
        return hashlib.sha256(json.dumps([self.train, self.held_out]).encode()).hexdigest()


def read_pairs(paths: Sequence[Path], held_out: Sequence[Path] = ()) -> Examples:
    """Read sources and targets: from one file, with a tab between them, or from two, line by line."""
    return _examples(paths, held_out, _pairs_of)


def read_labelled(paths: Sequence[Path], held_out: Sequence[Path] = ()) -> Examples:
    """Read a label, a tab and a text a line; texts and labels come back in that order."""

    def labelled(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
        for path in paths:
            for label, text in _split_lines(path, "a label, a tab and a text"):
                yield text, label

    return _examples(paths, held_out, labelled)


def read_columns(paths: Sequence[Path], held_out: Sequence[Path] = (), *, label_column: int | None = None) -> Examples:
    """Read CoNLL columns: a word a line and blank lines between sentences.

    label_column  of a word's label, counted from 1; the last by default
    """

    def sentences(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
        for path in paths:
            lines = enumerate(read_text(path).splitlines(), start=1)
            for blank, group in groupby(lines, key=lambda line: not line[1].strip()):
                words = [] if blank else [_word_and_label(path, *line, label_column) for line in group]
                if kept := [word for word in words if word[0] != "-DOCSTART-"]:
                    yield " ".join(word for word, _ in kept), " ".join(label for _, label in kept)

    return _examples(paths, held_out, sentences)


def _word_and_label(path: Path, number: int, line: str, label_column: int | None) -> tuple[str, str]:
    columns = line.split("\t") if "\t" in line else line.split()
    column = len(columns) if label_column is None else label_column
    if not 2 <= column <= len(columns):
        raise TextError(
            f"line {number} of {path} has {len(columns)} columns: wanted a word and its label"
            + ("" if label_column is None else f" in column {label_column}")
        )
    word, label = columns[0].strip(), columns[column - 1].strip()
    if len(word.split()) != 1 or len(label.split()) != 1:
        raise TextError(f"line {number} of {path} has {word!r} and {label!r}: wanted a word and a label without blanks")
    return word, label


def _pairs_of(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    if len(paths) == 1:
        yield from _split_lines(paths[0], "a source, a tab and a target")
        return
    if len(paths) != 2:
        raise TrainingError(f"pairs come from one file with tabs, or from two aligned files; got {len(paths)} files")
    sources, targets = (read_text(path).splitlines() for path in paths)
    if len(sources) != len(targets):
        raise TrainingError(
            f"{paths[0]} has {len(sources)} lines and {paths[1]} has {len(targets)}: line by line they must be pairs"
        )
    yield from ((source, target) for source, target in zip(sources, targets, strict=True) if source and target)


def _split_lines(path: Path, wanted: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            first, tab, second = line.removesuffix("\r").partition("\t")
            if not tab or not first.strip() or not second.strip():
                raise TextError(f"line {number} of {path} is {line!r:.60}: wanted {wanted}")
            yield first.strip(), second.strip()


def _examples(
    paths: Sequence[Path], held_out: Sequence[Path], read: Callable[[Sequence[Path]], Iterator[tuple[str, str]]]
) -> Examples:
    """Read all, and hold every twentieth out where no file is."""
    learnt, judged = tuple(read(paths)), tuple(read(held_out)) if held_out else ()
    if not judged:
        learnt, judged = (
            tuple(each for index, each in enumerate(learnt) if (index % _HELD_OUT_EVERY == 0) == judging)
            for judging in (False, True)
        )
    if not learnt or not judged:
        raise TrainingError("there are too few examples to learn from and hold some out: add more")
    return Examples(learnt, judged, tuple((path.name, path.stat().st_size) for path in [*paths, *held_out]))


class Batches:
    """Which examples each step learns from: every epoch all of them, in another order, shared among the workers.

    Examples of one length go together, so that nothing is padded and fused kernels can run; what is left over of each
    length goes with its neighbours.
    """

    def __init__(self, lengths: Sequence[tuple[int, ...]], units: Sequence[int], *, batch_size: int, seed: int) -> None:
        self._workers = workers()
        self._lengths = lengths  # of all that an example has; the first counts most
        self._units = units  # how many things an example has that a loss is the mean over
        self._batch_size = batch_size * self._workers.count
        self._seed = seed
        self._epoch, self._batches = -1, self._shuffled(0)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, step: int) -> list[int]:
        """Return this worker's examples of a step, counted over all epochs."""
        return self._workers.own(self._batch(step))

    def weight(self, step: int) -> float:
        """Return by what this worker's mean loss is multiplied to make the workers' mean that of the whole batch."""
        return self._workers.weight([self._units[index] for index in self._batch(step)])

    def _batch(self, step: int) -> list[int]:
        epoch, index = divmod(step, len(self))
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[index]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        order = torch.randperm(len(self._lengths), generator=generator).tolist()
        order.sort(key=lambda index: self._lengths[index])
        batches, left = [], []
        for _, group in groupby(order, key=lambda index: self._lengths[index][0]):
            same = list(group)
            whole = len(same) - len(same) % self._batch_size
            batches += [same[first : first + self._batch_size] for first in range(0, whole, self._batch_size)]
            left += same[whole:]
        batches += [left[first : first + self._batch_size] for first in range(0, len(left), self._batch_size)]
        return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return rows of any lengths, int64 (rows, longest), filled with -1 behind their ends."""
    padded = torch.full((len(rows), max(map(len, rows))), NOTHING)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=torch.int64)
    return padded


def check_labels(labels: Sequence[str], used: Iterable[str]) -> None:
    """Refuse examples with labels that a network does not have."""
    strangers = sorted(set(used) - set(labels))
    if strangers:
        raise TrainingError(f"the network has no label {', '.join(map(repr, strangers[:5]))}: give it all that occur")


def forget_words(tokens: Tensor, tokenizer: Tokenizer, share: float) -> Tensor:
    """Return tokens, int64 (batch, time), of which a share at random is the unknown word, to learn to do without."""
    if not share or tokenizer.unknown_id is None:
        return tokens
    forgotten = (torch.rand(tokens.shape) < share) & (tokens != NOTHING)
    return tokens.masked_fill(forgotten, tokenizer.unknown_id)

"""Text files to contiguous rows of tokens: what a recurrent language model reads, in the order it reads it.

It knows files, documents and rows; it must not know networks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_edge.errors import TextError, TrainingError
from rnn_edge.text import Tokenizer

__all__ = ["Corpus", "Rows", "describe_files", "read_corpus", "read_text", "token_rows", "token_stream"]

_HELD_OUT_SHARE = 0.05
_KEPT_NAMES = 20  # of files: a corpus may have thousands, and every bundle would carry them
_SLACK_SHARE = 0.05  # how far the cut may move for a document to stay whole, or a line


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents to learn from, documents to judge by, and the files that they came from."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    files: tuple[tuple[str, int], ...] = ()  # base name and bytes

    def fingerprint(self) -> str:
        """Return a hash of all documents: equal for equal text in equal order."""
        digest = hashlib.sha256()
        for documents in (self.train, self.held_out):
            digest.update(b"%d;" % len(documents))
            for document in documents:
                content = document.encode()
                digest.update(b"%d;" % len(content))
                digest.update(content)
        return digest.hexdigest()


@dataclass(frozen=True)
class Rows:
    """A token stream cut into equal rows that are read side by side: every token, and the one that follows it."""

    inputs: Tensor  # int64 (batch, length)
    targets: Tensor  # int64 (batch, length)

    @property
    def batch(self) -> int:
        """How many rows there are."""
        return self.inputs.shape[0]

    def windows(self, longest: int) -> list[tuple[Tensor, Tensor]]:
        """Cut all rows into windows, int64 (batch, time), in order and of nearly equal length."""
        length = self.inputs.shape[1]
        count = -(-length // longest)
        time = -(-length // count)  # so that no last window is a stump
        return list(zip(torch.split(self.inputs, time, 1), torch.split(self.targets, time, 1), strict=True))


def read_corpus(paths: Sequence[Path], *, held_out: Sequence[Path] = (), lines: bool = False) -> Corpus:
    """Read UTF-8 files as they are, line ends included.

    Each file is a document, or with `lines` each line that is not blank. Without held-out files the last 5 % of the
    text are held out: whole documents where one ends near there, otherwise from a line end on.
    """
    for path in held_out:
        if path.exists() and any(other.exists() and path.samefile(other) for other in paths):
            raise TrainingError(
                f"{path} is both learnt from and held out, so it would tell nothing: leave it out of one of them"
            )
    documents = [document for path in paths for document in _documents(path, lines=lines)]
    judged = [document for path in held_out for document in _documents(path, lines=lines)]
    if not documents:
        raise TrainingError("there is no text to learn from: name at least one file")
    if not judged:
        documents, judged = _hold_out(documents)
    files = tuple((path.name, path.stat().st_size) for path in [*paths, *held_out])
    return Corpus(train=tuple(documents), held_out=tuple(judged), files=files)


def _documents(path: Path, *, lines: bool) -> list[str]:
    text = read_text(path)
    if not lines:
        return [text]
    found = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    if not found:
        raise TextError(f"{path} holds blank lines only: name a file with text")
    return found


def read_text(path: Path) -> str:
    """Return a UTF-8 file's text as it is, line ends included; refuse one that is empty or something else."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path} is not UTF-8: {error.reason} at byte {error.start}; "
            "convert it, for example with: iconv -f LATIN1 -t UTF-8"
        ) from error
    text = text.removeprefix("\ufeff")  # a byte order mark is not text
    if not text:
        raise TextError(f"{path} is empty: name a file with text")
    return text


def _hold_out(documents: list[str]) -> tuple[list[str], list[str]]:
    """Cut documents in two near 95 % of the text: between two of them, or at a line end, or else right there."""
    text = "".join(documents)
    if len(text) < 2:
        raise TrainingError("the corpus is a single character, too little to learn from and hold some out: add text")
    wanted = max(1, int(len(text) * (1 - _HELD_OUT_SHARE)))
    first = max(1, int(wanted - len(text) * _SLACK_SHARE))
    ends = list(accumulate(map(len, documents)))[:-1]
    near = [end for end in ends if first <= end <= 2 * wanted - first]
    if near:
        return _cut(documents, min(near, key=lambda end: abs(end - wanted)))
    line_end = text.rfind("\n", first - 1, wanted) + 1
    return _cut(documents, line_end or wanted)


def _cut(documents: list[str], position: int) -> tuple[list[str], list[str]]:
    """Part documents after so many characters; at most one of them is cut."""
    before, after = [], []
    start = 0
    for document in documents:
        inside = max(0, position - start)
        before.append(document[:inside])
        after.append(document[inside:])
        start += len(document)
    return [part for part in before if part], [part for part in after if part]


def describe_files(files: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Return what a checkpoint's history says of the files that were learnt from."""
    return {
        "files": len(files),
        "bytes": sum(size for _, size in files),
        "names": [name for name, _ in files[:_KEPT_NAMES]],
    }


def token_stream(tokenizer: Tokenizer, documents: Sequence[str]) -> Tensor:
    """Return all documents as one stream, int64 (tokens,): the end token stands before each of them.

    So the model learns what a text starts with, and that the end of one is the start of the next.
    """
    start = [] if tokenizer.end_id is None else [tokenizer.end_id]
    parts = [[*start, *tokenizer.encode(document)] for document in documents]
    return torch.cat([torch.tensor(part, dtype=torch.int64) for part in parts])


def token_rows(stream: Tensor, *, batch: int, shortest: int = 1) -> Rows:
    """Cut a stream into at most `batch` equal rows: fewer if they would be shorter than `shortest` tokens."""
    pairs = len(stream) - 1  # a token and its successor
    if pairs < 1:
        raise TrainingError("the text is a single token, and nothing follows it to learn: add text")
    rows = max(1, min(batch, pairs // shortest))
    length = pairs // rows
    inputs = stream[: rows * length].view(rows, length)
    targets = stream[1 : rows * length + 1].view(rows, length)
    return Rows(inputs, targets)

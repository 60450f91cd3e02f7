"""A text that is being typed: typing, deleting, undoing, forking, and saving it for another process.

Where a session stands is one immutable value, `Typed`; everything else is a short memory of earlier ones. What it gives
is, to the bit, what a fresh session of the same text gives, only sooner.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_edge.errors import SessionError, TextError
from rnn_edge.runtimes.completing import Completion
from rnn_edge.runtimes.decoding import Position
from rnn_edge.runtimes.lexicon import Lexicon
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.suggesting import Suggestion, SuggestOptions, enough, keep_places

if TYPE_CHECKING:
    from rnn_edge.runtimes.language_model import LanguageModel

__all__ = ["Session", "Typed", "load_session"]

_STATES_KEPT = 64  # to go back to without computing
_DEFAULTS = GenerateOptions()
_USUAL_SUGGESTIONS = SuggestOptions()
_MAGIC = b"rnn-edge session\n"
_FORMAT = 1
_LENGTH_BYTES = 8
_HASH_BYTES = 32  # of SHA-256


@dataclass(frozen=True, slots=True)
class Typed:
    """A text that is being typed, and how far it was read.

    pending   its last word, not read yet
    position  after everything before that; nothing was read of a model without end token at first
    """

    text: str
    pending: str
    position: Position | None


@dataclass(frozen=True, slots=True)
class _Edit:
    """What takes a text back to what it was: its first `kept` characters, and then those that were removed."""

    kept: int
    removed: str
    before: _Edit | None


class Session:
    """A text that is being typed: each settled token is read once. For one thread; forks are independent."""

    def __init__(
        self, model: LanguageModel, typed: Typed, recent: tuple[Typed, ...] = (), edits: _Edit | None = None
    ) -> None:
        self._model = model
        self._typed = typed
        self._recent = recent  # earlier ones, newest last
        self._edits = edits  # all of them, newest first
        self._shown: tuple[str, ...] = ()  # the texts that were suggested last

    @property
    def text(self) -> str:
        """Return everything typed so far."""
        return self._typed.text

    def type(self, text: str) -> None:
        """Add what was typed; a text that cannot be read leaves the session as it was."""
        self._go_to(self._model._type(self._typed, text), _Edit(len(self.text), "", self._edits))

    def backspace(self, count: int = 1) -> None:
        """Delete the last characters; nothing is computed where a recent state stood there."""
        if type(count) is not int or not 0 < count <= len(self.text):
            raise TextError(f"there are {len(self.text)} characters to delete, and {count!r} were to be: delete fewer")
        kept = len(self.text) - count
        self._go_to(self._at(self.text[:kept]), _Edit(kept, self.text[kept:], self._edits))

    def accept(self, completion: Completion | Suggestion) -> None:
        """Type the text of a completion or of a suggestion."""
        self.type(completion.text)

    def undo(self) -> bool:
        """Take back the last `type`, `backspace` or `accept` since the session began; return whether there was one."""
        if self._edits is None:
            return False
        self._typed = self._at(self.text[: self._edits.kept] + self._edits.removed)
        self._recent, self._edits = self._recent[:-1], self._edits.before
        return True

    def fork(self) -> Session:
        """Return a second session of the same text, at no cost: both share what was read."""
        other = Session(self._model, self._typed, self._recent, self._edits)
        other._shown = self._shown
        return other

    def complete(self, options: GenerateOptions = _DEFAULTS) -> list[Completion]:
        """Return what `LanguageModel.complete` returns for the whole text."""
        return self._model._complete_typed(self._typed, options)

    def stream(self, options: GenerateOptions = _DEFAULTS) -> Iterator[str]:
        """Return what `LanguageModel.stream` returns for the whole text."""
        return self._model._stream_typed(self._typed, options)

    def suggest(
        self,
        options: SuggestOptions = _USUAL_SUGGESTIONS,
        *,
        lexicon: Lexicon | None = None,
        user_words: Lexicon | None = None,
    ) -> list[Suggestion]:
        """Return what `LanguageModel.suggest` returns for the whole text, without flicker.

        What was suggested last keeps its place while it fits what is typed, unless another is better by
        `options.margin`.
        """
        found = self._model._suggest_typed(self._typed, options, lexicon, user_words)
        suggestions = keep_places(self._shown, self.text, enough(found, self._shown, self.text, options), options)
        self._shown = tuple(self.text + each.text for each in suggestions)
        return suggestions

    def save(self) -> bytes:
        """Return what `LanguageModel.load_session` goes on from, in another process too, with the same bits."""
        position = self._typed.position
        header = {
            "format": _FORMAT,
            "model": self._model.fingerprint,
            "text": self._typed.text,
            "edits": [[edit.kept, edit.removed] for edit in _newest_first(self._edits)],
        }
        arrays = () if position is None else (position.logits, *position.state)
        encoded = json.dumps(header).encode()
        content = b"".join(
            [_MAGIC, len(encoded).to_bytes(_LENGTH_BYTES, "little"), encoded]
            + [array.astype("<f4").tobytes() for array in arrays]
        )
        return content + hashlib.sha256(content).digest()

    def _go_to(self, typed: Typed, edit: _Edit) -> None:
        self._recent = (*self._recent[1 - _STATES_KEPT :], self._typed)
        self._typed, self._edits = typed, edit

    def _at(self, text: str) -> Typed:
        """Return where a session of another text stands, read on from the nearest recent state."""
        nearest = self._model._nothing
        for typed in reversed(self._recent):
            if len(typed.text) > len(nearest.text) and text.startswith(typed.text):
                nearest = typed
        return self._model._type(nearest, text[len(nearest.text) :])


def load_session(model: LanguageModel, data: bytes) -> Session:
    """Return the session that `Session.save` saved; refuse what is damaged, or comes from another model."""
    if not isinstance(data, bytes) or not data.startswith(_MAGIC):
        raise SessionError("this is no saved session: wanted the bytes that Session.save returned")
    content, digest = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
    start = len(_MAGIC) + _LENGTH_BYTES
    end = start + int.from_bytes(content[len(_MAGIC) : start], "little")
    try:
        _require(hashlib.sha256(content).digest() == digest, "it was changed or cut off")
        header = json.loads(content[start:end])
        _require(header["format"] == _FORMAT, f"its format is {header['format']!r}, and this rnn-edge reads {_FORMAT}")
        _require(header["model"] == model.fingerprint, "it is of another model, whose states mean something else")
        typed = _typed_from(model, header["text"], content[end:])
        return Session(model, typed, edits=_edits_from(header["edits"], len(typed.text)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SessionError(f"this saved session cannot be used: {error}; start a new one") from error


def _typed_from(model: LanguageModel, text: Any, arrays: bytes) -> Typed:
    """Return the text with its position, whose arrays follow one another as float32."""
    tokens, pending = model._settle(text)
    if not tokens:
        _require(not arrays, "it has a state though nothing was read")
        return Typed(text, pending, None)
    shapes = [(1, model.vocab_size), *model.state_shapes]
    numbers = np.frombuffer(arrays, "<f4")
    sizes = [int(np.prod(shape)) for shape in shapes]
    _require(len(numbers) == sum(sizes), f"its state has {len(numbers)} numbers, wanted {sum(sizes)}")
    _require(bool(np.isfinite(numbers).all()), "its state has numbers that are not finite")
    parts = np.split(numbers.astype(np.float32), np.cumsum(sizes)[:-1])
    logits, *state = (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
    return Typed(text, pending, Position(logits, tuple(state)))


def _edits_from(values: Any, length: int) -> _Edit | None:
    """Return the edits of a text of a length; each must fit the text that the next one left."""
    for kept, removed in values:
        _require(
            type(kept) is int and 0 <= kept <= length and isinstance(removed, str), "its edits do not fit its text"
        )
        length = kept + len(removed)
    edits: _Edit | None = None
    for kept, removed in reversed(values):
        edits = _Edit(kept, removed, edits)
    return edits


def _newest_first(edit: _Edit | None) -> Iterator[_Edit]:
    while edit is not None:
        yield edit
        edit = edit.before


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)

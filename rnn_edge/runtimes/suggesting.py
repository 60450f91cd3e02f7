"""Suggestions for the word under the cursor: the most probable ways to finish it, found by best-first search.

A path of tokens must say all that was typed and is not read yet, wherever its tokens begin and end, and then go on to
the end of a word. Log-probs only fall along a path, so whatever lies at the head of the queue cannot be overtaken: the
suggestions come out in their exact order, one after the other. This module keeps no state.
"""

from __future__ import annotations

import math
import unicodedata
from codecs import utf_8_decode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count
from typing import TypeAlias

import numpy as np

from rnn_edge.errors import OptionsError
from rnn_edge.runtimes.arrays import Doubles, Floats, Ids, State, join_states
from rnn_edge.runtimes.decoding import Position, StepModel, step
from rnn_edge.runtimes.lexicon import Lexicon
from rnn_edge.runtimes.scores import log_totals, powers_of
from rnn_edge.runtimes.token_table import TokenTable
from rnn_edge.text import Tokenizer

__all__ = ["SuggestOptions", "Suggester", "Suggestion", "enough", "is_of_word", "keep_places"]

_READ_AT_ONCE = 4  # paths; each costs a row of one step of the model
_SORTED_AT_ONCE = 16  # children of a path; most are never looked at
_OUTCOMES_KEPT = 128
_FOLLOWED_KEPT = 256  # tokens of each
_LEAST_MASS = 1e-30  # of powers in float32; what is less has lost digits
_RANGES = {"num_suggestions": (1, 100), "num_words": (0, 20), "max_reads": (1, 1_000_000)}


@dataclass(frozen=True, kw_only=True)
class SuggestOptions:
    """What to suggest."""

    num_suggestions: int = 3
    num_words: int = 1  # 1 finishes the word, more go on to a phrase; 0 finishes the token, which reads nothing further
    joiners: str = "_'"  # belong to words, as letters, digits and their marks do
    margin: float = 0.5  # by how much log-prob a suggestion must be better to take another's place
    user_weight: float = 0.1  # share of probability that user words have together
    max_reads: int = 256  # paths that are read before the search settles for what it has seen

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be a whole number from {low} to {high}, got {getattr(self, name)!r}"
            for name, (low, high) in _RANGES.items()
            if type(getattr(self, name)) is not int or not low <= getattr(self, name) <= high
        ]
        if type(self.margin) not in (int, float) or not 0 <= self.margin < math.inf:
            problems.append(f"margin must be a number from 0, got {self.margin!r}")
        if type(self.user_weight) not in (int, float) or not 0 < self.user_weight < 1:
            problems.append(f"user_weight must be a number between 0 and 1, got {self.user_weight!r}")
        if not isinstance(self.joiners, str):
            problems.append(f"joiners must be a text, got {self.joiners!r}")
        if problems:
            raise OptionsError("these options cannot be used: " + "; ".join(problems))


@dataclass(frozen=True)
class Suggestion:
    """How the text under the cursor may go on.

    text      what comes after the text as typed: at least one character, up to the end of a word
    log_prob  of this text and the end of the word behind it, given all that was read; of the likeliest spelling in
              tokens. Of a user word: its share among the user words that may stand here
    exact     whether nothing more probable can have been missed
    """

    text: str
    log_prob: float
    exact: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a text stands between words."""

    in_word: bool
    words_left: int  # to be ended; 0 where only a token is wanted


@dataclass(frozen=True, slots=True)
class _Opening:
    """A token that leaves the end open: the text it says, the bytes of a character it begins, and where it leads."""

    text: str
    partial: bytes
    left: bytes
    place: _Place


@dataclass(frozen=True, slots=True)
class _Ending:
    """Tokens that end the suggestion in the same way: what they still add to it, and their ids, at least two.

    others  the ids of all other tokens, where those are fewer
    """

    text: str
    ids: Ids
    others: Ids | None

    def log_share(self, powers: Floats | Doubles, total: float, logits: Floats) -> float:
        """Return the log-prob of these tokens together; of the scores' powers, float32 (vocab,), and their sum."""
        mass = 0.0 if self.others is None else total - float(powers[self.others].sum())
        if mass < total / 2:  # a difference of almost equals would have no digits left
            mass = float(powers[self.ids].sum())
        if mass >= _LEAST_MASS:
            return math.log(mass / total)
        mine = logits[self.ids]
        return float(log_totals(mine) - log_totals(logits)) if mine.max() > -math.inf else -math.inf


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """What each token comes to.

    together  endings that several tokens share
    ids       tokens that come to something by themselves
    follow    tells what one of these comes to, an end or an opening: few are asked for, and all would take megabytes
    """

    together: tuple[_Ending, ...]
    ids: Ids
    follow: Callable[[int], str | _Opening | None]


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A path that is open.

    left   what was typed and is not covered yet
    state  before its last token; each float32 (layers, batch=1, width)
    """

    log_prob: float
    text: str
    partial: bytes
    left: bytes
    place: _Place
    token: int
    state: State


class _Siblings:
    """Children of a path that were not looked at yet, best first."""

    def __init__(self, logits: Floats, gained: float, outcomes: _Outcomes, text: str, state: State) -> None:
        """Begin with all children: `logits` are those of `outcomes.ids`; with `gained`, they are log-probs."""
        self.outcomes, self.text, self.state = outcomes, text, state
        self._logits, self._gained = logits, gained
        self._next: list[int] = []  # of `outcomes.ids`, best last
        self._rest = np.arange(len(logits))

    def best(self) -> float:
        """Return the best one's log-prob, or -inf where there is none."""
        if self._next:
            return self._gained + float(self._logits[self._next[-1]])
        return self._gained + float(self._logits[self._rest].max(initial=-math.inf))

    def take(self) -> int:
        """Take the best one, by its id; there is one."""
        if not self._next:
            some = self._rest
            if len(some) > _SORTED_AT_ONCE:
                some = some[np.argpartition(-self._logits[some], _SORTED_AT_ONCE)]
            some, self._rest = some[:_SORTED_AT_ONCE], some[_SORTED_AT_ONCE:]
            self._next = some[np.argsort(-self._logits[some], kind="stable")][::-1].tolist()
        return int(self.outcomes.ids[self._next.pop()])


_Entry: TypeAlias = "tuple[float, int, str | _Node | _Siblings]"
"""Of the queue: log-prob negated, a number that keeps the order of equals, and a suggestion, a path, or more paths."""


class Suggester:
    """Finishes words. Immutable but for its memory of what tokens come to."""

    def __init__(self, model: StepModel, tokenizer: Tokenizer, table: TokenTable) -> None:
        self._model = model
        self._table = table
        # What these say is not known; but they begin something new.
        self._others = [token for token in (tokenizer.end_id, tokenizer.unknown_id) if token is not None]
        self._outcomes = lru_cache(_OUTCOMES_KEPT)(self._work_out)

    def suggest(
        self,
        position: Position,
        text: str,
        pending: str,
        options: SuggestOptions,
        *,
        lexicon: Lexicon | None = None,
        user_words: Lexicon | None = None,
    ) -> Iterator[Suggestion]:
        """Yield suggestions, most probable first, each text once; as many as there are.

        position    one row, after what is settled of the text
        text        all that was typed
        pending     its end that was not read yet
        lexicon     suggest only these words
        user_words  suggest these too
        """
        search = _Search(self._model, self._outcomes, options, lexicon, typed_word=_last_word(text, options.joiners))
        if user_words is not None and options.num_words <= 1:
            search.add_user_words(
                user_words, settled=len(search.typed_word) - len(_last_word(pending, options.joiners))
            )
        place = _Place(bool(search.typed_word), options.num_words)
        search.expand(position, 0, "", b"", pending.encode(), place)
        return search.run()

    def _work_out(self, place: _Place, partial: bytes, left: bytes, joiners: str) -> _Outcomes:
        """Return what every token comes to at a place, behind a part of a character or over what was typed."""
        token_bytes = self._table.token_bytes
        ends: dict[str, list[int]] = {}
        open_ended: list[int] = []
        for token in self._table.starting_with(left).tolist():
            outcome = _follow(partial + token_bytes[token][len(left) :], place, joiners)
            if isinstance(outcome, str):
                ends.setdefault(outcome, []).append(token)
            elif outcome is not None:
                open_ended.append(token)
        open_ended += self._table.within(left)
        if not left and not partial:
            ends.setdefault("", []).extend(self._others)
        alone = [tokens[0] for tokens in ends.values() if len(tokens) == 1]
        return _Outcomes(
            tuple(self._ending(text, tokens) for text, tokens in ends.items() if len(tokens) > 1),
            np.array([*open_ended, *alone], dtype=np.int64),
            lru_cache(_FOLLOWED_KEPT)(lambda token: self._follow(token, place, partial, left, joiners)),
        )

    def _follow(self, token: int, place: _Place, partial: bytes, left: bytes, joiners: str) -> str | _Opening | None:
        """Return what one token comes to, over all that was typed or a part of it."""
        if token in self._others:
            return ""
        said = self._table.token_bytes[token]
        if len(said) < len(left):
            return _Opening("", b"", left[len(said) :], place)
        return _follow(partial + said[len(left) :], place, joiners)

    def _ending(self, text: str, tokens: list[int]) -> _Ending:
        ids, vocab_size = np.array(tokens, dtype=np.int64), len(self._table.token_bytes)
        fewer = 2 * len(ids) > vocab_size
        return _Ending(text, ids, np.delete(np.arange(vocab_size), ids) if fewer else None)


class _Search:
    """One search, from its first token to its last suggestion."""

    def __init__(
        self,
        model: StepModel,
        outcomes: Callable[[_Place, bytes, bytes, str], _Outcomes],
        options: SuggestOptions,
        lexicon: Lexicon | None,
        *,
        typed_word: str,
    ) -> None:
        self.typed_word = typed_word
        self._model = model
        self._outcomes = outcomes
        self._options = options
        self._lexicon = lexicon
        self._queue: list[_Entry] = []
        self._numbers = count()
        self._reads_left = options.max_reads

    def add_user_words(self, words: Lexicon, *, settled: int) -> None:
        """Add the user's words that begin with what was typed; the model has read the first `settled` characters."""
        weight = self._options.user_weight
        total = words.count_of(self.typed_word[:settled])
        for word, times in words.starting_with(self.typed_word):
            share = math.log(times / total) + math.log(weight / (1 - weight))
            self._push(share, word[len(self.typed_word) :])

    def run(self) -> Iterator[Suggestion]:
        """Yield what comes to the head of the queue, reading on where it is open."""
        told = {""}
        while self._queue:
            negated, _, entry = heappop(self._queue)
            if isinstance(entry, str):
                if entry not in told:
                    told.add(entry)
                    yield Suggestion(entry, -negated, exact=self._reads_left >= 0)
            elif isinstance(entry, _Siblings):
                self._look_at(entry, -negated)
            else:
                self._read([entry, *self._next_nodes()])

    def expand(
        self, position: Position, row: int, text: str, partial: bytes, left: bytes, place: _Place, before: float = 0.0
    ) -> None:
        """Queue what may follow a path that stands at a row of a position, and whose log-prob is `before`."""
        logits, state = position.logits[row], tuple(part[:, row : row + 1] for part in position.state)
        highest, powers = powers_of(logits)
        total = float(powers.sum())
        outcomes = self._outcomes(place, partial, left, self._options.joiners)
        for ending in outcomes.together:
            self._end(text + ending.text, before + ending.log_share(powers, total, logits))
        if len(outcomes.ids):
            gained = before - float(highest[0]) - math.log(total)
            self._queue_best(_Siblings(logits[outcomes.ids], gained, outcomes, text, state))

    def _end(self, text: str, log_prob: float) -> None:
        """Queue a suggestion."""
        if self._fits(text, ended=True):
            self._push(log_prob, _trimmed(text, self._options.joiners))

    def _queue_best(self, siblings: _Siblings) -> None:
        """Queue what is left of some children by the best of them."""
        self._push(siblings.best(), siblings)

    def _look_at(self, siblings: _Siblings, log_prob: float) -> None:
        """Queue the best child, whose log-prob is known, and the others behind it."""
        token = siblings.take()
        outcome = siblings.outcomes.follow(token)
        assert outcome is not None  # those are not among the children
        if isinstance(outcome, str):
            self._end(siblings.text + outcome, log_prob)
        elif self._fits(text := siblings.text + outcome.text, ended=False):
            node = _Node(log_prob, text, outcome.partial, outcome.left, outcome.place, token, siblings.state)
            self._push(log_prob, node)
        self._queue_best(siblings)

    def _next_nodes(self) -> Iterator[_Node]:
        """Take the open paths at the head of the queue, as many as are read at once."""
        wanted = _READ_AT_ONCE - 1
        while wanted and self._queue and not isinstance(self._queue[0][2], str):
            negated, _, entry = heappop(self._queue)
            if isinstance(entry, _Siblings):
                self._look_at(entry, -negated)
            else:
                wanted -= 1
                yield entry  # type: ignore[misc]

    def _read(self, nodes: Sequence[_Node]) -> None:
        """Read the last token of some paths, and queue what may follow; beyond the limit, give them up."""
        self._reads_left -= len(nodes)
        if self._reads_left < 0:
            return
        position = step(self._model, [node.token for node in nodes], join_states(node.state for node in nodes))
        for row, node in enumerate(nodes):
            self.expand(position, row, node.text, node.partial, node.left, node.place, node.log_prob)

    def _fits(self, text: str, *, ended: bool) -> bool:
        """Tell whether all words of a suggestion are in the lexicon, or its last one may yet be."""
        if self._lexicon is None:
            return True
        *words, last = _words(self.typed_word + text, self._options.joiners)
        fits = self._lexicon.has(last) if ended else self._lexicon.has_prefix(last)
        return all(map(self._lexicon.has, filter(None, words))) and (fits or not last)

    def _push(self, log_prob: float, entry: str | _Node | _Siblings) -> None:
        if log_prob > -math.inf:
            heappush(self._queue, (-log_prob, next(self._numbers), entry))


def enough(found: Iterator[Suggestion], shown: Sequence[str], typed: str, options: SuggestOptions) -> list[Suggestion]:
    """Return as many suggestions as `keep_places` needs: the best, and what is shown and close to them."""
    awaited = {text for text in shown if text.startswith(typed) and text != typed}
    taken: list[Suggestion] = []
    for each in found:
        taken.append(each)
        awaited.discard(typed + each.text)
        if len(taken) >= options.num_suggestions:
            worst = taken[options.num_suggestions - 1].log_prob
            if not awaited or each.log_prob < worst - options.margin:
                break
    return taken


def keep_places(
    shown: Sequence[str], typed: str, found: Sequence[Suggestion], options: SuggestOptions
) -> list[Suggestion]:
    """Return suggestions to show, where those shown before keep their place unless a better one overtakes them.

    shown  whole texts, in their places: what had been typed and the suggestion
    found  most probable first; perhaps more than are to be shown

    What is shown loses its place only to one that is better by more than the margin.
    """
    kept = {shown.index(typed + each.text): each for each in found if typed + each.text in shown}
    worth = {each.text: each.log_prob + (options.margin if each in kept.values() else 0.0) for each in found}
    chosen = sorted(found, key=lambda each: -worth[each.text])[: options.num_suggestions]
    places: list[Suggestion | None] = [kept.get(place) for place in range(len(chosen))]
    places = [each if each in chosen else None for each in places]
    others = iter(each for each in found if each in chosen and each not in places)
    filled = [each if each is not None else next(others) for each in places]
    for first in range(len(filled)):
        for second in range(first + 1, len(filled)):
            if filled[second].log_prob > filled[first].log_prob + options.margin:
                filled[first], filled[second] = filled[second], filled[first]
    return filled


def _follow(said: bytes, place: _Place, joiners: str) -> str | _Opening | None:
    """Return what bytes come to: the text up to where they end the suggestion, or an opening; of garbage, nothing."""
    try:
        text, used = utf_8_decode(said, "strict", False)
    except UnicodeDecodeError:
        return None
    partial = said[used:]
    if place.words_left == 0:  # a token is wanted: it ends with itself
        if partial:
            return _Opening(text, partial, b"", place)
        return text.split("\n")[0] or None
    in_word, words_left = place.in_word, place.words_left
    for index, character in enumerate(text):
        if is_of_word(character, joiners):
            in_word = True
            continue
        words_left -= in_word
        in_word = False
        if character == "\n" or words_left == 0:
            return text[:index]
    return _Opening(text, partial, b"", _Place(in_word, words_left))


@lru_cache(4096)
def is_of_word(character: str, joiners: str) -> bool:
    """Tell whether a character belongs to words: a letter, a digit, a mark on one, or a joiner."""
    return character in joiners or unicodedata.category(character)[0] in "LMN"


def _last_word(text: str, joiners: str) -> str:
    """Return the end of a text that belongs to one word."""
    of_word = sum(1 for _ in _while_of_word(reversed(text), joiners))
    return text[len(text) - of_word :]


def _while_of_word(characters: Iterator[str], joiners: str) -> Iterator[str]:
    for character in characters:
        if not is_of_word(character, joiners):
            return
        yield character


def _words(text: str, joiners: str) -> list[str]:
    """Return the words of a text; the last one is empty where it ends between words."""
    return "".join(character if is_of_word(character, joiners) else " " for character in text).split(" ")


def _trimmed(text: str, joiners: str) -> str:
    """Return a text up to the end of its last word."""
    while text and not is_of_word(text[-1], joiners):
        text = text[:-1]
    return text

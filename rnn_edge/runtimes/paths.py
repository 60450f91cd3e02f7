"""Paths of tokens: what may come next in them, what ends them, and what they are worth.

This is where the rules live, for every way of decoding. It knows the bytes of each token, because a stop string may
span tokens, but no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from rnn_edge.runtimes.arrays import NOTHING, Doubles, Floats
from rnn_edge.runtimes.bad_words import BadWords

__all__ = ["FinishReason", "Path", "Rules", "begin", "extend", "rank", "restrict", "score"]

FinishReason = Literal["end", "stop", "length", "stuck"]
"""The end token, a stop string, max_new_tokens, or that no token may follow."""

_Scores = TypeVar("_Scores", Floats, Doubles)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which tokens a path may take, and what ends it."""

    token_bytes: Sequence[bytes]  # what each token says
    end_id: int | None  # ends a text; some models have none
    unknown_id: int | None  # any word outside the vocabulary: it says nothing, so it is never chosen
    max_new_tokens: int
    stops: tuple[bytes, ...] = ()
    repetition_penalty: float = 1.0  # for tokens that were read or said (Keskar et al. 2019)
    no_repeat_ngram_size: int = 0
    bad_words: BadWords | None = None

    @property
    def may_forbid(self) -> bool:
        """Return whether there may be no token that a path can take."""
        return self.no_repeat_ngram_size > 0 or self.bad_words is not None

    @property
    def looks_back(self) -> bool:
        """Return whether what came before changes what may follow."""
        return self.may_forbid or self.repetition_penalty != 1.0


class Path(NamedTuple):
    """Tokens that continue a prompt, and what they come to.

    log_prob    sum over the tokens, as the model gives it, whatever the sampling options
    said        the bytes after the prompt as typed, up to a stop string
    new_tokens  how many tokens said something new; those that only spell what was typed did not
    before      the tokens of the prompt, for the rules that look back
    lost        what penalties took from the log-prob that it is ranked by
    uncovered   what is taken from its score for the places of the source that it has not looked at
    """

    tokens: tuple[int, ...] = ()
    log_prob: float = 0.0
    said: bytes = b""
    new_tokens: int = 0
    finish: FinishReason | None = None
    before: tuple[int, ...] = ()
    lost: float = 0.0
    uncovered: float = 0.0


def begin(tokens: tuple[int, ...], log_prob: float, said: bytes, rules: Rules, before: tuple[int, ...] = ()) -> Path:
    """Return a path of tokens that finish what was typed, the last of them perhaps saying more."""
    new_tokens = 1 if said else 0
    said, finish = _end(said, 0, new_tokens, rules)
    return Path(tokens, log_prob, said, new_tokens, finish, before)


def extend(path: Path, token: int, log_prob: float, rules: Rules, lost: float = 0.0) -> Path:
    """Return the path one token longer, and ended if this token ends it, or is NOTHING."""
    if token == NOTHING:
        return path._replace(finish="stuck")
    tokens, log_prob, lost = (*path.tokens, token), path.log_prob + log_prob, path.lost + lost
    if token == rules.end_id:
        return Path(tokens, log_prob, path.said, path.new_tokens, "end", path.before, lost)
    new_tokens = path.new_tokens + 1
    said, finish = _end(path.said + rules.token_bytes[token], len(path.said), new_tokens, rules)
    return Path(tokens, log_prob, said, new_tokens, finish, path.before, lost)


def _end(said: bytes, checked: int, new_tokens: int, rules: Rules) -> tuple[bytes, FinishReason | None]:
    """Return what was said up to a stop string, and why it ends there; none lies within the bytes already checked."""
    if not rules.stops:
        return said, "length" if new_tokens >= rules.max_new_tokens else None
    found = [said.find(stop, max(0, checked - len(stop) + 1)) for stop in rules.stops]
    if first := [start for start in found if start >= 0]:
        return said[: min(first)], "stop"
    return said, "length" if new_tokens >= rules.max_new_tokens else None


def restrict(scores: _Scores, paths: Sequence[Path], rules: Rules) -> _Scores:
    """Return the scores, float (batch, vocab), less what the rules take from them; -inf for what may not follow."""
    if rules.unknown_id is None and not rules.looks_back:
        return scores
    scores = scores.copy()
    if rules.unknown_id is not None:
        scores[:, rules.unknown_id] = -np.inf
    if rules.looks_back:
        _look_back(scores, paths, rules)
    return scores


def _look_back(scores: Floats | Doubles, paths: Sequence[Path], rules: Rules) -> None:
    """Change the scores, float (batch, vocab), by what came before in each row."""
    for row, path in zip(scores, paths, strict=True):
        _look_back_in_row(row, (*path.before, *path.tokens), rules)


def _look_back_in_row(scores: Floats | Doubles, tokens: tuple[int, ...], rules: Rules) -> None:
    if rules.repetition_penalty != 1.0:
        seen = list(set(tokens))
        scores[seen] *= np.where(scores[seen] < 0, rules.repetition_penalty, 1 / rules.repetition_penalty)
    if rules.no_repeat_ngram_size:
        scores[_repeating(tokens, rules.no_repeat_ngram_size)] = -np.inf
    if rules.bad_words is not None:
        scores[rules.bad_words.after(tokens)] = -np.inf


def _repeating(tokens: tuple[int, ...], size: int) -> list[int]:
    """Return the tokens that would make the last `size` tokens a run that has come before."""
    last = tokens[len(tokens) - size + 1 :]
    ends = range(size - 1, len(tokens))
    return [tokens[end] for end in ends if tokens[end - size + 1 : end] == last]


def score(path: Path, length_penalty: float) -> float:
    """Return what a path is ranked by."""
    if not path.tokens:
        return 0.0
    per_length: float = (path.log_prob - path.lost) / len(path.tokens) ** length_penalty
    return per_length - path.uncovered


def rank(paths: Sequence[Path], length_penalty: float) -> list[Path]:
    """Return the paths, best first; of equals, those that come first."""
    return sorted(paths, key=lambda path: -score(path, length_penalty))

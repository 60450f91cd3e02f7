"""How much typing a model saves, and how well it foretells a text; measured as a user would meet it.

A typist who sees the suggestions types key by key, and accepts one as soon as it is the rest of the word. The figures
are those of keyboard papers: keystroke savings, and how often the next word is the first suggestion, or among the first
three, before any of it is typed (top-1 and top-3 recall).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rnn_edge.errors import TextError
from rnn_edge.runtimes.language_model import LanguageModel
from rnn_edge.runtimes.suggesting import SuggestOptions, is_of_word

__all__ = ["Evaluation", "evaluate"]

_OPTIONS = SuggestOptions()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured on a text."""

    perplexity: float  # per token, of the whole text
    bits_per_character: float
    words: int  # that were typed
    characters: int  # of what was typed, with all between the words
    keystrokes: int  # one for each character, and one for each suggestion that was accepted
    top1: float  # share of words that were the first suggestion before any of them was typed
    top3: float  # share of words that were among the first three

    @property
    def keystroke_savings(self) -> float:
        """Return the share of keystrokes that suggestions saved."""
        return 1 - self.keystrokes / self.characters

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {**asdict(self), "keystroke_savings": self.keystroke_savings}


@dataclass
class _Tally:
    words: int = 0
    characters: int = 0
    keystrokes: int = 0
    first: int = 0
    among_three: int = 0

    def evaluation(self, *, perplexity: float, bits_per_character: float) -> Evaluation:
        return Evaluation(
            perplexity=perplexity,
            bits_per_character=bits_per_character,
            words=self.words,
            characters=self.characters,
            keystrokes=self.keystrokes,
            top1=self.first / self.words,
            top3=self.among_three / self.words,
        )


def evaluate(
    model: LanguageModel, texts: Sequence[str], *, max_words: int, options: SuggestOptions = _OPTIONS
) -> Iterator[int | Evaluation]:
    """Type texts, each from its beginning, up to a number of words; yield how many were typed, and at last the figures.

    Perplexity is over all of the texts.
    """
    scores = model.score([text for text in texts if text])
    if not scores:
        raise TextError("there is no text to evaluate: give at least one character")
    tokens = sum(len(score.token_log_probs) for score in scores)
    loss = -math.fsum(score.log_prob for score in scores)
    tally = _Tally()
    for text in texts:
        for _ in _type(model, text, tally, options):
            yield tally.words
            if tally.words == max_words:
                break
        if tally.words == max_words:
            break
    if not tally.words:
        raise TextError("there is no word to type in this text: give one with words")
    yield tally.evaluation(perplexity=_exp(loss / tokens), bits_per_character=loss / math.log(2) / sum(map(len, texts)))


def _type(model: LanguageModel, text: str, tally: _Tally, options: SuggestOptions) -> Iterator[None]:
    """Type a text word by word, and count."""
    session = model.session()
    for between, word in _words(text, options.joiners):
        session.type(between)
        tally.characters += len(between) + len(word)
        tally.keystrokes += len(between)
        tally.words += 1
        for typed in range(len(word)):
            suggestions = [each.text for each in session.suggest(options)] if session.text or model.has_end else []
            if typed == 0:
                tally.first += suggestions[:1] == [word]
                tally.among_three += word in suggestions[:3]
            tally.keystrokes += 1
            if word[typed:] in suggestions:
                session.type(word[typed:])
                break
            session.type(word[typed])
        yield


def _words(text: str, joiners: str) -> Iterator[tuple[str, str]]:
    """Yield the words of a text, each with what stands before it."""
    between, word = "", ""
    for character in text:
        if is_of_word(character, joiners):
            word += character
            continue
        if word:
            yield between, word
            between, word = "", ""
        between += character
    if word:
        yield between, word


def _exp(number: float) -> float:
    return math.exp(number) if number < 700 else math.inf

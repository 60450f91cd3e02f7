"""Keystrokes are counted as a typist would press them, and words as they were suggested."""

from __future__ import annotations

import pytest
from runtimes.test_language_model import KINDS, character_model, model_of, sentence_model

from rnn_edge.errors import TextError
from rnn_edge.runtimes.evaluating import Evaluation, evaluate
from rnn_edge.runtimes.language_model import LanguageModel


def evaluation(model: LanguageModel, *texts: str, max_words: int = 100) -> Evaluation:
    *counts, found = evaluate(model, texts, max_words=max_words)
    assert counts == list(range(1, found.words + 1))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_knows_the_text_saves_all_but_a_key_a_word(kind):
    """Three words and two blanks: five keys for fifteen characters."""
    found = evaluation(sentence_model(kind, "the numbers cat"), "the numbers cat")
    assert (found.words, found.characters, found.keystrokes) == (3, 15, 5)
    assert (found.top1, found.top3, found.keystroke_savings) == (1.0, 1.0, pytest.approx(2 / 3))


def test_by_hand():
    """A "b" is never foretold; behind "a" comes "bc", so that the second "abc" takes two keys, and a blank."""
    model = character_model({"$": {"c": 0.9}, " ": {"c": 0.9}, "a": {"b": 0.9}, "b": {"c": 0.9}, "c": {" ": 0.9}})
    found = evaluation(model, "b abc")
    assert (found.words, found.characters, found.keystrokes) == (2, 5, 1 + 1 + 2)
    assert (found.top1, found.top3) == (0.0, 0.0)


def test_perplexity_is_that_of_all_texts_and_words_are_limited():
    model = model_of("bpe")
    texts = ("the cat 12", "", "numbers, numb cats")
    found = evaluation(model, *texts, max_words=4)
    assert found.words == 4
    assert found.perplexity == pytest.approx(model.perplexity([text for text in texts if text]))
    assert found.to_dict()["keystroke_savings"] == found.keystroke_savings


def test_a_model_without_end_token_is_evaluated():
    model = character_model({"a": {"b": 0.9}, "b": {" ": 0.9}, " ": {"c": 1.0}}, end=False)
    assert evaluation(model, "ab ab").keystrokes == 2 + 1 + 2


@pytest.mark.parametrize(("texts", "problem"), [((), "no text"), (("", ""), "no text"), (("..., ",), "no word")])
def test_nothing_to_type_is_told(texts, problem):
    with pytest.raises(TextError, match=problem):
        evaluation(model_of("bpe"), *texts)

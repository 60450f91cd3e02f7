"""Completions, streams, scores and sessions say the same thing about the same text."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import RememberingModel, Scores, log_prob, random_scores, scores_after

from rnn_edge.errors import OptionsError, TextError
from rnn_edge.runtimes.language_model import LanguageModel
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.text import Tokenizer, TokenizerKind

KINDS: list[TokenizerKind] = ["characters", "words", "bpe"]
CORPUS = ["the cat numbers the numbness\n\n\nb", "a néw cat\t\tb 12 numbers, numb cats!\n", "the théâtre 名前"] * 5


@cache
def tokenizer_of(kind: TokenizerKind) -> Tokenizer:
    return Tokenizer.train(kind, CORPUS, vocab_size={"characters": 290, "words": 20, "bpe": 290}[kind])


def model_of(kind: TokenizerKind, seed: int = 0) -> LanguageModel:
    tokenizer = tokenizer_of(kind)
    return LanguageModel(RememberingModel(random_scores(tokenizer.vocab_size, seed)), tokenizer)


def character_model(following: dict[str, dict[str, float]], *, end: bool = True) -> LanguageModel:
    """A model of characters by hand: the probabilities of what follows the end of a text; "$" is the end token."""
    tokenizer = Tokenizer.train("characters", ["abcxyz é"]) if end else Tokenizer.characters("abcxyz é")
    ids = {character: tokenizer.encode(character)[-1] for character in "abcxyz "} | {"$": 0 if end else -1}
    table = {
        tuple(ids[character] for character in before): {ids[after]: prob for after, prob in probs.items()}
        for before, probs in following.items()
    }
    return LanguageModel(RememberingModel(scores_after(tokenizer.vocab_size, table)), tokenizer)


kinds = st.sampled_from(KINDS)
typing = st.text("abcnumt é,1\n\t名 ", max_size=12)
options_of = st.one_of(
    st.builds(GenerateOptions, max_new_tokens=st.integers(1, 4), stop_strings=st.sampled_from([(), ("a", "th"), (" ",)])),
    st.builds(
        GenerateOptions,
        max_new_tokens=st.integers(1, 4),
        do_sample=st.just(True),
        seed=st.integers(0, 9),
        temperature=st.sampled_from([0.5, 2.0]),
        top_k=st.sampled_from([0, 3]),
        stop_strings=st.sampled_from([(), ("é", "u")]),
    ),
)  # fmt: skip
several = st.builds(GenerateOptions, max_new_tokens=st.just(3), num_beams=st.just(3), num_return_sequences=st.just(2))
draws = st.builds(GenerateOptions, max_new_tokens=st.just(3), do_sample=st.just(True), num_return_sequences=st.just(2))


# Completing


def test_greedy_by_hand():
    model = character_model({"a": {"b": 0.5}, "b": {"c": 0.5}, "c": {"$": 0.5}})
    (completion,) = model.complete("xa")
    assert ("bc", "end", 3) == (completion.text, completion.finish_reason, len(completion.tokens))
    assert math.log(0.125) == pytest.approx(completion.log_prob)
    assert math.log(0.125) / 3 == pytest.approx(completion.score)


def test_a_completion_is_cut_at_its_length():
    completion = character_model({"a": {"a": 0.9}}).complete("a", GenerateOptions(max_new_tokens=5))[0]
    assert ("aaaaa", "length") == (completion.text, completion.finish_reason)


def test_a_stop_string_may_span_tokens_and_is_left_out():
    model = character_model({"a": {"b": 0.9}, "b": {"c": 0.9}, "c": {"a": 0.9}})
    completion = model.complete("a", GenerateOptions(stop_strings=("ca",)))[0]
    assert ("b", "stop", 3) == (completion.text, completion.finish_reason, len(completion.tokens))


def test_half_a_character_is_left_out():
    tokenizer = Tokenizer.train("characters", ["a"])
    first, second = tokenizer.encode("é")
    model = LanguageModel(RememberingModel(scores_after(258, {(): {first: 0.9}, (first,): {second: 0.9}})), tokenizer)
    texts = [model.complete("a", GenerateOptions(max_new_tokens=size))[0].text for size in (1, 2, 3, 4)]
    assert ["", "é", "é", "éé"] == texts


@given(kinds, typing, st.one_of(options_of, several, draws), st.integers(0, 9))
def test_a_completion_is_what_its_tokens_say_and_cost(kind, text, options, seed):
    """For every tokenizer and way of decoding: the tokens spell the unfinished word and go on from it."""
    tokenizer = tokenizer_of(kind)
    settled, pending = tokenizer.split_typing(text)
    before = [0, *tokenizer.encode(text)[: len(tokenizer.encode(text)) - len(tokenizer.encode(pending))]]
    for completion in model_of(kind, seed).complete(text, options):
        cost = log_prob(random_scores(tokenizer.vocab_size, seed), completion.tokens, before)
        assert cost == pytest.approx(completion.log_prob)
        assert completion.score == pytest.approx(cost / len(completion.tokens))
        said = b"".join(tokenizer.token_bytes[token] for token in completion.tokens)
        if completion.tokens[0] == tokenizer.unknown_id:
            said = said.replace(b"<unk>", pending.encode())
        assert said.startswith((pending + completion.text).encode().removesuffix("�".encode()) if "�" not in completion.text else b"")
        assert not any(stop in completion.text for stop in options.stop_strings)

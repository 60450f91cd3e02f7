"""Completions, streams, scores and sessions say the same thing about the same text."""

from __future__ import annotations

import dataclasses
import json
import math
from codecs import utf_8_decode
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from runtimes.fakes import RememberingModel, about, log_prob, random_scores, scores_after

from rnn_edge.errors import OptionsError, TextError
from rnn_edge.runtimes.language_model import LanguageModel
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.text import END, Tokenizer, TokenizerKind

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


def sentence_model(kind: TokenizerKind, sentence: str) -> LanguageModel:
    """A model that knows one sentence: each of its tokens has 0.9 after those before it."""
    tokenizer = tokenizer_of(kind)
    tokens = [*tokenizer.encode(sentence), 0]
    following = {(0, *tokens[:index]): {token: 0.9} for index, token in enumerate(tokens)}
    return LanguageModel(RememberingModel(scores_after(tokenizer.vocab_size, following)), tokenizer)


def without_end(tokenizer: Tokenizer) -> Tokenizer:
    """The same vocabulary, less its first entry."""
    description = json.loads(tokenizer.to_json())
    vocabulary = description["model"]["vocab"]
    description["model"]["vocab"] = {token: index - 1 for token, index in vocabulary.items() if token != END}
    description["added_tokens"] = []
    return Tokenizer.from_json(json.dumps(description))


kinds = st.sampled_from(KINDS)
typing = st.text("abcnumt é,1\n\t名 ", max_size=12)
greedy = st.builds(
    GenerateOptions,
    max_new_tokens=st.integers(1, 4),
    stop_strings=st.sampled_from([(), ("a", "th"), (" ",)]),
)
one_draw = st.builds(
    GenerateOptions,
    max_new_tokens=st.integers(1, 4),
    do_sample=st.just(True),
    seed=st.integers(0, 9),
    temperature=st.sampled_from([0.5, 2.0]),
    top_k=st.sampled_from([0, 3]),
    stop_strings=st.sampled_from([(), ("é", "u")]),
)
one = st.one_of(greedy, one_draw)
careful = st.builds(
    GenerateOptions,
    max_new_tokens=st.integers(1, 6),
    repetition_penalty=st.sampled_from([1.0, 1.5]),
    no_repeat_ngram_size=st.integers(0, 2),
    bad_words=st.sampled_from([(), ("a", "umb"), ("é",)]),
    forced_prefix=st.sampled_from(["", "u", "m c"]),
)
pruned = st.builds(
    GenerateOptions,
    max_new_tokens=st.just(3),
    num_beams=st.just(4),
    num_return_sequences=st.just(2),
    early_stopping=st.sampled_from([True, False, "never"]),
    beam_threshold=st.sampled_from([0.0, 0.1]),
    bad_words=st.sampled_from([(), ("a", "umb")]),
)
several = st.one_of(
    st.builds(GenerateOptions, max_new_tokens=st.just(3), num_beams=st.just(3), num_return_sequences=st.just(2)),
    st.builds(GenerateOptions, max_new_tokens=st.just(3), do_sample=st.just(True), num_return_sequences=st.just(2)),
)
one_or_several = st.one_of(one, several)
any_options = st.one_of(one, several, careful, pruned)


# Completing


def test_greedy_by_hand():
    model = character_model({"a": {"b": 0.5}, "b": {"c": 0.5}, "c": {"$": 0.5}})
    (completion,) = model.complete("xa")
    assert (completion.text, completion.finish_reason, len(completion.tokens)) == ("bc", "end", 3)
    assert math.log(0.125) == about(completion.log_prob)
    assert math.log(0.125) / 3 == about(completion.score)


def test_a_completion_is_cut_at_its_length():
    completion = character_model({"a": {"a": 0.9}}).complete("a", GenerateOptions(max_new_tokens=5))[0]
    assert (completion.text, completion.finish_reason) == ("aaaaa", "length")


def test_a_stop_string_may_span_tokens_and_is_left_out():
    model = character_model({"a": {"b": 0.9}, "b": {"c": 0.9}, "c": {"a": 0.9}})
    completion = model.complete("a", GenerateOptions(stop_strings=("ca",)))[0]
    assert (completion.text, completion.finish_reason, len(completion.tokens)) == ("b", "stop", 3)


def test_half_a_character_is_left_out():
    tokenizer = Tokenizer.train("characters", ["a"])
    first, second = tokenizer.encode("é")
    model = LanguageModel(RememberingModel(scores_after(258, {(): {first: 0.9}, (first,): {second: 0.9}})), tokenizer)
    texts = [model.complete("a", GenerateOptions(max_new_tokens=size))[0].text for size in (1, 2, 3, 4)]
    assert texts == ["", "é", "é", "éé"]


@given(kinds, typing, one_or_several, st.integers(0, 9))
def test_a_completion_is_what_its_tokens_say_and_cost(kind, text, options, seed):
    """For every tokenizer and way of decoding: the tokens spell the unfinished word, and go on from it."""
    tokenizer = tokenizer_of(kind)
    before, pending = tokenizer.encode_typing(text)
    for completion in model_of(kind, seed).complete(text, options):
        cost = log_prob(random_scores(tokenizer.vocab_size, seed), completion.tokens, [0, *before])
        assert cost == about(completion.log_prob)
        assert cost / len(completion.tokens) == about(completion.score)
        said = b"".join(tokenizer.token_bytes[token] for token in completion.tokens)
        typed = b"<unk>" if completion.tokens[0] == tokenizer.unknown_id else pending.encode()
        assert said.startswith(typed)
        rest = said[len(typed) :]
        stops = [rest.find(stop.encode()) for stop in options.stop_strings if stop.encode() in rest]
        assert bool(stops) == (completion.finish_reason == "stop")
        assert utf_8_decode(rest[: min(stops, default=None)], "replace")[0] == completion.text


@given(kinds, typing, one_or_several)
def test_completions_are_as_many_as_asked_and_best_first(kind, text, options):
    """Of a search, none twice, though a text may be spelled in several tokens; so there may be fewer."""
    completions = model_of(kind).complete(text, options)
    if options.do_sample:
        assert len(completions) == options.num_return_sequences
    else:
        texts = [completion.text for completion in completions]
        assert 0 < len(texts) == len(set(texts)) <= options.num_return_sequences
    assert all(better.score >= worse.score for better, worse in pairwise(completions))


@given(kinds, st.lists(typing, max_size=4), any_options)
def test_a_text_gives_in_any_batch_what_it_gives_alone(kind, texts, options):
    assert model_of(kind).complete(texts, options) == [model_of(kind).complete(text, options) for text in texts]


def test_more_texts_than_a_batch_holds_are_completed():
    texts = ["the numb", "a ", "12", "\n", "cat"] * 10
    for options in (GenerateOptions(max_new_tokens=2), GenerateOptions(max_new_tokens=2, num_beams=30)):
        together = model_of("bpe").complete(texts, options)
        assert together[:5] * 10 == together
        assert together[0] == model_of("bpe").complete(texts[0], options)


def test_fewer_come_back_where_no_more_exist():
    model = character_model({"a": {"$": 1.0}})
    options = GenerateOptions(num_beams=999, num_return_sequences=999, max_new_tokens=1)
    assert 0 < len(model.complete("a", options)) < 999


def test_the_length_penalty_chooses_between_short_and_long():
    """Ending at once has 0.4; "b" and then the end have 0.3, over two tokens."""
    model = character_model({"a": {"$": 0.4, "b": 0.3}, "b": {"$": 1.0}})
    texts = {
        penalty: model.complete("a", GenerateOptions(num_beams=2, length_penalty=penalty))[0].text
        for penalty in (-1.0, 0.0, 1.0)
    }
    assert texts == {-1.0: "", 0.0: "", 1.0: "b"}


# Rules for what is said


@given(kinds, typing, st.one_of(careful, pruned), st.integers(0, 9))
def test_a_bad_word_is_never_said(kind, text, options, seed):
    """Not in any tokens, nor by finishing what was typed."""
    for completion in model_of(kind, seed).complete(text, options):
        for word in options.bad_words:
            assert (text + completion.text).count(word) == (text + options.forced_prefix).count(word)


def test_a_bad_word_is_not_finished_for_the_typist():
    model = sentence_model("bpe", "the numbers cat")
    completed = "the nu" + model.complete("the nu", GenerateOptions(bad_words=("numbe",)))[0].text
    assert not completed.startswith("the numbe")


@given(kinds, typing, st.text("umbe c", max_size=4), greedy)
def test_a_forced_prefix_is_as_if_it_had_been_typed(kind, text, prefix, options):
    assume(not any(stop in prefix for stop in options.stop_strings))
    forced = dataclasses.replace(options, forced_prefix=prefix)
    (expected,) = model_of(kind).complete(text + prefix, options)
    (found,) = model_of(kind).complete(text, forced)
    assert found == dataclasses.replace(expected, text=prefix + expected.text)


def test_no_run_comes_twice_not_even_one_of_the_prompt():
    model = character_model({"a": {"b": 0.9}, "b": {"a": 0.9}})
    assert model.complete("aba", GenerateOptions(max_new_tokens=4))[0].text == "baba"
    said = "aba" + model.complete("aba", GenerateOptions(max_new_tokens=6, no_repeat_ngram_size=2))[0].text
    assert len({*pairwise(said)}) == len(said) - 1


def test_when_nothing_may_follow_a_completion_is_stuck():
    tokenizer = Tokenizer.characters("ab")
    model = LanguageModel(RememberingModel(random_scores(2, 0)), tokenizer)
    for beams in (1, 2):
        options = GenerateOptions(no_repeat_ngram_size=1, num_beams=beams)
        (completion,) = model.complete("a", options)
        assert (completion.text, completion.finish_reason) == ("b", "stuck")


# The unfinished word


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_a_word_is_completed_from_its_beginning(kind):
    """Wherever in it the typist is: whether " n" was typed, or " number", or all of " numbers"."""
    model = sentence_model(kind, "the numbers cat")
    for typed in ("the", "the ", "the n", "the nu", "the number", "the numbers", "the numbers c"):
        assert typed + model.complete(typed, GenerateOptions(max_new_tokens=9))[0].text == "the numbers cat"


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_a_covering_token_that_says_more_is_a_new_one(kind):
    model = sentence_model(kind, "the numbers cat")
    texts = [model.complete(typed, GenerateOptions(max_new_tokens=1))[0].text for typed in ("the nu", "the numbers")]
    assert texts == ["mbers", " cat"]


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_a_stop_string_may_end_the_unfinished_word(kind):
    model = sentence_model(kind, "the numbers cat")
    (completion,) = model.complete("the nu", GenerateOptions(stop_strings=("er",)))
    assert (completion.text, completion.finish_reason) == ("mb", "stop")
    assert list(model.stream("the nu", GenerateOptions(stop_strings=("er",)))) == ["mb"]


def test_a_word_is_never_joined_from_two():
    """Both " n" and "umpy" are in the vocabulary, and yet " numpy" is not."""
    tokenizer = Tokenizer.train("words", ["umpy", "x n"])
    model = LanguageModel(RememberingModel(random_scores(tokenizer.vocab_size, 0)), tokenizer)
    assert model.complete("x numpy")[0].tokens[0] == tokenizer.unknown_id


def test_what_needs_no_further_scores_reads_no_further_token():
    model = sentence_model("words", "the numbers cat")
    network = model._model
    model.complete("the nu", GenerateOptions(max_new_tokens=1, num_beams=2))
    assert (network.steps, network.tokens_read) == (1, 2)


def test_the_drawn_word_follows_the_probabilities():
    tokenizer = tokenizer_of("words")
    numbers, numb = tokenizer.encode(" numbers") + tokenizer.encode(" numb")
    scores = scores_after(tokenizer.vocab_size, {(): {numbers: 0.6, numb: 0.2}})
    options = GenerateOptions(do_sample=True, num_return_sequences=400, max_new_tokens=1, temperature=0.5)
    drawn = LanguageModel(RememberingModel(scores), tokenizer).complete("the numbe", options)
    assert {"rs"} == {completion.text for completion in drawn}
    drawn = LanguageModel(RememberingModel(scores), tokenizer).complete("the nu", options)
    share = sum(completion.tokens[0] == numbers for completion in drawn) / 400
    assert share == pytest.approx(0.9, abs=0.06)  # odds of 3 to 1, squared


def test_a_word_outside_the_vocabulary_is_read_as_unknown():
    model = model_of("words")
    (completion,) = model.complete("the xyz")
    assert completion.tokens[0] == tokenizer_of("words").unknown_id
    assert completion.text == model.complete("the qqq")[0].text


@given(typing, one_or_several, st.integers(0, 9))
def test_the_unknown_word_is_never_said(text, options, seed):
    for completion in model_of("words", seed).complete(text, options):
        assert "<unk>" not in completion.text
        assert tokenizer_of("words").unknown_id not in completion.tokens[1:]


# What cannot be completed


@pytest.mark.parametrize("text", [b"bytes", 5, None, ["a", 5], "\ud800", ["a", "\udfff"]])
def test_what_is_no_text_is_refused(text):
    model = model_of("bpe")
    for call in (model.complete, model.score, model.perplexity):
        with pytest.raises(TextError, match=r"must be a str|not valid Unicode"):
            call(text)


@pytest.mark.parametrize("text", [b"bytes", 5, None, ["a"], "\ud800"])
def test_what_is_no_text_is_neither_streamed_nor_typed(text):
    with pytest.raises(TextError, match=r"must be a str|not valid Unicode"):
        model_of("bpe").stream(text)
    with pytest.raises(TextError, match=r"must be a str|not valid Unicode"):
        model_of("bpe").session(text)


def test_a_model_without_end_token_needs_a_text_to_go_on():
    model = character_model({"a": {"b": 0.9}}, end=False)
    assert model.complete("a", GenerateOptions(max_new_tokens=1))[0].text == "b"
    for call in (model.complete, model.stream):
        with pytest.raises(TextError, match="no end token"):
            call("")
    with pytest.raises(TextError, match="does not know 'q'"):
        model.complete("q")


def test_a_model_without_end_token_reads_the_first_word_as_typed():
    tokenizer = without_end(tokenizer_of("bpe"))
    model = LanguageModel(RememberingModel(random_scores(tokenizer.vocab_size, 0)), tokenizer)
    tokens = tokenizer.encode("numb")
    (completion,) = model.complete("numb")
    expected = log_prob(random_scores(tokenizer.vocab_size, 0), completion.tokens, tokens)
    assert expected == about(completion.log_prob)
    assert completion == model.session("numb").complete()[0]


def test_threads_share_a_model():
    model, texts = model_of("bpe"), ["the nu", "a cat", "12", "\n\nb"] * 8
    alone = [model_of("bpe").complete(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert alone == list(pool.map(model.complete, texts))


# Streaming


@given(kinds, typing, st.one_of(one, careful), st.integers(0, 9))
def test_a_stream_is_the_completion_in_pieces(kind, text, options, seed):
    pieces = list(model_of(kind, seed).stream(text, options))
    assert "".join(pieces) == model_of(kind, seed).complete(text, options)[0].text
    assert "" not in pieces


def test_a_stream_comes_token_by_token():
    model = character_model({"a": {"b": 0.9}, "b": {"c": 0.9}, "c": {"$": 0.9}})
    assert list(model.stream("a")) == ["b", "c"]


def test_what_may_become_a_stop_string_is_held_back():
    """As long as it may: "bcb" all of it for "bcbz", only the last "b" for "bz"."""
    model = character_model({"a": {"b": 0.9}, "b": {"c": 0.9}, "bc": {"b": 0.9}, "bcb": {"x": 0.9}, "x": {"$": 0.9}})
    assert list(model.stream("a", GenerateOptions(stop_strings=("bcbz",)))) == ["bcbx"]
    assert list(model.stream("a", GenerateOptions(stop_strings=("cz", "bz")))) == ["b", "c", "bx"]
    assert list(model.stream("a", GenerateOptions(stop_strings=("cb",)))) == ["b"]


def test_nothing_is_read_before_it_is_asked_for():
    model = character_model({"a": {"a": 0.9}})
    stream = model.stream("a", GenerateOptions(max_new_tokens=1000))
    assert [next(stream), next(stream)] == ["a", "a"]
    assert model._model.tokens_read <= 2 + 2


@pytest.mark.parametrize(
    "options",
    [GenerateOptions(num_beams=2), GenerateOptions(do_sample=True, num_return_sequences=2)],
)
def test_more_than_one_cannot_be_streamed(options):
    model = model_of("bpe")
    for call in (lambda: model.stream("a", options), lambda: model.session("a").stream(options)):
        with pytest.raises(OptionsError, match="only one completion can be streamed"):
            call()


def test_what_does_not_look_anywhere_has_no_coverage():
    options = GenerateOptions(num_beams=2, coverage_penalty=0.2)
    for call in (lambda: model_of("bpe").complete("a", options), lambda: model_of("bpe").complete("a b", options)):
        with pytest.raises(OptionsError, match="no attention"):
            call()


# Scoring


def test_scores_by_hand():
    """After the end token "a" has 1/2, after "a" "b" has 1/4."""
    model = character_model({"$": {"a": 0.5}, "a": {"b": 0.25}})
    score = model.score("ab")
    assert [math.log(0.5), math.log(0.25)] == about(list(score.token_log_probs))
    assert math.log(1 / 8) == about(score.log_prob)
    assert math.sqrt(8) == about(score.perplexity)
    assert score.bits_per_character == about(1.5)


@given(kinds, st.lists(typing.filter(bool), max_size=4))
def test_a_text_scores_in_any_batch_as_alone(kind, texts):
    scores = model_of(kind).score(texts)
    assert scores == [model_of(kind).score(text) for text in texts]
    for text, score in zip(texts, scores, strict=True):
        tokens = tokenizer_of(kind).encode(text)
        expected = log_prob(random_scores(tokenizer_of(kind).vocab_size, 0), tokens, [0])
        assert expected == about(score.log_prob)


def test_perplexity_counts_every_token_once():
    model = character_model({"$": {"a": 0.5}, "a": {"b": 0.25, "$": 0.5}})
    assert about(model.perplexity(["a", "ab"])) == (2 * 8) ** (1 / 3)
    assert model.score("ab").perplexity == about(model.perplexity("ab"))


def test_the_probability_of_a_text_is_that_of_completing_it():
    model = character_model({"$": {"a": 0.5}, "a": {"b": 0.9}, "b": {"$": 1.0}})
    (completion,) = model.complete("a")
    assert model.score("ab").log_prob == about(model.score("a").log_prob + completion.log_prob)


def test_a_hopeless_text_has_infinite_perplexity():
    model = character_model({"$": {"b": 1.0}})
    network = RememberingModel(lambda history: [1e4 if token == 0 else 0.0 for token in range(262)])
    assert LanguageModel(network, model._tokenizer).score("a").perplexity == math.inf


def test_what_has_no_probability_is_refused():
    model = model_of("bpe")
    for text in ("", ["a", ""]):
        with pytest.raises(TextError, match="an empty text has no score"):
            model.score(text)
    with pytest.raises(TextError, match="there is no text to score"):
        model.perplexity([])


def test_a_model_without_end_token_scores_from_the_second_token_on():
    model = character_model({"a": {"b": 0.25}}, end=False)
    assert [math.log(0.25)] == about(list(model.score("ab").token_log_probs))
    with pytest.raises(TextError, match="'a' has only one"):
        model.score("a")

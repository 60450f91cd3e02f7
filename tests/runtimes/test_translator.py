"""A translator writes what its decoder finds probable after the source; each text as it would be alone."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers import export_network
from hypothesis import given, settings
from hypothesis import strategies as st
from runtimes.fakes import RememberingPair, about, all_paths, log_prob, random_scores, scores_after

import rnn_edge
from rnn_edge.errors import BundleError, OptionsError, TextError
from rnn_edge.runtimes.coverage import uncovered
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.translator import Describer, Translator
from rnn_edge.text import Tokenizer

SOURCE = Tokenizer.characters(["</s>", *"abcdehlo "])
TARGET = Tokenizer.whitespace(["<s>", "</s>", "<unk>", "HH", "AH0", "L", "OW1"])
START, END, HH, AH0, L, OW1 = 0, 1, 3, 4, 5, 6


def source_of(text: str) -> tuple[int, ...]:
    """What the fake decoder remembers of a source."""
    return tuple(1000 + token for token in [*SOURCE.encode(text), SOURCE.end_id])


def speller(pronunciations: dict[str, list[int]], **choices) -> Translator:
    """A translator that knows some words: each token has 0.9 after the source and those before it."""
    following = {}
    for word, tokens in pronunciations.items():
        for index, token in enumerate([*tokens, END]):
            following[(*source_of(word), START, *tokens[:index])] = {token: 0.9}
    pair = RememberingPair(scores_after(TARGET.vocab_size, following), **choices)
    return Translator(pair, pair, SOURCE, TARGET, joined=choices.get("joined", 1))


def random_translator(seed: int = 0, **choices) -> Translator:
    pair = RememberingPair(random_scores(TARGET.vocab_size, seed), **choices)
    return Translator(pair, pair, SOURCE, TARGET)


texts = st.lists(st.text("abcdehlo ", max_size=6), max_size=5)
options = st.one_of(
    st.builds(GenerateOptions, max_new_tokens=st.integers(1, 4), num_beams=st.integers(1, 4)),
    st.builds(
        GenerateOptions,
        max_new_tokens=st.integers(1, 4),
        do_sample=st.just(True),
        seed=st.integers(0, 9),
        num_return_sequences=st.integers(1, 3),
    ),
)


def test_a_word_is_pronounced():
    model = speller({"hello": [HH, AH0, L, OW1], "lo": [L, OW1]})
    (best,) = model.translate("hello")
    assert best.text == "HH AH0 L OW1"
    assert best.tokens == (HH, AH0, L, OW1, END)
    assert best.finish_reason == "end"
    assert best.log_prob == about(5 * math.log(0.9))
    assert best.score == about(math.log(0.9))  # per token
    assert (best.token_log_probs, best.attention) == (None, None)


@settings(max_examples=25)
@given(texts, options, st.booleans())
def test_a_text_gives_in_any_batch_what_it_gives_alone(several, chosen, has_attention):
    model = random_translator(has_attention=has_attention)
    assert model.translate(several, chosen) == [model.translate(text, chosen) for text in several]


def test_texts_share_calls_of_the_model():
    pair = RememberingPair(random_scores(TARGET.vocab_size, 0))
    model = Translator(pair, pair, SOURCE, TARGET)
    model.translate(["hello", "lo", "a"] * 20, GenerateOptions(max_new_tokens=3))
    assert pair.encoded == [60]
    assert pair.steps <= 3
    model.translate(["hello"] * 40, GenerateOptions(max_new_tokens=3, num_beams=4))
    assert pair.encoded == [60, 16, 16, 8], "64 rows at most, beams counted"


def test_a_wide_beam_finds_the_most_probable_translation():
    scores = random_scores(TARGET.vocab_size, 7)
    pair = RememberingPair(scores)
    options = GenerateOptions(max_new_tokens=3, num_beams=300, length_penalty=0.0)
    best = Translator(pair, pair, SOURCE, TARGET).translate("lo", options)[0]
    before = (*source_of("lo"), START)
    paths = [path for path in all_paths(TARGET.vocab_size, 3, end_id=END) if TARGET.unknown_id not in path]
    known = cache(lambda path: log_prob(scores, path, before))
    longer = [(*path, END) for path in paths if path[-1] != END]  # the end token is not one of the three
    assert best.log_prob == about(max(map(known, [*paths, *longer])))


def test_it_ends_by_itself_and_at_200_tokens_otherwise():
    talker = speller({"a": [L] * 250})
    assert talker.translate("a")[0].text.split() == ["L"] * 200
    assert talker.translate("a", GenerateOptions(max_new_tokens=5))[0].finish_reason == "length"
    assert talker.translate("a", GenerateOptions(num_beams=2))[0].text.split() == ["L"] * 200


def test_a_forced_prefix_is_what_the_network_reads_as_written():
    model = speller({"hello": [HH, AH0, L, OW1], "lo": [L, OW1]}, has_attention=True)
    (found,), (other,) = model.translate(["hello", "lo"], GenerateOptions(forced_prefix=" HH  AH0"), attention=True)
    assert (found.text, found.tokens, found.finish_reason) == ("HH AH0 L OW1", (L, OW1, END), "end")
    assert found.log_prob == about(3 * math.log(0.9))
    assert found.token_log_probs == about((math.log(0.9),) * 3)
    assert found.attention.weights.argmax(axis=1).tolist() == [2, 3, 4], "where it looked from the third token on"
    assert found.attention.written == ("L", "OW1", "</s>")
    assert other.text.startswith("HH AH0")
    beams = GenerateOptions(forced_prefix="HH AH0", num_beams=3, num_return_sequences=2)
    assert model.translate("hello", beams)[0].text == "HH AH0 L OW1"


def test_a_forced_prefix_may_end_within_a_word_of_several_tokens():
    target = Tokenizer.train("bpe", ["the cat sat on the mat\n" * 9], vocab_size=280)
    (cat,) = target.encode(" cat")
    following = {(*source_of("a"), target.end_id, *target.encode("the")): {cat: 0.9}}
    pair = RememberingPair(scores_after(target.vocab_size, following))
    (found,) = Translator(pair, pair, SOURCE, target).translate(
        "a", GenerateOptions(forced_prefix="the c", max_new_tokens=1)
    )
    assert (found.text, found.tokens) == ("the cat", (cat,))


def test_rules_that_look_back_see_what_is_written_and_not_what_is_read():
    """The source is "lo", of which L and OW1 are no tokens: none of them is a repetition until it is written."""
    model = speller({"lo": [L, OW1, L, OW1]})
    assert model.translate("lo")[0].text == "L OW1 L OW1"
    once = GenerateOptions(no_repeat_ngram_size=1, max_new_tokens=3)
    assert model.translate("lo", once)[0].tokens[:2] == (L, OW1)
    assert L not in model.translate("lo", once)[0].tokens[2:]
    assert L not in model.translate("lo", dataclasses.replace(once, forced_prefix="L"))[0].tokens
    penalty = GenerateOptions(repetition_penalty=50.0, max_new_tokens=3)
    assert model.translate("lo", penalty)[0].tokens[:2] == (L, OW1)
    assert model.translate("lo", penalty)[0].tokens[2] != L
    assert "L OW1" not in model.translate("lo", GenerateOptions(bad_words=("L OW1",), max_new_tokens=4))[0].text
    begun = GenerateOptions(bad_words=("L OW1",), forced_prefix="L", max_new_tokens=1)
    assert OW1 not in model.translate("lo", begun)[0].tokens


@settings(max_examples=25)
@given(texts, st.sampled_from(["", "HH", "L OW1", "ZZ L"]), st.integers(1, 3), st.sampled_from([1.0, 2.0]))
def test_whatever_is_forced_each_text_is_as_it_would_be_alone(several, prefix, num_beams, penalty):
    model = random_translator()
    chosen = GenerateOptions(
        forced_prefix=prefix, num_beams=num_beams, repetition_penalty=penalty, bad_words=("OW1 L",), max_new_tokens=3
    )
    found = model.translate(several, chosen)
    assert found == [model.translate(text, chosen) for text in several]
    written = [each.text for text, many in zip(several, found, strict=True) for each in many if text.strip()]
    assert all(text.startswith(prefix) and "OW1 L" not in text for text in written)


@pytest.mark.parametrize("blank", ["", "  ", "\u3000\t\r"])
def test_a_blank_text_has_the_empty_translation_which_no_network_is_asked_for(blank):
    pair = RememberingPair(random_scores(TARGET.vocab_size, 0), has_attention=True)
    model = Translator(pair, pair, SOURCE, TARGET)
    many = GenerateOptions(num_beams=3, num_return_sequences=3, forced_prefix="HH")
    (found,) = model.translate(blank, many)
    assert (found.text, found.tokens, found.log_prob, found.finish_reason) == ("", (), 0.0, "end")
    assert (found.token_log_probs, found.attention) == (None, None)
    (explained,) = model.translate(blank, attention=True)
    assert explained.token_log_probs == explained.attention.written == explained.attention.source == ()
    assert explained.attention.weights.shape == (0, 0)
    assert pair.encoded == []
    assert model.translate([]) == []


def test_blank_texts_stay_in_their_places():
    model = speller({"hello": [HH, AH0, L, OW1], "lo": [L, OW1]})
    found = model.translate(["", "lo", " ", "hello", ""])
    assert [each.text for (each,) in found] == ["", "L OW1", "", "HH AH0 L OW1", ""]


def test_it_tells_where_it_looked():
    model = speller({"hello": [HH, AH0, L, OW1], "lo": [L, OW1]}, has_attention=True)
    (long,), (short,) = model.translate(["hello", "lo"], attention=True)
    assert short.attention.written == ("L", "OW1", "</s>")
    assert short.attention.source == ("l", "o", "</s>")
    third = 0.5 / 3
    assert short.attention.weights.dtype == np.float32
    np.testing.assert_allclose(short.attention.weights, 0.5 * np.eye(3) + third, rtol=1e-6)
    assert long.attention.weights.shape == (5, 6)
    assert long.attention.weights.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(long.attention.weights.sum(axis=1), 1, rtol=1e-6)
    assert short.token_log_probs == about((math.log(0.9),) * 3)


@settings(max_examples=25)
@given(texts, options)
def test_looking_changes_nothing(several, chosen):
    model = random_translator(has_attention=True)
    for plain, looked in zip(
        model.translate(several, chosen), model.translate(several, chosen, attention=True), strict=True
    ):
        assert [(each.text, each.tokens, each.log_prob) for each in plain] == [
            (each.text, each.tokens, each.log_prob) for each in looked
        ]
        for each in looked:
            assert sum(each.token_log_probs) == about(each.log_prob)
            assert len(each.attention.written) == len(each.tokens) == len(each.attention.weights)


def test_places_of_a_pyramid_stand_for_several_tokens():
    (found,) = speller({"hello": [HH]}, has_attention=True, joined=4).translate("hello", attention=True)
    assert found.attention.source == ("hell", "o</s>")
    assert found.attention.weights.shape == (2, 2)


def test_a_network_without_attention_cannot_tell():
    with pytest.raises(OptionsError, match="no attention"):
        speller({}).translate("a", attention=True)


@pytest.mark.parametrize("prefix", ["", "HH", "L OW1"])
def test_coverage_counts_all_that_was_written_and_no_padding(prefix):
    """The fake looks at place n with 0.5 and shares the rest when it writes its n-th token, forced ones too."""
    model = random_translator(3, has_attention=True)
    chosen = GenerateOptions(num_beams=4, num_return_sequences=4, forced_prefix=prefix, max_new_tokens=4)
    covered = dataclasses.replace(chosen, coverage_penalty=0.3)
    several = ["lo", "hello", "abc", "a"]
    found = model.translate(several, covered)
    assert found == [model.translate(text, covered) for text in several]
    assert found != model.translate(several, chosen)
    for text, translations in zip(several, found, strict=True):
        places = len(text) + 1
        for each in translations:
            coverage = np.zeros(places)
            for written in range(len(prefix.split()) + len(each.tokens)):
                coverage += 0.5 / places
                coverage[written % places] += 0.5
            penalty = 0.3 * np.log(np.minimum(coverage, 1)).sum()
            assert each.score == about(each.log_prob / len(each.tokens) + penalty)


def test_coverage_counts_the_tokens_that_finish_a_word():
    """A forced prefix may end within one; its covers look, too, and one of them may be all that is written."""
    target = Tokenizer.train("bpe", ["the cat sat on the mat\n" * 9], vocab_size=280)
    pair = RememberingPair(random_scores(target.vocab_size, 0), has_attention=True)
    model = Translator(pair, pair, SOURCE, target)
    forced = GenerateOptions(
        forced_prefix="the c", num_beams=3, num_return_sequences=3, max_new_tokens=1, coverage_penalty=0.5
    )
    found = model.translate("hello", forced)
    settled = len(target.encode_typing("the c")[0])
    assert len(found) == 3
    for each in found:
        coverage = np.full(6, (settled + len(each.tokens)) * 0.5 / 6)
        coverage[: settled + len(each.tokens)] += 0.5
        penalty = 0.5 * np.log(np.minimum(coverage, 1)).sum()
        assert each.score == about(each.log_prob / len(each.tokens) + penalty)


@pytest.mark.parametrize("attention", ["dot", "bahdanau"])
def test_coverage_is_that_of_a_real_networks_attention(attention):
    """Scores are worked out again from where each token looked; and a text in a batch keeps them."""
    export_network(Path("model.rnn"), "translate", attention=attention, num_layers=2)
    model = rnn_edge.load("model.rnn")
    chosen = GenerateOptions(num_beams=4, num_return_sequences=4, coverage_penalty=0.5, max_new_tokens=6)
    several = ["the cat", "on", "the mat sat on the cat"]
    found = model.translate(several, chosen, attention=True)
    plain = model.translate(several, chosen)
    assert plain == [model.translate(text, chosen) for text in several]
    for translations, same in zip(found, plain, strict=True):
        for each, other in zip(translations, same, strict=True):
            coverage = each.attention.weights.sum(axis=0)
            penalty = 0.5 * np.log(np.minimum(coverage, 1)).sum()
            assert each.score == other.score == pytest.approx(each.log_prob / len(each.tokens) + penalty, abs=1e-4)


def test_what_was_not_looked_at_at_all_costs_no_more_than_a_float_can_tell():
    state = (np.zeros((1, 2, 1), np.float32), np.array([[[0.0, 1.0], [0.5, 2.0]]], np.float32))
    assert uncovered(state, penalty=2.0).tolist() == about([-2 * math.log(2.0**-126), 2 * math.log(2)])


def test_without_attention_there_is_no_coverage():
    chosen = GenerateOptions(num_beams=2, coverage_penalty=0.2)
    with pytest.raises(OptionsError, match="no attention"):
        speller({}).translate("a", chosen)
    pair = RememberingPair(random_scores(TARGET.vocab_size, 0))
    with pytest.raises(OptionsError, match="no attention"):
        Describer(pair, pair, TARGET, 2).describe(np.zeros((1, 2)), chosen)


@settings(max_examples=25)
@given(texts)
def test_a_translation_is_scored_as_it_was_found(several):
    model = random_translator()
    found = zip(several, model.translate(several, GenerateOptions(max_new_tokens=4)), strict=True)
    pairs = [(text, each) for text, (each,) in found if each.tokens == (*TARGET.encode(each.text), END)]
    scores = model.score([text for text, _ in pairs], [each.text for _, each in pairs])
    assert scores == [about(each.log_prob) for _, each in pairs]


def test_a_score_is_the_log_prob_of_the_tokens_and_the_end():
    model = speller({"hello": [HH, AH0, L, OW1], "lo": [L, OW1]})
    assert model.score(["hello", "lo"], ["HH AH0 L OW1", "L OW1"]) == about([5 * math.log(0.9), 3 * math.log(0.9)])
    with pytest.raises(TextError, match="got 2 texts, 1 translations"):
        model.score(["a", "b"], ["L"])


def test_without_a_token_to_start_from_nothing_can_be_written():
    pair = RememberingPair(random_scores(2, 0))
    with pytest.raises(BundleError, match="cannot begin to write"):
        Translator(pair, pair, SOURCE, Tokenizer.characters("ab"))


def test_a_vector_is_described():
    following = {(1005, 1002, START): {HH: 0.9}, (1005, 1002, START, HH): {END: 0.8}, (1001, 1001, START): {END: 0.7}}
    pair = RememberingPair(scores_after(TARGET.vocab_size, following))
    model = Describer(pair, pair, TARGET, 2)
    vectors = np.array([[5, 2], [1, 1]], np.float32)
    ((forced,),) = model.describe(vectors[:1], GenerateOptions(forced_prefix="HH"))
    assert (forced.text, forced.tokens, forced.log_prob) == ("HH", (END,), about(math.log(0.8)))
    (first,), (second,) = model.describe(vectors)
    assert (first.text, second.text) == ("HH", "")
    assert first.log_prob == about(math.log(0.9 * 0.8))
    assert model.describe(vectors[1:])[0] == [second]
    assert model.describe(np.zeros((0, 2))) == []


@pytest.mark.parametrize(
    "vectors", [np.zeros(2), np.zeros((1, 3)), [[1, math.nan]], [[1, 1e39]], [["a", "b"]], [[1, 2], [3]]]
)
def test_what_is_no_vector_is_refused(vectors):
    pair = RememberingPair(random_scores(TARGET.vocab_size, 0))
    with pytest.raises(TextError, match=r"vectors must be .*float32 \(batch, 2\)"):
        Describer(pair, pair, TARGET, 2).describe(vectors)

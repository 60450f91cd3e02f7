"""Suggestions are those that brute force finds, in order, with exact log-probs; and they stay where they are."""

from __future__ import annotations

import math
import re
from itertools import pairwise, takewhile
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import RememberingModel, about, log_prob, random_scores, scores_after
from runtimes.test_language_model import KINDS, model_of, sentence_model, tokenizer_of, without_end

from rnn_edge.errors import OptionsError, TextError
from rnn_edge.runtimes.decoding import read
from rnn_edge.runtimes.language_model import LanguageModel
from rnn_edge.runtimes.lexicon import Lexicon
from rnn_edge.runtimes.suggesting import Suggester, Suggestion, SuggestOptions, enough, keep_places
from rnn_edge.runtimes.token_table import TokenTable
from rnn_edge.text import Tokenizer

LEAST = -6.0  # log-prob down to which all paths are enumerated
PIECES = ["a", "b", " ", "ab", " a", "é", "_", "\n", "ba", ", ", "_ a", "bé", "a,"]
WORD, BETWEEN = r"[\w']", r"[^\w'\n]"


def random_case(seed: int):
    """A few tokens, whole characters and halves; and what was typed, of which the end was not read yet."""
    generator = np.random.default_rng(seed)
    spoken = [piece.encode() for piece in generator.choice(PIECES, 4, replace=False)]
    token_bytes = [b"", b"<unk>", *spoken, b"\xc3", b"\xa9"][: int(generator.integers(6, 9))]
    tokenizer = SimpleNamespace(
        token_bytes=token_bytes,
        end_id=0,
        unknown_id=1 if generator.random() < 0.5 else None,
        kind=str(generator.choice(["bpe", "words"])),
    )
    settled = "".join(generator.choice(["a", "b", " ", ","], generator.integers(0, 3)))
    pending = "".join(generator.choice(["a", "b", " ", "é", "_"], generator.integers(0, 3)))
    return tokenizer, settled + pending, pending, random_scores(len(token_bytes), seed)


def ending(typed_word: str, text: str, num_words: int) -> str | None:
    """Return the part of a text before it ends a suggestion, or nothing while it is open."""
    whole = typed_word + text
    line = whole.split("\n")[0]
    pattern = rf"{BETWEEN}*({WORD}+{BETWEEN}+){{{num_words - 1}}}{WORD}+(?={BETWEEN})"
    if found := re.match(pattern, line):
        return found[0][len(typed_word) :]
    return line[len(typed_word) :] if "\n" in whole else None


def by_brute_force(tokenizer, scores, text: str, pending: str, num_words: int) -> dict[str, float]:
    """Return all suggestions above LEAST with the log-prob of their likeliest spelling."""
    typed_word = re.search(rf"{WORD}*$", text)[0]
    found: dict[str, float] = {}
    others = {tokenizer.end_id, tokenizer.unknown_id} - {None}
    stack = [((), 0.0)]
    while stack:
        path, before = stack.pop()
        said = b"".join(tokenizer.token_bytes[token] for token in path)
        groups: dict[str, float] = {}
        for token, more in enumerate(tokenizer.token_bytes):
            one = before + log_prob(scores, [token], [0, *path])
            whole, typed = said + more, pending.encode()
            if token in others:
                if said.startswith(typed) and _decodes(said[len(typed) :]):
                    groups[said[len(typed) :].decode()] = groups.get(said[len(typed) :].decode(), 0.0) + math.exp(one)
            elif whole.startswith(typed):
                rest = whole[len(typed) :]
                whole_characters = rest[: _complete(rest)] if _complete(rest) is not None else None
                if whole_characters is None:
                    continue
                end = ending(typed_word, whole_characters.decode(), num_words)
                if end is not None:
                    groups[end] = groups.get(end, 0.0) + math.exp(one)
                elif one > LEAST:
                    stack.append(((*path, token), one))
            elif typed.startswith(whole) and tokenizer.kind != "words" and one > LEAST:
                stack.append(((*path, token), one))
        for end, prob in groups.items():
            shown = re.sub(rf"{BETWEEN}+$", "", end)
            if shown and math.log(prob) > LEAST:
                found[shown] = max(found.get(shown, -math.inf), math.log(prob))
    return found


def _decodes(said: bytes) -> bool:
    return _complete(said) == len(said)


def _complete(said: bytes) -> int | None:
    """Return how many bytes are whole characters, if what follows may become one."""
    for length in range(len(said), max(-1, len(said) - 2), -1):
        try:
            said[:length].decode()
        except UnicodeDecodeError:
            continue
        return length if said[length:] in (b"", b"\xc3") else None
    return None


@pytest.mark.parametrize(
    "seeds", [range(500), pytest.param(range(500, 10_000), marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_suggestions_are_those_of_brute_force(seeds):
    """Whatever was typed lies across tokens, or in the middle of a character; words and phrases."""
    total = 0
    for seed in seeds:
        tokenizer, text, pending, scores = random_case(seed)
        num_words = 1 + seed % 3
        options = SuggestOptions(num_words=num_words, max_reads=10**6)
        model = RememberingModel(scores)
        found = Suggester(model, tokenizer, TokenTable.of(tokenizer)).suggest(
            read(model, [[0]]), text, pending, options
        )
        found = list(takewhile(lambda each: each.log_prob > LEAST, found))
        expected = by_brute_force(tokenizer, scores, text, pending, num_words)
        assert expected == about({each.text: each.log_prob for each in found}), seed
        assert all(better.log_prob >= worse.log_prob for better, worse in pairwise(found))
        assert all(each.exact for each in found)
        total += len(found)
    assert total > 3 * len(seeds), "there must be something to compare"


@pytest.mark.parametrize("kind", KINDS)
def test_the_word_under_the_cursor_is_finished(kind):
    """Wherever in it the typist is, and with whatever tokens."""
    model = sentence_model(kind, "the numbers cat")
    for typed, expected in (("the nu", "mbers"), ("the number", "s"), ("the ", "numbers"), ("", "the"), ("t", "he")):
        best, *_ = model.suggest(typed)
        assert expected == best.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_phrase_goes_on_to_more_words(kind):
    model = sentence_model(kind, "the numbers cat")
    assert model.suggest("th", SuggestOptions(num_words=2))[0].text == "e numbers"
    assert model.suggest("the nu", SuggestOptions(num_words=5))[0].text == "mbers cat"


def test_a_whole_word_is_not_suggested_again():
    model = sentence_model("words", "the numbers cat")
    assert all(each.text for each in model.suggest("the numbers"))


def test_finishing_the_token_reads_nothing_further():
    model = sentence_model("words", "the numbers cat")
    suggestions = model.suggest("the nu", SuggestOptions(num_words=0))
    assert suggestions[0] == Suggestion("mbers", about(math.log(0.9)), exact=True)
    assert model._model.tokens_read == 2  # the end token and "the"


def test_the_end_of_a_word_counts():
    """By hand: after "a" comes "b" in 6 of 10 cases and the end in 4; after "b" the end in 5 of 10, else "a"."""
    tokenizer = Tokenizer.characters("ab ")
    following = {(0,): {1: 0.6, 2: 0.4}, (1,): {2: 0.5, 0: 0.5}}
    model = LanguageModel(RememberingModel(scores_after(3, following)), tokenizer)
    best, second, *_ = model.suggest("a")
    assert (best.text, about(math.exp(best.log_prob))) == ("b", 0.3)
    assert (second.text, about(math.exp(second.log_prob))) == ("ba", 0.6 * 0.5 * 0.4)


def test_a_search_that_gives_up_says_so():
    tokenizer = Tokenizer.characters("ab ")
    model = LanguageModel(RememberingModel(scores_after(3, {})), tokenizer)
    found = model.suggest("a", SuggestOptions(num_suggestions=100, max_reads=5))
    assert [each.exact for each in found] == sorted((each.exact for each in found), reverse=True)
    assert not found[-1].exact


@pytest.mark.parametrize("kind", KINDS)
def test_a_lexicon_allows_only_its_words(kind):
    lexicon = Lexicon(["cat", "cats", "number", "the"])
    model = model_of(kind)
    options = SuggestOptions(num_suggestions=2, num_words=2, max_reads=100)
    for typed in ("the c", "the numb", "The", "the"):
        for suggestion in model.suggest(typed, options, lexicon=lexicon):
            assert all(lexicon.has(word) for word in re.findall(r"[\w']+", typed + suggestion.text))


def test_a_lexicon_by_hand():
    model = sentence_model("bpe", "the numbers cat")
    assert model.suggest("the nu", lexicon=Lexicon(["numb", "nut"]))[0].text == "mb"
    assert model.suggest("The nu", lexicon=Lexicon(["xyz"])) == []


@pytest.mark.parametrize("kind", KINDS)
def test_user_words_stand_among_the_others(kind):
    """With their share: 0.1 for all, to 0.9 for the model's; of two words, one was used three times."""
    model = sentence_model(kind, "the numbers cat")
    words = Lexicon({"nuzzle": 1}).with_word("nugget", 2).with_word("nugget")
    found = {each.text: each.log_prob for each in model.suggest("the nu", user_words=words)}
    assert found["gget"] == about(math.log(0.75 * 0.1 / 0.9))
    assert found["zzle"] == about(math.log(0.25 * 0.1 / 0.9))
    assert "mbers" in found


def test_a_user_word_needs_no_token():
    assert "yz" in [each.text for each in model_of("words").suggest("the x", user_words=Lexicon(["xyz"]))]


def test_a_model_without_end_token_suggests():
    tokenizer = without_end(tokenizer_of("bpe"))
    model = LanguageModel(RememberingModel(random_scores(tokenizer.vocab_size, 0)), tokenizer)
    assert model.suggest("numb")
    with pytest.raises(TextError, match="no end token"):
        model.suggest("")


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_suggests_what_its_model_does(kind):
    model = model_of(kind)
    session = model.session()
    for typed in ("the ", "n", "u", "m"):
        session.type(typed)
        assert session.fork().suggest(SuggestOptions(margin=0.0)) == model.suggest(session.text)


# Places


suggestions = st.lists(
    st.tuples(st.sampled_from(["b", "c", "d", "e", "f", "g"]), st.floats(-5, 0)),
    unique_by=lambda each: each[0],
    max_size=6,
).map(lambda found: [Suggestion(text, prob, True) for text, prob in sorted(found, key=lambda each: -each[1])])
shown_texts = st.lists(st.sampled_from(["ab", "ac", "ad", "xe", "xf"]), unique=True, max_size=3)


@given(shown_texts, suggestions, st.floats(0, 3))
def test_places_are_kept_and_order_is_wrong_by_no_more_than_the_margin(shown, found, margin):
    options = SuggestOptions(margin=margin)
    placed = keep_places(shown, "a", found, options)
    assert len(placed) == len(set(placed)) == min(3, len(found))
    assert set(placed) <= set(found)
    for first in range(len(placed)):
        assert all(each.log_prob <= placed[first].log_prob + margin for each in placed[first:])
    left_out = set(found) - set(placed)
    assert all(other.log_prob <= each.log_prob + margin + 1e-9 for other in left_out for each in placed)


@given(shown_texts, suggestions, st.floats(0, 3))
def test_no_more_suggestions_are_looked_for_than_places_need(shown, found, margin):
    options = SuggestOptions(margin=margin)
    few = enough(iter(found), shown, "a", options)
    assert few == found[: len(few)]
    assert keep_places(shown, "a", few, options) == keep_places(shown, "a", found, options)
    assert shown or len(few) <= 3


@given(suggestions, st.floats(0, 3))
def test_the_same_suggestions_stay_as_they_are(found, margin):
    options = SuggestOptions(margin=margin)
    first = keep_places([], "a", found, options)
    assert first == found[:3]
    assert keep_places(["a" + each.text for each in first], "a", found, options) == first


def test_a_place_is_lost_by_more_than_the_margin():
    found = [Suggestion("c", -1.0, True), Suggestion("b", -1.4, True)]
    assert [each.text for each in keep_places(["ab", "ac"], "a", found, SuggestOptions(margin=0.5))] == ["b", "c"]
    assert [each.text for each in keep_places(["ab", "ac"], "a", found, SuggestOptions(margin=0.3))] == ["c", "b"]


def test_a_session_keeps_the_places_of_what_still_fits():
    """By hand: "b" leads with 0.3 to 0.29; once "ab" was typed, what leads is better by less than the margin."""
    following = {(0,): {1: 0.5, 2: 0.5}, (0, 1): {1: 0.3, 2: 0.29}, (0, 1, 1): {3: 1.0}, (0, 1, 2): {3: 1.0}}
    turned = {**following, (0, 1): {1: 0.29, 2: 0.3}}
    models = [
        LanguageModel(RememberingModel(scores_after(4, each)), Tokenizer.characters("abc "))
        for each in (following, turned)
    ]
    assert [[each.text for each in model.suggest("ab")][:2] for model in models] == [["b", "c"], ["c", "b"]]
    session = models[1].session("ab")
    session._shown = ("abb", "abc")
    assert [each.text for each in session.suggest()][:2] == ["b", "c"]
    assert [each.text for each in session.suggest(SuggestOptions(margin=0.0))][:2] == ["c", "b"]


# Options and words


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("num_suggestions", value) for value in (0, 101, 1.0, True)),
        *(("num_words", value) for value in (-1, 21, None)),
        *(("max_reads", value) for value in (0, "1")),
        *(("margin", value) for value in (-0.1, math.nan, math.inf, None)),
        *(("user_weight", value) for value in (0, 1, -1, math.nan)),
        ("joiners", None),
    ],
)
def test_a_wrong_option_is_refused_by_name(name, value):
    with pytest.raises(OptionsError, match=name):
        SuggestOptions(**{name: value})


@given(st.dictionaries(st.text("abA", max_size=3), st.integers(0, 3), max_size=8), st.text("abA", max_size=2))
def test_a_lexicon_finds_words_by_how_they_begin(counts, prefix):
    lexicon = Lexicon(counts)
    expected = sorted((word, times) for word, times in counts.items() if word.startswith(prefix) and word and times)
    assert list(lexicon.starting_with(prefix)) == expected
    assert lexicon.count_of(prefix) == sum(times for _, times in expected)
    assert len(lexicon) == sum(1 for word, times in counts.items() if word and times)
    assert lexicon.has_prefix(prefix) == any(
        word.startswith((prefix, prefix.lower())) for word, times in counts.items() if word and times
    )

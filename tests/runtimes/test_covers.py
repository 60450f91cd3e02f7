"""The best covers of an unfinished word are those that brute force finds, in order, with exact log-probs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import RememberingModel, Scores, about, log_prob, random_scores, scores_after

from rnn_edge.runtimes.covers import best_covers, follow, spell
from rnn_edge.runtimes.decoding import read
from rnn_edge.runtimes.token_table import TokenTable

seeds = st.integers(0, 2**32 - 1)
END, UNKNOWN = 0, 1
pieces = st.lists(st.text("ab", min_size=1, max_size=3).map(str.encode), min_size=1, max_size=6)
typed_bytes = st.text("ab", min_size=1, max_size=4).map(str.encode)


def table_of(*spoken: bytes, joinable: bool = True) -> TokenTable:
    """The end token, an unknown word, and what follows: ids from 2."""
    return TokenTable([b"", b"<unk>", *spoken], left_out={END, UNKNOWN}, joinable=joinable)


def covers_by_brute_force(token_bytes: Sequence[bytes], typed: bytes) -> Iterator[tuple[int, ...]]:
    for token, said in enumerate(token_bytes):
        if token in (END, UNKNOWN):
            continue
        if said.startswith(typed):
            yield (token,)
        elif typed.startswith(said):
            yield from ((token, *others) for others in covers_by_brute_force(token_bytes, typed[len(said) :]))


def covers_after(scores: Scores, table: TokenTable, typed: bytes, *, limit: int = 1, before: Sequence[int] = (END,)):
    model = RememberingModel(scores)
    return best_covers(model, read(model, [before]), typed, table, limit=limit)


@given(pieces, typed_bytes, st.integers(1, 20), st.lists(st.integers(0, 2), min_size=1, max_size=2), seeds)
def test_covers_are_those_of_brute_force(spoken, typed, limit, before, seed):
    table, scores = table_of(*spoken), random_scores(len(spoken) + 2, seed)
    found = covers_after(scores, table, typed, limit=limit, before=before)
    every = {tokens: log_prob(scores, tokens, before) for tokens in covers_by_brute_force(table.token_bytes, typed)}
    best_first = sorted(every, key=every.__getitem__, reverse=True)[:limit]
    assert best_first == [cover.tokens for cover in found]
    assert [every[tokens] for tokens in best_first] == about([cover.log_prob for cover in found])


@given(pieces, typed_bytes, seeds)
def test_a_cover_spells_what_was_typed_and_the_rest(spoken, typed, seed):
    table = table_of(*spoken)
    for cover in covers_after(random_scores(len(spoken) + 2, seed), table, typed, limit=5):
        assert typed + cover.rest == b"".join(table.token_bytes[token] for token in cover.tokens)
        assert cover.left == b""


@given(pieces, typed_bytes, seeds)
def test_following_covers_reads_each_to_its_end(spoken, typed, seed):
    model = RememberingModel(random_scores(len(spoken) + 2, seed))
    covers = best_covers(model, read(model, [[END, 2]]), typed, table_of(*spoken), limit=5)
    if covers:
        position = follow(model, covers)
        assert [(END, 2, *cover.tokens) for cover in covers] == model.histories(position.state)


def test_the_example_of_the_module_by_hand():
    """0.2 " numbers", 0.5 · 0.5 " n" "umpy", 0.1 " nu": the two tokens come first."""
    table = table_of(b" numbers", b" n", b"umpy", b" nu", b"numb")
    scores = scores_after(7, {(): {2: 0.2, 3: 0.5, 5: 0.1}, (3,): {4: 0.5}})
    found = covers_after(scores, table, b" nu", limit=9)
    assert [(cover.tokens, cover.rest) for cover in found] == [((3, 4), b"mpy"), ((2,), b"mbers"), ((5,), b"")]
    assert np.exp([cover.log_prob for cover in found]) == about([0.25, 0.2, 0.1])


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_of_equals_the_lowest_ids_come_first(limit):
    """Whatever the order of their bytes."""
    found = covers_after(lambda _: [0.0] * 5, table_of(b"ab", b"aa", b"a"), b"a", limit=limit)
    assert [cover.tokens for cover in found] == [(2,), (3,), (4,)][:limit]


def test_tokens_of_the_same_bytes_are_all_found():
    table = table_of(b"a", b"a", b"b")
    found = {cover.tokens for cover in covers_after(random_scores(5, 0), table, b"ab", limit=9)}
    assert found == {(2, 4), (3, 4)}


def test_the_end_and_the_unknown_word_never_cover():
    assert covers_after(lambda _: [9.0, 9.0, 0.0], table_of(b"x"), b"<", limit=9) == []
    assert covers_after(lambda _: [9.0, 9.0, 0.0], table_of(b"<"), b"<", limit=9)[0].tokens == (2,)


def test_half_a_character_may_be_covered():
    """Byte by byte, as byte-level vocabularies spell what they do not know."""
    table = table_of(b"\xc3", b"\xa9", b"\xc3\xa8")
    assert covers_after(random_scores(5, 0), table, "é".encode())[0].tokens == (2, 3)


def test_where_a_word_is_one_token_nothing_is_joined():
    table = table_of(b" n", b"umpy", b" numbers", joinable=False)
    found = covers_after(random_scores(5, 0), table, b" nu", limit=9)
    assert [cover.tokens for cover in found] == [(4,)]


def test_what_the_model_rules_out_is_no_cover():
    scores = [0.0, 0.0, -np.inf, 0.0, -np.inf]
    assert covers_after(lambda _: scores, table_of(b"a", b"b", b"ab"), b"ab", limit=9) == []


def test_a_search_reads_no_more_than_it_may():
    """Forty letters have billions of paths; the search gives up, and what it has seen is in order."""
    model = RememberingModel(random_scores(6, 0))
    position, table = read(model, [[END]]), table_of(b"a", b"aa", b"aaa", b"aaaa")
    assert best_covers(model, position, b"a" * 40, table, limit=9) == []
    found = best_covers(model, position, b"a" * 9, table, limit=1000)
    assert model.tokens_read <= 1 + 2 * 64
    assert found
    assert [cover.log_prob for cover in found] == sorted((cover.log_prob for cover in found), reverse=True)


def test_spelling_gives_the_same_as_covering():
    model = RememberingModel(random_scores(5, 0))
    position, table = read(model, [[END]]), table_of(b"a", b"b", b"c")
    (cover,) = best_covers(model, position, b"abc", table, limit=9)
    spelled = spell(model, position, [2, 3, 4])
    assert (cover.tokens, cover.rest, cover.left) == (spelled.tokens, spelled.rest, spelled.left)
    assert cover.log_prob == spelled.log_prob
    assert model.histories(cover.state) == model.histories(spelled.state) == [(END, 2, 3)]

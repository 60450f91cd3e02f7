"""Beams find what brute force finds, and a prompt in any batch what it finds alone."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import (
    RULES,
    RememberingModel,
    about,
    all_paths,
    log_prob,
    prompts_of,
    random_scores,
    scores_after,
    seeds,
    walk_to_the_end,
)

from rnn_edge.runtimes.beams import Pruning, beam_search
from rnn_edge.runtimes.decoding import (
    Path,
    greedily,
    read,
)


def search(model, prompts, rules, num_beams):
    starts = [[Path()] for _ in prompts]
    return beam_search(model, starts, read(model, prompts), rules, num_beams=num_beams)


@given(st.integers(2, 3), st.integers(1, 4), prompts_of, seeds, st.sampled_from([None, 0, 1]))
def test_a_beam_as_wide_as_the_tree_is_exhaustive(vocab, length, prompts, seed, end_id):
    """Nothing is pruned, so every path of the tree is found, for each of several prompts at once."""
    scores = random_scores(vocab, seed)
    prompts = [[token % vocab for token in prompt] for prompt in prompts]
    rules = replace(RULES, end_id=end_id, max_new_tokens=length)
    found = search(RememberingModel(scores), prompts, rules, vocab**length)
    for prompt, paths in zip(prompts, found, strict=True):
        expected = {path: log_prob(scores, path, prompt) for path in all_paths(vocab, length, end_id=end_id)}
        assert expected == about({path.tokens: path.log_prob for path in paths})


@given(prompts_of, seeds, st.integers(1, 4), st.sampled_from([None, 0]), st.sampled_from([(), (b"bc",)]))
def test_a_prompt_finds_in_any_batch_what_it_finds_alone(prompts, seed, num_beams, end_id, stops):
    scores = random_scores(3, seed)
    rules = replace(RULES, end_id=end_id, stops=stops, max_new_tokens=4)
    together = search(RememberingModel(scores), prompts, rules, num_beams)
    assert together == [search(RememberingModel(scores), [prompt], rules, num_beams)[0] for prompt in prompts]


@given(seeds, st.integers(1, 5), st.sampled_from([None, 0]), st.sampled_from([None, 1]))
def test_a_beam_of_k_goes_on_with_the_k_best_until_no_better_can_come(seed, num_beams, end_id, unknown_id):
    """Beside a slow reference that scores every path from its beginning."""
    scores = random_scores(4, seed)
    rules = replace(RULES, end_id=end_id, unknown_id=unknown_id, max_new_tokens=4)
    live, ended = [()], []
    for length in range(1, 5):
        grown = [(*path, token) for path in live for token in range(4) if token != unknown_id]
        grown.sort(key=lambda path: -log_prob(scores, path, [2]))
        ending = [path for path in grown if path[-1] == end_id or length == 4]
        ended += [path for path in grown[:num_beams] if path in ending]
        ended = sorted(ended, key=lambda path: -log_prob(scores, path, [2]))[:num_beams]
        live = [path for path in grown[: 2 * num_beams] if path not in ending][:num_beams]
        if len(ended) == num_beams:
            worst = log_prob(scores, ended[-1], [2])
            live = [path for path in live if log_prob(scores, path, [2]) > worst]
    found = search(RememberingModel(scores), [[2]], rules, num_beams)[0]
    assert ended == [path.tokens for path in found]


def test_one_beam_is_greedy():
    scores = random_scores(4, 3)
    (greedy,) = walk_to_the_end(RememberingModel(scores), [[0]], greedily(RULES), RULES)
    ((found,),) = search(RememberingModel(scores), [[0]], RULES, 1)
    assert found._replace(log_prob=about(greedy.log_prob)) == greedy


def test_a_beam_may_leave_the_greedy_path_by_hand():
    """Greedy takes b (0.6) and then anything (0.5 each); c (0.4) is followed by d for certain."""
    after = {(0,): {1: 0.6, 2: 0.4}, (0, 1): {0: 0.5, 1: 0.5}, (0, 2): {3: 1.0}}
    rules = replace(RULES, max_new_tokens=2)
    found = search(RememberingModel(scores_after(4, after)), [[0]], rules, 2)[0]
    assert [(path.tokens, about(math.exp(path.log_prob))) for path in found] == [((2, 3), 0.4), ((1, 0), 0.3)]


def test_of_equals_the_earlier_beam_and_the_lower_id_win():
    rules = replace(RULES, max_new_tokens=2)
    found = search(RememberingModel(lambda _: [0.0, 0.0, 0.0]), [[0]], rules, 4)[0]
    assert [path.tokens for path in found] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_a_stop_string_ends_one_beam_and_not_the_other():
    after = {(0,): {1: 0.6, 2: 0.4}, (1,): {2: 1.0}, (2,): {3: 1.0}, (3,): {3: 1.0}}
    rules = replace(RULES, stops=(b"bc",))
    found = search(RememberingModel(scores_after(4, after)), [[0]], rules, 2)[0]
    assert [(path.tokens, path.said, path.finish) for path in found] == [
        ((1, 2), b"", "stop"),
        ((2, 3, 3), b"cdd", "length"),
    ]


SEVEN = replace(RULES, token_bytes=[bytes([letter]) for letter in b"abcdefg"])
AFTER = {
    (0,): {0: 0.25, 1: 0.2, 2: 0.15, 3: 0.13, 4: 0.12, 5: 0.1},
    (5,): {5: 1.0},
}


def test_a_path_goes_on_beside_five_better_ones_that_a_stop_string_ends():
    """It is the last of the first 2 * 3, of which three have a place where they end; but is worth more per token."""
    rules, sure = replace(SEVEN, stops=(b"a", b"b", b"c", b"d", b"e")), Pruning(early_stopping="never")
    model = RememberingModel(scores_after(7, AFTER))
    (found,) = beam_search(model, [[Path()]], read(model, [[0]]), rules, num_beams=3, length_penalty=2.0, pruning=sure)
    assert [path.tokens for path in found] == [(5, 5, 5), (0,), (1,)]


def test_paths_that_their_length_ends_take_the_places_of_one_that_would_go_on():
    """The first 2 * 3 all grow from the longer start."""
    longer, shorter = Path((0,), 0.0, b"ab", 2), Path((5,), -4.0, b"", 0)
    model = RememberingModel(scores_after(7, AFTER))
    position = read(model, [[0], [5]])
    (found,) = beam_search(model, [[longer, shorter]], position, SEVEN, num_beams=3, length_penalty=9.0)
    assert [path.tokens for path in found] == [(0, 0), (0, 1), (0, 2)]


def test_starts_that_have_ended_take_their_place_in_the_beam():
    model = RememberingModel(random_scores(3, 0))
    done = Path((2,), -1.0, b"c", 1, "stop")
    found = beam_search(model, [[done, Path()], [done]], read(model, [[0]]), RULES, num_beams=2)
    rivals = search(model, [[0]], RULES, 2)[0]
    assert found == [sorted([done, *rivals], key=lambda path: -path.log_prob)[:2], [done]]


def test_all_beams_of_all_prompts_share_a_step():
    model = RememberingModel(random_scores(3, 0))
    search(model, [[0], [1], [2]], RULES, 2)
    assert model.steps == 1 + 2

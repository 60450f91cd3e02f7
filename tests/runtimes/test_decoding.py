"""Walks and beams find what brute force finds, and a prompt gives in any batch what it gives alone."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import RememberingModel, about, all_paths, log_prob, random_scores, scores_after

from rnn_edge.runtimes.decoding import (
    Path,
    Rules,
    beam_search,
    begin,
    extend,
    greedily,
    join,
    randomly,
    read,
    score_tokens,
    take,
    walk,
)
from rnn_edge.runtimes.options import GenerateOptions

seeds = st.integers(0, 2**32 - 1)
RULES = Rules(token_bytes=[b"a", b"b", b"c", b"d"], end_id=None, unknown_id=None, max_new_tokens=3)
prompts_of = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=4)


def walk_to_the_end(model, prompts, choose, rules, starts=None):
    *_, paths = walk(model, starts or [Path()] * len(prompts), read(model, prompts), choose, rules)
    return paths


def search(model, prompts, rules, num_beams):
    starts = [[Path()] for _ in prompts]
    return beam_search(model, starts, read(model, prompts), rules, num_beams=num_beams)


# Reading


@given(prompts_of, seeds)
def test_prompts_are_read_together_as_each_alone(prompts, seed):
    model = RememberingModel(random_scores(3, seed))
    position = read(model, prompts)
    assert model.histories(position.state) == [tuple(prompt) for prompt in prompts]
    assert position.logits.tolist() == [random_scores(3, seed)(tuple(prompt)) for prompt in prompts]
    assert model.tokens_read == sum(map(len, prompts))


def test_a_long_prompt_is_read_in_stretches():
    model = RememberingModel(lambda history: [len(history), 0])
    prompts = [[0] * 1200, [1], [0, 1] * 300]
    assert model.histories(read(model, prompts).state) == [tuple(prompt) for prompt in prompts]
    assert model.steps == 3


def test_reading_goes_on_from_a_state():
    model = RememberingModel(random_scores(3, 0))
    before = read(model, [[0, 1], [2]])
    after = read(model, [[1], [1, 1]], before.state)
    assert model.histories(after.state) == [(0, 1, 1), (2, 1, 1)]


def test_positions_are_taken_apart_and_joined():
    model = RememberingModel(random_scores(3, 0))
    position = read(model, [[0], [1], [2]])
    other = join([take(position, [2, 2]), take(position, []), take(position, [0])])
    assert model.histories(other.state) == [(2,), (2,), (0,)]
    assert np.array_equal(other.logits, position.logits[[2, 2, 0]])


@given(prompts_of, seeds)
def test_scores_of_tokens_are_those_of_each_text_alone(texts, seed):
    scores = random_scores(3, seed)
    found = score_tokens(RememberingModel(scores), texts)
    for text, log_probs in zip(texts, found, strict=True):
        expected = [log_prob(scores, [token], text[:index]) for index, token in enumerate(text)]
        assert expected[1:] == about(log_probs.tolist())


def test_more_texts_than_a_batch_holds_are_scored():
    texts = [[0, 1] + [1] * (index % 7) for index in range(150)]
    alone = [score_tokens(RememberingModel(random_scores(2, 0)), [text])[0].tolist() for text in texts]
    together = score_tokens(RememberingModel(random_scores(2, 0)), texts)
    assert alone == [log_probs.tolist() for log_probs in together]


# What ends a path


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([b"ab", b"c"], (b"abc", None)),
        ([b"ab", b"xy"], (b"ab", "stop")),
        ([b"ab", b"x", b"y"], (b"ab", "stop")),
        ([b"", b"xyxy"], (b"", "stop")),
        ([b"a", b"bxyzw"], (b"ab", "stop")),
        ([b"z", b"wxy"], (b"", "stop")),
        ([b"axyb"], (b"a", "stop")),
    ],
)
def test_a_stop_string_may_span_tokens_and_the_first_one_counts(said, expected):
    rules = replace(RULES, token_bytes=said, stops=(b"xy", b"zw"), max_new_tokens=9)
    path = begin((0,), 0.0, said[0], rules)
    for token in range(1, len(said)):
        path = extend(path, token, 0.0, rules)
    assert expected == (path.said, path.finish)


def test_the_end_token_says_nothing_and_ends():
    path = extend(Path((2,), -1.0, b"c", 1), 0, -0.5, replace(RULES, end_id=0))
    assert path == Path((2, 0), -1.5, b"c", 1, "end")


def test_a_path_ends_at_its_length_and_a_stop_string_goes_before():
    assert extend(Path((), 0.0, b"", 2), 1, -1.0, RULES).finish == "length"
    assert extend(Path((), 0.0, b"", 2), 1, -1.0, replace(RULES, stops=(b"b",))).finish == "stop"
    assert begin((1, 2), -1.0, b"c", replace(RULES, max_new_tokens=1)).finish == "length"
    assert begin((1, 2), -1.0, b"", replace(RULES, max_new_tokens=1)).finish is None


# Greedy


@given(prompts_of, seeds, st.sampled_from([None, 0]), st.sampled_from([None, 1]))
def test_greedy_takes_the_best_token_each_time(prompts, seed, end_id, unknown_id):
    """Every row beside the naive loop, with paths that end at different times."""
    scores = random_scores(3, seed)
    rules = replace(RULES, end_id=end_id, unknown_id=unknown_id)
    paths = walk_to_the_end(RememberingModel(scores), prompts, greedily(rules), rules)
    for prompt, path in zip(prompts, paths, strict=True):
        expected: list[int] = []
        while len(expected) < 3 and (end_id is None or end_id not in expected):
            logits = scores((*prompt, *expected))
            expected.append(max((token for token in range(3) if token != unknown_id), key=logits.__getitem__))
        assert tuple(expected) == path.tokens
        assert log_prob(scores, expected, prompt) == about(path.log_prob)
        assert path.finish == ("end" if expected[-1] == end_id else "length")


def test_a_walk_yields_every_step_and_reads_nothing_in_vain():
    model = RememberingModel(random_scores(3, 0))
    steps = list(walk(model, [Path()], read(model, [[0]]), greedily(RULES), RULES))
    assert [len(path.tokens) for (path,) in steps] == [0, 1, 2, 3]
    assert all(path.said.startswith(before.said) for (before,), (path,) in pairwise(steps))
    assert model.tokens_read == 1 + 2


def test_a_path_that_has_ended_is_left_alone():
    model = RememberingModel(random_scores(3, 0))
    done = Path((2,), -1.0, b"c", 1, "stop")
    paths = walk_to_the_end(model, [[0]], greedily(RULES), RULES, starts=[done, Path()])
    assert paths[0] == done
    assert paths[1] == walk_to_the_end(model, [[0]], greedily(RULES), RULES)[0]


# Sampling


def sample(scores, prompts, options, rules=RULES):
    """One sample of every prompt."""
    generators = [np.random.default_rng((options.seed, 0)) for _ in prompts]
    return walk_to_the_end(RememberingModel(scores), prompts, randomly(rules, options, generators), rules)


@given(prompts_of, seeds, st.sampled_from([None, 0]))
def test_a_prompt_draws_in_any_batch_what_it_draws_alone(prompts, seed, end_id):
    scores, rules = random_scores(3, seed), replace(RULES, end_id=end_id)
    options = GenerateOptions(do_sample=True, seed=seed)
    together = sample(scores, prompts, options, rules)
    assert list(together) == [sample(scores, [prompt], options, rules)[0] for prompt in prompts]


def test_samples_follow_the_model_and_its_memory():
    """After 0 comes 1 or 2, after 1 comes 0, after 2 comes 2: nothing else can be drawn."""
    scores = scores_after(3, {(0,): {1: 0.25, 2: 0.75}, (1,): {0: 1.0}, (2,): {2: 1.0}})
    drawn = [sample(scores, [[0]], GenerateOptions(do_sample=True, seed=seed))[0] for seed in range(400)]
    assert {path.tokens for path in drawn} == {(2, 2, 2), (1, 0, 1), (1, 0, 2)}
    assert sum(path.tokens[0] == 2 for path in drawn) / 400 == pytest.approx(0.75, abs=0.07)


def test_the_log_prob_of_a_sample_is_the_models_own():
    scores = random_scores(3, 5)
    path = sample(scores, [[0]], GenerateOptions(do_sample=True, temperature=9.0, top_k=2))[0]
    assert log_prob(scores, path.tokens, [0]) == about(path.log_prob)


def test_the_unknown_word_is_never_drawn():
    rules = replace(RULES, unknown_id=1)
    options = GenerateOptions(do_sample=True, temperature=100.0)
    prompts = [[0]] * 50
    assert not any(1 in path.tokens for path in sample(random_scores(3, 0), prompts, options, rules))


# Beams


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

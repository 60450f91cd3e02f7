"""Reading and walking: a prompt gives in any batch what it gives alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtimes.fakes import (
    RULES,
    RememberingModel,
    about,
    log_prob,
    prompts_of,
    random_scores,
    scores_after,
    seeds,
    walk_to_the_end,
)

from rnn_edge.runtimes.decoding import (
    Path,
    Position,
    Steps,
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


class MemoryModel:
    """Adds what it reads to `h`, float32 (1, batch, 1), and looks at a memory, float32 (source, batch, 1), as it is."""

    def step(self, tokens, state):
        h, memory = state
        h = h + tokens.T[:, :, None]
        return np.concatenate([h[0], memory[0]], axis=1).astype(np.float32), (h.astype(np.float32), memory)


def _with_memory(*memories):
    memory = np.array([memories, memories], np.float32)[:, :, None]
    return Position(np.zeros((len(memories), 2), np.float32), (np.zeros((1, len(memories), 1), np.float32), memory))


@pytest.mark.parametrize("seed", range(20))
def test_a_memory_goes_where_its_rows_go(seed):
    generator = np.random.default_rng(seed)
    steps, rows = Steps(MemoryModel(), _with_memory(1, 2, 3), moving=1), [(0, 1), (0, 2), (0, 3)]  # h and memory
    for turn in range(12):
        if turn % 5 == 3:
            steps.join(_with_memory(10 + turn, 20 + turn))
            rows += [(0, 10 + turn), (0, 20 + turn)]
        chosen = generator.integers(0, len(rows), generator.integers(1, 6)).tolist()
        tokens = generator.integers(0, 9, len(chosen)).tolist()
        steps.go_on(chosen, tokens)
        rows = [(rows[row][0] + token, rows[row][1]) for row, token in zip(chosen, tokens, strict=True)]
        assert steps.position.logits.tolist() == [list(row) for row in rows]


def test_a_memory_stays_where_it_is_while_rows_of_one_prompt_change_places():
    steps = Steps(MemoryModel(), _with_memory(1, 2), moving=1)
    steps.go_on([0, 0, 1, 1], [1, 2, 3, 4])
    memory = steps.position.state[1]
    steps.go_on([1, 1, 3, 2], [1, 2, 3, 4])
    assert steps.position.state[1] is memory
    assert steps.position.state[0].ravel().tolist() == [3, 4, 7, 7]

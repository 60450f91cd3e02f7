"""Every way of decoding, over random settings, beside the whole tree and a slow reference in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import accumulate

import numpy as np
import pytest
from runtimes import reference
from runtimes.fakes import LookingModel, RememberingModel, about, random_looks, random_scores
from runtimes.reference import Setting

from rnn_edge.runtimes.bad_words import BadWords
from rnn_edge.runtimes.beams import Pruning, beam_search
from rnn_edge.runtimes.coverage import CoveringModel, uncovered
from rnn_edge.runtimes.decoding import Path, Rules, greedily, randomly, read, walk
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.paths import score

SLOWLY = pytest.param(range(1000, 12_000), marks=pytest.mark.slow)
seeds = pytest.mark.parametrize("seeds", [range(1000), SLOWLY], ids=["some", "many"])


def random_setting(generator: np.random.Generator, *, vocab_size: int, max_new_tokens: int) -> Setting:
    """Tokens say one or two letters; each rule is in force every other time."""

    def perhaps(value, default):
        return value if generator.random() < 0.5 else default

    letters = "abc"
    token_bytes = ["".join(generator.choice(list(letters), generator.integers(1, 3))) for _ in range(vocab_size)]
    words = tuple("".join(generator.choice(list(letters), generator.integers(1, 4))).encode() for _ in range(3))
    return Setting(
        scores=random_scores(vocab_size, int(generator.integers(2**32))),
        prompt=tuple(generator.integers(0, vocab_size, generator.integers(1, 5)).tolist()),
        token_bytes=[said.encode() for said in token_bytes],
        end_id=perhaps(0, None),
        unknown_id=perhaps(1, None),
        max_new_tokens=max_new_tokens,
        stops=perhaps(words[:1], ()),
        repetition_penalty=perhaps(float(generator.uniform(0.5, 3.0)), 1.0),
        no_repeat_ngram_size=perhaps(int(generator.integers(1, 4)), 0),
        bad_words=perhaps(words[1:], ()),
    )


def rules_of(setting: Setting) -> Rules:
    return Rules(
        token_bytes=setting.token_bytes,
        end_id=setting.end_id,
        unknown_id=setting.unknown_id,
        max_new_tokens=setting.max_new_tokens,
        stops=setting.stops,
        repetition_penalty=setting.repetition_penalty,
        no_repeat_ngram_size=setting.no_repeat_ngram_size,
        bad_words=BadWords(setting.token_bytes, setting.bad_words) if setting.bad_words else None,
    )


def search(
    setting: Setting, *, num_beams: int, length_penalty: float = 0.0, coverage_penalty: float = 0.0, **pruning
) -> list[Path]:
    model = RememberingModel(setting.scores)
    if setting.looks:
        model = CoveringModel(LookingModel(setting.scores, setting.looks))
    (found,) = beam_search(
        model,
        [[Path(before=setting.prompt)]],
        read(model, [setting.prompt]),
        rules_of(setting),
        num_beams=num_beams,
        length_penalty=length_penalty,
        pruning=Pruning(**pruning),
        uncovered=partial(uncovered, penalty=coverage_penalty) if coverage_penalty else None,
    )
    return found


def walk_to_the_end(setting: Setting, choose) -> Path:
    model = RememberingModel(setting.scores)
    *_, (path,) = walk(model, [Path(before=setting.prompt)], read(model, [setting.prompt]), choose, rules_of(setting))
    return path


@seeds
def test_greedy_takes_what_the_reference_takes(seeds):
    for seed in seeds:
        setting = random_setting(np.random.default_rng(seed), vocab_size=4, max_new_tokens=6)
        path = walk_to_the_end(setting, greedily(rules_of(setting)))
        assert reference.greedy(setting) == (path.tokens, path.finish), seed
        assert (setting.said(path.tokens), about(setting.log_prob(path.tokens))) == (path.said, path.log_prob), seed


@seeds
def test_a_sample_is_drawn_from_what_the_reference_leaves(seeds):
    """The same random number picks the same token, in order of ids."""
    for seed in seeds:
        generator = np.random.default_rng(seed)
        setting = random_setting(generator, vocab_size=5, max_new_tokens=6)
        filters = {
            "temperature": float(generator.uniform(0.3, 2.0)),
            "top_k": int(generator.integers(0, 5)),
            "top_p": float(generator.uniform(0.3, 1.0)),
            "min_p": float(generator.choice([0.0, 0.1, 0.5])),
        }
        options = GenerateOptions(do_sample=True, **filters)
        path = walk_to_the_end(setting, randomly(rules_of(setting), options, [np.random.default_rng(seed)]))
        dice, tokens, finish = np.random.default_rng(seed), (), None
        while not (finish := setting.ends(tokens)):
            logits = [float(score) for score in setting.scores((*setting.prompt, *tokens))]
            if not (allowed := setting.restricted(tokens, logits)):
                finish = "stuck"
                break
            probs = reference.distribution(allowed, **filters)
            reached = zip(probs, accumulate(probs.values()), strict=True)
            drawn = dice.random()
            tokens = (*tokens, next(token for token, total in reached if drawn < total))
        assert (tokens, finish) == (path.tokens, path.finish), seed


@seeds
def test_a_beam_as_wide_as_the_tree_finds_every_path(seeds):
    """Under any rules; best first, at the log-prob that the model gives and the rating that penalties leave."""
    for seed in seeds:
        generator = np.random.default_rng(seed)
        setting = random_setting(generator, vocab_size=int(generator.integers(2, 4)), max_new_tokens=3)
        length_penalty = float(generator.choice([-1.0, 0.0, 0.7, 1.0]))
        found = search(setting, num_beams=3**3, length_penalty=length_penalty, early_stopping="never")
        expected = {path: setting.log_prob(path) for path in reference.leaves(setting)}
        assert expected == about({path.tokens: path.log_prob for path in found}), seed
        worth = [setting.rating(path.tokens) / (len(path.tokens) or 1) ** length_penalty for path in found]
        assert sorted(worth, reverse=True) == about(worth), seed
        assert [setting.rating(path.tokens) for path in found] == about([path.log_prob - path.lost for path in found])
        for path in found:
            assert (setting.said(path.tokens), setting.ends(path.tokens) or "stuck") == (path.said, path.finish), seed


@seeds
def test_a_narrow_beam_finds_what_the_reference_finds(seeds):
    """For every way of giving up paths."""
    for seed in seeds:
        generator = np.random.default_rng(seed)
        setting = random_setting(generator, vocab_size=int(generator.integers(3, 6)), max_new_tokens=5)
        penalty = float(generator.choice([0.0, 0.2, 1.0]))
        setting = replace(setting, looks=random_looks(int(generator.integers(1, 6)), seed) if penalty else None)
        groups = int(generator.choice([1, 1, 2, 3]))
        how = {
            "num_beams": groups * int(generator.integers(1, 4)),
            "length_penalty": float(generator.choice([-1.0, 0.0, 0.7, 1.0, 2.0])),
            "num_groups": groups,
            "diversity_penalty": float(generator.uniform(0, 2)) if groups > 1 else 0.0,
            "threshold": float(generator.choice([0.0, 0.0, 0.05, 0.5, 1.0])),
            "coverage_penalty": penalty,
            **[{"early_stopping": True}, {"early_stopping": "never"}, {}, {"narrowing": True}][generator.integers(4)],
        }
        found, expected = search(setting, **how), reference.beam(setting, **how)
        assert [path for path, _ in expected] == [path.tokens for path in found], (seed, how)
        scores = [score(path, how["length_penalty"]) for path in found]
        assert [worth for _, worth in expected] == about(scores), (seed, how)


def test_coverage_decides_what_a_beam_finds():
    """Else the comparison above would compare nothing; the more it weighs, the more it decides."""
    changed = [0, 0, 0]
    for seed in range(60):
        setting = random_setting(np.random.default_rng(seed), vocab_size=4, max_new_tokens=5)
        setting = replace(setting, looks=random_looks(4, seed))
        plain, *others = (search(setting, num_beams=3, coverage_penalty=penalty) for penalty in (0.0, 1e-9, 0.1, 1.0))
        changed = [count + (plain[0].tokens != other[0].tokens) for count, other in zip(changed, others, strict=True)]
    assert changed[0] == 0 < changed[1] < changed[2]


def test_a_coverage_penalty_by_hand():
    """Of two places, the better text looks at the second with 0.1; the other looks at both."""
    after = {(1,): [0.1, 0.5, 0.4]}
    looks = {(1,): [0.9, 0.1], (1, 1): [1.0, 0.0], (1, 2): [0.1, 0.9]}
    setting = Setting(
        scores=lambda history: list(np.log(after.get(history, [0.9, 0.05, 0.05]))),
        looks=lambda history: looks.get(history, [0.5, 0.5]),
        prompt=(1,),
        token_bytes=[b"", b"b", b"c"],
        end_id=0,
        max_new_tokens=4,
    )
    assert [path.tokens for path in search(setting, num_beams=2)] == [(1, 0), (2, 0)]
    second, first = search(setting, num_beams=2, coverage_penalty=0.2)[::-1]
    assert (first.tokens, score(first, 1.0)) == ((2, 0), about(math.log(0.4 * 0.9) / 2))
    assert (second.tokens, score(second, 1.0)) == ((1, 0), about(math.log(0.5 * 0.9) / 2 + 0.2 * math.log(0.1)))


def test_the_settings_reach_every_rule():
    """Else the comparisons above would compare nothing."""
    settings = [random_setting(np.random.default_rng(seed), vocab_size=4, max_new_tokens=6) for seed in range(300)]
    finishes = [reference.greedy(setting)[1] for setting in settings]
    assert all(finishes.count(finish) > 10 for finish in ("end", "stop", "length", "stuck"))
    for rule, off in (("repetition_penalty", 1.0), ("no_repeat_ngram_size", 0), ("bad_words", ())):
        without = [replace(setting, **{rule: off}) for setting in settings]
        changed = [
            reference.greedy(one) != reference.greedy(other) for one, other in zip(settings, without, strict=True)
        ]
        assert sum(changed) > 10, rule


def test_a_narrowing_beam_by_hand():
    """Of two beams, the first ends at once; the other goes on alone, though it would have had room for two."""
    setting = Setting(
        scores=lambda history: list(np.log([0.6, 0.3, 0.1])) if len(history) == 1 else list(np.log([0.1, 0.5, 0.4])),
        prompt=(1,),
        token_bytes=[b"", b"b", b"c"],
        end_id=0,
        max_new_tokens=2,
    )
    found = search(setting, num_beams=2, narrowing=True)
    assert [(path.tokens, about(math.exp(path.log_prob))) for path in found] == [((0,), 0.6), ((1, 1), 0.15)]
    assert [path.tokens for path in search(setting, num_beams=3, narrowing=True)] == [(0,), (1, 1), (1, 2)]


def test_groups_avoid_one_another_by_hand():
    """Two beams of one group say 0 and 1; as two groups with a penalty, the second avoids the first's first token."""
    after = {(): [0.5, 0.3, 0.2], (0,): [0.5, 0.4, 0.1], (1,): [0.1, 0.1, 0.8]}
    setting = Setting(
        scores=lambda history: list(np.log(after[history[1:]])),
        prompt=(2,),
        token_bytes=[b"a", b"b", b"c"],
        max_new_tokens=2,
    )
    assert [path.tokens for path in search(setting, num_beams=2)] == [(0, 0), (1, 2)]
    assert [path.tokens for path in search(setting, num_beams=2, num_groups=2, diversity_penalty=0.3)] == [
        (0, 0),
        (0, 1),
    ]
    assert [path.tokens for path in search(setting, num_beams=2, num_groups=2, diversity_penalty=1.0)] == [
        (0, 0),
        (1, 2),
    ]


def test_samples_pass_a_chi_square_test():
    """20,000 draws through every filter, against the distribution that the reference leaves."""
    logits = np.random.default_rng(0).normal(size=30).astype(np.float32)
    filters = {"temperature": 1.3, "top_k": 20, "top_p": 0.95, "min_p": 0.05}
    options = GenerateOptions(do_sample=True, **filters)
    rules = Rules(token_bytes=[b"x"] * 30, end_id=None, unknown_id=None, max_new_tokens=100)
    model = RememberingModel(lambda _: logits.tolist())
    choose = randomly(rules, options, [np.random.default_rng(seed) for seed in range(200)])
    *_, paths = walk(model, [Path()] * 200, read(model, [[0]] * 200), choose, rules)
    expected = reference.distribution(dict(enumerate(logits.tolist())), **filters)
    counts = np.bincount([token for path in paths for token in path.tokens], minlength=30)
    assert set(np.flatnonzero(counts)) == set(expected)
    probs = np.array(list(expected.values()))
    observed = counts[list(expected)]
    statistic = float(((observed - 20_000 * probs) ** 2 / (20_000 * probs)).sum())
    assert statistic < _chi_square_limit(len(probs) - 1)


def _chi_square_limit(freedom: int) -> float:
    """Return what chance exceeds once in 10,000 (Wilson and Hilferty 1931)."""
    return freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3

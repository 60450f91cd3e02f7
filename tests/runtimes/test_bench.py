"""What is timed is what was asked for; how long it took is nobody's promise."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import tiny_bundle

from rnn_edge.errors import BundleError
from rnn_edge.runtimes.bench import Times, bench, chained, describe_machine, take_turns


def test_tasks_take_turns():
    calls = []
    found = take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2, seconds=0)
    assert [*"aaabbb", *"abab"] == calls  # a warm-up each, then round by round
    assert {name: len(times.rounds) for name, times in found.items()} == {"a": 2, "b": 2}


def test_a_ratio_compares_round_with_round():
    """A machine that slows down by half between two rounds does not change it."""
    assert Times((2.0, 4.0, 8.0)).over(Times((1.0, 2.0, 4.0))) == Times((2.0, 2.0, 2.0))
    assert Times((1.0, 100.0, 3.0)).median == 3.0
    assert Times((64.0, 128.0)).of(64) == Times((1.0, 2.0))


def test_chained_steps_go_on_from_one_another():
    step = chained(lambda tokens, state: (tokens + state, state + 1), 0, [np.array([10]), np.array([20])])
    assert [int(step()[0]) for _ in range(4)] == [10, 21, 12, 23]


@pytest.mark.parametrize("kind", ["characters", "words", "bpe", "whitespace"])
def test_every_kind_of_language_model_is_timed(kind, tmp_path):
    tiny_bundle(tmp_path / "model.rnn", kind)
    found = bench(tmp_path / "model.rnn", rounds=2, seconds=0)
    assert len(found) == 5
    assert all(len(times.rounds) == 2 and min(times.rounds) > 0 for times in found.values())


def test_what_is_not_a_bundle_is_told(tmp_path):
    with pytest.raises(BundleError):
        bench(tmp_path)


def test_the_machine_is_told_with_what_is_installed():
    told = describe_machine("numpy", "no-such-package")
    assert f"numpy {np.__version__}" in told
    assert "no-such-package" not in told

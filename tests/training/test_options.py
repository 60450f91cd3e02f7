"""Training options check themselves once, and tell everything that is wrong."""

from __future__ import annotations

import pytest

from rnn_edge.errors import TrainingError
from rnn_edge.training.options import TrainOptions

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", None, NAN, 10**12])
@pytest.mark.parametrize("name", ["epochs", "batch_size", "bptt", "eval_interval", "patience"])
def test_counts_are_whole_and_positive(name, value):
    with pytest.raises(TrainingError, match=f"{name} must be a whole number from 1 to"):
        TrainOptions(**{name: value})


@pytest.mark.parametrize("value", [0, -1.0, NAN, INFINITE, "1", False])
@pytest.mark.parametrize("name", ["max_minutes", "learning_rate", "clip_norm"])
def test_rates_are_numbers_above_zero(name, value):
    with pytest.raises(TrainingError, match=f"{name} must be a number above 0, got"):
        TrainOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight_decay", -0.1),
        ("weight_decay", NAN),
        ("warmup", 1.0),
        ("warmup", -0.1),
        ("schedule", "linear"),
        ("seed", -1),
        ("seed", 2**63),
        ("threads", 0),
    ],
)
def test_other_nonsense_is_refused(name, value):
    with pytest.raises(TrainingError, match=name):
        TrainOptions(**{name: value})


def test_all_problems_are_told_at_once():
    with pytest.raises(TrainingError, match=r"epochs .*; bptt .*; learning_rate .*; schedule "):
        TrainOptions(epochs=0, bptt=-1, learning_rate=NAN, schedule="none")


def test_the_learning_rate_rises_then_falls_to_zero():
    options = TrainOptions(learning_rate=1.0, warmup=0.2)
    assert options.learning_rate_at(0.1) == pytest.approx(0.5)
    assert options.learning_rate_at(0.2) == pytest.approx(1.0)
    assert options.learning_rate_at(0.6) == pytest.approx(0.5)
    assert options.learning_rate_at(1.0) == pytest.approx(0.0)


def test_a_constant_learning_rate_only_rises():
    options = TrainOptions(learning_rate=1.0, warmup=0.2, schedule="constant")
    assert options.learning_rate_at(0.1) == pytest.approx(0.5)
    assert options.learning_rate_at(1.0) == 1.0


def test_plain_values_rebuild_the_options():
    options = TrainOptions(max_minutes=2, threads=1, schedule="constant")
    assert TrainOptions(**options.to_dict()) == options

"""Intervals of the benchmarks: of a mean over seeds, by hand, and BLEU from its counts as sacrebleu has it."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("torch")
pytest.importorskip("sacrebleu")

import sacrebleu

from benchmarks.intervals import over_seeds
from benchmarks.objectives import Translated, bleu_of, outcome, over_sentences

FIGURES = Translated(loss=1.0, top1=0.5, tokens=1, pairs=1)
WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree"]


def test_a_mean_over_seeds():
    """Of 1, 2, 3: the deviation is 1, and 4.303 / √3 is 2.48."""
    assert over_seeds([1.0, 2.0, 3.0]) == "2.00 ± 2.48"
    assert over_seeds([3, 3], sign="+", digits=1) == "+3.0 ± 0.0"
    assert over_seeds([-1.5]) == "-1.50 (one seed)"


def test_bleu_is_sacrebleus_and_its_interval_holds_the_difference():
    chance = random.Random(0)
    references = [" ".join(chance.choices(WORDS, k=chance.randint(4, 9))) for _ in range(60)]

    def spoilt(share: float) -> list[str]:
        return [
            " ".join(chance.choice(WORDS) if chance.random() < share else word for word in text.split())
            for text in references
        ]

    good, bad = (spoilt(share) for share in (0.1, 0.4))
    judged = [outcome(FIGURES, written, references) for written in (good, bad)]
    expected = [sacrebleu.corpus_bleu(written, [references]).score for written in (good, bad)]
    assert [bleu_of(each.counts) for each in judged] == pytest.approx(expected)
    assert judged[0].length == pytest.approx(1)
    low, high = (float(end) for end in over_sentences(judged[:1], judged[1:]).split(" to "))
    assert 0 < low < expected[0] - expected[1] < high
    assert over_sentences(judged, judged) == "+0.00 to +0.00"

"""What each objective is worth to a translator, beside maximum likelihood with the same pairs, order and steps.

python -m benchmarks.objectives --train FILES --test FILES --begin model.pt [--objectives minimum-risk mixer]
python -m benchmarks.objectives --train FILES --test FILES --objectives scheduled-sampling [--pairs N] [--epochs N]

Files are what `rnn-edge train --task translate` reads. With --begin all go on with a trained model.pt; else each learns
from nothing. The last weights of a run count, so that nobody has the choice of a best model. All figures are of the
test pairs: BLEU (sacrebleu) and exact matches of greedy translations, where the network reads its own words, and how
often its first guess is right where it is told the true ones. The mean BLEU of single sentences, smoothed by adding 1,
is what minimum risk training and MIXER are paid by; and how long texts are, relative to the references, decides much.

Differences are to maximum likelihood with the same seed, each with two 95 % intervals: over seeds (Student's t), which
says whether another run would do as well, and over sentences (paired bootstrap), whether other sentences would say so.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import numpy as np
import torch
from sacrebleu.metrics.bleu import BLEU

from benchmarks.intervals import over_seeds
from rnn_edge.modules import Checkpoint, Translator, load_checkpoint
from rnn_edge.training import TrainOptions, make_lesson, train
from rnn_edge.training.examples import read_pairs
from rnn_edge.training.options import Objective
from rnn_edge.training.translation import Translated, TranslationLesson

BASE: Objective = "maximum-likelihood"
RESAMPLED = 1000


@dataclass(frozen=True)
class Outcome:
    """A trained network, judged on the test set."""

    figures: Translated
    counts: np.ndarray  # int64 (sentences, 10), what BLEU adds up: lengths, matches and totals of each order
    pay: float  # mean BLEU of single sentences

    @property
    def length(self) -> float:
        """Return how long the translations are, relative to the references."""
        written, wanted = self.counts[:, :2].sum(axis=0).tolist()
        return float(written / wanted)


def outcome(figures: Translated, written: list[str], references: list[str]) -> Outcome:
    """Return what is to be known of translations."""
    pairs = list(zip(written, [[each] for each in references], strict=True))
    smooth, plain = BLEU(smooth_method="add-k", effective_order=True), BLEU(effective_order=True)
    found = [plain.sentence_score(*pair) for pair in pairs]  # the other adds to its counts
    counts = np.array([[each.sys_len, each.ref_len, *each.counts, *each.totals] for each in found])
    return Outcome(figures, counts, fmean(smooth.sentence_score(*pair).score for pair in pairs))


def bleu_of(counts: np.ndarray) -> float:
    """Return BLEU of sentences by the sum of their counts."""
    written, wanted, *matches = counts.sum(axis=0).tolist()
    return float(BLEU.compute_bleu(matches[:4], matches[4:], written, wanted).score)


def over_sentences(ours: list[Outcome], others: list[Outcome]) -> str:
    """Return the interval of the mean difference in BLEU, by a paired bootstrap of the test set's sentences."""
    generator = np.random.default_rng(0)
    sentences = len(ours[0].counts)
    drawn = []
    for _ in range(RESAMPLED):
        rows = generator.integers(0, sentences, sentences)
        drawn.append(
            fmean(bleu_of(a.counts[rows]) - bleu_of(b.counts[rows]) for a, b in zip(ours, others, strict=True))
        )
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{low:+.2f} to {high:+.2f}"


class Experiment:
    """Pairs, and how long is trained on how many of them."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.arguments, self.work = arguments, work
        self.begin = load_checkpoint(arguments.begin) if arguments.begin else None

    def run(self, objective: Objective, seed: int) -> Checkpoint:
        """Train, from nothing or from where all begin; return the last weights."""
        arguments = self.arguments
        never = 2**31 - 1  # so that the one look is at the end, and the last weights are the best
        options = TrainOptions(
            objective=objective,
            seed=seed,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate or (2e-4 if self.begin else 2e-3),
            eval_interval=never,
            threads=1,
            **self._own_options(objective),
        )
        choices = {} if self.begin else {"vocab_size": arguments.vocab_size, "hidden_size": arguments.hidden}
        if arguments.tokenizers and not self.begin:
            choices |= dict(zip(("tokenizer", "target_tokenizer"), arguments.tokenizers, strict=True))
        pairs = self._pairs(seed)
        lesson = make_lesson(
            "translate", pairs, held_out=arguments.test, choices=choices, options=options, begin=self.begin
        )
        output = self.work / f"{objective}-{seed}.pt"
        for _ in train(lesson, output, options=options, begin=self.begin and self.begin.model):
            pass
        return load_checkpoint(output)

    def _own_options(self, objective: Objective) -> dict[str, Any]:
        if objective == "minimum-risk":
            return {"candidates": self.arguments.candidates, "sharpness": self.arguments.sharpness}
        if objective == "mixer":
            return {"baseline": "self-critical", "mixer_delta": self.arguments.mixer_delta}
        return {}

    def _pairs(self, seed: int) -> list[Path]:
        """Write as many pairs as are asked for, drawn by the seed."""
        pairs = read_pairs(self.arguments.train, self.arguments.test).train
        chosen = random.Random(seed).sample(pairs, min(self.arguments.pairs, len(pairs)))
        path = self.work / "train.tsv"
        path.write_text("".join(f"{source}\t{target}\n" for source, target in chosen), encoding="utf-8")
        return [path]

    def judge(self, checkpoint: Checkpoint) -> Outcome:
        """Measure on the test set."""
        test = self.arguments.test
        lesson = make_lesson("translate", test, held_out=test, begin=checkpoint)
        assert isinstance(lesson, TranslationLesson)
        assert isinstance(checkpoint.model, Translator)
        references = [target for _, target in lesson.examples.held_out]
        return outcome(lesson.judge(checkpoint.model), lesson.write(checkpoint.model), references)


def main() -> None:
    """Print a row for each objective and seed, then one for each objective."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--begin", type=Path)
    parser.add_argument("--tokenizers", nargs=2, metavar=("SOURCE", "TARGET"))
    others = [each for each in get_args(Objective) if each != BASE]
    parser.add_argument("--objectives", nargs="+", choices=others, default=["minimum-risk", "mixer"])
    for name, value in (
        ("seeds", 3), ("pairs", 3200), ("epochs", 1), ("batch-size", 16), ("vocab-size", 2000), ("hidden", 192),
        ("candidates", 8), ("mixer-delta", 10),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--sharpness", type=float, default=0.005)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}; {arguments}")
    print("| objective | seed | BLEU | by sentence | length | exact | top-1, told | perplexity | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    found: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(arguments, Path(folder))
        if experiment.begin:
            _print_row("start", "", experiment.judge(experiment.begin), 0.0)
        for seed in range(arguments.seeds):
            for objective in (BASE, *arguments.objectives):
                began = time.perf_counter()
                checkpoint = experiment.run(objective, seed)
                seconds, judged = time.perf_counter() - began, experiment.judge(checkpoint)
                found.setdefault(objective, []).append(judged)
                _print_row(objective, str(seed), judged, seconds)
    _print_differences(found)


def _print_row(objective: str, seed: str, judged: Outcome, seconds: float) -> None:
    figures = judged.figures
    cells = f"{bleu_of(judged.counts):.2f} | {judged.pay:.2f} | {judged.length:.3f} | {figures.exact:.1%}"
    told = f"{figures.top1:.1%} | {figures.perplexity:.2f} | {seconds:.0f}"
    print(f"| {objective} | {seed} | {cells} | {told} |", flush=True)


def _print_differences(found: dict[str, list[Outcome]]) -> None:
    print("\n| objective | mean BLEU | difference, over seeds | over sentences | by sentence, over seeds |")
    print("| --- | --- | --- | --- | --- |")
    for objective, outcomes in found.items():
        mean = fmean(bleu_of(each.counts) for each in outcomes)
        cells = ["", "", ""]
        if objective != BASE:
            pairs = list(zip(outcomes, found[BASE], strict=True))
            bleu = over_seeds([bleu_of(ours.counts) - bleu_of(other.counts) for ours, other in pairs], sign="+")
            pay = over_seeds([ours.pay - other.pay for ours, other in pairs], sign="+")
            cells = [bleu, over_sentences(outcomes, found[BASE]), pay]
        print(f"| {objective} | {mean:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

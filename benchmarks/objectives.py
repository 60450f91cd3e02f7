"""What each objective is worth: from one translator trained by maximum likelihood, all go on for as many steps.

python -m benchmarks.objectives FOLDER [--objectives scheduled-sampling minimum-risk ...] [--seeds 3] [--pairs 29000]

FOLDER holds Multi30k: train, val and test_2016_flickr, each as .de and .en. The start goes on by maximum likelihood
too, so that longer training cannot pass for a better objective. Figures are greedy BLEU (sacrebleu) and perplexity on
the test set; the difference is to going on by maximum likelihood with the same seed, with its 95 % confidence interval
over seeds (Student's t).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import get_args

import torch

from rnn_edge.modules import Checkpoint, load_checkpoint
from rnn_edge.training import TrainOptions, make_lesson, train
from rnn_edge.training.options import Objective
from rnn_edge.training.translation import Translated

BASE: Objective = "maximum-likelihood"
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}  # 97.5 %, by freedom


def interval(differences: list[float]) -> str:
    """Return mean and half-width of the confidence interval."""
    if len(differences) < 2:
        return f"{fmean(differences):+.2f} (one seed)"
    freedom = len(differences) - 1
    half = _T[freedom] * stdev(differences) / len(differences) ** 0.5
    return f"{fmean(differences):+.2f} ± {half:.2f}"


class Experiment:
    """A folder of pairs, cut to size, and how long is trained."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.arguments, self.work = arguments, work
        self.train = [self._cut("train", side) for side in ("de", "en")]
        self.val = [self._cut("val", side) for side in ("de", "en")]
        self.test = [self._cut("test_2016_flickr", side) for side in ("de", "en")]

    def _cut(self, name: str, side: str) -> Path:
        lines = (self.arguments.folder / f"{name}.{side}").read_text(encoding="utf-8").split("\n")
        path = self.work / f"{name}.{side}"
        path.write_text("\n".join(lines[: self.arguments.pairs]), encoding="utf-8")
        return path

    def run(self, objective: Objective, seed: int, begin: Checkpoint | None) -> Checkpoint:
        """Train from scratch, or from a checkpoint with a learning rate that does not throw it off course."""
        arguments = self.arguments
        options = TrainOptions(
            objective=objective,
            seed=seed,
            epochs=arguments.epochs if begin is None else arguments.more_epochs,
            learning_rate=2e-3 if begin is None else arguments.learning_rate,
            eval_interval=arguments.eval_interval,
            threads=1,
        )
        choices = {} if begin else {"vocab_size": arguments.vocab_size, "hidden_size": arguments.hidden}
        lesson = make_lesson("translate", self.train, held_out=self.val, choices=choices, options=options, begin=begin)
        output = self.work / f"{objective}-{seed}.pt"
        for _ in train(lesson, output, options=options, begin=begin.model if begin else None):
            pass
        return load_checkpoint(output)

    def judge(self, checkpoint: Checkpoint) -> Translated:
        """Measure on the test set."""
        lesson = make_lesson("translate", self.test, held_out=self.test, begin=checkpoint)
        found = lesson.judge(checkpoint.model)
        assert isinstance(found, Translated)
        return found


def main() -> None:
    """Print a row for each objective and seed, then one for each objective."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    others = [each for each in get_args(Objective) if each != BASE]
    parser.add_argument("--objectives", nargs="+", choices=others, default=["scheduled-sampling", "minimum-risk"])
    for name, value in (("seeds", 3), ("pairs", 29_000), ("epochs", 8), ("more-epochs", 1), ("vocab-size", 5000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--eval-interval", type=int, default=200)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}; {arguments}")
    print("| objective | seed | BLEU | perplexity | seconds |")
    print("| --- | --- | --- | --- | --- |")
    bleu: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(arguments, Path(folder))
        for seed in range(arguments.seeds):
            begin = None
            for objective in ("start", BASE, *arguments.objectives):
                began = time.perf_counter()
                checkpoint = experiment.run(BASE if begin is None else objective, seed, begin)
                begin = begin or checkpoint
                seconds, found = time.perf_counter() - began, experiment.judge(checkpoint)
                assert found.bleu is not None
                bleu.setdefault(objective, []).append(found.bleu)
                row = f"| {objective} | {seed} | {found.bleu:.2f} | {found.perplexity:.2f} | {seconds:.0f} |"
                print(row, flush=True)
    print("\n| objective | mean BLEU | difference to going on by maximum likelihood |\n| --- | --- | --- |")
    for objective, found_bleu in bleu.items():
        differences = [one - other for one, other in zip(found_bleu, bleu[BASE], strict=True)]
        print(f"| {objective} | {fmean(found_bleu):.2f} | {interval(differences)} |")


if __name__ == "__main__":
    main()

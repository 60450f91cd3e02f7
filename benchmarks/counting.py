"""Who can count? Networks learn aⁿbⁿ for small n, and are asked for larger ones.

python -m benchmarks.counting [--trained 12] [--asked 100] [--hidden 10] [--epochs 100] [--seeds 5]

After aⁿ and the first b all is decided: a network accepts n if it foretells every further b, and then the end. That an
LSTM can count and a GRU cannot is what Weiss et al. (2018) say. Means have 95 % intervals over seeds (Student's t).
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.intervals import over_seeds
from rnn_edge.modules import LanguageModel, load_checkpoint
from rnn_edge.spec import Cell, LanguageModelSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training import Corpus, LanguageLesson, TrainOptions, train

CELLS: tuple[Cell, ...] = ("lstm", "gru", "elman")


def text(n: int) -> str:
    """Return aⁿbⁿ."""
    return "a" * n + "b" * n


def learn(cell: Cell, arguments: argparse.Namespace, seed: int) -> tuple[LanguageModel, Tokenizer]:
    """Train on aⁿbⁿ for n from 1 to the largest trained, in random order; judge by some more of them."""
    chance = random.Random(seed)
    train_on, judge_by = (
        tuple(text(chance.randint(1, arguments.trained)) for _ in range(count)) for count in (2000, 100)
    )
    tokenizer = Tokenizer.train("characters", [text(2)])
    spec = LanguageModelSpec(
        cell=cell, vocab_size=tokenizer.vocab_size, embedding_size=arguments.hidden, hidden_size=arguments.hidden
    )
    options = TrainOptions(
        epochs=arguments.epochs,
        batch_size=8,
        bptt=64,
        learning_rate=arguments.learning_rate,
        weight_decay=0.0,
        patience=1000,
        seed=seed,
    )
    corpus = Corpus(train=train_on, held_out=judge_by)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model.pt"
        for _ in train(LanguageLesson(spec, tokenizer, corpus, options), output, options=options):
            pass
        model = load_checkpoint(output).model
    assert isinstance(model, LanguageModel)
    return model, tokenizer


def accepted(model: LanguageModel, tokenizer: Tokenizer, n: int) -> bool:
    """Return whether the network foretells the rest of aⁿb."""
    assert tokenizer.end_id is not None
    tokens = tokenizer.encode(text(n))
    with torch.inference_mode():
        logits, _ = model(torch.tensor([[tokenizer.end_id, *tokens]]), model.start(1))
    foretold = logits[0, n + 1 :].argmax(dim=-1).tolist()
    return bool(foretold == [*tokens[n + 1 :], tokenizer.end_id])


def main() -> None:
    """Print a row for each cell and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("trained", 12), ("asked", 100), ("hidden", 10), ("epochs", 100), ("seeds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}; n up to {arguments.trained} trained, up to {arguments.asked} asked")
    print("| cell | seed | right up to | right of those trained | right of those beyond | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    summary = []
    for cell in arguments.cells:
        rows = []
        for seed in range(arguments.seeds):
            began = time.perf_counter()
            model, tokenizer = learn(cell, arguments, seed)
            right = [accepted(model, tokenizer, n) for n in range(1, arguments.asked + 1)]
            up_to = right.index(False) if False in right else arguments.asked
            known, beyond = right[: arguments.trained], right[arguments.trained :]
            rows.append((up_to, sum(known), sum(beyond)))
            print(
                f"| {cell} | {seed} | {up_to} | {sum(known)} of {len(known)} | {sum(beyond)} of {len(beyond)} "
                f"| {time.perf_counter() - began:.0f} |",
                flush=True,
            )
        means = " | ".join(over_seeds(column, digits=1) for column in zip(*rows, strict=True))
        summary.append(f"| {cell} | {means} |")
    print("\n| cell | right up to | right of those trained | right of those beyond |\n| --- | --- | --- | --- |")
    print("\n".join(summary))


if __name__ == "__main__":
    main()

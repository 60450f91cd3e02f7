"""How far back does an error reach? Elman networks, GRUs and LSTMs on one text, before they learn from it and after.

python -m benchmarks.gradients TEXT [--svg FILE] [--hidden 128] [--epochs 2] [--seeds 3]

Letters are read one by one. Shown is the mean norm of the gradient of a letter's loss by the vector that was read k
letters before it, over the text's held-out end, relative to k = 0; means over seeds are geometric.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from rnn_edge.modules import LanguageModel, build, load_checkpoint
from rnn_edge.spec import Cell, LanguageModelSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training import LanguageLesson, TrainOptions, read_corpus, train
from rnn_edge.training.reach import gradient_by_distance

CELLS: tuple[Cell, ...] = ("elman", "gru", "lstm")
MOMENTS = ("before training", "after training")
ASKED = (1, 5, 10, 20, 50, 100)


def measure(cell: Cell, arguments: argparse.Namespace, seed: int) -> tuple[np.ndarray, float]:
    """Return norms relative to the nearest, before and after training, float64 (2, distances), and the perplexity."""
    corpus = read_corpus([arguments.text])
    tokenizer = Tokenizer.train("characters", corpus.train)
    sizes = {"embedding_size": 64, "hidden_size": arguments.hidden, "cell": cell}
    spec = LanguageModelSpec(vocab_size=tokenizer.vocab_size, **sizes)
    options = TrainOptions(
        epochs=arguments.epochs, bptt=128, learning_rate=4e-3, eval_interval=2**31 - 1, seed=seed, threads=1
    )
    torch.manual_seed(seed)
    models = [build(spec)]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model.pt"
        *_, finished = train(LanguageLesson(spec, tokenizer, corpus, options), output, options=options, begin=models[0])
        models.append(load_checkpoint(output).model)
    held_out = tokenizer.encode("".join(corpus.held_out))
    norms = []
    for model in models:
        assert isinstance(model, LanguageModel)
        found = np.array(gradient_by_distance(model.double(), held_out, distance=max(ASKED), windows=256))
        norms.append(found / found[0])
    return np.array(norms), finished.held_out.perplexity


def draw(found: dict[Cell, np.ndarray], path: Path) -> None:
    """Draw what was measured, a panel for each moment."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for number, (panel, moment) in enumerate(zip(panels, MOMENTS, strict=True)):
        for cell, of_seeds in found.items():
            panel.plot(np.exp(np.log(of_seeds[:, number]).mean(axis=0)), label=_name(cell))
        panel.set(title=moment, xlabel="letters back", yscale="log", ylim=(1e-8, 3))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("gradient, relative")
    panels[1].legend()
    figure.savefig(path, metadata={"Date": None})


def _name(cell: Cell) -> str:
    return "Elman" if cell == "elman" else cell.upper()


def main() -> None:
    """Print a row for each cell and moment, and draw if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--svg", type=Path)
    for name, value in (("hidden", 128), ("epochs", 2), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}; {arguments}")
    print("| cell | | " + " | ".join(f"{back} back" for back in ASKED) + " | perplexity | seconds |")
    print("| --- | --- | " + " | ".join("---" for _ in ASKED) + " | --- | --- |")
    found: dict[Cell, np.ndarray] = {}
    for cell in CELLS:
        began = time.perf_counter()
        norms, perplexities = zip(*(measure(cell, arguments, seed) for seed in range(arguments.seeds)), strict=True)
        found[cell] = np.stack(norms)  # (seeds, moments, distances)
        mean = np.exp(np.log(found[cell]).mean(axis=0))
        ends = "| |", f"| {np.mean(perplexities):.2f} | {time.perf_counter() - began:.0f} |"
        for moment, row, end in zip(MOMENTS, mean, ends, strict=True):
            cells = " | ".join(f"{row[back]:.1e}" for back in ASKED)
            print(f"| {_name(cell)} | {moment} | {cells} {end}", flush=True)
    if arguments.svg:
        draw(found, arguments.svg)


if __name__ == "__main__":
    main()

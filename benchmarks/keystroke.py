"""How long each keystroke takes until its suggestions are there, typing a text as a person does.

rnn-edge train TEXT... --tokenizer words --vocab-size 10000 --num-layers 2 --hidden-size 256 --embedding-size 256 --tied
rnn-edge export model.pt --precision int8
python -m benchmarks.keystroke model.rnn TEXT

Every letter is typed, and three suggestions are asked for after each, in one session a line; the first line only warms
up. The token that is under way is finished ("token"), or the whole word with exact probabilities ("word").
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import rnn_edge
from rnn_edge.runtimes import LanguageModel
from rnn_edge.runtimes.arrays import Doubles
from rnn_edge.runtimes.bench import describe_machine

_KEYSTROKES = 3000
MODES = {"token": rnn_edge.SuggestOptions(num_words=0), "word": rnn_edge.SuggestOptions()}


def keystrokes(model: LanguageModel, lines: list[str], options: rnn_edge.SuggestOptions) -> Doubles:
    """Return milliseconds from a key to its suggestions, of every key."""
    taken: list[float] = []
    for line in lines:
        session = model.session()
        for letter in line:
            start = time.perf_counter()
            session.type(letter)
            session.suggest(options)
            taken.append(1e3 * (time.perf_counter() - start))
    return np.array(taken[len(lines[0]) :])


def _some_lines(path: Path) -> list[str]:
    """Return lines of a text, as many as there are keystrokes to time."""
    lines: list[str] = []
    for line in filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines())):
        lines.append(line[:200])
        if sum(map(len, lines)) >= _KEYSTROKES:
            break
    return lines


def main() -> None:
    """Print a table."""
    path, text = map(Path, sys.argv[1:3])
    model = rnn_edge.load(path)
    assert isinstance(model, LanguageModel)
    lines = _some_lines(text)
    print(describe_machine("onnxruntime", "numpy"), f"one thread; {sum(map(len, lines[1:])):,} keystrokes", sep="; ")
    print("| suggestions for the | median, ms | 95 % within | 99 % within |\n| --- | --- | --- | --- |")
    for name, options in MODES.items():
        taken = keystrokes(model, lines, options)
        print(f"| {name} | " + " | ".join(f"{np.percentile(taken, share):.2f}" for share in (50, 95, 99)) + " |")


if __name__ == "__main__":
    main()

"""Memory of loaded language models over that of a tiny one, and where it goes. Needs Linux.

python -m benchmarks.memory            # the built-in model, and three networks with random weights
python -m benchmarks.memory BUNDLE...
"""

from __future__ import annotations

import gc
import json
import platform
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice, product
from pathlib import Path
from statistics import median
from string import ascii_lowercase

import numpy as np
import onnxruntime
import tokenizers

import rnn_edge
from rnn_edge.runtimes import BUILT_IN, LanguageModel, Model
from rnn_edge.runtimes.memory import return_free_memory
from rnn_edge.runtimes.sessions import open_session

EMPTY = Path(__file__).parents[1] / "tests" / "data" / "format-1.rnn"  # 24 kB: as good as empty
ROUNDS = 5  # each in a process of its own
STEPS = 200
NETWORKS = {
    "keyboard": {"embedding_size": 96, "hidden_size": 670, "proj_size": 96, "tied": True, "coupled_gates": True},
    "keyboard-wide": {"embedding_size": 96, "hidden_size": 670},
    "5M": {"vocab_size": 4000, "embedding_size": 448, "hidden_size": 448, "num_layers": 2, "tied": True},
}
COLUMNS = ("file", "session", "vocabulary", "Python", "private", "code", "resident", "peak of loading")
RATIOS = ("session", "resident")


def main(paths: list[Path]) -> None:
    """Print a row for each bundle."""
    print(
        f"Python {platform.python_version()}, {' '.join(platform.libc_ver())}, onnxruntime {version('onnxruntime')}, "
        f"tokenizers {version('tokenizers')}; {ROUNDS} rounds, in MB\n"
    )
    titles = ["bundle", *COLUMNS, *(f"{column}, times the file" for column in RATIOS)]
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}")
    for path in paths:
        row = _row(path)
        cells = [f"{row[column] / 1e6:.2f}" for column in COLUMNS]
        cells += [f"{row[column] / row['file']:.1f}" for column in RATIOS]
        print(f"| {path.stem} | {' | '.join(cells)} |")


def whole(path: str) -> None:
    """Print what a bundle adds to its process, private and of mapped files, once it has completed a text, as JSON."""
    _complete(EMPTY)
    private, code = _memory("RssAnon"), _memory("RssFile")
    _forget_peak()
    model = rnn_edge.load(path)
    peak = _memory("VmHWM") - private - code
    _complete(model)
    measured = {"private": _memory("RssAnon") - private, "code": _memory("RssFile") - code}
    print(json.dumps({**measured, "peak of loading": peak}))


def session(path: str) -> None:
    """Print what a graph's session takes of the private memory in place of the tiny graph's, both stepped, as JSON."""
    tiny = _stepped(EMPTY)
    before = _memory("RssAnon")
    del tiny
    opened = _stepped(Path(path))
    print(json.dumps({"session": _memory("RssAnon") - before}))
    del opened


def vocabulary(path: str) -> None:
    """Print what the tokenizers library takes of the private memory, as JSON."""
    _complete(EMPTY)
    before = _memory("RssAnon")
    kept = tokenizers.Tokenizer.from_str((Path(path) / "tokenizer.json").read_text(encoding="utf-8"))
    print(json.dumps({"vocabulary": _memory("RssAnon") - before}))
    del kept


def objects(path: str) -> None:
    """Print what Python's own objects take, as JSON."""
    _complete(EMPTY)
    tracemalloc.start()
    model = rnn_edge.load(path)
    _complete(model)
    gc.collect()
    print(json.dumps({"Python": tracemalloc.get_traced_memory()[0]}))


def _row(path: Path) -> dict[str, float]:
    """Return bytes: medians of the whole, and the least of each part, which may lie in gaps that others left."""
    rounds = [_elsewhere(whole, path) for _ in range(ROUNDS)]
    row = {name: median(each[name] for each in rounds) for name in rounds[0]}
    for measure in (session, vocabulary, objects):
        row |= min((_elsewhere(measure, path) for _ in range(ROUNDS)), key=lambda found: tuple(found.values()))
    return {**row, "resident": row["private"] + row["code"], "file": (path / "model.onnx").stat().st_size}


def _elsewhere(measure: Callable[[str], None], path: Path) -> dict[str, float]:
    """Measure in a process of its own."""
    code = f"import sys; from benchmarks.memory import {measure.__name__} as measure; measure(sys.argv[1])"
    measured: dict[str, float] = json.loads(subprocess.check_output([sys.executable, "-c", code, path]))
    return measured


def _complete(model: Model | Path) -> None:
    """Complete a text; of a bundle that is dropped again, so that everything is imported that another one will need."""
    model = rnn_edge.load(model) if isinstance(model, Path) else model
    assert isinstance(model, LanguageModel)
    model.complete("the", rnn_edge.GenerateOptions(max_new_tokens=STEPS))


def _stepped(bundle: Path) -> onnxruntime.InferenceSession:
    """Return a session of a bundle's graph that has made its steps."""
    opened = open_session((bundle / "model.onnx").read_bytes())
    tokens, *states = opened.get_inputs()
    feed = {port.name: np.zeros((port.shape[0], 1, port.shape[2]), np.float32) for port in states}
    feed[tokens.name] = np.array([[1]])
    for _ in range(STEPS):
        opened.run(None, feed)
    return opened


def _memory(name: str) -> int:
    """Return one of this process's amounts of memory in bytes, as Linux calls it, without what is free."""
    gc.collect()
    return_free_memory()
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _make(directory: Path) -> list[Path]:
    """Export networks with random weights, whose vocabularies are of made-up words, in int8."""
    from rnn_edge.exporters import ExportOptions, export
    from rnn_edge.modules import Checkpoint, build
    from rnn_edge.spec import LanguageModelSpec
    from rnn_edge.text import Tokenizer

    paths = []
    for name, sizes in NETWORKS.items():
        spec = LanguageModelSpec(**{"vocab_size": 10_000, "cell": "lstm", **sizes})
        words = ["".join(letters) for letters in islice(product(ascii_lowercase, repeat=6), 0, None, 9973)]
        text = " ".join(words[: spec.vocab_size - 2])
        source = Checkpoint(build(spec).eval(), Tokenizer.train("words", [text], vocab_size=spec.vocab_size))
        options = ExportOptions(precision="int8", eval_text=text[:2000], max_loss=10)
        paths.append(export(source, directory / f"{name}.rnn", options).path)
    return paths


if __name__ == "__main__":
    if sys.argv[1:]:
        main([Path(each) for each in sys.argv[1:]])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main([BUILT_IN, *_make(Path(directory))])

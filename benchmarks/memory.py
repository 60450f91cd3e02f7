"""Memory of processes with a language model over that of one with a tiny model, and where it goes. Needs Linux.

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
from functools import cache
from importlib.metadata import version
from itertools import islice, product
from pathlib import Path
from statistics import median
from string import ascii_lowercase

import numpy as np
import tokenizers

import rnn_edge
from rnn_edge.runtimes import BUILT_IN, LanguageModel
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
COLUMNS = ("file", "session", "vocabulary", "Python", "private", "code", "resident", "peak")
RATIOS = ("session", "private", "resident")


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


def whole(path: Path) -> dict[str, int]:
    """Return what a process holds that has completed a text with a bundle: private, of files, and at most so far."""
    model = _completed(path)
    found = {"private": _memory("RssAnon"), "code": _memory("RssFile"), "most": _memory("VmHWM")}
    del model
    return found


def session(path: Path) -> dict[str, int]:
    """Return what is private in a process where nothing but a graph was opened, and has made steps."""
    opened = open_session((path / "model.onnx").read_bytes())
    tokens, *states = opened.get_inputs()
    feed = {port.name: np.zeros((port.shape[0], 1, port.shape[2]), np.float32) for port in states}
    feed[tokens.name] = np.array([[1]])
    for _ in range(STEPS):
        opened.run(None, feed)
    return {"session": _memory("RssAnon")}


def vocabulary(path: Path) -> dict[str, int]:
    """Return what is private in a process where nothing but a vocabulary was opened, by the tokenizers library."""
    opened = tokenizers.Tokenizer.from_str((path / "tokenizer.json").read_text(encoding="utf-8"))
    opened.encode("the")
    return {"vocabulary": _memory("RssAnon")}


def objects(path: Path) -> dict[str, int]:
    """Return what Python's own objects take in a process that has completed a text."""
    tracemalloc.start()
    model = _completed(path)
    gc.collect()
    found = {"Python": tracemalloc.get_traced_memory()[0]}
    del model
    return found


def _row(path: Path) -> dict[str, float]:
    """Return the bytes that a bundle's process takes more than that of the tiny one."""
    found, tiny = _measure(path), _measure(EMPTY)
    row = {name: found[name] - tiny[name] for name in found}
    peak = found["most"] - tiny["private"] - tiny["code"]
    size = (path / "model.onnx").stat().st_size
    return {**row, "resident": row["private"] + row["code"], "peak": peak, "file": size}


@cache
def _measure(path: Path) -> dict[str, float]:
    """Return each amount of memory, as a median of rounds."""
    rounds = [_elsewhere(measure, path) for measure in (whole, session, vocabulary, objects) for _ in range(ROUNDS)]
    names = {name for each in rounds for name in each}
    return {name: median(each[name] for each in rounds if name in each) for name in names}


def _elsewhere(measure: Callable[[Path], dict[str, int]], path: Path) -> dict[str, int]:
    """Measure in a process of its own."""
    code = (
        "import json, sys; from pathlib import Path; import benchmarks.memory as measures; "
        f"print(json.dumps(measures.{measure.__name__}(Path(sys.argv[1]))))"
    )
    measured: dict[str, int] = json.loads(subprocess.check_output([sys.executable, "-c", code, path]))
    return measured


def _completed(path: Path) -> LanguageModel:
    """Return a bundle's model that has completed a text."""
    model = rnn_edge.load(path)
    assert isinstance(model, LanguageModel)
    model.complete("the", rnn_edge.GenerateOptions(max_new_tokens=STEPS))
    return model


def _memory(name: str) -> int:
    """Return one of this process's amounts of memory in bytes, as Linux calls it, without what is free."""
    gc.collect()
    return_free_memory()
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


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

"""Rebuild the built-in model: an autocompleter for Python code that learnt from Python's own standard library.

    python tools/build_builtin.py --work /tmp/builtin            # half an hour on one core
    python tools/build_builtin.py --work /tmp/builtin --resume

It reads the sources of the Python that runs it, so the exact model depends on that version; the one in the package was
made with 3.11. The sources are cut into pieces of one to forty lines, each a text of its own, so that the model learns
what people give it: the beginning of a line with little before it.
"""

from __future__ import annotations

import argparse
import random
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Ordinary modules that the model never sees: what it is judged by.
HELD_OUT = (
    "calendar.py",
    "cmd.py",
    "concurrent/futures/thread.py",
    "configparser.py",
    "csv.py",
    "fractions.py",
    "json/decoder.py",
    "sched.py",
    "shelve.py",
    "textwrap.py",
    "wave.py",
)

# Tests, other people's code, tables, generated or translated text, and jokes: not what people type.
LEFT_OUT_DIRECTORIES = (
    "__phello__",
    "__pycache__",
    "encodings",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "idle_test",
    "turtledemo",
)
LEFT_OUT_FILES = (
    "antigravity.py",
    "_compat_pickle.py",
    "html/entities.py",
    "keyword.py",
    "locale.py",
    "sre_compile.py",  # these three only forward to others
    "sre_constants.py",
    "sre_parse.py",
    "stringprep.py",
    "this.py",
    "token.py",
)

_MOST_DIGITS = 0.05  # share of a file

NETWORK = shlex.split("--tokenizer bpe --vocab-size 1500 --embedding-size 128 --hidden-size 288 --dropout 0.1")
TRAINING = shlex.split("--learning-rate 0.01 --epochs 15 --eval-interval 200 --patience 1000")


def main() -> None:
    """Gather the sources, train, export."""
    options = _parse()
    model = options.work.resolve() / "model.pt"
    model.parent.mkdir(parents=True, exist_ok=True)
    resume = ["--resume"] if options.resume else []
    _rnn_edge("train", *corpus(model.parent), *NETWORK, *TRAINING, "--threads", options.threads, *resume, "-o", model)
    _rnn_edge("export", model, "--precision", "int8", "-o", options.bundle.resolve())


def corpus(work: Path) -> list[str | Path]:
    """Write the pieces to learn from; return the arguments that name them, and what to judge by."""
    library = Path(sysconfig.get_path("stdlib"))
    held_out = [library / name for name in HELD_OUT]
    learnt = [path for path in sources(library) if path not in held_out]
    directory = work / "pieces"
    directory.mkdir(exist_ok=True)
    pieces = []
    for number, piece in enumerate(cut(learnt)):
        pieces.append(directory / f"{number:05}.py")
        pieces[-1].write_text(piece, encoding="utf-8")
    return [*pieces, *(argument for path in held_out for argument in ("--held-out", path))]


def cut(files: list[Path]) -> Iterator[str]:
    """Yield the text of files in pieces of one to forty lines; the same files give the same pieces."""
    draw = random.Random(0)
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        while lines:
            length = draw.randint(1, 40)
            piece, lines = "".join(lines[:length]), lines[length:]
            if piece.strip():
                yield piece


def sources(library: Path) -> list[Path]:
    """Return the modules of a standard library that are written by people for people, in order of their names."""
    found = []
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if set(name.parts) & set(LEFT_OUT_DIRECTORIES) or name.as_posix() in LEFT_OUT_FILES:
            continue
        if name.parts[0].startswith(("config-", "_sysconfigdata")) or _is_data(path):
            continue
        found.append(path)
    return found


def _is_data(path: Path) -> bool:
    """Tell whether a file is empty, or tables rather than code."""
    text = path.read_text(encoding="utf-8")
    return sum(character.isdigit() for character in text) >= len(text) * _MOST_DIGITS


def _rnn_edge(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "rnn_edge", *map(str, arguments)], check=True, cwd=ROOT)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="directory for model.pt and its resume file")
    parser.add_argument("--bundle", type=Path, default=ROOT / "rnn_edge" / "builtin", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    return parser.parse_args()


if __name__ == "__main__":
    main()

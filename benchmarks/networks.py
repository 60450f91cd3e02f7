"""The networks of docs/networks.md on real data: prepare the files, cross-validate, and measure bundles on a test file.

python -m benchmarks.networks prepare DIRECTORY                       # from ../shared/data
python -m benchmarks.networks cross-validate FILE.tsv FOLDS -- OPTIONS OF rnn-edge train
python -m benchmarks.networks measure BUNDLE FILE... [--beam-size N] [--label-column N]

`measure` runs the bundle as an app would, with onnxruntime, and measures as `rnn-edge train` does with PyTorch. A file
of pairs may give several targets for a source (pronunciations): then errors count against the nearest.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import sacrebleu
from seqeval.metrics import f1_score as span_f1
from sklearn.metrics import f1_score

import rnn_edge
from rnn_edge.runtimes import Classifier, Tagger, Translator
from rnn_edge.training.examples import Examples, read_columns, read_labelled, read_pairs

SHARED = Path(__file__).parents[2] / "shared" / "data"


def prepare(directory: Path) -> None:
    """Write the files that the commands of docs/networks.md read."""
    directory.mkdir(parents=True, exist_ok=True)
    questions = (SHARED / "classify/trec.train.txt").read_text(encoding="latin-1").splitlines()
    rows = [(label.partition(":")[0], text) for label, _, text in (line.partition(" ") for line in questions)]
    _write(directory / "trec.tsv", rows)
    names = [
        (path.stem, line) for path in sorted((SHARED / "classify/names").glob("*.txt")) for line in _lines_of(path)
    ]
    kept = sorted(set(names))
    random.Random(0).shuffle(kept)
    _split(directory, "names", kept, held_out=1000, test=2000)
    pronunciations: dict[str, list[str]] = defaultdict(list)
    for line in _lines_of(SHARED / "g2p/cmudict.dict"):
        word, _, phonemes = line.partition("#")[0].strip().partition(" ")
        pronunciations[word.partition("(")[0]].append(phonemes)
    words = sorted(pronunciations)
    random.Random(0).shuffle(words)
    _split(directory, "cmudict", words, held_out=2000, test=10_000, rows_of=pronunciations)


def _lines_of(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _split(
    directory: Path,
    name: str,
    items: Sequence,
    *,
    held_out: int,
    test: int,
    rows_of: dict[str, list[str]] | None = None,
) -> None:
    """Cut shuffled items in three; a word goes with all its pronunciations."""
    parts = {"test": items[:test], "held-out": items[test : test + held_out], "train": items[test + held_out :]}
    for part, chosen in parts.items():
        rows = chosen if rows_of is None else [(word, phonemes) for word in chosen for phonemes in rows_of[word]]
        _write(directory / f"{name}.{part}.tsv", rows)


def _write(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    path.write_text("".join(f"{first}\t{second}\n" for first, second in rows), encoding="utf-8")
    print(f"{path}: {len(rows):,} lines")


def cross_validate(path: Path, folds: int, options: Sequence[str]) -> None:
    """Train on all folds but one, which is neither learnt from nor used to choose the best model, and measure on it."""
    lines = _lines_of(path)
    random.Random(0).shuffle(lines)
    accuracies = []
    with tempfile.TemporaryDirectory() as directory:
        corpus, model, bundle = (Path(directory) / name for name in ("train.tsv", "model.pt", "model.rnn"))
        for fold in range(folds):
            corpus.write_text("\n".join(line for index, line in enumerate(lines) if index % folds != fold) + "\n")
            command = [sys.executable, "-m", "rnn_edge", "train", "--task", "classify", str(corpus), "-o", str(model)]
            subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            rnn_edge.export(model, bundle)
            test = [line.partition("\t") for line in lines[fold::folds]]
            classified = _load(bundle, Classifier).classify([text for _, _, text in test])
            right = [guess[0].label == label for guess, (label, _, _) in zip(classified, test, strict=True)]
            accuracies.append(mean(right))
            print(f"fold {fold + 1}: accuracy {accuracies[-1]:.2%} of {len(test):,}", flush=True)
    print(f"{folds}-fold accuracy {mean(accuracies):.2%} ± {stdev(accuracies):.2%}")


def measure(path: Path, files: Sequence[Path], *, beam_size: int, label_column: int | None) -> None:
    """Print what a bundle scores on a test file."""
    model = rnn_edge.load(path)
    if isinstance(model, Translator):
        _measure_translator(model, _read(read_pairs, files), beam_size)
    elif isinstance(model, Classifier):
        examples = _read(read_labelled, files)
        found = [guesses[0].label for guesses in model.classify([text for text, _ in examples])]
        wanted = [label for _, label in examples]
        accuracy = mean(ours == theirs for ours, theirs in zip(found, wanted, strict=True))
        print(f"accuracy {accuracy:.2%}, macro-F1 {f1_score(wanted, found, average='macro'):.2%} of {len(wanted):,}")
    elif isinstance(model, Tagger):
        examples = _read(lambda *paths: read_columns(*paths, label_column=label_column), files)
        tagged = [list(each.labels) for each in model.tag([words for words, _ in examples])]
        wanted_labels = [labels.split() for _, labels in examples]
        pairs = [pair for rows in zip(tagged, wanted_labels, strict=True) for pair in zip(*rows, strict=True)]
        spans = f", span F1 {span_f1(wanted_labels, tagged):.2%}" if any(w.startswith("B-") for _, w in pairs) else ""
        print(f"accuracy {mean(ours == theirs for ours, theirs in pairs):.2%} of {len(pairs):,} words{spans}")


def _measure_translator(model: Translator, examples: Sequence[tuple[str, str]], beam_size: int) -> None:
    references: dict[str, list[str]] = defaultdict(list)
    for source, target in examples:
        references[source].append(target)
    sources = [source for source, _ in examples] if len(references) == len(examples) else list(references)
    options = rnn_edge.GenerateOptions(num_beams=beam_size, max_new_tokens=100)
    written = [best[0].text for best in model.translate(sources, options)]
    edits, length = 0, 0
    for text, source in zip(written, sources, strict=True):
        distance, words = min(
            (_edits(text.split(), target.split()), len(target.split())) for target in references[source]
        )
        edits, length = edits + distance, length + words
    first = [references[source][0] for source in sources]
    exact = mean(text in references[source] for text, source in zip(written, sources, strict=True))
    print(
        f"beam {beam_size}: BLEU {sacrebleu.corpus_bleu(written, [first]).score:.2f}, "
        f"chrF {sacrebleu.corpus_chrf(written, [first]).score:.2f}, "
        f"error rate of tokens between blanks {edits / length:.2%}, exact {exact:.2%} of {len(sources):,}"
    )


def _edits(found: Sequence[str], wanted: Sequence[str]) -> int:
    """Return the Levenshtein distance."""
    row = list(range(len(wanted) + 1))
    for index, symbol in enumerate(found, start=1):
        diagonal, row[0] = row[0], index
        for column, other in enumerate(wanted, start=1):
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, diagonal + (symbol != other))
    return row[-1]


def _read(read, files: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    examples: Examples = read(files, files)  # held out is all there is to measure
    return examples.held_out


def _load(path: Path, kind: type[Classifier]) -> Classifier:
    model = rnn_edge.load(path)
    assert isinstance(model, kind)
    return model


def main() -> None:
    """Run one of the three commands."""
    words, options = sys.argv[1:], []
    if "--" in words:
        words, options = words[: words.index("--")], words[words.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare").add_argument("directory", type=Path)
    validating = commands.add_parser("cross-validate")
    validating.add_argument("file", type=Path)
    validating.add_argument("folds", type=int)
    measuring = commands.add_parser("measure")
    measuring.add_argument("bundle", type=Path)
    measuring.add_argument("files", type=Path, nargs="+")
    measuring.add_argument("--beam-size", type=int, default=1)
    measuring.add_argument("--label-column", type=int)
    chosen = parser.parse_args(words)
    if chosen.command == "prepare":
        prepare(chosen.directory)
    elif chosen.command == "cross-validate":
        cross_validate(chosen.file, chosen.folds, options)
    else:
        measure(chosen.bundle, chosen.files, beam_size=chosen.beam_size, label_column=chosen.label_column)


if __name__ == "__main__":
    main()

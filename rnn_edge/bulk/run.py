"""A corpus answered by the workers of Ray Data, each with a bundle of its own, in a directory that can be gone on with.

Every part of the corpus has its file, which is written whole under a name that follows from the part alone. So a part
that is done twice, since its worker died, is there once; and a run that was interrupted does what is missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rnn_edge.bulk.options import BulkOptions, InputFormat
from rnn_edge.bulk.parts import Part, cut, find_files
from rnn_edge.bulk.worker import Worker, place_of
from rnn_edge.bundle import Bundle
from rnn_edge.errors import CorpusError, OptionsError
from rnn_edge.files import replace_file
from rnn_edge.runtimes import BUILT_IN, GenerateOptions
from rnn_edge.spec import LanguageModelSpec

__all__ = ["Progress", "answer_corpus"]

_RUN = "_run.json"  # what reads directories of Parquet or JSON leaves out files that begin so
_DEFAULTS = GenerateOptions()


@dataclass(frozen=True)
class Progress:
    """How far a run is; `rows` and `refused` are of the parts that it did itself."""

    parts_done: int
    parts: int
    rows: int = 0
    refused: int = 0  # rows that could not be read


def answer_corpus(
    bundle: str | Path | None,
    inputs: Sequence[str | Path],
    output: str | Path,
    options: GenerateOptions = _DEFAULTS,
    bulk: BulkOptions | None = None,
) -> Iterator[Progress]:
    """Write what a bundle says of every row of some files, and yield after each part how far that is.

    Rows keep their order: that of the files, and within a file its own. What is said of a row is what `rnn-edge run
    --json` says of its text. A row that cannot be read is written too, with its `error`. Whoever stops iterating
    stops the run; the same call goes on with it.

    bundle   none means the built-in one; like the files, where all workers find it
    inputs   files, or directories of them: text, JSON Lines or Parquet
    output   a directory; what is in it must be of the same run
    options  of networks that write
    raises   CorpusError, BundleError, OptionsError
    """
    bulk = bulk or BulkOptions()
    path, output = Path(bundle or BUILT_IN).absolute(), Path(output).absolute()
    found = Bundle.read(path)
    _check(found, options, bulk)
    if inside := [place for place in inputs if output.is_relative_to(Path(place).absolute())]:
        raise CorpusError(f"cannot write {output}: it lies in {inside[0]}, which is read; name another directory")
    files = find_files(inputs, bulk.input_format)
    parts = cut(files, bulk.column, bulk.part_rows)
    _claim(output, found, files, options, bulk)
    missing = [part for part in parts if not place_of(part, output, bulk).is_file()]
    done = Progress(len(parts) - len(missing), len(parts))
    yield done
    if missing:
        worker = {"bundle": path, "fingerprint": found.fingerprint, "output": output, "options": options, "bulk": bulk}
        for rows, refused in _work(missing, worker, bulk.actors):
            done = Progress(done.parts_done + 1, done.parts, done.rows + rows, done.refused + refused)
            yield done
        _claim(output, found, files, options, bulk)  # unless a file was changed meanwhile
    for left in output.glob(".part-*.part"):  # by workers that died while they wrote
        left.unlink(missing_ok=True)


def _check(bundle: Bundle, options: GenerateOptions, bulk: BulkOptions) -> None:
    if bulk.score and not isinstance(bundle.manifest.spec, LanguageModelSpec):
        raise OptionsError(
            f"only a language model tells how probable a text is, and {bundle.path} is to {bundle.manifest.spec.task}"
        )
    if bulk.output_format == "text" and options.num_return_sequences > 1:
        raise OptionsError(
            "text has one line a row, and num_return_sequences="
            f"{options.num_return_sequences} gives several: choose jsonl or parquet"
        )
    _import_ray()


def _import_ray() -> Any:
    """Import Ray Data, or say how to get it."""
    try:
        import ray.data
    except ImportError as error:
        raise CorpusError(f"many workers need Ray Data ({error}): pip install 'rnn-edge[cpu,ray]'") from error
    return ray


def _claim(
    output: Path,
    bundle: Bundle,
    files: Sequence[tuple[Path, InputFormat]],
    options: GenerateOptions,
    bulk: BulkOptions,
) -> None:
    """Make a directory a run's own, or make sure that it is."""
    identity = _identity(bundle, files, options, bulk)
    try:
        output.mkdir(parents=True, exist_ok=True)
        if not any(output.glob("[!.]*")):
            text = json.dumps(identity, indent=1)
            replace_file(output / _RUN, lambda part: _write(part, text))
        theirs = json.loads((output / _RUN).read_bytes())
    except FileNotFoundError as error:
        raise CorpusError(f"cannot write {output}: something else is there; name another directory") from error
    except OSError as error:
        raise CorpusError(f"cannot write {output}: {error.strerror or error}") from error
    except ValueError as error:
        raise CorpusError(f"{output / _RUN} is damaged ({error}): delete {output}, or name another") from error
    if other := [name for name in identity if identity[name] != theirs.get(name)]:
        raise CorpusError(
            f"cannot write {output}: it belongs to another run, of another {', '.join(other)}; name another directory"
        )


def _identity(
    bundle: Bundle, files: Sequence[tuple[Path, InputFormat]], options: GenerateOptions, bulk: BulkOptions
) -> dict[str, Any]:
    """Return all that decides what stands in the files of a run, as JSON gives it back."""
    identity = {
        "bundle": bundle.fingerprint,
        "input": [_stamp(file) for file, _ in files],
        **asdict(options),
        **{name: value for name, value in asdict(bulk).items() if name not in ("batch_size", "actors")},
    }
    return dict(json.loads(json.dumps(identity)))


def _stamp(file: Path) -> dict[str, Any]:
    """Return what changes when a file does."""
    try:
        found = file.stat()
    except OSError as error:
        raise CorpusError(f"cannot read {file}: {error.strerror}") from error
    return {"file": str(file), "bytes": found.st_size, "modified": found.st_mtime_ns}


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def _work(parts: Sequence[Part], worker: dict[str, Any], actors: int | None) -> Iterator[tuple[int, int]]:
    """Let Ray Data's workers answer parts, and yield the counts of each; a part whose worker dies is done again."""
    ray = _import_ray()
    with _ray_running():
        processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
        most = actors or processors
        corpus = ray.data.from_items([asdict(part) for part in parts], override_num_blocks=len(parts))
        answers = corpus.map(
            Worker,
            fn_constructor_kwargs=worker,
            compute=ray.data.ActorPoolStrategy(min_size=min(most, processors, len(parts)), max_size=most),
            num_cpus=1,
        )
        for counts in answers.iter_rows():
            if counts["problem"]:
                raise CorpusError(counts["problem"])
            yield counts["rows"], counts["refused"]


@contextmanager
def _ray_running() -> Iterator[None]:
    """Start Ray where nobody has, quietly, and stop it again: on this machine, or on the cluster of RAY_ADDRESS."""
    ray = _import_ray()
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()

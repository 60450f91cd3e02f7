"""Convert, open, compare with PyTorch, and only then time: all alternatives of a workload in turn."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import tasks
from benchmarks.alternatives import Alternative, Runner, Source
from benchmarks.alternatives.ours import OURS, TWO_STAGE
from benchmarks.alternatives.pytorch import EAGER
from benchmarks.limit import Limit
from benchmarks.start import start
from benchmarks.workloads import Workload
from rnn_edge.bundle import Bundle, Preview
from rnn_edge.runtimes import GenerateOptions, LanguageModel
from rnn_edge.runtimes.arrays import Floats, Ids
from rnn_edge.runtimes.bench import Times, bench, take_turns

__all__ = ["IN_GRAPH", "LIMIT", "TWO_STAGE_IN_GRAPH", "Entrant", "Row", "Settings", "run"]

LIMIT = "limit"
IN_GRAPH, TWO_STAGE_IN_GRAPH = "rnn-edge, in the graph", "rnn-edge, two-stage, in the graph"
_FEW_CANDIDATES = Preview(precision="int8", rank=64, candidates=32)  # a beam of 5 looks at 7 of them
_MOST_ERROR = {"fp32": 1e-3, "int8": 0.1, "int4": 0.6}  # a mistake in a conversion costs more than any rounding


@dataclass(frozen=True)
class Settings:
    """What is compared, and how often."""

    precisions: tuple[str, ...] = ("fp32", "int8", "int4")
    batches: tuple[int, ...] = (1, 5)
    rounds: int = 7
    seconds: float = 0.1  # that each task takes in a round
    starts: int = 3  # processes for each cold start; 0 leaves them out


@dataclass(frozen=True)
class Entrant:
    """An alternative in one precision, converted and opened."""

    alternative: Alternative
    precision: str
    path: Path
    runner: Runner
    error: float  # of its logits, as a share of their spread

    @property
    def bytes(self) -> int:
        """Return the size of what must be shipped."""
        weights = self.path.with_suffix(".bin")  # beside their graph
        files = [*self.path.iterdir()] if self.path.is_dir() else [self.path, *([weights] if weights.exists() else [])]
        return sum(file.stat().st_size for file in files)


@dataclass(frozen=True)
class Row:
    """One number, with what it takes to compare it."""

    workload: str
    task: str
    batch: int
    alternative: str
    precision: str
    rounds: tuple[float, ...]  # microseconds, milliseconds, megabytes or bytes, as the task says


def run(
    workload: Workload, alternatives: tuple[Alternative, ...], limit: Limit | None, settings: Settings, directory: Path
) -> Iterator[Row | str]:
    """Yield every measurement of a workload; and, as texts, what was skipped and why."""
    tokens = np.random.default_rng(0).integers(1, workload.spec.vocab_size, (max(settings.batches), tasks.PROMPT))
    for batch in settings.batches:
        entrants: list[Entrant] = []
        for found in _enter(workload, alternatives, settings, tokens[:batch], directory):
            if isinstance(found, Entrant):
                entrants.append(found)
            elif batch == settings.batches[0]:
                yield found
        for name, jobs in _jobs(workload, entrants, tokens[:batch]).items():
            limits: dict[tuple[str, str], Callable[[], object]] = {}
            if limit is not None:
                for precision in settings.precisions:
                    limits[LIMIT, precision] = limit.task(precision, workload.sizes, batch)
            timed = take_turns({**limits, **jobs}, rounds=settings.rounds, seconds=settings.seconds)
            yield from _rows(workload, name, batch, timed)
        if batch == settings.batches[0]:
            yield from _sizes_and_starts(workload, entrants, settings, batch)
            yield from _whole(workload, entrants, settings)


def _enter(
    workload: Workload, alternatives: tuple[Alternative, ...], settings: Settings, tokens: Ids, directory: Path
) -> Iterator[Entrant | str]:
    """Convert, open and check every alternative in every precision that it has."""
    batch = len(tokens)
    base = Source(workload, "fp32", batch, directory)
    reference = tasks.logits_of(EAGER.open(_converted(EAGER, base)), tokens)
    for alternative in alternatives:
        for precision in (each for each in alternative.precisions if each in settings.precisions):
            name = f"{workload.name}: {alternative.name} in {precision}"
            try:
                yield _entrant(alternative, replace(base, precision=precision), tokens, reference)
            except Exception as error:  # of nine runtimes and their converters, each in its own way
                yield f"{name} is skipped: {type(error).__name__}: {_first_line(error)}"


def _entrant(alternative: Alternative, source: Source, tokens: Ids, reference: Floats) -> Entrant:
    """Convert, try in a process of its own, which may crash, and then open in this one and compare with PyTorch."""
    with _quiet(source.directory / "log.txt"):
        path = _converted(alternative, source)
        start(alternative.name, path, source.batch)
        runner = alternative.open(path)
        error = tasks.error_of(tasks.logits_of(runner, tokens), reference)
    if not error <= _MOST_ERROR[alternative.tail or source.precision]:
        raise ValueError(f"it does not say what PyTorch says: its logits are off by {error:.1%} of their spread")
    return Entrant(alternative, source.precision, path, runner, error)


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send what converters and runtimes print, in any language, to a file."""
    before = os.dup(1), os.dup(2)
    with log.open("a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            for descriptor, kept in zip((1, 2), before, strict=True):
                os.dup2(kept, descriptor)
                os.close(kept)


def _converted(alternative: Alternative, source: Source) -> Path:
    """Convert, but only once where one file serves all batches."""
    batch = "any" if alternative.any_batch else str(source.batch)
    name = "-".join((source.workload.name, alternative.name, source.precision, batch)).replace(" ", "-")
    place, note = source.directory / name, source.directory / f"{name}.path"
    if not note.exists():
        place.mkdir(exist_ok=True)
        note.write_text(str(alternative.convert(replace(source, directory=place))))
    return Path(note.read_text())


def _jobs(
    workload: Workload, entrants: list[Entrant], tokens: Ids
) -> dict[str, dict[tuple[str, str], Callable[[], object]]]:
    """Return what is timed with this batch, by task, alternative and precision."""
    jobs: dict[str, dict[tuple[str, str], Callable[[], object]]] = {
        "step": {_key(each): tasks.stepping(each.runner, tokens) for each in entrants},
        "20 best": {_key(each): tasks.suggesting(each.runner, tokens) for each in entrants},
    }
    if len(tokens) == 1:
        jobs[f"prompt of {tasks.PROMPT}"] = {_key(each): tasks.prompt_of(each.runner, tokens) for each in entrants}
    if len(tokens) == tasks.BEAMS:
        first = int(tokens[0, 0])
        jobs["beam of 5"] = {_key(each): _beam(each, first) for each in entrants}
        ours = [each.precision for each in entrants if each.alternative is OURS]
        jobs["beam of 5"] |= {(IN_GRAPH, each): tasks.beam_in_graph(workload, each, first) for each in ours}
        if (TWO_STAGE.name, "int8") in jobs["beam of 5"]:
            searching = tasks.beam_in_graph(workload, "int8", first, _FEW_CANDIDATES)
            jobs["beam of 5"][TWO_STAGE_IN_GRAPH, "int8"] = searching
    return jobs


def _beam(entrant: Entrant, first: int) -> Callable[[], object]:
    """Search as an app would: ours with what it brings, the others with what one writes."""
    if entrant.alternative not in (OURS, TWO_STAGE):
        return tasks.beam_of(entrant.runner, first)
    model = LanguageModel(entrant.runner.graph, Bundle.read(entrant.path).tokenizer)  # type: ignore[attr-defined]
    options = GenerateOptions(
        num_beams=tasks.BEAMS, num_return_sequences=tasks.BEAMS, max_new_tokens=tasks.BEAM_TOKENS, length_penalty=0.0
    )
    session = model.session("")
    return lambda: session.complete(options)


def _rows(workload: Workload, task: str, batch: int, timed: Mapping[tuple[str, str], Times]) -> Iterator[Row]:
    """Yield microseconds a token of a prompt, or a step of a beam; and what the machine could do in as many steps."""
    parts = {f"prompt of {tasks.PROMPT}": tasks.PROMPT, "beam of 5": tasks.BEAM_TOKENS}.get(task, 1)
    for (name, precision), times in timed.items():
        each = times if name == LIMIT else times.of(parts)
        yield Row(workload.name, task, batch, name, precision, each.rounds)


def _sizes_and_starts(
    workload: Workload, entrants: list[Entrant], settings: Settings, batch: int
) -> Iterator[Row | str]:
    for entrant in entrants:
        name, precision = _key(entrant)
        yield Row(workload.name, "bytes", batch, name, precision, (entrant.bytes,))
        yield Row(workload.name, "error", batch, name, precision, (entrant.error,))
        try:
            found = [start(name, entrant.path, batch) for _ in range(settings.starts)]
        except Exception as error:  # a process that dies may do so in any way
            yield f"{workload.name}: the cold start of {name} in {precision} is skipped: {_first_line(error)}"
            continue
        for fact in found[0] if found else ():
            yield Row(workload.name, fact, batch, name, precision, tuple(each[fact] for each in found))


def _whole(workload: Workload, entrants: list[Entrant], settings: Settings) -> Iterator[Row]:
    """Yield what `rnn-edge bench` says of the whole way from a bundle's files to suggestions."""
    for entrant in entrants:
        if entrant.alternative is OURS:
            for task, times in bench(entrant.path, rounds=settings.rounds, seconds=settings.seconds).items():
                if "beam" in task or "opening" in task:
                    yield Row(workload.name, task, 1, OURS.name, entrant.precision, times.rounds)


def _key(entrant: Entrant) -> tuple[str, str]:
    return entrant.alternative.name, entrant.precision


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["it gives no reason"])[0][:200]

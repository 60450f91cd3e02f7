"""How long a bundle takes on this machine: a step, a prompt, a beam, and the way from its files to the first texts.

What is compared takes turns, and every number is a median of rounds with its spread, because machines change their
speed from one second to the next.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import numpy as np

from rnn_edge.bundle import Bundle
from rnn_edge.errors import BundleError
from rnn_edge.runtimes.arrays import Ids
from rnn_edge.runtimes.language_model import LanguageModel
from rnn_edge.runtimes.load import BUILT_IN
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.text import Tokenizer

__all__ = ["Times", "bench", "chained", "describe_machine", "take_turns"]

K = TypeVar("K")
S = TypeVar("S")
T = TypeVar("T")

PROMPT, SHORT_PROMPT = 64, 16  # tokens
BATCHES = (1, 5)
WARM_UP = 3  # calls


@dataclass(frozen=True)
class Times:
    """Microseconds a call, one number a round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the middle one, which one slow round does not move."""
        return statistics.median(self.rounds)

    def of(self, parts: int) -> Times:
        """Return the times of each part of a call that does several equal things."""
        return Times(tuple(each / parts for each in self.rounds))

    def over(self, other: Times) -> Times:
        """Return how many times longer than another task each round took; both were slowed by the same neighbours."""
        return Times(tuple(mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True)))


def take_turns(tasks: Mapping[K, Callable[[], object]], *, rounds: int = 7, seconds: float = 0.1) -> dict[K, Times]:
    """Time tasks, one after the other in every round, each called for about `seconds` and at least once."""
    calls = {}
    for name, task in tasks.items():
        for _ in range(WARM_UP):
            started = time.perf_counter()
            task()
            took = time.perf_counter() - started
        calls[name] = max(1, int(seconds / took))
    found: dict[K, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.perf_counter()
            for _ in range(calls[name]):
                task()
            found[name].append((time.perf_counter() - started) / calls[name] * 1e6)
    return {name: Times(tuple(each)) for name, each in found.items()}


def chained(step: Callable[[Ids, S], tuple[T, S]], state: S, columns: Sequence[Ids]) -> Callable[[], T]:
    """Return a task that takes one step on from the last, over columns of tokens, round and round."""
    place = 0

    def task() -> T:
        nonlocal state, place
        found, state = step(columns[place], state)
        place = (place + 1) % len(columns)
        return found

    return task


def bench(
    path: str | Path | None = None, *, provider: str = "cpu", threads: int = 1, rounds: int = 7, seconds: float = 0.1
) -> dict[str, Times]:
    """Time a language model's bundle; none means the built-in one.

    rounds   how often everything is measured
    seconds  about how long each thing takes in a round
    returns  microseconds by what was done; the steps' and the prompt's are of one token
    """
    path = BUILT_IN if path is None else Path(path)
    bundle = Bundle.read(path)
    if bundle.manifest.spec.task != "language-model":
        raise BundleError(f"bench times language models, and {path} is for {bundle.manifest.spec.task}")

    def opened() -> tuple[StepGraph, LanguageModel]:
        graph = StepGraph.from_bundle(Bundle.read(path), provider=provider, threads=threads)
        return graph, LanguageModel(graph, bundle.tokenizer)

    graph, model = opened()
    size = len(bundle.tokenizer.token_bytes)
    tokens = np.random.default_rng(0).integers(size, size=(max(BATCHES), PROMPT))
    text = _text(bundle.tokenizer, tokens[0, :SHORT_PROMPT])
    beam = GenerateOptions(num_beams=5, num_return_sequences=5, max_new_tokens=3, length_penalty=0.0)
    tasks: dict[str, Callable[[], object]] = {
        f"step, batch {batch}": chained(graph.step, graph.start(batch), _columns(tokens[:batch])) for batch in BATCHES
    }
    tasks |= {
        f"prompt of {PROMPT}": lambda: graph.step(tokens[:1], graph.start(1)),
        f"{SHORT_PROMPT} tokens, then beam 5 × 3": lambda: model.complete(text, beam),
        "the same, and opening the bundle": lambda: opened()[1].complete(text, beam),
    }
    found = take_turns(tasks, rounds=rounds, seconds=seconds)
    found[f"prompt of {PROMPT}"] = found[f"prompt of {PROMPT}"].of(PROMPT)
    return found


def _columns(tokens: Ids) -> list[Ids]:
    """Return the columns of int64 (batch, time), each (batch, 1)."""
    return [np.ascontiguousarray(column) for column in tokens.T[..., None]]


def _text(tokenizer: Tokenizer, tokens: Ids) -> str:
    """Return a text of about these tokens that the tokenizer can read."""
    spoken = [token for token in tokens.tolist() if tokenizer.token_bytes[token]]
    joint = " " if tokenizer.kind == "whitespace" else ""
    return joint.join(tokenizer.decode([token]).replace("\ufffd", "") for token in spoken).strip()


def describe_machine(*packages: str) -> str:
    """Return what numbers depend on: the processor, Python, and the versions of packages that are installed."""
    named = [f"Python {platform.python_version()}"]
    for name in packages:
        try:
            named.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return f"{_processor()}; {', '.join(named)}"


def _processor() -> str:
    """Return the processor's name, which Linux knows better than Python."""
    facts = Path("/proc/cpuinfo")
    for line in facts.read_text().splitlines() if facts.exists() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()

"""Open a bundle, or the built-in one, as what it is for."""

from __future__ import annotations

from pathlib import Path

from rnn_edge.bundle import Bundle
from rnn_edge.runtimes.language_model import LanguageModel
from rnn_edge.runtimes.self_test import self_test as run_self_test
from rnn_edge.runtimes.step_graph import StepGraph

__all__ = ["BUILT_IN", "load"]

BUILT_IN = Path(__file__).parent.parent / "builtin"
"""An autocompleter for Python code; docs/built-in-model.md says how it was made and how good it is."""


def load(
    path: str | Path | None = None, *, provider: str = "cpu", threads: int = 1, self_test: bool = False
) -> LanguageModel:
    """Open a bundle for completing and scoring text.

    path       the directory that `rnn-edge export` wrote; none means the built-in autocompleter for Python code
    provider   where it must run; nothing falls back silently
    threads    of one operator; small networks are slower with more than one
    self_test  compare with the bundle's golden vectors first: does this machine compute what it was made to?
    raises     BundleError, ProviderError
    """
    bundle = Bundle.read(BUILT_IN if path is None else Path(path))
    graph = StepGraph.from_bundle(bundle, provider=provider, threads=threads)
    if self_test:
        run_self_test(bundle, graph)
    return LanguageModel(graph, bundle.tokenizer, fingerprint=bundle.fingerprint)

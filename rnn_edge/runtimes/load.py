"""Open a bundle, or the built-in one, as what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rnn_edge.bundle import Bundle
from rnn_edge.runtimes.language_model import LanguageModel
from rnn_edge.runtimes.measuring import AUTO, measure_providers
from rnn_edge.runtimes.self_test import self_test as run_self_test
from rnn_edge.runtimes.sessions import Place
from rnn_edge.runtimes.step_graph import StepGraph

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["BUILT_IN", "load"]

BUILT_IN = Path(__file__).parent.parent / "builtin"
"""An autocompleter for Python code; docs/built-in-model.md says how it was made and how good it is."""


def load(path: str | Path | None = None, *, self_test: bool = False, **place: Unpack[Place]) -> LanguageModel:
    """Open a bundle for completing and scoring text.

    path       the directory that `rnn-edge export` wrote; none means the built-in autocompleter for Python code
    self_test  compare with the bundle's golden vectors first: does this machine compute what it was made to?
    place      where it must run, as `open_session` takes it: provider="cpu", or "auto" for the fastest here;
               provider_options={}; allow_fallback=False, and nothing falls back silently; threads=1, for small networks
               are slower with more
    raises     BundleError, ProviderError
    """
    bundle = Bundle.read(BUILT_IN if path is None else Path(path))
    if place.get("provider") == AUTO:
        place["provider"] = measure_providers(bundle, threads=place.get("threads", 1))[0].provider
    graph = StepGraph.from_bundle(bundle, **place)
    if self_test:
        run_self_test(bundle, graph)
    return LanguageModel(graph, bundle.tokenizer)

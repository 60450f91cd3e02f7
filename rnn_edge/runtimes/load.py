"""Open a bundle, or the built-in one, as what it is for."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, overload

from rnn_edge.bundle import Bundle
from rnn_edge.errors import BundleError
from rnn_edge.runtimes.classifier import Classifier
from rnn_edge.runtimes.decode_graph import DecodeGraph
from rnn_edge.runtimes.embedder import Embedder
from rnn_edge.runtimes.language_model import LanguageModel
from rnn_edge.runtimes.measuring import AUTO, measure_providers
from rnn_edge.runtimes.memory import return_free_memory
from rnn_edge.runtimes.self_test import self_test as run_self_test
from rnn_edge.runtimes.sessions import Place
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.tagger import Tagger
from rnn_edge.runtimes.translator import Describer, Translator
from rnn_edge.runtimes.whole_graph import WholeGraph
from rnn_edge.spec import (
    ClassifierSpec,
    DescriberSpec,
    LanguageModelSpec,
    SentenceEncoderSpec,
    TaggerSpec,
    TranslatorSpec,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["BUILT_IN", "Model", "load"]

BUILT_IN = Path(__file__).parent.parent / "builtin"
"""An autocompleter for Python code; docs/built-in-model.md says how it was made and how good it is."""

Model: TypeAlias = LanguageModel | Translator | Describer | Classifier | Embedder | Tagger
"""What a bundle is for."""


@overload
def load(path: None = None, *, self_test: bool = ..., **place: Unpack[Place]) -> LanguageModel: ...


@overload
def load(path: str | Path, *, self_test: bool = ..., **place: Unpack[Place]) -> Model: ...


def load(path: str | Path | None = None, *, self_test: bool = False, **place: Unpack[Place]) -> Model:
    """Open a bundle for what it is for: its spec's task says whether it completes, translates, describes, and so on.

    path       the directory that `rnn-edge export` wrote; none means the built-in autocompleter for Python code
    self_test  compare with the bundle's golden vectors first: does this machine compute what it was made to?
    place      where all its graphs must run, as `open_session` takes it: provider="cpu", or "auto" for the fastest
               here; provider_options={}; allow_fallback=False, and nothing falls back silently; threads=1, for small
               networks are slower with more
    raises     BundleError, ProviderError
    """
    model = _open(Bundle.read(BUILT_IN if path is None else Path(path)), place, self_test=self_test)
    return_free_memory()  # by now the files are let go, too
    return model


def _open(bundle: Bundle, place: Place, *, self_test: bool) -> Model:
    spec, tokenizer = bundle.manifest.spec, bundle.tokenizer
    if place.get("provider") == AUTO:
        place["provider"] = measure_providers(bundle, threads=place.get("threads", 1))[0].provider
    whole = cache(partial(WholeGraph.from_bundle, bundle, **place))
    step = cache(partial(StepGraph.from_bundle, bundle, **place))
    if self_test:
        graphs: dict[str, StepGraph | WholeGraph | DecodeGraph] = {
            role: step() if role == "step" else whole(role) for role in bundle.manifest.graphs if role != "decode"
        }
        if "decode" in bundle.manifest.graphs:
            graphs["decode"] = DecodeGraph.from_bundle(bundle, **place)
        run_self_test(bundle, graphs)
    match spec:
        case LanguageModelSpec():
            return LanguageModel(step(), tokenizer, fingerprint=bundle.fingerprint)
        case TranslatorSpec():
            joined = 2 ** (spec.num_layers - 1) if spec.pyramidal else 1
            assert bundle.target_tokenizer is not None  # a bundle checks that it has all its vocabularies
            return Translator(whole("encoder"), step(), tokenizer, bundle.target_tokenizer, joined=joined)
        case DescriberSpec():
            return Describer(whole("encoder"), step(), tokenizer, spec.vector_size)
        case ClassifierSpec():
            return Classifier(whole("model"), tokenizer, spec.labels)
        case SentenceEncoderSpec():
            return Embedder(whole("model"), tokenizer, spec.read_size)
        case TaggerSpec():
            return Tagger(
                whole("model"),
                tokenizer,
                spec.labels,
                characters=bundle.character_tokenizer,
                together=spec.decoder == "crf",
            )
    raise BundleError(f"bundle {bundle.path} is for task {spec.task!r}, which this runtime does not know")

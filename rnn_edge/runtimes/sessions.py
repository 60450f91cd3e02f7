"""Open a graph on an execution provider, or say why that cannot be; nothing ever falls back silently.

onnxruntime falls back to the CPU in five ways that raise nothing: a built-in provider whose library does not load; an
error when a session is made; a plugin that takes no node; a plugin that is named as if it were built in; an error at a
run. Here each of them is an error, or, where falling back was allowed, a warning.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from rnn_edge.errors import BundleError, ProviderError, ProviderWarning, RnnEdgeError, TextError
from rnn_edge.runtimes.memory import return_free_memory
from rnn_edge.runtimes.providers import CPU, Provider, devices, find, import_onnxruntime, is_plugin, why_not

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["UNRECORDED", "Place", "compile_graph", "numbered", "open_session", "records", "unrecorded", "why_it_failed"]

UNRECORDED = -1
"""The number of runs that are neither recorded nor replayed, where an option asks for that."""

_MOST_THREADS = 1024


class Place(TypedDict, total=False):
    """Where and how a graph runs: the keywords of `open_session`."""

    provider: str
    threads: int
    provider_options: Mapping[str, str]
    allow_fallback: bool
    profile: str


def records(place: Place) -> bool:
    """Tell whether an option asks to record runs on an accelerator, and to replay them."""
    return _recording(find(place.get("provider", CPU.name)), place.get("provider_options") or {})


def unrecorded(place: Place) -> Place:
    """Return a place without that option, for graphs whose inputs lie elsewhere at each run."""
    option = find(place.get("provider", CPU.name)).recording
    given = place.get("provider_options") or {}
    return {**place, "provider_options": {name: value for name, value in given.items() if name != option}}


@cache
def numbered(number: int) -> onnxruntime.RunOptions:
    """Return options of a run: the number that it is recorded under."""
    options = import_onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options


def open_session(
    graph: bytes,
    *,
    recorded: bool = False,
    provider: str = "cpu",
    threads: int = 1,
    provider_options: Mapping[str, str] | None = None,
    allow_fallback: bool = False,
    profile: str = "",
) -> onnxruntime.InferenceSession:
    """Return a session all of whose nodes run on `provider`.

    graph             an ONNX file's content, without external data
    recorded          whether the caller numbers its runs, so that an option may ask to record them
    threads           of one operator; small networks are slower with more than one
    provider_options  passed through, once their names are known
    allow_fallback    run on the CPU, in part or altogether, what the provider does not, and warn
    profile           where onnxruntime is to write what ran where: the beginning of a file's name
    """
    chosen, given = find(provider), dict(provider_options or {})
    _check(chosen, threads, given)
    if not recorded and _recording(chosen, given):
        raise ProviderError(f"only steps of a language model are recorded: leave out the option {chosen.recording}")
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; onnxruntime would print it as well
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    if chosen is CPU:
        return _open_on_cpu(graph, options)
    try:
        session = _open(graph, options, chosen, given)
        missed = _missed(session, chosen)
        if missed and not allow_fallback:
            raise ProviderError(f"{missed}; {_advice(chosen)}, or allow falling back")
    except ProviderError as error:
        if not allow_fallback:
            raise
        warnings.warn(f"{error}; it runs on the CPU instead", ProviderWarning, stacklevel=3)
        return open_session(graph, threads=threads, profile=profile)
    if missed:
        warnings.warn(missed, ProviderWarning, stacklevel=3)
    return session


def compile_graph(graph: bytes, *, provider: str, provider_options: Mapping[str, str]) -> bytes:
    """Return an ONNX file with what a plugin compiles of a graph, as one node that it opens without compiling.

    graph  an ONNX file's content, without external data
    """
    chosen, given = find(provider), dict(provider_options)
    _check(chosen, 1, given)
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; onnxruntime would print it as well
    _name(chosen, given, options)
    try:
        compiled: bytes = onnxruntime.ModelCompiler(
            options, graph, embed_compiled_data_into_model=True
        ).compile_to_bytes()
    except Exception as error:  # onnxruntime has a dozen unrelated classes for this, and RuntimeError
        raise ProviderError(f"provider {provider!r} cannot compile this graph: {error}") from error
    return compiled


def why_it_failed(error: Exception, wanted: str, found: Sequence[NDArray[Any]]) -> RnnEdgeError:
    """Say why a graph did not run: its provider failed, or it got something else than it wanted."""
    if type(error).__name__ == "EPFail":
        return ProviderError(f"the provider failed while it ran: {error}")
    arrays = ", ".join(f"{array.dtype} {array.shape}" for array in map(np.asarray, found))
    return TextError(f"the graph wants {wanted}; it got {arrays}")


def _recording(provider: Provider, given: Mapping[str, str]) -> bool:
    return given.get(provider.recording, "0") != "0"


def _check(provider: Provider, threads: int, options: Mapping[str, str]) -> None:
    if type(threads) is not int or not 1 <= threads <= _MOST_THREADS:
        raise ProviderError(f"threads must be a whole number from 1 to {_MOST_THREADS}, got {threads!r}")
    unknown = sorted(set(options) - provider.options)
    if unknown:
        known = ", ".join(sorted(provider.options)) or "none"
        raise ProviderError(f"provider {provider.name!r} has no option {', '.join(unknown)}; it has: {known}")
    not_text = [name for name, value in options.items() if not isinstance(value, str)]
    if not_text:
        raise ProviderError(f"options of providers are texts, as in {{'device_id': '0'}}; not so {', '.join(not_text)}")


def _open_on_cpu(graph: bytes, options: Any) -> Any:
    onnxruntime = import_onnxruntime()
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=[CPU.full_name], enable_fallback=0)
    except Exception as error:  # onnxruntime has a dozen unrelated classes for this, and RuntimeError
        raise BundleError(f"onnxruntime cannot open this graph on 'cpu': {error}") from error
    return _without_file(session)


def _open(graph: bytes, options: Any, provider: Provider, given: Mapping[str, str]) -> Any:
    """Open a graph on another provider than the CPU; some nodes may have stayed behind."""
    keywords = _name(provider, given, options)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    onnxruntime = import_onnxruntime()
    try:
        session = onnxruntime.InferenceSession(graph, options, enable_fallback=0, **keywords)
    except Exception as error:  # onnxruntime has a dozen unrelated classes for this, and RuntimeError
        raise ProviderError(f"onnxruntime cannot open this graph on {provider.name!r}: {error}") from error
    if provider.full_name not in session.get_providers():
        raise ProviderError(
            f"onnxruntime dropped provider {provider.name!r} without an error: its libraries or its device are "
            f"missing on this machine; the session would have run on {', '.join(session.get_providers())}"
        )
    return _without_file(session)


def _name(provider: Provider, given: Mapping[str, str], options: Any) -> dict[str, Any]:
    """Name a provider in a session's options if it is a plugin, else in the keywords that are returned."""
    reason = why_not(provider)
    if reason:
        raise ProviderError(f"provider {provider.name!r} {reason}")
    settings = {**provider.defaults, **given}
    if "backend_path" in given:
        settings.pop("backend_type", None)  # QNN takes one of the two
    if not is_plugin(provider):
        return {"providers": [(provider.full_name, settings)]}
    options.add_provider_for_devices(devices(provider)[:1], settings)  # named in `providers`, it would be ignored
    return {}


def _without_file(session: Any) -> Any:
    """Let go of the file, which onnxruntime's wrapper keeps for the fallback that is off, and of what opening took."""
    session._model_bytes = None
    return_free_memory()
    return session


def _missed(session: Any, provider: Provider) -> str:
    """Say which nodes run elsewhere; empty where all run on the provider."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise ProviderError(f"this onnxruntime does not tell which nodes run on {provider.name!r}: upgrade it")
    placed: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        placed.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    here = placed.pop(provider.full_name, Counter())
    elsewhere: Counter[str] = sum(placed.values(), Counter())
    if not here and not elsewhere:
        return f"onnxruntime does not tell whether {provider.name!r} runs any node of a file in format ort"
    if not elsewhere:
        return ""
    operators = ", ".join(f"{count} {name}" for name, count in sorted(elsewhere.items()))
    return (
        f"provider {provider.name!r} runs {here.total()} of {here.total() + elsewhere.total()} nodes of this graph, "
        f"and the CPU the others: {operators}"
    )


def _advice(provider: Provider) -> str:
    return f"export it with --target {provider.name} and --precision {' or '.join(provider.precisions)}"

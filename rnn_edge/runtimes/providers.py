"""Open a graph on an execution provider, or say why that cannot be; nothing ever falls back silently."""

from __future__ import annotations

from typing import Any

from rnn_edge.errors import BundleError, ProviderError

__all__ = ["PROVIDERS", "open_session"]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}
"""Our short names, and onnxruntime's."""

_MOST_THREADS = 1024


def open_session(graph: bytes, *, provider: str = "cpu", threads: int = 1) -> Any:
    """Return an `onnxruntime.InferenceSession` that really runs on `provider`.

    graph    an ONNX file's content, without external data
    threads  of one operator; small networks are slower with more than one
    """
    if provider not in PROVIDERS and provider not in PROVIDERS.values():
        raise ProviderError(f"unknown provider {provider!r}; rnn-edge knows {', '.join(PROVIDERS)}")
    if type(threads) is not int or not 1 <= threads <= _MOST_THREADS:
        raise ProviderError(f"threads must be a whole number from 1 to {_MOST_THREADS}, got {threads!r}")
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(
            f"onnxruntime cannot be imported ({error}); for the CPU: pip install 'rnn-edge[cpu]', "
            "for CUDA: pip install 'rnn-edge[gpu]'"
        ) from error
    full_name = PROVIDERS.get(provider, provider)
    offered = onnxruntime.get_available_providers()
    if full_name not in offered:
        raise ProviderError(
            f"provider {provider!r} is not in this build of onnxruntime, which has {', '.join(offered)}; "
            "for CUDA: pip uninstall onnxruntime, then pip install 'rnn-edge[gpu]'"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; onnxruntime would print it as well
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=[full_name], enable_fallback=0)
    except Exception as error:  # onnxruntime has a dozen unrelated classes for this, and RuntimeError
        raise BundleError(f"onnxruntime cannot open this graph on {provider!r}: {error}") from error
    if full_name not in session.get_providers():
        raise ProviderError(
            f"onnxruntime dropped provider {provider!r} without an error: its libraries or its device are "
            f"missing on this machine; the session would have run on {', '.join(session.get_providers())}"
        )
    session._model_bytes = None  # kept for the fallback that is off; as large as the file
    return session

"""PyTorch: as it is, compiled, and with its own 8 bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.alternatives.base import Alternative, Parts, Runner, Source
from rnn_edge.runtimes.arrays import Floats, Ids


class _Torch(Runner):
    """A module that takes a stretch of tokens and a state, as rnn-edge's own modules do."""

    batch_axis = 1

    def __init__(self, model: Any) -> None:
        self._model = model

    def start(self, batch: int) -> Parts:
        return tuple(self._model.start(batch))

    def step(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        return self.read(tokens[:, None], state)

    def read(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        import torch

        with torch.inference_mode():
            logits, state = self._model(torch.from_numpy(tokens), state)
        return logits[:, -1].numpy(), state


class _TorchPlain(Runner):
    """A plain step, compiled or quantized."""

    def __init__(self, step: Any, sizes: Sequence[int]) -> None:
        self._step, self._sizes = step, sizes

    def start(self, batch: int) -> Parts:
        import torch

        return tuple(torch.zeros(batch, size) for size in self._sizes)

    def step(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        import torch

        with torch.inference_mode():
            logits, *state_after = self._step(torch.from_numpy(tokens), *state)
        return logits.numpy(), tuple(state_after)


def _save_torch(source: Source) -> Path:
    import torch

    torch.save({"workload": source.workload.name, "weights": source.workload.model().state_dict()}, source.file("pt"))
    return source.file("pt")


def _load_torch(path: Path) -> Any:
    import torch

    from benchmarks.workloads import WORKLOADS
    from rnn_edge.modules import LanguageModel

    saved = torch.load(path, weights_only=True)
    model = LanguageModel(WORKLOADS[saved["workload"]].spec).eval()
    model.load_state_dict(saved["weights"])
    return model.requires_grad_(False)


def _open_plain(path: Path, change: Callable[[Any], Any]) -> Runner:
    from benchmarks.workloads import PlainStep

    model = _load_torch(path)
    sizes = [*model.spec.state_sizes.values()] * model.spec.num_layers
    return _TorchPlain(change(PlainStep(model).eval()), sizes)


def _compiled(step: Any) -> Any:
    """Compile the plain step: torch.compile runs torch.nn's recurrent layers eagerly, without a word."""
    import torch

    return torch.compile(step, fullgraph=True, options={"freezing": True, "max_autotune": True, "cpp_wrapper": True})


def _dynamic_int8(step: Any) -> Any:
    import torch

    return torch.ao.quantization.quantize_dynamic(copy.deepcopy(step), {torch.nn.Linear}, dtype=torch.qint8)


_TORCH = ("torch",)
EAGER = Alternative("PyTorch", _TORCH, _TORCH, ("fp32",), _save_torch, lambda path: _Torch(_load_torch(path)))
COMPILED = Alternative(
    "torch.compile",
    _TORCH,
    _TORCH,
    ("fp32",),
    _save_torch,
    lambda path: _open_plain(path, _compiled),
    any_batch=False,
)
DYNAMIC = Alternative(
    "PyTorch quantize_dynamic", _TORCH, _TORCH, ("int8",), _save_torch, lambda path: _open_plain(path, _dynamic_int8)
)

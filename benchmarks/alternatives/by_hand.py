"""The way without a tool: torch.onnx.export, quantize_dynamic, and a loop over onnxruntime."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alternatives.base import Alternative, Parts, Runner, Source
from rnn_edge.runtimes.arrays import Floats, Ids


class _ByHand(Runner):
    """The loop that everyone writes."""

    batch_axis = 1

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._states = self._session.get_inputs()[1:]

    def start(self, batch: int) -> Parts:
        return tuple(np.zeros((state.shape[0], batch, state.shape[2]), np.float32) for state in self._states)

    def step(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        return self.read(tokens[:, None], state)

    def read(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        feed = {"tokens": tokens, **{port.name: part for port, part in zip(self._states, state, strict=True)}}
        logits, *after = self._session.run(None, feed)
        return logits[:, -1], tuple(after)


def _convert_by_hand(source: Source) -> Path:
    import torch

    class Exported(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Any, *state: Any) -> Any:
            logits, after = self.model(tokens, state)
            return (logits, *after)

    model, path = source.workload.model(), source.file("onnx")
    names = [*source.workload.spec.state_sizes]
    outputs = ["logits", *(f"next_{name}" for name in names)]
    axes = {"tokens": {0: "batch", 1: "time"}, **{name: {1: "batch"} for name in names}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the old one; the new one writes wrong projections
        torch.onnx.export(
            Exported(model),
            (torch.zeros(2, 2, dtype=torch.int64), *model.start(2)),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["tokens", *names],
            output_names=outputs,
            dynamic_axes=axes,
        )
    if source.precision == "fp32":
        return path
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rounded = path.with_suffix(".int8.onnx")
    quantize_dynamic(path, rounded, weight_type=QuantType.QInt8, per_channel=True)
    return rounded


BY_HAND = Alternative(
    "torch.onnx.export by hand", ("onnxruntime", "torch"), ("onnxruntime",), ("fp32", "int8"), _convert_by_hand, _ByHand
)

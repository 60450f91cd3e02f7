"""OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.alternatives.base import Alternative, Parts, Runner, Source
from rnn_edge.runtimes.arrays import Floats, Ids


class _OpenVino(Runner):
    def __init__(self, path: Path) -> None:
        import openvino

        core = openvino.Core()
        # Left alone it would compute in bfloat16 where the processor can, which is not the same network any more.
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self._compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def start(self, batch: int) -> Parts:
        return tuple(np.zeros((batch, port.shape[1]), np.float32) for port in self._compiled.inputs[1:])

    def step(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        logits, *after = self._request.infer([tokens, *state]).to_tuple()
        return logits, after


def _convert_openvino(source: Source) -> Path:
    import openvino

    step, example = source.plain()
    model, path = openvino.convert_model(step, example_input=example), source.file("xml")
    shapes = [openvino.PartialShape(list(each.shape)) for each in example]
    model.reshape(dict(zip(range(len(shapes)), shapes, strict=True)))
    if source.precision == "int8":
        import nncf

        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


OPENVINO = Alternative(
    "OpenVINO",
    ("openvino", "nncf"),
    ("openvino",),
    ("fp32", "int8"),
    _convert_openvino,
    _OpenVino,
    any_batch=False,
)

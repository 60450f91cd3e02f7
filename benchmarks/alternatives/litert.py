"""LiteRT, once TensorFlow Lite, which multiplies by XNNPACK."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alternatives.base import Alternative, Parts, Runner, Source
from rnn_edge.runtimes.arrays import Floats, Ids


class _LiteRt(Runner):
    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._run = Interpreter(str(path), num_threads=1)
        self._run.allocate_tensors()
        self._tokens, *self._states = sorted(self._run.get_input_details(), key=_number)
        self._indices = [each["index"] for each in sorted(self._run.get_output_details(), key=_number)]

    def start(self, batch: int) -> Parts:
        assert tuple(self._tokens["shape"]) == (batch,), "its batch is fixed when it is converted"
        return tuple(np.zeros(each["shape"], np.float32) for each in self._states)

    def step(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        self._run.set_tensor(self._tokens["index"], tokens.astype(np.int32))
        for port, part in zip(self._states, state, strict=True):
            self._run.set_tensor(port["index"], part)
        self._run.invoke()
        logits, *after = map(self._run.get_tensor, self._indices)
        return logits, tuple(after)


def _number(port: Mapping[str, Any]) -> int:
    return int(re.findall(r"\d+", port["name"])[-1])


def _convert_litert(source: Source) -> Path:
    import litert_torch

    step, example = source.plain()
    path = source.file("tflite")
    litert_torch.convert(step, example).export(str(path))
    if source.precision == "fp32":
        return path
    from ai_edge_quantizer import quantizer, recipe

    rounding = quantizer.Quantizer(str(path))
    recipes = {"int8": recipe.dynamic_wi8_afp32, "int4": recipe.dynamic_wi4_afp32}
    rounding.load_quantization_recipe(recipes[source.precision]())
    rounded = path.with_suffix(f".{source.precision}.tflite")
    rounding.quantize().export_model(str(rounded))
    return rounded


LITERT = Alternative(
    "LiteRT",
    ("ai-edge-litert", "litert-torch", "ai-edge-quantizer"),
    ("ai_edge_litert.interpreter",),
    ("fp32", "int8", "int4"),
    _convert_litert,
    _LiteRt,
    any_batch=False,
)

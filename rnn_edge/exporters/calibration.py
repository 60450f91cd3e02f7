"""8 bits as NPUs want them: the steps of every activation are known beforehand, from a text that the network reads.

`CalibratedWeights` wrote the matrices as whole numbers, which are bytes with the scale 1. onnxruntime's own quantizer
marks what else is rounded, by pairs of QuantizeLinear and DequantizeLinear: a provider that computes in integers makes
integer operators of what stands between them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rnn_edge.exporters.weights import KEPT, Stored
from rnn_edge.runtimes.arrays import Ids
from rnn_edge.runtimes.names import TOKENS
from rnn_edge.runtimes.providers import CPU, Activations
from rnn_edge.runtimes.sessions import open_session

if TYPE_CHECKING:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import TensorsData

__all__ = ["calibrate"]

_PRODUCTS = ("Gather", "Gemm", "MatMul")
_MARGIN = np.float32(1.25)  # other texts go beyond what this one shows
_SMALLEST_RANGE = 1e-4  # Qualcomm's NPU wants no smaller one


def calibrate(
    model: onnx.ModelProto, stored: Sequence[Stored], tokens: Ids, activations: Activations
) -> onnx.ModelProto:
    """Return a step graph of fixed shapes with integers for floats; its inputs and outputs remain floats.

    stored       what its tensors are: where a matrix was kept float, so is what it is used for
    tokens       int64 (time,), a text from its beginning
    activations  uint16: every number between two operators is rounded to 65,536 steps; uint8: only what is multiplied
                 by a matrix, and the product, for in 256 steps a state that grows with the text is lost
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType  # takes a moment, and only NPUs need it

    inferred = onnx.shape_inference.infer_shapes(model)
    is_wide = activations == "uint16"
    whole = {each.name for each in stored if each.precision == "int8"}
    kept = {each.name for each in stored if each.reason == KEPT}
    operators = sorted({node.op_type for node in inferred.graph.node}) if is_wide else _PRODUCTS
    quantizer = QDQQuantizer(
        inferred,
        per_channel=False,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt16 if is_wide else QuantType.QUInt8,
        tensors_range=_ranges(inferred, tokens),
        nodes_to_quantize=[],
        nodes_to_exclude=[node.name for node in inferred.graph.node if kept.intersection(node.input)],
        op_types_to_quantize=operators,
        extra_options={
            "MinimumRealRange": _SMALLEST_RANGE,
            "TensorQuantOverrides": _in_16_bits(inferred, whole) if is_wide else _in_8_bits(whole),
            "UseQDQContribOps": is_wide and model.opset_import[0].version < 21,  # ONNX had no 16 bits before
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    calibrated: onnx.ModelProto = quantizer.model.model
    calibrated.producer_name = model.producer_name
    del calibrated.graph.value_info[:]  # every reader infers it
    return calibrated


def _in_8_bits(whole: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return how matrices become bytes, unsigned: NNAPI looks up no others."""
    from onnxruntime.quantization import QuantType

    return {name: [_steps(QuantType.QUInt8, 1, np.uint8(128))] for name in whole}


def _in_16_bits(model: onnx.ModelProto, whole: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return how matrices become bytes, and what is known of other values without reading any text.

    Rows that are looked up remain bytes until they are multiplied by their scales.
    """
    from onnxruntime.quantization import QuantType

    byte, wide = (QuantType.QInt8, 1, np.int8(0)), QuantType.QUInt16
    known = {name: [_steps(*byte)] for name in whole}
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in whole:
            widened = _steps(wide, 2**-8, np.uint16(2**15))
            known[node.output[0]] = [{**_steps(*byte), "convert": widened}]
        elif node.op_type == "Sigmoid":
            known[node.output[0]] = [_steps(wide, 2**-16, np.uint16(0))]
        elif node.op_type == "Tanh":
            known[node.output[0]] = [_steps(wide, 2**-15, np.uint16(2**15))]
    return known


def _steps(kind: QuantType, scale: float, zero_point: np.integer[Any]) -> dict[str, Any]:
    return {"quant_type": kind, "scale": np.array(scale, np.float32), "zero_point": np.array(zero_point)}


def _ranges(model: onnx.ModelProto, tokens: Ids) -> TensorsData:
    """Return the least and the largest that each value becomes while a text is read, and a quarter more."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator
    from onnxruntime.quantization.calibrate import TensorsData

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(path, augmented_model_path=str(Path(folder) / "observed.onnx"))
        calibrator.set_execution_providers([CPU.full_name])
        calibrator.collect_data(_Text(model, tokens))
        found = calibrator.compute_data()
    edges = {name: tuple(_MARGIN * edge for edge in each.range_value) for name, each in found.items()}
    return TensorsData(CalibrationMethod.MinMax, edges)


class _Text:
    """Gives a calibrator one token after the other, each with the states that those before it left."""

    def __init__(self, model: onnx.ModelProto, tokens: Ids) -> None:
        self._inputs = _inputs(model, tokens)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next token's inputs, or None at the end."""
        return next(self._inputs, None)


def _inputs(model: onnx.ModelProto, tokens: Ids) -> Iterator[dict[str, NDArray[Any]]]:
    session = open_session(model.SerializeToString())
    states = {port.name: np.zeros(port.shape, np.float32) for port in session.get_inputs()[1:]}
    for token in tokens.astype(np.int32):
        inputs = {TOKENS: token.reshape(1, 1), **states}
        yield inputs
        states = dict(zip(states, session.run(None, inputs)[1:], strict=True))

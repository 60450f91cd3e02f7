"""ExecuTorch, which multiplies by XNNPACK."""

from __future__ import annotations

from pathlib import Path

from benchmarks.alternatives.base import Alternative, Parts, Runner, Source
from rnn_edge.runtimes.arrays import Floats, Ids


class _ExecuTorch(Runner):
    def __init__(self, path: Path) -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(1)
        self._program = Runtime.get().load_program(str(path))
        self._method = self._program.load_method("forward")
        self._sizes = [int(size) for size in path.with_suffix(".sizes").read_text().split()]

    def start(self, batch: int) -> Parts:
        import torch

        return tuple(torch.zeros(batch, size) for size in self._sizes)

    def step(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        import torch

        logits, *after = self._method.execute([torch.from_numpy(tokens), *state])
        return logits.numpy(), tuple(after)


def _convert_executorch(source: Source) -> Path:
    import torch
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    step, example = source.plain()
    partitioner = XnnpackPartitioner()
    if source.precision == "int8":
        from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        config = xnnpack.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
        prepared = prepare_pt2e(
            torch.export.export(step, example).module(), xnnpack.XNNPACKQuantizer().set_global(config)
        )
        prepared(*example)
        step = convert_pt2e(prepared)
        partitioner = XnnpackPartitioner(
            config_precisions=[ConfigPrecisionType.DYNAMIC_QUANT, ConfigPrecisionType.FP32], per_op_mode=True
        )
    lowered = to_edge_transform_and_lower(torch.export.export(step, example), partitioner=[partitioner])
    path = source.file("pte")
    path.write_bytes(lowered.to_executorch().buffer)
    path.with_suffix(".sizes").write_text(" ".join(map(str, source.state_sizes())))
    return path


EXECUTORCH = Alternative(
    "ExecuTorch",
    ("executorch",),
    ("torch", "executorch.runtime"),
    ("fp32", "int8"),
    _convert_executorch,
    _ExecuTorch,
    any_batch=False,
)

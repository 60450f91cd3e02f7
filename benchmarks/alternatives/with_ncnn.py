"""ncnn, by way of pnnx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.alternatives.base import Alternative, Parts, Runner, Source
from rnn_edge.runtimes.arrays import Floats, Ids

_NO_BATCH = 233  # as pnnx writes it


class _Ncnn(Runner):
    """One row at a time: it has no batch."""

    def __init__(self, path: Path) -> None:
        import ncnn

        self._mat, self._net = ncnn.Mat, ncnn.Net()
        self._net.opt.num_threads = 1
        for halves in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(self._net.opt, halves, False)  # it is compared in fp32
        self._net.load_param(str(path))
        self._net.load_model(str(path.with_suffix(".bin")))
        self._sizes = [int(size) for size in path.with_suffix(".sizes").read_text().split()]

    def start(self, batch: int) -> Parts:
        return tuple(np.zeros((batch, size), np.float32) for size in self._sizes)

    def step(self, tokens: Ids, state: Parts) -> tuple[Floats, Parts]:
        rows = [self._row(tokens[row : row + 1], [part[row] for part in state]) for row in range(len(tokens))]
        logits, *after = (np.stack(parts) for parts in zip(*rows, strict=True))
        return logits, tuple(after)

    def _row(self, token: Ids, state: Sequence[Floats]) -> list[Floats]:
        extractor = self._net.create_extractor()
        extractor.input("in0", self._mat(token.astype(np.int32), batch_index=_NO_BATCH).clone())
        for number, part in enumerate(state, start=1):
            extractor.input(f"in{number}", self._mat(part[None], batch_index=0).clone())
        found = [extractor.extract(f"out{number}")[1] for number in range(len(state) + 1)]
        return [np.array(each.numpy(batch_index=0)).reshape(-1) for each in found]


def _convert_ncnn(source: Source) -> Path:
    import ncnn  # noqa: F401  # pnnx alone is of no use
    import pnnx

    step, _ = source.plain()
    _, example = replace(source, batch=1).plain()
    pnnx.export(step, str(source.file("pt")), example, fp16=False)
    path = source.directory / "model.ncnn.param"
    path.with_suffix(".sizes").write_text(" ".join(map(str, source.state_sizes())))
    return path


NCNN = Alternative("ncnn", ("ncnn", "pnnx"), ("ncnn",), ("fp32",), _convert_ncnn, _Ncnn)

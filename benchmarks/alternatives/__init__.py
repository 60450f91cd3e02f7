"""Everything that can run the same network."""

from __future__ import annotations

from benchmarks.alternatives.base import Alternative, Runner, Source
from benchmarks.alternatives.by_hand import BY_HAND
from benchmarks.alternatives.litert import LITERT
from benchmarks.alternatives.ours import OURS, TWO_STAGE
from benchmarks.alternatives.pytorch import COMPILED, DYNAMIC, EAGER
from benchmarks.alternatives.with_executorch import EXECUTORCH
from benchmarks.alternatives.with_ncnn import NCNN
from benchmarks.alternatives.with_numpy import NUMPY
from benchmarks.alternatives.with_openvino import OPENVINO

__all__ = ["ALTERNATIVES", "Alternative", "Runner", "Source"]

ALTERNATIVES = (OURS, TWO_STAGE, LITERT, BY_HAND, EXECUTORCH, OPENVINO, NCNN, EAGER, COMPILED, DYNAMIC, NUMPY)

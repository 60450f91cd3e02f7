"""The machine's own limit: limit.c, compiled here and now, multiplying matrices of a step's sizes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BITS", "Limit"]

Array: TypeAlias = NDArray[Any]

BITS = {"fp32": 32, "int8": 8, "int4": 4}
TILE, BLOCK = 64, 32  # as in limit.c
FLAGS = "-O3 -march=native -shared -fPIC -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math"
"""As free as -ffast-math where it matters here, which would change how the whole process rounds."""


class Limit:
    """limit.c as a library."""

    def __init__(self, directory: Path, *flags: str) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise ImportError("there is no C compiler")
        library = directory / "limit.so"
        source = Path(__file__).with_name("limit.c")
        subprocess.run([compiler, *FLAGS.split(), *flags, "-o", library, source], check=True, capture_output=True)
        self._multiply = ctypes.CDLL(str(library)).multiply
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._multiply.argtypes = [ctypes.c_int, ctypes.c_int, pointer, pointer, pointer, size, size, pointer]

    def multiply(self, bits: int, x: Array, weights: Array, scales: Array, outputs: int) -> Array:
        """Return x (batch, inputs) times packed weights, float32 (batch, outputs); limit.c says how they are packed."""
        y = np.empty((len(x), outputs), np.float32)
        if self._multiply(*_arguments(bits, x, weights, scales, y)):
            raise ValueError(f"limit.c has no form for {bits} bits and batch {len(x)}")
        return y

    def task(self, precision: str, sizes: Sequence[tuple[int, int]], batch: int) -> Callable[[], None]:
        """Return what multiplies matrices of these sizes, (inputs, outputs) each, by `batch` vectors, in turn."""
        generator, bits = np.random.default_rng(0), BITS[precision]
        products, arrays = [], []  # pointers, and what they point to
        for inputs, outputs in sizes:
            inputs, outputs = _up(inputs, BLOCK), _up(outputs, TILE)
            scales = np.ones(outputs * (inputs // BLOCK if bits == 4 else 1), np.float32)
            y = np.empty((batch, outputs), np.float32)
            if bits == 32:
                x = generator.normal(size=(batch, inputs)).astype(np.float32)
                weights = generator.normal(size=inputs * outputs).astype(np.float32)
            else:
                x = generator.integers(1, 128, (batch, inputs), np.uint8)
                weights = generator.integers(0, 256, inputs * outputs * bits // 8, np.uint8)
            products.append(_arguments(bits, x, weights, scales, y))
            arrays.append((x, weights, scales, y))

        def run(_keep_alive: object = arrays) -> None:
            for arguments in products:
                self._multiply(*arguments)

        return run


def _arguments(bits: int, x: Array, weights: Array, scales: Array, y: Array) -> tuple[int, ...]:
    (batch, inputs), outputs = x.shape, y.shape[1]
    return bits, batch, x.ctypes.data, weights.ctypes.data, scales.ctypes.data, inputs, outputs, y.ctypes.data


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple

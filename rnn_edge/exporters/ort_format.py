"""ONNX Runtime's own file format, for builds of it that have only the operators an app needs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rnn_edge.bundle import REQUIRED_OPERATORS
from rnn_edge.errors import ExportError
from rnn_edge.runtimes.providers import CPU, Provider

__all__ = ["TARGETS", "convert_to_ort", "ort_name"]

TARGETS = ("cpu", "xnnpack", "nnapi", "coreml")
"""The providers that small builds for phones can have."""


def ort_name(name: str) -> str:
    """Return what an ONNX file is called in the other format."""
    return str(Path(name).with_suffix(".ort"))


def convert_to_ort(files: Mapping[str, bytes], target: Provider) -> dict[str, bytes]:
    """Return ONNX files in the other format, and what a build of ONNX Runtime must have to run them all.

    For the CPU, the graph is changed to what it runs fastest; for others, only as far as they could not object to.
    """
    style, ending = ("Fixed", "") if target is CPU else ("Runtime", ".with_runtime_opt")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        command = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", folder]
        command += ["--optimization_style", style, "--enable_type_reduction"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ExportError(f"onnxruntime cannot convert this graph to its own format: {done.stderr.strip()[-500:]}")
        converted = {ort_name(name): (Path(folder) / f"{Path(name).stem}{ending}.ort").read_bytes() for name in files}
        configuration = Path(REQUIRED_OPERATORS).with_suffix(f"{ending}.config")
        lines = (Path(folder) / configuration).read_text(encoding="utf-8").splitlines()
    operators = [line for line in lines if line and not line.startswith("#")]  # comments name the folder
    return {**converted, REQUIRED_OPERATORS: ("\n".join(operators) + "\n").encode()}

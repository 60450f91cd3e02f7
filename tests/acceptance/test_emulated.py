"""Rounded bundles decide the same on processors this machine does not have, under emulation.

RNN_EDGE_EMULATORS names a directory with qemu's user-mode emulators and an arm64 Python, as .ci/run installs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from helpers import tiny_checkpoint  # noqa: E402

from rnn_edge.bundle import Precision  # noqa: E402
from rnn_edge.exporters import ExportOptions, export  # noqa: E402

EMULATORS = Path(os.environ.get("RNN_EDGE_EMULATORS", "/nowhere"))
QEMU_X86, QEMU_ARM = EMULATORS / "usr/bin/qemu-x86_64", EMULATORS / "usr/bin/qemu-aarch64"
ARM_ROOT = EMULATORS / "arm/root"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not QEMU_X86.exists(), reason="needs qemu; RNN_EDGE_EMULATORS names where it is"),
]

# Runs where it is told to, with onnxruntime and numpy alone, and prints the first choice after each token.
ROLL_OUT = """
import json, sys
import numpy, onnxruntime
choices = {}
for name in sys.argv[1:]:
    session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
    feed = {port.name: numpy.zeros([size if isinstance(size, int) else 1 for size in port.shape], numpy.float32)
            for port in session.get_inputs()[1:]}
    choices[name] = []
    for token in range(96):
        logits, *state = session.run(None, {"tokens": numpy.array([[token]]), **feed})
        feed = dict(zip(feed, state))
        choices[name].append(int(logits.argmax()))
print(json.dumps(choices))
"""

PROCESSORS = {
    "x86 without VNNI": [QEMU_X86, "-cpu", "Haswell", sys.executable],
    "arm64 with dot products": [QEMU_ARM, "-cpu", "cortex-a76", "-L", ARM_ROOT, ARM_ROOT / "usr/bin/python3.11"],
    "arm64 without them": [QEMU_ARM, "-cpu", "cortex-a53", "-L", ARM_ROOT, ARM_ROOT / "usr/bin/python3.11"],
}
NETWORKS = {
    "elman": {"cell": "elman"},
    "gru": {"cell": "gru", "tied": True},
    "lstm": {"cell": "lstm", "num_layers": 2},
}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory) -> list[str]:
    """Export networks whose weights are large and alike, the worst case for sums in 16 bits."""
    directory, names = tmp_path_factory.mktemp("graphs"), []
    for network, options in NETWORKS.items():
        source = tiny_checkpoint(hidden_size=64, **options)
        with torch.no_grad():
            for name, parameter in source.model.stack.named_parameters():
                if name.startswith("rnn.weight_hh"):
                    parameter.copy_(parameter.sign() * 0.3)
        precisions: list[Precision] = ["int8", "int4"]
        for precision in precisions:
            path = directory / f"{network}-{precision}.rnn"
            export(
                source, path, ExportOptions(precision=precision, eval_text="the cat sat on the mat " * 9, max_loss=9)
            )
            names.append(str(path / "model.onnx"))
    return names


def roll_out(python: list[object], graphs: list[str]) -> dict[str, list[int]]:
    environment = {**os.environ, "PYTHONPATH": str(EMULATORS / "arm/site") if python[0] == QEMU_ARM else ""}
    command = [*map(str, python), "-c", ROLL_OUT, *graphs]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_rounded_graphs_decide_the_same_everywhere(processor, graphs):
    """A product that overflows would change a third of the choices; the last bit of a sigmoid changes next to none."""
    here, there = roll_out([sys.executable], graphs), roll_out(PROCESSORS[processor], graphs)
    for name in graphs:
        agreement = np.mean(np.array(here[name]) == np.array(there[name]))
        assert agreement >= 0.95, (name, agreement)

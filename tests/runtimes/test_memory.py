"""A loaded bundle keeps one copy of its weights. Looks at the memory of a process of its own."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tiny_bundle

MEASURE = """
import gc, json, sys
from pathlib import Path
import rnn_edge

def private():  # kB of memory that is no file's
    gc.collect()
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1])

small, large = sys.argv[1:]
rnn_edge.load(small).complete("the cat")  # so that all modules and libraries are there
empty = private()
model = rnn_edge.load(large)
loaded = private()
model.complete("the cat")
used = private()
copy = Path(large, "model.onnx").read_bytes()
print(json.dumps({"loaded": loaded - empty, "used": used - empty, "with a copy": private() - empty}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep other amounts of free memory")
def test_a_loaded_bundle_keeps_one_copy_of_its_weights():
    tiny_bundle(Path("small.rnn"))
    tiny_bundle(Path("large.rnn"), embedding_size=256, hidden_size=700)
    size = Path("large.rnn", "model.onnx").stat().st_size / 1024
    assert size > 10_000
    measured = json.loads(subprocess.check_output([sys.executable, "-c", MEASURE, "small.rnn", "large.rnn"]))
    times = {moment: kilobytes / size for moment, kilobytes in measured.items()}
    assert times["loaded"] < 1.3, times
    assert times["used"] < 1.4, times
    assert times["with a copy"] > 1.9, times  # so a copy would be seen

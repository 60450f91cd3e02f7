"""What loaded bundles keep, and what they do not. Each test looks at the memory of a process of its own."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tiny_bundle

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other allocators keep other amounts of free memory"
)

PRIVATE = """
import gc, json, sys
from pathlib import Path
import rnn_edge
from rnn_edge.bundle import Bundle
from rnn_edge.runtimes.memory import return_free_memory
from rnn_edge.runtimes.sessions import open_session
from rnn_edge.runtimes.step_graph import StepGraph

def private():  # bytes of memory that is no file's
    gc.collect()
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:")]
    return 1024 * int(line.split()[1])
"""
LOADED = """
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
OPENED = """
small, large = map(Path, sys.argv[1:])
StepGraph.from_bundle(Bundle.read(small))
bundle = Bundle.read(large)
before = private()
graph = StepGraph.from_bundle(bundle)
print(json.dumps(private() - before))
"""
STEPPED = """
import numpy as np

def stepped(bundle):
    opened = open_session(Path(bundle, "model.onnx").read_bytes())
    tokens, *states = opened.get_inputs()
    feed = {port.name: np.zeros((port.shape[0], 1, port.shape[2]), np.float32) for port in states}
    for _ in range(100):
        opened.run(None, {tokens.name: np.array([[1]]), **feed})
    return_free_memory()
    return opened

small, large = sys.argv[1:]
opened = stepped(small)
empty = private()
del opened
opened = stepped(large)
print(json.dumps(private() - empty))
"""
READ = """
model = rnn_edge.load()
model.score("def main():")
before = private()
for number in range(20_000):
    model._tokenizer.encode(str(number))
return_free_memory()
print(json.dumps(private() - before))
"""

SUGGESTED = """
model = rnn_edge.load(sys.argv[1])
model.complete("1 2")
before = private()
for text in ("1 2", "1 23", "1 2 3", "1 234 5", "1 23 "):
    model.suggest(text)
return_free_memory()
print(json.dumps(private() - before))
"""


def measure(script: str, *bundles: str):
    """Return what a script prints in a process of its own."""
    return json.loads(subprocess.check_output([sys.executable, "-c", PRIVATE + script, *bundles]))


def size_of(bundle: str) -> int:
    """Return the bytes of a bundle's graph."""
    return Path(bundle, "model.onnx").stat().st_size


@pytest.fixture
def bundles() -> tuple[str, str]:
    """Return a small bundle and one of more than 10 MB."""
    tiny_bundle(Path("small.rnn"))
    tiny_bundle(Path("large.rnn"), embedding_size=256, hidden_size=700)
    assert size_of("large.rnn") > 10_000_000
    return "small.rnn", "large.rnn"


def test_a_loaded_bundle_keeps_one_copy_of_its_weights(bundles):
    times = {moment: kept / size_of("large.rnn") for moment, kept in measure(LOADED, *bundles).items()}
    assert times["loaded"] < 1.3, times
    assert times["used"] < 1.4, times
    assert times["with a copy"] > 1.9, times  # so a copy would be seen


def test_every_graph_gives_back_what_opening_it_took(bundles):
    """One copy of the weights stays while the file is still held; without giving back, nearly two."""
    assert measure(OPENED, *bundles) < 1.3 * size_of("large.rnn")


def test_words_that_were_read_are_not_kept():
    """The tokenizers library would keep 10,000 words of a byte-level BPE with their tokens: 2.5 MB here."""
    assert measure(READ) < 500_000


@pytest.fixture
def keyboard() -> str:
    """Return a keyboard's model with random weights, in int8; AMX does not fill up its widths to multiples of 64."""
    pytest.importorskip("torch")
    from rnn_edge.exporters import ExportOptions, export
    from rnn_edge.modules import Checkpoint, build
    from rnn_edge.spec import LanguageModelSpec
    from rnn_edge.text import Tokenizer

    text = " ".join(map(str, range(9_998)))
    tokenizer = Tokenizer.train("words", [text], vocab_size=10_000)
    spec = LanguageModelSpec(
        vocab_size=tokenizer.vocab_size, cell="lstm", coupled_gates=True,
        embedding_size=128, hidden_size=640, proj_size=128, tied=True,
    )  # fmt: skip
    options = ExportOptions(precision="int8", eval_text=text[:2000], max_loss=10)
    export(Checkpoint(build(spec).eval(), tokenizer), Path("keyboard.rnn"), options)
    return "keyboard.rnn"


@pytest.mark.slow
def test_a_session_takes_at_most_twice_its_file_more_than_a_tiny_one(keyboard):
    tiny_bundle(Path("small.rnn"))
    times = measure(STEPPED, "small.rnn", keyboard) / size_of(keyboard)
    assert 1 < times < 2


@pytest.mark.slow
def test_suggestions_take_less_than_the_network(keyboard):
    """What each of 10,000 words comes to at a place is not kept: it would be 4 MB, and the graph has 2."""
    assert measure(SUGGESTED, keyboard) < size_of(keyboard) * 0.75

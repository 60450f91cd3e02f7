"""The page of `rnn-edge package --platform web` in headless Chromium, its network stored in several ways.

For each network and each way: what there is to download, and milliseconds of a step and of a keystroke, at first and
later. All ways of a network take turns, a browser each, so that they meet the same machine; and what is taken is the
processor time of the page's own thread, which other programs do not lengthen. Weights are random; speed does not
depend on them. Linux only.

python -m benchmarks.web NODE_MODULES/onnxruntime-web [SCREENSHOT.png]
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from string import ascii_lowercase
from typing import Any

import numpy as np
import onnx
import torch

from benchmarks.workloads import WORKLOADS
from rnn_edge.bundle import Bundle
from rnn_edge.exporters import ExportOptions, export
from rnn_edge.exporters.rounding import round_rows
from rnn_edge.modules import Checkpoint, LanguageModel
from rnn_edge.packaging import package
from rnn_edge.runtimes import BUILT_IN
from rnn_edge.text import Tokenizer

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from acceptance.browser import phone, phones, served

WIDENED = "int8, widened at load"
WAYS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp16": {"precision": "fp16"},
    "int8": {"precision": "int8"},
    WIDENED: {},
    "fp32, scores in two stages": {"preview": "fp32", "preview_rank": 64},
    "int8, scores in two stages": {"precision": "int8", "preview": "int8", "preview_rank": 64},
}
_WIDE = 128  # an output layer for which two stages of rank 64 can pay
ROUNDS, CHAIN = 6, 100
CODE = """import numpy as np
from pathlib import Path

class Reader:
    def __init__(self, path):
        self.path = path

    def rea"""

OPEN = """async () => {
  const { load } = await import("./rnn-edge.js");
  window.model = await load("model/");
}"""

# A chain of steps of one row.
STEPS = """async (count) => {
  const { network } = window.model;
  let [state, token] = [network.start(), 1];
  for (let i = 0; i < count; i++) {
    const [position] = await network.step([[token]], [state]);
    [state, token] = [position.state, (token * 7 + 3) % network.vocabSize];
  }
}"""

# Each keystroke as a person makes it: one letter more, searched anew.
TYPE = """async (text) => {
  for (let length = 1; length <= text.length; length++) await window.model.suggest(text.slice(0, length));
}"""


@dataclass(frozen=True)
class Subject:
    """A network, its vocabulary, and what is typed."""

    name: str
    checkpoint: Checkpoint
    typed: str


def subjects() -> Iterator[Subject]:
    """Yield a network of the built-in one's sizes, and the keyboards' with 10,000 words."""
    built_in = Bundle.read(BUILT_IN)
    torch.manual_seed(0)
    model = LanguageModel(built_in.manifest.spec).eval()  # type: ignore[arg-type]
    yield Subject("built-in", Checkpoint(model, built_in.tokenizer), "import numpy as np\nfor i in range(")
    words = ["".join(letters) for letters in product(ascii_lowercase, repeat=3)]
    tokenizer = Tokenizer.train("words", [" " + " ".join(words)], vocab_size=10_000)
    for name in ("keyboard", "keyboard-wide"):
        yield Subject(name, Checkpoint(WORKLOADS[name].model(), tokenizer), " aaa abd bcd cha")


class Page:
    """A network opened in a browser of its own."""

    def __init__(self, browser: Any, address: str) -> None:
        self._page = browser.new_page()
        self._page.goto(f"{address}style.css")  # of the same origin, and runs nothing
        self._page.evaluate(OPEN)
        running = browser.browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        renderers = (each for each in running if each["type"] == "renderer")
        thread = max(renderers, key=lambda each: each["cpuTime"])["id"]  # not the one that is kept in reserve
        self._clock = Path(f"/proc/{thread}/task/{thread}/schedstat")

    def time(self, code: str, argument: object, count: int) -> float:
        """Return the milliseconds of processor time that each of some things took."""
        begin = self._nanoseconds()
        self._page.evaluate(code, argument)
        return (self._nanoseconds() - begin) / count / 1e6

    def _nanoseconds(self) -> int:
        return int(self._clock.read_text().split()[0])


def measure(subject: Subject, onnxruntime_web: Path) -> None:
    """Print a line for each way of storing a network that can pay."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ways = [way for way in WAYS if "preview" not in WAYS[way] or _output_width(subject) > _WIDE]
        paths = [_packaged(subject, way, Path(folder), onnxruntime_web) for way in ways]
        browsers = stack.enter_context(phones(len(ways)))
        pages = [
            Page(browser, stack.enter_context(served(path))) for browser, path in zip(browsers, paths, strict=True)
        ]
        first_steps = [page.time(STEPS, CHAIN, CHAIN) for page in pages]
        first_keys = [page.time(TYPE, subject.typed, len(subject.typed)) for page in pages]
        rounds = [
            [(page.time(STEPS, CHAIN, CHAIN), page.time(TYPE, subject.typed, len(subject.typed))) for page in pages]
            for _ in range(ROUNDS)
        ]
        steps, keys = np.median(rounds, axis=0).T  # of each way
        for number, way in enumerate(ways):
            _print(
                subject.name,
                way,
                f"{_size(paths[number]) / 1e6:.1f} MB",
                f"{_size(paths[number], 'onnx') / 1e6:.2f} MB",
                f"{first_steps[number]:.2f} ms",
                f"{steps[number]:.2f} ms",
                f"×{median(each[number][0] / each[0][0] for each in rounds):.2f}",
                f"{first_keys[number]:.1f} ms",
                f"{keys[number]:.1f} ms",
            )


def _packaged(subject: Subject, way: str, folder: Path, onnxruntime_web: Path) -> Path:
    options = ExportOptions(eval_text=subject.typed * 20, max_loss=9, **WAYS[way])
    bundle = export(subject.checkpoint, folder / f"{way}.rnn", options).path
    if way == WIDENED:
        _widen(bundle)
    return package(bundle, folder / way, "web", onnxruntime_web=onnxruntime_web)


def _output_width(subject: Subject) -> int:
    width: int = subject.checkpoint.model.output.weight.shape[1]  # type: ignore[union-attr]
    return width


def _widen(path: Path) -> None:
    """Store a bundle's matrices as bytes, of which ONNX Runtime makes floats once, when it loads the graph."""
    bundle = Bundle.read(path)
    model = onnx.load_model_from_string(bundle.files["model.onnx"])
    graph, nodes = model.graph, list(model.graph.node)
    del graph.node[:]
    for tensor in [each for each in graph.initializer if len(each.dims) == 2]:
        columns = round_rows(onnx.numpy_helper.to_array(tensor).T)
        graph.initializer.remove(tensor)
        for part, values in (("values", columns.values), ("scales", columns.scales)):
            stored, wide = f"{tensor.name}.{part}", f"{tensor.name}.{part}.wide"
            graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), stored))
            graph.node.append(onnx.helper.make_node("Cast", [stored], [wide], to=onnx.TensorProto.FLOAT))
        both = [f"{tensor.name}.values.wide", f"{tensor.name}.scales.wide"]
        graph.node.append(onnx.helper.make_node("Mul", both, [tensor.name]))
    graph.node.extend(nodes)
    Bundle.write(path, bundle.manifest, {**bundle.files, "model.onnx": model.SerializeToString()})


def _size(path: Path, ending: str = "*") -> int:
    """Return what is to be downloaded, compressed."""
    files = [file for file in path.rglob(f"*.{ending}") if file.is_file()]
    return sum(len(gzip.compress(file.read_bytes())) for file in files)


def _print(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def draw(onnxruntime_web: Path, picture: Path) -> None:
    """Take a picture of the built-in model's page while somebody types."""
    with tempfile.TemporaryDirectory() as folder, phone() as browser:
        path = package(None, Path(folder) / "page", "web", title="Autocomplete", onnxruntime_web=onnxruntime_web)
        with served(path) as address:
            page = browser.new_page()
            page.goto(address)
            page.wait_for_selector("textarea:enabled")
            page.locator("textarea").press_sequentially(CODE, delay=20)
            page.wait_for_timeout(500)
            page.screenshot(path=picture)


def main(arguments: Sequence[str]) -> None:
    """Measure everything, or draw."""
    onnxruntime_web = Path(arguments[0])
    if len(arguments) > 1:
        draw(onnxruntime_web, Path(arguments[1]))
        return
    names = (
        "network",
        "stored as",
        "page",
        "its graph",
        "first steps",
        "later",
        "of fp32",
        "first keystrokes",
        "later",
    )
    _print(*names)
    _print(*["---"] * len(names))
    for subject in subjects():
        measure(subject, onnxruntime_web)


if __name__ == "__main__":
    main(sys.argv[1:])

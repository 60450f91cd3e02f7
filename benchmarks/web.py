"""The page of `rnn-edge package --platform web` in headless Chromium: time per keystroke, download, and a screenshot.

python -m benchmarks.web NODE_MODULES/onnxruntime-web [SCREENSHOT.png] [BUNDLE]...
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from rnn_edge.packaging import package

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from acceptance.browser import phone, served

CODE = """import numpy as np
from pathlib import Path

class Reader:
    def __init__(self, path):
        self.path = path

    def rea"""

# Each keystroke as a person makes it: one letter more, searched anew; milliseconds of each.
TYPE = """async (text) => {
  const { load } = await import("./rnn-edge.js");
  const model = await load("model/");
  const times = [];
  for (let round = 0; round < 3; round++) {
    for (let length = 1; length <= text.length; length++) {
      const start = performance.now();
      await model.suggest(text.slice(0, length));
      times.push(performance.now() - start);
    }
  }
  return times;
}"""


def measure(bundle: str | None, onnxruntime_web: Path, screenshot: Path | None) -> None:
    """Type into a bundle's page, print what it took, and keep a picture."""
    with tempfile.TemporaryDirectory() as folder, phone() as browser:
        path = package(bundle, Path(folder) / "page", "web", title="Autocomplete", onnxruntime_web=onnxruntime_web)
        with served(path) as address:
            page = browser.new_page()
            begin = perf_counter()
            page.goto(address)
            page.wait_for_selector("textarea:enabled")
            ready = perf_counter() - begin
            times = page.evaluate(TYPE, CODE)
            first, later = sorted(times[: len(CODE)]), sorted(times[len(CODE) :])
            files = [file for file in path.rglob("*") if file.is_file()]
            packed = sum(len(gzip.compress(file.read_bytes())) for file in files)
            print(
                f"{bundle or 'built-in'}: ready in {ready:.1f} s; {packed / 1e6:.1f} MB compressed; a keystroke takes "
                f"{first[len(first) // 2]:.1f} ms at first, then {later[len(later) // 2]:.1f} ms "
                f"(95 % within {later[len(later) * 95 // 100]:.1f} ms)"
            )
            if screenshot:
                page.locator("textarea").press_sequentially(CODE, delay=20)
                page.wait_for_timeout(500)
                page.screenshot(path=screenshot)


if __name__ == "__main__":
    installed, *rest = sys.argv[1:]
    picture = Path(rest.pop(0)) if rest and rest[0].endswith(".png") else None
    for each in rest or [None]:
        measure(each, Path(installed), picture)

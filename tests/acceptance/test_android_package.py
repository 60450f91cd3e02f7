"""The Android package's Kotlin: compiled by Kotlin's compiler, and its tokenizer and search run beside Python's.

No phone: ONNX Runtime's Android library runs nowhere else, so a network that is easy to compute in both languages
stands in for it. RNN_EDGE_EMULATORS names where `android/classes.jar` is, that library's Java part, to compile against.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import foreign_bundle, tiny_bundle

from rnn_edge.packaging import package
from rnn_edge.packaging.package import _OPTIONS
from rnn_edge.runtimes import LanguageModel
from rnn_edge.text import Tokenizer

KOTLINC = shutil.which("kotlinc")
JSON = Path("/usr/share/java/json-latest.jar")
ONNXRUNTIME = Path(os.environ.get("RNN_EDGE_EMULATORS", "/nowhere")) / "android/classes.jar"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(KOTLINC is None or not JSON.exists(), reason="needs kotlinc and libandroid-json-org-java"),
]


# What the README needs of Android's class of that name.
CONTEXT = """
class Context(val assets: Assets)
interface Assets { fun open(name: String): java.io.InputStream }
"""


class Waves:
    """Scores depend on everything read so far, and are easy to compute in any language; see Checks.kt."""

    def __init__(self, vocabulary: int) -> None:
        self._waves = np.arange(vocabulary) + 1

    def start(self, batch):
        return (np.zeros((1, batch, 1), np.float32),)

    def step(self, tokens, state):
        value = state[0][0, :, 0]
        for column in tokens.T:
            value = np.where(column < 0, value, (value / 2 + np.sin(column.astype(float))).astype(np.float32))
        logits = 4 * np.sin(self._waves * (value.astype(float)[:, None] + 2))
        return logits.astype(np.float32), (value.astype(np.float32)[None, :, None],)


def compiled(sources: list[Path], *libraries: Path) -> Path:
    """Compile for a Java virtual machine; warnings count as errors."""
    path = Path("compiled.jar").absolute()
    classes = ":".join(map(str, libraries))
    command = [str(KOTLINC), *map(str, sources), "-cp", classes, "-include-runtime", "-Werror", "-d", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.skipif(not ONNXRUNTIME.exists(), reason="needs android/classes.jar in RNN_EDGE_EMULATORS")
def test_everything_compiles_against_onnxruntime_for_android():
    """Its README's code too, as a function that is given an app's context."""
    path = package(None, "app", "android")
    sources = sorted(path.rglob("*.kt"))
    assert [source.name for source in sources] == ["Model.kt", "Suggester.kt", "Tokenizer.kt"]
    (code,) = re.findall(r"```kotlin\n(.*?)```", (path / "README.md").read_text(), re.DOTALL)
    readme = Path("Readme.kt")
    readme.write_text(f"import ai.rnnedge.Model\n{CONTEXT}\nfun complete(context: Context) {{\n{code}\n}}\n")
    compiled([*sources, readme], JSON, ONNXRUNTIME)


def test_its_tokens_and_suggestions_are_python_s():
    folders = []
    for kind in ("characters", "words", "bpe"):
        tiny_bundle(Path(f"{kind}.rnn"), kind)
        folders.append(package(f"{kind}.rnn", kind, "android"))
    foreign_bundle(Path("foreign.rnn"))
    folders += [package("foreign.rnn", "foreign", "android"), package(None, "built-in", "android")]
    sources = [path for path in folders[0].rglob("*.kt") if path.name != "Model.kt"]
    program = compiled([*sources, Path(__file__).with_name("Checks.kt")], JSON)
    for folder in folders:
        tokenizer_json = folder / "src/main/assets/model/tokenizer.json"
        command = ["java", "-cp", f"{program}:{JSON}", "ChecksKt", str(tokenizer_json), str(folder / "checks.json")]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
        checks = json.loads((folder / "checks.json").read_text())
        assert found["texts"] == checks["texts"]
        tokenizer = Tokenizer.from_json(tokenizer_json.read_text())
        model = LanguageModel(Waves(tokenizer.vocab_size), tokenizer)
        for case in found["suggestions"]:
            expected = model.complete(case["text"], _OPTIONS)
            assert [each["text"] for each in case["completions"]] == [each.text for each in expected], folder
            assert [each["tokens"] for each in case["completions"]] == [list(each.tokens) for each in expected]
            log_probs = [each["log_prob"] for each in case["completions"]]
            assert log_probs == pytest.approx([each.log_prob for each in expected], abs=1e-4)

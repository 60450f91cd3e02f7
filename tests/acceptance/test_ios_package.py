"""The iOS package's Swift under Linux: compiled by Swift's compiler, and its own tests run beside Python's answers.

No iPhone and no Xcode: ONNX Runtime's Swift package is for Apple's systems only, so a package of the same name stands
in for it, its classes on ONNX Runtime's C library. RNN_EDGE_EMULATORS names where tools/install_swift.sh put `swift`.
"""

from __future__ import annotations

import codecs
import json
import os
import random
import re
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest
from helpers import foreign_bundle, tiny_bundle

from rnn_edge.packaging import package

SWIFT = Path(os.environ.get("RNN_EDGE_EMULATORS", "/nowhere")) / "swift/run"
HERE = Path(__file__).parent
STAND_IN = "onnxruntime-swift-package-manager"
RESOURCES = (
    ("Sources/RnnEdge/model", "RnnEdge_RnnEdge.resources/model"),
    ("Sources/RnnEdge/vocabulary.json", "RnnEdge_RnnEdge.resources/vocabulary.json"),
    ("Tests/RnnEdgeTests/checks.json", "RnnEdge_RnnEdgeTests.resources/checks.json"),
)
PROGRAM = """// swift-tools-version: 5.9
import PackageDescription

let rnnEdge = Target.Dependency.product(name: "RnnEdge", package: "app")
let package = Package(
    name: "program",
    platforms: [.macOS(.v14)],
    dependencies: [.package(path: "../app")],
    targets: [.executableTarget(name: "program", dependencies: [rnnEdge])]
)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SWIFT.exists(), reason="needs swift in RNN_EDGE_EMULATORS; tools/install_swift.sh"),
]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command beside the Swift compiler, in a folder that is /work there."""
    return subprocess.run(
        [str(SWIFT), str(folder), *command], capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """Build a package and its tests, warnings being errors; only where ONNX Runtime is to be found was changed."""
    folder = tmp_path_factory.mktemp("workshop")
    package(None, folder / "app", "ios")
    shutil.copytree(HERE / STAND_IN, folder / STAND_IN)
    shutil.copy(HERE / "ReadableTests.swift", folder / "app/Tests/RnnEdgeTests")
    manifest = folder / "app/Package.swift"
    (dependency,) = (line.strip() for line in manifest.read_text().splitlines() if ".package(url:" in line)
    manifest.write_text(manifest.read_text().replace(dependency, f'.package(path: "../{STAND_IN}")'))
    (folder / "bytes.json").write_text(json.dumps(list(all_sorts_of_bytes())))
    built = run(folder, "swift", "build", "--package-path", "app", "--build-tests", "-Xswiftc", "-warnings-as-errors")
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def all_sorts_of_bytes():
    """Yield texts cut anywhere and spoilt, and what is whole of them."""
    draw = random.Random(0)
    for _ in range(2000):
        text = "".join(draw.choice("aé你🙂\U0010ffff\u0800\ud7ff") for _ in range(draw.randrange(4))).encode()
        spoilt = bytes(draw.randrange(256) if draw.random() < 0.2 else byte for byte in text)
        cut = spoilt[: draw.randrange(len(spoilt) + 1)]
        whole = codecs.getincrementaldecoder("utf-8")("replace").decode(cut)
        yield {"bytes": b64encode(cut).decode(), "text": whole}


def checked_with(workshop: Path, packaged: Path) -> subprocess.CompletedProcess[str]:
    """Run the compiled tests on another package's files."""
    built = workshop / "app/.build/debug"
    for source, target in RESOURCES:
        if (packaged / source).is_dir():
            shutil.rmtree(built / target)
            shutil.copytree(packaged / source, built / target)
        else:
            shutil.copy(packaged / source, built / target)
    return run(workshop, "app/.build/debug/RnnEdgePackageTests.xctest")


@pytest.mark.parametrize("kind", ["built-in", "foreign", "characters", "words", "bpe"])
def test_its_numbers_tokens_and_suggestions_are_python_s(workshop, kind):
    if kind == "foreign":
        foreign_bundle(Path("model.rnn"))
    elif kind != "built-in":
        tiny_bundle(Path("model.rnn"), kind, num_layers=2)
    tested = checked_with(workshop, package(None if kind == "built-in" else "model.rnn", "app", "ios"))
    assert tested.returncode == 0, tested.stdout
    assert "Executed 4 tests, with 0 failures" in tested.stdout


def test_its_readme_s_code_suggests(workshop):
    """In a program that depends on the package, as an app does."""
    (code,) = re.findall(r"```swift\n(.*?)```", (workshop / "app/README.md").read_text(), re.DOTALL)
    sources = workshop / "program/Sources/program"
    sources.mkdir(parents=True)
    (sources / "main.swift").write_text(code)
    (workshop / "program/Package.swift").write_text(PROGRAM)
    ran = run(workshop, "swift", "run", "--package-path", "program", "program")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    expected = json.loads((workshop / "app/Tests/RnnEdgeTests/checks.json").read_text())["suggestions"][0]
    assert expected["text"] in code
    assert ran.stdout.splitlines()[-3:] == [each["text"] for each in expected["completions"]]


def test_a_changed_file_is_refused(workshop):
    changed = package(None, "app", "ios")
    golden = changed / "Sources/RnnEdge/model/golden.json"
    golden.write_bytes(golden.read_bytes().replace(b"1", b"2", 1))
    tested = checked_with(workshop, changed)
    assert tested.returncode != 0
    assert "golden.json was changed after the export: its size or sha256 differs" in tested.stdout


def test_a_device_that_computes_other_numbers_is_told(workshop):
    changed = package(None, "app", "ios")
    model = changed / "Sources/RnnEdge/model"
    golden = json.loads((model / "golden.json").read_text())
    golden["cases"][0]["best_logits"][0] += 1
    (model / "golden.json").write_text(json.dumps(golden))
    rehash(model, "golden.json")
    tested = checked_with(workshop, changed)
    assert tested.returncode != 0
    assert "this device computes other numbers" in tested.stdout


def rehash(model: Path, name: str) -> None:
    """Make a bundle's manifest fit a file that was changed."""
    from hashlib import sha256

    content = (model / name).read_bytes()
    manifest = json.loads((model / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    (model / "manifest.json").write_text(json.dumps(manifest))


def test_its_manifest_asks_for_onnxruntime_s_own_package(tmp_path):
    package(None, "app", "ios")
    (found,) = json.loads(run(tmp_path / "app", "swift", "package", "dump-package").stdout)["dependencies"]
    (source,) = found["sourceControl"]
    assert source["identity"] == STAND_IN
    assert source["requirement"]["range"] == [{"lowerBound": "1.20.0", "upperBound": "2.0.0"}]


def test_it_is_formatted(tmp_path):
    """swift-format has nothing to say."""
    package(None, "app", "ios")
    shutil.copytree(HERE / STAND_IN, STAND_IN)
    shutil.copy(HERE / "ReadableTests.swift", ".")
    Path("format.json").write_text('{"version": 1, "lineLength": 120, "indentation": {"spaces": 4}}')
    folders = ("app", f"{STAND_IN}/Sources", "ReadableTests.swift")
    linted = run(tmp_path, "swift-format", "lint", "--strict", "--configuration", "format.json", "-r", *folders)
    assert (linted.returncode, linted.stderr) == (0, "")

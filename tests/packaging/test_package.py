"""A package is whole, holds the bundle byte for byte, and its checks are what Python gives."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pytest
from helpers import export_network, foreign_bundle, tiny_bundle, tiny_checkpoint

import rnn_edge
from rnn_edge.bundle import Bundle
from rnn_edge.errors import PackageError
from rnn_edge.packaging import Platform, package
from rnn_edge.text import Tokenizer

KINDS = ("characters", "words", "bpe")


@pytest.fixture
def runtime() -> Path:
    """Pretend that onnxruntime-web is installed."""
    folder = Path("node_modules/onnxruntime-web/dist")
    folder.mkdir(parents=True)
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / name).write_bytes(name.encode())
    return folder.parent


@pytest.mark.parametrize("platform", get_args(Platform))
def test_it_holds_the_bundle_and_no_placeholder(platform):
    bundle = tiny_bundle(Path("model.rnn"))
    path = package("model.rnn", "app", platform, title="Cats & mats")
    (manifest,) = path.rglob("manifest.json")
    assert Bundle.read(manifest.parent).files == bundle.files
    assert manifest.read_bytes() == Path("model.rnn/manifest.json").read_bytes()
    for file in path.rglob("*"):
        if file.is_file() and file.parent != manifest.parent and file.suffix != ".onnx":
            assert not re.findall(r"\{\{\w+\}\}", file.read_text()), file
    assert "Cats & mats" in (path / "README.md").read_text()
    if platform == "web":
        assert "<title>Cats &amp; mats</title>" in (path / "index.html").read_text()


def test_any_name_of_a_bundle_will_do():
    tiny_bundle(Path('My "odd" model.rnn'))
    path = package('My "odd" model.rnn', "page", "web")
    assert json.loads((path / "package.json").read_text())["name"] == "my-odd-model"
    assert 'const KEPT = "my-odd-model";' in (path / "sw.js").read_text()
    assert "<title>My &quot;odd&quot; model</title>" in (path / "index.html").read_text()


def test_it_leaves_out_graphs_that_no_runner_calls():
    from rnn_edge.exporters import ExportOptions, export

    export(tiny_checkpoint(), "model.rnn", ExportOptions(decode="greedy"))
    assert Path("model.rnn/decode.onnx").is_file()
    for platform in get_args(Platform):
        path = package("model.rnn", "app", platform)
        (manifest,) = path.rglob("manifest.json")
        packaged = Bundle.read(manifest.parent)
        assert {graph.file for graph in packaged.manifest.graphs.values()} == {"model.onnx"}
        assert sorted(packaged.files) == ["golden.json", "model.onnx", "tokenizer.json"]
        assert [file.name for file in path.rglob("*.onnx")] == ["model.onnx"] * (1 + (platform == "triton"))


@pytest.mark.parametrize("platform", get_args(Platform))
def test_it_names_its_files_with_sizes_and_hashes(platform):
    path = package(None, "app", platform)
    listed = json.loads((path / "files.json").read_text())
    files = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    del files["files.json"]
    assert listed == {
        name: {"bytes": len(content), "sha256": sha256(content).hexdigest()} for name, content in files.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_checks_say_what_python_says(kind):
    tiny_bundle(Path("model.rnn"), kind)
    checks = json.loads((package("model.rnn", "page", "web") / "checks.json").read_text())
    tokenizer = Tokenizer.from_json(Path("page/model/tokenizer.json").read_text())
    assert any("你好" in case["text"] for case in checks["texts"])
    for case in checks["texts"]:
        assert case["tokens"] == tokenizer.encode(case["text"])
        assert [case["settled"], case["pending"]] == list(tokenizer.encode_typing(case["text"]))
    assert checks["suggestions"]
    assert all(case["completions"] for case in checks["suggestions"])


def test_swift_is_given_the_vocabulary_as_a_list():
    foreign_bundle(Path("model.rnn"))
    tokenizer = Bundle.read(Path("model.rnn")).tokenizer
    vocabulary = json.loads((package("model.rnn", "app", "ios") / "Sources/RnnEdge/vocabulary.json").read_text())
    assert [b64decode(said) for said in vocabulary["tokens"]] == list(tokenizer.token_bytes)
    assert (vocabulary["kind"], vocabulary["pattern"], vocabulary["merges"]) == ("characters", None, [])
    assert (vocabulary["end_id"], vocabulary["unknown_id"]) == (tokenizer.end_id, tokenizer.unknown_id)


def test_words_between_white_space_are_for_python_only():
    tiny_bundle(Path("model.rnn"), "whitespace")
    with pytest.raises(PackageError, match=r"stand between white space.*choose the platform python"):
        package("model.rnn", "app", "ios")
    assert package("model.rnn", "app", "python").is_dir()


def test_the_python_runner_suggests():
    package(None, "app", "python")
    done = subprocess.run(
        [sys.executable, "-W", "error", "app/suggest.py"],
        input="import nu\nfor i in ra\n",
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(rnn_edge.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert len(lines) == 6
    assert any(line.startswith("for i in range(") for line in lines[3:])


def test_the_python_readme_s_commands_and_code_complete_text():
    """Word by word, but for `pip install`, since what is tested is here."""
    path = package(None, "app", "python")
    commands, code = re.findall(r"^```\w*\n(.*?)^```", (path / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    install, complete = commands.splitlines()
    assert install == "pip install -r requirements.txt"
    here = {"PYTHONPATH": str(Path(rnn_edge.__file__).parents[1]), "PATH": f"{Path(sys.executable).parent}:/bin"}
    printed = []
    for command in (["sh", "-c", complete], [sys.executable, "-c", code]):
        done = subprocess.run(command, cwd=path, capture_output=True, text=True, timeout=60, env={**os.environ, **here})
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.splitlines())
    assert [re.fullmatch(r"import nu\w+.*\t-\d+\.\d\d", line) is not None for line in printed[0]] == [True] * 3
    assert printed[1][0].startswith(printed[0][0].removeprefix("import nu").split("\t")[0])


def test_the_page_takes_its_runtime_from_an_installed_package(runtime):
    path = package(None, "page", "web", onnxruntime_web=runtime)
    assert sorted(file.name for file in (path / "onnxruntime").iterdir()) == [
        "ort-wasm-simd-threaded.wasm",
        "ort.wasm.bundle.min.mjs",
    ]
    with pytest.raises(PackageError, match=r"not an installed onnxruntime-web: .*is missing; npm install"):
        package(None, "page", "web", onnxruntime_web="elsewhere")
    assert (path / "onnxruntime").is_dir()  # nothing was changed


def test_only_a_package_is_overwritten(tmp_path):
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("keep me")
    with pytest.raises(PackageError, match="something else is there"):
        package(None, "mine", "python")
    assert Path("mine/notes.txt").read_text() == "keep me"
    with pytest.raises(PackageError, match="there is no directory"):
        package(None, "no/where", "python")
    package(None, "app", "python")
    package(None, "app", "web")
    assert not Path("app/suggest.py").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_other_platforms_and_forms_are_refused():
    from rnn_edge.exporters import ExportOptions, export

    with pytest.raises(PackageError, match="platform must be one of web, python, android, ios, triton, got 'toaster'"):
        package(None, "app", "toaster")
    export(tiny_checkpoint(), "gpu.rnn", ExportOptions(target="webgpu"))
    with pytest.raises(PackageError, match="is in step form: export it for cpu"):
        package("gpu.rnn", "app", "web")
    rounded = ExportOptions(precision="int4", eval_text="the cat sat on the mat " * 9, max_loss=9)
    export(tiny_checkpoint(hidden_size=64), "int4.rnn", rounded)
    with pytest.raises(PackageError, match="int4, which browsers compute slowly and differently: export it in int8"):
        package("int4.rnn", "app", "web")
    assert package("int4.rnn", "app", "python").is_dir()


@pytest.mark.parametrize("task", ["translate", "classify", "tag"])
def test_other_networks_than_language_models_are_refused(task):
    export_network(Path("model.rnn"), task)
    message = f"packages are made of language models only, and model.rnn is to {task}: open it with rnn_edge.load"
    with pytest.raises(PackageError, match=message):
        package("model.rnn", "app", "python")
    assert not Path("app").exists()

"""The architecture is a test: what may import what, and what the device must never need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import export_network, tiny_bundle

import rnn_edge

PACKAGE = Path(rnn_edge.__file__).parent

GUARD = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "onnx", "onnxscript", "onnx_ir", "click", "safetensors"}:
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
import rnn_edge, rnn_edge.answers
options = rnn_edge.GenerateOptions(num_beams=2, max_new_tokens=3)
for path in sys.argv[1:]:
    text = "[1, 2, 3, 4, 5]" if path == "describe.rnn" else "the cat"
    (line,) = rnn_edge.answers.answer(rnn_edge.load(path), [text], options, as_json=True)
"""


def test_the_runtime_runs_without_torch_onnx_or_click():
    tiny_bundle(Path("complete.rnn"))
    tasks = ("translate", "describe", "classify", "embed", "tag")
    for task in tasks:
        export_network(Path(f"{task}.rnn"), task)
    paths = [f"{task}.rnn" for task in ("complete", *tasks)]
    subprocess.run([sys.executable, "-W", "error", "-c", GUARD, *paths], check=True, timeout=60)


def test_importing_the_package_loads_nothing_heavy():
    code = "import rnn_edge, sys; assert not {'numpy', 'torch', 'onnx', 'onnxruntime', 'click'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Each part may import those it names, and nothing else of ours.
ALLOWED = {
    "errors": set(),
    "files": set(),
    "lazy": set(),
    "spec": {"errors"},
    "text": {"errors"},
    "bundle": {"errors", "files", "spec", "text"},
    "modules": {"errors", "files", "spec", "text"},
    "runtimes": {"errors", "spec", "text", "bundle"},
    "packaging": {"errors", "files", "spec", "text", "bundle", "runtimes"},
    "answers": {"errors", "runtimes"},
    "bulk": {"errors", "files", "lazy", "spec", "bundle", "runtimes", "answers"},
    "inspection": {"errors", "spec", "text", "bundle", "runtimes"},
    "interactive": {"errors", "runtimes"},
    "training": {"errors", "files", "lazy", "spec", "text", "modules"},
    "exporters": {"errors", "files", "spec", "text", "bundle", "modules", "runtimes"},
}


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_point_one_way(part):
    files = [PACKAGE / f"{part}.py"] if (PACKAGE / f"{part}.py").exists() else list((PACKAGE / part).rglob("*.py"))
    assert files
    for file in files:
        for name in _imports(file):
            if name.startswith("rnn_edge."):
                assert name.split(".")[1] in {part, *ALLOWED[part]}, f"{file} imports {name}"


def test_every_part_is_listed():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__", "__main__", "cli"} == set(ALLOWED)


def test_commands_do_not_know_one_another():
    for file in (PACKAGE / "cli").glob("*.py"):
        ours = {name for name in _imports(file) if name.split(".")[:2] == ["rnn_edge", "cli"]}
        shared = {f"rnn_edge.cli.{name}" for name in ("bulk", "messages", "options")}  # no commands
        assert file.stem == "__init__" or ours <= shared


def test_every_public_name_exists():
    for name in rnn_edge.__all__:
        assert getattr(rnn_edge, name) is not None
    assert set(rnn_edge.__all__) <= set(dir(rnn_edge))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rnn_edge.nonsense


def _imports(file: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]

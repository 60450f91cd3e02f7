"""What a user without PyTorch gets from the wheel alone. CI runs this in such an environment; `pytest` does not."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import rnn_edge

COMMAND = [str(Path(sys.executable).with_name("rnn-edge"))]


def rnn_edge_run(*arguments: str, text: str = "", command: list[str] = COMMAND) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *arguments], input=text, capture_output=True, text=True, timeout=60)


def test_this_environment_has_no_torch_and_no_checkout():
    assert not any(map(importlib.util.find_spec, ("torch", "onnx", "onnxscript")))
    assert "site-packages" in rnn_edge.__file__


def test_the_built_in_model_answers_in_json():
    for command in (COMMAND, [sys.executable, "-m", "rnn_edge"]):
        done = rnn_edge_run("run", "--num-return", "3", "--json", text="for i in ra\nimport nu\n", command=command)
        assert done.returncode == 0, done.stderr
        first, second = map(json.loads, done.stdout.splitlines())
        assert first["prompt"] == "for i in ra"
        assert len(first["completions"]) == len(second["completions"]) == 3
        assert first["completions"][0]["text"].startswith("nge(")


def test_five_lines_of_python():
    model = rnn_edge.load()
    session = model.session("if __name__ == ")
    best = session.complete(rnn_edge.GenerateOptions(num_beams=3, stop_strings=("\n",)))[0]
    assert best.text == '"__main__":' or best.text == "'__main__':"
    session.accept(best)
    assert session.text.startswith("if __name__ == ")


def test_info_tells_of_the_built_in_model():
    done = rnn_edge_run("info", "--json")
    assert json.loads(done.stdout)["spec"]["task"] == "language-model"


def test_commands_that_need_torch_say_how_to_get_it():
    for arguments in (
        ["export", "model.pt"],
        ["verify", "model.pt", "model.rnn"],
        ["train", "text.txt", "-o", "model.pt"],
    ):
        done = rnn_edge_run(*arguments)
        assert done.returncode == 1
        assert "pip install 'rnn-edge[cpu,export]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_cuda_explains_itself():
    done = rnn_edge_run("run", "--provider", "cuda", "import")
    assert done.returncode == 1
    assert "provider 'cuda' is not in this build of onnxruntime" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_wheel_carries_the_templates_of_packages(tmp_path):
    for platform, runner in (("web", "rnn-edge.js"), ("python", "suggest.py"), ("android", "build.gradle.kts")):
        done = rnn_edge_run("package", "--platform", platform, "-o", str(tmp_path / platform))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / platform / runner).is_file()

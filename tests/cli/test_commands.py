"""All commands: help, usage errors, and nothing heavy before there is work."""

from __future__ import annotations

import subprocess
import sys

from cli.calling import call

from rnn_edge.cli import main

COMMANDS = ("train", "export", "verify", "run", "eval", "inspect", "bench", "info", "package", "placement", "providers")


def test_every_command_has_help_with_an_example():
    assert sorted(COMMANDS) == sorted(main.commands)
    for name in COMMANDS:
        result = call(name, "--help")
        assert result.exit_code == 0
        assert f"rnn-edge {name}" in result.stdout


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys; from rnn_edge.cli import main; main(['--help'], standalone_mode=False);"
        "assert not {'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    assert call("--version").stdout.startswith("rnn-edge, version ")


def test_a_wrong_option_is_a_usage_error():
    assert call("run", "--nonsense").exit_code == 2
    assert call("nonsense").exit_code == 2
    assert call("export").exit_code == 2
    assert call("run", "--beam-size", "-1", "text").exit_code == 2

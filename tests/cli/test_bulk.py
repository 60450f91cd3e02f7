"""`rnn-edge run --engine ray`: what it takes, and how it is stopped and gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.calling import call

COMMAND = ["run", "model.rnn", "--engine", "ray", "--input", "texts", "--input-format", "text", "--output", "out"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--output", "out", "--actors", "2"], "--output, --actors can only be used with --engine ray"),
    (["--input", "."], ". is a directory, and only --engine ray reads those"),
    (["--engine", "ray", "--input", "texts"], "name them with --input, and a directory with --output"),
    (["--engine", "ray", "--output", "out"], "name them with --input, and a directory with --output"),
    ([*COMMAND[2:], "text"], "name them with --input, and a directory with --output"),
    ([*COMMAND[2:], "--json", "--threads", "2"], "--threads, --json cannot be used with --engine ray: leave it out"),
])  # fmt: skip
def test_options_that_do_not_belong_together_are_refused(files, arguments, words):
    Path("texts").write_text("the c\n")
    result = call("run", "model.rnn", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.slow
def test_a_corpus_is_answered_and_the_run_may_be_stopped_and_gone_on_with(files):
    pytest.importorskip("ray.data")
    texts = [f"the {'cat ' * (number % 7)}" for number in range(600)]
    Path("texts").write_text("\n".join(texts))
    command = [sys.executable, "-m", "rnn_edge", *COMMAND, "--part-rows", "10", "--beam-size", "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 300
        while not list(Path("out").glob("part-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=120)
    assert running.returncode == 130, told
    assert "of 60 parts done; the same command goes on" in told
    done = len(list(Path("out").glob("part-*")))
    assert 0 < done < 60

    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert again.stdout == f"out: 60 parts; {600 - 10 * done} rows now\n"
    lines = [line for file in sorted(Path("out").glob("part-*")) for line in file.read_text("utf-8").splitlines()]
    assert [json.loads(line)["prompt"] for line in lines] == texts
    assert [json.loads(line)["row"] for line in lines] == list(range(600))

"""docs/training.md cannot lie: its program runs, and its options exist."""

from __future__ import annotations

import re
from pathlib import Path

from rnn_edge.cli import main
from rnn_edge.modules import load_checkpoint
from rnn_edge.training.tasks import DEFAULTS

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_program_runs(capsys):
    Path("corpus.txt").write_text("the cat sat on the mat, and the dog on the log\n" * 100)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(program, {})
    figures = capsys.readouterr().out.split()
    assert float(figures[-1]) == load_checkpoint(Path("model.pt")).history["held_out"]["perplexity"]


def test_every_option_exists_with_the_default_it_is_said_to_have():
    options = {name: each for each in main.commands["train"].params for name in (*each.opts, *each.secondary_opts)}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= {*options, "--nproc-per-node"}  # which is torchrun's
    for name, value in re.findall(r"^\| `(--[a-z-]+) ([\w.]+)` \|", PAGE, re.MULTILINE):
        default = options[name].default
        assert value == str(DEFAULTS["language-model"].get(options[name].name, default) if default is None else default)

"""Progress on a terminal."""

from __future__ import annotations

import sys

from rnn_edge.cli.messages import progress_line


def test_a_terminal_shows_one_line_that_changes(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_line() as show:
        show("step 1", False)
        show("step 2", True)
    lines = capsys.readouterr().err.split("\r")
    assert [line.strip() for line in lines] == ["", "step 1", "step 2"]
    assert [line.count("\n") for line in lines] == [0, 0, 1]

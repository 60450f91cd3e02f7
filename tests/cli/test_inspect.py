"""`rnn-edge inspect`: a page from a text or a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.calling import call

TEXT = 'if a < b:\n    print("</script> & more", [1])\n'


def test_the_command_writes_the_page():
    Path("program.py").write_text(TEXT)
    result = call("inspect", "--input", "program.py", "-o", "page.html")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("page.html: ")
    again = call("inspect", TEXT, "-o", "again.html")
    assert again.exit_code == 0, again.output
    assert Path("again.html").read_text() == Path("page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-o", "page.html"], "give one TEXT, or --input"),
        (["a", "b", "-o", "page.html"], "give one TEXT, or --input"),
        (["a", "-o", "nowhere/page.html"], "there is no directory nowhere; create it"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(arguments, problem):
    result = call("inspect", *arguments)
    assert result.exit_code == 2
    assert problem in result.output

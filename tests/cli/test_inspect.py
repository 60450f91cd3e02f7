"""`rnn-edge inspect`: a page from a text or a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.calling import call
from helpers import some_checkpoint, tiny_bundle, tiny_checkpoint

TEXT = 'if a < b:\n    print("</script> & more", [1])\n'


def test_the_command_writes_the_page():
    Path("program.py").write_text(TEXT)
    result = call("inspect", "--input", "program.py", "-o", "page.html")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("page.html: ")
    again = call("inspect", TEXT, "-o", "again.html")
    assert again.exit_code == 0, again.output
    assert Path("again.html").read_text() == Path("page.html").read_text()


def test_with_a_checkpoint_the_page_shows_how_far_an_error_reaches():
    pytest.importorskip("torch")
    bundle, text = tiny_bundle(Path("model.rnn")), "the cat sat on the mat, the end of it\n" * 3
    save_tiny("model.pt")
    result = call("inspect", str(bundle.path), text, "--checkpoint", "model.pt", "-o", "page.html")
    assert result.exit_code == 0, result.output
    assert "How far back an error reaches" in Path("page.html").read_text()
    short = call("inspect", str(bundle.path), "the cat", "--checkpoint", "model.pt", "-o", "page.html")
    assert short.exit_code == 1
    assert "a reach of 1 tokens needs a text of 35, and this one has 7" in short.output
    save_tiny("other.pt", "classify")
    other = call("inspect", str(bundle.path), text, "--checkpoint", "other.pt", "-o", "page.html")
    assert "the checkpoint is of task classify: only language models can be inspected" in other.output


def save_tiny(name: str, task: str = "") -> None:
    from rnn_edge.modules import save_checkpoint

    save_checkpoint(some_checkpoint(task) if task else tiny_checkpoint(), Path(name))


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

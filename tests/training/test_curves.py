"""How a run went can be seen: as a picture, and in TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rnn_edge.cli import main
from rnn_edge.errors import TrainingError
from rnn_edge.modules import load_checkpoint
from rnn_edge.training.curves import check_curves, draw_curves, logged

CURVE = {name: [1.0, 2.0] for name in ("step", "loss", "gradient_norm", "learning_rate", "held_out")}


def train(*arguments):
    Path("corpus.txt").write_text("the cat sat on the mat\n" * 40)
    sizes = ["--vocab-size", "300", "--embedding-size", "8", "--hidden-size", "12", "--batch-size", "4", "--bptt", "8"]
    fast = [*sizes, "--epochs", "2", "--eval-interval", "4", "--threads", "1"]
    return CliRunner().invoke(main, ["train", "corpus.txt", "-o", "model.pt", *fast, *arguments])


def test_a_model_remembers_its_run_look_by_look():
    """With a look at each step, the means are those steps' own."""
    from rnn_edge.spec import LanguageModelSpec
    from rnn_edge.text import Tokenizer
    from rnn_edge.training import Corpus, LanguageLesson, TrainOptions, loop

    corpus = Corpus(train=("abcab" * 20,), held_out=("abcabab",))
    tokenizer = Tokenizer.train("characters", corpus.train)
    spec = LanguageModelSpec(vocab_size=tokenizer.vocab_size, embedding_size=6, hidden_size=8)
    options = TrainOptions(epochs=2, batch_size=2, bptt=8, eval_interval=1, threads=1)
    *steps, _ = loop.train(LanguageLesson(spec, tokenizer, corpus, options), Path("model.pt"), options=options)
    curve = load_checkpoint(Path("model.pt")).history["curve"]
    assert curve["step"] == [event.step for event in steps]
    assert curve["loss"] == [event.loss for event in steps]
    assert curve["gradient_norm"] == [event.gradient_norm for event in steps]
    assert curve["held_out"] == [event.held_out.criterion for event in steps]


def test_curves_are_drawn_by_the_command_and_from_a_models_history():
    pytest.importorskip("matplotlib")
    result = train("--curves", "curves.png")
    assert result.exit_code == 0, result.output
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")
    draw_curves(load_checkpoint(Path("model.pt")).history["curve"], Path("curves.svg"))
    assert "<svg" in Path("curves.svg").read_text()


def test_tensorboard_gets_every_step_and_look():
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train("--tensorboard", "events")
    assert result.exit_code == 0, result.output
    found = EventAccumulator("events")
    found.Reload()
    history = load_checkpoint(Path("model.pt")).history
    assert [event.step for event in found.Scalars("train/loss")] == list(range(1, history["steps"] + 1))
    assert [event.step for event in found.Scalars("held_out/perplexity")] == history["curve"]["step"]


@pytest.mark.parametrize(
    ("module", "work", "problem"),
    [
        ("matplotlib.figure", lambda: draw_curves(CURVE, Path("a.png")), "curves are drawn with matplotlib"),
        ("torch.utils.tensorboard", lambda: logged(iter([]), Path("events")), "written by TensorBoard's package"),
    ],
)
def test_what_is_not_installed_is_asked_for(monkeypatch, module, work, problem):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TrainingError, match=rf"{problem}.*pip install 'rnn-edge\[plots\]'"):
        work()


@pytest.mark.parametrize("path", ["curves.gif", "nowhere/curves.png"])
def test_a_picture_that_cannot_be_drawn_is_refused_before_any_work(path):
    with pytest.raises(TrainingError, match=r"name a file in a directory that exists, ending in"):
        check_curves(Path(path))
    assert train("--curves", path).exit_code == 1
    assert not Path("model.pt").exists()

"""A run learns, keeps its best model, survives whatever stops it, and says why it cannot go on."""

from __future__ import annotations

import math
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from rnn_edge.cli import main
from rnn_edge.errors import CheckpointError, TrainingError
from rnn_edge.modules import load_checkpoint
from rnn_edge.spec import LanguageModelSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training import (
    Corpus,
    Evaluation,
    Finished,
    LanguageLesson,
    TrainOptions,
    check_output,
    language,
    loop,
    train,
)
from rnn_edge.training.run import resume_path

OUTPUT = Path("model.pt")
CORPUS = Corpus(train=("abcab" * 40, "bca" * 30), held_out=("abcabab",), files=(("a.txt", 290), ("b.txt", 7)))
TOKENIZER = Tokenizer.train("characters", CORPUS.train)
SPEC = LanguageModelSpec(vocab_size=TOKENIZER.vocab_size, embedding_size=6, hidden_size=8, tied=True, dropout=0.3)
OPTIONS = TrainOptions(epochs=3, batch_size=4, bptt=8, eval_interval=7, threads=1, learning_rate=0.01)


def start(output=OUTPUT, *, options=OPTIONS, resume=False, spec=SPEC):
    return train(LanguageLesson(spec, TOKENIZER, CORPUS, options), output, options=options, resume=resume)


def weights_in(path=OUTPUT) -> bytes:
    model = load_checkpoint(path).model
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


def finish(events) -> Finished:
    *_, last = events
    return last


def script_looks(monkeypatch, losses):
    """Let the looks at held-out text find these losses, one after the other."""
    left = iter(losses)
    figures = {"top1": 0.0, "top3": 0.0, "tokens": 1, "characters": 1}
    monkeypatch.setattr(language, "evaluate_rows", lambda *_, **__: Evaluation(loss=next(left), **figures))


def test_a_simple_text_is_learnt():
    options = TrainOptions(epochs=40, batch_size=4, bptt=16, eval_interval=50, learning_rate=0.05)
    corpus = Corpus(train=("abcabc" * 50,), held_out=("abcabc" * 5,))
    spec = LanguageModelSpec(**{**SPEC.to_dict(), "dropout": 0.0})
    finished = finish(train(LanguageLesson(spec, TOKENIZER, corpus, options), OUTPUT, options=options))
    assert finished.held_out.top1 > 0.9
    assert finished.held_out.perplexity < 1.5


def test_every_step_is_told():
    *steps, finished = start()
    assert [each.step for each in steps] == list(range(1, steps[0].total_steps + 1))
    assert [each.step for each in steps if each.held_out] == [*range(7, len(steps), 7), len(steps)]
    assert (steps[0].epoch, steps[-1].epoch, steps[-1].share, steps[-1].seconds_left) == (1, 3, 1.0, 0.0)
    assert finished.steps == len(steps)
    assert finished.stopped_by == "epochs"
    assert finished.seconds == pytest.approx(steps[-1].seconds)


def test_the_seed_reproduces_the_weights():
    for seed, name in [(0, "a.pt"), (0, "b.pt"), (1, "c.pt")]:
        finish(start(Path(name), options=TrainOptions(**{**OPTIONS.to_dict(), "seed": seed})))
    assert weights_in(Path("a.pt")) == weights_in(Path("b.pt")) != weights_in(Path("c.pt"))


def test_the_callers_random_numbers_make_no_difference():
    finish(start(Path("a.pt")))
    torch.manual_seed(3)
    for _ in start(Path("b.pt")):
        torch.rand(5)
    assert weights_in(Path("a.pt")) == weights_in(Path("b.pt"))


def test_the_callers_threads_are_given_back():
    before = torch.get_num_threads()
    events = start(options=TrainOptions(**{**OPTIONS.to_dict(), "threads": before + 1}))
    next(events)
    assert torch.get_num_threads() == before + 1
    events.close()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("steps", [1, 6, 7, 8, 20])
def test_a_run_closed_after_any_step_and_resumed_ends_as_if_never_stopped(steps):
    """Within an epoch, at its end, before, at and after a look; dropout and the carried state included."""
    finish(start(Path("straight.pt")))
    events = start()
    for _ in range(steps):
        next(events)
    events.close()
    resumed = start(resume=True)
    assert next(resumed).step == steps + 1
    finish(resumed)
    assert weights_in(Path("straight.pt")) == weights_in()


def test_a_run_can_be_stopped_again_and_again():
    finish(start(Path("straight.pt")))
    resume = False
    while True:
        events = start(resume=resume)
        if any(isinstance(next(events), Finished) for _ in range(2)):
            break
        events.close()
        resume = True
    assert weights_in(Path("straight.pt")) == weights_in()


def test_a_finished_run_leaves_nothing_to_resume():
    finish(start())
    assert not resume_path(OUTPUT).exists()
    with pytest.raises(TrainingError, match="nothing to resume"):
        start(resume=True)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"options": TrainOptions(**{**OPTIONS.to_dict(), "epochs": 4})}, "epochs was 3 and is now 4"),
        ({"spec": LanguageModelSpec(**{**SPEC.to_dict(), "cell": "gru"})}, "cell was 'lstm' and is now 'gru'"),
    ],
)
def test_a_run_is_not_resumed_as_another(change, problem):
    events = start()
    next(events)
    events.close()
    with pytest.raises(TrainingError, match=problem):
        start(resume=True, **change)


def test_a_run_is_not_resumed_on_another_corpus():
    events = start()
    next(events)
    events.close()
    other = Corpus(train=(*CORPUS.train, "a"), held_out=CORPUS.held_out)
    with pytest.raises(TrainingError, match="the corpus is another one"):
        train(LanguageLesson(SPEC, TOKENIZER, other, OPTIONS), OUTPUT, options=OPTIONS, resume=True)


def test_a_resumed_run_may_take_more_time_and_patience():
    events = start()
    next(events)
    events.close()
    options = TrainOptions(**{**OPTIONS.to_dict(), "max_minutes": 5, "patience": 99, "threads": None})
    assert finish(start(resume=True, options=options)).stopped_by == "epochs"


def test_a_run_whose_time_is_up_before_its_first_look_still_leaves_a_model():
    events = start()
    next(events)
    events.close()
    options = TrainOptions(**{**OPTIONS.to_dict(), "max_minutes": 1e-9})
    assert finish(start(resume=True, options=options)).stopped_by == "time"
    assert load_checkpoint(OUTPUT).history["steps"] == 1


def test_the_best_weights_are_kept_and_patience_ends_the_run(monkeypatch):
    """Of looks that find 3, 2, 4, 5 the second one counts, and the fourth is the last with a patience of two."""
    script_looks(monkeypatch, [3.0, 2.0, 4.0, 5.0])
    at_look = []
    for event in start(options=TrainOptions(**{**OPTIONS.to_dict(), "epochs": 9, "patience": 2})):
        if isinstance(event, Finished):
            assert (event.stopped_by, event.steps) == ("patience", 28)
        elif event.held_out:
            at_look.append((event.improved, weights_in()))
    assert [improved for improved, _ in at_look] == [True, True, False, False]
    assert weights_in() == at_look[1][1] != at_look[0][1]


def test_the_learning_rate_reaches_its_end_when_time_is_short(monkeypatch):
    """A clock that ticks a second at every look at it: two minutes are over long before a thousand epochs."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))
    options = TrainOptions(**{**OPTIONS.to_dict(), "epochs": 1000, "max_minutes": 2.0})
    *steps, finished = start(options=options)
    assert finished.stopped_by == "time"
    assert finished.seconds == pytest.approx(120, abs=2)
    assert steps[-1].learning_rate < 0.001 * options.learning_rate
    assert max(each.learning_rate for each in steps) > 0.95 * options.learning_rate
    assert steps[len(steps) // 2].seconds_left == pytest.approx(60, abs=5)


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_last_good_model():
    finish(start())
    before = weights_in()
    options = TrainOptions(**{**OPTIONS.to_dict(), "learning_rate": 1e36, "clip_norm": 1e30, "warmup": 0})
    with pytest.raises(
        TrainingError, match=r"became (nan|inf).* at step \d+; lower the learning rate \(now 1e\+36\) or the clip norm"
    ):
        finish(start(options=options))
    assert weights_in() == before


def test_a_held_out_loss_that_is_no_number_stops_the_run(monkeypatch):
    script_looks(monkeypatch, [3.0, math.nan])
    with pytest.raises(TrainingError, match=r"held out loss became nan .* holds the best model before it"):
        finish(start())
    assert load_checkpoint(OUTPUT).history["steps"] == 7


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")]
)
def test_a_full_disk_is_told_and_leaves_the_last_whole_files(monkeypatch, failure):
    events = start()
    for _ in range(7):
        next(events)
    model, resume = weights_in(), resume_path(OUTPUT).read_bytes()

    def write_half(_content, path):
        Path(path).write_bytes(b"half")
        raise failure

    monkeypatch.setattr(torch, "save", write_half)
    with pytest.raises(CheckpointError, match=r"cannot write model\.pt"):
        finish(events)
    assert (weights_in(), resume_path(OUTPUT).read_bytes()) == (model, resume)
    assert sorted(path.name for path in Path().iterdir()) == ["model.pt", "model.pt.resume"]


def test_the_model_remembers_how_it_came_about():
    finished = finish(start())
    history = load_checkpoint(OUTPUT).history
    assert history["options"] == OPTIONS.to_dict()
    assert history["corpus"] == {"files": 2, "bytes": 297, "names": ["a.txt", "b.txt"]}
    assert history["held_out"] == finished.held_out.to_dict()
    assert history["steps"] == finished.steps
    assert set(history["versions"]) == {"rnn-edge", "torch", "tokenizers"}


def test_the_model_carries_held_out_text_to_judge_its_exports_by():
    finish(start())
    found = load_checkpoint(OUTPUT).held_out["tokens"].tolist()
    assert found == [TOKENIZER.end_id, *TOKENIZER.encode(CORPUS.held_out[0])]


def test_the_held_out_figures_are_those_of_the_model_that_was_saved():
    from rnn_edge.training import evaluate

    finished = finish(start())
    checkpoint = load_checkpoint(OUTPUT)
    assert evaluate(checkpoint.model, checkpoint.tokenizer, CORPUS.held_out) == finished.held_out


def test_a_corpus_shorter_than_a_batch_still_trains():
    corpus = Corpus(train=("ab",), held_out=("a",))
    options = TrainOptions(epochs=2)
    finished = finish(train(LanguageLesson(SPEC, TOKENIZER, corpus, options), OUTPUT, options=options))
    assert finished.steps == 2


def test_a_network_and_a_tokenizer_of_different_sizes_are_refused():
    spec = LanguageModelSpec(**{**SPEC.to_dict(), "vocab_size": 7})
    with pytest.raises(TrainingError, match="tokens and the network 7: make them equal"):
        start(spec=spec)


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("nowhere/model.pt", "there is no directory nowhere; create it"),
        (".", "it is a directory; name a file"),
        ("corpus.txt", "it is part of the corpus; name another file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(output, problem):
    Path("corpus.txt").write_text("abc")
    with pytest.raises(TrainingError, match=problem):
        check_output(Path(output), corpus=[Path("corpus.txt")])


def test_a_directory_that_cannot_be_written_is_refused(monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(loop.tempfile, "TemporaryFile", refuse)
    with pytest.raises(TrainingError, match="Permission denied; choose a directory that can be written"):
        check_output(OUTPUT)


CLI = [sys.executable, "-m", "rnn_edge", "train", "corpus.txt", "-o"]
SMALL = shlex.split("--vocab-size 300 --embedding-size 8 --hidden-size 12 --dropout 0.2 --batch-size 4 --bptt 8")
QUICK = [*SMALL, "--eval-interval", "5", "--patience", "9999", "--threads", "1"]


def run_until_killed(arguments, *, looks: int, delay: float) -> bool:
    """Start a run, kill it so many looks and seconds later, and return whether it was still running."""
    process = subprocess.Popen([*CLI, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    for _, _ in zip(range(looks), process.stderr, strict=False):
        pass
    time.sleep(delay)
    running = process.poll() is None
    process.kill()
    process.wait()
    process.stderr.close()
    return running


def run_to_the_end(*arguments: str) -> None:
    result = CliRunner().invoke(main, ["train", "corpus.txt", "-o", *arguments])
    assert result.exit_code == 0, result.output


def survive(*, kills: int, epochs: int) -> None:
    """Kill a run at random moments; there must be epochs enough for it to be still running."""
    chance = random.Random(0)
    options = [*QUICK, "--epochs", str(epochs)]
    Path("corpus.txt").write_text("the cat sat on the mat, and the dog on the log\n" * 60)
    run_to_the_end("straight.pt", *options)
    resume: list[str] = []
    for _ in range(kills):
        delay = chance.uniform(0, 0.03)
        assert run_until_killed(["model.pt", *options, *resume], looks=chance.randint(1, 2), delay=delay)
        load_checkpoint(OUTPUT)
        resume = ["--resume"]
    run_to_the_end("model.pt", *options, "--resume")
    assert weights_in() == weights_in(Path("straight.pt"))


def test_a_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one():
    survive(kills=2, epochs=10)


@pytest.mark.slow
def test_a_run_survives_many_kills():
    survive(kills=12, epochs=60)

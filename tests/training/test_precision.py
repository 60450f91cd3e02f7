"""With products in bfloat16 a step's loss and gradient are nearly those of float32, and all that stays is float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import CELLS

from rnn_edge.modules import load_checkpoint
from rnn_edge.training import TrainOptions, make_lesson, train
from rnn_edge.training.lesson import as_when_it_runs
from rnn_edge.training.run import start_run

SIZES = {"embedding_size": 24, "hidden_size": 32, "dropout": 0.0}
LEARNT = [
    ("language-model", "maximum-likelihood"),
    ("language-model", "professor-forcing"),
    ("translate", "maximum-likelihood"),
    ("translate", "minimum-risk"),
    ("translate", "mixer"),
    ("classify", "maximum-likelihood"),
    ("tag", "maximum-likelihood"),
]


@pytest.fixture(autouse=True)
def _examples():
    texts = [" ".join(letters) for letters in ("abc", "cab", "bca", "acb", "ab", "ba", "cb", "bbca", "aabc", "cc") * 8]
    Path("language-model").write_text("\n".join(texts))
    Path("translate").write_text("".join(f"{text}\t{text[::-1].upper()}\n" for text in texts))
    Path("classify").write_text("".join(f"{text[0]}\t{text}\n" for text in texts))
    Path("tag").write_text("\n\n".join("\n".join(f"{each} {each.upper()}" for each in text.split()) for text in texts))


def begun(task, objective, precision, **changes):
    """Return a lesson, and a run before its first step."""
    options = TrainOptions(objective=objective, precision=precision, batch_size=8, bptt=16, threads=1)
    lesson = make_lesson(task, [Path(task)], choices={**SIZES, "tokenizer": "whitespace", **changes}, options=options)
    return lesson, start_run(lesson.spec, options)


def first_step(task, objective, precision, **changes):
    lesson, run = begun(task, objective, precision, **changes)
    with run.own_random_numbers():
        loss, state = run.learner(lesson, 0, 0.0, lesson.start(run.model))
    loss.backward()
    assert {part.dtype for part in (loss, *state)} == {torch.float32}
    return loss.item(), torch.cat([weight.grad.flatten() for weight in run.model.parameters()])


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    ("task", "objective", "cell"),
    [(*learnt, "lstm") for learnt in LEARNT] + [("language-model", "maximum-likelihood", cell) for cell in CELLS],
)
def test_a_steps_loss_and_gradient_are_nearly_those_of_float32(task, objective, cell):
    choices = CELLS[cell]
    (exact, gradient), (rounded, other) = (first_step(task, objective, each, **choices) for each in ("fp32", "bf16"))
    assert rounded == pytest.approx(exact, rel=5e-3)
    assert other.dtype == torch.float32
    assert not torch.equal(other, gradient), "something is rounded"
    assert torch.cosine_similarity(gradient, other, dim=0) > 0.99


def test_products_are_rounded_while_it_learns_and_not_when_it_is_judged():
    lesson, run = begun("language-model", "maximum-likelihood", "bf16")
    seen = []
    run.model.output.register_forward_hook(lambda _module, _given, logits: seen.append(logits.dtype))
    run.learner(lesson, 0, 0.0, lesson.start(run.model))
    lesson.look(run.model)
    with torch.autocast("cpu", torch.bfloat16), as_when_it_runs(run.model):
        run.model(torch.tensor([[0]]), run.model.start(1))
    assert seen[0] == torch.bfloat16
    assert set(seen[1:]) == {torch.float32}


def test_a_run_learns_as_much_and_goes_on_bit_for_bit():
    found = {}
    for precision in ("fp32", "bf16"):
        options = TrainOptions(precision=precision, batch_size=4, bptt=16, epochs=12, eval_interval=5, threads=1)
        choices = {**SIZES, "tokenizer": "whitespace", "lines": True}
        lesson = make_lesson("language-model", [Path("language-model")], choices=choices, options=options)
        *_, last = train(lesson, Path(f"{precision}.pt"), options=options)
        found[precision] = last.held_out.perplexity
    stopped = train(lesson, Path("again.pt"), options=options)
    for _ in range(7):
        next(stopped)
    stopped.close()
    *_, _ = train(lesson, Path("again.pt"), options=options, resume=True)
    straight, again = (load_checkpoint(Path(name)).model.state_dict() for name in ("bf16.pt", "again.pt"))
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.02)
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    assert {part.dtype for part in straight.values()} == {torch.float32}

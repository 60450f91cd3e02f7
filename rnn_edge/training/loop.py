"""The training loop, as a generator of what happens; what is learnt, it leaves to a lesson.

It leaves two files, each whole at any moment: the best model so far, and beside it what an interrupted run goes on
from.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from rnn_edge.errors import TrainingError
from rnn_edge.modules import Network, save_checkpoint
from rnn_edge.training.lesson import Lesson, Measured
from rnn_edge.training.options import TrainOptions
from rnn_edge.training.report import Finished, Progress, StopReason
from rnn_edge.training.run import Run, restore_run, resume_path, save_run, start_run
from rnn_edge.training.workers import workers

__all__ = ["check_output", "train"]

_FREE_TO_CHANGE = ("max_minutes", "patience", "threads")  # options that a resumed run may have anew


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What a run is made of; nothing in it changes."""

    lesson: Lesson
    output: Path
    options: TrainOptions
    fingerprint: dict[str, Any]

    @property
    def total_steps(self) -> int:
        return self.options.epochs * self.lesson.steps_per_epoch

    def share(self, steps: float, seconds: float) -> float:
        """Return how much of a run lies behind: of its steps or of its time, whichever is nearer to its end."""
        shares = [steps / self.total_steps]
        if self.options.max_minutes is not None:
            shares.append(seconds / (60 * self.options.max_minutes))
        return min(1.0, max(shares))


def check_output(output: Path, *, corpus: Sequence[Path] = ()) -> None:
    """Refuse, before any work is done, a place where no model.pt can be written."""
    if not output.parent.is_dir():
        raise TrainingError(f"cannot write {output}: there is no directory {output.parent}; create it")
    if output.is_dir():
        raise TrainingError(f"cannot write {output}: it is a directory; name a file, such as model.pt")
    if output.exists() and any(path.exists() and path.samefile(output) for path in corpus):
        raise TrainingError(f"cannot write {output}: it is part of the corpus; name another file")
    try:
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise TrainingError(
            f"cannot write {output}: {error.strerror}; choose a directory that can be written"
        ) from error


def train(
    lesson: Lesson,
    output: Path,
    *,
    options: TrainOptions | None = None,
    resume: bool = False,
    begin: Network | None = None,
) -> Generator[Progress | Finished, None, None]:
    """Train a network, yield each step, and leave the best model in `output`.

    Closing the generator saves the run as it stands. With `resume` it goes on from there, or from the last look at the
    held-out examples before the process died, and ends with the weights that an uninterrupted run ends with. It begins
    with the weights of `begin`, a network of the same spec, or with random ones. In a process group of
    `torch.distributed` all workers call this alike, and the first one writes.
    """
    check_output(output)
    options = options or TrainOptions()
    chosen = {name: value for name, value in options.to_dict().items() if name not in _FREE_TO_CHANGE}
    fingerprint = {**lesson.spec.to_dict(), **chosen, "workers": workers().count, **lesson.fingerprint}
    plan = _Plan(lesson=lesson, output=output, options=options, fingerprint=fingerprint)
    run = start_run(lesson.spec, options, None if begin is None else begin.state_dict())
    if resume:
        restore_run(run, output, fingerprint=fingerprint)
    return _events(plan, run)


def _events(plan: _Plan, run: Run) -> Generator[Progress | Finished, None, None]:
    with _threads(plan.options.threads):
        try:
            while (stopped_by := _reason_to_stop(plan, run)) is None:
                yield _advance(plan, run)
        except GeneratorExit:
            if workers().count == 1:  # several are not stopped at the same step: theirs stays that of the last look
                save_run(run, plan.output, fingerprint=plan.fingerprint)
            raise
        yield _finish(plan, run, stopped_by)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _reason_to_stop(plan: _Plan, run: Run) -> StopReason | None:
    if run.step >= plan.total_steps:
        return "epochs"
    if run.looks_without_gain >= plan.options.patience:
        return "patience"
    return "time" if plan.share(run.step, run.seconds) >= 1 else None


def _advance(plan: _Plan, run: Run) -> Progress:
    """Take a step, and a look at the held-out text if it is time for one."""
    began = time.perf_counter()
    loss, gradient_norm, rate = _step(plan, run)
    run.seconds = workers().from_first(lambda: run.seconds + time.perf_counter() - began)
    held_out, best_before = None, run.best_criterion
    if run.step % plan.options.eval_interval == 0 or _reason_to_stop(plan, run):
        held_out = _look(plan, run)
    return Progress(
        step=run.step,
        total_steps=plan.total_steps,
        epoch=1 + (run.step - 1) // plan.lesson.steps_per_epoch,
        loss=loss,
        learning_rate=rate,
        gradient_norm=gradient_norm,
        tokens_per_second=run.step * plan.lesson.tokens_per_step / run.seconds,
        seconds=run.seconds,
        share=plan.share(run.step, run.seconds),
        held_out=held_out,
        improved=run.best_criterion < best_before,
    )


def _step(plan: _Plan, run: Run) -> tuple[float, float, float]:
    """Learn from the next examples; return the loss, the norm of its gradient, and the learning rate."""
    if run.step % plan.lesson.steps_per_epoch == 0:
        run.state = plan.lesson.start(run.model)
    behind = plan.share(run.step, run.seconds)
    with run.own_random_numbers():
        loss, state = run.learner(plan.lesson, run.step, behind, run.state)
    run.optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), plan.options.clip_norm).item()
    torch.nn.utils.clip_grad_norm_(list(run.companion.parameters()), plan.options.clip_norm)
    mean_loss = workers().mean(loss.item())
    _refuse_nonsense(plan, run, loss=mean_loss, gradient_norm=norm)
    rate = plan.options.learning_rate_at(plan.share(run.step + 0.5, run.seconds))
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.state = state
    run.step += 1
    run.recent.append([mean_loss, norm])
    return mean_loss, norm, rate


def _refuse_nonsense(plan: _Plan, run: Run, **measured: float) -> None:
    nonsense = [
        f"the {name.replace('_', ' ')} became {value}" for name, value in measured.items() if not math.isfinite(value)
    ]
    if nonsense:
        kept = f"{plan.output} holds the best model before it" if run.best_weights else "nothing was saved"
        raise TrainingError(
            f"{' and '.join(nonsense)} at step {run.step + 1}; lower the learning rate "
            f"(now {plan.options.learning_rate:g}) or the clip norm (now {plan.options.clip_norm:g}); {kept}"
        )


def _look(plan: _Plan, run: Run) -> Measured:
    """Measure on held-out examples, and save: the model if it is the best so far, and the run."""
    began = time.perf_counter()
    held_out = workers().from_first(lambda: plan.lesson.look(run.model))
    _refuse_nonsense(plan, run, held_out_loss=held_out.criterion)
    _remember(plan, run, held_out)
    run.looks_without_gain += 1
    if held_out.criterion < run.best_criterion:
        run.looks_without_gain = 0
        run.best_criterion = held_out.criterion
        run.best_weights = {k: v.clone() for k, v in run.model.state_dict().items()}
        _save_model(plan, run, held_out)
    run.seconds = workers().from_first(lambda: run.seconds + time.perf_counter() - began)
    save_run(run, plan.output, fingerprint=plan.fingerprint)
    return held_out


def _remember(plan: _Plan, run: Run, held_out: Measured) -> None:
    """Add a look to the run's curve."""
    losses, norms = zip(*run.recent, strict=True)
    point = {
        "step": run.step,
        "loss": fmean(losses),
        "gradient_norm": fmean(norms),
        "learning_rate": plan.options.learning_rate_at(plan.share(run.step, run.seconds)),
        "held_out": held_out.criterion,
    }
    for name, value in point.items():
        run.curve.setdefault(name, []).append(value)
    run.recent.clear()


def _finish(plan: _Plan, run: Run, stopped_by: StopReason) -> Finished:
    """Measure the best model on all held-out examples, save it with its history, and drop the resume file."""
    if not run.best_weights:  # interrupted before the first look, and resumed with its time used up
        _look(plan, run)
    run.model.load_state_dict(run.best_weights)
    held_out = workers().from_first(lambda: plan.lesson.judge(run.model))
    _save_model(plan, run, held_out)
    if workers().is_first:
        resume_path(plan.output).unlink(missing_ok=True)
    return Finished(
        output=plan.output,
        held_out=held_out,
        stopped_by=stopped_by,
        steps=run.step,
        seconds=run.seconds,
    )


def _save_model(plan: _Plan, run: Run, held_out: Measured) -> None:
    if not workers().is_first:
        return
    history = {
        "options": plan.options.to_dict(),
        "corpus": plan.lesson.facts,
        "held_out": held_out.to_dict(),
        "curve": run.curve,
        "steps": run.step,
        "seconds": round(run.seconds, 1),
        "versions": {name: version(name) for name in ("rnn-edge", "torch", "tokenizers")},
    }
    save_checkpoint(plan.lesson.checkpoint(run.model, history), plan.output)

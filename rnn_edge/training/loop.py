"""The training loop: truncated back-propagation through contiguous text, as a generator of what happens.

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
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_edge.errors import TrainingError
from rnn_edge.modules import Checkpoint, save_checkpoint
from rnn_edge.modules.stack import detach
from rnn_edge.spec import LanguageModelSpec
from rnn_edge.text import Tokenizer
from rnn_edge.training.data import Corpus, Rows, token_rows, token_stream
from rnn_edge.training.evaluation import Evaluation, evaluate, evaluate_rows
from rnn_edge.training.options import TrainOptions
from rnn_edge.training.report import Finished, Progress, StopReason
from rnn_edge.training.run import Run, restore_run, resume_path, save_run, start_run

__all__ = ["check_output", "train"]

_LOOK_ROWS = 16  # a look reads the held-out text in so many places at once,
_LOOK_WINDOWS = 8  # and at most so many windows in each, which keeps it short on a large corpus
_KEPT_TOKENS = 2**14 + 1  # of held-out text that a model.pt carries, for its exports to be judged by
_KEPT_NAMES = 20  # of files: a corpus may have thousands, and every bundle would carry them
_FREE_TO_CHANGE = ("max_minutes", "patience", "threads")  # options that a resumed run may have anew


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What a run is made of; nothing in it changes."""

    tokenizer: Tokenizer
    corpus: Corpus
    output: Path
    options: TrainOptions
    rows: Rows
    windows: Sequence[tuple[Tensor, Tensor]]
    held_out: Tensor  # int64 (tokens,)
    held_out_rows: Rows
    characters_per_token: float  # of held-out text
    fingerprint: dict[str, Any]

    @property
    def total_steps(self) -> int:
        return self.options.epochs * len(self.windows)

    @property
    def tokens_per_step(self) -> float:
        return self.rows.inputs.numel() / len(self.windows)

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
    spec: LanguageModelSpec,
    tokenizer: Tokenizer,
    corpus: Corpus,
    output: Path,
    *,
    options: TrainOptions | None = None,
    resume: bool = False,
) -> Generator[Progress | Finished, None, None]:
    """Train a language model, yield each step, and leave the best model in `output`.

    Closing the generator saves the run as it stands. With `resume` it goes on from there, or from the last look at the
    held-out text before the process died, and ends with the weights that an uninterrupted run ends with.
    """
    check_output(output)
    if spec.vocab_size != tokenizer.vocab_size:
        raise TrainingError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the network {spec.vocab_size}: make them equal"
        )
    plan = _plan(spec, tokenizer, corpus, output, options or TrainOptions())
    run = start_run(spec, plan.options, batch=plan.rows.batch)
    if resume:
        restore_run(run, output, fingerprint=plan.fingerprint)
    return _events(plan, run)


def _plan(spec: LanguageModelSpec, tokenizer: Tokenizer, corpus: Corpus, output: Path, options: TrainOptions) -> _Plan:
    shortest = options.bptt  # rows of less would save no time
    rows = token_rows(token_stream(tokenizer, corpus.train), batch=options.batch_size, shortest=shortest)
    held_out = token_stream(tokenizer, corpus.held_out)
    chosen = {k: v for k, v in options.to_dict().items() if k not in _FREE_TO_CHANGE}
    return _Plan(
        tokenizer=tokenizer,
        corpus=corpus,
        output=output,
        options=options,
        rows=rows,
        windows=rows.windows(options.bptt),
        held_out=held_out,
        held_out_rows=token_rows(held_out, batch=_LOOK_ROWS, shortest=shortest),
        characters_per_token=sum(map(len, corpus.held_out)) / (len(held_out) - 1),
        fingerprint={
            **spec.to_dict(),
            **chosen,
            "tokenizer": tokenizer.to_json(),
            "corpus": corpus.fingerprint(),
        },
    )


def _events(plan: _Plan, run: Run) -> Generator[Progress | Finished, None, None]:
    with _threads(plan.options.threads):
        try:
            while (stopped_by := _reason_to_stop(plan, run)) is None:
                yield _advance(plan, run)
        except GeneratorExit:
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
    rate = plan.options.learning_rate_at(plan.share(run.step + 0.5, run.seconds))
    loss, gradient_norm = _step(plan, run, rate)
    run.seconds += time.perf_counter() - began
    held_out, best_before = None, run.best_loss
    if run.step % plan.options.eval_interval == 0 or _reason_to_stop(plan, run):
        held_out = _look(plan, run)
    return Progress(
        step=run.step,
        total_steps=plan.total_steps,
        epoch=1 + (run.step - 1) // len(plan.windows),
        loss=loss,
        learning_rate=rate,
        gradient_norm=gradient_norm,
        tokens_per_second=run.step * plan.tokens_per_step / run.seconds,
        seconds=run.seconds,
        share=plan.share(run.step, run.seconds),
        held_out=held_out,
        improved=run.best_loss < best_before,
    )


def _step(plan: _Plan, run: Run, rate: float) -> tuple[float, float]:
    """Read the next window of every row and learn from it; return the loss and the norm of its gradient."""
    position = run.step % len(plan.windows)
    if position == 0:
        run.state = run.model.start(plan.rows.batch)
    inputs, targets = plan.windows[position]  # (batch, time)
    with run.own_random_numbers():
        logits, state = run.model(inputs, run.state)  # (batch, time, vocab)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    run.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), plan.options.clip_norm)
    _refuse_nonsense(plan, run, loss=loss.item(), gradient_norm=norm.item())
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.state = detach(state)
    run.step += 1
    return loss.item(), norm.item()


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


def _look(plan: _Plan, run: Run) -> Evaluation:
    """Measure the held-out text, and save: the model if it is the best so far, and the run."""
    began = time.perf_counter()
    held_out = evaluate_rows(
        run.model,
        plan.held_out_rows,
        characters_per_token=plan.characters_per_token,
        max_windows=_LOOK_WINDOWS,
    )
    _refuse_nonsense(plan, run, held_out_loss=held_out.loss)
    run.looks_without_gain += 1
    if held_out.loss < run.best_loss:
        run.looks_without_gain = 0
        run.best_loss = held_out.loss
        run.best_weights = {k: v.clone() for k, v in run.model.state_dict().items()}
        _save_model(plan, run, held_out)
    run.seconds += time.perf_counter() - began
    save_run(run, plan.output, fingerprint=plan.fingerprint)
    return held_out


def _finish(plan: _Plan, run: Run, stopped_by: StopReason) -> Finished:
    """Measure the best model on all held-out text, save it with its history, and drop the resume file."""
    if not run.best_weights:  # interrupted before the first look, and resumed with its time used up
        _look(plan, run)
    run.model.load_state_dict(run.best_weights)
    held_out = evaluate(run.model, plan.tokenizer, plan.corpus.held_out)
    _save_model(plan, run, held_out)
    resume_path(plan.output).unlink(missing_ok=True)
    return Finished(
        output=plan.output,
        held_out=held_out,
        stopped_by=stopped_by,
        steps=run.step,
        seconds=run.seconds,
    )


def _save_model(plan: _Plan, run: Run, held_out: Evaluation) -> None:
    history = {
        "options": plan.options.to_dict(),
        "corpus": {
            "files": len(plan.corpus.files),
            "bytes": sum(size for _, size in plan.corpus.files),
            "names": [name for name, _ in plan.corpus.files[:_KEPT_NAMES]],
        },
        "held_out": held_out.to_dict(),
        "steps": run.step,
        "seconds": round(run.seconds, 1),
        "versions": {name: version(name) for name in ("rnn-edge", "torch", "tokenizers")},
    }
    kept = plan.held_out[:_KEPT_TOKENS].clone()  # a slice would be saved with all that it is a slice of
    save_checkpoint(Checkpoint(run.model, plan.tokenizer, history, held_out={"tokens": kept}), plan.output)

"""Several processes train as one does with a larger batch, and lose nothing but the last interval when one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rnn_edge.modules import load_checkpoint
from rnn_edge.training.run import resume_path
from rnn_edge.training.workers import Workers

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SMALL = ["--embedding-size", "8", "--hidden-size", "12", "--dropout", "0", "--bptt", "8", "--threads", "1"]
TASKS = {
    "language-model": ["corpus.txt", *SMALL, "--vocab-size", "300"],
    "translate": ["pairs.tsv", *SMALL, "--tokenizer", "whitespace", "--task", "translate"],
    "classify": ["labels.tsv", *SMALL, "--tokenizer", "whitespace", "--task", "classify"],
}


@pytest.fixture(autouse=True)
def _examples():
    texts = [" ".join("abcab"[: 1 + count % 5] + "cab"[count % 3 :]) for count in range(45)]
    Path("corpus.txt").write_text("the cat sat on the mat, and the dog on the log\n" * 20)
    Path("pairs.tsv").write_text("".join(f"{text}\t{text[::-1]}\n" for text in texts))
    Path("labels.tsv").write_text("".join(f"{text[-1]}\t{text}\n" for text in texts))


def train(output: str, *arguments: str, torchrun: bool) -> subprocess.Popen:
    start = [*TORCHRUN, "-m", "rnn_edge"] if torchrun else [sys.executable, "-m", "rnn_edge"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*start, "train", "-o", output, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    output, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return output


def curve_of(path: str) -> dict:
    return load_checkpoint(Path(path)).history["curve"]


@pytest.mark.parametrize("batch", [7, 8, 1])
def test_weighted_means_of_workers_are_the_mean_of_all(batch):
    units = [3, 1, 4, 1, 5, 9, 2, 6][:batch]
    values = [each * 0.5 for each in range(batch)]
    mean = sum(unit * value for unit, value in zip(units, values, strict=True)) / sum(units)
    found = 0.0
    for rank in range(3):
        worker = Workers(rank, 3)
        own = worker.own(list(zip(units, values, strict=True)))
        own_mean = sum(unit * value for unit, value in own) / sum(unit for unit, _ in own)
        found += own_mean * worker.weight(units) / 3
    assert found == pytest.approx(mean)


def test_one_worker_has_all_there_is():
    alone = Workers()
    assert (alone.own([1, 2, 3]), alone.weight([4, 5]), alone.mean(0.3), alone.is_first) == ([1, 2, 3], 1.0, 0.3, True)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_learn_as_one_with_twice_the_batch(task):
    """Each step's loss, gradient norm and held-out figure; what is printed comes from one of them."""
    fast = [*TASKS[task], "--epochs", "3", "--eval-interval", "1"]
    finish(train("one.pt", *fast, "--batch-size", "8", torchrun=False))
    output = finish(train("two.pt", *fast, "--batch-size", "4", torchrun=True))
    assert output.count("saved two.pt") == 1
    one, two = curve_of("one.pt"), curve_of("two.pt")
    assert one["step"] == two["step"]
    for name in ("loss", "gradient_norm", "held_out"):
        assert two[name] == pytest.approx(one[name], rel=1e-3), name


def children_of(process: subprocess.Popen) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True)
    return sorted(int(pid) for pid in found.stdout.split())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers with ps")
def test_a_killed_worker_leaves_the_last_look_and_the_run_goes_on():
    """Dropout and all: every worker's random numbers, its rows of the state, and the discriminator are kept."""
    fast = [*TASKS["language-model"], "--batch-size", "4", "--eval-interval", "5", "--patience", "999"]
    fast += ["--epochs", "12", "--dropout", "0.3", "--objective", "professor-forcing"]
    finish(train("straight.pt", *fast, torchrun=True))
    process = train("model.pt", *fast, torchrun=True)
    while not resume_path(Path("model.pt")).exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(children_of(process)[1], signal.SIGKILL)
    process.communicate(timeout=300)
    assert process.returncode != 0
    load_checkpoint(Path("model.pt"))
    finish(train("model.pt", *fast, "--resume", torchrun=True))
    straight, resumed = (load_checkpoint(Path(name)).model.state_dict() for name in ("straight.pt", "model.pt"))
    assert all(weight.equal(resumed[name]) for name, weight in straight.items())

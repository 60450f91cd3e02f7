"""Whole corpora: the answers of `rnn-edge run`, each once, whatever happens to the workers and to the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from cli.calling import call
from helpers import export_network, tiny_bundle

from rnn_edge.bulk import BulkOptions, Progress, answer_corpus
from rnn_edge.bulk.parts import cut
from rnn_edge.bulk.worker import Worker
from rnn_edge.bundle import Bundle
from rnn_edge.errors import BundleError, CorpusError, OptionsError
from rnn_edge.runtimes import GenerateOptions

TEXTS = [f"the {'cat ' * (number % 7)}{number}" for number in range(60)]
TASKS = ("translate", "describe", "classify", "embed", "tag")

needs_ray = pytest.mark.filterwarnings("ignore")  # Ray's own


def export(task: str) -> Path:
    if task in ("complete", "score"):
        tiny_bundle(Path("model.rnn"))
    else:
        export_network(Path("model.rnn"), task)
    return Path("model.rnn")


def texts_for(task: str) -> list[str]:
    return [f"[{number}, 0.5, 0, 0, 1]" for number in range(9)] if task == "describe" else TEXTS[:9]


def worker(bulk: BulkOptions, options: GenerateOptions | None = None, fingerprint: str = "") -> Worker:
    Path("out").mkdir(exist_ok=True)
    fingerprint = fingerprint or Bundle.read(Path("model.rnn")).fingerprint
    return Worker(
        bundle=Path("model.rnn"),
        fingerprint=fingerprint,
        output=Path("out"),
        options=options or GenerateOptions(stop_strings=("\n",), length_penalty=0.0),
        bulk=bulk,
    )


@pytest.mark.parametrize("task", ["complete", "score", *TASKS])
def test_a_worker_says_of_every_text_what_run_says(task):
    """In each format: files of answers, one after the other, are the output of `rnn-edge run`."""
    parquet = pytest.importorskip("pyarrow.parquet")
    export(task)
    Path("corpus.txt").write_text("\n".join(texts_for(task)))
    flags = ["--score"] if task == "score" else []
    if task in ("translate", "describe"):
        flags += ["--length-penalty", "0", "--stop", "\n", "--max-new-tokens", "20"]
    as_json, as_text = (call("run", "model.rnn", *flags, *more, "--input", "corpus.txt") for more in (["--json"], []))
    expected = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert len(expected) == 9, as_json.output
    answers = {}
    for format_ in ("jsonl", "parquet", "text"):
        bulk = BulkOptions(output_format=format_, part_rows=4, score=task == "score")
        work = worker(bulk, GenerateOptions(stop_strings=("\n",), length_penalty=0.0, max_new_tokens=20))
        parts = cut([(Path("corpus.txt"), "text")], "text", 4)
        assert [work(asdict(part)) for part in parts] == [
            {"rows": rows, "refused": 0, "problem": ""} for rows in (4, 4, 1)
        ]
        answers[format_] = sorted(Path("out").glob("part-*"))
    files = [path for path in answers["text"] if path.suffix == ".txt"]
    assert "".join(path.read_text("utf-8") for path in files) == as_text.stdout
    files = [path for path in answers["jsonl"] if path.suffix == ".jsonl"]
    rows = [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]
    assert rows == [{"file": "corpus.txt", "row": row, **values} for row, values in enumerate(expected)]
    found = [
        row for path in answers["parquet"] if path.suffix == ".parquet" for row in parquet.read_table(path).to_pylist()
    ]
    for row, values in zip(found, rows, strict=True):
        assert row.pop("error") is None
        for name, value in values.items():
            assert row[name] == (pytest.approx(value) if name == "vector" else value)


def test_a_worker_tells_what_a_user_can_put_right():
    export("classify")
    Path("corpus.txt").write_text("the cat\n")
    (part,) = cut([(Path("corpus.txt"), "text")], "text", 9)
    assert (
        "is not the bundle that this run began with"
        in worker(BulkOptions(), fingerprint="other")(asdict(part))["problem"]
    )
    Path("out/part-00000000.jsonl").mkdir()
    problem = worker(BulkOptions())(asdict(part))["problem"]
    assert problem == "cannot turn corpus.txt into out/part-00000000.jsonl: Is a directory"


@pytest.mark.parametrize(("choices", "words"), [
    ({"part_rows": 0}, "part_rows must be a whole number of at least 1, got 0"),
    ({"actors": 1.5, "batch_size": True}, "batch_size must be .*; actors must be"),
    ({"input_format": "csv"}, "input_format must be text or jsonl or parquet, got 'csv'"),
    ({"output_format": "csv"}, "output_format must be jsonl or parquet or text, got 'csv'"),
])  # fmt: skip
def test_options_check_themselves(choices, words):
    with pytest.raises(OptionsError, match=words):
        BulkOptions(**choices)


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    export("classify")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CorpusError, match=r"need Ray Data \(.*\): pip install 'rnn-edge\[cpu,ray\]'"):
        next(answer_corpus("model.rnn", ["corpus.txt"], "out"))


@needs_ray
def test_what_cannot_be_asked_for_is_refused_before_anything_is_written():
    pytest.importorskip("ray.data")
    export("classify")
    Path("corpus").mkdir()
    Path("corpus/a.txt").write_text("the cat\n")
    several = GenerateOptions(num_beams=2, num_return_sequences=2)
    for bundle, inputs, output, options, bulk, error, words in [
        ("gone.rnn", ["corpus"], "out", None, {}, BundleError, "not a bundle"),
        ("model.rnn", ["corpus"], "out", None, {"score": True}, OptionsError, "only a language model"),
        ("model.rnn", ["corpus"], "out", several, {"output_format": "text"}, OptionsError, "one line a row"),
        ("model.rnn", ["corpus"], "corpus/out", None, {}, CorpusError, "it lies in corpus, which is read"),
        ("model.rnn", ["corpus"], "corpus/a.txt/out", None, {}, CorpusError, "it lies in corpus"),
        ("model.rnn", ["corpus"], "model.rnn/golden.json", None, {}, CorpusError, "cannot write .*: File exists"),
        ("model.rnn", ["corpus"], "model.rnn", None, {}, CorpusError, "something else is there"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            next(answer_corpus(bundle, inputs, output, options or GenerateOptions(), BulkOptions(**bulk)))
    assert sorted(path.name for path in Path().iterdir()) == ["corpus", "model.rnn"]


@needs_ray
def test_a_directory_belongs_to_one_run():
    pytest.importorskip("ray.data")
    export("classify")
    Path("corpus.txt").write_text("the cat\n")
    Path("out").mkdir()
    Path("out/.half-written.part").touch()  # by a run that was killed at once

    def begin(options: GenerateOptions | None = None, **bulk) -> Progress:
        return next(
            answer_corpus("model.rnn", ["corpus.txt"], "out", options or GenerateOptions(), BulkOptions(**bulk))
        )

    assert begin() == begin(batch_size=2, actors=1) == Progress(0, 1)
    for options, bulk, words in [
        (GenerateOptions(num_beams=3, seed=1), {}, "num_beams, seed"),
        (None, {"part_rows": 5}, "part_rows"),
        (None, {"output_format": "parquet"}, "output_format"),
    ]:
        with pytest.raises(CorpusError, match=f"belongs to another run, of another {words}; name another"):
            begin(options, **bulk)
    os.utime("corpus.txt", ns=(1, 1))
    with pytest.raises(CorpusError, match="of another input; name"):
        begin()
    os.utime("corpus.txt", ns=(1, json.loads(Path("out/_run.json").read_text())["input"][0]["modified"]))
    assert begin() == Progress(0, 1)
    export_network(Path("model.rnn"), "classify", seed=1)
    with pytest.raises(CorpusError, match="of another bundle; name"):
        begin()
    Path("out/_run.json").write_text("{")
    with pytest.raises(CorpusError, match=r"_run\.json is damaged"):
        begin()


@pytest.fixture(scope="module")
def _ray():
    """A Ray of two processors on this machine, as small as it can be."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
    yield
    ray.shutdown()


def rows_in(directory: str) -> list[dict]:
    files = sorted(Path(directory).glob("part-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def workers() -> list[int]:
    """Return the process ids of our Ray's workers that answer: children of children of this process."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    processes = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    ours = {process for process, parent, _ in processes if parent == str(os.getpid())}
    return [int(process) for process, parent, name in processes if parent in ours and "MapWorker(Map(Worker))" in name]


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_workers_that_are_killed_lose_nothing_and_double_nothing():
    export("classify")
    Path("corpus").mkdir()
    Path("corpus/a.txt").write_text("\n".join(TEXTS))
    Path("corpus/b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS[:9], None]))
    expected = [
        json.loads(line) for line in call("run", "model.rnn", "--json", "--input", "corpus/a.txt").stdout.splitlines()
    ]
    killed = []
    for done in answer_corpus("model.rnn", ["corpus"], "out", bulk=BulkOptions(part_rows=3)):
        if done.parts_done == 2 and not killed:
            killed = workers()
            for process in killed:
                os.kill(process, signal.SIGKILL)
    assert killed
    assert (done.parts_done, done.parts, done.rows, done.refused) == (24, 24, 70, 1)
    rows = rows_in("out")
    here = Path.cwd()
    places = [*(("a.txt", row) for row in range(60)), *(("b.jsonl", row) for row in range(10))]
    assert [(row["file"], row["row"]) for row in rows] == [(str(here / "corpus" / file), row) for file, row in places]
    said = [{name: value for name, value in row.items() if name not in ("file", "row")} for row in rows]
    assert said == [*expected, *expected[:9], {"error": "not a text, but null"}]
    assert not list(Path("out").glob(".*"))


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_a_run_that_was_interrupted_does_what_is_missing():
    export("complete")
    Path("corpus.txt").write_text("\n".join(TEXTS))
    options, bulk = GenerateOptions(do_sample=True, seed=3, max_new_tokens=5), BulkOptions(part_rows=5)
    *_, whole = answer_corpus("model.rnn", ["corpus.txt"], "whole", options, bulk)
    assert whole == Progress(12, 12, 60)

    begun = answer_corpus("model.rnn", ["corpus.txt"], "out", options, bulk)
    while next(begun).parts_done < 3:
        pass
    begun.close()
    before = {file: file.stat().st_mtime_ns for file in Path("out").glob("part-*")}
    assert 3 <= len(before) < 12
    *_, last = answer_corpus("model.rnn", ["corpus.txt"], "out", options, bulk)
    assert (last.parts_done, last.rows) == (12, 5 * (12 - len(before)))
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert rows_in("out") == rows_in("whole")
    assert list(answer_corpus("model.rnn", ["corpus.txt"], "out", options, bulk)) == [Progress(12, 12)]


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
def test_what_a_worker_cannot_do_is_one_sentence():
    export("classify")
    Path("corpus.txt").write_text("\n".join(TEXTS))
    run = answer_corpus("model.rnn", ["corpus.txt"], "out")
    next(run)
    Path("out/part-00000000.jsonl").mkdir()
    with pytest.raises(CorpusError, match=r"cannot turn .*corpus.txt into .*part-00000000.jsonl: Is a directory"):
        list(run)

"""`rnn-edge run`: texts in from anywhere, answers out, options that reach the model or are refused, conversation."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli.calling import call, refused
from helpers import export_network
from runtimes.fakes import RowReader

from rnn_edge.cli import main
from rnn_edge.runtimes import Classifier, Translator, load
from rnn_edge.text import Tokenizer

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1.rnn"


def test_run_takes_texts_from_arguments_a_file_or_standard_input(files):
    expected = call("run", "model.rnn", "the c", "a mat").stdout
    Path("texts").write_bytes(b"\xef\xbb\xbfthe c\r\na mat\n")  # as some editors begin a file
    assert len(expected.splitlines()) == 2
    assert call("run", "model.rnn", "--input", "texts").stdout == expected
    assert call("run", "model.rnn", text="the c\na mat").stdout == expected
    assert call("run", "model.rnn", "--input", "texts", "--input", "-", text="the c\na mat").stdout == 2 * expected
    Path("bad").write_bytes(b"the c\n\xff")
    told = refused("run", "model.rnn", "--input", "texts", "--input", "bad")
    assert "line 2 of bad is not valid UTF-8" in told


def test_nothing_in_gives_nothing_out(files):
    result = call("run", "model.rnn", text="")
    assert (result.exit_code, result.stdout) == (0, "")


def test_run_gives_one_json_object_a_text(files):
    result = call("run", "model.rnn", "--num-return", "2", "--json", text="the c\n\nétonné\n")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["prompt"] for each in found] == ["the c", "", "étonné"]
    for each in found:
        assert len(each["completions"]) == 2
        assert set(each["completions"][0]) == {"text", "log_prob", "finish_reason"}
        assert each["completions"][0]["log_prob"] <= 0


@pytest.mark.parametrize(("task", "text", "pattern", "names"), [
    ("translate", "the cat", r"[\w ]+", {"source", "translations"}),
    ("describe", "[1, 2, 3, 4, 5]", ".+", {"descriptions"}),
    ("classify", "the cat", "O|B-X|I-X", {"text", "labels"}),
    ("embed", "the cat", r"\[[-\d., e]+\]", {"text", "vector"}),
    ("tag", "the cat", "the/(O|B-X|I-X) cat/(O|B-X|I-X)", {"words", "labels", "log_prob"}),
])  # fmt: skip
def test_run_does_what_a_bundle_is_for(task, text, pattern, names):
    export_network(Path("model.rnn"), task)
    alone = call("run", "model.rnn", text)
    assert alone.exit_code == 0, alone.output
    assert re.fullmatch(pattern, alone.stdout.rstrip("\n"))
    assert call("run", "model.rnn", text=f"{text}\n{text}\n").stdout == 2 * alone.stdout
    assert set(json.loads(call("run", "model.rnn", text, "--json").stdout)) == names
    assert call("info", "model.rnn").stdout.count(f"task: {task}") == 1
    assert "--batch-size" in refused("run", "model.rnn", text, "--batch-size", "2")
    if "translations" in names or "descriptions" in names:
        assert call("run", "model.rnn", text, "--prefix", "d").stdout.startswith("d")


def test_the_same_seed_draws_the_same(files):
    once, again, other = (
        call("run", "model.rnn", "the ", "--temperature", "2", "--seed", seed).stdout for seed in ("1", "1", "2")
    )
    assert once == again != other


def test_options_of_decoding_reach_the_model(files):
    """Each changes what is said, or is heard by the option that checks it."""
    plain = call("run", "model.rnn", "the c").stdout
    assert call("run", "model.rnn", "the c", "--prefix", "at m").stdout.startswith("the cat m")
    assert plain[5] not in call("run", "model.rnn", "the c", "--bad-word", plain[5]).stdout[5:]
    sequences = [
        ("--repetition-penalty", "50"),
        ("--no-repeat-ngram-size", "1"),
        ("--min-p", "1"),
        ("--beam-size", "4", "--early-stopping", "true"),
        ("--beam-size", "4", "--narrowing"),
        ("--beam-size", "4", "--beam-threshold", "0.5"),
        ("--beam-size", "4", "--beam-groups", "2", "--diversity-penalty", "1"),
    ]
    for options in sequences:
        assert call("run", "model.rnn", "the c", *options).stdout.startswith("the c")
        assert "cannot be used" in refused("run", "model.rnn", "the c", *options, "--top-k", "-1")
    assert "only matters with several beams" in refused("run", "model.rnn", "a", "--beam-threshold", "0.5")


def test_coverage_is_for_translators_with_attention(files):
    export_network(Path("looks.rnn"), "translate", attention="bahdanau")
    arguments = ("the mat", "--beam-size", "4", "--num-return", "4", "--max-new-tokens", "4")
    plain, covered, other = (
        call("run", "looks.rnn", *arguments, "--coverage-penalty", penalty).stdout.splitlines()
        for penalty in ("0", "5", "0.01")
    )
    assert len(covered) == 4
    assert plain == other != covered
    assert "has no attention" in refused("run", "model.rnn", "the c", "--beam-size", "4", "--coverage-penalty", "0.2")


@pytest.mark.parametrize(("task", "text"), [("translate", "the cat"), ("describe", "[1, 2, 3, 4, 5]")])
def test_a_graph_that_searches_answers_as_the_host_does(task, text):
    export_network(Path("model.rnn"), task, decode="beam")
    for options in ((), ("--json",), ("--max-new-tokens", "3", "--length-penalty", "0")):
        found = call("run", "model.rnn", text, "--in-graph", *options)
        assert found.exit_code == 0, found.output
        assert found.stdout == call("run", "model.rnn", text, "--beam-size", "5", *options).stdout
    alone = call("run", "model.rnn", text, "--in-graph", "--self-test").stdout
    assert call("run", "model.rnn", "--in-graph", text=f"{text}\n" * 3).stdout == 3 * alone


def test_a_graph_that_samples_completes_as_the_host_does(files):
    export_network(Path("draws.rnn"), "language-model", decode="sample")
    seen = set()
    for options in (("--seed", "3", "--top-k", "9", "--min-p", "0.01"), ("--seed", "4", "--temperature", "2"), ()):
        arguments = ("run", "draws.rnn", "the c", "", "--json", *options)
        found = call(*arguments, "--in-graph")
        assert found.exit_code == 0, found.output
        assert found.stdout == call(*arguments, "--sample", "--multiline").stdout
        seen.add(found.stdout)
    assert len(seen) == 3


@pytest.mark.parametrize(("options", "words"), [
    (("--stop", "x"), "no graph searches with stop_strings"),
    (("--prefix", "x", "--repetition-penalty", "2"), "with repetition_penalty=2.0, forced_prefix='x': leave"),
    (("--beam-size", "4"), "was exported to search with num_beams=5"),
    (("--narrowing",), "was exported to search with narrowing=False"),
    (("--early-stopping", "never"), "was exported to search with early_stopping=False"),
    (("--num-return", "2"), "was exported to search with num_return_sequences=1"),
    (("--top-k", "4"), "was exported to search with do_sample=False, num_beams=5"),
    (("--sample",), "was exported to search with do_sample=False, num_beams=5"),
    (("--coverage-penalty", "0.2"), "no graph searches with coverage_penalty=0.2"),
    (("--batch-size", "4"), "graphs that search choose it"),
    (("--max-new-tokens", "0"), "max_new_tokens must be"),
])  # fmt: skip
def test_what_a_graph_does_not_search_by_is_refused(options, words):
    export_network(Path("model.rnn"), "translate", decode="beam")
    assert words in refused("run", "model.rnn", "the cat", "--in-graph", *options)


def test_a_bundle_without_a_graph_that_searches_says_how_to_get_one(files):
    assert "export it with --decode" in refused("run", "model.rnn", "the c", "--in-graph")


def test_options_of_writing_are_refused_where_nothing_is_written(monkeypatch):
    model = Classifier(RowReader(lambda row: np.float32([len(row), 2])), Tokenizer.characters("ab"), ["long", "short"])
    monkeypatch.setattr("rnn_edge.runtimes.load", lambda *_, **__: model)
    assert call("run", "model.rnn", "abab", "a").stdout == "long\nshort\n"
    message = refused("run", "model.rnn", "abab", "--beam-size", "1", "--stop", "x", "--no-sample", "--prefix", "")
    assert "--beam-size, --sample, --prefix, --stop can only be used with networks that write" in message
    assert "this is a classifier" in message
    assert call("run", "model.rnn", "a", "--json", "--threads", "1").exit_code == 0


def test_a_translation_has_its_own_defaults(monkeypatch):
    used = []

    class Recorder(Translator):
        def __init__(self):
            pass

        def translate(self, texts, options):
            used.append((options.max_new_tokens, options.length_penalty, options.num_beams))
            return []

    monkeypatch.setattr("rnn_edge.runtimes.load", lambda *_, **__: Recorder())
    call("run", "model.rnn", "a")
    call("run", "model.rnn", "a", "--beam-size", "5")
    call("run", "model.rnn", "a", "--length-penalty", "0", "--max-new-tokens", "7")
    assert used == [(None, 1.0, 1), (None, 1.0, 5), (7, 0.0, 1)]


@pytest.mark.parametrize(("arguments", "words"), [
    (["run", "nowhere.rnn", "text"], "nowhere.rnn is not a bundle"),
    (["run", "model.rnn", "text", "--provider", "abacus"], "unknown provider 'abacus'"),
    (["run", "model.rnn", "text", "--provider", "cuda"], "provider 'cuda' is not in this build"),
    (["run", "model.rnn", "text", "--threads", "0"], "threads must be"),
    (["run", "model.rnn", "text", "--max-new-tokens", "0"], "max_new_tokens must be"),
    (["run", "model.rnn", "text", "--temperature", "nan"], "temperature must be"),
    (["run", "model.rnn", "text", "--top-p", "2"], "top_p must be"),
    (["run", "model.rnn", "text", "--top-k", "5", "--beam-size", "3"], "choose one"),
    (["run", "model.rnn", "text", "--no-sample", "--top-k", "5"], "do_sample"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_sentence(files, arguments, words):
    assert words in refused(*arguments)


def test_batches_print_what_single_texts_print(files):
    text = "the c\nthe cat sat\n\nmat\n" * 5
    Path("lines.txt").write_text(text)
    for options in ((), ("--num-return", "3"), ("--temperature", "2", "--seed", "3")):
        single = call("run", "model.rnn", "--json", *options, "--batch-size", "1", text=text).stdout
        assert len(single.splitlines()) == 20
        assert (
            call("run", "model.rnn", "--json", *options, "--batch-size", "7", "--input", "lines.txt").stdout == single
        )
    assert "batch_size must be" in refused("run", "model.rnn", "--batch-size", "0", text=text)
    bad = b"the c\nthe\n\xff\ncat\n"
    told = call("run", "model.rnn", "--batch-size", "7", text=bad)
    assert (len(told.stdout.splitlines()), told.exit_code) == (2, 1)
    assert "line 3 is not valid UTF-8" in told.stderr


def test_lines_are_read_as_they_come_and_a_bounded_number_at_a_time(files, monkeypatch):
    """A line may come in parts, end anyhow, or not at all; what is answered together is what came together."""

    class Pipe(io.BytesIO):
        def read1(self, size=-1):
            return parts.pop(0) if parts else b""

    together = []
    monkeypatch.setattr("rnn_edge.answers.answer", lambda _, texts, *rest, **more: together.append(texts) or [])
    parts = [b"on", b"e\r\ntwo\nthr", b"ee", b"\n", b"\n", b"x\n" * 300, b"last"]
    monkeypatch.setattr("rnn_edge.cli.run.sys.stdin", io.TextIOWrapper(Pipe()))
    main(["run", "model.rnn"], standalone_mode=False)
    assert together == [["one", "two"], ["three"], [""], ["x"] * 256, ["x"] * 44, ["last"]]


def test_invalid_utf8_names_the_line_and_keeps_what_came_before(files):
    result = call("run", "model.rnn", text=b"the c\nb\xff\nmat\n")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert "line 2 is not valid UTF-8 (byte 0xff at position 2)" in result.stderr


def test_a_reader_that_stops_early_is_no_error(files):
    command = f"yes 'the c' | head -2000 | {sys.executable} -m rnn_edge run model.rnn | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def run_of(bundle: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "rnn_edge", "run", bundle, *arguments]


def test_ctrl_c_ends_it_with_one_word_and_what_was_found(files):
    Path("lines.txt").write_text("the c\n" * 100_000)
    with subprocess.Popen(run_of("model.rnn", "--input", "lines.txt"), stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline().startswith("the c")
        process.send_signal(signal.SIGINT)
        found, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "interrupted\n")
    assert all(line.startswith("the c") for line in found.splitlines())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's disk that is always full")
def test_a_full_disk_is_one_sentence(files):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(run_of("model.rnn", "the c"), stdout=full, stderr=-1, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "Error: cannot write: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="needs a shell that closes streams")
@pytest.mark.parametrize(("closed", "code", "told"), [
    ("<&-", 2, "standard input is closed: give texts, or --input"),
    ("'the c' >&-", 0, ""),
    ("'the c' 2>&-", 0, ""),
])  # fmt: skip
def test_closed_streams_are_nobody(files, closed, code, told):
    done = subprocess.run(f"{' '.join(run_of('model.rnn'))} {closed}", shell=True, capture_output=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert told in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_texts_come_from_one_place(files):
    Path("lines.txt").write_text("the c\n")
    result = call("run", "model.rnn", "the c", "--input", "lines.txt")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "not both" in result.stderr


_LEAKING = """
import rnn_edge.answers
kept, right = [], rnn_edge.answers.answer
rnn_edge.answers.answer = lambda model, texts, *more, **named: kept.extend(texts) or right(model, texts, *more, **named)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux, to ask how much memory a process holds")
@pytest.mark.parametrize(("before", "lines", "grows"), [("", 200_000, False), (_LEAKING, 60_000, True)])
def test_memory_does_not_grow_with_the_lines_of_a_file(before, lines, grows):
    """A tenth of the lines settles it; behind them, a process that kept each text would hold some 80 bytes a line."""
    with Path("lines.txt").open("w") as file:
        file.writelines(f"the c{number:>10}\n" for number in range(lines))
    command = [sys.executable, "-c", f"{before}\nfrom rnn_edge.cli import main\nmain()", "run", str(FORMAT_1)]
    options = ["--input", "lines.txt", "--batch-size", "256", "--max-new-tokens", "1"]
    held = {}
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE) as process:
        for number, _ in enumerate(process.stdout, start=1):
            if number in (lines // 10, lines - 1000):
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                held[number] = pages * os.sysconf("SC_PAGE_SIZE")
    assert (process.returncode, number) == (0, lines)
    (first, early), (last, late) = held.items()
    assert ((late - early) / (last - first) > 20) is grows, f"{early:,} bytes, then {late:,}"


def test_a_terminal_is_asked(files):
    """At a terminal without texts, each line gets its suggestions, until Ctrl-D."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rnn_edge", "run", "model.rnn"]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    os.write(ours, b"the c\n\x04")
    out, err = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert "Ctrl-D ends" in err
    assert out.count("the c") == 3


def test_on_a_whole_terminal_tab_accepts_suggestions(files):
    pytest.importorskip("prompt_toolkit")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rnn_edge", "run", "model.rnn"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    _read_until(ours, rb">")
    os.write(ours, b"the ca\t\r")
    _read_until(ours, rb"\?2004lthe ca.*\?2004h")  # what is printed once the line is left, and the next prompt
    os.write(ours, b"\x04")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert "Tab to accept" in process.stderr.read()
    process.stderr.close()


def _read_until(terminal: int, pattern: bytes) -> None:
    shown = b""
    while not re.search(pattern, shown, re.DOTALL):
        assert select.select([terminal], [], [], 60)[0], shown
        shown += os.read(terminal, 4096)


def test_score_tells_how_probable_texts_are(files):
    lines = call("run", "model.rnn", "--score", text="the cat\nthe mat\n").stdout.splitlines()
    found = [json.loads(line) for line in call("run", "model.rnn", "--score", "--json", "the cat").stdout.splitlines()]
    score = load("model.rnn").score("the cat")
    assert found == [{
        "text": "the cat",
        "log_prob": round(score.log_prob, 4),
        "perplexity": round(score.perplexity, 4),
        "bits_per_character": round(score.bits_per_character, 6),
    }]  # fmt: skip
    assert (len(lines), lines[0]) == (2, f"{score.perplexity:.4f}")
    assert "an empty text has no score" in refused("run", "model.rnn", "--score", text="the cat\n\n")
    told = refused("run", "model.rnn", "--score", "--top-k", "3", "the cat")
    assert told == "Error: --score completes nothing: leave out --top-k\n"
    export_network(Path("tagger.rnn"), "tag")
    assert "--score is for language models, and this is a tagger" in refused("run", "tagger.rnn", "--score", "the cat")

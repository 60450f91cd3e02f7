"""Each task learns a rule that a few lines of Python can state, from plain files, through the command line."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from rnn_edge.cli import main
from rnn_edge.errors import TrainingError
from rnn_edge.modules import load_checkpoint
from rnn_edge.training import make_lesson

WORDS = ["red", "blue", "green", "dog", "cat", "bird", "runs", "sleeps", "sings"]


def train(task: str, *arguments: str) -> dict:
    options = {"epochs": 30, "learning-rate": 0.02, "eval-interval": 60, "batch-size": 16, "threads": 1, "dropout": 0}
    options |= {"embedding-size": 16, "hidden-size": 24}
    fast = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = ["train", "--task", task, "corpus", "--held-out", "judged", "-o", "model.pt", "--json", *fast]
    result = CliRunner().invoke(main, [*command, *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def write_examples(line, count: int = 160) -> None:
    """Write examples of random sentences, made by `line`, and others to judge by."""
    generator = random.Random(0)
    for name, many in (("corpus", count), ("judged", 40)):
        sentences = [generator.choices(WORDS, k=generator.randint(1, 5)) for _ in range(many)]
        Path(name).write_text("".join(line(words) + "\n" for words in sentences))


@pytest.mark.parametrize(
    "options",
    [[], ["--attention", "bahdanau", "--input-feeding", "--cell", "gru"], ["--attention", "none", "--forward"]],
    ids=["general", "bahdanau", "none"],
)
def test_a_translator_learns_to_copy(options):
    write_examples(lambda words: " ".join(words[:3]) + "\t" + " ".join(words[:3]))
    found = train("translate", "--tokenizer", "whitespace", *options)
    assert found["top1"] > 0.8
    assert 0 <= found["bleu"] <= 100
    checkpoint = load_checkpoint(Path("model.pt"))
    assert checkpoint.target_tokenizer is not None
    assert set(checkpoint.held_out) == {"source", "target"}
    assert len(checkpoint.held_out["source"]) == 40


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_a_classifier_learns_what_decides(pooling):
    write_examples(lambda words: ("dog" if "dog" in words else "none") + "\t" + " ".join(words))
    found = train("classify", "--pooling", pooling, "--tokenizer", "whitespace")
    assert found["accuracy"] > 0.9
    assert found["macro_f1"] > 0.8
    assert load_checkpoint(Path("model.pt")).model.spec.labels == ("dog", "none")


@pytest.mark.parametrize("decoder", ["independent", "feedback", "crf"])
def test_a_tagger_learns_labels_that_depend_on_neighbours(decoder):
    """A span is all words between a colour and the end; its first word begins it."""

    def line(words):
        inside, lines = False, []
        for word in words:
            begins = word in ("red", "blue", "green")
            lines.append(f"{word}\t{'B-X' if begins else 'I-X' if inside else 'O'}")
            inside = inside or begins
        return "\n".join(lines) + "\n"

    write_examples(line)
    found = train("tag", "--decoder", decoder, "--character-hidden-size", "8")
    assert found["accuracy"] > 0.95
    assert found["span_f1"] > 0.9
    assert set(load_checkpoint(Path("model.pt")).held_out) == {"tokens", "labels", "characters"}


def test_letters_tell_what_an_unknown_word_is():
    """No word of the held-out file was seen, but its ending was."""
    generator = random.Random(1)
    for name, count in (("corpus", 300), ("judged", 60)):
        words = ["".join(generator.choices("abcdef", k=4)) + ending for ending in ("ly", "ing") for _ in range(count)]
        Path(name).write_text("".join(f"{word} {'ADV' if word.endswith('ly') else 'VERB'}\n\n" for word in words))
    common = ("--vocab-size", "10", "--word-dropout", "0.1", "--epochs", "6")
    assert train("tag", *common)["accuracy"] > 0.95
    assert train("tag", *common, "--no-letters")["accuracy"] < 0.7
    assert load_checkpoint(Path("model.pt")).character_tokenizer is None


def test_a_run_goes_on_where_it_was_interrupted():
    write_examples(lambda words: " ".join(words) + "\t" + " ".join(reversed(words)))
    whole = train("translate", "--tokenizer", "whitespace", "--epochs", "4")
    from rnn_edge.training import Finished, TrainOptions
    from rnn_edge.training import train as run

    options = TrainOptions(epochs=4, learning_rate=0.02, eval_interval=60, batch_size=16, threads=1)
    choices = {"tokenizer": "whitespace", "dropout": 0.0, "embedding_size": 16, "hidden_size": 24}

    def events(resume: bool):
        lesson = make_lesson("translate", [Path("corpus")], held_out=[Path("judged")], choices=choices, options=options)
        return run(lesson, Path("other.pt"), options=options, resume=resume)

    first = events(False)
    for _ in range(17):
        next(first)
    first.close()
    *_, finished = events(True)
    assert isinstance(finished, Finished)
    assert finished.held_out.to_dict()["loss"] == whole["loss"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "classify", "--attention", "dot"], "task 'classify' has no attention"),
        (["--attention", "dot"], "task 'language-model' has no attention"),
        (["--task", "tag", "--tokenizer", "bpe"], "words stand between white space"),
        (["--task", "translate", "--attention", "dot"], "dot attention compares vectors of one width"),
        (["--task", "translate", "--pyramidal"], "at least two layers"),
    ],
)
def test_a_choice_of_another_task_is_refused(arguments, words):
    write_examples(lambda words: "a\tb")
    result = CliRunner().invoke(main, ["train", "corpus", "-o", "model.pt", *arguments])
    assert result.exit_code == 1
    assert words in result.output
    assert not Path("model.pt").exists()


def test_labels_that_only_the_held_out_file_has_are_refused():
    Path("corpus").write_text("a\tone\n")
    Path("judged").write_text("b\ttwo\n")
    with pytest.raises(TrainingError, match="has no label 'b'"):
        make_lesson("classify", [Path("corpus")], held_out=[Path("judged")])

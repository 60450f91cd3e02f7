"""The documentation says what is so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import export_network

from rnn_edge.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_command_line_reference_is_what_help_says():
    """If this fails: python tools/cli_reference.py"""
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "tools" / "cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == module.reference()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_are_shown_exist(page):
    for line in re.findall(r"(?:^|`|[|&] )rnn-edge (\w+)([^`\n|#]*)", page.read_text(encoding="utf-8"), re.MULTILINE):
        name, rest = line
        assert name in main.commands, line
        flags = {
            flag for parameter in main.commands[name].params for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        shown = re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)
        assert set(shown) <= flags | {"--help"}, line


def python_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_in_the_readme_runs(capsys):
    code, _ = python_of("README.md")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_readmes_search_in_one_call_runs_without_us(capsys):
    export_network(Path("translator.rnn"), "translate", attention="general", decode="beam")
    _, code = python_of("README.md")
    assert "rnn_edge" not in code
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_a_language_models_search_in_one_call_runs_without_us(capsys):
    export_network(Path("model.rnn"), "language-model", decode="sample")
    code = python_of("docs/decoding.md")[-1]
    assert "rnn_edge" not in code
    exec(compile(code, "decoding.md", "exec"), {})
    assert capsys.readouterr().out


def run_guide(section: str, **names: Any) -> dict[str, Any]:
    """Run a section of the guide to foreign weights, block after block; `names` are what it says lives elsewhere."""
    page = (ROOT / "docs" / "bring-your-own-weights.md").read_text(encoding="utf-8")
    (text,) = [part for part in page.split("\n## ") if part.startswith(section)]
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, section, "exec"), names)
    return names


def last_logits(tokens: list[int]) -> np.ndarray:
    """Return what the bundle that a section leaves says after some tokens."""
    from rnn_edge.bundle import Bundle
    from rnn_edge.runtimes import StepGraph

    graph = StepGraph.from_bundle(Bundle.read(Path("model.rnn")))
    return graph.step(np.array([tokens]), graph.start(1))[0][0]


def their_logits(embedding, rnn, output, tokens: list[int]) -> np.ndarray:
    import torch

    y, _ = rnn(embedding(torch.tensor(tokens)))  # (time, hidden)
    return output(y).detach().numpy()


def test_the_guide_takes_a_model_from_torch(capsys):
    torch = pytest.importorskip("torch")
    characters = list("\n abcdehmnost")
    model = torch.nn.ModuleDict({
        "embed": torch.nn.Embedding(13, 8), "lstm": torch.nn.LSTM(8, 12, 2), "head": torch.nn.Linear(12, 13)
    })  # fmt: skip
    run_guide("From torch.nn", model=model, characters=characters)
    expected = their_logits(model["embed"], model["lstm"], model["head"], [3, 1, 4])
    np.testing.assert_allclose(last_logits([3, 1, 4]), expected[-1], atol=1e-5)
    assert capsys.readouterr().out


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rnn_type", ["RNN_TANH", "RNN_RELU", "LSTM", "GRU"])
def test_the_guide_takes_pytorchs_word_language_model(rnn_type, tied, capsys):
    torch = pytest.importorskip("torch")
    model = torch.nn.Module()  # with the names and shapes of the example's RNNModel
    model.rnn_type = rnn_type
    model.encoder, model.decoder = torch.nn.Embedding(6, 12 if tied else 8), torch.nn.Linear(12, 6)
    sizes = model.encoder.embedding_dim, 12, 2
    if rnn_type in ("LSTM", "GRU"):
        model.rnn = getattr(torch.nn, rnn_type)(*sizes)
    else:
        model.rnn = torch.nn.RNN(*sizes, nonlinearity={"RNN_TANH": "tanh", "RNN_RELU": "relu"}[rnn_type])
    if tied:
        model.decoder.weight = model.encoder.weight
    words = ["the", "cat", "sat", "<eos>", "on", "<unk>"]
    corpus = SimpleNamespace(dictionary=SimpleNamespace(idx2word=words))
    left = run_guide("From PyTorch's word_language_model", model=model, corpus=corpus)
    assert left["spec"].tied == tied
    expected = their_logits(model.encoder, model.rnn, model.decoder, [0, 1, 4])
    np.testing.assert_allclose(last_logits([0, 1, 4]), expected[-1], atol=1e-5)
    assert capsys.readouterr().out


def test_the_guide_takes_cells_from_keras_and_tensorflow(capsys):
    """The Keras model is PyTorch's modules in Keras' layout: kernels transposed, gates z, r, h, biases in two rows."""
    torch = pytest.importorskip("torch")
    embedding, rnn, output = torch.nn.Embedding(9, 5), torch.nn.GRU(5, 6, 2), torch.nn.Linear(6, 9)

    def in_keras_order(name: str) -> np.ndarray:
        r, z, n = getattr(rnn, name).detach().numpy().reshape(3, 6, -1)
        return np.concatenate([z, r, n]).T

    weights = [embedding.weight.detach().numpy()]
    for layer in range(2):
        weights += [in_keras_order(f"weight_ih_l{layer}"), in_keras_order(f"weight_hh_l{layer}")]
        weights += [np.concatenate([in_keras_order(f"bias_ih_l{layer}"), in_keras_order(f"bias_hh_l{layer}")])]
    weights += [output.weight.detach().numpy().T, output.bias.detach().numpy()]
    model = SimpleNamespace(
        get_weights=lambda: weights,
        predict=lambda tokens: their_logits(embedding, rnn, output, tokens[0].tolist())[None],
    )
    lookup = SimpleNamespace(get_vocabulary=lambda: ["", "[UNK]", *"eht c.a"])
    kernel = np.zeros((9, 16), np.float32)
    reader = SimpleNamespace(get_tensor=lambda name: kernel if name.endswith("kernel") else kernel[0])
    left = run_guide("From Keras and TensorFlow", model=model, lookup=lookup, reader=reader)
    np.testing.assert_allclose(last_logits([3, 1, 4]), model.predict(np.array([[3, 1, 4]]))[0, -1], atol=1e-5)
    assert left["weights"]["bias_ih_l1"].tolist() == [0] * 4 + [1] * 4 + [0] * 8
    assert capsys.readouterr().out


def test_the_python_in_the_page_of_tasks_runs(capsys):
    for task in ("translate", "describe", "classify", "embed", "tag"):
        more = {"attention": "general", "decode": "beam"} if task == "translate" else {}
        export_network(Path(f"{task}.rnn"), task, **more)
    names = {}
    for code in python_of("docs/tasks.md"):
        exec(compile(code, "tasks.md", "exec"), names)
        assert "print" not in code or capsys.readouterr().out

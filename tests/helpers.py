"""Small networks and tokenizers with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared" / "data"
DARWIN = "models/ml5_charrnn/darwin"


def shared(path: str) -> Path:
    """Return a file of real data beside the checkout, or skip where it is not there."""
    if not (SHARED / path).exists():
        pytest.skip(f"needs ../shared/data/{path}, which is not distributed")
    return SHARED / path


def tiny_checkpoint(kind: str = "characters", *, seed: int = 0, **changes: Any):
    """Return a checkpoint with random weights, large enough to make its choices clear-cut."""
    import torch

    from rnn_edge.modules import Checkpoint, LanguageModel
    from rnn_edge.spec import LanguageModelSpec
    from rnn_edge.text import Tokenizer

    tokenizer = Tokenizer.train(kind, ["the cat sat on the mat, the end of it\n" * 9], vocab_size=300)
    sizes = {"embedding_size": 12, "hidden_size": 16, **changes}
    torch.manual_seed(seed)
    model = LanguageModel(LanguageModelSpec(vocab_size=tokenizer.vocab_size, **sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return Checkpoint(model, tokenizer)


CELLS: dict[str, dict[str, Any]] = {
    "elman": {"cell": "elman"},
    "elman-relu": {"cell": "elman", "nonlinearity": "relu"},
    "gru": {"cell": "gru"},
    "gru-relu": {"cell": "gru", "nonlinearity": "relu"},
    "gru-reset-before": {"cell": "gru", "reset_after": False},
    "lstm": {"cell": "lstm"},
    "lstm-projected": {"cell": "lstm", "proj_size": 4},
    "lstm-coupled": {"cell": "lstm", "coupled_gates": True},
    "lstm-squashed-state": {"cell": "lstm", "squash": "state"},
}
TASKS = ("translate", "describe", "classify", "embed", "tag")


def some_spec(task: str, cell: str, seed: int, **changes: Any):
    """Return a spec of a task other than the language model's, with its other choices drawn at random."""
    from rnn_edge.errors import SpecError
    from rnn_edge.spec import ModelSpec

    random = Random(f"{task} {cell} {seed}")
    while True:
        choices: dict[str, Any] = {
            "num_layers": random.choice([1, 2]),
            "bidirectional": random.choice([False, True]),
            "pooling": random.choice(["last", "mean", "max"]),
            "head_size": random.choice([0, 5]),
            "decoder": random.choice(["independent", "feedback", "crf"]),
            "character_vocab_size": random.choice([0, 11]),
            "character_hidden_size": 5,
            "attention": random.choice(["none", "dot", "general", "bahdanau", "bahdanau"]),
            "input_feeding": random.choice([False, True]),
            "pyramidal": random.choice([False, True]),
            "tied": random.choice([False, True]),
            "labels": ["x", "y", "z"],
            "target_vocab_size": 25,
            "vector_size": 6,
        }
        chosen = {**choices, **changes}
        names = {"classify": ("bidirectional", "pooling", "head_size", "labels"), "embed": ("bidirectional", "pooling")}
        names["tag"] = ("bidirectional", "labels", "decoder", "character_vocab_size", "character_hidden_size")
        names["describe"] = ("tied", "vector_size")
        names["translate"] = ("bidirectional", "pyramidal", "tied", "attention", "input_feeding", "target_vocab_size")
        sizes = {"vocab_size": 30, "embedding_size": 7, "hidden_size": 9}
        own = {name: chosen[name] for name in (*names[task], "num_layers")}
        other = {name: value for name, value in changes.items() if name in sizes}
        try:
            return ModelSpec.from_dict({"task": task, **sizes, **CELLS[cell], **own, **other})
        except SpecError:  # choices that contradict one another
            continue


def some_network(spec, *, seed: int = 0):
    """Return a network with random weights, large enough to make its choices clear-cut, but for ReLU."""
    import torch

    from rnn_edge.modules import build

    torch.manual_seed(seed)
    model = build(spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.8 if spec.nonlinearity == "relu" else 2)
    return model


def some_checkpoint(task: str, cell: str = "lstm", *, seed: int = 0, **changes: Any):
    """Return a checkpoint of a network with random weights, its vocabularies, and made-up held-out examples."""
    import torch

    from rnn_edge.modules import Checkpoint
    from rnn_edge.text import Tokenizer

    text = ["the cat sat on the mat, the end of it\n" * 9]
    words, letters = Tokenizer.train("whitespace", text), Tokenizer.train("characters", text)
    sizes = {"vocab_size": words.vocab_size, "target_vocab_size": letters.vocab_size}
    spec = some_spec(task, cell, seed, **{**sizes, "character_vocab_size": letters.vocab_size, **changes})
    draw = torch.Generator().manual_seed(seed)

    def ids(most: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, most, shape, generator=draw)

    held_out = {
        "translate": {"source": ids(words.vocab_size, 40, 6), "target": ids(letters.vocab_size, 40, 8)},
        "classify": {"tokens": ids(words.vocab_size, 90, 6), "labels": ids(3, 90)},
        "tag": {
            "tokens": ids(words.vocab_size, 40, 6),
            "labels": ids(3, 40, 6),
            "characters": ids(letters.vocab_size, 40, 6, 5),
        },
    }.get(task, {})
    for name, examples in held_out.items():  # rows of different lengths
        if examples.dim() > 1 and name != "characters":
            examples[::3, 4:] = -1
    if task == "tag":
        held_out["labels"][held_out["tokens"] < 0] = -1
        held_out["characters"][held_out["tokens"] < 0] = -1
    return Checkpoint(
        some_network(spec, seed=seed),
        words,
        held_out=held_out,
        target_tokenizer=letters if task == "translate" else None,
        character_tokenizer=letters if task == "tag" else None,
    )


def tiny_bundle(path: Path, kind: str = "characters", **changes: Any):
    """Export a tiny checkpoint to `path` and read it back."""
    pytest.importorskip("torch")
    from rnn_edge.bundle import Bundle
    from rnn_edge.exporters import export

    export(tiny_checkpoint(kind, **changes), path)
    return Bundle.read(path)


def foreign_bundle(path: Path):
    """Export a network with another project's characters: special tokens anywhere, and spellings of é and Å."""
    torch = pytest.importorskip("torch")
    from rnn_edge.bundle import Bundle
    from rnn_edge.exporters import export
    from rnn_edge.modules import Checkpoint, LanguageModel
    from rnn_edge.spec import LanguageModelSpec
    from rnn_edge.text import Tokenizer

    tokenizer = Tokenizer.characters(["<pad>", *"the a\u212bcno\u0301", "<s>", *"\xc5s\xe9\n", "</s>", "<unk>"])
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelSpec(vocab_size=tokenizer.vocab_size, embedding_size=12, hidden_size=16)).eval()
    export(Checkpoint(model, tokenizer), path)
    return Bundle.read(path)


def darwin_checkpoint():
    """Return ml5's published CharRNN of Darwin, TensorFlow's tensors, or skip where it is not there."""
    torch = pytest.importorskip("torch")
    from rnn_edge.modules import Checkpoint, LanguageModel, import_weights
    from rnn_edge.spec import LanguageModelSpec
    from rnn_edge.text import Tokenizer

    ids = json.loads(shared(f"{DARWIN}/golden.json").read_text())["vocab"]
    cells = [f"rnnlm/multi_rnn_cell/cell_{layer}/basic_lstm_cell" for layer in range(2)]
    layers = [[_darwin(f"{cell}/weights"), _darwin(f"{cell}/biases")] for cell in cells]
    model = LanguageModel(LanguageModelSpec(vocab_size=100, embedding_size=128, hidden_size=128, num_layers=2)).eval()
    model.load_state_dict({
        "embedding.weight": torch.from_numpy(_darwin("embedding")),
        "output.weight": torch.from_numpy(_darwin("rnnlm/softmax_w").T),
        "output.bias": torch.from_numpy(_darwin("rnnlm/softmax_b")),
        **{f"stack.rnn.{name}": tensor for name, tensor in import_weights("tensorflow", "lstm", layers).items()},
    })  # fmt: skip
    return Checkpoint(model, Tokenizer.characters(padded(sorted(ids, key=ids.__getitem__), 100)))


def _darwin(name: str) -> np.ndarray:
    """Read a tensor as TensorFlow.js stores it: raw numbers, with their shape in a manifest."""
    entry = json.loads(shared(f"{DARWIN}/manifest.json").read_text())[name]
    return np.fromfile(shared(f"{DARWIN}/{entry['filename']}"), "<f4").reshape(entry["shape"])


def padded(vocabulary: list[str], size: int) -> list[str]:
    """Fill a vocabulary up to the network's size with characters that occur in no text."""
    return vocabulary + [chr(0xE000 + index) for index in range(size - len(vocabulary))]


def g2p_en_checkpoint():
    """Return g2p_en's encoder-decoder (PyPI g2p-en 2.1.0), which spells English words in phonemes."""
    import torch

    from rnn_edge.modules import Checkpoint, build
    from rnn_edge.spec import TranslatorSpec
    from rnn_edge.text import Tokenizer

    golden = json.loads(shared("models/g2p_en/golden.json").read_text())
    weights = {
        name: torch.from_numpy(array) for name, array in np.load(shared("models/g2p_en/checkpoint20.npz")).items()
    }
    model = build(
        TranslatorSpec(cell="gru", vocab_size=29, target_vocab_size=74, embedding_size=256, hidden_size=256)
    ).eval()
    names = {"embedding.weight": "enc_emb", "decoder.embedding.weight": "dec_emb"}
    names |= {"decoder.output.weight": "fc_w", "decoder.output.bias": "fc_b"}
    for stack, side in (("encoder.stacks.0.rnn", "enc"), ("decoder.stack.rnn", "dec")):
        kinds = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
        names |= {f"{stack}.{ours}_l0": f"{side}_{theirs}" for ours, theirs in kinds.items()}
    model.load_state_dict({ours: weights[theirs] for ours, theirs in names.items()})
    return Checkpoint(
        model,
        Tokenizer.characters(golden["graphemes"]),
        target_tokenizer=Tokenizer.whitespace(golden["phonemes"]),
    )


def tiny_network(task: str, *, seed: int = 0, letters: bool = False, **changes: Any):
    """Return a checkpoint of any task with vocabularies and plain choices; a tagger may read letters."""
    from rnn_edge.modules import Checkpoint
    from rnn_edge.spec import ModelSpec
    from rnn_edge.text import Tokenizer

    texts = ["the cat sat on the mat, the end of it\n" * 9]
    tokenizer = Tokenizer.train("whitespace" if task == "tag" else "characters", texts, vocab_size=300)
    sizes = {"vocab_size": tokenizer.vocab_size, "embedding_size": 12, "hidden_size": 16}
    target = characters = None
    if task == "translate":
        target = Tokenizer.train("whitespace", ["die Katze sitzt auf der Matte"])
        sizes["target_vocab_size"] = target.vocab_size
    if letters:
        characters = Tokenizer.train("characters", texts, vocab_size=300)
        sizes |= {"character_vocab_size": characters.vocab_size, "character_hidden_size": 6}
    own = {"describe": {"vector_size": 5}}.get(task, {})
    if task in ("classify", "tag"):
        own = {"labels": ("O", "B-X", "I-X")}
    spec = ModelSpec.from_dict({"task": task, **sizes, **own, **changes})
    model = some_network(spec, seed=seed)
    return Checkpoint(model, tokenizer, target_tokenizer=target, character_tokenizer=characters)


def export_network(path: Path, task: str, *, decode: str | None = None, **changes: Any):
    """Export a tiny network of any task to `path`, perhaps with a graph that searches; return its checkpoint."""
    pytest.importorskip("torch")
    from rnn_edge.exporters import ExportOptions, export

    checkpoint = tiny_network(task, **changes)
    export(checkpoint, path, ExportOptions(decode=decode))
    return checkpoint

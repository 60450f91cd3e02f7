"""model.pt: a spec, a tokenizer and weights in one file that holds only tensors and plain values.

It is read with `weights_only=True`, so a file from a stranger can never run code.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_edge.errors import CheckpointError, RnnEdgeError
from rnn_edge.files import replace_file
from rnn_edge.modules.networks import Network, build, tied_weights
from rnn_edge.spec import ClassifierSpec, ModelSpec, TaggerSpec
from rnn_edge.text import Tokenizer, check_sizes

__all__ = ["Checkpoint", "load_checkpoint", "read_tensors", "save_checkpoint", "write_tensors"]

FORMAT = 1
_TOKENIZERS = ("tokenizer", "target_tokenizer", "character_tokenizer")


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with its vocabularies, and how it came about: plain values, shown by `rnn-edge info`.

    held_out  a few examples that it did not learn from, to judge its exports by: what `rnn_edge.training` calls a
              batch, int64 tensors by name
    """

    model: Network
    tokenizer: Tokenizer  # of what it reads; of what it writes, where it reads vectors
    history: dict[str, Any] = field(default_factory=dict)
    held_out: Mapping[str, Tensor] = field(default_factory=dict)
    target_tokenizer: Tokenizer | None = None  # of what a translator writes
    character_tokenizer: Tokenizer | None = None  # of the letters of a tagger's words

    def __post_init__(self) -> None:
        check_sizes(self.model.spec.vocab_sizes, self.tokenizer, self.target_tokenizer, self.character_tokenizer)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> Path:
    """Write a model.pt, whole or not at all."""
    model = checkpoint.model
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    for copy in tied_weights(model):
        del weights[copy]
    content = {
        "rnn_edge_checkpoint": FORMAT,
        "spec": model.spec.to_dict(),
        "weights": weights,
        "history": checkpoint.history,
        "held_out": dict(checkpoint.held_out),
    }
    for name in _TOKENIZERS:
        tokenizer = getattr(checkpoint, name)
        content[name] = None if tokenizer is None else tokenizer.to_json()
    write_tensors(path, content)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a model.pt and rebuild its network, in evaluation mode on the CPU."""
    content = read_tensors(path)
    found = content.get("rnn_edge_checkpoint")
    if type(found) is not int:
        raise CheckpointError(
            f"{path} is a PyTorch file, but not an rnn-edge checkpoint: it lacks the spec and the tokenizer. "
            "Write one with rnn-edge train, or rnn_edge.modules.save_checkpoint"
        )
    if found > FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {found}; this rnn-edge reads up to {FORMAT}: upgrade rnn-edge"
        )
    try:
        model = _rebuild(ModelSpec.from_dict(content.get("spec")), content.get("weights"))
        tokenizer, target, characters = (
            Tokenizer.from_json(str(content[name])) if name == "tokenizer" or content.get(name) else None
            for name in _TOKENIZERS
        )
        assert tokenizer is not None
        history = content.get("history")
        return Checkpoint(
            model.eval(),
            tokenizer,
            history if isinstance(history, dict) else {},
            _check_held_out(content.get("held_out"), model.spec),
            target_tokenizer=target,
            character_tokenizer=characters,
        )
    except KeyError as error:
        raise CheckpointError(f"{path} cannot be used: it has no {error}") from error
    except RnnEdgeError as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from error


def _rebuild(spec: ModelSpec, weights: object) -> Network:
    """Build the network around the given weights, without allocating anything the file does not hold."""
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError("its weights are not a mapping of names to tensors")
    with torch.device("meta"):
        model = build(spec)
    tied = tied_weights(model)
    expected = {name: weight for name, weight in model.state_dict().items() if name not in tied}
    problems = [f"{name} is missing" for name in sorted(expected.keys() - weights.keys())]
    problems += [f"{name} is not part of this network" for name in sorted(weights.keys() - expected.keys())]
    for name in sorted(expected.keys() & weights.keys()):
        wanted, found = tuple(expected[name].shape), tuple(weights[name].shape)
        if wanted != found:
            problems.append(f"{name} should have shape {wanted} and has {found}")
        elif weights[name].dtype != torch.float32:
            problems.append(f"{name} should be float32 and is {weights[name].dtype}")
    if problems:
        raise CheckpointError("its weights do not fit its spec: " + "; ".join(problems[:5]))
    model.load_state_dict({**weights, **{copy: weights[name] for copy, name in tied.items()}}, assign=True)
    for copy, name in tied.items():
        owner, attribute = copy.rsplit(".", 1)
        setattr(model.get_submodule(owner), attribute, model.get_parameter(name))
    return model


def _check_held_out(examples: object, spec: ModelSpec) -> dict[str, Tensor]:
    """Return tensors of whole numbers by name, each below what the network has of its kind, -1 behind a row's end."""
    if not isinstance(examples, dict) or not all(
        isinstance(value, Tensor) and value.dtype == torch.int64 for value in examples.values()
    ):
        raise CheckpointError("its held-out examples are not a mapping of names to int64 tensors")
    read, written, letters = spec.vocab_sizes
    most = {"tokens": read, "source": read, "target": written, "characters": letters}
    most["labels"] = len(spec.labels) if isinstance(spec, ClassifierSpec | TaggerSpec) else 0
    for name, values in examples.items():
        if values.numel() and not -1 <= int(values.min()) <= int(values.max()) < most.get(name, 0):
            raise CheckpointError(f"its held-out {name} are outside the vocabulary")
    return examples


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all."""
    try:
        replace_file(path, lambda part: torch.save(content, part))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise CheckpointError(f"cannot write {path}: {error}; nothing there was changed") from error


def read_tensors(path: Path) -> dict[str, Any]:
    """Read what `write_tensors` wrote; never runs code from the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of files that it then refuses
            content = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of tensors and plain values, and was not loaded because it could run code: "
            "a model.pt comes from rnn-edge train"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not a whole PyTorch file (truncated, or of another kind): copy it again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not an rnn-edge checkpoint")
    return content

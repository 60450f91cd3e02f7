"""model.pt: a spec, a tokenizer and weights in one file that holds only tensors and plain values.

It is read with `weights_only=True`, so a file from a stranger can never run code.
"""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnn_edge.errors import CheckpointError, RnnEdgeError
from rnn_edge.files import replace_file
from rnn_edge.modules.language_model import LanguageModel
from rnn_edge.spec import ModelSpec
from rnn_edge.text import Tokenizer

__all__ = ["Checkpoint", "load_checkpoint", "read_tensors", "save_checkpoint", "write_tensors"]

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with its tokenizer, and how it came about: plain values, shown by `rnn-edge info`."""

    model: LanguageModel
    tokenizer: Tokenizer
    history: dict[str, Any] = field(default_factory=dict)
    held_out: Tensor | None = None  # int64 (tokens,): text it did not learn from, to judge its exports by

    def __post_init__(self) -> None:
        if self.tokenizer.vocab_size != self.model.spec.vocab_size:
            raise CheckpointError(
                f"the tokenizer has {self.tokenizer.vocab_size} tokens, but the network was built for "
                f"{self.model.spec.vocab_size}: they do not belong together"
            )


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> Path:
    """Write a model.pt, whole or not at all."""
    model = checkpoint.model
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if model.spec.tied:
        del weights["embedding.weight"]  # the same tensor as output.weight
    write_tensors(
        path,
        {
            "rnn_edge_checkpoint": FORMAT,
            "spec": model.spec.to_dict(),
            "tokenizer": checkpoint.tokenizer.to_json(),
            "weights": weights,
            "history": checkpoint.history,
            "held_out": checkpoint.held_out,
        },
    )
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
        spec = ModelSpec.from_dict(content.get("spec"))
        tokenizer = Tokenizer.from_json(str(content.get("tokenizer")))
        model = _rebuild(spec, content.get("weights"))
        history = content.get("history")
        held_out = _check_tokens(content.get("held_out"), spec.vocab_size)
        return Checkpoint(model.eval(), tokenizer, history if isinstance(history, dict) else {}, held_out)
    except RnnEdgeError as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from error


def _rebuild(spec: ModelSpec, weights: object) -> LanguageModel:
    """Build the network around the given weights, without allocating anything the file does not hold."""
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError("its weights are not a mapping of names to tensors")
    with torch.device("meta"):
        model = LanguageModel(spec)
    expected = dict(model.state_dict())
    if spec.tied:
        del expected["embedding.weight"]
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
    if spec.tied:
        weights = {**weights, "embedding.weight": weights["output.weight"]}
    model.load_state_dict(weights, assign=True)
    if spec.tied:
        model.embedding.weight = model.output.weight
    return model


def _check_tokens(tokens: object, vocab_size: int) -> Tensor | None:
    if tokens is None:
        return None
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64 or tokens.dim() != 1:
        raise CheckpointError("its held-out text is not a row of tokens")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab_size:
        raise CheckpointError("its held-out text has tokens outside the vocabulary")
    return tokens


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

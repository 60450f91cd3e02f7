"""What a network is, as plain data: enough to rebuild it, in PyTorch or as a graph.

A spec travels unchanged from checkpoint to bundle to device. It knows sizes, choices and the names of labels; it must
not know weights, text or files. All networks share the choice of a recurrence; each adds what its task needs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from rnn_edge.errors import SpecError

__all__ = [
    "AttentionKind",
    "Cell",
    "ClassifierSpec",
    "DecoderSpec",
    "DescriberSpec",
    "LanguageModelSpec",
    "ModelSpec",
    "Nonlinearity",
    "Pooling",
    "ReaderSpec",
    "SentenceEncoderSpec",
    "Squash",
    "StackSpec",
    "TagDecoder",
    "TaggerSpec",
    "Task",
    "TranslatorSpec",
]

Task = Literal["language-model", "translate", "describe", "classify", "embed", "tag"]
Cell = Literal["elman", "lstm", "gru"]
Nonlinearity = Literal["tanh", "relu"]
Squash = Literal["output", "state"]
AttentionKind = Literal["none", "dot", "general", "bahdanau"]
Pooling = Literal["last", "mean", "max"]
TagDecoder = Literal["independent", "feedback", "crf"]

_LARGEST_SIZE = 2**24  # keeps a hostile file from asking for terabytes
_MOST_LAYERS = 64
_MOST_LABELS = 2**16


@dataclass(frozen=True, kw_only=True)
class StackSpec:
    """Recurrent layers on top of one another; names are PyTorch's where PyTorch has one."""

    hidden_size: int
    cell: Cell = "lstm"
    nonlinearity: Nonlinearity = "tanh"  # of an Elman cell, or of a GRU's new state
    coupled_gates: bool = False  # LSTM whose forget gate is 1 - its input gate (CIFG, Greff et al. 2015)
    squash: Squash = "output"  # where an LSTM's last tanh sits: on what it gives, or in its cell state
    reset_after: bool = True  # GRU: reset after the matrix product, as PyTorch does, or before it (Cho et al. 2014)
    num_layers: int = 1
    proj_size: int = 0  # LSTM with projection (Sak et al. 2014); 0 means none
    dropout: float = 0.0  # on what goes into the layers, between them and on what comes out, in training

    _ranges: ClassVar[dict[str, tuple[int, int]]] = {"num_layers": (1, _MOST_LAYERS), "proj_size": (0, _LARGEST_SIZE)}

    def __post_init__(self) -> None:
        problems = self._wrong_values()
        if not problems:  # what contradicts what can only be told of values that make sense
            problems = self._wrong_pairs()
        if problems:
            raise SpecError("this network cannot be built: " + "; ".join(problems))

    def _wrong_values(self) -> list[str]:
        kinds = get_type_hints(type(self))
        problems = [
            self._wrong_value(field.name, kinds[field.name], getattr(self, field.name))
            for field in dataclasses.fields(self)
        ]
        return [problem for problem in problems if problem]

    def _wrong_value(self, name: str, kind: object, value: object) -> str:
        """Return what is wrong with a field, or nothing."""
        if get_origin(kind) is Literal:
            words = get_args(kind)
            return "" if value in words else f"{name} must be one of {', '.join(words)}, got {value!r}"
        if kind is bool:
            return "" if type(value) is bool else f"{name} must be true or false, got {value!r}"
        if kind is float:
            fits = type(value) in (int, float) and 0 <= value < 1  # type: ignore[operator]
            return "" if fits else f"{name} must be at least 0 and below 1, got {value!r}"
        if kind is int:
            low, high = self._ranges.get(name, (1, _LARGEST_SIZE))
            fits = type(value) is int and low <= value <= high
            return "" if fits else f"{name} must be a whole number from {low} to {high}, got {value!r}"
        return _wrong_labels(name, value)

    def _wrong_pairs(self) -> list[str]:
        problems = []
        if self.nonlinearity != "tanh" and self.cell == "lstm":
            problems.append(f"nonlinearity {self.nonlinearity!r} is for the elman and gru cells only")
        if not self.reset_after and self.cell != "gru":
            problems.append("reset_after is for the gru cell only")
        for name in ("proj_size", "coupled_gates", "squash"):
            if getattr(self, name) != getattr(type(self), name) and self.cell != "lstm":
                problems.append(f"{name} is for the lstm cell only")
        if self.proj_size >= self.hidden_size:
            problems.append(f"proj_size {self.proj_size} must be smaller than hidden_size {self.hidden_size}")
        return problems

    def one_layer(self, **changes: Any) -> StackSpec:
        """Return a single layer of the same recurrence."""
        chosen = {field.name: getattr(self, field.name) for field in dataclasses.fields(StackSpec)}
        return StackSpec(**{**chosen, "num_layers": 1, **changes})

    @property
    def output_size(self) -> int:
        """Width of what a layer gives, in one direction: the projection's, or the hidden layer's."""
        return self.proj_size or self.hidden_size

    @property
    def state_sizes(self) -> dict[str, int]:
        """Name and width of each state: `h`, and `c` for an LSTM."""
        if self.cell == "lstm":
            return {"h": self.output_size, "c": self.hidden_size}
        return {"h": self.output_size}

    @property
    def is_standard(self) -> bool:
        """Whether the cell is one of `torch.nn`, which trains in fused kernels and whose weights load unchanged."""
        varied = self.coupled_gates or self.squash != "output" or not self.reset_after
        return not varied and (self.nonlinearity == "tanh" or self.cell == "elman")

    @property
    def is_bounded(self) -> bool:
        """Whether h lies between -1 and 1, as it does where the last thing that happens to it is a squashing."""
        return self.nonlinearity == "tanh" and not self.proj_size

    @property
    def num_gates(self) -> int:
        """How many matrices of its width a layer's input is multiplied by."""
        return {"elman": 1, "gru": 3, "lstm": 3 if self.coupled_gates else 4}[self.cell]


@dataclass(frozen=True, kw_only=True)
class ModelSpec(StackSpec):
    """What all networks have: a task, and symbols with their vectors that go through recurrent layers."""

    task: Task
    vocab_size: int
    embedding_size: int

    @property
    def vocab_sizes(self) -> tuple[int, int, int]:
        """Return how many tokens it reads, a decoder of its own writes, and words are spelled in; 0 for none."""
        return self.vocab_size, 0, 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {name: list(value) if type(value) is tuple else value for name, value in vars(self).items()}

    @staticmethod
    def from_dict(values: object) -> ModelSpec:
        """Rebuild a spec of any task from `to_dict`; refuse fields that are missing or unknown."""
        if not isinstance(values, dict):
            raise SpecError(f"a spec is a mapping of names to values, found {type(values).__name__}")
        task = values.get("task")
        if not isinstance(task, str) or task not in _SPECS:
            raise SpecError(
                f"the spec is of task {task!r}, and this rnn-edge knows {', '.join(_SPECS)}; "
                "it was written by another version of rnn-edge, or damaged"
            )
        fields = dataclasses.fields(_SPECS[task])
        unknown = sorted(str(name) for name in values.keys() - {field.name for field in fields})
        missing = sorted(
            field.name for field in fields if field.default is dataclasses.MISSING and field.name not in values
        )
        if unknown or missing:
            raise SpecError(
                f"the spec lacks {missing or 'nothing'} and has unknown fields {unknown or 'none'}; "
                "it was written by another version of rnn-edge, or damaged"
            )
        fixed: dict[str, Any] = {name: tuple(value) if type(value) is list else value for name, value in values.items()}
        return _SPECS[task](**fixed)


@dataclass(frozen=True, kw_only=True)
class DecoderSpec(ModelSpec):
    """What a network that writes has, token by token, each after those before it."""

    tied: bool = False  # the embedding is also the output matrix (Press & Wolf 2017)

    @property
    def has_bridge(self) -> bool:
        """Whether a linear map takes the last layer's output to the width of a tied embedding."""
        return self.tied and self.output_size != self.embedding_size

    @property
    def written_vocab_size(self) -> int:
        """How many tokens it chooses among."""
        return self.vocab_size


@dataclass(frozen=True, kw_only=True)
class LanguageModelSpec(DecoderSpec):
    """Tokens in, scores of the next token out."""

    task: Literal["language-model"] = "language-model"


@dataclass(frozen=True, kw_only=True)
class DescriberSpec(DecoderSpec):
    """A vector, such as an image's features, sets the first state of a decoder."""

    task: Literal["describe"] = "describe"
    vector_size: int


@dataclass(frozen=True, kw_only=True)
class ReaderSpec(ModelSpec):
    """What a network that reads whole texts has; `vocab_size` counts what it reads."""

    bidirectional: bool = False  # a second stack of layers reads backwards, and both outputs stand side by side

    @property
    def read_size(self) -> int:
        """Width of what the layers give, in both directions."""
        return self.output_size * (2 if self.bidirectional else 1)


@dataclass(frozen=True, kw_only=True)
class TranslatorSpec(ReaderSpec, DecoderSpec):
    """An encoder reads the source, a decoder of the same cell and depth writes the target."""

    task: Literal["translate"] = "translate"
    target_vocab_size: int
    pyramidal: bool = False  # each of the encoder's layers halves the time axis (Chan et al. 2015)
    attention: AttentionKind = "none"
    input_feeding: bool = False  # the last attentional vector is read with the next token (Luong et al. 2015)

    @property
    def written_vocab_size(self) -> int:
        """How many tokens it chooses among."""
        return self.target_vocab_size

    @property
    def vocab_sizes(self) -> tuple[int, int, int]:
        """Return how many tokens it reads, its decoder writes, and words are spelled in; 0 for none."""
        return self.vocab_size, self.target_vocab_size, 0

    @property
    def readout_size(self) -> int:
        """Width of the attentional vector that the output layer reads."""
        return self.embedding_size if self.tied else self.output_size

    @property
    def has_bridge(self) -> bool:
        """Whether a linear map takes the last layer's output to the width of a tied embedding."""
        return super().has_bridge and self.attention == "none"

    @property
    def carries_readout(self) -> bool:
        """Whether a step needs the attentional vector of the step before."""
        return self.input_feeding or self.attention == "bahdanau"

    def _wrong_pairs(self) -> list[str]:
        problems = super()._wrong_pairs()
        if self.attention == "dot" and self.bidirectional:
            problems.append("dot attention compares vectors of one width, and a bidirectional encoder's are wider")
        if self.input_feeding and self.attention == "none":
            problems.append("input_feeding needs attention")
        if self.pyramidal and self.num_layers == 1:
            problems.append("a pyramidal encoder needs at least two layers")
        return problems


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec(ReaderSpec):
    """A text in, scores of its labels out."""

    task: Literal["classify"] = "classify"
    labels: tuple[str, ...]
    pooling: Pooling = "last"  # last: forward state of the last token, backward state of the first
    head_size: int = 0  # width of a hidden layer between the text's vector and its scores; 0 means none

    _ranges: ClassVar[dict[str, tuple[int, int]]] = {**StackSpec._ranges, "head_size": (0, _LARGEST_SIZE)}


@dataclass(frozen=True, kw_only=True)
class SentenceEncoderSpec(ReaderSpec):
    """A text in, a vector out that can be compared with others."""

    task: Literal["embed"] = "embed"
    pooling: Pooling = "last"


@dataclass(frozen=True, kw_only=True)
class TaggerSpec(ReaderSpec):
    """Words in, a label for each out."""

    task: Literal["tag"] = "tag"
    labels: tuple[str, ...]
    decoder: TagDecoder = "crf"
    character_vocab_size: int = 0  # 0: words have no letters
    character_embedding_size: int = 32
    character_hidden_size: int = 64  # of each of the two directions in which a word's letters are read

    _ranges: ClassVar[dict[str, tuple[int, int]]] = {**StackSpec._ranges, "character_vocab_size": (0, _LARGEST_SIZE)}

    @property
    def vocab_sizes(self) -> tuple[int, int, int]:
        """Return how many tokens it reads, a decoder of its own writes, and words are spelled in; 0 for none."""
        return self.vocab_size, 0, self.character_vocab_size

    @property
    def characters(self) -> StackSpec:
        """Return the layer that reads a word's letters, in both directions."""
        return self.one_layer(hidden_size=self.character_hidden_size, proj_size=0)

    @property
    def input_size(self) -> int:
        """Width of a word's vector, with what its letters say."""
        return self.embedding_size + (2 * self.characters.output_size if self.character_vocab_size else 0)


_SPECS: dict[str, type[ModelSpec]] = {
    "language-model": LanguageModelSpec,
    "translate": TranslatorSpec,
    "describe": DescriberSpec,
    "classify": ClassifierSpec,
    "embed": SentenceEncoderSpec,
    "tag": TaggerSpec,
}


def _wrong_labels(name: str, value: object) -> str:
    if type(value) is not tuple or not 1 <= len(value) <= _MOST_LABELS:
        return f"{name} must be 1 to {_MOST_LABELS} names, got {value!r:.80}"
    if not all(type(label) is str and label for label in value) or len(set(value)) != len(value):
        return f"{name} must be names that differ from one another, got {value!r:.80}"
    return ""

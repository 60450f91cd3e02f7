"""The directory an export leaves and every runtime reads: manifest.json, tokenizer.json, golden.json and the graphs.

Its format is a contract (docs/bundle-format.md). Reading one executes nothing, follows no path out of the directory,
and checks every size and hash before a byte is parsed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

from rnn_edge.errors import BundleError, RnnEdgeError
from rnn_edge.files import replace_directory
from rnn_edge.spec import ModelSpec
from rnn_edge.text import Tokenizer, check_sizes

Precision: TypeAlias = Literal["fp32", "fp16", "int8", "int4"]
Strategy: TypeAlias = Literal["greedy", "sample", "beam"]
EarlyStopping: TypeAlias = bool | Literal["never"]

__all__ = [
    "CHARACTER_TOKENIZER",
    "DECODE_GRAPH",
    "FORMAT",
    "GOLDEN",
    "GRAPH",
    "MANIFEST",
    "REQUIRED_OPERATORS",
    "TARGET_TOKENIZER",
    "TOKENIZER",
    "Bundle",
    "Compiled",
    "EarlyStopping",
    "Foretold",
    "Graph",
    "Manifest",
    "Port",
    "Preview",
    "Search",
    "Strategy",
    "check_destination",
]

FORMAT = 1
MANIFEST, TOKENIZER, GOLDEN, GRAPH = "manifest.json", "tokenizer.json", "golden.json", "model.onnx"
DECODE_GRAPH = "decode.onnx"
REQUIRED_OPERATORS = "required_operators_and_types.config"
TARGET_TOKENIZER, CHARACTER_TOKENIZER = "target_tokenizer.json", "character_tokenizer.json"

_MOST_MANIFEST_BYTES = 16 * 2**20
_MOST_FILE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Port:
    """An input or output of a graph; a name in a shape stands for a size chosen at each call."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {self.shape}".replace("'", "")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is fixed in a graph that searches: how, how wide, and which tokens mean something to it."""

    strategy: Strategy
    num_beams: int = 1
    num_return_sequences: int = 1
    narrowing: bool = False  # a beam loses a place for each hypothesis that ends
    early_stopping: EarlyStopping = False  # of a beam that does not: True stops, False guesses
    start_id: int | None = None  # what is read first; none of a language model, which reads a prompt
    end_id: int | None = None  # ends a sequence; some models have none
    unknown_id: int | None = None  # is never chosen


@dataclass(frozen=True, kw_only=True)
class Preview:
    """How an output layer that scores its tokens in two stages guesses which are the best."""

    precision: Literal["int8", "fp32"]
    rank: int | None  # of the guess; none means that of the layer
    candidates: int | None  # that are scored exactly; none means all, which is never so in a bundle


@dataclass(frozen=True)
class Compiled:
    """What a provider compiled of a graph, as another ONNX file, which only that provider opens."""

    file: str
    provider: str  # by its short name
    architecture: str  # of its devices, in its maker's words


@dataclass(frozen=True)
class Foretold:
    """How many nodes of each operator the target is to run, and how many are to run elsewhere: on the CPU."""

    here: Mapping[str, int]
    elsewhere: Mapping[str, int]


@dataclass(frozen=True)
class Graph:
    """One ONNX file and what it takes and gives."""

    file: str
    form: str
    opset: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    search: Search | None = None  # of a graph that searches
    compiled: Compiled | None = None  # where that was asked for
    placement: Foretold | None = None  # of a graph for another target than the CPU


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle says of itself."""

    spec: ModelSpec
    precision: Precision
    target: str
    graphs: Mapping[str, Graph]  # by role: "step", "encoder", "model", "decode"
    parity: Mapping[str, Any]  # what was compared with PyTorch at export, and the worst errors
    quality: Mapping[str, Any] = field(default_factory=dict)  # what rounding cost, where something was rounded
    tensors: tuple[Mapping[str, Any], ...] = ()  # what became of each: name, precision, bytes, error, reason
    keep_float: tuple[str, ...] = ()  # matrices that were to stay float
    preview: Preview | None = None  # of an output layer in two stages
    history: Mapping[str, Any] = field(default_factory=dict)  # how the model was trained
    versions: Mapping[str, str] = field(default_factory=dict)  # of what wrote it

    @property
    def reader(self) -> str | None:
        """Return the role of the graph that reads whole texts or vectors, if there is one."""
        return next((role for role in self.graphs if role in ("encoder", "model")), None)

    def to_dict(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        """Return manifest.json as plain values, with the size and hash of each file."""
        return {
            "format": FORMAT,
            "spec": self.spec.to_dict(),
            "precision": self.precision,
            "target": self.target,
            "graphs": {
                role: {
                    "file": graph.file,
                    "form": graph.form,
                    "opset": graph.opset,
                    "inputs": [_port_to_dict(port) for port in graph.inputs],
                    "outputs": [_port_to_dict(port) for port in graph.outputs],
                    **({"search": asdict(graph.search)} if graph.search else {}),
                    **({"compiled": asdict(graph.compiled)} if graph.compiled else {}),
                    **({"placement": asdict(graph.placement)} if graph.placement else {}),
                }
                for role, graph in self.graphs.items()
            },
            "files": {
                name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in sorted(files.items())
            },
            "parity": dict(self.parity),
            "quality": dict(self.quality),
            "tensors": [dict(tensor) for tensor in self.tensors],
            "keep_float": list(self.keep_float),
            **({"preview": asdict(self.preview)} if self.preview else {}),
            "history": dict(self.history),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """Read what `to_dict` gave."""
        graphs = {
            role: Graph(
                file=graph["file"],
                form=graph["form"],
                opset=graph["opset"],
                inputs=tuple(_port_from_dict(port) for port in graph["inputs"]),
                outputs=tuple(_port_from_dict(port) for port in graph["outputs"]),
                search=Search(**graph["search"]) if "search" in graph else None,
                compiled=Compiled(**graph["compiled"]) if "compiled" in graph else None,
                placement=Foretold(**graph["placement"]) if "placement" in graph else None,
            )
            for role, graph in values["graphs"].items()
        }
        return cls(
            spec=ModelSpec.from_dict(values["spec"]),
            precision=values["precision"],
            target=values["target"],
            graphs=graphs,
            parity=values["parity"],
            quality=values["quality"],
            tensors=tuple(values["tensors"]),
            keep_float=tuple(values["keep_float"]),
            preview=Preview(**values["preview"]) if "preview" in values else None,
            history=values["history"],
            versions=values["versions"],
        )


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read whole: its files fit its manifest, byte for byte."""

    path: Path
    manifest: Manifest
    tokenizer: Tokenizer  # of what it reads; of what it writes, where it reads vectors
    files: Mapping[str, bytes]
    fingerprint: str  # a hash that differs for every network and vocabulary
    target_tokenizer: Tokenizer | None = None  # of what a translator writes
    character_tokenizer: Tokenizer | None = None  # of the letters of a tagger's words

    def content(self, graph: Graph, provider: str) -> bytes:
        """Return a graph's file: what was compiled for a provider, by its short name, or else the graph itself."""
        compiled = graph.compiled
        return self.files[compiled.file if compiled and compiled.provider == provider else graph.file]

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """Read and check the bundle at `path`."""
        values = _read_manifest(path)
        try:
            files = {name: _read_file(path, name, entry) for name, entry in values["files"].items()}
            manifest = Manifest.from_dict(values)
            graphs = manifest.graphs.values()
            compiled = [graph.compiled.file for graph in graphs if graph.compiled]
            for name in (TOKENIZER, GOLDEN, *(graph.file for graph in graphs), *compiled):
                _require(name in files, f"its manifest does not list {name}")
            tokenizer = Tokenizer.from_json(files[TOKENIZER].decode())
            target, characters = (
                Tokenizer.from_json(files[name].decode()) if name in files else None
                for name in (TARGET_TOKENIZER, CHARACTER_TOKENIZER)
            )
            check_sizes(manifest.spec.vocab_sizes, tokenizer, target, characters)
            named = sorted({TOKENIZER, *(graph.file for graph in graphs)})
            hashes = b"".join(bytes.fromhex(values["files"][name]["sha256"]) for name in named)
        except RnnEdgeError as error:
            raise BundleError(f"bundle {path} cannot be used: {error}") from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BundleError(
                f"bundle {path} cannot be used: its {MANIFEST} is not complete ({error!r}): export it again"
            ) from error
        fingerprint = hashlib.sha256(hashes).hexdigest()
        return cls(path, manifest, tokenizer, files, fingerprint, target, characters)

    @staticmethod
    def write(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
        """Write a bundle, whole or not at all; only another bundle may be overwritten."""
        check_destination(path)
        try:
            with replace_directory(path) as part:
                for name, content in files.items():
                    (part / name).write_bytes(content)
                text = json.dumps(manifest.to_dict(files), indent=1, ensure_ascii=False)
                (part / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")
        except OSError as error:
            raise BundleError(f"cannot write {path}: {error.strerror or error}; nothing there was changed") from error
        return path


def check_destination(path: Path) -> None:
    """Refuse a place where writing a bundle would destroy something else, or cannot work."""
    if not path.parent.is_dir():
        raise BundleError(f"cannot write {path}: there is no directory {path.parent}; create it first")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise BundleError(f"cannot write {path}: a file is there; name another directory with -o")
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise BundleError(
            f"cannot write {path}: that directory holds something other than a bundle; name another with -o"
        )


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing there"
        raise BundleError(f"{path} is not a bundle: wanted the directory that rnn-edge export writes, found {found}")
    try:
        with (path / MANIFEST).open("rb") as file:
            content = file.read(_MOST_MANIFEST_BYTES + 1)
        _require(len(content) <= _MOST_MANIFEST_BYTES, f"its {MANIFEST} is larger than 16 MiB")
        values = json.loads(content)
    except OSError as error:
        raise BundleError(
            f"{path} is not a bundle: cannot read {MANIFEST} ({error.strerror}); rnn-edge export writes one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path / MANIFEST} is not JSON ({error}): export the bundle again") from error
    found_format = values.get("format") if isinstance(values, dict) else None
    if type(found_format) is not int or found_format < 1:
        raise BundleError(f"{path / MANIFEST} is not the manifest of an rnn-edge bundle: it has no format number")
    if found_format > FORMAT:
        raise BundleError(
            f"bundle {path} has format {found_format}; this rnn-edge reads up to {FORMAT}: upgrade rnn-edge"
        )
    return dict(values)


def _read_file(directory: Path, name: str, entry: Mapping[str, Any]) -> bytes:
    """Return a file's content when it is a plain file of the directory with the listed size and hash."""
    plain = PurePosixPath(name).name == name and "\\" not in name and name not in ("", ".", "..")
    _require(plain, f"its manifest names {name!r}, which is not a plain file name of the bundle")
    path = directory / name
    _require(
        path.is_file() and not path.is_symlink(),
        f"{name} is missing: copy or export the bundle again",
    )
    size = path.stat().st_size
    _require(
        size == entry["bytes"] and size <= _MOST_FILE_BYTES,
        f"{name} has {size} bytes and should have {entry['bytes']}: copy or export the bundle again",
    )
    content = path.read_bytes()
    _require(
        hashlib.sha256(content).hexdigest() == entry["sha256"],
        f"{name} was changed after the export (its sha256 differs): copy or export the bundle again",
    )
    return content


def _port_to_dict(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "shape": list(port.shape)}


def _port_from_dict(values: Mapping[str, Any]) -> Port:
    return Port(values["name"], values["dtype"], tuple(values["shape"]))


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise BundleError(problem)

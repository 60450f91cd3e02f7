"""From a checkpoint to a bundle: build the graph, compare it with PyTorch, judge what rounding cost, write it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from rnn_edge.bundle import GOLDEN, GRAPH, TOKENIZER, Bundle, Graph, Manifest, Precision, check_destination
from rnn_edge.errors import ExportError
from rnn_edge.exporters.fused import fused_graph
from rnn_edge.exporters.golden import golden_json
from rnn_edge.exporters.graphs import OLDEST_OPSET, describe_graph, graph_name, step_graph
from rnn_edge.exporters.mobile import CHECKED, require_one_partition
from rnn_edge.exporters.parity import Parity, Reference, RowByRow, TorchSteps, measure_parity
from rnn_edge.exporters.quality import Quality, compare
from rnn_edge.exporters.single_step import single_step_graph
from rnn_edge.exporters.weights import FP32, VECTOR, Plan, Stored
from rnn_edge.modules import Checkpoint, LanguageModel, load_checkpoint
from rnn_edge.runtimes.arrays import Ids
from rnn_edge.runtimes.providers import PROVIDERS, find
from rnn_edge.runtimes.sessions import Place
from rnn_edge.runtimes.step_graph import StepGraph

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ExportOptions", "Exported", "export", "verify"]

SMALLEST_FIRST: tuple[Precision, ...] = ("int4", "int8", "fp16", "fp32")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What a graph is to be like, and what it may cost."""

    precision: Precision | Literal["auto"] = "fp32"  # auto: the smallest that passes
    target: str = "cpu"  # the provider it is to run on, by its short name
    opset: int = OLDEST_OPSET
    atol: float = 1e-5  # how far a float may be from PyTorch's
    keep_float: tuple[str, ...] = ()  # matrices that are not rounded, by the names in the report
    eval_text: str | None = None  # what rounding is judged by; none means the checkpoint's own held-out text
    max_loss: float = 0.01  # share by which rounding may raise the perplexity
    max_bytes: int | None = None  # of all files together

    def __post_init__(self) -> None:
        problems = []
        if self.precision not in (*get_args(Precision), "auto"):
            problems.append(f"precision must be fp32, fp16, int8, int4 or auto, got {self.precision!r}")
        if self.target not in PROVIDERS:
            problems.append(f"target must be one of {', '.join(PROVIDERS)}, got {self.target!r}")
        elif self.precision not in (*PROVIDERS[self.target].precisions, "auto"):
            suiting = ", ".join(PROVIDERS[self.target].precisions)
            problems.append(f"target {self.target} takes {suiting}, not {self.precision}")
        if not 0 < self.atol < float("inf"):
            problems.append(f"atol must be a positive number, got {self.atol}")
        if not 0 <= self.max_loss < float("inf"):
            problems.append(f"max_loss must be a number from 0, got {self.max_loss}")
        if self.max_bytes is not None and self.max_bytes < 1:
            problems.append(f"max_bytes must be positive, got {self.max_bytes}")
        if problems:
            raise ExportError("; ".join(problems))


DEFAULTS = ExportOptions()


@dataclass(frozen=True)
class Exported:
    """What an export left, how it compares with PyTorch, and what rounding cost."""

    path: Path
    bytes: int
    parity: Parity
    quality: Quality | None  # of a rounded graph
    tensors: tuple[Stored, ...]


@dataclass(frozen=True)
class _Candidate:
    """A graph that could be written."""

    plan: Plan
    content: bytes
    graph: Graph
    running: StepGraph
    stored: tuple[Stored, ...]


@dataclass(frozen=True)
class _Bar:
    """What a rounded graph is measured by: the exact one, and held-out text, int64 (tokens,)."""

    exact: StepGraph
    tokens: Ids

    def measure(self, candidate: _Candidate) -> Quality:
        return compare(self.exact, candidate.running, self.tokens)


def export(checkpoint: str | Path | Checkpoint, output: str | Path, options: ExportOptions = DEFAULTS) -> Exported:
    """Turn a checkpoint into a bundle at `output`.

    Raises ExportError and leaves nothing behind when the graph disagrees with PyTorch by more than `atol`, when
    rounding costs more than `max_loss`, or when the bundle is larger than `max_bytes`.
    """
    output = Path(output)
    check_destination(output)
    source = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(Path(checkpoint))
    if options.precision == "auto":
        candidate, quality = _smallest(source, options)
    else:
        plan = Plan(options.precision, options.keep_float)
        candidate = _build(source.model, plan, options.opset, options.target)
        quality = _judge(source, candidate, options)
    parity = _prove(source.model, candidate, candidate.running, options.atol)
    parity.require()
    files = {
        GRAPH: candidate.content,
        TOKENIZER: source.tokenizer.to_json().encode(),
        GOLDEN: golden_json(candidate.running, source.model.spec, candidate.plan.precision).encode(),
    }
    size = sum(map(len, files.values()))
    if options.max_bytes is not None and size > options.max_bytes:
        raise ExportError(
            f"the bundle has {size:,} bytes in {candidate.plan.precision} and may have {options.max_bytes:,}: "
            "choose a smaller precision, or a smaller network"
        )
    Bundle.write(output, _manifest(source, candidate, parity, quality, options.target), files)
    return Exported(output, size, parity, quality, candidate.stored)


def verify(
    checkpoint: str | Path, bundle: str | Path, *, atol: float = DEFAULTS.atol, **place: Unpack[Place]
) -> Parity:
    """Compare a bundle, running where it is told to, with the checkpoint it should have come from.

    See `Parity.require`; `place` is what `open_session` takes.
    """
    options = ExportOptions(atol=atol)
    source, found = load_checkpoint(Path(checkpoint)), Bundle.read(Path(bundle))
    ours, theirs = source.model.spec.to_dict(), found.manifest.spec.to_dict()
    differences = [f"{name} {theirs[name]} instead of {ours[name]}" for name in ours if ours[name] != theirs[name]]
    if differences:
        raise ExportError(f"{bundle} was not exported from {checkpoint}: it has {', '.join(differences)}")
    if source.tokenizer.to_json() != found.tokenizer.to_json():
        raise ExportError(f"{bundle} was not exported from {checkpoint}: their vocabularies differ")
    plan = Plan(found.manifest.precision, found.manifest.keep_float)
    built = _build(source.model, plan, found.manifest.graphs["step"].opset, found.manifest.target)
    return _prove(source.model, built, StepGraph.from_bundle(found, **place), options.atol)


def _build(model: LanguageModel, plan: Plan, opset: int, target: str = "cpu") -> _Candidate:
    """Build the graph of a plan, in the form that suits a target, and open it on the CPU."""
    provider = find(target)
    if provider.form == "scan":
        built = step_graph(model, plan, opset=opset)
    elif provider.form == "fused":
        built = fused_graph(model, plan, opset=opset)
    else:
        built = single_step_graph(model, plan, opset=opset, fixed=provider.fixed)
    if target in CHECKED:
        require_one_partition(built.proto, target)
    unknown = sorted(set(plan.keep_float) - {stored.name for stored in built.stored})
    if unknown:
        names = ", ".join(stored.name for stored in built.stored if stored.reason != VECTOR)
        raise ExportError(f"keep_float names {', '.join(unknown)}, and this network has {names}")
    content = built.proto.SerializeToString(deterministic=True)
    graph = replace(describe_graph(built.proto, GRAPH), form=provider.form)
    return _Candidate(plan, content, graph, StepGraph(content, graph.inputs[1:]), built.stored)


def _prove(model: LanguageModel, built: _Candidate, running: StepGraph, atol: float) -> Parity:
    """Compare a graph with PyTorch; one that computes in integers, bit for bit with itself, row by row."""
    precision = built.plan.precision
    reference: Reference
    if precision in ("int8", "int4"):
        reference, atol, name = RowByRow(built.running), 0.0, f"its {precision} form, row by row and token by token"
    elif precision == "fp16":
        reference, name = TorchSteps(_halved(model, built.stored)), "PyTorch with weights in half precision"
    else:
        reference, name = TorchSteps(model), "PyTorch"
    return measure_parity(reference, running, vocab_size=model.spec.vocab_size, atol=atol, compared_with=name)


def _halved(model: LanguageModel, stored: Sequence[Stored]) -> LanguageModel:
    """Return a copy whose matrices are rounded as the graph's are."""
    copy = deepcopy(model)
    kept = {each.name for each in stored if each.precision == "fp32"}
    for name, parameter in copy.named_parameters():
        if parameter.dim() > 1 and graph_name(name) not in kept:
            parameter.data = parameter.data.half().float()
    return copy


def _judge(source: Checkpoint, candidate: _Candidate, options: ExportOptions) -> Quality | None:
    """Let a rounded graph predict held-out text, and refuse one that got worse than allowed."""
    if candidate.plan.precision == "fp32":
        return None
    bar = _bar(source, options)
    quality = bar.measure(candidate)
    if not quality.loss <= options.max_loss:  # so that no number fails too
        raise ExportError(
            f"{candidate.plan.precision} raises the perplexity from {quality.perplexity_before:.2f} to "
            f"{quality.perplexity_after:.2f}, by {quality.loss:.1%}, and may raise it by {options.max_loss:.1%}; "
            f"{_costliest(source.model, candidate, bar, quality, opset=options.opset)}"
        )
    return quality


def _bar(source: Checkpoint, options: ExportOptions) -> _Bar:
    return _Bar(_build(source.model, FP32, options.opset).running, _held_out(source, options))


def _costliest(model: LanguageModel, candidate: _Candidate, bar: _Bar, quality: Quality, *, opset: int) -> str:
    """Tell which matrix costs most: the one that helps most when it alone stays float."""
    best_name, best = "", quality
    for stored in candidate.stored:
        if stored.precision != "fp32":
            plan = replace(candidate.plan, keep_float=(*candidate.plan.keep_float, stored.name))
            found = bar.measure(_build(model, plan, opset))
            if found.kl_divergence < best.kl_divergence:
                best_name, best = stored.name, found
    if not best_name:
        return "no single matrix is to blame: choose a higher precision"
    return f"{best_name} costs most: keeping it float leaves {best.loss:.1%} (--keep-float {best_name})"


def _smallest(source: Checkpoint, options: ExportOptions) -> tuple[_Candidate, Quality | None]:
    """Return the smallest graph that passes the gate."""
    bar = _bar(source, options)
    suiting = PROVIDERS[options.target].precisions
    for precision in (each for each in SMALLEST_FIRST if each in suiting):
        candidate = _build(source.model, Plan(precision, options.keep_float), options.opset, options.target)
        quality = None if precision == "fp32" else bar.measure(candidate)
        if quality is None or quality.loss <= options.max_loss:
            return candidate, quality
    raise AssertionError("fp32 passes always")


def _held_out(source: Checkpoint, options: ExportOptions) -> Ids:
    """Return the tokens that rounding is judged by, int64 (tokens,)."""
    if options.eval_text is not None:
        end = source.tokenizer.end_id
        return np.array([*([] if end is None else [end]), *source.tokenizer.encode(options.eval_text)])
    if source.held_out is None:
        raise ExportError(
            "rounding has to be judged by text that the model did not learn from, and this checkpoint remembers none: "
            "give some with --eval"
        )
    tokens: Ids = source.held_out.numpy()
    return tokens


def _manifest(
    source: Checkpoint, candidate: _Candidate, parity: Parity, quality: Quality | None, target: str
) -> Manifest:
    return Manifest(
        spec=source.model.spec,
        precision=candidate.plan.precision,
        target=target,
        keep_float=tuple(candidate.plan.keep_float),
        graphs={"step": candidate.graph},
        parity=parity.to_dict(),
        quality={} if quality is None else quality.to_dict(),
        tensors=tuple(asdict(stored) for stored in candidate.stored),
        history=source.history,
        versions={name: version(name) for name in ("rnn-edge", "torch", "onnx", "onnxscript", "onnxruntime")},
    )

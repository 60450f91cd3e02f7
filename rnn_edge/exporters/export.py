"""From a checkpoint to a bundle: build the graph, compare it with PyTorch, judge what rounding cost, write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnn_edge.bundle import (
    CHARACTER_TOKENIZER,
    GOLDEN,
    TARGET_TOKENIZER,
    TOKENIZER,
    Bundle,
    Compiled,
    Graph,
    Manifest,
    Precision,
    Preview,
    Search,
    check_destination,
)
from rnn_edge.errors import ExportError
from rnn_edge.exporters.contexts import QNN, compile_context, require_compiler
from rnn_edge.exporters.golden import golden_json
from rnn_edge.exporters.graphs import Built, build
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.options import ExportOptions
from rnn_edge.exporters.ort_format import convert_to_ort, ort_name
from rnn_edge.exporters.parity import (
    Parity,
    References,
    measure,
    measure_single_steps,
    measure_two_stages,
    own_rounding,
)
from rnn_edge.exporters.quality import Quality, Recall, judge, recall
from rnn_edge.exporters.torch_side import TorchSteps
from rnn_edge.exporters.weights import ALWAYS_FLOAT, FP32, Plan, Stored
from rnn_edge.modules import (
    Checkpoint,
    Classifier,
    Describer,
    LanguageModel,
    Network,
    Translator,
    load_checkpoint,
    sentence_encoder_of,
)
from rnn_edge.runtimes.arrays import Ids
from rnn_edge.runtimes.names import CHARACTERS, LABELS, TOKENS
from rnn_edge.runtimes.providers import CPU, Provider, find
from rnn_edge.runtimes.sessions import Place
from rnn_edge.text import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Exported", "export", "verify"]

SMALLEST_FIRST: tuple[Precision, ...] = ("int4", "int8", "fp16", "fp32")
DEFAULTS = ExportOptions()

_FEWEST_CALIBRATING, _MOST_CALIBRATING = 64, 1024  # tokens
_ROUNDED_ACTIVATIONS = 0.3  # how far one step of a calibrated graph may be from PyTorch, unless somebody says how far

_MOST_ROUNDING = 1e-3  # a network that amplifies more than this cannot be told from a wrong one

_EXAMPLES = {
    "language-model": (TOKENS,),
    "translate": ("source", "target"),
    "classify": (TOKENS, LABELS),
    "tag": (TOKENS, LABELS),
}
"""What a checkpoint must hold for its task to be judged; where nothing is listed, nothing says what is right."""


@dataclass(frozen=True)
class Exported:
    """What an export left, how it compares with PyTorch, and what rounding cost."""

    path: Path
    bytes: int
    parity: Parity
    quality: Quality | None  # of rounded graphs, where there are right answers
    tensors: tuple[Stored, ...]
    recall: Recall | None = None  # of scores in two stages


@dataclass(frozen=True)
class _Candidate:
    """Graphs that could be written."""

    network: Network  # what they compute, in PyTorch: of fp16 and of calibrated graphs, with the rounded weights
    plan: Plan
    built: Built

    @cached_property
    def opened(self) -> Opened:
        return Opened.from_built(self.built)


@dataclass(frozen=True)
class _Bar:
    """What rounded graphs are measured by: the exact ones, and held-out examples."""

    exact: Opened
    held_out: Mapping[str, NDArray[Any]]

    def measure(self, candidate: _Candidate) -> Quality:
        return judge(self.exact, candidate.opened, self.held_out)


def export(checkpoint: str | Path | Checkpoint, output: str | Path, options: ExportOptions = DEFAULTS) -> Exported:
    """Turn a checkpoint into a bundle at `output`.

    Raises ExportError and leaves nothing behind when a graph disagrees with PyTorch by more than `atol`, when
    rounding costs more than `max_loss`, or when the bundle is larger than `max_bytes`.
    """
    output = Path(output)
    check_destination(output)
    if options.context:
        require_compiler()
    source = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(Path(checkpoint))
    if options.embed:
        source = _embedder(source)
    if options.preview is not None and not _has_right_answers(source):
        raise ExportError(
            f"a preview has to be judged by examples, and a network that is to {source.model.spec.task} keeps none: "
            "export it without one"
        )
    build_as = _builder(source, options)
    if options.precision == "auto":
        candidate, quality = _smallest(source, options, build_as)
    else:
        candidate = build_as(_plan(options.precision, options.keep_float, find(options.target), options.stages))
        quality = _judge(source, candidate, options, build_as)
    recalled = _judge_preview(source, candidate, options, build_as)
    graphs, written = _written(candidate, options)
    opened = Opened.from_files(graphs, written)
    parity = _prove(candidate, opened, options.atol)
    parity.require()
    files = {
        **written,
        **{name: tokenizer.to_json().encode() for name, tokenizer in _tokenizers(source).items()},
        GOLDEN: golden_json(opened, source.model.spec, candidate.plan.precision).encode(),
    }
    size = sum(map(len, files.values()))
    if options.max_bytes is not None and size > options.max_bytes:
        raise ExportError(
            f"the bundle has {size:,} bytes in {candidate.plan.precision} and may have {options.max_bytes:,}: "
            "choose a smaller precision, or a smaller network"
        )
    Bundle.write(output, _manifest(source, candidate, graphs, parity, quality, recalled), files)
    return Exported(output, size, parity, quality, candidate.built.stored, recalled)


def _written(candidate: _Candidate, options: ExportOptions) -> tuple[dict[str, Graph], dict[str, bytes]]:
    """Return what the manifest says of a candidate's graphs, by role, and their files."""
    graphs, protos = candidate.built.describe(), candidate.built.protos
    files = {graph.file: protos[role].SerializeToString(deterministic=True) for role, graph in graphs.items()}
    if options.context is not None:
        step = graphs["step"]
        compiled = Compiled(f"model.{options.context}.onnx", QNN, options.context)
        files[compiled.file] = compile_context(files[step.file], step, options.context)
        graphs["step"] = replace(step, compiled=compiled)
    if options.format == "ort":
        files = convert_to_ort(files, candidate.built.target)
        graphs = {role: replace(graph, file=ort_name(graph.file)) for role, graph in graphs.items()}
    return graphs, files


def _embedder(source: Checkpoint) -> Checkpoint:
    """Return the part of a classifier that gives a text's vector."""
    if not isinstance(source.model, Classifier):
        raise ExportError(
            f"only a classifier has texts' vectors, and this checkpoint is for {source.model.spec.task!r}"
        )
    return Checkpoint(sentence_encoder_of(source.model), source.tokenizer, source.history)


def verify(
    checkpoint: str | Path, bundle: str | Path, *, atol: float = DEFAULTS.atol, **place: Unpack[Place]
) -> Parity:
    """Compare a bundle, running where it is told to, with the checkpoint it should have come from.

    See `Parity.require`; `place` is what `open_session` takes.
    """
    options = ExportOptions(atol=atol)
    source, found = load_checkpoint(Path(checkpoint)), Bundle.read(Path(bundle))
    if found.manifest.spec.task == "embed" and isinstance(source.model, Classifier):
        source = _embedder(source)
    ours, theirs = source.model.spec.to_dict(), found.manifest.spec.to_dict()
    differences = [
        f"{name} {theirs.get(name)} instead of {ours[name]}" for name in ours if ours[name] != theirs.get(name)
    ]
    if differences:
        raise ExportError(f"{bundle} was not exported from {checkpoint}: it has {', '.join(differences)}")
    if any(found.files.get(name) != each.to_json().encode() for name, each in _tokenizers(source).items()):
        raise ExportError(f"{bundle} was not exported from {checkpoint}: their vocabularies differ")
    target = find(found.manifest.target)
    plan = _plan(found.manifest.precision, found.manifest.keep_float, target, found.manifest.preview)
    opset = next(iter(found.manifest.graphs.values())).opset
    built = _build(source.model, plan, opset, target, _search(source, _searches(found)))
    return _prove(built, Opened.from_bundle(found, **place), options.atol)


def _search(source: Checkpoint, options: ExportOptions) -> Search | None:
    """Return what is fixed in the graph that searches by itself, if there is to be one."""
    if options.decode is None:
        return None
    tokenizer = source.target_tokenizer or source.tokenizer
    start_id = None if isinstance(source.model, LanguageModel) else tokenizer.start_id
    if isinstance(source.model, Translator | Describer) and start_id is None:
        raise ExportError("this network cannot begin to write: its vocabulary has no </s>")
    return Search(
        strategy=options.decode,
        num_beams=options.search_width,
        num_return_sequences=options.num_return_sequences,
        narrowing=options.narrowing,
        early_stopping=options.early_stopping,
        start_id=start_id,
        end_id=tokenizer.end_id,
        unknown_id=tokenizer.unknown_id,
    )


def _searches(found: Bundle) -> ExportOptions:
    """Return the options with which a bundle's graph that searches by itself was exported."""
    graph = found.manifest.graphs.get("decode")
    if graph is None or graph.search is None:
        return DEFAULTS
    search = graph.search
    return ExportOptions(
        decode=search.strategy,
        num_beams=search.num_beams if search.strategy == "beam" else None,
        num_return_sequences=search.num_return_sequences,
        narrowing=search.narrowing,
        early_stopping=search.early_stopping,
    )


def _plan(precision: Precision, keep_float: tuple[str, ...], target: Provider, preview: Preview | None = None) -> Plan:
    is_calibrated = precision == "int8" and target.activations is not None
    return Plan(precision, keep_float, is_calibrated, preview)


def _builder(source: Checkpoint, options: ExportOptions) -> Callable[[Plan], _Candidate]:
    """Return what builds the graphs of a plan, with all other choices made."""
    target, search = find(options.target), _search(source, options)

    def build_as(plan: Plan) -> _Candidate:
        calibration = _calibration(source, options) if plan.is_calibrated else None
        return _build(source.model, plan, options.opset, target, search, calibration)

    return build_as


def _build(
    model: Network,
    plan: Plan,
    opset: int,
    target: Provider = CPU,
    search: Search | None = None,
    calibration: Ids | None = None,
) -> _Candidate:
    """Build the graphs of a plan."""
    settle = plan.precision == "fp16" or plan.is_calibrated
    network = deepcopy(model) if settle else model
    built = build(network, plan, opset=opset, settle=settle, target=target, search=search, calibration=calibration)
    unknown = sorted(set(plan.keep_float) - {stored.name for stored in built.stored})
    if unknown:
        names = ", ".join(stored.name for stored in built.stored if stored.reason not in ALWAYS_FLOAT)
        raise ExportError(f"keep_float names {', '.join(unknown)}, and this network has {names}")
    return _Candidate(network, plan, built)


def _prove(candidate: _Candidate, running: Opened, atol: float) -> Parity:
    """Compare graphs with PyTorch; those that compute in integers, bit for bit with themselves, row by row.

    Unless somebody said how far a graph may be from PyTorch, that of a network which amplifies rounding may be as far
    as two float32 computations are.
    """
    precision = candidate.plan.precision
    if candidate.plan.is_calibrated:
        return _prove_calibrated(candidate.network, running, _ROUNDED_ACTIVATIONS if atol == DEFAULTS.atol else atol)
    if precision in ("int8", "int4"):
        name = f"its {precision} form, row by row and token by token"
        references = References.of_itself(candidate.opened, name)
    else:
        name = "PyTorch with weights in half precision" if precision == "fp16" else "PyTorch"
        references = References.in_torch(candidate.network, name, atol)
    spec, search = candidate.network.spec, candidate.built.search
    is_float_preview = candidate.plan.preview is not None and candidate.plan.is_float
    compare = measure_two_stages if is_float_preview else measure
    parity = compare(references, running, spec, search)
    if parity.passed or precision in ("int8", "int4") or atol != DEFAULTS.atol:
        return parity
    rounding = own_rounding(candidate.network)
    if not atol < 2 * rounding < _MOST_ROUNDING:
        return parity
    name = f"{name}, itself {rounding:.1e} from PyTorch in float64"
    return compare(References.in_torch(candidate.network, name, 2 * rounding), running, spec, search)


def _prove_calibrated(network: Network, running: Opened, atol: float) -> Parity:
    """Compare a graph that rounds activations with PyTorch that does not, both with the rounded weights."""
    assert isinstance(network, LanguageModel)
    assert running.step is not None
    name = "PyTorch with the rounded weights, on texts that it writes"
    return measure_single_steps(TorchSteps(network), running.step, atol=atol, compared_with=name)


def _judge(
    source: Checkpoint, candidate: _Candidate, options: ExportOptions, build_as: Callable[[Plan], _Candidate]
) -> Quality | None:
    """Let rounded graphs predict held-out examples, and refuse those that got worse than allowed."""
    if candidate.plan.is_exact or not _has_right_answers(source):
        return None
    bar = _bar(source, options)
    quality = bar.measure(candidate)
    if not quality.loss <= options.max_loss:  # so that no number fails too
        raise ExportError(
            f"{candidate.plan.precision} raises the perplexity from {quality.perplexity_before:.2f} to "
            f"{quality.perplexity_after:.2f}, by {quality.loss:.1%}, and may raise it by {options.max_loss:.1%}; "
            f"{_costliest(candidate, bar, quality, build_as)}"
        )
    return quality


def _judge_preview(
    source: Checkpoint, candidate: _Candidate, options: ExportOptions, build_as: Callable[[Plan], _Candidate]
) -> Recall | None:
    """Compare with scores that are all computed as those of candidates are; refuse a preview that misses too much."""
    preview = candidate.plan.preview
    if preview is None:
        return None
    exact = build_as(replace(candidate.plan, preview=replace(preview, candidates=None)))
    found = recall(exact.opened, candidate.opened, _held_out(source, options))
    if not found.lost <= options.max_loss:
        raise ExportError(
            f"of the exact best token, best 3 and best 20, the preview finds {found.recall_at_1:.1%}, "
            f"{found.recall_at_3:.1%} and {found.recall_at_20:.1%}, and may miss {options.max_loss:.1%}: give it a "
            "higher rank, or more candidates"
        )
    return found


def _has_right_answers(source: Checkpoint) -> bool:
    """Whether examples say what is right: a text's vector, or a vector's description, is only better or worse."""
    return source.model.spec.task in _EXAMPLES


def _bar(source: Checkpoint, options: ExportOptions) -> _Bar:
    return _Bar(_build(source.model, FP32, options.opset).opened, _held_out(source, options))


def _costliest(candidate: _Candidate, bar: _Bar, quality: Quality, build_as: Callable[[Plan], _Candidate]) -> str:
    """Tell which matrix costs most: the one that helps most when it alone stays float."""
    if candidate.plan.preview is not None:
        without = bar.measure(build_as(replace(candidate.plan, preview=None)))
        if without.loss < quality.loss / 2:
            return f"without the preview it would be {without.loss:.1%}: give it a higher rank"
    best_name, best = "", quality
    for stored in candidate.built.stored:
        if stored.precision != "fp32":
            plan = replace(candidate.plan, keep_float=(*candidate.plan.keep_float, stored.name))
            found = bar.measure(build_as(plan))
            if found.kl_divergence < best.kl_divergence:
                best_name, best = stored.name, found
    if not best_name:
        return "no single matrix is to blame: choose a higher precision"
    return f"{best_name} costs most: keeping it float leaves {best.loss:.1%} (--keep-float {best_name})"


def _smallest(
    source: Checkpoint, options: ExportOptions, build_as: Callable[[Plan], _Candidate]
) -> tuple[_Candidate, Quality | None]:
    """Return the smallest graphs that pass the gate."""
    if not _has_right_answers(source):
        raise ExportError(
            f"a network that is to {source.model.spec.task} has no right answers that a precision could be judged by: "
            "choose one"
        )
    bar = _bar(source, options)
    target = find(options.target)
    for precision in (each for each in SMALLEST_FIRST if each in target.precisions):
        candidate = build_as(_plan(precision, options.keep_float, target))
        quality = None if precision == "fp32" else bar.measure(candidate)
        if quality is None or quality.loss <= options.max_loss:
            return candidate, quality
    raise AssertionError("fp32 passes always")


def _held_out(source: Checkpoint, options: ExportOptions) -> Mapping[str, NDArray[Any]]:
    """Return the examples that rounding is judged by; of a language model, tokens, int64 (tokens,)."""
    is_language_model = isinstance(source.model, LanguageModel)
    if options.eval_text is not None:
        if not is_language_model:
            raise ExportError(
                "only a language model is judged by a text; others are judged by the examples in their checkpoint: "
                "leave --eval out"
            )
        return {"tokens": _encoded(source.tokenizer, options.eval_text)}
    missing = sorted(set(_EXAMPLES[source.model.spec.task]) - source.held_out.keys())
    if source.character_tokenizer is not None and CHARACTERS not in source.held_out:
        missing.append(CHARACTERS)
    if missing:
        raise ExportError(
            "rounding has to be judged by examples that the model did not learn from, and this checkpoint remembers no "
            f"{' and '.join(missing)}: " + ("give some text with --eval" if is_language_model else "train it again")
        )
    return {name: tensor.numpy() for name, tensor in source.held_out.items()}


def _encoded(tokenizer: Tokenizer, text: str) -> Ids:
    """Return a text's tokens, from its beginning, int64 (time,)."""
    return np.array([*([] if tokenizer.end_id is None else [tokenizer.end_id]), *tokenizer.encode(text)])


def _calibration(source: Checkpoint, options: ExportOptions) -> Ids:
    """Return the tokens that an NPU's int8 is calibrated on, int64 (time,)."""
    if options.calibration_text is not None:
        tokens = _encoded(source.tokenizer, options.calibration_text)[:_MOST_CALIBRATING]
    elif TOKENS in source.held_out:
        tokens = source.held_out[TOKENS].numpy()[-_MOST_CALIBRATING:]  # the gate reads them from their beginning
    else:
        raise ExportError(
            f"int8 for {options.target} is calibrated on a text, and this checkpoint remembers none: "
            "give some with --calibrate"
        )
    if len(tokens) < _FEWEST_CALIBRATING:
        raise ExportError(
            f"{len(tokens)} tokens are too few to calibrate on: give at least {_FEWEST_CALIBRATING} with --calibrate"
        )
    return tokens


def _tokenizers(source: Checkpoint) -> dict[str, Tokenizer]:
    """Return a checkpoint's vocabularies by the names of their files."""
    found = {
        TOKENIZER: source.tokenizer,
        TARGET_TOKENIZER: source.target_tokenizer,
        CHARACTER_TOKENIZER: source.character_tokenizer,
    }
    return {name: tokenizer for name, tokenizer in found.items() if tokenizer is not None}


def _manifest(
    source: Checkpoint,
    candidate: _Candidate,
    graphs: Mapping[str, Graph],
    parity: Parity,
    quality: Quality | None,
    recalled: Recall | None,
) -> Manifest:
    judged = {} if quality is None else quality.to_dict()
    return Manifest(
        spec=source.model.spec,
        precision=candidate.plan.precision,
        target=candidate.built.target.name,
        keep_float=tuple(candidate.plan.keep_float),
        preview=candidate.plan.preview,
        graphs=graphs,
        parity=parity.to_dict(),
        quality=judged if recalled is None else {**judged, "recall": asdict(recalled)},
        tensors=tuple(asdict(stored) for stored in candidate.built.stored),
        history={name: value for name, value in source.history.items() if name != "curve"},  # long, and no one reads it
        versions={name: version(name) for name in ("rnn-edge", "torch", "onnx", "onnxscript", "onnxruntime")},
    )

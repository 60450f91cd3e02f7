"""Every network as ONNX graphs, each in its role; the contract of names and shapes is docs/bundle-format.md.

The graphs are in `scan` form: whatever does not depend on the step before is computed for the whole stretch at once.
For other targets than the CPU a language model has two more forms; the graph that searches is a `loop` around a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx

from rnn_edge.bundle import DECODE_GRAPH, GRAPH, Foretold, Graph, Port, Search
from rnn_edge.errors import ExportError
from rnn_edge.exporters.calibration import calibrate
from rnn_edge.exporters.decoders import draw_attentive_step, draw_step
from rnn_edge.exporters.draft import Draft
from rnn_edge.exporters.foretelling import foretell
from rnn_edge.exporters.fused import draw_fused_step
from rnn_edge.exporters.loops import draw_decode
from rnn_edge.exporters.readers import (
    draw_classifier,
    draw_describer_encoder,
    draw_sentence_encoder,
    draw_translator_encoder,
)
from rnn_edge.exporters.single_step import draw_single_step
from rnn_edge.exporters.taggers import draw_tagger
from rnn_edge.exporters.weights import FP32, Plan, Stored
from rnn_edge.modules import (
    AttentiveDecoder,
    Classifier,
    Describer,
    LanguageModel,
    Network,
    SentenceEncoder,
    Translator,
)
from rnn_edge.runtimes.arrays import Ids
from rnn_edge.runtimes.providers import CPU, Form, Provider

__all__ = ["NEWEST_OPSET", "OLDEST_OPSET", "Built", "build", "describe_graph"]

OLDEST_OPSET, NEWEST_OPSET = 17, 26
"""What the graphs need, and the newest that onnxruntime 1.31 runs."""

_FILES = {"step": GRAPH, "model": GRAPH, "encoder": "encoder.onnx", "decode": DECODE_GRAPH}


@dataclass(frozen=True)
class Built:
    """A network's graphs by role, what became of each of its tensors in them, and where they are to run."""

    protos: Mapping[str, onnx.ModelProto]
    stored: tuple[Stored, ...]
    target: Provider = CPU
    search: Search | None = None  # of the graph `decode`, if there is one
    placement: Foretold | None = None  # of the step graph, if it is for another target than the CPU

    def describe(self) -> dict[str, Graph]:
        """Return what a manifest says of each graph."""
        graphs = {role: describe_graph(role, proto, self.target.form) for role, proto in self.protos.items()}
        if self.placement is not None:
            graphs["step"] = replace(graphs["step"], placement=self.placement)
        if "decode" in graphs:
            graphs["decode"] = replace(graphs["decode"], form="loop", search=self.search)
        return graphs


def build(
    model: Network,
    plan: Plan = FP32,
    *,
    opset: int = OLDEST_OPSET,
    settle: bool = False,
    target: Provider = CPU,
    search: Search | None = None,
    calibration: Ids | None = None,
) -> Built:
    """Return a network's graphs: `step`, `encoder` and `step`, or `model`. Tied weights are stored once.

    The same model and plan give the same bytes.

    settle  leave the rounded matrices in the model, which then computes with what the graphs compute with
    target  the provider they are to run on, in the form that suits it
    search  add the graph `decode`, which searches by itself and has all weights once more
    calibration  tokens, int64 (time,), by which a calibrated plan rounds activations; without, they remain floats
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ExportError(f"opset must be from {OLDEST_OPSET} to {NEWEST_OPSET}, got {opset}")
    if target is not CPU and not isinstance(model, LanguageModel):
        raise ExportError(
            f"target {target.name} takes language models only, and this network is to {model.spec.task}: "
            "choose the target cpu"
        )
    if plan.preview is not None and not isinstance(model, LanguageModel | Translator | Describer):
        raise ExportError(
            f"only a network that writes has a preview of its scores, and this one is to {model.spec.task}"
        )
    drafts = {role: Draft(role, plan, opset, settle=settle) for role in _roles(model)}
    if isinstance(model, LanguageModel):
        _draw_language_model(drafts["step"], model, plan, target)
    elif isinstance(model, Translator | Describer):
        _draw_both(drafts, model)
    elif isinstance(model, Classifier):
        draw_classifier(drafts["model"], model)
    elif isinstance(model, SentenceEncoder):
        draw_sentence_encoder(drafts["model"], model)
    else:
        draw_tagger(drafts["model"], model)
    stored = tuple(each for draft in drafts.values() for each in draft.weights.stored)
    if search is not None:
        if not isinstance(model, LanguageModel | Translator | Describer):
            raise ExportError(f"only a network that writes can decode, and this one is for {model.spec.task!r}")
        drafts["decode"] = Draft("decode", plan, opset, settle=settle)
        draw_decode(drafts["decode"], model, search)
    protos = {role: draft.finish() for role, draft in drafts.items()}
    if calibration is not None and target.activations is not None:
        protos["step"] = calibrate(protos["step"], stored, calibration, target.activations)
    return Built(protos, stored, target, search, None if target is CPU else foretell(protos["step"], target))


def _roles(model: Network) -> tuple[str, ...]:
    if isinstance(model, LanguageModel):
        return ("step",)
    return ("encoder", "step") if isinstance(model, Translator | Describer) else ("model",)


def _draw_language_model(draft: Draft, model: LanguageModel, plan: Plan, target: Provider) -> None:
    if target.form == "scan":
        draw_step(draft, model)
    elif target.form == "fused":
        draw_fused_step(draft, model, plan)
    else:
        draw_single_step(draft, model, plan, fixed=target.fixed)


def _draw_both(drafts: Mapping[str, Draft], model: Translator | Describer) -> None:
    """Draw an encoder and its decoder."""
    if isinstance(model, Describer):
        draw_describer_encoder(drafts["encoder"], model)
    else:
        draw_translator_encoder(drafts["encoder"], model)
    if isinstance(model.decoder, AttentiveDecoder):
        draw_attentive_step(drafts["step"], model.decoder, prefix="decoder.")
    else:
        draw_step(drafts["step"], model.decoder, prefix="decoder.")


def describe_graph(role: str, proto: onnx.ModelProto, form: Form = "scan") -> Graph:
    """Return what a manifest says of a graph."""
    return Graph(
        file=_FILES[role],
        form=form,
        opset=proto.opset_import[0].version,
        inputs=tuple(_port(value) for value in proto.graph.input),
        outputs=tuple(_port(value) for value in proto.graph.output),
    )


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return Port(value.name, dtype, tuple(size.dim_param or size.dim_value for size in tensor.shape.dim))

"""A model repository for NVIDIA Triton: the step graph with its batch first, and a sequence batcher that keeps states.

Triton batches requests of different sequences along the first axis, so the states, whose first axis is the layers, are
turned around at both ends of the graph. Between requests Triton itself holds them: its implicit state.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from rnn_edge.bundle import Bundle, Port
from rnn_edge.errors import PackageError
from rnn_edge.runtimes.names import LOGITS, TOKENS, next_state_name

__all__ = ["words", "write_repository"]

_LARGEST_BATCH = 64  # sequences that take a step together
_MOST_SEQUENCES = 1024  # open at a time; more of them wait
_IDLE_SECONDS = 600  # after which a sequence that nobody ended is dropped


def words(bundle: Bundle, name: str, example: str) -> dict[str, str]:
    """Return what stands for the templates' placeholders; a model's name is in its configuration, a URL and a path."""
    end = bundle.tokenizer.end_id
    return {
        "name": re.sub(r"[^a-z0-9_.-]+", "-", name.lower()),
        "vocab_size": f"{bundle.manifest.spec.vocab_size}",
        "prompt": str([*([] if end is None else [end]), *bundle.tokenizer.encode(example)]),
    }


def write_repository(bundle: Bundle, path: Path, name: str) -> None:
    """Write a model repository with one model, a language model's step graph."""
    step = bundle.manifest.graphs["step"]
    states = step.inputs[1:]
    model = path / name / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(_batch_first(bundle.files[step.file], states))
    config = _configuration(name, bundle.manifest.spec.vocab_size, states)
    (path / name / "config.pbtxt").write_text(config, encoding="utf-8", newline="\n")


def _names(state: Port) -> tuple[str, str]:
    """Return a state's names in the repository, as input and as output.

    Sorted by name, inputs and outputs must come in the same order: Triton 25.12 is reported to pair them by that,
    whatever the configuration says.
    """
    return f"state_{state.name}", f"next_state_{state.name}"


def _batch_first(content: bytes, states: tuple[Port, ...]) -> bytes:
    """Return a step graph whose states are float32 (batch, layers, width)."""
    try:
        import onnx
    except ImportError as error:
        raise PackageError(f"a package for triton needs onnx ({error}): pip install 'rnn-edge[export]'") from error

    model = onnx.load_model_from_string(content)
    graph = model.graph
    values = {value.name: value for value in (*graph.input, *graph.output)}
    nodes = list(graph.node)
    for state in states:
        ours = (state.name, next_state_name(state.name))
        for name, turned in zip(ours, _names(state), strict=True):
            layers, batch, width = values[name].type.tensor_type.shape.dim
            dims = [size.dim_param or size.dim_value for size in (batch, layers, width)]
            values[name].CopyFrom(onnx.helper.make_tensor_value_info(turned, onnx.TensorProto.FLOAT, dims))
        (read, write), (read_turned, write_turned) = ours, _names(state)
        nodes.insert(0, onnx.helper.make_node("Transpose", [read_turned], [read], perm=[1, 0, 2]))
        nodes.append(onnx.helper.make_node("Transpose", [write], [write_turned], perm=[1, 0, 2]))
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _configuration(name: str, vocab_size: int, states: tuple[Port, ...]) -> str:
    """Return config.pbtxt; no size in it counts the batch."""
    listed = ",\n".join(_state(state) for state in states)
    return f"""\
name: {json.dumps(name)}
backend: "onnxruntime"
max_batch_size: {_LARGEST_BATCH}
input [ {{ name: "{TOKENS}", data_type: TYPE_INT64, dims: [ -1 ] }} ]
output [ {{ name: "{LOGITS}", data_type: TYPE_FP32, dims: [ {vocab_size} ] }} ]
sequence_batching {{
  max_sequence_idle_microseconds: {_IDLE_SECONDS * 10**6}
  oldest {{ max_candidate_sequences: {_MOST_SEQUENCES} }}
  state [
{listed}
  ]
}}
instance_group [ {{ kind: KIND_CPU, count: 1 }} ]
parameters {{ key: "intra_op_thread_count", value: {{ string_value: "1" }} }}
"""


def _state(state: Port) -> str:
    read, write = _names(state)
    tensor = f"data_type: TYPE_FP32, dims: [ {state.shape[0]}, {state.shape[2]} ]"
    return f"""\
    {{
      input_name: "{read}", output_name: "{write}", {tensor}
      initial_state {{ name: "zeros", {tensor}, zero_data: true }}
    }}"""

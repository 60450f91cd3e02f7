"""A Triton repository: read by Triton's own schema, and batched as its sequence batcher does, it is our runtime.

No server is run. `SequenceBatcher` does what Triton's documentation says of the strategy "oldest" with implicit states.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CELLS, tiny_bundle

from rnn_edge.bundle import Bundle
from rnn_edge.errors import PackageError
from rnn_edge.packaging import package
from rnn_edge.runtimes import BUILT_IN, StepGraph

pytest.importorskip("onnx")
DTYPES = {"TYPE_INT64": "tensor(int64)", "TYPE_FP32": "tensor(float)"}


@dataclass
class Request:
    sequence: int
    tokens: list[int]
    start: bool = False
    end: bool = False


class SequenceBatcher:
    """Keeps the states of open sequences by the names in a configuration, from zero, and stacks them for a batch."""

    def __init__(self, repository: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
        from google.protobuf import text_format

        (folder,) = repository.iterdir()
        config = text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())
        assert (config.name, config.backend) == (folder.name, "onnxruntime")
        assert config.sequence_batching.WhichOneof("strategy_choice") == "oldest"
        self.config = config
        self.kind = schema.DataType.Name
        self.session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
        self.open: dict[int, dict[str, np.ndarray]] = {}

    def run(self, requests: list[Request]) -> list[np.ndarray]:
        """Take a step of each sequence, which must be different ones with tokens of the same shape."""
        assert len({request.sequence for request in requests}) == len(requests) <= self.config.max_batch_size
        assert len({len(request.tokens) for request in requests}) == 1
        states = self.config.sequence_batching.state
        for request in requests:
            assert request.start != (request.sequence in self.open)
            if request.start:
                self.open[request.sequence] = {state.input_name: self._initial(state) for state in states}
        feeds = {self.config.input[0].name: np.array([request.tokens for request in requests])}
        feeds |= {
            state.input_name: np.stack([self.open[request.sequence][state.input_name] for request in requests])
            for state in states
        }
        names = [self.config.output[0].name, *(state.output_name for state in states)]
        logits, *after = self.session.run(names, feeds)
        for row, request in enumerate(requests):
            self.open[request.sequence] = {
                state.input_name: part[row] for state, part in zip(states, after, strict=True)
            }
            if request.end:
                del self.open[request.sequence]
        return list(logits)

    @staticmethod
    def _initial(state: Any) -> np.ndarray:
        (initial,) = state.initial_state
        assert initial.zero_data
        return np.zeros(list(initial.dims), np.float32)


def packaged(bundle: Path | None = Path("model.rnn")) -> SequenceBatcher:
    return SequenceBatcher(package(bundle, "server", "triton") / "model_repository")


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # PyTorch says so once a process
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm", "lstm-projected"])
def test_the_configuration_says_what_the_graph_is(cell):
    """Names and types are those of the ONNX file, and sizes too, with the batch in front of them."""
    bundle = tiny_bundle(Path("model.rnn"), num_layers=2, **CELLS[cell])
    batcher = packaged()
    config, session = batcher.config, batcher.session
    states = config.sequence_batching.state
    assert [state.input_name for state in states] == [
        f"state_{port.name}" for port in bundle.manifest.graphs["step"].inputs[1:]
    ]

    def described(ports, names):
        return [
            (name, DTYPES[batcher.kind(port.data_type)], *port.dims) for port, name in zip(ports, names, strict=True)
        ]

    def found(values):
        assert len({value.shape[0] for value in values}) == 1  # the batch, by the same name
        assert all(isinstance(value.shape[0], str) for value in values)
        return [
            (value.name, value.type, *(-1 if isinstance(size, str) else size for size in value.shape[1:]))
            for value in values
        ]

    read, write = ([getattr(state, f"{side}_name") for state in states] for side in ("input", "output"))
    assert described([*config.input, *states], [config.input[0].name, *read]) == found(session.get_inputs())
    assert described([*config.output, *states], [config.output[0].name, *write]) == found(session.get_outputs())
    for state in states:
        assert [initial.dims for initial in state.initial_state] == [state.dims]


def test_states_stand_in_the_same_order_on_both_sides():
    """Triton 25.12 is reported to pair them by it, sorted by name."""
    tiny_bundle(Path("model.rnn"), **CELLS["lstm"])
    states = packaged().config.sequence_batching.state
    assert len(states) == 2
    by_input, by_output = (
        sorted(states, key=lambda state: getattr(state, f"{side}_name")) for side in ("input", "output")
    )
    assert by_input == by_output


@pytest.mark.parametrize("name", ["lstm", "gru", "elman", "int8"])
def test_interleaved_sequences_in_changing_batches_give_what_the_runtime_gives(name):
    """Prompts and single tokens, sequences that begin and end at any time: the same bits as each alone."""
    if name == "int8":
        bundle = BUILT_IN
    else:
        bundle = Path("model.rnn")
        tiny_bundle(bundle, num_layers=2, **CELLS[name])
    batcher = packaged(None if bundle is BUILT_IN else bundle)
    opened = Bundle.read(bundle)
    graph, random = StepGraph.from_bundle(opened), np.random.default_rng(0)
    waiting = {
        sequence: [
            random.integers(0, opened.manifest.spec.vocab_size, size).tolist()
            for size in (3, *[1] * int(random.integers(1, 9)), 2, 1)
        ]
        for sequence in range(1, 13)
    }
    ours: dict[int, Any] = {}
    sizes = set()
    while waiting:
        length = len(next(iter(waiting.values()))[0])
        alike = [sequence for sequence, pieces in waiting.items() if len(pieces[0]) == length]
        chosen = random.permutation(alike)[: random.integers(1, len(alike) + 1)].tolist()
        sizes.add(len(chosen))
        requests = []
        for sequence in chosen:
            tokens = waiting[sequence].pop(0)
            requests.append(Request(sequence, tokens, start=sequence not in ours, end=not waiting[sequence]))
            if not waiting[sequence]:
                del waiting[sequence]
            logits, state = graph.step(np.array([tokens]), ours[sequence][1] if sequence in ours else graph.start(1))
            ours[sequence] = (logits[0], state)
        for sequence, logits in zip(chosen, batcher.run(requests), strict=True):
            np.testing.assert_array_equal(logits, ours[sequence][0])
    assert batcher.open == {}
    assert len(sizes) > 3


@contextmanager
def serving(batcher: SequenceBatcher):
    """Answer Triton's gRPC inference calls on a port of this machine, one at a time, and yield the port."""
    grpc = pytest.importorskip("grpc")
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelInfer(self, request, context):  # noqa: N802  # Triton's name
            assert request.model_name == batcher.config.name
            given, told = request.inputs[0], request.parameters
            tokens = np.frombuffer(request.raw_input_contents[0], np.int64).reshape(given.shape)
            flags = (told["sequence_start"].bool_param, told["sequence_end"].bool_param)
            (logits,) = batcher.run([Request(told["sequence_id"].int64_param, tokens[0].tolist(), *flags)])
            response = service_pb2.ModelInferResponse(model_name=request.model_name)
            response.outputs.add(name="logits", datatype="FP32", shape=[1, len(logits)])
            response.raw_output_contents.append(logits.tobytes())
            return response

    server = grpc.server(ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.mark.slow
def test_the_check_compares_a_server_with_the_golden_vectors():
    batcher = packaged(None)

    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "server/check.py", f"127.0.0.1:{port}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    with serving(batcher) as port:
        right = check()
        golden = json.loads(Path("server/bundle/golden.json").read_text())
        golden["cases"][1]["best_logits"][0] += 1
        Path("server/bundle/golden.json").write_text(json.dumps(golden))
        wrong = check()
    assert (right.returncode, right.stdout[:47]) == (0, "the same as the bundle's golden vectors: worst "), right.stderr
    assert wrong.returncode == 1
    assert "the server computes other numbers" in wrong.stderr
    assert batcher.open == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # gRPC's own
def test_the_readmes_python_runs():
    batcher = packaged(None)
    (code,) = re.findall(r"```python\n(.*?)```", Path("server/README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    with serving(batcher) as port:
        exec(compile(code.replace("localhost:8001", f"127.0.0.1:{port}"), "README.md", "exec"), names)
    prompt = json.loads(re.search(r"step\((\[.*\]), 1, sequence_start", code)[1])
    graph = StepGraph.from_bundle(Bundle.read(BUILT_IN))
    logits, _ = graph.step(np.array([prompt]), graph.start(1))
    assert names["best"] == logits[0].argmax()
    assert names["following"].shape == (1500,)


def test_a_name_is_fit_for_a_path_and_a_url():
    tiny_bundle(Path("Über model (2).rnn"))
    assert packaged(Path("Über model (2).rnn")).config.name == "-ber-model-2-"


def test_without_onnx_it_says_how_to_get_it(monkeypatch):
    tiny_bundle(Path("model.rnn"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PackageError, match=r"needs onnx \(.*\): pip install 'rnn-edge\[export\]'"):
        package("model.rnn", "server", "triton")
    assert not Path("server").exists()

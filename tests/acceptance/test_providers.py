"""Bundles on the providers that software can stand in for, each in a Python of its own.

RNN_EDGE_EMULATORS names a directory with two of them, as .ci/run installs it: `venv` with the plugins for WebGPU, QNN
and OpenVINO, and Mesa's software Vulkan driver; and `venv-gpu` with onnxruntime-gpu, on a machine without a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers

torch = pytest.importorskip("torch")

from helpers import tiny_checkpoint  # noqa: E402

import rnn_edge  # noqa: E402
from rnn_edge.bundle import Bundle, Compiled, Foretold  # noqa: E402
from rnn_edge.exporters import ExportOptions, export  # noqa: E402
from rnn_edge.exporters.contexts import ARCHITECTURES  # noqa: E402
from rnn_edge.exporters.ort_format import convert_to_ort  # noqa: E402
from rnn_edge.exporters.torch_side import TorchSteps  # noqa: E402
from rnn_edge.modules import Checkpoint, save_checkpoint  # noqa: E402
from rnn_edge.runtimes.providers import PROVIDERS  # noqa: E402

EMULATORS = Path(os.environ.get("RNN_EDGE_EMULATORS", "/nowhere"))
SITE = Path(tokenizers.__file__).parents[1]  # the venvs have no tokenizers and no click

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (EMULATORS / "venv-gpu/bin/python").exists(),
        reason="needs plugin providers; RNN_EDGE_EMULATORS names where they are",
    ),
]

NETWORKS = {
    "elman": {"cell": "elman", "num_layers": 2},
    "gru": {"cell": "gru", "num_layers": 2, "tied": True},
    "lstm": {"cell": "lstm", "num_layers": 2},
}

# Reads 64 tokens here and there, each from its own state; prints the worst difference, what ran where,
# and the last logits.
COMPARE = """
import json, sys
import numpy as np
from pathlib import Path
from rnn_edge.bundle import Bundle
from rnn_edge.runtimes import StepGraph, by_provider, placement, unforeseen
provider, options, *paths = sys.argv[1:]
place = {"provider": provider, "provider_options": json.loads(options)}
told = {}
for path in paths:
    bundle = Bundle.read(Path(path))
    here, there = StepGraph.from_bundle(bundle), StepGraph.from_bundle(bundle, **place)
    state, other, worst, same = here.start(1), there.start(1), 0.0, 0
    for token in np.random.default_rng(0).integers(0, 200, 64):
        logits, state = here.step(np.array([[token]]), state)
        others, other = there.step(np.array([[token]]), other)
        worst = max(worst, *(float(abs(a - b).max()) for a, b in zip((logits, *state), (others, *other))))
        same += int(logits.argmax() == others.argmax())
    nodes = placement(bundle, **place)
    assert not unforeseen(bundle, provider, nodes), unforeseen(bundle, provider, nodes)
    ran = by_provider(nodes)
    told[Path(path).stem] = {"error": worst, "same": same, "ran": ran, "logits": others[0].tolist()}
print(json.dumps(told))
"""


def python(venv: str, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in one of the environments, with the packages it lacks added behind its own."""
    preamble = (
        f"import sys; sys.path.append({str(SITE)!r}); sys.path.insert(0, {str(Path(rnn_edge.__file__).parents[1])!r})"
    )
    return subprocess.run(
        [str(EMULATORS / venv / "bin/python"), "-c", f"{preamble}\n{code}", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": "", "PYTHONWARNINGS": "error::UserWarning", **environment},
    )


def software_vulkan() -> dict[str, str]:
    driver = str(EMULATORS / "lavapipe.json")
    return {
        "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1",
        "VK_DRIVER_FILES": driver,
        "VK_ICD_FILENAMES": driver,
        "XDG_RUNTIME_DIR": str(Path.cwd()),
    }


def compare(provider: str, options: dict[str, str], paths: list[Path], **environment: str) -> dict:
    done = python("venv", COMPARE, provider, json.dumps(options), *map(str, paths), **environment)
    if "found no device" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, list[Path]]:
    """Return bundles of every cell for each target, hidden size 64."""
    directory = tmp_path_factory.mktemp("bundles")
    paths: dict[str, list[Path]] = {}
    for target in ("webgpu", "qnn"):
        for name, options in NETWORKS.items():
            path = directory / target / f"{name}.rnn"
            path.parent.mkdir(exist_ok=True)
            export(tiny_checkpoint(hidden_size=64, **options), path, ExportOptions(target=target))
            paths.setdefault(target, []).append(path)
    return paths


def test_webgpu_runs_every_node_and_equals_the_cpu(bundles):
    for name, found in compare("webgpu", {}, bundles["webgpu"], **software_vulkan()).items():
        assert set(found["ran"]) == {"WebGpuExecutionProvider"}, name
        assert sum(found["ran"]["WebGpuExecutionProvider"].values()) > 15
        assert (found["error"] <= 1e-5, found["same"]) == (True, 64), name


def test_openvino_equals_the_cpu(bundles):
    """On Intel's processors; it refuses others. Graphs become one compiled node."""
    for name, found in compare("openvino", {}, bundles["webgpu"]).items():
        assert set(found["ran"]) == {"OpenVINOExecutionProvider"}, name
        assert (found["error"] <= 1e-5, found["same"]) == (True, 64), name


def test_qnn_decides_as_the_cpu_does(bundles):
    """Qualcomm's emulator of a phone's NPU, which computes in half precision."""
    for name, found in compare("qnn", {"soc_model": "57"}, bundles["qnn"]).items():
        assert set(found["ran"]) == {"QNNExecutionProvider"}, name
        assert (found["error"] <= 0.1, found["same"] >= 60) == (True, True), (name, found)


def test_qnn_computes_in_integers_what_the_cpu_does(tmp_path):
    """Calibrated int8: every node on the NPU, for any chip, and what rounding leaves of PyTorch's float32."""
    sources = {name: source_with_text(**options) for name, options in NETWORKS.items()}
    paths = [tmp_path / f"{name}.rnn" for name in sources]
    for path, source in zip(paths, sources.values(), strict=True):
        export(source, path, ExportOptions(target="qnn", precision="int8", max_loss=0.05))
    tokens = np.random.default_rng(0).integers(0, 200, 64)  # as COMPARE reads
    for name, found in compare("qnn", {}, paths).items():
        assert set(found["ran"]) == {"QNNExecutionProvider"}, name
        assert (found["error"] <= 0.01, found["same"] >= 62) == (True, True), (name, found)
        exact = TorchSteps(sources[name].model)
        logits, _ = exact.read(tokens[np.newaxis], exact.start(1))
        assert np.abs(logits[0, -1] - found["logits"]).max() <= 0.2, name


# Exports with a context, then compiles the same for each architecture, and in halves: each is compared with the CPU.
EXPORT = """
import sys
from pathlib import Path
from rnn_edge.bundle import Bundle
from rnn_edge.errors import RnnEdgeError
from rnn_edge.exporters import ExportOptions, export
from rnn_edge.exporters.contexts import ARCHITECTURES, compile_context
from rnn_edge.exporters.graphs import build
from rnn_edge.exporters.weights import Plan
from rnn_edge.modules import load_checkpoint
from rnn_edge.runtimes.providers import find
source = Path(sys.argv[1])
bundle = source.with_suffix(".rnn")
try:
    export(source, bundle, ExportOptions(target="qnn", precision="int8", context="v75", max_loss=0.05))
except RnnEdgeError as error:
    sys.exit(str(error))
found = Bundle.read(bundle)
graph = found.manifest.graphs["step"]
compiled = {compile_context(found.files[graph.file], graph, each) for each in ARCHITECTURES}
halves = build(load_checkpoint(source).model, Plan("fp16"), target=find("qnn"))
compiled.add(compile_context(halves.protos["step"].SerializeToString(), halves.describe()["step"], "v75"))
print(len(compiled))
"""


def test_a_context_is_what_the_npu_would_compile_itself(tmp_path):
    """For each architecture, in one process; where the plugin is missing, one sentence."""
    save_checkpoint(source_with_text(cell="gru", tied=True), tmp_path / "model.pt")
    done = python("venv", EXPORT, str(tmp_path / "model.pt"))
    assert (done.returncode, done.stdout.split()[-1:]) == (0, [str(len(ARCHITECTURES) + 1)]), done.stderr
    bundle = Bundle.read(tmp_path / "model.rnn")
    step = bundle.manifest.graphs["step"]
    assert step.compiled == Compiled("model.v75.onnx", "qnn", "v75")
    files = {name: content for name, content in bundle.files.items() if name != "model.v75.onnx"}
    Bundle.write(tmp_path / "plain.rnn", replace(bundle.manifest, graphs={"step": replace(step, compiled=None)}), files)
    compiled = compare("qnn", {}, [bundle.path])["model"]
    plain = compare("qnn", {"soc_model": "57"}, [tmp_path / "plain.rnn"])["plain"]
    assert set(compiled["ran"]) == {"QNNExecutionProvider"}
    assert compiled["error"] <= 0.01
    assert np.allclose(compiled["logits"], plain["logits"], atol=1e-5)
    refused = python("venv-gpu", EXPORT, str(tmp_path / "model.pt"))
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
        1,
        "contexts are compiled by provider 'qnn', which is not in this build of onnxruntime; "
        "pip install onnxruntime-qnn",
    )


def source_with_text(**options) -> Checkpoint:
    """Return a checkpoint that remembers random tokens as its held-out text."""
    source = tiny_checkpoint(hidden_size=64, **options)
    tokens = torch.randint(0, 200, (600,), generator=torch.Generator().manual_seed(0))
    return Checkpoint(source.model, source.tokenizer, {}, {"tokens": tokens})


def test_placement_fails_where_something_else_ran_than_was_foretold(bundles, tmp_path):
    """What the export of a second bundle foretells is changed afterwards."""
    honest = Bundle.read(bundles["webgpu"][2])
    step = replace(honest.manifest.graphs["step"], placement=Foretold({"MatMul": 5}, {"Gather": 1}))
    wrong = Bundle.write(tmp_path / "wrong.rnn", replace(honest.manifest, graphs={"step": step}), honest.files)
    code = "from rnn_edge.cli import main; main(['placement', sys.argv[1], '--provider', 'webgpu'])"
    done = [python("venv", code, str(path), **software_vulkan()) for path in (honest.path, wrong)]
    assert [each.returncode for each in done] == [0, 1], done[0].stderr
    assert done[0].stdout == done[1].stdout != ""
    assert done[1].stderr.endswith("Error: webgpu ran everything, and the export foretold all but Gather\n")


# Rows go on, change places and join on a GPU whose memory their states and scores stay in. Compares with the CPU.
RESIDENT = """
import sys
import numpy as np
from pathlib import Path
from rnn_edge.bundle import Bundle
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.decoding import Steps, read, steps_from
from rnn_edge.runtimes.device_steps import DeviceSteps
bundle = Bundle.read(Path(sys.argv[1]))
there, here = StepGraph.from_bundle(bundle, provider="webgpu"), StepGraph.from_bundle(bundle)
begun, generator, worst = read(here, [[3, 4], [5]]), np.random.default_rng(0), 0.0
resident, plain = steps_from(there, begun), Steps(here, begun)
assert isinstance(resident, DeviceSteps)
for number in range(64):
    rows = list(range(len(plain.position.logits)))
    if number % 3 == 0:
        rows = generator.integers(0, len(rows), generator.integers(1, 6)).tolist()
    if number == 40:
        for steps in (resident, plain):
            steps.join(begun)
    tokens = generator.integers(0, 200, len(rows)).tolist()
    for steps in (resident, plain):
        steps.go_on(rows, tokens)
    values = resident._here.logits, *resident._here.states
    assert {value.device_name() for value in values} == {"webgpu"}
    (found, log_probs), (expected, others) = resident.scores.top(5), plain.scores.top(5)
    assert found == expected
    worst = max(worst, float(abs(np.array(log_probs) - others).max()))
    pairs = zip((resident.position.logits, *resident.position.state), (plain.position.logits, *plain.position.state))
    worst = max([worst, *(float(abs(one - other).max()) for one, other in pairs)])
print(worst)
"""


def test_states_stay_on_the_gpu(bundles):
    for path in bundles["webgpu"]:
        done = python("venv", RESIDENT, str(path), **software_vulkan())
        assert done.returncode == 0, done.stderr
        assert float(done.stdout.split()[-1]) <= 1e-5


# Two searches of one row step in turns by what the GPU recorded, now and then as three rows. Compares with the CPU.
RECORDED = """
import json, sys
import numpy as np
import rnn_edge
from pathlib import Path
from rnn_edge.bundle import Bundle
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.decoding import Steps, read, steps_from
from rnn_edge.runtimes.recorded_steps import RecordedSteps
place = {"provider": "webgpu", "provider_options": {"enableGraphCapture": "1"}}
bundle = Bundle.read(Path(sys.argv[1]))
there, here = StepGraph.from_bundle(bundle, **place), StepGraph.from_bundle(bundle)
generator, worst = np.random.default_rng(0), 0.0
searches = [(steps_from(there, read(there, [prompt])), Steps(here, read(here, [prompt]))) for prompt in ([3, 4], [5])]
for number in range(64):
    for replayed, plain in searches:
        assert isinstance(replayed, RecordedSteps)
        for rows in [[0, 0, 0], [2]] if number % 20 == 10 else [[0]]:
            tokens = generator.integers(0, 200, len(rows)).tolist()
            replayed.go_on(rows, tokens)
            plain.go_on(rows, tokens)
        (found, _), (expected, _) = replayed.scores.top(5), plain.scores.top(5)
        assert found == expected
        one, other = replayed.position, plain.position
        pairs = zip((one.logits, *one.state), (other.logits, *other.state))
        worst = max([worst, *(float(abs(a - b).max()) for a, b in pairs)])
recordings = [replayed._recording for replayed, _ in searches]
assert sorted(there._session._captured_graph_bindings) == [1, 2, 3, 4]
# Replayed on purpose with the places of the other search bound, it still writes to its own.
one, other = recordings
before = [each.places[1].logits.numpy().copy() for each in recordings]
one._token.update_inplace(np.array([[7]]))
there._session._sess.run_with_iobinding(other._ways[0]._iobinding, one._runs[0])
changed = [bool((each.places[1].logits.numpy() != old).any()) for each, old in zip(recordings, before)]
texts = [rnn_edge.load(sys.argv[1], **each).complete("import nu") for each in (place, {})]
assert [each.text for each in texts[0]] == [each.text for each in texts[1]]
print(json.dumps({"error": worst, "changed": changed}))
"""


def test_a_gpu_replays_steps_that_it_recorded(bundles):
    for path in bundles["webgpu"]:
        done = python("venv", RECORDED, str(path), **software_vulkan())
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert (found["error"] <= 1e-5, found["changed"]) == (True, [True, False]), found
    compared = compare("webgpu", {"enableGraphCapture": "1"}, bundles["webgpu"][:1], **software_vulkan())
    assert (compared["elman"]["error"] <= 1e-5, compared["elman"]["same"]) == (True, 64)


LOAD = "import json, rnn_edge; rnn_edge.load(sys.argv[1] or None, provider=sys.argv[2], **json.loads(sys.argv[3]))"


def refused(venv: str, path: Path | str, provider: str, options: dict | None = None, **environment: str) -> str:
    """Return why a bundle is not opened on a provider: the last line, which must be our error and not a fall-back."""
    choices = {"provider_options": options} if options else {}
    done = python(venv, LOAD, str(path), provider, json.dumps(choices), **environment)
    assert done.returncode == 1, done.stderr
    return done.stderr.splitlines()[-1]


def test_fall_back_1_a_library_that_does_not_load():
    """onnxruntime-gpu offers CUDA on every machine, and opens sessions on the CPU."""
    for provider in ("cuda", "tensorrt"):
        told = refused("venv-gpu", "", provider)
        assert f"ProviderError: provider '{provider}' cannot be used here: lib" in told
        assert "cannot open shared object file" in told


def test_fall_back_2_a_session_that_cannot_be_made(bundles):
    """QNN takes float graphs only for a named chip; onnxruntime would retry on the CPU."""
    assert "ProviderError: onnxruntime cannot open this graph on 'qnn'" in refused("venv", bundles["qnn"][2], "qnn")


def test_fall_back_3_a_plugin_that_takes_nothing(bundles):
    """QNN leaves graphs with sizes chosen at each call to the CPU, and is listed first all the same."""
    told = refused("venv", bundles["webgpu"][2], "qnn", {"soc_model": "57"})
    assert "ProviderError: provider 'qnn' runs 0 of " in told
    assert "--target qnn" in told


def test_fall_back_3_cannot_be_told_of_the_other_format(bundles, tmp_path):
    """Of a file in format ort onnxruntime does not say what it assigned, so it is not believed to run there."""
    plain = Bundle.read(bundles["webgpu"][0])
    content = convert_to_ort({"model.onnx": plain.files["model.onnx"]}, PROVIDERS["nnapi"])["model.ort"]
    step = plain.manifest.graphs["step"]
    converted = replace(plain.manifest, graphs={"step": replace(step, file="model.ort")})
    Bundle.write(tmp_path / "ort.rnn", converted, {**plain.files, "model.ort": content})
    told = refused("venv", tmp_path / "ort.rnn", "webgpu", **software_vulkan())
    assert "does not tell whether 'webgpu' runs any node of a file in format ort" in told


def test_fall_back_4_a_plugin_that_must_not_be_named_like_a_built_in_one(bundles):
    """Named twice in a process: registered, onnxruntime lists it as if it were built in, and ignores it as such."""
    twice = f"{LOAD}; {LOAD.split('; ')[-1]}; from rnn_edge.runtimes.providers import *; print(usable()[-1].name)"
    done = python("venv", twice, str(bundles["webgpu"][0]), "webgpu", "{}", **software_vulkan())
    assert (done.returncode, done.stdout.split()[-1]) == (0, "webgpu"), done.stderr


def test_fall_back_5_an_error_at_a_run(bundles):
    """onnxruntime is told not to retry on the CPU; tests/runtimes/test_sessions.py shows what an error then does."""
    code = LOAD.replace("rnn_edge.load", "model = rnn_edge.load") + "; print(model._model._session._enable_fallback)"
    done = python("venv", code, str(bundles["webgpu"][0]), "webgpu", "{}", **software_vulkan())
    assert done.stdout.split()[-1] == "False", done.stderr


def test_webgpu_without_a_gpu_says_what_is_missing():
    told = refused("venv", "", "webgpu", ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER="0")
    assert "provider 'webgpu' is installed but found no device on this machine" in told


def test_a_rounded_bundle_on_a_gpu_names_the_nodes_that_stay_behind():
    """The built-in model, int8 in `scan` form."""
    told = refused("venv", "", "webgpu", **software_vulkan())
    assert "the CPU the others:" in told
    assert "4 MatMulIntegerToFloat" in told
    assert "1 Scan" in told

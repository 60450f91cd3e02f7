"""An export leaves a bundle that says what PyTorch says, or nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import (
    DARWIN,
    TASKS,
    darwin_checkpoint,
    padded,
    shared,
    some_checkpoint,
    tiny_bundle,
    tiny_checkpoint,
    tiny_network,
)

import rnn_edge
from rnn_edge.bundle import Bundle
from rnn_edge.errors import BundleError, CheckpointError, ExportError
from rnn_edge.exporters import ExportOptions, export, verify
from rnn_edge.modules import Checkpoint, LanguageModel, import_weights, save_checkpoint
from rnn_edge.runtimes.decode_graph import DecodeGraph
from rnn_edge.runtimes.self_test import self_test
from rnn_edge.runtimes.step_graph import StepGraph
from rnn_edge.runtimes.whole_graph import WholeGraph
from rnn_edge.spec import LanguageModelSpec
from rnn_edge.text import Tokenizer

PT, RNN = Path("model.pt"), Path("model.rnn")


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    checkpoint = tiny_checkpoint()
    save_checkpoint(checkpoint, PT)
    return checkpoint


def test_the_bundle_holds_what_the_checkpoint_held(checkpoint):
    exported = export(PT, RNN)
    bundle = Bundle.read(RNN)
    assert bundle.manifest.spec == checkpoint.model.spec
    assert bundle.tokenizer.to_json() == checkpoint.tokenizer.to_json()
    assert bundle.manifest.parity["passed"]
    assert bundle.manifest.parity["max_error"] == exported.parity.max_error <= 1e-5
    assert exported.bytes == sum(map(len, bundle.files.values()))


def test_exporting_twice_gives_the_same_bytes(checkpoint):
    export(PT, RNN)
    first = {path.name: path.read_bytes() for path in RNN.iterdir()}
    export(PT, RNN)
    assert {path.name: path.read_bytes() for path in RNN.iterdir()} == first
    assert sorted(first) == ["golden.json", "manifest.json", "model.onnx", "tokenizer.json"]


def test_an_export_that_disagrees_leaves_nothing_behind(checkpoint):
    with pytest.raises(ExportError, match="disagrees with PyTorch by more than 1e-12"):
        export(PT, RNN, ExportOptions(atol=1e-12))
    assert [path.name for path in Path().iterdir()] == ["model.pt"]


def test_an_export_that_fails_keeps_the_bundle_before_it(checkpoint):
    export(PT, RNN)
    with pytest.raises(ExportError):
        export(PT, RNN, ExportOptions(atol=1e-12))
    Bundle.read(RNN)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_an_interrupted_export_leaves_nothing_behind(checkpoint, monkeypatch, interruption):
    def interrupt(*_: object, **__: object) -> None:
        raise interruption

    monkeypatch.setattr(Path, "write_text", interrupt)  # the manifest comes last
    with pytest.raises((KeyboardInterrupt, BundleError)):
        export(PT, RNN)
    assert [path.name for path in Path().iterdir()] == ["model.pt"]


def test_a_damaged_checkpoint_leaves_nothing_behind():
    PT.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError):
        export(PT, RNN)
    assert not RNN.exists()


@pytest.mark.parametrize("atol", [0, -1, float("nan"), float("inf")])
def test_an_absurd_tolerance_is_refused(checkpoint, atol):
    with pytest.raises(ExportError, match="atol must be a positive number"):
        export(PT, RNN, ExportOptions(atol=atol))


def test_the_public_name_takes_plain_strings(checkpoint):
    assert rnn_edge.export("model.pt", "model.rnn").path == RNN


def test_verify_agrees_with_the_export(checkpoint):
    exported = export(PT, RNN)
    assert verify(PT, RNN) == exported.parity


def test_verify_tells_other_weights(checkpoint):
    export(PT, RNN)
    with torch.no_grad():
        checkpoint.model.output.bias[3] += 0.01
    save_checkpoint(checkpoint, PT)
    parity = verify(PT, RNN)
    assert not parity.passed
    assert parity.max_error == pytest.approx(0.01, rel=1e-3)


def test_verify_tells_another_network_and_another_vocabulary(checkpoint):
    tiny_bundle(RNN, hidden_size=8)
    with pytest.raises(ExportError, match="was not exported from"):
        verify(PT, RNN)
    other = Tokenizer.train("characters", ["the cat sat on the mat, the end of it?"])
    assert other.vocab_size == checkpoint.tokenizer.vocab_size
    export(Checkpoint(checkpoint.model, other), RNN)
    with pytest.raises(ExportError, match="their vocabularies differ"):
        verify(PT, RNN)


def test_a_ten_megabyte_model_exports_in_under_two_seconds():
    tokenizer = Tokenizer.train("bpe", ["a"])
    spec = LanguageModelSpec(vocab_size=tokenizer.vocab_size, embedding_size=256, hidden_size=700)
    model = LanguageModel(spec).eval()
    assert sum(each.numel() for each in model.parameters()) * 4 > 10e6
    started = time.process_time()  # of this process alone, whatever else the machine does
    export(Checkpoint(model, tokenizer), RNN)
    assert time.process_time() - started < 2


def test_a_published_character_model_gives_its_recorded_numbers():
    """ml5's CharRNN of Darwin: TensorFlow's tensors in our LanguageModel, exported, against ml5's own recordings."""
    checkpoint = darwin_checkpoint()
    tokenizer = checkpoint.tokenizer
    golden = json.loads(shared(f"{DARWIN}/golden.json").read_text())
    recorded = np.load(shared(f"{DARWIN}/golden.npz"))
    export(checkpoint, RNN)
    loaded = rnn_edge.load(RNN)
    graph = StepGraph.from_bundle(Bundle.read(RNN))
    for index, case in enumerate(golden["cases"]):
        assert tokenizer.encode(case["seed"]) == case["ids"]
        state = graph.start(1)
        for position, token in enumerate(case["ids"] + case["greedy_ids"][:-1]):
            logits, state = graph.step(np.array([[token]]), state)
            if position < len(case["ids"]):
                np.testing.assert_allclose(logits[0], recorded[f"{index}.logits"][position], atol=1e-4)
        for part, name in zip(state, ("final_h", "final_c"), strict=True):
            np.testing.assert_allclose(part[:, 0], recorded[f"{index}.{name}"], rtol=1e-4, atol=1e-4)
        options = rnn_edge.GenerateOptions(max_new_tokens=len(case["greedy_ids"]))
        assert loaded.complete(case["seed"], options)[0].text == case["greedy_text"]


def test_a_published_speech_detectors_lstm_gives_its_recorded_states():
    """Silero VAD: its 375 recorded input vectors are the embedding, so that token t is the vector of window t."""
    weights = np.load(shared("models/silero_vad/weights_torch_order.npz"))
    recorded = np.load(shared("models/silero_vad/golden.npz"))
    vectors = recorded["lstm_input"]
    layer = [weights[f"lstm_cell.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    model = LanguageModel(LanguageModelSpec(vocab_size=len(vectors), embedding_size=128, hidden_size=128)).eval()
    model.embedding.weight.data = torch.from_numpy(vectors)
    model.stack.rnn.load_state_dict(import_weights("torch", "lstm", [layer]))
    tokenizer = Tokenizer.characters(padded([], len(vectors)))
    export(Checkpoint(model, tokenizer), RNN)
    graph = StepGraph.from_bundle(Bundle.read(RNN))
    state = graph.start(1)
    for window, expected in enumerate(zip(recorded["h"], recorded["c"], strict=True)):
        _, state = graph.step(np.array([[window]]), state)
        for part, values in zip(state, expected, strict=True):
            np.testing.assert_allclose(part[0, 0], values, rtol=1e-4, atol=1e-5)


EVAL = "the cat sat on the mat, the end of it\n" * 20


@pytest.mark.parametrize("kind", ["characters", "words"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_a_rounded_bundle_proves_itself_and_reports_every_tensor(precision, tied, kind):
    source = tiny_checkpoint(kind, tied=tied, hidden_size=130)
    exported = export(source, RNN, ExportOptions(precision=precision, eval_text=EVAL, max_loss=0.5))
    manifest = Bundle.read(RNN).manifest
    assert exported.parity.passed
    if precision != "fp16":
        assert exported.parity.max_error == 0.0
    parameters = {id(each): each for each in source.model.parameters()}.values()
    matrices = [each for each in manifest.tensors if each["reason"] != "a vector"]
    looked_up = not any(each["name"] == "embedding" for each in matrices)  # multiplied by the first layer's W
    assert looked_up == (kind == "words" and not tied and precision != "fp16")
    assert len(matrices) == sum(each.dim() > 1 for each in parameters) - looked_up
    assert {each["precision"] for each in matrices} <= {precision, "int8"}
    assert all(each["error"] < {"fp16": 1e-3, "int8": 0.02, "int4": 0.15}[each["precision"]] for each in matrices)
    assert sum(each["bytes"] for each in manifest.tensors) < (RNN / "model.onnx").stat().st_size
    assert manifest.quality["tokens"] > 100
    save_checkpoint(source, PT)
    assert verify(PT, RNN).passed


def test_verify_tells_other_weights_in_integers_too():
    source = tiny_checkpoint()
    export(source, RNN, ExportOptions(precision="int8", eval_text=EVAL, max_loss=0.5))
    with torch.no_grad():
        source.model.embedding.weight[3] *= 1.1
    save_checkpoint(source, PT)
    assert not verify(PT, RNN).passed


def test_rounding_that_costs_too_much_is_refused_and_says_where():
    """A large weight of a unit that never speaks costs nothing in float, and in bytes leaves the others no steps."""
    source = tiny_checkpoint("words", hidden_size=48)
    with torch.no_grad():
        source.model.stack.rnn.bias_ih_l0[3 * 48 + 5] = -40  # shuts the output gate of unit 5
        source.model.output.weight[:, 5] = 100
    source = Checkpoint(source.model, source.tokenizer, {}, {"tokens": _sampled(source.model, 2000)})
    with pytest.raises(ExportError, match=r"raises the perplexity .* output costs most.*--keep-float output"):
        export(source, RNN, ExportOptions(precision="int8"))
    assert not RNN.exists()
    exported = export(source, RNN, ExportOptions(precision="int8", keep_float=("output",)))
    assert next(each for each in exported.tensors if each.name == "output").reason == "kept float"
    save_checkpoint(source, PT)
    assert verify(PT, RNN).passed


@torch.inference_mode()
def _sampled(model: LanguageModel, count: int) -> torch.Tensor:
    """Return tokens as the model itself would write them: nothing predicts them better than it does."""
    generator = torch.Generator().manual_seed(0)
    tokens, state = torch.zeros(1, 1, dtype=torch.int64), model.start(1)
    written = []
    for _ in range(count):
        logits, state = model(tokens, state)
        tokens = torch.multinomial(logits[:, -1].softmax(-1), 1, generator=generator)
        written.append(int(tokens))
    return torch.tensor(written)


def test_auto_takes_the_smallest_that_passes():
    source = tiny_checkpoint("words", hidden_size=130)
    sizes = {}
    for precision in ("int4", "int8", "fp16", "fp32"):
        sizes[precision] = export(source, RNN, ExportOptions(precision=precision, eval_text=EVAL, max_loss=9)).bytes
    assert sorted(sizes, key=sizes.__getitem__) == ["int4", "int8", "fp16", "fp32"]
    for max_loss in (9, 0):
        export(source, RNN, ExportOptions(precision="auto", eval_text=EVAL, max_loss=max_loss))
        manifest = Bundle.read(RNN).manifest
        assert manifest.precision == "fp32" or manifest.quality["loss"] <= max_loss
        assert manifest.precision == "int4" or max_loss == 0
    with pytest.raises(ExportError, match="may have 1,000"):
        export(source, Path("small.rnn"), ExportOptions(precision="auto", eval_text=EVAL, max_loss=9, max_bytes=1000))
    assert not Path("small.rnn").exists()


def test_rounding_needs_text_to_be_judged_by(checkpoint):
    with pytest.raises(ExportError, match="remembers no tokens: give some text with --eval"):
        export(checkpoint, RNN, ExportOptions(precision="int8"))
    tokens = torch.tensor(checkpoint.tokenizer.encode(EVAL))
    save_checkpoint(Checkpoint(checkpoint.model, checkpoint.tokenizer, {}, {"tokens": tokens}), PT)
    export(PT, RNN, ExportOptions(precision="int8", max_loss=0.5))


def test_a_name_that_no_matrix_has_is_refused(checkpoint):
    with pytest.raises(ExportError, match=r"names layer9, and this network has .*layer0\.state.*output"):
        export(checkpoint, RNN, ExportOptions(precision="int8", eval_text=EVAL, keep_float=("layer9",)))


def test_all_wrong_options_are_told_at_once():
    with pytest.raises(ExportError) as caught:
        ExportOptions(precision="int3", max_loss=-1, max_bytes=0)
    for word in ("precision", "max_loss", "max_bytes"):
        assert word in str(caught.value)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_task_is_exported_verified_and_tested_on_its_machine(task, precision):
    source = some_checkpoint(task)
    save_checkpoint(source, PT)
    exported = export(PT, RNN, ExportOptions(precision=precision, max_loss=9))
    verified = verify(PT, RNN)
    assert verified.passed
    assert verified.max_error == exported.parity.max_error
    bundle = Bundle.read(RNN)
    graphs = {
        role: StepGraph.from_bundle(bundle) if role == "step" else WholeGraph.from_bundle(bundle, role)
        for role in bundle.manifest.graphs
    }
    assert self_test(bundle, graphs) <= 1e-6
    wanted = {"golden.json", "manifest.json", "model.onnx", "tokenizer.json"}
    wanted |= {"encoder.onnx"} if task in ("translate", "describe") else set()
    wanted |= {"target_tokenizer.json"} if task == "translate" else set()
    wanted |= {"character_tokenizer.json"} if task == "tag" else set()
    assert {path.name for path in RNN.iterdir()} == wanted
    assert bool(bundle.manifest.quality) == (precision != "fp32" and task not in ("describe", "embed"))
    with torch.no_grad():
        next(source.model.parameters())[3] += 1
    save_checkpoint(source, PT)
    assert not verify(PT, RNN).passed


def test_verify_tells_another_target_vocabulary():
    source = some_checkpoint("translate")
    export(source, RNN)
    other = Tokenizer.train("characters", ["the cat sat on the mat, the end of it?"])
    size = source.model.spec.target_vocab_size
    assert other.vocab_size == size
    save_checkpoint(Checkpoint(source.model, source.tokenizer, target_tokenizer=other), PT)
    with pytest.raises(ExportError, match="their vocabularies differ"):
        verify(PT, RNN)


@pytest.mark.parametrize("task", ["translate", "classify", "tag"])
def test_a_network_without_examples_is_not_rounded(task):
    source = some_checkpoint(task)
    bare = Checkpoint(
        source.model,
        source.tokenizer,
        target_tokenizer=source.target_tokenizer,
        character_tokenizer=source.character_tokenizer,
    )
    with pytest.raises(ExportError, match=r"this checkpoint remembers no .*: train it again"):
        export(bare, RNN, ExportOptions(precision="int8"))
    with pytest.raises(ExportError, match="only a language model is judged by a text"):
        export(source, RNN, ExportOptions(precision="int8", eval_text="the cat"))
    assert not RNN.exists()


@pytest.mark.parametrize("task", ["describe", "embed"])
def test_where_nothing_says_what_is_right_the_precision_has_to_be_chosen(task):
    with pytest.raises(ExportError, match="has no right answers"):
        export(some_checkpoint(task), RNN, ExportOptions(precision="auto"))


def test_halves_are_compared_with_what_is_kept_float():
    """Half of a matrix of PyTorch's is a matrix of its own in the graph, and may alone be kept."""
    source = tiny_checkpoint(cell="gru", reset_after=False)
    for kept in ("layer0.candidate", "layer0.state"):
        options = ExportOptions(precision="fp16", keep_float=(kept,), eval_text=EVAL)
        exported = export(source, RNN, options)
        assert {each.name for each in exported.tensors if each.reason == "kept float"} == {kept}


def test_exporting_halves_leaves_the_checkpoint_as_it_was():
    source = tiny_checkpoint()
    before = source.model.embedding.weight.clone()
    export(source, RNN, ExportOptions(precision="fp16", eval_text=EVAL))
    assert torch.equal(source.model.embedding.weight, before)


def test_verify_of_an_exact_bundle_opens_its_graphs_alone(checkpoint, monkeypatch):
    export(PT, RNN)
    opened = []
    open_it = StepGraph.__init__
    monkeypatch.setattr(StepGraph, "__init__", lambda *given, **options: opened.append(open_it(*given, **options)))
    verify(PT, RNN)
    assert len(opened) == 1


def test_the_part_of_a_classifier_that_gives_a_texts_vector_is_exported_alone():
    checkpoint = tiny_network("classify", bidirectional=True)
    save_checkpoint(checkpoint, PT)
    export(PT, RNN, ExportOptions(embed=True))
    assert verify(PT, RNN).passed
    vectors = rnn_edge.load(RNN).embed(["the cat", "on"])
    tokens = torch.tensor([checkpoint.tokenizer.encode("the cat")])
    np.testing.assert_allclose(vectors[0], checkpoint.model.sentence(tokens)[0].detach().numpy(), atol=1e-5)
    with pytest.raises(ExportError, match="only a classifier has texts' vectors"):
        export(tiny_checkpoint(), Path("other.rnn"), ExportOptions(embed=True))


def amplifying(factor: float):
    """Return a checkpoint whose recurrent matrices are large, so that states amplify rounding."""
    checkpoint = tiny_checkpoint(cell="elman", hidden_size=32, num_layers=2)
    with torch.no_grad():
        for name, parameter in checkpoint.model.named_parameters():
            if "weight_hh" in name:
                parameter.mul_(factor)
    return checkpoint


def test_a_network_that_amplifies_rounding_may_be_as_far_from_pytorch_as_pytorch_is_from_itself():
    parity = export(amplifying(1.6), RNN).parity
    assert 1e-5 < parity.max_error <= parity.atol < 1e-4
    assert "from PyTorch in float64" in parity.compared_with


def test_a_network_of_which_nothing_can_be_told_is_refused():
    """PyTorch in float32 gives other numbers than PyTorch in float64, so nothing shows that the graph is right."""
    with pytest.raises(ExportError, match="disagrees with PyTorch by more than 1e-05"):
        export(amplifying(2), RNN)


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_a_graph_that_searches_is_compared_with_the_hosts_search(strategy):
    """At export and by verify; it is one more graph of the bundle, and the others stay what they are."""
    checkpoint = tiny_network("translate", attention="general")
    save_checkpoint(checkpoint, PT)
    export(PT, RNN)
    plain = Bundle.read(RNN)
    beams = {"num_beams": 3, "num_return_sequences": 2} if strategy == "beam" else {}
    exported = export(PT, RNN, ExportOptions(decode=strategy, **beams))
    assert exported.parity.checks[-1].name == f"{strategy} graph"
    assert verify(PT, RNN).checks == exported.parity.checks
    bundle = Bundle.read(RNN)
    assert bundle.manifest.graphs.keys() - plain.manifest.graphs.keys() == {"decode"}
    assert bundle.manifest.tensors == plain.manifest.tensors
    same = plain.files.keys() - {"golden.json"}
    assert {name: bundle.files[name] for name in same} == {name: plain.files[name] for name in same}
    search = bundle.manifest.graphs["decode"].search
    target = bundle.target_tokenizer
    assert search.strategy == strategy
    assert (search.start_id, search.end_id) == (target.start_id, target.end_id)
    noise = np.zeros((2, 4)) if strategy == "sample" else None
    found = DecodeGraph.from_bundle(bundle).run(np.array([[3, 1], [2, -1]]), noise=noise)
    assert found.sequences.shape[:2] == (2, search.num_return_sequences)
    rnn_edge.load(RNN, self_test=True)


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_a_graph_that_searches_translates_as_the_translator_does(strategy):
    """A sample too, by the noise of the same seed."""
    export(tiny_network("translate", attention="dot", cell="gru"), RNN, ExportOptions(decode=strategy))
    bundle = Bundle.read(RNN)
    draws = {"do_sample": True, "seed": 7, "temperature": 1.5, "top_k": 20, "top_p": 0.95, "min_p": 0.01}
    how = {"sample": draws, "beam": {"num_beams": 5}}.get(strategy, {})
    options = rnn_edge.GenerateOptions(max_new_tokens=9, **how)
    (best,) = rnn_edge.load(RNN).translate("the cat", options)
    tokens = [*bundle.tokenizer.encode("the cat"), bundle.tokenizer.end_id]
    noise = np.random.default_rng((7, 0)).random((1, 9)) if strategy == "sample" else None
    found = DecodeGraph.from_bundle(bundle).run(np.array([tokens]), options, noise=noise)
    assert found.tokens(0)[0] == best.tokens
    assert found.log_prob[0, 0] == pytest.approx(best.log_prob)


def test_a_graph_that_searches_otherwise_is_found_out():
    """Of a bundle whose search ends at another token, verify says so."""
    save_checkpoint(tiny_network("describe"), PT)
    export(PT, RNN, ExportOptions(decode="greedy"))
    bundle = Bundle.read(RNN)
    graph = onnx.load_from_string(bundle.files["decode.onnx"])
    (bias,) = (each for each in graph.graph.initializer if each.name == "decoder.output.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias)[::-1].copy(), bias.name))
    Bundle.write(RNN, bundle.manifest, {**bundle.files, "decode.onnx": graph.SerializeToString()})
    parity = verify(PT, RNN)
    assert [check.name for check in parity.checks if not check.passed] == ["greedy graph"]


def test_what_does_not_write_cannot_decode():
    with pytest.raises(ExportError, match="only a network that writes can decode"):
        export(some_checkpoint("classify"), RNN, ExportOptions(decode="beam"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"decode": "best"}, "decode must be greedy, sample or beam"),
        ({"num_beams": 3}, "num_beams is for decode='beam' only"),
        ({"decode": "greedy", "num_return_sequences": 2, "narrowing": True}, "narrowing is for decode='beam' only"),
        ({"decode": "greedy", "target": "webgpu"}, "decode is for the target cpu only, not webgpu"),
        ({"decode": "sample", "early_stopping": "never"}, "early_stopping is for decode='beam' only"),
        ({"decode": "beam", "num_beams": 1, "narrowing": True}, "narrowing only matters with several beams"),
        ({"decode": "beam", "num_beams": 1, "early_stopping": True}, "early_stopping only matters with several beams"),
        ({"decode": "beam", "early_stopping": 1}, "early_stopping must be true, false or 'never', got 1"),
        ({"decode": "beam", "early_stopping": "soon"}, "early_stopping must be true, false or 'never', got 'soon'"),
        ({"decode": "beam", "narrowing": True, "early_stopping": True}, "leave out early_stopping"),
        ({"decode": "beam", "num_beams": 0}, "num_beams must be a whole number from 1 to 1000, got 0"),
        ({"decode": "beam", "num_return_sequences": 6}, "num_return_sequences must be from 1 to the 5 beams, got 6"),
    ],
)
def test_searches_that_cannot_be_are_refused(options, problem):
    with pytest.raises(ExportError, match=problem):
        ExportOptions(**options)


def test_a_bundle_without_a_search_says_how_to_get_one():
    with pytest.raises(BundleError, match="export it with --decode"):
        DecodeGraph.from_bundle(tiny_bundle(RNN))

"""Graphs that search by themselves: the host's tokens and scores for every network, in as few steps as it takes."""

from __future__ import annotations

import dataclasses
from functools import cache
from random import Random
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import CELLS, some_network, some_spec

from rnn_edge.bundle import Precision, Search
from rnn_edge.errors import BundleError, OptionsError
from rnn_edge.exporters.examples import random_rows, side_by_side
from rnn_edge.exporters.graphs import NEWEST_OPSET, OLDEST_OPSET, build
from rnn_edge.exporters.opened import Opened
from rnn_edge.exporters.searches import begin_to_write, search_on_host
from rnn_edge.exporters.weights import Plan
from rnn_edge.runtimes.arrays import reorder
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.spec import LanguageModelSpec

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch says that it is slow
END, UNKNOWN = 1, 2
TASKS = ("language-model", "translate", "describe")


def network(task: str, cell: str, seed: int, **changes):
    """Return a network with random weights that ends its texts now and then."""
    random = Random(seed)
    vocab = random.randint(3, 30)
    if task == "language-model":
        own = {**CELLS[cell], "num_layers": random.choice([1, 2]), "tied": random.choice([False, True]), **changes}
        spec = LanguageModelSpec(**{"vocab_size": vocab, "embedding_size": 7, "hidden_size": 9, **own})
    else:
        names = {"translate": ("vocab_size", "target_vocab_size"), "describe": ("vocab_size",)}[task]
        spec = some_spec(task, cell, seed, **{**dict.fromkeys(names, vocab), **changes})
    model = some_network(spec, seed=seed)
    decoder = model if task == "language-model" else model.decoder
    decoder.output.bias.data[END] += 1.5
    return model


def some_search(task: str, strategy: str, seed: int, **changes) -> Search:
    random = Random(seed)
    beams = random.randint(1, 6) if strategy == "beam" else 1
    choices = {
        "num_beams": beams,
        "num_return_sequences": random.randint(1, beams),
        "end_id": random.choice([END, END, END, None]),
        "unknown_id": random.choice([UNKNOWN, None]),
        "start_id": None if task == "language-model" else 0,
        "early_stopping": beams > 1 and "narrowing" not in changes and random.choice([False, True, "never"]),
    }
    return Search(**{"strategy": strategy, **choices, **changes})


@cache
def opened(task: str, cell: str, strategy: str, seed: int, precision: str = "fp32", **changes):
    model = network(task, cell, seed)
    search = some_search(task, strategy, seed, **changes)
    return Opened.from_built(build(model, Plan(precision), search=search)), model.spec, search


def longest(decode, most: int) -> GenerateOptions:
    return dataclasses.replace(decode.options, max_new_tokens=most)


def random_filters(random: np.random.Generator) -> dict[str, float]:
    """Return what a draw is made from, each filter in force every other time."""
    return {
        "temperature": float(random.choice([0.5, 1.0, 2.0])),
        "top_k": int(random.choice([0, 0, 1, random.integers(1, 30), 10_000])),
        "top_p": float(random.choice([1.0, random.uniform(0.05, 1.0)])),
        "min_p": float(random.choice([0.0, random.uniform(0.0, 1.0)])),
    }


def check_against_the_host(graphs, spec, search, seed: int, configurations: int) -> None:
    """Search from a batch of random rows; each must come out as the host's search from it alone says."""
    random = np.random.default_rng(seed)
    for _ in range(configurations):
        rows = random_rows(spec, random.integers(1, 8, random.integers(1, 4)).tolist(), random)
        length, penalty = int(random.integers(1, 9)), float(random.choice([0.0, 0.6, 1.0, -0.5, 2.0]))
        options = dataclasses.replace(graphs.decode.options, max_new_tokens=length, length_penalty=penalty)
        if search.strategy == "sample":
            options = dataclasses.replace(options, **random_filters(random))
        seeds = random.integers(0, 2**32, len(rows)).tolist()
        noise = np.stack([np.random.default_rng(each).random(length) for each in seeds])
        found = graphs.decode.run(
            *side_by_side(rows),
            options,
            noise=noise if search.strategy == "sample" else None,
        )
        for row, inputs in enumerate(rows):
            start = graphs.reader.run(*inputs) if graphs.reader else None
            position = begin_to_write(graphs.step, search, inputs[0].tolist(), start)
            (wanted,) = search_on_host(graphs.step, position, search, options, seeds[row : row + 1])
            count = len(wanted)
            assert found.tokens(row) == [path.tokens for path in wanted]
            log_probs = found.log_prob[row, :count].tolist()
            same = pytest.approx(log_probs, rel=2e-6) if search.strategy == "sample" else log_probs
            assert [path.log_prob for path in wanted] == same
            if search.strategy == "beam":
                scores = [path.log_prob / len(path.tokens) ** penalty for path in wanted]
                np.testing.assert_allclose(found.scores[row, :count], scores, rtol=2e-6)
            check_states(graphs.step, position, wanted, found, row, search)


def check_states(step, position, wanted, found, row: int, search: Search) -> None:
    """The state is the one before the last token, bit for bit."""
    for place, path in enumerate(wanted):
        state = position.state
        for token in path.tokens[:-1]:
            _, state = step.step(np.array([[token]]), state)
        ours = reorder(found.state, [row * search.num_return_sequences + place])
        assert all(map(np.array_equal, ours, state[: step.moving]))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("task", TASKS)
def test_a_beam_is_the_hosts(task, cell):
    check_against_the_host(*opened(task, cell, "beam", 0), seed=0, configurations=4)


@pytest.mark.parametrize("strategy", ["greedy", "sample"])
@pytest.mark.parametrize("task", TASKS)
def test_one_token_after_the_other_is_the_hosts(task, strategy):
    check_against_the_host(*opened(task, "lstm", strategy, 1), seed=1, configurations=6)


def test_filtered_draws_are_the_hosts():
    check_against_the_host(*opened("language-model", "gru", "sample", 12), seed=12, configurations=60)


@pytest.mark.parametrize("only", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_the_strictest_filters_leave_what_greedy_takes(only):
    prompt, noise = np.array([[3, 4, 2]]), np.random.default_rng(0).random((1, 9))
    greedy, sample = (opened("language-model", "gru", strategy, 13)[0].decode for strategy in ("greedy", "sample"))
    taken = greedy.run(prompt, longest(greedy, 9)).tokens(0)
    for wide, is_same in (({}, False), (only, True)):
        options = dataclasses.replace(longest(sample, 9), temperature=3.0, **wide)
        assert (sample.run(prompt, options, noise=noise).tokens(0) == taken) is is_same


@pytest.mark.parametrize(
    ("filters", "left"), [({"top_k": 2}, 2), ({"top_p": 0.5}, 2), ({"top_k": 3, "top_p": 0.75}, 3), ({"min_p": 1.0}, 4)]
)
def test_of_equals_the_lowest_ids_are_left(filters, left):
    """Four tokens that are equally probable, drawn by the host and by the graph."""
    model = network("language-model", "gru", 14, vocab_size=4)
    for parameter in model.output.parameters():
        parameter.data[:] = 0
    graphs = Opened.from_built(build(model, search=some_search("language-model", "sample", 14, end_id=None)))
    position = begin_to_write(graphs.step, graphs.decode.search, [[3]], None)
    options = dataclasses.replace(longest(graphs.decode, 200), **filters)
    noise = np.random.default_rng(5).random((1, 200))
    ((drawn,),) = search_on_host(graphs.step, position, graphs.decode.search, options, [5])
    assert graphs.decode.run(np.array([[3]]), options, noise=noise).tokens(0) == [drawn.tokens]
    assert set(drawn.tokens) == set(range(left))


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16"])
@pytest.mark.parametrize("task", TASKS)
def test_rounded_beams_are_the_hosts(task, precision):
    check_against_the_host(*opened(task, "gru", "beam", 2, precision), seed=2, configurations=3)


def test_a_beam_over_4_bit_blocks_is_the_hosts():
    """Of matrices that are large enough for them."""
    model = network("language-model", "gru", 2, vocab_size=300, embedding_size=64, hidden_size=96, num_layers=2)
    search = some_search("language-model", "beam", 2, num_beams=4, num_return_sequences=3)
    built = build(model, Plan("int4"), search=search)
    assert {"MatMulNBits", "GatherBlockQuantized"} <= {node.op_type for node in built.protos["decode"].graph.node}
    check_against_the_host(Opened.from_built(built), model.spec, search, seed=2, configurations=4)


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("attention", ["dot", "general", "bahdanau"])
def test_beams_with_attention_are_the_hosts(attention, feeding):
    model = network("translate", "lstm", 3, attention=attention, input_feeding=feeding)
    search = some_search("translate", "beam", 3, num_beams=3, num_return_sequences=2)
    check_against_the_host(Opened.from_built(build(model, search=search)), model.spec, search, seed=3, configurations=3)


@pytest.mark.parametrize("task", TASKS)
def test_a_beam_that_narrows_is_the_slow_one(task):
    graphs = opened(task, "gru", "beam", 4, narrowing=True, num_beams=4, num_return_sequences=4)
    check_against_the_host(*graphs, seed=4, configurations=6)


@pytest.mark.parametrize("narrowing", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_of_equals_a_beam_takes_the_hosts(task, narrowing):
    """Of networks to which all tokens are equally probable, and so all texts of one length."""
    model = network(task, "gru", 16)
    for parameter in (model if task == "language-model" else model.decoder).output.parameters():
        parameter.data[:] = 0
    search = some_search(task, "beam", 16, num_beams=4, num_return_sequences=4, narrowing=narrowing, end_id=END)
    graphs = Opened.from_built(build(model, search=search))
    check_against_the_host(graphs, model.spec, search, seed=16, configurations=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample"])
@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("cell", CELLS)
def test_thousands_of_searches_are_the_hosts(cell, precision, strategy, seed):
    task = TASKS[seed % len(TASKS)]
    check_against_the_host(*opened(task, cell, strategy, seed, precision), seed=seed, configurations=10)


@pytest.mark.parametrize("strategy", ["greedy", "sample"])
def test_it_stops_as_soon_as_every_row_has_ended(strategy):
    """A network that ends at once takes one step of the hundred that it may; one that cannot end takes them all."""
    for bias, steps in ((1e4, 1), (-1e4, 100)):
        model = network("language-model", "gru", 5)
        model.output.bias.data[END] = bias
        search = some_search("language-model", strategy, 5, end_id=END)
        decode = Opened.from_built(build(model, search=search)).decode
        noise = np.random.default_rng(0).random((2, 100)) if strategy == "sample" else None
        found = decode.run(np.array([[3, 4], [-1, 5]]), longest(decode, 100), noise=noise)
        assert found.sequences.shape == (2, 1, steps)


class Counting:
    """A step graph that counts its calls."""

    def __init__(self, graph) -> None:
        self._graph = graph
        self.calls = 0

    def step(self, tokens, state):
        self.calls += 1
        return self._graph.step(tokens, state)


@pytest.mark.parametrize("narrowing", [False, True])
def test_a_beam_takes_as_many_steps_as_the_hosts(narrowing):
    graphs, spec, search = opened("translate", "gru", "beam", 5, num_beams=3, end_id=END, narrowing=narrowing)
    random, taken = np.random.default_rng(5), set()
    for _ in range(12):
        (row,) = random_rows(spec, [4], random)
        position = begin_to_write(graphs.step, search, [[]], graphs.reader.run(*row))
        counting = Counting(graphs.step)
        options = dataclasses.replace(graphs.decode.options, max_new_tokens=60, length_penalty=0.0)
        search_on_host(counting, position, search, options)
        found = graphs.decode.run(*row, options)
        assert found.sequences.shape[2] == 1 + counting.calls
        taken.add(counting.calls)
    assert len(taken) > 1
    assert max(taken) < 59


def test_a_row_that_has_ended_waits_for_the_others():
    graphs, spec, _ = opened("language-model", "elman", "greedy", 6, end_id=END)
    rows = side_by_side(random_rows(spec, [1, 2, 3, 4, 5, 6], np.random.default_rng(6)))
    found = graphs.decode.run(*rows, longest(graphs.decode, 30))
    lengths = {len(tokens) for row in range(6) for tokens in found.tokens(row)}
    assert len(lengths) > 1
    assert found.sequences.shape[2] == max(lengths)


def test_what_was_found_is_read_on_from():
    """The last token and the state before it begin the next call; with one beam, both are one longer search."""
    graphs, *_ = opened("language-model", "lstm", "beam", 7, num_beams=1, num_return_sequences=1, end_id=None)
    prompt = np.array([[3, 0, 2]])
    whole, begun = (graphs.decode.run(prompt, longest(graphs.decode, most)) for most in (8, 5))
    rest = graphs.decode.run(begun.sequences[:, 0, -1:], longest(graphs.decode, 3), begun.state)
    assert whole.tokens(0)[0] == begun.tokens(0)[0] + rest.tokens(0)[0]
    assert whole.log_prob[0, 0] == pytest.approx(begun.log_prob[0, 0] + rest.log_prob[0, 0])


@pytest.mark.parametrize("opset", range(OLDEST_OPSET, NEWEST_OPSET + 1))
def test_every_opset_gives_a_valid_graph_with_the_same_numbers(opset):
    model = network("translate", "lstm", 8, attention="bahdanau")
    rows = side_by_side(random_rows(model.spec, [3, 5], np.random.default_rng(8)))
    search = some_search("translate", "beam", 8, num_beams=3)
    built, oldest = build(model, opset=opset, search=search), build(model, search=search)
    onnx.checker.check_model(built.protos["decode"], full_check=True)
    decoders = [Opened.from_built(each).decode for each in (built, oldest)]
    found, wanted = (decode.run(*rows, longest(decode, 7)) for decode in decoders)
    assert np.array_equal(found.sequences, wanted.sequences)
    assert np.array_equal(found.log_prob, wanted.log_prob)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_turn_of_a_beam_takes_few_nodes_beside_the_networks_own(precision):
    """Of a GRU of one layer; what must be done where something ends stands by itself."""
    model = network("language-model", "gru", 15, num_layers=1)
    search = some_search("language-model", "beam", 15, early_stopping=False)
    built = build(model, Plan(precision), search=search)
    _, turn = (node for node in built.protos["decode"].graph.node if node.op_type == "Loop")
    nodes = next(attribute.g.node for attribute in turn.attribute if attribute.name == "body")
    assert "CastLike" not in {node.op_type for node in nodes}
    step = built.protos["step"].graph.node
    (scan,) = (node for node in step if node.op_type == "Scan")
    (body,) = (attribute.g.node for attribute in scan.attribute if attribute.HasField("g"))
    assert len(nodes) <= len(step) + len(body) + 28


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_onnxruntime_opens_it_without_a_warning(strategy, capfd):
    model, search = network("language-model", "lstm", 17), some_search("language-model", strategy, 17)
    graph = build(model, Plan("int8"), search=search).protos["decode"].SerializeToString()
    onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert capfd.readouterr().err == ""


def test_no_branch_calls_a_value_as_a_graph_around_it_does():
    """ONNX has one name for one value, in a graph and all that stands in it."""

    def check(graph: onnx.GraphProto, outer: frozenset[str] = frozenset()) -> int:
        named = [each.name for each in (*graph.input, *graph.initializer)]
        named += [name for node in graph.node for name in node.output]
        assert len(set(named)) == len(named)
        assert not outer & set(named)
        bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
        return 1 + max((check(body, outer | set(named)) for body in bodies), default=0)

    model, search = network("language-model", "lstm", 9), some_search("language-model", "beam", 9)
    assert check(build(model, search=search).protos["decode"].graph) == 3  # of a Loop with an If


def test_the_same_model_gives_the_same_bytes_and_the_step_graph_keeps_its_own():
    model, search = network("language-model", "lstm", 9), some_search("language-model", "beam", 9)
    first, second = (build(model, search=search).protos for _ in range(2))
    assert len({each["decode"].SerializeToString(deterministic=True) for each in (first, second)}) == 1
    assert build(model).protos["step"] == first["step"]


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_scores_that_are_not_numbers_are_told(strategy):
    model, search = network("language-model", "gru", 11), some_search("language-model", strategy, 11)
    model.output.weight.data[3] = float("nan")
    decode = Opened.from_built(build(model, search=search)).decode
    with pytest.raises(BundleError, match="scores that are not numbers"):
        decode.run(np.array([[1]]), longest(decode, 3), noise=np.zeros((1, 3)) if strategy == "sample" else None)


def test_noise_is_for_those_who_draw():
    sampling, greedy = (opened("language-model", "gru", strategy, 10)[0].decode for strategy in ("sample", "greedy"))
    for noise in (None, np.zeros(20), np.zeros((2, 20)), np.zeros((1, 0)), np.ones((1, 20)), np.full((1, 3), np.nan)):
        with pytest.raises(OptionsError, match="give it noise"):
            sampling.run(np.array([[1]]), noise=noise)
    with pytest.raises(OptionsError, match="leave it out"):
        greedy.run(np.array([[1]]), noise=np.zeros((1, 20)))
    with pytest.raises(OptionsError, match="give it noise"):
        sampling.run(np.array([[1]]), longest(sampling, 4), noise=np.zeros((1, 5)))


def test_a_graph_refuses_what_it_does_not_search_by():
    beam, greedy = (
        opened("language-model", "gru", strategy, 10, **wide)[0].decode
        for strategy, wide in (
            ("beam", {"num_beams": 3, "num_return_sequences": 2, "early_stopping": "never"}),
            ("greedy", {}),
        )
    )
    assert (beam.options.num_beams, beam.options.num_return_sequences, greedy.options.num_beams) == (3, 2, 1)
    for decode, options, words in [
        (beam, GenerateOptions(), "exported to search with num_beams=3, num_return_sequences=2"),
        (greedy, GenerateOptions(do_sample=True), "exported to search with do_sample=False"),
        (greedy, GenerateOptions(num_beams=2), "exported to search with num_beams=1"),
        (greedy, GenerateOptions(repetition_penalty=2.0, stop_strings=("x",)), r"repetition_penalty=2.0, stop_strings"),
        (beam, dataclasses.replace(beam.options, early_stopping=True), "exported to search with early_stopping=never"),
        (beam, dataclasses.replace(beam.options, beam_threshold=0.1), "no graph searches with beam_threshold=0.1"),
    ]:
        with pytest.raises(OptionsError, match=words):
            decode.run(np.array([[1]]), options)

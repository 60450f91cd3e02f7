"""Steps in places that take turns, here or on a device, against steps that copy everything: the same bits.

The device of these tests is the CPU, under the name that onnxruntime has for it; real ones are in tests/acceptance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_bundle

from rnn_edge.errors import ProviderError, TextError
from rnn_edge.runtimes import StepGraph
from rnn_edge.runtimes.bound_steps import BoundSteps
from rnn_edge.runtimes.decoding import Position, Steps, read, steps_from, take
from rnn_edge.runtimes.device_steps import DeviceSteps, Helpers
from rnn_edge.runtimes.recorded_steps import RecordedSteps, Recordings

CELLS = [
    {"cell": "lstm", "num_layers": 2},
    {"cell": "lstm", "proj_size": 8, "tied": True, "embedding_size": 8},
    {"cell": "gru"},
    {"cell": "elman", "num_layers": 3},
]


def same(one: Position, other: Position) -> bool:
    pairs = zip((one.logits, *one.state), (other.logits, *other.state), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


def on_device(graph: StepGraph, position: Position) -> Steps:
    return DeviceSteps(graph._session, graph._names, graph._explain, Helpers(), position)


class Replaying:
    """A session that replays, as an accelerator's does: what it ran under a number once it runs again and again."""

    def __init__(self, session):
        self._session = session
        self.recorded = {}

    def io_binding(self):
        return self._session.io_binding()

    def run_with_iobinding(self, way, options):
        number = int(options.get_run_config_entry("gpu_graph_id"))
        self._session.run_with_iobinding(way if number < 0 else self.recorded.setdefault(number, way), options)


def recordings_of(graph: StepGraph) -> Recordings:
    return Recordings(Replaying(graph._session), graph._names, "cpu")


def recorded(graph: StepGraph, position: Position, recordings: Recordings | None = None) -> Steps:
    recordings = recordings or recordings_of(graph)
    return RecordedSteps(recordings._session, graph._names, graph._explain, Helpers(), position, recordings)


@pytest.fixture
def device_is_the_cpu(monkeypatch):
    monkeypatch.setattr("rnn_edge.runtimes.device_steps._DEVICE", "cpu")


@pytest.mark.usefixtures("device_is_the_cpu")
@pytest.mark.parametrize("begin", [steps_from, on_device, recorded])
@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("changes", CELLS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_rows_go_on_as_if_they_were_copied(changes, begin):
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn"), **changes))
    for seed in range(20):
        generator = np.random.default_rng(seed)

        def some(count, generator=generator):
            return generator.integers(1, 9, count).tolist()

        begun = read(graph, [some(length) for length in some(generator.integers(1, 4))])
        kept = Position(begun.logits.copy(), tuple(part.copy() for part in begun.state))
        bound, plain = begin(graph, begun), Steps(graph, begun)
        assert isinstance(bound, BoundSteps | DeviceSteps)
        for _ in range(25):
            rows = len(plain.position.logits)
            if generator.random() < 0.1 and rows < 9:
                newcomers = read(graph, [some(2), some(3)])
                bound.join(newcomers)
                plain.join(newcomers)
            else:
                order = list(range(rows))
                if generator.random() < 0.5:
                    order = generator.integers(0, rows, generator.integers(1, 8)).tolist()
                tokens = some(len(order))
                bound.go_on(order, tokens)
                plain.go_on(order, tokens)
            assert same(bound.position, plain.position)
            assert bound.scores.top(3) == plain.scores.top(3)
        assert same(begun, kept)  # what they began with is a value


@pytest.mark.usefixtures("device_is_the_cpu")
@pytest.mark.parametrize("begin", [steps_from, on_device, recorded])
def test_two_begin_at_one_position_and_do_not_meet(begin):
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn")))
    begun = read(graph, [[3], [4]])
    one, other = begin(graph, begun), begin(graph, begun)
    one.go_on([0, 1], [5, 6])
    first = take(one.position, [0, 1])
    other.go_on([1, 0], [7, 8])
    assert same(one.position, first)
    assert not same(other.position, first)


def test_a_room_is_lent_again_once_its_search_is_gone():
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn")))
    begun = read(graph, [[3], [4]])
    one, other = steps_from(graph, begun), steps_from(graph, begun)
    place = one.position.logits.ctypes.data
    assert other.position.logits.ctypes.data != place
    del one
    assert steps_from(graph, take(begun, [0])).position.logits.ctypes.data == place


def test_only_a_few_small_rooms_are_kept():
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn")))
    begun = read(graph, [[3]])
    searches = [steps_from(graph, take(begun, [0] * rows)) for rows in (1, 2, 17, 3)]
    searches.clear()
    assert len(graph._rooms._free) == 2
    assert all(room.capacity < 17 for room in graph._rooms._free)


@pytest.mark.usefixtures("device_is_the_cpu")
@pytest.mark.parametrize("begin", [steps_from, on_device])
def test_a_token_outside_the_vocabulary_is_explained(begin):
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn")))
    steps = begin(graph, read(graph, [[3]]))
    with pytest.raises(TextError, match=r"wants tokens int64 \(batch, time\).*it got int64 \(1, 1\)"):
        steps.go_on([0], [10**6])


@pytest.mark.usefixtures("device_is_the_cpu")
def test_what_a_device_cannot_do_the_host_does():
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn")))
    steps = on_device(graph, read(graph, [[3], [4]]))
    plain = Steps(graph, steps.position)
    steps._helpers.top_k = steps._helpers.take_rows = None
    for rows in ([0, 1], [1, 0, 1], [2, 0]):
        steps.go_on(rows, [5] * len(rows))
        plain.go_on(rows, [5] * len(rows))
        assert same(steps.position, plain.position)
        assert steps.scores.top(4) == plain.scores.top(4)


@pytest.mark.usefixtures("device_is_the_cpu")
def test_rows_alone_are_recorded_once_for_each_search_that_steps_at_the_same_time():
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn"), cell="lstm", num_layers=2))
    recordings = recordings_of(graph)
    for seed in range(3):
        begun = [read(graph, [[3 + seed]]), read(graph, [[4, 5]])]
        replayed = [recorded(graph, position, recordings) for position in begun]
        plain = [Steps(graph, position) for position in begun]
        for number in range(10):
            for one, other in zip(replayed, plain, strict=True):
                one.go_on([0], [number])
                other.go_on([0], [number])
            assert all(same(one.position, other.position) for one, other in zip(replayed, plain, strict=True))
        assert sorted(recordings._session.recorded) == [1, 2, 3, 4]
        del one, replayed


@pytest.mark.usefixtures("device_is_the_cpu")
def test_a_step_that_cannot_be_recorded_says_so():
    graph = StepGraph.from_bundle(tiny_bundle(Path("model.rnn")))
    with pytest.raises(ProviderError, match=r"cannot record and replay a step of this graph: .*leave out the option"):
        recorded(graph, read(graph, [[3]])).go_on([0], [10**6])

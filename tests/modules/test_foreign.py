"""Imported weights compute what the framework they come from computes: held against its formulas and its recordings."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import shared

from rnn_edge.errors import CheckpointError
from rnn_edge.modules import Stack, import_weights
from rnn_edge.spec import StackSpec

INPUTS, HIDDEN = 3, 4


def stack_of(cell: str, weights: dict[str, torch.Tensor], **changes) -> Stack:
    """Build a stack around weights: its sizes are theirs."""
    inputs, hidden = weights["weight_ih_l0"].shape[1], weights["weight_hh_l0"].shape[1]
    bidirectional = "weight_ih_l0_reverse" in weights
    spec = StackSpec(cell=cell, hidden_size=hidden, num_layers=2 if "weight_ih_l1" in weights else 1, **changes)
    stack = Stack(spec, inputs, bidirectional=bidirectional)
    stack.rnn.load_state_dict(weights)
    return stack.eval()


def onnx_stack(cell: str, inputs: list[np.ndarray], **options) -> Stack:
    """Build a stack of a node's W, R and B, with as many directions as they have."""
    weights = {}
    for direction, suffix in zip(range(len(inputs[0])), ("", "_reverse"), strict=False):
        layer = [array[direction] for array in inputs]
        found = import_weights("onnx", cell, [layer], **options)
        weights |= {f"{name}{suffix}": tensor for name, tensor in found.items()}
    return stack_of(cell, weights, **options)


def arrays(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Each is one step of a framework's own code, in its own words: (arrays of a layer, x, state) -> state.


def tensorflow_elman(kernel, bias, x, h):
    return (np.tanh(np.concatenate([x, h]) @ kernel + bias),)


def tensorflow_lstm(kernel, bias, x, h, c, forget_bias=1.0):
    i, j, f, o = np.split(np.concatenate([x, h]) @ kernel + bias, 4)
    new_c = c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j)
    return np.tanh(new_c) * sigmoid(o), new_c


def tensorflow_lstm_without_forget_bias(kernel, bias, x, h, c):
    return tensorflow_lstm(kernel, bias, x, h, c, forget_bias=0.0)


def tensorflow_gru(gate_kernel, gate_bias, candidate_kernel, candidate_bias, x, state):
    r, u = np.split(sigmoid(np.concatenate([x, state]) @ gate_kernel + gate_bias), 2)
    c = np.tanh(np.concatenate([x, r * state]) @ candidate_kernel + candidate_bias)
    return (u * state + (1 - u) * c,)


def keras_elman(kernel, recurrent_kernel, bias, x, h):
    return (np.tanh(x @ kernel + h @ recurrent_kernel + bias),)


def keras_lstm(kernel, recurrent_kernel, bias, x, h, c):
    z0, z1, z2, z3 = np.split(x @ kernel + h @ recurrent_kernel + bias, 4)
    c = sigmoid(z1) * c + sigmoid(z0) * np.tanh(z2)
    return sigmoid(z3) * np.tanh(c), c


def keras_gru(kernel, recurrent_kernel, bias, x, h):
    input_bias, recurrent_bias = bias
    x_z, x_r, x_h = np.split(x @ kernel + input_bias, 3)
    recurrent_z, recurrent_r, recurrent_h = np.split(h @ recurrent_kernel + recurrent_bias, 3)
    z = sigmoid(x_z + recurrent_z)
    hh = np.tanh(x_h + sigmoid(x_r + recurrent_r) * recurrent_h)
    return (z * h + (1 - z) * hh,)


def keras_gru_without_bias(kernel, recurrent_kernel, x, h):
    return keras_gru(kernel, recurrent_kernel, np.zeros((2, 3 * HIDDEN)), x, h)


def keras_gru_reset_before(kernel, recurrent_kernel, bias, x, h):
    units = len(h)
    x_z, x_r, x_h = np.split(x @ kernel + bias, 3)
    z = sigmoid(x_z + h @ recurrent_kernel[:, :units])
    r = sigmoid(x_r + h @ recurrent_kernel[:, units : units * 2])
    hh = np.tanh(x_h + (r * h) @ recurrent_kernel[:, units * 2 :])
    return (z * h + (1 - z) * hh,)


def dynet_elman(x2h, h2h, hb, x, h):
    return (np.tanh(hb + x2h @ x + h2h @ h),)


def dynet_lstm(x2i, h2i, bi, x, h, c):
    i, f, o, g = np.split(bi + x2i @ x + h2i @ h, 4)
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def dynet_gru(x2z, h2z, bz, x2r, h2r, br, x2h, h2h, bh, x, h):
    z, r = sigmoid(bz + x2z @ x + h2z @ h), sigmoid(br + x2r @ x + h2r @ h)
    c = np.tanh(bh + x2h @ x + h2h @ (r * h))
    return (z * c + (1 - z) * h,)


def torch_gru_opposite(weight_ih, weight_hh, bias_ih, bias_hh, x, h):
    """h' = z∘n + (1−z)∘h, in PyTorch's layout."""
    x_r, x_z, x_n = np.split(weight_ih @ x + bias_ih, 3)
    h_r, h_z, h_n = np.split(weight_hh @ h + bias_hh, 3)
    z, n = sigmoid(x_z + h_z), np.tanh(x_n + sigmoid(x_r + h_r) * h_n)
    return (z * n + (1 - z) * h,)


def plain(gates):
    return lambda x, h: [(gates * h, x), (gates * h, h), (gates * h,)]


def keras(gates, *bias_rows):
    return lambda x, h: [(x, gates * h), (h, gates * h), (*bias_rows, gates * h)]


def tensorflow(gates):
    return lambda x, h: [(x + h, gates * h), (gates * h,)]


BEFORE, OPPOSITE = {"reset_after": False}, {"opposite_z": True}
STEPS = {
    tensorflow_elman: ("tensorflow", "elman", tensorflow(1), {}),
    tensorflow_lstm: ("tensorflow", "lstm", tensorflow(4), {}),
    tensorflow_lstm_without_forget_bias: ("tensorflow", "lstm", tensorflow(4), {"forget_bias": 0.0}),
    tensorflow_gru: ("tensorflow", "gru", lambda x, h: tensorflow(2)(x, h) + tensorflow(1)(x, h), BEFORE),
    keras_elman: ("keras", "elman", keras(1), {}),
    keras_lstm: ("keras", "lstm", keras(4), {}),
    keras_gru: ("keras", "gru", keras(3, 2), {}),
    keras_gru_without_bias: ("keras", "gru", lambda x, h: keras(3)(x, h)[:2], {}),
    keras_gru_reset_before: ("keras", "gru", keras(3), BEFORE),
    dynet_elman: ("dynet", "elman", plain(1), {}),
    dynet_lstm: ("dynet", "lstm", plain(4), {}),
    dynet_gru: ("dynet", "gru", lambda x, h: plain(1)(x, h) * 3, BEFORE),
    torch_gru_opposite: ("torch", "gru", lambda x, h: [*plain(3)(x, h), (3 * h,)], OPPOSITE),
}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_every_step_is_the_frameworks_own(step):
    """Two layers, nine steps, from a state that is not zero."""
    convention, cell, shapes, options = STEPS[step]
    layers = [arrays(*shapes(INPUTS, HIDDEN)), arrays(*shapes(HIDDEN, HIDDEN), seed=1)]
    stack = stack_of(cell, import_weights(convention, cell, layers, **options), **reset_of(options))
    (x,) = arrays((9, INPUTS), seed=2)
    state = tuple(map(torch.from_numpy, arrays(*[(2, 1, HIDDEN)] * len(stack.start(1)), seed=3)))
    y, after = stack(torch.from_numpy(x)[None], state)

    expected = [[part[layer, 0].numpy() for part in state] for layer in range(2)]
    for now, found in zip(x, y[0].detach(), strict=True):
        for layer, layer_arrays in enumerate(layers):
            expected[layer] = step(*layer_arrays, now, *expected[layer])
            now = expected[layer][0]
        np.testing.assert_allclose(found, now, rtol=1e-4, atol=1e-5)
    for part, last in zip(after, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(part[:, 0].detach(), last, rtol=1e-4, atol=1e-5)


def reset_of(options: dict) -> dict:
    """Return the part of an import's options that the spec must repeat."""
    return {name: value for name, value in options.items() if name == "reset_after"}


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
@pytest.mark.parametrize("bias", [True, False])
def test_torch_weights_come_back_as_they_are(cell, bias):
    theirs = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](3, 4, 2, bias=bias)
    parameters = list(theirs.parameters())
    count = len(parameters) // 2
    found = import_weights("torch", cell, [parameters[:count], parameters[count:]])
    expected = theirs.state_dict()
    assert all(torch.equal(found[name], expected.get(name, torch.zeros_like(found[name]))) for name in found)
    assert expected.keys() <= found.keys()
    assert len(found) == 8


@pytest.mark.parametrize("kind", [np.float16, np.float64, torch.bfloat16, list])
def test_any_float_type_becomes_float32_and_nothing_is_shared(kind):
    given = [np.ones((4, 3)), np.ones((4, 4)), np.ones(4)]
    if kind is list:
        converted = [each.tolist() for each in given]
    elif isinstance(kind, torch.dtype):
        converted = [torch.from_numpy(each).to(kind).requires_grad_() for each in given]
    else:
        converted = [each.astype(kind) for each in given]
    weights = import_weights("dynet", "elman", [converted])
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    shared_memory = np.ones((4, 4), np.float32)
    import_weights("dynet", "elman", [[shared_memory, shared_memory, np.ones(4)]])["weight_hh_l0"].zero_()
    assert shared_memory.all()


ONNX = {"RNN": "elman", "LSTM": "lstm", "GRU": "gru"}


@pytest.mark.parametrize(("op", "attributes", "options"), [
    ("RNN", {}, {}), ("LSTM", {}, {}), ("GRU", {}, BEFORE), ("GRU", {"linear_before_reset": 1}, {}),
])  # fmt: skip
def test_an_onnx_node_in_onnxruntime_gives_the_same(op, attributes, options):
    """Both directions, from a state that is not zero."""
    cell = ONNX[op]
    gates = {"elman": 1, "lstm": 4, "gru": 3}[cell] * HIDDEN
    names = ["X", "W", "R", "B", "", "H", "C"][: 7 if cell == "lstm" else 6]
    shapes = [
        (6, 2, INPUTS),
        (2, gates, INPUTS),
        (2, gates, HIDDEN),
        (2, 2 * gates),
        *[(2, 2, HIDDEN)] * (len(names) - 5),
    ]
    feed = dict(zip([name for name in names if name], arrays(*shapes), strict=True))
    node = onnx.helper.make_node(op, names, ["Y"], hidden_size=HIDDEN, direction="bidirectional", **attributes)
    expected = run_node(node, feed)  # (time, directions, batch, hidden)
    stack = onnx_stack(cell, [feed[name] for name in ("W", "R", "B")], **options)
    y, _ = stack(torch.from_numpy(feed["X"]).transpose(0, 1), tuple(torch.from_numpy(feed[name]) for name in names[5:]))
    found = y.unflatten(2, (2, HIDDEN)).permute(1, 2, 0, 3)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=1e-5)


def run_node(node: onnx.NodeProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, value.shape) for name, value in feed.items()
    ]
    output = onnx.helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([node], "one", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)[0]


def _onnx_cases() -> list[str]:
    """All 18 node tests but one: peepholes are no part of our LSTM."""
    common = ["defaults", "with_initial_bias", "batchwise", "reverse", "bidirectional"]
    cases = [f"test_{op}_{kind}" for op in ("gru", "lstm", "simple_rnn") for kind in common]
    return [*cases, "test_gru_seq_length", "test_rnn_seq_length"]


@pytest.mark.parametrize("name", _onnx_cases())
def test_the_onnx_node_tests_hold(name):
    """A reverse node is a stack over reversed time. The suite's GRUs all reset before the product."""
    case = json.loads(shared("suites/onnx_node_rnn/index.json").read_text())[name]
    data = np.load(shared(f"suites/onnx_node_rnn/{name}/data.npz"))
    cell, by_batch = ONNX[case["op"]], case["attrs"].get("layout") == 1
    x, *weights = (data[f"in_{index}"] for index in range(len(case["inputs"])))
    x = torch.from_numpy(x if by_batch else x.swapaxes(0, 1))  # (batch, time, input)
    backwards = [1] if case["attrs"].get("direction") == "reverse" else []
    stack = onnx_stack(cell, weights, **(BEFORE if cell == "gru" else {}))
    y, state = stack(x.flip(backwards), stack.start(len(x)))
    y = y.flip(backwards).unflatten(2, (stack.directions, -1))  # (batch, time, directions, hidden)
    found = {"Y": y if by_batch else y.permute(1, 2, 0, 3), "Y_h": state[0], "Y_c": state[-1]}
    if by_batch:
        found["Y_h"] = found["Y_h"].transpose(0, 1)
    for index, output in enumerate(filter(None, case["outputs"])):
        np.testing.assert_allclose(found[output].detach(), data[f"out_{index}"], rtol=1e-5, atol=1e-6)


def test_silero_vads_lstm_gives_its_recorded_states():
    """A speech detector's cell, 375 windows of real speech: each h and c on the way."""
    weights = np.load(shared("models/silero_vad/weights_torch_order.npz"))
    recorded = np.load(shared("models/silero_vad/golden.npz"))
    layer = [weights[f"lstm_cell.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    stack = stack_of("lstm", import_weights("torch", "lstm", [layer]))
    state = stack.start(1)
    for window, h, c in zip(recorded["lstm_input"], recorded["h"], recorded["c"], strict=True):
        _, state = stack(torch.from_numpy(window)[None, None], state)
        np.testing.assert_allclose(state[0][0, 0].detach(), h, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state[1][0, 0].detach(), c, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("convention", "cell", "shapes", "words"), [
    ("torch", "lstm", [(16, 3), (16, 4), (16,)], "layer 0 of torch's lstm should be weight_ih .4·hidden, inputs"),
    ("dynet", "lstm", [(16, 3), (16, 4), (16,), (16,)], r"Wh .* and b .*; found .*, \(16,\), \(16,\)$"),
    ("onnx", "gru", [(12, 3), (12, 4), (12,)], r"B \(2·3·hidden,\) or none, of one direction; found \(12, 3\)"),
    ("onnx", "elman", [(1, 4, 3), (1, 4, 4)], r"W \(hidden, inputs\), R .* found \(1, 4, 3\), \(1, 4, 4\)"),
    ("tensorflow", "lstm", [(7, 16), (15,)], r"kernel \(inputs \+ hidden, 4·hidden\)"),
    ("tensorflow", "lstm", [(4, 16), (16,)], "found"),  # leaves no inputs
    ("tensorflow", "gru", [(7, 8), (8,), (6, 4), (4,)], "candidate/kernel"),
    ("tensorflow", "gru", [(7, 12), (12,)], "gates/kernel"),
    ("keras", "lstm", [(16, 3), (16, 4), (16,)], "recurrent_kernel"),  # transposed
    ("keras", "gru", [(3, 12), (4, 12), (3, 12)], "bias"),
    ("keras", "lstm", [(3, 16), (4, 16), (2, 16)], "bias"),
    ("dynet", "lstm", [(16, 3), (16, 4), (16, 1)], "Wx"),
    ("dynet", "gru", [(4, 3), (4, 4), (4,)], "three times"),
    ("dynet", "elman", [(), ()], "Wx"),
    ("torch", "gru", [], "found nothing"),
    ("torch", "gru", [(0, 3), (0, 0)], "found"),
])  # fmt: skip
def test_shapes_that_do_not_fit_are_refused_in_one_sentence(convention, cell, shapes, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        import_weights(convention, cell, [arrays(*shapes)], **(BEFORE if cell == "gru" else {}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("convention", "shapes", "says"), [
    ("tensorflow", STEPS[tensorflow_gru][2], False),
    ("dynet", STEPS[dynet_gru][2], False),
    ("keras", keras(3), False),
    ("keras", keras(3, 2), True),
])  # fmt: skip
def test_a_gru_that_resets_elsewhere_is_refused(convention, shapes, says):
    layer = arrays(*shapes(INPUTS, HIDDEN))
    import_weights(convention, "gru", [layer], reset_after=says)
    with pytest.raises(CheckpointError, match=f"give reset_after={says}, here and in the network's spec"):
        import_weights(convention, "gru", [layer], reset_after=not says)


def test_options_that_make_no_sense_are_all_named():
    with pytest.raises(CheckpointError, match=r"convention must be one of .*'caffe'; opposite_z .* gru cell only"):
        import_weights("caffe", "lstm", [], opposite_z=True)
    with pytest.raises(
        CheckpointError, match=r"cell must be one of elman, lstm, gru, got 'tree'; .* forget_bias is for"
    ):
        import_weights("torch", "tree", [], reset_after=False, forget_bias=1.0)


def test_layers_must_be_there_and_of_one_width():
    with pytest.raises(CheckpointError, match="no layers"):
        import_weights("torch", "lstm", [])
    layers = [arrays(*plain(4)(INPUTS, 4)), arrays(*plain(4)(4, 2))]
    with pytest.raises(CheckpointError, match="these have 4, 2 hidden units"):
        import_weights("dynet", "lstm", layers)

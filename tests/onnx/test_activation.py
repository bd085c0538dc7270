"""Activations, Clip and Dropout of ONNX: formulas, gradients, older operator sets, refusals."""

import copy
import math

import numpy as np
import pytest

import xcnn
from xcnn import Tensor, nn
from xcnn.errors import XcnnError
from xcnn.testing import gradcheck

from ..conftest import assert_matches, normal
from .models import assert_same, graph_of, node_on, run, shapes_of


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def elu(x, alpha):
    return np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))


FORMULAS = {
    "relu": ("Relu", {}, lambda x: np.maximum(x, 0)),
    "leaky": ("LeakyRelu", {}, lambda x: np.where(x > 0, x, 0.01 * x)),
    "leaky 0.25": ("LeakyRelu", {"alpha": 0.25}, lambda x: np.where(x > 0, x, 0.25 * x)),
    "elu": ("Elu", {"alpha": 1.5}, lambda x: elu(x, 1.5)),
    "celu": ("Celu", {"alpha": 2.0}, lambda x: np.where(x > 0, x, 2 * (np.exp(x / 2) - 1))),
    "selu": ("Selu", {}, lambda x: 1.0507010221481323 * elu(x, 1.6732631921768188)),
    "selu 2 3": ("Selu", {"alpha": 2.0, "gamma": 3.0}, lambda x: 3 * elu(x, 2)),
    "hard sigmoid": ("HardSigmoid", {}, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    "hard sigmoid 1/6": ("HardSigmoid", {"alpha": 1 / 6}, lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    "hard sigmoid 1/2": (
        "HardSigmoid",
        {"alpha": 0.5, "beta": 0.25},
        lambda x: np.clip(x / 2 + 0.25, 0, 1),
    ),
    "hard swish": ("HardSwish", {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "sigmoid": ("Sigmoid", {}, sigmoid),
    "tanh": ("Tanh", {}, np.tanh),
    "softplus": ("Softplus", {}, lambda x: np.log(1 + np.exp(x))),
    "softsign": ("Softsign", {}, lambda x: x / (1 + np.abs(x))),
    "mish": ("Mish", {}, lambda x: x * np.tanh(np.log(1 + np.exp(x)))),
    "thresholded": ("ThresholdedRelu", {"alpha": 0.5}, lambda x: np.where(x > 0.5, x, 0)),
    "clip": ("Clip", {}, lambda x: x),
}
formulas = pytest.mark.parametrize(
    ("kind", "attributes", "formula"),
    FORMULAS.values(),
    ids=[name.replace(" ", "-") for name in FORMULAS],
)


@formulas
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (0, 3)], ids=str)
def test_formula(backend, kind, attributes, formula, shape):
    x = 3 * normal(*shape)
    graph = graph_of(kind, {"x": shape}, opset=22, types={"x": "float64"}, **attributes)
    assert_matches(run(graph, backend, np.asarray(x)), formula(x), "float64", factor=1e3)
    single = np.asarray(x, "float32")
    assert_matches(run(graph, backend, single), formula(np.float64(single)), "float32")


@formulas
def test_gradient(backend, kind, attributes, formula):
    graph = graph_of(kind, {"x": (3, 5)}, opset=22, types={"x": "float64"}, **attributes)
    assert gradcheck(graph.to(backend), backend.asarray(3 * normal(3, 5))) < 1e-6


@pytest.mark.parametrize("alpha", [1.0, 1.7])
def test_swish(backend, alpha):
    x = 3 * normal(2, 3)
    graph = graph_of("Swish", {"x": (2, 3)}, opset=24, alpha=alpha)
    assert_matches(run(graph, backend, x), x * sigmoid(np.float32(alpha) * x), "float64")
    assert gradcheck(graph, backend.asarray(x)) < 1e-6


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(backend, approximate):
    torch = pytest.importorskip("torch")
    x = 3 * normal(2, 3)
    graph = graph_of("Gelu", {"x": (2, 3)}, approximate=approximate)
    expected = torch.nn.functional.gelu(torch.tensor(x), approximate=approximate)
    assert_matches(run(graph, backend, x), expected.numpy(), "float64")
    with pytest.raises(XcnnError, match="approximate='erf'"):
        run(graph_of("Gelu", {"x": (2, 3)}, approximate="erf"), backend, x)


def test_celu_divides_by_alpha(backend):
    with pytest.raises(XcnnError, match=r"a Celu.*alpha=0.0"):
        node_on("Celu", backend, normal(3), alpha=0.0)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_relu_of_integers(backend, dtype):
    assert_same(node_on("Relu", backend, np.array([-3, 0, 5], dtype)), [0, 0, 5], dtype)


def test_float16_stays(backend):
    x = normal(2, 3).astype("float16")
    for kind in ("Relu", "Sigmoid", "Softplus", "HardSigmoid", "Celu", "Softmax"):
        assert node_on(kind, backend, x).dtype == "float16"


# -- PRelu ---------------------------------------------------------------------------------


def prelu(x, slope):
    return np.where(x < 0, x * slope, x)


SLOPES = [(), (1,), (3, 1, 1), (1, 3, 1, 1), (5,), (4, 1), (3, 4, 5), (2, 3, 4, 5), (2, 1, 1, 5)]


@pytest.mark.parametrize("shape", SLOPES, ids=str)
def test_prelu_with_any_slopes(backend, shape):
    x, slope = normal(2, 3, 4, 5), np.asarray(normal(*shape, seed=1))
    inputs, types = shapes_of(x, slope)
    graph = graph_of("PRelu", inputs, types=types)
    assert_matches(run(graph, backend, x, slope), prelu(x, slope), "float64")
    moved = backend.asarray(slope)
    others = (moved,) if shape else ()  # central differences are for arrays with axes
    assert gradcheck(lambda x, slope=moved: graph(x, slope), backend.asarray(x), *others) < 1e-6


def test_prelu_of_old_has_slopes_of_channels(backend):
    x, slope = normal(2, 3, 4, 3), normal(3, seed=1)
    per_channel = node_on("PRelu", backend, x, slope, opset=6)
    assert_matches(per_channel, prelu(x, slope[:, None, None]), "float64")
    assert_matches(node_on("PRelu", backend, x, slope, opset=7), prelu(x, slope), "float64")


def test_prelu_of_integers(backend):
    x, slope = np.array([[-3, 2, -1]]), np.array([2, 3, 4])
    assert_same(node_on("PRelu", backend, x, slope), [[-6, 2, -4]], "int64")


@pytest.mark.parametrize("shape", [(2,), (2, 2, 3), (4, 1)], ids=str)
def test_prelu_with_slopes_that_do_not_fit(backend, shape):
    with pytest.raises(XcnnError, match="a PRelu"):
        node_on("PRelu", backend, normal(2, 3), np.asarray(normal(*shape)))


def test_prelu_is_trained(backend):
    x, slope = -np.ones((2, 3, 4), "float32"), np.full((3, 1), 0.5, "float32")
    graph = graph_of("PRelu", {"x": (2, 3, 4)}, {"slope": slope}).to(backend)
    graph(backend.asarray(x)).sum().backward()
    (parameter,) = graph.parameters()
    assert_matches(backend.to_host(parameter.grad.data), np.full((3, 1), -8), "float32")


# -- softmax -------------------------------------------------------------------------------


def softmax(x, axes):
    e = np.exp(x - x.max(axes, keepdims=True))
    return e / e.sum(axes, keepdims=True)


@pytest.mark.parametrize(
    ("opset", "axis", "axes"),
    [
        (13, None, (3,)),
        (13, 1, (1,)),
        (13, -3, (1,)),
        (12, None, (1, 2, 3)),
        (11, 2, (2, 3)),
        (11, -1, (3,)),
        (6, 0, (0, 1, 2, 3)),
    ],
)
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_softmax(backend, kind, opset, axis, axes):
    x, axis = normal(2, 3, 4, 2), {} if axis is None else {"axis": axis}
    graph = graph_of(kind, {"x": x.shape}, opset=opset, **axis)
    y = softmax(x, axes)
    assert_matches(run(graph, backend, x), y if kind == "Softmax" else np.log(y), "float64")
    assert gradcheck(graph, backend.asarray(x)) < 1e-6


@pytest.mark.parametrize(("opset", "axis"), [(12, 0), (12, 1), (13, 0), (13, 1)])
def test_softmax_of_no_examples(backend, opset, axis):
    x = np.zeros((0, 3, 2), "float32")
    assert node_on("Softmax", backend, x, opset=opset, axis=axis).shape == (0, 3, 2)


@pytest.mark.parametrize(("opset", "axis"), [(12, 3), (13, -4), (13, 7)])
def test_softmax_without_that_axis(backend, opset, axis):
    with pytest.raises(XcnnError, match=f"a Softmax.*axis {axis}"):
        node_on("Softmax", backend, normal(2, 3, 4), opset=opset, axis=axis)


# -- Clip ----------------------------------------------------------------------------------

CLIPS = [(None, None), (-0.5, None), (None, 0.5), (-0.5, 0.75), (0, None), (0, 6), (1, -1)]


@pytest.mark.parametrize(("low", "high"), CLIPS, ids=str)
@pytest.mark.parametrize("opset", [6, 11, 13])
def test_clip(backend, low, high, opset):
    x, ends = 4 * normal(3, 5), {"min": low, "max": high}
    if opset == 6:
        given = {n: float(v) for n, v in ends.items() if v is not None}
        graph = graph_of("Clip", {"x": x.shape}, opset=6, types={"x": "float64"}, **given)
        bounds = []
    else:
        inputs = {"x": x.shape, "min": (), "max": ()}
        graph = graph_of("Clip", inputs, opset=opset, types=dict.fromkeys(inputs, "float64"))
        bounds = [None if v is None else np.float64(v).reshape(()) for v in ends.values()]
    lower, upper = -math.inf if low is None else low, math.inf if high is None else high
    expected = np.minimum(np.maximum(x, lower), upper)
    assert_matches(run(graph, backend, x, *bounds), expected, "float64")
    settings = [None if b is None else backend.asarray(b) for b in bounds]
    assert gradcheck(lambda x: graph(x, *settings), backend.asarray(x)) < 1e-6


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_clip_of_integers(backend, dtype):
    x = np.array([0, 3, 100], dtype)
    low, high = np.array(2, dtype), np.array(50, dtype)
    assert_same(node_on("Clip", backend, x, low, high), [2, 3, 50], dtype)


@pytest.mark.parametrize("low", [np.array(0.5), np.array([1, 2]), np.array(True)], ids=str)
def test_clip_with_bounds_that_do_not_fit(backend, low):
    with pytest.raises(XcnnError, match=r"a Clip.*min is"):
        node_on("Clip", backend, np.arange(3), low)


# -- Dropout -------------------------------------------------------------------------------


def dropout(x, opset=22, inputs=None, **attributes):
    weights = {n: np.asarray(v) for n, v in (inputs or {}).items()}
    return graph_of("Dropout", {"x": x.shape}, weights, opset, ("y", "mask"), **attributes)


@pytest.mark.parametrize("opset", [7, 10, 12, 22])
def test_dropout_in_evaluation(backend, opset):
    x = normal(3, 4, dtype="float32")
    y, mask = run(dropout(x, opset), backend, x)
    assert_matches(y, x, "float32")
    assert_same(mask, np.ones((3, 4)), "float32" if opset < 10 else bool)


@pytest.mark.parametrize(
    ("opset", "inputs", "attributes"),
    [
        (6, {}, {"is_test": 1, "ratio": 0.75}),
        (7, {}, {"ratio": 0.75}),
        (12, {"ratio": np.float32(0.75)}, {}),
        (22, {"ratio": np.float32(0.75)}, {"seed": 3}),
        (22, {"ratio": np.float32(0.75), "training": np.False_}, {}),
    ],
)
def test_dropout_in_training(backend, opset, inputs, attributes):
    """In training mode it drops different elements in each step and scales the rest."""
    x = np.full((50, 40), 2.0, "float32")
    graph = dropout(x, opset, inputs, **attributes).train()
    xcnn.manual_seed(1)
    (y, mask), (again, _) = run(graph, backend, x), run(graph, backend, x)
    assert_matches(y, mask * np.float32(8), "float32")
    assert 0.2 < mask.mean() < 0.3
    assert (y != again).any()
    assert (run(graph.eval(), backend, x)[0] == x).all()


def test_dropout_gives_the_gradient_to_what_is_kept(backend):
    for attributes in ({}, {"seed": 5}):
        x = Tensor(backend.asarray(np.ones((30, 20), "float32")), requires_grad=True)
        y, mask = dropout(x, **attributes).train().to(backend)(x)
        y.sum().backward()
        assert_matches(backend.to_host(x.grad.data), 2 * np.float32(mask.numpy()), "float32")


@pytest.mark.parametrize("seed", [0, 7, -1])
def test_a_seed_gives_the_numbers_of_the_reference(backend, seed):
    """With training_mode in the file; successive calls use one generator."""
    x = normal(3, 4, 5, dtype="float32")
    graph = dropout(x, inputs={"r": np.float32(0.25), "t": np.True_}, seed=seed)
    numbers = np.random.RandomState(seed % 2**32)
    for _ in range(2):
        kept = numbers.uniform(0, 1, x.shape) >= 0.25
        y, mask = run(graph, backend, x)
        assert_matches(y, kept * x / 0.75, "float32")
        assert (mask == kept).all()
    twin = copy.deepcopy(graph)
    assert (run(twin, backend, x)[1] == run(graph, backend, x)[1]).all()


def test_dropout_of_everything(backend):
    x = normal(3, 4, dtype="float32")
    for attributes in ({}, {"seed": 1}):
        graph = dropout(x, inputs={"ratio": np.float32(1)}, **attributes).train()
        y, mask = run(graph, backend, x)
        assert not y.any()
        assert not mask.any()


@pytest.mark.parametrize("attributes", [{}, {"is_test": 0}, {"is_test": 1}])
def test_an_old_dropout_does_not_drop_in_evaluation(backend, attributes):
    """Before version 7 there was is_test; the mode of the module decides."""
    x = np.ones((20, 20), "float32")
    assert (run(dropout(x, 6, **attributes), backend, x)[0] == 1).all()


@pytest.mark.parametrize("ratio", [-0.1, 1.5, math.nan])
def test_dropout_with_what_is_no_probability(backend, ratio):
    x = normal(2, 3)
    with pytest.raises(XcnnError, match=r"a Dropout.*ratio"):
        run(dropout(x, inputs={"ratio": np.float32(ratio)}), backend, x)
    with pytest.raises(XcnnError, match=r"a Dropout.*ratio"):
        run(dropout(x, 7, ratio=ratio), backend, x)


def test_no_host_synchronisation(strict):
    from ..strict import count_syncs

    x = strict.asarray(normal(2, 3, dtype="float32"))
    for kind in ("Relu", "Softmax", "Softplus", "Selu", "HardSigmoid", "Clip", "Dropout"):
        graph = graph_of(kind, {"x": (2, 3)}).to(strict).train()
        with count_syncs() as syncs:
            graph(x)
        assert syncs == []


def test_training(backend):
    """Gradients reach the weights before the activation."""
    graph = graph_of("PRelu", {"x": (4, 3)}, {"slope": np.full((3,), 0.25, "float32")})
    model = nn.Sequential(graph, nn.Linear(3, 2)).to(backend)
    model(backend.asarray(normal(4, 3, dtype="float32"))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())

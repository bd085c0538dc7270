"""Adam, Momentum and Adagrad of ONNX's training domain, against scalar formulas."""

import math

import numpy as np
import pytest
from onnx import helper

from xcnn.errors import XcnnError
from xcnn.onnx.importer import build

from ..conftest import assert_matches, normal
from .models import run

DOMAIN = "ai.onnx.preview.training"
NEEDED = {"alpha": 0.9, "beta": 0.8, "norm_coefficient": 0.0, "mode": "standard"}


def graph_of_step(kind, arrays, **attributes):
    """A Graph with one node whose inputs are ``arrays``, R and T first."""
    given = [f"i{n}" for n in range(len(arrays))]
    tensors = (len(arrays) - 2) // (4 if kind == "Adam" else 3)
    outputs = [f"o{n}" for n in range(len(arrays) - 2 - tensors)]
    node = helper.make_node(kind, given, outputs, name=f"a {kind}", domain=DOMAIN, **attributes)
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(given, arrays, strict=True)
    ]
    graph = helper.make_graph(
        [node], "test", infos, [helper.make_empty_tensor_value_info(n) for n in outputs]
    )
    imports = [helper.make_opsetid(DOMAIN, 1), helper.make_opsetid("", 21)]
    return build(helper.make_model(graph, opset_imports=imports, ir_version=10))


def adagrad(r, t, x, g, h, decay_factor=0.0, epsilon=1e-6, norm_coefficient=0.0):
    g = norm_coefficient * x + g
    h = h + g * g
    return x - r / (1 + t * decay_factor) * g / (math.sqrt(h) + epsilon), h


def adam(
    r, t, x, g, v, h, alpha=0.9, beta=0.999, epsilon=1e-6, norm_coefficient=0.0,
    norm_coefficient_post=0.0,
):  # fmt: skip
    g = norm_coefficient * x + g
    v, h = alpha * v + (1 - alpha) * g, beta * h + (1 - beta) * g * g
    rate = r * math.sqrt(1 - beta**t) / (1 - alpha**t) if t > 0 else r
    return (1 - norm_coefficient_post) * (x - rate * v / (math.sqrt(h) + epsilon)), v, h


def momentum(r, t, x, g, v, alpha, beta, norm_coefficient, mode):
    g = norm_coefficient * x + g
    v = alpha * v + (beta if t > 0 else 1) * g
    return x - r * (g + alpha * v if mode == "nesterov" else v), v


CASES = {
    "adagrad": (adagrad, "Adagrad", {}),
    "adagrad all": (
        adagrad,
        "Adagrad",
        {"decay_factor": 0.25, "epsilon": 0.125, "norm_coefficient": 0.5},
    ),
    "adam": (adam, "Adam", {}),
    "adam all": (
        adam,
        "Adam",
        {
            **{"alpha": 0.75, "beta": 0.875, "epsilon": 0.125},
            **{"norm_coefficient": 0.5, "norm_coefficient_post": 0.25},
        },
    ),
    "momentum": (
        momentum,
        "Momentum",
        {"alpha": 0.75, "beta": 0.5, "norm_coefficient": 0.0, "mode": "standard"},
    ),
    "nesterov": (
        momentum,
        "Momentum",
        {"alpha": 0.75, "beta": 0.5, "norm_coefficient": 0.125, "mode": "nesterov"},
    ),
}
cases = pytest.mark.parametrize(
    ("step", "kind", "settings"), CASES.values(), ids=[n.replace(" ", "-") for n in CASES]
)


def states(kind, *shapes):
    """All parameters, all gradients, and all states of each kind, which are not negative."""
    count = 4 if kind == "Adam" else 3
    return [
        np.asarray(np.abs(a) if number >= 2 else a)
        for number in range(count)
        for a in (normal(*s, seed=10 * number + i) for i, s in enumerate(shapes))
    ]


def expected_of(step, r, t, tensors, count, **settings):
    found = []
    for i in range(count):
        own = tensors[i::count]
        numbers = [step(r, t, *map(float, v), **settings) for v in zip(*map(np.ravel, own))]  # noqa: B905
        found.append([np.reshape(v, own[0].shape) for v in zip(*numbers, strict=True)])
    return [y for kind in zip(*found, strict=True) for y in kind]


@cases
@pytest.mark.parametrize("t", [0, 1, 7])
@pytest.mark.parametrize("shapes", [((3,),), ((2, 3), (4,)), ((2, 2), (3,), (1, 2, 2))], ids=str)
def test_step(backend, step, kind, settings, t, shapes):
    tensors = states(kind, *shapes)
    r, count = np.array(0.125), np.array(t)
    found = run(graph_of_step(kind, [r, count, *tensors], **settings), backend, r, count, *tensors)
    expected = expected_of(step, 0.125, t, tensors, len(shapes), **settings)
    assert len(found) == len(expected)
    for y, wanted in zip(found, expected, strict=True):
        # the file keeps its settings in float32
        assert_matches(y, wanted, "float64", factor=1e5)


@cases
def test_float32_stays_and_nothing_changes_in_place(strict, step, kind, settings):
    from ..strict import count_syncs, forbid_float64

    r, t = np.float32(0.1).reshape(()), np.array(3)
    tensors = [a.astype("float32") for a in states(kind, (2, 3))]
    graph = graph_of_step(kind, [r, t, *tensors], **settings).to(strict)
    moved = [strict.asarray(a) for a in (r, t, *tensors)]
    with forbid_float64(), count_syncs() as syncs:
        graph(*moved)
    assert len(syncs) <= 2  # R and T
    for array, before in zip(moved[2:], tensors, strict=True):
        assert (strict.to_host(array) == before).all()


def test_many_steps_go_downhill(backend):
    """The outputs of a step are the inputs of the next."""
    x, zero, r = np.array([3.0, -2.0]), np.zeros(2), np.array(0.5)
    graph = graph_of_step("Adam", [r, np.array(0), x, x, zero, zero])
    v = h = zero
    for t in range(1, 100):
        x, v, h = run(graph, backend, r, np.array(t), x, 2 * x, v, h)
    assert np.abs(x).max() < 0.05


def test_no_elements(backend):
    empty, r, t = np.zeros((0, 3)), np.array(0.1), np.array(1)
    found = run(graph_of_step("Adagrad", [r, t, *[empty] * 3]), backend, r, t, *[empty] * 3)
    assert [y.shape for y in found] == [(0, 3)] * 2


def refused(backend, kind, arrays, text, **settings):
    with pytest.raises(XcnnError, match=text):
        run(graph_of_step(kind, arrays, **settings), backend, *arrays)


def test_what_is_refused(backend):
    r, t, x, other = np.array(0.1), np.array(1), normal(3), normal(2)
    refused(backend, "Adam", [r, t, x, x, x], r"a Adam.*3 inputs after R and T: expected 4")
    refused(
        backend, "Adagrad", [r, t, x, x, other], r"a Adagrad.*expected floats of one type and shape"
    )
    refused(
        backend,
        "Adagrad",
        [r, t, x, x, x.astype("float32")],
        "expected floats of one type and shape",
    )
    refused(
        backend, "Adagrad", [r, t, *[np.arange(3)] * 3], "expected floats of one type and shape"
    )
    refused(backend, "Adagrad", [np.ones(2), t, x, x, x], "a Adagrad")
    refused(backend, "Adam", [r, t, x, x, x, x], "a Adam", alpha=1.0)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({k: v for k, v in NEEDED.items() if k != "alpha"}, "alpha.*is missing"),
        ({**NEEDED, "mode": "heavy"}, "mode='heavy'"),
    ],
)
def test_momentum_without_its_settings(backend, settings, text):
    arrays = [np.array(0.1), np.array(1), *[normal(3)] * 3]
    refused(backend, "Momentum", arrays, rf"a Momentum.*{text}", **settings)

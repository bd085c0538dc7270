"""relu, sigmoid, tanh, softmax, log_softmax: values, gradients, extremes, memory order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import xcnn
import xcnn.functional as F
from xcnn.errors import ArgumentError
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, is_batch_last, normal


def relu(x):
    return np.where(x > 0, x, 0), np.where(x > 0, 1.0, 0.0)


def sigmoid(x):
    y = oracles.sigmoid(x)
    return y, y * (1 - y)


def tanh(x):
    e = np.exp(-2 * np.abs(np.longdouble(x)))
    return np.float64(np.sign(x) * (1 - e) / (1 + e)), np.float64(4 * e / (1 + e) ** 2)


ELEMENTWISE = {F.relu: relu, F.sigmoid: sigmoid, F.tanh: tanh}  # value and derivative
ALONG_AN_AXIS = {
    F.softmax: (oracles.softmax, oracles.softmax_gradient),
    F.log_softmax: (oracles.log_softmax, oracles.log_softmax_gradient),
}
each = pytest.mark.parametrize("function", ELEMENTWISE, ids=lambda f: f.__name__)
each_softmax = pytest.mark.parametrize("function", ALONG_AN_AXIS, ids=lambda f: f.__name__)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@each
@dtypes
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4, 5), (0, 3)], ids=str)
def test_elementwise(evaluate, function, dtype, shape):
    x = normal(*shape, dtype=dtype) * 3
    x = x.astype(dtype)
    found = evaluate(function, x)
    y, slope = ELEMENTWISE[function](x.astype("float64"))
    assert_matches(found.y, y, dtype)
    assert_matches(found.gradients[0], found.dy * slope, dtype)


@each
@given(
    x=hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=4),
        elements=st.floats(-50, 50),
    )
)
def test_any_elementwise(backend, function, x):
    found = evaluate_on(backend, function, x)
    y, slope = ELEMENTWISE[function](x)
    assert_matches(found.y, y)
    assert_matches(found.gradients[0], found.dy * slope)


@each
def test_extremes_neither_overflow_nor_warn(evaluate, function):
    x = np.array([-np.inf, -1e30, -800, -0.0, 0.0, 800, 1e30, np.inf], "float32")
    found = evaluate(function, x)
    expected = {
        F.relu: [0, 0, 0, 0, 0, 800, np.float32(1e30), np.inf],
        F.sigmoid: [0, 0, 0, 0.5, 0.5, 1, 1, 1],
        F.tanh: [-1, -1, -1, 0, 0, 1, 1, 1],
    }[function]
    assert_matches(found.y, expected, "float32")
    assert np.isfinite(found.gradients[0]).all()


@each
def test_nan_propagates(evaluate, function):
    assert np.isnan(evaluate(function, np.array([np.nan, 1.0])).y).tolist() == [True, False]


def test_relu_has_no_gradient_at_zero(evaluate):
    assert evaluate(F.relu, np.array([0.0, -0.0])).gradients[0].tolist() == [0, 0]


@each_softmax
@dtypes
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((3, 4), 1), ((3, 4), 0), ((3, 4), -1), ((5,), 0), ((2, 3, 4, 2), 1), ((2, 3, 1), -1)],
    ids=str,
)
def test_along_an_axis(evaluate, function, dtype, shape, dim):
    x = normal(*shape, dtype=dtype)
    found = evaluate(function, x, dim=dim)
    value, gradient = ALONG_AN_AXIS[function]
    assert_matches(found.y, value(x, dim), dtype)
    assert_matches(found.gradients[0], gradient(found.dy, x, dim), dtype)


@each_softmax
@given(
    x=hnp.arrays(
        np.float64, st.tuples(st.integers(0, 3), st.integers(1, 5)), elements=st.floats(-99, 99)
    )
)
def test_any_row(backend, function, x):
    found = evaluate_on(backend, function, x)
    value, gradient = ALONG_AN_AXIS[function]
    assert_matches(found.y, value(x, 1))
    assert_matches(found.gradients[0], gradient(found.dy, x, 1))


@dtypes
def test_softmax_of_large_numbers(evaluate, dtype):
    x = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]], dtype)
    third = 1 / 3
    assert_matches(evaluate(F.softmax, x).y, [[0.5, 0.5, 0], [third] * 3], dtype)
    half = np.log(0.5)
    log = [[half, half, half - 2e4], [np.log(third)] * 3]
    assert_matches(evaluate(F.log_softmax, x).y, log, dtype)


@pytest.mark.parametrize("function", [*ELEMENTWISE, *ALONG_AN_AXIS], ids=lambda f: f.__name__)
def test_gradcheck(backend, function):
    assert gradcheck(function, backend.asarray(normal(3, 4, 2))) < 1e-6


@pytest.mark.parametrize("function", [*ELEMENTWISE, *ALONG_AN_AXIS], ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 5)], ids=str)
def test_memory_order_stays(backend, function, shape):
    xp = backend.xp
    x = xp.moveaxis(backend.asarray(normal(*shape[1:], shape[0])), -1, 0)
    y, pullback = xcnn.vjp(function, x)
    assert is_batch_last(y)
    assert is_batch_last(pullback(xp.ones_like(y))[0])


@each_softmax
@pytest.mark.parametrize(("shape", "dim"), [((2, 3), 2), ((2, 3), -3), ((2, 0), 1), ((), 0)])
def test_no_such_axis(backend, function, shape, dim):
    with pytest.raises(ArgumentError, match=f"dim={dim}"):
        function(backend.asarray(normal(*shape)), dim=dim)

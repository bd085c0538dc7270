"""adaptive_avg_pool2d and adaptive_max_pool2d against naive loops and PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.errors import ArgumentError, ShapeError
from xcnn.geometry import adaptive_geometry
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, is_batch_last, normal

# (height, width) of the image and of the result
SIZES = {
    "5-to-3": ((5, 5), (3, 3)),
    "7-to-7": ((7, 7), (7, 7)),
    "3-to-8": ((3, 3), (8, 8)),
    "1-to-4": ((1, 1), (4, 4)),
    "regular": ((6, 8), (3, 2)),
    "regular-overlapping": ((7, 7), (3, 3)),
    "one-axis-regular": ((6, 7), (3, 4)),
    "global": ((5, 6), (1, 1)),
    "one-row": ((5, 6), (1, 4)),
    "one-column": ((9, 4), (6, 1)),
    "mixed": ((3, 11), (5, 4)),
}
sizes = pytest.mark.parametrize(("size", "output"), SIZES.values(), ids=SIZES)
both_pools = pytest.mark.parametrize(
    "function", [F.adaptive_avg_pool2d, F.adaptive_max_pool2d], ids=["avg", "max"]
)


def expected(function, x, output):
    """y, and a function from dy to dx."""
    if function is F.adaptive_avg_pool2d:
        y = oracles.adaptive_avg_pool2d(x, output)
        return y, lambda dy: oracles.adaptive_avg_pool2d_gradient(dy, x.shape)
    y, chosen = oracles.adaptive_max_pool2d(x, output)
    return y, lambda dy: oracles.max_pool2d_gradient(dy, chosen, x.shape)


def check(backend, function, x, output):
    found = evaluate_on(backend, function, x, output_size=output)
    y, gradient = expected(function, x, output)
    assert_matches(found.y, y, x.dtype)
    assert_matches(found.gradients[0], gradient(found.dy), x.dtype)


@both_pools
@sizes
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_loops(backend, function, size, output, dtype):
    check(backend, function, normal(3, 2, *size, dtype=dtype), output)


@both_pools
@sizes
def test_against_torch(evaluate, function, size, output):
    torch = pytest.importorskip("torch")
    x = normal(2, 3, *size)
    found = evaluate(function, x, output_size=output)
    there = torch.from_numpy(x).requires_grad_()
    y = getattr(torch.nn.functional, function.__name__)(there, output)
    y.backward(torch.from_numpy(found.dy))
    assert_matches(found.y, y.detach().numpy())
    assert_matches(found.gradients[0], there.grad.numpy())


@both_pools
@sizes
def test_nhwc_gives_the_same_numbers(evaluate, function, size, output):
    x = normal(2, 3, *size)
    found = evaluate(function, x.transpose(0, 2, 3, 1), output_size=output, data_format="NHWC")
    y, gradient = expected(function, x, output)
    assert_matches(found.y, y.transpose(0, 2, 3, 1))
    dx = gradient(found.dy.transpose(0, 3, 1, 2))
    assert_matches(found.gradients[0], dx.transpose(0, 2, 3, 1))


@both_pools
@sizes
def test_gradcheck(backend, function, size, output):
    x = normal(2, 2, *size).ravel().argsort().reshape(2, 2, *size) / 50  # no ties
    assert gradcheck(function, backend.asarray(x), output_size=output) < 1e-6


@st.composite
def problems(draw):
    """An image with many equal pixels, also infinite ones and NaN, and an output size."""
    pixels = st.integers(1, 7)
    shape = draw(st.integers(0, 2)), 2, draw(pixels), draw(pixels)
    values = [-np.inf, -1.0, 0.0, -0.0, 1.0, np.inf, np.nan]
    picks = draw(st.lists(st.sampled_from(values), min_size=1, max_size=20))
    return np.resize(np.array(picks), shape), (draw(pixels), draw(pixels))


@given(problem=problems())
def test_any_max_pool(backend, problem):
    check(backend, F.adaptive_max_pool2d, *problem)


@given(problem=problems())
def test_any_avg_pool(backend, problem):
    x, output = problem
    check(backend, F.adaptive_avg_pool2d, np.nan_to_num(x, nan=2, posinf=3, neginf=-3), output)


def test_the_mean_of_infinity_is_infinity(evaluate):
    """Windows of two and of three pixels: nothing else of the row gets into their mean."""
    x = np.zeros((1, 1, 1, 5))
    x[..., 0] = np.inf
    y = evaluate(F.adaptive_avg_pool2d, x, output_size=(1, 3)).y
    assert y.ravel().tolist() == [np.inf, 0, 0]


# -- which pixel wins ----------------------------------------------------------------------


@pytest.mark.parametrize("output", [1, 3, 5], ids=["global", "irregular", "each-pixel"])
@pytest.mark.parametrize("value", [2.0, -np.inf, np.nan])
def test_first_of_equal_maxima_takes_the_whole_gradient(backend, output, value):
    check(backend, F.adaptive_max_pool2d, np.full((2, 2, 5, 5), value), (output, output))


def test_upper_right_comes_before_lower_left(evaluate):
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 0, 2] = x[0, 0, 1, 0] = 5
    found = evaluate(F.adaptive_max_pool2d, x, output_size=1)
    dx = np.zeros((1, 1, 3, 3))
    dx[0, 0, 0, 2] = found.dy.item()
    assert_matches(found.gradients[0], dx)


# -- sizes, memory and errors --------------------------------------------------------------


@both_pools
def test_none_is_the_size_of_the_input(backend, function):
    x = backend.asarray(normal(2, 3, 5, 6))
    assert function(x, (None, 2)).shape == (2, 3, 5, 2)
    assert function(x, [2, None]).shape == (2, 3, 2, 6)
    assert_matches(function(x, None), backend.to_host(x))


def test_regular_windows_are_an_ordinary_pooling():
    assert adaptive_geometry((6, 8), (3, 2)).kernel == (2, 4)
    assert adaptive_geometry((7, 7), (3, 3)).kernel == (3, 3)
    assert adaptive_geometry((7, 7), (3, 3)).stride == (2, 2)
    assert adaptive_geometry((5, 6), (3, 3)) is None
    assert adaptive_geometry((1, 6), (2, 3)) is None


@both_pools
@sizes
def test_output_and_gradient_stay_batch_last(backend, function, size, output):
    y, pullback = xcnn.vjp(function, backend.asarray(normal(3, 2, *size)), output_size=output)
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d),
        (nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d),
    ],
)
def test_layers(backend, layer, function):
    x = backend.asarray(normal(2, 3, 5, 6, dtype="float32"))
    assert_matches(layer((3, None))(x), function(x, (3, None)).numpy(), "float32")
    assert layer(1)(x).shape == (2, 3, 1, 1)
    assert layer(2, data_format="NHWC")(x).shape == (2, 2, 2, 6)
    with pytest.raises(ArgumentError, match="output_size=0"):
        layer(0)
    with pytest.raises(ArgumentError, match="HWCN"):
        layer(1, "HWCN")


@both_pools
@pytest.mark.parametrize(
    ("shape", "output", "error", "text"),
    [
        ((4, 4), 2, ShapeError, "four axes N, C, H, W"),
        ((1, 3, 0, 4), 2, ShapeError, "no pixels"),
        ((1, 3, 4, 4), 0, ArgumentError, "output_size=0: expected an int >= 1, None"),
        ((1, 3, 4, 4), (2, -1), ArgumentError, r"output_size=\(2, -1\)"),
        ((1, 3, 4, 4), (2, 2, 2), ArgumentError, "pair"),
        ((1, 3, 4, 4), 2.0, ArgumentError, r"output_size=2\.0"),
        ((1, 3, 4, 4), True, ArgumentError, "output_size=True"),
    ],
)
def test_errors(backend, function, shape, output, error, text):
    with pytest.raises(error, match=text):
        function(backend.asarray(np.ones(shape)), output)

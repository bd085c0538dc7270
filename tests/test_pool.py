"""max_pool2d and avg_pool2d against naive loops, on every device."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn.errors import ArgumentError, ShapeError
from xcnn.geometry import window_geometry
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, is_batch_last, normal

MAX_CASES = {
    "2x2": {"kernel_size": 2},
    "overlapping": {"kernel_size": 3, "stride": 1},
    "gaps": {"kernel_size": 2, "stride": 3},
    "rectangle": {"kernel_size": (2, 3), "stride": (1, 2)},
    "padding": {"kernel_size": 3, "stride": 2, "padding": 1},
    "padding-sides": {"kernel_size": 3, "stride": 2, "padding": ((0, 1), (1, 0))},
    "same": {"kernel_size": 3, "stride": 2, "padding": "same"},
    "dilation": {"kernel_size": 2, "stride": 1, "dilation": (2, 3)},
    "ceil": {"kernel_size": 2, "ceil_mode": True},
    "ceil-padding": {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
}
AVG_CASES = {
    **{name: case for name, case in MAX_CASES.items() if name != "dilation"},
    "no-pad": {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    "ceil-no-pad": {
        "kernel_size": 3,
        "stride": 2,
        "padding": 1,
        "ceil_mode": True,
        "count_include_pad": False,
    },
}


def resolve(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """The oracle's settings: kernel, stride, padding of each side, dilation, ceil_mode."""
    stride = kernel_size if stride is None else stride
    padding = oracles.sides(padding, x.shape[2:], kernel_size, stride, dilation)
    return kernel_size, stride, padding, dilation, ceil_mode


def expected_max(x, dy=None, **settings):
    y, chosen = oracles.max_pool2d(x, *resolve(x, **settings))
    return y, oracles.max_pool2d_gradient(np.ones_like(y) if dy is None else dy, chosen, x.shape)


def expected_avg(x, dy=None, count_include_pad=True, **settings):
    kernel, stride, padding, _, ceil_mode = resolve(x, **settings)
    y = oracles.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad)
    dy = np.ones_like(y) if dy is None else dy
    return y, oracles.avg_pool2d_gradient(dy, x.shape, kernel, stride, padding, count_include_pad)


ORACLES = {F.max_pool2d: expected_max, F.avg_pool2d: expected_avg}
ALL_CASES = [
    pytest.param(function, settings, id=f"{kind}-{name}")
    for kind, function, cases in [
        ("max", F.max_pool2d, MAX_CASES),
        ("avg", F.avg_pool2d, AVG_CASES),
    ]
    for name, settings in cases.items()
]


def check(backend, function, x, **settings):
    found = evaluate_on(backend, function, x, **settings)
    y, dx = ORACLES[function](x, found.dy, **settings)
    assert_matches(found.y, y, x.dtype)
    assert_matches(found.gradients[0], dx, x.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("function", "settings"), ALL_CASES)
def test_against_loops(backend, function, settings, dtype):
    check(backend, function, normal(2, 3, 7, 6, dtype=dtype), **settings)


@pytest.mark.parametrize(("function", "settings"), ALL_CASES)
def test_nhwc_gives_the_same_numbers(evaluate, function, settings):
    x = normal(2, 3, 7, 6)
    found = evaluate(function, x.transpose(0, 2, 3, 1), data_format="NHWC", **settings)
    y, dx = ORACLES[function](x, found.dy.transpose(0, 3, 1, 2), **settings)
    assert_matches(found.y, y.transpose(0, 2, 3, 1))
    assert_matches(found.gradients[0], dx.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(("function", "settings"), ALL_CASES)
def test_gradcheck(backend, function, settings):
    x = normal(2, 2, 7, 6).ravel().argsort().reshape(2, 2, 7, 6) / 50  # no ties
    assert gradcheck(function, backend.asarray(x), **settings) < 1e-6


@st.composite
def problems(draw):
    """An image with many equal pixels, and settings that fit it."""
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    height, width = (draw(st.integers(k, 7)) for k in kernel)
    sides = [st.tuples(st.integers(0, k // 2), st.integers(0, k // 2)) for k in kernel]
    settings = {
        "kernel_size": kernel,
        "stride": draw(st.one_of(st.none(), st.integers(1, 4))),
        "padding": draw(st.one_of(st.sampled_from([0, "valid"]), st.tuples(*sides))),
        "ceil_mode": draw(st.booleans()),
    }
    shape = draw(st.integers(0, 2)), 2, height, width
    values = [-np.inf, -1.0, 0.0, -0.0, 1.0, np.inf, np.nan]
    picks = draw(st.lists(st.sampled_from(values), min_size=1, max_size=20))
    return np.resize(np.array(picks), shape), settings


@given(problem=problems())
def test_any_max_pool(backend, problem):
    x, settings = problem
    check(backend, F.max_pool2d, x, **settings)


@given(problem=problems(), include_pad=st.booleans())
def test_any_avg_pool(backend, problem, include_pad):
    x, settings = problem
    x = np.nan_to_num(x, nan=2, posinf=3, neginf=-3)
    check(backend, F.avg_pool2d, x, count_include_pad=include_pad, **settings)


@pytest.mark.parametrize("function", [F.avg_pool2d, F.adaptive_avg_pool2d])
def test_the_mean_of_half_types(evaluate, function):
    """Summed in float32: the sums are infinite in float16, and adding 1 to 2048 changes nothing."""
    x = np.full((1, 2, 70, 70), 60_000, "float16")
    x[:, 1] = 1
    y = evaluate(lambda x: function(x, 70 if function is F.avg_pool2d else 1), x).y
    assert y.ravel().tolist() == [60_000, 1]


# -- which pixel wins ----------------------------------------------------------------------


def test_first_of_equal_maxima_takes_the_whole_gradient(evaluate):
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 0, 1] = x[0, 0, 1, 0] = 5  # equal: the upper right one comes first
    found = evaluate(F.max_pool2d, x, kernel_size=2)
    dx = np.zeros((4, 4))
    dx[0, 1], dx[0, 2], dx[2, 0], dx[2, 2] = found.dy.ravel()
    assert_matches(found.gradients[0][0, 0], dx)


@pytest.mark.parametrize("padding", [0, 1])
def test_nan_wins_and_takes_the_gradient(evaluate, padding):
    x = normal(1, 2, 5, 5)
    x[0, 0, 2, 2] = np.nan
    found = evaluate(F.max_pool2d, x, kernel_size=3, stride=1, padding=padding)
    y, dx = expected_max(x, found.dy, kernel_size=3, stride=1, padding=padding)
    assert np.isnan(y).sum() == 9
    assert_matches(found.y, y)
    assert_matches(found.gradients[0], dx)


def test_negative_pixels_beat_the_padding(evaluate):
    found = evaluate(F.max_pool2d, np.full((1, 1, 3, 3), -7.0), kernel_size=3, stride=1, padding=1)
    assert (found.y == -7).all()
    assert math.isclose(found.gradients[0].sum(), found.dy.sum())


def test_a_window_of_minus_infinity(evaluate):
    found = evaluate(F.max_pool2d, np.full((1, 1, 2, 2), -np.inf), kernel_size=2)
    assert found.y.item() == -np.inf
    assert_matches(found.gradients[0][0, 0], [[found.dy.item(), 0], [0, 0]])


def test_large_window_numbers_its_pixels_beyond_a_byte(backend):
    """17×17 pixels are more than uint8 counts."""
    x = np.zeros((1, 1, 17, 17))
    x[0, 0, 16, 15] = 1
    check(backend, F.max_pool2d, x, kernel_size=17)
    geometry = window_geometry((17, 17), 17)
    _, argmax = backend.max_pool2d(backend.asarray(x.transpose(1, 2, 3, 0)), geometry)
    assert backend.to_host(argmax).item() == 16 * 17 + 15


# -- memory and errors ---------------------------------------------------------------------


@pytest.mark.parametrize(("function", "settings"), ALL_CASES)
def test_output_and_gradient_stay_batch_last(backend, function, settings):
    y, pullback = xcnn.vjp(function, backend.asarray(normal(3, 2, 7, 6)), **settings)
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


@pytest.mark.parametrize("function", [F.max_pool2d, F.avg_pool2d])
@pytest.mark.parametrize(
    ("shape", "settings", "error", "text"),
    [
        ((4, 4), {"kernel_size": 2}, ShapeError, "four axes N, C, H, W"),
        ((1, 3, 4, 4), {"kernel_size": 5}, ShapeError, "height 4.*smaller than the kernel"),
        ((1, 3, 4, 4), {"kernel_size": 0}, ArgumentError, "kernel_size=0"),
        ((1, 3, 4, 4), {"kernel_size": 2, "stride": -1}, ArgumentError, "stride=-1"),
        ((1, 3, 4, 4), {"kernel_size": 3, "padding": 2}, ArgumentError, "at most 1 on each side"),
        ((1, 3, 4, 4), {"kernel_size": 2, "padding": ((0, 2), (0, 0))}, ArgumentError, "at most 1"),
        ((1, 3, 4, 4), {"kernel_size": 2, "padding": -1}, ArgumentError, "padding=-1"),
        ((1, 3, 4, 4), {"kernel_size": 2, "data_format": "HWCN"}, ArgumentError, "HWCN"),
    ],
)
def test_errors(backend, function, shape, settings, error, text):
    with pytest.raises(error, match=text):
        function(backend.asarray(normal(*shape)), **settings)


@pytest.mark.parametrize("function", [F.max_pool2d, F.avg_pool2d])
def test_ceil_mode_takes_images_smaller_than_the_window(evaluate, function):
    """One window that starts inside, as in PyTorch; the average counts real pixels only."""
    found = evaluate(function, np.array([[[[3.0, 5.0]]]]), kernel_size=3, ceil_mode=True)
    assert found.y.tolist() == [[[[5.0 if function is F.max_pool2d else 4.0]]]]

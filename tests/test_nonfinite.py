"""A NaN or infinite pixel reaches the outputs whose windows read it, and no others."""

import functools

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import nn

from . import oracles
from .conftest import assert_matches, normal

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")

VALUES = [np.nan, np.inf, -np.inf]
#: kernel, filters, groups and settings of a convolution of 4 channels, and methods to compute it
CONVOLUTIONS = {
    "pointwise": ((1, 1), 3, 1, {}, "pointwise im2col winograd direct"),
    "plain": ((3, 3), 5, 1, {"padding": 1}, "winograd mec im2col auto direct"),
    "valid": ((3, 3), 5, 1, {}, "winograd mec im2col auto direct"),
    "5x5": ((5, 5), 3, 1, {"padding": ((2, 0), (1, 2))}, "winograd mec im2col direct"),
    "5x3": ((5, 3), 3, 1, {"padding": 2}, "winograd mec direct"),
    "stride": ((3, 3), 3, 1, {"stride": 2, "padding": 1}, "im2col direct"),
    "row stride": ((3, 2), 3, 1, {"stride": (1, 2), "dilation": (1, 2)}, "mec im2col direct"),
    "depthwise": ((3, 3), 8, 4, {"padding": 1}, "im2col auto direct"),
    "depthwise valid": ((3, 3), 4, 4, {}, "auto direct"),
    "depthwise stride": ((3, 2), 4, 4, {"stride": (2, 1), "padding": (1, 0)}, "auto direct"),
    "depthwise dilation": (
        (2, 3),
        4,
        4,
        {"dilation": (3, 2), "padding": 3},
        "auto direct",
    ),
    "grouped": ((3, 3), 6, 2, {"padding": 1}, "im2col auto direct"),
}
CASES = [(name, method) for name, case in CONVOLUTIONS.items() for method in case[-1].split()]
ON_GPU = {"auto", "im2col", "pointwise"}  # the others look at values, and are not chosen


def problem(name):
    """x, weight, dy and the oracle's settings, in that order."""
    kernel, filters, groups, settings, _ = CONVOLUTIONS[name]
    x, weight = normal(2, 4, 9, 11), normal(filters, 4 // groups, *kernel, seed=1)
    sides = oracles.sides(settings.get("padding", 0), x.shape[2:], kernel)
    rest = settings.get("stride", 1), sides, settings.get("dilation", 1), groups
    dy = normal(*oracles.conv2d(x, weight, None, *rest).shape, seed=2)
    return {"x": x, "weight": weight, "dy": dy}, rest, {"groups": groups, **settings}


@pytest.fixture
def method(monkeypatch):
    return lambda name: monkeypatch.setattr(xcnn.config, "convolution", name)


def places(shape):
    """A corner, an inner element and the last one of an array."""
    return [(0,) * len(shape), tuple(n // 2 for n in shape), tuple(n - 1 for n in shape)]


@functools.cache
def expected_of(name, where, number):
    """The arrays of a problem with one of VALUES in one place, the output, and the gradients."""
    given, rest, _ = problem(name)
    place = places(given[where].shape)[number]
    given[where][place] = VALUES[(number + len(name)) % 3]  # another one in other problems
    x, weight, dy = given.values()
    gradients = oracles.conv2d_gradients(dy, x, weight, *rest)
    return (x, weight, dy), (oracles.conv2d(x, weight, None, *rest), *gradients[:2])


@pytest.mark.parametrize("where", ["x", "weight", "dy"])
@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_convolution(backend, method, name, chosen, where):
    if backend.device != "cpu" and chosen not in ON_GPU:
        pytest.skip("not chosen on a GPU")
    method(chosen)
    settings = problem(name)[2]
    for number in range(3):
        arrays, expected = expected_of(name, where, number)
        x, weight, dy = (backend.asarray(a.copy()) for a in arrays)
        y, pullback = xcnn.vjp(F.conv2d, x, weight, **settings)
        for a, b in zip((y, *pullback(dy)), expected, strict=True):
            assert_matches(backend.to_host(a), b)


@pytest.mark.parametrize("channels", [16, 64])
def test_one_nan_by_the_method_that_is_chosen(backend, channels):
    """9 outputs of a depthwise convolution, 9 for each filter of another."""
    x = normal(32, channels, 12, 12, dtype="float32")
    x[3, 5, 6, 6] = np.nan
    for groups in (1, channels):
        weight = normal(channels, channels // groups, 3, 3, seed=1, dtype="float32")
        y = F.conv2d(backend.asarray(x), backend.asarray(weight), padding=1, groups=groups)
        wrong = np.isnan(y.numpy())
        assert wrong.sum() == 9 * channels // groups
        assert wrong[3, :, 5:8, 5:8].sum() == wrong.sum()


@pytest.mark.parametrize("chosen", ["winograd", "mec", "im2col", "auto"])
def test_a_nan_passes_the_fused_layers(backend, method, chosen):
    if backend.device != "cpu" and chosen not in ON_GPU:
        pytest.skip("not chosen on a GPU")
    method(chosen)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    weight, bias = (p.data for p in model.parameters())
    model.to(backend)
    x = normal(2, 3, 8, 10)
    for image, value in enumerate((np.nan, -np.inf)):
        x[image, 1, 4, 5] = value
    model.to(dtype="float64")
    y = oracles.conv2d(x, weight, bias, 1, ((1, 1), (1, 1)))
    for layers in (model, model[:2]):
        expected = np.maximum(y, 0)
        if len(layers) == 3:
            expected = oracles.max_pool2d(expected, (2, 2), (2, 2))[0]
        assert_matches(layers(backend.asarray(x)).numpy(), expected)


POOLS = {
    "max": (
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: oracles.max_pool2d(x, (3, 3), (2, 2), ((1, 1), (1, 1)))[0],
    ),
    "avg": (
        lambda x: F.avg_pool2d(x, 3, 1, 1),
        lambda x: oracles.avg_pool2d(x, (3, 3), (1, 1), ((1, 1), (1, 1))),
    ),
    "avg-ceil": (
        lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False),
        lambda x: oracles.avg_pool2d(x, (2, 2), (2, 2), ceil_mode=True, include_pad=False),
    ),
    "adaptive-avg": (
        lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
        lambda x: oracles.adaptive_avg_pool2d(x, (4, 3)),
    ),
    "global-avg": (
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: oracles.adaptive_avg_pool2d(x, (1, 1)),
    ),
    "adaptive-max": (
        lambda x: F.adaptive_max_pool2d(x, (4, 3)),
        lambda x: oracles.adaptive_max_pool2d(x, (4, 3))[0],
    ),
    "lrn": (
        lambda x: F.local_response_norm(x, 3),
        lambda x: oracles.local_response_norm(x, 3, 1e-4, 0.75, 1.0),
    ),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", POOLS)
def test_pools(backend, name, value):
    ours, oracle = POOLS[name]
    x = normal(2, 5, 9, 7)
    for place in places(x.shape):
        wrong = x.copy()
        wrong[place] = value
        assert_matches(ours(backend.asarray(wrong)).numpy(), oracle(wrong))


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("size", [(3, 4), (18, 5), (9, 14)])
@pytest.mark.parametrize(
    ("mode", "corners"), [("nearest", None), ("bilinear", True), ("bilinear", False)]
)
def test_interpolation(backend, mode, corners, size, value):
    """Of a pixel alone among zeros: it reaches the results that give it a weight."""
    unit = np.zeros((1, 1, 9, 7))
    unit[0, 0, 4, 3] = 1
    reached = oracles.interpolate(unit, size, mode, bool(corners))[0] != 0
    unit[0, 0, 4, 3] = value
    y = F.interpolate(backend.asarray(unit), size, mode=mode, align_corners=corners).numpy()
    np.testing.assert_array_equal(y[reached], value)
    assert not y[~reached].any()


SHRINK = {
    "nearest": lambda x: F.interpolate(x, (3, 2)),
    "bilinear": lambda x: F.interpolate(x, (2, 3), mode="bilinear"),
    "corners": lambda x: F.interpolate(x, (4, 4), mode="bilinear", align_corners=True),
    "max": lambda x: F.max_pool2d(x, 2),
    "max-overlapping": lambda x: F.max_pool2d(x, 3, 2, 1),
    "adaptive-max": lambda x: F.adaptive_max_pool2d(x, (3, 2)),
    "avg": lambda x: F.avg_pool2d(x, 2, 3),
    "adaptive-avg": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", SHRINK)
def test_a_gradient_reaches_the_pixels_of_its_window(backend, name, value):
    """Each output's gradient alone shows which pixels it reaches."""
    x = backend.asarray(normal(1, 2, 8, 8))
    y, pullback = xcnn.vjp(SHRINK[name], x)
    for index in np.ndindex(y.shape):
        dy = np.zeros(y.shape)
        dy[index] = 1
        reached = backend.to_host(pullback(backend.asarray(dy))[0]) != 0
        dy[index] = value
        dx = backend.to_host(pullback(backend.asarray(dy))[0])
        np.testing.assert_array_equal(dx[reached], value)
        assert not dx[~reached].any()


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("groups", [1, 4])
def test_transposed_convolution(backend, groups, value):
    x, weight = normal(2, 4, 5, 6), normal(4, 4 // groups, 3, 3, seed=1)
    for place in places(x.shape):
        wrong = x.copy()
        wrong[place] = value
        y = F.conv_transpose2d(
            backend.asarray(wrong), backend.asarray(weight), None, 2, 1, groups=groups
        )
        expected = oracles.conv_transpose2d(wrong, weight, None, 2, ((1, 1), (1, 1)), groups=groups)
        assert_matches(y.numpy(), expected)

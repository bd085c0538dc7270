"""Every CUDA kernel, run on the CPU through its launch code, against loops in float64.

`run` calls a primitive of the stand-in's backend with the threads of every launch in both orders.
"""

import functools
import math
import types
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn import models, optim
from xcnn.amp import GradScaler
from xcnn.backends import Backend, Running, cuda, kernels, launch
from xcnn.backends.base import GOOD, OVERFLOW, SCALE, SKIPPED
from xcnn.backends.kernels import Variant
from xcnn.backends.norm import Statistics
from xcnn.geometry import window_geometry
from xcnn.tiling import Tile

from . import oracles, shim, steps
from .conftest import STRICT, normal
from .strict import count_launches, count_operations, count_syncs
from .strict import cupy as strict_cupy

pytestmark = pytest.mark.skipif(shim.available() is not True, reason=str(shim.available()))

DTYPES = ["float32", "float64", "float16"]
GENERIC = Backend(np, "generic")
# relative error of rounding once, and of sums before that
ROUNDING = {"float64": 2**-53, "float32": 2**-24, "float16": 2**-11, "bfloat16": 2**-8}
SUMMING = {"float64": 1e-14, "float32": 2e-6, "float16": 2e-6, "bfloat16": 2e-6}
SMALLEST = {"float64": 0, "float32": 0, "float16": 2**-24, "bfloat16": 0}
WHOLE = 10**6  # windows in a tile


# -- helpers -------------------------------------------------------------------------------


@contextmanager
def guarded():
    """What `empty` makes in the block lies between numbers that nobody changes."""
    made, edge, value = [], 64, 77

    def empty(shape, dtype=float):
        size = math.prod(shape) if isinstance(shape, tuple) else shape
        memory = original(size + 2 * edge, dtype)
        memory[:edge] = value
        memory[edge + size :] = value
        made.append((memory, size))
        return memory[edge : edge + size].reshape(shape)

    with pytest.MonkeyPatch.context() as patch:
        original = strict_cupy.empty
        patch.setattr(strict_cupy, "empty", empty)
        yield
    for memory, size in made:
        host = STRICT.to_host(memory)
        assert (host[:edge] == value).all()
        assert (host[edge + size :] == value).all()


def run(call, *arrays):
    """What ``call`` gives for the arrays on the device: each time, in any order of threads."""
    results = []
    for order in (0, 1, 0):
        with shim.thread_order(order), guarded():
            made = call(*(STRICT.asarray(a.copy()) for a in arrays))
            made = made if isinstance(made, tuple) else (made,)
            results.append([None if a is None else STRICT.to_host(a) for a in made])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a is b is None or (a.dtype, a.tobytes()) == (b.dtype, b.tobytes())
    return results[0] if len(results[0]) > 1 else results[0][0]


def assert_rounded(actual, expected, dtype=None, terms=1.0):
    """Within one rounding of ``expected``, after float32 sums of numbers up to ``terms``."""
    name = dtype or str(actual.dtype)
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    atol = SMALLEST[name] + SUMMING[name] * max(1.0, np.abs(expected[finite]).max(initial=0), terms)
    np.testing.assert_allclose(np.float64(actual), expected, rtol=1.001 * ROUNDING[name], atol=atol)


def first(a):
    """Batch-last as the oracles' (N, ...), in float64."""
    return np.moveaxis(np.float64(a), -1, 0)


def last(a):
    """The oracles' (N, ...) as batch-last."""
    return np.moveaxis(a, 0, -1)


@pytest.fixture
def launched(monkeypatch):
    """(variant, name, grid) of every launch on the stand-in."""
    calls, original = [], launch.Kernels.launch

    def record(self, variant, name, grid, arguments, **settings):
        calls.append((variant, name, grid))
        original(self, variant, name, grid, arguments, **settings)

    monkeypatch.setattr(launch.Kernels, "launch", record)
    return calls


# -- convolution ---------------------------------------------------------------------------

# size, kernel, stride, padding, dilation
CONVOLUTIONS = [
    ((5, 7), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((1, 1), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((7, 6), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    ((7, 9), (2, 3), (2, 3), ((1, 0), (0, 2)), (1, 1)),
    ((9, 8), (5, 5), (3, 2), ((2, 1), (0, 3)), (1, 1)),
    ((7, 8), (3, 2), (1, 1), ((0, 2), (1, 0)), (2, 3)),
    ((9, 9), (1, 2), (4, 3), ((0, 0), (0, 0)), (1, 1)),  # pixels that no window reads
]
BATCHES = [1, 3, 4, 5, 8, 33]
TILES = [WHOLE, 5, 2]

conv_cases = pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
batches = pytest.mark.parametrize("batch", BATCHES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def tiles_of(case):
    """Geometry and every tile, whole rows and parts of rows."""
    geometry = window_geometry(*case)
    return geometry, [tile for positions in TILES for tile in geometry.tiles(positions)]


def shape_of(geometry, tile, channels, batch):
    rows, columns = tile.bottom - tile.top, tile.right - tile.left
    return channels, *geometry.kernel, rows, columns, batch


@functools.cache
def unfolded(case, tile):
    """Columns of the images of `images`, by the oracle."""
    return last(oracles.im2col(first(images(case)), *case[1:], tile))


def images(case):
    """Numbers that float16 holds: copies of them are exact in every dtype."""
    return normal(2, *case[0], max(BATCHES), dtype="float16").astype("float64")


@dtypes
@batches
@conv_cases
def test_im2col(case, batch, dtype):
    geometry, tiles = tiles_of(case)
    x = images(case)[..., :batch].astype(dtype)
    for tile in tiles:
        shape = shape_of(geometry, tile, 2, batch)
        columns = run(
            lambda x, tile=tile, shape=shape: STRICT.im2col(
                x, geometry, tile, strict_cupy.empty(shape, dtype)
            ),
            x,
        )
        np.testing.assert_array_equal(columns, unfolded(case, tile)[..., :batch])


@dtypes
@batches
@conv_cases
def test_col2im(case, batch, dtype):
    geometry, tiles = tiles_of(case)
    before = normal(2, *case[0], batch, seed=1, dtype=dtype)
    for tile in tiles:
        columns = normal(*shape_of(geometry, tile, 2, batch), dtype=dtype)

        def call(columns, dx, tile=tile, overwrite=False):
            STRICT.col2im(columns, geometry, tile, dx, overwrite)
            return dx

        dx = run(call, columns, before)
        added = last(oracles.col2im(first(columns), case[0], *case[2:], tile))
        assert_rounded(dx, before + added, terms=10)
        read = last(oracles.col2im(np.ones(first(columns).shape), case[0], *case[2:], tile)) > 0
        assert dx[~read].tobytes() == before[~read].tobytes()
        only = run(functools.partial(call, overwrite=True), columns, before)
        assert_rounded(only, added, terms=10)
        assert not only[~read].any()


@dtypes
@pytest.mark.parametrize("batch", [1, 5, 8])
@conv_cases
def test_depthwise(case, batch, dtype):
    """Two channels with one filter, or with three each, and their gradients."""
    geometry = window_geometry(*case)
    for filters in (2, 6):
        x, bias = normal(2, *case[0], batch, dtype=dtype), normal(filters, dtype=dtype)
        weight = normal(filters, 1, *case[1], seed=1, dtype=dtype)
        exact = functools.partial(
            oracles.conv2d, first(x), np.float64(weight), np.float64(bias), *case[2:], groups=2
        )
        for relu, shift in ((False, bias), (True, bias), (False, None)):
            arrays = (x, weight) if shift is None else (x, weight, shift)
            y = run(
                lambda x, w, b=None, r=relu: STRICT.convolution(x, w, b, geometry, 2, r), *arrays
            )
            expected = last(exact()) - (0 if shift is not None else bias[:, None, None, None])
            assert_rounded(y, np.maximum(expected, 0) if relu else expected, terms=10)
        dy = normal(*y.shape, seed=2, dtype=dtype)
        dx = run(lambda dy, w: STRICT.convolution_input_gradient(dy, w, geometry, 2), dy, weight)
        dw = run(lambda dy, x: STRICT.convolution_weight_gradient(dy, x, geometry, 2), dy, x)
        exact_dx, exact_dw, _ = oracles.conv2d_gradients(
            first(dy), first(x), np.float64(weight), *case[2:], groups=2
        )
        assert_rounded(dx, last(exact_dx), terms=10)
        assert dw.dtype == ("float32" if dtype == "float16" else dtype)
        assert_rounded(dw, exact_dw, dtype=str(dw.dtype), terms=100)


def test_a_depthwise_layer_takes_three_launches_and_no_copies():
    model = xcnn.nn.Conv2d(4, 8, 3, padding=1, groups=4).to(STRICT)
    x = xcnn.Tensor(STRICT.asarray(normal(8, 4, 6, 7, dtype="float32")), requires_grad=True)
    x = x * 1.0  # in batch-last memory from here on
    x = xcnn.nn.MaxPool2d(1).to(STRICT)(x)
    with count_operations() as operations:
        y = model(x)
    assert dict(operations) == {"depthwise": 1}
    with count_operations() as operations:
        y.creator.backward(STRICT, STRICT.xp.ones((8, 6, 7, 8), "float32").transpose(3, 0, 1, 2))
    own = {"depthwise_input_gradient": 1, "depthwise_weight_gradient": 1}
    assert dict(operations) == {"ones": 1, "sum": 1, **own}


# -- pooling -------------------------------------------------------------------------------

# size, kernel, stride, padding, dilation, ceil_mode
POOLS = [
    ((5, 7), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), False),
    ((6, 8), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), False),
    ((7, 6), (3, 3), (2, 2), ((1, 0), (0, 1)), (1, 1), True),
    ((8, 7), (2, 3), (2, 3), ((0, 0), (0, 0)), (1, 1), True),
    ((9, 8), (5, 5), (3, 2), ((2, 1), (0, 2)), (1, 1), False),
    ((8, 9), (3, 2), (2, 3), ((1, 1), (1, 0)), (1, 1), True),
    ((6, 9), (3, 3), (1, 1), ((1, 1), (1, 1)), (2, 2), False),
    ((3, 3), (2, 2), (1, 1), ((2, 2), (1, 1)), (5, 4), False),  # windows of padding only
    ((17, 18), (16, 16), (1, 2), ((0, 0), (1, 1)), (1, 1), False),  # 256 positions
    ((17, 18), (17, 17), (1, 1), ((1, 0), (0, 0)), (1, 1), False),  # more
]
pool_cases = pytest.mark.parametrize("case", POOLS, ids=str)
average_cases = pytest.mark.parametrize(
    "case", [case for case in POOLS if case[4] == (1, 1)], ids=str
)


@functools.cache
def pooled(case):
    """Images of ties, of ties and NaN, of ties and -inf; their maxima and positions by the oracle.

    All numbers are exact in every dtype.
    """
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (3, *case[0], max(BATCHES))).astype("float64")
    x[1][rng.random(x[1].shape) < 0.1] = np.nan
    x[2] = np.where(rng.random(x[2].shape) < 0.1, x[2], -np.inf)
    y, chosen = oracles.max_pool2d(first(x), *case[1:])
    (_, (kernel_height, kernel_width), stride, padding, dilation, _) = case
    argmax = np.full(y.shape, kernel_height * kernel_width - 1)
    for index, (_, _, row, column) in chosen.items():
        a = (row - index[2] * stride[0] + padding[0][0]) // dilation[0]
        b = (column - index[3] * stride[1] + padding[1][0]) // dilation[1]
        argmax[index] = a * kernel_width + b
    return x, last(y), last(argmax), chosen


@dtypes
@batches
@pool_cases
def test_max_pool2d(case, batch, dtype):
    x, y, argmax, _ = pooled(case)
    x, geometry = x[..., :batch].astype(dtype), window_geometry(*case)
    found, positions = run(lambda x: STRICT.max_pool2d(x, geometry), x)
    np.testing.assert_array_equal(found, y[..., :batch])
    np.testing.assert_array_equal(positions, argmax[..., :batch])
    assert positions.dtype == ("int32" if math.prod(case[1]) > 256 else "uint8")
    found, positions = run(lambda x: STRICT.max_pool2d(x, geometry, with_argmax=False), x)
    np.testing.assert_array_equal(found, y[..., :batch])
    assert positions is None


@dtypes
@batches
@pool_cases
def test_max_pool2d_backward(case, batch, dtype):
    _, _, argmax, chosen = pooled(case)
    geometry = window_geometry(*case)
    argmax = argmax[..., :batch].astype("int32" if math.prod(case[1]) > 256 else "uint8")
    dy = normal(*argmax.shape, dtype=dtype)
    dx = run(lambda dy, argmax: STRICT.max_pool2d_backward(dy, argmax, geometry), dy, argmax)
    taken = {index: pixel for index, pixel in chosen.items() if index[0] < batch}
    expected = oracles.max_pool2d_gradient(first(dy), taken, (batch, 3, *case[0]))
    assert_rounded(dx, last(expected), terms=10)


@functools.cache
def averages(case, include_pad):
    x = normal(2, *case[0], max(BATCHES), dtype="float16")
    _, kernel, stride, padding, _, ceil_mode = case
    y = oracles.avg_pool2d(first(x), kernel, stride, padding, ceil_mode, include_pad)
    dy = normal(2, *y.shape[2:], max(BATCHES), dtype="float16")
    shape = max(BATCHES), 2, *case[0]
    dx = oracles.avg_pool2d_gradient(first(dy), shape, kernel, stride, padding, include_pad)
    return x, last(y), dy, last(dx)


@pytest.mark.parametrize("include_pad", [False, True])
@dtypes
@batches
@average_cases
def test_avg_pool2d_and_its_backward(case, batch, dtype, include_pad):
    x, y, dy, dx = (a[..., :batch] for a in averages(case, include_pad))
    geometry = window_geometry(*case)
    found = run(lambda x: STRICT.avg_pool2d(x, geometry, include_pad), x.astype(dtype))
    assert_rounded(found, y, terms=4)
    found = run(lambda dy: STRICT.avg_pool2d_backward(dy, geometry, include_pad), dy.astype(dtype))
    assert_rounded(found, dx, terms=4)


# -- bias and ReLU -------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    ("shape", "columns"),
    [
        ((1, 1), slice(None)),
        ((3, 7), slice(2, 5)),
        ((3, 7), slice(2, 2)),
        ((2, 600), slice(None)),
        ((2, 600), slice(8, 304)),
        ((2, 600), slice(9, 304)),
        ((5, 0), slice(None)),
        ((0, 5), slice(None)),
    ],
    ids=str,
)
def test_add_bias(shape, columns, with_bias, relu, dtype):
    y, bias = normal(*shape, dtype=dtype), normal(shape[0], seed=1, dtype=dtype)
    if y.size > 100:
        y[:, 20:30] = np.nan

    def call(y, bias):
        STRICT.add_bias(y, bias if with_bias else None, columns, relu)
        return y

    found = run(call, y, bias)
    expected = np.float64(y)
    expected[:, columns] += np.float64(bias)[:, None] if with_bias else 0
    if relu:
        expected[:, columns] = np.where(expected[:, columns] < 0, 0, expected[:, columns])
    assert_rounded(found, expected)
    outside = np.ones(shape[1], bool)
    outside[columns] = False
    assert found[:, outside].tobytes() == y[:, outside].tobytes()


def test_add_bias_takes_a_strided_bias():
    y, bias = normal(3, 8, dtype="float32"), normal(6, seed=1, dtype="float32")

    def call(y, bias):
        STRICT.add_bias(y, bias[::2], slice(None), False)
        return y

    np.testing.assert_array_equal(run(call, y, bias), y + bias[::2, None])


@dtypes
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 600), (40, 256), (4, 0), (0, 4)], ids=str)
def test_relu_backward(shape, dtype):
    dy, y = normal(*shape, dtype=dtype), np.maximum(normal(*shape, seed=1, dtype=dtype), 0)
    if y.size > 100:
        y[0, :2], dy[1, np.flatnonzero(y[1] == 0)[:2]] = np.nan, np.inf
    dz, sums = run(STRICT.relu_backward, dy, y)
    expected = np.where(y > 0, dy, 0)
    np.testing.assert_array_equal(dz, expected)
    assert dz.dtype == dtype
    assert sums.dtype == ("float32" if dtype == "float16" else dtype)
    exact = np.float64([math.fsum(row) for row in np.float64(expected)]).reshape(shape[0])
    assert_rounded(sums, exact, terms=shape[1] / 4)


def test_relu_backward_where_threads_take_several_columns():
    """No more blocks than 8 a row, once there are rows enough."""
    ones = np.ones((513, 2100), "float32")
    dz, sums = map(STRICT.to_host, STRICT.relu_backward(*map(STRICT.asarray, (ones, ones))))
    assert (dz == 1).all()
    assert (sums == 2100).all()


# -- sums in float32 -----------------------------------------------------------------------


def test_half_averages_are_summed_in_float32():
    """In float16, 2048 + 1 is 2048."""
    x = np.ones((1, 64, 64, 8), "float16")
    geometry = window_geometry((64, 64), (64, 64))
    assert (run(lambda x: STRICT.avg_pool2d(x, geometry, True), x) == 1).all()
    wide, dy = window_geometry((1, 1), (64, 64), 1, 63), np.ones((1, 64, 64, 8), "float16")
    dx = run(lambda dy: STRICT.avg_pool2d_backward(dy, wide, True), dy)
    np.testing.assert_array_equal(dx, np.ones((1, 1, 1, 8)))


def large_and_ones(count):
    """2048 and then ones: 2048 again if they are added one by one in float16."""
    return np.float16([2048, *[1] * (count - 1)])


@pytest.mark.parametrize("batch", [1, 8])
def test_half_columns_are_summed_in_float32(batch):
    geometry = window_geometry((1, 1), (1, 64), 1, ((0, 0), (63, 63)))
    columns = np.zeros((1, 1, 64, 1, 64, batch), "float16")
    for b, value in enumerate(large_and_ones(64)):
        columns[0, 0, b, 0, 63 - b] = value

    def call(columns, dx):
        STRICT.col2im(columns, geometry, Tile(0, 1, 0, 64), dx)
        return dx

    dx = run(call, columns, np.zeros((1, 1, 1, batch), "float16"))
    assert (dx == np.float16(2048 + 63)).all()


@pytest.mark.parametrize("batch", [1, 8])
def test_half_gradients_of_one_pixel_are_summed_in_float32(batch):
    geometry = window_geometry((1, 1), (1, 64), 1, ((0, 0), (63, 63)))
    dy = np.repeat(large_and_ones(64), batch).reshape(1, 1, 64, batch)
    argmax = np.repeat(np.arange(63, -1, -1), batch).astype("uint8").reshape(dy.shape)
    dx = run(lambda dy, argmax: STRICT.max_pool2d_backward(dy, argmax, geometry), dy, argmax)
    assert (dx == np.float16(2048 + 63)).all()


def test_half_bias_gradients_are_summed_in_float32():
    ones = np.ones((2, 5001), "float16")
    _, sums = run(STRICT.relu_backward, ones, ones)
    assert sums.tolist() == [5001, 5001]


def test_half_probabilities_are_summed_in_float32():
    x, target = np.zeros((5001, 3), "float16"), np.arange(3)
    terms, slope = run(STRICT.cross_entropy, x, target)
    np.testing.assert_array_equal(terms, np.float16([math.log(5001)] * 3))
    assert slope[4, 0] == np.float16(1 / 5001)


# -- losses --------------------------------------------------------------------------------


def logits(classes, size, dtype):
    """Ordinary columns, and for three in four large numbers, -inf or both."""
    x = 3 * normal(classes, size, dtype="float64")
    x[:, 1::4] = np.where(x[:, 1::4] > 0, 1e4, -1e4)
    x[::2, 2::4] = -np.inf
    x[:, 3::4] += 1e4
    return x.astype(dtype)


@dtypes
@pytest.mark.parametrize("size", [0, 1, 31, 33, 70])
@pytest.mark.parametrize("classes", [1, 3, 10, 100])
def test_cross_entropy(classes, size, dtype):
    x = logits(classes, size, dtype)
    target = np.random.default_rng(0).integers(0, classes, size)
    target[5::9] = classes
    target[6::9] = -1
    target[7::9] = 2**40
    terms, slope = oracles.class_cross_entropy(x, target)
    found = run(STRICT.cross_entropy, x, target)
    assert_rounded(found[0], terms)
    assert_rounded(found[1], slope)
    found = run(lambda x, t: STRICT.cross_entropy(x, t, with_slope=False), x, target)
    assert_rounded(found[0], terms)
    assert found[1] is None
    if size > 9:
        assert np.isnan(found[0][5:8]).all()


@dtypes
@pytest.mark.parametrize("ignore_index", [-100, 0, 2, 255, -(2**63), 2**63 - 1])
def test_cross_entropy_ignores(ignore_index, dtype):
    x = logits(5, 70, dtype)
    target = np.random.default_rng(0).integers(0, 5, 70)
    target[::3] = ignore_index
    target[7::9] = -1
    x[:, 3] = np.nan  # what is ignored is not even looked at
    terms, slope = oracles.class_cross_entropy(x, target, ignore_index)
    for with_slope in (True, False):
        found = run(
            lambda x, t, with_slope=with_slope: STRICT.cross_entropy(
                x, t, with_slope, ignore_index
            ),
            x,
            target,
        )
        assert_rounded(found[0], terms)
        if with_slope:
            assert_rounded(found[1], slope)
    assert (found[0][::3] == 0).all()


@dtypes
@pytest.mark.parametrize("size", [0, 1, 255, 257, 1000])
@pytest.mark.parametrize("ignore_index", [-100, 1, 9])
def test_means_and_totals_of_classes(size, ignore_index, dtype):
    x, terms = normal(5, size, dtype=dtype), abs(normal(size, seed=1, dtype=dtype))
    target = np.arange(size) ** 2 % 5
    target[: size // 3] = 1
    if size > 100:
        x[2:4, 40:44] = np.nan
        x[:, 60:90] = np.round(x[:, 60:90])  # ties
    counted = target != ignore_index
    terms[~counted] = 0
    count, right = counted.sum(), ((x.argmax(axis=0) == target) & counted).sum()
    mean, inverse = run(lambda *a: STRICT.mean_of_terms(*a, ignore_index), terms, target)
    assert mean.shape == inverse.shape == ()
    with np.errstate(invalid="ignore"):
        exact = np.float64(terms)[counted].sum() / count
    assert_rounded(mean, exact, terms=4)
    assert_rounded(inverse, np.float64(1 / max(count, 1)))

    def add(*arrays):
        STRICT.add_class_totals(arrays[:3], *arrays[3:], ignore_index)
        return arrays[:3]

    before = np.asarray(3, dtype), np.asarray(2**40), np.asarray(7)
    total, divisor, hits = run(add, *before, x, target, np.asarray(2, dtype))
    assert (divisor, hits, total.dtype) == (2**40 + count, 7 + right, dtype)
    assert_rounded(total, np.float64(3 + 2 * count))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_large_logits_is_as_accurate_as_of_small_ones(dtype):
    """A multiple of 2^-7 survives the addition of 2^14, so the terms must, too."""
    x = np.round(normal(10, 40) * 128) / 128
    target = np.arange(40) % 10
    terms, _ = run(STRICT.cross_entropy, (x + 2**14).astype(dtype), target)
    expected, _ = oracles.class_cross_entropy(x, target)
    assert_rounded(terms, expected)


def test_cross_entropy_takes_targets_of_32_bits():
    x, target = normal(3, 5, dtype="float32"), np.int32([0, 1, 2, 3, 0])
    terms, _ = run(STRICT.cross_entropy, x, target)
    assert_rounded(terms, oracles.class_cross_entropy(x, target)[0])


# -- normalisation -------------------------------------------------------------------------

# (A, K, P, N), and whether weights are shared by groups or by rows
NORMS = [
    ((3, 1, 700, 1), (3, 1)),
    ((2, 1, 9000, 1), (2, 1)),  # several blocks
    ((2, 3, 7, 5), (2, 3)),
    ((1, 5, 1, 33), (1, 5)),
    ((3, 400, 1, 1), (1, 400)),
    ((2, 2, 300, 17), (2, 1)),
]


@dtypes
@pytest.mark.parametrize(("shape", "weights"), NORMS, ids=str)
@pytest.mark.parametrize("kind", ["training", "fixed", "plain"])
def test_normalisation(shape, weights, kind, dtype):
    """The plain version in float64 is the oracle, which tests/test_norm.py compares with loops."""
    x = (3 * normal(*shape) + 5).astype(dtype)
    residual, dy = normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=2, dtype=dtype)
    w, b = normal(*weights, seed=3, dtype=dtype), normal(*weights, seed=4, dtype=dtype)
    wide = "float64" if dtype == "float64" else "float32"
    mean, var = normal(shape[0], seed=5, dtype=wide), abs(normal(shape[0], seed=6, dtype=wide)) + 1
    is_plain, fixed = kind == "plain", kind == "fixed"

    def call(backend, x, dy, *rest):
        w, b, residual, mean, var = rest
        running = None if is_plain else Running(mean, var, 0.25)
        settings = 1e-3, running, fixed, None if is_plain else residual, not is_plain
        y, statistics = backend.normalize(x, w, None if is_plain else b, *settings)
        mask = None if is_plain else y
        return y, *backend.normalize_backward(dy, x, mask, statistics, w, fixed, True), mean, var

    arrays = x, dy, w, b, residual, mean, var
    found = run(lambda *a: call(STRICT, *a), *arrays)
    exact = call(GENERIC, *(np.float64(a) for a in arrays))
    switched = (np.abs(exact[0]) < 1e-2) & (not is_plain)  # rounding may decide about the ReLU
    for got, wanted in zip(found, exact, strict=True):
        if got.shape == shape:
            got, wanted = got[~switched], wanted[~switched]
        terms = 40 * math.prod(shape[1:]) ** 0.5
        assert_rounded(got, wanted, terms=terms if dtype == "float64" else terms / 4)


# -- random numbers ------------------------------------------------------------------------

# philox4x64-10 of Random123's kat_vectors: counter, key, answer
PI = 0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89
KNOWN_ANSWERS = [
    (
        (0,) * 4,
        (0,) * 2,
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (2**64 - 1,) * 4,
        (2**64 - 1,) * 2,
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        PI,
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


def test_philox_known_answers():
    entry = r"""
    extern "C" __global__ void known(const uint64* counter, uint64 key0, uint64 key1, uint64* out) {
      const Block block = philox({{counter[0], counter[1], counter[2], counter[3]}}, key0, key1);
      for (int i = 0; i < 4; ++i) out[i] = block.word[i];
    }
    """
    module = shim.CpuModule(kernels.source("random") + entry, Variant("random").options)
    for counter, key, answer in KNOWN_ANSWERS:
        out = np.zeros(4, np.uint64)
        arguments = np.array(counter, np.uint64), *map(np.uint64, key), out
        module.get_function("known")((1,), (1,), arguments)
        assert tuple(map(int, out)) == answer
        assert tuple(oracles.philox4x64(counter, key)) == answer


COUNTS = [0, 1, 7, 8, 9, 2047, 2049, 5000]


@pytest.mark.parametrize("key", [0, 1, 2**63 + 5, 2**64 - 1])
@pytest.mark.parametrize("count", COUNTS)
def test_random_bits(count, key):
    found = run(lambda: STRICT.random_bits(count, key))
    words = [
        w for i in range(-(-count // 8)) for w in oracles.philox4x64((i + 1, 0, 0, 0), (key, 0))
    ]
    halves = [half for w in words for half in (w & 0xFFFFFFFF, w >> 32)]
    assert found.tolist() == halves[:count]
    assert (found == xcnn.backends.get("cpu").random_bits(count, key)).all()


# The last one: 1 / (1 - p) lies beside the middle of two halves, on it if rounded to float first.
PROBABILITIES = [0.0, 0.1, 0.5, 0.9, 1.0, 1 - 1 / (1 + 2**-11 + 2**-30)]


@dtypes
@pytest.mark.parametrize("p", PROBABILITIES)
def test_dropout_mask(p, dtype):
    for count in COUNTS:
        found = run(lambda count=count: STRICT.dropout_mask(count, 77, p, dtype))
        expected = xcnn.backends.get("cpu").dropout_mask(count, 77, p, dtype)
        assert found.dtype == dtype
        assert found.tobytes() == expected.tobytes()


def test_a_dropout_mask_keeps_the_right_share():
    mask = STRICT.to_host(STRICT.dropout_mask(100_000, 3, 0.3, "float32"))
    assert set(mask.tolist()) == {0, float(np.float32(1 / 0.7))}
    assert (mask > 0).mean() == pytest.approx(0.7, abs=0.006)  # four standard deviations


# -- optimisers ----------------------------------------------------------------------------

SHAPES = [(3, 4), (1,), (0,), (10_001,), (4096,), (5, 3)]  # 4096 elements are a chunk
SGD = [
    {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"momentum": 0.0, "nesterov": False, "weight_decay": 0.1},
]


def several(dtype, seed):
    return [normal(*shape, seed=seed + i, dtype=dtype) for i, shape in enumerate(SHAPES)]


def split(arrays, lists):
    """``arrays`` in ``lists`` lists of equal length."""
    count = len(arrays) // lists
    return [list(arrays[i * count : (i + 1) * count]) for i in range(lists)]


@dtypes
@pytest.mark.parametrize("settings", SGD, ids=str)
def test_sgd_step(settings, dtype):
    params, grads, velocities = (several(dtype, seed) for seed in (0, 10, 20))

    def call(*arrays):
        p, g, v = split(arrays, 3)
        steps.sgd_step(STRICT, p, g, v if settings["momentum"] else [], lr=0.1, **settings)
        return arrays

    found = split(run(call, *params, *grads, *velocities), 3)
    for i, (p, g, v) in enumerate(zip(params, grads, velocities, strict=True)):
        p, v = oracles.sgd_step(*map(np.float64, (p, g, v)), 0.1, **settings)
        assert_rounded(found[0][i], p)
        assert found[1][i].tobytes() == grads[i].tobytes()
        assert_rounded(found[2][i], v if settings["momentum"] else np.float64(velocities[i]))


@dtypes
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.6)], ids=str)
@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_step(decoupled, step, betas, weight_decay, dtype):
    params, grads, means = (several(dtype, seed) for seed in (0, 10, 20))
    squares = [abs(a) for a in several(dtype, 30)]
    settings = {"lr": 0.1, "eps": 1e-3, "weight_decay": weight_decay, "decoupled": decoupled}

    def call(*arrays):
        steps.adam_step(
            STRICT, *split(arrays, 4), beta1=betas[0], beta2=betas[1], step=step, **settings
        )
        return arrays

    found = split(run(call, *params, *grads, *means, *squares), 4)
    for i, state in enumerate(zip(params, grads, means, squares, strict=True)):
        p, m, v = oracles.adam_step(*map(np.float64, state), step, betas=betas, **settings)
        assert_rounded(found[0][i], p, terms=50)  # of a step, m / sqrt(v) is up to that
        assert found[1][i].tobytes() == grads[i].tobytes()
        assert_rounded(found[2][i], m)
        assert_rounded(found[3][i], v)


RMSPROP = [
    {"momentum": 0.0, "weight_decay": 0.1, "centered": False},
    {"momentum": 0.9, "weight_decay": 0.0, "centered": False},
    {"momentum": 0.0, "weight_decay": 0.0, "centered": True},
    {"momentum": 0.9, "weight_decay": 0.1, "centered": True},
]


@dtypes
@pytest.mark.parametrize("settings", RMSPROP, ids=str)
def test_rmsprop_step(settings, dtype):
    params, grads, means, velocities = (several(dtype, seed) for seed in (0, 10, 20, 30))
    squares = [(a.astype("float32") ** 2 + 1).astype(dtype) for a in means]  # a variance > 1
    numbers = {k: settings[k] for k in ("momentum", "weight_decay")}

    def call(*arrays):
        p, g, s, m, v = split(arrays, 5)
        m, v = m if settings["centered"] else [], v if settings["momentum"] else []
        steps.rmsprop_step(STRICT, p, g, s, m, v, lr=0.1, alpha=0.9, eps=1e-3, **numbers)
        return arrays

    lists = params, grads, squares, means, velocities
    found = split(run(call, *(a for arrays in lists for a in arrays)), 5)
    for i, state in enumerate(zip(*lists, strict=True)):
        p, s, m, v = oracles.rmsprop_step(*map(np.float64, state), 0.1, 0.9, 1e-3, **settings)
        assert_rounded(found[0][i], p, terms=20)
        assert found[1][i].tobytes() == grads[i].tobytes()
        assert_rounded(found[2][i], s, terms=20)
        assert_rounded(found[3][i], m if settings["centered"] else np.float64(means[i]))
        assert_rounded(
            found[4][i], v if settings["momentum"] else np.float64(velocities[i]), terms=9
        )


def test_a_centred_step_keeps_nan_and_minds_rounding():
    def call(p, g, s, m):
        numbers = {"lr": 1.0, "alpha": 0.5, "eps": 0.5, "momentum": 0.0, "weight_decay": 0.0}
        steps.rmsprop_step(STRICT, [p], [g], [s], [m], [], **numbers)
        return (p,)

    arrays = [[0, 0, 0], [1, np.nan, 2], [0.5, 1, 4], [1, 0, 2]]  # a variance of -0.25, NaN and 0
    found = run(call, *map(np.float32, arrays))
    np.testing.assert_array_equal(found, np.float32([-2, np.nan, -4]))


@dtypes
@pytest.mark.parametrize("lr_decay", [0.0, 0.1])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("step", [1, 7])
def test_adagrad_step(step, weight_decay, lr_decay, dtype):
    params, grads = (several(dtype, seed) for seed in (0, 10))
    sums = [abs(a) for a in several(dtype, 20)]
    settings = {"lr": 0.1, "eps": 1e-3, "weight_decay": weight_decay, "lr_decay": lr_decay}

    def call(*arrays):
        steps.adagrad_step(STRICT, *split(arrays, 3), step=step, **settings)
        return arrays

    found = split(run(call, *params, *grads, *sums), 3)
    for i, (p, g, s) in enumerate(zip(params, grads, sums, strict=True)):
        p, s = oracles.adagrad_step(*map(np.float64, (p, g, s)), step, **settings)
        assert_rounded(found[0][i], p, terms=5)
        assert found[1][i].tobytes() == grads[i].tobytes()
        assert_rounded(found[2][i], s, terms=20)


def test_a_step_leaves_what_lies_beside_its_arrays():
    """Parameters that are parts of one array, of no round size."""
    wide = [abs(normal(9_011, seed=i, dtype="float32")) for i in range(4)]
    scaler = scaler_of(2.0)

    def call(scaler, *wide):
        parts = [[a[1:4_500], a[4_503:9_000]] for a in wide]
        settings = {"lr": 0.1, "weight_decay": 0.0, "scaler": scaler}
        steps.adam_step(STRICT, *parts, beta1=0.9, beta2=0.9, eps=0.1, step=1, **settings)
        steps.sgd_step(STRICT, *parts[:3], momentum=0.9, nesterov=True, **settings)
        steps.rmsprop_step(STRICT, *parts, [], alpha=0.9, eps=0.1, momentum=0.0, **settings)
        steps.adagrad_step(STRICT, *parts[:3], lr_decay=0.0, eps=0.1, step=1, **settings)
        STRICT.unscale(parts[1], scaler)
        return wide

    beside = [0, 4_500, 4_501, 4_502, *range(9_000, 9_011)]
    for found, before in zip(run(call, scaler, *wide), wide, strict=True):
        assert (found != before).sum() == 9_011 - len(beside)
        assert (found[beside] == before[beside]).all()


def test_one_step_takes_one_launch_for_each_dtype(launched):
    params = [normal(3, seed=i, dtype=d) for i, d in enumerate(("float32", "float64", "float32"))]
    arrays = [STRICT.asarray(p.copy()) for p in params]
    steps.sgd_step(
        STRICT, arrays, arrays, [], lr=0.5, momentum=0.0, nesterov=False, weight_decay=0.0
    )
    assert [(v.dtype, g) for v, _, g in launched] == [("float32", (2,)), ("float64", (1,))]
    for array, p in zip(arrays, params, strict=True):
        np.testing.assert_array_equal(STRICT.to_host(array), p / 2)


@dtypes
@pytest.mark.parametrize("max_norm", [0.0, 1.0, 1e9])
def test_clip_norm(max_norm, dtype):
    grads = [g for g in several(dtype, 0) if g.size]

    def call(*grads):
        return STRICT.clip_norm(grads, max_norm, 2.0), *grads

    norm, *found = run(call, *grads)
    exact = math.sqrt(math.fsum((np.float64(g) ** 2).sum() for g in grads))
    np.testing.assert_allclose(norm, exact, rtol=1e-6)
    np.testing.assert_allclose(run(lambda *g: STRICT.norm(g), *grads), exact, rtol=1e-6)
    for array, g in zip(found, grads, strict=True):
        assert_rounded(array, np.float64(g) * min(1, max_norm / (exact + 1e-6)))
    found = run(call, *grads[:1], np.full(3, np.nan, dtype))
    assert all(np.isnan(a).all() for a in found)


@dtypes
@pytest.mark.parametrize("rate", [0.1, 1])
def test_average(rate, dtype):
    arrays = several(dtype, 0)
    averages = several("float32" if dtype == "float16" else dtype, 9)
    if rate == 1:
        arrays, averages = [*arrays, np.arange(3)], [*averages, np.zeros(3, int)]

    def call(*both):
        STRICT.average(*split(both, 2), rate)
        return both

    for i, found in enumerate(split(run(call, *averages, *arrays), 2)[0]):
        before, x = np.float64(averages[i]), np.float64(arrays[i])
        if rate == 1:
            np.testing.assert_array_equal(found, arrays[i])
        else:
            assert_rounded(found, before + rate * (x - before))


def test_half_gradients_are_widened_in_one_launch(launched):
    arrays = [*several("float16", 0), *several("float32", 1)]
    wanted = ["float32"] * len(arrays)
    wanted[0] = "float16"
    found = STRICT.as_dtypes([STRICT.asarray(a) for a in arrays], wanted)
    assert [name for _, name, _ in launched] == ["widen_gradients"]
    for array, a, dtype in zip(found, arrays, wanted, strict=True):
        np.testing.assert_array_equal(STRICT.to_host(array), a.astype(dtype), strict=True)


def test_any_number_of_arrays(launched):
    """Those beyond what fits into the arguments of a launch are in the next."""
    arrays = [normal(i % 7, seed=i, dtype="float32") for i in range(150)]
    norm, *found = run(
        lambda *g: (STRICT.clip_norm([a for a in g if a.size], 1.0, 2.0), *g), *arrays
    )
    exact = math.sqrt(math.fsum((np.float64(a) ** 2).sum() for a in arrays))
    np.testing.assert_allclose(norm, exact, rtol=1e-6)
    for a, b in zip(found, arrays, strict=True):
        assert_rounded(a, b / (exact + 1e-6))
    assert Counter(name for _, name, _ in launched) == {"square_sums": 3 * 2, "clip_norm": 3 * 2}


STEPS = {  # how many lists of arrays each takes, and its settings
    "sgd": (3, {"momentum": 0.9, "nesterov": True}),
    "adam": (4, {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "step": 3}),
    "rmsprop": (5, {"alpha": 0.9, "eps": 0.1, "momentum": 0.9}),
    "adagrad": (3, {"lr_decay": 0.1, "eps": 1e-8, "step": 3}),
}


@pytest.mark.parametrize("order", ["F", "strided", "reversed"])
@pytest.mark.parametrize("kind", STEPS)
def test_steps_on_arrays_in_another_memory_order(kind, order):
    def arranged(a):
        if order == "F":
            return np.asfortranarray(a)
        wide = np.full((a.shape[0], 2 * a.shape[1]), 5, a.dtype)
        view = wide[:, ::2] if order == "strided" else wide[::-1, 1::2]
        view[...] = a
        return view

    settings = {"lr": 0.1, "weight_decay": 0.1}
    count, more = STEPS[kind]
    lists = [[abs(normal(4, 6, seed=i, dtype="float32"))] for i in range(count)]
    if kind == "rmsprop":
        lists[3][0] *= 0.1  # a mean that fits the mean square
    plain = [[a.copy() for a in arrays] for arrays in lists]
    getattr(steps, f"{kind}_step")(GENERIC, *plain, **settings, **more)
    moved = [[device_array(arranged(a)) for a in arrays] for arrays in lists]
    assert not any(a.flags.c_contiguous for arrays in moved for a in arrays)
    getattr(steps, f"{kind}_step")(STRICT, *moved, **settings, **more)
    for found, expected in zip(moved, plain, strict=True):
        assert_rounded(STRICT.to_host(found[0]), np.float64(expected[0]), terms=50)
        rest = found[0].base
        if order != "F":
            whole = STRICT.to_host(rest)
            assert (whole[:, 1::2] == 5 if order == "strided" else whole[:, ::2] == 5).all()


def device_array(a):
    """A device array with the same strides in the same larger memory."""
    if a.base is None or a.flags.f_contiguous:
        return strict_cupy.asfortranarray(STRICT.asarray(np.ascontiguousarray(a)))
    whole = STRICT.asarray(np.ascontiguousarray(a.base))
    return whole[:, ::2] if a.strides[0] > 0 else whole[::-1, 1::2]


# -- loss scaling --------------------------------------------------------------------------


def scaler_of(scale=1.0, overflow=0, good=0, skipped=0):
    state = np.zeros(4, "float32")
    state[[SCALE, OVERFLOW, GOOD, SKIPPED]] = scale, overflow, good, skipped
    return state


@dtypes
@pytest.mark.parametrize("bad", [None, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("scale", [1.0, 1024.0, 3.0])
def test_unscale(scale, bad, dtype):
    grads = several(dtype, 0)
    if bad is not None:
        grads[3][9_999] = bad

    def call(scaler, *arrays):
        STRICT.unscale(list(arrays), scaler)
        return scaler, *arrays

    state, *found = run(call, scaler_of(scale, good=2, skipped=1), *grads)
    assert state.tolist() == scaler_of(scale, bad is not None, 2, 1).tolist()
    for array, g in zip(found, grads, strict=True):
        assert_rounded(array, np.float64(g) / scale)


def test_unscale_keeps_an_overflow_of_before():
    def call(scaler, g):
        STRICT.unscale([g], scaler)
        return scaler

    assert run(call, scaler_of(2.0, overflow=1), np.ones(3, "float32"))[OVERFLOW] == 1


def test_unscale_notes_what_overflows_by_it():
    def call(scaler, g):
        STRICT.unscale([g], scaler)
        return scaler, g

    scaler, g = run(call, scaler_of(0.25), np.float16([1, 30_000]))
    assert g.tolist() == [4, np.inf]
    assert scaler[OVERFLOW] == 1


SCRIPT = [0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0]  # in which steps a gradient is not finite


@pytest.mark.parametrize("backend", [GENERIC, STRICT], ids=lambda b: b.device)
@pytest.mark.parametrize("interval", [1, 2, 3])
def test_update_scale(backend, interval):
    scaler = backend.asarray(scaler_of(16.0))
    states = []
    for overflow in SCRIPT:
        scaler[OVERFLOW] = overflow
        backend.update_scale(scaler, 4.0, 0.25, interval)
        states.append(backend.to_host(scaler).tolist())
    expected = oracles.loss_scales(SCRIPT, 16.0, 4.0, 0.25, interval)
    assert states == [scaler_of(*s[:1], 0, *s[1:]).tolist() for s in expected]


@pytest.mark.parametrize("backend", [GENERIC, STRICT], ids=lambda b: b.device)
def test_the_scale_stays_finite(backend):
    scaler = backend.asarray(scaler_of(2.0**126))
    with np.errstate(over="ignore"):
        for _ in range(3):
            backend.update_scale(scaler, 2.0, 0.5, 1)
    assert backend.to_host(scaler).tolist() == scaler_of(2.0**127).tolist()


@dtypes
@pytest.mark.parametrize("kind", STEPS)
def test_an_overflow_changes_nothing(kind, dtype):
    count, settings = STEPS[kind]
    lists = [several(dtype, seed) for seed in range(count)]
    arrays = [a for arrays in lists for a in arrays]

    def call(scaler, *arrays):
        step = functools.partial(getattr(steps, f"{kind}_step"), STRICT)
        step(*split(arrays, len(lists)), lr=0.1, weight_decay=0.1, scaler=scaler, **settings)
        return arrays

    found = run(call, scaler_of(8.0, overflow=1), *arrays)
    assert [a.tobytes() for a in found] == [a.tobytes() for a in arrays]
    assert [a.tobytes() for a in run(call, scaler_of(8.0), *arrays)] != [
        a.tobytes() for a in arrays
    ]


@dtypes
def test_adam_leaves_skipped_steps_out_of_its_count(dtype):
    arrays = [abs(normal(40, seed=i, dtype=dtype)) for i in range(4)]
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0}

    def call(step):
        def inner(scaler, *arrays):
            steps.adam_step(STRICT, *([a] for a in arrays), **settings, step=step, scaler=scaler)
            return arrays

        return inner

    skipped = run(call(9), scaler_of(skipped=7), *arrays)
    assert [a.tobytes() for a in skipped] == [
        a.tobytes() for a in run(call(2), scaler_of(), *arrays)
    ]


@dtypes
def test_adagrad_leaves_skipped_steps_out_of_its_count(dtype):
    arrays = [abs(normal(40, seed=i, dtype=dtype)) for i in range(3)]
    settings = {"lr": 0.1, "lr_decay": 0.5, "eps": 1e-8, "weight_decay": 0.0}

    def call(step):
        def inner(scaler, *arrays):
            steps.adagrad_step(STRICT, *([a] for a in arrays), **settings, step=step, scaler=scaler)
            return arrays

        return inner

    skipped, plain = (
        run(call(9), scaler_of(skipped=7), *arrays),
        run(call(2), scaler_of(), *arrays),
    )
    assert [a.tobytes() for a in skipped] == [a.tobytes() for a in plain]


# -- against torch's GradScaler ------------------------------------------------------------

LR = 0.25


def gradient(step):
    """The gradient of a step of `SCRIPT`, float32, with an infinity or a NaN where it says so."""
    g = normal(3, 4, seed=100 + step, dtype="float32")
    if SCRIPT[step]:
        g[1, 2] = np.inf if step % 2 else np.nan
    return g


def start():
    return normal(3, 4, dtype="float32")


def torch_trace(kind, skipping=True):
    """Scale and parameter after each step of torch's; without the skipped steps on request."""
    torch = pytest.importorskip("torch")
    p = torch.tensor(start(), requires_grad=True)
    optimizer = {
        "sgd": lambda: torch.optim.SGD([p], LR, momentum=0.9),
        "adam": lambda: torch.optim.Adam([p], LR),
    }[kind]()
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=2)
    scaler.scale(torch.ones(()))  # it makes its state with the first loss
    trace = []
    for step in range(len(SCRIPT)):
        p.grad = torch.tensor(gradient(step))
        if skipping:
            p.grad *= scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
        elif not SCRIPT[step]:
            optimizer.step()
        trace.append((scaler.get_scale(), p.detach().numpy().copy()))
    return trace


def assert_same_trace(trace, expected, scales=True):
    assert len(trace) == len(expected) == len(SCRIPT)
    before = start()
    for step, ((scale, p), (scale_there, p_there)) in enumerate(zip(trace, expected, strict=True)):
        if scales:
            assert scale == scale_there
        np.testing.assert_allclose(p, p_there, rtol=2e-6, atol=2e-6)
        assert (p == before).all() == bool(SCRIPT[step])
        before = p


def primitives_trace(backend, kind):
    p = backend.asarray(start())
    states = [backend.xp.zeros_like(p) for _ in range(2 if kind == "adam" else 1)]
    scaler = backend.asarray(scaler_of(16.0))
    trace = []
    with np.errstate(invalid="ignore"):
        for step in range(len(SCRIPT)):
            g = backend.asarray(gradient(step))
            g *= scaler[SCALE]
            backend.unscale([g], scaler)
            lists, settings = [[p], [g], *([s] for s in states)], {"lr": LR, "weight_decay": 0.0}
            if kind == "sgd":
                steps.sgd_step(
                    backend, *lists, momentum=0.9, nesterov=False, scaler=scaler, **settings
                )
            else:
                more = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "step": step + 1}
                steps.adam_step(backend, *lists, scaler=scaler, **settings, **more)
            backend.update_scale(scaler, 2.0, 0.5, 2)
            host = backend.to_host(scaler)
            trace.append((host[SCALE], backend.to_host(p).copy()))
    assert host[SKIPPED] == sum(SCRIPT)
    return trace


def classes_trace(backend, kind):
    p = xcnn.Tensor(backend.asarray(start()), requires_grad=True)
    optimizer = optim.SGD([p], LR, momentum=0.9) if kind == "sgd" else optim.Adam([p], LR)
    scaler = GradScaler(backend, init_scale=16.0, growth_interval=2)
    trace = []
    with np.errstate(invalid="ignore"):
        for step in range(len(SCRIPT)):
            p.grad = backend.asarray(gradient(step) * np.float32(scaler.scale))
            scaler.step(optimizer)
            trace.append((scaler.scale, backend.to_host(p.data).copy()))
    assert scaler.skipped == sum(SCRIPT)
    return trace


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("backend", [GENERIC, STRICT], ids=lambda b: b.device)
def test_primitives_scale_and_skip_as_torchs_scaler(backend, kind):
    assert_same_trace(primitives_trace(backend, kind), torch_trace(kind))


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_grad_scaler_scales_and_skips_as_torchs(device, kind):
    trace = classes_trace(xcnn.backends.get(device), kind)
    assert_same_trace(trace, torch_trace(kind))


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_skipped_steps_are_as_if_never_made(device, kind):
    trace = classes_trace(xcnn.backends.get(device), kind)
    assert_same_trace(trace, torch_trace(kind, skipping=False), scales=False)


# -- bfloat16: NumPy has none, so its bits -------------------------------------------------


def to_bfloat16(x):
    """The bits of the nearest, the even one of two."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def launch_bfloat16(name, grid, *arguments, packed=False, large=False):
    file = next(f for f in kernels.FILES if name in kernels.entry_points(f))
    variant = Variant(file, "bfloat16", packed=packed, large=large)
    module = shim.CpuModule(kernels.source(file), variant.options)
    arguments = [np.int32(a) if type(a) is int else a for a in arguments]
    module.get_function(name)((*grid, 1)[:2], (256, 1, 1), arguments)


def image_arguments(geometry, channels, batch, packed):
    return channels, batch // 8 if packed else batch, *cuda._geometry_arguments(geometry)


# eight fit in 16 bytes
bfloat16_batches = pytest.mark.parametrize(("batch", "packed"), [(3, False), (8, True), (16, True)])


@bfloat16_batches
@conv_cases
@pytest.mark.exhaustive  # compiles variants of its own
def test_bfloat16_columns(case, batch, packed):
    geometry, tiles = tiles_of(case)
    x = to_bfloat16(normal(2, *case[0], batch))
    for tile in tiles:
        rows, columns = tile.bottom - tile.top, tile.right - tile.left
        unfolded = np.full(shape_of(geometry, tile, 2, batch), 0x7FFF, np.uint16)
        numbers = tile.top, tile.left, rows, columns
        sizes = image_arguments(geometry, 2, batch, packed)
        grid = launch.grid(rows * columns * batch, 2)
        launch_bfloat16("im2col", grid, x, unfolded, *numbers, *sizes, packed=packed)
        expected = last(oracles.im2col(first(from_bfloat16(x)), *case[1:], tile))
        np.testing.assert_array_equal(from_bfloat16(unfolded), expected)
        dx = x.copy()
        region = 0, 0, *case[0], 0  # added
        launch_bfloat16("col2im", grid, unfolded, dx, *numbers, *region, *sizes, packed=packed)
        folded = last(oracles.col2im(first(expected), case[0], *case[2:], tile))
        assert_rounded(from_bfloat16(dx), from_bfloat16(x) + folded, "bfloat16", terms=10)


@bfloat16_batches
@pool_cases
@pytest.mark.exhaustive  # compiles variants of its own
def test_bfloat16_maxima(case, batch, packed):
    x, y, argmax, chosen = pooled(case)
    geometry, large = window_geometry(*case), math.prod(case[1]) > 256
    y, argmax = y[..., :batch], argmax[..., :batch]
    variant = {"packed": packed, "large": large}
    sizes = image_arguments(geometry, 3, batch, packed)
    grid = launch.grid(y[0].size, 3)
    found = np.zeros(y.shape, np.uint16)
    positions = np.full(y.shape, 113, "int32" if large else "uint8")
    images = to_bfloat16(x[..., :batch])
    launch_bfloat16("max_pool2d", grid, images, found, positions, 1, *sizes, **variant)
    np.testing.assert_array_equal(from_bfloat16(found), y)
    np.testing.assert_array_equal(positions, argmax)
    dy, dx = to_bfloat16(normal(*y.shape)), np.full(images.shape, 0x7FFF, np.uint16)
    grid = launch.grid(dx[0].size, 3)
    launch_bfloat16("max_pool2d_backward", grid, dy, positions, dx, *sizes, **variant)
    taken = {index: pixel for index, pixel in chosen.items() if index[0] < batch}
    expected = oracles.max_pool2d_gradient(first(from_bfloat16(dy)), taken, (batch, 3, *case[0]))
    assert_rounded(from_bfloat16(dx), last(expected), "bfloat16", terms=10)


@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize(("start", "count", "packed"), [(3, 50, False), (8, 64, True)])
@pytest.mark.exhaustive  # compiles variants of its own
def test_bfloat16_bias(start, count, packed, relu):
    y, bias = to_bfloat16(normal(3, 80)), to_bfloat16(normal(3, seed=1))
    expected, lanes = from_bfloat16(y), 8 if packed else 1
    part = expected[:, start : start + count]
    part += from_bfloat16(bias)[:, None]
    if relu:
        np.maximum(part, 0, out=part)
    numbers = relu, 3, 80 // lanes, start // lanes, count // lanes
    launch_bfloat16("add_bias", launch.grid(count, 3), y, bias, *numbers, packed=packed)
    assert_rounded(from_bfloat16(y), expected, "bfloat16")


@pytest.mark.parametrize("with_slope", [0, 1])
@pytest.mark.parametrize(("classes", "size"), [(1, 1), (3, 33), (10, 70)])
@pytest.mark.exhaustive  # compiles variants of its own
def test_bfloat16_cross_entropy(classes, size, with_slope):
    x = to_bfloat16(logits(classes, size, "float32"))
    target = np.arange(size) % (classes + 1)
    terms, slope = np.zeros(size, np.uint16), np.zeros(x.shape, np.uint16)
    grid = (-(-size // 32),)
    ignore = np.int64(-100)
    arguments = terms, slope, ignore, with_slope, classes, size
    launch_bfloat16("cross_entropy", grid, x, target, *arguments)
    expected = oracles.class_cross_entropy(from_bfloat16(x), target)
    assert_rounded(from_bfloat16(terms), expected[0], "bfloat16")
    slopes = expected[1] if with_slope else np.zeros(x.shape)
    assert_rounded(from_bfloat16(slope), slopes, "bfloat16")


# -- which variant, which grid -------------------------------------------------------------


def array_of(size, address=4096):
    """As much of an array as the choice of a variant looks at."""
    return types.SimpleNamespace(size=size, data=types.SimpleNamespace(ptr=address))


@pytest.mark.parametrize("file", kernels.FILES)
@pytest.mark.parametrize(
    ("size", "wide"),
    [(launch.NARROW - 1, False), (launch.NARROW, True), (2**31 - 1, True), (2**31, True)],
)
def test_large_arrays_are_counted_in_64_bits(file, size, wide):
    choose = launch.Kernels(strict_cupy).variant
    for arrays in ([array_of(size)], [array_of(8), array_of(size)], [array_of(size), array_of(8)]):
        variant = choose(file, np.dtype("float32"), arrays, 3)
        assert variant == Variant(file, "float32", wide)
        assert variant.index is (np.int64 if wide else np.int32)


def test_no_thread_counts_beyond_31_bits():
    """After its last element a thread adds the size of the grid once more."""
    for count in (launch.NARROW - 1, launch.NARROW // 8):
        blocks, _ = launch.grid(count)
        assert count - 1 + blocks * launch.BLOCK < 2**31


@pytest.mark.parametrize("file", kernels.FILES)
@pytest.mark.parametrize(("dtype", "lanes"), [("float32", 4), ("float64", 2), ("float16", 8)])
def test_16_bytes_at_once_where_everything_is_aligned(file, dtype, lanes):
    choose, can = launch.Kernels(strict_cupy).variant, file in kernels.PACKED
    good, crooked = array_of(100), array_of(100, 4096 + 8)

    def packed(arrays, run):
        return choose(file, np.dtype(dtype), arrays, run).packed

    assert packed([good, good], 3 * lanes) == can
    assert choose(file, np.dtype(dtype), [good], lanes).lanes == (lanes if can else 1)
    assert not packed([good, good], 3 * lanes + 1)
    assert not packed([good, good], lanes // 2)
    assert not packed([good, crooked], lanes)
    assert not packed([crooked, good], lanes)


CASE = CONVOLUTIONS[3]
POOL = ((21, 22), (3, 3), (2, 2), ((1, 0), (0, 1)), (1, 1), True)


def im2col(channels, batch, dtype):
    geometry = window_geometry((20, 21), 2, 1)
    tile = Tile(1, 18, 2, 20)
    shape = shape_of(geometry, tile, channels, batch)
    x = normal(channels, 20, 21, batch, dtype=dtype)
    return run(lambda x: STRICT.im2col(x, geometry, tile, strict_cupy.empty(shape, dtype)), x)


def col2im(channels, batch, dtype):
    geometry = window_geometry((20, 21), 2, 1)
    tile = Tile(1, 18, 2, 20)

    def call(columns, dx):
        STRICT.col2im(columns, geometry, tile, dx)
        return dx

    columns = normal(*shape_of(geometry, tile, channels, batch), dtype=dtype)
    return run(call, columns, normal(channels, 20, 21, batch, dtype=dtype))


def depthwise(channels, batch, dtype):
    geometry, settings = window_geometry((20, 21), 3, 2, 1), (channels, False)
    x, w = normal(channels, 20, 21, batch, dtype=dtype), normal(channels, 1, 3, 3, dtype=dtype)
    y = run(lambda x, w: STRICT.convolution(x, w, None, geometry, *settings), x, w)
    dx = run(lambda y, w: STRICT.convolution_input_gradient(y, w, geometry, channels), y, w)
    dw = run(lambda y, x: STRICT.convolution_weight_gradient(y, x, geometry, channels), y, x)
    return np.concatenate([a.ravel() for a in (y, dx, dw)])


def max_pool(channels, batch, dtype):
    geometry, x = window_geometry(*POOL), normal(channels, *POOL[0], batch, dtype=dtype)
    y, argmax = run(lambda x: STRICT.max_pool2d(x, geometry), x)
    dx = run(lambda y, a: STRICT.max_pool2d_backward(y, a, geometry), y, argmax)
    return np.concatenate([a.ravel() for a in (y, argmax, dx)])


def avg_pool(channels, batch, dtype):
    geometry, x = window_geometry(*POOL), normal(channels, *POOL[0], batch, dtype=dtype)
    y = run(lambda x: STRICT.avg_pool2d(x, geometry, False), x)
    dx = run(lambda y: STRICT.avg_pool2d_backward(y, geometry, False), y)
    return np.concatenate([y.ravel(), dx.ravel()])


def bias(channels, batch, dtype):
    y, shifts = normal(channels, 600 * batch, dtype=dtype), normal(channels, seed=1, dtype=dtype)

    def call(y, shifts):
        STRICT.add_bias(y, shifts, slice(batch, 599 * batch), True)
        return y

    found = run(call, y, shifts)
    dz, sums = run(STRICT.relu_backward, y, found)
    return np.concatenate([a.ravel() for a in (found, dz, sums)])


def random(channels, batch, dtype):
    parts = [run(lambda p=part: STRICT.random_bits(5000, 3, p)) for part in (None, (3, 50, 90))]
    return np.concatenate([*parts, run(lambda: STRICT.dropout_mask(5000, 3, 0.5, dtype))])


def cross_entropy(channels, batch, dtype):
    x, target = normal(channels, 600, dtype=dtype), np.arange(600) % 5
    terms, slope = run(STRICT.cross_entropy, x, target)
    mean, inverse = run(lambda t, y: STRICT.mean_of_terms(t, y, 3), terms, target)
    totals = np.ones((), dtype), np.int64(5), np.int64(0)

    def add(*arrays):
        STRICT.add_class_totals(arrays[:3], *arrays[3:], 3)
        return arrays[:3]

    sums = run(add, *map(np.asarray, totals), x, target, mean)
    return np.concatenate(
        [terms, slope.ravel(), *([a.astype(dtype)] for a in (mean, inverse, *sums))]
    )


def norm(channels, batch, dtype):
    parts = []
    for shape in ((channels, 1, 5000, 1), (channels, 1, 1500, batch + 1)):
        x, w = normal(*shape, dtype=dtype), normal(channels, 1, seed=1, dtype=dtype)
        y, *statistics = run(lambda x, w: _flat(STRICT.normalize(x, w, w, 0.1, relu=True)), x, w)
        table = np.concatenate(statistics)

        def backward(dy, x, y, table, w):
            return STRICT.normalize_backward(dy, x, y, Statistics(*table), w)[:3]

        table = table.reshape(3, channels, 1, 1, shape[3])
        parts += [y, *statistics, *run(backward, y, x, y, table, w)]
    return np.concatenate([a.ravel() for a in parts])


def _flat(result):
    return result[0], *(a.reshape(-1) for a in result[1])


CALLS = [im2col, col2im, depthwise, max_pool, avg_pool, bias, norm, random, cross_entropy]
calls = pytest.mark.parametrize("call", CALLS, ids=lambda f: f.__name__)


@calls
@pytest.mark.exhaustive  # compiles variants of its own
def test_64_bit_variants_give_the_same_bits(call, launched, monkeypatch):
    narrow = call(5, 4, "float32")
    assert not any(variant.wide for variant, _, _ in launched)
    launched.clear()
    monkeypatch.setattr(launch, "NARROW", 0)
    assert call(5, 4, "float32").tobytes() == narrow.tobytes()
    assert launched
    assert all(variant.wide for variant, _, _ in launched)
    assert {variant for variant, _, _ in launched} <= set(STRICT._kernels._modules)


@calls
def test_small_grids_give_the_same_bits(call, launched, monkeypatch):
    """Threads take several elements, and blocks several rows."""
    full = call(5, 4, "float32")
    biggest = [(max(g[0] for _, _, g in launched)), max((*g, 1)[1] for _, _, g in launched)]
    launched.clear()
    monkeypatch.setattr(launch, "_MOST_BLOCKS", 1)
    monkeypatch.setattr(launch, "_MOST_ROWS", 2)
    assert call(5, 4, "float32").tobytes() == full.tobytes()
    assert biggest[0] > 1
    assert biggest[1] == (1 if call in (random, cross_entropy) else 5)
    own = (  # choose the blocks of a row themselves
        *("bias_relu_backward", "cross_entropy", "mean_of_terms", "add_class_totals", "norm_"),
    )
    assert all(g[0] == 1 for _, name, g in launched if not name.startswith(own))
    assert all((*g, 1)[1] <= 2 for _, _, g in launched)


@calls
@dtypes
def test_moving_16_bytes_gives_the_same_bits(call, dtype, launched, monkeypatch):
    packed = call(2, 8, dtype)
    assert all(v.packed == (v.file in kernels.PACKED) for v, _, _ in launched)
    launched.clear()
    monkeypatch.setattr(kernels, "PACKED", ())
    plain = call(2, 8, dtype)
    if call in (bias, depthwise):  # the sums are in another order
        sums = 2 if call is bias else 2 * 9
        np.testing.assert_array_equal(plain[:-sums], packed[:-sums])
        np.testing.assert_allclose(plain[-sums:], packed[-sums:], rtol=1e-5)
    else:
        assert plain.tobytes() == packed.tobytes()
    assert not any(v.packed for v, _, _ in launched)


def test_a_view_that_starts_anywhere(launched):
    """CuPy's memory is aligned, a slice of it need not be."""
    geometry, memory = window_geometry((4, 5), 2), normal(2 * 4 * 5 * 4 + 1, dtype="float32")
    whole = STRICT.asarray(memory)
    assert whole.data.ptr % 16 == 0
    views = [whole[start : start + 160].reshape(2, 4, 5, 4) for start in (0, 1)]
    found = [STRICT.to_host(STRICT.avg_pool2d(view, geometry, True)) for view in views]
    assert [variant.packed for variant, _, _ in launched] == [True, False]
    for start, y in enumerate(found):
        x = memory[start : start + 160].reshape(2, 4, 5, 4)
        assert_rounded(y, last(oracles.avg_pool2d(first(x), (2, 2), (1, 1))))


def test_no_kernel_is_left_out_here(launched):
    for call in CALLS:
        call(2, 1, "float32")
    arrays = [STRICT.asarray(normal(3, dtype="float32")) for _ in range(4)]
    settings, scaler = {"lr": 0.1, "weight_decay": 0.0}, STRICT.asarray(scaler_of())
    steps.sgd_step(STRICT, *([a] for a in arrays[:3]), momentum=0.9, nesterov=False, **settings)
    steps.adam_step(
        STRICT, *([a] for a in arrays), beta1=0.9, beta2=0.9, eps=0.1, step=1, **settings
    )
    steps.rmsprop_step(
        STRICT, *([a] for a in arrays), [], alpha=0.9, eps=0.1, momentum=0.0, **settings
    )
    steps.adagrad_step(
        STRICT, *([a] for a in arrays[:3]), lr_decay=0.0, eps=0.1, step=1, **settings
    )
    STRICT.unscale([arrays[0]], scaler)
    STRICT.update_scale(scaler, 2.0, 0.5, 1)
    STRICT.clip_norm([arrays[0]], 1.0, 2.0)
    STRICT.average([arrays[0]], [arrays[1]], 0.5)
    STRICT.as_dtypes([arrays[0].astype("float16")], ["float32"])
    every = {name for file in kernels.FILES for name in kernels.entry_points(file)}
    assert {name for _, name, _ in launched} == every


# -- no images -----------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize(("channels", "batch"), [(2, 0), (0, 3)])
def test_without_images_nothing_is_launched(channels, batch, dtype):
    geometry, empty = window_geometry((4, 5), 2), strict_cupy.zeros
    x = empty((channels, 4, 5, batch), dtype)
    tile = Tile(0, 3, 0, 4)
    columns = empty(shape_of(geometry, tile, channels, batch), dtype)
    with count_launches() as names:
        assert STRICT.im2col(x, geometry, tile, columns) is columns
        STRICT.col2im(columns, geometry, tile, x)
        y, argmax = STRICT.max_pool2d(x, geometry)
        assert y.shape == argmax.shape == (channels, 3, 4, batch)
        assert STRICT.max_pool2d_backward(y, argmax, geometry).shape == x.shape
        assert STRICT.avg_pool2d(x, geometry, True).shape == y.shape
        assert STRICT.avg_pool2d_backward(y, geometry, True).shape == x.shape
    assert names == []


# -- linear operations and their adjoints --------------------------------------------------


@st.composite
def geometries(draw, dilated=True):
    def pairs(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel = pairs(1, 4)
    padding = tuple(tuple(draw(st.integers(0, max(0, k - 1))) for _ in range(2)) for k in kernel)
    size, stride, dilation = pairs(1, 8), pairs(1, 3), pairs(1, 2) if dilated else (1, 1)
    for axis in (0, 1):
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        assume(extent <= size[axis] + sum(padding[axis]))
    return window_geometry(size, kernel, stride, padding, dilation)


def on_device(*shape, seed):
    return STRICT.asarray(normal(*shape, seed=seed))


def dot(a, b):
    """Their inner product, and the size that its rounding is relative to."""
    products = [STRICT.to_host(x).ravel() for x in (a, b)]
    return math.fsum(products[0] * products[1]), math.fsum(abs(products[0] * products[1]))


def assert_adjoint(left, right):
    """<A x, y> == <x, Aᵀ y>."""
    (a, size), (b, _) = dot(*left), dot(*right)
    assert abs(a - b) <= 1e-12 * max(size, 1)


channels_and_batch = st.tuples(st.integers(1, 3), st.integers(1, 5))


@given(geometries(), channels_and_batch, st.integers(1, 12))
def test_col2im_is_the_adjoint_of_im2col(geometry, sizes, positions):
    channels, batch = sizes
    x = on_device(channels, *geometry.input, batch, seed=0)
    dx = strict_cupy.zeros(x.shape)
    left = right = size = 0
    for number, tile in enumerate(geometry.tiles(positions)):
        shape = shape_of(geometry, tile, channels, batch)
        columns = on_device(*shape, seed=number + 1)
        unfolded = STRICT.im2col(x, geometry, tile, strict_cupy.empty(shape))
        products = dot(unfolded, columns)
        left, size = left + products[0], size + products[1]
        STRICT.col2im(columns, geometry, tile, dx)
    right, _ = dot(x, dx)
    assert abs(left - right) <= 1e-12 * max(size, 1)


@given(geometries(dilated=False), channels_and_batch, st.booleans())
def test_avg_pool2d_backward_is_the_adjoint(geometry, sizes, include_pad):
    x = on_device(sizes[0], *geometry.input, sizes[1], seed=0)
    dy = on_device(sizes[0], *geometry.output, sizes[1], seed=1)
    if not include_pad:
        assume(all(min(geometry.counts(axis, False)) > 0 for axis in (0, 1)))
    y = STRICT.avg_pool2d(x, geometry, include_pad)
    assert_adjoint((y, dy), (x, STRICT.avg_pool2d_backward(dy, geometry, include_pad)))


@given(geometries(), channels_and_batch)
def test_max_pool2d_backward_is_the_adjoint_of_taking_what_was_chosen(geometry, sizes):
    x = on_device(sizes[0], *geometry.input, sizes[1], seed=0)
    other = on_device(*x.shape, seed=1)
    dy = on_device(sizes[0], *geometry.output, sizes[1], seed=2)
    _, argmax = STRICT.max_pool2d(x, geometry)
    taken = STRICT.asarray(gather(STRICT.to_host(other), STRICT.to_host(argmax), geometry))
    assert_adjoint((taken, dy), (other, STRICT.max_pool2d_backward(dy, argmax, geometry)))


def gather(x, argmax, geometry):
    """What the windows' chosen elements hold; 0 in windows of padding only."""
    y = np.zeros(argmax.shape)
    for c, i, j, n in np.ndindex(y.shape):
        element = divmod(int(argmax[c, i, j, n]), geometry.kernel[1])
        pixel = [
            o * s + k * d - p[0]
            for o, s, k, d, p in zip(
                (i, j),
                geometry.stride,
                element,
                geometry.dilation,
                geometry.padding,
                strict=True,
            )
        ]
        if all(0 <= p < size for p, size in zip(pixel, geometry.input, strict=True)):
            y[c, i, j, n] = x[c, *pixel, n]
    return y


# -- one training step ---------------------------------------------------------------------

IMAGES = normal(8, 1, 28, 28, dtype="float32")
LABELS = np.arange(8) % 10


def lenet_step(optimizer_of, device="strict"):
    model, asarray = models.lenet5().to(device), xcnn.backends.get(device).asarray
    optimizer = optimizer_of(model.parameters())
    x, y = xcnn.Tensor(asarray(IMAGES)), asarray(LABELS)

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


OPTIMIZERS = {
    "sgd_step": lambda params: optim.SGD(params, 0.01, momentum=0.9),
    "adam_step": lambda params: optim.Adam(params, 1e-3),
    "rmsprop_step": lambda params: optim.RMSprop(params, 1e-3, centered=True, momentum=0.5),
    "adagrad_step": lambda params: optim.Adagrad(params, 1e-2),
}
STEP = {
    "im2col": 2 + 2,  # each convolution forward, and again for its weights' gradient
    "col2im": 1,  # the images need no gradient
    "add_bias": 5,  # two convolutions and three linear layers, the ReLU included
    "bias_relu_backward": 4,  # all of them but the last
    "max_pool2d": 2,
    "max_pool2d_backward": 2,
    "cross_entropy": 1,
    "mean_of_terms": 1,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_of_lenet5_launches_these_kernels_and_never_waits(optimizer):
    step = lenet_step(OPTIMIZERS[optimizer])
    with count_launches() as names, count_syncs() as syncs:
        step()
    assert dict(Counter(names)) == {**STEP, optimizer: 1}
    assert syncs == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_later_steps_compile_and_upload_nothing(optimizer, monkeypatch):
    step = lenet_step(OPTIMIZERS[optimizer])
    step()
    step()  # the first after zero_grad
    compiled = set(STRICT._kernels._modules)
    with count_operations() as operations, count_syncs() as syncs:
        step()
    assert {name: operations[name] for name in (*STEP, optimizer)} == {**STEP, optimizer: 1}
    assert not {"to device", "to host"} & set(operations)
    assert syncs == []
    assert set(STRICT._kernels._modules) == compiled


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_of_lenet5_lower_the_loss_as_on_the_cpu(optimizer):
    def losses(device):
        xcnn.manual_seed(0)
        step = lenet_step(OPTIMIZERS[optimizer], device)
        return [float(step().numpy()) for _ in range(4)]

    found = losses("strict")
    np.testing.assert_allclose(found, losses("cpu"), rtol=1e-3)
    assert len(set(found)) == 4

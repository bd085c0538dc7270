"""conv2d against naive loops, on every device."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn import backends, convolution
from xcnn.backends import Backend
from xcnn.backends.cpu import CpuBackend
from xcnn.backends.native import NativeBackend
from xcnn.errors import ArgumentError, DTypeError, ShapeError
from xcnn.geometry import window_geometry
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, is_batch_last, normal

CASES = {
    "plain": {},
    "stride": {"stride": 2},
    "stride-pair": {"stride": (3, 1)},
    "padding": {"padding": 1},
    "padding-pair": {"padding": (2, 0)},
    "padding-sides": {"padding": ((0, 2), (1, 3))},
    "same-odd": {"padding": "same", "stride": 2},
    "valid": {"padding": "valid"},
    "dilation": {"dilation": 2, "padding": 2},
    "dilation-pair": {"dilation": (1, 3)},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4, "padding": 1},
    "everything": {
        "stride": (2, 1),
        "padding": ((1, 0), (2, 1)),
        "dilation": (1, 2),
        "groups": 2,
    },
}


def arrays(channels=4, filters=4, kernel=(3, 2), size=(6, 7), batch=2, groups=1, dtype="float64"):
    shapes = (batch, channels, *size), (filters, channels // groups, *kernel), (filters,)
    return tuple(normal(*s, seed=i, dtype=dtype) for i, s in enumerate(shapes))


def expected(x, weight, bias, dy, **settings):
    """y and the three gradients, from the oracle."""
    stride, dilation = settings.get("stride", 1), settings.get("dilation", 1)
    kernel = weight.shape[2:]
    padding = oracles.sides(settings.get("padding", 0), x.shape[2:], kernel, stride, dilation)
    rest = (stride, padding, dilation, settings.get("groups", 1))
    y = oracles.conv2d(x, weight, bias, *rest)
    dy = np.zeros_like(y) if dy is None else dy
    return y, oracles.conv2d_gradients(dy, x, weight, *rest)


def check(backend, inputs, **settings):
    found = evaluate_on(backend, F.conv2d, *inputs, **settings)
    y, gradients = expected(*inputs, found.dy, **settings)
    assert_matches(found.y, y, inputs[0].dtype)
    for got, wanted in zip(found.gradients, gradients, strict=True):
        assert_matches(got, wanted, inputs[0].dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_against_loops(backend, settings, dtype):
    check(backend, arrays(groups=settings.get("groups", 1), dtype=dtype), **settings)


@pytest.mark.parametrize("kernel", [(1, 1), (1, 5), (4, 1), (6, 7)], ids=str)
def test_kernel_shapes(backend, kernel):
    check(backend, arrays(kernel=kernel))


@pytest.mark.parametrize("settings", [{}, {"stride": 2}, {"padding": 1}, {"groups": 2}], ids=str)
def test_1x1(backend, settings):
    check(backend, arrays(kernel=(1, 1), groups=settings.get("groups", 1)), **settings)


padding_forms = st.one_of(
    st.sampled_from(["same", "valid"]),
    st.integers(0, 3),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
)


@st.composite
def problems(draw):
    """Inputs and settings of a conv2d call; some do not fit."""
    small, one_or_two = st.integers(1, 3), st.integers(1, 2)
    groups = draw(one_or_two)
    inputs = arrays(
        channels=groups * draw(one_or_two),
        filters=groups * draw(one_or_two),
        kernel=(draw(small), draw(small)),
        size=(draw(st.integers(1, 6)), draw(st.integers(1, 6))),
        batch=draw(st.integers(0, 2)),
        groups=groups,
    )
    settings = {
        "stride": draw(st.one_of(small, st.tuples(small, small))),
        "padding": draw(padding_forms),
        "dilation": draw(st.one_of(one_or_two, st.tuples(one_or_two, one_or_two))),
        "groups": groups,
    }
    return inputs, settings


def fits(x, weight, stride, padding, dilation, groups):
    """Whether at least one window fits along each axis."""
    size, kernel = x.shape[2:], weight.shape[2:]
    resolved = oracles.sides(padding, size, kernel, stride, dilation)
    return all(oracles.image_output_size(size, kernel, stride, resolved, dilation))


@given(problem=problems())
def test_any_settings(backend, problem):
    (x, weight, bias), settings = problem
    if fits(x, weight, **settings):
        check(backend, (x, weight, bias), **settings)
    else:
        with pytest.raises(ShapeError, match="smaller than the kernel"):
            evaluate_on(backend, F.conv2d, x, weight, bias, **settings)


@given(problem=problems())
def test_nhwc_gives_the_same_numbers(backend, problem):
    (x, weight, bias), settings = problem
    assume(fits(x, weight, **settings))
    nhwc = x.transpose(0, 2, 3, 1)
    found = evaluate_on(backend, F.conv2d, nhwc, weight, bias, data_format="NHWC", **settings)
    dy = found.dy.transpose(0, 3, 1, 2)
    y, (dx, *rest) = expected(x, weight, bias, dy, **settings)
    assert_matches(found.y, y.transpose(0, 2, 3, 1))
    for got, wanted in zip(found.gradients, (dx.transpose(0, 2, 3, 1), *rest), strict=True):
        assert_matches(got, wanted)


def test_without_bias(evaluate):
    x, weight, _ = arrays()
    found = evaluate(F.conv2d, x, weight, None)
    assert_matches(found.y, oracles.conv2d(x, weight))
    assert found.gradients[2] is None


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_only_the_gradient_that_is_wanted(backend, wanted):
    inputs = [
        xcnn.Tensor(backend.asarray(a), requires_grad=i == wanted) for i, a in enumerate(arrays())
    ]
    y = F.conv2d(*inputs, padding=1)
    y.backward(backend.xp.ones_like(y.data))
    gradients = oracles.conv2d_gradients(np.ones(y.shape), *arrays()[:2], padding=((1, 1), (1, 1)))
    for index, tensor in enumerate(inputs):
        if index == wanted:
            assert_matches(tensor.grad, gradients[index])
        else:
            assert tensor.grad is None


def test_the_first_layer_computes_no_image_gradient(backend, monkeypatch):
    """Its input wants none: half of backward is saved."""
    monkeypatch.setattr(backend, "col2im", lambda *arguments: pytest.fail("not needed"))
    x, weight, bias = (backend.asarray(a) for a in arrays())
    weight = xcnn.Tensor(weight, requires_grad=True)
    F.conv2d(x, weight, bias).sum().backward()
    _, dweight, _ = oracles.conv2d_gradients(np.ones((2, 4, 4, 6)), *arrays()[:2])
    assert_matches(weight.grad, dweight)


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_gradcheck(backend, settings):
    inputs = [backend.asarray(a) for a in arrays(groups=settings.get("groups", 1))]
    assert gradcheck(F.conv2d, *inputs, **settings) < 1e-6


# -- tiles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 2000, 9000, 2**40], ids=["1", "part-row", "rows", "all"])
@pytest.mark.parametrize("name", ["stride", "padding-sides", "dilation", "everything"])
def test_any_column_budget(backend, monkeypatch, name, budget):
    """Tiles of one window, parts of a row, whole rows, everything: the same numbers."""
    monkeypatch.setattr(backend, "column_budget", budget)
    settings = CASES[name]
    check(backend, arrays(groups=settings.get("groups", 1)), **settings)


@given(
    size=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    stride=st.integers(1, 3),
    padding=padding_forms,
    dilation=st.integers(1, 2),
    positions=st.integers(1, 40),
)
def test_im2col_and_col2im_are_adjoint(backend, size, stride, padding, dilation, positions):
    """<im2col(x), c> == <x, col2im(c)> for every tile, so backward is right if forward is."""
    resolved = oracles.sides(padding, size, 2, stride, dilation)
    assume(all(oracles.image_output_size(size, 2, stride, resolved, dilation)))
    geometry = window_geometry(size, 2, stride, padding, dilation)
    x = backend.asarray(normal(2, *size, 3))
    for tile in geometry.tiles(positions):
        shape = (2, 2, 2, tile.bottom - tile.top, tile.right - tile.left, 3)
        columns = backend.im2col(x, geometry, tile, backend.xp.empty(shape))
        c = backend.asarray(normal(*shape, seed=1))
        dx = backend.xp.zeros_like(x)
        backend.col2im(c, geometry, tile, dx)
        assert_matches(backend.to_host((columns * c).sum()), backend.to_host((x * dx).sum()))


def test_im2col_reads_what_the_oracle_reads(backend):
    """Column k of a window is the image convolved with a kernel that is one at k."""
    x = normal(2, 5, 6, 3)  # (C, H, W, N)
    geometry = window_geometry((5, 6), (2, 3), (2, 1), ((1, 0), (0, 2)), (2, 1))
    (tile,) = geometry.tiles(10**6)
    out = backend.xp.full((2, 2, 3, *geometry.output, 3), backend.xp.nan)
    columns = backend.to_host(backend.im2col(backend.asarray(x), geometry, tile, out))
    for c, i, j in np.ndindex(2, 2, 3):
        weight = np.zeros((1, 2, 2, 3))
        weight[0, c, i, j] = 1
        y = oracles.conv2d(x.transpose(3, 0, 1, 2), weight, None, (2, 1), ((1, 0), (0, 2)), (2, 1))
        assert_matches(columns[c, i, j], y[:, 0].transpose(1, 2, 0))


def test_more_positions_than_one_piece_of_the_weight_gradient(backend):
    """A thin product is computed in pieces of 4096 positions."""
    check(backend, (normal(3, 1, 40, 40), normal(2, 1, 3, 3, seed=1), normal(2, seed=2)))


# -- the choice of a method ----------------------------------------------------------------


@pytest.fixture
def convolution_method(monkeypatch):
    """``convolution_method("winograd")`` forces it, as a user would."""
    return lambda name: monkeypatch.setattr(xcnn.config, "convolution", name)


@pytest.mark.parametrize(
    ("settings", "groups", "channels", "name"),
    [
        ({"kernel": 1}, 1, 8, "pointwise"),
        ({"kernel": 1, "stride": 2}, 1, 8, "im2col"),
        ({"kernel": 1, "padding": 1}, 1, 8, "im2col"),
        ({"kernel": 1}, 2, 8, "im2col"),
        ({"kernel": 3}, 1, 8, "mec"),
        ({"kernel": 3}, 1, 16, "winograd"),
        ({"kernel": 3, "padding": ((0, 1), (2, 0))}, 1, 64, "winograd"),
        ({"kernel": 3}, 2, 16, "im2col"),
        ({"kernel": 3, "stride": 2}, 2, 16, "im2col"),
        ({"kernel": 3, "stride": 2, "dilation": 2}, 16, 16, "im2col"),
        ({"kernel": 1}, 16, 16, "im2col"),
        ({"kernel": 3, "stride": 2}, 1, 16, "im2col"),
        ({"kernel": 3, "dilation": 2}, 1, 16, "im2col"),
        ({"kernel": 3, "dilation": (1, 2), "stride": (1, 2)}, 1, 16, "mec"),
        ({"kernel": (3, 1)}, 1, 16, "mec"),
        ({"kernel": (1, 3)}, 1, 16, "im2col"),
        ({"kernel": 5}, 1, 16, "mec"),
        ({"kernel": (3, 5)}, 1, 32, "winograd"),
        ({"kernel": 5}, 1, 256, "winograd"),
        ({"kernel": 7}, 1, 256, "im2col"),  # lines of 2·50 numbers, shorter than 256 filters
    ],
)
def test_choice(strict, convolution_method, settings, groups, channels, name):
    geometry = window_geometry((8, 8), **settings)
    cpu = CpuBackend

    def chosen(backend):
        filters = 256 if channels == 256 else 32
        problem = convolution.Problem(geometry, groups, channels, filters, batch=50)
        method = convolution.choose(problem, backend.convolutions, xcnn.config.convolution)
        return name_of(method)

    assert chosen(cpu) == name
    by_blas = settings["kernel"] == 1 and groups == 1
    assert chosen(NativeBackend) == (name if by_blas or name == "winograd" else "direct")
    of_gpu = "depthwise" if groups == channels else "im2col"
    assert chosen(strict) == (name if name == "pointwise" else of_gpu)
    convolution_method("im2col")
    assert chosen(cpu) == "im2col"
    for forced in (
        "winograd",
        "mec",
        "depthwise",
        "direct",
    ):  # where it applies, whatever the number of channels
        convolution_method(forced)
        problem = convolution.Problem(geometry, groups, channels, 32, batch=50)
        applies = convolution.METHODS[forced].applies(problem)
        assert chosen(cpu) == (forced if applies else "im2col")


@pytest.mark.parametrize(
    ("size", "pays"), [(2, False), (3, True), (4, True), (5, False), (6, True)]
)
def test_winograd_minds_how_much_of_a_block_sticks_out(size, pays):
    geometry = window_geometry((size, size), 3, padding=1)
    problem = convolution.Problem(geometry, 1, 16, 16, 64)
    assert convolution.METHODS["winograd"].pays(problem) is pays


@pytest.mark.parametrize(
    ("channels", "batch", "pays"),
    [(32, 16, True), (32, 8, False), (128, 8, True), (128, 4, False), (512, 15, False)],
)
def test_winograd_minds_how_many_images_there_are(channels, batch, pays):
    """16 blocks for each image: beside the weights of 512 channels, 240 are few."""
    geometry = window_geometry((16, 16), 3, padding=1)
    problem = convolution.Problem(geometry, 1, channels, channels, batch)
    assert convolution.METHODS["winograd"].pays(problem) is pays


@pytest.mark.parametrize(
    ("channels", "batch", "pays"), [(4, 64, False), (8, 64, True), (256, 1, True), (512, 1, False)]
)
def test_compiled_winograd_pays_sooner(channels, batch, pays):
    geometry = window_geometry((16, 16), 3, padding=1)
    problem = convolution.Problem(geometry, 1, channels, channels, batch, compiled=True)
    assert convolution.METHODS["winograd"].pays(problem) is pays


def test_an_unknown_method(convolution_method):
    convolution_method("fft")
    with pytest.raises(
        ArgumentError,
        match="convolution='fft': expected auto, pointwise, winograd, direct",
    ):
        F.conv2d(normal(1, 2, 5, 5), normal(3, 2, 3, 3))


def test_the_environment_sets_the_method():
    code = "import xcnn; print(xcnn.config.convolution)"
    for setting, expected in (({}, "auto"), ({"XCNN_CONVOLUTION": "im2col"}, "im2col")):
        environment = {k: v for k, v in os.environ.items() if k != "XCNN_CONVOLUTION"} | setting
        found = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == expected


@pytest.mark.parametrize("kernel", [1, 3])
def test_methods_agree(backend, kernel):
    x = backend.asarray(normal(3, 5, 6, 2))
    weight = backend.asarray(normal(6, 3, kernel, kernel, seed=1))
    bias, geometry = backend.asarray(normal(6, seed=2)), window_geometry((5, 6), kernel)
    dy = backend.asarray(normal(6, *geometry.output, 2, seed=3))
    problem = convolution.Problem(geometry, 1, 3, 6, 2, relu=True)
    results = []
    for method in convolution.METHODS.values():
        if method.applies(problem):
            y = method.forward(backend, problem, x, weight, bias)
            dx = method.input_gradient(backend, problem, dy, weight)
            dweight = method.weight_gradient(backend, problem, dy, x)
            results.append([backend.to_host(a) for a in (y, dx, dweight)])
    assert len(results) >= 3
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_matches(a, b)


# -- each method ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": "same"},
        {"padding": ((0, 3), (2, 0))},
        {"padding": ((4, 1), (0, 5))},
        {"stride": (1, 2)},
        {"stride": (1, 3), "dilation": (1, 2), "padding": (1, 2)},
    ],
)
@pytest.mark.parametrize("kernel", [(3, 3), (5, 2), (1, 4), (2, 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_mec(backend, convolution_method, monkeypatch, settings, kernel, batch):
    """Tiles that hold all lines, some of them, and a part of one."""
    convolution_method("mec")
    inputs = normal(batch, 3, 7, 9), normal(4, 3, *kernel, seed=1), normal(4, seed=2)
    for budget in (2**21, 3 * kernel[1] * 9 * batch * 8 * 6, 1):
        monkeypatch.setattr(backend, "column_budget", budget)
        check(backend, inputs, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": "same", "stride": 2},
        {"padding": ((2, 0), (1, 3)), "dilation": (2, 1)},
        {"stride": (3, 1), "padding": (1, 2)},
    ],
)
@pytest.mark.parametrize(("kernel", "several"), [((3, 3), 1), ((2, 3), 2), ((1, 5), 3)])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_depthwise(backend, monkeypatch, settings, kernel, several, batch):
    """Several filters for each channel, and one channel at a time."""
    inputs = normal(batch, 4, 7, 9), normal(4 * several, 1, *kernel, seed=1), normal(4 * several)
    for budget in (2**21, 1):
        monkeypatch.setattr(backend, "column_budget", budget)
        check(backend, inputs, groups=4, **settings)


DIRECT = {
    # channels, filters, kernel, size, settings
    "plain": (3, 5, (3, 2), (6, 7), {}),
    "wide padding": (7, 13, (2, 3), (4, 9), {"padding": ((4, 1), (0, 5))}),
    "stride": (2, 6, (3, 3), (9, 8), {"stride": (2, 3), "padding": 1}),
    "stride over the kernel": (2, 3, (1, 2), (8, 9), {"stride": (2, 3)}),
    "dilation": (4, 7, (3, 3), (9, 8), {"dilation": (2, 3), "padding": (2, 3)}),
    "groups": (6, 9, (3, 3), (5, 6), {"groups": 3, "padding": 1, "stride": (1, 2)}),
    "depthwise": (3, 6, (3, 3), (6, 5), {"groups": 3, "padding": ((1, 0), (2, 1))}),
    "blocks of the weight gradient": (40, 34, (2, 2), (3, 4), {}),
}


@pytest.mark.parametrize("case", DIRECT.values(), ids=DIRECT)
@pytest.mark.parametrize(
    ("batch", "dtype"), [(1, "float32"), (3, "float64"), (17, "float32"), (33, "float64")]
)
def test_direct(backend, convolution_method, case, batch, dtype):
    """Filters, runs and images that are no multiples of a block, a vector or a tile."""
    convolution_method("direct")
    channels, filters, kernel, size, settings = case
    groups = settings.get("groups", 1)
    check(backend, arrays(channels, filters, kernel, size, batch, groups, dtype), **settings)


def test_direct_with_more_images_than_a_tile_takes(backend, convolution_method):
    convolution_method("direct")
    check(backend, arrays(2, 3, size=(5, 6), batch=70, dtype="float32"), padding=1)


def test_direct_with_several_tiles(backend, convolution_method):
    """Bands and strips of an image, against the method of a product for each kernel element."""
    convolution_method("direct")
    inputs = [backend.asarray(a) for a in arrays(20, 7, (3, 3), (19, 33), 40, dtype="float64")]
    y, pullback = xcnn.vjp(F.conv2d, *inputs, stride=(1, 2), padding=1)
    dy = backend.asarray(normal(*y.shape, seed=3))
    geometry = window_geometry((19, 33), 3, (1, 2), 1)
    x, weight, bias = inputs
    x, dy_last = (backend.xp.ascontiguousarray(a.transpose(1, 2, 3, 0)) for a in (x, dy))
    plain = Backend
    expected = plain.convolution(backend, x, weight, bias, geometry, 1, False).transpose(3, 0, 1, 2)
    assert_matches(backend.to_host(y), backend.to_host(expected))
    dx, dweight, _ = pullback(dy)
    expected = plain.convolution_input_gradient(backend, dy_last, weight, geometry, 1)
    assert_matches(backend.to_host(dx), backend.to_host(expected.transpose(3, 0, 1, 2)))
    expected = plain.convolution_weight_gradient(backend, dy_last, x, geometry, 1)
    assert_matches(backend.to_host(dweight), backend.to_host(expected))


@pytest.mark.parametrize("method", ["mec", "winograd", "direct", "im2col"])
def test_an_empty_batch(backend, convolution_method, method):
    convolution_method(method)
    x, weight = backend.asarray(normal(0, 3, 6, 6)), backend.asarray(normal(5, 3, 3, 3))
    y, pullback = xcnn.vjp(F.conv2d, x, weight)
    dx, dweight = pullback(y)
    assert (y.shape, dx.shape) == ((0, 5, 4, 4), x.shape)
    assert not backend.to_host(dweight).any()


@pytest.mark.parametrize(
    ("size", "padding"),
    [
        ((8, 8), "same"),
        ((3, 3), 0),
        ((1, 1), 1),
        ((4, 9), "same"),
        ((7, 5), ((0, 2), (1, 0))),
        ((11, 6), ((3, 1), (0, 4))),
    ],
)
@pytest.mark.parametrize(("kernel", "batch"), [((3, 3), 1), ((3, 3), 3), ((5, 5), 2), ((5, 3), 2)])
def test_winograd(backend, convolution_method, monkeypatch, size, padding, kernel, batch):
    """Sizes that are no multiples of a block, tiles that cut rows and columns."""
    convolution_method("winograd")
    size = [n + k - 3 for n, k in zip(size, kernel, strict=True)]
    inputs = normal(batch, 3, *size), normal(5, 3, *kernel, seed=1), normal(5, seed=2)
    for budget in (2**21, 36 * 5 * batch * 8 * 3, 1):
        monkeypatch.setattr(backend, "column_budget", budget)
        check(backend, inputs, padding=padding)


@pytest.mark.parametrize("batch", [17, 33])
@pytest.mark.parametrize(("channels", "filters"), [(1, 9), (3, 17), (17, 7)])
def test_winograd_in_vectors(backend, convolution_method, channels, filters, batch):
    """Batches, channels and filters that are no multiples of the compiled kernels' blocks."""
    convolution_method("winograd")
    weight = normal(filters, channels, 3, 3, seed=1)
    check(backend, (normal(batch, channels, 9, 6), weight, normal(filters, seed=2)), padding=1)


@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("name", ["im2col", "mec", "winograd"])
def test_what_is_not_needed_is_not_computed(backend, monkeypatch, convolution_method, needs, name):
    convolution_method(name)
    method, computed = convolution.METHODS[name], []
    for gradient in ("input_gradient", "weight_gradient"):
        own = getattr(method, gradient)
        noted = lambda *arguments, g=gradient, own=own: computed.append(g) or own(*arguments)  # noqa: E731
        monkeypatch.setattr(method, gradient, noted)
    x, weight = (
        xcnn.Tensor(backend.asarray(a), needed)
        for a, needed in zip((normal(2, 3, 6, 6), normal(5, 3, 3, 3, seed=1)), needs, strict=True)
    )
    bias = xcnn.Tensor(backend.asarray(normal(5)), requires_grad=True)
    F.conv2d(x, weight, bias).sum().backward()
    assert [t.grad is not None for t in (x, weight)] == list(needs)
    assert computed == [
        g for g, n in zip(("input_gradient", "weight_gradient"), needs, strict=True) if n
    ]


@pytest.mark.parametrize(("channels", "kernel"), [(16, 3), (64, 3), (256, 3), (32, 5), (128, 5)])
def test_winograds_rounding(backend, channels, kernel):
    """Below 1e-4 of the largest value, for activations of unit scale, in every result."""
    x = normal(channels, 9, 8, 2)
    weight = normal(channels, channels, kernel, kernel, seed=1) / np.sqrt(kernel**2 * channels)
    geometry = window_geometry((9, 8), kernel, padding=kernel // 2)
    dy = normal(channels, 9, 8, 2, seed=2)
    exact = by("im2col", backends.get("cpu"), x, weight, dy, geometry)
    single = [backend.asarray(a.astype(np.float32)) for a in (x, weight, dy)]
    for found, expected in zip(by("winograd", backend, *single, geometry), exact, strict=True):
        found = backend.to_host(found)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def by(name, backend, x, weight, dy, geometry):
    """(y, dx, dweight) of one group by one method."""
    method = convolution.METHODS[name]
    problem = convolution.Problem(geometry, 1, len(x), len(weight), x.shape[-1])
    problem = problem._replace(compiled=backend.compiles(x.dtype))
    return (
        method.forward(backend, problem, x, weight, None),
        method.input_gradient(backend, problem, dy, weight),
        method.weight_gradient(backend, problem, dy, x),
    )


def name_of(method):
    return next(name for name, known in convolution.METHODS.items() if known is method)


# -- memory and errors ---------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3])
def test_output_and_gradient_stay_batch_last(backend, kernel):
    x, weight, bias = (backend.asarray(a) for a in arrays(kernel=(kernel, kernel), batch=3))
    y, pullback = xcnn.vjp(F.conv2d, x, weight, bias)
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


@pytest.mark.parametrize(
    ("shapes", "settings", "error", "text"),
    [
        (((3, 5), (4, 3, 3, 3), (4,)), {}, ShapeError, "four axes N, C, H, W, or three C, H, W"),
        (((2, 3, 5, 5), (4, 3, 3), (4,)), {}, ShapeError, "expected .F, C / groups, kH, kW."),
        (((2, 2, 5, 5), (4, 3, 3, 3), (4,)), {}, ShapeError, "input has 2 channels.*takes 3"),
        (((2, 3, 5, 5), (4, 3, 3, 3), (3,)), {}, ShapeError, r"bias has shape \(3,\)"),
        (((2, 3, 2, 5), (4, 3, 3, 3), (4,)), {}, ShapeError, "height 2.*smaller than the kernel"),
        (((2, 4, 5, 5), (4, 2, 3, 3), (4,)), {"groups": 3}, ArgumentError, "groups=3"),
        (((2, 4, 5, 5), (4, 2, 3, 3), (4,)), {"groups": 0}, ArgumentError, "groups=0"),
        (((2, 3, 5, 5), (4, 3, 3, 3), (4,)), {"stride": 0}, ArgumentError, "stride=0"),
        (((2, 3, 5, 5), (4, 3, 3, 3), (4,)), {"dilation": 1.5}, ArgumentError, "dilation=1.5"),
        (((2, 3, 5, 5), (4, 3, 3, 3), (4,)), {"padding": "full"}, ArgumentError, "'full'"),
        (((2, 3, 5, 5), (4, 3, 3, 3), (4,)), {"data_format": "CHWN"}, ArgumentError, "CHWN"),
        (((2, 3, 5, 5), (4, 3, 0, 3), (4,)), {}, ArgumentError, "weight="),
    ],
)
def test_errors(backend, shapes, settings, error, text):
    inputs = [backend.asarray(normal(*shape)) for shape in shapes]
    with pytest.raises(error, match=text):
        F.conv2d(*inputs, **settings)


def test_mixed_dtypes_are_named(backend):
    x, weight, bias = (backend.asarray(a) for a in arrays())
    with pytest.raises(DTypeError, match="input is float64, weight is float32"):
        F.conv2d(x, weight.astype("float32"), bias)


@pytest.mark.parametrize("name", convolution.METHODS)
def test_a_strided_bias_and_no_input_channels(backend, name, monkeypatch):
    monkeypatch.setattr(xcnn.config, "convolution", name)
    x, weight = normal(8, 8, 8, 8), normal(16, 8, 3, 3, seed=1)
    for bias in (normal(32, seed=2)[::2], normal(16, seed=2)[::-1]):
        y = F.conv2d(*map(backend.asarray, (x, weight, bias)), padding=1)
        assert_matches(y.numpy(), oracles.conv2d(x, weight, bias, 1, ((1, 1), (1, 1))))
    none = backend.asarray(x[:, :0]), backend.asarray(weight[:, :0])
    assert not F.conv2d(*none, padding=1).numpy().any()


@pytest.mark.parametrize("stride", [2**31, (1, 2**40)])
def test_a_stride_that_is_never_taken(backend, stride):
    x, weight = normal(2, 3, 5, 3), normal(4, 3, 3, 3, seed=1)
    y, pullback = xcnn.vjp(F.conv2d, *map(backend.asarray, (x, weight)), stride=stride)
    height = 3 if isinstance(stride, tuple) else 1
    expected = oracles.conv2d(x, weight)[:, :, :height]
    assert_matches(backend.to_host(y), expected)
    assert all(g.shape == a.shape for g, a in zip(pullback(y), (x, weight), strict=True))

"""Convolution, pooling and normalisation of volumes against naive loops and PyTorch."""

import itertools

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.convolution import frames
from xcnn.errors import ArgumentError, OutOfRangeError, ShapeError

from . import oracles
from .conftest import assert_matches, evaluate_on, layouts, normal

NONE = (0, 0)
CONVOLUTIONS = {
    "plain": {},
    "stride": {"stride": (2, 1, 3), "padding": ((1, 1), (0, 2), (1, 0))},
    "dilation": {"dilation": (2, 1, 2), "padding": ((2, 1), NONE, NONE)},
    "groups": {"groups": 2, "padding": ((1, 1), (1, 1), (1, 1))},
}
TRANSPOSED = {
    "plain": {},
    "stride": {"stride": (2, 1, 3), "output_padding": (1, 0, 2), "padding": ((1, 0), NONE, (1, 1))},
    "dilation groups": {"dilation": (2, 1, 1), "groups": 2},
}


def three(settings):
    """All settings with one value per axis, for the oracle."""
    whole = {"stride": (1, 1, 1), "dilation": (1, 1, 1), "padding": (NONE,) * 3}
    return whole | settings


def arrays(settings, transposed=False, dtype="float64"):
    groups = settings.get("groups", 1)
    weight = (2, 4 // groups, 2, 3, 2) if transposed else (4, 2 // groups, 2, 3, 2)
    shapes = (2, 2, 4, 4, 5), weight, (4,)
    return [normal(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("budget", [1, 2**40], ids=["frame by frame", "at once"])
@pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_conv3d_against_loops(backend, monkeypatch, settings, budget):
    monkeypatch.setattr(frames, "_BUDGET", budget)
    monkeypatch.setattr(backend, "column_budget", min(budget, 2**20))
    inputs = arrays(settings)
    found = evaluate_on(backend, F.conv3d, *inputs, **settings)
    assert_matches(found.y, oracles.conv2d(*inputs, **three(settings)))
    wanted = oracles.conv2d_gradients(found.dy, *inputs[:2], **three(settings))
    for got, expected in zip(found.gradients, wanted, strict=True):
        assert_matches(got, expected)


@pytest.mark.parametrize("settings", TRANSPOSED.values(), ids=TRANSPOSED)
def test_conv_transpose3d_against_loops(backend, settings):
    inputs, whole = arrays(settings, transposed=True), {"output_padding": (0, 0, 0)}
    found = evaluate_on(backend, F.conv_transpose3d, *inputs, **settings)
    assert_matches(found.y, oracles.conv_transpose2d(*inputs, **whole | three(settings)))
    rest = inputs[:2]
    wanted = oracles.conv_transpose2d_gradients(found.dy, *rest, **whole | three(settings))
    for got, expected in zip(found.gradients, wanted, strict=True):
        assert_matches(got, expected)


@pytest.mark.parametrize(
    ("channels", "kernel"), [(1, (3, 1, 1)), (16, (1, 1, 1)), (16, (3, 3, 3))], ids=str
)
def test_float32_by_every_method(backend, kernel, channels):
    """16 channels of 3×3 use Winograd on a CPU; 1×1×1 reads the frames where they are."""
    x, w = (
        normal(*s, dtype="float32") for s in ((2, channels, 3, 8, 8), (channels, channels, *kernel))
    )
    sides = tuple((k // 2, k // 2) for k in kernel)
    found = evaluate_on(backend, lambda x, w: F.conv3d(x, w, None, padding="same"), x, w)
    torch = pytest.importorskip("torch")
    here, weight = (torch.from_numpy(a.astype("float64")).requires_grad_() for a in (x, w))
    y = torch.nn.functional.conv3d(here, weight, padding=[s[0] for s in sides])
    y.backward(torch.from_numpy(found.dy.astype("float64")))
    for got, expected in zip(
        (found.y, *found.gradients), (y.detach(), here.grad, weight.grad), strict=True
    ):
        assert_matches(got, expected.numpy(), "float32", factor=20)


@pytest.mark.parametrize("layout", ["batch-last", "strided", "reversed"])
def test_any_layout_and_no_volume(backend, layout):
    settings = CONVOLUTIONS["stride"]
    inputs = arrays(settings)
    here = [layouts(backend, a)[layout] for a in inputs]
    assert_matches(F.conv3d(*here, **settings), oracles.conv2d(*inputs, **three(settings)))
    y, pullback = xcnn.vjp(F.conv3d, here[0][:0], *here[1:], **settings)
    assert y.shape == (0, 4, 3, 4, 2)
    assert [g.shape for g in pullback(y)] == [(0, 2, 4, 4, 5), (4, 2, 2, 3, 2), (4,)]


def test_memory_stays_in_the_order_of_frames(backend):
    """From one convolution to the next, nothing is copied."""
    x, w, b = map(backend.asarray, arrays({}))
    y = F.max_pool3d(F.batch_norm(F.conv3d(x, w, b), training=True), 2)
    assert y.data.transpose(1, 3, 4, 2, 0).flags.c_contiguous


# -- pools -----------------------------------------------------------------------------------

POOLS = {
    "2": {"kernel_size": (2, 2, 2), "stride": (2, 2, 2)},
    "ceil": {"kernel_size": (2, 3, 2), "stride": (3, 2, 1), "ceil_mode": True},
    "padding": {"kernel_size": (3, 2, 3), "stride": (2, 1, 2), "padding": ((1, 1), (0, 1), (1, 0))},
}


@pytest.mark.parametrize("settings", POOLS.values(), ids=POOLS)
def test_pools_against_loops(backend, settings):
    """Many equal pixels: the first in row-major order takes the gradient, and is the index."""
    x = np.round(normal(2, 2, 5, 4, 5))
    named = {"padding": (NONE,) * 3} | settings
    named["kernel"] = named.pop("kernel_size")
    found = evaluate_on(backend, lambda x: F.max_pool3d(x, **settings), x)
    y, chosen = oracles.max_pool2d(x, dilation=(1, 1, 1), **named)
    assert_matches(found.y, y)
    assert_matches(found.gradients[0], oracles.max_pool2d_gradient(found.dy, chosen, x.shape))
    _, indices = F.max_pool3d(backend.asarray(x), **settings, return_indices=True)
    for place, pixel in chosen.items():
        assert indices.numpy()[place] == np.ravel_multi_index(pixel[2:], x.shape[2:])
    found = evaluate_on(backend, lambda x: F.avg_pool3d(x, **settings), x)
    assert_matches(found.y, oracles.avg_pool2d(x, **named))
    ceil = named.pop("ceil_mode", False)
    assert ceil in (True, False)
    assert_matches(found.gradients[0], oracles.avg_pool2d_gradient(found.dy, x.shape, **named))


@pytest.mark.parametrize("output", [(1, 1, 1), (2, 3, 2), (5, 2, 4)], ids=str)
def test_adaptive_pools_against_loops(backend, output):
    x = np.round(normal(2, 2, 4, 5, 3))
    found = evaluate_on(backend, lambda x: F.adaptive_max_pool3d(x, output), x)
    y, chosen = oracles.adaptive_max_pool2d(x, output)
    assert_matches(found.y, y)
    assert_matches(found.gradients[0], oracles.max_pool2d_gradient(found.dy, chosen, x.shape))
    _, indices = F.adaptive_max_pool3d(backend.asarray(x), output, return_indices=True)
    for place, pixel in chosen.items():
        assert indices.numpy()[place] == np.ravel_multi_index(pixel[2:], x.shape[2:])
    found = evaluate_on(backend, lambda x: F.adaptive_avg_pool3d(x, output), x)
    assert_matches(found.y, oracles.adaptive_avg_pool2d(x, output))
    wanted = oracles.adaptive_avg_pool2d_gradient(found.dy, x.shape)
    assert_matches(found.gradients[0], wanted)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_unpooling_puts_maxima_back(backend, ndim):
    x = normal(2, 3, *(6, 5, 4)[:ndim])
    pool, unpool = (getattr(F, f"{name}{ndim}d") for name in ("max_pool", "max_unpool"))
    y, indices = pool(backend.asarray(x), 2, return_indices=True)
    assert indices.dtype == "int64"
    whole = unpool(y, indices, 2, output_size=x.shape[2:]).numpy()
    wanted = np.zeros_like(x)
    flat, where = wanted.reshape(2, 3, -1), indices.numpy().reshape(2, 3, -1)
    for n, c in itertools.product(range(2), range(3)):
        flat[n, c, where[n, c]] = x.reshape(2, 3, -1)[n, c, where[n, c]]
    assert_matches(whole, wanted)
    found = evaluate_on(
        backend, lambda y: unpool(y, indices, 2, output_size=x.shape[2:]), y.numpy()
    )
    dy = found.dy.reshape(2, 3, -1)
    gradient = np.take_along_axis(dy, where, axis=2).reshape(y.shape)
    assert_matches(found.gradients[0], gradient)


def fractional(x, kernel, output, samples):
    """Maxima of windows that start at PyTorch's pseudo-random sequence, and their indices."""
    y, where = np.zeros((*x.shape[:2], *output)), np.zeros((*x.shape[:2], *output), int)
    for n, c, *position in np.ndindex(y.shape):
        first = []
        for axis, (size, k, count) in enumerate(zip(x.shape[2:], kernel, output, strict=True)):
            sample = samples[n, c, 1 - axis if len(kernel) == 2 else axis]
            step = (size - k) / max(1, count - 1)
            start = int((position[axis] + sample) * step) - int(sample * step)
            first.append(size - k if position[axis] == count - 1 else start)
        pixels = [
            tuple(f + e for f, e in zip(first, element, strict=True))
            for element in np.ndindex(*kernel)
        ]
        best = max(pixels, key=lambda pixel: x[(n, c, *pixel)])
        y[(n, c, *position)] = x[(n, c, *best)]
        where[(n, c, *position)] = np.ravel_multi_index(best, x.shape[2:])
    return y, where


@pytest.mark.parametrize(("kernel", "output"), [((2, 3), (4, 3)), ((1, 2, 2), (2, 3, 1))], ids=str)
def test_fractional_pools(backend, kernel, output):
    x = normal(2, 3, *(6, 7, 5)[: len(kernel)])
    samples = np.random.default_rng(1).random((2, 3, len(kernel)))
    pool = getattr(F, f"fractional_max_pool{len(kernel)}d")
    settings = {"output_size": output, "_random_samples": backend.asarray(samples)}
    found = evaluate_on(backend, lambda x: pool(x, kernel, **settings), x)
    y, where = fractional(x, kernel, output, samples)
    assert_matches(found.y, y)
    assert (
        pool(backend.asarray(x), kernel, return_indices=True, **settings)[1].numpy() == where
    ).all()
    dx = np.zeros((2, 3, x[0, 0].size))
    for n, c in itertools.product(range(2), range(3)):
        np.add.at(dx[n, c], where[n, c].ravel(), found.dy[n, c].ravel())
    assert_matches(found.gradients[0], dx.reshape(x.shape))
    ratio = pool(backend.asarray(x), kernel, output_ratio=0.5)
    assert ratio.shape[2:] == tuple(n // 2 for n in x.shape[2:])


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_lp_pools(backend, ndim):
    """(sum of x^p)^(1/p) of each window, and a gradient of 0 where it is 0."""
    x = np.abs(normal(2, 2, *(6, 4, 5)[:ndim]))
    x[0] = 0
    pool = getattr(F, f"lp_pool{ndim}d")
    found = evaluate_on(backend, lambda x: pool(x, 3, 2), x)
    kernel, sides = (2,) * ndim, (NONE,) * ndim
    if ndim == 1:
        x, kernel, sides = x[:, :, None], (1, 2), (NONE, NONE)
    mean = oracles.avg_pool2d(x**3, kernel, kernel, sides)
    wanted = (mean * np.prod(kernel)) ** (1 / 3)
    assert_matches(found.y, wanted.reshape(found.y.shape))
    assert not found.gradients[0][0].any()
    assert np.isfinite(found.gradients[0]).all()


def test_a_divisor_of_its_own(backend):
    x = normal(2, 3, 5, 4)
    settings = (2, 2), (2, 2), (NONE, NONE)
    sums = oracles.avg_pool2d(x, *settings) * 4
    assert_matches(F.avg_pool2d(backend.asarray(x), 2, divisor_override=3), sums / 3)
    with pytest.raises(ArgumentError, match="divisor_override=0"):
        F.avg_pool2d(backend.asarray(x), 2, divisor_override=0)


# -- one example without a batch axis --------------------------------------------------------

W1, W2, W3 = normal(4, 3, 2), normal(4, 3, 2, 2), normal(4, 3, 2, 2, 2)
ONE = {
    "conv1d": lambda x: F.conv1d(x, W1.astype(x.dtype)),
    "conv2d": lambda x: F.conv2d(x, W2.astype(x.dtype), normal(4).astype(x.dtype)),
    "conv3d": lambda x: F.conv3d(x, W3.astype(x.dtype)),
    "conv_transpose1d": lambda x: F.conv_transpose1d(x, W1.swapaxes(0, 1).astype(x.dtype)),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, W2.swapaxes(0, 1).astype(x.dtype)),
    "conv_transpose3d": lambda x: F.conv_transpose3d(x, W3.swapaxes(0, 1).astype(x.dtype)),
    **{
        f"{name}{n}d": lambda x, name=f"{name}{n}d": getattr(F, name)(x, 2)
        for n in (1, 2, 3)
        for name in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
    },
    "lp_pool2d": lambda x: F.lp_pool2d(x, 2, 2),
    "max_unpool1d": lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2),
    "Conv2d1": nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect").to(dtype="float64"),
    "Conv3d": nn.Conv3d(3, 2, 2, padding=1, padding_mode="circular").to(dtype="float64"),
    "InstanceNorm1d": nn.InstanceNorm1d(3, affine=True).to(dtype="float64"),
    "InstanceNorm2d": nn.InstanceNorm2d(3).to(dtype="float64"),
    "InstanceNorm3d": nn.InstanceNorm3d(3).to(dtype="float64"),
    "fused2d": nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.MaxPool2d(2)).to(dtype="float64"),
}


@pytest.mark.parametrize("name", ONE)
def test_one_example(name):
    """The numbers and gradients of a batch of one."""
    ndim = next(int(c) for c in name if c.isdigit())
    x = normal(1, 3, *(6, 5, 7)[:ndim])
    whole, one = xcnn.Tensor(x, True), xcnn.Tensor(x[0], True)
    y, z = ONE[name](whole), ONE[name](one)
    assert z.shape == y.shape[1:]
    assert_matches(z, y.numpy()[0])
    dy = normal(*y.shape, seed=7)
    y.backward(dy)
    z.backward(dy[0])
    assert_matches(one.grad, whole.grad[0])


# -- layers beside PyTorch -------------------------------------------------------------------

VOLUMES = (2, 4, 5, 6, 4)
LAYERS = [
    nn.Conv3d(4, 6, (1, 2, 3), (1, 2, 1), (0, 1, 2), 1, 2),
    nn.Conv3d(4, 2, 3, padding="same", bias=False),
    nn.Conv3d(4, 2, 3, padding=(1, 0, 2), padding_mode="replicate"),
    nn.Conv3d(4, 2, 3, padding=1, padding_mode="circular"),
    nn.ConvTranspose3d(4, 6, 3, (2, 1, 2), 1, (1, 0, 0), 2, False, (1, 2, 1)),
    nn.BatchNorm3d(4, momentum=None),
    nn.InstanceNorm3d(4, affine=True, track_running_stats=True),
    nn.MaxPool3d((2, 3, 2), 1, (1, 0, 1), (1, 2, 1)),
    nn.AvgPool3d(2, 1, 1, True, False),
    nn.LPPool3d(2, 2),
    nn.AdaptiveAvgPool3d((2, None, 3)),
    nn.AdaptiveMaxPool3d((3, 1, 2)),
    nn.RMSNorm((6, 4)),
    nn.RMSNorm(4, 0.1, False),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_layers_are_pytorchs(layer):
    torch = pytest.importorskip("torch")
    layer.to(dtype="float64")
    peer = getattr(torch.nn, type(layer).__name__)(**layer._init_arguments).double()
    for i, (_, parameter) in enumerate(layer.named_parameters()):
        parameter.data[...] = normal(*parameter.shape, seed=i + 5)
    peer.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in layer.state_dict().items()})
    x = normal(*VOLUMES)
    here, there = xcnn.Tensor(x, True), torch.tensor(x, requires_grad=True)
    y, z = layer(here), peer(there)
    assert_matches(y, z.detach().numpy())
    dy = normal(*y.shape, seed=3)
    y.backward(dy)
    z.backward(torch.tensor(dy))
    assert_matches(here.grad, there.grad.numpy())
    for (_, mine), theirs in zip(layer.named_parameters(), peer.parameters(), strict=True):
        assert_matches(mine.grad, theirs.grad.numpy())
    for name, array in peer.state_dict().items():
        np.testing.assert_allclose(layer.state_dict()[name], array.numpy(), 1e-12)


def test_output_size_of_a_layer():
    layer = nn.ConvTranspose3d(2, 3, 3, stride=2)
    x = normal(1, 2, 3, 4, 5, dtype="float32")
    assert layer(x).shape == (1, 3, 7, 9, 11)
    assert layer(x, (8, 9, 12)).shape == (1, 3, 8, 9, 12)
    assert layer(x[0], (1, 3, 8, 9, 12)).shape == (3, 8, 9, 12)
    assert layer.multiply_adds((1, 3, 7, 9, 11)) == 2 * 3 * 27 * 3 * 4 * 5
    assert nn.Conv3d(2, 3, 3).multiply_adds((1, 3, 4, 5, 6)) == 3 * 4 * 5 * 6 * 2 * 27


ERRORS = {
    "axes": (lambda: F.conv3d(np.ones((2, 3)), W3), ShapeError, "five axes N, C, D, H, W"),
    "channels": (lambda: F.conv3d(np.ones((1, 2, 4, 4, 4)), W3), ShapeError, "2 channels"),
    "small": (lambda: F.conv3d(np.ones((1, 3, 1, 4, 4)), W3), ShapeError, "depth 1"),
    "stride": (
        lambda: F.conv3d(np.ones((1, 3, 4, 4, 4)), W3, stride=(1, 2)),
        ArgumentError,
        r"stride=\(1, 2\).*three of them",
    ),
    "crop": (
        lambda: F.conv_transpose3d(np.ones((1, 4, 4, 4, 4)), W3, padding="same"),
        ArgumentError,
        "ambiguous",
    ),
    "pool padding": (
        lambda: F.max_pool3d(np.ones((1, 3, 4, 4, 4)), 2, padding=2),
        ArgumentError,
        "at most 1",
    ),
    "index": (
        lambda: F.max_unpool1d(np.ones((1, 1, 2)), np.array([[[0, 9]]]), 2),
        OutOfRangeError,
        "index 9 is out of range",
    ),
    "unpooled size": (
        lambda: F.max_unpool1d(np.ones((1, 1, 2)), np.zeros((1, 1, 2), int), 2, output_size=(9,)),
        ShapeError,
        "output_size",
    ),
    "fractional": (
        lambda: F.fractional_max_pool2d(np.ones((1, 1, 4, 4)), 2),
        ArgumentError,
        "give exactly one",
    ),
    "fractional size": (
        lambda: F.fractional_max_pool2d(np.ones((1, 1, 4, 4)), 2, 4),
        ShapeError,
        "do not fit",
    ),
    "format": (lambda: nn.MaxPool3d(2, data_format="NHWC"), ArgumentError, "for images"),
}


@pytest.mark.parametrize(("call", "error", "text"), ERRORS.values(), ids=ERRORS)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()

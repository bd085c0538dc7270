"""interpolate, pixel_shuffle and pixel_unshuffle against naive formulas and PyTorch."""

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.errors import ArgumentError, DTypeError, ShapeError
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, is_batch_last, layouts, normal

# (height, width) of the image, and what makes the result's
CASES = {
    "5-to-3": ((5, 5), {"size": 3}),
    "7-to-7": ((7, 7), {"size": 7}),
    "3-to-8": ((3, 3), {"size": (8, 8)}),
    "1-to-4": ((1, 1), {"size": 4}),
    "6-to-1": ((6, 6), {"size": 1}),
    "mixed": ((4, 9), {"size": (6, 5)}),
    "9-to-3": ((9, 9), {"size": [3, 3]}),
    "twice": ((3, 5), {"scale_factor": 2}),
    "three-times": ((3, 5), {"scale_factor": 3.0}),
    "half": ((6, 7), {"scale_factor": 0.5}),
    "1.7": ((5, 7), {"scale_factor": 1.7}),
    "2.1": ((9, 5), {"scale_factor": 2.1}),  # 9 becomes 18: PyTorch's own rule for the double
    "1.1": ((5, 11), {"scale_factor": 1.1}),  # 5 stays 5
    "0.3": ((7, 10), {"scale_factor": 0.3}),
    "two-factors": ((4, 6), {"scale_factor": (2.5, 0.4)}),
}
MODES = {
    "nearest": {"mode": "nearest"},
    "bilinear": {"mode": "bilinear"},
    "pixels": {"mode": "bilinear", "align_corners": False},
    "corners": {"mode": "bilinear", "align_corners": True},
}
cases = pytest.mark.parametrize(("size", "target"), CASES.values(), ids=CASES)
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def against_torch(found, torch, x, **settings):
    there = torch.from_numpy(x).requires_grad_()
    y = torch.nn.functional.interpolate(there, **settings)
    y.backward(torch.from_numpy(found.dy))
    assert_matches(found.y, y.detach().numpy(), x.dtype, factor=4)
    assert_matches(found.gradients[0], there.grad.numpy(), x.dtype, factor=4)


@cases
@modes
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_torch(evaluate, size, target, mode, dtype):
    torch = pytest.importorskip("torch")
    x = normal(2, 3, *size, dtype=dtype)
    # PyTorch chooses the nearest pixel in float32 only where channels are last
    there = x if dtype == "float32" else x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    against_torch(evaluate(F.interpolate, x, **target, **mode), torch, there, **target, **mode)


@modes
def test_many_sizes_against_torch(mode):
    torch = pytest.importorskip("torch")
    for n in (1, 2, 3, 10, 13, 36):
        x = np.arange(n, dtype="float32").reshape(1, 1, 1, n)
        for output in (*range(1, 50, 3), 100, 500):
            y = torch.nn.functional.interpolate(torch.from_numpy(x), size=(1, output), **mode)
            assert_matches(F.interpolate(x, (1, output), **mode).data, y.numpy(), factor=4)
        for factor in (0.5, 0.7, 1.1, 1.3, 1.7, 2.1, 3.3, 7, 41):
            scale = {"scale_factor": (1, factor), **mode}
            if int(n * factor):
                y = torch.nn.functional.interpolate(torch.from_numpy(x), **scale)
                assert_matches(F.interpolate(x, **scale).data, y.numpy(), factor=4)


@pytest.mark.parametrize(
    ("size", "output"), [((5, 5), (3, 3)), ((3, 4), (8, 7)), ((1, 6), (4, 2)), ((4, 4), (8, 12))]
)
@modes
def test_against_formulas(evaluate, size, output, mode):
    x = normal(2, 3, *size)
    found = evaluate(F.interpolate, x, size=output, **mode)
    y, gradient = oracles.interpolate(x, output, *mode.values())
    assert_matches(found.y, y)
    assert_matches(found.gradients[0], gradient(found.dy))


@pytest.mark.parametrize("factor", [2, 0.5, 1.75])
@modes
def test_factors_against_formulas(evaluate, factor, mode):
    """The factor itself is the scale, also where the size was rounded down."""
    x = normal(2, 3, 5, 7)
    found = evaluate(F.interpolate, x, scale_factor=factor, **mode)
    output = int(5 * factor), int(7 * factor)
    y, gradient = oracles.interpolate(x, output, **mode, factors=(factor, factor))
    assert_matches(found.y, y)
    assert_matches(found.gradients[0], gradient(found.dy))


@cases
@modes
def test_gradcheck(backend, size, target, mode):
    x = backend.asarray(normal(2, 2, *size))
    assert gradcheck(F.interpolate, x, **target, **mode) < 1e-6


@modes
def test_a_batch_of_many_channels_in_parts(backend, mode, monkeypatch):
    """A budget that one channel exceeds."""
    monkeypatch.setattr(backend, "column_budget", 100)
    x = normal(2, 5, 4, 6)
    y, _ = oracles.interpolate(x, (7, 9), *mode.values())
    assert_matches(F.interpolate(backend.asarray(x), (7, 9), **mode), y)


def test_infinite_pixels_stay_where_they_are(evaluate):
    x = np.zeros((1, 1, 1, 5))
    x[..., 0] = np.inf
    y = evaluate(F.interpolate, x, size=(1, 10), mode="bilinear").y
    assert np.isposinf(y.ravel()).tolist() == [True] * 3 + [False] * 7
    assert not np.isnan(y).any()


@pytest.mark.parametrize("layout", ["contiguous", "batch-last", "strided", "reversed"])
@modes
def test_memory(backend, layout, mode):
    x = normal(3, 2, 4, 6)
    array = layouts(backend, x)[layout]
    y, pullback = xcnn.vjp(F.interpolate, array, scale_factor=(2, 0.5), **mode)
    assert_matches(backend.to_host(y), oracles.interpolate(x, (8, 3), *mode.values())[0])
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


@modes
def test_a_batch_of_none(backend, mode):
    x = backend.asarray(np.zeros((0, 2, 4, 6), "float32"))
    y, pullback = xcnn.vjp(F.interpolate, x, size=(8, 5), **mode)
    assert (y.shape, y.dtype) == ((0, 2, 8, 5), np.float32)
    assert pullback(y)[0].shape == x.shape


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({}, ArgumentError, "size=None and scale_factor=None: give exactly one"),
        ({"size": 2, "scale_factor": 2}, ArgumentError, "size=2 and scale_factor=2: give exactly"),
        ({"size": 0}, ArgumentError, "size=0"),
        ({"size": 2.5}, ArgumentError, r"size=2\.5"),
        ({"size": (2, 0)}, ArgumentError, "size="),
        ({"scale_factor": 0}, ArgumentError, "scale_factor=0: expected a number > 0"),
        ({"scale_factor": -1.5}, ArgumentError, r"scale_factor=-1\.5"),
        ({"scale_factor": float("nan")}, ArgumentError, "scale_factor=nan"),
        ({"scale_factor": float("inf")}, ArgumentError, "scale_factor=inf"),
        ({"scale_factor": ()}, ArgumentError, r"scale_factor=\(\)"),
        ({"scale_factor": "2"}, ArgumentError, "scale_factor='2'"),
        ({"size": 2, "mode": "cubic"}, ArgumentError, "mode='cubic': expected one of nearest"),
        (
            {"size": 2, "recompute_scale_factor": True},
            ArgumentError,
            "recompute_scale_factor=True: expected scale_factor",
        ),
        ({"size": 2, "align_corners": True}, ArgumentError, "align_corners=True is for"),
        (
            {"size": 2, "align_corners": False},
            ArgumentError,
            "align_corners=False is for",
        ),
        ({"scale_factor": 0.1}, ShapeError, r"\(0, 0\).*at least one"),
    ],
)
def test_errors(backend, settings, error, text):
    with pytest.raises(error, match=text):
        F.interpolate(backend.asarray(np.ones((1, 3, 4, 4))), **settings)
    if error is ArgumentError:
        with pytest.raises(error, match=text):
            nn.Upsample(**settings)


def test_images_must_have_four_axes_and_pixels(backend):
    with pytest.raises(ShapeError, match=r"mode='bilinear' takes N, C and 2 spatial.*x\[None\]"):
        F.interpolate(backend.asarray(np.ones((3, 4, 4))), 2, mode="bilinear")
    with pytest.raises(ShapeError, match="mode='linear' takes N, C and 1 spatial"):
        F.interpolate(backend.asarray(np.ones((1, 3, 4, 4))), 2, mode="linear")
    with pytest.raises(ArgumentError, match=r"size=\(2, 2, 2\): expected a number, or 2"):
        F.interpolate(backend.asarray(np.ones((1, 3, 4, 4))), (2, 2, 2))
    with pytest.raises(ArgumentError, match="antialias=True with mode='nearest'"):
        F.interpolate(backend.asarray(np.ones((1, 3, 4, 4))), 2, antialias=True)
    with pytest.raises(DTypeError, match="uint8"):
        F.interpolate(backend.asarray(np.ones((1, 3, 4, 4), "uint8")), 2, mode="bilinear")
    with pytest.raises(ShapeError, match="at least one"):
        F.interpolate(backend.asarray(np.ones((1, 3, 0, 4))), 2)


@modes
def test_upsample_layer(backend, mode):
    x = normal(2, 3, 4, 6)
    y, _ = oracles.interpolate(x, (8, 12), *mode.values())
    on_device = backend.asarray(x)
    assert_matches(nn.Upsample(scale_factor=2, **mode)(on_device), y)
    assert_matches(nn.Upsample((8, 12), **mode)(on_device), y)


# -- all modes against PyTorch -----------------------------------------------------------------

# settings, and the lengths of the spatial axes; PyTorch's antialias is wrong for one pixel across
PYTORCH = [
    ({"mode": "nearest", "scale_factor": 1.7}, (5,)),
    ({"mode": "nearest", "size": (3, 1, 5)}, (2, 3, 4)),
    ({"mode": "nearest-exact", "scale_factor": 1.7}, (7,)),
    ({"mode": "nearest-exact", "scale_factor": (0.4, 2)}, (9, 4)),
    ({"mode": "nearest-exact", "size": (5, 2, 3)}, (3, 5, 3)),
    ({"mode": "linear", "size": 11}, (4,)),
    ({"mode": "linear", "scale_factor": 0.6, "align_corners": True}, (8,)),
    ({"mode": "bilinear", "scale_factor": 1.3, "recompute_scale_factor": True}, (5, 4)),
    ({"mode": "trilinear", "scale_factor": (2, 1.2, 0.5)}, (2, 5, 6)),
    ({"mode": "trilinear", "size": (1, 4, 7), "align_corners": True}, (3, 2, 4)),
    ({"mode": "bicubic", "scale_factor": 1.7}, (4, 5)),
    ({"mode": "bicubic", "size": (3, 9), "align_corners": True}, (7, 4)),
    ({"mode": "bicubic", "size": (1, 2)}, (1, 6)),
    ({"mode": "area", "size": 3}, (7,)),
    ({"mode": "area", "scale_factor": (0.4, 1.5)}, (6, 4)),
    ({"mode": "area", "size": (2, 3, 1)}, (3, 3, 4)),
    ({"mode": "bilinear", "size": (3, 4), "antialias": True}, (10, 4)),
    ({"mode": "bilinear", "scale_factor": (0.3, 1.4), "antialias": True}, (9, 5)),
    ({"mode": "bilinear", "size": (1, 8), "antialias": True, "align_corners": True}, (3, 9)),
    ({"mode": "bicubic", "scale_factor": 0.45, "antialias": True}, (12, 7)),
    ({"mode": "bicubic", "size": (5, 9), "antialias": True, "align_corners": True}, (8, 4)),
]


@pytest.mark.parametrize(("settings", "size"), PYTORCH, ids=str)
def test_every_mode_is_pytorchs(evaluate, settings, size):
    torch = pytest.importorskip("torch")
    x = normal(2, 3, *size, dtype="float32")
    against_torch(evaluate(F.interpolate, x, **settings), torch, x, **settings)


def test_nearest_along_one_and_three_axes_takes_the_factor_literally(evaluate):
    """PyTorch's gradient there belongs to other pixels than its result: only that is compared."""
    torch = pytest.importorskip("torch")
    for size, factor in ((5,), 1.06), ((2, 6, 8), (1.15, 2.03, 0.85)):
        x = normal(1, 2, *size, dtype="float32")
        y = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=factor)
        found = evaluate(F.interpolate, x, scale_factor=factor)
        assert_matches(found.y, y.numpy())
        assert np.isclose((found.y * found.dy).sum(), (x * found.gradients[0]).sum(), rtol=1e-5)


def test_upsampling_layers_are_pytorchs(backend):
    torch = pytest.importorskip("torch")
    x = normal(2, 3, 4, 5, dtype="float32")
    for name, settings in (
        ("UpsamplingNearest2d", {"scale_factor": (1.5, 2)}),
        ("UpsamplingBilinear2d", {"size": (3, 8)}),
        ("Upsample", {"scale_factor": 1.7, "mode": "bicubic", "recompute_scale_factor": True}),
    ):
        layer, peer = (getattr(library.nn, name)(**settings) for library in (xcnn, torch))
        assert_matches(layer(backend.asarray(x)), peer(torch.tensor(x)).numpy(), factor=4)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_nearest_of_any_dtype(backend, mode, dtype):
    x = (np.arange(6).reshape(1, 1, 2, 3) % 4).astype(dtype)
    y = F.interpolate(backend.asarray(x), scale_factor=2, mode=mode)
    assert y.dtype == dtype
    assert (y.numpy() == x.repeat(2, axis=2).repeat(2, axis=3)).all()


def test_bicubic_keeps_infinite_pixels_to_their_windows(evaluate):
    x = np.zeros((1, 1, 1, 9))
    x[..., 0] = np.inf
    y = evaluate(F.interpolate, x, size=(1, 18), mode="bicubic").y
    assert not np.isnan(y).any()
    assert np.isfinite(y[..., 5:]).all()


# -- pixel and channel shuffle -------------------------------------------------------------


@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pixel_shuffle(evaluate, r, dtype):
    x = normal(2, 2 * r * r, 3, 5, dtype=dtype)
    y = oracles.pixel_shuffle(x, r)
    found = evaluate(F.pixel_shuffle, x, upscale_factor=r)
    assert_matches(found.y, y, dtype)
    assert_matches(oracles.pixel_shuffle(found.gradients[0], r), found.dy, dtype)
    back = evaluate(F.pixel_unshuffle, y, downscale_factor=r)
    assert_matches(back.y, x, dtype)
    assert_matches(back.gradients[0], oracles.pixel_shuffle(back.dy, r), dtype)


@pytest.mark.parametrize("layout", ["contiguous", "batch-last", "strided", "reversed"])
def test_pixel_shuffle_against_torch(backend, layout):
    torch = pytest.importorskip("torch")
    x = normal(3, 8, 4, 6)
    array = layouts(backend, x)[layout]
    for name in ("pixel_shuffle", "pixel_unshuffle"):
        y, pullback = xcnn.vjp(lambda x, name=name: getattr(F, name)(x, 2), array)
        expected = getattr(torch.nn.functional, name)(torch.from_numpy(x), 2)
        assert_matches(backend.to_host(y), expected.numpy())
        assert is_batch_last(y)
        assert is_batch_last(pullback(y)[0])


@pytest.mark.parametrize("leading", [(), (2, 3), (1, 2, 2)], ids=str)
def test_pixel_shuffle_of_any_leading_axes(evaluate, leading):
    x = normal(*leading, 8, 3, 2)
    y = oracles.pixel_shuffle(x.reshape(-1, 8, 3, 2), 2).reshape(*leading, 2, 6, 4)
    found = evaluate(F.pixel_shuffle, x, upscale_factor=2)
    assert_matches(found.y, y)
    assert_matches(evaluate(F.pixel_unshuffle, found.dy, downscale_factor=2).y, found.gradients[0])
    assert_matches(evaluate(F.pixel_unshuffle, y, downscale_factor=2).y, x)


@pytest.mark.parametrize("shape", [(2, 6, 3), (2, 6, 3, 1), (0, 6, 2, 2)], ids=str)
def test_channel_shuffle(evaluate, shape):
    x = normal(*shape)
    found = evaluate(F.channel_shuffle, x, groups=3)
    order = [0, 2, 4, 1, 3, 5]  # two channels in each of three groups
    assert_matches(found.y, x[:, order])
    assert_matches(found.gradients[0][:, order], found.dy)
    assert_matches(nn.ChannelShuffle(3)(x), x[:, order])


def test_pixel_shuffle_of_no_images(backend):
    x = backend.asarray(np.zeros((0, 8, 4, 6), "float32"))
    assert F.pixel_shuffle(x, 2).shape == (0, 2, 8, 12)
    assert F.pixel_unshuffle(x, 2).shape == (0, 32, 2, 3)


def test_pixel_shuffle_layers(backend):
    x = normal(2, 8, 4, 6)
    y = nn.PixelShuffle(2)(backend.asarray(x))
    assert_matches(y, oracles.pixel_shuffle(x, 2))
    assert_matches(nn.PixelUnshuffle(2)(y), x)


def test_pixel_shuffle_errors(backend):
    x = backend.asarray(np.ones((1, 6, 5, 4)))
    with pytest.raises(ShapeError, match=r"6 channels are not a multiple of upscale_factor² = 4"):
        F.pixel_shuffle(x, 2)
    with pytest.raises(ShapeError, match=r"height 5 and width 4.*downscale_factor=2"):
        F.pixel_unshuffle(x, 2)
    for function in (F.pixel_shuffle, F.pixel_unshuffle):
        with pytest.raises(ShapeError, match=r"expected \(..., C, H, W\)"):
            function(x[0, 0], 2)
    with pytest.raises(ShapeError, match="multiple of groups=4 channels"):
        F.channel_shuffle(x, 4)
    with pytest.raises(ShapeError, match="three axes or more"):
        F.channel_shuffle(x[0, 0], 1)
    for factor in (0, -1, 2.0, True):
        with pytest.raises(ArgumentError, match=f"upscale_factor={factor}"):
            F.pixel_shuffle(x, factor)
        with pytest.raises(ArgumentError, match=f"downscale_factor={factor}"):
            nn.PixelUnshuffle(factor)
        with pytest.raises(ArgumentError, match=f"upscale_factor={factor}"):
            nn.PixelShuffle(factor)

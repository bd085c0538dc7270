"""pad with copies of the pixels inside, and the padding modes of the layers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.errors import ArgumentError, ShapeError
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, is_batch_last, layouts, normal

MODES = ["reflect", "replicate", "circular"]
modes = pytest.mark.parametrize("mode", MODES)


def check(backend, x, padding, mode):
    """``padding`` is one pair for each axis after the first two."""
    given = padding[0] if x.ndim == 3 else padding
    found = evaluate_on(backend, F.pad, x, padding=given, mode=mode)
    assert_matches(found.y, oracles.pad(x, padding, mode), x.dtype)
    gradient = oracles.pad_gradient(found.dy, x.shape, padding, mode)
    assert_matches(found.gradients[0], gradient, x.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "padding",
    [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((3, 3), (4, 4)), ((0, 3), (4, 0)), ((2, 0), (0, 0))],
    ids=str,
)
@modes
def test_images(backend, padding, mode, dtype):
    check(backend, normal(2, 3, 4, 5, dtype=dtype), padding, mode)


@pytest.mark.parametrize("sides", [(0, 0), (1, 2), (4, 4), (0, 4), (4, 0)], ids=str)
@modes
def test_signals(backend, sides, mode):
    check(backend, normal(2, 3, 5), (sides,), mode)


@given(
    mode=st.sampled_from(MODES),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(*[st.tuples(st.integers(0, 5), st.integers(0, 5))] * 2),
    batch=st.integers(0, 2),
)
def test_any_padding(backend, mode, size, padding, batch):
    x = normal(batch, 2, *size)
    reach = {"reflect": -1, "circular": 0, "replicate": 9}[mode]
    if all(max(p) <= max(0, n + reach) for n, p in zip(size, padding, strict=True)):
        check(backend, x, padding, mode)
    else:
        with pytest.raises(ShapeError, match=f"mode='{mode}' allows at most"):
            F.pad(backend.asarray(x), padding, mode=mode)


@pytest.mark.parametrize(("padding", "sides"), [(2, ((2, 2),) * 2), ((1, 2), ((1, 1), (2, 2)))])
@modes
def test_forms_of_padding_and_nhwc(evaluate, padding, sides, mode):
    x = normal(2, 3, 4, 5)
    nhwc = x.transpose(0, 2, 3, 1)
    found = evaluate(F.pad, nhwc, padding=padding, mode=mode, data_format="NHWC")
    assert_matches(found.y, oracles.pad(x, sides, mode).transpose(0, 2, 3, 1))
    dx = oracles.pad_gradient(found.dy.transpose(0, 3, 1, 2), x.shape, sides, mode)
    assert_matches(found.gradients[0], dx.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("layout", ["batch-last", "strided", "reversed"])
@modes
def test_any_layout(backend, layout, mode):
    x = normal(2, 3, 4, 5)
    padding = ((1, 2), (3, 1))
    y, pullback = xcnn.vjp(F.pad, layouts(backend, x)[layout], padding=padding, mode=mode)
    assert is_batch_last(y)
    assert_matches(y, oracles.pad(x, padding, mode))
    dy = normal(*y.shape, seed=1)
    (dx,) = pullback(layouts(backend, dy)[layout])
    assert_matches(dx, oracles.pad_gradient(dy, x.shape, padding, mode))


@pytest.mark.parametrize("mode", ["constant", *MODES])
def test_gradcheck(backend, mode):
    images, signals = backend.asarray(normal(2, 3, 4, 3)), backend.asarray(normal(2, 3, 4))
    assert gradcheck(F.pad, images, padding=((1, 2), (0, 2)), mode=mode) < 1e-6
    assert gradcheck(F.pad, signals, padding=(3, 1), mode=mode) < 1e-6


def test_a_constant_around_signals(evaluate):
    found = evaluate(F.pad, normal(2, 3, 4), padding=(1, 2), value=1.5)
    expected = np.full((2, 3, 7), 1.5)
    expected[:, :, 1:5] = normal(2, 3, 4)
    assert_matches(found.y, expected)
    assert_matches(found.gradients[0], found.dy[:, :, 1:5])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@modes
def test_pytorch(backend, mode, dtype):
    """PyTorch's order is left, right, top, bottom."""
    torch = pytest.importorskip("torch")
    for shape, ours, theirs in (
        ((2, 3, 4, 5), ((1, 3), (4, 2)), (4, 2, 1, 3)),
        ((2, 3, 5), (4, 1), (4, 1)),
    ):
        x = normal(*shape, dtype=dtype)
        found = evaluate_on(backend, F.pad, x, padding=ours, mode=mode)
        peer = torch.tensor(x, requires_grad=True)
        y = torch.nn.functional.pad(peer, theirs, mode=mode)
        y.backward(torch.tensor(found.dy))
        assert_matches(found.y, y.detach().numpy(), dtype)
        assert_matches(found.gradients[0], peer.grad.numpy(), dtype)


@pytest.mark.parametrize("size", range(1, 5))
@modes
def test_limits_are_pytorchs(mode, size):
    """What PyTorch refuses is refused, and nothing else."""
    torch = pytest.importorskip("torch")
    x = normal(2, 3, size)
    for sides in np.ndindex(7, 7):
        try:
            wanted = torch.nn.functional.pad(torch.tensor(x), sides, mode=mode).numpy()
        except RuntimeError:
            with pytest.raises(ShapeError, match="pad less"):
                F.pad(x, sides, mode=mode)
        else:
            assert_matches(F.pad(x, sides, mode=mode), wanted)


@pytest.mark.parametrize(
    ("shape", "padding", "settings", "error", "text"),
    [
        ((1, 1, 3, 3), 3, {"mode": "reflect"}, ShapeError, "of 3 pixels.*at most 2"),
        ((1, 1, 3, 3), (0, 4), {"mode": "circular"}, ShapeError, "of 3 pixels.*at most 3"),
        ((1, 1, 0, 3), 1, {"mode": "replicate"}, ShapeError, "of 0 pixels.*at most 0"),
        ((1, 1, 3), (3, 0), {"mode": "reflect"}, ShapeError, r"padding=\(3, 0\)"),
        ((1, 1, 3, 3), 1, {"mode": "edge"}, ArgumentError, "mode='edge': expected one of constant"),
        ((1, 1, 3, 3), 1, {"value": "reflect"}, ArgumentError, "by keyword, mode='reflect'"),
        ((1, 1, 3, 3), 1, {"value": 2.0, "mode": "reflect"}, ArgumentError, "value=2.0 with mode"),
        ((1, 1, 3, 3), (1, 1, 1, 1), {}, ArgumentError, "top, bottom"),
        ((1, 1, 3), (1, 1, 1), {}, ArgumentError, "left, right"),
        ((1, 1, 3), "same", {}, ArgumentError, "numbers of pixels"),
        ((1, 1, 3), 1, {"data_format": "NHWC"}, ShapeError, "four axes"),
        ((1, 3), 1, {"mode": "reflect"}, ShapeError, "four axes"),
    ],
)
def test_errors(backend, shape, padding, settings, error, text):
    with pytest.raises(error, match=text):
        F.pad(backend.asarray(normal(*shape)), padding, **settings)


# -- layers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": 2},
        {"padding": ((0, 2), (3, 1)), "stride": 2},
        {"padding": "same", "stride": 2, "dilation": (1, 2)},
        {"padding": "valid"},
    ],
    ids=str,
)
@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
@modes
def test_padding_mode_of_conv2d(backend, settings, mode, data_format):
    layer = nn.Conv2d(4, 6, (3, 2), padding_mode=mode, data_format=data_format, **settings)
    weight, x = layer.weight.data.copy(), normal(2, 4, 6, 7, dtype="float32")
    given = x if data_format == "NCHW" else x.transpose(0, 2, 3, 1)
    found = layer.to(backend)(backend.asarray(given)).numpy()
    stride, dilation = settings.get("stride", 1), settings.get("dilation", 1)
    sides = oracles.sides(settings["padding"], (6, 7), (3, 2), stride, dilation)
    padded = oracles.pad(x, sides, mode)
    expected = oracles.conv2d(padded, weight, None, stride, dilation=dilation)
    expected = expected if data_format == "NCHW" else expected.transpose(0, 2, 3, 1)
    assert_matches(found, expected, "float32")


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("padding", [1, (2, 1), "same"])
@modes
def test_conv2d_is_pytorchs(backend, padding, mode):
    torch = pytest.importorskip("torch")
    settings = {"padding": padding, "padding_mode": mode, "groups": 2}
    ours, theirs = nn.Conv2d(4, 6, (4, 3), **settings), torch.nn.Conv2d(4, 6, (4, 3), **settings)
    ours.load_state_dict({k: a.detach().numpy() for k, a in theirs.state_dict().items()})
    x = normal(2, 4, 6, 7, dtype="float32")
    peer = torch.tensor(x, requires_grad=True)
    on_device = xcnn.Tensor(backend.asarray(x), requires_grad=True)
    y, wanted = ours.to(backend)(on_device), theirs(peer)
    assert_matches(y, wanted.detach().numpy(), "float32")
    (y * y).sum().backward()
    (wanted * wanted).sum().backward()
    assert_matches(on_device.grad, peer.grad.numpy(), "float32", factor=5)
    assert_matches(ours.weight.grad, theirs.weight.grad.numpy(), "float32", factor=5)


def test_fused_layers_pad_too():
    """Sequential computes a convolution with what follows it in one go."""
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")
    model = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2))
    x = normal(2, 2, 6, 6, dtype="float32")
    assert_matches(model(x), F.max_pool2d(F.relu(conv(x)), 2).numpy())
    assert_matches(nn.Sequential(conv, nn.ReLU())(x), F.relu(conv(x)).numpy())


def test_padding_mode_is_saved(tmp_path):
    layer = nn.Conv2d(2, 3, 3, padding=((1, 0), (2, 1)), padding_mode="circular")
    xcnn.save(layer, tmp_path / "layer.safetensors")
    loaded = xcnn.load(tmp_path / "layer.safetensors")
    x = normal(2, 2, 6, 6, dtype="float32")
    assert loaded.padding_mode == "circular"
    assert (loaded(x).numpy() == layer(x).numpy()).all()


def test_padding_mode_errors():
    with pytest.raises(ArgumentError, match="padding_mode='edge': expected one of zeros, reflect"):
        nn.Conv2d(2, 3, 3, padding_mode="edge")
    layer = nn.Conv2d(2, 3, 7, padding=4, padding_mode="reflect")
    with pytest.raises(ShapeError, match="of 4 pixels: mode='reflect' allows at most 3"):
        layer(normal(1, 2, 4, 4, dtype="float32"))

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


def flat(padding):
    """Pairs for each axis as F.pad takes them, the last axis first."""
    return [n for pair in reversed(padding) for n in pair]


def check(backend, x, padding, mode):
    """``padding`` is one pair for each axis after the first two."""
    found = evaluate_on(backend, F.pad, x, pad=flat(padding), mode=mode)
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
            F.pad(backend.asarray(x), flat(padding), mode=mode)


@pytest.mark.parametrize("layout", ["batch-last", "strided", "reversed"])
@modes
def test_any_layout(backend, layout, mode):
    x = normal(2, 3, 4, 5)
    padding = ((1, 2), (3, 1))
    y, pullback = xcnn.vjp(F.pad, layouts(backend, x)[layout], pad=flat(padding), mode=mode)
    assert is_batch_last(y)
    assert_matches(y, oracles.pad(x, padding, mode))
    dy = normal(*y.shape, seed=1)
    (dx,) = pullback(layouts(backend, dy)[layout])
    assert_matches(dx, oracles.pad_gradient(dy, x.shape, padding, mode))


@pytest.mark.parametrize("mode", ["constant", *MODES])
def test_gradcheck(backend, mode):
    images, signals = backend.asarray(normal(2, 3, 4, 3)), backend.asarray(normal(2, 3, 4))
    assert gradcheck(F.pad, images, pad=(0, 2, 1, 2), mode=mode) < 1e-6
    assert gradcheck(F.pad, signals, pad=(3, 1), mode=mode) < 1e-6


@pytest.mark.parametrize(
    ("shape", "widths"),
    [
        ((5,), [(1, 2)]),
        ((3, 4), [(0, 2), (1, 0)]),
        ((2, 3, 4), [(0, 0), (0, 0), (3, 1)]),
        ((2, 3, 4, 2), [(1, 0), (0, 2), (0, 0), (2, 1)]),
        ((2, 1, 3, 2, 2), [(0, 0), (0, 0), (1, 1), (0, 2), (1, 0)]),
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [None, -1.5, np.inf])
def test_a_constant_around_any_axes(evaluate, shape, widths, value):
    x = normal(*shape)
    found = evaluate(F.pad, x, pad=flat(widths), value=value)
    expected = np.pad(x, widths, constant_values=0 if value is None else value)
    assert_matches(found.y, expected)
    inside = tuple(slice(b, b + n) for n, (b, _) in zip(shape, widths, strict=True))
    assert_matches(found.gradients[0], found.dy[inside])


def test_memory_of_a_constant(backend):
    x = backend.asarray(normal(2, 3, 4, 2))
    assert is_batch_last(F.pad(x, (1, 1, 1, 1)).data)


@given(
    shape=st.tuples(*[st.integers(0, 3)] * 4),
    sides=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
)
def test_conv_of_padded_is_conv_with_padding(backend, shape, sides):
    """pad(x) read by a 1×1 window of one is what conv2d pads by itself."""
    (top, bottom), (left, right) = sides
    if min(shape[2:]) == 0:
        return
    x = normal(*shape)
    found = evaluate_on(backend, F.pad, x, pad=flat(sides)).y
    wanted = oracles.conv2d(
        x.reshape(-1, 1, *shape[2:]), np.ones((1, 1, 1, 1)), None, 1, sides
    ).reshape(*shape[:2], shape[2] + top + bottom, shape[3] + left + right)
    assert_matches(found, wanted)


# mode, shape of the input, pad: no batch, three spatial axes, cropping
PYTORCH = [
    ("constant", (2, 3, 4), (-1, 2, 3, -2)),
    ("constant", (4,), (-3, -1)),
    ("reflect", (2, 3, 4, 5), (4, 2, 1, 3)),
    ("reflect", (4, 5), (3, 4)),
    ("reflect", (2, 4, 5), (-1, 3, 2, -2)),
    ("reflect", (1, 2, 3, 4, 5), (3, -1, 2, 1, 0, 2)),
    ("replicate", (3, 5), (-2, 6)),
    ("replicate", (3, 4, 5), (1, 9, -3, -1)),
    ("replicate", (2, 1, 2, 3), (1, 2, 0, 3, 2, 2)),
    ("circular", (3, 5), (4, -1)),
    ("circular", (2, 3, 4, 5), (-2, 3, 4, 1)),
    ("circular", (2, 2, 2, 3), (3, 1, 1, 1, 0, 2)),
]


@pytest.mark.parametrize(("mode", "shape", "widths"), PYTORCH, ids=str)
def test_pytorchs_axes(backend, mode, shape, widths):
    torch = pytest.importorskip("torch")
    x = normal(*shape)
    found = evaluate_on(backend, F.pad, x, pad=widths, mode=mode)
    peer = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.pad(peer, widths, mode)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy())
    assert_matches(found.gradients[0], peer.grad.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@modes
def test_pytorch(backend, mode, dtype):
    torch = pytest.importorskip("torch")
    for shape, widths in ((2, 3, 4, 5), (4, 2, 1, 3)), ((2, 3, 5), (4, 1)):
        x = normal(*shape, dtype=dtype)
        found = evaluate_on(backend, F.pad, x, pad=widths, mode=mode)
        peer = torch.tensor(x, requires_grad=True)
        y = torch.nn.functional.pad(peer, widths, mode=mode)
        y.backward(torch.tensor(found.dy))
        assert_matches(found.y, y.detach().numpy(), dtype)
        assert_matches(found.gradients[0], peer.grad.numpy(), dtype)


@pytest.mark.parametrize("size", [1, 3])
@modes
def test_limits_are_pytorchs(mode, size):
    """What PyTorch refuses is refused, and nothing else."""
    torch = pytest.importorskip("torch")
    x = normal(2, 3, size)
    for sides in ((0, 0), (size - 1, 1), (1, size), (size, 0), (0, size + 1), (size + 1, size)):
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
        ((1, 3, 3), (3, 3), {"mode": "reflect"}, ShapeError, "of 3 pixels.*at most 2"),
        ((1, 3, 3), (0, 4), {"mode": "circular"}, ShapeError, "of 3 pixels.*at most 3"),
        ((1, 3, 0, 3), (0, 0, 1, 1), {"mode": "replicate"}, ShapeError, "of 0 pixels.*at most 0"),
        ((1, 1, 3), (3, 0), {"mode": "reflect"}, ShapeError, r"padding=\(3, 0\)"),
        ((1, 1, 3, 3), (1, 1), {"mode": "reflect"}, ShapeError, "must have 2 or 3 axes"),
        ((3,), (1, 1), {"mode": "circular"}, ShapeError, "must have 2 or 3 axes"),
        ((3,), (1, 1, 0, 0), {}, ShapeError, "2 axes, but the input of shape .* has 1"),
        ((3, 3), (-2, -2), {}, ShapeError, "crops more than the 3 elements"),
        ((1, 1, 3), (1, 1), {"mode": "edge"}, ArgumentError, "mode='edge': expected one of"),
        ((1, 1, 3), (1, 1), {"value": "x"}, ArgumentError, "value='x'"),
        ((1, 1, 3), (1, 1), {"value": 2.0, "mode": "reflect"}, ArgumentError, "value=2.0 with"),
        ((1, 1, 3), (1, 1, 1), {}, ArgumentError, "two ints for each axis"),
        ((1, 1, 3), "same", {}, ArgumentError, "left, right, top, bottom"),
        ((1, 1, 3), None, {}, ArgumentError, "left, right, top, bottom"),
        ((1, 1, 3), (1.0, 1.0), {}, ArgumentError, "two ints for each axis"),
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


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Constant", "Zero", "Reflection", "Replication", "Circular"])
def test_padding_layers_are_pytorchs(backend, kind, axes):
    torch = pytest.importorskip("torch")
    name, value = f"{kind}Pad{axes}d", (1.5,) if kind == "Constant" else ()
    x = normal(2, 3, *(4, 3, 5)[:axes], dtype="float32")
    for padding, input in ((1, x), ((2, 0, 1, 1, 0, 2)[: 2 * axes], x[0])):
        layer, peer = (getattr(library.nn, name)(padding, *value) for library in (xcnn, torch))
        assert_matches(layer(backend.asarray(input)), peer(torch.tensor(input)).numpy())


def test_padding_layer_errors():
    with pytest.raises(ArgumentError, match=r"padding=\(1, 2, 3\): expected an int or 4"):
        nn.ZeroPad2d((1, 2, 3))
    with pytest.raises(ArgumentError, match="value='x'"):
        nn.ConstantPad1d(1, "x")
    with pytest.raises(ShapeError, match="expected 2 spatial axes"):
        nn.ZeroPad2d(1)(normal(3, 3))
    assert repr(nn.ReflectionPad2d((1, 2, 3, 4))) == "ReflectionPad2d((1, 2, 3, 4))"


@pytest.mark.parametrize(
    ("pad", "text"),
    [
        (((1, 2), (3, 4)), r"write pad=\(3, 4, 1, 2\)"),
        ([(1, 2)], r"write pad=\(1, 2\)"),
        (2, r"for images pad=\(2, 2, 2, 2\)"),
        ("same", r"pad='same': expected two ints for each axis from the last one on"),
    ],
)
def test_older_forms_are_refused_with_the_new_spelling(pad, text):
    with pytest.raises(ArgumentError, match=text):
        F.pad(np.ones((1, 2, 4, 5)), pad)
    with pytest.raises(ArgumentError, match=r"mode=3\.0: expected a name; pass value=3\.0 by name"):
        F.pad(np.ones((1, 2, 4, 5)), (1, 1, 1, 1), 3.0)

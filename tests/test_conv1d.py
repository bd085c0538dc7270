"""1-D convolution and pooling against naive loops over images one pixel high, and PyTorch."""

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import nn
from xcnn.errors import ArgumentError, DTypeError, ShapeError
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, is_batch_last, layouts, normal

NONE = (0, 0)


def flat(padding, size=1, kernel=1, stride=1, dilation=1):
    """A padding of signals as the oracle's of images."""
    if padding == "same":
        return NONE, oracles.same_padding(size, kernel, stride, dilation)
    if padding == "valid":
        return NONE, NONE
    return NONE, oracles.both(padding)


def image(a):
    return None if a is None else a[:, :, None]


# -- convolution ---------------------------------------------------------------------------

CASES = {
    "plain": {},
    "stride": {"stride": 2},
    "padding": {"padding": 2},
    "causal": {"padding": (4, 0), "dilation": 2},
    "same": {"padding": "same", "stride": 2},
    "valid": {"padding": "valid"},
    "groups": {"groups": 2, "dilation": 3},
    "depthwise": {"groups": 4, "padding": 1},
}
TRANSPOSED = {
    "plain": {},
    "stride": {"stride": 3, "output_padding": 2},
    "padding": {"padding": (2, 1)},
    "valid": {"padding": "valid", "stride": 2},
    "everything": {
        "stride": 2,
        "padding": 1,
        "output_padding": 1,
        "dilation": 3,
        "groups": 2,
    },
}


def arrays(groups=1, batch=2, dtype="float64", transposed=False):
    weight = (4, 6 // groups, 3) if transposed else (4, 4 // groups, 3)
    shapes = (batch, 4, 9), weight, (6 if transposed else 4,)
    return tuple(normal(*s, seed=i, dtype=dtype) for i, s in enumerate(shapes))


def expected_conv(x, weight, bias, dy=None, stride=1, padding=0, dilation=1, groups=1):
    sides = flat(padding, x.shape[2], weight.shape[2], stride, dilation)
    rest = (1, stride), sides, (1, dilation), groups
    y = oracles.conv2d(image(x), image(weight), bias, *rest)
    dy = np.zeros_like(y) if dy is None else image(dy)
    dx, dweight, dbias = oracles.conv2d_gradients(dy, image(x), image(weight), *rest)
    return y[:, :, 0], (dx[:, :, 0], dweight[:, :, 0], dbias)


def expected_transposed(
    x, weight, bias, dy=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    rest = (1, stride), flat(padding), (0, output_padding), (1, dilation), groups
    y = oracles.conv_transpose2d(image(x), image(weight), bias, *rest)
    dy = np.zeros_like(y) if dy is None else image(dy)
    dx, dweight, dbias = oracles.conv_transpose2d_gradients(dy, image(x), image(weight), *rest)
    return y[:, :, 0], (dx[:, :, 0], dweight[:, :, 0], dbias)


ORACLES = {F.conv1d: expected_conv, F.conv_transpose1d: expected_transposed}
convolutions = pytest.mark.parametrize(
    ("function", "settings"),
    [pytest.param(F.conv1d, settings, id=name) for name, settings in CASES.items()]
    + [
        pytest.param(F.conv_transpose1d, settings, id=f"transposed-{name}")
        for name, settings in TRANSPOSED.items()
    ],
)


def inputs_of(function, settings, **more):
    transposed = function is F.conv_transpose1d
    return arrays(groups=settings.get("groups", 1), transposed=transposed, **more)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@convolutions
def test_convolution_against_loops(backend, function, settings, dtype):
    inputs = inputs_of(function, settings, dtype=dtype)
    found = evaluate_on(backend, function, *inputs, **settings)
    y, gradients = ORACLES[function](*inputs, found.dy, **settings)
    assert_matches(found.y, y, dtype)
    for got, wanted in zip(found.gradients, gradients, strict=True):
        assert_matches(got, wanted, dtype)


@convolutions
def test_convolution_gradcheck(backend, function, settings):
    inputs = [backend.asarray(a) for a in inputs_of(function, settings)]
    assert gradcheck(function, *inputs, **settings) < 1e-6


@convolutions
def test_convolution_of_an_empty_batch(backend, function, settings):
    inputs = [backend.asarray(a) for a in inputs_of(function, settings, batch=0)]
    y, pullback = xcnn.vjp(function, *inputs, **settings)
    dx, dweight, dbias = pullback(y)
    assert len(y) == len(dx) == 0
    assert not backend.to_host(dweight).any()
    assert not backend.to_host(dbias).any()


@pytest.mark.parametrize("layout", ["batch-last", "strided", "reversed"])
@pytest.mark.parametrize("function", ORACLES)
def test_any_layout(backend, function, layout):
    inputs = inputs_of(function, {})
    y, pullback = xcnn.vjp(function, *(layouts(backend, a)[layout] for a in inputs))
    dy = normal(*y.shape, seed=7)
    wanted, gradients = ORACLES[function](*inputs, dy)
    assert_matches(y, wanted)
    for got, gradient in zip(pullback(layouts(backend, dy)[layout]), gradients, strict=True):
        assert_matches(got, gradient)


@pytest.mark.parametrize("forms", [(2, [2], (2, 2), ((2, 2),)), (0, "valid"), ((1, 2), [[1, 2]])])
def test_forms_of_padding(forms):
    x, weight, _ = arrays()
    first, *others = (F.conv1d(x, weight, padding=form).numpy() for form in forms)
    assert [(first == other).all() for other in others] == [True] * len(others)


def test_adjoint(backend):
    """<conv1d(x), y> = <x, conv_transpose1d(y)>."""
    y, weight = backend.asarray(normal(2, 4, 5)), backend.asarray(normal(4, 3, 3))
    settings = {"stride": 2, "padding": (1, 2), "dilation": 2}
    back = F.conv_transpose1d(y, weight, output_padding=1, **settings).data
    x = backend.asarray(normal(*back.shape, seed=1))
    there = F.conv1d(x, weight, **settings).data
    assert_matches(backend.to_host((there * y).sum()), backend.to_host((x * back).sum()))


# -- pooling -------------------------------------------------------------------------------

POOLS = {
    "plain": {"kernel_size": 2},
    "overlapping": {"kernel_size": 3, "stride": 1},
    "gaps": {"kernel_size": 2, "stride": 3},
    "padding": {"kernel_size": 4, "stride": 3, "padding": 2},
    "sides": {"kernel_size": 3, "stride": 2, "padding": (0, 1)},
    "ceil": {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("dilation", [1, 2])
def test_max_pool1d(evaluate, settings, dilation, dtype):
    x = normal(2, 3, 10, dtype=dtype)
    found = evaluate(F.max_pool1d, x, dilation=dilation, **settings)
    kernel, stride, sides, ceil_mode = pool_settings(**settings)
    y, chosen = oracles.max_pool2d(image(x), kernel, stride, sides, (1, dilation), ceil_mode)
    dx = oracles.max_pool2d_gradient(image(found.dy), chosen, image(x).shape)
    assert_matches(found.y, y[:, :, 0], dtype)
    assert_matches(found.gradients[0], dx[:, :, 0], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("include_pad", [True, False])
def test_avg_pool1d(evaluate, settings, include_pad, dtype):
    x = normal(2, 3, 10, dtype=dtype)
    found = evaluate(F.avg_pool1d, x, count_include_pad=include_pad, **settings)
    kernel, stride, sides, ceil_mode = pool_settings(**settings)
    y = oracles.avg_pool2d(image(x), kernel, stride, sides, ceil_mode, include_pad)
    shape = image(x).shape
    dx = oracles.avg_pool2d_gradient(image(found.dy), shape, kernel, stride, sides, include_pad)
    assert_matches(found.y, y[:, :, 0], dtype)
    assert_matches(found.gradients[0], dx[:, :, 0], dtype)


def pool_settings(kernel_size, stride=None, padding=0, ceil_mode=False):
    stride = kernel_size if stride is None else stride
    return (1, kernel_size), (1, stride), flat(padding), ceil_mode


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.conv1d(x, x.backend.asarray(normal(4, 3, 2))),
        lambda x: F.conv_transpose1d(x, x.backend.asarray(normal(3, 4, 2))),
        lambda x: F.max_pool1d(x, 2),
        lambda x: F.avg_pool1d(x, 2),
    ],
    ids=["conv", "transposed", "max", "avg"],
)
def test_output_and_gradient_stay_batch_last(backend, function):
    """Nothing is copied into another order between the layers."""
    y, pullback = xcnn.vjp(function, backend.asarray(normal(3, 3, 8)))
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


# -- layers --------------------------------------------------------------------------------

LAYERS = {
    "Conv1d": [
        ((4, 6, 3), {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}),
        ((4, 6, 3), {"padding": "same", "bias": False}),
        ((4, 6, 3), {"padding": 2, "padding_mode": "reflect"}),
        ((4, 6, 4), {"padding": "same", "padding_mode": "circular"}),
        ((4, 6, 3), {"padding": 3, "stride": 2, "padding_mode": "replicate"}),
    ],
    "MaxPool1d": [((3,), {}), ((3, 2, 1), {"dilation": 2}), ((2,), {"ceil_mode": True})],
    "AvgPool1d": [((3,), {}), ((3, 2, 1), {"count_include_pad": False})],
}
layers = pytest.mark.parametrize(
    ("name", "positional", "settings"),
    [(name, *case) for name, cases in LAYERS.items() for case in cases],
)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@layers
def test_layers_are_pytorchs(backend, name, positional, settings):
    torch = pytest.importorskip("torch")
    ours = getattr(nn, name)(*positional, **settings)
    theirs = getattr(torch.nn, name)(*positional, **settings)
    state = {key: a.detach().numpy() for key, a in theirs.state_dict().items()}
    assert list(state) == list(ours.state_dict())
    assert [a.shape for a in state.values()] == [a.shape for a in ours.state_dict().values()]
    ours.load_state_dict(state)
    ours.to(backend)
    x = normal(2, 4, 9, dtype="float32")
    with torch.no_grad():
        assert_matches(ours(backend.asarray(x)), theirs(torch.tensor(x)).numpy(), "float32")


@layers
def test_save_and_load(tmp_path, name, positional, settings):
    layer = nn.Sequential(getattr(nn, name)(*positional, **settings))
    xcnn.save(layer, tmp_path / "layer.safetensors")
    loaded = xcnn.load(tmp_path / "layer.safetensors")
    x = normal(2, 4, 9, dtype="float32")
    assert repr(loaded) == repr(layer)
    assert (loaded(x).numpy() == layer(x).numpy()).all()


def test_a_network_of_signals_learns(backend):
    """All of them together: the loss falls, and every parameter has a gradient."""
    xcnn.manual_seed(1)
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.ConvTranspose1d(4, 3, 4, stride=2, padding=1, nonlinearity="linear"),
        nn.AvgPool1d(2),
    ).to(backend)
    optimiser = xcnn.optim.Adam(model.parameters(), 0.02)
    x = backend.asarray(normal(5, 2, 12, dtype="float32"))
    target = backend.asarray(normal(5, 3, 6, seed=1, dtype="float32"))
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = F.mse_loss(model(x), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(backend.to_host(p.grad.data).any() for p in model.parameters())


def test_multiply_adds():
    assert nn.Conv1d(4, 6, 3, groups=2).multiply_adds((1, 6, 7)) == 6 * 7 * 2 * 3


# -- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "settings", "error", "text"),
    [
        (((9,), (4, 3, 3), (4,)), {}, ShapeError, "three axes N, C, L, or two C, L"),
        (((2, 3, 9), (4, 3, 3, 3), (4,)), {}, ShapeError, r"expected \(F, C / groups, K\)"),
        (((2, 2, 9), (4, 3, 3), (4,)), {}, ShapeError, "input has 2 channels.*takes 3"),
        (((2, 3, 9), (4, 3, 3), (3,)), {}, ShapeError, r"bias has shape \(3,\)"),
        (((2, 3, 2), (4, 3, 3), (4,)), {}, ShapeError, "width 2.*smaller than the kernel"),
        (((2, 3, 9), (4, 3, 3), (4,)), {"stride": 0}, ArgumentError, "stride=0: expected an int"),
        (((2, 3, 9), (4, 3, 3), (4,)), {"stride": (1, 2)}, ArgumentError, "stride=.1, 2."),
        (((2, 3, 9), (4, 3, 3), (4,)), {"dilation": 1.5}, ArgumentError, "dilation=1.5"),
        (((2, 3, 9), (4, 3, 3), (4,)), {"padding": (1, 1, 1)}, ArgumentError, "left, right"),
        (((2, 3, 9), (4, 3, 3), (4,)), {"padding": -1}, ArgumentError, "padding=-1"),
        (((2, 4, 9), (4, 2, 3), (4,)), {"groups": 3}, ArgumentError, "groups=3"),
    ],
)
def test_convolution_errors(backend, shapes, settings, error, text):
    inputs = [backend.asarray(normal(*shape)) for shape in shapes]
    with pytest.raises(error, match=text):
        F.conv1d(*inputs, **settings)


@pytest.mark.parametrize(
    ("shapes", "settings", "error", "text"),
    [
        (((9,), (3, 4, 3), (4,)), {}, ShapeError, "three axes N, C, L, or two C, L"),
        (((2, 3, 9), (3, 4, 3, 3), (4,)), {}, ShapeError, r"expected \(C, F / groups, K\)"),
        (((2, 2, 9), (3, 4, 3), (4,)), {}, ShapeError, "input has 2 channels.*takes 3"),
        (((2, 3, 9), (3, 4, 3), (4,)), {"output_padding": 1}, ArgumentError, "less than the"),
        (((2, 3, 9), (3, 4, 3), (4,)), {"output_padding": (1, 1)}, ArgumentError, "int >= 0"),
        (((2, 3, 9), (3, 4, 3), (4,)), {"padding": "same"}, ArgumentError, "'same'"),
        (((2, 3, 2), (3, 4, 3), (4,)), {"padding": 2}, ShapeError, "less padding"),
    ],
)
def test_transposed_errors(backend, shapes, settings, error, text):
    inputs = [backend.asarray(normal(*shape)) for shape in shapes]
    with pytest.raises(error, match=text):
        F.conv_transpose1d(*inputs, **settings)


@pytest.mark.parametrize("function", [F.max_pool1d, F.avg_pool1d])
@pytest.mark.parametrize(
    ("shape", "settings", "error", "text"),
    [
        ((4,), {"kernel_size": 2}, ShapeError, "three axes N, C, L"),
        ((1, 3, 4), {"kernel_size": 5}, ShapeError, "width 4.*smaller than the kernel"),
        ((1, 3, 4), {"kernel_size": 0}, ArgumentError, "kernel_size=0"),
        ((1, 3, 4), {"kernel_size": 2, "stride": -1}, ArgumentError, "stride=-1"),
        ((1, 3, 4), {"kernel_size": 3, "padding": 2}, ArgumentError, "at most 1 on each side"),
    ],
)
def test_pool_errors(backend, function, shape, settings, error, text):
    with pytest.raises(error, match=text):
        function(backend.asarray(normal(*shape)), **settings)


def test_dtypes_are_named_by_argument(backend):
    x, weight, _ = (backend.asarray(a) for a in arrays())
    with pytest.raises(DTypeError, match="weight is int64; both must have the same dtype"):
        F.conv1d(x, weight.astype("int64"))
    with pytest.raises(DTypeError, match="input is float64, weight is float32"):
        F.conv1d(x, weight.astype("float32"))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Conv1d(3, 4, (3, 3)), "kernel_size=.3, 3."),
        (lambda: nn.Conv1d(3, 4, 3, padding="full"), "'full'"),
        (lambda: nn.Conv1d(3, 4, 3, groups=2), "must divide in_channels=3"),
        (lambda: nn.Conv1d(3, 4, 3, padding_mode="constant"), "padding_mode='constant'.*zeros"),
        (lambda: nn.MaxPool1d(0), "kernel_size=0"),
        (lambda: nn.AvgPool1d(2, stride=0), "stride=0"),
    ],
)
def test_layers_refuse_at_once(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_a_layer_names_wrong_channels():
    with pytest.raises(ShapeError, match="input has 2 channels, but weight"):
        nn.Conv1d(3, 4, 3)(normal(1, 2, 5, dtype="float32"))
    with pytest.raises(ShapeError, match="three axes N, C, L"):
        nn.Conv1d(3, 4, 3, padding=1, padding_mode="reflect")(normal(5, dtype="float32"))

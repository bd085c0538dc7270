"""conv_transpose2d and its layers against naive loops and PyTorch, on every device."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn import convolution, nn
from xcnn.errors import ArgumentError, DTypeError, ShapeError
from xcnn.functional import conv
from xcnn.geometry import output_padding_for, transposed_geometry, window_geometry
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, is_batch_last, layouts, normal

CASES = {
    "plain": {},
    "stride": {"stride": 2},
    "stride-pair": {"stride": (3, 1)},
    "padding": {"padding": 1},
    "padding-pair": {"padding": (2, 0)},
    "padding-sides": {"padding": ((0, 2), (1, 0))},
    "more-padding-than-kernel": {"padding": ((4, 0), (0, 3))},
    "valid": {"padding": "valid", "stride": 2},
    "output-padding": {"stride": (2, 3), "output_padding": (1, 2)},
    "output-padding-of-dilation": {"stride": (1, 2), "dilation": (3, 4), "output_padding": (2, 3)},
    "dilation": {"dilation": 2, "padding": 2},
    "gaps": {"stride": 4, "output_padding": 3},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4, "padding": 1, "stride": 2},
    "everything": {
        "stride": (2, 1),
        "padding": ((1, 0), (2, 1)),
        "output_padding": (1, 0),
        "dilation": (1, 2),
        "groups": 2,
    },
}
TORCH_CASES = {name: case for name, case in CASES.items() if "sides" not in name}
del TORCH_CASES["more-padding-than-kernel"], TORCH_CASES["valid"], TORCH_CASES["everything"]


def arrays(channels=4, filters=6, kernel=(3, 2), size=(5, 4), batch=2, groups=1, dtype="float64"):
    filters = filters // groups if groups < 4 else 1
    shapes = (batch, channels, *size), (channels, filters, *kernel), (filters * groups,)
    return tuple(normal(*s, seed=i, dtype=dtype) for i, s in enumerate(shapes))


def expected(x, weight, bias, dy=None, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """y and the three gradients, from the oracle."""
    rest = stride, oracles.sides(padding, (), ()), output_padding, dilation, groups
    y = oracles.conv_transpose2d(x, weight, bias, *rest)
    dy = np.zeros_like(y) if dy is None else dy
    return y, oracles.conv_transpose2d_gradients(dy, x, weight, *rest)


def check(backend, inputs, **settings):
    found = evaluate_on(backend, F.conv_transpose2d, *inputs, **settings)
    y, gradients = expected(*inputs, found.dy, **settings)
    assert_matches(found.y, y, inputs[0].dtype)
    for got, wanted in zip(found.gradients, gradients, strict=True):
        assert_matches(got, wanted, inputs[0].dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_against_loops(backend, settings, dtype):
    check(backend, arrays(groups=settings.get("groups", 1), dtype=dtype), **settings)


@pytest.mark.parametrize("kernel", [(1, 1), (1, 5), (4, 1), (6, 7)], ids=str)
@pytest.mark.parametrize("settings", [{}, {"stride": 2, "output_padding": 1}], ids=str)
def test_kernel_and_image_shapes(backend, kernel, settings):
    check(backend, arrays(kernel=kernel), **settings)
    check(backend, arrays(kernel=kernel, size=(1, 3), batch=1), **settings)


small, one_or_two = st.integers(1, 3), st.integers(1, 2)


@st.composite
def problems(draw):
    """Inputs and settings of a call; of some nothing is left."""
    groups = draw(one_or_two)
    inputs = arrays(
        channels=groups * draw(one_or_two),
        filters=groups * draw(one_or_two),
        kernel=(draw(small), draw(small)),
        size=(draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        batch=draw(st.integers(0, 2)),
        groups=groups,
    )
    stride, dilation = draw(st.tuples(small, small)), draw(st.tuples(one_or_two, one_or_two))
    more = [st.integers(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True)]
    settings = {
        "stride": stride,
        "padding": draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2)),
        "output_padding": draw(st.tuples(*more)),
        "dilation": dilation,
        "groups": groups,
    }
    return inputs, settings


def made_size(x, weight, stride, padding, output_padding, dilation, groups):
    axes = zip(
        x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation, strict=True
    )
    return [(n - 1) * s + d * (k - 1) + 1 + m - sum(p) for n, k, s, p, m, d in axes]


@given(problem=problems())
def test_any_settings(backend, problem):
    (x, weight, bias), settings = problem
    if min(made_size(x, weight, **settings)) > 0:
        check(backend, (x, weight, bias), **settings)
    else:
        with pytest.raises(ShapeError, match="use a larger image or less padding"):
            evaluate_on(backend, F.conv_transpose2d, x, weight, bias, **settings)


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_nhwc_gives_the_same_numbers(evaluate, settings):
    x, weight, bias = arrays(groups=settings.get("groups", 1))
    nhwc = x.transpose(0, 2, 3, 1)
    found = evaluate(F.conv_transpose2d, nhwc, weight, bias, data_format="NHWC", **settings)
    y, (dx, *rest) = expected(x, weight, bias, found.dy.transpose(0, 3, 1, 2), **settings)
    assert_matches(found.y, y.transpose(0, 2, 3, 1))
    for got, wanted in zip(found.gradients, (dx.transpose(0, 2, 3, 1), *rest), strict=True):
        assert_matches(got, wanted)


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_gradcheck(backend, settings):
    inputs = [backend.asarray(a) for a in arrays(groups=settings.get("groups", 1))]
    assert gradcheck(F.conv_transpose2d, *inputs, **settings) < 1e-6


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_it_is_the_adjoint_of_conv2d(backend, settings):
    """<conv2d(x), y> = <x, conv_transpose2d(y)>, with one weight and the same settings."""
    groups = settings.get("groups", 1)
    y, weight, _ = (backend.asarray(a) for a in arrays(groups=groups))
    back = F.conv_transpose2d(y, weight, **settings).data
    rest = {name: value for name, value in settings.items() if name != "output_padding"}
    x = backend.asarray(normal(*back.shape, seed=5))
    there = F.conv2d(x, weight, **rest).data
    there = there[
        :, :, : y.shape[2], : y.shape[3]
    ]  # more, where the output padding has room for it
    assert_matches(backend.to_host((there * y).sum()), backend.to_host((x * back).sum()))


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_only_the_gradient_that_is_wanted(backend, wanted):
    inputs = [
        xcnn.Tensor(backend.asarray(a), requires_grad=i == wanted) for i, a in enumerate(arrays())
    ]
    y = F.conv_transpose2d(*inputs, padding=1)
    y.backward(backend.xp.ones_like(y.data))
    _, gradients = expected(*arrays(), np.ones(y.shape), padding=1)
    for index, tensor in enumerate(inputs):
        if index == wanted:
            assert_matches(tensor.grad, gradients[index])
        else:
            assert tensor.grad is None


def test_without_bias(evaluate):
    x, weight, _ = arrays()
    found = evaluate(F.conv_transpose2d, x, weight, None)
    assert_matches(found.y, oracles.conv_transpose2d(x, weight))
    assert found.gradients[2] is None


@pytest.mark.parametrize("layout", ["batch-last", "strided", "reversed"])
def test_any_layout_of_each_input(backend, layout):
    inputs = arrays()
    y, pullback = xcnn.vjp(
        F.conv_transpose2d, *(layouts(backend, a)[layout] for a in inputs), stride=2
    )
    dy = normal(*y.shape, seed=7)
    wanted, gradients = expected(*inputs, dy, stride=2)
    assert_matches(y, wanted)
    for got, gradient in zip(pullback(layouts(backend, dy)[layout]), gradients, strict=True):
        assert_matches(got, gradient)


def test_an_empty_batch(backend):
    x, weight, bias = (backend.asarray(a) for a in arrays(batch=0))
    y, pullback = xcnn.vjp(F.conv_transpose2d, x, weight, bias, stride=2)
    dx, dweight, dbias = pullback(y)
    assert (y.shape, dx.shape) == ((0, 6, 11, 8), x.shape)
    assert not backend.to_host(dweight).any()
    assert not backend.to_host(dbias).any()


def test_output_and_gradient_stay_batch_last(backend):
    x, weight, bias = (backend.asarray(a) for a in arrays(batch=3))
    y, pullback = xcnn.vjp(F.conv_transpose2d, x, weight, bias, stride=2)
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


# -- the methods of convolution ------------------------------------------------------------

METHOD_CASES = {
    "im2col": (arrays(kernel=(3, 3)), {"stride": 2, "output_padding": 1}),
    "mec": (arrays(kernel=(3, 3)), {"stride": (1, 2), "output_padding": (0, 1), "padding": 1}),
    "winograd": (arrays(kernel=(3, 3), size=(7, 5)), {"padding": ((1, 0), (4, 1))}),
    "pointwise": (arrays(kernel=(1, 1)), {}),
    "depthwise": (arrays(groups=4), {"groups": 4, "stride": 2, "output_padding": 1}),
}


@pytest.mark.parametrize("budget", [1, 2**21])
@pytest.mark.parametrize("method", METHOD_CASES)
def test_every_method(backend, monkeypatch, method, budget):
    """Each computes all three of it; that it was the one is looked at too."""
    inputs, settings = METHOD_CASES[method]
    used = []
    for name in ("forward", "input_gradient", "weight_gradient"):
        own = getattr(convolution.METHODS[method], name)

        def seen(*arguments, name=name, own=own):
            used.append(name)
            return own(*arguments)

        monkeypatch.setattr(convolution.METHODS[method], name, seen)
    monkeypatch.setattr(xcnn.config, "convolution", method)
    monkeypatch.setattr(backend, "column_budget", budget)
    check(backend, inputs, **settings)
    assert used[0] == "input_gradient"
    assert set(used[1:]) == {"forward", "weight_gradient"}


def test_the_method_is_chosen_for_the_convolution(monkeypatch):
    """With the channels that are made as its channels, those that are given as its filters."""
    asked = []
    choose = conv.choose

    def chosen(problem, *settings):
        asked.append(problem._replace(compiled=False))
        return choose(problem, *settings)

    monkeypatch.setattr(conv, "choose", chosen)
    F.conv_transpose2d(normal(7, 4, 5, 6), normal(4, 3, 3, 2), stride=2, padding=1, groups=2)
    assert asked == [(window_geometry((9, 10), (3, 2), 2, 1), 2, 6, 4, 7, False, None, False)]


# -- sizes ---------------------------------------------------------------------------------


@given(
    size=st.integers(1, 20),
    kernel=small,
    stride=small,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=small,
)
def test_it_undoes_what_a_convolution_does_to_the_size(size, kernel, stride, padding, dilation):
    """Some output_padding gives every size back, and so does output_size."""
    count = oracles.output_size(size, kernel, stride, padding, dilation)
    if count == 0:
        return
    settings = (kernel, 1), (stride, 1), (padding, (0, 0))
    least = (count - 1) * stride + dilation * (kernel - 1) + 1 - sum(padding)
    if least < 1:  # it takes the output padding for anything to be left
        return
    more = output_padding_for((size, 1), (count, 1), *settings, (dilation, 1))
    assert more == (size - least, 0)
    assert transposed_geometry((count, 1), *settings, more, (dilation, 1)).input == (size, 1)


# -- PyTorch -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", TORCH_CASES.values(), ids=TORCH_CASES)
def test_pytorch(backend, settings, dtype):
    torch = pytest.importorskip("torch")
    inputs = arrays(groups=settings.get("groups", 1), size=(7, 5), dtype=dtype)
    found = evaluate_on(backend, F.conv_transpose2d, *inputs, **settings)
    peers = [torch.tensor(a, requires_grad=True) for a in inputs]
    y = torch.nn.functional.conv_transpose2d(*peers, **settings)
    y.backward(torch.tensor(found.dy))
    assert_matches(found.y, y.detach().numpy(), dtype, factor=2)
    for got, peer in zip(found.gradients, peers, strict=True):
        assert_matches(got, peer.grad.numpy(), dtype, factor=2)


LAYERS = {
    "ConvTranspose2d": (
        (4, 6, (3, 2)),
        {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": (1, 2)},
        (2, 4, 5, 6),
        [(10, 11), (9, 12)],
    ),
    "ConvTranspose1d": (
        (4, 6, 3),
        {"stride": 3, "padding": 1, "groups": 2, "bias": False},
        (2, 4, 5),
        [(13,), (15,)],
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_pytorchs(backend, name):
    """Keys and shapes of the state, numbers with the same state, and output_size."""
    torch = pytest.importorskip("torch")
    positional, settings, shape, sizes = LAYERS[name]
    ours = getattr(nn, name)(*positional, **settings)
    theirs = getattr(torch.nn, name)(*positional, **settings)
    state = {key: a.detach().numpy() for key, a in theirs.state_dict().items()}
    assert list(state) == list(ours.state_dict())
    assert [a.shape for a in state.values()] == [a.shape for a in ours.state_dict().values()]
    ours.load_state_dict(state)
    ours.to(backend)
    x = normal(*shape, dtype="float32")
    for size in (None, *sizes):
        given = size if size is None or len(size) == 2 else size[0]
        y = ours(backend.asarray(x), output_size=given)
        with torch.no_grad():
            assert_matches(y, theirs(torch.tensor(x), output_size=size).numpy(), "float32")


# -- layers --------------------------------------------------------------------------------


def test_nhwc_layer_and_output_size(backend):
    layer = nn.ConvTranspose2d(3, 2, 3, stride=2, data_format="NHWC").to(backend)
    y = layer(backend.asarray(normal(2, 4, 5, 3, dtype="float32")), output_size=(10, 11))
    assert y.shape == (2, 10, 11, 2)
    with pytest.raises(ShapeError, match=r"output_size=\(9, 13\).*from \(9, 11\) to \(10, 12\)"):
        layer(backend.asarray(normal(2, 4, 5, 3, dtype="float32")), output_size=(9, 13))


@pytest.mark.parametrize("name", LAYERS)
def test_save_and_load(name, tmp_path):
    positional, settings, shape, _ = LAYERS[name]
    layer = getattr(nn, name)(*positional, **settings)
    xcnn.save(layer, tmp_path / "layer.safetensors")
    loaded = xcnn.load(tmp_path / "layer.safetensors")
    x = normal(*shape, dtype="float32")
    assert type(loaded) is type(layer)
    assert (loaded(x).numpy() == layer(x).numpy()).all()


@pytest.mark.parametrize(
    ("settings", "terms"),
    [({}, 64 * 9), ({"stride": 3}, 64), ({"groups": 4}, 16 * 9)],
    ids=str,
)
def test_initial_weights_keep_the_variance(settings, terms):
    """He's: 2 / the number of inputs that an output sums, on average."""
    xcnn.manual_seed(0)
    layer = nn.ConvTranspose2d(64, 128, 3, **settings)
    assert layer.weight.data.std() == pytest.approx(np.sqrt(2 / terms), rel=0.02)
    assert layer.weight.dtype == np.float32
    assert not layer.bias.data.any()
    with xcnn.init.skipped():
        nn.ConvTranspose2d(64, 128, 3, **settings)
    xcnn.manual_seed(0)
    assert (nn.ConvTranspose2d(64, 128, 3, **settings).weight.data == layer.weight.data).all()


def test_multiply_adds():
    """Each pixel that is given meets each weight of its channel."""
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
    assert layer.multiply_adds((1, 6, 10, 12)) == 5 * 6 * 4 * 3 * 9
    nhwc = nn.ConvTranspose2d(4, 6, 3, stride=2, data_format="NHWC")
    assert nhwc.multiply_adds((1, *nhwc(np.ones((1, 5, 6, 4), "float32")).shape[1:])) == 30 * 216
    line = nn.ConvTranspose1d(4, 6, 3, stride=2)
    assert line.multiply_adds((2, *line(np.ones((2, 4, 5), "float32")).shape[1:])) == 2 * 5 * 72


# -- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "settings", "error", "text"),
    [
        (((5, 5), (3, 4, 3, 3), (4,)), {}, ShapeError, "four axes N, C, H, W, or three"),
        (((2, 3, 5, 5), (3, 4, 3), (4,)), {}, ShapeError, "expected .C, F / groups, kH, kW."),
        (((2, 4, 5, 5), (3, 4, 3, 3), (4,)), {}, ShapeError, "input has 4 channels.*takes 3"),
        (((2, 3, 5, 5), (3, 4, 3, 3), (3,)), {}, ShapeError, r"bias has shape \(3,\).*\(4,\)"),
        (((2, 4, 5, 5), (4, 4, 3, 3), (4,)), {"groups": 2}, ShapeError, r"expected \(8,\)"),
        (((2, 3, 5, 5), (3, 4, 3, 3), (4,)), {"groups": 2}, ArgumentError, "divides the 3 input"),
        (((2, 3, 5, 5), (3, 4, 3, 3), (4,)), {"groups": 0}, ArgumentError, "groups=0"),
        (((2, 3, 5, 5), (3, 4, 3, 3), (4,)), {"stride": 0}, ArgumentError, "stride=0"),
        (((2, 3, 5, 5), (3, 4, 3, 3), (4,)), {"padding": "same"}, ArgumentError, "output_padding"),
        (((2, 3, 5, 5), (3, 4, 3, 3), (4,)), {"padding": -1}, ArgumentError, "padding=-1"),
        (
            ((2, 3, 5, 5), (3, 4, 3, 3), (4,)),
            {"output_padding": 1},
            ArgumentError,
            r"output_padding=\(1, 1\): expected less than the stride \(1, 1\)",
        ),
        (
            ((2, 3, 5, 5), (3, 4, 3, 3), (4,)),
            {"output_padding": (1, 3), "stride": 2, "dilation": 3},
            ArgumentError,
            "expected less than the stride",
        ),
        (((2, 3, 5, 5), (3, 4, 3, 3), (4,)), {"output_padding": -1}, ArgumentError, "int >= 0"),
        (((2, 3, 5, 5), (3, 4, 3, 3), (4,)), {"padding": (0, 4)}, ShapeError, r"\(7, -1\)"),
        (((2, 3, 0, 5), (3, 4, 3, 3), (4,)), {}, ShapeError, r"input of size \(0, 5\)"),
        (((2, 3, 5, 5), (3, 4, 0, 3), (4,)), {}, ArgumentError, "weight="),
        (((2, 3, 5, 5), (3, 4, 3, 3), (4,)), {"data_format": "CHWN"}, ArgumentError, "CHWN"),
    ],
)
def test_errors(backend, shapes, settings, error, text):
    inputs = [backend.asarray(normal(*shape)) for shape in shapes]
    with pytest.raises(error, match=text):
        F.conv_transpose2d(*inputs, **settings)


def test_float16_with_float32_weights(strict):
    """As in mixed precision: the output is float16, the gradients of the weights float32."""
    x, weight, bias = (strict.asarray(a) for a in arrays(dtype="float32"))
    weights = [xcnn.Tensor(a, requires_grad=True) for a in (weight, bias)]
    with xcnn.amp.autocast():
        y = F.conv_transpose2d(x.astype("float16"), *weights, stride=2)
    assert y.dtype == np.float16
    (y.astype("float32") * 1.0).sum().backward()
    _, (_, *gradients) = expected(*arrays(), np.ones(y.shape), stride=2)
    for tensor, gradient in zip(weights, gradients, strict=True):
        assert tensor.grad.dtype == np.float32
        found = strict.to_host(tensor.grad.data)
        assert np.abs(found - gradient).max() < 5e-3 * np.abs(gradient).max()


def test_mixed_dtypes_are_named(backend):
    x, weight, bias = (backend.asarray(a) for a in arrays())
    with pytest.raises(DTypeError, match="input is float64, weight is float32"):
        F.conv_transpose2d(x, weight.astype("float32"), bias)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), "expected 'zeros'"),
        (lambda: nn.ConvTranspose1d(3, 4, 3, padding_mode="reflect"), "expected 'zeros'"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, groups=2), "must divide in_channels=3"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, output_padding=-1), "output_padding=-1"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding="full"), "'full'"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"), "is ambiguous for a transposed"),
        (lambda: nn.ConvTranspose1d(3, 4, 3, padding="same"), "is ambiguous for a transposed"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, (2, 1), output_padding=1), "less than the stride"),
        (lambda: nn.ConvTranspose1d(3, 4, 3, 2, output_padding=2), "less than the stride"),
        (lambda: nn.ConvTranspose1d(3, 4, (3, 3)), "kernel_size=.3, 3."),
        (lambda: nn.ConvTranspose2d(3, 4, 3, data_format="CHWN"), "CHWN"),
    ],
)
def test_layers_refuse_at_once(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_layers_name_wrong_channels():
    with pytest.raises(ShapeError, match="channels, but weight"):
        nn.ConvTranspose2d(3, 4, 3)(normal(1, 2, 5, 5, dtype="float32"))
    with pytest.raises(ShapeError, match="channels, but weight"):
        nn.ConvTranspose1d(3, 4, 3)(normal(1, 2, 5, dtype="float32"))

"""Each layer on every device against the naive oracle of what it should compute."""

import re
from functools import partial

import numpy as np
import pytest

import xcnn
from xcnn import nn
from xcnn.errors import ArgumentError, ShapeError

from . import oracles
from .conftest import assert_matches, normal

X = normal(2, 4, 6, 7, dtype="float32")
NO_PADDING = ((0, 0), (0, 0))


def run(backend, layer, *arrays):
    """Call ``layer`` on the device; the result comes back as a NumPy array."""
    layer.to(backend)
    return backend.to_host(layer(*map(backend.asarray, arrays)).data)


def with_random_bias(layer):
    layer.bias.data[...] = normal(*layer.bias.shape, seed=5)
    return layer


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2), "groups": 2},
        {"padding": "same", "stride": 2},
        {"padding": "valid", "bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_conv2d(backend, settings, data_format):
    layer = nn.Conv2d(4, 6, (3, 2), data_format=data_format, **settings)
    assert layer.weight.shape == (6, 4 // settings.get("groups", 1), 3, 2)
    assert layer.weight.dtype == np.float32
    bias = None if layer.bias is None else with_random_bias(layer).bias.data.copy()
    weight = layer.weight.data.copy()
    x = X if data_format == "NCHW" else np.moveaxis(X, 1, -1)
    found = run(backend, layer, x)
    stride, dilation = settings.get("stride", 1), settings.get("dilation", 1)
    sides = oracles.sides(settings.get("padding", 0), (6, 7), (3, 2), stride, dilation)
    expected = oracles.conv2d(X, weight, bias, stride, sides, dilation, settings.get("groups", 1))
    if data_format == "NHWC":
        expected = np.moveaxis(expected, 1, -1)
    assert_matches(found, expected, "float32")


def test_linear(backend):
    layer = with_random_bias(nn.Linear(5, 3))
    x = normal(4, 5, dtype="float32")
    weight, bias = layer.weight.data.copy(), layer.bias.data.copy()
    assert weight.shape == (3, 5)
    assert_matches(run(backend, layer, x), oracles.linear(x, weight, bias), "float32")
    plain = nn.Linear(5, 3, bias=False)
    assert plain.bias is None
    weight = plain.weight.data.copy()
    assert_matches(run(backend, plain, x), oracles.linear(x, weight), "float32")


def test_biases_start_at_zero():
    assert not nn.Linear(3, 2).bias.data.any()
    assert not nn.Conv2d(3, 2, 1).bias.data.any()


def test_layers_take_lists():
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data[...] = [[2, 3]]
    assert layer([[1.0, 1.0]]).data.tolist() == [[5]]
    assert nn.Conv2d(1, 2, 1)([[[[1.0]]]]).shape == (1, 2, 1, 1)
    assert nn.Unflatten(1, (1, 2))([[1.0, 2.0]]).shape == (1, 1, 2)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (nn.MaxPool2d, {}),
        (nn.MaxPool2d, {"stride": 1, "padding": 1, "ceil_mode": True}),
        (nn.MaxPool2d, {"stride": (1, 2), "dilation": 2}),
        (nn.AvgPool2d, {}),
        (nn.AvgPool2d, {"stride": (1, 3), "padding": (1, 0), "ceil_mode": True}),
        (nn.AvgPool2d, {"padding": 1, "count_include_pad": False}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_pooling(backend, kind, settings, data_format):
    kernel = (2, 3)
    stride, dilation = settings.get("stride", kernel), settings.get("dilation", 1)
    padding = oracles.sides(settings.get("padding", 0), (6, 7), kernel)
    ceil_mode = settings.get("ceil_mode", False)
    if kind is nn.MaxPool2d:
        expected, _ = oracles.max_pool2d(X, kernel, stride, padding, dilation, ceil_mode)
    else:
        include = settings.get("count_include_pad", True)
        expected = oracles.avg_pool2d(X, kernel, stride, padding, ceil_mode, include)
    layer = kind(kernel, data_format=data_format, **settings)
    if data_format == "NHWC":
        found = np.moveaxis(run(backend, layer, np.moveaxis(X, 1, -1)), -1, 1)
    else:
        found = run(backend, layer, X)
    assert_matches(found, expected, "float32")


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.ReLU(), np.maximum(X, 0)),
        (nn.Tanh(), np.tanh(np.float64(X))),
        (nn.Sigmoid(), oracles.sigmoid(X)),
        (nn.Softmax(), oracles.softmax(X, 1)),
        (nn.Softmax(dim=-1), oracles.softmax(X, 3)),
        (nn.LogSoftmax(), oracles.log_softmax(X, 1)),
        (nn.LogSoftmax(2), oracles.log_softmax(X, 2)),
        (nn.Flatten(), X.reshape(2, 168)),
        (nn.Flatten(2), X.reshape(2, 4, 42)),
        (nn.Unflatten(1, (2, 2)), X.reshape(2, 2, 2, 6, 7)),
        (nn.Unflatten(2, (3, 2)), X.reshape(2, 4, 3, 2, 7)),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Module) else "",
)
def test_layers_without_parameters(backend, layer, expected):
    assert_matches(run(backend, layer, X), expected, "float32")


@pytest.mark.parametrize(("name", "kind"), [("relu", nn.ReLU), ("tanh", nn.Tanh)])
def test_activation_by_name(name, kind):
    assert type(nn.activation(name)) is kind


@pytest.mark.parametrize(
    ("layer", "shape", "text"),
    [
        (
            nn.Conv2d(3, 2, 3),
            (1, 4, 8, 8),
            "input has 4 channels, but weight",
        ),
        (
            nn.Conv2d(3, 2, 3, data_format="NHWC"),
            (1, 3, 8, 8),
            "input has 8 channels, but weight",
        ),
        (nn.Conv2d(3, 2, 3), (8, 8), "expected four axes N, C, H, W"),
        (nn.Conv2d(3, 2, 9), (1, 3, 8, 8), "smaller than the kernel"),
        (nn.Linear(3, 2), (1, 4), "expected 3 features in the last axis"),
        (nn.Linear(3, 2), (1, 3, 1, 1), "expected 3 features in the last axis"),
        (nn.Linear(3, 2), (), "expected 3 features in the last axis"),
        (nn.MaxPool2d(2), (4, 4), "expected four axes N, C, H, W"),
        (nn.Unflatten(1, (2, 2)), (1, 5), r"\(1, 5\)"),
    ],
    ids=str,
)
def test_inputs_that_do_not_fit(backend, layer, shape, text):
    with pytest.raises(ShapeError, match=text):
        run(backend, layer, np.zeros(shape, np.float32))


def test_dropout(backend):
    x = np.ones((50, 40), np.float32)
    layer = nn.Dropout(0.25)
    xcnn.manual_seed(0)
    first = run(backend, layer, x)
    assert set(np.unique(first)) == {0, np.float32(4 / 3)}
    assert abs((first == 0).mean() - 0.25) < 0.05  # 5 standard deviations
    assert not np.array_equal(run(backend, layer, x), first)
    xcnn.manual_seed(0)
    np.testing.assert_array_equal(run(backend, layer, x), first)
    layer.eval()
    np.testing.assert_array_equal(run(backend, layer, x), x)
    np.testing.assert_array_equal(run(backend, nn.Dropout(0), x), x)
    assert not run(backend, nn.Dropout(1), x).any()


def test_dropout_is_the_same_on_every_device(backend):
    x = normal(8, 3, 4, 4, dtype="float32")
    masks = []
    for device in ("cpu", backend.device):
        xcnn.manual_seed(3)
        masks.append(run(xcnn.backends.get(device), nn.Dropout(), x))
    np.testing.assert_array_equal(*masks)


LOGITS = normal(5, 3, dtype="float32")
CLASSES = np.array([0, 2, 1, 1, 0])
PROBABILITIES = oracles.sigmoid(LOGITS).astype("float32")
YES_NO = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0], [0, 1, 0]], np.float32)
TERMS = {
    nn.CrossEntropyLoss: (LOGITS, CLASSES),
    nn.NLLLoss: (LOGITS, CLASSES),
    nn.MSELoss: (LOGITS, YES_NO),
    nn.BCELoss: (PROBABILITIES, YES_NO),
    nn.BCEWithLogitsLoss: (LOGITS, YES_NO),
}


def terms_of(kind, x, target):
    x = np.float64(x)
    if kind is nn.CrossEntropyLoss:
        return oracles.cross_entropy_terms(x, oracles.one_hot(target, 3))
    if kind is nn.NLLLoss:
        return np.array([-x[i, target[i]] for i in range(len(target))])
    if kind is nn.MSELoss:
        return (x - target) ** 2
    return oracles.binary_cross_entropy_terms(
        x if kind is nn.BCELoss else oracles.sigmoid(x), target
    )


@pytest.mark.parametrize("kind", TERMS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(backend, kind, reduction):
    x, target = TERMS[kind]
    expected = oracles.reduced(terms_of(kind, x, target), reduction)
    found = run(backend, kind(reduction=reduction), x, target)
    assert_matches(found, expected, "float32", factor=5)


def test_the_reduction_is_mean_unless_told():
    assert nn.MSELoss()([2.0, 4.0], [0.0, 0.0]).item() == 10
    with pytest.raises(ArgumentError, match="reduction='median'"):
        nn.MSELoss(reduction="median")


# -- what Sequential computes together ------------------------------------------------------


def outcome(model, x):
    """Output and gradients of a model, as NumPy."""
    x = xcnn.Tensor(x, requires_grad=True)
    y = model(x)
    (y * y).sum().backward()
    gradients = [x.grad.data, *(p.grad.data for p in model.parameters())]
    return [y.backend.to_host(a) for a in (y.data, *gradients)]


class OneByOne(nn.Module):
    """A Sequential's modules called each for itself."""

    def __init__(self, *modules):
        self.modules_ = list(modules)

    def forward(self, x):
        for module in self.modules_:
            x = module(x)
        return x


def stack(*modules):
    xcnn.manual_seed(0)
    made = [make() for make in modules]
    for parameter in (p for m in made for p in m.parameters()):
        parameter.data[...] = normal(*parameter.shape, seed=parameter.numel(), dtype="float32")
    return made


def conv(**settings):
    return lambda: nn.Conv2d(3, 4, 3, **settings)


@pytest.mark.parametrize(
    "modules",
    [
        (conv(), nn.ReLU),
        (conv(bias=False), nn.ReLU, lambda: nn.MaxPool2d(2)),
        (conv(), nn.ReLU, lambda: nn.MaxPool2d(2)),
        (conv(padding="same"), nn.ReLU, lambda: nn.MaxPool2d(3, 2, 1), nn.ReLU),
        (conv(data_format="NHWC"), nn.ReLU, lambda: nn.MaxPool2d(2, data_format="NHWC")),
        (conv(), nn.ReLU, lambda: nn.AvgPool2d(2)),
        (lambda: nn.BatchNorm2d(3), nn.ReLU, conv(), lambda: nn.BatchNorm2d(4), nn.ReLU6),
        (conv(), nn.ReLU, lambda: nn.MaxPool2d(2), nn.Flatten, lambda: nn.Linear(16, 5), nn.ReLU),
    ],
)
def test_fused_layers_equal_the_same_one_by_one(backend, modules):
    x = backend.asarray(normal(5, 3, 6, 7, dtype="float32"))
    if "NHWC" in repr(modules[0]()):
        x = backend.asarray(normal(5, 6, 7, 3, dtype="float32"))
    fused = outcome(nn.Sequential(*stack(*modules)).to(backend), x)
    single = outcome(OneByOne(*stack(*modules)).to(backend), x)
    for a, b in zip(fused, single, strict=True):
        assert_matches(a, b, factor=4)


def test_three_layers_make_one_operation():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
    y = model(normal(1, 1, 6, 6, dtype="float32"))
    assert type(y.creator).__name__ == "Conv2d"
    assert (
        type(nn.Sequential(nn.Linear(2, 3), nn.ReLU())(np.ones((1, 2), "float32")).creator).__name__
        == "Linear"
    )


def test_hooks_and_subclasses_see_each_layer_for_itself():
    class Mine(nn.ReLU):
        pass

    x = normal(1, 1, 6, 6, dtype="float32")
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
    with nn.record_activations(model) as activations:
        y = model(x)
    assert activations["0"].min() < 0 <= activations["1"].min()
    assert activations["2"].shape == y.shape
    assert_matches(y.data, model(x).data)
    own = nn.Sequential(nn.Conv2d(1, 2, 3), Mine(), nn.MaxPool2d(2))(x)
    assert type(own.creator).__name__ == "MaxPool2d"


def test_an_error_among_fused_layers_names_its_layer():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(9))
    with pytest.raises(ShapeError, match=r"layer '2' \(MaxPool2d\(9\)\)"):
        model(normal(1, 1, 6, 6, dtype="float32"))
    with pytest.raises(ShapeError, match=r"layer '0' \(Conv2d"):
        model(normal(1, 2, 6, 6, dtype="float32"))


def test_a_subclass_may_take_other_arguments(backend):
    class Leaky(nn.LeakyReLU):
        def __init__(self, percent):
            super().__init__(percent / 100)

    assert_matches(run(backend, Leaky(50), X), np.where(X > 0, X, X / 2), "float32")


# -- what a user can change about a fused layer ----------------------------------------------


def doubled(self, x):
    return 2 * xcnn.Tensor.of(x)


def replace_forward(model, patch, index):
    model[index].forward = lambda x: doubled(None, x)


def replace_forward_of_class(model, patch, index):
    patch.setattr(type(model[index]), "forward", doubled)


def replace_call(model, patch, index):
    patch.setattr(type(model[index]), "__call__", doubled, raising=False)


def replace_function(model, patch, index):
    patch.setattr(type(model[index]), "function", staticmethod(lambda x, **_: doubled(None, x)))


@pytest.mark.parametrize(
    ("change", "index"),
    [
        *(
            (c, i)
            for c in (replace_forward, replace_forward_of_class, replace_call)
            for i in range(3)
        ),
        (replace_function, 1),
        (replace_function, 2),
    ],
)
def test_a_replaced_forward_is_called(monkeypatch, change, index):
    model = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    change(model, monkeypatch, index)
    x = normal(1, 2, 6, 6, dtype="float32")
    y, expected = xcnn.Tensor(x), []
    for number, module in enumerate(model):
        y = 2 * y if number == index else module(y)
        expected.append(y.data)
    assert_matches(model(x).data, expected[2])
    assert_matches(model[:2](x).data, expected[1])


def test_a_replaced_forward_of_linear_and_of_the_base_class(monkeypatch):
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), normal(2, 3, dtype="float32")
    model[0].forward = lambda x: doubled(None, x)
    assert_matches(model(x).data, np.maximum(2 * x, 0))
    del model[0].forward
    called = []
    original = nn.Module.__call__
    monkeypatch.setattr(nn.Module, "__call__", lambda m, x: called.append(m) or original(m, x))
    model(x)
    assert called == [model, *model]


def test_replaced_parameters_are_used():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
    x = normal(1, 1, 6, 6, dtype="float32")
    model[0].weight = xcnn.Parameter(np.zeros((2, 1, 3, 3), "float32"))
    model[0].bias = xcnn.Parameter(np.float32([3, -4]))
    np.testing.assert_array_equal(model(x).data[0, :, 0, 0], [3, 0])
    model[0].bias = xcnn.Parameter(np.ones(1, "float32"))
    with pytest.raises(ShapeError, match=r"layer '0' .*bias has shape \(1,\)"):
        model(x)
    model[0].bias = None
    assert not model(x).data.any()


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (nn.Conv2d(3, 4, 3), (2, 8, 9, 3), "(0, 3, 1, 2)"),
        (nn.ConvTranspose2d(3, 4, 3), (2, 8, 9, 3), "(0, 3, 1, 2)"),
        (nn.BatchNorm2d(3), (2, 8, 9, 3), "(0, 3, 1, 2)"),
        (nn.GroupNorm(1, 3), (2, 8, 9, 3), "(0, 3, 1, 2)"),
        (nn.Conv1d(3, 4, 3), (2, 9, 3), "(0, 2, 1)"),
        (nn.ConvTranspose1d(3, 4, 3), (2, 9, 3), "(0, 2, 1)"),
        (nn.Conv2d(3, 4, 3), (8, 9, 3), "(2, 0, 1)"),
    ],
    ids=str,
)
def test_channels_last_input_gets_a_hint(layer, shape, axes):
    x = np.zeros(shape, np.float32)
    with pytest.raises(ShapeError, match=re.escape(f"x.transpose{axes}")):
        layer(x)
    assert layer(eval(f"x.transpose{axes}")).shape


@pytest.mark.parametrize(
    "make",
    [
        *(partial(getattr(nn, f"Conv{n}d"), 2, 4, 3) for n in (1, 2, 3)),
        *(partial(getattr(nn, f"ConvTranspose{n}d"), 2, 4, 3) for n in (1, 2, 3)),
        *(partial(getattr(nn, f"BatchNorm{n}d"), 2) for n in (1, 2, 3)),
        *(
            partial(getattr(nn, f"InstanceNorm{n}d"), 2, affine=True, track_running_stats=True)
            for n in (1, 2, 3)
        ),
        partial(nn.GroupNorm, 2, 4),
        partial(nn.LayerNorm, 3),
        partial(nn.RMSNorm, 3),
        partial(nn.PReLU, 3),
        partial(nn.Embedding, 5, 3),
        partial(nn.Linear, 2, 3),
        partial(nn.Bilinear, 2, 3, 4),
        partial(nn.MultiheadAttention, 4, 2),
    ],
    ids=lambda make: make.func.__name__,
)
def test_device_and_dtype_of_what_a_layer_owns(backend, make):
    layer = make(device=backend, dtype="float64")
    tensors = [*layer.parameters(), *layer.buffers()]
    assert tensors
    for tensor in tensors:
        assert tensor.backend is backend
        assert tensor.dtype == ("int64" if tensor.dtype.kind == "i" else "float64")
    assert "dtype" not in repr(layer)
    assert next(make().parameters()).dtype == np.float32


def test_fused_layers_take_lists():
    layers = nn.Conv2d(1, 1, 1), nn.ReLU(), nn.MaxPool2d(1)
    image = [[[[1.0, 2.0]]]]
    assert nn.Sequential(*layers)(image).tolist() == OneByOne(*layers)(image).tolist()

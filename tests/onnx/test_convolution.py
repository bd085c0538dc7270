"""Convolution with every setting of ONNX, against naive loops, PyTorch and finite differences."""

import itertools

import numpy as np
import pytest

import xcnn
from xcnn.errors import XcnnError
from xcnn.tensor import Tensor
from xcnn.testing import gradcheck

from ..conftest import assert_matches, layouts, normal
from .models import graph_of


def taps(x, weight, strides, begins, dilations, size):
    """(kernel element, input index, output index) of all products of a convolution to ``size``."""
    for o in itertools.product(*map(range, size)):
        for k in itertools.product(*map(range, weight.shape[2:])):
            at = zip(o, strides, k, dilations, begins, strict=True)
            i = tuple(o * s + k * d - b for o, s, k, d, b in at)
            if all(0 <= p < n for p, n in zip(i, x, strict=True)):
                yield k, i, o


def convolved(x, weight, bias, strides, pads, dilations, groups):
    """Conv, product by product."""
    count, (filters, depth, *kernel) = x.ndim - 2, weight.shape
    begins, sizes = pads[:count], x.shape[2:]
    size = [
        (n + b + e - d * (k - 1) - 1) // s + 1
        for n, b, e, d, k, s in zip(
            sizes, begins, pads[count:], dilations, kernel, strides, strict=True
        )
    ]
    y = np.zeros((len(x), filters, *size))
    y += bias.reshape(-1, *(1,) * count)
    for k, i, o in taps(sizes, weight, strides, begins, dilations, size):
        for f in range(filters):
            first = f // (filters // groups) * depth
            y[(slice(None), f, *o)] += (
                x[(slice(None), slice(first, first + depth), *i)] @ weight[(f, slice(None), *k)]
            )
    return y


def transposed(x, weight, bias, strides, pads, dilations, groups, size):
    """ConvTranspose to ``size``, product by product."""
    count, (channels, depth) = x.ndim - 2, weight.shape[:2]
    y = np.zeros((len(x), depth * groups, *size))
    y += bias.reshape(-1, *(1,) * count)
    for k, i, o in taps(size, weight, strides, pads[:count], dilations, x.shape[2:]):
        for c in range(channels):
            first = c // (channels // groups) * depth
            y[(slice(None), slice(first, first + depth), *i)] += np.outer(
                x[(slice(None), c, *o)], weight[(c, slice(None), *k)]
            )
    return y


# sizes, kernel, strides, pads, dilations, groups
SETTINGS = {
    "1-D": ((9,), (3,), [2], [1, 3], [2], 1),
    "1-D, groups": ((7,), (2,), [1], [0, 0], [1], 2),
    "2-D": ((6, 7), (3, 2), [1, 2], [1, 0, 2, 3], [1, 2], 2),
    "3-D": ((5, 4, 6), (3, 2, 3), [2, 1, 1], [1, 0, 2, 0, 1, 1], [1, 1, 2], 1),
    "3-D, groups": ((4, 5, 3), (2, 3, 1), [1, 2, 1], [2, 1, 0, 1, 1, 0], [2, 1, 1], 2),
    "3-D, one tap": ((3, 4, 3), (1, 2, 3), [1, 1, 1], [0, 1, 1, 0, 0, 1], [1, 1, 1], 1),
    "3-D, one tap, far apart": ((5, 3, 3), (1, 2, 2), [3, 1, 1], [2, 0, 1, 2, 1, 1], [1, 1, 1], 1),
    "3-D, along the depth": ((5, 2, 3), (3, 1, 1), [2, 1, 1], [1, 0, 0, 2, 0, 0], [1, 1, 1], 2),
}
each_setting = pytest.mark.parametrize("name", SETTINGS)


def case(name):
    sizes, kernel, *settings = SETTINGS[name]
    names = ("strides", "pads", "dilations", "group")
    return sizes, kernel, settings, dict(zip(names, settings, strict=True))


def run(backend, graph, *arrays):
    return graph.to(backend.device)(*[backend.asarray(a) for a in arrays]).numpy()


@each_setting
def test_conv(backend, name):
    sizes, kernel, settings, attributes = case(name)
    x, w, b = normal(2, 4, *sizes), normal(6, 4 // settings[-1], *kernel, seed=1), normal(6, seed=2)
    expected = convolved(x, w, b, *settings)
    single = [a.astype("float32") for a in (x, w, b)]
    graph = graph_of(
        "Conv", {"x": x.shape}, {"w": single[1], "b": single[2]}, kernel_shape=kernel, **attributes
    )
    assert_matches(run(backend, graph, single[0]), expected, dtype="float32")
    alone = graph_of("Conv", {"x": x.shape, "w": w.shape}, **attributes)
    expected -= b.reshape(-1, *(1,) * len(sizes))
    assert_matches(run(backend, alone, x, w), expected, dtype="float64")


@each_setting
def test_conv_transpose(backend, name):
    sizes, kernel, settings, attributes = case(name)
    strides, pads, dilations, groups = settings
    extra = [max(s, d) - 1 for s, d in zip(strides, dilations, strict=True)]
    count = len(sizes)
    size = [
        (n - 1) * s + d * (k - 1) + 1 + m - b - e
        for n, s, d, k, m, b, e in zip(
            sizes, strides, dilations, kernel, extra, pads[:count], pads[count:], strict=True
        )
    ]
    x, w, b = normal(2, 4, *sizes), normal(4, 3, *kernel, seed=1), normal(3 * groups, seed=2)
    expected = transposed(x, w, b, strides, pads, dilations, groups, size)
    single = [a.astype("float32") for a in (x, w, b)]
    attributes["output_padding"] = extra
    graph = graph_of(
        "ConvTranspose", {"x": x.shape}, {"w": single[1], "b": single[2]}, **attributes
    )
    assert_matches(run(backend, graph, single[0]), expected, dtype="float32")
    alone = graph_of(
        "ConvTranspose", {"x": x.shape, "w": w.shape}, kernel_shape=kernel, **attributes
    )
    expected -= b.reshape(-1, *(1,) * count)
    assert_matches(run(backend, alone, x, w), expected, dtype="float64")


@each_setting
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_gradients(backend, name, kind):
    sizes, kernel, settings, attributes = case(name)
    if kind == "ConvTranspose":
        attributes["pads"] = [0, 1, 0, 1, 0, 1][: 2 * len(sizes)]
    x, w = normal(2, 4, *sizes), normal(4, 4 // settings[-1], *kernel, seed=1)
    b = normal(4, seed=2)
    graph = graph_of(kind, {"x": x.shape, "w": w.shape, "b": b.shape}, **attributes)
    gradcheck(graph.to(backend.device), *[backend.asarray(a) for a in (x, w, b)])


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_three_dimensions_like_pytorch(backend, kind):
    torch = pytest.importorskip("torch")
    x, w, b = normal(2, 4, 5, 6, 4), normal(4, 2, 3, 2, 2, seed=1), normal(4, seed=2)
    given = [torch.from_numpy(a).requires_grad_() for a in (x, w, b)]
    function = {"Conv": "conv3d", "ConvTranspose": "conv_transpose3d"}[kind]
    settings = {"stride": (2, 1, 2), "padding": (1, 1, 0), "groups": 2, "dilation": (1, 2, 1)}
    expected = getattr(torch.nn.functional, function)(*given, **settings)
    dy = normal(*expected.shape, seed=3)
    expected.backward(torch.from_numpy(dy))
    graph = graph_of(
        kind,
        {"x": x.shape, "w": w.shape, "b": b.shape},
        strides=[2, 1, 2],
        pads=[1, 1, 0, 1, 1, 0],
        dilations=[1, 2, 1],
        group=2,
    )
    y, pullback = xcnn.vjp(graph.to(backend.device), *[backend.asarray(a) for a in (x, w, b)])
    assert_matches(backend.to_host(y), expected.detach().numpy())
    for gradient, tensor in zip(pullback(backend.asarray(dy)), given, strict=True):
        assert_matches(backend.to_host(gradient), tensor.grad.numpy())


@pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_auto_pad(backend, automatic):
    x, w = normal(1, 2, 8, 7, 5), normal(3, 2, 3, 2, 2, seed=1)
    settings = {"strides": [2, 3, 1], "dilations": [1, 1, 3]}
    # in total: (4 - 1) * 2 + 3 - 8 = 1; (3 - 1) * 3 + 2 - 7 = 1; (5 - 1) * 1 + 4 - 5 = 3
    pads = {
        "SAME_UPPER": [0, 0, 1, 1, 1, 2],
        "SAME_LOWER": [1, 1, 2, 0, 0, 1],
        "VALID": [0] * 6,
    }[automatic]
    expected = convolved(x, w, np.zeros(3), settings["strides"], pads, settings["dilations"], 1)
    graph = graph_of("Conv", {"x": x.shape, "w": w.shape}, auto_pad=automatic, **settings)
    assert_matches(run(backend, graph, x, w), expected)


# what is given, pads that follow, size of the output, for 4 pixels, stride 3 and a kernel of 6
OUTPUTS = [
    ({"output_shape": [12]}, (2, 1), 12),
    ({"output_shape": [12], "auto_pad": "SAME_UPPER"}, (1, 2), 12),
    ({"output_shape": [12], "pads": [3, 3]}, (2, 1), 12),
    ({"output_shape": [11]}, (2, 2), 11),
    ({"output_shape": [12], "output_padding": [1]}, (2, 2), 12),
    ({"auto_pad": "SAME_UPPER"}, (1, 2), 12),
    ({"auto_pad": "SAME_LOWER"}, (2, 1), 12),
    ({"auto_pad": "VALID"}, (0, 0), 15),
    ({"output_shape": [17]}, (0, 0), 17),
]


@pytest.mark.parametrize(("attributes", "pads", "size"), OUTPUTS)
def test_output_shape(backend, attributes, pads, size):
    x, w, b = normal(2, 1, 4), normal(1, 1, 6, seed=1), normal(1, seed=2)
    expected = transposed(x, w, b, [3], pads, [1], 1, [size])
    graph = graph_of(
        "ConvTranspose", {"x": x.shape, "w": w.shape, "b": (1,)}, strides=[3], **attributes
    )
    assert_matches(run(backend, graph, x, w, b), expected)


@pytest.mark.parametrize(("attributes", "pads", "size"), OUTPUTS)
def test_output_shape_like_onnxruntime(attributes, pads, size):
    runtime = pytest.importorskip("onnxruntime")
    from onnx import helper

    from .models import model_of

    x, w = normal(2, 1, 4, dtype="float32"), normal(1, 1, 6, seed=1, dtype="float32")
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[3], **attributes)
    model = model_of([node], {"x": x.shape}, ["y"], {"w": w})
    model.graph.output[0].type.tensor_type.elem_type = 1
    providers = ["CPUExecutionProvider"]
    session = runtime.InferenceSession(model.SerializeToString(), providers=providers)
    (expected,) = session.run(None, {"x": x})
    graph = graph_of("ConvTranspose", {"x": x.shape}, {"w": w}, strides=[3], **attributes)
    assert_matches(graph(x).numpy(), expected)


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_any_layout_and_an_empty_batch(backend, kind):
    x, w, none = normal(3, 2, 3, 4, 2), normal(2, 2, 2, 2, 2, seed=1), np.zeros(2)
    graph = graph_of(kind, {"x": (None,) * 5, "w": w.shape}).to(backend.device)
    settings = [1, 1, 1], [0] * 6, [1, 1, 1], 1
    expected = (
        convolved(x, w, none, *settings)
        if kind == "Conv"
        else transposed(x, w, none, *settings, (4, 5, 3))
    )
    for given in layouts(backend, x).values():
        assert_matches(graph(given, backend.asarray(w)).numpy(), expected)
    empty = Tensor(backend.asarray(x[:0]), requires_grad=True)
    y = graph(empty, backend.asarray(w))
    assert y.shape == (0, *expected.shape[1:])
    y.sum().backward()
    assert empty.grad.shape == empty.shape


@pytest.mark.parametrize("opset", [6, 10, 11, 22])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_each_operator_set(backend, kind, opset):
    x, w, none = normal(1, 2, 5, 5), normal(2, 2, 3, 3, seed=1), np.zeros(2)
    graph = graph_of(kind, {"x": x.shape, "w": w.shape}, opset=opset, pads=[1, 1, 1, 1])
    settings = [1, 1], [1] * 4, [1, 1], 1
    expected = (
        convolved(x, w, none, *settings)
        if kind == "Conv"
        else transposed(x, w, none, *settings, (5, 5))
    )
    assert_matches(run(backend, graph, x, w), expected)


REFUSED = [
    {"kernel_shape": [3]},
    {"kernel_shape": [2, 2]},
    {"strides": [1]},
    {"strides": [1, 0]},
    {"dilations": [1, 0]},
    {"pads": [1, 1]},
    {"pads": [-1, 0, 0, 0]},
    {"pads": [1, 0, 0, 0], "auto_pad": "SAME_UPPER"},
    {"auto_pad": "same"},
    {"group": 0},
    {"group": 3},
    {"group": 1.5},
]


@pytest.mark.parametrize("settings", REFUSED)
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_settings_that_are_refused(kind, settings):
    x, w = np.zeros((1, 2, 5, 5), "float32"), np.zeros((2, 2, 3, 3), "float32")
    with pytest.raises(XcnnError, match=f"a {kind}"):
        graph_of(kind, {"x": x.shape}, {"w": w}, **settings)(x)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Conv", {"pads": [2**40, 0, 0, 0]}),
        ("Conv", {"dilations": [3, 3]}),
        ("ConvTranspose", {"strides": [2**40, 1]}),
        ("ConvTranspose", {"output_shape": [2**40, 7]}),
        ("ConvTranspose", {"output_shape": [9, 7]}),
        ("ConvTranspose", {"output_shape": [7]}),
        ("ConvTranspose", {"output_shape": [0, 7]}),
        ("ConvTranspose", {"output_padding": [1, 1]}),
        ("ConvTranspose", {"output_padding": [-1, 0]}),
        ("ConvTranspose", {"pads": [4, 4, 4, 4]}),
    ],
)
def test_sizes_that_are_refused(kind, settings):
    x, w = np.zeros((1, 2, 5, 5), "float32"), np.zeros((2, 2, 3, 3), "float32")
    with pytest.raises(XcnnError, match=f"a {kind}"):
        graph_of(kind, {"x": x.shape}, {"w": w}, **settings)(x)


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_shapes_that_are_refused(kind):
    def call(x, w, *b):
        arrays = [np.zeros(shape, "float32") for shape in (x, w, *b)]
        names = ["x", "w", "b"][: len(arrays)]
        return graph_of(kind, dict.fromkeys(names))(*arrays)

    for shapes in [
        ((2, 3), (3, 3)),
        ((1, 2, 3, 3, 3, 3), (2, 2, 1, 1, 1, 1)),
        ((1, 2, 5, 5), (2, 2, 3)),
        ((1, 2, 5, 5), (3, 3, 3, 3)),
        ((1, 2, 5, 5), (2, 2, 3, 3), (5,)),
        ((1, 2, 5, 5), (2, 2, 0, 3)),
        ((1, 2, 0, 5), (2, 2, 3, 3)),
        ((1, 2, 4, 4, 4), (2, 2, 5, 6, 5), (2, 2)),
    ]:
        with pytest.raises(XcnnError, match=f"a {kind}"):
            call(*shapes)

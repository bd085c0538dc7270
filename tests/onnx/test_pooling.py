"""Pooling with every setting of ONNX, against naive loops, PyTorch and finite differences."""

import itertools

import numpy as np
import pytest

from xcnn.errors import XcnnError
from xcnn.tensor import Tensor
from xcnn.testing import gradcheck

from ..conftest import assert_matches, layouts, normal
from .models import graph_of, model_of


def windows(size, kernel, stride, pads, dilation, ceil):
    """Start of each window along an axis, without those that start in the right padding."""
    room = size + sum(pads) - (dilation * (kernel - 1) + 1)
    starts = range(-pads[0], -pads[0] + room + 1, stride)
    more = [starts[-1] + stride] if ceil and room % stride else []
    return [
        [s + k * dilation for k in range(kernel)] for s in [*starts, *more] if s < size or not ceil
    ]


def pooled(x, kind, kernel, strides, pads, dilations, ceil=0, include_pad=0, column_major=False):
    """The result, and for MaxPool the indices, window by window."""
    count, sizes = len(kernel), x.shape[2:]
    sides = list(zip(pads[:count], pads[count:], strict=True))
    along = [
        windows(*one, ceil) for one in zip(sizes, kernel, strides, sides, dilations, strict=True)
    ]
    shape = (*x.shape[:2], *map(len, along))
    y, indices = np.zeros(shape), np.zeros(shape, "int64")
    for at in itertools.product(*map(range, shape)):
        plane = x[at[:2]]
        read = list(itertools.product(*(a[o] for a, o in zip(along, at[2:], strict=True))))
        inside = [p for p in read if all(0 <= i < n for i, n in zip(p, sizes, strict=True))]
        padded = [
            p
            for p in read
            if all(-b <= i < n + e for i, n, (b, e) in zip(p, sizes, sides, strict=True))
        ]
        values = [plane[p] for p in inside]
        if kind == "MaxPool":
            y[at] = max(values, default=-np.inf)
            best = inside[values.index(y[at])] if inside else (0,) * count
            order = "F" if column_major else "C"
            number = np.ravel_multi_index(best, sizes, order=order)
            indices[at] = (at[0] * x.shape[1] + at[1]) * plane.size + number
        else:
            y[at] = sum(values) / len(padded if include_pad else inside)
    return y, indices


# kernel, strides, pads, dilations, sizes
SETTINGS = {
    "1-D": ([3], [2], [1, 0], [1], (9,)),
    "1-D, dilated": ([3], [1], [2, 3], [2], (8,)),
    "2-D": ([3, 2], [2, 1], [1, 0, 1, 1], [1, 1], (7, 6)),
    "2-D, dilated": ([2, 3], [2, 3], [0, 2, 1, 1], [3, 2], (8, 9)),
    "2-D, large windows": ([9, 8], [2, 3], [4, 2, 3, 4], [1, 1], (11, 10)),
    "3-D": ([2, 3, 2], [2, 1, 2], [1, 1, 0, 0, 1, 1], [1, 1, 1], (5, 6, 4)),
    "3-D, dilated": ([2, 2, 3], [1, 2, 1], [1, 0, 2, 0, 1, 1], [2, 1, 2], (6, 5, 7)),
    "3-D, one axis": ([1, 1, 2], [1, 1, 2], [0, 0, 0, 0, 0, 1], [1, 1, 1], (3, 2, 5)),
}
each_setting = pytest.mark.parametrize("name", SETTINGS)


def arguments(name):
    kernel, strides, pads, dilations, sizes = SETTINGS[name]
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
    }
    return attributes, (kernel, strides, pads, dilations), sizes


def run(backend, graph, *arrays):
    found = graph.to(backend.device)(*[backend.asarray(a) for a in arrays])
    return [y.numpy() for y in found] if isinstance(found, tuple) else found.numpy()


@each_setting
@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("storage_order", [0, 1])
def test_max_pool(backend, name, ceil_mode, storage_order):
    attributes, settings, sizes = arguments(name)
    x = normal(2, 3, *sizes, dtype="float32").round(1)  # with equal maxima
    graph = graph_of(
        "MaxPool",
        {"x": x.shape},
        outputs=("y", "i"),
        ceil_mode=ceil_mode,
        storage_order=storage_order,
        **attributes,
    )
    y, i = run(backend, graph, x)
    expected, indices = pooled(x, "MaxPool", *settings, ceil_mode, column_major=bool(storage_order))
    assert_matches(y, expected, dtype="float32")
    assert i.dtype == "int64"
    np.testing.assert_array_equal(i, indices)


@each_setting
@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("include_pad", [0, 1])
def test_average_pool(backend, name, ceil_mode, include_pad):
    attributes, settings, sizes = arguments(name)
    x = normal(2, 3, *sizes, dtype="float32")
    graph = graph_of(
        "AveragePool",
        {"x": x.shape},
        ceil_mode=ceil_mode,
        count_include_pad=include_pad,
        **attributes,
    )
    expected, _ = pooled(x, "AveragePool", *settings, ceil_mode, include_pad)
    assert_matches(run(backend, graph, x), expected, dtype="float32")


@each_setting
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_gradients(backend, name, kind):
    attributes, _, sizes = arguments(name)
    graph = graph_of(kind, {"x": (2, 3, *sizes)}, ceil_mode=1, **attributes)
    gradcheck(graph.to(backend.device), backend.asarray(normal(2, 3, *sizes)))


def test_the_first_of_equal_maxima_takes_the_gradient(backend):
    graph = graph_of("MaxPool", {"x": (1, 1, 2, 2, 2)}, kernel_shape=[2, 2, 2])
    x = Tensor(backend.asarray(np.float32([0, 0, 1, 0, 1, 1, 0, 1]).reshape(1, 1, 2, 2, 2)), True)
    graph.to(backend.device)(x).sum().backward()
    np.testing.assert_array_equal(backend.to_host(x.grad.data).ravel(), [0, 0, 1, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_auto_pad(backend, kind, automatic):
    x = normal(1, 2, 8, 7, 5, dtype="float32")
    kernel, strides = [3, 2, 4], [2, 3, 1]
    graph = graph_of(kind, {"x": x.shape}, auto_pad=automatic, kernel_shape=kernel, strides=strides)
    # in total: (4 - 1) * 2 + 3 - 8 = 1; (3 - 1) * 3 + 2 - 7 = 1; (5 - 1) * 1 + 4 - 5 = 3
    pads = {
        "SAME_UPPER": [0, 0, 1, 1, 1, 2],
        "SAME_LOWER": [1, 1, 2, 0, 0, 1],
        "VALID": [0] * 6,
    }[automatic]
    expected, _ = pooled(x, kind, kernel, strides, pads, [1, 1, 1])
    assert_matches(run(backend, graph, x), expected, dtype="float32")


def test_auto_pad_ignores_ceil_mode(backend):
    x = normal(1, 1, 6, dtype="float32")
    settings = {"kernel_shape": [3], "strides": [2], "ceil_mode": 1}
    assert run(
        backend, graph_of("MaxPool", {"x": x.shape}, auto_pad="VALID", **settings), x
    ).shape == (1, 1, 2)
    assert run(backend, graph_of("MaxPool", {"x": x.shape}, **settings), x).shape == (1, 1, 3)


def test_windows_that_lie_in_the_padding(backend):
    x, settings = normal(1, 2, 3, dtype="float32"), {"kernel_shape": [2], "pads": [3, 3]}
    expected, _ = pooled(x, "MaxPool", [2], [1], [3, 3], [1])
    assert np.isneginf(expected[0, 0, 0])
    assert_matches(run(backend, graph_of("MaxPool", {"x": x.shape}, **settings), x), expected)
    with_zeros = graph_of("AveragePool", {"x": x.shape}, count_include_pad=1, **settings)
    expected, _ = pooled(x, "AveragePool", [2], [1], [3, 3], [1], include_pad=1)
    assert_matches(run(backend, with_zeros, x), expected)
    for graph in (
        graph_of("AveragePool", {"x": x.shape}, **settings),
        graph_of("MaxPool", {"x": x.shape}, outputs=("y", "i"), **settings),
    ):
        with pytest.raises(XcnnError, match="lies in the padding"):
            run(backend, graph, x)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float64"])
def test_max_pool_of_other_types(backend, dtype):
    low, high = (-1, 1) if dtype == "float64" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    x = np.random.default_rng(0).uniform(low, high, (2, 3, 5, 4)).astype(dtype)
    settings = [2, 3], [1, 2], [1, 1, 0, 1], [1, 1]
    names = ("kernel_shape", "strides", "pads", "dilations")
    graph = graph_of(
        "MaxPool", {"x": x.shape}, outputs=("y", "i"), **dict(zip(names, settings, strict=True))
    )
    y, i = run(backend, graph, x)
    expected, indices = pooled(x, "MaxPool", *settings)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(i, indices)


def test_nan_propagates(backend):
    x = normal(1, 1, 4, 4, dtype="float32")
    x[0, 0, 1, 2] = np.nan
    graph = graph_of(
        "MaxPool", {"x": x.shape}, outputs=("y", "i"), kernel_shape=[2, 2], strides=[2, 2]
    )
    y, i = run(backend, graph, x)
    np.testing.assert_array_equal(np.isnan(y[0, 0]), [[False, True], [False, False]])
    assert i[0, 0, 0, 1] == 6


@pytest.mark.parametrize("kind", ["GlobalMaxPool", "GlobalAveragePool"])
@pytest.mark.parametrize("sizes", [(5,), (4, 3), (2, 3, 4), (2, 1, 3, 2)])
def test_global(backend, kind, sizes):
    x = normal(2, 3, *sizes)
    graph = graph_of(kind, {"x": x.shape}).to(backend.device)
    reduce = np.max if kind == "GlobalMaxPool" else np.mean
    expected = reduce(x, axis=tuple(range(2, x.ndim)), keepdims=True)
    assert_matches(run(backend, graph, x), expected, dtype="float64")
    gradcheck(graph, backend.asarray(x))


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_any_layout_and_an_empty_batch(backend, kind):
    x = normal(3, 2, 4, 5, 6)
    graph = graph_of(kind, {"x": (None,) * 5}, kernel_shape=[2, 3, 2]).to(backend.device)
    expected, _ = pooled(x, kind, [2, 3, 2], [1, 1, 1], [0] * 6, [1, 1, 1])
    for given in layouts(backend, x).values():
        assert_matches(graph(given).numpy(), expected)
    assert graph(backend.asarray(x[:0])).shape == (0, 2, 3, 3, 5)


def test_an_empty_batch_with_indices(backend):
    graph = graph_of("MaxPool", {"x": (None,) * 5}, outputs=("y", "i"), kernel_shape=[2, 3, 2])
    y, i = run(backend, graph, np.zeros((0, 2, 4, 5, 6), "float32"))
    assert y.shape == i.shape == (0, 2, 3, 3, 5)


@pytest.mark.parametrize("opset", [6, 7, 8, 10, 11, 12, 19, 22])
def test_each_operator_set(backend, opset):
    x = normal(1, 2, 5, 5, dtype="float32")
    graph = graph_of(
        "AveragePool", {"x": x.shape}, opset=opset, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
    )
    expected, _ = pooled(x, "AveragePool", [3, 3], [1, 1], [1] * 4, [1, 1])
    assert_matches(run(backend, graph, x), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kernel_shape": [2]},
        {"kernel_shape": [2, 0]},
        {"kernel_shape": [2, 2**20]},
        {"kernel_shape": [6, 2]},
        {"kernel_shape": [2, 2], "strides": [0, 1]},
        {"kernel_shape": [2, 2], "dilations": [1, -1]},
        {"kernel_shape": [2, 2], "pads": [1, 1]},
        {"kernel_shape": [2, 2], "pads": [-1, 0, 0, 0]},
        {"kernel_shape": [2, 2], "pads": [2**40, 0, 0, 0]},
        {"kernel_shape": [2, 2], "pads": [1, 0, 0, 0], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [2, 2], "auto_pad": "SAME"},
        {"kernel_shape": 2},
    ],
)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_settings_that_are_refused(kind, settings):
    with pytest.raises(XcnnError, match=f"a {kind}"):
        graph_of(kind, {"x": (1, 1, 5, 5)}, **settings)(np.zeros((1, 1, 5, 5), "float32"))


def test_inputs_that_are_refused():
    settings = {"kernel_shape": [2, 2]}
    with pytest.raises(XcnnError, match="one to three spatial axes"):
        graph_of("MaxPool", {"x": None}, **settings)(np.zeros((2, 3), "float32"))
    with pytest.raises(XcnnError, match="int8 or uint8"):
        graph_of("MaxPool", {"x": None}, **settings)(np.zeros((1, 1, 2, 2), "int64"))
    with pytest.raises(XcnnError, match="spatial axes"):
        graph_of("GlobalMaxPool", {"x": None})(np.zeros((2, 3), "float32"))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_max_pool_like_pytorch(backend, dimensions):
    torch = pytest.importorskip("torch")
    x = normal(2, 3, *(9, 8, 7)[:dimensions], dtype="float32")
    pool = getattr(torch.nn.functional, f"max_pool{dimensions}d")
    expected, where = pool(torch.from_numpy(x), 3, 2, 1, 1, ceil_mode=True, return_indices=True)
    graph = graph_of(
        "MaxPool",
        {"x": x.shape},
        outputs=("y", "i"),
        kernel_shape=[3] * dimensions,
        strides=[2] * dimensions,
        pads=[1] * 2 * dimensions,
        ceil_mode=1,
    )
    y, i = run(backend, graph, x)
    assert_matches(y, expected.numpy())
    plane = np.arange(6).reshape(2, 3, *(1,) * dimensions) * x[0, 0].size
    np.testing.assert_array_equal(i, where.numpy() + plane)


def test_like_onnxruntime():
    runtime = pytest.importorskip("onnxruntime")
    from onnx import helper

    x = normal(2, 3, 7, 8, 6, dtype="float32")
    for kind, name in itertools.product(["MaxPool", "AveragePool"], ["SAME_UPPER", "SAME_LOWER"]):
        node = helper.make_node(
            kind, ["x"], ["y"], kernel_shape=[3, 2, 4], strides=[2, 3, 1], auto_pad=name
        )
        model = model_of([node], {"x": x.shape}, ["y"], opset=21)
        session = runtime.InferenceSession(_typed(model), providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {"x": x})
        graph = graph_of(
            kind, {"x": x.shape}, kernel_shape=[3, 2, 4], strides=[2, 3, 1], auto_pad=name
        )
        assert_matches(graph(x).numpy(), expected)


def _typed(model):
    model.graph.output[0].type.tensor_type.elem_type = 1
    return model.SerializeToString()

"""Shape, indexing and constant operators, beyond ONNX's own tests."""

import math

import numpy as np
import onnx
import pytest
from onnx import helper

import xcnn
from xcnn import Tensor
from xcnn.errors import FileFormatError, ShapeError, XcnnError
from xcnn.onnx.importer import build
from xcnn.testing import gradcheck

from ..conftest import assert_matches, is_batch_last, layouts, normal
from .models import graph_of, model_of


def ints(*values):
    return np.array(values, "int64")


def kept(shape, start, stop, step):
    """Indices that ONNX's Slice selects, by the specification."""
    start, stop = (v + shape if v < 0 else v for v in (start, stop))
    low, high = (0, shape) if step > 0 else (-1, shape - 1)
    start = min(max(start, 0), high)
    stop = min(max(stop, low), high + (step < 0))
    return list(range(start, stop, step))


# What each computes: operator, its version, shape of x, further inputs, attributes, the result
CASES = {
    "flatten-0": ("Flatten", 21, (2, 3), {}, {"axis": 0}, lambda x: x.reshape(1, 6)),
    "flatten-all": ("Flatten", 9, (2, 3, 4), {}, {"axis": 3}, lambda x: x.reshape(24, 1)),
    "flatten-back": ("Flatten", 13, (2, 3, 4), {}, {"axis": -1}, lambda x: x.reshape(6, 4)),
    "flatten-none": ("Flatten", 21, (0, 3, 4), {}, {}, lambda x: x.reshape(0, 12)),
    "reshape-copy": ("Reshape", 7, (2, 3, 4), {"s": ints(0, -1)}, {}, lambda x: x.reshape(2, 12)),
    "reshape-empty": ("Reshape", 21, (0, 3, 4), {"s": ints(0, -1)}, {}, lambda x: x.reshape(0, 12)),
    "reshape-left": ("Reshape", 21, (2, 3, 4), {"s": ints(-1, 0)}, {}, lambda x: x.reshape(8, 3)),
    "reshape-zero": (
        *("Reshape", 14, (3, 0, 4), {"s": ints(0, 7)}, {"allowzero": 1}),
        lambda x: x.reshape(0, 7),
    ),
    "reshape-number": ("Reshape", 21, (1, 1), {"s": ints()}, {}, lambda x: x.reshape(())),
    "transpose": (
        "Transpose",
        7,
        (2, 3, 4),
        {},
        {"perm": [2, 0, 1]},
        lambda x: np.moveaxis(x, 2, 0),
    ),
    "transpose-default": ("Transpose", 21, (2, 3, 4), {}, {}, lambda x: x.T),
    "squeeze-11": ("Squeeze", 11, (1, 2, 1), {}, {"axes": [-1]}, lambda x: x[..., 0]),
    "squeeze-13": ("Squeeze", 13, (1, 2, 1), {"a": ints(0, 2)}, {}, lambda x: x[0, :, 0]),
    "squeeze-all": ("Squeeze", 21, (1, 2, 1), {}, {}, lambda x: x[0, :, 0]),
    "squeeze-no": ("Squeeze", 21, (1, 2, 1), {"a": ints()}, {}, lambda x: x),
    "unsqueeze-7": ("Unsqueeze", 7, (2, 3), {}, {"axes": [0, 3]}, lambda x: x[None, ..., None]),
    "unsqueeze-13": (
        "Unsqueeze",
        13,
        (2, 3),
        {"a": ints(-1, 1)},
        {},
        lambda x: x[:, None, :, None],
    ),
    "expand": (
        "Expand",
        8,
        (3, 1),
        {"s": ints(2, 1, 4)},
        {},
        lambda x: x[None].repeat(2, 0).repeat(4, 2),
    ),
    "expand-less": ("Expand", 21, (2, 3), {"s": ints(1)}, {}, lambda x: x),
    "expand-none": ("Expand", 21, (1, 3), {"s": ints(0, 1)}, {}, lambda x: x[:0]),
    "split-7": ("Split", 7, (5, 2), {}, {"split": [2, 3]}, lambda x: x[2:]),
    "split-11": ("Split", 11, (2, 4), {}, {"axis": -1}, lambda x: x[:, 2:]),
    "split-13": ("Split", 13, (5, 2), {"s": ints(5, 0)}, {}, lambda x: x[5:]),
    "split-18": ("Split", 18, (5, 2), {}, {"num_outputs": 2}, lambda x: x[3:]),
    "slice-7": (
        *("Slice", 7, (4, 5), {}, {"starts": [1, -9], "ends": [99, -1]}),
        lambda x: x[1:, :-1],
    ),
    "slice-axes": (
        *("Slice", 9, (4, 5), {}, {"starts": [2], "ends": [4], "axes": [-1]}),
        lambda x: x[:, 2:4],
    ),
    "slice-empty": ("Slice", 11, (4,), {"s": ints(3), "e": ints(1)}, {}, lambda x: x[:0]),
    "slice-far": (
        *("Slice", 11, (4,), {"s": ints(-(2**63)), "e": ints(2**63 - 1)}, {}),
        lambda x: x,
    ),
    "constant-pad-7": (
        *("Pad", 7, (2, 3), {}, {"pads": [0, 1, 2, 0], "value": 1.5}),
        lambda x: np.pad(x, ((0, 2), (1, 0)), constant_values=1.5),
    ),
    "crop": ("Pad", 11, (4, 3), {"p": ints(-1, 0, -2, -3)}, {}, lambda x: x[1:2, :0]),
    "crop-and-pad": (
        *("Pad", 13, (4, 3), {"p": ints(-1, 2, 1, -1)}, {"mode": "edge"}),
        lambda x: np.pad(x[1:, :2], ((0, 1), (2, 0)), mode="edge"),
    ),
    "reflect-pad-7": (
        *("Pad", 7, (2, 3, 4), {}, {"pads": [1, 2, 3, 0, 1, 0], "mode": "reflect"}),
        lambda x: np.pad(x, ((1, 0), (2, 1), (3, 0)), mode="reflect"),
    ),
    "wrap-pad": (
        *("Pad", 19, (5,), {"p": ints(2, 5)}, {"mode": "wrap"}),
        lambda x: np.pad(x, (2, 5), mode="wrap"),
    ),
    "pad-5-axes": (
        *("Pad", 21, (2, 1, 2, 2, 3), {"p": ints(0, 0, 1, 0, 2, 0, 0, 1, 3, 0)}, {}),
        lambda x: np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 3), (2, 0))),
    ),
    "pad-number": ("Pad", 21, (), {"p": ints()}, {}, lambda x: x),
    "gather": ("Gather", 7, (3, 4), {"i": ints(2, 0)}, {}, lambda x: x[[2, 0]]),
    "gather-repeats": (
        *("Gather", 13, (2, 4, 3), {"i": ints(1, -3, 0, 1, 1, 0)}, {"axis": 1}),
        lambda x: x[:, [1, 1, 0, 1, 1, 0]],
    ),
    "gather-matrix": (
        *("Gather", 11, (2, 4, 3), {"i": ints(0, -1, 2, 0).reshape(2, 2)}, {"axis": -1}),
        lambda x: x[:, :, [[0, 2], [2, 0]]],
    ),
    "gather-one": ("Gather", 11, (2, 3), {"i": np.int64(-1)}, {"axis": 1}, lambda x: x[:, 2]),
    "gather-none": ("Gather", 11, (0, 3), {"i": ints()}, {"axis": 1}, lambda x: x[:, :0]),
    "gather-int32": ("Gather", 11, (4,), {"i": np.array([3], "int32")}, {}, lambda x: x[3:]),
    "depth-to-space-7": (
        *("DepthToSpace", 7, (2, 8, 1, 3), {}, {"blocksize": 2}),
        lambda x: x.reshape(2, 2, 2, 2, 1, 3).transpose(0, 3, 4, 1, 5, 2).reshape(2, 2, 2, 6),
    ),
    "space-to-depth-7": (
        *("SpaceToDepth", 7, (1, 2, 4, 6), {}, {"blocksize": 2}),
        lambda x: np.concatenate([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),
    ),
    "depth-to-space-none": (
        *("DepthToSpace", 11, (0, 4, 2, 3), {}, {"blocksize": 2, "mode": "CRD"}),
        lambda x: x.reshape(0, 1, 4, 6),
    ),
    "identity": ("Identity", 7, (2, 3), {}, {}, lambda x: x),
    "cast": ("Cast", 9, (2, 3), {}, {"to": 11}, lambda x: x),
}
cases = pytest.mark.parametrize(
    ("kind", "opset", "shape", "weights", "attributes", "expected"), CASES.values(), ids=CASES
)


def graph_for(kind, opset, shape, weights, attributes):
    outputs = ("first", "y") if kind == "Split" else ("y",)
    graph = graph_of(kind, {"x": shape}, weights, opset, outputs, **attributes)
    graph.output_names = ["y"]
    return graph


@cases
def test_value(backend, kind, opset, shape, weights, attributes, expected):
    x = np.asarray(normal(*shape))
    y = graph_for(kind, opset, shape, weights, attributes).to(backend)(backend.asarray(x))
    assert y.device == backend.device
    assert_matches(y, expected(x))


@cases
def test_value_in_batch_last_memory(backend, kind, opset, shape, weights, attributes, expected):
    x = normal(*shape)
    if x.ndim:
        graph = graph_for(kind, opset, shape, weights, attributes).to(backend)
        assert_matches(graph(layouts(backend, x)["batch-last"]), expected(x))


@cases
def test_gradient(backend, kind, opset, shape, weights, attributes, expected):
    graph = graph_for(kind, opset, shape, weights, attributes).to(backend)
    if shape:
        assert gradcheck(graph, backend.asarray(normal(*shape))) < 1e-6


@cases
@pytest.mark.parametrize("dtype", ["int32", "bool", "float32"])
def test_other_dtypes(backend, kind, opset, shape, weights, attributes, expected, dtype):
    """Any dtype, as no arithmetic is involved."""
    if "value" in attributes:
        return  # of the operators of then, which are for floats
    x = (np.arange(math.prod(shape)).reshape(shape) % 3).astype(dtype)
    y = graph_for(kind, opset, shape, weights, attributes).to(backend)(backend.asarray(x))
    assert y.dtype == ("float64" if kind == "Cast" else dtype)
    assert (y.numpy() == expected(x)).all()


# onnxruntime refuses the first two, and takes an empty list of axes for none
OTHERWISE = {"reshape-empty", "pad-number", "squeeze-no"}


@pytest.mark.parametrize("name", [n for n in CASES if n not in OTHERWISE])
def test_as_onnxruntime(name):
    """The expected values agree with onnxruntime."""
    ort = pytest.importorskip("onnxruntime")
    kind, opset, shape, weights, attributes, expected = CASES[name]
    outputs = ("first", "y") if kind == "Split" else ("y",)
    node = helper.make_node(kind, ["x", *weights], outputs, **attributes)
    model = model_of([node], {"x": shape}, [], weights, opset)
    element = onnx.TensorProto.DOUBLE if kind == "Cast" else onnx.TensorProto.FLOAT
    model.graph.output.append(helper.make_tensor_value_info("y", element, None))
    session = ort.InferenceSession(model.SerializeToString())
    x = np.asarray(normal(*shape, dtype="float32"))
    np.testing.assert_array_equal(session.run(["y"], {"x": x})[0], expected(x))


@pytest.mark.parametrize("start", [-9, -4, -3, -1, 0, 1, 3, 4, 9])
@pytest.mark.parametrize("stop", [-9, -4, -3, -1, 0, 1, 3, 4, 9])
@pytest.mark.parametrize("length", [0, 4])
def test_slice(backend, start, stop, length):
    for step in (1, 2, -1, -3):
        weights = {"s": ints(start), "e": ints(stop), "a": ints(-1), "t": ints(step)}
        graph = graph_of("Slice", {"x": (2, length)}, weights).to(backend)
        x = normal(2, length)
        places = kept(length, start, stop, step) if length else []
        assert_matches(graph(backend.asarray(x)), x[:, places])


def test_depth_and_space_are_inverse(backend):
    x = normal(2, 3, 4, 6)
    for mode in ("DCR", "CRD"):
        there = graph_of("SpaceToDepth", {"x": (2, 3, 4, 6)}, opset=28, blocksize=2, mode=mode)
        back = graph_of("DepthToSpace", {"x": (2, 12, 2, 3)}, opset=28, blocksize=2, mode=mode)
        y = back(there(backend.asarray(x)))
        assert_matches(y, x)
        assert is_batch_last(y.data)


def test_pad_of_some_axes(backend):
    node = helper.make_node("Pad", ["x", "p", "", "a"], ["y"])
    model = model_of([node], {"x": (2, 3)}, ["y"], {"p": ints(1, 2), "a": ints(-1)})
    y = build(model).to(backend)(backend.asarray(normal(2, 3)))
    assert_matches(y, np.pad(normal(2, 3), ((0, 0), (1, 2))))


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_pad_with_a_value(backend, dtype):
    weights = {"p": ints(1, 0), "v": np.array(1, dtype)}
    graph = graph_of("Pad", {"x": (2,)}, weights).to(backend)
    y = graph(backend.asarray(np.zeros(2, dtype)))
    assert y.dtype == dtype
    assert y.numpy().tolist() == [1, 0, 0]


def test_large_ints_are_padded_exactly(backend):
    large = 2**53 + 1
    graph = graph_of("Pad", {"x": (1,)}, {"p": ints(1, 0), "v": np.int64(large)}).to(backend)
    assert graph(backend.asarray(ints(0))).numpy().tolist() == [large, 0]


# -- concat --------------------------------------------------------------------------------


def test_concat_of_input_and_weight(backend):
    weight = normal(2, 2, dtype="float32")
    graph = graph_of("Concat", {"x": (2, 3)}, {"w": weight}, 6, axis=-1).to(backend)
    x = backend.asarray(normal(2, 3, seed=1, dtype="float32"))
    y = graph(x)
    assert_matches(y, np.hstack([normal(2, 3, seed=1, dtype="float32"), weight]), "float32")
    y.sum().backward()
    assert_matches(graph.state_dict()["w"], weight)
    assert_matches(next(iter(graph.parameters())).grad, np.ones((2, 2)))


# -- gather --------------------------------------------------------------------------------


def test_gather_keeps_batch_last_memory(backend):
    x = layouts(backend, normal(2, 3, 4))["batch-last"]
    gather = graph_of("Gather", {"x": (2, 3, 4)}, {"i": ints(2, 0, 2)}, axis=1)
    y, pullback = xcnn.vjp(gather, x)
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


def test_gather_adds_up_what_is_taken_often(backend):
    indices = np.random.default_rng(0).integers(0, 5, 200)
    x = backend.asarray(normal(5, 3))
    pullback = xcnn.vjp(graph_of("Gather", {"x": (5, 3)}, {"i": indices}), x)[1]
    dy = normal(200, 3, seed=1)
    expected = np.zeros((5, 3))
    for place, slope in zip(indices, dy, strict=True):
        expected[place] += slope
    first, second = (backend.to_host(pullback(backend.asarray(dy))[0]) for _ in range(2))
    assert_matches(first, expected)
    assert first.tobytes() == second.tobytes()


def test_gather_of_indices_that_are_computed(backend):
    """Computed indices are moved to the host."""
    node = helper.make_node("Gather", ["x", "i"], ["y"])
    graph = build(model_of([node], {"x": (3, 2), "i": (2,)}, ["y"])).to(backend)
    y = graph(backend.asarray(normal(3, 2)), backend.asarray(ints(2, 0)))
    assert_matches(y, normal(3, 2)[[2, 0]])


# -- values on the host --------------------------------------------------------------------


def test_shapes_never_visit_the_device(strict):
    """reshape(x, [*x.shape[:2], -1]), as exporters write it."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], end=2),
        helper.make_node("Concat", ["shape", "rest"], ["wanted"], axis=0),
        helper.make_node("Cast", ["wanted"], ["as_int"], to=7),
        helper.make_node("Reshape", ["x", "as_int"], ["y"]),
    ]
    model = model_of(nodes, {"x": ("n", 3, 4, 5)}, ["y"], {"rest": ints(-1)})
    graph = build(model).to(strict)
    from ..strict import count_syncs

    with count_syncs() as syncs:
        y = graph(strict.asarray(normal(2, 3, 4, 5)))
    assert syncs == []
    assert_matches(y, normal(2, 3, 4, 5).reshape(2, 3, 20))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [2, 3, 4]),
        ({"start": -1}, [4]),
        ({"end": -1}, [2, 3]),
        ({"start": 1, "end": 2}, [3]),
        ({"start": -9, "end": 9}, [2, 3, 4]),
        ({"start": 2, "end": 1}, []),
    ],
    ids=str,
)
def test_shape(backend, settings, expected):
    y = graph_of("Shape", {"x": (2, 3, 4)}, **settings).to(backend)(backend.xp.ones((2, 3, 4)))
    assert y.dtype == "int64"
    assert y.numpy().tolist() == expected


def test_size(backend):
    y = graph_of("Size", {"x": (2, 3)}).to(backend)(backend.xp.ones((2, 3)))
    assert (y.dtype, y.shape, y.item()) == (np.int64, (), 6)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_constant_of_shape(backend, dtype):
    value = onnx.numpy_helper.from_array(np.ones(1, dtype))
    graph = graph_of("ConstantOfShape", {}, {"s": ints(2, 0, 3)}, 9, value=value).to(backend)
    y = graph()
    assert (y.dtype, y.shape) == (dtype, (2, 0, 3))
    y = graph_of("ConstantOfShape", {}, {"s": ints(2)}, 9)()
    assert (y.dtype, y.numpy().tolist()) == (np.float32, [0, 0])
    assert graph_of("ConstantOfShape", {}, {"s": ints()}, 9)().shape == ()


# -- cast ----------------------------------------------------------------------------------

DTYPES = ["float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "bool"]
DTYPES += ["float16", "float64", "uint32", "uint64"]


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("source", ["float32", "int32", "bool", "float16"])
def test_cast(backend, source, target):
    number = helper.np_dtype_to_tensor_dtype(np.dtype(target))
    x = np.array([0, 1, 2.75, 100.5]).astype(source)
    y = graph_of("Cast", {"x": (4,)}, opset=13, to=number).to(backend)(backend.asarray(x))
    assert y.dtype == target
    values = [float(v) for v in x]  # towards zero, and bool is whether it is not 0
    if target == "bool":
        values = [v != 0 for v in values]
    elif not target.startswith("float"):
        values = [math.trunc(v) for v in values]
    assert y.numpy().tolist() == values


def test_cast_of_floats_has_a_gradient(backend):
    graph = graph_of("Cast", {"x": (2,)}, to=1).to(backend)
    x = Tensor(backend.asarray(normal(2)), requires_grad=True)
    graph(x).sum().backward()
    assert x.grad.dtype == np.float64
    assert_matches(x.grad, [1, 1])


# -- what cannot be ------------------------------------------------------------------------

HUGE = 2**60
WRONG = {
    "flatten": ("Flatten", (2, 3), {}, {"axis": 3}, "axis 3"),
    "two-unknown": ("Reshape", (2, 3), {"s": ints(-1, -1)}, {}, "at most one -1"),
    "negative": ("Reshape", (2, 3), {"s": ints(-2, 3)}, {}, "non-negative lengths"),
    "copy-of-none": ("Reshape", (2, 3), {"s": ints(2, 3, 0)}, {}, "index 2 is 0"),
    "does-not-fit": ("Reshape", (2, 3), {"s": ints(4, -1)}, {}, "does not fit"),
    "empty-unknown": (
        "Reshape",
        (2, 3),
        {"s": ints(0, -1)},
        {"allowzero": 1},
        "non-negative lengths",
    ),
    "huge": ("Reshape", (2, 3), {"s": ints(HUGE, HUGE, HUGE)}, {}, "more than the limit"),
    "perm": ("Transpose", (2, 3), {}, {"perm": [0, 0]}, "each axis once"),
    "squeeze-long": ("Squeeze", (2, 1), {"a": ints(0)}, {}, "of length 1"),
    "squeeze-axis": ("Squeeze", (2, 1), {"a": ints(2)}, {}, "axis 2"),
    "squeeze-twice": ("Squeeze", (1, 1), {"a": ints(0, -2)}, {}, "repeated"),
    "unsqueeze-twice": ("Unsqueeze", (2,), {"a": ints(0, 0)}, {}, "repeated"),
    "unsqueeze-axis": ("Unsqueeze", (2,), {"a": ints(2)}, {}, "axis 2"),
    "unsqueeze-none": ("Unsqueeze", (2,), {}, {}, "not in range"),
    "unsqueeze-many": ("Unsqueeze", (2,), {"a": np.arange(99)}, {}, "a Unsqueeze"),
    "expand": ("Expand", (2, 3), {"s": ints(2, 2)}, {}, "a Expand"),
    "expand-huge": ("Expand", (1,), {"s": ints(HUGE)}, {}, "more than the limit"),
    "expand-negative": ("Expand", (1,), {"s": ints(-1)}, {}, "a Expand"),
    "concat": ("Concat", (2, 3), {"w": np.ones((3, 2), "f4")}, {"axis": 0}, "differ"),
    "concat-axis": ("Concat", (2,), {}, {}, "axis. is missing"),
    "split-sum": ("Split", (5,), {"s": ints(2, 2)}, {}, "sum to 5"),
    "split-negative": ("Split", (5,), {"s": ints(6, -1)}, {}, "sum to 5"),
    "split-uneven": ("Split", (5,), {}, {}, "length 5 does not divide into 2 equal parts"),
    "split-count": ("Split", (4,), {}, {"num_outputs": 10**12}, "has 2 outputs"),
    "split-few": ("Split", (5,), {"s": ints(5)}, {}, "2 outputs"),
    "slice-step": (
        *("Slice", (4,), {"s": ints(0), "e": ints(1), "a": ints(0), "t": ints(0)}, {}),
        "no step of 0",
    ),
    "slice-lengths": ("Slice", (4,), {"s": ints(0, 1), "e": ints(1, 2)}, {}, "axis 1"),
    "slice-ends": ("Slice", (4, 4), {"s": ints(0), "e": ints(1, 2)}, {}, "the same number of each"),
    "slice-nothing": ("Slice", (4,), {}, {}, "not in range"),
    "pad-count": ("Pad", (2, 3), {"p": ints(1, 1)}, {}, "for each of 2 axes"),
    "pad-huge": ("Pad", (2,), {"p": ints(HUGE, 0)}, {}, "more than the limit"),
    "pad-mode": ("Pad", (2,), {"p": ints(1, 0)}, {"mode": "mirror"}, "mode='mirror'"),
    "pad-reflect": ("Pad", (2,), {"p": ints(2, 0)}, {"mode": "reflect"}, "at most 1"),
    "pad-crop": ("Pad", (2,), {"p": ints(-2, -1)}, {}, "remove more"),
    "gather": ("Gather", (2, 3), {"i": ints(0, 2)}, {}, "from -2 to 1"),
    "gather-float": ("Gather", (2, 3), {"i": np.ones(1, "f4")}, {}, "expected ints"),
    "gather-axis": ("Gather", (2, 3), {"i": ints(0)}, {"axis": 2}, "axis 2"),
    "gather-huge": (
        *("Gather", (1,), {"i": np.broadcast_to(ints(0), (1000,))}, {}),
        "more than the limit",
    ),
    "blocks": ("DepthToSpace", (1, 6, 2, 2), {}, {"blocksize": 2}, "multiple of blocksize"),
    "block-0": ("SpaceToDepth", (1, 6, 2, 2), {}, {"blocksize": 0}, "blocksize=0"),
    "block-of-signal": ("SpaceToDepth", (1, 6, 2), {}, {"blocksize": 2}, "four axes"),
    "block-mode": (
        *("DepthToSpace", (1, 4, 2, 2), {}, {"blocksize": 2, "mode": "RGB"}),
        "mode='RGB'",
    ),
    "block-size": ("SpaceToDepth", (1, 1, 3, 2), {}, {"blocksize": 2}, "multiples of blocksize"),
    "cast": ("Cast", (2,), {}, {"to": 16}, "expected the number of one of float32"),
    "cast-to-what": ("Cast", (2,), {}, {}, "to. is missing"),
    "attribute": ("Flatten", (2,), {}, {"axis": 1.0}, "Expected: .INT"),
}


@pytest.mark.parametrize(
    ("kind", "shape", "weights", "settings", "text"), WRONG.values(), ids=WRONG
)
def test_invalid_nodes(backend, kind, shape, weights, settings, text):
    """An error that names the node, before allocation."""
    outputs = ("first", "y") if kind == "Split" else ("y",)

    def run():
        graph = graph_of(kind, {"x": shape}, weights, 21, outputs, **settings).to(backend)
        for node in graph.modules():
            node.limit = 4000
        graph(backend.xp.ones(shape, "float64"))

    with pytest.raises((FileFormatError, ShapeError), match=text) as caught:
        run()
    assert f"a {kind}" in str(caught.value)


@pytest.mark.parametrize("shape", [[HUGE], [2**31, 2**31], [-1]], ids=str)
def test_constants_of_invalid_shape(shape):
    graph = graph_of("ConstantOfShape", {}, {"s": ints(*shape)}, 9)
    with pytest.raises(XcnnError, match=r"a ConstantOfShape.*an output of shape"):
        graph()

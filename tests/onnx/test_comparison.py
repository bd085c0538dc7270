"""Comparisons, choices, remainders, extremes and ranges of ONNX, against NumPy and PyTorch."""

import numpy as np
import pytest

import xcnn
from xcnn.errors import XcnnError
from xcnn.onnx.importer import build
from xcnn.onnx.importer.node import NodeError
from xcnn.testing import gradcheck

from ..conftest import assert_matches, normal
from ..strict import count_syncs
from .models import assert_same, graph_of, model_of, node_on, run, shapes_of

onnx = pytest.importorskip("onnx")
HOST = xcnn.backends.get("cpu")
COMPARISONS = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
LOGIC = {"And": np.logical_and, "Or": np.logical_or}
SHAPES = [((3, 4), (3, 4)), ((2, 1, 4), (3, 1)), ((), (3, 2)), ((0, 3), (3,))]


def few(*shape, dtype="int64", seed=0):
    """Numbers with many ties."""
    return np.asarray(np.random.default_rng(seed).integers(0, 3, shape)).astype(dtype)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8"])
@pytest.mark.parametrize("kind", COMPARISONS)
def test_comparisons(backend, kind, dtype, shapes):
    a, b = (few(*s, dtype=dtype, seed=i) for i, s in enumerate(shapes))
    assert_same(node_on(kind, backend, a, b), COMPARISONS[kind](a, b), "bool")


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["And", "Or", "Equal"])
def test_of_booleans(backend, kind, shapes):
    a, b = (few(*s, seed=i) > 0 for i, s in enumerate(shapes))
    assert_same(node_on(kind, backend, a, b), {**LOGIC, **COMPARISONS}[kind](a, b), "bool")


def test_not(backend):
    x = few(3, 4).T > 0
    assert_same(node_on("Not", backend, x), ~x, "bool")


def test_comparisons_with_nan(backend):
    a, b = np.array([np.nan, np.nan, 1.0]), np.array([np.nan, 1.0, np.nan])
    for kind in COMPARISONS:
        assert not node_on(kind, backend, a, b).any()


def test_the_broadcasting_of_old(backend):
    a, b = few(2, 3, 4), few(3, seed=1)
    y = node_on("Less", backend, a, b, opset=6, broadcast=1, axis=1)
    assert_same(y, a < b.reshape(3, 1), "bool")
    with pytest.raises(XcnnError, match=r"a Less.*must broadcast"):
        node_on("Less", backend, a, b, opset=6)


@pytest.mark.parametrize(
    ("kind", "arrays", "text"),
    [
        ("Less", (normal(3), normal(3, dtype="float32")), "float64 and float32"),
        ("Equal", (few(3), few(3, dtype="int32")), "int64 and int32"),
        ("And", (few(3) > 0, few(4) > 0), "a And"),
        ("Mod", (few(3), few(3, dtype="int32")), "int64 and int32"),
        ("Where", (few(3) > 0, normal(3), normal(4)), "a Where"),
        (
            "Where",
            (few(3) > 0, normal(3), normal(3, dtype="float32")),
            "input is float64, other is float",
        ),
    ],
)
def test_inputs_that_do_not_fit(backend, kind, arrays, text):
    with pytest.raises(XcnnError, match=text):
        node_on(kind, backend, *arrays)


@pytest.mark.parametrize("kind", ["And", "Or", "Not"])
def test_what_is_not_boolean(backend, kind):
    numbers = [few(3)] * (1 if kind == "Not" else 2)
    with pytest.raises(XcnnError, match=f"a {kind}"):
        node_on(kind, backend, *numbers)


def test_an_output_that_is_far_too_large(backend):
    column, row = np.zeros((2**18, 1), "float32"), np.zeros((1, 2**18), "float32")
    for kind in ("Less", "Equal", "Mod"):
        with pytest.raises(XcnnError, match=rf"a {kind}.*limit"):
            node_on(kind, backend, column, row)
    with pytest.raises(XcnnError, match=r"a Where.*limit"):
        node_on("Where", backend, column > 0, column, row)


# -- choices -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_where(backend, dtype):
    condition, a, b = few(3, 1) > 0, few(2, 1, 4, dtype=dtype), few(3, 4, dtype=dtype, seed=1)
    expected = np.where(condition, a, b)
    assert_same(node_on("Where", backend, condition, a, b), expected, dtype)


def test_where_of_an_empty_batch(backend):
    y = node_on("Where", backend, np.ones((0, 3), bool), normal(0, 3), normal(3))
    assert y.shape == (0, 3)


def test_the_gradient_of_where(backend):
    condition = few(3, 4) > 0
    inputs, types = shapes_of(condition, normal(3, 4), normal(2, 1, 4))
    graph = graph_of("Where", inputs, types=types).to(backend)
    moved = [backend.asarray(v) for v in (condition, normal(3, 4), normal(2, 1, 4))]
    assert gradcheck(graph, *moved) < 1e-6


# -- remainders ----------------------------------------------------------------------------


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_mod_of_integers(backend, dtype, fmod):
    low = 0 if dtype[0] == "u" else -7
    pairs = [(a, b) for a in range(low, 8) for b in range(low // 2, 4) if b]
    a, b = np.array(pairs).T.astype(dtype)
    signs = [int(np.sign(n)) for n, _ in pairs] if fmod else [1] * len(pairs)
    expected = [s * (abs(n) % abs(d)) if fmod else n % d for s, (n, d) in zip(signs, pairs)]  # noqa: B905
    assert_same(node_on("Mod", backend, a, b, fmod=fmod), expected, dtype)


@pytest.mark.parametrize("fmod", [0, 1])
def test_mod_of_floats(backend, fmod):
    a, b = 5 * normal(3, 4), np.array([[0.7], [-1.3], [2.1]])
    inputs, types = shapes_of(a, b)
    graph = graph_of("Mod", inputs, types=types, fmod=fmod).to(backend)
    expected = np.array(
        [
            [x - y * (np.trunc(x / y) if fmod else np.floor(x / y)) for x in row]
            for row, (y,) in zip(a, b, strict=True)
        ]
    )
    assert_matches(run(graph, backend, a, b), expected, "float64", factor=10)
    assert gradcheck(graph, backend.asarray(a), backend.asarray(b)) < 1e-6


def test_mod_by_zero():
    """An error on the CPU, where checking is free."""
    with pytest.raises(XcnnError, match=r"a Mod.*an integer is divided by 0"):
        node_on("Mod", HOST, np.array([1, 2]), np.array([1, 0]))


# -- extremes ------------------------------------------------------------------------------

EXTREMES = {"ReduceMax": np.max, "ReduceMin": np.min}
each_extreme = pytest.mark.parametrize("kind", EXTREMES)


@each_extreme
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [None, [0], [-1, 1], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("opset", [11, 17, 18])
def test_extremes(backend, kind, keepdims, axes, opset):
    x = normal(3, 4, 2)
    settings = {"opset": opset, "keepdims": keepdims}
    weights = {}
    if axes and opset < 18:
        settings["axes"] = axes
    elif axes:
        weights = {"axes": np.array(axes)}
    inputs, types = shapes_of(x)
    graph = graph_of(kind, inputs, weights, types=types, **settings).to(backend)
    axis = None if axes is None else tuple(axes)
    expected = EXTREMES[kind](x, axis=axis, keepdims=bool(keepdims))
    assert_matches(run(graph, backend, x), expected, "float64")
    assert gradcheck(graph, backend.asarray(x)) < 1e-6


@each_extreme
def test_extremes_of_no_axes(backend, kind):
    x = normal(2, 3)
    inputs, types = shapes_of(x)
    weights = {"axes": np.array([], "int64")}
    graph = graph_of(kind, inputs, weights, types=types, noop_with_empty_axes=1)
    assert_matches(run(graph, backend, x), x)


@each_extreme
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "float32"])
def test_extremes_of_other_types_and_of_none(backend, kind, dtype):
    x = few(3, 4, dtype=dtype)
    axes = {"axes": np.array([1])}
    for values in (x, x[:0]):
        inputs, types = shapes_of(values)
        y = run(graph_of(kind, inputs, axes, 20, types=types), backend, values)
        assert_same(y, EXTREMES[kind](values, axis=1, keepdims=True), dtype)
    inputs, types = shapes_of(x[:, :0])
    y = run(graph_of(kind, inputs, axes, 20, types=types), backend, x[:, :0])
    if dtype == "bool":
        first = kind == "ReduceMin"
    else:
        limits = (-np.inf, np.inf) if dtype == "float32" else _limits(dtype)
        first = limits[kind == "ReduceMin"]
    assert_same(y, np.full((3, 1), first, dtype), dtype)


def _limits(dtype):
    return np.iinfo(dtype).min, np.iinfo(dtype).max


@each_extreme
def test_equal_numbers_share_the_gradient(backend, kind):
    torch = pytest.importorskip("torch")
    x = few(4, 6).astype("float64")
    graph = graph_of(kind, {"a": x.shape}, {"axes": np.array([1])}, types={"a": "float64"})
    tensor = xcnn.Tensor(backend.asarray(x), requires_grad=True)
    (graph.to(backend)(tensor) * backend.asarray(normal(4, 1))).sum().backward()
    peer = torch.tensor(x, requires_grad=True)
    y = (torch.amax if kind == "ReduceMax" else torch.amin)(peer, 1, keepdim=True)
    (y * torch.tensor(normal(4, 1))).sum().backward()
    assert_matches(backend.to_host(tensor.grad.data), peer.grad.numpy())


# -- whole numbers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Ceil", [-1, 0, 1, 2, 3, 3]),
        ("Floor", [-2, -1, 0, 1, 2, 3]),
        ("Round", [-2, 0, 0, 2, 2, 3]),
        ("Sign", [-1, -1, 1, 1, 1, 1]),
    ],
)
def test_steps(backend, kind, expected):
    x = np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 3], "float32")
    assert_same(node_on(kind, backend, x), expected, "float32")
    if kind != "Sign":
        with pytest.raises(XcnnError, match=f"a {kind}.*int64"):
            node_on(kind, backend, few(3))


def test_sign_of_integers(backend):
    assert_same(node_on("Sign", backend, np.array([-3, 0, 5])), [-1, 0, 1], "int64")


@pytest.mark.parametrize(
    ("start", "limit", "delta"),
    [(0, 5, 1), (3, 9, 3), (10, 4, -2), (1, 6, 2), (5, 5, 1), (5, 1, 1), (1.0, 2.0, 0.3)],
    ids=str,
)
def test_range(backend, start, limit, delta):
    dtype = "float32" if isinstance(delta, float) else "int64"
    y = node_on("Range", backend, *(np.array(v, dtype) for v in (start, limit, delta)))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, np.arange(start, limit, delta), rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0, 5, 0), "delta not 0"),
        ((0.0, np.inf, 1.0), "finite"),
        ((0.0, np.nan, 1.0), "finite"),
        ((0.0, 1e308, 1e-308), "a Range"),
        ((0, 2**40, 1), "limit of"),
        ((-(2**63), 2**63 - 1, 1), "limit of"),
    ],
    ids=str,
)
def test_ranges_that_are_refused(values, text):
    with pytest.raises(NodeError, match=text):
        node_on("Range", HOST, *(np.array(v) for v in values))
    with pytest.raises(NodeError, match="the same type"):
        node_on("Range", HOST, np.array(0), np.array(5.0), np.array(1))


def test_what_is_on_the_host_stays_there(strict):
    """Comparing shapes does not visit the device."""
    make = onnx.helper.make_node
    nodes = [
        make("Shape", ["x"], ["s"]),
        make("Equal", ["s", "three"], ["is"]),
        make("Where", ["is", "minus", "s"], ["wanted"]),
        make("Mod", ["wanted", "large"], ["again"], fmod=1),
        make("Reshape", ["x", "again"], ["y"]),
    ]
    weights = {"three": np.array(3), "minus": np.array(-1), "large": np.array(10**6)}
    graph = build(model_of(nodes, {"x": [2, 3]}, ["y"], weights)).to(strict)
    x = strict.asarray(normal(2, 3, dtype="float32"))
    with count_syncs() as syncs:
        y = graph(x)
    assert y.shape == (2, 3)
    assert not syncs


# -- parts by several indices --------------------------------------------------------------


def gathered(x, indices, batch):
    """Element by element."""
    outer = indices.shape[:-1]
    rest = x.shape[batch + indices.shape[-1] :]
    y = np.empty((*outer, *rest), x.dtype)
    for place in np.ndindex(*outer):
        y[place] = x[(*place[:batch], *indices[place])]
    return y


@pytest.mark.parametrize(
    ("shape", "outer", "depth", "batch"),
    [
        ((3, 4), (5,), 2, 0),
        ((3, 4, 2), (5, 2), 1, 0),
        ((3, 4, 2, 2), (7,), 2, 0),
        ((3, 4, 2), (3, 5), 1, 1),
        ((2, 3, 4, 2), (2, 3, 2), 2, 2),
        ((2, 3, 4), (2, 1, 2), 2, 1),
    ],
    ids=str,
)
def test_gather_nd(backend, shape, outer, depth, batch):
    x, random = normal(*shape), np.random.default_rng(1)
    lengths = shape[batch : batch + depth]
    indices = np.stack([random.integers(-n, n, outer) for n in lengths], -1)
    graph = graph_of(
        "GatherND", {"a": shape}, {"i": indices}, types={"a": "float64"}, batch_dims=batch
    ).to(backend)
    assert_matches(run(graph, backend, x), gathered(x, indices, batch))
    assert gradcheck(graph, backend.asarray(x)) < 1e-6


@pytest.mark.parametrize(
    ("shape", "indices", "batch", "text"),
    [
        ((3, 4), np.array([[3, 0]]), 0, "expected ints from"),
        ((3, 4), np.array([[0, -5]]), 0, "expected ints from"),
        ((3, 4), np.array([[0, 0, 0]]), 0, "do not fit"),
        ((3, 4), np.array(0), 0, "do not fit"),
        ((3, 4), np.array([[0]]), 1, "do not fit"),
        ((3, 4), np.array([[0]]), -1, "do not fit"),
        ((3, 4), np.array([[0.5, 1]]), 0, "expected ints"),
        ((3, 4), np.zeros((1, 0), "int64"), 0, "do not fit"),
    ],
    ids=str,
)
def test_indices_that_do_not_fit(shape, indices, batch, text):
    with pytest.raises(XcnnError, match=rf"a GatherND.*{text}"):
        run(
            graph_of("GatherND", {"a": shape}, {"i": indices}, batch_dims=batch),
            HOST,
            normal(*shape, dtype="float32"),
        )

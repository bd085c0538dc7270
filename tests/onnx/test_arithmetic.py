"""Arithmetic, matrix products, sums and means of ONNX, against NumPy and PyTorch."""

import math

import numpy as np
import pytest

import xcnn
from xcnn import Tensor
from xcnn.errors import XcnnError
from xcnn.testing import gradcheck

from ..conftest import assert_matches, normal
from .models import assert_same, graph_of, node_on, run, shapes_of

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def integers(*shape, dtype="int64", low=None, seed=0):
    low = (0 if np.dtype(dtype).kind == "u" else -7) if low is None else low
    return np.random.default_rng(seed).integers(low, 8, shape).astype(dtype)


def positive(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2, shape)


def check(backend, kind, expected, *arrays, factor=1, **settings):
    """The value, and the gradient by central differences."""
    inputs, types = shapes_of(*arrays)
    graph = graph_of(kind, inputs, types=types, **settings).to(backend)
    assert_matches(run(graph, backend, *arrays), expected, "float64", factor=factor)
    if expected.size:
        assert gradcheck(graph, *map(backend.asarray, arrays)) < 1e-6


# -- of two arrays -------------------------------------------------------------------------

BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power}
SHAPES = [((3, 4), (3, 4)), ((2, 1, 4), (3, 1)), ((2,), (3, 2)), ((0, 3), (3,)), ((2, 3), (1,))]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("kind", BINARY)
def test_binary(backend, kind, shapes):
    a, b = (positive(*s, seed=i) for i, s in enumerate(shapes))
    check(backend, kind, BINARY[kind](a, b), a, b)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Max", "Min"])
def test_binary_of_integers(backend, kind, dtype):
    a, b = integers(3, 5, dtype=dtype), integers(5, dtype=dtype, seed=1)
    ufunc = {**BINARY, "Max": np.maximum, "Min": np.minimum}[kind]
    assert_same(node_on(kind, backend, a, b), ufunc(a, b), dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_division_of_integers_truncates(backend, dtype):
    """Rounded towards zero, as in C."""
    signs = [1] if np.dtype(dtype).kind == "u" else [1, -1]
    pairs = [(a * s, b * t) for a in range(8) for b in range(1, 5) for s in signs for t in signs]
    a, b = np.array(pairs).T.astype(dtype)
    expected = [math.trunc(n / d) for n, d in pairs]
    assert_same(node_on("Div", backend, a, b), expected, dtype)


def test_division_of_integers_on_the_host_and_of_large_ones(backend):
    a, b = np.array([-(2**63), 2**63 - 1, -(2**62) - 1]), np.array([3, -5, 2**61])
    expected = [-(2**63 // 3), -((2**63 - 1) // 5), -2]
    assert_same(node_on("Div", backend, a, b), expected, "int64")


def test_division_of_integers_by_zero():
    """An error on the CPU, where checking is free."""
    with pytest.raises(XcnnError, match=r"a Div.*divide by zero"):
        node_on("Div", xcnn.backends.get("cpu"), np.array([1, 2]), np.array([1, 0]))


@pytest.mark.parametrize("kind", ["Add", "Div", "Max"])
def test_inputs_of_two_types(backend, kind):
    for a, b in (
        (integers(3), integers(3, dtype="int32", low=1)),
        (normal(3), integers(3, low=1)),
        (integers(3), normal(3)),
        (normal(3), normal(3, dtype="float32")),
    ):
        with pytest.raises(XcnnError, match=f"a {kind}"):
            node_on(kind, backend, a, b)


@pytest.mark.parametrize("kind", ["Add", "Max"])
def test_booleans_have_no_arithmetic(backend, kind):
    with pytest.raises(XcnnError, match=rf"a {kind}.*bool: expected numbers"):
        node_on(kind, backend, np.ones(3, bool), np.ones(3, bool))


@pytest.mark.parametrize("kind", ["Add", "Mul", "Pow", "Sum", "Max"])
def test_shapes_that_do_not_broadcast(backend, kind):
    with pytest.raises(XcnnError, match=f"a {kind}"):
        node_on(kind, backend, normal(2, 3), normal(2))


def test_an_output_that_is_far_too_large(backend):
    """Refused before allocation."""
    column, row = np.zeros((2**18, 1), "float32"), np.zeros((1, 2**18), "float32")
    for kind in ("Add", "MatMul", "Gemm", "Pow", "Max"):
        with pytest.raises(XcnnError, match=rf"a {kind}.*limit"):
            node_on(kind, backend, column, row)


LEGACY = [  # of the second input, axis, and how it lies on (2, 3, 4, 5)
    ((), None, ()),
    ((1, 1), None, (1, 1)),
    ((5,), None, (5,)),
    ((4, 5), None, (4, 5)),
    ((3, 4), 1, (3, 4, 1)),
    ((2,), 0, (2, 1, 1, 1)),
    ((3,), -3, (3, 1, 1)),
    ((1,), 1, (1,)),
]


@pytest.mark.parametrize(("shape", "axis", "lies"), LEGACY, ids=str)
@pytest.mark.parametrize("kind", BINARY)
def test_broadcasting_of_old(backend, kind, shape, axis, lies):
    a, b = positive(2, 3, 4, 5), np.asarray(positive(*shape, seed=1))
    where = {} if axis is None else {"axis": axis}
    y = node_on(kind, backend, a, b, opset=6, broadcast=1, **where)
    assert_matches(y, BINARY[kind](a, b.reshape(lies)), "float64")
    whole = integers(2, 3, 4, 5, low=1), integers(*shape, low=1)
    if kind == "Mul":
        found = node_on(kind, backend, *map(np.asarray, whole), opset=6, broadcast=1, **where)
        assert_same(found, whole[0] * np.reshape(whole[1], lies), "int64")


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((3, 4), {}),
        ((4,), {"broadcast": 0}),
        ((3,), {"broadcast": 1}),
        ((5, 2, 3, 4), {"broadcast": 1}),
        ((3,), {"broadcast": 1, "axis": 0}),
        ((3,), {"broadcast": 1, "axis": 4}),
        ((3, 4), {"broadcast": 1, "axis": 2}),
    ],
    ids=str,
)
def test_broadcasting_of_old_that_does_not_fit(backend, shape, settings):
    with pytest.raises(XcnnError, match="a Add"):
        node_on("Add", backend, normal(2, 3, 4), normal(*shape), opset=6, **settings)


@pytest.mark.parametrize("kind", ["Sum", "Max", "Min"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_of_any_number(backend, kind, count):
    arrays = [normal(3, 1, 4), normal(2, 1, seed=1), normal(1, seed=2), normal(4, seed=3)][:count]
    expected = arrays[0]
    for array in arrays[1:]:
        ufunc = {"Sum": np.add, "Max": np.maximum, "Min": np.minimum}[kind]
        expected = ufunc(expected, array)
    check(backend, kind, expected, *arrays)


def test_nan_is_larger_and_smaller(backend):
    for kind in ("Max", "Min"):
        y = node_on(kind, backend, np.array([np.nan, 1]), np.array([2, np.nan]))
        assert np.isnan(y).all()


# -- of one array --------------------------------------------------------------------------

UNARY = {
    "Abs": np.abs,
    "Erf": np.vectorize(math.erf),
    "Exp": np.exp,
    "Log": np.log,
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Sqrt": np.sqrt,
}


@pytest.mark.parametrize("kind", UNARY)
def test_unary(backend, kind):
    x = positive(3, 4)
    check(backend, kind, UNARY[kind](x), x)


@pytest.mark.parametrize("dtype", ["int8", "int64"])
def test_unary_of_integers(backend, dtype):
    x = np.array([-3, 0, 5], dtype)
    assert_same(node_on("Abs", backend, x), [3, 0, 5], dtype)
    assert_same(node_on("Neg", backend, x), [3, 0, -5], dtype)
    with pytest.raises(XcnnError, match="a Exp"):
        node_on("Exp", backend, x)


@pytest.mark.parametrize(
    ("base", "exponent"), [("float32", "int64"), ("float32", "float64"), ("int32", "float32")]
)
def test_pow_has_the_type_of_its_base(backend, base, exponent):
    a, b = np.array([1, 2, 3], base), np.array([4, 2, 3], exponent)
    assert_same(node_on("Pow", backend, a, b, opset=15), [1, 4, 27], base)


def test_pow_gives_gradients_to_both(backend):
    a = Tensor(backend.asarray(np.array([2.0])), requires_grad=True)
    b = Tensor(backend.asarray(np.array([3.0])), requires_grad=True)
    graph_of("Pow", {"a": (1,), "b": (1,)}).to(backend)(a, b).sum().backward()
    assert_matches(backend.to_host(a.grad.data), [12])
    assert_matches(backend.to_host(b.grad.data), [8 * math.log(2)])


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "uint8", "bool"])
def test_cast_like(backend, dtype):
    x = np.array([0, 1.75, 200], "float32")
    assert_same(node_on("CastLike", backend, x, np.zeros(2, dtype)), x.astype(dtype), dtype)


def test_a_cast_of_floats_has_a_gradient(backend):
    x = Tensor(backend.asarray(np.ones(3, "float32")), requires_grad=True)
    graph = graph_of("CastLike", {"x": (3,), "like": (1,)}).to(backend)
    graph(x, backend.asarray(np.zeros(1))).sum().backward()
    assert_matches(backend.to_host(x.grad.data), [1, 1, 1], "float32")


# -- matrix products -----------------------------------------------------------------------

PRODUCTS = [
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (6, 3, 4)),
    ((0, 3), (3, 4)),
    ((0, 2, 3), (3, 4)),
    ((2, 0), (0, 4)),
]


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_matmul(backend, shapes):
    a, b = (normal(*s, seed=i) for i, s in enumerate(shapes))
    check(backend, "MatMul", np.asarray(a @ b), a, b)
    c, d = (integers(*s, dtype="int32", seed=i) for i, s in enumerate(shapes))
    assert_same(node_on("MatMul", backend, c, d), c @ d, "int32")


@pytest.mark.parametrize(
    "shapes", [((), (3,)), ((3,), ()), ((2, 3), (2, 3)), ((2,), (3,)), ((5, 2, 3), (4, 3, 2))]
)
def test_matmul_of_shapes_that_do_not_fit(backend, shapes):
    with pytest.raises(XcnnError, match="a MatMul"):
        node_on("MatMul", backend, *(np.asarray(normal(*s)) for s in shapes))


@pytest.mark.parametrize("c", [None, (), (1,), (4,), (1, 4), (3, 1), (3, 4)], ids=str)
@pytest.mark.parametrize(
    "settings",
    [{}, {"alpha": 0.5}, {"beta": 2.0}, {"transA": 1}, {"transB": 1, "alpha": 2.0, "beta": 0.5}],
    ids=str,
)
def test_gemm(backend, c, settings):
    a, b = normal(3, 5), normal(5, 4, seed=1)
    bias = None if c is None else positive(*c) if c else np.array([1.5]).reshape(())
    expected = settings.get("alpha", 1) * (a @ b)
    if c is not None:
        expected = expected + settings.get("beta", 1) * bias
    a = a.T.copy() if "transA" in settings else a
    b = b.T.copy() if "transB" in settings else b
    if c == ():  # central differences are for arrays with axes
        y = node_on("Gemm", backend, a, b, bias, **settings)
        assert_matches(y, expected, "float64")
    else:
        check(backend, "Gemm", expected, a, b, *([] if c is None else [bias]), **settings)


def test_gemm_of_beta_zero_does_not_look_at_c(backend):
    a, b, c = normal(2, 3), normal(3, 4), np.full((2, 4), np.nan)
    assert_matches(node_on("Gemm", backend, a, b, c, beta=0.0), a @ b, "float64")


def test_gemm_of_integers(backend):
    a, b, c = integers(3, 5), integers(5, 4, seed=1), integers(4, seed=2)
    y = node_on("Gemm", backend, a, b, c, alpha=2.0, beta=3.0)
    assert_same(y, 2 * (a @ b) + 3 * c, "int64")
    with pytest.raises(XcnnError, match=r"alpha=0.5"):
        node_on("Gemm", backend, a, b, c, alpha=0.5)


def test_gemm_of_old_says_that_it_broadcasts(backend):
    a, b, c = normal(2, 3), normal(3, 4), normal(4)
    assert_matches(node_on("Gemm", backend, a, b, c, opset=6, broadcast=1), a @ b + c)
    with pytest.raises(XcnnError, match=r"a Gemm.*C has shape \(4,\)"):
        node_on("Gemm", backend, a, b, c, opset=6)


@pytest.mark.parametrize(
    "shapes",
    [
        ((3,), (3, 4)),
        ((2, 3), (4, 3)),
        ((2, 3, 4), (4, 5)),
        ((2, 3), (3, 4), (3,)),
        ((2, 3), (3, 4), (1, 2, 4)),
        ((1, 3), (3, 4), (2, 4)),
    ],
    ids=str,
)
def test_gemm_of_shapes_that_do_not_fit(backend, shapes):
    with pytest.raises(XcnnError, match="a Gemm"):
        node_on("Gemm", backend, *(normal(*s) for s in shapes))


def test_a_last_layer_is_one_linear_operation(backend):
    """No transposed copy; the result is batch-last like that of ``nn.Linear``."""
    weights = {"w": normal(4, 3, dtype="float32"), "b": normal(4, dtype="float32")}
    graph = graph_of("Gemm", {"x": (2, 3)}, weights, transB=1).to(backend)
    y = graph(backend.asarray(normal(2, 3, dtype="float32")))
    assert type(y.creator).__name__ == "Linear"
    assert [None if t is None else t.data.shape for t in y.creator.inputs] == [None, (4, 3), (4,)]
    y.sum().backward()
    assert all(p.grad is not None for p in graph.parameters())


# -- sums and means ------------------------------------------------------------------------


def reduction(backend, kind, x, axes, opset, **settings):
    """``axes`` is an attribute or an input, depending on the version."""
    if opset < (13 if kind == "ReduceSum" else 18):
        attribute = {"axes": list(axes)} if axes else {}
        return node_on(kind, backend, x, opset=opset, **attribute, **settings)
    arrays = () if axes is None else (np.array(axes, "int64"),)
    return node_on(kind, backend, x, *arrays, opset=opset, **settings)


@pytest.mark.parametrize("axes", [None, [], [1], [0, -1], [2, 1, 0]], ids=str)
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("opset", [6, 13, 18])
@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMean"])
def test_reduce(backend, kind, opset, keep, axes):
    over = tuple(axes) if axes else None
    x, whole = normal(3, 4, 5), integers(3, 4, 5, dtype="int32")
    function = np.sum if kind == "ReduceSum" else np.mean
    y = reduction(backend, kind, x, axes, opset, keepdims=keep)
    assert_matches(y, function(x, axis=over, keepdims=bool(keep)), "float64")
    expected = np.trunc(function(whole, axis=over, keepdims=bool(keep)))
    found = reduction(backend, kind, whole, axes, opset, keepdims=keep)
    assert_same(found, expected, "int32")


@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMean"])
def test_reduce_gradient(backend, kind):
    graph = graph_of(kind, {"x": (3, 4, 2)}, {"axes": np.array([0, 2])}).to(backend)
    assert gradcheck(graph, backend.asarray(normal(3, 4, 2))) < 1e-6


@pytest.mark.parametrize("axes", [None, []], ids=str)
def test_reduce_of_no_axes_can_be_nothing(backend, axes):
    x = normal(3, 4)
    y = reduction(backend, "ReduceSum", x, axes, 13, noop_with_empty_axes=1)
    assert_matches(y, x, "float64")


def test_reduce_of_a_scalar_and_of_nothing(backend):
    assert_matches(node_on("ReduceMean", backend, np.array(3.0)), np.array(3.0), "float64")
    assert_matches(node_on("ReduceSum", backend, np.zeros((0, 2)), keepdims=0), np.array(0.0))
    with pytest.raises(XcnnError, match="the mean of zero int64"):
        node_on("ReduceMean", backend, np.zeros((0, 2), "int64"))


@pytest.mark.parametrize("axes", [[3], [-4], [0, 0], [1, -2]], ids=str)
def test_reduce_over_axes_that_are_not_there(backend, axes):
    with pytest.raises(XcnnError, match=r"a ReduceSum.*ax[ei]s"):
        reduction(backend, "ReduceSum", normal(2, 3, 4), axes, 13)


# -- on the device -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Add", "Div", "Pow", "Max", "MatMul", "CastLike"])
def test_no_host_synchronisation(strict, kind):
    from ..strict import count_syncs

    for dtype in ("float32", "int32"):
        inputs = {"a": (3, 3), "b": (3, 3)}
        graph = graph_of(kind, inputs, types=dict.fromkeys(inputs, dtype)).to(strict)
        x = strict.asarray(np.full((3, 3), 2, dtype))
        with count_syncs() as syncs:
            graph(x, x)
        assert syncs == []


def test_inputs_are_not_modified(backend):
    for kind in ("Add", "Div", "Max", "MatMul", "Gemm"):
        for x in (positive(3, 3), integers(3, 3, low=1)):
            moved = backend.asarray(x.copy())
            inputs, types = shapes_of(x, x)
            graph_of(kind, inputs, types=types).to(backend)(moved, moved)
            assert (backend.to_host(moved) == x).all()


def test_a_weight_of_a_node_is_trained(backend):
    scale = np.full((3, 1, 1), 2, "float32")
    graph = graph_of("Mul", {"x": (2, 3, 4, 4)}, {"scale": scale}).to(backend)
    optimizer = xcnn.optim.SGD(graph.parameters(), 0.25)
    graph(backend.asarray(np.ones((2, 3, 4, 4), "float32"))).mean().backward()
    optimizer.step()
    (parameter,) = graph.parameters()
    assert_matches(parameter.numpy(), np.full((3, 1, 1), 2 - 0.25 / 3), "float32")

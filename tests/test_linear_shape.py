"""linear, matmul, arithmetic with broadcasting, sums, reshape, flatten, concat, pad."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

import xcnn
import xcnn.functional as F
from xcnn import Tensor, nn
from xcnn.errors import ArgumentError, DTypeError, ShapeError
from xcnn.testing import gradcheck

from . import oracles
from .conftest import assert_matches, evaluate_on, is_batch_last, layouts, normal

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

# -- linear and matmul ---------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("leading", [(4,), (1,), (0,), (), (2, 3), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_linear(evaluate, dtype, leading, bias):
    x, weight = normal(*leading, 3, dtype=dtype), normal(5, 3, seed=1, dtype=dtype)
    b = normal(5, seed=2, dtype=dtype) if bias else None
    found = evaluate(F.linear, x, weight, b)
    assert_matches(found.y, oracles.linear(x, weight, b), dtype)
    expected = oracles.linear_gradients(found.dy, x, weight)
    for got, wanted in zip(found.gradients[: 2 + bias], expected, strict=False):
        assert_matches(got, wanted, dtype)
    assert (found.gradients[2] is None) == (b is None)


def test_linear_gradcheck(backend):
    inputs = [backend.asarray(normal(*s)) for s in [(4, 3), (5, 3), (5,)]]
    assert gradcheck(F.linear, *inputs) < 1e-6
    assert gradcheck(F.linear, *inputs[:2], None) < 1e-6


def test_linear_stays_batch_last(backend):
    x, weight = backend.asarray(normal(3, 4)).T, backend.asarray(normal(5, 3))
    y, pullback = xcnn.vjp(F.linear, x, weight)
    assert is_batch_last(y)
    assert is_batch_last(pullback(y)[0])


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (((4, 3), (5, 2), (5,)), "expected 2 features.*Flatten"),
        (((4, 3), (5, 3), (4,)), r"bias has shape \(4,\)"),
        (((4, 3), (5, 3, 1), (5,)), "out_features, in_features"),
        (((), (5, 3), (5,)), "expected 3 features"),
    ],
)
def test_linear_errors(backend, shapes, text):
    with pytest.raises(ShapeError, match=text):
        F.linear(*(backend.asarray(normal(*s)) for s in shapes))


def naive_matmul(a, b):
    """Sum over k of a[..., n, k] * b[..., k, m], leading axes broadcast."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(axis=-2)


@dtypes
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((1, 1), (1, 1)),
        ((0, 3), (3, 2)),
        ((5, 2, 3), (5, 3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (4, 3, 2)),
    ],
    ids=str,
)
def test_matmul(evaluate, dtype, a, b):
    a, b = normal(*a, dtype=dtype), normal(*b, seed=1, dtype=dtype)
    found = evaluate(F.matmul, a, b)
    assert_matches(found.y, naive_matmul(np.float64(a), np.float64(b)), dtype)
    da = naive_matmul(found.dy, b.swapaxes(-1, -2))
    db = naive_matmul(a.swapaxes(-1, -2), found.dy)
    assert_matches(found.gradients[0], unbroadcast(da, a.shape), dtype)
    assert_matches(found.gradients[1], unbroadcast(db, b.shape), dtype)


def test_matmul_gradcheck(backend):
    a, b = backend.asarray(normal(2, 1, 3, 4)), backend.asarray(normal(5, 4, 2))
    assert gradcheck(F.matmul, a, b) < 1e-6


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (2, 3)), ((3,), (2, 3)), ((2, 3), (2,)), ((), (3,)), ((3,), ())]
)
def test_matmul_errors(backend, a, b):
    with pytest.raises(ShapeError, match="matmul: shapes"):
        F.matmul(backend.asarray(normal(*a)), backend.asarray(normal(*b)))


# -- arithmetic ----------------------------------------------------------------------------

BINARY = {
    "add": (F.add, lambda a, b: a + b, lambda a, b: (np.ones_like(b), np.ones_like(a))),
    "sub": (F.sub, lambda a, b: a - b, lambda a, b: (np.ones_like(b), -np.ones_like(a))),
    "mul": (F.mul, lambda a, b: a * b, lambda a, b: (b, a)),
    "div": (F.div, lambda a, b: a / b, lambda a, b: (1 / b, -a / b**2)),
}
binary = pytest.mark.parametrize(("function", "value", "slopes"), BINARY.values(), ids=BINARY)


def unbroadcast(gradient, shape):
    """Add up, number by number, what was broadcast from ``shape``."""
    result = np.zeros(shape)
    for index in np.ndindex(gradient.shape):
        tail = index[len(index) - len(shape) :]
        result[tuple(i if n > 1 else 0 for i, n in zip(tail, shape, strict=True))] += gradient[
            index
        ]
    return result


def check_binary(backend, function, value, slopes, a, b):
    found = evaluate_on(backend, function, a, b)
    a, b = np.float64(a), np.float64(b)
    assert_matches(found.y, value(a, b), found.dy.dtype)
    for got, slope, array in zip(found.gradients, slopes(a, b), (a, b), strict=True):
        assert_matches(got, unbroadcast(found.dy * slope, array.shape), found.dy.dtype)


@binary
@dtypes
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (2, 3)),
        ((2, 3), (3,)),
        ((1, 3), (2, 1)),
        ((), (4,)),
        ((2, 3, 1), (4,)),
        ((0, 3), (3,)),
    ],
    ids=str,
)
def test_binary(backend, function, value, slopes, dtype, a, b):
    a, b = normal(*a, dtype=dtype), normal(*b, seed=1, dtype=dtype)
    check_binary(backend, function, value, slopes, a, b)


@binary
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0))
def test_binary_of_any_shapes(backend, function, value, slopes, shapes):
    a, b = (normal(*s, seed=i) + 3 for i, s in enumerate(shapes.input_shapes))
    check_binary(backend, function, value, slopes, a, b)


@binary
def test_binary_gradcheck(backend, function, value, slopes):
    a, b = backend.asarray(normal(2, 3)), backend.asarray(normal(3, seed=1) ** 2 + 1)
    assert gradcheck(function, a, b) < 1e-6


@binary
def test_shapes_that_do_not_broadcast(backend, function, value, slopes):
    a, b = backend.asarray(normal(2, 3)), backend.asarray(normal(2))
    with pytest.raises(ShapeError, match=r"\(2, 3\) and \(2,\) do not broadcast"):
        function(a, b)


@dtypes
@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (lambda a, b: a + b, 5.0),
        (lambda a, b: a - b, 1.0),
        (lambda a, b: a * b, 6.0),
        (lambda a, b: a / b, 1.5),
    ],
    ids=["add", "sub", "mul", "div"],
)
def test_operators_of_tensor_array_and_number(backend, dtype, expression, value):
    """Tensor with Tensor, array (either side) and number (either side): always a Tensor."""
    three, two = (backend.asarray(np.full(2, v, dtype)) for v in (3, 2))
    pairs = [
        (Tensor(three), Tensor(two)),
        (three, Tensor(two)),
        (Tensor(three), two),
        (3, Tensor(two)),
        (Tensor(three), 2),
        (3.0, Tensor(two)),
        (Tensor(three), 2.0),
    ]
    for a, b in pairs:
        y = expression(a, b)
        assert isinstance(y, Tensor)
        assert_matches(y, [value, value], dtype)


def test_negation_and_matmul_operator(backend):
    a, b = backend.asarray(normal(2, 3)), backend.asarray(normal(3, 2, seed=1))
    assert_matches(-Tensor(a), -normal(2, 3))
    product = naive_matmul(normal(2, 3), normal(3, 2, seed=1))
    for y in (Tensor(a) @ Tensor(b), Tensor(a) @ b, a @ Tensor(b)):
        assert isinstance(y, Tensor)
        assert_matches(y, product)


def test_division_by_zero_is_infinite(backend):
    zero = backend.asarray(np.zeros(1))
    with np.errstate(divide="ignore"):
        assert_matches(F.div(1.0, Tensor(zero)), [np.inf])


@pytest.mark.parametrize("other", ["abc", object(), [1, [2]]], ids=["str", "object", "ragged"])
def test_operand_that_is_no_number(other):
    with pytest.raises(DTypeError):
        Tensor(np.ones(2)) + other


# -- sum and mean --------------------------------------------------------------------------


def naive_sum(x, dim, keepdim):
    """Add number by number into the axes that stay; also how many were added into each."""
    axes = range(x.ndim) if dim is None else [d % x.ndim for d in np.atleast_1d(dim)]
    total = np.zeros([1 if i in axes else n for i, n in enumerate(x.shape)])
    for index in np.ndindex(x.shape):
        total[tuple(0 if i in axes else v for i, v in enumerate(index))] += x[index]
    count = math.prod(x.shape[i] for i in axes)
    return total if keepdim else total.squeeze(tuple(axes)), count


@dtypes
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 0, 2, -1, (0, 2), [1, -1], (0, 1, 2)], ids=str)
@pytest.mark.parametrize("function", [F.sum, F.mean], ids=["sum", "mean"])
def test_sum_and_mean(evaluate, function, dim, keepdim, dtype):
    x = normal(2, 3, 4, dtype=dtype)
    found = evaluate(function, x, dim=dim, keepdim=keepdim)
    total, count = naive_sum(x, dim, keepdim)
    scale = 1 / count if function is F.mean else 1
    assert_matches(found.y, total * scale, dtype)
    kept = found.dy.reshape(naive_sum(x, dim, True)[0].shape)
    assert_matches(found.gradients[0], np.broadcast_to(kept * scale, x.shape), dtype)


def test_mean_of_half_types(evaluate):
    """In float32: their sum is infinite in float16, and so is the number of elements."""
    x = np.full((200_000, 2), 100.5, "float16")
    found = evaluate(F.mean, x, dim=0)
    assert_matches(found.y, [100.5, 100.5], "float16")
    slopes = np.broadcast_to(np.float64(found.dy) / 200_000, x.shape)
    np.testing.assert_allclose(found.gradients[0], slopes, atol=6e-8)


@pytest.mark.parametrize("function", [F.sum, F.mean], ids=["sum", "mean"])
def test_sum_and_mean_gradcheck(backend, function):
    assert gradcheck(function, backend.asarray(normal(2, 3, 4)), dim=1) < 1e-6


def test_sum_and_mean_as_methods(backend):
    t = Tensor(backend.asarray(np.arange(6.0).reshape(2, 3)))
    assert t.sum().item() == 15
    assert t.mean().item() == 2.5
    assert_matches(t.sum(dim=0), [3, 5, 7])
    assert_matches(t.mean(dim=1, keepdim=True), [[1], [4]])


def test_sum_and_mean_of_nothing(backend):
    empty = Tensor(backend.asarray(np.zeros((0, 3))))
    assert F.sum(empty).item() == 0
    assert math.isnan(F.mean(empty).item())
    assert F.sum(empty, dim=1).shape == (0,)


@pytest.mark.parametrize("dim", [2, -3, (0, 0)], ids=str)
def test_sum_over_no_such_axis(backend, dim):
    for function in (F.sum, F.mean):
        with pytest.raises(ShapeError, match="dim="):
            function(backend.asarray(normal(2, 3)), dim=dim)


def test_a_number_counts_as_one_axis(backend):
    for dim in (None, (), 0, -1, (0,)):
        for x in (3.0, backend.asarray(np.array(3.0))):
            assert F.sum(x, dim).item() == F.mean(x, dim, True).item() == 3
    with pytest.raises(ShapeError, match=r"dim=1: there are 1 axes"):
        F.sum(3.0, 1)


@pytest.mark.parametrize("dim", ["x", 1.0, [None], {}])
def test_dims_are_ints(backend, dim):
    x = backend.asarray(normal(2, 3))
    for function in (F.sum, F.mean, F.squeeze, F.permute):
        with pytest.raises(ArgumentError, match=r"dims?="):
            function(x, dim)


# -- reshape and flatten -------------------------------------------------------------------

RESHAPES = [
    ((2, 3, 4), (2, 12)),
    ((2, 12), (2, 3, 4)),
    ((2, 3, 4), (6, 4)),
    ((2, 3, 4), (24,)),
    ((24,), (2, 3, 4)),
    ((2, 3, 4), (-1,)),
    ((2, 3, 4), (2, -1, 2)),
    ((1,), ()),
    ((), (1, 1)),
    ((0, 3), (0, 5)),
    ((0, 3), (3, 0)),
]


@pytest.mark.parametrize(("shape", "wanted"), RESHAPES, ids=str)
@pytest.mark.parametrize("memory", ["contiguous", "batch-last"])
def test_reshape_is_row_major_in_any_memory(backend, shape, wanted, memory):
    x = normal(*shape)
    if memory == "batch-last" and x.ndim:
        on_device = layouts(backend, x)[memory]
    else:
        on_device = backend.asarray(x)
    y, pullback = xcnn.vjp(lambda t: F.reshape(t, wanted), on_device)
    assert_matches(y, x.reshape(wanted))
    assert_matches(pullback(y)[0], x)


def test_reshape_forms(backend):
    t = Tensor(backend.asarray(np.arange(6.0)))
    for y in (F.reshape(t, 2, 3), F.reshape(t, (2, 3)), F.reshape(t, [2, -1]), t.reshape(2, 3)):
        assert y.shape == (2, 3)
    assert F.reshape(t, -1).shape == (6,)


@pytest.mark.parametrize("wanted", [(4,), (-1, 4), (-1, -1), (-2, -3), (0, -1), (7, 0)], ids=str)
def test_reshape_errors(backend, wanted):
    with pytest.raises(ShapeError, match=r"reshape: \(2, 3\)"):
        F.reshape(backend.asarray(normal(2, 3)), wanted)


@pytest.mark.parametrize(
    ("shape", "start", "wanted"),
    [
        ((2, 3, 4, 5), 1, (2, 60)),
        ((2, 3, 4, 5), 0, (120,)),
        ((2, 3, 4, 5), 2, (2, 3, 20)),
        ((0, 3, 4), 1, (0, 12)),
        ((2,), 0, (2,)),
        ((), 0, (1,)),
        ((), -1, (1,)),
        ((2, 3), -1, (2, 3)),
        ((2, 3, 4, 5), -3, (2, 60)),
        ((2,), 1, None),
        ((2, 3), 2, None),
    ],
    ids=str,
)
def test_flatten(backend, shape, start, wanted):
    x = normal(*shape)
    if wanted is None:
        with pytest.raises(ShapeError, match=f"start_dim={start}"):
            F.flatten(backend.asarray(x), start)
    else:
        assert_matches(F.flatten(backend.asarray(x), start), x.reshape(wanted))


def test_flatten_as_in_pytorch(backend):
    """The function and the method join all axes, the layer keeps the batch."""
    t = Tensor(backend.asarray(normal(2, 3, 4, 5)))
    assert F.flatten(t).shape == t.flatten().shape == (120,)
    assert t.flatten(1, 2).shape == nn.Flatten(end_dim=2)(t).shape == (2, 12, 5)
    assert t.flatten(0, -2).shape == (24, 5)
    assert nn.Flatten()(t).shape == (2, 60)
    with pytest.raises(ShapeError, match="start_dim=2 comes after end_dim=1"):
        t.flatten(2, 1)


def test_flatten_of_batch_last_memory_moves_nothing(backend):
    xp = backend.xp
    memory = xp.ones((3, 4, 5, 2))
    y = F.flatten(xp.moveaxis(memory, -1, 0), 1).data
    memory.fill(7)
    assert (backend.to_host(y) == 7).all()
    assert is_batch_last(y)


def test_reshape_of_contiguous_memory_is_a_view(backend):
    """What is written into the result is in the array, as in PyTorch."""
    for shape, new in (((2, 3, 4, 5), (2, 60)), ((2, 12), (2, 3, 4))):
        array = backend.asarray(normal(*shape))
        F.reshape(array, new).data[0] = 7
        assert (backend.to_host(array)[0] == 7).all()


@pytest.mark.parametrize("shape", [(12, 2), (2, 12)], ids=str)
def test_reshape_gradcheck(backend, shape):
    assert gradcheck(lambda t: F.reshape(t, shape), backend.asarray(normal(2, 3, 4))) < 1e-6
    assert gradcheck(F.flatten, backend.asarray(normal(2, 3, 4))) < 1e-6


# -- concat --------------------------------------------------------------------------------


def concat_of(dim):
    return lambda *parts: F.concat(parts, dim=dim)


@dtypes
@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1, -4])
@pytest.mark.parametrize("sizes", [(1, 2, 3), (2, 0, 1), (4,)], ids=str)
def test_concat(evaluate, dim, sizes, dtype):
    shapes = [[2, 3, 4, 2] for _ in sizes]
    for shape, size in zip(shapes, sizes, strict=True):
        shape[dim] = size
    parts = [normal(*s, seed=i, dtype=dtype) for i, s in enumerate(shapes)]
    found = evaluate(concat_of(dim), *parts)
    along = np.moveaxis(found.y, dim, 0)
    start = 0
    for part, gradient in zip(parts, found.gradients, strict=True):
        stop = start + part.shape[dim]
        assert_matches(np.moveaxis(along[start:stop], 0, dim), part, dtype)
        dy = np.moveaxis(np.moveaxis(found.dy, dim, 0)[start:stop], 0, dim)
        assert_matches(gradient, dy, dtype)
        start = stop
    assert len(along) == start


def test_concat_of_vectors(evaluate):
    assert evaluate(concat_of(0), np.ones(2), np.zeros(1)).y.tolist() == [1, 1, 0]


def test_concat_gradcheck(backend):
    parts = [backend.asarray(normal(2, n, 3)) for n in (1, 2)]
    assert gradcheck(concat_of(1), *parts) < 1e-6


def test_concat_stays_batch_last(backend):
    xp = backend.xp
    parts = [xp.moveaxis(xp.ones((n, 4, 5, 2)), -1, 0) for n in (1, 3)]
    assert is_batch_last(F.concat(parts, 1).data)


@pytest.mark.parametrize(
    ("shapes", "dim"),
    [([], 0), ([(2, 3), (3, 3)], 1), ([(2, 3), (2, 3, 1)], 1), ([(2, 3)], 2), ([(2, 3)], -3)],
    ids=str,
)
def test_concat_errors(backend, shapes, dim):
    with pytest.raises(ShapeError, match=r"concat:|dim="):
        F.concat([backend.asarray(normal(*s)) for s in shapes], dim=dim)


def test_concat_takes_a_list(backend):
    """Rows of one array are not the tensors to join."""
    x = backend.asarray(normal(2, 3))
    for tensors in (x, xcnn.Tensor(x), 3.0, "xy"):
        with pytest.raises(ArgumentError, match="expected a list or a tuple"):
            F.concat(tensors)

"""Indexing, split, permute, squeeze, unsqueeze, clamp, and structure of any dtype."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn import Tensor
from xcnn.errors import ArgumentError, DTypeError, ShapeError
from xcnn.testing import gradcheck

from .conftest import assert_matches, evaluate_on, is_batch_last, layouts, normal

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def elements(shape, index):
    """Row-major numbers of the elements that an index picks, found with Python's own lists."""
    numbers = np.empty(shape, object)
    for number, place in enumerate(np.ndindex(shape)):
        numbers[place] = number
    return numbers[(*index, ...)] if Ellipsis not in index else numbers[index]


def check_index(backend, shape, index, dtype="float64"):
    """Each element comes from its place, and its gradient goes there."""
    x = normal(*shape, dtype=dtype)
    found = evaluate_on(backend, lambda a: F_index(a, index), x)
    taken = elements(shape, index if isinstance(index, tuple) else (index,))
    flat = x.reshape(-1)
    expected = np.array([flat[n] for n in taken.reshape(-1)], dtype).reshape(taken.shape)
    assert_matches(found.y, expected, dtype)
    dx = np.zeros(x.size)
    for number, slope in zip(taken.reshape(-1), found.dy.reshape(-1), strict=True):
        dx[number] = slope
    assert_matches(found.gradients[0], dx.reshape(shape), dtype)


def F_index(x, index):
    return Tensor.of(x)[index]


# -- indexing ------------------------------------------------------------------------------

INDICES = [
    0,
    -1,
    np.int64(1),
    slice(1, None),
    slice(None, None, -1),
    slice(5, -9, -2),
    slice(-1, 100),
    slice(2, 1),
    None,
    Ellipsis,
    (),
    (0, 1, 2, 3),
    (slice(None), 2),
    (Ellipsis, slice(None, None, 3)),
    (slice(1, 2), Ellipsis, None, -1),
    (None, 1, None, slice(0, 3, 2), Ellipsis, slice(3, 0, -1)),
    (slice(np.int64(0), np.int64(2)), slice(None, None, np.int64(-1))),
]


@dtypes
@pytest.mark.parametrize("index", INDICES, ids=str)
def test_index(backend, index, dtype):
    check_index(backend, (2, 3, 4, 5), index, dtype)


slices = st.builds(
    slice,
    st.none() | st.integers(-6, 6),
    st.none() | st.integers(-6, 6),
    st.none() | st.integers(-3, 3).filter(bool),
)


@given(shape=st.tuples(*[st.integers(0, 4)] * 3), index=st.tuples(slices, slices, slices))
def test_index_of_any_slices(backend, shape, index):
    check_index(backend, shape, index)


def test_index_of_a_single_number(backend):
    check_index(backend, (), Ellipsis)
    check_index(backend, (), None)
    y = Tensor(backend.asarray(normal(3)))[1]
    assert y.shape == ()
    assert y.item() == normal(3)[1]


def test_index_is_a_view_and_stays_batch_last(backend):
    memory = backend.xp.ones((6, 4, 5, 2))
    y = F_index(backend.xp.moveaxis(memory, -1, 0), (slice(None), slice(2, 4))).data
    memory.fill(7)
    assert (backend.to_host(y) == 7).all()
    assert is_batch_last(y)


@pytest.mark.parametrize("memory", ["batch-last", "strided", "reversed"])
def test_index_of_any_memory(backend, memory):
    x = normal(4, 3, 5)
    y, pullback = xcnn.vjp(F_index, layouts(backend, x)[memory], index=(slice(1, 3), 2))
    assert_matches(y, x[1:3, 2])
    dx = np.zeros(x.shape)
    dx[1:3, 2] = x[1:3, 2]
    assert_matches(pullback(y)[0], dx)
    assert is_batch_last(pullback(y)[0])


def test_index_gradcheck(backend):
    x = backend.asarray(normal(3, 4, 5))
    assert gradcheck(F_index, x, index=(slice(None, None, -2), None, 1, slice(1, 4))) < 1e-6


def test_a_tensor_is_a_sequence_of_its_first_axis(backend):
    x = normal(3, 2)
    rows = list(Tensor(backend.asarray(x)))
    assert len(rows) == 3
    for row, expected in zip(rows, x, strict=True):
        assert_matches(row, expected)
    with pytest.raises(TypeError):
        iter(Tensor(backend.asarray(normal())))


def test_index_of_a_range(backend):
    x, y = normal(3, 2), Tensor(backend.asarray(normal(3, 2)))
    y[range(3), [1, 0, 1]] = 7.0
    assert_matches(y[range(3), [1, 0, 1]], np.full(3, 7.0))
    assert_matches(Tensor(backend.asarray(x))[range(2, -1, -2)], x[::-2])


@pytest.mark.parametrize(
    ("index", "error", "text"),
    [
        (3, IndexError, r"shape \(3, 2\).*3"),
        (-4, ShapeError, r"shape \(3, 2\)"),
        ((0, 0, 0), IndexError, r"shape \(3, 2\)"),
        ((Ellipsis, Ellipsis), IndexError, r"shape \(3, 2\)"),
        (slice(None, None, 0), ArgumentError, "step of a slice is 0"),
        (True, DTypeError, "bool"),
        (np.array(True), DTypeError, r"bool of shape \(\)"),
        (np.array([0, 1], "uint8"), DTypeError, "uint8.*such as int64, or bool for a mask"),
        (1.0, DTypeError, "float"),
        ([0.5], DTypeError, "float32 .*: expected ints"),
        ("x", DTypeError, "str"),
        (slice(0.5), DTypeError, "slices of ints"),
        (([0], [0], [0]), IndexError, "2 indices"),
        (np.array([True, False]), IndexError, r"mask of shape \(2,\) does not fit .* from axis 0"),
        ((slice(None), np.ones((2, 2), bool)), IndexError, "2 indices"),
        (([0, 1], [0, 1, 0]), ShapeError, r"\(2,\), \(3,\) do not broadcast"),
    ],
    ids=str,
)
def test_index_errors(backend, index, error, text):
    with pytest.raises(error, match=text):
        Tensor(backend.asarray(normal(3, 2)))[index]


# -- split ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "given", "sizes"),
    [
        (6, 2, [2, 2, 2]),
        (7, 3, [3, 3, 1]),
        (2, 5, [2]),
        (0, 3, [0]),
        (0, 0, [0]),
        (5, [2, 0, 3], [2, 0, 3]),
        (5, (5,), [5]),
        (0, [0, 0], [0, 0]),
        (4, np.int64(3), [3, 1]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_split(backend, length, given, sizes, dim):
    shape = [2, 3, 4]
    shape[dim] = length
    x = normal(*shape)
    parts = F.split(backend.asarray(x), given, dim)
    assert [p.shape[dim] for p in parts] == sizes
    along = np.moveaxis(x, dim, 0)
    start = 0
    for part in parts:
        stop = start + part.shape[dim]
        assert_matches(part, np.moveaxis(along[start:stop], 0, dim))
        start = stop


def test_split_gradients_add_up(backend):
    x = Tensor(backend.asarray(normal(2, 5)), requires_grad=True)
    first, second, _ = x.split([2, 1, 2], 1)
    (first.sum() + (second * 3).sum()).backward()
    assert_matches(x.grad, [[1, 1, 3, 0, 0]] * 2)
    assert gradcheck(lambda t: F.split(t, 2, 1)[2], backend.asarray(normal(2, 5))) < 1e-6


@pytest.mark.parametrize("given", [0, -1, 2.0, [2, 2], [6, -1], [1.0, 4.0], "5", True], ids=str)
def test_split_errors(backend, given):
    with pytest.raises(ArgumentError, match=r"split_size_or_sections=.*5, the length"):
        F.split(backend.asarray(normal(2, 5)), given, 1)


def test_split_along_no_axis(backend):
    with pytest.raises(ShapeError, match="dim=2: there are 2 axes, expected -2 to 1"):
        F.split(backend.asarray(normal(2, 5)), 1, 2)
    with pytest.raises(ShapeError, match="dim=0: there are 0 axes"):
        F.split(backend.asarray(normal()), 1)


# -- permute, transpose --------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("dims", [(0, 1, 2), (2, 0, 1), [1, -1, 0], (-1, -2, -3)], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4), (0, 3, 2)], ids=str)
def test_permute(evaluate, dims, shape, dtype):
    x = normal(*shape, dtype=dtype)
    found = evaluate(F.permute, x, dims=dims)
    expected = np.empty([shape[d] for d in dims])
    dx = np.empty(shape)
    for place in np.ndindex(expected.shape):
        source = [0] * 3
        for i, d in zip(place, dims, strict=True):
            source[d] = i
        expected[place] = x[tuple(source)]
        dx[tuple(source)] = found.dy[place]
    assert_matches(found.y, expected, dtype)
    assert_matches(found.gradients[0], dx, dtype)


def test_permute_gradcheck(backend):
    assert gradcheck(F.permute, backend.asarray(normal(2, 3, 4)), dims=(2, 0, 1)) < 1e-6


def test_axes_as_methods(backend):
    t = Tensor(backend.asarray(normal(2, 3, 4)))
    assert t.permute(2, 0, 1).shape == t.permute((2, 0, 1)).shape == (4, 2, 3)
    assert t.transpose(0, -1).shape == (4, 3, 2)
    assert t[0].T.shape == (4, 3)
    assert_matches(t[0].T, normal(2, 3, 4)[0].T)
    assert t[0, 0].T.shape == (4,)
    assert t.unsqueeze(0).shape == (1, 2, 3, 4)
    assert t.unsqueeze(-1).squeeze().shape == (2, 3, 4)
    assert [p.shape for p in t.split(2, dim=2)] == [(2, 3, 2)] * 2
    assert_matches(t.clamp(min=0), np.maximum(normal(2, 3, 4), 0))
    number = Tensor(backend.asarray(normal()))
    assert number.permute(()).shape == number.squeeze().shape == ()
    with pytest.raises(ShapeError, match="at most two axes"):
        t.T  # noqa: B018
    with pytest.raises(ShapeError, match="dim1=3"):
        t.transpose(0, 3)


@pytest.mark.parametrize(
    ("dims", "error"),
    [
        ((0, 1), ShapeError),
        ((0, 1, 1), ShapeError),
        ((0, 1, -2), ShapeError),
        ((0, 1, 3), ShapeError),
        ((0, 1, 2.0), ArgumentError),
    ],
    ids=str,
)
def test_permute_errors(backend, dims, error):
    with pytest.raises(error, match="dims="):
        F.permute(backend.asarray(normal(2, 3, 4)), dims)


# -- squeeze, unsqueeze --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dim", "wanted"),
    [
        ((1, 2, 1, 3), None, (2, 3)),
        ((1, 2, 1, 3), 0, (2, 1, 3)),
        ((1, 2, 1, 3), -2, (1, 2, 3)),
        ((1, 2, 1, 3), 1, (1, 2, 1, 3)),
        ((1, 2, 1, 3), (0, 1, 2), (2, 3)),
        ((1, 2, 1, 3), [], (1, 2, 1, 3)),
        ((0, 1), 1, (0,)),
        ((1, 1), None, ()),
    ],
    ids=str,
)
@pytest.mark.parametrize("memory", ["contiguous", "batch-last", "strided"])
def test_squeeze(backend, shape, dim, wanted, memory):
    x = normal(*shape)
    on_device = layouts(backend, x).get(memory, backend.asarray(x))
    y, pullback = xcnn.vjp(F.squeeze, on_device, dim=dim)
    assert_matches(y, x.reshape(wanted))
    assert_matches(pullback(y)[0], x)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_unsqueeze(evaluate, dim):
    x = normal(2, 3)
    found = evaluate(F.unsqueeze, x, dim=dim)
    wanted = [2, 3]
    wanted.insert(dim if dim >= 0 else dim + 3, 1)
    assert_matches(found.y, x.reshape(wanted))
    assert_matches(found.gradients[0], found.dy.reshape(2, 3))


def test_axes_of_length_one_copy_nothing(backend):
    memory = backend.xp.ones((3, 1, 2, 5))
    y = F.unsqueeze(F.squeeze(backend.xp.moveaxis(memory, -1, 0), 2), 1).data
    memory.fill(7)
    assert (backend.to_host(y) == 7).all()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: F.squeeze(x, 2), ShapeError, "dim=2: there are 2 axes"),
        (lambda x: F.squeeze(x, (0, -2)), ShapeError, "each axis once"),
        (lambda x: F.squeeze(x, "0"), ArgumentError, "dim='0'"),
        (lambda x: F.unsqueeze(x, 3), ShapeError, "dim=3"),
        (lambda x: F.unsqueeze(x, -4), ShapeError, "dim=-4"),
        (lambda x: F.unsqueeze(x, None), ArgumentError, "dim=None"),
    ],
)
def test_squeeze_errors(backend, call, error, text):
    with pytest.raises(error, match=text):
        call(backend.asarray(normal(1, 3)))


# -- clamp ---------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize(
    ("low", "high"), [(-0.5, 0.7), (None, 0.3), (0, None), (1, -1), (-np.inf, np.inf)], ids=str
)
def test_clamp(evaluate, low, high, dtype):
    x = normal(3, 5, dtype=dtype)
    x[0, :3] = np.nan, 0, -np.inf
    found = evaluate(F.clamp, x, min=low, max=high)
    expected, slope = x.copy(), np.zeros(x.shape)
    for place, value in np.ndenumerate(x):
        is_low = low is not None and value < low
        is_high = high is not None and value > high
        expected[place] = low if is_low else value
        if high is not None and expected[place] > high:
            expected[place] = high
        slope[place] = not (is_low or is_high or np.isnan(value))
    assert_matches(found.y, expected, dtype)
    assert_matches(found.gradients[0], found.dy * slope, dtype)


def test_clamp_of_the_bounds_has_a_gradient(evaluate):
    found = evaluate(F.clamp, np.array([-1.0, 1.0]), min=-1, max=1)
    assert_matches(found.gradients[0], found.dy)


def test_clamp_stays_batch_last(backend):
    assert is_batch_last(F.clamp(layouts(backend, normal(2, 3, 4))["batch-last"], 0, 1).data)


@pytest.mark.parametrize("bounds", [(None, None), ("0", 1), (0, np.nan), (True, 2)], ids=str)
def test_clamp_errors(backend, bounds):
    with pytest.raises(ArgumentError, match=r"min|max"):
        F.clamp(backend.asarray(normal(2)), *bounds)


# -- any dtype -----------------------------------------------------------------------------

STRUCTURE = {
    "reshape": (lambda x: F.reshape(x, 3, -1), lambda x: x.reshape(3, -1)),
    "flatten": (F.flatten, lambda x: x.reshape(-1)),
    "permute": (lambda x: F.permute(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1)),
    "squeeze": (lambda x: F.squeeze(x, 2), lambda x: x[:, :, 0]),
    "unsqueeze": (lambda x: F.unsqueeze(x, 1), lambda x: x[:, None]),
    "index": (lambda x: Tensor.of(x)[1, ::-1], lambda x: x[1, ::-1]),
    "split": (lambda x: F.split(x, 2, 1)[1], lambda x: x[:, 2:]),
    "concat": (lambda x: F.concat([x, x], 2), lambda x: np.stack([x[..., 0], x[..., 0]], 2)),
    "pad": (lambda x: F.pad(x, (1, 2), value=1), lambda x: np.insert(x, [0, 1, 1], 1, axis=2)),
    "replicate": (lambda x: F.pad(x, (1, 0), mode="replicate"), lambda x: x.repeat(2, axis=2)),
}


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool", "float16"])
@pytest.mark.parametrize(("function", "reference"), STRUCTURE.values(), ids=STRUCTURE)
def test_structure_of_any_dtype(backend, function, reference, dtype):
    x = (np.arange(6).reshape(2, 3, 1) % 4).astype(dtype)
    y = function(backend.asarray(x))
    assert y.dtype == dtype
    assert not y.requires_grad
    assert (y.numpy() == reference(x)).all()


def test_concat_of_two_dtypes(backend):
    a, b = (backend.asarray(np.ones(2, dtype)) for dtype in ("int64", "int32"))
    with pytest.raises(DTypeError, match=r"int64.*int32"):
        F.concat([a, b])


@pytest.mark.parametrize(
    ("dtype", "value"), [("int32", 0.5), ("uint8", -1), ("bool", 2), ("int64", np.inf)]
)
def test_pad_with_what_the_dtype_cannot_hold(backend, dtype, value):
    with pytest.raises(ArgumentError, match=f"the input is {dtype}, expected a whole number"):
        F.pad(backend.asarray(np.ones((1, 1, 2), dtype)), (1, 1), value=value)
